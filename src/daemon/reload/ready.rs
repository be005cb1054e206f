//! All of a reload that can fail: names, addresses, files.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use mio::net::TcpListener;

use crate::address::{DestinationSpec, Endpoint};
use crate::checker::Credentials;
use crate::config::{Config, Name, PoolConfig, ServiceConfig};
use crate::daemon::filling::Located;
use crate::daemon::listen_trouble;
use crate::daemon::opened::Door;
use crate::daemon::prepared;
use crate::daemon::running::Running;
use crate::daemon::serving::Serving;
use crate::desired::{ServiceChange, Task};
use crate::pool::MAX_DESTINATIONS;
use crate::resolve::{self, OwnAddresses};
use crate::service::{self, PoolEntry, ServiceEntry, Setup};
use crate::worker::ListenerGroup;

/// All that is needed for what is wanted, and can fail.
pub(super) struct Ready {
    pub setup: Setup,
    pub located: Located,
    pub credentials: HashMap<Name, Credentials>,
    /// Sockets that are new.
    pub listening: HashMap<Name, Listening>,
    /// Where each service will listen.
    pub addresses: HashMap<Name, Vec<SocketAddr>>,
    pub own_addresses: OwnAddresses,
}

/// New listening sockets of a service, which let nobody in yet.
pub(super) struct Listening {
    pub group: ListenerGroup,
    pub door: Door,
}

impl Serving {
    /// Does all that can fail. When it does, nothing has changed.
    pub(super) fn prepare(&mut self, wanted: &Config, tasks: &[Task]) -> Result<Ready, String> {
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
        for entry in &setup.pools {
            prepared::passes_no_clients_back(entry, dropped_destinations(tasks, &entry.config.name), is_new)?;
        }
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
}

/// The destinations that a task adds.
fn added_destinations<'t>(task: &'t Task<'_>) -> &'t [DestinationSpec] {
    match task {
        Task::AddPool(pool) => &pool.destinations,
        Task::ChangePool(_, change) => &change.destinations.added,
        _ => &[],
    }
}

/// The destinations that are dropped from a pool.
fn dropped_destinations<'t>(tasks: &'t [Task<'_>], of: &Name) -> &'t [Endpoint] {
    let dropped = tasks.iter().find_map(|task| match task {
        Task::ChangePool(pool, change) if pool.name == *of => Some(&change.destinations.dropped[..]),
        _ => None,
    });
    dropped.unwrap_or_default()
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
                return Err(listen_trouble(service, &error) + &hint(service, &error, running));
            }
        }
    }
    Ok(listening)
}

/// What else there is to say where it cannot be listened at an address.
fn hint(service: &ServiceConfig, error: &std::io::Error, running: &Running) -> String {
    let has_port = |all: &[SocketAddr]| all.iter().any(|it| it.port() == service.listen.port);
    let other = running.addresses.iter().find(|(_, all)| has_port(all)).map(|(name, _)| name);
    match other.filter(|_| error.kind() == std::io::ErrorKind::AddrInUse) {
        Some(other) => format!("; service {other} has the port at another address, which takes a restart to change"),
        None => String::new(),
    }
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
