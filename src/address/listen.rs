//! Where clients connect: `[HOST:]PORT`, several of them, and ranges of ports.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::path::Path;

use super::peer::UNIX;
use super::{AddressError, Endpoint, Host, PeerAddress, UnixPath, error, is_unix, parse_host, parse_port, split_host};

/// Most addresses of one service: each takes a socket for each worker.
pub const MAX_LISTEN_ADDRESSES: usize = 256;

/// Where to listen: on one host's address, or on every address of the machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddress {
    /// `None`: not said.
    pub host: Option<Host>,
    /// 0 for a UNIX socket, and for nothing else.
    pub port: u16,
}

impl ListenAddress {
    /// Whether a client that connects to one of them could mean the other, as far as can be told without resolving names.
    pub fn overlaps(&self, other: &ListenAddress) -> bool {
        let covers = |one: &ListenAddress, other: &ListenAddress| match one.every_address_of() {
            Some(Family::Both) => true,
            Some(Family::V4) => matches!(other.host, Some(Host::Address(IpAddr::V4(_)))),
            None => one.host == other.host,
        };
        self.port == other.port && (covers(self, other) || covers(other, self))
    }

    /// Of which kind it is every address of the machine, if it is.
    fn every_address_of(&self) -> Option<Family> {
        match &self.host {
            None => Some(Family::Both),
            Some(Host::Address(address)) if address.is_unspecified() => match address {
                IpAddr::V4(_) => Some(Family::V4),
                IpAddr::V6(_) => Some(Family::Both),
            },
            Some(_) => None,
        }
    }
}

/// Kinds of addresses. `[::]` is IPv4's as well.
enum Family {
    V4,
    Both,
}

impl From<PeerAddress> for ListenAddress {
    fn from(address: PeerAddress) -> ListenAddress {
        let Endpoint { host, port } = address.into();
        ListenAddress { host: Some(host), port }
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Some(Host::Unix(path)) => path.fmt(f),
            Some(host) => write!(f, "{host}:{}", self.port),
            None => write!(f, "*:{}", self.port),
        }
    }
}

/// The addresses of a service, at least one; none overlaps another. Ports that follow each other are printed as a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenAddresses(Vec<ListenAddress>);

impl ListenAddresses {
    /// These, or `None` if there are none.
    pub fn new(addresses: impl IntoIterator<Item = ListenAddress>) -> Option<ListenAddresses> {
        let addresses: Vec<ListenAddress> = addresses.into_iter().collect();
        (!addresses.is_empty()).then_some(ListenAddresses(addresses))
    }

    /// Each of them, in the order in which they were given.
    pub fn iter(&self) -> impl Iterator<Item = &ListenAddress> {
        self.0.iter()
    }

    /// The port of all of them that have one, if that is the same.
    pub fn only_port(&self) -> Option<u16> {
        let mut ports = self.ports();
        let port = ports.next()?;
        ports.all(|other| other == port).then_some(port)
    }

    /// The ports of those that have one.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.0.iter().map(|it| it.port).filter(|port| *port != 0)
    }

    /// Whether one of them is a UNIX socket's file.
    pub fn have_file(&self) -> bool {
        self.files().next().is_some()
    }

    /// The files of those that are UNIX sockets.
    pub fn files(&self) -> impl Iterator<Item = &'static Path> {
        self.0.iter().filter_map(|it| match &it.host {
            Some(Host::Unix(path)) => path.file(),
            _ => None,
        })
    }

    /// Whether this is one of them.
    pub fn contains(&self, address: &ListenAddress) -> bool {
        self.0.contains(address)
    }
}

impl fmt::Display for ListenAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let follows = |one: &ListenAddress, next: &ListenAddress| {
            one.host == next.host && Some(next.port) == one.port.checked_add(1)
        };
        for (number, run) in self.0.chunk_by(follows).enumerate() {
            let separator = if number == 0 { "" } else { ", " };
            match run {
                [only] => write!(f, "{separator}{only}")?,
                [first, .., last] => write!(f, "{separator}{first}-{}", last.port)?,
                [] => {}
            }
        }
        Ok(())
    }
}

