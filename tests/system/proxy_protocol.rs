//! The PROXY protocol: who the client is, from one proxy to the next.

mod extras;
mod inbound;
mod limits;
mod mariadb;
mod outbound;
mod programs;

use std::io::Read;
use std::net::{SocketAddr, TcpStream};

/// The header of version 1 for these addresses.
fn version_1(source: SocketAddr, destination: SocketAddr) -> Vec<u8> {
    let family = if source.is_ipv4() { "TCP4" } else { "TCP6" };
    let (from, to) = (source.port(), destination.port());
    format!("PROXY {family} {} {} {from} {to}\r\n", source.ip(), destination.ip()).into_bytes()
}

/// The header of version 2 for these addresses, with this behind them.
fn version_2(source: SocketAddr, destination: SocketAddr, extra: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    for address in [source, destination] {
        match address {
            SocketAddr::V4(address) => body.extend(address.ip().octets()),
            SocketAddr::V6(address) => body.extend(address.ip().octets()),
        }
    }
    body.extend([source.port().to_be_bytes(), destination.port().to_be_bytes()].concat());
    binary(0x21, if source.is_ipv4() { 0x11 } else { 0x21 }, &[&body, extra].concat())
}

/// A header of version 2 with this command, this family and this body.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a short body").to_be_bytes();
    [&b"\r\n\r\n\0\r\nQUIT\n"[..], &[command, family], &length, body].concat()
}

/// As many bytes as that, which are expected.
fn read_exactly(mut stream: &TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).expect("bytes");
    assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
}
