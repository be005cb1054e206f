//! The socket that HTTP clients connect to.

use std::io::{self, ErrorKind};
use std::net::TcpListener;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixListener;

use socket2::{Domain, Socket};

/// The socket that HTTP clients connect to.
#[derive(Debug)]
pub enum Listener {
    /// A TCP socket.
    Tcp(TcpListener),
    /// A UNIX socket.
    Unix(UnixListener),
}

impl Listener {
    /// The socket, which listens already.
    ///
    /// # Errors
    /// When it is of no kind that is known.
    pub fn new(socket: Socket) -> io::Result<Listener> {
        match socket.local_addr()?.domain() {
            Domain::UNIX => Ok(Listener::Unix(socket.into())),
            Domain::IPV4 | Domain::IPV6 => Ok(Listener::Tcp(socket.into())),
            _ => Err(ErrorKind::InvalidInput.into()),
        }
    }

    /// The same socket once more.
    ///
    /// # Errors
    /// When there is no descriptor for it.
    pub fn try_clone(&self) -> io::Result<Listener> {
        match self {
            Listener::Tcp(socket) => socket.try_clone().map(Listener::Tcp),
            Listener::Unix(socket) => socket.try_clone().map(Listener::Unix),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(socket) => socket.as_fd(),
            Listener::Unix(socket) => socket.as_fd(),
        }
    }
}
