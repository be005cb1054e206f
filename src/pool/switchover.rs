//! A move of the single destination under way: nothing serves new clients between the former and the next.

use crate::address::PeerAddress;
use std::time::{Duration, Instant};

use super::DestinationId;
use super::destination::Destination;

/// How long sessions may take to end once they are closed. An old process that hangs must not stop service.
pub(super) const CLOSING: Duration = Duration::from_secs(2);

/// Called when a move by hand has ended, with the reason if the chosen destination does not serve. The table is locked:
/// it must neither call the table nor wait.
pub type SwitchDone = Box<dyn FnOnce(Result<(), String>) + Send>;

/// How far a move has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SwitchPhase {
    /// Sessions on the former may end by themselves. The move can still be cancelled.
    Grace,
    /// They have been closed, and are counted until they are gone.
    Closing,
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Wait,
    Close,
    Finish,
}

/// A move of the single destination under way.
pub(super) struct Switchover {
    pub from: Former,
    pub to: DestinationId,
    pub phase: SwitchPhase,
    /// When the phase ends, whatever connections are left.
    pub deadline: Instant,
    /// What waits for the end of a move by hand.
    pub done: Option<SwitchDone>,
}

/// The destination that served before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Former {
    pub id: DestinationId,
    pub address: PeerAddress,
    /// Its connections, counted here when the table no longer holds it.
    pub removed: Option<Left>,
}

/// Connections of a destination that was removed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Left {
    pub own: usize,
    pub elsewhere: usize,
}

impl Former {
    pub(super) fn of(destination: &Destination) -> Former {
        Former { id: destination.id, address: destination.address, removed: None }
    }

    /// One that was removed while it had so many sessions of this process, and of others.
    pub(super) fn removed(destination: &Destination, (own, elsewhere): (usize, usize)) -> Former {
        let left = Left { own, elsewhere };
        Former { removed: Some(left), ..Former::of(destination) }
    }

    /// How many connections are left of one that was removed.
    pub(super) fn left(&self) -> usize {
        self.removed.map_or(0, |left| left.own + left.elsewhere)
    }
}

impl Switchover {
    /// What to do with so many connections `left` on the former.
    pub(super) fn step(&self, left: usize, now: Instant) -> Step {
        let over = left == 0 || now >= self.deadline;
        match self.phase {
            SwitchPhase::Grace if over => Step::Close,
            SwitchPhase::Closing if over => Step::Finish,
            SwitchPhase::Grace | SwitchPhase::Closing => Step::Wait,
        }
    }

    /// Begins to wait for the end of the sessions that are closed now.
    pub(super) fn close(&mut self, now: Instant) {
        (self.phase, self.deadline) = (SwitchPhase::Closing, now + CLOSING);
    }

    /// Tells what waits for the move how it has ended.
    pub(super) fn answer(&mut self, result: Result<(), String>) {
        if let Some(done) = self.done.take() {
            done(result);
        }
    }
}
