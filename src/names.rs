//! Host names among the destinations, resolved again from time to time: machines move, and some names stand for several.
//!
//! Each name is resolved in a thread of its own, so that no name waits for another one. A name that no longer resolves
//! changes nothing; a name that has never resolved is tried more often.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use log::{info, warn};

use crate::address::Endpoint;
use crate::pool::health::Reason;
use crate::pool::{Followed, Pool};
use crate::resolve::{self, OwnAddresses, Resolver};
use crate::supervise;

/// Between two attempts to resolve a name that never has, unless names are resolved more often anyway.
const RETRY: Duration = Duration::from_secs(5);
/// How long resolving a name may take before a log line says so.
const LATE: Duration = Duration::from_secs(5);

/// What is resolved, and how often.
pub struct Settings {
    /// The destinations.
    pub table: Pool,
    /// Between two rounds; `None`: names that have resolved are not resolved again.
    pub interval: Option<Duration>,
    /// Whether all addresses of a name are destinations, not only one.
    pub all: bool,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: OwnAddresses,
}

/// The thread that resolves names, which ends with this.
pub struct Handle {
    _stop: Sender<()>,
}

/// Starts the thread that resolves names again. Returns `None` if there is nothing to resolve.
///
/// # Errors
/// When it cannot be started.
pub fn start(settings: Settings) -> io::Result<Option<Handle>> {
    if settings.interval.is_none() && settings.table.unresolved().is_empty() {
        return Ok(None);
    }
    let (stop, stopped) = bounded::<()>(0);
    let mut names = Names::new(settings);
    supervise::start("names", move || names.run(&stopped))?;
    Ok(Some(Handle { _stop: stop }))
}

type Answer = (Endpoint, io::Result<Vec<SocketAddr>>);

struct Names {
    settings: Settings,
    resolver: Resolver,
    /// Those that are being resolved, since when.
    asked: HashMap<Endpoint, Instant>,
    /// Those whose turn comes when others are answered.
    waiting: VecDeque<Endpoint>,
    answers: (Sender<Answer>, Receiver<Answer>),
    /// Those that something was wrong with the last time, which is told once.
    in_trouble: HashSet<Endpoint>,
    /// When all are asked for.
    next_round: Option<Instant>,
    /// When those are that have not resolved yet.
    next_retry: Instant,
    /// Whether there may be such. None is added later.
    retries: bool,
}

impl Names {
    fn new(settings: Settings) -> Names {
        let now = Instant::now();
        // The start has logged these already.
        let in_trouble: HashSet<Endpoint> = settings.table.unresolved().into_iter().map(|it| it.endpoint).collect();
        Names {
            next_round: settings.interval.map(|interval| now + interval),
            next_retry: now,
            retries: !in_trouble.is_empty(),
            settings,
            resolver: Resolver::default(),
            asked: HashMap::new(),
            waiting: VecDeque::new(),
            answers: unbounded(),
            in_trouble,
        }
    }

    fn run(&mut self, stopped: &Receiver<()>) {
        loop {
            let now = Instant::now();
            let Some(next) = self.begin_rounds(now) else { return };
            let answers = self.answers.1.clone();
            select! {
                recv(stopped) -> _ => return,
                recv(answers) -> answer => answer.into_iter().for_each(|(name, answer)| self.hear(&name, answer)),
                default(next.saturating_duration_since(now)) => {}
            }
            self.ask();
        }
    }

    /// Asks for those whose time has come. Returns when the next one's comes, or `None` if nothing is left to be done.
    fn begin_rounds(&mut self, now: Instant) -> Option<Instant> {
        if self.next_round.is_some_and(|next| next <= now) {
            self.next_round = self.settings.interval.map(|interval| now + interval);
            self.tell_late_ones(now);
            let names = self.settings.table.names();
            self.in_trouble.retain(|name| names.contains(name));
            self.want(names);
        }
        if self.retries && self.next_retry <= now {
            let unresolved: Vec<Endpoint> =
                self.settings.table.unresolved().into_iter().map(|it| it.endpoint).collect();
            self.retries = !unresolved.is_empty();
            self.next_retry = now + self.settings.interval.map_or(RETRY, |interval| interval.min(RETRY));
            self.want(unresolved);
        }
        self.next_round.into_iter().chain(self.retries.then_some(self.next_retry)).min()
    }

