//! The configuration file, read again while everybody stays connected: all of it comes into force, or nothing.
//!
//! What can fail comes first: reading, resolving, listening. What follows cannot, and touches only what is asked for
//! otherwise than before.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, info, log, warn};
use mio::net::TcpListener;

use super::filling::{self, Located};
use super::listen_trouble;
use super::opened::Door;
use super::prepared::{self, Notice};
use super::running::Running;
use super::serving::Serving;
use crate::address::{DestinationSpec, Endpoint};
use crate::checker::Credentials;
use crate::config::{Config, Name, PoolConfig, Refused, ServiceConfig};
use crate::control::ReloadOutcome;
use crate::desired::{self, PoolChange, ServiceChange, Task, Until};
use crate::pool::{DestinationStatus, MAX_DESTINATIONS};
use crate::resolve::{self, OwnAddresses};
use crate::service::{self, PoolEntry, ServiceEntry, Setup};
use crate::worker::ListenerGroup;

/// How long workers may take to hear of a reload before it is answered.
const SETTLING: Duration = Duration::from_secs(1);

/// All that is needed for what is wanted, and can fail.
struct Ready {
    setup: Setup,
    located: Located,
    credentials: HashMap<Name, Credentials>,
    /// Sockets that are new.
    listening: HashMap<Name, Listening>,
    /// Where each service will listen.
    addresses: HashMap<Name, Vec<SocketAddr>>,
    own_addresses: OwnAddresses,
}

/// New listening sockets of a service, which let nobody in yet.
struct Listening {
    group: ListenerGroup,
    door: Door,
}

impl Serving {
    /// Reads the configuration file again, and has it come into force. Says what that has come to in the log as well.
    pub(super) fn reload(&mut self) -> ReloadOutcome {
        let outcome = self.try_reload();
        let file = self.config.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        match &outcome {
            Ok(lines) => {
                let count = lines.len();
                info!("{file} read again, changes: {count}");
                lines.iter().for_each(|line| info!("{line}"));
            }
            Err(reasons) => reasons.iter().for_each(|reason| warn!("not reloaded: {reason}; nothing has changed")),
        }
        outcome
    }

    fn try_reload(&mut self) -> ReloadOutcome {
        if self.running.threads.is_none() {
            return Err(vec!["this process accepts nobody any more".to_owned()]);
        }
        let arguments = std::env::args_os().map(|argument| argument.to_string_lossy().into_owned());
        let wanted = Config::reread(arguments, &self.directory).map_err(|refused| match refused {
            Refused::Show(text) | Refused::Wrong(text) => vec![text],
            Refused::WrongFile(reasons) => reasons,
        })?;
        let mut wanted = wanted.with_paths_in(&self.directory);
        self.keep_borrowed(&mut wanted);
        let before = self.config.clone();
        let tasks = desired::difference(&before, &wanted);
        let ready = self.prepare(&wanted, &tasks).map_err(|reason| vec![reason])?;
        let lines = self.carry_out(&wanted, &tasks, ready);
        resolve::prefer_ipv6(wanted.prefer_ipv6);
        // What takes an upgrade or a restart is still as it was.
        self.config = Config {
            threads: before.threads,
            max_connections: before.max_connections,
            state: before.state,
            log: before.log,
            control: before.control,
            fifo: before.fifo,
            daemon: before.daemon,
            user: before.user,
            pidfile: before.pidfile,
            ..wanted
        };
        Ok(lines)
    }

    /// Where a service manager has decided where a service listens, it listens there.
    fn keep_borrowed(&self, wanted: &mut Config) {
        let Some(doors) = &self.running.doors else { return };
        for service in &mut wanted.services {
            let borrowed = doors.door(&service.name).is_some_and(|door| door.borrowed);
            let current = self.config.services.iter().find(|it| it.name == service.name);
            if let Some(current) = current.filter(|_| borrowed) {
                service.listen = current.listen.clone();
            }
        }
    }

