//! All of a reload that can fail: names, addresses, files.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use log::warn;

use super::carry_out::SETTLING;
use super::control::NewControl;
use crate::address::{DestinationSpec, Endpoint};
use crate::checker::Credentials;
use crate::config::{Config, Name, PoolConfig, ServiceConfig};
use crate::daemon::filling::Located;
use crate::daemon::listen_trouble;
use crate::daemon::listening::{Door, ListenPlace, ListenPlaces, Opening, await_handshakes, bind_to_interfaces};
use crate::daemon::prepared;
use crate::daemon::running::Running;
use crate::daemon::serving::Serving;
use crate::desired::Task;
use crate::names;
use crate::pool::MAX_DESTINATIONS;
use crate::resolve::OwnAddresses;
use crate::service::{self, PoolEntry, RetiredService, ServiceEntry, Setup};

/// All that is needed for what is wanted, and can fail.
pub(super) struct Ready {
    pub setup: Setup,
    pub located: Located,
    pub credentials: HashMap<Name, Credentials>,
    /// Sockets of each service that are new, which let nobody in yet.
    pub listening: HashMap<Name, Vec<Door>>,
    /// Where each service will listen.
    pub places: ListenPlaces,
    pub own_addresses: OwnAddresses,
    /// There is a thread for names.
    pub names: Option<names::Hold>,
}

impl Serving {
    /// Does all that can fail. When it does, nothing has changed.
    pub(super) fn prepare(&mut self, wanted: &Config, tasks: &[Task], control: &NewControl) -> Result<Ready, String> {
        let credentials = self.credentials(wanted)?;
        let names = self.start_threads(wanted, tasks).map_err(|error| format!("cannot start a thread: {error}"))?;
        let added = tasks.iter().flat_map(added_destinations);
        let signals = &mut self.signals;
        let located = Located::resolve(added, wanted.strict_names, &mut || signals.is_end_wanted())?;
        if self.signals.is_end_wanted() {
            return Err("a signal came that ends this process".to_owned());
        }
        let running = &self.running;
        let now = running.inventory.now();
        let setup = next_setup(wanted, tasks, &now);
        let places = ListenPlaces::resolve(wanted, running.all_doors())?;
        let own_addresses = places.own_addresses(control.addresses(tasks, running));
        for task in tasks {
            let (pool, destinations) = match task {
                Task::AddPool(pool) => (pool, pool.destinations.len()),
                Task::ChangePool(pool, change) => (pool, change.destinations.added.len()),
                _ => continue,
            };
            let there = setup.pool(&pool.name).map_or(0, |it| it.pool.snapshot().len());
            if there + destinations > MAX_DESTINATIONS {
                return Err(format!("pool {}: it may have {MAX_DESTINATIONS} destinations", pool.name));
            }
        }
        tasks.iter().try_for_each(|task| located.check(added_destinations(task), &own_addresses))?;
        let is_new = |address| own_addresses.include(address) && !running.own_addresses.include(address);
        // What there is in one that comes back goes.
        for entry in setup.pools.iter().filter(|it| now.retired_pool(&it.config.name).is_none()) {
            prepared::passes_no_clients_back(entry, dropped_destinations(tasks, &entry.config.name), is_new)?;
        }
        let listening = listen(wanted, &setup, &places, running)?;
        Ok(Ready { setup, located, credentials, listening, places, own_addresses, names })
    }

    /// Starts the threads that there are none of yet.
    fn start_threads(&mut self, wanted: &Config, tasks: &[Task]) -> io::Result<Option<names::Hold>> {
        if wanted.pools.iter().any(|pool| pool.watchdog.is_some()) {
            self.running.prepare_to_watch()?;
        }
        let may_have_names = tasks.iter().any(|task| matches!(task, Task::AddPool(_) | Task::ChangePool(..)));
        self.running.names.as_ref().filter(|_| may_have_names).map(names::Handle::hold).transpose()
    }

