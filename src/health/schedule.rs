//! Who is due when: at most one moment for each destination.

use std::collections::{BTreeSet, HashMap};
use std::time::Instant;

/// Moments by destination, in their order.
#[derive(Default)]
pub(super) struct Schedule {
    in_order: BTreeSet<(Instant, u64)>,
    of: HashMap<u64, Instant>,
}

impl Schedule {
    /// From now on, this is the destination's moment; `None`: it has none.
    pub(super) fn set(&mut self, id: u64, moment: Option<Instant>) {
        let before = match moment {
            Some(moment) => self.of.insert(id, moment),
            None => self.of.remove(&id),
        };
        if let Some(before) = before {
            self.in_order.remove(&(before, id));
        }
        self.in_order.extend(moment.map(|moment| (moment, id)));
    }

    /// The first moment.
    pub(super) fn first(&self) -> Option<Instant> {
        self.in_order.first().map(|(moment, _)| *moment)
    }

    /// A destination whose moment has come; that moment is over then.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u64> {
        let (_, id) = self.in_order.first().copied().filter(|(moment, _)| *moment <= now)?;
        self.set(id, None);
        Some(id)
    }
}
