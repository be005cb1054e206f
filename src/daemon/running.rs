//! The threads, and how to reach them.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, unbounded};
use log::{info, warn};
use parking_lot::RwLock;

use super::control_sockets::ControlDoor;
use super::display;
use super::handover::{AllSessions, OlderSessions, PredecessorLink, Predecessors};
use super::http_socket::HttpSocket;
use super::listening::Door;
use super::opened::{Doors, Opened, fifo_path};
use super::prepared::Prepared;
use super::service_manager;
use crate::checker::{self, Credentials};
use crate::config::{Config, Name};
use crate::control::{self, Control, ReloadDone};
use crate::health;
use crate::http;
use crate::names;
use crate::pool::{Pool, Rotation};
use crate::repeat::Repeating;
use crate::resolve::{self, OwnAddresses};
use crate::service::{Inventory, PoolEntry, Setup};
use crate::stats::{SavedStats, Stats};
use crate::status::Source;
use crate::worker::{self, ListenerGroup, Workers};

/// The threads, how to reach them, and what they share.
pub(super) struct Running {
    pub inventory: Inventory,
    pub stats: Stats,
    pub workers: worker::Handle,
    /// The workers'. `None` once these are to end by themselves.
    pub threads: Option<Vec<JoinHandle<()>>>,
    /// How many workers there are.
    pub worker_count: usize,
    pub control: control::Handle,
    /// Those who have asked for the configuration file to be read again.
    pub requests: Receiver<ReloadDone>,
    /// `None` while no pool is watched.
    pub health: Option<health::Handle>,
    closes_sessions: Arc<AtomicBool>,
    pub names: Option<names::Handle>,
    /// New clients wait in the backlog.
    pub paused: Arc<AtomicBool>,
    /// What is shown on a terminal, or to the service manager.
    pub shows: Vec<Repeating>,
    /// `None` once the threads close the sockets in their own time, or another process has them.
    pub doors: Option<Doors>,
    pub predecessors: Option<Predecessors>,
    /// Their connections.
    older_sessions: OlderSessions,
    pub http: Option<http::Handle>,
    /// What is to be served there once this process serves.
    waiting_http: Option<HttpSocket>,
    source: Source,
    max_http_connections: usize,
    /// Who the checks of each pool log in as.
    pub credentials: HashMap<Name, Credentials>,
    pub own_addresses: OwnAddresses,
    gates: HashMap<Name, Gate>,
    has_fifo: bool,
}

/// Keeps a service's clients in the backlog until nothing speaks against letting them in any more.
#[derive(Clone)]
struct Gate {
    workers: worker::Handle,
    groups: Vec<ListenerGroup>,
    obstacles: Arc<AtomicUsize>,
}

impl Gate {
    fn remove_obstacle(&self) {
        if self.obstacles.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.groups.iter().for_each(|group| self.workers.accept(*group));
        }
    }
}

