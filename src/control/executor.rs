//! Does what commands ask for.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::command::Command;
use super::late::{Asker, LateAnswer};
use super::report;
use crate::address::{DestinationSpec, Endpoint, Host};
use crate::counted::Counted;
use crate::log::LogThrottle;
use crate::pool::{Change, Rotation, SwitchError, TableError};
use crate::resolve::{self, OwnAddresses, Resolver};
use crate::state::StateFile;
use crate::stats::Stats;

const RETIRED: &str = "this glbd takes no changes any more: ask the one that has its place";

const HELP: &str = "\
getinfo            the destinations, their weights and connections
getwatch           the destinations as the watchdog judges them
getstats           traffic since the last getstats
HOST:PORT:WEIGHT   add the destination, or change its weight (1 when left out)
HOST:PORT:0        drain it: no new connections, those that there are go on (not the writer's)
HOST:PORT:-1       remove it and close its connections
drain HOST:PORT    the same as HOST:PORT:0; add and remove are understood as well
weight HOST:PORT:W change the weight of one that is there; none is added
enable HOST:PORT   give a drained one its weight back
writer HOST:PORT   move the single destination there without overlap; GRACE seconds may follow (10)
loglevel LEVEL     log what is error, warn, info or debug (as with --verbose), and what matters more
version            the version of this program
prompt             keep this conversation open for more commands
quit               end this conversation
";

/// What commands act on.
pub(super) struct Executor {
    /// The destinations.
    pub table: Rotation,
    /// The counters.
    pub stats: Stats,
    /// Most client connections.
    pub max_connections: usize,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: OwnAddresses,
    /// What a destination that is named without a port has: where clients connect.
    pub port: u16,
    /// Whether all addresses of a name are destinations, not only one.
    pub all_addresses: bool,
    /// Where changes are kept; `None`: nowhere.
    pub state: Option<Arc<StateFile>>,
    /// Resolves names of new destinations.
    pub resolver: Resolver,
    /// Another daemon has the table now, or will have one of its own: nothing is changed any more.
    pub is_retired: bool,
    /// Since a change could not be kept.
    pub unwritten: RefCell<Option<LogThrottle>>,
    /// What the file has of what changes by itself.
    pub kept: RefCell<Kept>,
}

/// What is kept in the file and changes without a command.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kept {
    /// The single destination chosen by hand, which may fall.
    choice: Option<SocketAddr>,
    /// Where names are.
    addresses: Vec<(Endpoint, SocketAddr)>,
}

/// What follows from a command.
pub(super) enum Reply {
    /// This, and the conversation goes on.
    Text(String),
    /// The answer comes when the name is resolved.
    Later,
    /// The answer comes when the single destination has moved.
    Switching,
    /// The conversation is to stay open.
    Prompt,
    /// The conversation is over.
    Quit,
}

