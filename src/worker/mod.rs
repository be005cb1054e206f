//! The data path: threads that each run one event loop. Accept, pick, connect, relay, close.

mod accept;
mod admission;
mod connection;
mod event_loop;
mod flow;
mod kit;
mod listen;
mod mailbox;
mod pipe;
mod source;
mod synchronous;
mod timers;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Poll, Token};

use crate::config::ConnectionOptions;
use crate::stats::Stats;
use crate::table::{Event, Table};
use accept::Acceptor;
use admission::Admission;
use event_loop::Worker;
use flow::{Splicing, Tools};
use kit::Kit;
pub use listen::{adopt, listen};
use mailbox::{Mailbox, Message};
use pipe::PipeBudget;

const LISTENER: Token = Token(usize::MAX);
const MAIL: Token = Token(usize::MAX - 1);
/// How long to wait when this machine is short of something, before trying again.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// Which of a connection's sockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Server,
}

/// A connection's place, and which of all that were in this place it is: an event that was meant for one does not reach
/// the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    generation: u32,
    slot: u32,
}

impl Key {
    /// 31 bits of slot are enough: there are not that many descriptors.
    fn token(self, side: Side) -> Token {
        Token((self.generation as usize) << 32 | (self.slot as usize) << 1 | (side == Side::Server) as usize)
    }

    fn of(token: Token) -> (Key, Side) {
        let side = if token.0 & 1 == 0 { Side::Client } else { Side::Server };
        let slot = (token.0 as u32) >> 1;
        (Key { generation: (token.0 >> 32) as u32, slot }, side)
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
    mailboxes: Box<[Mailbox]>,
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

impl Workers {
    /// Makes a worker for each listener, all picking from `table`. With `held`, nobody is accepted before
    /// [`Handle::accept`] says so.
    ///
    /// # Errors
    /// When there are no descriptors left for their event queues.
    pub fn new(
        listeners: Vec<TcpListener>,
        limits: Limits,
        table: &Table,
        stats: &Stats,
        options: &ConnectionOptions,
        held: bool,
    ) -> io::Result<Workers> {
        let mut ends = Vec::new();
        let mut mailboxes = Vec::new();
        for listener in listeners {
            let poll = Poll::new()?;
            let (mailbox, letters) = mailbox::open(poll.registry(), MAIL)?;
            ends.push((listener, poll, letters));
            mailboxes.push(mailbox);
        }
        let mailboxes: Box<[Mailbox]> = mailboxes.into();
        let admission = Admission::new(limits.connections, mailboxes.clone());
        let pipes = PipeBudget::new(limits.pipes);
        let accepting = Arc::new(AtomicUsize::new(mailboxes.len()));
        let mut workers = Vec::new();
        for (index, (listener, poll, letters)) in ends.into_iter().enumerate() {
            let tools = Tools::new(pipes.clone(), Splicing::from_environment());
            let kit = Kit::new(poll.registry().try_clone()?, index, table, stats, options, tools);
            let acceptor = Acceptor::new(listener, poll.registry(), &admission, held)?;
            workers.push(Worker::new(poll, letters, mailboxes.clone(), acceptor, Arc::clone(&accepting), kit));
            let mailbox = mailboxes[index].clone();
            table.subscribe(Box::new(move |event| {
                if matches!(event, Event::Closed(..) | Event::Checked(..)) {
                    mailbox.send(Message::Table(event));
                }
            }));
        }
        Ok(Workers { workers, handle: Handle { mailboxes, admission } })
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