/// Starts all threads. Those of a process that takes over from another go on counting where that one is, and serve nobody
/// before [`Running::begin`] and [`Running::heed`]. `wake` is called from another thread when there is a request.
pub(super) fn start(
    config: &Config,
    prepared: &Prepared,
    opened: Opened,
    taken_over: Option<SavedStats>,
    wake: impl Fn() + Send + 'static,
) -> io::Result<Running> {
    let (setup, max_connections) = (&prepared.setup, prepared.limits.connections);
    let inventory = Inventory::default();
    inventory.set(setup.clone());
    resolve::set_own_addresses(prepared.own_addresses.clone());
    let waits = taken_over.is_some();
    let stats = Stats::resume(config.threads, taken_over.unwrap_or_default());
    let limits = worker::Limits { connections: max_connections, pipes: prepared.limits.pipes };
    let workers = Workers::new(config.threads, limits, &stats)?;
    workers.handle().set_connection_rate(config.connection_rate);
    setup.pools.iter().for_each(|it| workers.handle().follow(&it.pool));
    let (mut doors, mut gates) = (opened.doors, HashMap::new());
    let mut listening = opened.listening;
    for entry in &setup.services {
        let name = &entry.config.name;
        let watched = setup.pool(&entry.config.pool).is_some_and(|it| it.config.watchdog.is_some());
        // The process before this one, and destinations of which nothing is known.
        let obstacles = usize::from(waits) + usize::from(watched);
        let mut groups = Vec::new();
        for opening in listening.extract_if(.., |it| it.service() == name) {
            let door = opening.serve(workers.handle(), &entry.service, obstacles > 0)?;
            groups.extend(door.group);
            doors.add(door);
        }
        let obstacles = Arc::new(AtomicUsize::new(obstacles));
        gates.insert(Name::clone(name), Gate { workers: workers.handle().clone(), groups, obstacles });
    }
    let has_fifo = opened.fifo.is_some();
    let (request, requests) = unbounded();
    let reload: control::Reload = Box::new(move |done| {
        if request.send(done).is_ok() {
            wake();
        }
    });
    let configuration = Arc::new(RwLock::new(config.printed.clone()));
    let paused = Arc::<AtomicBool>::default();
    let source = Source {
        inventory: inventory.clone(),
        stats: stats.clone(),
        max_connections,
        paused: Arc::clone(&paused),
        configuration,
    };
    let older_sessions = OlderSessions::default();
    let control = Control::new(control::Settings {
        listeners: opened.control,
        fifo: opened.fifo,
        max_conversations: prepared.limits.conversations,
        source: source.clone(),
        own_addresses: prepared.own_addresses.clone(),
        state: prepared.state.clone(),
        reload: config.file.as_ref().map(|_| reload),
        sessions: Box::new(AllSessions::new(workers.handle(), &older_sessions)),
    })?;
    let (workers, threads) = workers.start(config.cpus.numbers())?;
    let mut running = Running {
        inventory,
        stats,
        workers,
        threads: Some(threads),
        worker_count: config.threads,
        control: control.start(waits)?,
        requests,
        health: None,
        closes_sessions: Arc::new(AtomicBool::new(!waits)),
        names: Some(names::Handle::new(prepared.own_addresses.clone())),
        paused,
        shows: Vec::new(),
        doors: Some(doors),
        predecessors: None,
        older_sessions,
        http: None,
        waiting_http: None,
        source,
        max_http_connections: prepared.limits.conversations,
        credentials: HashMap::new(),
        own_addresses: prepared.own_addresses.clone(),
        gates,
        has_fifo,
    };
    for (entry, credentials) in setup.pools.iter().zip(&prepared.credentials) {
        if let Some(credentials) = credentials {
            running.credentials.insert(Name::clone(&entry.config.name), credentials.clone());
            // The gates are for those who listen now; a reload may bring others.
            entry.pool.await_first_verdicts();
            let of = setup.services_of(&entry.config.name);
            let gates: Vec<Gate> = of.filter_map(|it| running.gates.get(&it.config.name).cloned()).collect();
            running.watch(entry, setup, credentials, move || gates.iter().for_each(Gate::remove_obstacle))?;
        }
        running.resolve_names(entry)?;
    }
    match waits {
        true => running.waiting_http = opened.http,
        false => running.speak_http(opened.http)?,
    }
    Ok(running)
}

