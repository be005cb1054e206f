//! How the single destination moves: begun by a change of the pool or by a hand, and ended by the last session on the
//! former, or in time.

use std::time::Instant;

use log::{Level, log, warn};

use super::destination::Destination;
use super::health::Verdict;
use super::inner::Inner;
use super::single::{Leadership, SingleDestination};
use super::switchover::{CLOSING, Former, Step, SwitchPhase, Switchover};
use super::tiers::Rank;
use super::{DestinationId, Event, RotationId, clock};
use crate::counted::Counted;

/// Why a move was made that nothing but a hand has brought about.
const BY_HAND: &str = "by hand";

impl Inner {
    /// Looks at the choices again after a change of the pool.
    pub(super) fn review_singles(&mut self) {
        self.singles().into_iter().for_each(|rotation| self.review_single(rotation));
    }

    pub(super) fn review_single(&mut self, rotation: RotationId) {
        let Some(single) = self.single(rotation).filter(|it| it.leadership == Leadership::Leads) else { return };
        match single.switchover.as_ref().map(|it| it.phase) {
            Some(SwitchPhase::Grace) => self.review_grace(rotation, clock::now()),
            Some(SwitchPhase::Closing) => self.review_closing(rotation),
            None if single.watched => self.review_current(rotation, clock::now()),
            None => {}
        }
    }

    fn review_current(&mut self, rotation: RotationId, now: Instant) {
        let Some(current) = self.current_single(rotation) else { return };
        if let Some(best) = self.best_single(rotation).filter(|best| *best != current) {
            let from = &self.destinations[current];
            let (former, sessions) = (Former::of(from), self.sessions_of(rotation, from));
            let why = self.why_move(rotation, current, best);
            self.move_single(rotation, former, sessions, best, &why, now);
        }
    }

    /// Moves the single destination because of a change of the pool.
    fn move_single(&mut self, rotation: RotationId, from: Former, sessions: usize, to: usize, why: &str, now: Instant) {
        self.set_single(rotation, to, false);
        let next = &self.destinations[to];
        let closes = self.single(rotation).is_some_and(|single| single.closes);
        let (sessions, then) = (Counted(sessions, "session"), if closes { "closed" } else { "kept" });
        let (pool, former, now_at) = (self.label.pool(), self.label.of(from.address), self.label.of(next.address));
        let of = &self.rotation(rotation).label;
        warn!(
            destination:% = next.address, pool, service = of.service();
            "{of}single destination moved from {former} to {now_at}: {why}; {sessions} {then}"
        );
        if closes {
            let to = next.id;
            self.tell(Event::Closed(from.id, from.address, Some(rotation)));
            self.begin_closing(rotation, from, to, now);
        } else {
            self.settled();
        }
        self.review_readers(rotation);
    }

    /// Has clients wait until the sessions on the former, which have been closed, are gone.
    fn begin_closing(&mut self, rotation: RotationId, from: Former, to: DestinationId, now: Instant) {
        if let Some(single) = self.single_mut(rotation) {
            let deadline = now + CLOSING;
            single.switchover = Some(Switchover { from, to, phase: SwitchPhase::Closing, deadline, done: None });
        }
        self.advance(rotation, now);
    }

    /// Sessions on the former may still end by themselves.
    fn review_grace(&mut self, rotation: RotationId, now: Instant) {
        let Some((from, to)) = self.switchover_ends(rotation) else { return };
        let slot = self.find(to);
        let target = slot.map(|slot| &self.destinations[slot]);
        let avoided = slot.and_then(|slot| self.why_avoid(rotation, slot));
        match target {
            Some(target) if target.open_verdict() == Some(Verdict::Ready) && avoided.is_none() => {
                let down = self.find(from.id).map(|slot| &self.destinations[slot]);
                let down = down.filter(|it| it.health.verdict == Some(Verdict::Down));
                if let Some(why) = down.map(|it| why_leave(it, target)) {
                    self.close_former(rotation, &why, now);
                }
            }
            Some(target) => {
                let why = format!("{} {}", target.address, avoided.unwrap_or_else(|| unfitness(target)));
                self.cancel_switchover(rotation, &why, now);
            }
            None => self.cancel_switchover(rotation, "its target was removed", now),
        }
    }

