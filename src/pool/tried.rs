//! What a client has tried already.

use std::collections::HashMap;

use super::DestinationId;

/// The destinations that a client has tried in vain.
#[derive(Debug, Clone, Default)]
pub struct Tried {
    /// By slot, so that looking for one takes no longer when there are many.
    ids: HashMap<usize, DestinationId>,
    /// The pool that was last picked from, and how many of its destinations had been removed by then.
    pool: (u32, u64),
    /// A slot that counts as tried for one pick only.
    apart: Option<usize>,
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

    /// Whether none counts as tried.
    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty() && self.apart.is_none()
    }

    /// Whether the destination in this slot was tried.
    pub(super) fn has(&self, slot: usize) -> bool {
        self.ids.contains_key(&slot) || self.apart == Some(slot)
    }

    /// Does something as if the destination in this slot had been tried as well.
    pub(super) fn apart_from<T>(&mut self, slot: usize, pick: impl FnOnce(&Tried) -> T) -> T {
        self.apart = Some(slot);
        let result = pick(self);
        self.apart = None;
        result
    }

    /// Forgets those that are gone, or in another pool, whose slots are others' now. `pool` is the number of the pool that
    /// is picked from, and how many of its destinations have gone ever.
    pub(super) fn forget_absent(&mut self, pool: (u32, u64), is_there: impl Fn(DestinationId) -> bool) {
        if std::mem::replace(&mut self.pool, pool) != pool {
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