    /// Who the checks log in as from now on: the file with the password may be another as well.
    fn credentials(&self, wanted: &Config) -> Result<HashMap<Name, Credentials>, String> {
        let mut credentials = HashMap::new();
        for pool in &wanted.pools {
            let Some(options) = &pool.watchdog else { continue };
            let before = self.config.pools.iter().find(|it| it.name == pool.name);
            let same_file = before.and_then(|it| it.watchdog.as_ref()).is_some_and(|it| it.probe == options.probe);
            let known = self.running.credentials.get(&pool.name).filter(|_| same_file).cloned();
            credentials.insert(Name::clone(&pool.name), Credentials::for_other_checks(&options.probe, known)?);
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

/// What there will be. Pools and services that stay are the same ones, and a pool or a service that comes back while it
/// still has connections goes on with them.
fn next_setup(wanted: &Config, tasks: &[Task], now: &Setup) -> Setup {
    let pool = |config: &PoolConfig| {
        let there = now.pool(&config.name).or_else(|| now.retired_pool(&config.name));
        let pool = there.map_or_else(|| prepared::pool(config), |it| it.pool.clone());
        PoolEntry { config: config.clone(), pool }
    };
    let pools: Vec<PoolEntry> = wanted.pools.iter().map(pool).collect();
    let is_wanted = |it: &PoolEntry| wanted.pools.iter().any(|pool| pool.name == it.config.name);
    let retired = now.all_pools().filter(|it| !is_wanted(it) && it.pool.connections() > 0).cloned().collect();
    let is_wanted = |name: &Name| wanted.services.iter().any(|it| it.name == *name);
    let dropped = now.services.iter().filter(|it| !is_wanted(&it.config.name)).map(RetiredService::from);
    let left = now.retired_services.iter().filter(|it| !is_wanted(&it.name) && it.has_connections());
    // Clients in the backlogs of those that are dropped are yet to come.
    let retired_services = dropped.chain(left.cloned()).collect();
    let setup = Setup { pools, services: Vec::new(), retired, retired_services };
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
            (Some(old), Some(_)) => prepared::service(config, entry, Some(&old.service)),
            (None, _) => match now.retired_service(&config.name) {
                Some(before) => prepared::returning_service(config, entry, before),
                None => prepared::service(config, entry, None),
            },
        })
    };
    let services = wanted.services.iter().filter_map(service).collect();
    Setup { services, ..setup }
}

/// Listens where that is new, and lets nobody in yet.
fn listen(
    wanted: &Config,
    setup: &Setup,
    places: &ListenPlaces,
    running: &Running,
) -> Result<HashMap<Name, Vec<Door>>, String> {
    let (staying, leaving): (Vec<&Door>, Vec<&Door>) =
        running.all_doors().iter().partition(|door| places.include(door));
    let count = wanted.threads.min(running.worker_count);
    let mut listening: HashMap<Name, Vec<Door>> = HashMap::new();
    for ServiceEntry { config, service } in &setup.services {
        let is_there = |place: &ListenPlace| staying.iter().any(|it| it.service == config.name && it.place == *place);
        for place in places.of(&config.name).iter().filter(|place| !is_there(place)) {
            let opened = Opening::new(config, place, &leaving, places, count)
                .and_then(|opening| opening.serve(&running.workers, service, true));
            match opened {
                Ok(door) => listening.entry(Name::clone(&config.name)).or_default().push(door),
                Err(error) => {
                    retire(listening, running);
                    return Err(listen_trouble(&place.listen, &error) + &hint(place, &error, running));
                }
            }
        }
    }
    make_lost_files_again(&staying, setup, running, count, &mut listening);
    let interface = |door: &Door| {
        let now = &setup.service(&door.service)?.config.connections.interface;
        (door.interface != *now && !door.borrowed && !door.place.at.is_unix()).then_some(now.as_deref())
    };
    let changed: Vec<(&Door, Option<&str>)> =
        staying.iter().filter_map(|door| Some((*door, interface(door)?))).collect();
    if let Err(reason) = bind_to_interfaces(&changed) {
        retire(listening, running);
        return Err(reason);
    }
    await_handshakes(&leaving, places);
    Ok(listening)
}

/// Listens again at the path of each socket that stays but whose file was removed. Where that fails, the old socket stays.
fn make_lost_files_again(
    staying: &[&Door],
    setup: &Setup,
    running: &Running,
    count: usize,
    listening: &mut HashMap<Name, Vec<Door>>,
) {
    for door in staying {
        let entry = setup.service(&door.service).filter(|_| door.has_lost_file());
        let opened = entry.map(|ServiceEntry { config, service }| {
            Opening::anew(config, &door.place, count).and_then(|opening| opening.serve(&running.workers, service, true))
        });
        match opened {
            Some(Ok(opened)) => listening.entry(Name::clone(&door.service)).or_default().push(opened),
            Some(Err(error)) => warn!("service {}: {}", door.service, listen_trouble(&door.place.listen, &error)),
            None => door.warn_if_out_of_reach(),
        }
    }
}

/// Closes what was opened in vain, so that it can be listened there again.
fn retire(listening: HashMap<Name, Vec<Door>>, running: &Running) {
    let groups = listening.into_values().flatten().filter_map(|door| door.group);
    groups.for_each(|group| running.workers.retire(group));
    running.workers.settle(SETTLING);
}

/// What else there is to say where it cannot be listened at an address.
fn hint(place: &ListenPlace, error: &io::Error, running: &Running) -> String {
    let overlaps = |door: &&Door| match (door.place.at.inet(), place.at.inet()) {
        (Some(one), Some(other)) => service::overlap(one, other),
        _ => door.place.at == place.at,
    };
    let is_in_the_way = |door: &&Door| door.borrowed && overlaps(door);
    let other = running.all_doors().iter().find(is_in_the_way);
    match other.filter(|_| error.kind() == io::ErrorKind::AddrInUse) {
        Some(Door { service, .. }) => {
            format!("; service {service} has the service manager's socket there, which takes a restart to change")
        }
        None => String::new(),
    }
}