    /// Does all that can fail. When it does, nothing has changed.
    fn prepare(&mut self, wanted: &Config, tasks: &[Task]) -> Result<Ready, String> {
        let credentials = self.credentials(wanted)?;
        let added = tasks.iter().flat_map(added_destinations);
        let signals = &mut self.signals;
        let located = Located::resolve(added, wanted.strict_names, &mut || signals.is_end_wanted());
        if self.signals.is_end_wanted() {
            return Err("a signal came that ends this process".to_owned());
        }
        let running = &self.running;
        let now = running.inventory.now();
        let setup = next_setup(wanted, tasks, &now);
        let addresses = listening_addresses(wanted, tasks, running)?;
        let own: Vec<SocketAddr> = addresses.values().flatten().copied().chain(running.control_address).collect();
        let own_addresses = OwnAddresses::from(own);
        for task in tasks {
            let (pool, destinations) = match task {
                Task::AddPool(pool) => (pool, pool.destinations.len()),
                Task::ChangePool(pool, change) => (pool, change.destinations.added.len()),
                _ => continue,
            };
            let there = now.pool(&pool.name).map_or(0, |it| it.pool.snapshot().len());
            if there + destinations > MAX_DESTINATIONS {
                return Err(format!("pool {}: it may have {MAX_DESTINATIONS} destinations", pool.name));
            }
        }
        tasks.iter().try_for_each(|task| located.check(added_destinations(task), &own_addresses))?;
        let is_new = |address| own_addresses.include(address) && !running.own_addresses.include(address);
        setup.pools.iter().try_for_each(|it| passes_no_clients_back(it, tasks, &is_new))?;
        let listening = listen(wanted, tasks, &setup, &addresses, running)?;
        Ok(Ready { setup, located, credentials, listening, addresses, own_addresses })
    }

    /// Who the checks log in as from now on: the file with the password may be another as well.
    fn credentials(&self, wanted: &Config) -> Result<HashMap<Name, Credentials>, String> {
        let mut credentials = HashMap::new();
        for pool in &wanted.pools {
            let Some(options) = &pool.watchdog else { continue };
            let before = self.config.pools.iter().find(|it| it.name == pool.name);
            let same_file = before.and_then(|it| it.watchdog.as_ref()).is_some_and(|it| it.probe == options.probe);
            let known = self.running.credentials.get(&pool.name).filter(|_| same_file).cloned();
            credentials.insert(Name::clone(&pool.name), Credentials::for_checks(&options.probe, known)?);
        }
        Ok(credentials)
    }

