//! How often a destination got each verdict in the last 24 hours, and for how long.

use std::collections::VecDeque;
use std::ops::{Index, IndexMut};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::verdict::Verdict;

/// A day.
pub(super) const DAY: Duration = Duration::from_secs(24 * 3600);
const HOUR: u64 = 3600;
/// The hours that a day may touch.
const MOST_HOURS: usize = 25;

/// How often a verdict was given, and how long it held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tally {
    /// How often.
    pub count: u64,
    /// How long.
    pub held: Duration,
}

/// That of each verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tallies([Tally; 4]);

/// Those of the last hours in which there were any, the oldest first: what a history forgets is still counted.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub(super) struct Hours(VecDeque<(u64, Tallies)>);

impl Index<Verdict> for Tallies {
    type Output = Tally;

    fn index(&self, verdict: Verdict) -> &Tally {
        &self.0[verdict as usize]
    }
}

impl IndexMut<Verdict> for Tallies {
    fn index_mut(&mut self, verdict: Verdict) -> &mut Tally {
        &mut self.0[verdict as usize]
    }
}

impl Tallies {
    /// Adds what is after `begin` of a verdict that was given at `from` and held until `until`.
    pub(super) fn add(&mut self, verdict: Verdict, [from, until]: [SystemTime; 2], begin: SystemTime) {
        let tally = &mut self[verdict];
        tally.count += u64::from(from >= begin);
        tally.held += until.duration_since(from.max(begin)).unwrap_or_default();
    }
}

impl Hours {
    /// Adds a verdict that was given at `from` and held until `until`.
    pub(super) fn add(&mut self, verdict: Verdict, [from, until]: [SystemTime; 2]) {
        // A clock that was set back makes no verdict uncounted.
        let last = number(until).max(number(from));
        let first = number(from).max(last.saturating_sub(MOST_HOURS as u64 - 1));
        for hour in first..=last {
            let [begin, end] = [hour, hour + 1].map(|hour| UNIX_EPOCH + Duration::from_secs(hour * HOUR));
            // Only where it began is it counted.
            self.at(hour).add(verdict, [from, until.min(end)], begin);
        }
    }

    fn at(&mut self, hour: u64) -> &mut Tallies {
        let place = self.0.partition_point(|(other, _)| *other < hour);
        if self.0.get(place).is_none_or(|(other, _)| *other != hour) {
            self.0.insert(place, (hour, Tallies::default()));
        }
        &mut self.0[place].1
    }

    /// Forgets all but the last ones.
    pub(super) fn trim(&mut self) {
        self.0.drain(..self.0.len().saturating_sub(MOST_HOURS));
    }

    /// What was added of whole hours after `begin`.
    pub(super) fn since(&self, begin: SystemTime) -> Tallies {
        let mut sum = Tallies::default();
        for (_, tallies) in self.0.iter().filter(|(hour, _)| *hour > number(begin)) {
            for (sum, tally) in sum.0.iter_mut().zip(tallies.0) {
                sum.count += tally.count;
                sum.held += tally.held;
            }
        }
        sum
    }
}

/// The hour of a time.
fn number(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / HOUR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: f64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs_f64(hours * 3600.0)
    }

    #[test]
    fn a_verdict_is_counted_once_and_its_time_where_it_was() {
        let mut hours = Hours::default();
        hours.add(Verdict::Down, [at(10.5), at(12.25)]);
        hours.add(Verdict::Down, [at(12.5), at(12.75)]);
        hours.add(Verdict::Avoid, [at(12.25), at(12.5)]);
        let since = |hour: f64, verdict| {
            let tally = hours.since(at(hour))[verdict];
            (tally.count, tally.held.as_secs())
        };
        assert_eq!(since(9.0, Verdict::Down), (2, 7200));
        assert_eq!(since(10.9, Verdict::Down), (1, 3600 + 1800));
        assert_eq!(since(9.0, Verdict::Avoid), (1, 900));
        assert_eq!(since(12.0, Verdict::Down), (0, 0));
    }

    #[test]
    fn no_clock_makes_more_hours_than_a_day_has() {
        let mut hours = Hours::default();
        for (from, until) in [(0.0, 1e6), (2e6, 1.0), (1e5, 1e5 + 100.0), (5e5, 9e5)] {
            hours.add(Verdict::Ready, [at(from), at(until)]);
            hours.trim();
            assert!(hours.0.len() <= MOST_HOURS);
        }
    }
}
