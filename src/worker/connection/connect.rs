//! Finding a destination that serves the client: the first part of a connection's life.

use std::io::{self, ErrorKind};
use std::time::Duration;

use log::{debug, info, warn};
use mio::event::Event;

use super::connecting::Phase;
use super::greeting::what_follows;
use super::upstream::{Manner, acknowledge_at_once, has_answered, is_itself, lacks_local_port, open};
use super::{Connection, Ending, Next, Stage};
use crate::counters::Cause;
use crate::pool::{DestinationId, Lease, Pick};
use crate::sys;
use crate::worker::duplex::Direction;
use crate::worker::hops::HopLimit;
use crate::worker::{Kit, SHORTAGE_PAUSE, Side};

/// Between two attempts on the same destination.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Between two attempts while the backlog of a UNIX socket is full: at first, and after a while.
const BACKLOG_PAUSE: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(100));
/// The outcome of an attempt on a destination.
pub(super) enum Outcome {
    /// It is under way.
    Begun,
    /// There is to be another one after a pause.
    Postponed,
    /// It failed at once; others are to be tried.
    Failed,
    /// As much has been tried as a client may try, or for as long as it may wait.
    OutOfPatience,
    /// This machine has been short of something for as long as the client may wait.
    OutOfResources,
    /// The client has ended or reset its connection before it said anything: a port check, or one that left the backlog.
    ClientGone(Ending),
    /// The client's connection has come through this balancer again and again.
    InALoop,
}

/// How many packets of a destination a client's login takes at most, where none comes together with another: the methods
/// that MySQL and MariaDB have take up to five.
const LOGIN_READS: u8 = 6;

impl Connection {
    /// Tries destinations until one accepts or has to be waited for.
    pub(in crate::worker) fn connect(&mut self, kit: &mut Kit) -> Next {
        self.end_attempt();
        if let Err(error) = self.watch_client(kit) {
            let outcome = self.wait_for_memory(&error, kit);
            return self.conclude(outcome, kit);
        }
        if self.drops_half_closed() && self.client_has_left() {
            return Next::Close(Ending::Clean);
        }
        let client = self.client_address.ip_or_local();
        loop {
            let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
            let outcome = match self.service.rotation.pick(client, &mut connecting.tried, kit.now) {
                Pick::Leased(lease) if lease.is_outdated() => return self.await_check(lease, kit),
                Pick::Leased(lease) => self.attempt(lease, kit),
                Pick::Full => return self.join_queue(kit),
                Pick::Wait if self.may_queue_again(kit) => return self.join_queue(kit),
                Pick::Wait => return self.await_settled(kit),
                Pick::Nothing => return self.await_destination(kit),
            };
            match outcome {
                Outcome::Failed => {}
                outcome => return self.conclude(outcome, kit),
            }
        }
    }

    pub(super) fn conclude(&mut self, outcome: Outcome, kit: &mut Kit) -> Next {
        match outcome {
            Outcome::Begun | Outcome::Postponed => {
                self.arm(kit);
                Next::Wait
            }
            Outcome::Failed => self.connect(kit),
            Outcome::OutOfPatience => self.await_destination(kit),
            Outcome::OutOfResources => {
                self.record.ends_for(Cause::Shortage);
                Next::Close(Ending::Clean)
            }
            Outcome::ClientGone(ending) => Next::Close(ending),
            Outcome::InALoop => {
                kit.in_a_loop(self.client_address);
                self.record.ends_for(Cause::NoDestination);
                Next::Close(Ending::Clean)
            }
        }
    }

    /// Gives up the destination that is being tried.
    pub(super) fn end_attempt(&mut self) {
        if let Some(server) = self.server.take() {
            if self.service.options.reset_on_close {
                server.reset_on_close();
            }
            self.attempt = self.attempt.next();
        }
        self.lease = None;
        if let Stage::Connecting(connecting) = &mut self.stage {
            connecting.ticket = None;
        }
        // What is known of this socket says nothing of the next.
        self.flows.down.forget_source();
    }

