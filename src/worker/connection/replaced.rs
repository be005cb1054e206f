//! A connection whose service was replaced by another one.

use std::sync::Arc;

use super::connecting::Phase;
use super::{Connection, Next, Stage};
use crate::worker::Kit;

impl Connection {
    /// Goes over to the service that has replaced this connection's, if one has.
    pub(in crate::worker) fn follow_replacement(&mut self, kit: &mut Kit) -> Next {
        let Some(replacement) = self.service.replacement().map(Arc::clone) else { return Next::Wait };
        let before = std::mem::replace(&mut self.service, replacement);
        match self.stage {
            // It keeps its place in a queue that goes on.
            Stage::Connecting(_) if self.is_in(Phase::Room) && !before.rotation.is(&self.service.rotation) => {
                self.connect(kit)
            }
            // Nothing is under way: what it waits for may never come any more, and the other rotation need not wait.
            Stage::Connecting(_) if self.is_in(Phase::Settling) || self.is_in(Phase::Checking) => self.connect(kit),
            Stage::AwaitingHeader(_) | Stage::Connecting(_) | Stage::TurnedAway(_) => Next::Wait,
            // The acknowledgement is only awaited where the destination is to be reset.
            Stage::Farewell(_) if !self.service.options.reset_on_close => {
                self.stage = Stage::Relaying;
                self.change_timeouts(&before.options, kit);
                self.relay(kit)
            }
            Stage::Relaying | Stage::Farewell(_) => {
                self.change_timeouts(&before.options, kit);
                Next::Wait
            }
        }
    }
}
