//! One pool that is watched: what its monitor decides, carried out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::{debug, info, warn};

use super::monitor::{Due, Judgement, Monitor, ToBeClosed};
use super::watched::Timing;
use super::{OnFirstVerdicts, Settings, Watch, tell};
use crate::address::PeerAddress;
use crate::checker::Credentials;
use crate::checker::protocol::{AgentWord, Finding, ProbeSettings, Request};
use crate::counted::Counted;
use crate::counters::CheckResult;
use crate::log::Trouble;
use crate::pool::health::Reason;
use crate::pool::{DestinationId, Event, Pool};

/// How much longer than its timeout a first check may take on a busy machine until clients are let in all the same: the
/// checker has to be started as well.
const SCHEDULING: Duration = Duration::from_millis(500);
/// How often it must have been seen that a report is later than its timeout, before the checker counts as hanging. Once is
/// not enough: the whole machine may have stood still, and on a busy one it may wait for its turn.
const OVERDUE: u32 = 10;
/// How often that is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);
/// What a discovered destination weighs.
const DISCOVERED_WEIGHT: f64 = 1.0;

/// What the watches of all pools share.
pub(super) struct WatchContext<'a> {
    pub settings: &'a Settings,
    pub shortage: Arc<Trouble>,
}

/// What became of a report.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reported {
    Taken,
    /// Its destination is watched no longer, or at another address.
    NotWatched,
    /// There are more than were asked for.
    Unasked,
}

/// One pool that is watched.
pub(super) struct PoolWatch {
    pool: Pool,
    credentials: Credentials,
    /// Those that have not been called.
    on_first_verdicts: VecDeque<OnFirstVerdicts>,
    pub(super) monitor: Monitor,
    /// When those are called whatever is known.
    patience: Option<Instant>,
    /// How often in a row some report was seen to be late.
    late_looks: u32,
}

impl PoolWatch {
    pub(super) fn new(watch: Watch, now: Instant) -> PoolWatch {
        let Watch { pool, options, credentials, on_first_verdicts } = watch;
        let mut watch = PoolWatch {
            pool,
            credentials,
            on_first_verdicts: [on_first_verdicts].into(),
            monitor: Monitor::new(options),
            patience: None,
            late_looks: 0,
        };
        watch.begin_anew(now);
        watch
    }

    /// Goes by nothing but what the pool says.
    pub(super) fn begin_anew(&mut self, now: Instant) {
        self.monitor = Monitor::new(self.monitor.options().clone());
        for (id, address, health) in self.pool.healths() {
            self.monitor.watch(id, address, health, fastrand::f64(), now);
        }
        self.late_looks = 0;
        self.wait_for_first_verdicts(now);
    }

    /// Goes on with other options. What is known of the destinations stays, and all are checked again at once.
    pub(super) fn change(&mut self, watch: Watch, now: Instant) {
        let Watch { pool: _, options, credentials, on_first_verdicts } = watch;
        self.credentials = credentials;
        self.monitor.change_options(options, now);
        self.on_first_verdicts.push_back(on_first_verdicts);
        self.wait_for_first_verdicts(now);
    }

    fn wait_for_first_verdicts(&mut self, now: Instant) {
        let patience = now + self.monitor.options().timeout + SCHEDULING;
        self.patience = (!self.on_first_verdicts.is_empty()).then_some(patience);
    }

    /// Says that all destinations have been judged, once they have or that has taken too long.
    pub(super) fn tell_first_verdicts(&mut self, now: Instant) {
        if self.patience.is_some_and(|until| until <= now || self.monitor.all_are_judged()) {
            while let Some(call) = self.on_first_verdicts.pop_front() {
                call();
            }
            self.patience = None;
        }
    }

    /// When first verdicts are waited for no longer.
    pub(super) fn patience(&self) -> Option<Instant> {
        self.patience
    }

    /// When a check is to be asked for the next time, or a weight grows.
    pub(super) fn next_check(&self) -> Option<Instant> {
        self.monitor.next_deadline()
    }

    /// What a checker is to be told before it is asked to check anything here.
    pub(super) fn introduction(&self) -> Vec<Request> {
        let (options, credentials) = (self.monitor.options(), self.credentials.clone());
        let settings = ProbeSettings {
            spec: options.probe.clone(),
            credentials,
            timeout: options.timeout,
            send_proxy: options.send_proxy,
            agent: options.agent.clone(),
        };
        let mut requests = vec![Request::Pool { pool: self.pool.number(), settings: Box::new(settings) }];
        requests.extend(self.monitor.addresses().map(|(id, address)| Request::Watch { id: id.into(), address }));
        requests
    }

