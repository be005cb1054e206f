//! Does what commands ask for.

use std::cell::RefCell;
use std::fmt::Display;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::{info, warn};

use super::command::{Command, Part, Target};
use super::events;
use super::late::{Asker, LateAnswer};
use super::{Reload, lookup, report};
use crate::address::{DestinationSpec, Endpoint, PeerAddress};
use crate::connection_log::Style;
use crate::counted::Counted;
use crate::log::LogThrottle;
use crate::log::events::CONFIGURATION;
use crate::pool::{Change, Label, Pool, SwitchError, TableError};
use crate::resolve::{self, OwnAddresses, Resolver};
use crate::service::{PoolEntry, ServiceEntry, Setup};
use crate::sessions::SessionControl;
use crate::state::StateFile;
use crate::status::Source;

const RETIRED: &str = "this glbd takes no changes any more: ask the one that has its place";

const READ_ONLY: &str = "nothing can be changed here: this control address is read-only";
const NOT_SHOWN: &str = "the configuration is not shown here: this control address is read-only";
/// The lines of [`HELP`] that a read-only control address shows: commands that change nothing.
const QUERIES: [&str; 12] = [
    "getinfo",
    "getwatch",
    "getstats",
    "getconns",
    "getevents",
    "gethistory",
    "wait-empty",
    "connlog  ",
    "watch",
    "version",
    "prompt",
    "quit",
];

const HELP: &str = "\
getinfo            the destinations, their weights and connections
getwatch           the destinations as the watchdog judges them
getstats           traffic since the last getstats
getevents          what has changed, when and by whom; since=TIME|AGE|NUMBER, kind=KIND, limit=N may follow
gethistory H:P     the verdicts that a destination has had
getconns           who is connected to what; getclients: the same by client
kick ID            close a connection; client=NETWORK, dest=H:P, idle=SECS: such connections; pace=N: so many a second
wait-empty H:P N   wait until the destination has no connections, N seconds at most
getconfig          the configuration in force, as a file
watch              events as they happen, until you hang up
HOST:PORT:WEIGHT   add the destination, or change its weight (1 when left out)
HOST:PORT:0        drain it: no new connections, those that there are go on (not the writer's)
HOST:PORT:-1       remove it and close its connections
drain HOST:PORT    the same as HOST:PORT:0; add and remove are understood as well
weight HOST:PORT:W change the weight of one that is there; none is added
enable HOST:PORT   give a drained one its weight back
writer HOST:PORT   move the single destination there without overlap; GRACE seconds may follow (10)
reload             read the configuration file again, and say what has changed
connlog            which services log their connections, and how
connlog FORM       log each connection at its end, off, text or json; SERVICE may stand before it
loglevel LEVEL     log what is error, warn, info or debug (as with --verbose), and what matters more
version            the version of this program
prompt             keep this conversation open for more commands
quit               end this conversation
";

/// What commands act on.
pub(super) struct Executor {
    /// The pools and services, and the counters.
    pub source: Source,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: OwnAddresses,
    /// Where changes are kept; `None`: nowhere.
    pub state: Option<Arc<StateFile>>,
    /// Finds and closes connections.
    pub sessions: Box<dyn SessionControl>,
    /// Has the configuration file read again; `None`: there is none.
    pub reload: Option<Reload>,
    /// Resolves names of new destinations.
    pub resolver: Resolver,
    /// Another daemon has the table now, or will have one of its own: nothing is changed any more.
    pub is_retired: bool,
    /// Since a change could not be kept.
    pub unwritten: RefCell<Option<LogThrottle>>,
    /// What the file has of what changes by itself.
    pub kept: RefCell<Kept>,
    /// Why the file could not be written after the last reload, if it could not.
    pub setup_lost: Option<String>,
}

/// What is kept in the file and changes without a command.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Kept {
    /// The single destination of each service that was chosen by hand, which may fall.
    choices: Vec<Option<PeerAddress>>,
    /// Where the names of each pool are.
    addresses: Vec<Vec<(Endpoint, PeerAddress)>>,
}

