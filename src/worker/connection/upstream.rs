//! The socket to a destination, up to the handshake.

use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use mio::Token;
use mio::net::TcpStream;
use socket2::{Domain, SockRef, Socket, Type};

use super::INTERESTS;
use crate::process;
use crate::worker::Kit;

/// Begins to connect to a destination, to which something can be `said` as soon as it accepts.
pub(super) fn open(address: SocketAddr, said: bool, token: Token, kit: &Kit) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    if said {
        // What there is to say acknowledges the handshake as well, and finds the server awake. Where there is nothing,
        // the server may be the one to speak first, and is not to be kept from it. Without it, it only costs a packet.
        let _ = socket.set_tcp_quickack(false);
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let mut server = TcpStream::from_std(socket.into());
    if kit.options.nodelay {
        server.set_nodelay(true)?;
    }
    if kit.options.keepalive {
        SockRef::from(&server).set_keepalive(true)?;
    }
    kit.registry.register(&mut server, token, INTERESTS)?;
    Ok(server)
}

/// Has a destination to which something was said in this way acknowledged at once again: one that answers in small writes
/// (Nagle's algorithm) waits for that. To be called when what there was to say has been sent.
pub(super) fn acknowledge_at_once(server: &TcpStream) {
    // Without it, it only costs time.
    let _ = SockRef::from(server).set_tcp_quickack(true);
}

/// Returns true if the socket is connected to itself, which TCP permits when the kernel happens to choose a local
/// destination's port for it.
pub(super) fn is_itself(server: &TcpStream, destination: SocketAddr) -> bool {
    static CHOSEN_PORTS: LazyLock<RangeInclusive<u16>> = LazyLock::new(process::ephemeral_ports);
    CHOSEN_PORTS.contains(&destination.port()) && server.local_addr().ok() == Some(destination)
}

/// Returns true if a connect failed because all local ports for this destination are in use. The kernel reports a missing
/// local address in the same way, but does so for UDP as well, whose ports are others.
pub(super) fn lacks_local_port(error: &io::Error, destination: SocketAddr) -> bool {
    if error.raw_os_error() != Some(libc::EADDRNOTAVAIL) {
        return false;
    }
    let datagrams = Socket::new(Domain::for_address(destination), Type::DGRAM, None);
    datagrams.and_then(|socket| socket.connect(&destination.into())).is_ok()
}

/// Returns true if a destination that has reset its connection had accepted it before, and said something.
pub(super) fn has_answered(server: &TcpStream, error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::ConnectionRefused && server.peek(&mut [0]).is_ok_and(|count| count > 0)
}
