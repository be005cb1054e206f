//! Destinations that take clients only while no other one is as fit.

use std::collections::HashMap;

use super::Pool;
use super::inner::Inner;
use crate::address::Endpoint;

impl Pool {
    /// From now on, what is wanted as nothing but some of these is a backup, whether it is there already or comes later: of the
    /// lowest of their numbers. Those of a number take clients only while none of a lower one, or of none, is as fit.
    pub fn set_backups(&self, backups: HashMap<Endpoint, u8>) {
        let mut inner = self.lock();
        inner.backups = backups;
        let slots: Vec<usize> = inner.destinations.iter().map(|(slot, _)| slot).collect();
        slots.into_iter().for_each(|slot| inner.review_backup(slot));
    }
}

impl Inner {
    /// Looks again whether a destination is a backup, after it has come to be wanted otherwise.
    pub(super) fn review_backup(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        let number = |endpoint| self.backups.get(endpoint).copied().unwrap_or_default();
        let backup = destination.wanted_as.iter().map(number).min().unwrap_or_default();
        if backup != destination.backup {
            self.change(slot, |it| it.backup = backup);
        }
    }
}