/// The new weight of a destination, and what that has changed.
type Reweighed = Result<(f64, Change), TableError>;

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
    /// From now on, every event is an answer, in JSON or not.
    Watch(bool),
}

impl Executor {
    /// Carries out one line. When it takes longer, `late` reports what is to be passed to [`finish`](Executor::finish) or
    /// [`switched`](Executor::switched).
    pub(super) fn execute(&self, line: &str, late: LateAnswer<'_>) -> Reply {
        let setup = self.source.inventory.now();
        match Command::parse(line, lookup::usual_port(&setup)) {
            Ok(Command::Info) => Reply::Text(report::info(&setup, self.source.max_connections)),
            Ok(Command::Watch) => Reply::Text(report::watch(&setup)),
            Ok(Command::Stats) => Reply::Text(self.stats(&setup)),
            Ok(Command::Json(part)) => Reply::Text(self.json(part)),
            Ok(Command::Events(query)) => Reply::Text(query.answer()),
            Ok(Command::History(target, json)) => Reply::Text(history(&setup, &target, json)),
            Ok(Command::Sessions(query)) => {
                self.sessions.find(late.found(query));
                Reply::Later
            }
            Ok(Command::WaitEmpty(target, within)) => match wait_empty(&setup, &target, within, late) {
                Ok(()) => Reply::Later,
                Err(reason) => Reply::Text(answer(&target, Err(reason))),
            },
            Ok(Command::WatchEvents(json)) => Reply::Watch(json),
            Ok(Command::Help) => Reply::Text(HELP.to_owned()),
            Ok(Command::Version) => Reply::Text(concat!("glbd ", env!("CARGO_PKG_VERSION"), "\n").to_owned()),
            Ok(Command::Prompt) => Reply::Prompt,
            Ok(Command::Quit) => Reply::Quit,
            Ok(Command::LogLevel(level)) => {
                crate::log::set_level(level);
                info!("log level {}, {}", level.as_str().to_ascii_lowercase(), late.asker());
                Reply::Text("Ok\n".to_owned())
            }
            Ok(Command::Configuration) => Reply::Text(self.source.configuration.read().to_string()),
            Ok(Command::ConnectionLogs) => Reply::Text(report::connection_logs(&setup)),
            Ok(Command::LogConnections(service, style)) => {
                Reply::Text(log_connections(&setup, service.as_deref(), style, late.asker()))
            }
            Ok(Command::Reload) => match &self.reload {
                Some(reload) if !self.is_retired => {
                    info!(target: CONFIGURATION, "the configuration file is read again, {}", late.asker());
                    reload(late.reloaded());
                    Reply::Later
                }
                Some(_) => Reply::Text(format!("Error: {RETIRED}\n")),
                None => Reply::Text("Error: there is no configuration file: glbd runs without --config\n".to_owned()),
            },
            Ok(Command::Nothing) => Reply::Text(String::new()),
            Ok(Command::Change(target)) => match lookup::pool_of(&setup, &target) {
                Ok(entry) => {
                    // By the time that it is resolved, another pool may have it as well.
                    let of = (setup.pools.len() > 1).then(|| entry.config.name.to_string());
                    self.change_or_resolve(&entry.pool, Target { of: target.of.or(of), ..target }, late)
                }
                Err(reason) => Reply::Text(answer(&target, Err(reason))),
            },
            Ok(Command::Reweigh(target)) => {
                let weight = target.spec.weight;
                let reweigh = |pool: &Pool, address| Ok((weight, pool.reweigh(address, weight)?));
                Reply::Text(self.change_existing(&setup, &target, Some(weight), late.asker(), &reweigh))
            }
            Ok(Command::Enable(target)) => {
                let enable = |pool: &Pool, address| pool.enable(address);
                Reply::Text(self.change_existing(&setup, &target, None, late.asker(), &enable))
            }
            Ok(Command::Writer(target, grace)) => match self.switch(&setup, &target, grace, late) {
                Ok(()) => Reply::Switching,
                Err(reason) => Reply::Text(answer(&target, Err(reason))),
            },
            Err(reason) => Reply::Text(format!("Error: {reason}\n")),
        }
    }

