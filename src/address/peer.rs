//! Where one end of a connection is: an IP address and a port, or a UNIX socket.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::str::FromStr;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use socket2::SockAddr;

use super::{AddressError, can_be_connected_to, error};

/// What the name of a UNIX socket begins with, where it could also be a host.
pub(super) const UNIX: &str = "unix:";
/// The longest path of a UNIX socket, in bytes: what sockaddr_un takes, less the zero at the end.
pub const MAX_UNIX_PATH: usize = 107;
/// What a path may have in it beside letters and digits: nothing that lists of destinations, lines, or the shells that
/// run watchdogs' scripts take for anything else.
const PUNCTUATION: &str = "/._-+=@%";
/// Bounds the memory for the paths of UNIX sockets, which are kept as long as the process runs.
const MAX_UNIX_PATHS: usize = 1 << 16;

/// What a socket is connected to or listens at. Stored as text, `ADDRESS:PORT` or `unix:PATH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum PeerAddress {
    /// One of TCP's.
    Inet(SocketAddr),
    /// A UNIX socket on this machine.
    Unix(UnixPath),
}

impl PeerAddress {
    /// Its IP address. A UNIX socket has none.
    pub fn ip(&self) -> Option<IpAddr> {
        self.inet().map(|address| address.ip())
    }

    /// Its IP address, where one is needed: a UNIX socket is on this machine, as 127.0.0.1 is.
    pub fn ip_or_local(&self) -> IpAddr {
        self.ip().unwrap_or(Ipv4Addr::LOCALHOST.into())
    }

    /// Its port, and 0 for a UNIX socket, which has none.
    pub fn port(&self) -> u16 {
        self.inet().map_or(0, |address| address.port())
    }

    /// Returns true for a UNIX socket.
    pub fn is_unix(&self) -> bool {
        matches!(self, PeerAddress::Unix(_))
    }

    /// The address that TCP connects to. `None`: it is a UNIX socket.
    pub fn inet(&self) -> Option<SocketAddr> {
        match self {
            PeerAddress::Inet(address) => Some(*address),
            PeerAddress::Unix(_) => None,
        }
    }

    /// The file of a UNIX socket, if it has one.
    pub fn file(&self) -> Option<&'static Path> {
        match self {
            PeerAddress::Inet(_) => None,
            PeerAddress::Unix(path) => path.file(),
        }
    }

    /// As one machine's address, as far as can be told by looking at it.
    pub fn can_be_connected_to(&self) -> bool {
        self.ip().is_none_or(|ip| can_be_connected_to(ip.to_canonical()))
    }
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> PeerAddress {
        PeerAddress::Inet(address)
    }
}

impl<I: Into<IpAddr>> From<(I, u16)> for PeerAddress {
    fn from(address: (I, u16)) -> PeerAddress {
        PeerAddress::Inet(address.into())
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerAddress::Inet(address) => address.fmt(f),
            PeerAddress::Unix(path) => path.fmt(f),
        }
    }
}

impl FromStr for PeerAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<PeerAddress, AddressError> {
        match text.strip_prefix(UNIX) {
            Some(path) => Ok(PeerAddress::Unix(UnixPath::parse(path)?)),
            None => text.parse().map(PeerAddress::Inet).map_err(|_| error("not an address and a port")),
        }
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> String {
        address.to_string()
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = AddressError;

    fn try_from(text: String) -> Result<PeerAddress, AddressError> {
        text.parse()
    }
}

/// The path of a UNIX socket, or its abstract name, which begins with `@`. As small as a pointer: each path is kept once,
/// for as long as the process runs, so that an address can be copied without counting who has it.
#[derive(Clone, Copy)]
pub struct UnixPath(&'static &'static str);

static PATHS: Mutex<Option<HashMap<&'static str, UnixPath>>> = Mutex::new(None);

impl UnixPath {
    /// Reads an absolute path, or `@` and an abstract name.
    ///
    /// # Errors
    /// A text of any other form, longer than [`MAX_UNIX_PATH`], or with other characters than letters, digits and a few
    /// more. More than 65,536 paths.
    pub fn parse(text: &str) -> Result<UnixPath, AddressError> {
        let is_name = text.strip_prefix('@').is_some_and(|name| !name.is_empty());
        if !is_name && (!text.starts_with('/') || text.ends_with('/')) {
            return Err(error("the path of a UNIX socket must be absolute, or '@' and a name"));
        }
        if text.len() > MAX_UNIX_PATH {
            return Err(error(format!("the path of a UNIX socket has at most {MAX_UNIX_PATH} bytes")));
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || PUNCTUATION.as_bytes().contains(&byte)) {
            return Err(error(format!("the path of a UNIX socket has only letters, digits and {PUNCTUATION} in it")));
        }
        let mut paths = PATHS.lock();
        let paths = paths.get_or_insert_default();
        if let Some(known) = paths.get(text) {
            return Ok(*known);
        }
        if paths.len() >= MAX_UNIX_PATHS {
            return Err(error(format!("more than {MAX_UNIX_PATHS} UNIX sockets have been named")));
        }
        let path: &'static str = Box::leak(text.into());
        let known = UnixPath(Box::leak(Box::new(path)));
        paths.insert(path, known);
        Ok(known)
    }

