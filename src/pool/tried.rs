//! What a client has tried already.

use std::collections::HashMap;

use super::DestinationId;

/// The destinations that a client has tried in vain.
#[derive(Debug, Default)]
pub struct Tried {
    /// By slot, so that looking for one takes no longer when there are many.
    ids: HashMap<usize, DestinationId>,
    /// How many destinations had been removed from the table when it was last picked from.
    removals: u64,
}

impl Tried {
    /// It was tried in vain.
    pub fn add(&mut self, id: DestinationId) {
        self.ids.insert(id.slot(), id);
    }

    /// How many were tried, of those that there still are.
    pub fn count(&self) -> usize {
        self.ids.len()
    }

    /// Whether the destination in this slot was tried.
    pub(super) fn has(&self, slot: usize) -> bool {
        self.ids.contains_key(&slot)
    }

    /// Forgets those that are gone, whose slots may be others' now. `removals` is how many have gone ever.
    pub(super) fn forget_removed(&mut self, removals: u64, is_there: impl Fn(DestinationId) -> bool) {
        if std::mem::replace(&mut self.removals, removals) != removals {
            self.ids.retain(|_, id| is_there(*id));
        }
    }
}

impl FromIterator<DestinationId> for Tried {
    fn from_iter<T: IntoIterator<Item = DestinationId>>(ids: T) -> Self {
        let mut tried = Tried::default();
        ids.into_iter().for_each(|id| tried.add(id));
        tried
    }
}
