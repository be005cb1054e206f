//! The socket to a destination, up to the handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use mio::Token;
use nix::sys::socket::sockopt;
use socket2::{Domain, SockRef, Socket, Type};

use super::INTERESTS;
use crate::address::{PeerAddress, UnixPath, can_be_connected_to};
use crate::config::ConnectionOptions;
use crate::process;
use crate::resolve;
use crate::service::{keep_alive, set_transparent};
use crate::worker::Kit;
use crate::worker::hops::HopLimit;
use crate::worker::stream::Stream;

/// How a destination is connected to for a client.
#[derive(Clone, Copy)]
pub(super) struct Manner {
    /// There is something to say as soon as it accepts.
    pub said: bool,
    /// That of the client's packets.
    pub hop_limit: Option<HopLimit>,
    /// The client's address; `None` if it has none, as behind a UNIX socket.
    pub client: Option<IpAddr>,
}

/// Begins to connect to a destination.
pub(super) fn open(
    address: PeerAddress,
    manner: Manner,
    options: &ConnectionOptions,
    token: Token,
    kit: &mut Kit,
) -> io::Result<Stream> {
    let address = match address {
        PeerAddress::Inet(address) => address,
        PeerAddress::Unix(path) => return open_unix(path, token, kit),
    };
    let speaks_for = manner.client.filter(|client| options.connect_as_client && can_speak_for(*client, address.ip()));
    if speaks_for.is_some() {
        return open_from(speaks_for, address, manner, options, token, kit);
    }
    let sources = sources_for(address, options).count();
    if sources == 0 {
        return open_from(None, address, manner, options, token, kit);
    }
    kit.opened = kit.opened.wrapping_add(1);
    let first = kit.opened % sources;
    let mut result = Err(io::ErrorKind::AddrNotAvailable.into());
    for turn in first..first + sources {
        let source = sources_for(address, options).nth(turn % sources);
        result = open_from(source, address, manner, options, token, kit);
        match &result {
            // It has no port left for this destination, or is not this machine's at the moment.
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {}
            _ => break,
        }
    }
    result
}

/// Whether a destination may be connected to from this address, as far as the kernel would ever allow that: it is no fault of
/// the destination's if not.
fn can_speak_for(client: IpAddr, destination: IpAddr) -> bool {
    let lacks_zone = matches!(client, IpAddr::V6(client) if client.is_unicast_link_local());
    let same_kind = client.is_ipv4() == destination.is_ipv4();
    let reaches = !client.is_loopback() || destination.is_loopback();
    same_kind && reaches && !lacks_zone && can_be_connected_to(client)
}

/// The addresses of this machine from which a destination may be connected to, where the kernel is not to choose.
fn sources_for(address: SocketAddr, options: &ConnectionOptions) -> impl Iterator<Item = IpAddr> {
    options.connect_from.iter().copied().filter(move |source| source.is_ipv4() == address.is_ipv4())
}

fn open_from(
    source: Option<IpAddr>,
    address: SocketAddr,
    manner: Manner,
    options: &ConnectionOptions,
    token: Token,
    kit: &Kit,
) -> io::Result<Stream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    if manner.said {
        // What there is to say acknowledges the handshake as well, and finds the server awake. Where there is nothing,
        // the server may be the one to speak first, and is not to be kept from it. Without it, it only costs a packet.
        let _ = socket.set_tcp_quickack(false);
    }
    if let Some(limit) = manner.hop_limit {
        limit.pass_on(&socket, address)?;
    }
    if let Some(source) = source {
        if options.connect_as_client {
            set_transparent(&socket, source.is_ipv6(), true)?;
        }
        // Otherwise the kernel would choose a port at once, and none for two destinations.
        nix::sys::socket::setsockopt(&socket, sockopt::IpBindAddressNoPort, &true)?;
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    if options.nodelay {
        socket.set_tcp_nodelay(true)?;
    }
    if options.keepalive {
        keep_alive(&SockRef::from(&socket), options)?;
    }
    if options.tcp_user_timeout.is_some() {
        socket.set_tcp_user_timeout(options.tcp_user_timeout)?;
    }
    let mut server = Stream::from(socket);
    kit.registry.register(&mut server, token, INTERESTS)?;
    Ok(server)
}

/// Connects to a UNIX socket, for which none of the options has a meaning. There is no handshake: it has accepted when this
/// returns, or has not. `WouldBlock`: its backlog is full.
fn open_unix(path: UnixPath, token: Token, kit: &Kit) -> io::Result<Stream> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.connect(&path.to_socket_address()?)?;
    if socket.peer_addr()?.as_pathname().is_some_and(|bound| resolve::has_reached_itself(path, bound)) {
        return Err(io::Error::other("this daemon listens there itself"));
    }
    let mut server = Stream::from(socket);
    kit.registry.register(&mut server, token, INTERESTS)?;
    Ok(server)
}

/// Has a destination to which something was said in this way acknowledged at once again: one that answers in small writes
/// (Nagle's algorithm) waits for that. To be called when what there was to say has been sent.
pub(super) fn acknowledge_at_once(server: &Stream) {
    // Without it, it only costs time.
    let _ = SockRef::from(server).set_tcp_quickack(true);
}

/// Returns true if the socket is connected to itself, which TCP permits when the kernel happens to choose a local
/// destination's port for it.
pub(super) fn is_itself(server: &Stream, destination: PeerAddress) -> bool {
    static CHOSEN_PORTS: LazyLock<RangeInclusive<u16>> = LazyLock::new(process::ephemeral_ports);
    let is_own = |it: SocketAddr| {
        CHOSEN_PORTS.contains(&it.port()) && matches!(server.local_address(), Ok(Some(own)) if own == it)
    };
    destination.inet().is_some_and(is_own)
}

/// Returns true if a connect failed because all local ports for this destination are in use. The kernel reports a missing
/// local address in the same way, but does so for UDP as well, whose ports are others.
pub(super) fn lacks_local_port(error: &io::Error, destination: PeerAddress, options: &ConnectionOptions) -> bool {
    let Some(destination) = destination.inet().filter(|_| error.kind() == io::ErrorKind::AddrNotAvailable) else {
        return false;
    };
    if sources_for(destination, options).next().is_some() {
        return true;
    }
    let datagrams = Socket::new(Domain::for_address(destination), Type::DGRAM, None);
    datagrams.and_then(|socket| socket.connect(&destination.into())).is_ok()
}

/// Returns true if a destination that has reset its connection had accepted it before, and said something.
pub(super) fn has_answered(server: &Stream, error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::ConnectionRefused && server.peek().is_ok_and(|count| count > 0)
}
