//! The names of one pool: when each is to be looked up, and what follows from its addresses.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::Settings;
use crate::address::{Endpoint, PeerAddress};
use crate::pool::health::Reason;
use crate::pool::{Followed, Label, Pool};
use crate::resolve::{self, OwnAddresses};

/// Between two attempts to resolve a name that never has, unless names are resolved more often anyway.
const RETRY: Duration = Duration::from_secs(5);
/// How long resolving a name may take before a log line says so.
const LATE: Duration = Duration::from_secs(5);

/// The names of one pool.
pub(super) struct PoolNames {
    settings: Settings,
    /// Those that are being resolved, since when.
    asked: HashMap<Endpoint, Instant>,
    /// Those whose turn comes when others are answered.
    waiting: VecDeque<Endpoint>,
    /// Those that something was wrong with the last time, which is told once.
    in_trouble: HashSet<Endpoint>,
    /// When all are asked for.
    next_round: Option<Instant>,
    /// When those are that have not resolved yet.
    next_retry: Instant,
    /// Whether there may be such.
    retries: bool,
}

impl PoolNames {
    pub(super) fn new(settings: Settings, now: Instant) -> PoolNames {
        let unresolved = unresolved(&settings.pool);
        PoolNames {
            next_round: settings.interval.map(|interval| now + interval),
            next_retry: now,
            retries: !unresolved.is_empty(),
            settings,
            asked: HashMap::new(),
            waiting: VecDeque::new(),
            // Whoever has added them has logged these already.
            in_trouble: unresolved.into_iter().collect(),
        }
    }

    /// Goes on in another way, which applies to names that have resolved at once, if they are resolved again at all.
    pub(super) fn change(&mut self, settings: Settings, now: Instant) {
        if settings.all != self.settings.all {
            self.next_round = settings.interval.map(|_| now);
        } else if settings.interval != self.settings.interval {
            self.next_round = settings.interval.map(|interval| now + interval);
        }
        // What was not there before was added by someone who has logged it.
        let unresolved = unresolved(&settings.pool);
        self.retries = !unresolved.is_empty();
        self.in_trouble.extend(unresolved);
        self.next_retry = now;
        self.settings = settings;
    }

    /// Whether nothing is left to be done.
    pub(super) fn is_done(&self) -> bool {
        self.next_round.is_none() && !self.retries
    }

    /// Has those asked for whose time has come.
    pub(super) fn begin_rounds(&mut self, now: Instant) {
        if self.next_round.is_some_and(|next| next <= now) {
            self.next_round = self.settings.interval.map(|interval| now + interval);
            self.tell_late_ones(now);
            let names = self.settings.pool.names();
            self.in_trouble.retain(|name| names.contains(name));
            self.want(names);
        }
        if self.retries && self.next_retry <= now {
            let unresolved = unresolved(&self.settings.pool);
            self.retries = !unresolved.is_empty();
            self.next_retry = now + self.settings.interval.map_or(RETRY, |interval| interval.min(RETRY));
            self.want(unresolved);
        }
    }

