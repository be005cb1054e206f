//! What the status is made of. These names are an interface: programs read them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::pool::health::Verdict;
use crate::pool::{Held, Tallies};

/// Everything about the daemon at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// The process.
    pub process: Process,
    /// Where clients connect, in the order in which they were asked for.
    pub services: Vec<Service>,
    /// Destinations, in the order in which they were asked for.
    pub pools: Vec<Pool>,
}

/// The process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Process {
    /// That of the program.
    pub version: String,
    /// Its number.
    pub pid: u32,
    /// When all this was so.
    pub time: String,
    /// When the first of the processes was started that have taken over from each other.
    pub started: String,
    /// Seconds since then.
    pub uptime: f64,
    /// Connections, those of older processes included.
    pub connections: usize,
    /// Those of this process.
    pub own_connections: usize,
    /// The most that there may be.
    pub max_connections: usize,
    /// Whether new clients wait until it goes on.
    pub paused: bool,
    /// Clients accepted since the start.
    pub accepted: u64,
    /// Bytes received from clients since the start.
    pub bytes_in: u64,
    /// Bytes sent to clients since the start.
    pub bytes_out: u64,
}

/// Connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connections {
    /// At the moment.
    pub now: usize,
    /// The most at a time.
    pub highest: usize,
    /// Ever.
    pub total: u64,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// What it is called.
    pub name: String,
    /// The pool that it takes destinations from.
    pub pool: String,
    /// Where it listens.
    pub listen: String,
    /// How it chooses.
    pub policy: String,
    /// Whether it keeps to a single destination.
    pub single: bool,
    /// Where the single destination is.
    pub writer: Option<String>,
    /// Since when it is this one.
    pub writer_since: Option<String>,
    /// Its clients.
    pub connections: Connections,
    /// The most that there may be; none: any number.
    pub max_connections: Option<usize>,
    /// Clients that wait for room on a destination.
    pub queue: usize,
    /// Whether a destination takes its clients.
    pub ready: bool,
    /// Whether it has as many clients as it may have.
    pub full: bool,
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Attempts to connect to destinations.
    pub connects: Connects,
    /// Why connections have ended.
    pub ended: Vec<Ended>,
    /// Why clients were refused, or had to wait to be accepted.
    pub limited: Vec<Limited>,
    /// How long things took.
    pub times: Vec<Times>,
}

/// How often a client was not taken for a reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limited {
    /// `denied`, or the limit: `connections`, `rate`, `source-connections`, `source-rate`, `process-connections` or
    /// `process-rate`.
    pub limit: String,
    /// `reset`, or `wait`: further clients wait in the backlog.
    pub effect: String,
    /// How many clients were reset, or how often there was no room for the next one.
    pub count: u64,
}

/// How many checks have come to a result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// `ready`, `spare`, `avoid`, `down`, `failed`, `timed-out` or `not-made`.
    pub result: String,
    /// How many.
    pub count: u64,
}

/// Attempts to connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Connects {
    /// All of them.
    pub tried: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that were not answered in time.
    pub timed_out: u64,
    /// Those after which the server has refused the client, or not greeted it.
    pub turned_down: u64,
    /// Those that have failed otherwise.
    pub failed: u64,
    /// How often a client went on to another destination.
    pub redispatched: u64,
    /// How often a client had to wait for room.
    pub queued: u64,
}

/// How many connections have ended for a cause.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub cause: String,
    /// How many.
    pub count: u64,
}

/// How long something took, in seconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// What: `connect`, `first_byte`, `queue`, `duration` or `check`.
    pub what: String,
    /// How often it was measured.
    pub count: u64,
    /// How long all of them took together.
    pub sum: f64,
    /// What half of them did not take longer than, as an estimate.
    pub p50: Option<f64>,
    /// The same for 99 of a hundred.
    pub p99: Option<f64>,
    /// How many took no longer than each bound.
    pub buckets: Vec<Bucket>,
}

/// How many took no longer than a bound.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Bucket {
    /// In seconds.
    pub bound: f64,
    /// How many.
    pub count: u64,
}

