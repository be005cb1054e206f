//! Destinations that take clients only while no other one is as fit.

use std::collections::HashMap;

use log::info;

use super::health::Verdict;
use super::inner::Inner;
use super::{Event, Pool};
use crate::address::Endpoint;
use crate::counted::Counted;

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
    /// Closes the connections to backups, once a destination that comes before them takes clients again.
    pub(super) fn close_backups(&self, slot: usize) {
        let ready = &self.destinations[slot];
        if ready.open_verdict() != Some(Verdict::Ready) {
            return;
        }
        for (_, backup) in self.destinations.iter().filter(|(_, it)| it.backup > ready.backup) {
            let connections = backup.all_connections();
            if connections > 0 {
                let (address, sessions) = (backup.address, Counted(connections, "session"));
                let (pool, it, ready) = (self.label.pool(), self.label.of(address), self.label.of(ready.address));
                info!(
                    destination:% = address, pool;
                    "backup {it}: {sessions} closed, since destination {ready} is READY again"
                );
                self.tell(Event::Closed(backup.id, address, None));
            }
        }
    }

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
