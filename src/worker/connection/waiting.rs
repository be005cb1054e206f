//! A client without a destination: what it waits for, and what ends the wait.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::connecting::Phase;
use super::{Connection, Ending, Next, Stage};
use crate::pool::{DestinationId, Lease, Tried};
use crate::worker::Kit;
use crate::worker::hops::HopLimit;

/// How often to ask the table again while it moves the single destination, in case its event is missed.
const SETTLING_PAUSE: Duration = Duration::from_millis(100);
/// How long a client waits for the single destination to be moved.
const MOVE_DEADLINE: Duration = Duration::from_secs(60);

impl Connection {
    /// Waits for the watchdog to check the destination before connecting to it.
    pub(super) fn await_check(&mut self, mut lease: Lease, kit: &mut Kit) -> Next {
        let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
        connecting.settling_since = None;
        let until = connecting.end_of_attempt(&lease, kit.now, self.service.options.connect_timeout);
        if until <= kit.now {
            return self.turn_away(kit);
        }
        connecting.enter(Phase::Checking, until);
        lease.ask_watchdog();
        self.lease = Some(lease);
        // Nothing is lacking as long as nothing is asked for.
        self.admitted.set_short(false);
        self.arm(kit);
        Next::Wait
    }

    /// The watchdog was asked about a destination, and this is its answer.
    pub(in crate::worker) fn on_destination_checked(&mut self, id: DestinationId, fit: bool, kit: &mut Kit) -> Next {
        if !self.is_in(Phase::Checking) || self.lease.as_ref().is_none_or(|lease| lease.id() != id) {
            return Next::Wait;
        }
        self.after_check(fit, kit)
    }

    /// Goes on to the leased destination if it is fit, to another one otherwise.
    fn after_check(&mut self, fit: bool, kit: &mut Kit) -> Next {
        match self.lease.take() {
            Some(lease) if fit => {
                let outcome = self.attempt(lease, kit);
                self.conclude(outcome, kit)
            }
            lease => self.pass_over(lease, kit),
        }
    }

    /// Goes on without holding anything against this destination.
    fn pass_over(&mut self, lease: Option<Lease>, kit: &mut Kit) -> Next {
        match lease {
            Some(lease) => self.go_on(lease.id(), lease.retries(), kit),
            None => self.connect(kit),
        }
    }

    /// Waits for the table to move the single destination.
    pub(super) fn await_settled(&mut self, kit: &mut Kit) -> Next {
        let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
        let end = *connecting.settling_since.get_or_insert(kit.now) + MOVE_DEADLINE;
        if end <= kit.now {
            return self.turn_away(kit);
        }
        connecting.enter(Phase::Settling, end.min(kit.now + SETTLING_PAUSE));
        self.admitted.set_short(false);
        if self.client_has_left() {
            return Next::Close(Ending::Clean);
        }
        self.arm(kit);
        Next::Wait
    }

    /// Waits for a destination to become fit, as long as the client is to; then it may try all of them again.
    pub(super) fn await_destination(&mut self, kit: &mut Kit) -> Next {
        let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
        let since = *connecting.none_since.get_or_insert(kit.now);
        let end = self.service.options.wait.map(|wait| since + wait);
        // What may come through a loop is not sent round again.
        let has_one_attempt = connecting.hop_limit.is_some_and(HopLimit::has_one_attempt);
        let Some(end) = end.filter(|end| *end > kit.now && !has_one_attempt) else { return self.turn_away(kit) };
        (connecting.tried, connecting.attempts, connecting.tried_since) = (Tried::default(), 0, None);
        connecting.enter(Phase::Settling, end.min(kit.now + SETTLING_PAUSE));
        self.end_attempt();
        self.admitted.set_short(false);
        if self.client_has_left() {
            return Next::Close(Ending::Clean);
        }
        self.arm(kit);
        Next::Wait
    }

    /// The table has moved the single destination.
    pub(in crate::worker) fn on_settled(&mut self, kit: &mut Kit) -> Next {
        if self.is_in(Phase::Settling) { self.connect(kit) } else { Next::Wait }
    }

    /// An event of the client's, which has no destination yet.
    pub(super) fn on_event_of_waiting_client(&self) -> Next {
        let has_left = self.lease.is_none() && self.drops_half_closed() && self.client_has_left();
        if has_left { Next::Close(Ending::Clean) } else { Next::Wait }
    }

    /// Returns true if no further attempt is made for a client that has ended its side without having sent anything. In
    /// MySQL's protocol it could not even log in; in others, the server may have something to say to it.
    pub(super) fn drops_half_closed(&self) -> bool {
        self.is_in(Phase::Settling)
            || self.is_in(Phase::Room)
            || (self.service.inspects_greeting() && !self.is_in(Phase::Queued))
    }

    /// Returns true if the client has ended its side without having said anything: there is nothing to serve it with.
    pub(super) fn client_has_left(&self) -> bool {
        self.flows.up.may_have_ended()
            && !self.flows.up.holds_anything()
            && self.client.peek().map_or_else(|error| error.kind() != ErrorKind::WouldBlock, |count| count == 0)
    }

    pub(super) fn is_in(&self, phase: Phase) -> bool {
        matches!(&self.stage, Stage::Connecting(connecting) if connecting.phase == phase)
    }

    /// The time for what the client waits for, or part of it, is over.
    pub(super) fn on_connect_timer(&mut self, kit: &mut Kit) -> Next {
        let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
        let late = connecting.suspect_at.take_if(|at| *at <= kit.now).is_some();
        let (phase, is_over) = (connecting.phase, connecting.until <= kit.now);
        if late {
            self.suspect_destination(kit);
        }
        let seconds = self.service.options.connect_timeout.as_secs_f64();
        let timed_out = |what: &str| io::Error::new(ErrorKind::TimedOut, format!("no {what} within {seconds} s"));
        match phase {
            _ if !is_over => {
                self.arm(kit);
                Next::Wait
            }
            Phase::Queued | Phase::Paused | Phase::Settling => self.connect(kit),
            Phase::Room => self.on_queue_timer(kit),
            // The watchdog has reported nothing in this time: the verdict that there is counts.
            Phase::Checking => self.after_check(true, kit),
            Phase::Opening => self.next_destination(&timed_out("answer"), kit),
            Phase::Greeting => self.next_destination(&timed_out("greeting"), kit),
        }
    }
}