/// Destinations.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Pool {
    /// What they are called together.
    pub name: String,
    /// Whether a watchdog judges them.
    pub watched: bool,
    /// Why no checks are made at the moment.
    pub checks_note: Option<String>,
    /// The most connections of each, as configured; none: any number.
    pub max_connections: Option<usize>,
    /// In the order in which they were added.
    pub destinations: Vec<Destination>,
    /// Names that have no destination.
    pub unresolved: Vec<UnresolvedName>,
    /// Bytes received from clients, those for destinations that are gone included.
    pub bytes_in: u64,
    /// Bytes sent to clients, likewise.
    pub bytes_out: u64,
    /// Attempts to connect, likewise.
    pub connects: Connects,
}

/// A destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// What is connected to.
    pub address: String,
    /// As what it was asked for.
    pub names: Vec<String>,
    /// Whether it is the single destination of a service.
    pub writer: bool,
    /// As configured.
    pub weight: f64,
    /// What follows from that and from its health; 0 while it gets no new clients.
    pub weight_in_force: f64,
    /// Which part of the new clients of each service it gets, of those of which it gets any.
    pub shares: BTreeMap<String, f64>,
    /// Which backup it is; 0: none.
    pub backup: u8,
    /// Whether the daemon has found it by itself.
    pub discovered: bool,
    /// Whether it goes with its last connection.
    pub leaving: bool,
    /// `READY`, `SPARE`, `AVOID`, `DOWN` or `UNKNOWN`.
    pub verdict: String,
    /// Whether it may get new clients.
    pub takes_clients: bool,
    /// Why it has this verdict.
    pub reason: String,
    /// Since when.
    pub since: Option<String>,
    /// How many seconds a check takes.
    pub latency: f64,
    /// How many clients it has refused in a row.
    pub refusals: u32,
    /// Why it has refused the last one.
    pub refusal: Option<String>,
    /// Connections, those of older processes included.
    pub connections: Connections,
    /// The most that it may have now, as configured, by its agent and by the load; none: any number.
    pub max_connections: Option<usize>,
    /// Bytes received from clients.
    pub bytes_in: u64,
    /// Bytes sent to clients.
    pub bytes_out: u64,
    /// Attempts to connect to it.
    pub connects: Connects,
    /// Why connections have ended.
    pub ended: Vec<Ended>,
    /// What checks have come to.
    pub checks: Vec<Checks>,
    /// How long things took.
    pub times: Vec<Times>,
    /// How often it has become DOWN.
    pub down_count: u64,
    /// How often its verdict has changed.
    pub change_count: u64,
    /// How long each verdict has held.
    pub seconds: Seconds,
    /// How often it got each verdict in the last 24 hours, and how long that held.
    pub last_day: LastDay,
}

/// The last 24 hours, by verdict.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names of the verdicts")]
pub struct LastDay {
    pub ready: Spells,
    pub spare: Spells,
    pub avoid: Spells,
    pub down: Spells,
}

/// The times that a verdict was given.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spells {
    /// How many.
    pub count: u64,
    /// How long it held, in seconds.
    pub seconds: f64,
}

impl LastDay {
    pub(super) fn of(day: Tallies) -> LastDay {
        let of = |verdict| Spells { count: day[verdict].count, seconds: round(day[verdict].held.as_secs_f64()) };
        let [ready, spare, avoid, down] = [Verdict::Ready, Verdict::Spare, Verdict::Avoid, Verdict::Down].map(of);
        LastDay { ready, spare, avoid, down }
    }
}

/// How many seconds each verdict has held.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
#[allow(missing_docs, reason = "the names of the verdicts")]
pub struct Seconds {
    pub ready: f64,
    pub spare: f64,
    pub avoid: f64,
    pub down: f64,
    pub unknown: f64,
}

impl Seconds {
    pub(super) fn of(held: Held) -> Seconds {
        let Held { ready, spare, avoid, down, unknown } = held;
        let [ready, spare, avoid, down, unknown] =
            [ready, spare, avoid, down, unknown].map(|time| round(time.as_secs_f64()));
        Seconds { ready, spare, avoid, down, unknown }
    }
}

/// A name without a destination.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnresolvedName {
    /// The name, and the port.
    pub name: String,
    /// The weight that it is to have.
    pub weight: f64,
    /// Why it has none.
    pub reason: String,
}

/// To the microsecond.
pub(super) fn round(seconds: f64) -> f64 {
    (seconds * 1e6).round() / 1e6
}
