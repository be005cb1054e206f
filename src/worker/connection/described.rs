//! A connection as it is shown to people.

use std::time::Instant;

use super::connecting::Phase;
use super::{Connection, Stage};
use crate::pool::Lease;
use crate::sessions::{Session, SessionId};

impl Connection {
    /// How it is now, as one of this worker's.
    pub(in crate::worker) fn describe(&self, worker: usize, now: Instant) -> Session {
        Session {
            // There are no more than a thousand workers.
            id: SessionId { worker: worker as u32, slot: self.key.slot, generation: self.key.generation },
            service: self.service.name.clone(),
            client: self.client_address,
            local: self.server.as_ref().and_then(|server| server.local_address().ok().flatten()),
            destination: self.lease.as_ref().map(Lease::address),
            state: match self.stage {
                Stage::AwaitingHeader(_) => "header",
                Stage::Connecting(_) if self.is_in(Phase::Room) => "queued",
                Stage::Connecting(_) => "connecting",
                Stage::Relaying if self.flows.up.is_done() || self.flows.down.is_done() => "half-closed",
                Stage::Relaying => "connected",
                Stage::Farewell(_) | Stage::TurnedAway(_) => "ending",
            },
            age: now.saturating_duration_since(self.record.begun),
            idle: now.saturating_duration_since(self.record.last),
            bytes_in: self.record.up,
            bytes_out: self.record.down,
        }
    }
}
