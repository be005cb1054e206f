//! A connection as it is shown to people.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use super::connecting::Phase;
use super::{Connection, Key, Stage};
use crate::connection_log::{Ended, Style};
use crate::counters::Cause;
use crate::pool::Lease;
use crate::sessions::{Session, SessionId};

impl Connection {
    /// How it is now, as one of this worker's.
    pub(in crate::worker) fn describe(&self, worker: usize, now: Instant) -> Session {
        Session {
            id: self.id(worker),
            service: self.service.name.clone(),
            pool: self.lease.as_ref().and_then(Lease::pool_name),
            client: self.client_address,
            local: self.local(),
            destination: self.lease.as_ref().map(Lease::address),
            state: match self.stage {
                Stage::AwaitingHeader(_) => "header",
                Stage::Connecting(_) if self.is_in(Phase::Room) => "queued",
                Stage::Connecting(_) => "connecting",
                Stage::Relaying if self.flows.up.is_done() || self.flows.down.is_done() => "half-closed",
                Stage::Relaying => "connected",
                Stage::Farewell(_) | Stage::TurnedAway(_) => "ending",
            }
            .into(),
            age: now.saturating_duration_since(self.record.begun),
            idle: now.saturating_duration_since(self.record.last),
            bytes_in: self.record.up,
            bytes_out: self.record.down,
        }
    }
    /// What has become of it, now that it has ended.
    pub(super) fn ended(&self, style: Style, cause: Cause, worker: usize, now: Instant) -> Ended {
        Ended {
            style,
            rate: self.service.options.log_rate,
            at: SystemTime::now(),
            service: self.service.name.clone(),
            id: self.id(worker),
            client: self.client_address,
            local: self.local(),
            destination: self.lease.as_ref().map(Lease::address),
            attempts: self.record.attempts,
            queue: self.record.queue,
            connect: self.record.connect,
            first_byte: self.record.first_byte,
            duration: now.saturating_duration_since(self.record.begun).into(),
            bytes_in: self.record.up,
            bytes_out: self.record.down,
            cause,
        }
    }

    fn id(&self, worker: usize) -> SessionId {
        // There are no more than a thousand workers.
        let Key { slot, generation } = self.key;
        SessionId { process: std::process::id(), worker: worker as u32, slot, generation }
    }

    fn local(&self) -> Option<SocketAddr> {
        self.server.as_ref().and_then(|server| server.local_address().ok().flatten())
    }
}
