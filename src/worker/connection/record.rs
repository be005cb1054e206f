//! What is counted of a connection while it lasts, and what remains to be said of it at its end.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

use crate::counters::{Cause, Count, HistogramKind, Open, Shard};
use crate::pool::Lease;
use crate::service::Service;
use crate::worker::Kit;
use crate::worker::duplex::Direction;
use crate::worker::flow::Traffic;

/// What is counted of a connection, for its service and for its destination.
pub(super) struct Record {
    /// When the client was accepted.
    pub begun: Instant,
    /// When bytes last came or went.
    pub last: Instant,
    /// Bytes received from the client.
    pub up: u64,
    /// Bytes sent to the client.
    pub down: u64,
    /// When the attempt on the destination began; once that serves, when it did, until it has said something.
    since: Option<Instant>,
    service: Arc<Shard>,
    destination: Option<Arc<Shard>>,
    /// Why it ends: the first reason that there was.
    cause: Option<Cause>,
    _open: Open,
}

impl Record {
    /// Of a client that was accepted for this service.
    pub(super) fn new(service: &Service, kit: &Kit) -> Record {
        let shard = service.counters.shard(kit.index);
        shard.add(Count::Connections, 1);
        Record {
            begun: kit.now,
            last: kit.now,
            up: 0,
            down: 0,
            since: None,
            service: shard,
            destination: None,
            cause: None,
            _open: service.counters.open(),
        }
    }

    /// Bytes have come or gone.
    pub(super) fn add(&mut self, direction: Direction, traffic: &Traffic, now: Instant) {
        let (count, amount) = match direction {
            Direction::Up => (Count::BytesIn, traffic.received as u64),
            Direction::Down => (Count::BytesOut, traffic.sent as u64),
        };
        if traffic.received == 0 && traffic.sent == 0 {
            return;
        }
        self.last = now;
        let total = if direction == Direction::Up { &mut self.up } else { &mut self.down };
        *total += amount;
        self.service.add(count, amount);
        let Some(destination) = &self.destination else { return };
        destination.add(count, amount);
        if direction == Direction::Down
            && let Some(since) = self.since.take()
        {
            self.both(|shard| shard.took(HistogramKind::FirstByte, now.saturating_duration_since(since)));
        }
    }

    /// A destination is tried.
    pub(super) fn attempt(&mut self, lease: &Lease, kit: &Kit) {
        self.since = Some(kit.now);
        let shard = lease.counters().shard(kit.index);
        shard.add(Count::Connects, 1);
        self.service.add(Count::Connects, 1);
    }

    /// The attempt on this destination has failed.
    pub(super) fn attempt_failed(&mut self, lease: &Lease, error: &io::Error, kit: &Kit) {
        self.count_failure(lease, failure(error), kit);
    }

    /// The destination has accepted the connection, and then refused the client.
    pub(super) fn turned_down(&mut self, lease: &Lease, kit: &Kit) {
        self.count_failure(lease, Count::ConnectsTurnedDown, kit);
    }

    fn count_failure(&mut self, lease: &Lease, failure: Count, kit: &Kit) {
        self.since = None;
        lease.counters().shard(kit.index).add(failure, 1);
        self.service.add(failure, 1);
    }

    /// The client goes on to another destination.
    pub(super) fn redispatched(&self) {
        self.service.add(Count::Redispatches, 1);
    }

    /// The client waits for room.
    pub(super) fn queued(&self) {
        self.service.add(Count::Queued, 1);
    }

    /// It has waited for room since then.
    pub(super) fn waited(&self, since: Instant, now: Instant) {
        self.service.took(HistogramKind::Queue, now.saturating_duration_since(since));
    }

    /// The destination serves the client.
    pub(super) fn connected(&mut self, lease: &Lease, kit: &Kit) {
        let shard = lease.counters().shard(kit.index);
        shard.add(Count::Connections, 1);
        // What the client has said before it had a destination is this one's.
        shard.add(Count::BytesIn, self.up);
        shard.add(Count::BytesOut, self.down);
        self.destination = Some(shard);
        if let Some(since) = self.since.replace(kit.now) {
            self.both(|shard| shard.took(HistogramKind::Connect, kit.now.saturating_duration_since(since)));
        }
    }

    /// It ends for this cause, unless there was one before.
    pub(super) fn ends_for(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    /// It has ended, for this cause if no other one is known.
    pub(super) fn ended(&self, cause: Cause, now: Instant) {
        let cause = self.cause.unwrap_or(cause);
        self.both(|shard| {
            shard.ended(cause);
            shard.took(HistogramKind::Duration, now.saturating_duration_since(self.begun));
        });
    }

    fn both(&self, count: impl Fn(&Shard)) {
        count(&self.service);
        self.destination.iter().for_each(|shard| count(shard));
    }
}

/// What an attempt that ended with this error counts as.
fn failure(error: &io::Error) -> Count {
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => Count::ConnectsRefused,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => Count::ConnectsTimedOut,
        _ => Count::ConnectsFailed,
    }
}
