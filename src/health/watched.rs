//! One destination that is watched: when it is checked, and what the results make of it. No input or output here.

mod weight;

use std::time::{Duration, Instant};

use super::agent::{self, AgentWatch};
use super::cluster::Heard;
use super::hysteresis::{Hysteresis, Observation};
use crate::address::PeerAddress;
use crate::checker::protocol::{AgentWord, Answer};
use crate::config::WatchdogOptions;
use crate::pool::health::{Health, Reason, Verdict};
use crate::pool::{AgentState, DestinationId};

/// How many times more often a destination is checked while the last result contradicts its verdict.
const IN_DOUBT: u32 = 4;
/// How long a destination may take to be fit again after another one was, and keep its sessions: when nodes of a cluster
/// have lost each other, they do not find back in the same moment.
const RECOVERY: Duration = Duration::from_secs(1);
/// How many times less often one is checked of which there is nothing at all.
const ABSENT: u32 = 10;
/// A hint brings the next check forward, but no closer to the one before than this.
const HINTED: Duration = Duration::from_millis(100);
/// Most reports that come of one check: silence, and an answer that is late. The next one may have begun by then.
const REPORTS: u8 = 2;

/// One destination that is watched.
pub(super) struct Watched {
    pub id: DestinationId,
    pub address: PeerAddress,
    hysteresis: Hysteresis,
    /// Why the checks find it as they do.
    reason: Reason,
    pub health: Health,
    /// `None` if there is no agent.
    pub agent: Option<AgentWatch>,
    samples: u32,
    /// Since when its weight grows.
    returned: Option<Instant>,
    /// When it last grew, or began to.
    grown: Instant,
    /// When the last check was asked for.
    asked: Option<Instant>,
    /// Whether that has not been reported yet.
    pub is_being_checked: bool,
    /// How many reports may come without another check being asked for.
    due_reports: u8,
    next: Instant,
    /// When to check it at the latest, for another reason than that it is its turn. A check that begins earlier does not
    /// replace that one.
    hinted: Option<Instant>,
    /// Whether the next check is to log in afresh.
    pub fresh: bool,
    /// So that not all are checked at the same time for ever.
    phase: f64,
    /// Since when it is DOWN, if its sessions have not been closed.
    fallen_at: Option<Instant>,
    /// Since when its verdict is READY.
    ready_since: Option<Instant>,
    /// When the last check began, if that found it DOWN.
    found_down: Option<Instant>,
    /// When the last check began, if that found it READY.
    found_ready: Option<Instant>,
    /// What it last said of its cluster, unless it said that it cannot serve, or is DOWN because it is silent.
    pub heard: Option<Heard>,
}

/// When a check came to its result.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timing {
    /// How long it took.
    pub took: Duration,
    /// The same check has counted as silence before.
    pub is_late: bool,
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Outcome {
    /// Whether it may be sent clients.
    pub fit: bool,
    /// The verdict before, if that was another.
    pub changed_from: Option<Option<Verdict>>,
}

impl Watched {
    /// One to be checked at once; another process may have watched it before, and have come to this.
    pub(super) fn new(
        id: DestinationId,
        address: PeerAddress,
        mut health: Health,
        options: &WatchdogOptions,
        phase: f64,
        now: Instant,
    ) -> Watched {
        let known = health.verdict.is_some();
        let grown = options.slow_start.mul_f64((health.scale / health.agent.factor()).clamp(0.0, 1.0));
        if options.agent.is_none() {
            health.agent = AgentState::default();
        }
        let growing = known && options.latency_samples.is_none() && grown < options.slow_start;
        Watched {
            id,
            address,
            hysteresis: Hysteresis::new(options.rise, options.fall, health.verdict),
            samples: if known { options.latency_samples.unwrap_or(1) } else { 0 },
            fallen_at: (health.verdict == Some(Verdict::Down)).then_some(now),
            ready_since: (health.verdict == Some(Verdict::Ready)).then_some(now),
            found_down: None,
            found_ready: None,
            returned: growing.then(|| now.checked_sub(grown)).flatten(),
            grown: now,
            reason: health.reason.clone(),
            health,
            agent: options.agent.as_ref().map(|agent| AgentWatch::new(agent.interval, now)),
            asked: None,
            is_being_checked: false,
            // Of an earlier watch of the same.
            due_reports: REPORTS,
            next: now,
            hinted: None,
            fresh: false,
            phase,
            heard: None,
        }
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        self.health.verdict
    }