    pub(super) fn cancel_switchover(&mut self, rotation: RotationId, why: &str, now: Instant) {
        let Some(mut switchover) = self.single_mut(rotation).and_then(|single| single.switchover.take()) else {
            return;
        };
        let (address, pool) = (switchover.from.address, self.label.pool());
        let (it, of) = (self.label.of(address), &self.rotation(rotation).label);
        warn!(
            destination:% = address, pool, service = of.service();
            "{of}single destination stays {it}: the move by hand is cancelled: {why}"
        );
        switchover.answer(Err(format!("cancelled: {why}")));
        self.settled();
        if self.retries(rotation) {
            self.review_current(rotation, now);
        }
    }

    /// The sessions on the former are closed already; another destination can still be the next.
    fn review_closing(&mut self, rotation: RotationId) {
        let Some((from, to)) = self.switchover_ends(rotation) else { return };
        let watched = self.retries(rotation);
        let fit = self.find(to).is_some_and(|slot| self.destinations[slot].open_verdict().is_some());
        let next = if watched { self.best_single(rotation) } else { None };
        let why = match (self.find(to), next) {
            (slot, Some(next)) if slot == Some(next) => return,
            (_, None) if watched || fit => return,
            (Some(slot), Some(next)) => self.why_move(rotation, slot, next),
            (Some(slot), None) => {
                format!("{} {}", self.destinations[slot].address, unfitness(&self.destinations[slot]))
            }
            (None, _) if to == from.id => format!("{} was removed", from.address),
            (None, _) => "its target was removed".to_owned(),
        };
        let next = next.map(|slot| (slot, self.destinations[slot].id));
        let Some(switchover) = self.single_mut(rotation).and_then(|single| single.switchover.as_mut()) else { return };
        switchover.answer(Err(why.clone()));
        match next {
            Some((slot, next_id)) => {
                switchover.to = next_id;
                self.set_single(rotation, slot, false);
                let (address, pool) = (self.destinations[slot].address, self.label.pool());
                let (it, of) = (self.label.of(address), &self.rotation(rotation).label);
                warn!(
                    destination:% = address, pool, service = of.service();
                    "{of}single destination moved on to {it}: {why}; 0 sessions closed"
                );
                if next_id == from.id {
                    self.finish_switchover(rotation);
                }
                self.review_readers(rotation);
            }
            None => self.finish_switchover(rotation),
        }
    }

    /// A destination was removed, and its sessions closed by that.
    pub(super) fn single_removed(&mut self, rotation: RotationId, removed: &Destination) {
        let Some(single) = self.single_mut(rotation) else { return };
        let now = clock::now();
        let former = Former::removed(removed, single.counts(removed.id.slot()));
        let was_current = single.watched && single.current == Some(removed.id);
        match (&mut single.switchover, single.leadership) {
            (_, Leadership::Follows | Leadership::Asks(_)) => self.lose_single(rotation, removed.id),
            (Some(switchover), Leadership::Leads) => {
                if switchover.from.id == removed.id {
                    switchover.from = former;
                    if switchover.phase == SwitchPhase::Grace {
                        self.close_former(rotation, &format!("{} was removed", removed.address), now);
                        return;
                    }
                }
                if was_current {
                    single.current = None;
                }
                self.review_single(rotation);
            }
            (None, Leadership::Leads) if was_current => {
                single.current = None;
                let sessions = former.left();
                match self.best_single(rotation) {
                    Some(best) => {
                        let why = format!("{} was removed", removed.address);
                        self.move_single(rotation, former, sessions, best, &why, now);
                    }
                    None if sessions > 0 => self.begin_closing(rotation, former, removed.id, now),
                    None => {}
                }
            }
            (None, Leadership::Leads) => {}
        }
    }

    /// Closes the sessions on the former, for a move by hand.
    pub(super) fn close_former(&mut self, rotation: RotationId, why: &str, now: Instant) {
        let Some((from, to)) = self.switchover_ends(rotation) else { return };
        let Some(slot) = self.find(to) else { return };
        let sessions = self.left_on(rotation, from);
        self.set_single(rotation, slot, true);
        if let Some(switchover) = self.single_mut(rotation).and_then(|single| single.switchover.as_mut()) {
            switchover.close(now);
        }
        let to = self.destinations[slot].address;
        let level = if why == BY_HAND { Level::Info } else { Level::Warn };
        let sessions = Counted(sessions, "session");
        let (pool, former, now_at) = (self.label.pool(), self.label.of(from.address), self.label.of(to));
        let of = &self.rotation(rotation).label;
        log!(
            level, destination:% = to, pool, service = of.service();
            "{of}single destination moved from {former} to {now_at}: {why}; {sessions} closed"
        );
        self.tell(Event::Closed(from.id, from.address, Some(rotation)));
        self.advance(rotation, now);
        self.review_readers(rotation);
    }