/// Reads `[HOST:]PORT`. `*` as the host is every address, IPv4's as well, as `[::]` is.
///
/// # Errors
/// A text of any other form, port 0, a host that is neither an address nor a possible name.
pub fn parse_listen_address(text: &str) -> Result<ListenAddress, AddressError> {
    if let Ok(port) = parse_port(text) {
        return Ok(ListenAddress { host: None, port });
    }
    let (host, rest) = split_host(text)?;
    let port = match rest {
        Some(port) => parse_port(port)?,
        None if host.bytes().all(|byte| byte.is_ascii_digit()) => parse_port(host)?,
        None => return Err(error("expected [HOST:]PORT")),
    };
    Ok(ListenAddress { host: Some(parse_listen_host(host)?), port })
}

fn parse_listen_host(host: &str) -> Result<Host, AddressError> {
    if host == "*" { Ok(Host::Address(Ipv6Addr::UNSPECIFIED.into())) } else { parse_host(host) }
}

/// Reads `[HOST:]PORT[-PORT]` or `unix:PATH`, and several of them with commas between.
///
/// # Errors
/// The errors of [`parse_listen_address`]; a range that ends before it begins; an address that is another one, or a part of
/// it; more than [`MAX_LISTEN_ADDRESSES`].
pub fn parse_listen_addresses(text: &str) -> Result<ListenAddresses, AddressError> {
    let mut all: Vec<ListenAddress> = Vec::new();
    for part in text.split(',') {
        let told = |reason: AddressError| if part == text { reason } else { error(format!("'{part}': {reason}")) };
        for address in parse_range(part).map_err(told)? {
            if let Some(other) = all.iter().find(|other| other.overlaps(&address)) {
                let twice = format!("{address} is given twice");
                let reason = if *other == address { twice } else { format!("{address} and {other} overlap") };
                return Err(error(reason));
            }
            all.push(address);
        }
        if all.len() > MAX_LISTEN_ADDRESSES {
            return Err(error(format!("more than {MAX_LISTEN_ADDRESSES} addresses")));
        }
    }
    ListenAddresses::new(all).ok_or_else(|| error("expected [HOST:]PORT"))
}

