//! Moving the single destination by hand.

use std::fmt;
use std::time::{Duration, Instant};

use log::info;

use super::health::Verdict;
use super::inner::Inner;
use super::moves::unfitness;
use super::single::Leadership;
use super::switchover::{Former, SwitchDone, SwitchPhase, Switchover};
use super::{Rotation, RotationId, clock};
use crate::address::{Endpoint, PeerAddress};
use crate::counted::Counted;

/// Why the single destination is not moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SwitchError {
    /// The policy keeps to no single destination.
    NotSingle,
    /// Nothing is at this address.
    NoSuchDestination,
    /// It cannot serve, for this reason.
    Unfit(String),
    /// Its service leaves it alone, for this reason.
    Avoided(String),
    /// Another process decides.
    NotLeading,
}

impl fmt::Display for SwitchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SwitchError::NotSingle => f.write_str("there is no single destination to move: glbd runs without --single"),
            SwitchError::NoSuchDestination => f.write_str("no such destination"),
            SwitchError::Unfit(reason) => write!(f, "it {reason}; only a READY destination can be the single one"),
            SwitchError::Avoided(reason) => write!(f, "it {reason}, which this one avoids"),
            SwitchError::NotLeading => f.write_str("another process has taken over"),
        }
    }
}

impl std::error::Error for SwitchError {}

impl Rotation {
    /// Moves the single destination to the one at `address`: new clients wait, sessions on the former have `grace` to end
    /// and are closed then, and only after that the new one serves. A move that is under way changes its target, and one
    /// back to the former is cancelled. `done` is called when the move has ended, which may be before this returns.
    ///
    /// # Errors
    /// Where there is nothing to move, or the destination cannot serve; nothing has changed then.
    pub fn switch_single(
        &self,
        address: PeerAddress,
        grace: Duration,
        now: Instant,
        done: SwitchDone,
    ) -> Result<(), SwitchError> {
        let mut inner = self.pool().lock();
        let slot = inner.target(self.id(), address)?;
        inner.switch_single(self.id(), slot, now + grace, done);
        inner.advance(self.id(), now);
        Ok(())
    }

    /// Continues a move of the single destination whose [`deadline`](Rotation::deadline) has passed.
    pub fn advance_switchover(&self, now: Instant) {
        self.pool().lock().advance(self.id(), now);
    }

    /// Cancels a move of the single destination, for this reason, while sessions on the former may still end by themselves.
    /// A move whose sessions have been closed already goes on.
    pub fn cancel_switchover(&self, why: &str) {
        let mut inner = self.pool().lock();
        if inner.switch_phase(self.id()) == Some(SwitchPhase::Grace) {
            inner.cancel_switchover(self.id(), why, clock::now());
        }
    }

    /// Ends a move of the single destination, for this reason: its service takes no clients there any more. Sessions that
    /// were to end by themselves stay.
    pub fn abandon_switchover(&self, why: &str) {
        let mut inner = self.pool().lock();
        match inner.switch_phase(self.id()) {
            Some(SwitchPhase::Grace) => inner.cancel_switchover(self.id(), why, clock::now()),
            Some(SwitchPhase::Closing) => inner.finish_switchover(self.id()),
            None => {}
        }
    }

    /// When a move of the single destination goes on, whatever sessions are left; `None` when there is none.
    pub fn deadline(&self) -> Option<Instant> {
        let inner = self.pool().lock();
        let single = inner.single(self.id())?;
        match single.leadership {
            Leadership::Asks(until) => until,
            Leadership::Leads | Leadership::Follows => single.switchover.as_ref().map(|it| it.deadline),
        }
    }

    /// Chooses the first single destination, once all have been checked.
    pub fn elect_single(&self) {
        self.pool().lock().elect(self.id());
    }

    /// The destination that was chosen by hand and has not fallen since.
    pub fn chosen(&self) -> Option<(Endpoint, PeerAddress)> {
        let inner = self.pool().lock();
        inner.single(self.id())?;
        let chosen = &inner.destinations[inner.find(inner.rotation(self.id()).tiers.choice()?)?];
        Some((chosen.wanted_as.first()?.clone(), chosen.address))
    }