    /// Observations in a row, up to the last, that it is down.
    pub(super) fn failures(&self) -> u32 {
        self.hysteresis.failures()
    }

    /// Has the next check made as soon as may be; `fresh`, as a new client would be served.
    pub(super) fn hint(&mut self, fresh: bool, now: Instant) {
        self.fresh |= fresh;
        self.ask_by(self.asked.map_or(now, |asked| now.max(asked + HINTED)));
    }

    /// Has it checked at this moment at the latest, unless it is being checked then.
    fn ask_by(&mut self, moment: Instant) {
        self.hinted = Some(self.hinted.map_or(moment, |hinted| hinted.min(moment)));
    }

    /// Has it checked at once, because the checker that was to report is gone.
    pub(super) fn check_again(&mut self, now: Instant) {
        self.is_being_checked = false;
        self.next = now;
    }

    /// Begins to count anew, and has it checked at once, now that it is checked otherwise. Reports that are under way may
    /// still come.
    pub(super) fn begin_again(&mut self, options: &WatchdogOptions, now: Instant) {
        self.hysteresis = Hysteresis::new(options.rise, options.fall, self.hysteresis.verdict());
        self.agent = options.agent.as_ref().map(|agent| AgentWatch::new(agent.interval, now));
        if self.agent.is_none() {
            self.health.agent = AgentState::default();
        }
        self.due_reports = self.due_reports.max(REPORTS);
        self.phase = fastrand::f64();
        self.check_again(now);
    }

    /// When to check it; `None` while it is being checked.
    pub(super) fn next_check(&self) -> Option<Instant> {
        (!self.is_being_checked).then(|| self.hinted.map_or(self.next, |hinted| hinted.min(self.next)))
    }

    /// A check is asked for. Returns whether it is to log in afresh.
    pub(super) fn begin_check(&mut self, now: Instant) -> bool {
        (self.asked, self.is_being_checked) = (Some(now), true);
        self.hinted.take_if(|moment| *moment <= now);
        self.due_reports = (self.due_reports + REPORTS).min(2 * REPORTS);
        std::mem::take(&mut self.fresh)
    }

    /// Since when a report is waited for.
    pub(super) fn waits_since(&self) -> Option<Instant> {
        self.asked.filter(|_| self.is_being_checked)
    }

    /// A report has come. Returns false if there are more than were asked for.
    pub(super) fn expects_report(&mut self) -> bool {
        let rest = self.due_reports.checked_sub(1);
        self.due_reports = rest.unwrap_or(0);
        rest.is_some()
    }

    /// It could not be checked; it stays as it is.
    pub(super) fn was_not_checked(&mut self, options: &WatchdogOptions, now: Instant) {
        self.is_being_checked = false;
        self.next = now + options.interval;
    }

    /// Takes note of what it says of its cluster; `None` is silence.
    pub(super) fn hear(&mut self, answer: Option<&Answer>, now: Instant) {
        let Some(answer) = answer else {
            self.heard.iter_mut().for_each(|heard| heard.is_silent = true);
            return;
        };
        let facts = answer.galera.clone().filter(|_| answer.verdict > Verdict::Down);
        self.heard = facts.map(|facts| Heard { facts, at: now, is_silent: false });
    }

    /// A check was made. Returns what came of it.
    pub(super) fn observe(
        &mut self,
        observation: Observation,
        reason: &str,
        absent: bool,
        timing: Timing,
        options: &WatchdogOptions,
        now: Instant,
    ) -> Outcome {
        self.is_being_checked = false;
        let observed = observation.verdict();
        let changed = self.hysteresis.observe(observation, timing.is_late);
        self.health.checked = Some(now);
        if observed >= Verdict::Spare {
            self.measure(timing.took, options);
        }
        if changed || self.hysteresis.verdict() == Some(observed) {
            self.reason = reason.into();
        }
        let changed_from = self.settle(now);
        let verdict = self.verdict();
        // The checks may well find what the agent forbids.
        let observed = self.health.agent.limit().map_or(observed, |(limit, _)| observed.min(limit));
        let fit = observed >= Verdict::Spare && verdict >= Some(Verdict::Spare);
        if verdict == Some(Verdict::Down) {
            self.heard.take_if(|heard| heard.is_silent);
        }
        // One that is late may have begun before it was asked for the last time.
        let begun = self.asked.min(now.checked_sub(timing.took));
        self.found_down = begun.filter(|_| observed == Verdict::Down);
        self.found_ready = begun.filter(|_| observed == Verdict::Ready);
        self.next = self.after(self.pause(absent, options), now);
        Outcome { fit, changed_from }
    }