    /// As it is written behind `unix:`.
    pub fn as_str(&self) -> &'static str {
        self.0
    }

    /// The socket's file. An abstract name has none.
    pub fn file(&self) -> Option<&'static Path> {
        (!self.0.starts_with('@')).then(|| Path::new(*self.0))
    }

    /// As connect(2) and bind(2) take it.
    ///
    /// # Errors
    /// None is expected: it is short enough.
    pub fn to_socket_address(self) -> std::io::Result<SockAddr> {
        match self.0.strip_prefix('@') {
            Some(name) => SockAddr::unix(format!("\0{name}")),
            None => SockAddr::unix(self.0),
        }
    }
}

impl fmt::Display for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // As one, so that it can be padded.
        f.pad(&format!("{UNIX}{}", self.0))
    }
}

impl fmt::Debug for UnixPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

// Each path is there once, so that the places say as much as the texts.
impl PartialEq for UnixPath {
    fn eq(&self, other: &UnixPath) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl Eq for UnixPath {}

impl Hash for UnixPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        std::ptr::hash(self.0, state);
    }
}

impl PartialOrd for UnixPath {
    fn partial_cmp(&self, other: &UnixPath) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for UnixPath {
    fn cmp(&self, other: &UnixPath) -> Ordering {
        self.0.cmp(other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_as_small_as_one_of_tcp() {
        assert_eq!(size_of::<PeerAddress>(), size_of::<SocketAddr>().next_multiple_of(align_of::<PeerAddress>()));
    }

    #[test]
    fn addresses_are_read_back_as_they_are_written() {
        for text in
            ["127.0.0.1:1", "[::1]:3306", "unix:/run/a.sock", "unix:@a name of no file".replace(' ', "-").as_str()]
        {
            let address: PeerAddress = text.parse().expect("an address");
            assert_eq!(address.to_string(), text);
            assert_eq!(text.parse(), Ok(address), "each path is there once");
        }
        for text in [
            "",
            "unix:",
            "unix:/",
            "unix:run",
            "unix:@",
            "unix:/a b",
            "unix:/a:b",
            "unix:/a,b",
            "unix:/a/",
            "unix:/a;b",
            "unix:/$(a)",
            "unix:/\u{e4}",
            "a",
        ] {
            assert!(text.parse::<PeerAddress>().is_err(), "{text}");
        }
        let longest = format!("unix:/{}", "p".repeat(MAX_UNIX_PATH - 1));
        assert!(longest.parse::<PeerAddress>().is_ok());
        assert!(format!("{longest}p").parse::<PeerAddress>().is_err());
    }

    #[test]
    fn every_path_that_is_read_can_be_given_to_the_kernel() {
        for text in [format!("/{}", "p".repeat(MAX_UNIX_PATH - 1)), format!("@{}", "n".repeat(MAX_UNIX_PATH - 1))] {
            let path = UnixPath::parse(&text).expect("a path");
            assert!(path.to_socket_address().is_ok(), "{text}");
            assert_eq!(path.file().is_some(), text.starts_with('/'));
        }
    }
}
