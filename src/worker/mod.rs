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
mod hops;
mod kit;
#[cfg(all(test, glbd_loom))]
mod loom_tests;
mod mailbox;
mod message;
#[cfg(test)]
mod model;
mod pipe;
mod socket;
mod source;
mod sync;
mod synchronous;
mod timers;
mod troubles;
mod wake_once;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Poll, Token};

use crate::pool::{Event, Pool};
use crate::service::Service;
use crate::stats::Stats;
use accept::Acceptor;
use accepting_workers::AcceptingWorkers;
use acceptors::Acceptors;
use admission::Admission;
use event_loop::Worker;
use flow::{Splicing, Tools};
use kit::Kit;
use mailbox::MailboxSender;
use message::Message;
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

    /// The token of a worker's listening socket. No connection has its slot.
    fn listener_token(place: usize) -> Token {
        Key { generation: place as u32, slot: Key::MASK as u32 }.token(Side::Client)
    }

    /// The place of the listening socket with this token, if it is one's.
    fn listener(token: Token) -> Option<usize> {
        let (key, side) = Key::of(token);
        (key.slot as usize == Key::MASK && side == Side::Client).then_some(key.generation as usize)
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

/// How the rest of the program reaches the workers.
#[derive(Clone)]
pub struct Handle {
    mailboxes: Box<[MailboxSender<Message>]>,
    admission: Arc<Admission>,
}

impl Handle {
    /// Has the workers begin to accept, where that was put off.
    pub fn accept(&self) {
        self.mailboxes.iter().for_each(|worker| worker.send(Message::Accept));
    }

    /// Has the workers stop accepting, and end when their last connection has.
    pub fn drain(&self) {
        self.mailboxes.iter().for_each(|worker| worker.send(Message::Drain));
    }

    /// Says how many clients other processes have, which count for the limit as well.
    pub fn set_elsewhere(&self, clients: usize) {
        self.admission.set_elsewhere(clients);
    }

    /// Has the workers leave their listening sockets, and who waits there, to another process, and end when their last
    /// connection has.
    pub fn hand_over(&self) {
        self.mailboxes.iter().for_each(|worker| worker.send(Message::HandOver));
    }

    /// Has the workers cut all connections, and waits until the end of the process would do so as well, though no longer
    /// than `patience`.
    pub fn stop(&self, patience: Duration) {
        let (sender, done) = crossbeam_channel::bounded::<()>(0);
        self.mailboxes.iter().for_each(|worker| worker.send(Message::Stop(sender.clone())));
        drop(sender);
        // Nothing is sent: it ends when all have let go of it.
        let _ = done.recv_timeout(patience);
    }
}

/// What all workers together may use.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most client connections.
    pub connections: usize,
    /// Most pipes for splicing, of two descriptors each; without any, everything is copied.
    pub pipes: usize,
}

/// A listening socket of each service for each worker, as far as there are so many.
fn deal_out(services: Vec<(Arc<Service>, Vec<TcpListener>)>, workers: usize) -> Vec<Vec<(Arc<Service>, TcpListener)>> {
    let mut dealt: Vec<Vec<_>> = (0..workers).map(|_| Vec::new()).collect();
    for (service, listeners) in services {
        for (place, listener) in listeners.into_iter().enumerate() {
            dealt[place % workers].push((Arc::clone(&service), listener));
        }
    }
    dealt
}

impl Workers {
    /// Makes so many workers for services, whose listening sockets are dealt out to them. With `held`, nobody is accepted
    /// before [`Handle::accept`] says so.
    ///
    /// # Errors
    /// When there are no descriptors left for their event queues.
    pub fn new(
        count: usize,
        services: Vec<(Arc<Service>, Vec<TcpListener>)>,
        limits: Limits,
        stats: &Stats,
        held: bool,
    ) -> io::Result<Workers> {
        let mut ends = Vec::new();
        let (mut mailboxes, mut wakers) = (Vec::new(), Vec::new());
        for _ in 0..count {
            let poll = Poll::new()?;
            let waker = WakeOnce::new(Waker::new(poll.registry(), MAIL)?);
            let (mailbox, inbox) = mailbox::open(Arc::clone(&waker));
            ends.push((poll, inbox));
            mailboxes.push(mailbox);
            wakers.push(waker);
        }
        let (mailboxes, wakers): (Box<[_]>, Box<[_]>) = (mailboxes.into(), wakers.into());
        let admission = Admission::new(limits.connections, wakers.clone());
        let pipes = PipeBudget::new(limits.pipes);
        let troubles = Troubles::new();
        let accepting = AcceptingWorkers::new(wakers);
        let mut workers = Vec::new();
        let mut listeners = deal_out(services, count);
        for (index, (poll, inbox)) in ends.into_iter().enumerate() {
            let tools = Tools::new(pipes.clone(), Splicing::from_environment());
            let kit = Kit::new(poll.registry().try_clone()?, index, stats, tools, &troubles);
            let acceptor = |(place, (service, listener))| {
                let token = Key::listener_token(place);
                Acceptor::new(service, listener, token, poll.registry(), &admission, &troubles, held)
            };
            let acceptors = std::mem::take(&mut listeners[index]).into_iter().enumerate().map(acceptor);
            let acceptors = Acceptors::new(acceptors.collect::<io::Result<_>>()?);
            workers.push(Worker::new(poll, inbox, mailboxes.clone(), acceptors, Arc::clone(&accepting), kit));
        }
        Ok(Workers { workers, handle: Handle { mailboxes, admission } })
    }

    /// Has the workers hear what happens to a pool that one of their services picks from. To be called once for each,
    /// before they start.
    pub fn follow(&self, pool: &Pool) {
        for mailbox in &self.handle.mailboxes {
            let mailbox = mailbox.clone();
            pool.subscribe(Box::new(move |event| {
                if matches!(event, Event::Closed(..) | Event::Checked(..) | Event::Settled) {
                    mailbox.send(Message::Pool(event));
                }
            }));
        }
    }

    /// Starts a thread for each.
    ///
    /// # Errors
    /// When a thread cannot be started.
    pub fn start(self) -> io::Result<(Handle, Vec<std::thread::JoinHandle<()>>)> {
        let start = |worker: Worker| {
            let name = format!("worker-{}", worker.index());
            std::thread::Builder::new().name(name).spawn(move || worker.run())
        };
        let threads = self.workers.into_iter().map(start).collect::<io::Result<_>>()?;
        Ok((self.handle, threads))
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
