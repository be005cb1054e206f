//! Health: makes verdicts of what the checker process reports, and writes them into the table.
//!
//! What the reports make of the destinations is pure code without input or output ([`monitor`] and what it uses); the
//! thread in this file carries out what it decides. It asks the checker for each check, so that a checker that dies or
//! hangs changes no verdict: no report comes, and nothing is judged.

mod cluster;
pub mod fuzz;
mod hysteresis;
mod link;
mod members;
mod monitor;
mod schedule;
mod tell;
mod watched;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use log::{debug, info, warn};

use crate::checker::Credentials;
use crate::checker::protocol::{Finding, Report, Request, Settings as CheckerSettings};
use crate::config::WatchdogOptions;
use crate::counted::Counted;
use crate::log::{LogThrottle, Trouble};
use crate::pool::health::Reason;
use crate::pool::{DestinationId, Event, Pool};
use crate::resolve::{self, OwnAddresses};
use crate::supervise;
use link::{Heard, Link};
use monitor::{Judgement, Monitor, ToBeClosed};
use watched::Timing;

/// How much longer than its timeout a first check may take on a busy machine until clients are let in all the same: the
/// checker has to be started as well.
const SCHEDULING: Duration = Duration::from_millis(500);
/// How often it must have been seen that a report is later than its timeout, before the checker counts as hanging. Once is
/// not enough: the whole machine may have stood still, and on a busy one it may wait for its turn.
const OVERDUE: u32 = 10;
/// How often that is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// What a discovered destination weighs.
const DISCOVERED_WEIGHT: f64 = 1.0;

/// What is watched, and how.
pub struct Settings {
    /// How.
    pub options: WatchdogOptions,
    /// Who the checker logs in as.
    pub credentials: Credentials,
    /// `NAME=VALUE` in the environment of the checker's scripts.
    pub mark: String,
    /// The destinations.
    pub table: Pool,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: OwnAddresses,
    /// Whether sessions on destinations that fall are closed; a process that does not serve yet leaves that to the one that
    /// does, which may know better by now.
    pub closes_sessions: Arc<AtomicBool>,
    /// Called once every destination that there is at the start has been judged, or a check's timeout is over.
    pub on_first_verdicts: Box<dyn Fn() + Send>,
}

/// How the rest of the program reaches the thread that watches.
pub struct Handle {
    inputs: Sender<Input>,
    thread: JoinHandle<()>,
}

impl Handle {
    /// Ends the checker, and all that it has started.
    pub fn stop(self) {
        let _ = self.inputs.send(Input::Stop);
        // Its panics were logged.
        let _ = self.thread.join();
    }
}

/// What the thread waits for.
enum Input {
    Pool(Event),
    Stop,
}

/// Starts the thread that watches the destinations.
///
/// # Errors
/// When there is no thread.
pub fn start(settings: Settings) -> io::Result<Handle> {
    let (inputs, received) = unbounded();
    let events = inputs.clone();
    settings.table.subscribe(Box::new(move |event| {
        if matters(event) {
            // It fails when the thread has ended, and needs to hear nothing more.
            let _ = events.send(Input::Pool(event));
        }
    }));
    let thread = supervise::start("health", move || {
        let (heard, reports) = bounded(link::MAX_WAITING);
        Watchdog::new(&settings, heard).run(&received, &reports);
    })?;
    Ok(Handle { inputs, thread })
}

fn matters(event: Event) -> bool {
    !matches!(event, Event::Closed(..) | Event::Checked(..) | Event::Settled | Event::Named)
}

struct Watchdog<'a> {
    settings: &'a Settings,
    monitor: Monitor,
    link: Link,
    /// When clients are let in whatever is known.
    patience: Option<Instant>,
    next_look: Instant,
    /// How often in a row some report was seen to be late.
    late_looks: u32,
    /// `getwatch` says that there is no checker.
    is_note_set: bool,
    shortage: Arc<Trouble>,
    complaints: LogThrottle,
}

