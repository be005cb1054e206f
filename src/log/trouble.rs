//! Troubles that any thread may meet, a thousand times a second: what is logged about one is throttled for all threads
//! together, and ends with a line once the trouble is over.

use std::sync::{Arc, Weak};
use std::time::Instant;

use log::info;
use parking_lot::Mutex;

use super::throttle::{INTERVAL, LogThrottle, Suppressed};

/// Without an occurrence for so long, a trouble is over.
const QUIET: std::time::Duration = INTERVAL;

/// Those of the process.
static TROUBLES: Mutex<Vec<Weak<Trouble>>> = Mutex::new(Vec::new());

/// A kind of trouble.
pub struct Trouble {
    /// The module whose trouble it is, as log lines name theirs.
    target: &'static str,
    what: &'static str,
    episode: Mutex<Option<Episode>>,
}

/// From the first occurrence until there was none for a while.
struct Episode {
    throttle: LogThrottle,
    begun: Instant,
    last: Instant,
    occurrences: usize,
    /// How many [`Lasting`] there are.
    lasting: usize,
}

/// While this exists, the trouble goes on without occurring again.
pub struct Lasting(Arc<Trouble>);

impl Trouble {
    /// A kind of trouble of the module `target`, which `what` describes in the line at its end: "over: `what`".
    pub fn new(target: &'static str, what: &'static str) -> Arc<Trouble> {
        let trouble = Arc::new(Trouble { target, what, episode: Mutex::new(None) });
        let mut troubles = TROUBLES.lock();
        troubles.retain(|it| it.strong_count() > 0);
        troubles.push(Arc::downgrade(&trouble));
        trouble
    }

    /// Notes that it occurs. Returns `None` if that is not to be logged now, else what to put behind the line.
    pub fn occurs(&self, now: Instant) -> Option<Suppressed> {
        let mut episode = self.episode.lock();
        let episode = episode.get_or_insert_with(|| Episode {
            throttle: LogThrottle::default(),
            begun: now,
            last: now,
            occurrences: 0,
            lasting: 0,
        });
        episode.last = episode.last.max(now);
        episode.occurrences += 1;
        episode.throttle.permit(now)
    }

    /// Notes that what has just occurred goes on until the result is dropped.
    pub fn lasts(self: &Arc<Self>) -> Lasting {
        if let Some(episode) = self.episode.lock().as_mut() {
            episode.lasting += 1;
        }
        Lasting(Arc::clone(self))
    }

    /// When to see whether it is over; `None` if there is none.
    fn end(&self) -> Option<Instant> {
        self.episode.lock().as_ref().map(|episode| episode.last + QUIET)
    }

    /// Ends the episode if it is over. Returns what to log then, unless it was a single moment, whose line says all.
    fn end_if_over(&self, now: Instant) -> Option<String> {
        let mut current = self.episode.lock();
        let episode = current.as_mut()?;
        if episode.lasting > 0 {
            episode.last = now;
        }
        if now.saturating_duration_since(episode.last) < QUIET {
            return None;
        }
        let seconds = (episode.last - episode.begun).as_secs_f64().round();
        let (what, occurrences, quiet) = (self.what, episode.occurrences, QUIET.as_secs());
        let extent = match occurrences {
            1 => format!("for {seconds} s"),
            _ => format!("{occurrences} times in {seconds} s"),
        };
        let was_one_moment = occurrences == 1 && seconds < 1.0;
        *current = None;
        (!was_one_moment).then(|| format!("over: {what} ({extent}, and not in the last {quiet} s)"))
    }
}

impl Drop for Lasting {
    fn drop(&mut self) {
        if let Some(episode) = self.0.episode.lock().as_mut() {
            episode.lasting = episode.lasting.saturating_sub(1);
            episode.last = Instant::now();
        }
    }
}

/// When to call [`end_those_that_are_over`]; `None` if there is no trouble.
pub(super) fn next_end() -> Option<Instant> {
    TROUBLES.lock().iter().filter_map(|it| it.upgrade()?.end()).min()
}

/// Logs the end of troubles.
pub(super) fn end_those_that_are_over(now: Instant) {
    let troubles = TROUBLES.lock();
    let ended = |it: &Weak<Trouble>| it.upgrade().and_then(|it| Some((it.target, it.end_if_over(now)?)));
    let lines: Vec<(&str, String)> = troubles.iter().filter_map(ended).collect();
    drop(troubles);
    lines.iter().for_each(|(target, line)| info!(target: *target, "{line}"));
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn a_trouble_is_logged_at_once_then_every_ten_seconds_and_ends_with_a_line() {
        let (trouble, begun) = (Trouble::new(module_path!(), "it rains"), Instant::now());
        let logged = |after| trouble.occurs(begun + seconds(after)).map(|suppressed| suppressed.to_string());
        let lines: Vec<_> = [0, 1, 2, 10, 11].into_iter().map(logged).collect();
        let more = " (2 more since this was last told)".to_owned();
        assert_eq!(lines, [Some(String::new()), None, None, Some(more), None]);
        assert_eq!(trouble.end_if_over(begun + seconds(20)), None);
        let end = trouble.end_if_over(begun + seconds(21));
        assert_eq!(end.as_deref(), Some("over: it rains (5 times in 11 s, and not in the last 10 s)"));
        assert_eq!((trouble.end_if_over(begun + seconds(40)), trouble.end()), (None, None), "only once");
        assert_eq!(logged(41), Some(String::new()), "what comes then is another one");
        assert_eq!(trouble.end_if_over(begun + seconds(60)), None, "a moment");
        assert_eq!(logged(61), Some(String::new()));
    }

    #[test]
    fn a_trouble_that_lasts_is_not_over() {
        let (trouble, begun) = (Trouble::new(module_path!(), "it snows"), Instant::now());
        trouble.occurs(begun);
        let lasting = [trouble.lasts(), trouble.lasts()];
        assert_eq!(trouble.end_if_over(begun + seconds(100)), None);
        let [one, other] = lasting;
        drop(one);
        assert_eq!(trouble.end_if_over(begun + seconds(200)), None, "there is another one");
        drop(other);
        // As of its end, which is now.
        assert_eq!(trouble.end_if_over(Instant::now() + seconds(9)), None);
        assert!(trouble.end().is_some_and(|end| end <= Instant::now() + seconds(10)));
        assert_eq!(trouble.end_if_over(Instant::now() + seconds(10)), None, "a moment");
    }
}
