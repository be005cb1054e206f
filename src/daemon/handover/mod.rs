//! Handing everything over to another process, that of the program that is on disk now: a hot upgrade.
//!
//! The old process starts the new one and talks to it through a socket, one [`Message`] at a time:
//!
//! 1. The new process says [`Message::Hello`], so that nothing is handed to what is no glbd.
//! 2. The old one has its control thread stand still, and sends its sockets and its [`State`].
//! 3. The new one says [`Message::Leaves`] where it does not listen any more, and [`Message::Ready`] when all its threads
//!    run; or [`Message::Failed`].
//! 4. The old one says [`Message::Go`], and the new one [`Message::Serving`] when it accepts. For a moment both do, from
//!    the same sockets.
//! 5. The old one steps down. It serves the clients that wait where the new one does not listen any more.
//!
//! Until then, whatever happens to the new process, the old one goes on as if nothing had happened. After that, the socket
//! stays open for as long as the old process has connections: it tells how many there are and what they carry, and hears
//! what becomes of their destinations.

mod inheritance;
mod ledger;
mod listener;
mod predecessors;
mod reports;
mod sessions;
mod successor;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::control_sockets::HandedControl;
use crate::address::PeerAddress;
use crate::channel::{self, Channel};
use crate::checker::Credentials;
use crate::connection_log::Style;
use crate::http;
use crate::log::events::Event;
use crate::pool::{SavedPool, SavedRotation};
use crate::process::Handed;
use crate::process::socket_file::MadeFiles;
use crate::service::{PoolEntry, RetiredService, Setup};
use crate::sessions::{Session, SessionFilter, SessionId};
use crate::stats::{SavedStats, Totals};
use crate::worker;
pub(super) use inheritance::{Inheritance, Predecessor};
pub(super) use ledger::{Highest, Ledger, enter, enter_highest, ledger};
pub(super) use predecessors::{PredecessorLink, Predecessors};
pub(super) use reports::Reports;
pub(super) use sessions::{AllSessions, OlderSessions};
pub(super) use successor::{Offer, Successor};

/// Two processes understand each other when they say the same.
const PROTOCOL: u32 = 4;

/// What the two processes say to each other.
#[derive(Debug, Serialize, Deserialize)]
enum Message {
    /// The new process is a glbd.
    Hello { protocol: u32, version: String, pid: u32 },
    /// With this message come descriptors, which are these.
    Descriptors(Vec<Role>),
    /// The new process does not go on with the listening sockets at these addresses: clients that wait there are the old
    /// one's.
    Leaves(Vec<LeftAddress>),
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
    /// What it has counted of services and destinations since the last time.
    Counted(Ledger),
    /// What the old process is to do.
    Orders(Vec<Order>),
    /// The old process is to say which of its connections are meant. Sent only to one that answers.
    Find { number: u64, filter: SessionFilter },
    /// These are, in answer to the question of this number. With the last of them, whether that is all.
    Found { number: u64, sessions: Vec<Session>, last: Option<Completeness> },
}

/// Whether an answer is all that there is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Completeness {
    Complete,
    /// A worker has not answered in time.
    Partial,
}

/// Reads a message of another process, and forgets it: for fuzzers.
pub(super) fn hear(bytes: &[u8]) {
    // An error is as good as an answer.
    let _ = channel::parse::<Message>(bytes);
}

/// Whose connections are meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(super) enum Holder {
    /// All of the pool of this name.
    Pool(String),
    /// Those of the service of this name, which keeps to a single destination. They are the pool's as well.
    Service(String),
    /// All that count for the limits of the service of this name, whether they have a destination or not. Their address is
    /// [`NOWHERE`]. They are the pool's as well as soon as they have one.
    Limits(String),
    /// Those among them whose clients are of one source, of which the address is one.
    Source(String),
}

/// What an old process is to do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Order {
    /// Close these connections to this destination.
    Close(Holder, PeerAddress),
    /// Know the destination of this pool by another address, where it is now.
    Move(String, PeerAddress, PeerAddress),
    /// Send clients of this service that wait for the single destination to this one.
    Single(String, PeerAddress),
    /// Stop at once.
    Stop,
    /// Close these of its own connections. Sent only to a process that has said that it answers questions about them.
    Kick(Vec<SessionId>),
}

