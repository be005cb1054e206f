//! How many connections a destination may have: as many as the settings say, or its agent, and fewer while the pool has
//! few connections, where the settings have the limit follow the load.

use super::agent::AgentState;
use super::inner::Inner;
use crate::config::Ramp;

impl Inner {
    /// The limit of a destination whose agent has said this.
    pub(super) fn limit_by(&self, agent: &AgentState) -> Option<usize> {
        let most = match agent.max_connections {
            None => self.settings.max_connections?,
            Some(0) => return None,
            Some(most) => most as usize,
        };
        Some(self.settings.ramp.map_or(most, |ramp| limit_at(ramp, most, self.load())))
    }

    /// What HAProxy calls the connections of a backend: clients that wait are some of them.
    fn load(&self) -> usize {
        self.destinations.iter().map(|(_, it)| it.all_connections()).sum::<usize>() + self.waiting
    }

    /// The number of connections, or of clients that wait, is another.
    pub(super) fn load_changed(&mut self) {
        if self.settings.ramp.is_some() {
            self.review_limits();
        }
    }

    /// Has each destination limited as the settings, its agent and the load say.
    pub(super) fn review_limits(&mut self) {
        let limits = self.destinations.iter().map(|(slot, it)| (slot, it.limit, self.limit_by(&it.health.agent)));
        let changed: Vec<_> = limits.filter(|(_, before, now)| before != now).collect();
        for (slot, _, limit) in changed {
            let destination = &mut self.destinations[slot];
            let was_full = destination.is_full();
            if was_full == limit.is_some_and(|limit| destination.all_connections() >= limit) {
                // Its place among the others stays as it is.
                destination.limit = limit;
                continue;
            }
            self.rejoin(slot, |it| it.limit = limit);
            if was_full {
                // There may be room for many.
                self.choices_changed();
            }
        }
    }
}

/// The limit of a destination that may have `most` connections, while the pool has so many, as HAProxy computes it
/// (`srv_dynamic_maxconn` in its src/queue.c); but never more than `most`, which an agent may have set below `least`.
fn limit_at(ramp: Ramp, most: usize, load: usize) -> usize {
    let grown = if load < ramp.full { load.saturating_mul(most) / ramp.full } else { most };
    grown.max(ramp.least).min(most)
}