    /// Does what cannot fail. Returns what was done.
    fn carry_out(&mut self, wanted: &Config, tasks: &[Task], ready: Ready) -> Vec<String> {
        let Ready { setup, located, credentials, mut listening, addresses, own_addresses } = ready;
        let running = &mut self.running;
        let before = running.inventory.now();
        running.own_addresses.follow(&own_addresses);
        running.addresses = addresses;
        let mut lines = Vec::new();
        let mut notices: Vec<Notice> = Vec::new();
        let known = std::mem::take(&mut running.credentials);
        let logs_in_otherwise = |name: &Name| credentials.get(name) != known.get(name);
        for entry in &setup.pools {
            let name = &entry.config.name;
            let task = tasks.iter().find_map(|task| match task {
                Task::AddPool(pool) if pool.name == *name => Some(None),
                Task::ChangePool(pool, change) if pool.name == *name => Some(Some(change)),
                _ => None,
            });
            let added = match task {
                Some(None) => &entry.config.destinations,
                Some(Some(change)) => &change.destinations.added,
                None if logs_in_otherwise(name) => {
                    watch(running, entry, &setup, &credentials, Vec::new());
                    lines.push(format!("pool {name}: its checks log in otherwise"));
                    continue;
                }
                None => continue,
            };
            if task.flatten().is_some_and(|change| change.backups) {
                entry.pool.set_backups(entry.config.backups.iter().cloned().collect());
                lines.push(format!("pool {name}: other destinations are backups"));
            }
            // There is room, and each can be one: that was looked at.
            let filled = located.fill(&entry.pool, &entry.config, added, &running.own_addresses);
            notices.extend(filled.unwrap_or_else(|reason| vec![(Level::Warn, reason)]));
            match task.flatten() {
                None => {
                    let (pool, count) = (&entry.pool, added.len());
                    if entry.config.watchdog.is_some() {
                        pool.await_first_verdicts();
                    }
                    running.workers.follow(pool);
                    running.control.follow(pool);
                    lines.push(format!("pool {name} added, destinations: {count}"));
                }
                Some(change) => lines.extend(follow(entry, change)),
            }
            if task.flatten().is_none_or(|change| change.checks) || logs_in_otherwise(name) {
                let is_new = task == Some(None);
                let of = setup.services_of(name).filter_map(|it| listening.get(&it.config.name));
                let held: Vec<ListenerGroup> = of.filter(|_| is_new).map(|it| it.group).collect();
                watch(running, entry, &setup, &credentials, held);
            }
            if let Err(error) = running.resolve_names(entry) {
                warn!("pool {name}: its names are not resolved: {error}");
            }
        }
        let mut replaced = Vec::new();
        for entry in &setup.services {
            let name = &entry.config.name;
            let new = listening.remove(name);
            let old = before.service(name);
            let change = tasks.iter().find_map(|task| match task {
                Task::ChangeService(service, change) if service.name == *name => Some(*change),
                _ => None,
            });
            let Some(old) = old else {
                lines.push(format!("service {name} added: it listens on {}", entry.config.listen));
                if let Some(new) = new {
                    let is_judged = before.pool(&entry.config.pool).is_some();
                    let is_watched = wanted.pool_of(&entry.config).watchdog.is_some();
                    if is_judged || !is_watched {
                        running.workers.accept(new.group);
                    }
                    running.open(name, new.group, new.door);
                }
                continue;
            };
            let Some(change) = change else { continue };
            if !Arc::ptr_eq(&old.service, &entry.service) {
                replaced.push((Arc::clone(&old.service), Arc::clone(&entry.service)));
            }
            if change.choosing && !change.pool {
                entry.rotation().rebalance(prepared::balancing(&entry.config, wanted.pool_of(&entry.config)));
            }
            lines.extend(told(&entry.config, &old.config, change));
            if change.connections
                && let Some(door) = running.doors.as_ref().and_then(|doors| doors.door(name))
                && let Err(error) = service::renew(&door.sockets, &entry.config.connections)
            {
                warn!("service {name}: new connections have some of the old options: {error}");
            }
            if let Some(new) = new {
                running.close(name);
                running.workers.accept(new.group);
                running.open(name, new.group, new.door);
            }
        }
        setup.avoid_writers();
        running.workers.replace(replaced);
        let old = |it: &ServiceEntry| before.service(&it.config.name).filter(|old| old.config.pool != it.config.pool);
        for old in setup.services.iter().filter_map(old) {
            old.rotation().abandon_switchover("its service takes destinations from another pool now");
        }
        for task in tasks {
            match task {
                Task::DropService(name) => {
                    running.close(name);
                    let dropped = before.service(name).into_iter();
                    dropped.for_each(|it| it.rotation().abandon_switchover("its service was dropped"));
                    lines.push(format!("service {name} dropped: its connections go on to their end"));
                }
                Task::DropPool(name) => {
                    before.pool(name).into_iter().for_each(|it| running.forget_pool(&it.pool));
                    lines.push(format!("pool {name} dropped"));
                }
                Task::Wait(key, until) => {
                    let until = match until {
                        Until::Upgrade => "an upgrade",
                        Until::Restart => "a restart",
                    };
                    lines.push(format!("process: another '{key}' than before takes effect at {until}"));
                }
                _ => {}
            }
        }
        running.credentials = credentials;
        running.inventory.set(setup);
        running.control.setup_changed();
        // Sockets that are left can be listened at again, and no new client gets what was asked for before.
        running.workers.settle(SETTLING);
        notices.iter().for_each(|(level, notice)| log!(*level, "{notice}"));
        lines
    }
}

/// The destinations that a task adds.
fn added_destinations<'t>(task: &'t Task<'_>) -> &'t [DestinationSpec] {
    match task {
        Task::AddPool(pool) => &pool.destinations,
        Task::ChangePool(_, change) => &change.destinations.added,
        _ => &[],
    }
}

