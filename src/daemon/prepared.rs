//! All that can be known before anything is opened.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use super::control_sockets::{self, ControlDoor, Sorted};
use super::filling::{self, Located};
use super::handover::State;
use super::limits::Limits;
use super::listening::{Door, ListenPlaces};
use crate::address::{Endpoint, PeerAddress, parse_destination};
use crate::checker::Credentials;
use crate::config::{Config, PoolConfig, ServiceConfig};
use crate::counted::Counted;
use crate::desired::{self, DestinationsChange};
use crate::pool::{Balancing, DestinationStatus, Pool, PoolSettings, Rotation, Unresolved};
use crate::process::{self, Identity, processors};
use crate::resolve::{self, OwnAddresses};
use crate::service::{self, Continued, PoolEntry, RetiredService, Service, ServiceEntry, Setup};
use crate::state::{Loaded, StateFile};

/// Who a daemon started by root runs as unless the command line says otherwise.
const DEFAULT_USER: &str = "daemon";
/// A failed destination is avoided for the interval between checks and this.
const AVOIDED_LONGER: Duration = Duration::from_secs(1);

/// Changes of the last time that stand in one log line.
const TOLD_AT_ONCE: usize = 20;

/// How much it matters, and what it is.
pub(super) type Notice = (Level, String);

/// All that can be known before anything is opened.
pub(super) struct Prepared {
    pub limits: Limits,
    pub setup: Setup,
    /// Where each service listens.
    pub places: ListenPlaces,
    /// The control sockets, until they are opened.
    pub control: Sorted,
    /// Those that are no paths, and whether they are read-only.
    control_addresses: Vec<(SocketAddr, bool)>,
    /// All of these.
    pub own_addresses: OwnAddresses,
    /// Where changes are kept, if anywhere.
    pub state: Option<Arc<StateFile>>,
    /// Who the checks of each pool log in as, where there are any.
    pub credentials: Vec<Option<Credentials>>,
    pub identity: Option<Identity>,
    /// What the log should tell, once there is one.
    pub notices: Vec<Notice>,
}

impl Prepared {
    /// For a start with what is asked for; the pools are to be [filled](Prepared::fill). Sockets may be open already, and
    /// control sockets.
    pub(super) fn anew(config: &Config, open: &[Door], open_control: Vec<ControlDoor>) -> Result<Prepared, String> {
        let credentials = config.pools.iter().map(|pool| credentials(pool, None)).collect::<Result<_, _>>()?;
        let limits = Limits::for_config(config)?;
        processors::check(config.cpus.numbers())?;
        service::workers_are_bound_to(config.cpus.numbers());
        let places = ListenPlaces::resolve(config, open)?;
        let identity = identity(config)?;
        let control = control_sockets::sort(&config.control, open_control, identity.as_ref())?;
        let control_addresses: Vec<_> = control.addresses().collect();
        let own_addresses = places.own_addresses(control_addresses.iter().map(|(at, _)| *at));
        let notices = limits.notice.iter().map(|notice| (Level::Warn, notice.clone())).collect();
        let (setup, state) = (empty_setup(config), state_file(config));
        Ok(Prepared {
            limits,
            setup,
            places,
            control,
            control_addresses,
            own_addresses,
            state,
            credentials,
            identity,
            notices,
        })
    }

