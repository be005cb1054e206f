//! What the watchdog, where there is one, says of the destinations.

use crate::address::PeerAddress;
use std::time::{Duration, Instant, SystemTime};

use super::agent::AgentState;
use super::destination::Destination;
use super::history::History;
use super::inner::Inner;
pub use super::reason::{Reason, is_unprintable};
use super::{DestinationId, Event, Pool};
pub use crate::config::ShutdownSessions;
pub use crate::verdict::Verdict;

/// What is known of a destination's health.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// `None`: not judged yet.
    pub verdict: Option<Verdict>,
    /// Why, in words; empty when there is nothing to say.
    pub reason: Reason,
    /// Since when the verdict holds. The pool sets it.
    pub since: Option<SystemTime>,
    /// When it was last found out.
    pub checked: Option<Instant>,
    /// How long finding out took, on average.
    pub latency: Duration,
    /// What the weight is multiplied by.
    pub scale: f64,
    /// What the agent has said, where there is one.
    pub agent: AgentState,
}

impl Health {
    /// Of a destination that was just added. Without a watchdog everything counts as fit.
    pub(super) fn at_first(watched: bool) -> Health {
        Health { verdict: (!watched).then_some(Verdict::Ready), ..Health::unjudged() }
    }

    /// Of a destination that nothing is known of.
    pub fn unjudged() -> Health {
        Health {
            verdict: None,
            reason: Reason::default(),
            since: None,
            checked: None,
            latency: Duration::ZERO,
            scale: 1.0,
            agent: AgentState::default(),
        }
    }

    pub(super) fn is_older_than(&self, age: Duration, now: Instant) -> bool {
        self.checked.is_none_or(|checked| now.saturating_duration_since(checked) > age)
    }
}

/// What only a watchdog does with the pool.
impl Pool {
    /// What is known of a destination's health; `None` when it is no longer there.
    pub fn health_of(&self, id: DestinationId) -> Option<Health> {
        let inner = self.lock();
        inner.find(id).map(|slot| inner.destinations[slot].health.clone())
    }

    /// What is known of every destination's health, in the order in which they were added.
    pub fn healths(&self) -> Vec<(DestinationId, PeerAddress, Health)> {
        let inner = self.lock();
        inner.in_order().into_iter().map(|it| (it.id, it.address, it.health.clone())).collect()
    }

    /// What has become of the verdict of the destination at `address`, and what it is now.
    pub fn history_at(&self, address: PeerAddress) -> Option<(History, Health)> {
        let inner = self.lock();
        let destination = &inner.destinations[inner.at(address)?];
        Some((destination.history.clone(), destination.health.clone()))
    }

    /// Where a destination is; `None` when it is no longer there.
    pub fn address_at(&self, id: DestinationId) -> Option<PeerAddress> {
        let inner = self.lock();
        inner.find(id).map(|slot| inner.destinations[slot].address)
    }

    /// Sets how the destination is from now on, if it still is at the `address` that the verdict was found for. Clients
    /// that wait for the check hear whether it found it `fit`.
    pub fn judge(&self, id: DestinationId, address: PeerAddress, health: Health, fit: bool) {
        let mut inner = self.lock();
        if let Some(slot) = inner.set_health(id, address, health)
            && std::mem::take(&mut inner.destinations[slot].awaited)
        {
            inner.tell(Event::Checked(id, fit));
        }
    }

    /// The same, where that was not found by a check.
    pub fn set_health(&self, id: DestinationId, address: PeerAddress, health: Health) {
        self.lock().set_health(id, address, health);
    }

    /// Has clients wait, as for a single destination that moves, until
    /// [`first_verdicts_are_known`](Pool::first_verdicts_are_known): nothing is fit before it has been checked.
    pub fn await_first_verdicts(&self) {
        self.lock().awaits_first_verdicts = true;
    }

    /// Lets clients pick by the verdicts that there are.
    pub fn first_verdicts_are_known(&self) {
        self.lock().end_first_wait();
    }

    /// Goes on without health checks: the last results count, also for clients that wait for one.
    pub fn ask_nobody(&self) {
        let mut inner = self.lock();
        inner.settings.recheck_after = None;
        inner.end_first_wait();
        inner.answer_awaited();
    }

    /// Changes what a destination's weight is multiplied by.
    pub fn rescale(&self, id: DestinationId, scale: f64) {
        let mut inner = self.lock();
        if let Some(slot) = inner.find(id).filter(|slot| inner.destinations[*slot].health.scale != scale) {
            inner.change(slot, |it| it.health.scale = scale);
        }
    }
}

impl Inner {
    /// Sets how a destination is from now on, if it still is at that address. Returns its place.
    fn set_health(&mut self, id: DestinationId, address: PeerAddress, mut health: Health) -> Option<usize> {
        let slot = self.find(id).filter(|slot| self.destinations[*slot].address == address)?;
        let Destination { health: before, history, .. } = &mut self.destinations[slot];
        let has_changed = before.verdict != health.verdict;
        let is_ready_again = has_changed && health.verdict == Some(Verdict::Ready) && before.verdict.is_some();
        health.since = if has_changed { Some(SystemTime::now()) } else { before.since };
        if let Some(verdict) = health.verdict.filter(|_| has_changed) {
            history.add(before.verdict, verdict, &health.reason);
        }
        let keeps_place = !has_changed && before.scale == health.scale;
        let limit = self.limit_by(&health.agent);
        if keeps_place && self.destinations[slot].limit == limit {
            // Its place among the others stays as it is.
            self.destinations[slot].health = health;
        } else {
            self.change(slot, |it| (it.health, it.limit) = (health, limit));
        }
        if is_ready_again && self.settings.shutdown_backup_sessions {
            self.close_backups(slot);
        }
        Some(slot)
    }

    /// Clients that wait for first verdicts pick again.
    pub(super) fn end_first_wait(&mut self) {
        if std::mem::take(&mut self.awaits_first_verdicts) {
            self.settled();
        }
    }

    /// Tells those that wait for a check what was found before.
    pub(super) fn answer_awaited(&mut self) {
        let answer = |(_, it): (usize, &mut Destination)| {
            let fit = it.health.verdict >= Some(Verdict::Spare);
            std::mem::take(&mut it.awaited).then_some(Event::Checked(it.id, fit))
        };
        let answers: Vec<Event> = self.destinations.iter_mut().filter_map(answer).collect();
        answers.into_iter().for_each(|answer| self.tell(answer));
    }
}