    /// The same for a client that may change nothing. `getstats` is the traffic since somebody else has asked last, and
    /// begins no new count.
    pub(super) fn query(&self, line: &str, late: LateAnswer<'_>) -> Reply {
        let setup = self.source.inventory.now();
        match Command::parse(line, lookup::usual_port(&setup)) {
            Ok(Command::Stats) => {
                let (totals, elapsed) = self.source.stats.so_far();
                Reply::Text(report::stats(&totals, setup.connections(), elapsed))
            }
            Ok(Command::Help) => {
                let lines = HELP.lines().filter(|line| QUERIES.iter().any(|query| line.starts_with(query)));
                Reply::Text(lines.map(|line| format!("{line}\n")).collect())
            }
            Ok(Command::Configuration) => Reply::Text(format!("Error: {NOT_SHOWN}\n")),
            Ok(command) if !command.is_query() => Reply::Text(format!("Error: {READ_ONLY}\n")),
            _ => self.execute(line, late),
        }
    }

    fn change_or_resolve(&self, pool: &Pool, target: Target, late: LateAnswer<'_>) -> Reply {
        let endpoint = &target.spec.endpoint;
        let known = pool.known_addresses(endpoint);
        if !known.is_empty() || pool.is_unresolved(endpoint) {
            return Reply::Text(self.finish(&target, Ok(known), late.asker()));
        }
        self.resolve(target, late.resolved())
    }

    /// Begins to move the single destination.
    fn switch(&self, setup: &Setup, target: &Target, grace: Duration, late: LateAnswer<'_>) -> Result<(), String> {
        if self.is_retired {
            return Err(RETIRED.to_owned());
        }
        let rotation = lookup::service_of(setup, target)?.rotation();
        let address = match &rotation.known_addresses(&target.spec.endpoint)[..] {
            [] => return Err(SwitchError::NoSuchDestination.to_string()),
            [address] => *address,
            several => return Err(format!("the name has {} addresses in the table: name one of them", several.len())),
        };
        let done = late.switched(target.clone());
        rotation.switch_single(address, grace, Instant::now(), done).map_err(|error| error.to_string())
    }

    /// The single destination was moved, unless `result` says why not. Returns the answer.
    pub(super) fn switched(&self, target: &Target, result: Result<(), String>) -> String {
        // Once retired, the file belongs to another process.
        answer(target, result.and_then(|()| if self.is_retired { Ok(()) } else { self.keep() }))
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
        let setup = self.source.inventory.now();
        let choice = |it: &ServiceEntry| it.rotation().chosen().map(|(_, address)| address);
        Kept {
            choices: setup.services.iter().map(choice).collect(),
            addresses: setup.pools.iter().map(|it| it.pool.named_addresses()).collect(),
        }
    }

    /// In one line, and without resetting anything.
    fn json(&self, part: Part) -> String {
        let status = self.source.now();
        let text = match part {
            Part::Whole => serde_json::to_string(&status),
            Part::Pools => serde_json::to_string(&status.pools),
            Part::Process => serde_json::to_string(&status.process),
        };
        // Plain data always can be written.
        text.unwrap_or_default() + "\n"
    }

    fn stats(&self, setup: &Setup) -> String {
        let (totals, elapsed) = self.source.stats.since_last_report();
        report::stats(&totals, setup.connections(), elapsed)
    }

    fn resolve(
        &self,
        target: Target,
        resolved: impl FnOnce(Target, io::Result<Vec<PeerAddress>>) + Send + 'static,
    ) -> Reply {
        let (endpoint, asked) = (target.spec.endpoint.clone(), target.clone());
        match self.resolver.resolve_later(endpoint, None, move |addresses| resolved(target, addresses)) {
            Ok(()) => Reply::Later,
            Err(error) => Reply::Text(answer(&asked, Err(error.to_string()))),
        }
    }

    /// Changes a pool, now that the addresses are known. Returns the answer.
    pub(super) fn finish(&self, target: &Target, addresses: io::Result<Vec<PeerAddress>>, asker: Asker) -> String {
        let setup = self.source.inventory.now();
        let changed = lookup::pool_of(&setup, target).and_then(|PoolEntry { config, pool }| {
            let most = if config.resolve_all { usize::MAX } else { 1 };
            let mut addresses = addresses.map_err(|error| resolve::in_one_line(&error))?;
            addresses.truncate(most);
            self.change_all(pool, &target.spec, &addresses, asker)
        });
        answer(target, changed)
    }

