//! Parsing and printing of listening addresses and destinations.
//!
//! A listening address is `[HOST:]PORT`, a destination `HOST[:PORT[:WEIGHT]]`. An IPv6 address stands in brackets
//! wherever a port may follow it: `[::1]:3306:2`. A destination may also be a UNIX socket, `unix:PATH[:WEIGHT]`.

mod listen;
mod peer;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use serde::{Deserialize, Serialize};

pub use listen::{ListenAddress, ListenAddresses, MAX_LISTEN_ADDRESSES, parse_listen_address, parse_listen_addresses};
use peer::UNIX;
pub use peer::{MAX_UNIX_PATH, PeerAddress, UnixPath};

/// The largest weight; with more, sums of weights would lose the small ones to rounding.
pub const MAX_WEIGHT: f64 = 1e9;
/// The smallest weight that is not zero.
pub const MIN_WEIGHT: f64 = 1e-9;

/// Why a text is no address; reads on after "`TEXT`: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressError(String);

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for AddressError {}

fn error(reason: impl Into<String>) -> AddressError {
    AddressError(reason.into())
}

/// A host as it was written: an address, or a name to be resolved.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// An IPv4 or IPv6 address.
    Address(IpAddr),
    /// A host name, not resolved, in lower case; or a link-local address with its zone, `fe80::1%eth0`, which the system
    /// resolves as it does a name, since interfaces come and go.
    Name(String),
    /// A UNIX socket, which has no port.
    Unix(UnixPath),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Host::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
            Host::Address(address) => address.fmt(f),
            Host::Name(name) if name.contains('%') => write!(f, "[{name}]"),
            Host::Name(name) => f.write_str(name),
            Host::Unix(path) => path.fmt(f),
        }
    }
}

/// A host and a port, or a UNIX socket. Stored as text, `HOST:PORT` or `unix:PATH`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Endpoint {
    /// Where to connect to, or what to listen on.
    pub host: Host,
    /// 0 for a UNIX socket, and for nothing else.
    pub port: u16,
}

impl Endpoint {
    /// Where it is, unless its host is a name that has to be resolved.
    pub fn address(&self) -> Option<PeerAddress> {
        match self.host {
            Host::Address(address) => Some((address, self.port).into()),
            Host::Name(_) => None,
            Host::Unix(path) => Some(PeerAddress::Unix(path)),
        }
    }

    /// Returns true if its host is a name that has to be resolved.
    pub fn is_name(&self) -> bool {
        matches!(self.host, Host::Name(_))
    }
}

impl From<PeerAddress> for Endpoint {
    fn from(address: PeerAddress) -> Endpoint {
        match address {
            PeerAddress::Inet(address) => address.into(),
            PeerAddress::Unix(path) => Endpoint { host: Host::Unix(path), port: 0 },
        }
    }
}

impl From<SocketAddr> for Endpoint {
    fn from(address: SocketAddr) -> Endpoint {
        let host = match address {
            SocketAddr::V6(it) if it.scope_id() != 0 => Host::Name(format!("{}%{}", it.ip(), it.scope_id())),
            it => Host::Address(it.ip()),
        };
        Endpoint { host, port: address.port() }
    }
}

impl From<Endpoint> for String {
    fn from(endpoint: Endpoint) -> String {
        endpoint.to_string()
    }
}

impl TryFrom<String> for Endpoint {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Endpoint, AddressError> {
        Ok(parse_destination(&text, None)?.endpoint)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Unix(path) => path.fmt(f),
            host => write!(f, "{host}:{}", self.port),
        }
    }
}

/// A destination and its weight, as written on the command line or on the control port.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationSpec {
    /// Where it is.
    pub endpoint: Endpoint,
    /// Finite; what is below zero asks for its removal, where that can be asked for.
    pub weight: f64,
}

/// Reads `HOST[:PORT[:WEIGHT]]`, or `unix:PATH[:WEIGHT]`. Without a port, `default_port` is taken, and where there is none, a port is required;
/// without a weight, 1.
///
/// # Errors
/// A text of any other form; a port that is not in 1..=65535; a weight that is not a finite number, is larger than
/// [`MAX_WEIGHT`] or lies between zero and [`MIN_WEIGHT`]; a host that nothing can be connected to (`0.0.0.0`, a
/// multicast address), or that is neither an address nor a possible name.
pub fn parse_destination(text: &str, default_port: Option<u16>) -> Result<DestinationSpec, AddressError> {
    if let Some(unix) = text.strip_prefix(UNIX).filter(|it| is_unix(it)) {
        return parse_unix(unix);
    }
    let (host, rest) = split_host(text)?;
    let (port, weight) = match rest {
        Some(rest) => match rest.split_once(':') {
            Some((port, weight)) => (parse_port(port)?, parse_weight(weight)?),
            None => (parse_port(rest)?, 1.0),
        },
        None => (default_port.ok_or_else(|| error("expected HOST:PORT[:WEIGHT]"))?, 1.0),
    };
    let host = parse_host(host)?;
    if matches!(host, Host::Address(address) if !can_be_connected_to(address)) {
        return Err(error("not an address that can be connected to"));
    }
    let endpoint = Endpoint { host, port };
    Ok(DestinationSpec { endpoint, weight })
}

