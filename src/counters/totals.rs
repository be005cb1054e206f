//! What a set of counters has come to, as plain data.

use std::ops::{AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{COUNTS, Cause, CheckResult, Count, HistogramKind, HistogramTotals, LimitReached, Shard};

/// A set of counters at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Totals {
    counts: [u64; COUNTS],
    limited: [u64; LimitReached::ALL.len()],
    checks: [u64; CheckResult::ALL.len()],
    histograms: [HistogramTotals; HistogramKind::ALL.len()],
}

impl Default for Totals {
    fn default() -> Totals {
        Totals {
            counts: [0; COUNTS],
            limited: Default::default(),
            checks: Default::default(),
            histograms: Default::default(),
        }
    }
}

impl Totals {
    pub(super) fn of(shard: &Shard) -> Totals {
        Totals {
            counts: std::array::from_fn(|index| shard.counts[index].get()),
            limited: std::array::from_fn(|index| shard.limited[index].get()),
            checks: Default::default(),
            histograms: std::array::from_fn(|index| shard.histograms[index].totals()),
        }
    }

    /// A check has come to this, and has taken so long if it was made.
    pub(super) fn checked(&mut self, result: CheckResult, took: Duration) {
        self.checks[result as usize] += 1;
        if result != CheckResult::NotMade {
            self.histograms[HistogramKind::Check as usize].add(HistogramKind::Check, took);
        }
    }

    /// How many of this.
    pub fn get(&self, count: Count) -> u64 {
        self.counts[count as usize]
    }

    /// How many connections have ended for this.
    pub fn ended(&self, cause: Cause) -> u64 {
        self.counts[Count::Ended as usize + cause as usize]
    }

    /// How many clients were not taken for this, or how often further ones had to wait.
    pub fn limited(&self, limit: LimitReached) -> u64 {
        self.limited[limit as usize]
    }

    /// How many checks have come to this.
    pub fn checks(&self, result: CheckResult) -> u64 {
        self.checks[result as usize]
    }

    /// How long things took.
    pub fn times(&self, what: HistogramKind) -> &HistogramTotals {
        &self.histograms[what as usize]
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        *self == Totals::default()
    }
}

impl AddAssign<&Totals> for Totals {
    fn add_assign(&mut self, other: &Totals) {
        add(&mut self.counts, &other.counts);
        add(&mut self.limited, &other.limited);
        add(&mut self.checks, &other.checks);
        self.histograms.iter_mut().zip(&other.histograms).for_each(|(sum, more)| *sum += more);
    }
}

impl Sub<&Totals> for &Totals {
    type Output = Totals;

    fn sub(self, before: &Totals) -> Totals {
        Totals {
            counts: difference(&self.counts, &before.counts),
            limited: difference(&self.limited, &before.limited),
            checks: difference(&self.checks, &before.checks),
            histograms: std::array::from_fn(|index| &self.histograms[index] - &before.histograms[index]),
        }
    }
}

fn add<const N: usize>(sums: &mut [u64; N], more: &[u64; N]) {
    sums.iter_mut().zip(more).for_each(|(sum, count)| *sum = sum.wrapping_add(*count));
}

fn difference<const N: usize>(now: &[u64; N], before: &[u64; N]) -> [u64; N] {
    std::array::from_fn(|index| now[index].wrapping_sub(before[index]))
}

/// As lists of numbers, with which a process of another version does as well as it can.
#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct SavedTotals {
    counts: Vec<u64>,
    limited: Vec<u64>,
    checks: Vec<u64>,
    histograms: Vec<HistogramTotals>,
}

impl Serialize for Totals {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Totals { counts, limited, checks, histograms } = self;
        let (counts, limited, checks) = (counts.to_vec(), limited.to_vec(), checks.to_vec());
        SavedTotals { counts, limited, checks, histograms: histograms.to_vec() }.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Totals {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Totals, D::Error> {
        let SavedTotals { counts, limited, checks, histograms } = SavedTotals::deserialize(deserializer)?;
        let mut totals = Totals::default();
        totals.counts.iter_mut().zip(counts).for_each(|(count, saved)| *count = saved);
        totals.limited.iter_mut().zip(limited).for_each(|(count, saved)| *count = saved);
        totals.checks.iter_mut().zip(checks).for_each(|(count, saved)| *count = saved);
        totals.histograms.iter_mut().zip(histograms).for_each(|(histogram, saved)| *histogram = saved);
        Ok(totals)
    }
}