    /// For going on with another process's pools, sockets and rights.
    pub(super) fn to_take_over(
        config: &Config,
        state: &State,
        open: &[Door],
        control: Vec<ControlDoor>,
    ) -> Result<Prepared, String> {
        let handed = |pool: &PoolConfig| state.pools.iter().find(|it| *it.name == *pool.name);
        let known = |pool| handed(pool).and_then(|it| it.credentials.clone());
        let credentials = config.pools.iter().map(|pool| credentials(pool, known(pool))).collect::<Result<_, _>>()?;
        let limits = Limits::for_config(config)?;
        processors::check(config.cpus.numbers())?;
        service::workers_are_bound_to(config.cpus.numbers());
        let places = ListenPlaces::resolve(config, open)?;
        let control_before: Vec<SocketAddr> = control.iter().filter_map(ControlDoor::socket_address).collect();
        let control = control_sockets::sort(&config.control, control, None)?;
        let control_addresses: Vec<_> = control.addresses().collect();
        let own_addresses = places.own_addresses(control_addresses.iter().map(|(at, _)| *at));
        let mut setup = empty_setup(config);
        setup.retired_services = state.retired_services(&setup);
        let (identity, state_file) = (None, state_file(config));
        let mut notices = what_stays(config, state);
        for PoolEntry { config: pool, pool: destinations } in &setup.pools {
            let Some(handed) = handed(pool) else { continue };
            destinations.restore(handed.pool.clone(), Instant::now());
        }
        for service in &setup.services {
            let handed = state.services.iter().find(|it| *it.name == *service.config.name);
            let handed = handed.filter(|it| *it.pool == *service.config.pool);
            // Unless the file asks for another one now.
            let log =
                handed.and_then(|it| it.connection_log).filter(|(_, before)| *before == service.service.options.log);
            log.into_iter().for_each(|(style, _)| service.service.connection_log.set(style));
            let choices = handed.into_iter().map(|it| it.choices.clone());
            choices.for_each(|choices| service.rotation().restore_choices(choices, Instant::now()));
        }
        // A move of the single destination waits for connections that are all in other processes.
        state.count_in(&setup);
        notices.extend(follow_file(&setup, state, &own_addresses, config.strict_names)?);
        let control_before = control_before.into_iter().map(PeerAddress::from);
        let before = open.iter().map(|door| door.place.at).chain(control_before).collect::<Vec<_>>();
        let before = OwnAddresses::from(before);
        let begins = |address| own_addresses.include(address) && !before.include(address);
        setup.pools.iter().try_for_each(|it| passes_no_clients_back(it, &[], begins))?;
        Ok(Prepared {
            limits,
            setup,
            places,
            control,
            control_addresses,
            own_addresses,
            state: state_file,
            credentials,
            identity,
            notices,
        })
    }

    /// Fills the pools with what is asked for and from the state file. Stops waiting for names once `give_up` returns true.
    pub(super) fn fill(&mut self, config: &Config, give_up: &mut dyn FnMut() -> bool) -> Result<(), String> {
        resolve::set_own_addresses(self.own_addresses.clone());
        let specs = config.pools.iter().flat_map(|pool| &pool.destinations);
        let located = Located::resolve(specs, config.strict_names, give_up)?;
        for PoolEntry { config, pool } in &self.setup.pools {
            self.notices.extend(located.fill(pool, config, &config.destinations, &self.own_addresses)?);
        }
        self.load_state(config.check)?;
        self.tell_unresolved();
        self.tell_open_control();
        let Some(state) = self.state.as_ref().filter(|_| !config.check) else { return Ok(()) };
        // Better known now than when a change is to be kept.
        let user = self.identity.as_ref().map(|identity| format!(" as user '{}'", identity.name())).unwrap_or_default();
        let told = |error| format!("cannot write the state to {}{user}: {error}", state.path().display());
        state.save(&self.setup).map_err(told)
    }

    fn tell_open_control(&mut self) {
        self.notices.extend(self.control_addresses.iter().copied().filter_map(note_if_exposed));
    }

    fn tell_unresolved(&mut self) {
        for PoolEntry { pool, .. } in &self.setup.pools {
            let label = pool.label();
            let told = |it: Unresolved| {
                let reason = if it.reason.is_empty() { String::new() } else { format!(": {}", it.reason) };
                let name = label.of(it.endpoint);
                (
                    Level::Warn,
                    format!("destination {name} does not resolve yet{reason}; it is asked for again and again"),
                )
            };
            self.notices.extend(pool.unresolved().into_iter().map(told));
        }
    }

