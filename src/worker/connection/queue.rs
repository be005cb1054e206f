//! A client that waits in a queue, because every destination that it may have is full.

use super::connecting::Phase;
use super::{Connection, Ending, Next, Stage};
use crate::counters::Cause;
use crate::pool::{Lease, Pick, Turn};
use crate::worker::Kit;
use crate::worker::message::Message;

impl Connection {
    /// Waits for room on a destination, as long as the client may.
    pub(super) fn join_queue(&mut self, kit: &mut Kit) -> Next {
        let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
        let end = *connecting.queued_since.get_or_insert(kit.now) + self.service.options.queue_timeout;
        if end <= kit.now {
            return self.leave_queue(kit);
        }
        let (mailbox, key) = (kit.mailbox.clone(), self.key);
        let wake = Box::new(move || mailbox.send(Message::Room(key)));
        let client = self.client_address.ip_or_local();
        match self.service.rotation.queue(client, self.record.begun, &mut connecting.tried, kit.now, wake) {
            Ok(ticket) => connecting.ticket = Some(ticket),
            Err(Pick::Leased(lease)) => return self.connect_to(lease, kit),
            Err(Pick::Wait) => return self.await_settled(kit),
            Err(Pick::Nothing) => return self.await_destination(kit),
            Err(Pick::Full) => {
                kit.queue_is_full(&self.service.name, self.client_address);
                return self.turn_away_from_queue(kit);
            }
        }
        kit.no_room(&self.service.name);
        self.record.queued();
        connecting.enter(Phase::Room, end);
        // Nothing is lacking as long as nothing is asked for.
        self.admitted.set_short(false);
        if self.client_has_left() {
            return Next::Close(Ending::Clean);
        }
        self.arm(kit);
        Next::Wait
    }

    /// There may be room for the client.
    pub(in crate::worker) fn on_room(&mut self, kit: &mut Kit) -> Next {
        let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
        let Some(ticket) = &mut connecting.ticket else { return Next::Wait };
        match ticket.claim(kit.now) {
            Turn::Wait => Next::Wait,
            Turn::PickAgain => self.connect(kit),
            Turn::Leased(lease) => {
                connecting.ticket = None;
                let since = connecting.queued_since.take();
                since.iter().for_each(|since| self.record.waited(*since, kit.now));
                self.connect_to(lease, kit)
            }
        }
    }

    /// Whether the client has had a place in the queue, and may have one again.
    pub(super) fn may_queue_again(&self, kit: &Kit) -> bool {
        let Stage::Connecting(connecting) = &self.stage else { return false };
        connecting.queued_since.is_some_and(|since| since + self.service.options.queue_timeout > kit.now)
    }

    /// The time that the client may wait for room is over. While nobody can be served because the single destination is being
    /// moved, it waits for that like one that has just come.
    pub(super) fn on_queue_timer(&mut self, kit: &mut Kit) -> Next {
        if let Stage::Connecting(connecting) = &mut self.stage
            && connecting.ticket.take_if(|ticket| ticket.awaits_settling()).is_some()
        {
            return self.await_settled(kit);
        }
        self.leave_queue(kit)
    }

    /// The client has waited for as long as it may.
    pub(super) fn leave_queue(&mut self, kit: &mut Kit) -> Next {
        kit.waited_in_vain(&self.service.name, self.client_address);
        if let Stage::Connecting(connecting) = &self.stage
            && let Some(since) = connecting.queued_since
        {
            self.record.queue = kit.now.saturating_duration_since(since).into();
        }
        self.turn_away_from_queue(kit)
    }

    fn turn_away_from_queue(&mut self, kit: &mut Kit) -> Next {
        self.record.ends_for(Cause::NoRoom);
        self.end_attempt();
        self.dismiss(kit)
    }

    fn connect_to(&mut self, lease: Lease, kit: &mut Kit) -> Next {
        if lease.is_outdated() {
            return self.await_check(lease, kit);
        }
        let outcome = self.attempt(lease, kit);
        self.conclude(outcome, kit)
    }
}
