//! A rate with a burst of one second: a token bucket, kept as the time when it will be full again.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a bucket holds, in nanoseconds.
const SECOND: u64 = 1_000_000_000;

/// So many connections a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rate {
    /// How long it takes for one token to come.
    interval: u64,
}

impl Rate {
    /// At least one.
    pub(super) fn per_second(connections: u32) -> Rate {
        Rate { interval: SECOND / u64::from(connections.max(1)) }
    }

    /// Takes a token at the time `now` from a bucket that will be full at `full_at`. Returns when it will be full then.
    ///
    /// # Errors
    /// The bucket is empty; when there will be a token.
    pub(super) fn take(self, full_at: u64, now: u64) -> Result<u64, u64> {
        let next = full_at.max(now) + self.interval;
        if next > now + SECOND { Err(next - SECOND) } else { Ok(next) }
    }
}

/// What was taken from a bucket.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    rate: Rate,
    /// When the bucket was to be full again.
    full_at: u64,
}

/// A bucket from which all workers take.
#[derive(Default)]
pub(super) struct Bucket {
    full_at: AtomicU64,
}

impl Bucket {
    /// Takes a token.
    ///
    /// # Errors
    /// There is none; when there will be one.
    pub(super) fn take(&self, rate: Rate, now: u64) -> Result<Taken, u64> {
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let next = rate.take(full_at, now)?;
            match self.full_at.compare_exchange_weak(full_at, next, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(Taken { rate, full_at: next }),
                Err(actual) => full_at = actual,
            }
        }
    }

    /// Puts back a token that was not used, at the time `now`. A part of it may have come again by then, which would be there
    /// twice.
    pub(super) fn put_back(&self, taken: &Taken, now: u64) {
        let lacking = taken.full_at.saturating_sub(now).min(taken.rate.interval);
        // It is full already if that was long ago.
        let less = |full_at: u64| Some(full_at.saturating_sub(lacking));
        let _ = self.full_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_second_has_as_many_as_the_rate_at_once_and_then_one_after_the_other() {
        let (bucket, rate) = (Bucket::default(), Rate::per_second(4));
        let begun = 7 * SECOND;
        (0..4).for_each(|_| assert!(bucket.take(rate, begun).is_ok()));
        assert_eq!(bucket.take(rate, begun), Err(begun + SECOND / 4));
        let taken = bucket.take(rate, begun + SECOND / 4).expect("a token");
        assert_eq!(bucket.take(rate, begun + SECOND / 4), Err(begun + SECOND / 2));
        bucket.put_back(&taken, begun + SECOND / 4);
        assert!(bucket.take(rate, begun + SECOND / 4).is_ok());
        (0..4).for_each(|_| assert!(bucket.take(rate, begun + 9 * SECOND).is_ok()));
        assert!(bucket.take(rate, begun + 9 * SECOND).is_err(), "it is never more than full");
    }

    #[test]
    fn what_is_put_back_late_is_not_there_twice() {
        let (rate, begun) = (Rate::per_second(2), 7 * SECOND);
        for (pause, tokens) in [(0, 2), (SECOND / 4, 2), (SECOND, 2), (9 * SECOND, 2)] {
            let bucket = Bucket::default();
            let taken = bucket.take(rate, begun).expect("a token");
            let now = begun + pause;
            // Full again but for what the first of them lacks.
            let _ = bucket.take(rate, now);
            bucket.put_back(&taken, now);
            let free = (0..9).filter(|_| bucket.take(rate, now).is_ok()).count();
            assert_eq!(free + 1, tokens, "after {pause} ns");
        }
    }

    #[test]
    fn a_rate_that_changes_holds_at_once() {
        let bucket = Bucket::default();
        (0..100).for_each(|_| assert!(bucket.take(Rate::per_second(100), 0).is_ok()));
        let wait = bucket.take(Rate::per_second(2), 0).expect_err("it is empty");
        assert_eq!(wait, SECOND / 2);
        assert!(bucket.take(Rate::per_second(1000), SECOND / 1000).is_ok());
    }

    proptest! {
        #[test]
        fn no_time_has_more_than_its_share_and_what_is_refused_is_granted_later(
            rate in 1..50u32, pauses in prop::collection::vec(0..SECOND / 2, 1..300)
        ) {
            let (bucket, per_second, mut now) = (Bucket::default(), Rate::per_second(rate), 0);
            let mut granted = Vec::new();
            for pause in pauses {
                now += pause;
                match bucket.take(per_second, now) {
                    Ok(_) => granted.push(now),
                    Err(at) => {
                        prop_assert!(at > now && at <= now + SECOND);
                        prop_assert!(per_second.take(bucket.full_at.load(Ordering::Relaxed), at).is_ok());
                    }
                }
            }
            for (index, first) in granted.iter().enumerate() {
                for (count, last) in granted[index..].iter().enumerate() {
                    // The bucket, and what has come since; a nanosecond is lost in each interval.
                    let most = f64::from(rate) * (1.0 + (last - first) as f64 / SECOND as f64);
                    prop_assert!((count + 1) as f64 <= most + 0.001, "{} from {first} to {last}", count + 1);
                }
            }
        }
    }
}
