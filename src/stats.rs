//! Counters: one padded set a worker, summed by whoever asks.

use std::ops::Sub;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

/// A counter that one thread adds to and any thread reads.
#[derive(Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds; only from the thread that owns the counter, which is why no locked instruction is needed.
    pub fn add(&self, amount: usize) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(amount as u64), Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
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

impl Sub for Totals {
    type Output = Totals;

    fn sub(self, before: Totals) -> Totals {
        Totals {
            from_clients: self.from_clients.wrapping_sub(before.from_clients),
            to_clients: self.to_clients.wrapping_sub(before.to_clients),
            received: self.received.wrapping_sub(before.received),
            receive_calls: self.receive_calls.wrapping_sub(before.receive_calls),
            sent: self.sent.wrapping_sub(before.sent),
            send_calls: self.send_calls.wrapping_sub(before.send_calls),
            connections: self.connections.wrapping_sub(before.connections),
            readable: self.readable.wrapping_sub(before.readable),
            writable: self.writable.wrapping_sub(before.writable),
            polls: self.polls.wrapping_sub(before.polls),
        }
    }
}

struct Reported {
    totals: Totals,
    at: Instant,
}

/// All workers' counters. Cheap to clone: all clones are the same.
#[derive(Clone)]
pub struct Stats {
    workers: Arc<[WorkerStats]>,
    reported: Arc<Mutex<Reported>>,
}

impl Stats {
    /// Counters at zero for so many workers.
    pub fn new(workers: usize) -> Stats {
        let workers = (0..workers).map(|_| WorkerStats::default()).collect();
        let reported = Reported { totals: Totals::default(), at: Instant::now() };
        Stats { workers, reported: Arc::new(Mutex::new(reported)) }
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
        Totals {
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
        }
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
        assert_eq!(stats.since_last_report().0.received, 1);
        assert_eq!(stats.totals().received, 13);
    }
}
