//! How long each side of a connection has been idle.
//!
//! What was written to a side waits in the kernel until the side takes it: megabytes of it, for longer than a timeout.
//! So a side that nothing was heard of for half its timeout is looked at: when the kernel has got rid of some of it
//! since, the side was taking it all the time.

use std::time::{Duration, Instant};

use super::Connection;
use crate::config::ConnectionOptions;
use crate::sys;

/// When each side was last seen to do something.
pub(super) struct LastActive {
    pub client: Seen,
    pub server: Seen,
    /// One side has ended.
    pub is_half_closed: bool,
}

/// What was seen of one side.
pub(super) struct Seen {
    at: Instant,
    /// Bytes on their way to it, when they were last counted.
    unacknowledged: usize,
}

impl LastActive {
    pub(super) fn new(now: Instant) -> LastActive {
        let seen = || Seen { at: now, unacknowledged: 0 };
        LastActive { client: seen(), server: seen(), is_half_closed: false }
    }

    /// Whether a side has been idle for as long as it may be.
    fn is_over(&self, options: &ConnectionOptions, now: Instant) -> bool {
        self.timeouts(options).any(|(side, timeout)| side.at + timeout <= now)
    }

    /// When to look at the sides. `None`: they may be idle for ever.
    pub(super) fn next_look(&self, options: &ConnectionOptions, now: Instant) -> Option<Instant> {
        let next_look = |(side, timeout): (&Seen, Duration)| {
            let halfway = side.at + timeout / 2;
            if halfway > now { halfway } else { side.at + timeout }
        };
        self.timeouts(options).map(next_look).min()
    }

    fn timeouts(&self, options: &ConnectionOptions) -> impl Iterator<Item = (&Seen, Duration)> {
        let half_closed = options.half_close_timeout.filter(|_| self.is_half_closed);
        let least = |idle: Option<Duration>| idle.into_iter().chain(half_closed).min();
        let client = least(options.client_idle_timeout).map(|timeout| (&self.client, timeout));
        let server = least(options.server_idle_timeout).map(|timeout| (&self.server, timeout));
        client.into_iter().chain(server)
    }
}

impl Seen {
    /// It sent something, or took something.
    pub(super) fn was_active(&mut self, now: Instant) {
        self.at = now;
    }

    /// Counts the bytes on their way to it. What has gone it has taken, be it only since it was last active.
    fn count(&mut self, unacknowledged: usize, now: Instant) {
        if std::mem::replace(&mut self.unacknowledged, unacknowledged) != unacknowledged {
            self.was_active(now);
        }
    }
}

impl Connection {
    /// Looks at the sides, and says whether one has been idle for as long as it may be.
    pub(super) fn has_idled(&mut self, now: Instant) -> bool {
        let (Some(active), Some(server)) = (&mut self.last_active, &self.server) else { return false };
        // An error shows as an event.
        let to_client = sys::unacknowledged_bytes(&self.client).unwrap_or(0);
        let to_server = sys::unacknowledged_bytes(server).unwrap_or(0);
        active.client.count(to_client, now);
        active.server.count(to_server, now);
        // Whoever only waits for the other to take what there is, or for its turn, is not idle. Of two that wait for each
        // other, each is the one who could take something.
        let something_for_client = self.flows.down.holds_anything() || to_client > 0;
        let something_for_server = self.flows.up.holds_anything() || to_server > 0;
        if self.unfinished || (something_for_server && !something_for_client) {
            active.client.was_active(now);
        }
        if self.unfinished || (something_for_client && !something_for_server) {
            active.server.was_active(now);
        }
        active.is_over(&self.service.options, now)
    }
}