impl Running {
    /// Watches the destinations of a pool, or in another way than before, if it is to be watched. Once all have been judged,
    /// or a check's timeout is over, single destinations are chosen, and this is done.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(super) fn watch(
        &mut self,
        PoolEntry { config, pool }: &PoolEntry,
        setup: &Setup,
        credentials: &Credentials,
        then: impl FnOnce() + Send + 'static,
    ) -> io::Result<()> {
        let Some(options) = config.watchdog.clone() else { return Ok(()) };
        self.prepare_to_watch()?;
        let (pool, judged, credentials) = (pool.clone(), pool.clone(), credentials.clone());
        let rotations: Vec<Rotation> = setup.services_of(&config.name).map(|it| it.rotation().clone()).collect();
        let on_first_verdicts = Box::new(move || {
            rotations.iter().for_each(Rotation::elect_single);
            judged.first_verdicts_are_known();
            then();
        });
        if let Some(health) = &self.health {
            health.watch(health::Watch { pool, options, credentials, on_first_verdicts });
        }
        Ok(())
    }

    /// Makes sure that there is a thread that watches pools.
    ///
    /// # Errors
    /// When it cannot be started.
    pub(super) fn prepare_to_watch(&mut self) -> io::Result<()> {
        if self.health.is_none() {
            self.health = Some(health::start(health::Settings {
                mark: checker::mark().to_owned(),
                own_addresses: self.own_addresses.clone(),
                closes_sessions: Arc::clone(&self.closes_sessions),
            })?);
        }
        Ok(())
    }

    /// Watches the destinations of a pool no longer.
    pub(super) fn watch_no_more(&self, pool: &Pool) {
        self.health.iter().for_each(|health| health.forget(pool));
    }

    /// Has the names of a pool resolved as it is asked for now.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(super) fn resolve_names(&self, PoolEntry { config, pool }: &PoolEntry) -> io::Result<()> {
        let (pool, interval, all) = (pool.clone(), config.resolve, config.resolve_all);
        self.names.as_ref().map_or(Ok(()), |names| names.follow(names::Settings { pool, interval, all }))
    }

    /// Has all threads that need to know follow a pool that is new.
    pub(super) fn follow(&self, entry: &PoolEntry) {
        self.workers.follow(&entry.pool);
        self.control.follow(&entry.pool);
        self.predecessors.iter().for_each(|predecessors| predecessors.follow(entry, &self.inventory));
    }

    /// Nobody asks for a pool any more. Its connections go on to their end.
    pub(super) fn forget_pool(&self, pool: &Pool) {
        self.watch_no_more(pool);
        self.names.iter().for_each(|names| names.forget(pool));
        pool.ask_nobody();
    }

    /// This configuration is in force from now on.
    pub(super) fn tell_configuration(&self, config: &Config) {
        *self.source.configuration.write() = config.printed.clone();
    }

    /// The listening sockets of all services.
    pub(super) fn all_doors(&self) -> &[Door] {
        self.doors.as_ref().map_or(&[], Doors::all)
    }

    /// A service listens here as well from now on.
    pub(super) fn open(&mut self, door: Door) {
        if let Some(doors) = &mut self.doors {
            doors.add(door);
        }
    }

    /// A service is dropped.
    pub(super) fn close_service(&mut self, name: &Name) {
        self.gates.remove(name);
        self.close(|door| door.service == *name);
    }

    /// Services listen no longer at some of their addresses. Whoever waits there is served.
    pub(super) fn close(&mut self, goes: impl Fn(&Door) -> bool) {
        let gone = self.doors.as_mut().map(|doors| doors.remove(goes)).unwrap_or_default();
        gone.iter().filter_map(|door| door.group).for_each(|group| self.workers.retire(group));
    }

    /// Lets new clients wait in the backlog, or serves them again.
    pub(super) fn pause(&self, pause: bool) {
        if self.threads.is_none() || self.paused.swap(pause, Ordering::Relaxed) == pause {
            return;
        }
        self.workers.pause(pause);
        self.http.iter().for_each(|http| http.pause(pause));
        match pause {
            true => info!("paused: new clients wait in the backlog until SIGTTIN comes"),
            false => info!("resumed: new clients are served again"),
        }
    }

    /// The control sockets.
    pub(super) fn control_doors(&self) -> impl Iterator<Item = &ControlDoor> {
        self.doors.iter().flat_map(|doors| &doors.control)
    }

    /// Speaks HTTP like this from now on, if at all.
    ///
    /// # Errors
    /// When there is no thread for it.
    pub(super) fn speak_http(&mut self, socket: Option<HttpSocket>) -> io::Result<()> {
        let Some(HttpSocket { listener, access, samples, .. }) = socket else { return Ok(()) };
        let settings = http::Settings {
            listener,
            access,
            source: self.source.clone(),
            commands: self.control.commands(),
            max_connections: self.max_http_connections,
        };
        let is_paused = self.paused.load(Ordering::Relaxed);
        let samples = self.http.as_ref().map_or(samples, http::Handle::samples);
        self.http = Some(http::start(settings, is_paused, samples)?);
        Ok(())
    }

    /// Serves from now on.
    pub(super) fn begin(&mut self) {
        let socket = self.waiting_http.take();
        if let Err(error) = self.speak_http(socket) {
            warn!("HTTP is not spoken: {error}");
        }
        self.gates.values().for_each(Gate::remove_obstacle);
    }

    /// Takes the connections of these processes into account, and obeys the control port.
    pub(super) fn heed(&mut self, predecessors: Vec<PredecessorLink>) {
        let setup = self.inventory.now();
        match Predecessors::start(predecessors, &self.inventory, &self.stats, &self.workers) {
            Ok(started) => {
                self.older_sessions.ask(&started);
                self.predecessors = Some(started);
            }
            Err(error) => {
                warn!("connections of the processes before this one do not count here: {error}");
                // Nobody would hear of their end.
                self.workers.set_elsewhere(0);
                setup.all_services().for_each(|it| it.limits.forget_elsewhere());
                setup.service_counters().for_each(|(_, counters)| counters.are_open_elsewhere(0));
                for address in setup.pools.iter().flat_map(|it| it.pool.snapshot()).map(|it| it.address) {
                    setup.pools.iter().for_each(|it| it.pool.set_elsewhere(address, 0));
                    setup.services.iter().for_each(|it| it.rotation().set_sessions_elsewhere(address, 0));
                }
            }
        }
        // What was closed since this process began to watch was not heard by the others.
        if let Some(predecessors) = &self.predecessors {
            for service in &setup.services {
                let strays = service.rotation().strays().into_iter();
                strays.for_each(|address| predecessors.close(&service.config.name, address));
            }
        }
        self.closes_sessions.store(true, Ordering::Relaxed);
        self.control.go_on();
    }

    /// Shows what happens: on a terminal in the foreground, and to the service manager.
    pub(super) fn show(&mut self, config: &Config, prepared: &Prepared) {
        if !config.daemon && io::stdout().is_terminal() {
            let fifo = if self.has_fifo { fifo_path(config).display().to_string() } else { "none".to_owned() };
            self.shows.extend(display::start(config, &fifo, &self.inventory, prepared.limits.connections));
        }
        self.shows.extend(service_manager::show_status(&self.inventory, &self.paused));
    }
}
