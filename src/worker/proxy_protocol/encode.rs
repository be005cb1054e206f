//! Writing a header.

use std::net::{IpAddr, SocketAddr};

use super::tlv::{CRC32C, TLV_FIXED, Tlv, checksum};
use super::{Addresses, FIXED, LOCAL, MAX_HEADER, PROXY, SIGNATURE, TCP_4, TCP_6, UNSPECIFIED, VERSION_2};
use crate::config::ProxyVersion;

/// What version 2 says beside the addresses.
#[derive(Debug, Default)]
pub(in crate::worker) struct Extras<'b> {
    /// Those for which there is room.
    pub tlvs: Vec<Tlv<'b>>,
    /// Whether the header has a checksum.
    pub has_checksum: bool,
}

/// Writes the header of a client's connection.
pub(in crate::worker) fn encode(version: ProxyVersion, addresses: Addresses, extras: &Extras) -> Box<[u8]> {
    let addresses = addresses.canonical().of_one_family();
    match version {
        ProxyVersion::V1 => text(addresses).into_bytes().into(),
        ProxyVersion::V2 => binary(addresses, extras).into(),
    }
}

/// Writes the header of a client that has no address, since it came through a UNIX socket: in version 2 the one that a
/// proxy's own connection has, as HAProxy does, since MariaDB takes no other without addresses.
pub(in crate::worker) fn encode_unknown(version: ProxyVersion, extras: &Extras) -> Box<[u8]> {
    match version {
        ProxyVersion::V1 => b"PROXY UNKNOWN\r\n"[..].into(),
        ProxyVersion::V2 => with_extras(LOCAL, UNSPECIFIED, Vec::new(), extras).into(),
    }
}

fn text(Addresses { source, destination }: Addresses) -> String {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    format!("PROXY {family} {} {} {} {}\r\n", source.ip(), destination.ip(), source.port(), destination.port())
}

fn binary(Addresses { source, destination }: Addresses, extras: &Extras) -> Vec<u8> {
    let mut body = Vec::new();
    for address in [source, destination] {
        match address.ip() {
            IpAddr::V4(ip) => body.extend(ip.octets()),
            IpAddr::V6(ip) => body.extend(ip.octets()),
        }
    }
    body.extend([source, destination].iter().flat_map(|address: &SocketAddr| address.port().to_be_bytes()));
    with_extras(PROXY, if source.is_ipv4() { TCP_4 } else { TCP_6 }, body, extras)
}

/// A header of version 2, of which `body` is the addresses.
fn with_extras(command: u8, family: u8, mut body: Vec<u8>, extras: &Extras) -> Vec<u8> {
    let zeros = Tlv { kind: CRC32C, value: &[0; 4] };
    let checksum_at = FIXED + body.len() + TLV_FIXED;
    for Tlv { kind, value } in extras.has_checksum.then_some(&zeros).into_iter().chain(&extras.tlvs) {
        // Longer ones than glbd takes itself are refused by other programs as well.
        if FIXED + body.len() + TLV_FIXED + value.len() <= MAX_HEADER {
            body.push(*kind);
            body.extend((value.len() as u16).to_be_bytes());
            body.extend(*value);
        }
    }
    let length = (body.len() as u16).to_be_bytes();
    let mut header = [&SIGNATURE[..], &[VERSION_2 | command, family], &length, &body].concat();
    if extras.has_checksum {
        let checksum = checksum(&header, checksum_at);
        header[checksum_at..checksum_at + 4].copy_from_slice(&checksum.to_be_bytes());
    }
    header
}