    /// Begins to connect to a destination.
    pub(super) fn attempt(&mut self, lease: Lease, kit: &mut Kit) -> Outcome {
        if let Err(error) = self.hear_ahead(kit) {
            self.source_failed(Direction::Up, &error);
            return Outcome::ClientGone(Ending::Reset);
        }
        if self.flows.up.has_ended_without_a_word() {
            return Outcome::ClientGone(Ending::Clean);
        }
        let header = match self.proxy_header(kit) {
            Ok(header) => header,
            Err(error) => {
                self.source_failed(Direction::Up, &error);
                return Outcome::ClientGone(Ending::Reset);
            }
        };
        let said = header.is_some() || self.has_something_to_say();
        let Stage::Connecting(connecting) = &mut self.stage else { return Outcome::Begun };
        connecting.header = header;
        if connecting.hop_limit.is_some_and(HopLimit::is_used_up) {
            return Outcome::InALoop;
        }
        let manner = Manner { said, hop_limit: connecting.hop_limit, client: self.client_address.ip() };
        connecting.settling_since = None;
        let until = connecting.end_of_attempt(&lease, kit.now, self.service.options.connect_timeout);
        if until <= kit.now {
            return Outcome::OutOfPatience;
        }
        let token = self.key.token(Side::Server(self.attempt));
        match open(lease.address(), manner, &self.service.options, token, kit) {
            Ok(server) => {
                (connecting.short_since, connecting.crowded_since) = (None, None);
                self.admitted.set_short(false);
                connecting.enter(Phase::Opening, until);
                connecting.suspect_at =
                    self.service.inspects_greeting().then(|| kit.now + self.service.options.suspect_after);
                self.record.attempt(&lease, kit);
                (self.server, self.lease) = (Some(server), Some(lease));
                Outcome::Begun
            }
            Err(error) if sys::is_shortage(&error) => self.wait_for_memory(&error, kit),
            Err(error) if error.kind() == ErrorKind::WouldBlock && lease.address().is_unix() => {
                self.wait_for_backlog(lease, kit)
            }
            Err(error) if lacks_local_port(&error, lease.address(), &self.service.options) => {
                self.admitted.set_short(false);
                self.wait_for_resources(&error, kit)
            }
            Err(error) => {
                let (id, retries) = (lease.id(), lease.retries());
                self.record.attempt(&lease, kit);
                self.give_back(lease, &error, kit);
                self.after_failure(id, retries, kit)
            }
        }
    }

    /// Tries again later, because this machine lacks descriptors or memory. Further clients, which would take what this one
    /// lacks, are not accepted meanwhile.
    pub(super) fn wait_for_memory(&mut self, error: &io::Error, kit: &mut Kit) -> Outcome {
        self.admitted.set_short(true);
        self.wait_for_resources(error, kit)
    }

    /// Tries again later, because this machine lacks something: no destination is to blame.
    fn wait_for_resources(&mut self, error: &io::Error, kit: &mut Kit) -> Outcome {
        let Stage::Connecting(connecting) = &mut self.stage else { return Outcome::Begun };
        kit.out_of_resources(error);
        let since = *connecting.short_since.get_or_insert(kit.now);
        if kit.now.duration_since(since) > self.service.options.connect_timeout {
            return Outcome::OutOfResources;
        }
        connecting.enter(Phase::Paused, kit.now + SHORTAGE_PAUSE);
        Outcome::Postponed
    }

    /// Tries again shortly, because the backlog of a UNIX socket is full, for which connect(2) does not wait as it does with
    /// TCP. Holds it against the destination only when the connect timeout is over.
    fn wait_for_backlog(&mut self, lease: Lease, kit: &mut Kit) -> Outcome {
        self.admitted.set_short(false);
        let Stage::Connecting(connecting) = &mut self.stage else { return Outcome::Begun };
        let since = *connecting.crowded_since.get_or_insert(kit.now);
        let (waited, timeout) = (kit.now.duration_since(since), self.service.options.connect_timeout);
        if waited < timeout {
            let pause = (waited / 4).clamp(BACKLOG_PAUSE.0, BACKLOG_PAUSE.1).min(timeout - waited);
            connecting.enter(Phase::Paused, kit.now + pause);
            return Outcome::Postponed;
        }
        connecting.crowded_since = None;
        let reason = format!("its backlog has been full for {} s", timeout.as_secs_f64());
        let (id, retries) = (lease.id(), lease.retries());
        self.record.attempt(&lease, kit);
        self.give_back(lease, &io::Error::new(ErrorKind::TimedOut, reason), kit);
        self.after_failure(id, retries, kit)
    }