/// Splits `[NAME/]DESTINATION`. The path of a UNIX socket contains slashes as well.
pub fn split_name(text: &str) -> (Option<&str>, &str) {
    match text.split_once('/').filter(|_| !text.starts_with(UNIX)) {
        Some((name, destination)) => (Some(name), destination),
        None => (None, text),
    }
}

/// Whether what stands behind `unix:` is meant for the path of a UNIX socket: `unix` may also be a host, with a port.
fn is_unix(text: &str) -> bool {
    text.starts_with('@') || text.contains('/')
}

/// Reads `PATH[:WEIGHT]`.
fn parse_unix(text: &str) -> Result<DestinationSpec, AddressError> {
    let (path, weight) = match text.split_once(':') {
        Some((path, weight)) => (path, parse_weight(weight)?),
        None => (text, 1.0),
    };
    Ok(DestinationSpec { endpoint: PeerAddress::Unix(UnixPath::parse(path)?).into(), weight })
}

/// One host's address, as far as can be told by looking at it.
pub fn can_be_connected_to(address: IpAddr) -> bool {
    !address.is_unspecified() && !address.is_multicast() && address != IpAddr::V4(Ipv4Addr::BROADCAST)
}

/// Cuts off the host, which ends at the first colon or, in brackets, at the closing one.
fn split_host(text: &str) -> Result<(&str, Option<&str>), AddressError> {
    if let Some(bracketed) = text.strip_prefix('[') {
        let (host, rest) = bracketed.split_once(']').ok_or_else(|| error("'[' without ']'"))?;
        return match rest.strip_prefix(':') {
            Some(rest) => Ok((host, Some(rest))),
            None if rest.is_empty() => Ok((host, None)),
            None => Err(error("expected ':' after ']'")),
        };
    }
    if text.split('%').next().is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()) {
        return Err(error("an IPv6 address must stand in brackets"));
    }
    Ok(match text.split_once(':') {
        Some((host, rest)) => (host, Some(rest)),
        None => (text, None),
    })
}

fn parse_host(text: &str) -> Result<Host, AddressError> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return match address.to_canonical() {
            IpAddr::V6(address) if address.is_unicast_link_local() => {
                Err(error(format!("a link-local address needs its interface: [{address}%eth0]")))
            }
            address => Ok(Host::Address(address)),
        };
    }
    if let Some((address, zone)) = text.split_once('%') {
        return parse_zoned(address, zone).ok_or_else(|| error(format!("'{text}' is not a link-local IPv6 address")));
    }
    if text.is_empty() {
        return Err(error("the host is empty"));
    }
    let path = text.strip_prefix("unix@").unwrap_or(text);
    if path.starts_with('/') {
        // As HAProxy writes it.
        return Err(error(format!("a UNIX socket is {UNIX}{path}")));
    }
    // The resolver takes 127.1 and 0x7f000001 for addresses; people who write them mostly mistyped one.
    let last_label = text.rsplit('.').next().unwrap_or(text);
    if !last_label.is_empty() && last_label.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(error(format!("'{text}' is not an IP address")));
    }
    let possible = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
    if !possible || text.len() > 253 || text.starts_with(['-', '.']) {
        return Err(error(format!("'{text}' is not a host name or an IP address")));
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

/// Reads a link-local address and the interface at which it is.
fn parse_zoned(address: &str, zone: &str) -> Option<Host> {
    /// IFNAMSIZ of Linux, less the zero at the end.
    const LONGEST_NAME: usize = 15;
    let address = address.parse::<Ipv6Addr>().ok().filter(Ipv6Addr::is_unicast_link_local)?;
    // The kernel lets interfaces have more names; who has such writes the number.
    let possible = zone.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._@".contains(&byte));
    (possible && (1..=LONGEST_NAME).contains(&zone.len())).then(|| Host::Name(format!("{address}%{zone}")))
}

fn parse_port(text: &str) -> Result<u16, AddressError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse::<u16>() {
        Ok(port) if digits && port > 0 => Ok(port),
        _ => Err(error(format!("'{text}' is not a port (1 to 65535)"))),
    }
}