    /// Goes on with a move as far as the connections that are left, and the time, allow.
    pub(super) fn advance(&mut self, rotation: RotationId, now: Instant) {
        let Some(single) = self.single_mut(rotation) else { return };
        if matches!(single.leadership, Leadership::Asks(Some(until)) if until <= now) {
            single.leadership = Leadership::Follows;
            self.settled();
            return;
        }
        let Some(switchover) = self.single(rotation).and_then(|single| single.switchover.as_ref()) else { return };
        match switchover.step(self.left_on(rotation, switchover.from), now) {
            Step::Wait => {}
            Step::Close => self.close_former(rotation, BY_HAND, now),
            Step::Finish => self.finish_switchover(rotation),
        }
    }

    /// The next destination serves from now on.
    pub(super) fn finish_switchover(&mut self, rotation: RotationId) {
        let Some(mut switchover) = self.single_mut(rotation).and_then(|single| single.switchover.take()) else {
            return;
        };
        let left = self.left_on(rotation, switchover.from);
        if left > 0 && switchover.to != switchover.from.id {
            let (left, address, within) = (Counted(left, "session"), switchover.from.address, CLOSING.as_secs());
            let (pool, former) = (self.label.pool(), self.label.of(address));
            let of = &self.rotation(rotation).label;
            warn!(
                destination:% = address, pool, service = of.service();
                "{of}single destination: {left} on {former} not ended within {within} s; the next one serves"
            );
        }
        switchover.answer(Ok(()));
        self.settled();
    }

    fn switchover_ends(&self, rotation: RotationId) -> Option<(Former, DestinationId)> {
        let switchover = self.single(rotation)?.switchover.as_ref()?;
        Some((switchover.from, switchover.to))
    }

    fn left_on(&self, rotation: RotationId, former: Former) -> usize {
        match self.find(former.id) {
            Some(slot) if former.removed.is_none() => self.sessions_of(rotation, &self.destinations[slot]),
            _ => former.left(),
        }
    }

    /// Why the single destination moves from one slot to another.
    fn why_move(&self, rotation: RotationId, from: usize, to: usize) -> String {
        let (here, next) = (&self.destinations[from], &self.destinations[to]);
        let avoided = self.why_avoid(rotation, from).filter(|_| Rank::of(here) == Rank::of(next));
        avoided.map_or_else(|| why_leave(here, next), |why| format!("{} {why}", here.address))
    }

    /// The connections on a destination that were picked here, and by the same service in other processes.
    pub(super) fn sessions_of(&self, rotation: RotationId, destination: &Destination) -> usize {
        let counts = |single: &SingleDestination| single.counts(destination.id.slot());
        self.single(rotation).map(counts).map_or(0, |(own, elsewhere)| own + elsewhere)
    }

    /// A connection on a destination has ended.
    pub(super) fn release(&mut self, rotation: RotationId, id: DestinationId) {
        if let Some(slot) = self.find(id) {
            self.count(slot, |it| it.connections -= 1);
            self.rotation_mut(rotation).count(slot, |sessions| sessions.saturating_sub(1));
            self.let_go(slot);
        }
        let switchover = self.single_mut(rotation).and_then(|single| single.switchover.as_mut());
        if let Some(switchover) = switchover.filter(|it| it.from.id == id) {
            if let Some(left) = &mut switchover.from.removed {
                left.own = left.own.saturating_sub(1);
            }
            self.advance(rotation, clock::now());
        }
    }
}

/// Why the single destination moves away from `from`.
fn why_leave(from: &Destination, to: &Destination) -> String {
    match from.open_verdict() {
        Some(verdict) if Some(verdict) == to.health.verdict && from.backup > to.backup => {
            format!("{} is {verdict}, and {} a backup", to.address, from.address)
        }
        Some(verdict) if Some(verdict) >= to.health.verdict => format!("{} has more weight", to.address),
        _ => format!("{} {}", from.address, unfitness(from)),
    }
}

/// Why a destination cannot be the single one, or should not be while there is a better one.
pub(super) fn unfitness(destination: &Destination) -> String {
    let Destination { health, weight, obsolete, .. } = destination;
    let colon = if health.reason.is_empty() { "" } else { ": " };
    match health.verdict {
        _ if *weight <= 0.0 => "is drained".to_owned(),
        _ if *obsolete => "is no longer an address of its name".to_owned(),
        Some(verdict) => format!("is {verdict}{colon}{}", health.reason),
        None => "has not been checked".to_owned(),
    }
}
