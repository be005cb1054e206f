//! Sockets at addresses that this machine does not have.

use std::io;

use socket2::{Domain, Socket, Type};

/// Has a socket bind to any address, or take no others than this machine's. One for IPv6 does so for IPv4 as well.
///
/// # Errors
/// `EPERM` without CAP_NET_RAW; and the others of setsockopt(2).
pub fn set_transparent(socket: &Socket, is_ipv6: bool, transparent: bool) -> io::Result<()> {
    if is_ipv6 { socket.set_ip_transparent_v6(transparent) } else { socket.set_ip_transparent_v4(transparent) }
}

/// Looks whether this process may do so.
///
/// # Errors
/// One that says what it takes.
pub fn may_use_any_address() -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    let takes = "it takes the capability CAP_NET_RAW, which glbd keeps if it asks for that at its start";
    set_transparent(&socket, false, true).map_err(|error| io::Error::new(error.kind(), format!("{error}; {takes}")))
}
