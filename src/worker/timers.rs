//! Deadlines of connections, earliest first.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::Key;

/// Entries too many that are not worth looking through all of them.
const SLACK: usize = 1024;

/// A heap of deadlines. Entries are not removed when a connection no longer needs them; whoever asks says which still
/// hold, and the others are dropped as they come to the top.
#[derive(Default)]
pub(super) struct Timers(BinaryHeap<Reverse<(Instant, Key)>>);

impl Timers {
    pub(super) fn arm(&mut self, deadline: Instant, key: Key) {
        self.0.push(Reverse((deadline, key)));
    }

    /// Drops the entries that no longer hold, once they are many more than there are connections: behind one that holds
    /// for long, they would never come to the top.
    pub(super) fn tidy(&mut self, connections: usize, holds: impl Fn(Instant, Key) -> bool) {
        if self.0.len() > 2 * connections + SLACK {
            self.0.retain(|Reverse((deadline, key))| holds(*deadline, *key));
        }
    }

    /// The earliest deadline that still holds.
    pub(super) fn next(&mut self, holds: impl Fn(Instant, Key) -> bool) -> Option<Instant> {
        while let Some(Reverse((deadline, key))) = self.0.peek() {
            if holds(*deadline, *key) {
                return Some(*deadline);
            }
            self.0.pop();
        }
        None
    }

    /// Takes out one connection whose deadline is over.
    pub(super) fn pop_due(&mut self, now: Instant, holds: impl Fn(Instant, Key) -> bool) -> Option<Key> {
        let deadline = self.next(holds)?;
        if deadline > now {
            return None;
        }
        self.0.pop().map(|Reverse((_, key))| key)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn deadlines_of_those_who_have_left_do_not_pile_up_behind_one_that_lasts() {
        let (mut timers, now) = (Timers::default(), Instant::now());
        let stays = Key::new(1, 0);
        timers.arm(now, stays);
        for number in 1..100_000 {
            timers.arm(now + Duration::from_secs(number), Key::new(2, 1));
            timers.tidy(1, |_, key| key == stays);
            assert!(timers.0.len() <= 1 + 2 * SLACK, "{number} have left");
        }
        assert_eq!(timers.next(|_, key| key == stays), Some(now));
    }
}
