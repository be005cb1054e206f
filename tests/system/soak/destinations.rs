//! The destinations: servers that check what clients send, and that can be killed, made to refuse, and stalled.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::ledger::{Harm, Ledger};
use crate::harness::{Payload, Server, Site, free_port, read_line};

/// Bytes that are moved between two looks at the gate.
const PIECE: usize = 64 * 1024;

/// One destination with the page that the watchdog asks.
pub struct Destination {
    pub number: usize,
    address: SocketAddr,
    pub site: Mutex<Site>,
    gate: Arc<Gate>,
}

impl Destination {
    /// A destination at an address of its own.
    pub fn start(number: usize, page_port: u16, ledger: &Arc<Ledger>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + number as u8), free_port()));
        let gate = Arc::new(Gate::default());
        let (passage, ledger) = (Arc::clone(&gate), Arc::clone(ledger));
        let server = Server::at(address, move |stream| serve(stream, number, &passage, &ledger));
        Self { number, address, site: Mutex::new(Site::beside(server, page_port)), gate }
    }

    /// Calls this with the site.
    pub fn site(&self, change: impl FnOnce(&mut Site)) {
        change(&mut self.site.lock().expect("no panic"));
    }

    /// From now on the server neither reads nor writes, or does so again.
    pub fn stall(&self, stalls: bool) {
        *self.gate.is_closed.lock().expect("no panic") = stalls;
        self.gate.changed.notify_all();
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        self.address.fmt(f)
    }
}

#[derive(Default)]
struct Gate {
    is_closed: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn pass(&self) {
        let is_closed = self.is_closed.lock().expect("no panic");
        drop(self.changed.wait_while(is_closed, |is_closed| *is_closed));
    }
}

/// What a client asks for in its first line: `SERVICE SEED LENGTH`. The answer's first line is the destination's number.
fn serve(stream: &TcpStream, number: usize, gate: &Gate, ledger: &Ledger) {
    let begun = Instant::now();
    // A client may leave before it has asked, and be reset at any time: its own side of the record says why.
    let Ok(request) = read_line(stream) else { return };
    let words: Vec<&str> = request.split(' ').collect();
    let &[service, seed, length] = &words[..] else {
        if !request.is_empty() && !ledger.was_harmed(Some(number), Harm::Killed, begun) {
            ledger.error(format!("destination {number} was asked {request:?}"));
        }
        return;
    };
    let (Ok(seed), Ok(length)) = (seed.parse(), length.parse()) else {
        return ledger.error(format!("destination {number} was asked {request:?}"));
    };
    let result = carry_out(service, seed, length, stream, number, gate);
    match result.map_err(|error| (error.kind(), error)) {
        Err((ErrorKind::InvalidData, error)) => ledger.error(format!("destination {number} got {error}: {request}")),
        // A clean end looks complete.
        Err((ErrorKind::UnexpectedEof, error)) if !ledger.was_harmed(Some(number), Harm::Killed, begun) => {
            ledger.error(format!("destination {number} was told a clean end {error}: {request}"));
        }
        _ => {}
    }
}

fn carry_out(
    service: &str,
    seed: u64,
    length: usize,
    mut stream: &TcpStream,
    number: usize,
    gate: &Gate,
) -> io::Result<()> {
    let sent = Payload::new(seed, length);
    let send = |payload: &Payload| {
        payload.send_in_pieces(stream, |_| {
            gate.pass();
            PIECE
        })
    };
    gate.pass();
    stream.write_all(format!("{number}\n").as_bytes())?;
    match service {
        "echo" => echo(stream, gate),
        "down" => send(&sent),
        "up" => {
            sent.try_receive_to_end(stream)?;
            gate.pass();
            stream.write_all(b"all\n")
        }
        "late" => {
            sent.try_receive_to_end(stream)?;
            send(&Payload::new(seed + 1, length))
        }
        // Its client resets the connection before the end.
        "break" => match send(&sent).and_then(|()| io::copy(&mut &*stream, &mut io::sink())) {
            Ok(_) => Err(io::Error::new(ErrorKind::UnexpectedEof, "where its client has reset the connection")),
            Err(error) => Err(error),
        },
        _ => Err(io::Error::new(ErrorKind::InvalidData, "an unknown request")),
    }
}

fn echo(mut stream: &TcpStream, gate: &Gate) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        gate.pass();
        match stream.read(&mut piece)? {
            0 => return Ok(()),
            count => stream.write_all(&piece[..count])?,
        }
    }
}