impl Watchdog<'_> {
    fn new(settings: &Settings, heard: Sender<Heard>) -> Watchdog<'_> {
        let now = Instant::now();
        let Settings { options, credentials, mark, .. } = settings;
        let mut monitor = Monitor::new(options.clone());
        for (id, address, health) in settings.table.healths() {
            monitor.watch(id, address, health, fastrand::f64(), now);
        }
        let (spec, timeout) = (options.probe.clone(), options.timeout);
        let checker = CheckerSettings {
            spec,
            credentials: credentials.clone(),
            timeout,
            mark: mark.clone(),
            prefer_ipv6: resolve::prefers_ipv6(),
        };
        Watchdog {
            settings,
            monitor,
            link: Link::new(checker, heard, now),
            patience: Some(now + timeout + SCHEDULING),
            next_look: now + LOOK,
            late_looks: 0,
            // What a thread before this one has said, which has met a defect.
            is_note_set: true,
            shortage: Trouble::new("destinations cannot be checked for lack of something here"),
            complaints: LogThrottle::after(5),
        }
    }

    fn run(mut self, inputs: &Receiver<Input>, heard: &Receiver<Heard>) {
        loop {
            let now = Instant::now();
            self.step(now);
            let deadlines = [self.monitor.next_deadline(), self.patience, self.link.starts_at(), Some(self.next_look)];
            let until = deadlines.into_iter().flatten().min().unwrap_or(self.next_look);
            select! {
                recv(inputs) -> input => match input {
                    Ok(Input::Pool(event)) => self.on_event(event, Instant::now()),
                    Ok(Input::Stop) | Err(_) => return,
                },
                recv(heard) -> heard => heard.into_iter().for_each(|heard| self.hear(heard, Instant::now())),
                default(until.saturating_duration_since(now)) => {}
            }
        }
    }

    /// Does what is due.
    fn step(&mut self, now: Instant) {
        if self.patience.is_some_and(|until| until <= now || self.monitor.all_are_judged()) {
            self.patience = None;
            (self.settings.on_first_verdicts)();
        }
        match self.link.start_if_due(now) {
            Ok(true) => self.tell_new_checker(now),
            Ok(false) => {}
            Err(why) => self.checker_is_gone(&why, now),
        }
        if self.next_look <= now {
            self.next_look = now + LOOK;
            let overdue = self.settings.options.timeout + LOOK;
            let is_late =
                self.monitor.waits_since().is_some_and(|since| now.saturating_duration_since(since) > overdue);
            self.late_looks = if is_late { self.late_looks + 1 } else { 0 };
            if self.late_looks >= OVERDUE {
                self.lose_checker("hangs", now);
            }
        }
        if self.link.is_running() {
            let monitor::Due { checks, scales } = self.monitor.due(now);
            scales.into_iter().for_each(|(id, scale)| self.settings.table.rescale(id, scale));
            checks.into_iter().for_each(|(id, fresh)| self.ask(&Request::Check { id, fresh }, now));
        }
    }

    fn tell_new_checker(&mut self, now: Instant) {
        self.late_looks = 0;
        let known: Vec<_> = self.monitor.addresses().collect();
        known.into_iter().for_each(|(id, address)| self.ask(&Request::Watch { id, address }, now));
        self.monitor.checker_is_gone(now);
    }

    fn ask(&mut self, request: &Request, now: Instant) {
        if let Err(why) = self.link.send(request, now) {
            self.checker_is_gone(&why, now);
        }
    }

    fn lose_checker(&mut self, reason: &str, now: Instant) {
        let why = self.link.lose(reason, now);
        self.checker_is_gone(&why, now);
    }

    /// What it was asked for is gone with it; verdicts stay as they are.
    fn checker_is_gone(&mut self, why: &str, now: Instant) {
        self.monitor.checker_is_gone(now);
        self.settings.table.set_checks_note(Some(Reason::new(why)));
        self.is_note_set = true;
    }

    fn hear(&mut self, heard: Heard, now: Instant) {
        match heard {
            Heard::Report(generation, report) if generation == self.link.generation() => self.on_report(report, now),
            // It may be known already.
            Heard::Lost(generation, reason) if generation == self.link.generation() && self.link.is_running() => {
                self.lose_checker(&reason, now);
            }
            // Of one that was replaced.
            Heard::Report(..) | Heard::Lost(..) => {}
        }
    }

    fn on_event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Added(id) if self.monitor.is_watched(id) => {}
            Event::Added(id) | Event::Moved(id, ..) => {
                // It may be gone again.
                let Some(address) = self.settings.table.address_at(id) else { return };
                let Some(health) = self.settings.table.health_of(id) else { return };
                self.forget(id, now);
                self.monitor.watch(id, address, health, fastrand::f64(), now);
                self.ask(&Request::Watch { id: id.serial(), address }, now);
            }
            Event::Removed(id) => self.forget(id, now),
            Event::Doubted(id) => self.monitor.hint(id, true, now),
            Event::Awaited(id) => self.monitor.hint(id, false, now),
            Event::Closed(..) | Event::Checked(..) | Event::Settled | Event::Named => {}
        }
    }

    fn forget(&mut self, id: DestinationId, now: Instant) {
        if self.monitor.is_watched(id) {
            self.monitor.forget(id);
            self.ask(&Request::Forget { id: id.serial() }, now);
        }
    }

    fn on_report(&mut self, report: Report, now: Instant) {
        if self.is_note_set {
            self.settings.table.set_checks_note(None);
            self.is_note_set = false;
        }
        match report {
            Report::Log(text) => {
                if let Some(suppressed) = self.complaints.permit(now) {
                    warn!("{}{suppressed}", Reason::new(&text));
                }
            }
            // It is watched no longer, or at another address.
            Report::Checked { id, address, .. } if !self.monitor.is_watched_at(id, address) => {}
            Report::Checked { id, .. } if !self.monitor.expects_report(id) => {
                self.lose_checker("reports more than it was asked for", now);
            }
            Report::Checked { id, finding, took, is_late, .. } => {
                if let Some(judgement) = self.monitor.report(id, &finding, Timing { took, is_late }, now) {
                    self.carry_out(&judgement, &finding, now);
                }
            }
        }
    }

    fn carry_out(&mut self, judgement: &Judgement, finding: &Finding, now: Instant) {
        let Judgement { id, address, health, fit, .. } = judgement;
        debug!("destination {address}: the check says {finding}");
        if let Finding::Shortage(reason) = finding
            && let Some(suppressed) = self.shortage.occurs(now)
        {
            let reason = Reason::new(reason);
            warn!(
                "destination {address} cannot be checked for lack of something here: {reason}; it stays as it is{suppressed}"
            );
        }
        let table = &self.settings.table;
        table.judge(*id, *address, health.clone(), *fit);
        let closed = self.close_sessions(*id);
        let told = judgement.changed_from.is_some().then_some(*id);
        if told.is_some() {
            let sessions = closed.iter().find(|(closed, ..)| closed == id).map(|(.., count)| *count);
            tell::verdict(judgement, sessions, &self.settings.options, table);
        }
        for (_, address, count) in closed.iter().filter(|(closed, _, count)| Some(*closed) != told && *count > 0) {
            let sessions = Counted(*count, "session");
            warn!("destination {address} is still DOWN, and another one READY: {sessions} closed");
        }
        self.discover(judgement);
    }

    /// Closes the sessions of destinations that have fallen, where clients have somewhere better to go, now that this one
    /// was reported on. Returns which, and how many sessions each had.
    fn close_sessions(&mut self, reported: DestinationId) -> Vec<(DestinationId, SocketAddr, usize)> {
        let mut closed = Vec::new();
        if !self.settings.closes_sessions.load(Ordering::Relaxed) {
            return closed;
        }
        for ToBeClosed { id, address, elsewhere } in self.monitor.to_be_closed(reported.serial()) {
            if let Some(count) = self.settings.table.close_fallen(id, elsewhere.as_deref()) {
                self.monitor.sessions_are_closed(id);
                closed.push((id, address, count));
            }
        }
        closed
    }

    fn discover(&self, judgement: &Judgement) {
        let table = &self.settings.table;
        for address in &judgement.members {
            if self.settings.own_addresses.include(*address) {
                continue;
            }
            match table.discover(*address, DISCOVERED_WEIGHT) {
                Ok(true) => info!("destination {address} discovered"),
                Ok(false) => {}
                Err(error) => warn!("destination {address} discovered, but not added: {error}"),
            }
        }
        if judgement.has_left && table.forget(judgement.id) {
            let address = judgement.address;
            info!("destination {address} removed: it is out, and no longer a member of the cluster");
        }
    }
}

#[cfg(test)]
mod tests;
