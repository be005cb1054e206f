//! A listening socket of TCP's or a UNIX one.

use std::io;
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use socket2::Socket;

use crate::address::{PeerAddress, UnixPath};

/// A listening socket that does not block.
pub enum Listener {
    /// One of TCP's.
    Tcp(TcpListener),
    /// One at this path. Its clients have no addresses, and are known by it.
    Unix(UnixListener, UnixPath),
}

impl Listener {
    /// A listening socket, which does not block.
    ///
    /// # Errors
    /// Those of getsockname(2); `EINVAL` for one that is neither of TCP's nor a UNIX one with a path or a name.
    pub(super) fn from_socket(socket: Socket) -> io::Result<Listener> {
        Ok(match path_of(&socket)? {
            Some(path) => Listener::Unix(UnixListener::from_std(OwnedFd::from(socket).into()), path),
            None => Listener::Tcp(TcpListener::from_std(socket.into())),
        })
    }

    /// Takes a client from the backlog, and its address.
    ///
    /// # Errors
    /// Those of accept(2).
    pub fn accept(&self) -> io::Result<(Socket, PeerAddress)> {
        match self {
            Listener::Tcp(listener) => {
                let (client, address) = listener.accept()?;
                Ok((TcpStream::from(client).into(), address.into()))
            }
            Listener::Unix(listener, path) => {
                let (client, _) = listener.accept()?;
                Ok((OwnedFd::from(client).into(), PeerAddress::Unix(*path)))
            }
        }
    }

    /// What has its events reported.
    pub fn source(&mut self) -> &mut dyn Source {
        match self {
            Listener::Tcp(listener) => listener,
            Listener::Unix(listener, _) => listener,
        }
    }
}

/// The path of a UNIX socket, or its abstract name. `None`: it is of another kind.
///
/// # Errors
/// Those of getsockname(2); `EINVAL` for a UNIX socket without any, or one that cannot be written.
pub fn path_of(socket: &Socket) -> io::Result<Option<UnixPath>> {
    let address = socket.local_addr()?;
    if !address.is_unix() {
        return Ok(None);
    }
    let name = address.as_abstract_namespace().map(|name| format!("@{}", String::from_utf8_lossy(name)));
    let text = name.or_else(|| Some(address.as_pathname()?.to_str()?.to_owned()));
    let path = text.and_then(|text| UnixPath::parse(&text).ok());
    path.map(Some).ok_or_else(|| io::Error::from_raw_os_error(libc::EINVAL))
}

impl From<TcpListener> for Listener {
    fn from(listener: TcpListener) -> Listener {
        Listener::Tcp(listener)
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Listener::Tcp(listener) => listener.as_fd(),
            Listener::Unix(listener, _) => listener.as_fd(),
        }
    }
}