fn parse_range(text: &str) -> Result<Vec<ListenAddress>, AddressError> {
    if let Some(path) = text.strip_prefix(UNIX).filter(|it| is_unix(it)) {
        return Ok(vec![PeerAddress::Unix(UnixPath::parse(path)?).into()]);
    }
    let (start, last) = match text.rsplit_once('-') {
        // What stands before the last dash of a name is no port.
        Some((start, last)) if is_number(last) && is_number(start.rsplit(':').next().unwrap_or_default()) => {
            (start, last)
        }
        _ => return Ok(vec![parse_listen_address(text)?]),
    };
    let (first, last) = (parse_listen_address(start)?, parse_port(last)?);
    if last < first.port {
        return Err(error(format!("the range ends at {last}, before it begins at {}", first.port)));
    }
    if usize::from(last - first.port) >= MAX_LISTEN_ADDRESSES {
        return Err(error(format!("more than {MAX_LISTEN_ADDRESSES} ports")));
    }
    Ok((first.port..=last).map(|port| ListenAddress { host: first.host.clone(), port }).collect())
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn listening_addresses_are_read_in_every_form() {
        for (text, meaning) in [
            ("8010", "*:8010"),
            ("*:8010", "[::]:8010"),
            ("0.0.0.0:8010", "0.0.0.0:8010"),
            ("[::]:8010", "[::]:8010"),
            ("localhost:8010", "localhost:8010"),
        ] {
            assert_eq!(parse_listen_address(text).map(|address| address.to_string()), Ok(meaning.to_owned()));
        }
        for text in ["", "0", "70000", "localhost", "1.2.3.4", ":", "[::1]", "8010:", "8010:8011", "8010-8011"] {
            assert!(parse_listen_address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn several_addresses_and_ranges_are_read() {
        for (text, meaning, count) in [
            ("8010", "*:8010", 1),
            ("3306,10.0.0.100:3307,[::1]:3308", "*:3306, 10.0.0.100:3307, [::1]:3308", 3),
            ("3306-3310", "*:3306-3310", 5),
            ("10.0.0.1:3306-3307", "10.0.0.1:3306-3307", 2),
            ("[fe80::1%eth0]:1-2,3", "[fe80::1%eth0]:1-2, *:3", 3),
            ("db-1:1,db-1:2,db-2:3", "db-1:1-2, db-2:3", 3),
            ("65535-65535", "*:65535", 1),
            ("10.0.0.1:1,10.0.0.2:1,[::1]:1,a:1", "10.0.0.1:1, 10.0.0.2:1, [::1]:1, a:1", 4),
            ("1-256", "*:1-256", 256),
            ("unix:/run/glbd/a.sock,unix:@b,8010", "unix:/run/glbd/a.sock, unix:@b, *:8010", 3),
            ("unix:3306", "unix:3306", 1),
            ("unix:/run/a-5", "unix:/run/a-5", 1),
        ] {
            let addresses = parse_listen_addresses(text).expect(text);
            assert_eq!((addresses.to_string(), addresses.iter().count()), (meaning.to_owned(), count), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_several_is_told() {
        for (text, reason) in [
            ("70000", "'70000' is not a port (1 to 65535)"),
            ("1,70000", "'70000': '70000' is not a port (1 to 65535)"),
            ("1,", "'': '' is not a port (1 to 65535)"),
            ("3310-3306", "the range ends at 3306, before it begins at 3310"),
            ("0-5", "'0' is not a port (1 to 65535)"),
            ("5-70000", "'70000' is not a port (1 to 65535)"),
            ("1-257", "more than 256 ports"),
            ("1-200,301-400", "more than 256 addresses"),
            ("db-1", "expected [HOST:]PORT"),
            ("1,2,1", "*:1 is given twice"),
            ("1-5,5", "*:5 is given twice"),
            ("unix:/a,unix:/b,unix:/a", "unix:/a is given twice"),
            ("unix:run/a,1", "'unix:run/a': the path of a UNIX socket must be absolute, or '@' and a name"),
            ("unix:/a:1", "the path of a UNIX socket has only letters, digits and /._-+=@% in it"),
            ("10.0.0.1:1,1", "*:1 and 10.0.0.1:1 overlap"),
            ("1,db:1", "db:1 and *:1 overlap"),
            ("0.0.0.0:1,10.0.0.1:1", "10.0.0.1:1 and 0.0.0.0:1 overlap"),
            ("0.0.0.0:1,[::]:1", "[::]:1 and 0.0.0.0:1 overlap"),
        ] {
            let told = parse_listen_addresses(text).map(|it| it.to_string()).map_err(|error| error.to_string());
            assert_eq!(told, Err(reason.to_owned()), "{text}");
        }
        assert!(parse_listen_addresses("0.0.0.0:1,[::1]:1").is_ok(), "IPv6 is not IPv4");
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in "[-0-9:.,a\\[\\]*]{0,40}|\\PC{0,40}") {
            let _ = parse_listen_address(&text);
            let _ = parse_listen_addresses(&text);
        }

        #[test]
        fn what_is_printed_is_read_back(ports in prop::collection::btree_set(1u16..400, 1..20), ip: IpAddr) {
            prop_assume!(!matches!(ip.to_canonical(), IpAddr::V6(it) if it.is_unicast_link_local()));
            let host = Some(Host::Address(ip.to_canonical()));
            let addresses = ports.into_iter().map(|port| ListenAddress { host: host.clone(), port });
            let addresses = ListenAddresses::new(addresses).expect("there are some");
            let printed = addresses.to_string().replace(", ", ",");
            prop_assert_eq!(parse_listen_addresses(&printed), Ok(addresses));
        }
    }
}
