//! How long each side of a connection has been idle.
//!
//! What was written to a side waits in the kernel until the side takes it: megabytes of it, for longer than a timeout.
//! So a side that nothing was heard of for half its timeout is looked at: when the kernel has got rid of some of it
//! since, the side was taking it all the time.

use std::time::{Duration, Instant};

use super::Connection;
use crate::config::ConnectionOptions;
use crate::sys;
use crate::worker::Kit;

/// When each side was last seen to do something.
pub(super) struct LastActive {
    pub client: Seen,
    pub server: Seen,
    /// One side has ended.
    pub is_half_closed: bool,
}

/// How long the sides of a connection may be idle.
fn timeouts(options: &ConnectionOptions) -> [Option<Duration>; 3] {
    [options.client_idle_timeout, options.server_idle_timeout, options.half_close_timeout]
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
        self.limited_sides(options).any(|(side, timeout)| side.at + timeout <= now)
    }

    /// When to look at the sides. `None`: they may be idle for ever.
    pub(super) fn next_look(&self, options: &ConnectionOptions, now: Instant) -> Option<Instant> {
        let next_look = |(side, timeout): (&Seen, Duration)| {
            let halfway = side.at + timeout / 2;
            if halfway > now { halfway } else { side.at + timeout }
        };
        self.limited_sides(options).map(next_look).min()
    }

    /// Leaves each side at least half its timeout: it was not looked at before half the timeout that it had until now.
    fn leave_time(&mut self, options: &ConnectionOptions, now: Instant) {
        let timeouts = self.timeouts(options);
        for (side, timeout) in [&mut self.client, &mut self.server].into_iter().zip(timeouts) {
            let halfway = timeout.and_then(|timeout| now.checked_sub(timeout / 2));
            side.at = halfway.map_or(side.at, |halfway| side.at.max(halfway));
        }
    }

    fn limited_sides(&self, options: &ConnectionOptions) -> impl Iterator<Item = (&Seen, Duration)> {
        let sides = [&self.client, &self.server].into_iter().zip(self.timeouts(options));
        sides.filter_map(|(side, timeout)| Some((side, timeout?)))
    }

    /// How long the client and the server may be idle now.
    fn timeouts(&self, options: &ConnectionOptions) -> [Option<Duration>; 2] {
        let half_closed = options.half_close_timeout.filter(|_| self.is_half_closed);
        let least = |idle: Option<Duration>| idle.into_iter().chain(half_closed).min();
        [least(options.client_idle_timeout), least(options.server_idle_timeout)]
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
    /// Begins to watch for sides that are idle for too long, if they have a timeout.
    pub(super) fn watch_activity(&mut self, kit: &mut Kit) {
        if timeouts(&self.service.options) != [None; 3] {
            self.last_active = Some(Box::new(LastActive::new(kit.now)));
            self.arm(kit);
        }
    }

    /// Has the timeouts of the service's options take effect in place of those that there were before.
    pub(super) fn change_timeouts(&mut self, before: &ConnectionOptions, kit: &mut Kit) {
        let options = &self.service.options;
        match timeouts(options) {
            same if same == timeouts(before) => return,
            [None, None, None] => return self.last_active = None,
            _ => {}
        }
        let active = self.last_active.get_or_insert_with(|| Box::new(LastActive::new(kit.now)));
        let (client_has_all, server_has_all) = self.flows.have_got_all();
        active.is_half_closed = client_has_all || server_has_all;
        active.leave_time(options, kit.now);
        // Begins to count what is on its way to each side. Neither can be over its timeout yet.
        self.has_idled(kit.now);
        self.arm(kit);
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn client_timeout(seconds: &str) -> ConnectionOptions {
        let words = ["glbd", "1", "--client-idle-timeout", seconds].map(str::to_owned);
        Config::from_command_line(words).expect("a command line").services.remove(0).connections
    }

    #[test]
    fn a_timeout_that_becomes_shorter_than_a_side_has_been_idle_is_half_over() {
        let (begun, options) = (Instant::now(), client_timeout("10"));
        let now = begun + Duration::from_secs(1000);
        let mut active = LastActive::new(begun);
        assert!(active.is_over(&options, now));
        active.leave_time(&options, now);
        assert!(!active.is_over(&options, now + Duration::from_millis(4900)));
        assert!(active.is_over(&options, now + Duration::from_secs(5)));
    }

    #[test]
    fn a_side_that_was_active_lately_has_all_the_time_that_is_left_of_its_new_timeout() {
        let (begun, options) = (Instant::now(), client_timeout("10"));
        let now = begun + Duration::from_secs(1);
        let mut active = LastActive::new(begun);
        active.leave_time(&options, now);
        assert_eq!(active.next_look(&options, now), Some(begun + Duration::from_secs(5)));
        assert!(active.is_over(&options, begun + Duration::from_secs(10)));
    }
}