/// Looks at the destinations of a pool that stay, whoever has brought them: this daemon may begin to listen at one.
fn passes_no_clients_back(
    PoolEntry { config, pool }: &PoolEntry,
    tasks: &[Task],
    begins_at: &impl Fn(SocketAddr) -> bool,
) -> Result<(), String> {
    let dropped: Vec<&Endpoint> = tasks.iter().flat_map(|task| dropped_destinations(task, &config.name)).collect();
    let stays = |it: &DestinationStatus| {
        let goes = !it.wanted_as.is_empty() && it.wanted_as.iter().all(|name| dropped.contains(&name));
        !it.is_leaving && !goes
    };
    match pool.snapshot().iter().find(|it| stays(it) && begins_at(it.address)) {
        Some(it) => Err(prepared::loop_trouble(it.address, &config.name)),
        None => Ok(()),
    }
}

/// The destinations that a task drops from a pool.
fn dropped_destinations<'t>(task: &'t Task<'_>, of: &Name) -> &'t [Endpoint] {
    match task {
        Task::ChangePool(pool, change) if pool.name == *of => &change.destinations.dropped,
        _ => &[],
    }
}

/// What there will be. Pools and services that stay are the same ones.
fn next_setup(wanted: &Config, tasks: &[Task], now: &Setup) -> Setup {
    let pool = |config: &PoolConfig| {
        let there = now.pool(&config.name).map(|it| it.pool.clone());
        let pool = there.unwrap_or_else(|| prepared::pool(config));
        PoolEntry { config: config.clone(), pool }
    };
    let pools: Vec<PoolEntry> = wanted.pools.iter().map(pool).collect();
    let mut retired: Vec<PoolEntry> = now.retired.clone();
    retired.extend(now.pools.iter().filter(|it| wanted.pools.iter().all(|pool| pool.name != it.config.name)).cloned());
    retired.retain(|it| it.pool.connections() > 0);
    let setup = Setup { pools, services: Vec::new(), retired };
    let service = |config: &ServiceConfig| {
        let entry = setup.pool(&config.pool)?;
        let change = tasks.iter().find_map(|task| match task {
            Task::ChangeService(service, change) if service.name == config.name => Some(*change),
            _ => None,
        });
        Some(match (now.service(&config.name), change) {
            (Some(old), None) => ServiceEntry { config: config.clone(), service: Arc::clone(&old.service) },
            (Some(old), Some(change)) if !change.pool => {
                prepared::service_with(config, old.rotation().clone(), Some(&old.service))
            }
            (old, _) => prepared::service(config, entry, old.map(|old| &*old.service)),
        })
    };
    let services = wanted.services.iter().filter_map(service).collect();
    Setup { services, ..setup }
}

/// Where each service will listen.
fn listening_addresses(
    wanted: &Config,
    tasks: &[Task],
    running: &Running,
) -> Result<HashMap<Name, Vec<SocketAddr>>, String> {
    let mut addresses = HashMap::new();
    for service in &wanted.services {
        let at = match running.addresses.get(&service.name) {
            Some(known) if !listens_anew(tasks, &service.name) => known.clone(),
            _ => {
                let address = resolve::resolve_listen_address(&service.listen);
                vec![address.map_err(|error| listen_trouble(service, &error))?]
            }
        };
        addresses.insert(Name::clone(&service.name), at);
    }
    Ok(addresses)
}

fn listens_anew(tasks: &[Task], name: &Name) -> bool {
    tasks.iter().any(|task| match task {
        Task::AddService(service) => service.name == *name,
        Task::ChangeService(service, ServiceChange { listening: true, .. }) => service.name == *name,
        _ => false,
    })
}