    /// Takes the weights into account that have grown, and returns the checks to ask for, which count as begun.
    pub(super) fn begin_checks(&mut self, now: Instant) -> Vec<Request> {
        let Due { checks, scales, agents } = self.monitor.due(now);
        scales.into_iter().for_each(|(id, scale)| self.pool.rescale(id, scale));
        let checks = checks.into_iter().map(|(id, fresh)| Request::Check { id: id.into(), fresh });
        checks.chain(agents.into_iter().map(|id| Request::AskAgent { id: id.into() })).collect()
    }

    /// To be called every [`LOOK`]. Returns true if reports have been late for so long that the checker must be hanging.
    pub(super) fn finds_checker_hanging(&mut self, now: Instant) -> bool {
        let overdue = self.monitor.options().timeout + LOOK;
        let is_late = self.monitor.waits_since().is_some_and(|since| now.saturating_duration_since(since) > overdue);
        self.late_looks = if is_late { self.late_looks + 1 } else { 0 };
        self.late_looks >= OVERDUE
    }

    /// The checker is gone, and what it was asked for with it.
    pub(super) fn checker_is_gone(&mut self, now: Instant) {
        self.late_looks = 0;
        self.monitor.checker_is_gone(now);
    }

    /// Has `getwatch` say why no checks are being made.
    pub(super) fn set_note(&self, note: Option<Reason>) {
        self.pool.set_checks_note(note);
    }

    /// Returns what to tell the checker.
    pub(super) fn on_event(&mut self, event: Event, now: Instant) -> Vec<Request> {
        match event {
            Event::Added(id) if self.monitor.is_watched(id) => Vec::new(),
            Event::Added(id) | Event::Moved(id, ..) => {
                // It may be gone again.
                let Some(address) = self.pool.address_at(id) else { return Vec::new() };
                let Some(health) = self.pool.health_of(id) else { return Vec::new() };
                let mut requests = self.forget(id);
                self.monitor.watch(id, address, health, fastrand::f64(), now);
                requests.push(Request::Watch { id: id.into(), address });
                requests
            }
            Event::Removed(id) => self.forget(id),
            Event::Doubted(id) | Event::Awaited(id) => {
                self.monitor.hint(id, matches!(event, Event::Doubted(_)), now);
                Vec::new()
            }
            Event::Closed(..) | Event::Checked(..) | Event::Settled | Event::Named => Vec::new(),
        }
    }

    fn forget(&mut self, id: DestinationId) -> Vec<Request> {
        if !self.monitor.is_watched(id) {
            return Vec::new();
        }
        self.monitor.forget(id);
        vec![Request::Forget { id: id.into() }]
    }

    /// Takes the result of a check into account.
    pub(super) fn on_report(
        &mut self,
        serial: u64,
        address: PeerAddress,
        finding: &Finding,
        timing: Timing,
        context: &WatchContext<'_>,
        now: Instant,
    ) -> Reported {
        if !self.monitor.is_watched_at(serial, address) {
            return Reported::NotWatched;
        }
        if !self.monitor.expects_report(serial) {
            return Reported::Unasked;
        }
        if let Some(judgement) = self.monitor.report(serial, finding, timing, now) {
            if let Some(result) = result(finding, timing, self.monitor.options().timeout) {
                self.pool.count_check(judgement.id, result, timing.took);
            }
            self.carry_out(&judgement, finding, context, now);
        }
        Reported::Taken
    }

    /// Takes the word of a destination's agent into account; an error is silence, and changes nothing.
    pub(super) fn on_agent(
        &mut self,
        serial: u64,
        address: PeerAddress,
        word: &Result<AgentWord, String>,
        context: &WatchContext<'_>,
        now: Instant,
    ) -> Reported {
        if !self.monitor.is_watched_at(serial, address) {
            return Reported::NotWatched;
        }
        if !self.monitor.expects_agent(serial, now) {
            return Reported::Unasked;
        }
        match word {
            Ok(word) => {
                if let Some(judgement) = self.monitor.hear_agent(serial, word, now) {
                    tell::limit(&judgement, &self.pool);
                    self.pool.set_health(judgement.id, judgement.address, judgement.health.clone());
                    self.follow(&judgement, context);
                }
            }
            Err(why) => {
                let label = self.pool.label();
                let (pool, it, why) = (label.pool(), label.of(address), Reason::new(why));
                debug!(destination:% = address, pool; "destination {it}: the agent says nothing: {why}");
            }
        }
        Reported::Taken
    }

