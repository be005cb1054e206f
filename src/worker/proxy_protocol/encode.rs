//! Writing a header.

use std::net::{IpAddr, SocketAddr};

use super::{Addresses, PROXY, SIGNATURE, TCP_4, TCP_6, VERSION_2};
use crate::config::ProxyVersion;

/// Writes the header of a client's connection.
pub(in crate::worker) fn encode(version: ProxyVersion, addresses: Addresses) -> Box<[u8]> {
    let addresses = addresses.canonical().of_one_family();
    match version {
        ProxyVersion::V1 => text(addresses).into_bytes().into(),
        ProxyVersion::V2 => binary(addresses).into(),
    }
}

fn text(Addresses { source, destination }: Addresses) -> String {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
}

fn binary(Addresses { source, destination }: Addresses) -> Vec<u8> {
    let mut body = Vec::new();
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => body.extend(ip.octets()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    body.extend([source, destination].iter().flat_map(|address: &SocketAddr| address.port().to_be_bytes()));
    let family = if source.is_ipv4() { TCP_4 } else { TCP_6 };
    let length = (body.len() as u16).to_be_bytes();
    [&SIGNATURE[..], &[VERSION_2 | PROXY, family], &length, &body].concat()
}
