//! What is counted of a connection while it lasts, and what remains to be said of it at its end.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

use crate::connection_log::Took;
use crate::counters::{Cause, Count, HistogramKind, LimitReached, Open, Shard};
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
    /// How many destinations were tried.
    pub attempts: u32,
    /// How long the client waited for room, the destination took to accept, and then to say something.
    pub queue: Took,
    pub connect: Took,
    pub first_byte: Took,
    service: Arc<Shard>,
    upstream: Upstream,
    /// Why it ends: the first reason that there was.
    cause: Option<Cause>,
    _open: Open,
}

/// How far a destination has come with the client.
enum Upstream {
    /// None is being tried.
    None,
    /// It is being tried, since then.
    Tried(Arc<Shard>, Instant),
    /// It serves, since then, and has not said anything.
    Silent(Arc<Shard>, Instant),
    /// It serves.
    Serves(Arc<Shard>),
}

impl Upstream {
    /// Counts for a destination that serves.
    fn serving(&self) -> Option<&Shard> {
        match self {
            Upstream::Silent(shard, _) | Upstream::Serves(shard) => Some(shard),
            Upstream::None | Upstream::Tried(..) => None,
        }
    }
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
            attempts: 0,
            queue: Took::NEVER,
            connect: Took::NEVER,
            first_byte: Took::NEVER,
            service: shard,
            upstream: Upstream::None,
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
        let Some(destination) = self.upstream.serving() else { return };
        destination.add(count, amount);
        if direction == Direction::Down
            && let Upstream::Silent(shard, since) = &self.upstream
        {
            let (shard, took) = (Arc::clone(shard), now.saturating_duration_since(*since));
            self.first_byte = took.into();
            self.both(|shard| shard.took(HistogramKind::FirstByte, took));
            self.upstream = Upstream::Serves(shard);
        }
    }

    /// The client has said so much before it had a destination.
    pub(super) fn heard(&mut self, bytes: u64, now: Instant) {
        self.last = now;
        self.up += bytes;
        self.service.add(Count::BytesIn, bytes);
    }

    /// A destination is tried.
    pub(super) fn attempt(&mut self, lease: &Lease, kit: &Kit) {
        let shard = lease.shard(kit.index);
        shard.add(Count::Connects, 1);
        self.service.add(Count::Connects, 1);
        self.attempts = self.attempts.saturating_add(1);
        self.upstream = Upstream::Tried(shard, kit.now);
    }

    /// The attempt has failed.
    pub(super) fn attempt_failed(&mut self, error: &io::Error) {
        self.count_failure(failure(error));
    }

    /// The destination has accepted the connection, and then refused the client.
    pub(super) fn turned_down(&mut self) {
        self.count_failure(Count::ConnectsTurnedDown);
    }

    fn count_failure(&mut self, failure: Count) {
        if let Upstream::Tried(shard, _) = std::mem::replace(&mut self.upstream, Upstream::None) {
            shard.add(failure, 1);
            self.service.add(failure, 1);
        }
    }

    /// The client goes on to another destination.
    pub(super) fn redispatched(&self) {
        self.service.add(Count::Redispatches, 1);
    }

    /// The client is not allowed, or above a limit.
    pub(super) fn limited(&self, limit: LimitReached) {
        self.service.limited(limit);
    }

    /// The client waits for room.
    pub(super) fn queued(&self) {
        self.service.add(Count::Queued, 1);
    }

    /// It has waited for room since then.
    pub(super) fn waited(&mut self, since: Instant, now: Instant) {
        let took = now.saturating_duration_since(since);
        self.queue = took.into();
        self.service.took(HistogramKind::Queue, took);
    }

    /// The destination serves the client.
    pub(super) fn connected(&mut self, now: Instant) {
        let Upstream::Tried(shard, since) = std::mem::replace(&mut self.upstream, Upstream::None) else { return };
        shard.add(Count::Connections, 1);
        // What the client has said before it had a destination is this one's.
        shard.add(Count::BytesIn, self.up);
        shard.add(Count::BytesOut, self.down);
        self.upstream = Upstream::Silent(shard, now);
        let took = now.saturating_duration_since(since);
        self.connect = took.into();
        self.both(|shard| shard.took(HistogramKind::Connect, took));
    }

    /// It ends for this cause, unless there was one before.
    pub(super) fn ends_for(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
    }

    /// It has ended, for this cause if no other one is known. Returns the cause.
    pub(super) fn ended(&self, cause: Cause, now: Instant) -> Cause {
        let cause = self.cause.unwrap_or(cause);
        let duration = now.saturating_duration_since(self.begun);
        self.both(|shard| {
            shard.ended(cause);
            shard.took(HistogramKind::Duration, duration);
        });
        cause
    }

    fn both(&self, count: impl Fn(&Shard)) {
        count(&self.service);
        self.upstream.serving().into_iter().for_each(count);
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
