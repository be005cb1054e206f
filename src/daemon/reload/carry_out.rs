//! All of a reload that cannot fail.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use log::{Level, log, warn};

use super::ready::Ready;
use crate::address::{DestinationSpec, ListenAddresses};
use crate::checker::Credentials;
use crate::config::{Config, Name, ServiceConfig};
use crate::daemon::filling::{self, Located};
use crate::daemon::handover::Predecessors;
use crate::daemon::listening::{Door, ListenPlaces};
use crate::daemon::prepared::{self, Notice};
use crate::daemon::running::Running;
use crate::desired::{PoolChange, ServiceChange, Task, Until};
use crate::names;
use crate::service::{PoolEntry, Service, ServiceEntry, Setup};
use crate::worker::ListenerGroup;

/// How long workers may take to hear of a reload before it is answered.
pub(super) const SETTLING: Duration = Duration::from_secs(3);

/// A reload under way, once nothing can fail any more.
pub(super) struct Work<'w> {
    running: &'w mut Running,
    wanted: &'w Config,
    tasks: &'w [Task<'w>],
    /// What there was.
    before: Arc<Setup>,
    setup: Setup,
    located: Located,
    /// Who the checks log in as from now on, and before.
    credentials: HashMap<Name, Credentials>,
    known: HashMap<Name, Credentials>,
    places: ListenPlaces,
    listening: HashMap<Name, Vec<Door>>,
    _names: Option<names::Hold>,
    /// What was done.
    lines: Vec<String>,
}

