//! What has become of a destination's verdict over time.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

use serde::{Deserialize, Serialize};

use super::clock;
use super::day::{DAY, Hours, Tallies};
use super::health::{Reason, Verdict};

/// Most changes that are remembered of one destination.
const MOST_CHANGES: usize = 50;

/// What has become of a destination's verdict since it was added.
#[derive(Debug, Clone, PartialEq)]
pub struct History {
    /// The oldest first.
    changes: VecDeque<VerdictChange>,
    /// What came before these.
    hours: Hours,
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
    hours: Hours,
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
        self.changes.push_back(VerdictChange { at: SystemTime::now(), verdict, reason: reason.clone() });
        self.forget();
    }

    /// Keeps of the oldest changes only how many there were, and for how long.
    fn forget(&mut self) {
        while self.changes.len() > MOST_CHANGES
            && let Some(VerdictChange { at, verdict, .. }) = self.changes.pop_front()
        {
            let until = self.changes.front().map_or(at, |next| next.at);
            self.hours.add(verdict, [at, until]);
            self.hours.trim();
        }
    }

    /// The verdicts that it got, the oldest first: the last fifty of them.
    pub fn changes(&self) -> impl DoubleEndedIterator<Item = &VerdictChange> + ExactSizeIterator {
        self.changes.iter()
    }

    /// How often it got each verdict in the last 24 hours, and how long each held in these. What came before the last fifty
    /// is counted by whole hours.
    pub fn last_day(&self, now: SystemTime) -> Tallies {
        let begin = now.checked_sub(DAY).unwrap_or(SystemTime::UNIX_EPOCH);
        let mut day = self.hours.since(begin);
        let ends = self.changes.iter().map(|change| change.at).skip(1).chain([now]);
        self.changes.iter().zip(ends).for_each(|(change, until)| day.add(change.verdict, [change.at, until], begin));
        day
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
        SavedHistory {
            changes,
            hours: self.hours.clone(),
            held: self.held(verdict),
            falls: self.falls,
            count: self.count,
        }
    }
}

impl SavedHistory {
    /// Goes on with it.
    pub(super) fn resumed(self) -> History {
        let SavedHistory { changes, hours, held, falls, count } = self;
        let mut history = History { changes: changes.into(), hours, held, falls, count, since: clock::now() };
        history.forget();
        history.hours.trim();
        history
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_counted_whole_although_only_its_last_changes_are_kept() {
        let (mut history, reason) = (History::new(), Reason::new("away"));
        let mut before = None;
        for verdict in [Verdict::Down, Verdict::Ready].repeat(60) {
            history.add(before, verdict, &reason);
            before = Some(verdict);
        }
        assert_eq!(history.changes().len(), MOST_CHANGES);
        let falls = |history: &History| history.last_day(SystemTime::now())[Verdict::Down].count;
        assert_eq!(falls(&history), 60);
        assert_eq!(falls(&history.save(before).resumed()), 60);
        let tomorrow = SystemTime::now() + DAY + Duration::from_secs(1);
        let day = history.last_day(tomorrow);
        assert_eq!((day[Verdict::Down].count, day[Verdict::Ready].held.as_secs()), (0, DAY.as_secs()));
    }
}
