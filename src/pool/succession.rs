//! The single destination across an upgrade. The new process goes on with a move that is under way; the old one no longer
//! decides, and its clients that wait are told where the single destination is.

use crate::address::PeerAddress;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::inner::Inner;
use super::single::Leadership;
use super::switchover::{CLOSING, Former, Left, SwitchPhase, Switchover};
use super::{DestinationId, Event, Pool, Rotation, RotationId, clock};

/// A move under way, for the process that goes on with it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct SavedSwitchover {
    from: PeerAddress,
    from_is_removed: bool,
    to: PeerAddress,
    closing: bool,
    time_left: Duration,
}

/// Of a former destination that is no longer in the table.
const NO_DESTINATION: DestinationId = DestinationId { pool: u32::MAX, slot: u32::MAX, serial: u64::MAX };

impl Inner {
    pub(super) fn save_switchover(&self, rotation: RotationId, now: Instant) -> Option<SavedSwitchover> {
        let switchover = self.single(rotation)?.switchover.as_ref()?;
        Some(SavedSwitchover {
            from: switchover.from.address,
            from_is_removed: switchover.from.removed.is_some(),
            to: self.find(switchover.to).map(|slot| self.destinations[slot].address)?,
            closing: switchover.phase == SwitchPhase::Closing,
            time_left: switchover.deadline.saturating_duration_since(now),
        })
    }

    /// Goes on with the choice of another process, and with its move.
    pub(super) fn restore_single(
        &mut self,
        rotation: RotationId,
        kept: Option<(PeerAddress, SystemTime)>,
        saved: Option<SavedSwitchover>,
        now: Instant,
    ) {
        let id_at = |inner: &Inner, address| inner.at(address).map(|slot| inner.destinations[slot].id);
        let current = kept.and_then(|(address, since)| Some((id_at(self, address)?, since)));
        let switchover = saved.and_then(|it| {
            let former = match it.from_is_removed {
                true => Former { id: NO_DESTINATION, address: it.from, removed: Some(Left { own: 0, elsewhere: 0 }) },
                false => Former { id: id_at(self, it.from)?, address: it.from, removed: None },
            };
            let phase = if it.closing { SwitchPhase::Closing } else { SwitchPhase::Grace };
            let (to, deadline) = (id_at(self, it.to)?, now + it.time_left);
            Some(Switchover { from: former, to, phase, deadline, done: None })
        });
        let Some(single) = self.single_mut(rotation) else { return };
        single.switchover = switchover;
        if let Some((id, since)) = current {
            self.keep_to_single(rotation, id, since);
        }
    }

    /// The single destination of a process that does not decide is closed: its clients wait to be told of the next.
    pub(super) fn lose_single(&mut self, rotation: RotationId, id: DestinationId) {
        if let Some(single) = self.single_mut(rotation)
            && single.watched
            && single.current == Some(id)
            && single.leadership != Leadership::Leads
        {
            (single.current, single.leadership) = (None, Leadership::Asks(Some(clock::now() + 2 * CLOSING)));
        }
    }

    /// Other processes have so many connections on `address`, where the former single destination may have been.
    pub(super) fn former_elsewhere(&mut self, rotation: RotationId, address: PeerAddress, connections: usize) {
        let Some(switchover) = self.single_mut(rotation).and_then(|single| single.switchover.as_mut()) else { return };
        if switchover.from.address == address {
            if let Some(left) = &mut switchover.from.removed {
                left.elsewhere = connections;
            }
            self.advance(rotation, clock::now());
        }
    }
}

impl Rotation {
    /// Where the single destination is; `None` while it is being moved, or where there is none.
    pub fn single(&self) -> Option<PeerAddress> {
        let inner = self.pool().lock();
        let settled = inner.single(self.id()).is_some_and(|single| single.switchover.is_none());
        let slot = inner.current_single(self.id()).filter(|_| settled)?;
        Some(inner.destinations[slot].address)
    }

    /// Since when this one is the single destination, where there is one.
    pub fn single_since(&self) -> Option<SystemTime> {
        self.pool().lock().single_since(self.id())
    }

    /// The destinations on which other processes have sessions that a move of the single one has closed. A process that
    /// has just taken over has them closed once more, since nothing was passed on before.
    pub fn strays(&self) -> Vec<PeerAddress> {
        let inner = self.pool().lock();
        let Some(single) = inner.single(self.id()) else { return Vec::new() };
        let closing = single.switchover.as_ref().filter(|it| it.phase == SwitchPhase::Closing);
        let current = inner.current_single(self.id()).filter(|_| single.closes_others());
        let is_other = |slot| current.is_some_and(|current| current != slot);
        let others = inner.destinations.iter().filter(|(slot, _)| is_other(*slot) && single.counts(*slot).1 > 0);
        closing.map(|it| it.from.address).into_iter().chain(others.map(|(_, it)| it.address)).collect()
    }

    /// Leaves the single destination to the process that has taken over. Clients wait if it is being moved.
    pub fn follow_successor(&self) {
        let mut inner = self.pool().lock();
        if let Some(single) = inner.single_mut(self.id()) {
            single.leadership =
                if single.switchover.take().is_some() { Leadership::Asks(None) } else { Leadership::Follows };
        }
    }

    /// The single destination of the process that has taken over is at `address`.
    pub fn follow_single(&self, address: PeerAddress) {
        let mut inner = self.pool().lock();
        let id = inner.at(address).map(|slot| inner.destinations[slot].id);
        let Some(single) = inner.single_mut(self.id()).filter(|single| single.leadership != Leadership::Leads) else {
            return;
        };
        single.leadership = Leadership::Follows;
        if single.watched {
            single.current = single.current.filter(|current| Some(*current) == id);
        }
        if let Some(id) = id {
            inner.keep_to_single(self.id(), id, SystemTime::now());
        }
        inner.settled();
    }

    /// The process that has taken over is gone: clients wait for it no longer.
    pub fn follow_nobody(&self) {
        let mut inner = self.pool().lock();
        if let Some(single) =
            inner.single_mut(self.id()).filter(|single| matches!(single.leadership, Leadership::Asks(_)))
        {
            single.leadership = Leadership::Follows;
            inner.settled();
        }
    }
}

impl Rotation {
    /// Closes the connections to the destination at `address` that were picked here. They count until they have ended: another
    /// process waits for that.
    pub fn close_own_sessions(&self, address: PeerAddress) {
        let mut inner = self.pool().lock();
        let Some(slot) = inner.at(address) else { return };
        let id = inner.destinations[slot].id;
        inner.lose_single(self.id(), id);
        inner.tell(Event::Closed(id, address, Some(self.id())));
    }
}

impl Pool {
    /// Closes the connections to the destination at `address`, which takes no new ones here. They count until they have
    /// ended: another process waits for that.
    pub fn close_sessions(&self, address: PeerAddress) {
        let mut inner = self.lock();
        let Some(slot) = inner.at(address) else { return };
        let id = inner.destinations[slot].id;
        inner.change(slot, |it| it.obsolete = true);
        inner.singles().into_iter().for_each(|rotation| inner.lose_single(rotation, id));
        inner.tell(Event::Closed(id, address, None));
    }
}
