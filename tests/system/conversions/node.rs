//! The machines behind a balancer: each has an address and several ports, says its name, and has a status page.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

use crate::harness::servers::echo;
use crate::harness::{Server, patient, read_line};

/// A status that is not told: the page never comes.
pub const HANGS: u16 = 0;

/// Whether clients must be announced by a PROXY header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    No,
    Yes,
}

/// A machine.
pub struct Node {
    ip: Ipv4Addr,
    servers: Vec<Server>,
    status: Arc<AtomicU16>,
}

impl Node {
    /// A machine that serves these ports, each by its name if it is asked `who`, by where it is connected to from if it
    /// is asked `whence`, and by the status of its page if it is asked in HTTP.
    pub fn new(name: &str, ip: [u8; 4], ports: &[(u16, Announced)]) -> Self {
        let (ip, status) = (Ipv4Addr::from(ip), Arc::new(AtomicU16::new(200)));
        let server = |&(port, announced): &(u16, Announced)| {
            let (name, status) = (name.to_owned(), Arc::clone(&status));
            // Those who have gone need no answer.
            Server::at(SocketAddr::from((ip, port)), move |stream| drop(serve(stream, &name, announced, &status)))
        };
        Self { ip, servers: ports.iter().map(server).collect(), status }
    }

    /// From now on its page has this status.
    pub fn say(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::from((self.ip, port))
    }

    fn server(&mut self, port: u16) -> &mut Server {
        self.servers.iter_mut().find(|server| server.address().port() == port).expect("a port of this node")
    }

    /// Connections open at this port.
    pub fn open(&self, port: u16) -> usize {
        let server = self.servers.iter().find(|server| server.address().port() == port);
        server.expect("a port of this node").open()
    }

    /// Ends all that it serves at this port, and refuses from now on.
    pub fn stop(&mut self, port: u16) {
        self.server(port).stop();
    }

    /// Serves this port again.
    pub fn start(&mut self, port: u16) {
        self.server(port).start();
    }

    /// Ends all that it serves, and refuses from now on.
    pub fn stop_all(&mut self) {
        self.servers.iter_mut().for_each(Server::stop);
    }

    /// Serves again.
    pub fn start_all(&mut self) {
        self.servers.iter_mut().for_each(Server::start);
    }
}

fn serve(mut stream: &TcpStream, name: &str, announced: Announced, status: &AtomicU16) -> io::Result<()> {
    let announcement = if announced == Announced::Yes { read_announcement(stream)? } else { String::new() };
    let mut protocol = [0; 8];
    if stream.peek(&mut protocol)? >= 4 && protocol.starts_with(b"AMQP") {
        return speak_amqp(stream, status);
    }
    let question = read_line(stream)?;
    match question.split(' ').next() {
        // A header that was not taken for one is a question as well.
        Some("who" | "PROXY") => {
            writeln!(stream, "{}", [name, &announcement].join(" ").trim_end())?;
            echo(stream);
            Ok(())
        }
        Some("whence") => writeln!(stream, "{}", stream.peer_addr()?.ip()),
        Some("GET" | "OPTIONS") => {
            while !read_line(stream)?.trim_end().is_empty() {}
            match status.load(Ordering::SeqCst) {
                HANGS => stream.read(&mut [0]).map(drop),
                status => write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 3\r\nConnection: close\r\n\r\nso\n"),
            }
        }
        _ => Ok(()),
    }
}

/// Answers a client of AMQP with the beginning of the method connection.start, if its page would be answered as well.
fn speak_amqp(mut stream: &TcpStream, status: &AtomicU16) -> io::Result<()> {
    stream.read_exact(&mut [0; 8])?;
    if status.load(Ordering::SeqCst) == HANGS {
        return stream.read(&mut [0]).map(drop);
    }
    // A method frame of channel 0: class 10, method 10, version 0.9.
    stream.write_all(&[1, 0, 0, 0, 0, 0, 6, 0, 10, 0, 10, 0, 9, 0xce])?;
    stream.read(&mut [0]).map(drop)
}

/// Reads a PROXY header; returns the addresses of the client and of what it has connected to.
fn read_announcement(mut stream: &TcpStream) -> io::Result<String> {
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    if start != *b"\r\n\r\n\0\r\nQUIT\n" {
        let line = format!("{}{}", String::from_utf8_lossy(&start), read_line(stream)?);
        let words: Vec<&str> = line.trim_end().split(' ').collect();
        return match words[..] {
            ["PROXY", "TCP4", from, to, from_port, to_port] => Ok(format!("v1 {from}:{from_port} {to}:{to_port}")),
            _ => Ok(format!("no client: {line}")),
        };
    }
    let mut fixed = [0; 4];
    stream.read_exact(&mut fixed)?;
    let mut rest = vec![0; usize::from(u16::from_be_bytes([fixed[2], fixed[3]]))];
    stream.read_exact(&mut rest)?;
    if fixed[..2] != [0x21, 0x11] || rest.len() < 12 {
        return Ok("no client".to_owned());
    }
    let address = |ip: usize, port: usize| {
        let ip = IpAddr::from([rest[ip], rest[ip + 1], rest[ip + 2], rest[ip + 3]]);
        SocketAddr::new(ip, u16::from_be_bytes([rest[port], rest[port + 1]]))
    };
    Ok(format!("v2 {} {}", address(0, 8), address(4, 10)))
}

/// A client that has asked who serves it.
pub fn ask_who(stream: TcpStream) -> TcpStream {
    let stream = patient(stream).expect("timeouts");
    // One that is turned away reads of it.
    (&stream).write_all(b"who\n").ok();
    stream
}
