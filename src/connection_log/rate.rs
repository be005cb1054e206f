//! How many lines of each service are written in a second.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Ended, Style};

const WINDOW: Duration = Duration::from_secs(1);

/// How many lines of each service have been written in the second that runs.
#[derive(Default)]
pub(super) struct Rates(HashMap<Arc<str>, Rate>);

struct Rate {
    begun: Instant,
    lines: u32,
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
    pub(super) fn permit(&mut self, ended: &Ended, now: Instant) -> bool {
        let Ended { rate: most, style, .. } = *ended;
        let rate =
            self.0.entry(Arc::clone(&ended.service)).or_insert(Rate { begun: now, lines: 0, most, style, left_out: 0 });
        (rate.most, rate.style) = (most, style);
        let permitted = rate.lines < most;
        if permitted {
            rate.lines += 1
        } else {
            rate.left_out += 1
        }
        permitted
    }

    /// What was left out in seconds that are over, or in all. Services of which there is nothing more to say are
    /// forgotten.
    pub(super) fn over(&mut self, now: Instant, all: bool) -> Vec<LeftOut> {
        let is_over = |_: &Arc<str>, rate: &mut Rate| all || now.saturating_duration_since(rate.begun) >= WINDOW;
        let over = self.0.extract_if(is_over).filter(|(_, rate)| rate.left_out > 0);
        over.map(|(service, rate)| LeftOut { service, style: rate.style, count: rate.left_out, most: rate.most })
            .collect()
    }

    /// When the next of the seconds is over in which something was left out.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|rate| rate.left_out > 0).map(|rate| rate.begun + WINDOW).min()
    }
}