    /// Makes the changes that were made the last time.
    fn load_state(&mut self, only_look: bool) -> Result<(), String> {
        let Some(state) = self.state.clone() else { return Ok(()) };
        let path = state.path().display();
        let loaded = match only_look {
            true => state.preview(&self.setup, &self.own_addresses),
            false => state.load(&self.setup, &self.own_addresses),
        };
        match loaded {
            Ok(Loaded::Nothing) => {}
            Ok(Loaded::Changes(made, remarks)) => {
                for part in made.chunks(TOLD_AT_ONCE) {
                    let (changes, list) = (Counted(part.len(), "change"), part.join(" "));
                    let were_made = match (only_look, part.len()) {
                        (true, _) => "would be made",
                        (false, 1) => "was made",
                        (false, _) => "were made",
                    };
                    let made = format!("{changes} of the last time {were_made} again, as {path} says: {list}");
                    self.notices.push((Level::Info, made));
                }
                self.notices.extend(remarks.into_iter().map(|remark| (Level::Warn, format!("{path}: {remark}"))));
            }
            Ok(Loaded::Damaged(reason)) if only_look => {
                let notice = format!("{path} is damaged: {reason}; nothing of it will be used");
                self.notices.push((Level::Warn, notice));
            }
            Ok(Loaded::Damaged(reason)) => {
                let what = "nothing of it was used, and it is kept as";
                self.notices.push((Level::Warn, format!("{path} is damaged: {reason}; {what} {path}.damaged")));
            }
            Err(error) => return Err(format!("cannot read the state from {path}: {error}")),
        }
        Ok(())
    }
}

/// Notices of what the configuration file says since the old process has read it, and an upgrade does not change.
fn what_stays(config: &Config, state: &State) -> Vec<Notice> {
    let Some(file) = &config.file else { return Vec::new() };
    let lasting = desired::lasting(config);
    let others =
        lasting.iter().filter(|(name, value)| state.lasting.iter().any(|(it, was)| it == name && was != value));
    let notice = |(name, _): &(String, String)| {
        let notice = format!("{}: another '{name}' than before takes effect at a restart", file.display());
        (Level::Warn, notice)
    };
    others.map(notice).collect()
}

/// Has pools that are handed over follow what is asked for by now. Returns what the log should tell.
fn follow_file(setup: &Setup, state: &State, own: &OwnAddresses, strict: bool) -> Result<Vec<Notice>, String> {
    let handed = |config: &PoolConfig| state.pools.iter().find(|it| *it.name == *config.name);
    let change = |PoolEntry { config, .. }: &PoolEntry| {
        let before = handed(config).into_iter().flat_map(|it| &it.asked_for);
        let before: Vec<_> = before.filter_map(|text| parse_destination(text, None).ok()).collect();
        DestinationsChange::between(&before, &config.destinations)
    };
    let changes: Vec<DestinationsChange> = setup.pools.iter().map(change).collect();
    let located = Located::resolve(changes.iter().flat_map(|it| &it.added), strict, &mut || false)?;
    let mut notices = Vec::new();
    for (PoolEntry { config, pool }, change) in setup.pools.iter().zip(&changes) {
        notices.extend(located.fill(pool, config, &change.added, own)?);
        let followed = filling::follow(pool, change).into_iter().filter(|_| handed(config).is_some());
        notices.extend(followed.map(|line| (Level::Info, format!("pool {}: {line}", config.name))));
    }
    Ok(notices)
}

/// Looks at the destinations of a pool that stay, whoever has brought them: this daemon may begin to listen at one.
/// Those that are only asked for as `dropped` go.
pub(super) fn passes_no_clients_back(
    PoolEntry { config, pool }: &PoolEntry,
    dropped: &[Endpoint],
    begins_at: impl Fn(PeerAddress) -> bool,
) -> Result<(), String> {
    let stays = |it: &DestinationStatus| {
        let goes = !it.wanted_as.is_empty() && it.wanted_as.iter().all(|name| dropped.contains(name));
        !it.is_leaving && !goes
    };
    match pool.snapshot().iter().find(|it| stays(it) && begins_at(it.address)) {
        Some(it) => {
            let (destination, pool) = (it.address, &config.name);
            Err(format!("destination {destination} of pool {pool}: this daemon is to listen there itself"))
        }
        None => Ok(()),
    }
}

fn state_file(config: &Config) -> Option<Arc<StateFile>> {
    config.state.as_deref().map(|path: &Path| Arc::new(StateFile::new(path)))
}

fn credentials(pool: &PoolConfig, known: Option<Credentials>) -> Result<Option<Credentials>, String> {
    pool.watchdog.as_ref().map(|options| Credentials::for_checks(&options.probe, known)).transpose()
}

