//! What the watchdog, where there is one, says of the destinations.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::destination::Destination;
use super::{DestinationId, Event, Table};

/// What a destination is good for, from worse to better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// Nothing: its connections are closed.
    Down,
    /// The connections that it has, but no new ones.
    Avoid,
    /// Everything.
    Ready,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Down => "DOWN",
            Verdict::Avoid => "AVOID",
            Verdict::Ready => "READY",
        })
    }
}

/// What is known of a destination's health.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// `None`: not judged yet.
    pub verdict: Option<Verdict>,
    /// Why, in words; empty when there is nothing to say.
    pub reason: String,
    /// When it was last found out.
    pub checked: Option<Instant>,
    /// How long finding out took, on average.
    pub latency: Duration,
    /// What the weight is multiplied by.
    pub scale: f64,
}

impl Health {
    /// Of a destination that was just added. Without a watchdog everything counts as fit.
    pub(super) fn at_first(watched: bool) -> Health {
        Health { verdict: (!watched).then_some(Verdict::Ready), ..Health::unjudged() }
    }

    /// Of a destination that nothing is known of.
    pub fn unjudged() -> Health {
        Health { verdict: None, reason: String::new(), checked: None, latency: Duration::ZERO, scale: 1.0 }
    }

    pub(super) fn is_older_than(&self, age: Duration, now: Instant) -> bool {
        self.checked.is_none_or(|checked| now.saturating_duration_since(checked) > age)
    }
}

/// What only a watchdog does with the table.
impl Table {
    /// What is known of a destination's health; `None` when it is no longer there.
    pub fn health_of(&self, id: DestinationId) -> Option<Health> {
        let inner = self.0.lock();
        inner.find(id).map(|slot| inner.destinations[slot].health.clone())
    }

    /// Where a destination is; `None` when it is no longer there.
    pub fn address_at(&self, id: DestinationId) -> Option<SocketAddr> {
        let inner = self.0.lock();
        inner.find(id).map(|slot| inner.destinations[slot].address)
    }

    /// Says how a destination is from now on, and tells those who wait for it whether the probe found it `fit`. With
    /// `close`, its connections are closed.
    pub fn judge(&self, id: DestinationId, health: Health, fit: bool, close: bool) {
        let mut inner = self.0.lock();
        let Some(slot) = inner.find(id) else { return };
        let before = &inner.destinations[slot].health;
        if before.verdict == health.verdict && before.scale == health.scale {
            // Its place among the others stays as it is.
            inner.destinations[slot].health = health;
        } else {
            inner.change(slot, |it| it.health = health);
        }
        if close {
            let address = inner.destinations[slot].address;
            inner.tell(Event::Closed(id, address));
        }
        if std::mem::take(&mut inner.destinations[slot].awaited) {
            inner.tell(Event::Checked(id, fit));
        }
    }

    /// From now on, nobody is there to ask: what was found out last counts, for those who wait for an answer as well.
    pub fn ask_nobody(&self) {
        let mut inner = self.0.lock();
        inner.balancing.recheck_after = None;
        let answer = |(_, it): (usize, &mut Destination)| {
            let fit = it.health.verdict == Some(Verdict::Ready);
            std::mem::take(&mut it.awaited).then_some(Event::Checked(it.id, fit))
        };
        let answers: Vec<Event> = inner.destinations.iter_mut().filter_map(answer).collect();
        answers.into_iter().for_each(|answer| inner.tell(answer));
    }

    /// Changes what a destination's weight is multiplied by.
    pub fn rescale(&self, id: DestinationId, scale: f64) {
        let mut inner = self.0.lock();
        if let Some(slot) = inner.find(id).filter(|slot| inner.destinations[*slot].health.scale != scale) {
            inner.change(slot, |it| it.health.scale = scale);
        }
    }
}
