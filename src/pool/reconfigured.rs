//! Pools and rotations whose settings change while they are used.

use super::health::Health;
use super::inner::Inner;
use super::single::SingleDestination;
use super::tiers::Tiers;
use super::{Balancing, Pool, PoolSettings, Rotation, RotationId};

impl Pool {
    /// Has other settings from now on. Where a watchdog comes, destinations stay as they are until it has judged them;
    /// where it goes, all count as fit.
    pub fn configure(&self, settings: PoolSettings) {
        let mut inner = self.lock();
        let before = std::mem::replace(&mut inner.settings, settings);
        let was_watched = before.watched;
        if was_watched && !settings.watched {
            // What the agents have said counts no longer.
            inner.forget_health();
        }
        inner.review_limits();
        if was_watched == settings.watched {
            return;
        }
        if was_watched {
            inner.checks_note = None;
            inner.answer_awaited();
            inner.end_first_wait();
        }
        let rotations: Vec<_> = inner.rotations.iter().map(|(id, it)| (RotationId(id), it.balancing)).collect();
        rotations.into_iter().for_each(|(id, balancing)| inner.rebalance(id, balancing));
    }
}

impl Rotation {
    /// Chooses otherwise from now on. Connections stay, also as sessions of a single destination, which stays where it is if
    /// there still is one.
    pub fn rebalance(&self, balancing: Balancing) {
        self.pool().lock().rebalance(self.id(), balancing);
    }
}

impl Inner {
    /// Has all destinations count as fit.
    fn forget_health(&mut self) {
        let slots: Vec<usize> = self.destinations.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| self.rejoin(slot, |it| it.health = Health::at_first(false)));
    }

    fn rebalance(&mut self, id: RotationId, balancing: Balancing) {
        let kept = self.current_single(id).zip(self.single_since(id));
        let chosen = self.rotation(id).tiers.choice().and_then(|chosen| self.find(chosen));
        let weight = chosen.map(|slot| self.rotation(id).tiers.outweighs(&self.destinations[slot]));
        let mut tiers = Tiers::new(balancing.policy, balancing.top);
        self.destinations.iter().for_each(|(_, destination)| tiers.join(destination));
        let new = SingleDestination::new(&balancing, self.settings.watched);
        let state = self.rotation_mut(id);
        (state.tiers, state.balancing) = (tiers, balancing);
        state.single = match (state.single.take(), new) {
            (Some(old), Some(new)) => {
                Some(Box::new(SingleDestination { watched: new.watched, closes: new.closes, current: None, ..*old }))
            }
            (Some(mut old), None) => {
                let moves = old.switchover.iter_mut();
                moves.for_each(|it| it.answer(Err("cancelled: nothing is single any more".to_owned())));
                None
            }
            (None, new) => new,
        };
        if let Some((slot, weight)) = chosen.zip(weight) {
            self.choose(id, slot, weight);
        }
        if let Some((slot, since)) = kept {
            self.keep_to_single(id, self.destinations[slot].id, since);
        }
        self.review_singles();
        // Who waited for a move picks again.
        self.settled();
    }
}
