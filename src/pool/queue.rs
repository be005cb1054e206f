//! Clients that wait for room on a destination, where connections of a destination are limited: who comes first is served
//! first.
//!
//! Room that a connection leaves behind goes to the client that has waited for longest, of all services that use the pool,
//! under the same lock: no newcomer can take it. A client of the policies *source* and *single* waits for its own
//! destination, any other for whichever has room first.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use parking_lot::MutexGuard;

use super::inner::{Inner, Picked};
use super::rotation::{Pick, RotationState};
use super::tried::Tried;
use super::{DestinationId, Lease, PolicyKind, Rotation, RotationId, clock};

/// Most clients that are looked at for the room that one connection leaves behind. Only those that have tried destinations
/// in vain can stand before one that takes it.
const MOST_LOOKS: usize = 64;

/// Wakes the one who holds a [`Ticket`]. Called with the pool locked: it must not call the pool.
pub type Wake = Box<dyn Fn() + Send>;

/// What a client waits for: room on the destination in this slot, or on any.
pub(super) type Line = Option<usize>;

/// A client's place in the queue. It leaves the queue when this is dropped.
pub struct Ticket {
    rotation: Rotation,
    number: u64,
}

/// What has become of a client that waits.
pub enum Turn {
    /// It waits on.
    Wait,
    /// There is room for it.
    Leased(Lease),
    /// The destinations have changed: it is to pick again.
    PickAgain,
}

/// The clients of a rotation that wait.
#[derive(Default)]
pub(super) struct Queue {
    waiters: HashMap<u64, Waiter>,
    /// The same, by what they wait for and how long they have.
    order: BTreeSet<(Line, u64)>,
    /// Room that has been kept for clients that have not heard of it yet.
    kept: HashMap<u64, DestinationId>,
}

struct Waiter {
    line: Line,
    client: IpAddr,
    tried: Tried,
    wake: Wake,
}

/// Where there may be room since somebody has looked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Room {
    #[default]
    Nowhere,
    On(usize),
    Anywhere,
}

/// A locked pool. Before it is unlocked, clients that wait get what room there is.
pub(super) struct Locked<'p>(pub(super) MutexGuard<'p, Inner>);

impl Deref for Locked<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Inner {
        &mut self.0
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        if self.0.waiting > 0 {
            self.0.serve_waiting();
        }
    }
}

impl PolicyKind {
    /// Whether a client waits for the destination that is its own while that is full, rather than go to another.
    pub(super) fn binds(self) -> bool {
        matches!(self, PolicyKind::Source | PolicyKind::Single)
    }
}

impl Rotation {
    /// Has a client wait that has found [`Pick::Full`]: `wake` is called when it is to [`claim`](Ticket::claim) what has
    /// become of it.
    ///
    /// # Errors
    /// What it has picked after all; [`Pick::Full`] when as many wait as may.
    pub fn queue(&self, client: IpAddr, tried: &mut Tried, now: Instant, wake: Wake) -> Result<Ticket, Pick> {
        let mut inner = self.pool().lock();
        inner.arrives();
        let line = loop {
            match inner.pick(self.id(), client, tried, now) {
                Picked::Full(line) if inner.settings.max_queue.is_none_or(|most| inner.waiting <= most) => break line,
                // Another one that has room is better than none.
                Picked::Full(Some(own)) if inner.single(self.id()).is_none() => tried.add(inner.destinations[own].id),
                picked => return Err(inner.has_arrived(self, picked, now)),
            }
        };
        let number = inner.next_ticket;
        inner.next_ticket += 1;
        let waiter = Waiter { line, client, tried: tried.clone(), wake };
        inner.rotation_mut(self.id()).queue.add(number, waiter);
        Ok(Ticket { rotation: self.clone(), number })
    }

    /// How many clients wait for room.
    pub fn waiting(&self) -> usize {
        self.pool().lock().rotation(self.id()).queue.waiters.len()
    }
}

impl Ticket {
    /// Finds out what has become of the client, after it was woken.
    pub fn claim(&mut self, now: Instant) -> Turn {
        let mut inner = self.rotation.pool().lock();
        let queue = &mut inner.rotation_mut(self.rotation.id()).queue;
        if queue.waiters.contains_key(&self.number) {
            return Turn::Wait;
        }
        let Some(id) = queue.kept.remove(&self.number) else { return Turn::PickAgain };
        match inner.find(id).filter(|slot| inner.may_serve(self.rotation.id(), *slot)) {
            Some(slot) => Turn::Leased(inner.lease(&self.rotation, slot, now)),
            None => {
                inner.release(self.rotation.id(), id);
                Turn::PickAgain
            }
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.rotation.pool().lock();
        let queue = &mut inner.rotation_mut(self.rotation.id()).queue;
        match (queue.take(self.number), queue.kept.remove(&self.number)) {
            (Some(_), _) => inner.no_longer_waits(),
            (None, Some(id)) => inner.release(self.rotation.id(), id),
            (None, None) => {}
        }
    }
}

impl Queue {
    fn add(&mut self, number: u64, waiter: Waiter) {
        self.order.insert((waiter.line, number));
        self.waiters.insert(number, waiter);
    }

