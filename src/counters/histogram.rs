//! How long things take, in fixed steps.

use std::ops::{AddAssign, Sub};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Counter;

/// Steps of a histogram, with the one above all bounds.
const STEPS: usize = 16;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum HistogramKind {
    /// From the attempt to connect until the destination serves.
    Connect,
    /// From then until its first byte.
    FirstByte,
    /// How long a client has waited for room on a destination.
    Queue,
    /// From accepting a client until its connection has ended.
    Duration,
    /// A check of a destination.
    Check,
}

impl HistogramKind {
    /// All of them.
    pub const ALL: [HistogramKind; 5] = [
        HistogramKind::Connect,
        HistogramKind::FirstByte,
        HistogramKind::Queue,
        HistogramKind::Duration,
        HistogramKind::Check,
    ];

    /// As it is written in reports.
    pub fn name(self) -> &'static str {
        match self {
            HistogramKind::Connect => "connect",
            HistogramKind::FirstByte => "first_byte",
            HistogramKind::Queue => "queue",
            HistogramKind::Duration => "duration",
            HistogramKind::Check => "check",
        }
    }

    /// The upper bounds of all steps but the last, which has none, in microseconds.
    pub fn bounds(self) -> &'static [u64; STEPS - 1] {
        const MILLISECOND: u64 = 1000;
        const SECOND: u64 = 1_000_000;
        /// Of what a client waits for.
        const WAITS: [u64; STEPS - 1] = [
            100,
            250,
            500,
            MILLISECOND,
            2500,
            5 * MILLISECOND,
            10 * MILLISECOND,
            25 * MILLISECOND,
            50 * MILLISECOND,
            100 * MILLISECOND,
            250 * MILLISECOND,
            500 * MILLISECOND,
            SECOND,
            2500 * MILLISECOND,
            5 * SECOND,
        ];
        /// Of whole connections.
        const LIVES: [u64; STEPS - 1] = [
            MILLISECOND,
            5 * MILLISECOND,
            10 * MILLISECOND,
            50 * MILLISECOND,
            100 * MILLISECOND,
            500 * MILLISECOND,
            SECOND,
            5 * SECOND,
            10 * SECOND,
            60 * SECOND,
            300 * SECOND,
            1800 * SECOND,
            7200 * SECOND,
            28_800 * SECOND,
            86_400 * SECOND,
        ];
        match self {
            HistogramKind::Connect | HistogramKind::FirstByte | HistogramKind::Queue | HistogramKind::Check => &WAITS,
            HistogramKind::Duration => &LIVES,
        }
    }
}

/// How often something took so long. One thread adds to it.
#[derive(Debug, Default)]
pub struct Histogram {
    steps: [Counter; STEPS],
    /// Of all, in microseconds.
    sum: Counter,
}

impl Histogram {
    pub(super) fn add(&self, kind: HistogramKind, time: Duration) {
        let (step, micros) = place(kind, time);
        self.steps[step].add(1);
        self.sum.add(micros);
    }

    pub(super) fn totals(&self) -> HistogramTotals {
        HistogramTotals { steps: std::array::from_fn(|step| self.steps[step].get()), sum: self.sum.get() }
    }
}

/// The step that a time falls into, and the time in microseconds.
fn place(kind: HistogramKind, time: Duration) -> (usize, u64) {
    let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    (kind.bounds().partition_point(|bound| *bound < micros), micros)
}

/// A histogram at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HistogramTotals {
    steps: [u64; STEPS],
    sum: u64,
}

impl HistogramTotals {
    /// Adds one more, where no other thread counts.
    pub(super) fn add(&mut self, kind: HistogramKind, time: Duration) {
        let (step, micros) = place(kind, time);
        self.steps[step] = self.steps[step].wrapping_add(1);
        self.sum = self.sum.wrapping_add(micros);
    }

    /// How many were measured.
    pub fn count(&self) -> u64 {
        self.steps.iter().sum()
    }

    /// How long they took together.
    pub fn sum(&self) -> Duration {
        Duration::from_micros(self.sum)
    }

    /// How many took no longer than each bound, and how many there are.
    pub fn cumulative(&self) -> [u64; STEPS] {
        let mut sum = 0;
        self.steps.map(|step| {
            sum += step;
            sum
        })
    }

    /// How long this share of all took at most, estimated within its step as Prometheus does; `None` without any.
    pub fn quantile(&self, kind: HistogramKind, share: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share * count as f64;
        let (mut below, mut lower) = (0u64, 0u64);
        for (step, bound) in self.steps.iter().zip(kind.bounds()) {
            if (below + step) as f64 >= rank && *step > 0 {
                let part = (rank - below as f64) / *step as f64;
                return Some(Duration::from_micros(lower + ((bound - lower) as f64 * part.max(0.0)) as u64));
            }
            below += step;
            lower = *bound;
        }
        Some(Duration::from_micros(lower))
    }
}

impl AddAssign<&HistogramTotals> for HistogramTotals {
    fn add_assign(&mut self, other: &HistogramTotals) {
        self.steps.iter_mut().zip(other.steps).for_each(|(sum, step)| *sum = sum.wrapping_add(step));
        self.sum = self.sum.wrapping_add(other.sum);
    }
}

impl Sub<&HistogramTotals> for &HistogramTotals {
    type Output = HistogramTotals;

    fn sub(self, before: &HistogramTotals) -> HistogramTotals {
        HistogramTotals {
            steps: std::array::from_fn(|step| self.steps[step].wrapping_sub(before.steps[step])),
            sum: self.sum.wrapping_sub(before.sum),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_falls_into_the_step_whose_bound_it_does_not_pass() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 5_000_000, 5_000_001, u64::MAX] {
            histogram.add(HistogramKind::Connect, Duration::from_micros(micros));
        }
        let totals = histogram.totals();
        assert_eq!(totals.cumulative()[..2], [2, 3]);
        assert_eq!((totals.cumulative()[STEPS - 2], totals.count()), (4, 6));
    }

    #[test]
    fn bounds_rise_and_quantiles_lie_between_them() {
        for kind in HistogramKind::ALL {
            assert!(kind.bounds().is_sorted());
        }
        let histogram = Histogram::default();
        assert_eq!(histogram.totals().quantile(HistogramKind::Connect, 0.99), None);
        (0..99).for_each(|_| histogram.add(HistogramKind::Connect, Duration::from_micros(200)));
        histogram.add(HistogramKind::Connect, Duration::from_secs(3));
        let quantile = |share| histogram.totals().quantile(HistogramKind::Connect, share).expect("there are some");
        assert!(quantile(0.5) > Duration::from_micros(100) && quantile(0.5) < Duration::from_micros(250));
        assert!(quantile(0.995) > Duration::from_millis(2500));
    }
}
