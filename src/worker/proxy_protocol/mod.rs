//! The PROXY protocol, versions 1 and 2 (haproxy.org's `proxy-protocol.txt`): the header in front of a connection with
//! which a proxy names the client that it connects for.

mod encode;
mod parse;
mod tlv;

use std::net::{IpAddr, SocketAddr};

pub(super) use encode::{Extras, encode, encode_unknown};
pub(super) use parse::{MAX_HEADER, Parsed, parse};
pub(super) use tlv::{Tlv, Tlvs, UNIQUE_ID};

/// The two ends of a client's connection, as a header names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Addresses {
    /// The client.
    pub source: SocketAddr,
    /// What the client connected to.
    pub destination: SocketAddr,
}

/// What version 2 begins with.
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
/// Version 2 in the upper half of a byte.
const VERSION_2: u8 = 0x20;
/// A proxy's own connection, for instance to check a server: it has no client.
const LOCAL: u8 = 0;
/// A connection for a client.
const PROXY: u8 = 1;
/// Addresses that are not said.
const UNSPECIFIED: u8 = 0;
/// TCP over IPv4.
const TCP_4: u8 = 0x11;
/// TCP over IPv6.
const TCP_6: u8 = 0x21;
/// Signature, version and command, family, length.
const FIXED: usize = 16;

/// An IPv4 client that came through an IPv6 socket is an IPv4 client.
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Addresses {
    /// Reduces IPv4 addresses in IPv6 form, as a socket for both families has them, to IPv4 addresses.
    pub fn canonical(self) -> Addresses {
        Addresses { source: canonical(self.source), destination: canonical(self.destination) }
    }

    /// Brings both to one family, since a header has no other: IPv6 if either is of that.
    fn of_one_family(self) -> Addresses {
        if self.source.is_ipv4() == self.destination.is_ipv4() {
            return self;
        }
        let mapped = |address: SocketAddr| match address.ip() {
            IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
            IpAddr::V6(_) => address,
        };
        Addresses { source: mapped(self.source), destination: mapped(self.destination) }
    }
}

#[cfg(test)]
mod tests;