/// The pools and services that are asked for, still empty.
pub(super) fn empty_setup(config: &Config) -> Setup {
    let pools: Vec<PoolEntry> =
        config.pools.iter().map(|config| PoolEntry { config: config.clone(), pool: pool(config) }).collect();
    let setup = Setup { pools, ..Setup::default() };
    let service = |it: &ServiceConfig| Some(service(it, setup.pool(&it.pool)?, None));
    let setup = Setup { services: config.services.iter().filter_map(service).collect(), ..setup.clone() };
    setup.avoid_writers();
    setup.set_labels();
    setup
}

/// A service that takes destinations from this pool. It has the connections of the one that it replaces.
pub(super) fn service(config: &ServiceConfig, pool: &PoolEntry, before: Option<&Service>) -> ServiceEntry {
    service_with(config, pool.pool.rotation(balancing(config, &pool.config)), before)
}

/// A service that chooses by this rotation.
pub(super) fn service_with(config: &ServiceConfig, rotation: Rotation, before: Option<&Service>) -> ServiceEntry {
    let continued = before.map(Service::continued).unwrap_or_default();
    continued_service(config, rotation, before, continued)
}

/// A service that takes destinations from this pool, and has the connections that it had before it was dropped. If the pool
/// is the same, its single destination stays where it is.
pub(super) fn returning_service(config: &ServiceConfig, pool: &PoolEntry, before: &RetiredService) -> ServiceEntry {
    let old = before.service();
    let rotation = old.as_ref().map(|old| &old.rotation).filter(|rotation| rotation.pool().is(&pool.pool)).cloned();
    let rotation = rotation.unwrap_or_else(|| pool.pool.rotation(balancing(config, &pool.config)));
    continued_service(config, rotation, old.as_deref(), before.continued())
}

fn continued_service(
    config: &ServiceConfig,
    rotation: Rotation,
    before: Option<&Service>,
    continued: Continued,
) -> ServiceEntry {
    let limits = service::ServiceLimits::new(&config.limits, before.map(|before| &before.limits));
    let service = Service::limited(&config.name, rotation, config.connections.clone(), limits, continued);
    ServiceEntry { config: config.clone(), service }
}

/// What the log should tell of a control address.
pub(super) fn note_if_exposed((address, read_only): (SocketAddr, bool)) -> Option<Notice> {
    let notice = format!("the control port {address} is open to other machines: who reaches it may change everything");
    (!address.ip().is_loopback() && !read_only).then_some((Level::Warn, notice))
}

/// How a service chooses from this pool.
pub(super) fn balancing(config: &ServiceConfig, pool: &PoolConfig) -> Balancing {
    let shutdown_sessions = pool.watchdog.as_ref().map(|options| options.shutdown_sessions).unwrap_or_default();
    Balancing { policy: config.policy, top: config.top, shutdown_sessions }
}

/// A pool that is asked for, still empty.
pub(super) fn pool(config: &PoolConfig) -> Pool {
    let pool = Pool::new(pool_settings(config));
    pool.set_backups(config.backups.iter().cloned().collect());
    pool
}

pub(super) fn pool_settings(config: &PoolConfig) -> PoolSettings {
    PoolSettings {
        avoid_failed_for: config.interval + AVOIDED_LONGER,
        watched: config.watchdog.is_some(),
        recheck_after: config.recheck_after,
        shutdown_backup_sessions: config.watchdog.as_ref().is_some_and(|options| options.shutdown_backup_sessions),
        max_connections: config.max_connections,
        ramp: config.ramp,
        max_queue: config.max_queue,
    }
}

fn identity(config: &Config) -> Result<Option<Identity>, String> {
    let default = || (config.daemon && process::is_root()).then_some(DEFAULT_USER);
    let Some(user) = config.user.as_deref().or_else(default) else { return Ok(None) };
    let identity = Identity::look_up(user)?;
    if identity.is_current() {
        return Ok(None);
    }
    if !process::is_root() {
        return Err(format!("only root can change to user '{user}'"));
    }
    Ok(Some(identity))
}
