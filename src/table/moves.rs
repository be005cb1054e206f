//! How the single destination moves: begun by a change of the table or by a hand, and ended by the last session on the
//! former, or in time.

use std::time::Instant;

use log::{Level, log, warn};

use super::destination::Destination;
use super::health::Verdict;
use super::inner::Inner;
use super::single::Leadership;
use super::switchover::{CLOSING, Former, Step, SwitchPhase, Switchover};
use super::{DestinationId, Event, clock};
use crate::counted::Counted;

/// Why a move was made that nothing but a hand has brought about.
const BY_HAND: &str = "by hand";

impl Inner {
    /// Looks at the choice again after a change of the table.
    pub(super) fn review_single(&mut self) {
        let Some(single) = self.single.as_ref().filter(|it| it.leadership == Leadership::Leads) else { return };
        match single.switchover.as_ref().map(|it| it.phase) {
            Some(SwitchPhase::Grace) => self.review_grace(clock::now()),
            Some(SwitchPhase::Closing) => self.review_closing(),
            None if single.watched => self.review_current(clock::now()),
            None => {}
        }
    }

    fn review_current(&mut self, now: Instant) {
        let Some(current) = self.current_single() else { return };
        if let Some(best) = self.best_single().filter(|best| *best != current) {
            let from = &self.destinations[current];
            let (former, sessions) = (Former::of(from), from.all_connections());
            let why = why_leave(from, &self.destinations[best]);
            self.move_single(former, sessions, best, &why, now);
        }
    }

    /// Moves the single destination because of a change of the table.
    fn move_single(&mut self, from: Former, sessions: usize, to: usize, why: &str, now: Instant) {
        self.set_single(to, false);
        let next = &self.destinations[to];
        let closes = self.single.as_ref().is_some_and(|single| single.closes);
        let (sessions, then) = (Counted(sessions, "session"), if closes { "closed" } else { "kept" });
        warn!("single destination moved from {} to {}: {why}; {sessions} {then}", from.address, next.address);
        if closes {
            let to = next.id;
            self.tell(Event::Closed(from.id, from.address));
            self.begin_closing(from, to, now);
        } else {
            self.tell(Event::Settled);
        }
    }

    /// Has clients wait until the sessions on the former, which have been closed, are gone.
    fn begin_closing(&mut self, from: Former, to: DestinationId, now: Instant) {
        if let Some(single) = &mut self.single {
            let deadline = now + CLOSING;
            single.switchover = Some(Switchover { from, to, phase: SwitchPhase::Closing, deadline, done: None });
        }
        self.advance(now);
    }

    /// Sessions on the former may still end by themselves.
    fn review_grace(&mut self, now: Instant) {
        let Some((from, to)) = self.switchover_ends() else { return };
        let slot = self.find(to);
        let target = slot.map(|slot| &self.destinations[slot]);
        match target {
            Some(target) if target.open_verdict() == Some(Verdict::Ready) => {
                let down = self.find(from.id).map(|slot| &self.destinations[slot]);
                let down = down.filter(|it| it.health.verdict == Some(Verdict::Down));
                if let Some(why) = down.map(|it| why_leave(it, target)) {
                    self.close_former(&why, now);
                }
            }
            Some(target) => {
                let why = format!("{} {}", target.address, unfitness(target));
                self.cancel_switchover(&why, now);
            }
            None => self.cancel_switchover("its target was removed", now),
        }
    }

    fn cancel_switchover(&mut self, why: &str, now: Instant) {
        let Some(mut switchover) = self.single.as_mut().and_then(|single| single.switchover.take()) else { return };
        warn!("single destination stays {}: the move by hand is cancelled: {why}", switchover.from.address);
        switchover.answer(Err(format!("cancelled: {why}")));
        self.tell(Event::Settled);
        if self.retries() {
            self.review_current(now);
        }
    }

    /// The sessions on the former are closed already; another destination can still be the next.
    fn review_closing(&mut self) {
        let Some((from, to)) = self.switchover_ends() else { return };
        let watched = self.retries();
        let fit = self.find(to).is_some_and(|slot| self.destinations[slot].open_verdict().is_some());
        let next = if watched { self.best_single() } else { None };
        let why = match (self.find(to), next) {
            (slot, Some(next)) if slot == Some(next) => return,
            (_, None) if watched || fit => return,
            (Some(slot), Some(next)) => why_leave(&self.destinations[slot], &self.destinations[next]),
            (Some(slot), None) => {
                format!("{} {}", self.destinations[slot].address, unfitness(&self.destinations[slot]))
            }
            (None, _) if to == from.id => format!("{} was removed", from.address),
            (None, _) => "its target was removed".to_owned(),
        };
        let Some(switchover) = self.single.as_mut().and_then(|single| single.switchover.as_mut()) else { return };
        switchover.answer(Err(why.clone()));
        match next {
            Some(slot) => {
                let id = self.destinations[slot].id;
                switchover.to = id;
                self.set_single(slot, false);
                warn!("single destination moved on to {}: {why}; 0 sessions closed", self.destinations[slot].address);
                if id == from.id {
                    self.finish_switchover();
                }
            }
            None => self.finish_switchover(),
        }
    }