    fn change_all(
        &self,
        pool: &Pool,
        spec: &DestinationSpec,
        addresses: &[PeerAddress],
        asker: Asker,
    ) -> Result<(), String> {
        if self.is_retired {
            return Err(RETIRED.to_owned());
        }
        if spec.weight > 0.0 && addresses.iter().any(|address| self.own_addresses.include(*address)) {
            return Err("this daemon listens there itself".to_owned());
        }
        let changed = match change_name(pool, spec, asker) {
            true => Ok(()),
            false => addresses.iter().try_for_each(|address| change(pool, spec, *address, asker)),
        };
        // Some of them may have been changed before one could not be.
        let kept = self.keep();
        changed.and(kept)
    }

    /// Changes the weight of what is in a pool, and of nothing else. Returns the answer. A name that has not resolved is
    /// in it as well, with `unresolved` as its new weight.
    fn change_existing(
        &self,
        setup: &Setup,
        target: &Target,
        unresolved: Option<f64>,
        asker: Asker,
        change: &dyn Fn(&Pool, PeerAddress) -> Reweighed,
    ) -> String {
        let pool = match lookup::pool_of(setup, target) {
            _ if self.is_retired => return answer(target, Err(RETIRED.to_owned())),
            Ok(PoolEntry { pool, .. }) => pool,
            Err(reason) => return answer(target, Err(reason)),
        };
        let told = |error: TableError| error.to_string();
        let endpoint = &target.spec.endpoint;
        let known = pool.known_addresses(endpoint);
        let changed = match unresolved.and_then(|weight| Some((pool.reweigh_unresolved(endpoint, weight)?, weight))) {
            Some((before, weight)) => {
                tell_reweighted(endpoint, before, weight, &pool.label(), asker);
                Ok(())
            }
            None if known.is_empty() => Err(told(TableError::NoSuchDestination)),
            None => known.into_iter().try_for_each(|address| {
                let (weight, change) = change(pool, address).map_err(told)?;
                tell(change, address, weight, &pool.label(), asker);
                Ok(())
            }),
        };
        // Some of them may have been changed before one could not be.
        let kept = self.keep();
        answer(target, changed.and(kept))
    }

    /// What was said to be done is not to be lost by a crash, nor is a change undone because a disk is full.
    pub(super) fn keep(&self) -> Result<(), String> {
        self.write().map_err(|reason| format!("done, but a restart will undo it: {reason}"))
    }

    /// Keeps what is left of changes by hand after a reload.
    pub(super) fn keep_setup(&mut self) {
        // Once retired, the file belongs to another process.
        self.setup_lost = if self.is_retired { None } else { self.write().err() };
    }

    /// The last line of the answer to a reload that has changed pools and services.
    pub(super) fn setup_kept(&self) -> String {
        match &self.setup_lost {
            None => "Ok\n".to_owned(),
            Some(reason) => format!("Error: done, but a restart will go by the state as it was before: {reason}\n"),
        }
    }

    fn write(&self) -> Result<(), String> {
        let Some(state) = &self.state else { return Ok(()) };
        self.remember();
        let path = state.path().display();
        let saved = state.save(&self.source.inventory.now());
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
        Err(format!("cannot write {path}: {error}"))
    }
}

/// Has it said when a destination has no connections.
fn wait_empty(setup: &Setup, target: &Target, within: Duration, late: LateAnswer<'_>) -> Result<(), String> {
    // It would execute nothing else until then, and an upgrade waits for it.
    if matches!(late.asker(), Asker::Fifo) {
        return Err("the FIFO waits for nothing: ask through a control socket".to_owned());
    }
    let PoolEntry { pool, .. } = lookup::pool_of(setup, target)?;
    let addresses = pool.known_addresses(&target.spec.endpoint);
    if !addresses.iter().any(|address| pool.has(*address)) {
        return Err(TableError::NoSuchDestination.to_string());
    }
    late.wait_empty(target.clone(), pool.clone(), addresses, within);
    Ok(())
}

