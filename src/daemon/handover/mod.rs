//! Handing everything over to another process, that of the program that is on disk now: a hot upgrade.
//!
//! The old process starts the new one and talks to it through a socket, one [`Message`] at a time:
//!
//! 1. The new process says [`Message::Hello`], so that nothing is handed to what is no glbd.
//! 2. The old one has its control thread stand still, and sends its sockets and its [`State`].
//! 3. The new one says [`Message::Ready`] when all its threads run, or [`Message::Failed`].
//! 4. The old one says [`Message::Go`], and the new one [`Message::Serving`] when it accepts. For a moment both do, from
//!    the same sockets.
//! 5. The old one steps down.
//!
//! Until then, whatever happens to the new process, the old one goes on as if nothing had happened. After that, the socket
//! stays open for as long as the old process has connections: it tells how many there are and what they carry, and hears
//! what becomes of their destinations.

mod inheritance;
mod listener;
mod predecessors;
mod reports;
mod successor;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::channel::{self, Channel};
use crate::checker::Credentials;
use crate::pool::{Rotation, SavedPool, SavedRotation};
use crate::process::Handed;
use crate::stats::{SavedStats, Totals};
use crate::worker;
pub(super) use inheritance::{Inheritance, Predecessor};
pub(super) use predecessors::{PredecessorLink, Predecessors};
pub(super) use reports::Reports;
pub(super) use successor::{Offer, Successor};

/// Two processes understand each other when they say the same.
const PROTOCOL: u32 = 3;

/// What the two processes say to each other.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// The new process is a glbd.
    Hello { protocol: u32, version: String, pid: u32 },
    /// With this message come descriptors, which are these.
    Descriptors(Vec<Role>),
    /// The new process could serve now.
    Ready,
    /// The new process cannot, for this reason.
    Failed(String),
    /// The new process is to serve from now on.
    Go,
    /// It does.
    Serving,
    /// So many connections the old process has to these destinations, and so much it has counted since the last time.
    Traffic { connections: Connections, counted: Totals },
    /// What the old process is to do.
    Orders(Vec<Order>),
}

/// Reads a message of another process, and forgets it: for fuzzers.
pub(super) fn hear(bytes: &[u8]) {
    // An error is as good as an answer.
    let _ = channel::parse::<Message>(bytes);
}

/// What an old process is to do.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) enum Order {
    /// Close its connections to this destination.
    Close(SocketAddr),
    /// Know the destination by another address, where it is now.
    Move(SocketAddr, SocketAddr),
    /// Send clients that wait for the single destination to this one.
    Single(SocketAddr),
    /// Stop at once.
    Stop,
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Role {
    /// A file with the [`State`]; it comes last.
    State,
    /// A socket that clients connect to.
    Listener,
    /// The control socket.
    Control,
    /// The control FIFO.
    Fifo,
    /// The conversation with the janitor.
    Janitor,
    /// The conversation with a process before the old one, which still has connections.
    Predecessor,
}

/// Most destinations that one message tells something of.
const PORTION: usize = 500;

/// How many connections there are to each of these destinations.
type Connections = Vec<(SocketAddr, usize)>;

/// What the new process is to go on with, beside descriptors.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    /// The old process.
    pub pid: u32,
    /// Where the paths of the command line begin.
    pub directory: PathBuf,
    /// Whether the sockets are a service manager's.
    pub borrowed: bool,
    pub table: SavedPool,
    pub choices: SavedRotation,
    pub stats: SavedStats,
    pub leftovers: Handed,
    pub credentials: Option<Credentials>,
    /// Connections that the old process has.
    pub connections: Connections,
    /// Connections that those before it have, and what they have not been told, in the order of their descriptors.
    pub predecessors: Vec<(Connections, Vec<Order>)>,
    /// What its configuration says of what stays as it is.
    #[serde(default)]
    pub lasting: Vec<(String, String)>,
}

impl State {
    /// Counts the connections that the processes before this one have, as many as they had when this was written, so
    /// that the first clients find the limit and the balance as they are.
    pub(super) fn count_elsewhere(&self, table: &Rotation, workers: &worker::Handle) {
        workers.set_elsewhere(self.elsewhere().values().sum());
        self.count_in(table);
    }

    /// Counts those connections in the table only.
    pub(super) fn count_in(&self, table: &Rotation) {
        self.elsewhere().into_iter().for_each(|(address, count)| {
            table.set_elsewhere(address, count);
            table.set_sessions_elsewhere(address, count);
        });
    }

    fn elsewhere(&self) -> HashMap<SocketAddr, usize> {
        let mut elsewhere: HashMap<SocketAddr, usize> = HashMap::new();
        let older = self.predecessors.iter().map(|(connections, _)| connections);
        for (address, count) in older.chain([&self.connections]).flatten() {
            *elsewhere.entry(*address).or_default() += count;
        }
        elsewhere
    }
}