impl Executor {
    /// Carries out one line. When it takes longer, `late` reports what is to be passed to [`finish`](Executor::finish) or
    /// [`switched`](Executor::switched).
    pub(super) fn execute(&self, line: &str, late: LateAnswer<'_>) -> Reply {
        match Command::parse(line, self.port) {
            Ok(Command::Info) => Reply::Text(report::info(&self.table.snapshot(), self.max_connections)),
            Ok(Command::Watch) => Reply::Text(self.watch()),
            Ok(Command::Stats) => Reply::Text(self.stats()),
            Ok(Command::Help) => Reply::Text(HELP.to_owned()),
            Ok(Command::Version) => Reply::Text(concat!("glbd ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
            Ok(Command::Prompt) => Reply::Prompt,
            Ok(Command::Quit) => Reply::Quit,
            Ok(Command::LogLevel(level)) => {
                log::set_max_level(level);
                info!("log level {}, {}", level.as_str().to_ascii_lowercase(), late.asker());
                Reply::Text("Ok\n".to_owned())
            }
            Ok(Command::Nothing) => Reply::Text(String::new()),
            Ok(Command::Change(spec)) => match self.known_addresses(&spec.endpoint) {
                known if known.is_empty() && !self.table.is_unresolved(&spec.endpoint) => {
                    self.resolve(spec, late.resolved())
                }
                known => Reply::Text(self.finish(&spec, Ok(known), late.asker())),
            },
            Ok(Command::Reweigh(DestinationSpec { endpoint, weight })) => {
                let reweigh = |address| Ok((weight, self.table.reweigh(address, weight)?));
                Reply::Text(self.change_existing(&endpoint, Some(weight), late.asker(), &reweigh))
            }
            Ok(Command::Enable(endpoint)) => {
                let enable = |address| self.table.enable(address);
                Reply::Text(self.change_existing(&endpoint, None, late.asker(), &enable))
            }
            Ok(Command::Writer(endpoint, grace)) => match self.switch(&endpoint, grace, late) {
                Ok(()) => Reply::Switching,
                Err(reason) => Reply::Text(format!("Error: {endpoint}: {reason}\n")),
            },
            Err(reason) => Reply::Text(format!("Error: {reason}\n")),
        }
    }

    /// Begins to move the single destination.
    fn switch(&self, endpoint: &Endpoint, grace: Duration, late: LateAnswer<'_>) -> Result<(), String> {
        if self.is_retired {
            return Err(RETIRED.to_owned());
        }
        let address = match &self.known_addresses(endpoint)[..] {
            [] => return Err(SwitchError::NoSuchDestination.to_string()),
            [address] => *address,
            several => return Err(format!("the name has {} addresses in the table: name one of them", several.len())),
        };
        let done = late.switched(endpoint.clone());
        self.table.switch_single(address, grace, Instant::now(), done).map_err(|error| error.to_string())
    }

    /// The single destination was moved, unless `result` says why not. Returns the answer.
    pub(super) fn switched(&self, endpoint: &Endpoint, result: Result<(), String>) -> String {
        // Once retired, the file belongs to another process.
        match result.and_then(|()| if self.is_retired { Ok(()) } else { self.keep() }) {
            Ok(()) => "Ok\n".to_owned(),
            Err(reason) => format!("Error: {endpoint}: {reason}\n"),
        }
    }

    /// Keeps what has changed by itself, if anything has, or if the file has not been claimed yet.
    pub(super) fn keep_news(&self) {
        let Some(state) = self.state.as_ref().filter(|_| !self.is_retired) else { return };
        if !state.is_claimed() || self.to_keep() != *self.kept.borrow() {
            // That it cannot be kept is logged.
            let _ = self.keep();
        }
    }

    /// Takes note of what the file has.
    pub(super) fn remember(&self) {
        self.kept.replace(self.to_keep());
    }

    /// Another process has the table from now on, and the file that it is kept in.
    pub(super) fn retire(&mut self) {
        self.is_retired = true;
        self.state.iter().for_each(|state| state.release());
    }

    fn to_keep(&self) -> Kept {
        let choice = self.table.chosen().map(|(_, address)| address);
        Kept { choice, addresses: self.table.named_addresses() }
    }

    fn watch(&self) -> String {
        report::watch(&self.table.snapshot(), &self.table.unresolved(), self.table.checks_note().as_ref())
    }

    fn stats(&self) -> String {
        let (totals, elapsed) = self.stats.since_last_report();
        report::stats(&totals, self.table.connections(), elapsed)
    }

    /// A destination that is in the table needs no resolving, and can be removed when its name no longer resolves.
    fn known_addresses(&self, endpoint: &Endpoint) -> Vec<SocketAddr> {
        match endpoint.host {
            Host::Address(address) => vec![SocketAddr::new(address, endpoint.port)],
            Host::Name(_) => self.table.addresses_of(endpoint),
        }
    }

    fn resolve(
        &self,
        spec: DestinationSpec,
        resolved: impl FnOnce(DestinationSpec, io::Result<Vec<SocketAddr>>) + Send + 'static,
    ) -> Reply {
        let endpoint = spec.endpoint.clone();
        let name = endpoint.to_string();
        match self.resolver.resolve_later(endpoint, None, move |addresses| resolved(spec, addresses)) {
            Ok(()) => Reply::Later,
            Err(error) => Reply::Text(format!("Error: {name}: {error}\n")),
        }
    }

    /// Changes the table, now that the addresses are known. Returns the answer.
    pub(super) fn finish(
        &self,
        spec: &DestinationSpec,
        addresses: io::Result<Vec<SocketAddr>>,
        asker: Asker,
    ) -> String {
        let most = if self.all_addresses { usize::MAX } else { 1 };
        let changed = match addresses {
            Ok(mut addresses) => {
                addresses.truncate(most);
                self.change_all(spec, &addresses, asker)
            }
            Err(error) => Err(resolve::in_one_line(&error)),
        };
        match changed {
            Ok(()) => "Ok\n".to_owned(),
            Err(reason) => format!("Error: {}: {reason}\n", spec.endpoint),
        }
    }

    fn change_all(&self, spec: &DestinationSpec, addresses: &[SocketAddr], asker: Asker) -> Result<(), String> {
        if self.is_retired {
            return Err(RETIRED.to_owned());
        }
        if spec.weight > 0.0 && addresses.iter().any(|address| self.own_addresses.include(*address)) {
            return Err("this daemon listens there itself".to_owned());
        }
        let changed = match self.change_name(spec, asker) {
            true => Ok(()),
            false => addresses.iter().try_for_each(|address| self.change(spec, *address, asker)),
        };
        // Some of them may have been changed before one could not be.
        let kept = self.keep();
        changed.and(kept)
    }

    /// Changes the weight of what is in the table, and of nothing else. Returns the answer. A name that has not resolved is
    /// in it as well, with `unresolved` as its new weight.
    fn change_existing(
        &self,
        endpoint: &Endpoint,
        unresolved: Option<f64>,
        asker: Asker,
        change: &dyn Fn(SocketAddr) -> Result<(f64, Change), TableError>,
    ) -> String {
        if self.is_retired {
            return format!("Error: {endpoint}: {RETIRED}\n");
        }
        let told = |error: TableError| error.to_string();
        let known = self.known_addresses(endpoint);
        let changed =
            match unresolved.and_then(|weight| Some((self.table.reweigh_unresolved(endpoint, weight)?, weight))) {
                Some((before, weight)) => {
                    info!("destination {endpoint} changed from weight {before} to {weight}, {asker}");
                    Ok(())
                }
                None if known.is_empty() => Err(told(TableError::NoSuchDestination)),
                None => known.into_iter().try_for_each(|address| {
                    let (weight, change) = change(address).map_err(told)?;
                    tell(change, address, weight, asker);
                    Ok(())
                }),
            };
        // Some of them may have been changed before one could not be.
        let kept = self.keep();
        match changed.and(kept) {
            Ok(()) => "Ok\n".to_owned(),
            Err(reason) => format!("Error: {endpoint}: {reason}\n"),
        }
    }

    /// What was said to be done is not to be lost by a crash, nor is a change undone because a disk is full.
    fn keep(&self) -> Result<(), String> {
        let Some(state) = &self.state else { return Ok(()) };
        self.remember();
        let path = state.path().display();
        let saved = state.save(&self.table);
        let mut unwritten = self.unwritten.borrow_mut();
        let Err(error) = saved else {
            if unwritten.take().is_some() {
                info!("{path} could be written again: a restart undoes nothing");
            }
            return Ok(());
        };
        if let Some(suppressed) = unwritten.get_or_insert_default().permit(Instant::now()) {
            warn!("cannot write {path}: {error}; a restart will undo what was changed{suppressed}");
        }
        Err(format!("done, but a restart will undo it: cannot write {path}: {error}"))
    }

    /// Changes what is not a matter of addresses: a name that is removed, or has not resolved yet. False when it is one.
    fn change_name(&self, spec: &DestinationSpec, asker: Asker) -> bool {
        let DestinationSpec { endpoint, weight } = spec;
        if *weight >= 0.0 {
            let before = self.table.reweigh_unresolved(endpoint, *weight);
            before
                .iter()
                .for_each(|before| info!("destination {endpoint} changed from weight {before} to {weight}, {asker}"));
            return before.is_some();
        }
        let Ok(gone) = self.table.remove_name(endpoint) else { return false };
        if gone.is_empty() {
            info!("destination {endpoint} removed, {asker}");
        }
        for (address, connections) in gone {
            match connections {
                Some(connections) => tell_removed(address, connections, asker),
                None => info!("destination {address} stays: it is wanted otherwise as well"),
            }
        }
        true
    }

    fn change(&self, spec: &DestinationSpec, address: SocketAddr, asker: Asker) -> Result<(), String> {
        let change = match spec.weight {
            weight if weight < 0.0 => self.table.remove(address),
            0.0 => self.table.drain(address),
            weight => self.table.set(&spec.endpoint, address, weight),
        };
        tell(change.map_err(|error| error.to_string())?, address, spec.weight, asker);
        Ok(())
    }
}

fn tell(change: Change, address: SocketAddr, weight: f64, asker: Asker) {
    match change {
        Change::Added => info!("destination {address} added with weight {weight}, {asker}"),
        Change::Reweighted(before) => {
            info!("destination {address} changed from weight {before} to {weight}, {asker}");
        }
        Change::Removed(connections) => tell_removed(address, connections, asker),
    }
}

fn tell_removed(address: SocketAddr, connections: usize, asker: Asker) {
    let connections = Counted(connections, "connection");
    info!("destination {address} removed with {connections}, {asker}");
}
