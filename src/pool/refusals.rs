//! Clients that a destination did not serve, though it may look healthy to the watchdog.

use std::time::SystemTime;

use super::reason::Reason;

/// Connects that failed and clients that were refused, one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Refusals {
    /// How many in a row.
    pub count: u32,
    /// When the first of them was.
    pub since: SystemTime,
    /// Why the last of them was.
    pub reason: Reason,
}

impl Refusals {
    /// Counts one more.
    pub(super) fn add(before: Option<Refusals>, reason: Reason) -> Refusals {
        match before {
            Some(before) => Refusals { count: before.count.saturating_add(1), reason, ..before },
            None => Refusals { count: 1, since: SystemTime::now(), reason },
        }
    }
}
