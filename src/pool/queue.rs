//! Clients that wait for room on a destination, where connections of a destination are limited: who comes first is served
//! first.
//!
//! Room that a connection leaves behind goes to the client that has waited for longest, of all services that use the pool,
//! under the same lock: no newcomer can take it. When a client came decides, wherever and how often it has queued: it keeps
//! its place while the single destination is moved, and has it in another pool. A client of the policies *source* and
//! *single* waits for its own destination, any other for whichever has room first.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::ops::Bound::{Excluded, Unbounded};
use std::ops::{Deref, DerefMut};
use std::time::Instant;

use parking_lot::MutexGuard;

use super::inner::{Inner, Picked};
use super::rotation::{Pick, RotationState};
use super::tried::Tried;
use super::{DestinationId, Event, Lease, PolicyKind, Rotation, RotationId, clock};

/// Most clients that are looked at for the room that one connection leaves behind. Only those that have tried destinations
/// in vain can stand before one that takes it.
const MOST_LOOKS: usize = 64;

/// Wakes the one who holds a [`Ticket`]. Called with the pool locked: it must not call the pool.
pub type Wake = Box<dyn Fn() + Send>;

/// What a client waits for: room on the destination in this slot, or on any.
pub(super) type Line = Option<usize>;

/// Where a client stands in a queue: when it came, and a number for those that came together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Place {
    came: Instant,
    number: u64,
}

/// A client's place in the queue. It leaves the queue when this is dropped.
pub struct Ticket {
    rotation: Rotation,
    place: Place,
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
    waiters: HashMap<Place, Waiter>,
    /// The same, by what they wait for, in their order.
    order: BTreeMap<Line, BTreeSet<Place>>,
    /// Room that has been kept for clients that have not heard of it yet.
    kept: HashMap<Place, DestinationId>,
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
    /// Has a client wait that `came` then and has found [`Pick::Full`], or [`Pick::Wait`] after that: `wake` is called when it
    /// is to [`claim`](Ticket::claim) what has become of it.
    ///
    /// # Errors
    /// What it has picked after all; [`Pick::Full`] or [`Pick::Wait`] when as many wait as may.
    pub fn queue(
        &self,
        client: IpAddr,
        came: Instant,
        tried: &mut Tried,
        now: Instant,
        wake: Wake,
    ) -> Result<Ticket, Pick> {
        let mut inner = self.pool().lock();
        inner.arrives();
        let has_place = inner.settings.max_queue.is_none_or(|most| inner.waiting <= most);
        let line = loop {
            match inner.pick(self.id(), client, tried, now) {
                Picked::Full(line) if has_place => break line,
                // For which one is known when it is settled.
                Picked::Wait if has_place => break None,
                // Another one that has room is better than none.
                Picked::Full(Some(own)) if inner.single(self.id()).is_none() => tried.add(inner.destinations[own].id),
                picked => return Err(inner.has_arrived(self, picked, now)),
            }
        };
        let place = Place { came, number: inner.next_ticket };
        inner.next_ticket += 1;
        let waiter = Waiter { line, client, tried: tried.clone(), wake };
        inner.rotation_mut(self.id()).queue.add(place, waiter);
        Ok(Ticket { rotation: self.clone(), place })
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
        if queue.waiters.contains_key(&self.place) {
            return Turn::Wait;
        }
        let Some(id) = queue.kept.remove(&self.place) else { return Turn::PickAgain };
        match inner.find(id).filter(|slot| inner.may_serve(self.rotation.id(), *slot)) {
            Some(slot) => Turn::Leased(inner.lease(&self.rotation, slot, now)),
            None => {
                inner.release(self.rotation.id(), id);
                Turn::PickAgain
            }
        }
    }

    /// Whether no client can be served before the single destination has been moved, or first verdicts are known.
    pub fn awaits_settling(&self) -> bool {
        let inner = self.rotation.pool().lock();
        inner.awaits_first_verdicts || inner.rotation(self.rotation.id()).is_being_moved()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let mut inner = self.rotation.pool().lock();
        let queue = &mut inner.rotation_mut(self.rotation.id()).queue;
        match (queue.take(self.place), queue.kept.remove(&self.place)) {
            (Some(_), _) => inner.no_longer_waits(),
            (None, Some(id)) => inner.release(self.rotation.id(), id),
            (None, None) => {}
        }
    }
}

