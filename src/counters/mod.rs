//! Counters that never go backwards: a set for each service and each destination, of which every worker has a part of its
//! own, so that no two threads write to the same place and none waits for another.

mod checks;
mod histogram;
mod limited;
mod totals;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

pub use checks::CheckResult;
pub use histogram::{Histogram, HistogramKind, HistogramTotals};
pub use limited::LimitReached;
pub use totals::Totals;

/// A counter that one thread adds to and any thread reads.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only from the thread that owns the counter, which is why no locked instruction is needed.
    pub fn add(&self, amount: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }

    /// What it has come to.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted of a service or a destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(usize)]
pub enum Count {
    /// Bytes received from clients.
    BytesIn,
    /// Bytes sent to clients.
    BytesOut,
    /// Connections: of a service, those accepted; of a destination, those passed on to it.
    Connections,
    /// Attempts to connect to a destination.
    Connects,
    /// Those that were refused.
    ConnectsRefused,
    /// Those that were not answered in time.
    ConnectsTimedOut,
    /// Those that were accepted, and the client then refused by the server, or not greeted.
    ConnectsTurnedDown,
    /// Those that failed otherwise: no route, for instance.
    ConnectsFailed,
    /// Clients that went on to another destination after one had failed.
    Redispatches,
    /// Clients that had to wait for room on a destination.
    Queued,
    /// Connections that have ended for each of the [causes](Cause).
    Ended,
}

/// Why a connection has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[repr(usize)]
#[serde(rename_all = "kebab-case")]
pub enum Cause {
    /// The client has ended it first.
    Client,
    /// The destination has ended it first.
    Server,
    /// The client has reset it, or is gone.
    ClientReset,
    /// The destination has reset it, or is gone.
    ServerReset,
    /// It was idle for too long.
    Idle,
    /// The destination was removed, is DOWN, or is no longer the writer.
    DestinationClosed,
    /// A person has ended it.
    Kicked,
    /// No destination has taken the client.
    NoDestination,
    /// The client has waited for room on a destination for too long, or too many have.
    NoRoom,
    /// The client has left before there was a destination for it.
    LeftEarly,
    /// The client was not allowed, or is above a limit.
    Denied,
    /// The PROXY header was missing or wrong.
    Header,
    /// This machine lacked something.
    Shortage,
    /// The daemon has stopped.
    Stopped,
}

impl Cause {
    /// All of them.
    pub const ALL: [Cause; 14] = [
        Cause::Client,
        Cause::Server,
        Cause::ClientReset,
        Cause::ServerReset,
        Cause::Idle,
        Cause::DestinationClosed,
        Cause::Kicked,
        Cause::NoDestination,
        Cause::NoRoom,
        Cause::LeftEarly,
        Cause::Denied,
        Cause::Header,
        Cause::Shortage,
        Cause::Stopped,
    ];

    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Client => "client",
            Cause::Server => "server",
            Cause::ClientReset => "client-reset",
            Cause::ServerReset => "server-reset",
            Cause::Idle => "idle",
            Cause::DestinationClosed => "destination-closed",
            Cause::Kicked => "kicked",
            Cause::NoDestination => "no-destination",
            Cause::NoRoom => "no-room",
            Cause::LeftEarly => "left-early",
            Cause::Denied => "denied",
            Cause::Header => "header",
            Cause::Shortage => "shortage",
            Cause::Stopped => "stopped",
        }
    }
}

impl Count {
    /// Those that are no causes.
    pub const PLAIN: [Count; 10] = [
        Count::BytesIn,
        Count::BytesOut,
        Count::Connections,
        Count::Connects,
        Count::ConnectsRefused,
        Count::ConnectsTimedOut,
        Count::ConnectsTurnedDown,
        Count::ConnectsFailed,
        Count::Redispatches,
        Count::Queued,
    ];

    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            Count::BytesIn => "bytes_in",
            Count::BytesOut => "bytes_out",
            Count::Connections => "connections",
            Count::Connects => "connects",
            Count::ConnectsRefused => "connects_refused",
            Count::ConnectsTimedOut => "connects_timed_out",
            Count::ConnectsTurnedDown => "connects_turned_down",
            Count::ConnectsFailed => "connects_failed",
            Count::Redispatches => "redispatches",
            Count::Queued => "queued",
            Count::Ended => "ended",
        }
    }
}

/// How many there are in a set. What another process reports of them is a list: others are counted in lists of their own.
const COUNTS: usize = Count::Ended as usize + Cause::ALL.len();

/// One worker's part of a set. Only that worker adds to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Shard {
    counts: [Counter; COUNTS],
    limited: [Counter; LimitReached::ALL.len()],
    histograms: [Histogram; HistogramKind::ALL.len()],
}

impl Shard {
    /// Counts more.
    pub fn add(&self, count: Count, amount: u64) {
        self.counts[count as usize].add(amount);
    }

    /// Counts the end of a connection.
    pub fn ended(&self, cause: Cause) {
        self.counts[Count::Ended as usize + cause as usize].add(1);
    }

    /// Counts that a client was not taken, or has to wait.
    pub fn limited(&self, limit: LimitReached) {
        self.limited[limit as usize].add(1);
    }

    /// Counts how long something took.
    pub fn took(&self, what: HistogramKind, time: Duration) {
        self.histograms[what as usize].add(what, time);
    }
}