/// What a descriptor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
enum Role {
    /// A file with the [`State`]; it comes last.
    State,
    /// A socket that clients connect to.
    Listener,
    /// A control socket.
    Control,
    /// The control FIFO.
    Fifo,
    /// The socket that HTTP clients connect to.
    Http,
    /// The conversation with the janitor.
    Janitor,
    /// The conversation with a process before the old one, which still has connections.
    Predecessor,
}

/// Stands for the destination where none is meant.
const NOWHERE: PeerAddress = PeerAddress::Inet(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0));

/// Most destinations or addresses that one message tells something of.
const PORTION: usize = 500;

/// How many connections there are to each of these destinations.
type Connections = Vec<(Holder, PeerAddress, usize)>;

/// A pool that is handed over.
#[derive(Serialize, Deserialize)]
pub(super) struct HandedPool {
    pub name: String,
    pub pool: SavedPool,
    /// The destinations that were asked for, before hands changed them.
    pub asked_for: Vec<String>,
    pub credentials: Option<Credentials>,
}

/// A service that is handed over.
#[derive(Serialize, Deserialize)]
pub(super) struct HandedService {
    pub name: String,
    pub pool: String,
    pub choices: SavedRotation,
    /// How its connections are logged, where hands have switched that; and how that was asked for.
    #[serde(default)]
    pub connection_log: Option<(Style, Style)>,
    /// In the order of the listening sockets.
    pub addresses: Vec<HandedAddress>,
}

/// An address at which a service that is handed over listens.
#[derive(Serialize, Deserialize)]
pub(super) struct HandedAddress {
    /// As it was asked for.
    pub listen: String,
    /// Where that is.
    pub at: PeerAddress,
    /// The network interface that they are bound to.
    pub interface: Option<String>,
    /// How many of the listening sockets are there.
    pub sockets: usize,
    /// Whether they are a service manager's.
    pub borrowed: bool,
}

/// An address at which listening sockets were handed over in vain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LeftAddress {
    pub at: PeerAddress,
    /// The network interface that they are bound to.
    pub interface: Option<String>,
}

/// What the new process is to go on with, beside descriptors.
#[derive(Serialize, Deserialize)]
pub(super) struct State {
    /// The old process.
    pub pid: u32,
    /// Where the paths of the command line begin.
    pub directory: PathBuf,
    pub pools: Vec<HandedPool>,
    /// In the order of the listening sockets.
    pub services: Vec<HandedService>,
    /// Whether the control sockets are a service manager's.
    pub borrowed_control: bool,
    /// What the control sockets are, in the order of their descriptors. An older glbd, which has one, does not tell.
    #[serde(default)]
    pub controls: Vec<HandedControl>,
    /// New clients wait in the backlog. An older glbd knows no such thing.
    #[serde(default)]
    pub paused: bool,
    pub stats: SavedStats,
    pub leftovers: Handed,
    /// What services and destinations have come to, and the most connections of each.
    #[serde(default)]
    pub ledger: Ledger,
    #[serde(default)]
    pub highest: Highest,
    /// Connections that the old process has.
    pub connections: Connections,
    /// Connections that those before it have, and what they have not been told, in the order of their descriptors.
    pub predecessors: Vec<(Connections, Vec<Order>)>,
    /// The numbers of these processes, where they answer questions, in the same order. An older glbd does not tell.
    #[serde(default)]
    pub predecessor_pids: Vec<Option<u32>>,
    /// Whether the old process answers questions. An older glbd does not.
    #[serde(default)]
    pub answers: bool,
    /// What has changed, as far as it is kept.
    #[serde(default)]
    pub events: Vec<Event>,
    /// When the first of the processes was started that have taken over from each other.
    #[serde(default = "crate::status::started")]
    pub started: SystemTime,
    /// Where the HTTP socket is, and who may change things there.
    #[serde(default)]
    pub http: Option<(String, Option<http::Token>)>,
    /// What destinations were like in the last hour.
    #[serde(default)]
    pub samples: http::Samples,
    /// What its configuration says of what stays as it is.
    pub lasting: Vec<(String, String)>,
    /// The files of UNIX sockets that this daemon has made.
    #[serde(default)]
    pub socket_files: MadeFiles,
}

