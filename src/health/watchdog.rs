//! The thread that watches all pools: it passes reports, events and what is due on to each pool's [`PoolWatch`], and keeps
//! the checker process running while there is any pool to check.

use std::collections::HashSet;
use std::collections::btree_map::{BTreeMap, Entry};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, at, never, select};
use log::warn;

use super::link::{Heard, Link};
use super::pool_watch::{LOOK, PoolWatch, Reported, WatchContext};
use super::watched::Timing;
use super::{Input, Settings, Watch};
use crate::checker::protocol::{Report, Request, Settings as CheckerSettings};
use crate::log::{LogThrottle, Trouble};
use crate::pool::health::Reason;
use crate::pool::{DestinationId, Event, Pool};
use crate::resolve;

/// What is watched.
#[derive(Default)]
pub(super) struct Watches {
    /// By the numbers of the pools.
    pools: BTreeMap<u32, PoolWatch>,
    /// The pools whose events arrive. Those that are no longer watched stay among them, since a subscription cannot be
    /// ended.
    subscribed: HashSet<u32>,
}

pub(super) struct Watchdog<'a> {
    watches: &'a mut Watches,
    /// For the events of pools.
    events: Sender<Input>,
    link: Link,
    next_look: Instant,
    /// Why there is no checker, while there is none; `getwatch` says so.
    note: Option<Reason>,
    /// Whether pools may have a note.
    is_note_set: bool,
    context: WatchContext<'a>,
    complaints: LogThrottle,
}