    /// Prefers the destination at `address` when the first single one is elected, since a hand chose it in an earlier
    /// life of the daemon. Returns false if there is none, or the policy keeps to no single one.
    pub fn prefer(&self, address: PeerAddress) -> bool {
        let mut inner = self.pool().lock();
        let Some(slot) = inner.at(address).filter(|slot| inner.destinations[*slot].weight > 0.0) else { return false };
        match inner.single(self.id()) {
            None => return false,
            // The first check says whether it can be the one.
            Some(single) if single.watched => {
                let heaviest = inner.heaviest();
                inner.choose(self.id(), slot, heaviest);
            }
            Some(_) => inner.set_single(self.id(), slot, true),
        }
        true
    }
}

impl Inner {
    fn switch_phase(&self, rotation: RotationId) -> Option<SwitchPhase> {
        self.single(rotation)?.switchover.as_ref().map(|it| it.phase)
    }

    fn target(&self, rotation: RotationId, address: PeerAddress) -> Result<usize, SwitchError> {
        let single = self.single(rotation).ok_or(SwitchError::NotSingle)?;
        if single.leadership != Leadership::Leads {
            return Err(SwitchError::NotLeading);
        }
        let slot = self.at(address).ok_or(SwitchError::NoSuchDestination)?;
        let destination = &self.destinations[slot];
        match destination.open_verdict() {
            Some(Verdict::Ready) => match self.why_avoid(rotation, slot) {
                Some(reason) => Err(SwitchError::Avoided(reason)),
                None => Ok(slot),
            },
            _ => Err(SwitchError::Unfit(unfitness(destination))),
        }
    }

    fn switch_single(&mut self, rotation: RotationId, slot: usize, grace_until: Instant, done: SwitchDone) {
        let current = self.current_single(rotation);
        let (id, address) = (self.destinations[slot].id, self.destinations[slot].address);
        let (label, of) = (self.label.clone(), self.rotation(rotation).label.clone());
        let Some(single) = self.single_mut(rotation) else { return };
        let Some(switchover) = &mut single.switchover else {
            return match current.filter(|current| *current != slot) {
                Some(current) => self.begin_switchover(rotation, current, slot, grace_until, done),
                None => {
                    self.set_single(rotation, slot, true);
                    let (pool, it) = (self.label.pool(), self.label.of(address));
                    info!(destination:% = address, pool, service = of.service(); "{of}single destination is {it}, chosen by hand");
                    done(Ok(()));
                    self.review_readers(rotation);
                }
            };
        };
        switchover.answer(Err(format!("cancelled: {address} was chosen by hand")));
        (switchover.to, switchover.done) = (id, Some(done));
        let (back, phase) = (switchover.from.id == id, switchover.phase);
        let (pool, it) = (label.pool(), label.of(address));
        info!(
            destination:% = address, pool, service = of.service();
            "{of}single destination moves to {it} instead, by hand"
        );
        match phase {
            SwitchPhase::Grace if !back => switchover.deadline = grace_until,
            _ => self.set_single(rotation, slot, true),
        }
        if back {
            self.finish_switchover(rotation);
        }
        self.review_readers(rotation);
    }

    fn begin_switchover(&mut self, rotation: RotationId, from: usize, to: usize, deadline: Instant, done: SwitchDone) {
        let (from, to) = (&self.destinations[from], &self.destinations[to]);
        let sessions = self.sessions_of(rotation, from);
        if sessions > 0 {
            let (address, pool, sessions) = (to.address, self.label.pool(), Counted(sessions, "session"));
            let (from, to) = (self.label.of(from.address), self.label.of(to.address));
            let of = &self.rotation(rotation).label;
            info!(
                destination:% = address, pool, service = of.service();
                "{of}single destination moves from {from} to {to} by hand: new clients wait for {sessions} to end"
            );
        }
        let (from, to) = (Former::of(from), to.id);
        if let Some(single) = self.single_mut(rotation) {
            single.switchover = Some(Switchover { from, to, phase: SwitchPhase::Grace, deadline, done: Some(done) });
        }
    }
}