    fn carry_out(&mut self, judgement: &Judgement, finding: &Finding, context: &WatchContext<'_>, now: Instant) {
        let Judgement { id, address, health, fit, .. } = judgement;
        let label = self.pool.label();
        let (pool, it) = (label.pool(), label.of(address));
        debug!(destination:% = address, pool; "destination {it}: the check says {finding}");
        if let Finding::Shortage(reason) = finding
            && let Some(suppressed) = context.shortage.occurs(now)
        {
            let reason = Reason::new(reason);
            warn!(
                destination:% = address, pool;
                "destination {it} cannot be checked for lack of something here: {reason}; it stays as it is{suppressed}"
            );
        }
        self.pool.judge(*id, *address, health.clone(), *fit);
        self.follow(judgement, context);
        self.discover(judgement, context.settings);
    }

    /// Closes the sessions that have to go now, and tells of a verdict that has changed.
    fn follow(&mut self, judgement: &Judgement, context: &WatchContext<'_>) {
        let id = &judgement.id;
        let may_close = context.settings.closes_sessions.load(Ordering::Relaxed);
        let closed = if may_close { self.close_sessions(*id) } else { Vec::new() };
        let told = judgement.changed_from.is_some().then_some(*id);
        if told.is_some() {
            let sessions = closed.iter().find(|(closed, ..)| closed == id).map(|(.., count)| *count);
            tell::verdict(judgement, sessions, self.monitor.options(), &self.pool);
        }
        for (_, address, count) in closed.iter().filter(|(closed, _, count)| Some(*closed) != told && *count > 0) {
            let sessions = Counted(*count, "session");
            let label = self.pool.label();
            let (pool, it) = (label.pool(), label.of(address));
            warn!(destination:% = address, pool; "destination {it} is still DOWN, and another one READY: {sessions} closed");
        }
    }

    /// Closes the sessions of destinations that have fallen, where clients have somewhere better to go, now that this one
    /// was reported on. Returns which, and how many sessions each had.
    fn close_sessions(&mut self, reported: DestinationId) -> Vec<(DestinationId, PeerAddress, usize)> {
        let mut closed = Vec::new();
        for ToBeClosed { id, address, elsewhere } in self.monitor.to_be_closed(reported.serial()) {
            if let Some(count) = self.pool.close_fallen(id, elsewhere.as_deref()) {
                self.monitor.sessions_are_closed(id);
                closed.push((id, address, count));
            }
        }
        closed
    }

    fn discover(&self, judgement: &Judgement, settings: &Settings) {
        let label = self.pool.label();
        let pool = label.pool();
        for address in &judgement.members {
            if settings.own_addresses.include(*address) {
                continue;
            }
            match self.pool.discover(*address, DISCOVERED_WEIGHT) {
                Ok(true) => info!(destination:% = address, pool; "destination {} discovered", label.of(address)),
                Ok(false) => {}
                Err(error) => {
                    let it = label.of(address);
                    warn!(destination:% = address, pool; "destination {it} discovered, but not added: {error}");
                }
            }
        }
        if judgement.has_left && self.pool.forget(judgement.id) {
            let address = judgement.address;
            let it = label.of(address);
            info!(destination:% = address, pool; "destination {it} removed: it is out, and no longer a member of the cluster");
        }
    }
}

/// What a check counts as; `None` for one that has been counted before, or was not due.
fn result(finding: &Finding, timing: Timing, timeout: Duration) -> Option<CheckResult> {
    match finding {
        // Its timeout has been counted.
        _ if timing.is_late => None,
        Finding::Answer(answer) => Some(answer.verdict.into()),
        Finding::Silence(_) if timing.took >= timeout => Some(CheckResult::TimedOut),
        Finding::Silence(_) => Some(CheckResult::Failed),
        Finding::Shortage(_) => Some(CheckResult::NotMade),
        Finding::Pause => None,
    }
}
