//! A number of places, and the workers that wait for one.

#[cfg(all(test, glbd_loom))]
use loom::sync::atomic::{AtomicUsize, Ordering};
#[cfg(not(all(test, glbd_loom)))]
use std::sync::atomic::{AtomicUsize, Ordering};

/// A worker waits for a place.
const AWAITED: usize = 1;
/// One place that is taken.
const PLACE: usize = 2;

/// Counts the places that are taken, and records whether a worker waits for one. One word for both: a client that leaves
/// and a worker that is about to wait cannot miss each other.
pub struct Places(AtomicUsize);

impl Default for Places {
    /// All are free. Not derived: loom's atomic variables have no default.
    fn default() -> Places {
        Places(AtomicUsize::new(0))
    }
}

impl Places {
    /// Takes one of at most `limit` places. If it returns false, [`give`](Places::give) or
    /// [`on_room`](Places::on_room) returns true once there may be room.
    pub fn take_or_await(&self, limit: impl Fn() -> usize) -> bool {
        if self.take(limit()) {
            return true;
        }
        // Acquire: if the limit has changed before this, the next look sees it.
        self.0.fetch_or(AWAITED, Ordering::Acquire);
        // Room that was made before the flag was set has woken no worker.
        self.take(limit())
    }

    /// Returns true if one of at most `limit` places is free. If it returns false, [`give`](Places::give) or
    /// [`on_room`](Places::on_room) returns true once there may be room.
    ///
    /// To take a place for a moment, and to give it back since another one is lacking, would wake those who have found
    /// this one taken meanwhile, and they would do the same to others, without end.
    pub fn has_room_or_await(&self, limit: impl Fn() -> usize) -> bool {
        if self.has_room(limit()) {
            return true;
        }
        let taken = self.0.fetch_or(AWAITED, Ordering::Acquire) / PLACE;
        // The limit may have changed before the flag was set, which has woken no worker.
        taken < limit()
    }

    /// How many are taken.
    pub fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed) / PLACE
    }

    /// Returns true if one of at most `limit` places is free.
    pub fn has_room(&self, limit: usize) -> bool {
        self.taken() < limit
    }

    /// Takes one of at most `limit` places.
    pub fn take(&self, limit: usize) -> bool {
        let next = |places: usize| (places / PLACE < limit).then_some(places + PLACE);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }

    /// Gives a place back. Returns true if the workers must be woken.
    #[must_use]
    pub fn give(&self) -> bool {
        self.0.fetch_sub(PLACE, Ordering::Relaxed) & AWAITED != 0 && self.on_room()
    }

    /// Records that there may be room, after the limit has changed for example. Returns true if the workers must be woken.
    #[must_use]
    pub fn on_room(&self) -> bool {
        // Release, for the limit: a worker that sets the flag after this acquires it.
        self.0.fetch_and(!AWAITED, Ordering::Release) & AWAITED != 0
    }
}