impl<'a> Watchdog<'a> {
    /// Watches what a thread before this one has watched, which has met a defect.
    pub(super) fn new(
        settings: &'a Settings,
        watches: &'a mut Watches,
        events: Sender<Input>,
        heard: Sender<Heard>,
    ) -> Watchdog<'a> {
        let now = Instant::now();
        let checker = CheckerSettings { mark: settings.mark.clone(), prefer_ipv6: resolve::prefers_ipv6() };
        let mut link = Link::new(checker, heard);
        if !watches.pools.is_empty() {
            link.demand(now);
        }
        watches.pools.values_mut().for_each(|pool| pool.begin_anew(now));
        let shortage = Trouble::new(module_path!(), "destinations cannot be checked for lack of something here");
        Watchdog {
            watches,
            events,
            link,
            next_look: now + LOOK,
            note: None,
            // That thread may have said that there is no checker.
            is_note_set: true,
            context: WatchContext { settings, shortage },
            complaints: LogThrottle::after(5),
        }
    }

    pub(super) fn run(mut self, inputs: &Receiver<Input>, heard: &Receiver<Heard>) {
        loop {
            self.step(Instant::now());
            let due = self.next_deadline().map_or_else(never, at);
            select! {
                recv(inputs) -> input => match input {
                    Ok(Input::Pool(event)) => self.on_event(event, Instant::now()),
                    Ok(Input::Watch(watch)) => self.watch(*watch, Instant::now()),
                    Ok(Input::Forget(pool)) => self.forget(pool),
                    Ok(Input::Stop) | Err(_) => return,
                },
                recv(heard) -> heard => heard.into_iter().for_each(|heard| self.hear(heard, Instant::now())),
                recv(due) -> _ => {}
            }
        }
    }

    /// The nearest of all pools' deadlines and the thread's own; `None` where nothing is watched.
    fn next_deadline(&self) -> Option<Instant> {
        let pools = || self.watches.pools.values();
        let patience = pools().filter_map(PoolWatch::patience).min();
        // Without a checker, checks that are due wait for it.
        let checks = pools().filter_map(PoolWatch::next_check).min().filter(|_| self.link.is_running());
        let look = pools().next().map(|_| self.next_look);
        [patience, checks, look, self.link.starts_at()].into_iter().flatten().min()
    }

    /// Does what is due.
    fn step(&mut self, now: Instant) {
        self.watches.pools.values_mut().for_each(|pool| pool.tell_first_verdicts(now));
        match self.link.start_if_due(now) {
            Ok(true) => self.tell_new_checker(now),
            Ok(false) => {}
            Err(why) => self.checker_is_gone(&why, now),
        }
        if self.next_look <= now {
            self.next_look = now + LOOK;
            // Each pool counts by itself, so all of them are to look.
            let looks = self.watches.pools.values_mut().map(|pool| pool.finds_checker_hanging(now));
            if looks.fold(false, |any, hangs| any | hangs) {
                self.lose_checker("hangs", now);
            }
        }
        if self.link.is_running() {
            let checks: Vec<_> = self.watches.pools.values_mut().flat_map(|pool| pool.begin_checks(now)).collect();
            checks.iter().for_each(|check| self.ask(check, now));
        }
    }

    /// Watches a pool, or goes on with other options.
    pub(super) fn watch(&mut self, watch: Watch, now: Instant) {
        let number = watch.pool.number();
        self.subscribe(number, &watch.pool);
        if self.note.is_some() {
            watch.pool.set_checks_note(self.note.clone());
        }
        let pool = match self.watches.pools.entry(number) {
            Entry::Occupied(known) => {
                let known = known.into_mut();
                known.change(watch, now);
                known
            }
            Entry::Vacant(vacant) => vacant.insert(PoolWatch::new(watch, now)),
        };
        let requests = pool.introduction();
        self.link.demand(now);
        requests.iter().for_each(|request| self.ask(request, now));
    }

    /// Has the events of a pool arrive.
    fn subscribe(&mut self, number: u32, pool: &Pool) {
        if !self.watches.subscribed.insert(number) {
            return;
        }
        let events = self.events.clone();
        pool.subscribe(Box::new(move |event| {
            if destination_of(event).is_some() {
                // It fails when the thread has ended, and needs to hear nothing more.
                let _ = events.send(Input::Pool(event));
            }
        }));
    }

    /// Stops watching a pool, and ends the checker after the last one.
    pub(super) fn forget(&mut self, number: u32) {
        let Some(pool) = self.watches.pools.remove(&number) else { return };
        if self.is_note_set {
            pool.set_note(None);
        }
        self.ask(&Request::ForgetPool { pool: number }, Instant::now());
        if self.watches.pools.is_empty() {
            self.link.end();
            self.note = None;
        }
    }

    fn tell_new_checker(&mut self, now: Instant) {
        let requests: Vec<_> = self.watches.pools.values().flat_map(PoolWatch::introduction).collect();
        requests.iter().for_each(|request| self.ask(request, now));
        self.watches.pools.values_mut().for_each(|pool| pool.checker_is_gone(now));
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
        self.note = Some(Reason::new(why));
        self.is_note_set = true;
        for pool in self.watches.pools.values_mut() {
            pool.checker_is_gone(now);
            pool.set_note(self.note.clone());
        }
    }

    /// Takes all checks that are due by then as asked for, where no checker runs.
    pub(super) fn expect_reports(&mut self, by: Instant) {
        self.watches.pools.values_mut().for_each(|pool| drop(pool.begin_checks(by)));
    }

    pub(super) fn hear(&mut self, heard: Heard, now: Instant) {
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

    pub(super) fn on_event(&mut self, event: Event, now: Instant) {
        let Some(id) = destination_of(event) else { return };
        // It may be watched no longer.
        let Some(pool) = self.watches.pools.get_mut(&id.pool()) else { return };
        let requests = pool.on_event(event, now);
        requests.iter().for_each(|request| self.ask(request, now));
    }

    pub(super) fn on_report(&mut self, report: Report, now: Instant) {
        if std::mem::take(&mut self.is_note_set) {
            self.note = None;
            self.watches.pools.values().for_each(|pool| pool.set_note(None));
        }
        match report {
            Report::Log(text) => {
                if let Some(suppressed) = self.complaints.permit(now) {
                    warn!("{}{suppressed}", Reason::new(&text));
                }
            }
            Report::Checked { id, address, finding, took, is_late } => {
                // It may be watched no longer, or at another address.
                let Some(pool) = self.watches.pools.get_mut(&id.pool) else { return };
                let reported =
                    pool.on_report(id.serial, address, &finding, Timing { took, is_late }, &self.context, now);
                self.is_reported(&reported, now);
            }
            Report::Agent { id, address, word } => {
                let Some(pool) = self.watches.pools.get_mut(&id.pool) else { return };
                let reported = pool.on_agent(id.serial, address, &word, &self.context, now);
                self.is_reported(&reported, now);
            }
        }
    }

    fn is_reported(&mut self, reported: &Reported, now: Instant) {
        match reported {
            Reported::Taken | Reported::NotWatched => {}
            Reported::Unasked => self.lose_checker("reports more than it was asked for", now),
        }
    }
}

/// The destination that an event is about, where it matters to the watchdog.
fn destination_of(event: Event) -> Option<DestinationId> {
    match event {
        Event::Added(id) | Event::Removed(id) | Event::Moved(id, ..) | Event::Doubted(id) | Event::Awaited(id) => {
            Some(id)
        }
        Event::Closed(..) | Event::Checked(..) | Event::Settled | Event::Named => None,
    }
}

#[cfg(test)]
mod tests;
