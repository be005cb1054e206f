//! Counting a connection on a destination for as long as it lasts.

use std::net::SocketAddr;
use std::time::Instant;

use super::{DestinationId, Event, Table};

/// One connection's claim on a destination: counted from the pick until it is dropped.
pub struct Lease {
    pub(super) table: Table,
    pub(super) id: DestinationId,
    pub(super) address: SocketAddr,
    pub(super) doubtful: bool,
    pub(super) outdated: bool,
}

impl Lease {
    /// Whose lease this is.
    pub fn id(&self) -> DestinationId {
        self.id
    }

    /// What to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the watchdog's last word on the destination is so old that it is to be asked before connecting.
    pub fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// Asks the watchdog, whose answer all subscribers get as [`Event::Checked`].
    pub fn ask_watchdog(&mut self) {
        self.outdated = false;
        let mut inner = self.table.0.lock();
        if let Some(slot) = inner.find(self.id)
            && !std::mem::replace(&mut inner.destinations[slot].awaited, true)
        {
            inner.tell(Event::Awaited(self.id));
        }
    }

    /// The connect succeeded. True when the one before had failed.
    pub fn connected(&mut self) -> bool {
        if !std::mem::take(&mut self.doubtful) {
            return false;
        }
        let mut inner = self.table.0.lock();
        let Some(slot) = inner.find(self.id) else { return false };
        if inner.destinations[slot].avoided_until.is_some() {
            inner.change(slot, |it| it.avoided_until = None);
        }
        std::mem::take(&mut inner.destinations[slot].failed)
    }

    /// Gives the lease back because the connect failed, so that others are preferred for a while. True when the one
    /// before had not failed.
    pub fn failed(self, now: Instant) -> bool {
        let mut inner = self.table.0.lock();
        let Some(slot) = inner.find(self.id) else { return false };
        let until = now + inner.balancing.avoid_failed_for;
        inner.tell(Event::Doubted(self.id));
        inner.change(slot, |it| {
            it.avoided_until = Some(until);
            !std::mem::replace(&mut it.failed, true)
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut inner = self.table.0.lock();
        if let Some(slot) = inner.find(self.id) {
            inner.count(slot, |it| it.connections -= 1);
        }
    }
}
