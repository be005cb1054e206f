//! How many lines of each service are written in a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use super::{Ended, Style};

const WINDOW: Duration = Duration::from_secs(1);
/// Seconds after which a service is forgotten.
const QUIET: u64 = 60;

/// How many lines of each service have been written in the second that runs.
#[derive(Default)]
pub(super) struct Rates(HashMap<Arc<str>, Rate>);

#[derive(Default)]
struct Rate {
    /// The second in which the last of its connections has ended, since 1970.
    second: u64,
    lines: u32,
    /// When the first of the lines that were left out was.
    since: Option<Instant>,
    most: u32,
    style: Style,
    left_out: usize,
}

/// Lines of a service that were left out.
#[derive(Debug, PartialEq)]
pub(super) struct LeftOut {
    pub service: Arc<str>,
    pub style: Style,
    pub count: usize,
    pub most: u32,
}

impl Rates {
    /// Whether a line about this connection may be written. If not, it is counted.
    pub(super) fn permit(&mut self, ended: &Ended) -> bool {
        let Ended { rate: most, style, .. } = *ended;
        // Not that in which it is written: lines may have waited for a disk.
        let second = ended.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let rate = match self.0.get_mut(&ended.service) {
            Some(rate) => rate,
            None => self.0.entry(Arc::clone(&ended.service)).or_default(),
        };
        if rate.second != second {
            (rate.second, rate.lines) = (second, 0);
        }
        (rate.most, rate.style) = (most, style);
        let permitted = rate.lines < most;
        if permitted {
            rate.lines += 1;
        } else {
            rate.left_out += 1;
            rate.since.get_or_insert_with(Instant::now);
        }
        permitted
    }

    /// What was left out for a second, or at all. It is forgotten then.
    pub(super) fn over(&mut self, now: Instant, all: bool) -> Vec<LeftOut> {
        let is_over = |since: Instant| all || now.saturating_duration_since(since) >= WINDOW;
        let over = self.0.iter_mut().filter(|(_, rate)| rate.since.is_some_and(is_over));
        let told = |(service, rate): (&Arc<str>, &mut Rate)| {
            rate.since = None;
            let (style, count, most) = (rate.style, std::mem::take(&mut rate.left_out), rate.most);
            LeftOut { service: Arc::clone(service), style, count, most }
        };
        over.map(told).collect()
    }

    /// When there is something to say of lines that were left out.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter_map(|rate| rate.since).min().map(|since| since + WINDOW)
    }

    /// Forgets services that have been quiet, so that those which are gone do not remain.
    pub(super) fn tidy(&mut self, now: SystemTime) {
        let second = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        self.0.retain(|_, rate| rate.since.is_some() || rate.second.abs_diff(second) < QUIET);
    }
}
