//! How one service chooses from the destinations of a pool. Several services may use the same pool: they share weights,
//! health and counts, and nothing of what a policy remembers.

use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Instant;

use super::destination::{Destination, DestinationStatus};
use super::health::ShutdownSessions;
use super::inner::{Inner, Picked};
use super::label::ServiceLabel;
use super::queue::Queue;
use super::single::SingleDestination;
use super::tiers::{Rank, Tiers};
use super::{Lease, PolicyKind, Pool, Tried};

/// How a rotation chooses.
#[derive(Debug, Clone, Copy)]
pub struct Balancing {
    /// Which of the candidates is picked.
    pub policy: PolicyKind,
    /// Only those of the top weight are candidates.
    pub top: bool,
    /// When sessions on a single destination that moves are closed.
    pub shutdown_sessions: ShutdownSessions,
}

/// Tells a rotation from the others of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RotationId(pub(super) usize);

/// The outcome of [`Rotation::pick`].
pub enum Pick {
    /// This destination.
    Leased(Lease),
    /// None now: those that the client may have are full. It may wait, by [`Rotation::queue`].
    Full,
    /// None now: the single destination is being moved, or nothing has been checked yet. [`Event::Settled`](super::Event::Settled) says when to pick again.
    Wait,
    /// Nothing is left to try.
    Nothing,
}

impl Pick {
    /// The lease, where there is one.
    pub fn leased(self) -> Option<Lease> {
        match self {
            Pick::Leased(lease) => Some(lease),
            Pick::Full | Pick::Wait | Pick::Nothing => None,
        }
    }
}

/// A pool, as one service chooses from it. Cheap to clone: all clones are the same rotation, which ends with the last.
#[derive(Clone)]
pub struct Rotation(Arc<Member>);

/// A rotation's place in its pool.
struct Member {
    pool: Pool,
    id: RotationId,
}

impl Drop for Member {
    fn drop(&mut self) {
        let mut inner = self.pool.0.lock();
        inner.rotations.remove(self.id.0);
        // The next one may have its place.
        inner.rotations.iter_mut().for_each(|(_, it)| {
            it.avoids.take_if(|avoided| *avoided == self.id);
        });
    }
}

impl Deref for Rotation {
    type Target = Pool;

    fn deref(&self) -> &Pool {
        &self.0.pool
    }
}

/// What a pool keeps for a rotation.
pub(super) struct RotationState {
    pub balancing: Balancing,
    /// Where each destination stands, and what picks from them.
    pub tiers: Tiers,
    /// The single destination, where the policy keeps to one.
    pub single: Option<Box<SingleDestination>>,
    /// Whose single destination is left alone while there is another.
    pub avoids: Option<RotationId>,
    /// Its clients that wait for room.
    pub queue: Queue,
    /// What log lines call its service.
    pub label: ServiceLabel,
}

impl RotationState {
    /// A connection that was picked here begins on a destination, or ends.
    pub(super) fn count(&mut self, slot: usize, change: impl FnOnce(usize) -> usize) {
        if let Some(single) = &mut self.single {
            single.sessions.insert(slot, change(single.sessions.get(slot).unwrap_or_default()));
        }
    }

    /// Whether clients wait for its single destination to be moved.
    pub(super) fn is_being_moved(&self) -> bool {
        self.single.as_ref().is_some_and(|single| single.waits())
    }

    /// A destination is gone.
    pub(super) fn forget(&mut self, destination: &Destination) {
        self.tiers.forget(destination.id);
        if let Some(single) = &mut self.single {
            single.sessions.remove(destination.id.slot());
            single.elsewhere.remove(destination.id.slot());
        }
    }
}

impl Pool {
    /// One more rotation over the destinations.
    pub fn rotation(&self, balancing: Balancing) -> Rotation {
        let mut inner = self.lock();
        let mut tiers = Tiers::new(balancing.policy, balancing.top);
        inner.destinations.iter().for_each(|(_, destination)| tiers.join(destination));
        let single = SingleDestination::new(&balancing, inner.settings.watched);
        let id = RotationId(inner.rotations.insert(RotationState {
            balancing,
            tiers,
            single,
            avoids: None,
            queue: Queue::default(),
            label: ServiceLabel::default(),
        }));
        Rotation(Arc::new(Member { pool: self.clone(), id }))
    }
}

impl Rotation {
    /// Tells it from the others of the pool.
    pub fn id(&self) -> RotationId {
        self.0.id
    }