impl State {
    /// Counts the connections that the processes before this one have, as many as they had when this was written, so
    /// that the first clients find the limit and the balance as they are.
    pub(super) fn count_elsewhere(&self, setup: &Setup, workers: &worker::Handle) {
        workers.set_elsewhere(clients(self.elsewhere().iter().map(|((holder, _), count)| (holder, *count))));
        self.count_in(setup);
    }

    /// Counts those connections in the pools only.
    pub(super) fn count_in(&self, setup: &Setup) {
        self.elsewhere().into_iter().for_each(|((holder, address), count)| count_there(setup, &holder, address, count));
    }

    /// The services that are not asked for any more and of which other processes have connections.
    pub(super) fn retired_services(&self, setup: &Setup) -> Vec<RetiredService> {
        let elsewhere = self.elsewhere();
        let counted = elsewhere.keys().filter_map(|(holder, _)| match holder {
            Holder::Limits(name) => Some(name),
            _ => None,
        });
        counted.filter(|name| setup.service(name).is_none()).map(|name| RetiredService::elsewhere(name)).collect()
    }

    fn elsewhere(&self) -> HashMap<(Holder, PeerAddress), usize> {
        let mut elsewhere: HashMap<(Holder, PeerAddress), usize> = HashMap::new();
        let older = self.predecessors.iter().map(|(connections, _)| connections);
        for (holder, address, count) in older.chain([&self.connections]).flatten() {
            *elsewhere.entry((holder.clone(), *address)).or_default() += count;
        }
        elsewhere
    }
}

/// The connections that this process has.
pub(super) fn own_connections(setup: &Setup) -> Connections {
    let mut connections = Connections::new();
    for PoolEntry { config, pool } in setup.all_pools() {
        let holder = || Holder::Pool(config.name.to_string());
        connections.extend(pool.own_connections().into_iter().map(|(address, count)| (holder(), address, count)));
    }
    for service in setup.all_services() {
        let (limits, name) = (&service.limits, &service.name);
        let holder = || Holder::Service(name.to_string());
        let sessions = service.rotation.own_sessions().into_iter();
        connections.extend(sessions.map(|(address, count)| (holder(), address, count)));
        let counted = limits.own_connections();
        connections.extend((counted > 0).then(|| (Holder::Limits(name.to_string()), NOWHERE, counted)));
        // No more than there are in the table of sources.
        let sources = limits.own_connections_by_source().into_iter();
        let of_source = |(ip, count)| (Holder::Source(name.to_string()), SocketAddr::new(ip, 0).into(), count);
        connections.extend(sources.map(of_source));
    }
    connections
}

/// Those who may hold connections of a pool.
fn holders(setup: &Setup, pool: &str) -> Vec<Holder> {
    let services = setup.services_of(pool).map(|it| Holder::Service(it.config.name.to_string()));
    [Holder::Pool(pool.to_owned())].into_iter().chain(services).collect()
}

/// Counts connections of other processes where there are such a pool and such a destination.
fn count_there(setup: &Setup, holder: &Holder, address: PeerAddress, count: usize) {
    match holder {
        Holder::Pool(name) => {
            let pools = setup.all_pools().filter(|it| *it.config.name == *name);
            pools.for_each(|it| it.pool.set_elsewhere(address, count));
        }
        Holder::Service(name) => {
            let services = setup.any_service(name).into_iter();
            services.for_each(|it| it.rotation.set_sessions_elsewhere(address, count));
        }
        Holder::Limits(name) => {
            setup.any_service(name).iter().for_each(|it| it.limits.set_elsewhere(count));
            setup.counters_of(name).into_iter().for_each(|it| it.are_open_elsewhere(count));
        }
        Holder::Source(name) => {
            let services = setup.any_service(name).into_iter();
            let source = address.ip();
            services.zip(source).for_each(|(it, source)| it.limits.set_source_elsewhere(source, count));
        }
    }
}

/// How many clients have these connections: those of services are the pools' as well.
fn clients<'h>(connections: impl Iterator<Item = (&'h Holder, usize)>) -> usize {
    connections.filter(|(holder, _)| matches!(holder, Holder::Pool(_))).map(|(_, count)| count).sum()
}
