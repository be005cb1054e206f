//! What health does to a whole pool: closing the sessions of destinations that have fallen where clients have somewhere
//! better to go, and saying that no checks are being made.

use super::destination::Destination;
use super::health::{Reason, Verdict};
use super::inner::Inner;
use super::rotation::RotationState;
use super::{DestinationId, Event, Pool, RotationId};

impl Pool {
    /// Has the connections of a destination closed that is DOWN, if one of those `elsewhere` is READY and takes new clients;
    /// in any case where it is `None`. Returns how many there are, those of other processes included; `None` if they stay,
    /// or the destination is gone.
    pub fn close_fallen(&self, id: DestinationId, elsewhere: Option<&[DestinationId]>) -> Option<usize> {
        let inner = self.lock();
        let slot = inner.find(id)?;
        let serves = |id: &DestinationId| {
            inner.find(*id).is_some_and(|slot| inner.destinations[slot].takes_clients(Verdict::Ready))
        };
        if !elsewhere.is_none_or(|others| others.iter().any(serves)) {
            return None;
        }
        let destination = &inner.destinations[slot];
        let (address, connections) = (destination.address, destination.all_connections());
        inner.tell(Event::Closed(id, address, None));
        Some(connections)
    }

    /// How many connections a destination has, those of other processes included. None count on one that the single
    /// destination has moved away from, since these are being closed.
    pub fn sessions_on(&self, id: DestinationId) -> usize {
        let inner = self.lock();
        let Some(slot) = inner.find(id) else { return 0 };
        let destination = &inner.destinations[slot];
        let left = inner.rotations.iter().map(|(key, it)| inner.sessions_left(RotationId(key), it, destination));
        destination.all_connections().saturating_sub(left.sum())
    }

    /// Says why no checks are being made, so that the verdicts are those of before; `None`: they are made.
    /// Clients that wait for one go by the verdict that there is.
    pub fn set_checks_note(&self, note: Option<Reason>) {
        let mut inner = self.lock();
        inner.checks_note = note;
        if inner.checks_note.is_some() {
            inner.answer_awaited();
        }
    }

    /// Why no checks are being made; `None`: they are made, or there is no watchdog.
    pub fn checks_note(&self) -> Option<Reason> {
        self.lock().checks_note.clone()
    }

    /// How many destinations take new clients.
    pub fn serving(&self) -> usize {
        let inner = self.lock();
        inner.destinations.iter().filter(|(_, it)| it.takes_clients(Verdict::Spare)).count()
    }
}

impl Inner {
    /// The sessions on a destination that a rotation's single destination has moved away from.
    fn sessions_left(&self, id: RotationId, rotation: &RotationState, destination: &Destination) -> usize {
        let closes_others = rotation.single.as_ref().is_some_and(|it| it.closes_others());
        if closes_others && self.current_single(id) != Some(destination.id.slot()) {
            self.sessions_of(id, destination)
        } else {
            0
        }
    }
}

impl Destination {
    /// Whether it takes new clients and its verdict is at least this one.
    fn takes_clients(&self, least: Verdict) -> bool {
        self.open_verdict() >= Some(least)
    }
}
