//! Watching one destination: probe, judge, wait, again.

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use log::{debug, info, warn};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::opinion::Opinion;
use super::probe::{Answer, Probe};
use super::{Common, discovery};
use crate::log::Seldom;
use crate::sys;
use crate::table::DestinationId;
use crate::table::health::{Health, Verdict};

/// How many times more often a destination is probed while its last answer contradicts its verdict.
const IN_DOUBT: u32 = 4;
/// How many times less often one is probed of which there is nothing at all.
const ABSENT: u32 = 10;
/// A hint brings the next probe forward, but no closer to the one before than this.
const HINTED: Duration = Duration::from_millis(100);
/// A discovered destination that failed so many times, and is no longer reported, goes.
const FAILURES_TO_BE_FORGOTTEN: u32 = 8;
/// In how many steps the weight of one that came back grows.
const STEPS: u32 = 20;
const SHORTEST_STEP: Duration = Duration::from_millis(50);
/// A scale that differs by less is not worth to change all picks for.
const SAME_SCALE: f64 = 0.05;

/// Whether it is this machine that kept the probe from being made. That includes a want of ports, which many clients
/// bring about, and of processes.
fn is_ours(error: &io::Error) -> bool {
    sys::is_shortage(error) || matches!(error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAGAIN))
}

/// Watches one destination.
pub(super) struct Watch {
    id: DestinationId,
    address: SocketAddr,
    hint: Rc<Notify>,
    common: Rc<Common>,
    probe: Box<dyn Probe>,
    opinion: Opinion,
    health: Health,
    samples: u32,
    /// Since when its weight grows.
    returned: Option<Instant>,
    trouble: Seldom,
}

impl Watch {
    pub(super) fn new(id: DestinationId, address: SocketAddr, hint: Rc<Notify>, common: Rc<Common>) -> Watch {
        let options = &common.options;
        // Another process may have watched it before.
        let health = common.table.health_of(id).unwrap_or_else(Health::unjudged);
        let known = health.verdict.is_some();
        let grown = options.slow_start.mul_f64(health.scale.clamp(0.0, 1.0));
        let growing = known && options.latency_samples.is_none() && grown < options.slow_start;
        Watch {
            id,
            address,
            hint,
            probe: common.prober.probe(address),
            opinion: Opinion::new(options.rise, options.fall, health.verdict),
            samples: if known { options.latency_samples.unwrap_or(1) } else { 0 },
            returned: growing.then(|| Instant::now().checked_sub(grown)).flatten(),
            health,
            trouble: Seldom::default(),
            common,
        }
    }

    /// Goes on until it is dropped.
    pub(super) async fn run(mut self) {
        // So that not all are probed at the same time for ever.
        let mut phase = fastrand::f64();
        loop {
            let began = Instant::now();
            let pause = match self.ask().await {
                Ok(answer) => {
                    let absent = answer.absent;
                    self.take(answer, began.elapsed()).await;
                    self.pause(absent)
                }
                Err(shortage) => {
                    self.tell_shortage(&shortage);
                    self.common.options.interval
                }
            };
            let pause = if phase > 0.0 { pause.mul_f64(std::mem::take(&mut phase)) } else { pause };
            self.wait(began, pause).await;
        }
    }

    /// Asks once. An error is this machine's, and says nothing about the destination.
    async fn ask(&mut self) -> io::Result<Answer> {
        let patience = self.common.options.timeout;
        match timeout(patience, self.probe.ask()).await {
            Ok(Err(error)) if is_ours(&error) => Err(error),
            Ok(Err(error)) => Ok(Answer::new(Verdict::Down, error.to_string())),
            Ok(Ok(answer)) => Ok(answer),
            Err(_) => {
                self.probe.give_up();
                Ok(Answer::new(Verdict::Down, format!("no answer within {} s", patience.as_secs_f64())))
            }
        }
    }

