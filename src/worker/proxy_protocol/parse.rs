//! Reading a header.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use super::tlv;
use super::{Addresses, FIXED, LOCAL, PROXY, SIGNATURE, TCP_4, TCP_6, VERSION_2};

/// The longest header that is taken. The addresses of version 2 need 52 bytes; the rest is for what a proxy adds.
pub(in crate::worker) const MAX_HEADER: usize = 4096;

/// The longest header of version 1, its CRLF included.
const MAX_TEXT: usize = 107;
/// What version 1 begins with.
const PREFIX: &[u8] = b"PROXY ";
/// Of version 2: the addresses of two Unix sockets.
const UNIX_ADDRESSES: usize = 216;

/// What the bytes that a client has sent so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::worker) enum Parsed {
    /// More is needed to decide.
    Incomplete,
    /// A header of this length.
    Header {
        length: usize,
        /// `None`: the connection is the proxy's own, or of a kind that has no IP addresses.
        addresses: Option<Addresses>,
        /// Where that begins which follows the addresses, and ends with the header.
        tlvs: usize,
    },
    /// No header, for this reason.
    Invalid(&'static str),
}

use Parsed::{Header, Incomplete, Invalid};

/// Reads the header that stands in front of a client's bytes.
pub(in crate::worker) fn parse(bytes: &[u8]) -> Parsed {
    if begins_like(bytes, &SIGNATURE) {
        binary(bytes)
    } else if begins_like(bytes, PREFIX) {
        text(bytes)
    } else {
        Invalid("missing: the connection begins with something else")
    }
}

/// Returns true if the bytes are the beginning of the others, or the other way round.
fn begins_like(bytes: &[u8], other: &[u8]) -> bool {
    let common = bytes.len().min(other.len());
    bytes[..common] == other[..common]
}

fn text(bytes: &[u8]) -> Parsed {
    let seen = &bytes[..bytes.len().min(MAX_TEXT)];
    let Some(end) = seen.windows(2).position(|pair| pair == b"\r\n") else {
        return if bytes.len() < MAX_TEXT { Incomplete } else { Invalid("too long: version 1 has 107 bytes at most") };
    };
    let length = end + 2;
    let words = str::from_utf8(&seen[PREFIX.len()..end]).unwrap_or_default();
    let words: Vec<&str> = words.split(' ').collect();
    let addresses = match words[..] {
        // What follows means nothing.
        ["UNKNOWN", ..] => return Header { length, addresses: None, tlvs: length },
        ["TCP4", source, destination, from, to] => pair::<Ipv4Addr>(source, destination, from, to),
        ["TCP6", source, destination, from, to] => pair::<Ipv6Addr>(source, destination, from, to),
        _ => None,
    };
    match addresses {
        Some(addresses) => Header { length, addresses: Some(addresses.canonical()), tlvs: length },
        None => Invalid("malformed: not a line of version 1"),
    }
}

fn pair<A: FromStr + Into<IpAddr>>(source: &str, destination: &str, from: &str, to: &str) -> Option<Addresses> {
    let address = |ip: &str, port: &str| Some(SocketAddr::new(ip.parse::<A>().ok()?.into(), text_port(port)?));
    Some(Addresses { source: address(source, from)?, destination: address(destination, to)? })
}

fn text_port(text: &str) -> Option<u16> {
    let port = text.parse::<u16>().ok()?;
    // No sign, no leading zero.
    (port.to_string() == text).then_some(port)
}

fn binary(bytes: &[u8]) -> Parsed {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED) else { return Incomplete };
    let [version_and_command, family, high, low] = fixed[SIGNATURE.len()..] else { return Incomplete };
    let body = usize::from(u16::from_be_bytes([high, low]));
    let length = FIXED + body;
    if version_and_command & 0xf0 != VERSION_2 {
        return Invalid("malformed: of an unknown version");
    }
    if length > MAX_HEADER {
        return Invalid("too long: more than 4096 bytes");
    }
    let Some(body) = rest.get(..body) else { return Incomplete };
    let read = match (version_and_command & 0x0f, family) {
        // All of it is to be discarded.
        (LOCAL, _) => return Header { length, addresses: None, tlvs: length },
        (PROXY, TCP_4) => addresses::<4>(body),
        (PROXY, TCP_6) => addresses::<16>(body),
        // The other families and protocols that there are: unspecified, datagrams, Unix sockets. What is unspecified may
        // have addresses of any kind.
        (PROXY, 0x00..=0x02) => return Header { length, addresses: None, tlvs: length },
        (PROXY, 0x10 | 0x12) => no_addresses(body, 12),
        (PROXY, 0x20 | 0x22) => no_addresses(body, 36),
        (PROXY, 0x30..=0x32) => no_addresses(body, UNIX_ADDRESSES),
        (PROXY, _) => return Invalid("malformed: of an unknown address family"),
        _ => return Invalid("malformed: with an unknown command"),
    };
    let Some((addresses, behind)) = read else { return Invalid("malformed: too short for its addresses") };
    let tlvs = length - behind.len();
    match tlv::check(&bytes[..length], tlvs) {
        Ok(()) => Header { length, addresses, tlvs },
        Err(fault) => Invalid(fault),
    }
}

/// Addresses of so many bytes each, then ports; and what follows.
fn addresses<const N: usize>(body: &[u8]) -> Option<(Option<Addresses>, &[u8])>
where
    IpAddr: From<[u8; N]>,
{
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (&[a, b, c, d], behind) = rest.split_first_chunk::<4>()?;
    let source = SocketAddr::new(IpAddr::from(*source), u16::from_be_bytes([a, b]));
    let destination = SocketAddr::new(IpAddr::from(*destination), u16::from_be_bytes([c, d]));
    Some((Some(Addresses { source, destination }.canonical()), behind))
}

/// Addresses of so many bytes together that mean nothing here, and what follows.
fn no_addresses(body: &[u8], length: usize) -> Option<(Option<Addresses>, &[u8])> {
    body.get(length..).map(|behind| (None, behind))
}