impl<'w> Work<'w> {
    pub(super) fn new(running: &'w mut Running, wanted: &'w Config, tasks: &'w [Task<'w>], ready: Ready) -> Work<'w> {
        let Ready { setup, located, credentials, listening, places, own_addresses, names } = ready;
        running.own_addresses.follow(&own_addresses);
        let (before, known) = (running.inventory.now(), std::mem::take(&mut running.credentials));
        let lines = Vec::new();
        Work {
            running,
            wanted,
            tasks,
            before,
            setup,
            located,
            credentials,
            known,
            places,
            listening,
            _names: names,
            lines,
        }
    }

    /// Does it. Returns what was done, a line for each thing.
    pub(super) fn carry_out(mut self) -> Vec<String> {
        let setup = self.setup.clone();
        setup.set_labels();
        setup.pools.iter().for_each(|entry| self.follow_pool(entry));
        let replaced = setup.services.iter().filter_map(|entry| self.follow_service(entry)).collect();
        setup.avoid_writers();
        self.running.workers.replace(replaced);
        self.abandon_moves();
        self.tasks.iter().for_each(|task| self.drop_or_tell(task));
        self.running.credentials = self.credentials;
        self.running.inventory.set(setup);
        self.running.predecessors.iter().for_each(Predecessors::setup_changed);
        self.running.control.setup_changed();
        // Sockets that are left can be listened at again, and no new client gets what was asked for before.
        self.running.workers.settle(SETTLING);
        self.lines
    }

    fn logs_in_otherwise(&self, pool: &Name) -> bool {
        self.credentials.get(pool) != self.known.get(pool)
    }

    /// Has a pool be as it is asked for.
    fn follow_pool(&mut self, entry: &PoolEntry) {
        let name = &entry.config.name;
        let is_its = |task: &&&Task| match task {
            Task::AddPool(pool) | Task::ChangePool(pool, _) => pool.name == *name,
            _ => false,
        };
        match self.tasks.iter().find(|task| is_its(&task)) {
            Some(Task::ChangePool(_, change)) => self.change_pool(entry, change),
            Some(_) => self.add_pool(entry),
            None if self.logs_in_otherwise(name) => {
                self.watch(entry, Vec::new());
                self.lines.push(format!("pool {name}: its checks log in otherwise"));
            }
            None => {}
        }
    }

    fn add_pool(&mut self, entry: &PoolEntry) {
        let PoolEntry { config, pool } = entry;
        let comes_back = self.before.retired_pool(&config.name).is_some();
        if comes_back {
            pool.begin_anew(prepared::pool_settings(config));
            pool.set_backups(config.backups.iter().cloned().collect());
        }
        self.fill(entry, &config.destinations);
        if config.watchdog.is_some() {
            pool.await_first_verdicts();
        }
        if !comes_back {
            self.running.follow(entry);
        }
        self.lines.push(format!("pool {} added, destinations: {}", config.name, config.destinations.len()));
        let services = self.setup.services_of(&config.name);
        let new = services.filter_map(|it| self.listening.get(&it.config.name)).flatten();
        let held = new.filter_map(|door| door.group).collect();
        self.watch(entry, held);
        self.resolve_names(entry);
    }

    fn change_pool(&mut self, entry: &PoolEntry, change: &PoolChange) {
        let PoolEntry { config, pool } = entry;
        let name = &config.name;
        if change.backups {
            pool.set_backups(config.backups.iter().cloned().collect());
            self.lines.push(format!("pool {name}: other destinations are backups"));
        }
        self.fill(entry, &change.destinations.added);
        for spec in &change.destinations.added {
            let line = format!("pool {name}: destination {} added with weight {}", spec.endpoint, spec.weight);
            self.lines.push(line);
        }
        let followed = filling::follow(pool, &change.destinations).into_iter();
        self.lines.extend(followed.map(|line| format!("pool {name}: {line}")));
        if change.room {
            pool.configure(prepared::pool_settings(config));
            self.lines.push(format!("pool {name}: destinations have other limits"));
        }
        if change.checks {
            pool.configure(prepared::pool_settings(config));
            self.lines.push(format!("pool {name}: destinations are checked otherwise"));
        }
        if change.names {
            self.lines.push(format!("pool {name}: names are resolved otherwise"));
        }
        if change.checks || self.logs_in_otherwise(name) {
            self.watch(entry, Vec::new());
        }
        self.resolve_names(entry);
    }

    fn fill(&self, PoolEntry { config, pool }: &PoolEntry, added: &[DestinationSpec]) {
        // There is room, and each can be one: that was looked at.
        let filled = self.located.fill(pool, config, added, &self.running.own_addresses);
        let notices: Vec<Notice> = filled.unwrap_or_else(|reason| vec![(Level::Warn, reason)]);
        notices.iter().for_each(|(level, notice)| log!(*level, "{notice}"));
    }

    fn resolve_names(&self, entry: &PoolEntry) {
        if let Err(error) = self.running.resolve_names(entry) {
            warn!("pool {}: its names are not resolved: {error}", entry.config.name);
        }
    }

    /// Has a pool watched as it is asked for now. Once it has been judged, these listening sockets let clients in.
    fn watch(&mut self, entry: &PoolEntry, held: Vec<ListenerGroup>) {
        let name = &entry.config.name;
        let Some(credentials) = self.credentials.get(name) else { return self.running.watch_no_more(&entry.pool) };
        let workers = self.running.workers.clone();
        let let_in = move || held.into_iter().for_each(|group| workers.accept(group));
        if let Err(error) = self.running.watch(entry, &self.setup, credentials, let_in.clone()) {
            warn!("pool {name}: its destinations are not watched: {error}");
            entry.pool.first_verdicts_are_known();
            let_in();
        }
    }

    /// Has a service be as it is asked for. Returns what replaces what, if anything does.
    fn follow_service(&mut self, entry: &ServiceEntry) -> Option<(Arc<Service>, Arc<Service>)> {
        let name = &entry.config.name;
        let new = self.listening.remove(name).unwrap_or_default();
        let before = Arc::clone(&self.before);
        let Some(old) = before.service(name) else {
            self.add_service(entry, new);
            return self.returning_service(entry);
        };
        let new = self.listen_again(name, new);
        let change = self.tasks.iter().find_map(|task| match task {
            Task::ChangeService(service, change) if service.name == *name => Some(*change),
            _ => None,
        })?;
        if change.choosing && !change.pool {
            entry.rotation().rebalance(prepared::balancing(&entry.config, self.wanted.pool_of(&entry.config)));
        }
        self.lines.extend(told(&entry.config, &old.config, change));
        if change.connections
            && let Some(doors) = &mut self.running.doors
            && let Err(error) = doors.of_service_mut(name).try_for_each(|door| door.renew(&entry.config.connections))
        {
            warn!("service {name}: new connections have some of the old options: {error}");
        }
        let places = &self.places;
        self.running.close(|door| door.service == *name && !places.include(door));
        self.open(new, true);
        let is_another = !Arc::ptr_eq(&old.service, &entry.service);
        is_another.then(|| (Arc::clone(&old.service), Arc::clone(&entry.service)))
    }

    /// Has a service listen anew where the files of its sockets were gone. Returns the sockets at other addresses.
    fn listen_again(&mut self, name: &Name, new: Vec<Door>) -> Vec<Door> {
        let is_again = |new: &Door| self.running.all_doors().iter().any(|old| old.is_where(new));
        let (again, new): (Vec<Door>, Vec<Door>) = new.into_iter().partition(is_again);
        let file_is_gone = |door: &Door| format!("service {name}: {} was gone; it is made again", door.place.listen);
        self.lines.extend(again.iter().map(file_is_gone));
        self.running.close(|old| again.iter().any(|new| old.is_where(new)));
        self.open(again, true);
        new
    }

    fn open(&mut self, doors: Vec<Door>, accepts: bool) {
        for door in doors {
            door.group.filter(|_| accepts).into_iter().for_each(|group| self.running.workers.accept(group));
            self.running.open(door);
        }
    }

    fn add_service(&mut self, entry: &ServiceEntry, new: Vec<Door>) {
        let ServiceConfig { name, pool, listen, .. } = &entry.config;
        self.lines.push(format!("service {name} added: it listens on {listen}"));
        let is_judged = self.before.pool(pool).is_some();
        self.open(new, is_judged || self.wanted.pool_of(&entry.config).watchdog.is_none());
    }

    /// Has a service that comes back choose as it is asked for. Returns the one that has its connections, which it replaces.
    fn returning_service(&self, entry: &ServiceEntry) -> Option<(Arc<Service>, Arc<Service>)> {
        let ServiceEntry { config, service } = entry;
        if let Some(old) = self.before.retired_service(&config.name)?.service()
            && old.counters.is(&service.counters)
        {
            if old.rotation.is(&service.rotation) {
                service.rotation.rebalance(prepared::balancing(config, self.wanted.pool_of(config)));
            }
            return Some((old, Arc::clone(service)));
        }
        None
    }

    /// A writer that is being moved by hand in a pool that its service leaves is moved no further.
    fn abandon_moves(&self) {
        let old = |it: &ServiceEntry| {
            let old = self.before.service(&it.config.name);
            old.filter(|old| old.config.pool != it.config.pool).cloned()
        };
        for old in self.setup.services.iter().filter_map(old) {
            old.rotation().abandon_switchover("its service takes destinations from another pool now");
        }
    }

    /// What nobody asks for any more goes, and what has to wait is told.
    fn drop_or_tell(&mut self, task: &Task) {
        match task {
            Task::DropService(name) => {
                self.running.close_service(name);
                let dropped = self.before.service(name).into_iter();
                dropped.for_each(|it| it.rotation().abandon_switchover("its service was dropped"));
                self.lines.push(format!("service {name} dropped: its connections go on to their end"));
            }
            Task::DropPool(name) => {
                self.before.pool(name).into_iter().for_each(|it| self.running.forget_pool(&it.pool));
                self.lines.push(format!("pool {name} dropped"));
            }
            Task::Wait(key, until) => {
                let until = match until {
                    Until::Upgrade => "an upgrade",
                    Until::Restart => "a restart",
                };
                self.lines.push(format!("process: another '{key}' than before takes effect at {until}"));
            }
            _ => {}
        }
    }
}

/// What has changed about a service.
fn told(new: &ServiceConfig, old: &ServiceConfig, change: ServiceChange) -> Vec<String> {
    let name = &new.name;
    let mut lines = Vec::new();
    if change.listening {
        let only_in = |one: &ListenAddresses, other: &ListenAddresses| {
            ListenAddresses::new(one.iter().filter(|address| !other.contains(address)).cloned())
        };
        lines.extend(match (only_in(&new.listen, &old.listen), only_in(&old.listen, &new.listen)) {
            (Some(new), Some(old)) => Some(format!("service {name}: it listens on {new}, no longer on {old}")),
            (Some(new), None) => Some(format!("service {name}: it listens on {new} as well")),
            (None, Some(old)) => Some(format!("service {name}: it listens no longer on {old}")),
            (None, None) => None,
        });
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
