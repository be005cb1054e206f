//! Destinations that take clients only while no other one is as fit.

use std::collections::HashSet;

use super::Pool;
use super::inner::Inner;
use crate::address::Endpoint;

impl Pool {
    /// From now on, what is wanted as nothing but one of these is a backup, whether it is there already or comes later.
    pub fn set_backups(&self, backups: HashSet<Endpoint>) {
        let mut inner = self.0.lock();
        inner.backups = backups;
        let slots: Vec<usize> = inner.destinations.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| inner.review_backup(slot));
    }
}

impl Inner {
    /// Looks again whether a destination is a backup, after it has come to be wanted otherwise.
    pub(super) fn review_backup(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        let backup = destination.wanted_as.iter().all(|endpoint| self.backups.contains(endpoint));
        if backup != destination.backup {
            self.change(slot, |it| it.backup = backup);
        }
    }
}
