//! The end of loops: balancers that name each other as destinations, at whatever remove.
//!
//! Nothing in a stream says through which balancers it has come. The hop limit of IP (RFC 791, 3.2; RFC 8200, 3) exists to
//! end loops, and each router lowers it by one; a balancer, which is a host, would send with a new one. Here each connection
//! to a destination begins with a lower hop limit than that with which the client's packets arrived, so that a loop uses it
//! up after some fifteen rounds, rather than all connections there may be for good.

use std::io;
use std::net::SocketAddr;

use mio::net::TcpStream;
use socket2::{SockRef, Socket};

/// What Linux begins with, unless net.ipv4.ip_default_ttl says otherwise.
const USUAL: u32 = 64;
/// How much less than the client's a destination's hop limit is. Larger than one, since routers need some of it.
const STEP: u32 = 4;

/// The hop limit of a client's packets, as they arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HopLimit(u32);

impl HopLimit {
    /// What the client's last packet of the handshake had: the kernel keeps it where it has the hop limit of multicasts,
    /// of which TCP knows none (tcp_v4_syn_recv_sock). `None`: it cannot be known.
    pub(super) fn of(client: &TcpStream, address: SocketAddr) -> Option<HopLimit> {
        let client = SockRef::from(client);
        let left = if address.is_ipv4() { client.multicast_ttl_v4() } else { client.multicast_hops_v6() };
        left.ok().map(HopLimit)
    }

    /// Returns true if the client's connection has come through so many balancers that it must be in a loop.
    pub(super) fn is_used_up(self) -> bool {
        // Who sends with 1 wants to be heard on its own network only, and has set that itself.
        (2..2 * STEP).contains(&self.0)
    }

    /// Gives a socket that is to be connected for this client its hop limit.
    ///
    /// # Errors
    /// Those of setsockopt(2); none is expected.
    pub(super) fn pass_on(self, socket: &Socket, destination: SocketAddr) -> io::Result<()> {
        let limit = match self.0 {
            own_network_only if own_network_only < 2 => return Ok(()),
            left => left.min(USUAL).saturating_sub(STEP).max(1),
        };
        if destination.is_ipv4() { socket.set_ttl_v4(limit) } else { socket.set_unicast_hops_v6(limit) }
    }
}
