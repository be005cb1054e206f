//! Counters: one padded set a worker, summed by whoever asks.

use std::ops::{Add, Sub};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::counters::Counter;

/// What one worker counts. Padded, so that no two workers write to the same cache line (nor to a pair that the
/// processor fetches together).
#[derive(Default)]
#[repr(align(128))]
pub struct WorkerStats {
    /// Bytes received from clients.
    pub from_clients: Counter,
    /// Bytes sent to clients.
    pub to_clients: Counter,
    /// Bytes received from anybody.
    pub received: Counter,
    /// Calls that received.
    pub receive_calls: Counter,
    /// Bytes sent to anybody.
    pub sent: Counter,
    /// Calls that sent.
    pub send_calls: Counter,
    /// Client connections accepted.
    pub connections: Counter,
    /// Sockets found readable.
    pub readable: Counter,
    /// Sockets found writable.
    pub writable: Counter,
    /// Waits for events.
    pub polls: Counter,
}

/// The sum over all workers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Totals {
    /// Bytes received from clients.
    pub from_clients: u64,
    /// Bytes sent to clients.
    pub to_clients: u64,
    /// Bytes received from anybody.
    pub received: u64,
    /// Calls that received.
    pub receive_calls: u64,
    /// Bytes sent to anybody.
    pub sent: u64,
    /// Calls that sent.
    pub send_calls: u64,
    /// Client connections accepted.
    pub connections: u64,
    /// Sockets found readable.
    pub readable: u64,
    /// Sockets found writable.
    pub writable: u64,
    /// Waits for events.
    pub polls: u64,
}

impl Totals {
    /// Both, counter by counter.
    fn with(self, other: Totals, both: fn(u64, u64) -> u64) -> Totals {
        Totals {
            from_clients: both(self.from_clients, other.from_clients),
            to_clients: both(self.to_clients, other.to_clients),
            received: both(self.received, other.received),
            receive_calls: both(self.receive_calls, other.receive_calls),
            sent: both(self.sent, other.sent),
            send_calls: both(self.send_calls, other.send_calls),
            connections: both(self.connections, other.connections),
            readable: both(self.readable, other.readable),
            writable: both(self.writable, other.writable),
            polls: both(self.polls, other.polls),
        }
    }
}

impl Add for Totals {
    type Output = Totals;

    fn add(self, other: Totals) -> Totals {
        self.with(other, u64::wrapping_add)
    }
}

impl Sub for Totals {
    type Output = Totals;

    fn sub(self, before: Totals) -> Totals {
        self.with(before, u64::wrapping_sub)
    }
}

/// The counters as plain data, for a process that takes over from this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SavedStats {
    /// Everything since the start.
    pub totals: Totals,
    /// What was reported, and how long ago.
    reported: Totals,
    since: Duration,
}

struct Reported {
    totals: Totals,
    at: Instant,
}

/// All workers' counters. Cheap to clone: all clones are the same.
#[derive(Clone)]
pub struct Stats {
    workers: Arc<[WorkerStats]>,
    /// What other processes have counted, which this one has taken over from.
    elsewhere: Arc<Mutex<Totals>>,
    reported: Arc<Mutex<Reported>>,
}

impl Stats {
    /// Counters at zero for so many workers.
    pub fn new(workers: usize) -> Stats {
        Stats::resume(workers, SavedStats::default())
    }

    /// Counters for so many workers that go on where those of another process were.
    pub fn resume(workers: usize, saved: SavedStats) -> Stats {
        let workers = (0..workers).map(|_| WorkerStats::default()).collect();
        let now = Instant::now();
        let reported = Reported { totals: saved.reported, at: now.checked_sub(saved.since).unwrap_or(now) };
        let elsewhere = Arc::new(Mutex::new(saved.totals));
        Stats { workers, elsewhere, reported: Arc::new(Mutex::new(reported)) }
    }

    /// What another process needs to go on counting.
    pub fn save(&self) -> SavedStats {
        let totals = self.totals();
        let reported = self.reported.lock();
        SavedStats { totals, reported: reported.totals, since: reported.at.elapsed() }
    }

    /// Adds what another process has counted.
    pub fn add(&self, counted: Totals) {
        let mut elsewhere = self.elsewhere.lock();
        *elsewhere = *elsewhere + counted;
    }

    /// The counters of one worker. Panics where there is no such worker.
    pub fn worker(&self, index: usize) -> &WorkerStats {
        &self.workers[index]
    }

    /// Everything since the start.
    pub fn totals(&self) -> Totals {
        let sum = |counter: fn(&WorkerStats) -> &Counter| {
            self.workers.iter().fold(0u64, |sum, it| sum.wrapping_add(counter(it).get()))
        };
        let own = Totals {
            from_clients: sum(|it| &it.from_clients),
            to_clients: sum(|it| &it.to_clients),
            received: sum(|it| &it.received),
            receive_calls: sum(|it| &it.receive_calls),
            sent: sum(|it| &it.sent),
            send_calls: sum(|it| &it.send_calls),
            connections: sum(|it| &it.connections),
            readable: sum(|it| &it.readable),
            writable: sum(|it| &it.writable),
            polls: sum(|it| &it.polls),
        };
        own + *self.elsewhere.lock()
    }

    /// The same as [`since_last_report`](Stats::since_last_report), and the next report counts as if this had not been
    /// called.
    pub fn so_far(&self) -> (Totals, f64) {
        let reported = self.reported.lock();
        (self.totals() - reported.totals, reported.at.elapsed().as_secs_f64())
    }

    /// Everything since this was last called, and the seconds since then.
    pub fn since_last_report(&self) -> (Totals, f64) {
        let mut reported = self.reported.lock();
        let now = Reported { totals: self.totals(), at: Instant::now() };
        let before = std::mem::replace(&mut *reported, now);
        (reported.totals - before.totals, reported.at.duration_since(before.at).as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_counts_since_the_one_before() {
        let stats = Stats::new(2);
        stats.worker(0).received.add(5);
        stats.worker(1).received.add(7);
        assert_eq!(stats.since_last_report().0.received, 12);
        stats.worker(1).received.add(1);
        assert_eq!((stats.so_far().0.received, stats.so_far().0.received), (1, 1));
        assert_eq!(stats.since_last_report().0.received, 1);
        assert_eq!(stats.totals().received, 13);
    }
}