    /// A destination was removed, and its sessions closed by that.
    pub(super) fn single_removed(&mut self, removed: &Destination) {
        let Some(single) = &mut self.single else { return };
        let now = clock::now();
        let was_current = single.watched && single.current == Some(removed.id);
        match (&mut single.switchover, single.leadership) {
            (_, Leadership::Follows | Leadership::Asks(_)) => self.lose_single(removed.id),
            (Some(switchover), Leadership::Leads) => {
                if switchover.from.id == removed.id {
                    switchover.from = Former::removed(removed);
                    if switchover.phase == SwitchPhase::Grace {
                        self.close_former(&format!("{} was removed", removed.address), now);
                        return;
                    }
                }
                if was_current {
                    single.current = None;
                }
                self.review_single();
            }
            (None, Leadership::Leads) if was_current => {
                single.current = None;
                let (former, sessions) = (Former::removed(removed), removed.all_connections());
                match self.best_single() {
                    Some(best) => {
                        let why = format!("{} was removed", removed.address);
                        self.move_single(former, sessions, best, &why, now);
                    }
                    None if sessions > 0 => self.begin_closing(former, removed.id, now),
                    None => {}
                }
            }
            (None, Leadership::Leads) => {}
        }
    }

    /// Closes the sessions on the former, for a move by hand.
    pub(super) fn close_former(&mut self, why: &str, now: Instant) {
        let Some((from, to)) = self.switchover_ends() else { return };
        let Some(slot) = self.find(to) else { return };
        let sessions = self.left_on(from);
        self.set_single(slot, true);
        if let Some(switchover) = self.single.as_mut().and_then(|single| single.switchover.as_mut()) {
            switchover.close(now);
        }
        let to = self.destinations[slot].address;
        let level = if why == BY_HAND { Level::Info } else { Level::Warn };
        let sessions = Counted(sessions, "session");
        log!(level, "single destination moved from {} to {to}: {why}; {sessions} closed", from.address);
        self.tell(Event::Closed(from.id, from.address));
        self.advance(now);
    }

    /// Goes on with a move as far as the connections that are left, and the time, allow.
    pub(super) fn advance(&mut self, now: Instant) {
        let Some(single) = &mut self.single else { return };
        if matches!(single.leadership, Leadership::Asks(Some(until)) if until <= now) {
            single.leadership = Leadership::Follows;
            self.tell(Event::Settled);
            return;
        }
        let Some(switchover) = self.single.as_ref().and_then(|single| single.switchover.as_ref()) else { return };
        match switchover.step(self.left_on(switchover.from), now) {
            Step::Wait => {}
            Step::Close => self.close_former(BY_HAND, now),
            Step::Finish => self.finish_switchover(),
        }
    }

    /// The next destination serves from now on.
    pub(super) fn finish_switchover(&mut self) {
        let Some(mut switchover) = self.single.as_mut().and_then(|single| single.switchover.take()) else { return };
        let left = self.left_on(switchover.from);
        if left > 0 && switchover.to != switchover.from.id {
            let (left, former, within) = (Counted(left, "session"), switchover.from.address, CLOSING.as_secs());
            warn!("single destination: {left} on {former} not ended within {within} s; the next one serves");
        }
        switchover.answer(Ok(()));
        self.tell(Event::Settled);
    }

    fn switchover_ends(&self) -> Option<(Former, DestinationId)> {
        let switchover = self.single.as_ref()?.switchover.as_ref()?;
        Some((switchover.from, switchover.to))
    }

    fn left_on(&self, former: Former) -> usize {
        match former.removed {
            Some(left) => left.own + left.elsewhere,
            None => self.find(former.id).map_or(0, |slot| self.destinations[slot].all_connections()),
        }
    }

    /// A connection on a destination has ended.
    pub(super) fn release(&mut self, id: DestinationId) {
        if let Some(slot) = self.find(id) {
            self.count(slot, |it| it.connections -= 1);
        }
        let switchover = self.single.as_mut().and_then(|single| single.switchover.as_mut());
        if let Some(switchover) = switchover.filter(|it| it.from.id == id) {
            if let Some(left) = &mut switchover.from.removed {
                left.own = left.own.saturating_sub(1);
            }
            self.advance(clock::now());
        }
    }
}

/// Why the single destination moves away from `from`.
fn why_leave(from: &Destination, to: &Destination) -> String {
    match from.open_verdict() {
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
