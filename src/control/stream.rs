//! A client of the control sockets, whichever kind of socket it has come through.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// The connection to a client.
pub(super) enum ControlStream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Which client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// One at this address.
    Address(SocketAddr),
    /// A process of this machine, as it was when it connected: the user's number, and its own.
    Process { user: u32, pid: i32 },
    /// The kernel does not tell.
    Unknown,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Address(address) => address.fmt(f),
            Peer::Process { user, pid } => write!(f, "uid {user}, process {pid}"),
            Peer::Unknown => f.write_str("an unknown process"),
        }
    }
}

impl ControlStream {
    /// Asks the kernel for the process at the other end of a UNIX socket.
    pub(super) fn peer_of(stream: &UnixStream) -> Peer {
        match getsockopt(stream, PeerCredentials) {
            Ok(credentials) => Peer::Process { user: credentials.uid(), pid: credentials.pid() },
            Err(_) => Peer::Unknown,
        }
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            ControlStream::Tcp(stream) => stream.shutdown(how),
            ControlStream::Unix(stream) => stream.shutdown(how),
        }
    }

    /// What has its events reported.
    pub(super) fn source(&mut self) -> &mut dyn Source {
        match self {
            ControlStream::Tcp(stream) => stream,
            ControlStream::Unix(stream) => stream,
        }
    }
}

impl Read for ControlStream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            ControlStream::Tcp(stream) => stream.read(buffer),
            ControlStream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for ControlStream {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self {
            ControlStream::Tcp(stream) => stream.write(buffer),
            ControlStream::Unix(stream) => stream.write(buffer),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
