//! Connecting to a destination, over TCP or a UNIX socket.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;
use tokio::time::sleep;

use crate::address::{PeerAddress, UnixPath};

/// How long a UNIX socket whose backlog is full is left alone.
const FULL_PAUSE: Duration = Duration::from_millis(20);

/// A connection of either kind.
pub(in crate::checker) trait ByteStream: AsyncRead + AsyncWrite + AsFd + Unpin {}

impl<S: AsyncRead + AsyncWrite + AsFd + Unpin> ByteStream for S {}

/// Where a probe asks: at the destination itself, or at another port of its host. That of a UNIX socket is this machine.
pub(in crate::checker) fn at_port(destination: PeerAddress, port: Option<u16>) -> PeerAddress {
    match (destination, port) {
        // The interface of a link-local address stays.
        (PeerAddress::Inet(mut address), Some(port)) => {
            address.set_port(port);
            address.into()
        }
        (PeerAddress::Unix(_), Some(port)) => SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into(),
        (destination, None) => destination,
    }
}

/// Connects to a UNIX socket. While its backlog is full, the kernel does not let connect(2) wait without blocking, nor
/// report when there is room, so it is tried again and again.
///
/// # Errors
/// Those of connect(2).
pub(super) async fn connect_unix(path: UnixPath) -> io::Result<UnixStream> {
    let address = path.to_socket_address()?;
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    loop {
        match socket.connect(&address) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => sleep(FULL_PAUSE).await,
            connected => break connected?,
        }
    }
    UnixStream::from_std(OwnedFd::from(socket).into())
}