/// A set of counters. Cheap to clone: all clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Made when a worker first has something to count.
    shards: Mutex<Vec<Option<Arc<Shard>>>>,
    /// What no worker has counted: other processes, before and after this one took over from them, and checks.
    elsewhere: Mutex<Totals>,
    /// Connections now, of this process and of those before it, and the most there ever were.
    now: AtomicUsize,
    now_elsewhere: AtomicUsize,
    highest: AtomicUsize,
}

/// Counts a connection for as long as it exists.
#[derive(Debug)]
pub struct Open(Counters);

impl Counters {
    /// Counters that begin with what was counted elsewhere.
    pub fn of(totals: Totals) -> Counters {
        let counters = Counters::default();
        counters.add(&totals);
        counters
    }

    /// Whether both are the same counters.
    pub fn is(&self, other: &Counters) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// One worker's part. Two threads must not add to the same one.
    pub fn shard(&self, worker: usize) -> Arc<Shard> {
        let mut shards = self.0.shards.lock();
        if shards.len() <= worker {
            shards.resize(worker + 1, None);
        }
        Arc::clone(shards[worker].get_or_insert_default())
    }

    /// One more connection there is.
    pub fn open(&self) -> Open {
        let now = self.0.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.0.highest.fetch_max(now + self.0.now_elsewhere.load(Ordering::Relaxed), Ordering::Relaxed);
        Open(self.clone())
    }

    /// How many there are, and how many there were at most.
    pub fn open_now(&self) -> (usize, usize) {
        let now = self.0.now.load(Ordering::Relaxed) + self.0.now_elsewhere.load(Ordering::Relaxed);
        (now, self.0.highest.load(Ordering::Relaxed))
    }

    /// There are so many in other processes.
    pub fn are_open_elsewhere(&self, connections: usize) {
        self.0.now_elsewhere.store(connections, Ordering::Relaxed);
    }

    /// There were so many at most in another process.
    pub fn were_open(&self, highest: usize) {
        self.0.highest.fetch_max(highest, Ordering::Relaxed);
    }

    /// Everything that was counted, here and elsewhere.
    pub fn totals(&self) -> Totals {
        let mut totals = self.0.elsewhere.lock().clone();
        for shard in self.0.shards.lock().iter().flatten() {
            totals += &Totals::of(shard);
        }
        totals
    }

    /// A check has come to this, and has taken so long if it was made. Not for workers: it takes a lock.
    pub fn checked(&self, result: CheckResult, took: Duration) {
        self.0.elsewhere.lock().checked(result, took);
    }

    /// Adds what another process has counted.
    pub fn add(&self, counted: &Totals) {
        *self.0.elsewhere.lock() += counted;
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_workers_and_other_processes_count_adds_up() {
        let counters = Counters::default();
        assert!(counters.totals().is_empty());
        counters.shard(0).add(Count::BytesIn, 5);
        counters.shard(3).add(Count::BytesIn, 7);
        counters.shard(3).ended(Cause::Idle);
        counters.shard(3).took(HistogramKind::Connect, Duration::from_millis(3));
        counters.shard(0).limited(LimitReached::RateWait);
        counters.checked(CheckResult::TimedOut, Duration::from_secs(1));
        let before = counters.totals();
        assert_eq!((before.get(Count::BytesIn), before.ended(Cause::Idle), before.ended(Cause::Client)), (12, 1, 0));
        counters.add(&before);
        let twice = counters.totals();
        assert_eq!(&twice - &before, before);
        assert_eq!((twice.times(HistogramKind::Connect).count(), twice.times(HistogramKind::Check).count()), (2, 2));
        assert_eq!((twice.limited(LimitReached::RateWait), twice.limited(LimitReached::RateReset)), (2, 0));
        assert_eq!((twice.checks(CheckResult::TimedOut), twice.checks(CheckResult::Failed)), (2, 0));
        let text = serde_json::to_string(&twice).expect("plain data");
        assert_eq!(serde_json::from_str::<Totals>(&text).expect("what was written"), twice);
    }

    #[test]
    fn what_a_process_of_an_earlier_version_has_counted_is_understood() {
        let text = r#"{"counts":[1,2,3],"histograms":[]}"#;
        let totals: Totals = serde_json::from_str(text).expect("what it writes");
        assert_eq!((totals.get(Count::BytesIn), totals.get(Count::Connections), totals.get(Count::Queued)), (1, 3, 0));
    }

    #[test]
    fn the_most_connections_that_there_were_are_remembered() {
        let counters = Counters::default();
        let open: Vec<Open> = (0..3).map(|_| counters.open()).collect();
        drop(open);
        let _one = counters.open();
        assert_eq!(counters.open_now(), (1, 3));
        counters.were_open(9);
        assert_eq!(counters.open_now(), (1, 9));
        counters.are_open_elsewhere(9);
        let _other = counters.open();
        assert_eq!(counters.open_now(), (11, 11), "those of older processes are there as well");
    }

    #[test]
    fn every_count_and_cause_has_a_place_and_a_name_of_its_own() {
        assert_eq!(Count::PLAIN.map(|count| count as usize), std::array::from_fn(|index| index));
        assert_eq!(Cause::ALL.map(|cause| cause as usize), std::array::from_fn(|index| index));
        assert_eq!(LimitReached::ALL.map(|limit| limit as usize), std::array::from_fn(|index| index));
        assert_eq!(CheckResult::ALL.map(|result| result as usize), std::array::from_fn(|index| index));
        let names: std::collections::BTreeSet<_> =
            Count::PLAIN.map(Count::name).into_iter().chain(Cause::ALL.map(Cause::name)).collect();
        assert_eq!(names.len(), Count::PLAIN.len() + Cause::ALL.len());
    }
}