/// Listens where that is new, and lets nobody in yet.
fn listen(
    wanted: &Config,
    tasks: &[Task],
    setup: &Setup,
    addresses: &HashMap<Name, Vec<SocketAddr>>,
    running: &Running,
) -> Result<HashMap<Name, Listening>, String> {
    let mut listening: HashMap<Name, Listening> = HashMap::new();
    for entry in setup.services.iter().filter(|it| listens_anew(tasks, &it.config.name)) {
        let (service, name) = (&entry.config, &entry.config.name);
        let address = addresses.get(name).and_then(|all| all.first()).copied();
        let Some(address) = address else { continue };
        let opened = open(service, address, wanted, tasks, running).and_then(|listeners| {
            let door = Door::of(name, &listeners, false)?;
            let group = running.workers.serve(&entry.service, listeners, true)?;
            Ok(Listening { group, door })
        });
        match opened {
            Ok(opened) => drop(listening.insert(Name::clone(name), opened)),
            Err(error) => {
                listening.into_values().for_each(|it| running.workers.retire(it.group));
                return Err(listen_trouble(service, &error));
            }
        }
    }
    Ok(listening)
}

/// Sockets at an address: those of a service that leaves it, or new ones.
fn open(
    service: &ServiceConfig,
    address: SocketAddr,
    wanted: &Config,
    tasks: &[Task],
    running: &Running,
) -> std::io::Result<Vec<TcpListener>> {
    let leaves = |name: &Name| wanted.services.iter().all(|it| it.name != *name) || listens_anew(tasks, name);
    let leaving = running.addresses.iter().find(|(name, all)| **all == [address] && leaves(name));
    let door = leaving.and_then(|(name, _)| running.doors.as_ref()?.door(name)).filter(|door| !door.borrowed);
    match door {
        Some(door) => service::adopt(&door.sockets, door.sockets.len(), &service.connections),
        None => service::listen(address, wanted.threads.min(running.worker_count), &service.connections),
    }
}

/// Has a pool follow its file. Returns what was done.
fn follow(PoolEntry { config, pool }: &PoolEntry, change: &PoolChange) -> Vec<String> {
    let name = &config.name;
    let added = change.destinations.added.iter();
    let mut lines: Vec<String> =
        added.map(|it| format!("pool {name}: destination {} added with weight {}", it.endpoint, it.weight)).collect();
    lines.extend(filling::follow(pool, &change.destinations).into_iter().map(|line| format!("pool {name}: {line}")));
    if change.checks {
        pool.configure(prepared::pool_settings(config));
        lines.push(format!("pool {name}: destinations are checked otherwise"));
    }
    if change.names {
        lines.push(format!("pool {name}: names are resolved otherwise"));
    }
    lines
}

/// What has changed about a service.
fn told(new: &ServiceConfig, old: &ServiceConfig, change: ServiceChange) -> Vec<String> {
    let name = &new.name;
    let mut lines = Vec::new();
    if change.listening {
        lines.push(format!("service {name}: it listens on {}, no longer on {}", new.listen, old.listen));
    }
    if change.pool {
        lines.push(format!("service {name}: new clients go to pool {}, no longer to {}", new.pool, old.pool));
    }
    if change.choosing {
        let top = if new.top { ", top weight only" } else { "" };
        let avoid = new.avoid.as_ref().map(|writer| format!(", apart from the writer of {writer}"));
        let avoid = avoid.unwrap_or_default();
        lines.push(format!("service {name}: new clients are balanced by {}{top}{avoid}", new.policy));
    }
    if change.connections {
        lines.push(format!("service {name}: connections have other options"));
    }
    if change.limits {
        lines.push(format!("service {name}: new connections have other limits"));
    }
    lines
}

/// Has a pool watched as it is asked for now. Once it has been judged, these listening sockets let clients in.
fn watch(
    running: &mut Running,
    entry: &PoolEntry,
    setup: &Setup,
    credentials: &HashMap<Name, Credentials>,
    held: Vec<ListenerGroup>,
) {
    let name = &entry.config.name;
    let Some(credentials) = credentials.get(name) else { return running.watch_no_more(&entry.pool) };
    let workers = running.workers.clone();
    let let_in = move || held.into_iter().for_each(|group| workers.accept(group));
    if let Err(error) = running.watch(entry, setup, credentials, let_in.clone()) {
        warn!("pool {name}: its destinations are not watched: {error}");
        entry.pool.first_verdicts_are_known();
        let_in();
    }
}
