//! The data path: threads that each run one event loop. Accept, pick, connect, relay, close.

mod accept;
mod accepting_workers;
mod acceptors;
mod admission;
mod connection;
mod duplex;
mod event_loop;
mod first_packet;
mod flow;
pub mod fuzz;
mod handle;
mod hops;
mod kit;
mod listener_group;
#[cfg(all(test, glbd_loom))]
mod loom_tests;
mod mailbox;
mod message;
#[cfg(test)]
mod model;
mod pipe;
mod proxy_protocol;
mod socket;
mod source;
mod stream;
mod surveys;
mod sync;
mod synchronous;
mod timers;
mod troubles;
mod unique_ids;
mod wake_once;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::warn;
use mio::{Poll, Token};

use crate::process::processors;
use crate::stats::Stats;
use crate::supervise;
use accepting_workers::AcceptingWorkers;
use admission::Admission;
use event_loop::Worker;
use flow::{Splicing, Tools};
use handle::Entrance;
pub use handle::Handle;
use kit::Kit;
pub use listener_group::ListenerGroup;
use pipe::PipeBudget;
use sync::Waker;
use troubles::Troubles;
use wake_once::WakeOnce;

const MAIL: Token = Token(usize::MAX - 1);
/// How long to wait when this machine is short of something, before trying again.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// One of a connection's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    /// The socket to a destination, of which there is a new one for each attempt.
    Server(Attempt),
}

/// Numbers the sockets that one connection opens to destinations, so that an event of an earlier one does not reach the
/// next. It wraps around after more attempts than one batch of events can hold of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Attempt(u8);

impl Attempt {
    const BITS: u32 = 7;

    fn next(self) -> Attempt {
        Attempt((self.0 + 1) & ((1 << Attempt::BITS) - 1))
    }
}

/// A connection's place, and which of all that were in this place it is: an event that was meant for one does not reach
/// the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    generation: u32,
    slot: u32,
}

impl Key {
    /// Bits of the generation and of the slot: more than there can be descriptors.
    const BITS: u32 = 28;
    const MASK: usize = (1 << Key::BITS) - 1;

    fn new(generation: u32, slot: usize) -> Key {
        Key { generation: generation & Key::MASK as u32, slot: slot as u32 }
    }

    /// From the lowest bit on: the side, the attempt, the slot, the generation.
    fn token(self, side: Side) -> Token {
        let (server, attempt) = match side {
            Side::Client => (0, 0),
            Side::Server(Attempt(attempt)) => (1, attempt as usize),
        };
        let place = (self.generation as usize) << Key::BITS | self.slot as usize;
        Token(place << (Attempt::BITS + 1) | attempt << 1 | server)
    }

    fn of(token: Token) -> (Key, Side) {
        let attempt = Attempt((token.0 >> 1) as u8 & ((1 << Attempt::BITS) - 1));
        let side = if token.0 & 1 == 0 { Side::Client } else { Side::Server(attempt) };
        let place = token.0 >> (Attempt::BITS + 1);
        (Key::new((place >> Key::BITS) as u32, place & Key::MASK), side)
    }
}

/// Workers that have been made but not started.
pub struct Workers {
    workers: Vec<Worker>,
    handle: Handle,
}

/// What all workers together may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most client connections.
    pub connections: usize,
    /// Most pipes for splicing, of two descriptors each; without any, everything is copied.
    pub pipes: usize,
}

impl Workers {
    /// Makes so many workers, which serve what [`Handle::serve`] adds.
    ///
    /// # Errors
    /// When there are no descriptors left for their event queues.
    pub fn new(count: usize, limits: Limits, stats: &Stats) -> io::Result<Workers> {
        let mut ends = Vec::new();
        let (mut entrances, mut mailboxes, mut wakers) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..count {
            let poll = Poll::new()?;
            let registry = Arc::new(poll.registry().try_clone()?);
            let waker = WakeOnce::new(Waker::new(&registry, MAIL)?);
            let (mailbox, inbox) = mailbox::open(Arc::clone(&waker));
            ends.push((poll, Arc::clone(&registry), inbox));
            entrances.push(Entrance { mailbox: mailbox.clone(), registry });
            mailboxes.push(mailbox);
            wakers.push(waker);
        }
        let (mailboxes, wakers): (Box<[_]>, Box<[_]>) = (mailboxes.into(), wakers.into());
        let admission = Admission::new(limits.connections, wakers.clone());
        let pipes = PipeBudget::new(limits.pipes);
        let troubles = Troubles::new();
        let accepting = AcceptingWorkers::new(wakers);
        let worker = |(index, (poll, registry, inbox))| {
            let tools = Tools::new(pipes.clone(), Splicing::from_environment());
            let kit = Kit::new(registry, (index, mailboxes[index].clone()), stats, tools, &troubles);
            Worker::new(poll, inbox, mailboxes.clone(), Arc::clone(&accepting), kit)
        };
        let workers = ends.into_iter().enumerate().map(worker).collect();
        Ok(Workers { workers, handle: Handle::new(entrances.into(), admission, troubles) })
    }

    /// How to reach them.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Starts a thread for each, bound to these processors in turns, if there are any.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(self, processors: &[usize]) -> io::Result<(Handle, Vec<std::thread::JoinHandle<()>>)> {
        let start = |worker: Worker| {
            let (index, name) = (worker.index(), format!("worker-{}", worker.index()));
            let processor = processors.iter().cycle().nth(index).copied();
            supervise::spawn(&name, move || {
                processor.into_iter().for_each(|processor| bind(index, processor));
                worker.run();
            })
        };
        let threads = self.workers.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok((self.handle, threads))
    }
}

fn bind(worker: usize, processor: usize) {
    // It could be at the start, but may have been switched off since.
    if let Err(error) = processors::bind_thread_to(processor) {
        warn!("worker {worker} is not bound to processor {processor}: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_token_names_its_connection_its_side_and_its_attempt(
            generation in 0..1u32 << Key::BITS, slot in 0..1usize << Key::BITS, attempt in 0..1u8 << Attempt::BITS
        ) {
            let key = Key::new(generation, slot);
            prop_assert_eq!((key.generation, key.slot as usize), (generation, slot));
            for side in [Side::Client, Side::Server(Attempt(attempt))] {
                prop_assert_eq!(Key::of(key.token(side)), (key, side));
            }
        }
    }
}
