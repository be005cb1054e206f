//! Keeping a log line that could come a thousand times a second down to one in a while.

use std::fmt;
use std::time::{Duration, Instant};

/// Between two lines about the same trouble.
pub(super) const INTERVAL: Duration = Duration::from_secs(10);

/// Permits a line every 10 s, and counts those in between.
#[derive(Default)]
pub struct LogThrottle {
    /// How many more may come without a pause.
    free: usize,
    last: Option<Instant>,
    suppressed: usize,
}

impl LogThrottle {
    /// One that lets so many lines pass before it begins.
    pub fn after(lines: usize) -> LogThrottle {
        LogThrottle { free: lines, ..LogThrottle::default() }
    }

    /// Returns `None` if the line is not to be logged now, else what to put behind it: how many were not logged since the
    /// last one.
    pub fn permit(&mut self, now: Instant) -> Option<Suppressed> {
        if self.free > 0 {
            self.free -= 1;
            return Some(Suppressed(0));
        }
        if self.last.is_some_and(|last| now.saturating_duration_since(last) < INTERVAL) {
            self.suppressed += 1;
            return None;
        }
        self.last = Some(now);
        Some(Suppressed(std::mem::take(&mut self.suppressed)))
    }
}

/// How many lines were suppressed, to stand behind the next; nothing if none were.
pub struct Suppressed(usize);

impl fmt::Display for Suppressed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more since this was last told)"),
        }
    }
}
