//! The end of loops: balancers that name each other as destinations, at whatever remove.
//!
//! Nothing in a stream says through which balancers it has come. The hop limit of IP (RFC 791, 3.2; RFC 8200, 3) exists to
//! end loops, and each router lowers it by one; a balancer, which is a host, would send with a new one. Hosts begin with 64
//! or 128. A connection to a destination begins with [`FIRST`], and if the client's packets arrived with a limit that only
//! balancers use, with less than those had: a loop has used that up after some ten rounds, rather than all connections
//! there may be for good. What is sent with is always far more than routers take, whatever the client has sent with.

use std::io;
use std::net::SocketAddr;

use socket2::{SockRef, Socket};

use super::stream::Stream;
use crate::address::PeerAddress;

/// The most that hosts usually begin with; few begin with 255.
const HOSTS: u32 = 128;
/// For a client that does not come from a balancer.
const FIRST: u32 = 250;
/// How much less than the client's the limit is, if the client does.
const STEP: u32 = 8;
/// Behind less than this, a client has come through three balancers, or more.
const FEW: u32 = FIRST - 2 * STEP;
/// Below this it has come through so many that it must be in a loop. High enough above [`HOSTS`] for the routers on the
/// way to the next balancer.
const LEAST: u32 = 170;

/// The hop limit of a client's packets, as they arrived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct HopLimit(u32);

impl HopLimit {
    /// What the client's last packet of the handshake had: the kernel keeps it where it has the hop limit of multicasts,
    /// of which TCP knows none (tcp_v4_syn_recv_sock). `None`: it cannot be known, or there is none, as in UNIX sockets.
    pub(super) fn of(client: &Stream, address: PeerAddress) -> Option<HopLimit> {
        let (client, address) = (SockRef::from(client), address.inet()?);
        let left = if address.is_ipv4() { client.multicast_ttl_v4() } else { client.multicast_hops_v6() };
        left.ok().map(HopLimit)
    }

    /// Returns true if the client's connection has come through so many balancers that it must be in a loop.
    pub(super) fn is_used_up(self) -> bool {
        self.0 > HOSTS && self.0 < LEAST
    }

    /// Returns true if the client has come through some balancers already: were each of them to try all its destinations
    /// when one fails, the attempts would multiply.
    pub(super) fn has_one_attempt(self) -> bool {
        self.0 > HOSTS && self.0 < FEW
    }

    /// Gives a socket that is to be connected for this client its hop limit.
    ///
    /// # Errors
    /// Those of setsockopt(2); none is expected.
    pub(super) fn pass_on(self, socket: &Socket, destination: SocketAddr) -> io::Result<()> {
        let limit = if self.0 > HOSTS { FIRST.min(self.0 - STEP) } else { FIRST };
        if destination.is_ipv4() { socket.set_ttl_v4(limit) } else { socket.set_unicast_hops_v6(limit) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_served_whatever_they_send_with_and_a_loop_ends() {
        for left in (1..=HOSTS).chain(225..=255) {
            assert!(!HopLimit(left).is_used_up(), "{left}");
        }
        for routers in 0..30 {
            let mut left = FIRST - routers;
            let rounds = (1..).take_while(|_| {
                let goes_on = !HopLimit(left).is_used_up();
                left = FIRST.min(left - STEP) - routers;
                goes_on
            });
            assert!(rounds.count() <= 11, "{routers} routers");
        }
    }
}