    /// Whether both are the same rotation of the same pool.
    pub fn is(&self, other: &Rotation) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// What it chooses from.
    pub fn pool(&self) -> &Pool {
        &self.0.pool
    }

    /// Picks a destination for a client, one that is not in `tried`, and counts a connection on it. Those whose last
    /// connect failed come only when there are no others, and those that are SPARE after all that are READY.
    pub fn pick(&self, client: IpAddr, tried: &mut Tried, now: Instant) -> Pick {
        let mut inner = self.0.pool.lock();
        let limits_follow_the_load = inner.settings.ramp.is_some();
        if limits_follow_the_load {
            inner.arrives();
        }
        let picked = inner.pick(self.id(), client, tried, now);
        if limits_follow_the_load { inner.has_arrived(self, picked, now) } else { inner.picked(self, picked, now) }
    }

    /// Every destination, in the order in which they were added.
    pub fn snapshot(&self) -> Vec<DestinationStatus> {
        let inner = self.0.pool.lock();
        let destinations = inner.in_order();
        let share = inner.rotation(self.id()).balancing.policy.deals_in_shares();
        let share = share.then(|| inner.weights_in_play(self.id(), &destinations));
        let single = inner.current_single(self.id());
        let mut upper_end = 0.0;
        let status = |(index, it): (usize, &&Destination)| DestinationStatus {
            is_single: single == Some(it.id.slot()),
            map: share.as_ref().map(|weights| {
                upper_end += weights[index];
                upper_end
            }),
            ..it.status()
        };
        destinations.iter().enumerate().map(status).collect()
    }
}

impl Inner {
    /// Counts a connection on what was picked.
    pub(super) fn picked(&mut self, rotation: &Rotation, picked: Picked, now: Instant) -> Pick {
        match picked {
            Picked::Slot(slot) => {
                self.take(rotation.id(), slot);
                Pick::Leased(self.lease(rotation, slot, now))
            }
            Picked::Full(_) => Pick::Full,
            Picked::Wait => Pick::Wait,
            Picked::Nothing => Pick::Nothing,
        }
    }

    /// A claim on a destination, on which a connection has been counted.
    pub(super) fn lease(&self, rotation: &Rotation, slot: usize, now: Instant) -> Lease {
        let destination = &self.destinations[slot];
        Lease {
            rotation: rotation.clone(),
            id: destination.id,
            address: destination.address,
            doubtful: destination.refusals.is_some(),
            outdated: self.is_outdated(destination, now),
            retries: self.retries(rotation.id()),
        }
    }

    /// What is kept for a rotation, which is here for as long as a handle to it.
    pub(super) fn rotation(&self, id: RotationId) -> &RotationState {
        &self.rotations[id.0]
    }

    pub(super) fn rotation_mut(&mut self, id: RotationId) -> &mut RotationState {
        &mut self.rotations[id.0]
    }

    /// Those whose policy keeps to one destination.
    pub(super) fn singles(&self) -> Vec<RotationId> {
        let has_single = |(id, it): (usize, &RotationState)| it.single.as_ref().map(|_| RotationId(id));
        self.rotations.iter().filter_map(has_single).collect()
    }

    /// The single destination of a rotation whose policy keeps to one.
    pub(super) fn single(&self, id: RotationId) -> Option<&SingleDestination> {
        self.rotation(id).single.as_deref()
    }

    pub(super) fn single_mut(&mut self, id: RotationId) -> Option<&mut SingleDestination> {
        self.rotation_mut(id).single.as_deref_mut()
    }

    /// Each destination's part of 1.
    pub(super) fn weights_in_play(&self, id: RotationId, destinations: &[&Destination]) -> Vec<f64> {
        let best = destinations.iter().filter_map(|it| Rank::of(it)).min();
        let comes_first = |it: &&&Destination| Rank::of(it).is_some_and(|rank| Some(rank) == best);
        let top = destinations.iter().filter(comes_first).map(|it| it.weight).fold(0.0, f64::max);
        let only_top = self.rotation(id).balancing.top;
        let in_play = |it: &&Destination| match it {
            it if !comes_first(&it) || (only_top && it.weight < top) => 0.0,
            it => it.weight_in_force(),
        };
        let total: f64 = destinations.iter().map(in_play).sum();
        destinations.iter().map(|it| if total > 0.0 { in_play(it) / total } else { 0.0 }).collect()
    }
}
