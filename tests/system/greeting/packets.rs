//! Servers that speak as much of MySQL's protocol as is needed here, and their client's side.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use crate::harness::servers::echo;
use crate::harness::{Builder, Glbd, Server};

/// A packet with this payload, as it is sent.
pub fn packet(payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a short packet");
    [&length.to_le_bytes()[..3], &[0], payload].concat()
}

/// A handshake, with the server's name where its version would be.
pub fn handshake(name: &str) -> Vec<u8> {
    packet(&[&b"\x0a"[..], name.as_bytes(), b"\0and what else a handshake has"].concat())
}

/// An error packet, as a server sends it in place of its handshake.
pub fn error(code: u16, message: &str) -> Vec<u8> {
    packet(&[&b"\xff"[..], &code.to_le_bytes(), message.as_bytes()].concat())
}

/// A server that greets and then sends back what it gets.
pub fn greeter(name: &str) -> Server {
    let greeting = handshake(name);
    Server::serving(move |stream| {
        if say(stream, &greeting) {
            echo(stream);
        }
    })
}

/// A server that is full: it sends an error and ends the connection.
pub fn full(message: &str) -> Server {
    let refusal = error(1040, message);
    Server::serving(move |stream| {
        say(stream, &refusal);
    })
}

/// Returns false if the peer has gone.
pub fn say(mut stream: &TcpStream, bytes: &[u8]) -> bool {
    stream.write_all(bytes).is_ok()
}

/// A glbd that sends clients to the first of these destinations as long as it can be used, then to the second, and so on.
pub fn in_order<'a>(servers: impl IntoIterator<Item = &'a Server>) -> Builder {
    let weighted = servers.into_iter().zip(0..).map(|(server, place)| server.weighted(9.0 - f64::from(place)));
    Glbd::builder().args(["--single", "--greeting", "mysql"]).destinations(weighted)
}

/// The next packet as it was sent.
pub fn read_packet(mut stream: &TcpStream) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; 4];
    stream.read_exact(&mut bytes)?;
    let length = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], 0]) as usize;
    bytes.resize(4 + length, 0);
    stream.read_exact(&mut bytes[4..])?;
    Ok(bytes)
}

/// Panics unless the next packet is this server's handshake.
pub fn assert_greeted_by(name: &str, client: &TcpStream) {
    let packet = read_packet(client).expect("a handshake");
    assert_eq!(String::from_utf8_lossy(&packet), String::from_utf8_lossy(&handshake(name)));
}

/// Panics unless exactly these bytes come, and then a clean end.
pub fn assert_hears(bytes: &[u8], mut client: &TcpStream) {
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(String::from_utf8_lossy(&heard), String::from_utf8_lossy(bytes));
}
