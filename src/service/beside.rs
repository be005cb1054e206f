//! Other sockets that listen on a port, whoever has them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use socket2::Socket;

/// Where the kernel lists the sockets of this network namespace.
const TABLES: [&str; 2] = ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"];
/// The state of a socket that listens, in these tables.
const LISTENS: &str = "0A";

/// The number of a socket, by which all of its handles are known.
///
/// # Errors
/// Those of fstat(2); none is expected.
pub fn socket_number(socket: &impl AsFd) -> io::Result<u64> {
    Ok(fstat(socket)?.st_ino)
}

/// Whether one address is every one of this machine and the other one is among them. `[::]` is IPv4's as well.
pub fn covers(every: SocketAddr, one: SocketAddr) -> bool {
    let same_kind = every.is_ipv6() || one.is_ipv4();
    every.port() == one.port() && every.ip().is_unspecified() && same_kind
}

/// Whether clients of one could mean the other.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    covers(one, other) || covers(other, one) || (one.ip() == other.ip() && one.port() == other.port())
}

/// Whether any sockets but these listen at an address that overlaps this one.
///
/// # Errors
/// When the kernel's tables cannot be read.
pub(super) fn others_listen_at(address: SocketAddr, own: &[&Socket]) -> io::Result<bool> {
    let own: HashSet<u64> = own.iter().map(|socket| socket_number(*socket)).collect::<io::Result<_>>()?;
    for table in TABLES {
        let file = match File::open(table) {
            // A machine without IPv6.
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            file => file?,
        };
        for line in BufReader::new(file).lines().skip(1) {
            // Those that listen come first, and there may be very many others.
            let Some((found, number)) = parse_listening(&line?) else { break };
            if overlap(found, address) && !own.contains(&number) {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Reads a line about a socket that listens: its address and its number.
fn parse_listening(line: &str) -> Option<(SocketAddr, u64)> {
    let mut fields = line.split_whitespace();
    let address = parse_address(fields.nth(1)?)?;
    let state = fields.nth(1)?;
    let number = fields.nth(5)?.parse().ok()?;
    (state == LISTENS).then_some((address, number))
}

/// Reads an address: words of four bytes, each in hexadecimal as this machine has it in memory.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let word = |part: &[u8]| u32::from_str_radix(str::from_utf8(part).ok()?, 16).ok().map(u32::to_ne_bytes);
    let words: Vec<[u8; 4]> = host.as_bytes().chunks(8).map(word).collect::<Option<_>>()?;
    let ip: IpAddr = match words[..] {
        [word] => Ipv4Addr::from(word).into(),
        _ => Ipv6Addr::from(<[u8; 16]>::try_from(words.concat()).ok()?).into(),
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn addresses_that_overlap_are_told_from_others() {
        for (one, other, expected) in [
            ("0.0.0.0:1", "127.0.0.1:1", true),
            ("[::]:1", "127.0.0.1:1", true),
            ("[::]:1", "0.0.0.0:1", true),
            ("[::]:1", "[::1]:1", true),
            ("127.0.0.1:1", "127.0.0.1:1", true),
            ("0.0.0.0:1", "[::1]:1", false),
            ("0.0.0.0:1", "127.0.0.1:2", false),
            ("127.0.0.1:1", "127.0.0.2:1", false),
        ] {
            let (a, b) = (one.parse().expect("an address"), other.parse().expect("an address"));
            assert_eq!([overlap(a, b), overlap(b, a)], [expected; 2], "{one} {other}");
        }
    }

    #[test]
    fn sockets_that_listen_are_found_whoever_has_them() {
        for (listen, every) in [("127.0.0.1:0", "0.0.0.0"), ("[::1]:0", "::")] {
            let other = TcpListener::bind(listen).expect("a port");
            let address = other.local_addr().expect("an address");
            let other = Socket::from(other);
            let every = SocketAddr::new(every.parse().expect("an address"), address.port());
            for looked_for in [address, every] {
                assert!(others_listen_at(looked_for, &[]).expect("/proc"), "{looked_for}");
                assert!(!others_listen_at(looked_for, &[&other]).expect("/proc"), "{looked_for}");
            }
            let elsewhere = SocketAddr::new("127.0.0.77".parse().expect("an address"), address.port());
            assert!(!others_listen_at(elsewhere, &[]).expect("/proc"));
        }
    }

    #[test]
    fn lines_of_another_kind_are_none() {
        for line in
            ["", "0: 0100007F:0CEA", "0: 01:02 00000000:0000 0A", "0: 0100007F:0CEA 00000000:0000 01 0 0 0 0 0 7"]
        {
            assert_eq!(parse_listening(line), None, "{line}");
        }
        let line = "   0: 0100007F:0CEA 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12345 1";
        assert_eq!(parse_listening(line), Some(("127.0.0.1:3306".parse().expect("an address"), 12345)));
    }
}