/// What has become of the verdicts of a destination, of each address where it is a name.
fn history(setup: &Setup, target: &Target, json: bool) -> String {
    let PoolEntry { pool, .. } = match lookup::pool_of(setup, target) {
        Ok(entry) => entry,
        Err(reason) => return answer(target, Err(reason)),
    };
    let label = pool.label();
    let of = |address| {
        let (history, health) = pool.history_at(address)?;
        Some(events::history(&label.of(address).to_string(), &history, &health, json))
    };
    let found: String = pool.known_addresses(&target.spec.endpoint).into_iter().filter_map(of).collect();
    if found.is_empty() { answer(target, Err(TableError::NoSuchDestination.to_string())) } else { found }
}

/// Switches the connection log of a service, or of all. Returns the answer.
fn log_connections(setup: &Setup, name: Option<&str>, style: Style, asker: Asker) -> String {
    let services = match lookup::services_called(setup, name) {
        Ok(services) => services,
        Err(reason) => return format!("Error: {reason}\n"),
    };
    for it in services {
        it.service.connection_log.set(style);
        let service = &*it.config.name;
        info!(service; "service {service}: connection log {style}, {asker}");
    }
    "Ok\n".to_owned()
}

fn answer(target: &Target, result: Result<(), String>) -> String {
    match result {
        Ok(()) => "Ok\n".to_owned(),
        Err(reason) => format!("Error: {target}: {reason}\n"),
    }
}

/// Changes what is not a matter of addresses: a name that is removed, or has not resolved yet. False when it is one.
fn change_name(pool: &Pool, spec: &DestinationSpec, asker: Asker) -> bool {
    let DestinationSpec { endpoint, weight } = spec;
    let label = pool.label();
    if *weight >= 0.0 {
        let before = pool.reweigh_unresolved(endpoint, *weight);
        before.iter().for_each(|before| tell_reweighted(endpoint, *before, *weight, &label, asker));
        return before.is_some();
    }
    let Ok(gone) = pool.remove_name(endpoint) else { return false };
    if gone.is_empty() {
        let it = label.of(endpoint);
        info!(destination:% = endpoint, pool = label.pool(); "destination {it} removed, {asker}");
    }
    for (address, connections) in gone {
        match connections {
            Some(connections) => tell_removed(address, connections, &label, asker),
            None => {
                let (pool, it) = (label.pool(), label.of(address));
                info!(destination:% = address, pool; "destination {it} stays: it is wanted otherwise as well");
            }
        }
    }
    true
}

fn change(pool: &Pool, spec: &DestinationSpec, address: PeerAddress, asker: Asker) -> Result<(), String> {
    let change = match spec.weight {
        weight if weight < 0.0 => pool.remove(address),
        0.0 => pool.drain(address),
        weight => pool.set(&spec.endpoint, address, weight),
    };
    tell(change.map_err(|error| error.to_string())?, address, spec.weight, &pool.label(), asker);
    Ok(())
}

fn tell(change: Change, address: PeerAddress, weight: f64, label: &Label, asker: Asker) {
    match change {
        Change::Added => {
            let (pool, it) = (label.pool(), label.of(address));
            info!(destination:% = address, pool; "destination {it} added with weight {weight}, {asker}");
        }
        Change::Reweighted(before) => tell_reweighted(address, before, weight, label, asker),
        Change::Removed(connections) => tell_removed(address, connections, label, asker),
    }
}

fn tell_reweighted(destination: impl Display, before: f64, weight: f64, label: &Label, asker: Asker) {
    let (pool, it) = (label.pool(), label.of(&destination));
    info!(destination:%, pool; "destination {it} changed from weight {before} to {weight}, {asker}");
}

fn tell_removed(address: PeerAddress, connections: usize, label: &Label, asker: Asker) {
    let (pool, it, connections) = (label.pool(), label.of(address), Counted(connections, "connection"));
    info!(destination:% = address, pool; "destination {it} removed with {connections}, {asker}");
}