fn parse_weight(text: &str) -> Result<f64, AddressError> {
    let weight = match text.parse::<f64>() {
        Ok(weight) if weight.is_finite() => weight,
        _ => return Err(error(format!("'{text}' is not a weight (a finite number)"))),
    };
    if weight > MAX_WEIGHT || (weight > 0.0 && weight < MIN_WEIGHT) {
        return Err(error(format!("weight '{text}' is out of range ({MIN_WEIGHT} to {MAX_WEIGHT}, or 0)")));
    }
    // Without this, -0 would be printed as such.
    Ok(if weight == 0.0 { 0.0 } else { weight })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn destination(text: &str) -> Result<String, String> {
        parse_destination(text, Some(8010))
            .map(|spec| format!("{} {}", spec.endpoint, spec.weight))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn destinations_are_read_in_every_form() {
        for (text, meaning) in [
            ("10.0.0.1", "10.0.0.1:8010 1"),
            ("10.0.0.1:3306", "10.0.0.1:3306 1"),
            ("10.0.0.1:3306:0.75", "10.0.0.1:3306 0.75"),
            ("10.0.0.1:3306:-1", "10.0.0.1:3306 -1"),
            ("10.0.0.1:3306:-0", "10.0.0.1:3306 0"),
            ("[::1]", "[::1]:8010 1"),
            ("[::1]:3306:2", "[::1]:3306 2"),
            ("[::ffff:10.0.0.1]:3306", "10.0.0.1:3306 1"),
            ("Db-1.example.com:3306:1e1", "db-1.example.com:3306 10"),
            ("db-1.example.com.:3306", "db-1.example.com.:3306 1"),
            ("[FE80::01%Eth0.7]:3306:2", "[fe80::1%Eth0.7]:3306 2"),
            ("[fe80::1%2]", "[fe80::1%2]:8010 1"),
            ("unix:/run/mysqld/mysqld.sock", "unix:/run/mysqld/mysqld.sock 1"),
            ("unix:/run/Mysqld.sock:2.5", "unix:/run/Mysqld.sock 2.5"),
            ("unix:@name:-1", "unix:@name -1"),
            ("unix:3306", "unix:3306 1"),
            ("unix", "unix:8010 1"),
        ] {
            assert_eq!(destination(text), Ok(meaning.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_destination_is_told() {
        for (text, reason) in [
            ("", "the host is empty"),
            (":3306", "the host is empty"),
            ("::1", "an IPv6 address must stand in brackets"),
            ("[::1", "'[' without ']'"),
            ("[::1]3306", "expected ':' after ']'"),
            ("a:0", "'0' is not a port (1 to 65535)"),
            ("a:+1", "'+1' is not a port (1 to 65535)"),
            ("a:65536", "'65536' is not a port (1 to 65535)"),
            ("a:1:nan", "'nan' is not a weight (a finite number)"),
            ("a:1:inf", "'inf' is not a weight (a finite number)"),
            ("a:1:", "'' is not a weight (a finite number)"),
            ("a:1:1:1", "'1:1' is not a weight (a finite number)"),
            ("10.0.0.256:1", "'10.0.0.256' is not an IP address"),
            ("127.1:1", "'127.1' is not an IP address"),
            ("0.0.0.0:1", "not an address that can be connected to"),
            ("239.1.2.3:1", "not an address that can be connected to"),
            ("[ff02::1]:1", "not an address that can be connected to"),
            ("255.255.255.255:1", "not an address that can be connected to"),
            ("a b:1", "'a b' is not a host name or an IP address"),
            ("[fe80::1]:1", "a link-local address needs its interface: [fe80::1%eth0]"),
            ("fe80::1%eth0:1", "an IPv6 address must stand in brackets"),
            ("[fe80::1%]:1", "'fe80::1%' is not a link-local IPv6 address"),
            ("[fe80::1%eth0:1]:1", "'fe80::1%eth0:1' is not a link-local IPv6 address"),
            (
                "[fe80::1%an-interface-with-a-long-name]:1",
                "'fe80::1%an-interface-with-a-long-name' is not a link-local IPv6 address",
            ),
            ("[2001:db8::1%eth0]:1", "'2001:db8::1%eth0' is not a link-local IPv6 address"),
            ("db%eth0:1", "'db%eth0' is not a link-local IPv6 address"),
            ("unix:run/a.sock", "the path of a UNIX socket must be absolute, or '@' and a name"),
            ("unix:../a.sock:1", "the path of a UNIX socket must be absolute, or '@' and a name"),
            ("unix:/run/a.sock:heavy", "'heavy' is not a weight (a finite number)"),
            ("unix:/run/a.sock:3306:1", "'3306:1' is not a weight (a finite number)"),
            ("/run/a.sock", "a UNIX socket is unix:/run/a.sock"),
            ("unix@/run/a.sock", "a UNIX socket is unix:/run/a.sock"),
        ] {
            assert_eq!(destination(text), Err(reason.to_owned()), "{text}");
        }
        assert!(parse_destination("a", None).is_err());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "\\PC{0,40}") {
            let _ = parse_destination(&text, None);
        }

        #[test]
        fn what_is_printed_is_read_back(ip: IpAddr, port in 1u16.., weight in MIN_WEIGHT..MAX_WEIGHT) {
            prop_assume!(can_be_connected_to(ip.to_canonical()) && !matches!(ip, IpAddr::V6(it) if it.is_unicast_link_local()));
            let endpoint = Endpoint { host: Host::Address(ip.to_canonical()), port };
            let spec = DestinationSpec { endpoint, weight };
            prop_assert_eq!(parse_destination(&format!("{}:{}", spec.endpoint, weight), None), Ok(spec));
        }
    }
}
