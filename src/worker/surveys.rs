//! Questions about a worker's connections, which it answers a few connections at a time, between its turns.

use std::collections::VecDeque;
use std::time::Instant;

use slab::Slab;

use super::connection::Connection;
use crate::sessions::SurveyPart;

/// Connections that are looked at in one turn: they take some 0.2 ms.
const A_TURN: usize = 256;

/// Those that have not been answered yet.
#[derive(Default)]
pub(super) struct Surveys(VecDeque<(SurveyPart, usize)>);

impl Surveys {
    pub(super) fn add(&mut self, survey: SurveyPart) {
        self.0.push_back((survey, 0));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Goes on with the first of them. Connections that come meanwhile to a place that was looked at are left out.
    pub(super) fn go_on(&mut self, connections: &Slab<Connection>, worker: usize, now: Instant) {
        let Some((survey, next)) = self.0.front_mut() else { return };
        let slots = *next..next.saturating_add(A_TURN).min(connections.capacity());
        survey.add(slots.clone().filter_map(|slot| connections.get(slot)).map(|it| it.describe(worker, now)));
        *next = slots.end;
        if slots.end >= connections.capacity() {
            self.0.pop_front();
        }
    }
}