    fn take(&mut self, number: u64) -> Option<Waiter> {
        let waiter = self.waiters.remove(&number)?;
        self.order.remove(&(waiter.line, number));
        Some(waiter)
    }

    /// Who has waited for longest, of those that may take room on this destination and came after `passed`.
    fn first(&self, slot: usize, passed: Option<u64>) -> Option<u64> {
        let from = passed.map_or(0, |passed| passed.saturating_add(1));
        let first = |line: Line| self.order.range((line, from)..=(line, u64::MAX)).next();
        [None, Some(slot)].into_iter().filter_map(first).map(|(_, number)| *number).min()
    }
}

impl Inner {
    /// There may be room on the destination in this slot that there was not before.
    pub(super) fn has_room(&mut self, slot: usize) {
        if self.waiting > 0 {
            self.room = match self.room {
                Room::Nowhere => Room::On(slot),
                Room::On(other) if other == slot => Room::On(slot),
                Room::On(_) | Room::Anywhere => Room::Anywhere,
            };
        }
    }

    /// Clients may choose otherwise than before.
    pub(super) fn choices_changed(&mut self) {
        if self.waiting > 0 {
            self.room = Room::Anywhere;
        }
    }

    /// A client is about to pick. It is a part of the load, which may make room: first of all for those that wait already.
    pub(super) fn arrives(&mut self) {
        self.waiting += 1;
        self.load_changed();
        self.serve_waiting();
    }

    /// It has picked this, and does not wait.
    pub(super) fn has_arrived(&mut self, rotation: &Rotation, picked: Picked, now: Instant) -> Pick {
        self.waiting -= 1;
        let picked = self.picked(rotation, picked, now);
        self.load_changed();
        picked
    }

    fn serve_waiting(&mut self) {
        match std::mem::take(&mut self.room) {
            Room::Nowhere => {}
            Room::On(slot) => self.give_room(slot),
            Room::Anywhere => self.review_queues(),
        }
        // What has changed in picking, such as the first single destination, was seen by the picks.
        self.room = Room::Nowhere;
    }

    /// Gives room on a destination to those who have waited for longest.
    fn give_room(&mut self, slot: usize) {
        let mut passed: HashMap<RotationId, u64> = HashMap::new();
        for _ in 0..MOST_LOOKS {
            if self.destinations.get(slot).is_none_or(|it| it.is_full()) {
                return;
            }
            let first = |(id, it): (usize, &RotationState)| {
                let id = RotationId(id);
                Some((it.queue.first(slot, passed.get(&id).copied())?, id))
            };
            let Some((number, id)) = self.rotations.iter().filter_map(first).min_by_key(|(number, _)| *number) else {
                return;
            };
            if let Some(had_tried) = self.serve_waiter(id, number) {
                // None behind one that may take any of them, and cannot, has a better choice.
                let bound = self.rotation(id).tiers.binds();
                passed.insert(id, if had_tried || bound { number } else { u64::MAX });
            }
        }
    }

    /// A client that has waited does not any more, and has no connection.
    fn no_longer_waits(&mut self) {
        self.waiting -= 1;
        self.load_changed();
    }

    /// Has all clients that wait pick again, in their turn.
    fn review_queues(&mut self) {
        let numbers = |(id, it): (usize, &RotationState)| -> Vec<(u64, RotationId)> {
            it.queue.waiters.keys().map(|number| (*number, RotationId(id))).collect()
        };
        let mut all: Vec<_> = self.rotations.iter().flat_map(numbers).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        let mut full: Vec<RotationId> = Vec::new();
        for (number, id) in all {
            if !full.contains(&id)
                && let Some(false) = self.serve_waiter(id, number)
                && !self.rotation(id).tiers.binds()
            {
                // Nor is there room for those behind it.
                full.push(id);
            }
        }
    }

    /// Has a client that waits pick again, and wakes it if it need not wait any longer. `None` then; otherwise whether it has
    /// tried destinations in vain.
    fn serve_waiter(&mut self, rotation: RotationId, number: u64) -> Option<bool> {
        let mut waiter = self.rotation_mut(rotation).queue.take(number)?;
        match self.pick(rotation, waiter.client, &mut waiter.tried, clock::now()) {
            Picked::Full(line) => {
                let had_tried = waiter.tried.count() > 0;
                self.rotation_mut(rotation).queue.add(number, Waiter { line, ..waiter });
                return Some(had_tried);
            }
            Picked::Slot(slot) => {
                // Which leaves the load as it is.
                self.waiting -= 1;
                self.take(rotation, slot);
                let id = self.destinations[slot].id;
                self.rotation_mut(rotation).queue.kept.insert(number, id);
            }
            // It finds out by itself.
            Picked::Wait | Picked::Nothing => self.no_longer_waits(),
        }
        (waiter.wake)();
        None
    }

    /// Whether a client that was given room on a destination may still be served there.
    fn may_serve(&self, rotation: RotationId, slot: usize) -> bool {
        let is_open = self.destinations[slot].open_verdict().is_some();
        let is_single = match self.single(rotation) {
            Some(single) if single.watched => !single.waits() && self.current_single(rotation) == Some(slot),
            _ => true,
        };
        is_open && is_single
    }
}
