//! What has become of a destination's verdict over time.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::clock;
use super::health::{Reason, Verdict};

/// Most changes that are remembered of one destination.
const MOST_CHANGES: usize = 50;

/// What has become of a destination's verdict since it was added.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The oldest first.
    changes: VecDeque<VerdictChange>,
    /// How long each verdict held before the present one.
    held: Held,
    /// How often it has become DOWN.
    falls: u64,
    /// How often the verdict has changed.
    count: u64,
    /// Since when the present one holds.
    since: Instant,
}

/// A verdict that a destination got.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictChange {
    /// When.
    pub at: SystemTime,
    /// Which.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
}

/// How long each verdict has held.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Held {
    /// READY.
    pub ready: Duration,
    /// SPARE.
    pub spare: Duration,
    /// AVOID.
    pub avoid: Duration,
    /// DOWN.
    pub down: Duration,
    /// None: it had not been judged.
    pub unknown: Duration,
}

/// The same as plain data, for a process that takes over from this one.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SavedHistory {
    changes: Vec<VerdictChange>,
    held: Held,
    falls: u64,
    count: u64,
}

impl Held {
    fn of(&mut self, verdict: Option<Verdict>) -> &mut Duration {
        match verdict {
            Some(Verdict::Ready) => &mut self.ready,
            Some(Verdict::Spare) => &mut self.spare,
            Some(Verdict::Avoid) => &mut self.avoid,
            Some(Verdict::Down) => &mut self.down,
            None => &mut self.unknown,
        }
    }
}

impl History {
    /// Of a destination that is new.
    pub(super) fn new() -> History {
        SavedHistory::default().resumed()
    }

    /// Its verdict is another one now.
    pub(super) fn add(&mut self, before: Option<Verdict>, verdict: Verdict, reason: &Reason) {
        let now = clock::now();
        *self.held.of(before) += now.saturating_duration_since(self.since);
        self.since = now;
        self.count += 1;
        self.falls += u64::from(verdict == Verdict::Down);
        if self.changes.len() == MOST_CHANGES {
            self.changes.pop_front();
        }
        self.changes.push_back(VerdictChange { at: SystemTime::now(), verdict, reason: reason.clone() });
    }

    /// The verdicts that it got, the oldest first: the last fifty of them.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = &VerdictChange> + ExactSizeIterator {
        self.changes.iter()
    }

    /// How often it has become DOWN, and how often its verdict has changed.
    pub fn counts(&self) -> (u64, u64) {
        (self.falls, self.count)
    }

    /// How long each verdict has held by now, where this is the present one.
    pub fn held(&self, verdict: Option<Verdict>) -> Held {
        let mut held = self.held;
        *held.of(verdict) += clock::now().saturating_duration_since(self.since);
        held
    }

    /// What another process needs to go on with it, where this is the present verdict.
    pub(super) fn save(&self, verdict: Option<Verdict>) -> SavedHistory {
        let changes = self.changes.iter().cloned().collect();
        SavedHistory { changes, held: self.held(verdict), falls: self.falls, count: self.count }
    }
}

impl SavedHistory {
    /// Goes on with it.
    pub(super) fn resumed(self) -> History {
        let SavedHistory { mut changes, held, falls, count } = self;
        changes.drain(..changes.len().saturating_sub(MOST_CHANGES));
        History { changes: changes.into(), held, falls, count, since: clock::now() }
    }
}
