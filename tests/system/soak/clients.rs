//! The clients: each compares every byte that it gets.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::Soak;
use super::ledger::Visit;
use crate::harness::{Payload, connect_to, read_line, reset};

/// One kind of client.
pub struct Kind {
    pub name: &'static str,
    /// How many of them there are at a time.
    pub clients: usize,
    /// Between two connections of one client.
    pause: Duration,
    visit: fn(&Soak, &mut Visit) -> io::Result<()>,
}

const fn kind(name: &'static str, clients: usize, pause: u64, visit: fn(&Soak, &mut Visit) -> io::Result<()>) -> Kind {
    Kind { name, clients, pause: Duration::from_millis(pause), visit }
}

pub const KINDS: [Kind; 9] = [
    kind("short, an echo of up to 2 kB", 6, 5, short),
    kind("echo, up to 2 MB both ways at once", 4, 20, both_ways),
    kind("bulk down, up to 30 MB", 2, 50, down),
    kind("bulk up, up to 30 MB", 2, 50, up),
    kind("half-closed before the answer", 2, 20, half_closed),
    kind("slow reader", 2, 20, slow_reader),
    kind("idle, up to a minute", 24, 50, idle),
    kind("resets in the middle", 2, 20, resets),
    kind("port check", 1, 50, port_check),
];

impl Kind {
    /// Comes again and again until the soak is over.
    pub fn come_and_go(&self, soak: &Soak) {
        while !soak.is_over() {
            let mut visit =
                Visit { kind: self.name, begun: Instant::now(), address: None, destination: None, bytes: 0 };
            let result = (self.visit)(soak, &mut visit);
            soak.ledger.close(&visit, result);
            soak.pause(self.pause);
        }
    }
}

/// Connects, asks for a service, and returns what is sent with it.
fn ask(soak: &Soak, visit: &mut Visit, service: &str, length: usize) -> io::Result<(TcpStream, u64)> {
    let seed = fastrand::u64(..u64::MAX / 2);
    let stream = connect_to(soak.daemon.address())?;
    visit.address = stream.local_addr().ok();
    (&stream).write_all(format!("{service} {seed} {length}\n").as_bytes())?;
    let name = read_line(&stream)?;
    visit.destination = name.parse().ok();
    match visit.destination {
        Some(_) => Ok((stream, seed)),
        None if name.is_empty() => Err(io::Error::new(ErrorKind::UnexpectedEof, "an end before a word")),
        None => Err(io::Error::new(ErrorKind::InvalidData, format!("{name:?} instead of a number"))),
    }
}

fn short(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let length = fastrand::usize(1..2000);
    let (stream, seed) = ask(soak, visit, "echo", length)?;
    let payload = Payload::new(seed, length);
    payload.send(&stream)?;
    stream.shutdown(Shutdown::Write)?;
    payload.try_receive_to_end(&stream)?;
    visit.bytes = 2 * length;
    Ok(())
}

fn both_ways(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let length = fastrand::usize(1000..2_000_000);
    let (stream, seed) = ask(soak, visit, "echo", length)?;
    let payload = Payload::new(seed, length);
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            payload.send(&stream)?;
            stream.shutdown(Shutdown::Write)
        });
        let received = payload.try_receive_to_end(&stream);
        if received.is_err() {
            // The other thread may wait for the peer to take more.
            let _ = stream.shutdown(Shutdown::Both);
        }
        match sending.join().expect("no panic") {
            // The kernel reports a reset once, to one of the two; the other one reads a clean end.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(error),
            sent => received.and(sent),
        }
    })?;
    visit.bytes = 2 * length;
    Ok(())
}

fn down(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let length = fastrand::usize(1_000_000..30_000_000);
    let (stream, seed) = ask(soak, visit, "down", length)?;
    Payload::new(seed, length).try_receive_to_end(&stream)?;
    visit.bytes = length;
    Ok(())
}

fn up(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let length = fastrand::usize(1_000_000..30_000_000);
    let (stream, seed) = ask(soak, visit, "up", length)?;
    Payload::new(seed, length).send(&stream)?;
    stream.shutdown(Shutdown::Write)?;
    match read_line(&stream)?.as_str() {
        "all" => {}
        "" => return Err(ErrorKind::UnexpectedEof.into()),
        word => return Err(io::Error::new(ErrorKind::InvalidData, format!("{word:?} instead of all"))),
    }
    visit.bytes = length;
    Ok(())
}

fn half_closed(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let length = fastrand::usize(1..500_000);
    let (stream, seed) = ask(soak, visit, "late", length)?;
    Payload::new(seed, length).send(&stream)?;
    stream.shutdown(Shutdown::Write)?;
    Payload::new(seed + 1, length).try_receive_to_end(&stream)?;
    visit.bytes = 2 * length;
    Ok(())
}

fn slow_reader(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let length = fastrand::usize(6_000_000..12_000_000);
    let (stream, seed) = ask(soak, visit, "down", length)?;
    soak.pause(Duration::from_millis(fastrand::u64(500..3000)));
    Payload::new(seed, length).try_receive_to_end(&stream)?;
    visit.bytes = length;
    Ok(())
}

fn idle(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let (stream, _) = ask(soak, visit, "echo", 0)?;
    for _ in 0..4 {
        let payload = Payload::new(fastrand::u64(..), 13);
        payload.send(&stream)?;
        payload.try_receive(&stream)?;
        visit.bytes += 26;
        soak.pause(Duration::from_millis(fastrand::u64(0..15_000)));
    }
    stream.shutdown(Shutdown::Write)?;
    match (&stream).read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::new(ErrorKind::InvalidData, "more than was sent")),
    }
}

fn resets(soak: &Soak, visit: &mut Visit) -> io::Result<()> {
    let length = fastrand::usize(1_000_000..5_000_000);
    let part = fastrand::usize(0..length / 2);
    let (stream, seed) = ask(soak, visit, "break", length)?;
    // Of one seed, a shorter payload is the beginning of a longer one.
    Payload::new(seed, part).try_receive(&stream)?;
    visit.bytes = part;
    reset(stream);
    Ok(())
}

fn port_check(soak: &Soak, _: &mut Visit) -> io::Result<()> {
    connect_to(soak.daemon.address()).map(drop)
}
