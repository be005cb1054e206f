//! What health does to the whole table: closing the sessions of destinations that have fallen where clients have somewhere
//! better to go, and saying that no checks are being made.

use super::health::{Reason, ShutdownSessions, Verdict};
use super::{DestinationId, Event, Table};

impl Table {
    /// Has the connections of a destination closed that is DOWN, where the setting says so: [`ShutdownSessions::Elsewhere`]
    /// does once another destination is READY. Returns how many there are, those of other processes included; `None` if
    /// they stay, or the destination is gone.
    pub fn close_fallen(&self, id: DestinationId, when: ShutdownSessions) -> Option<usize> {
        let inner = self.0.lock();
        let slot = inner.find(id)?;
        let elsewhere = || inner.destinations.iter().any(|(_, it)| it.id != id && it.takes_clients(Verdict::Ready));
        let close = match when {
            ShutdownSessions::Always => true,
            ShutdownSessions::Elsewhere => elsewhere(),
            ShutdownSessions::Never => false,
        };
        if !close {
            return None;
        }
        let destination = &inner.destinations[slot];
        inner.tell(Event::Closed(id, destination.address));
        Some(destination.all_connections())
    }

    /// Says why no checks are being made, so that the verdicts are those of before; `None`: they are made.
    /// Clients that wait for one go by the verdict that there is.
    pub fn set_checks_note(&self, note: Option<Reason>) {
        let mut inner = self.0.lock();
        inner.checks_note = note;
        if inner.checks_note.is_some() {
            inner.answer_awaited();
        }
    }

    /// Why no checks are being made; `None`: they are made, or there is no watchdog.
    pub fn checks_note(&self) -> Option<Reason> {
        self.0.lock().checks_note.clone()
    }

    /// How many destinations take new clients.
    pub fn serving(&self) -> usize {
        let inner = self.0.lock();
        inner.destinations.iter().filter(|(_, it)| it.takes_clients(Verdict::Spare)).count()
    }
}

impl super::destination::Destination {
    /// Whether it takes new clients and its verdict is at least this one.
    fn takes_clients(&self, least: Verdict) -> bool {
        self.open_verdict() >= Some(least)
    }
}