    /// The agent says something. Returns what came of it.
    pub(super) fn hear_agent(&mut self, word: &AgentWord, now: Instant) -> Outcome {
        agent::apply(&mut self.health.agent, word);
        let changed_from = self.settle(now);
        if self.verdict() == Some(Verdict::Down) && self.health.agent.limit().is_some() {
            (self.found_down, self.found_ready) = (Some(now), None);
        }
        Outcome { fit: self.verdict() >= Some(Verdict::Spare), changed_from }
    }

    /// Makes the verdict of what the checks have found and what the agent says. Returns the one before, if that was another.
    fn settle(&mut self, now: Instant) -> Option<Option<Verdict>> {
        let (before, found) = (self.health.verdict, self.hysteresis.verdict());
        let (verdict, reason) = match self.health.agent.limit() {
            Some((limit, reason)) if found > Some(limit) => (Some(limit), reason),
            _ => (found, self.reason.clone()),
        };
        (self.health.verdict, self.health.reason) = (verdict, reason);
        if verdict == before {
            return None;
        }
        self.returned = (before.is_some() && verdict == Some(Verdict::Ready)).then_some(now);
        self.grown = now;
        self.fallen_at = (verdict == Some(Verdict::Down)).then_some(now);
        self.ready_since = (verdict == Some(Verdict::Ready)).then_some(now);
        Some(before)
    }

    /// Whether its sessions are to be closed as soon as another destination is READY for certain. One that may just be
    /// coming back keeps them.
    pub(super) fn is_to_be_closed(&self) -> bool {
        self.fallen_at.is_some() && self.found_down.is_some()
    }

    /// Whether another destination is READY for certain: it was found so after this one fell, because what it was before
    /// may be over for the same reason; and this one had time to follow, where both have been away.
    pub(super) fn is_surpassed_by(&self, other: &Watched) -> bool {
        let after = |at: Option<Instant>, than: Option<Instant>| at.zip(than).is_some_and(|(at, than)| at > than);
        let has_followed = |since: Instant| self.found_down >= Some(since + RECOVERY);
        after(other.found_ready, self.fallen_at) && other.ready_since.is_some_and(has_followed)
    }

    /// Has it checked when it has had time to follow another destination that is READY now.
    pub(super) fn may_follow(&mut self, now: Instant) {
        self.ask_by(now + RECOVERY);
    }

    /// Since when it matters whether another destination is READY for certain, if it does.
    pub(super) fn looks_for_another_since(&self) -> Option<Instant> {
        self.fallen_at.filter(|_| self.is_to_be_closed())
    }

    /// Whether it was READY when last asked, and no check was asked for since `then`.
    pub(super) fn may_be_ready_since(&self, then: Instant) -> bool {
        self.found_ready.is_some() && self.asked.is_none_or(|asked| asked <= then)
    }

    /// They are closed.
    pub(super) fn sessions_are_closed(&mut self) {
        self.fallen_at = None;
    }

    /// From the beginning of the last check to that of the next.
    fn pause(&self, absent: bool, options: &WatchdogOptions) -> Duration {
        let down_interval = options.down_interval.filter(|_| self.hysteresis.verdict() == Some(Verdict::Down));
        match () {
            () if self.hysteresis.is_in_doubt() => options.interval / IN_DOUBT,
            () if absent => down_interval.unwrap_or(options.interval * ABSENT),
            () => down_interval.unwrap_or(options.interval),
        }
    }

    fn after(&mut self, pause: Duration, now: Instant) -> Instant {
        let phase = std::mem::replace(&mut self.phase, 1.0);
        (self.asked.unwrap_or(now) + pause.mul_f64(phase)).max(now)
    }
}
