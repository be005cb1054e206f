//! Answers that come later: what other threads report to the control thread.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use mio::Waker;

use super::command::Target;
use super::empty::EmptyWait;
use super::listeners::ControlListener;
use super::sessions::SessionQuery;
use super::stream::Peer;
use crate::address::PeerAddress;
use crate::pool::{Event, Pool, SwitchDone};
use crate::sessions::{FoundSessions, SurveyPart};

/// Where a command came from, and a late answer goes to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Asker {
    Fifo,
    Conversation {
        slot: usize,
        generation: u64,
        peer: Peer,
    },
    /// Another thread, for a client of its own.
    Thread {
        number: u64,
        peer: Option<SocketAddr>,
    },
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asker::Fifo => f.write_str("through the FIFO"),
            Asker::Conversation { peer, .. } => write!(f, "by {peer}"),
            Asker::Thread { peer: Some(peer), .. } => write!(f, "by {peer} over HTTP"),
            Asker::Thread { peer: None, .. } => f.write_str("over HTTP"),
        }
    }
}

/// What a reload has come to, a line for each thing; or why nothing has changed.
pub type ReloadOutcome = Result<Vec<String>, Vec<String>>;

/// Called with it, once.
pub type ReloadDone = Box<dyn FnOnce(ReloadOutcome) + Send>;

/// Called with the answer to a command, once.
pub type CommandDone = Box<dyn FnOnce(String) + Send>;

/// How another thread gives commands.
#[derive(Clone)]
pub struct Commands(pub(super) ReportSender);

impl Commands {
    /// Has the control thread obey one line, for a client at `peer`. Nobody is answered while that stands still.
    pub fn give(&self, line: String, peer: Option<SocketAddr>, done: CommandDone) {
        self.0.send(LateReport::Command { line, peer, done });
    }
}

/// What other threads report to this one.
pub(super) enum LateReport {
    /// Another thread gives this command for a client of its own, and is answered by `done`.
    Command { line: String, peer: Option<SocketAddr>, done: CommandDone },
    /// A name was resolved.
    Resolved { asker: Asker, target: Target, addresses: io::Result<Vec<PeerAddress>> },
    /// A move of the single destination to this one has ended, or was given up for this reason.
    Switched { asker: Asker, target: Target, result: Result<(), String> },
    /// Connections were found.
    Found { asker: Asker, query: SessionQuery, found: FoundSessions },
    /// A client waits until a destination has no connections.
    WaitEmpty(EmptyWait),
    /// The configuration file was read again, or not, for these reasons.
    Reloaded { asker: Asker, outcome: ReloadOutcome },
    /// These are the control sockets from now on.
    ListenAt(Vec<ControlListener>),
    /// Dropped when all that was reported before this has been answered.
    Settle(Sender<()>),
    /// Pools and services are others than before.
    SetupChanged,
    /// The single destination has moved, or a move of it has a new deadline, or names have other addresses.
    TableChanged,
}

/// How other threads report, and wake this one.
#[derive(Clone)]
pub(super) struct ReportSender {
    pub reports: Sender<LateReport>,
    pub waker: Arc<Waker>,
}

impl ReportSender {
    pub(super) fn send(&self, report: LateReport) {
        // Without a control thread there is nothing to do about it.
        let _ = self.reports.send(report);
        let _ = self.waker.wake();
    }

    /// Has this thread hear what a pool does by itself.
    pub(super) fn follow(&self, pool: &Pool) {
        let changed = self.clone();
        pool.subscribe(Box::new(move |event| {
            if matches!(event, Event::Closed(..) | Event::Settled | Event::Named) {
                changed.send(LateReport::TableChanged);
            }
        }));
    }

    /// The same for what one command asks for.
    pub(super) fn answering(&self, asker: Asker) -> LateAnswer<'_> {
        LateAnswer { sender: self, asker }
    }
}

/// What a command needs that is answered later.
#[derive(Clone, Copy)]
pub(super) struct LateAnswer<'a> {
    sender: &'a ReportSender,
    asker: Asker,
}

impl LateAnswer<'_> {
    /// Who is answered.
    pub(super) fn asker(self) -> Asker {
        self.asker
    }

    /// For the thread that resolves a name.
    pub(super) fn resolved(self) -> impl FnOnce(Target, io::Result<Vec<PeerAddress>>) + Send + 'static {
        let (sender, asker) = (self.sender.clone(), self.asker);
        move |target, addresses| sender.send(LateReport::Resolved { asker, target, addresses })
    }

    /// For those who find connections.
    pub(super) fn found(self, query: SessionQuery) -> SurveyPart {
        let (sender, asker) = (self.sender.clone(), self.asker);
        let filter = query.filter.clone();
        SurveyPart::new(filter, Box::new(move |found| sender.send(LateReport::Found { asker, query, found })))
    }

    /// For this thread itself, which is to look again and again.
    pub(super) fn wait_empty(self, target: Target, pool: Pool, addresses: Vec<PeerAddress>, within: Duration) {
        let wait = EmptyWait { asker: self.asker, target, pool, addresses, deadline: Instant::now() + within };
        self.sender.send(LateReport::WaitEmpty(wait));
    }

    /// For the thread that reads the configuration file.
    pub(super) fn reloaded(self) -> ReloadDone {
        let (sender, asker) = (self.sender.clone(), self.asker);
        Box::new(move |outcome| sender.send(LateReport::Reloaded { asker, outcome }))
    }

    /// For the table, which moves the single destination.
    pub(super) fn switched(self, target: Target) -> SwitchDone {
        let (sender, asker) = (self.sender.clone(), self.asker);
        Box::new(move |result| sender.send(LateReport::Switched { asker, target, result }))
    }
}