    fn want(&mut self, names: Vec<Endpoint>) {
        let queued: HashSet<Endpoint> = self.waiting.iter().cloned().collect();
        self.waiting.extend(names.into_iter().filter(|name| !self.asked.contains_key(name) && !queued.contains(name)));
        self.ask();
    }

    /// As many as may be asked for at once.
    fn ask(&mut self) {
        while let Some(name) = self.waiting.front().cloned() {
            let answer = self.answers.0.clone();
            let told = name.clone();
            // Sending fails only when this thread has ended, which needs no answer any more.
            let done = move |addresses| drop(answer.send((told, addresses)));
            let kept = self.settings.table.sound_address_of(&name);
            if self.resolver.resolve_later(name.clone(), kept, done).is_err() {
                return;
            }
            self.waiting.pop_front();
            self.asked.insert(name, Instant::now());
        }
    }

    fn tell_late_ones(&mut self, now: Instant) {
        let late = self.asked.iter().filter(|(_, since)| now.saturating_duration_since(**since) >= LATE);
        let late: Vec<Endpoint> = late.map(|(name, _)| name.clone()).collect();
        for name in late {
            self.trouble(&name, &format!("it takes longer than {} s to resolve", LATE.as_secs()));
        }
    }

    fn hear(&mut self, name: &Endpoint, answer: io::Result<Vec<SocketAddr>>) {
        self.asked.remove(name);
        match answer {
            Ok(addresses) => self.follow(name, addresses),
            Err(error) => self.trouble(name, &resolve::in_one_line(&error)),
        }
    }

    fn trouble(&mut self, name: &Endpoint, reason: &str) {
        self.settings.table.still_unresolved(name, Reason::new(reason));
        if self.in_trouble.insert(name.clone()) {
            let stay = if self.settings.table.addresses_of(name).is_empty() {
                "it is asked for again and again"
            } else {
                "its destinations stay as they are"
            };
            warn!("destination {name}: {reason}; {stay}");
        }
    }

    fn follow(&mut self, name: &Endpoint, mut addresses: Vec<SocketAddr>) {
        let is_own = |address: &SocketAddr| self.settings.own_addresses.include(*address);
        let own = addresses.iter().copied().find(is_own);
        addresses.retain(|address| !is_own(address));
        match own {
            // The others are of use.
            Some(own) if self.settings.all || addresses.is_empty() => {
                self.trouble(name, &format!("one of its addresses is {own}, where this daemon listens"));
            }
            _ if self.in_trouble.remove(name) => info!("destination {name}: it resolves now"),
            _ => {}
        }
        if addresses.is_empty() {
            return;
        }
        for news in self.settings.table.follow(name, &addresses, self.settings.all) {
            tell(name, news);
        }
    }
}

fn tell(name: &Endpoint, news: Followed) {
    match news {
        Followed::Moved(from, to) => info!("destination {name} is at {to} now, no longer at {from}"),
        Followed::Added(address) => info!("destination {address} added: {name} has it now"),
        Followed::Joined(address) => info!("destination {name} is at {address} now, which is a destination already"),
        Followed::Regained(address) => info!("destination {name}: the name has again the address {address}"),
        Followed::Lost(address) => info!("destination {name}: the name no longer has the address {address}"),
        Followed::Left(address) => {
            info!("destination {name} is no longer at {address}, which stays: it is wanted otherwise as well");
        }
        Followed::Removed(address) => {
            info!("destination {address} removed: its name no longer has it, and it has no connections");
        }
        Followed::Refused(address, reason) => warn!("destination {name} is at {address}, which is not added: {reason}"),
    }
}
