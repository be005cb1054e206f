//! The clients: each compares every byte that it gets, and knows which servers may be at the other end.

use std::fmt::Write as _;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use super::turns::{CHANGING, COMING, Ports, STEADY, Turns, UNTOUCHED};
use crate::harness::{Payload, connect_to, read_line, wait_until};
use crate::services::at;

/// What one client does, again and again.
#[derive(Clone, Copy, PartialEq)]
enum Habit {
    /// Connects, has an echo of some hundred bytes, and is done.
    Short,
    /// The same with a megabyte in both directions at once.
    Bulk,
    /// Small messages over one connection, all the time.
    Chat,
    /// Bulk over one connection, all the time.
    Stream,
}

impl Habit {
    /// The reloads need processor time as well.
    const fn pause(self) -> Duration {
        match self {
            Self::Short | Self::Chat => Duration::from_millis(2),
            Self::Bulk | Self::Stream => Duration::from_millis(30),
        }
    }
}

/// A service that clients use.
#[derive(Clone, Copy)]
enum To {
    Untouched,
    Writer,
    Changing,
    /// One of those that come and go.
    Coming,
}

/// One client.
pub struct Kind {
    name: &'static str,
    to: To,
    habit: Habit,
}

const fn kind(name: &'static str, to: To, habit: Habit) -> Kind {
    Kind { name, to, habit }
}

pub const KINDS: [Kind; 13] = [
    kind("untouched, short", To::Untouched, Habit::Short),
    kind("untouched, short, another", To::Untouched, Habit::Short),
    kind("untouched, bulk", To::Untouched, Habit::Bulk),
    kind("untouched, chat", To::Untouched, Habit::Chat),
    kind("untouched, chat, another", To::Untouched, Habit::Chat),
    kind("untouched, stream", To::Untouched, Habit::Stream),
    kind("writer, short", To::Writer, Habit::Short),
    kind("writer, chat", To::Writer, Habit::Chat),
    kind("changing, short", To::Changing, Habit::Short),
    kind("changing, bulk", To::Changing, Habit::Bulk),
    kind("changing, chat", To::Changing, Habit::Chat),
    kind("changing, stream", To::Changing, Habit::Stream),
    kind("coming and going, short", To::Coming, Habit::Short),
];

/// All of them, and what they have noticed.
pub struct Clients {
    ports: Ports,
    over: AtomicBool,
    /// What each has done, in the order of [`KINDS`].
    done: [AtomicUsize; KINDS.len()],
    errors: Mutex<Vec<String>>,
}

/// What became of a connection.
enum Visit {
    Served,
    /// It was not let in.
    Refused(io::Error),
}

impl Clients {
    pub fn new(turns: &Turns) -> Self {
        Self { ports: turns.ports, over: AtomicBool::new(false), done: Default::default(), errors: Mutex::default() }
    }

    /// Has them end once they are done with what they do.
    pub fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn has_errors(&self) -> bool {
        !self.errors.lock().expect("no panic").is_empty()
    }

    pub fn assert_that_none_has_noticed(&self) {
        let errors = self.errors.lock().expect("no panic").clone();
        assert!(errors.is_empty(), "clients have noticed:\n{}", errors.join("\n"));
    }

    /// How often each was served.
    pub fn report(&self) -> String {
        let mut text = String::new();
        for (kind, done) in KINDS.iter().zip(&self.done) {
            writeln!(text, "{:28} {:>7}", kind.name, done.load(Ordering::Relaxed)).expect("text");
        }
        text
    }

    /// Waits until another client has come to each service that must serve it, and each connection that stays was used.
    pub fn wait_for_more(&self) {
        let counts = || self.done.each_ref().map(|done| done.load(Ordering::Relaxed));
        let must_be_served = |index: &usize| {
            let Kind { to, habit, .. } = &KINDS[*index];
            !matches!(to, To::Coming) && matches!(habit, Habit::Short | Habit::Chat)
        };
        let before = counts();
        wait_until("all clients have been served once more", || {
            let now = counts();
            self.has_errors() || (0..KINDS.len()).filter(must_be_served).all(|index| now[index] > before[index])
        });
        self.assert_that_none_has_noticed();
    }