    /// When the next ones' time comes.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.next_round.into_iter().chain(self.retries.then_some(self.next_retry)).min()
    }

    fn want(&mut self, names: Vec<Endpoint>) {
        let queued: HashSet<Endpoint> = self.waiting.iter().cloned().collect();
        self.waiting.extend(names.into_iter().filter(|name| !self.asked.contains_key(name) && !queued.contains(name)));
    }

    /// How many are being looked up, where another one waits for that.
    pub(super) fn running_if_any_waits(&self) -> Option<usize> {
        (!self.waiting.is_empty()).then_some(self.asked.len())
    }

    /// The next one to look up, and the address that it is to keep if it can.
    pub(super) fn next(&self) -> Option<(Endpoint, Option<PeerAddress>)> {
        let name = self.waiting.front()?;
        Some((name.clone(), self.settings.pool.sound_address_of(name)))
    }

    /// The next one is being looked up.
    pub(super) fn next_is_asked(&mut self, now: Instant) {
        let name = self.waiting.pop_front();
        self.asked.extend(name.map(|name| (name, now)));
    }

    fn tell_late_ones(&mut self, now: Instant) {
        let late = self.asked.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= LATE);
        let late: Vec<Endpoint> = late.map(|(name, _)| name.clone()).collect();
        for name in late {
            self.trouble(&name, &format!("it takes longer than {} s to resolve", LATE.as_secs()));
        }
    }

    /// Takes into account what looking up a name has found.
    pub(super) fn on_answer(&mut self, name: &Endpoint, answer: io::Result<Vec<PeerAddress>>, own: &OwnAddresses) {
        self.asked.remove(name);
        match answer {
            Ok(addresses) => self.follow(name, addresses, own),
            Err(error) => self.trouble(name, &resolve::in_one_line(&error)),
        }
    }

    fn trouble(&mut self, name: &Endpoint, reason: &str) {
        self.settings.pool.still_unresolved(name, Reason::new(reason));
        if self.in_trouble.insert(name.clone()) {
            let stay = if self.settings.pool.addresses_of(name).is_empty() {
                "it is asked for again and again"
            } else {
                "its destinations stay as they are"
            };
            let label = self.settings.pool.label();
            let (pool, it) = (label.pool(), label.of(name));
            warn!(destination:% = name, pool; "destination {it}: {reason}; {stay}");
        }
    }

    fn follow(&mut self, name: &Endpoint, mut addresses: Vec<PeerAddress>, own: &OwnAddresses) {
        let is_own = |address: &PeerAddress| own.include(*address);
        let own = addresses.iter().copied().find(is_own);
        addresses.retain(|address| !is_own(address));
        match own {
            // The others are of use.
            Some(own) if self.settings.all || addresses.is_empty() => {
                self.trouble(name, &format!("one of its addresses is {own}, where this daemon listens"));
            }
            _ if self.in_trouble.remove(name) => {
                let label = self.settings.pool.label();
                info!(destination:% = name, pool = label.pool(); "destination {}: it resolves now", label.of(name));
            }
            _ => {}
        }
        if addresses.is_empty() {
            return;
        }
        for news in self.settings.pool.follow(name, &addresses, self.settings.all) {
            tell(name, news, &self.settings.pool.label());
        }
    }
}

fn unresolved(pool: &Pool) -> Vec<Endpoint> {
    pool.unresolved().into_iter().map(|it| it.endpoint).collect()
}

fn tell(name: &Endpoint, news: Followed, label: &Label) {
    let (pool, it) = (label.pool(), label.of(name));
    match news {
        Followed::Moved(from, to) => {
            info!(destination:% = name, pool; "destination {it} is at {to} now, no longer at {from}");
        }
        Followed::Added(address) => {
            let it = label.of(address);
            info!(destination:% = address, pool; "destination {it} added: {name} has it now");
        }
        Followed::Joined(address) => {
            info!(destination:% = name, pool; "destination {it} is at {address} now, which is a destination already");
        }
        Followed::Regained(address) => {
            info!(destination:% = name, pool; "destination {it}: the name has again the address {address}");
        }
        Followed::Lost(address) => {
            info!(destination:% = name, pool; "destination {it}: the name no longer has the address {address}");
        }
        Followed::Left(address) => info!(
            destination:% = name, pool;
            "destination {it} is no longer at {address}, which stays: it is wanted otherwise as well"
        ),
        Followed::Removed(address) => {
            let it = label.of(address);
            info!(
                destination:% = address, pool;
                "destination {it} removed: its name no longer has it, and it has no connections"
            );
        }
        Followed::Refused(address, reason) => {
            warn!(destination:% = name, pool; "destination {it} is at {address}, which is not added: {reason}");
        }
    }
}
