//! The end of a connection whose destination is reset rather than closed, so that no TIME_WAIT is left (`--linger`).
//!
//! A reset discards what is still on the way, and what was lost and would be sent again. So it waits until the
//! destination's kernel has acknowledged everything, which mostly takes no longer than a packet there and back. The kernel
//! gives no event for that; it is looked for at growing intervals. A destination that takes too long is closed the
//! ordinary way.

use std::time::{Duration, Instant};

use super::{Connection, Stage};
use crate::sys;
use crate::worker::Kit;

/// How long the first pause between two looks is.
const FIRST_PAUSE: Duration = Duration::from_millis(1);
/// How long acknowledgements are waited for: a few packets may be lost.
const PATIENCE: Duration = Duration::from_secs(2);

/// A wait for the last acknowledgement.
pub(super) struct Farewell {
    until: Instant,
    pause: Duration,
    next_look: Instant,
}

impl Farewell {
    fn new(now: Instant) -> Farewell {
        Farewell { until: now + PATIENCE, pause: FIRST_PAUSE, next_look: now + FIRST_PAUSE }
    }

    /// When to look again.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look.min(self.until)
    }

    /// Returns false if it has taken too long.
    fn goes_on(&mut self, now: Instant) -> bool {
        if now >= self.next_look {
            self.pause *= 2;
            self.next_look = now + self.pause;
        }
        now < self.until
    }
}

impl Connection {
    /// Whether the destination is to be reset rather than closed. UNIX sockets know neither resets nor TIME_WAIT.
    pub(super) fn avoids_time_wait(&self) -> bool {
        let is_unix = self.lease.as_ref().is_some_and(|lease| lease.address().is_unix());
        self.service.options.reset_on_close && !is_unix
    }

    /// Whether a reset in place of an end would take nothing from the destination.
    pub(super) fn all_is_acknowledged(&self) -> bool {
        self.server.as_ref().is_some_and(|server| sys::unacknowledged_bytes(server).is_ok_and(|bytes| bytes == 0))
    }

    /// The client has ended, and not all that it said is acknowledged. Returns true while that is waited for, and false
    /// when it is to end the ordinary way.
    pub(super) fn waits_for_acknowledgement(&mut self, kit: &mut Kit) -> bool {
        let mut farewell = match std::mem::replace(&mut self.stage, Stage::Relaying) {
            Stage::Farewell(farewell) => farewell,
            _ => Box::new(Farewell::new(kit.now)),
        };
        let goes_on = farewell.goes_on(kit.now);
        if goes_on {
            self.stage = Stage::Farewell(farewell);
        }
        self.arm(kit);
        goes_on
    }
}