    /// What an answer changes.
    async fn take(&mut self, answer: Answer, took: Duration) {
        debug!("destination {}: the check says {} {}", self.address, answer.verdict, answer.reason);
        let before = self.opinion.verdict();
        let changed = self.opinion.hear(answer.verdict);
        self.health.verdict = self.opinion.verdict();
        self.health.checked = Some(std::time::Instant::now());
        let fit = answer.verdict == Verdict::Ready && self.health.verdict == Some(Verdict::Ready);
        if answer.verdict == Verdict::Ready {
            self.measure(took);
        }
        if changed || self.health.verdict == Some(answer.verdict) {
            self.health.reason.clone_from(&answer.reason);
        }
        if changed {
            self.returned = (before.is_some() && fit).then(Instant::now);
            self.tell(answer.verdict, &answer.reason);
        }
        match fit {
            true => self.common.fleet.borrow_mut().answers_within(self.id, self.health.latency),
            false => self.common.fleet.borrow_mut().is_unfit(self.id),
        }
        self.health.scale = self.scale();
        let close = changed && answer.verdict == Verdict::Down && !self.common.options.keep_sessions;
        self.common.table.judge(self.id, self.health.clone(), fit, close);
        self.common.fleet.borrow_mut().judged(self.id);
        if self.common.options.discover {
            self.look_for_members(fit, &answer.members).await;
        }
    }

    async fn look_for_members(&mut self, fit: bool, members: &[String]) {
        if fit && !members.is_empty() {
            discovery::take_in(&self.common, self.id, self.address.port(), members).await;
        }
        let gone =
            self.opinion.failures() >= FAILURES_TO_BE_FORGOTTEN && self.common.fleet.borrow().has_left(self.address);
        if gone && self.common.table.forget(self.id) {
            info!("destination {} removed: it is out, and no longer a member of the cluster", self.address);
        }
    }

    fn tell(&self, verdict: Verdict, reason: &str) {
        let colon = if reason.is_empty() { "" } else { ": " };
        match verdict {
            Verdict::Ready => info!("destination {} READY{colon}{reason}", self.address),
            _ => warn!("destination {} {verdict}{colon}{reason}", self.address),
        }
    }

    fn tell_shortage(&mut self, error: &io::Error) {
        if let Some(unsaid) = self.trouble.due(std::time::Instant::now()) {
            warn!("destination {} cannot be checked: {error}; it stays as it is{unsaid}", self.address);
        }
        // Whoever waits for an answer goes by what was known before.
        let fit = self.health.verdict == Some(Verdict::Ready);
        self.common.table.judge(self.id, self.health.clone(), fit, false);
    }

    /// A moving average, as far as there are samples for one.
    fn measure(&mut self, took: Duration) {
        let most = self.common.options.latency_samples.unwrap_or(1);
        self.samples = (self.samples + 1).min(most);
        let (before, part) = (self.health.latency.as_secs_f64(), f64::from(self.samples));
        self.health.latency = Duration::from_secs_f64((before + (took.as_secs_f64() - before) / part).max(0.0));
    }

    fn scale(&self) -> f64 {
        let grown = self.returned.map_or(1.0, |returned| {
            let part = returned.elapsed().as_secs_f64() / self.common.options.slow_start.as_secs_f64();
            // Also where there is no slow start, and the division gives no number.
            if part < 1.0 { part.max(1.0 / f64::from(STEPS)) } else { 1.0 }
        });
        let speed = match self.common.options.latency_samples {
            Some(_) => self.common.fleet.borrow().speed(self.health.latency),
            None => 1.0,
        };
        let (scale, before) = (grown * speed, self.health.scale);
        if (scale - before).abs() < SAME_SCALE * before && scale < 1.0 { before } else { scale }
    }

    fn is_growing(&self) -> bool {
        self.returned.is_some_and(|returned| returned.elapsed() < self.common.options.slow_start)
    }

    /// From the beginning of the last probe to that of the next.
    fn pause(&self, absent: bool) -> Duration {
        let interval = self.common.options.interval;
        match () {
            () if self.opinion.is_in_doubt() => interval / IN_DOUBT,
            () if absent => interval * ABSENT,
            () => interval,
        }
    }

    /// Waits for the next probe's time, or for a hint.
    async fn wait(&mut self, began: Instant, pause: Duration) {
        let step = (self.common.options.slow_start / STEPS).max(SHORTEST_STEP);
        let mut until = began + pause;
        loop {
            let growing = self.returned.is_some();
            tokio::select! {
                () = sleep_until(until) => return,
                () = self.hint.notified() => until = until.min(began + HINTED.min(pause)),
                () = sleep(step), if growing => self.grow(),
            }
        }
    }

    fn grow(&mut self) {
        if !self.is_growing() {
            self.returned = None;
        }
        self.health.scale = self.scale();
        self.common.table.rescale(self.id, self.health.scale);
    }
}