    /// What one client does until all is over.
    pub fn come_and_go(&self, kind: &Kind) {
        let index = KINDS.iter().position(|it| std::ptr::eq(it, kind) || it.name == kind.name).expect("one of them");
        let mut number = index;
        while !self.is_over() && !self.has_errors() {
            number += KINDS.len();
            let port = match kind.to {
                To::Untouched => self.ports.untouched,
                To::Writer => self.ports.writer,
                To::Changing => self.ports.changing,
                To::Coming => self.ports.coming[number % self.ports.coming.len()],
            };
            let result = self.visit(kind, port, number as u64, &self.done[index]);
            let may_be_refused = matches!(kind.to, To::Coming);
            let told = match result {
                Ok(Visit::Served) => {
                    self.done[index].fetch_add(1, Ordering::Relaxed);
                    None
                }
                Ok(Visit::Refused(_)) if may_be_refused => None,
                Ok(Visit::Refused(error)) => Some(format!("refused: {error}")),
                Err(error) => Some(format!("cut off, or worse: {error}")),
            };
            self.errors.lock().expect("no panic").extend(told.map(|told| format!("{}: {told}", kind.name)));
            thread::sleep(kind.habit.pause());
        }
    }

    fn visit(&self, kind: &Kind, port: u16, number: u64, done: &AtomicUsize) -> io::Result<Visit> {
        let client = match connect_to(at(port)) {
            Ok(client) => client,
            Err(error) => return Ok(Visit::Refused(error)),
        };
        client.set_nodelay(true)?;
        let name = match read_line(&client) {
            Ok(name) if name.is_empty() => return Ok(Visit::Refused(ErrorKind::UnexpectedEof.into())),
            Ok(name) => name,
            Err(error) => return Ok(Visit::Refused(error)),
        };
        let is_expected = match kind.to {
            To::Untouched => UNTOUCHED.contains(&&*name),
            To::Writer => name == STEADY,
            To::Changing => CHANGING.contains(&&*name),
            // One of them is on the other pool.
            To::Coming => COMING.contains(&&*name) || CHANGING.contains(&&*name),
        };
        if !is_expected {
            return Err(io::Error::other(format!("it was sent to {name}")));
        }
        let result = match kind.habit {
            Habit::Short => once(&client, &Payload::new(number, 300)),
            Habit::Bulk => once(&client, &Payload::new(number, 1_000_000)),
            Habit::Chat => self.go_on(kind.habit, &client, done, chat),
            Habit::Stream => self
                .go_on(kind.habit, &client, done, |client, number| both_ways(client, &Payload::new(number, 200_000))),
        };
        result.map(|()| Visit::Served).map_err(|error| io::Error::new(error.kind(), format!("from {name}: {error}")))
    }

    /// Does something with one connection until all is over.
    fn go_on(
        &self,
        habit: Habit,
        client: &TcpStream,
        done: &AtomicUsize,
        step: impl Fn(&TcpStream, u64) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut number = 0;
        while !self.is_over() && !self.has_errors() {
            number += 1;
            step(client, number)?;
            done.fetch_add(1, Ordering::Relaxed);
            thread::sleep(habit.pause());
        }
        Ok(())
    }
}

fn chat(mut client: &TcpStream, number: u64) -> io::Result<()> {
    let (said, mut heard) = (number.to_be_bytes(), [0; 8]);
    client.write_all(&said)?;
    client.read_exact(&mut heard)?;
    if said == heard { Ok(()) } else { Err(io::Error::other(format!("{said:?} has become {heard:?}"))) }
}

fn both_ways(client: &TcpStream, payload: &Payload) -> io::Result<()> {
    thread::scope(|scope| {
        let sending = scope.spawn(|| payload.send(client));
        let received = payload.try_receive(client);
        if received.is_err() {
            // It may wait for a peer that is gone.
            let _ = client.shutdown(Shutdown::Both);
        }
        received.and(sending.join().expect("no panic"))
    })
}

/// All of it both ways, and a clean end.
fn once(client: &TcpStream, payload: &Payload) -> io::Result<()> {
    both_ways(client, payload)?;
    client.shutdown(Shutdown::Write)?;
    match (&mut &*client).read(&mut [0])? {
        0 => Ok(()),
        _ => Err(io::Error::other("more came than was sent")),
    }
}