impl Queue {
    fn add(&mut self, place: Place, waiter: Waiter) {
        self.order.entry(waiter.line).or_default().insert(place);
        self.waiters.insert(place, waiter);
    }

    fn take(&mut self, place: Place) -> Option<Waiter> {
        let waiter = self.waiters.remove(&place)?;
        if let Some(places) = self.order.get_mut(&waiter.line) {
            places.remove(&place);
            if places.is_empty() {
                self.order.remove(&waiter.line);
            }
        }
        Some(waiter)
    }

    /// Who has waited for longest, of those that may take room on this destination and stand behind `passed`.
    fn first(&self, slot: usize, passed: Option<Place>) -> Option<Place> {
        let from = passed.map_or(Unbounded, Excluded);
        let first = |line: Line| self.order.get(&line)?.range((from, Unbounded)).next();
        [None, Some(slot)].into_iter().filter_map(first).min().copied()
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

    /// Clients that wait for the single destination, or for first verdicts, pick again: first those that have queued.
    pub(super) fn settled(&mut self) {
        self.choices_changed();
        self.tell(Event::Settled);
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
        // Up to which place each has been looked at; `None`: the others need not be.
        let mut passed: HashMap<RotationId, Option<Place>> = HashMap::new();
        for _ in 0..MOST_LOOKS {
            if self.destinations.get(slot).is_none_or(|it| it.is_full()) {
                return;
            }
            let first = |(id, it): (usize, &RotationState)| {
                let id = RotationId(id);
                let passed = match passed.get(&id) {
                    None => None,
                    Some(passed) => Some((*passed)?),
                };
                // Once it is moved, all of them pick again.
                let place = if it.is_being_moved() { None } else { it.queue.first(slot, passed) };
                Some((place?, id))
            };
            let Some((place, id)) = self.rotations.iter().filter_map(first).min_by_key(|(place, _)| *place) else {
                return;
            };
            if let Some(had_tried) = self.serve_waiter(id, place) {
                // None behind one that may take any of them, and cannot, has a better choice.
                let bound = self.rotation(id).tiers.binds();
                passed.insert(id, (had_tried || bound).then_some(place));
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
        let places = |(id, it): (usize, &RotationState)| -> Vec<(Place, RotationId)> {
            it.queue.waiters.keys().map(|place| (*place, RotationId(id))).collect()
        };
        let mut all: Vec<_> = self.rotations.iter().flat_map(places).collect();
        all.sort_unstable_by_key(|(place, _)| *place);
        let mut full: Vec<RotationId> = Vec::new();
        for (place, id) in all {
            if !full.contains(&id)
                && let Some(false) = self.serve_waiter(id, place)
                && !self.rotation(id).tiers.binds()
            {
                // Nor is there room for those behind it.
                full.push(id);
            }
        }
    }

    /// Has a client that waits pick again, and wakes it if it need not wait any longer. `None` then; otherwise whether it has
    /// tried destinations in vain.
    fn serve_waiter(&mut self, rotation: RotationId, place: Place) -> Option<bool> {
        let mut waiter = self.rotation_mut(rotation).queue.take(place)?;
        match self.pick(rotation, waiter.client, &mut waiter.tried, clock::now()) {
            Picked::Full(line) => {
                let had_tried = waiter.tried.count() > 0;
                self.rotation_mut(rotation).queue.add(place, Waiter { line, ..waiter });
                return Some(had_tried);
            }
            Picked::Wait => {
                // All pick again when it is settled, in their order.
                self.rotation_mut(rotation).queue.add(place, waiter);
                return Some(false);
            }
            Picked::Slot(slot) => {
                // Which leaves the load as it is.
                self.waiting -= 1;
                self.take(rotation, slot);
                let id = self.destinations[slot].id;
                self.rotation_mut(rotation).queue.kept.insert(place, id);
            }
            // It finds out by itself.
            Picked::Nothing => self.no_longer_waits(),
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