    /// Decides where to go on after a destination has failed.
    fn after_failure(&mut self, id: DestinationId, retries: bool, kit: &Kit) -> Outcome {
        let Stage::Connecting(connecting) = &mut self.stage else { return Outcome::Begun };
        if retries {
            let end = connecting.tried_since.map_or(kit.now, |(_, since)| since + self.service.options.connect_timeout);
            connecting.enter(Phase::Paused, end.min(kit.now + RETRY_PAUSE));
            return Outcome::Postponed;
        }
        connecting.tried.add(id);
        connecting.attempts += 1;
        let has_one_attempt = connecting.hop_limit.is_some_and(HopLimit::has_one_attempt);
        if has_one_attempt || connecting.attempts >= self.service.options.most_attempts {
            return Outcome::OutOfPatience;
        }
        self.record.redispatched();
        Outcome::Failed
    }

    /// Goes on after the attempt under way has failed and its lease was given back.
    pub(super) fn go_on(&mut self, id: DestinationId, retries: bool, kit: &mut Kit) -> Next {
        self.end_attempt();
        let outcome = self.after_failure(id, retries, kit);
        self.conclude(outcome, kit)
    }

    /// Gives back the lease of an attempt that failed with this error, and goes on.
    pub(super) fn next_destination(&mut self, error: &io::Error, kit: &mut Kit) -> Next {
        let Some(lease) = self.lease.take() else { return self.connect(kit) };
        let (id, retries) = (lease.id(), lease.retries());
        self.give_back(lease, error, kit);
        self.go_on(id, retries, kit)
    }

    /// Something was found out about the destination's socket.
    pub(super) fn on_connect_event(&mut self, event: &Event, kit: &mut Kit) -> Next {
        if self.is_in(Phase::Greeting) {
            return self.await_greeting(kit);
        }
        let Some(server) = &self.server else { return Next::Wait };
        let has_failed = event.is_error() || event.is_write_closed();
        // Where the greeting is inspected, reading it reports the error behind it.
        if !self.service.inspects_greeting() && has_failed {
            let error = server.take_error().and_then(|error| error.map_or(Ok(()), Err));
            match error {
                Err(error) if !has_answered(server, &error) => return self.next_destination(&error, kit),
                // All that remains is what it said; passing that on is what the client came for.
                Err(_) => {
                    self.flows.sink_failed(Direction::Up);
                }
                Ok(()) => {}
            }
        }
        if !event.is_writable() {
            return Next::Wait;
        }
        if self.lease.as_ref().is_some_and(|lease| is_itself(server, lease.address())) {
            // Its TIME_WAIT would keep the real server from the port.
            server.reset_on_close();
            let error = io::Error::new(ErrorKind::ConnectionRefused, "nobody listens there");
            return self.next_destination(&error, kit);
        }
        match &mut self.stage {
            Stage::Connecting(connecting) if self.service.inspects_greeting() => {
                connecting.phase = Phase::Greeting;
                if has_failed { self.read_greeting(kit) } else { self.await_greeting(kit) }
            }
            _ => self.begin_to_relay(kit),
        }
    }

    pub(super) fn begin_to_relay(&mut self, kit: &mut Kit) -> Next {
        if let Some(lease) = &mut self.lease {
            debug!("client {}: passed on to {}", self.client_address, lease.address());
            self.record.connected(kit.now);
            if lease.connected() {
                let (address, label) = (lease.address(), self.service.rotation.pool().label());
                let (pool, it) = (label.pool(), label.of(address));
                info!(destination:% = address, pool; "destination {it} can be reached again");
            }
        }
        if let Err(error) = self.put_header_first(kit) {
            return self.source_failed(Direction::Up, &error);
        }
        self.stage = Stage::Relaying;
        self.armed = None;
        self.login_reads = if self.service.inspects_greeting() { LOGIN_READS } else { 0 };
        self.watch_activity(kit);
        let said = self.has_something_to_say();
        let next = self.relay(kit);
        if let (true, Some(server)) = (said, &self.server) {
            acknowledge_at_once(server);
        }
        next
    }

    fn give_back(&mut self, lease: Lease, error: &io::Error, kit: &Kit) {
        self.record.attempt_failed(error);
        let (address, follows) = (lease.address(), what_follows(lease.retries()));
        if lease.failed(kit.now) {
            let label = self.service.rotation.pool().label();
            let (pool, it) = (label.pool(), label.of(address));
            warn!(destination:% = address, pool; "destination {it} cannot be reached: {error}; {follows}");
        }
    }

    /// Whether the client has said something that the destination may hear as soon as it accepts.
    fn has_something_to_say(&self) -> bool {
        !self.service.inspects_greeting() && self.flows.up.holds_anything()
    }
}
