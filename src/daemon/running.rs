//! The threads, and how to reach them.

use std::collections::HashMap;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use log::warn;

use super::display;
use super::handover::{PredecessorLink, Predecessors};
use super::opened::{Doors, Opened, fifo_path};
use super::prepared::Prepared;
use super::service_manager;
use crate::checker::{self, Credentials};
use crate::config::{Config, Name};
use crate::control::{self, Control};
use crate::health;
use crate::names;
use crate::pool::Rotation;
use crate::repeat::Repeating;
use crate::resolve;
use crate::service::{Inventory, PoolEntry};
use crate::stats::{SavedStats, Stats};
use crate::worker::{self, Workers};

/// The threads, how to reach them, and what they share.
pub(super) struct Running {
    pub inventory: Inventory,
    pub stats: Stats,
    pub workers: worker::Handle,
    /// The workers'. `None` once these are to end by themselves.
    pub threads: Option<Vec<JoinHandle<()>>>,
    pub control: control::Handle,
    pub health: Vec<health::Handle>,
    closes_sessions: Arc<AtomicBool>,
    pub names: Vec<names::Handle>,
    /// What is shown on a terminal, or to the service manager.
    pub shows: Vec<Repeating>,
    /// `None` once the threads close the sockets in their own time, or another process has them.
    pub doors: Option<Doors>,
    pub predecessors: Option<Predecessors>,
    /// Who the checks of each pool log in as.
    pub credentials: HashMap<Name, Credentials>,
    gate: Gate,
    has_fifo: bool,
}

/// Keeps clients in the backlog until nothing speaks against letting them in any more.
#[derive(Clone)]
struct Gate {
    workers: worker::Handle,
    obstacles: Arc<AtomicUsize>,
}

impl Gate {
    fn remove_obstacle(&self) {
        if self.obstacles.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.workers.accept();
        }
    }
}

/// Starts all threads. Those of a process that takes over from another go on counting where that one is, and serve nobody
/// before [`Running::begin`] and [`Running::heed`].
pub(super) fn start(
    config: &Config,
    prepared: &Prepared,
    opened: Opened,
    taken_over: Option<SavedStats>,
) -> io::Result<Running> {
    let (setup, max_connections) = (&prepared.setup, prepared.limits.connections);
    let inventory = Inventory::default();
    inventory.set(setup.clone());
    resolve::set_own_addresses(prepared.own_addresses.clone());
    let waits = taken_over.is_some();
    let stats = Stats::resume(config.threads, taken_over.unwrap_or_default());
    let limits = worker::Limits { connections: max_connections, pipes: prepared.limits.pipes };
    // The process before this one, and destinations of which nothing is known.
    let watched = config.pools.iter().filter(|pool| pool.watchdog.is_some()).count();
    let obstacles = usize::from(waits) + watched;
    let services = setup.services.iter().map(|it| Arc::clone(&it.service)).zip(opened.listeners).collect();
    let workers = Workers::new(config.threads, services, limits, &stats, obstacles > 0)?;
    setup.pools.iter().for_each(|it| workers.follow(&it.pool));
    let has_fifo = opened.fifo.is_some();
    let control = Control::new(control::Settings {
        listener: opened.control,
        fifo: opened.fifo,
        max_conversations: prepared.limits.conversations,
        inventory: inventory.clone(),
        stats: stats.clone(),
        max_connections,
        own_addresses: prepared.own_addresses.clone(),
        state: prepared.state.clone(),
    })?;
    let (workers, threads) = workers.start()?;
    let gate = Gate { workers: workers.clone(), obstacles: Arc::new(AtomicUsize::new(obstacles)) };
    let closes_sessions = Arc::new(AtomicBool::new(!waits));
    let (mut health, mut names, mut credentials) = (Vec::new(), Vec::new(), HashMap::new());
    for (entry, known) in setup.pools.iter().zip(&prepared.credentials) {
        if let Some(known) = known {
            credentials.insert(Name::clone(&entry.config.name), known.clone());
            health.extend(start_health(entry, known, prepared, gate.clone(), &closes_sessions)?);
        }
        let settings = names::Settings {
            table: entry.pool.clone(),
            interval: entry.config.resolve,
            all: entry.config.resolve_all,
            own_addresses: prepared.own_addresses.clone(),
        };
        names.extend(names::start(settings)?);
    }
    Ok(Running {
        inventory,
        stats,
        workers,
        threads: Some(threads),
        control: control.start(waits)?,
        health,
        closes_sessions,
        names,
        shows: Vec::new(),
        doors: Some(opened.doors),
        predecessors: None,
        credentials,
        gate,
        has_fifo,
    })
}

/// Watches the destinations, where that is wanted, and lets clients in when all have been judged.
fn start_health(
    PoolEntry { config, pool }: &PoolEntry,
    credentials: &Credentials,
    prepared: &Prepared,
    gate: Gate,
    closes_sessions: &Arc<AtomicBool>,
) -> io::Result<Option<health::Handle>> {
    let Some(options) = &config.watchdog else { return Ok(None) };
    let once = AtomicBool::new(true);
    let rotations: Vec<Rotation> = prepared.setup.services_of(&config.name).map(|it| it.rotation().clone()).collect();
    let settings = health::Settings {
        options: options.clone(),
        credentials: credentials.clone(),
        mark: checker::mark().to_owned(),
        table: pool.clone(),
        own_addresses: prepared.own_addresses.clone(),
        closes_sessions: Arc::clone(closes_sessions),
        on_first_verdicts: Box::new(move || {
            if once.swap(false, Ordering::SeqCst) {
                rotations.iter().for_each(Rotation::elect_single);
                gate.remove_obstacle();
            }
        }),
    };
    health::start(settings).map(Some)
}

impl Running {
    /// Serves from now on.
    pub(super) fn begin(&self) {
        self.gate.remove_obstacle();
    }

    /// Takes the connections of these processes into account, and obeys the control port.
    pub(super) fn heed(&mut self, predecessors: Vec<PredecessorLink>) {
        let setup = self.inventory.now();
        match Predecessors::start(predecessors, &self.inventory, &self.stats, &self.workers) {
            Ok(started) => self.predecessors = Some(started),
            Err(error) => {
                warn!("connections of the processes before this one do not count here: {error}");
                // Nobody would hear of their end.
                self.workers.set_elsewhere(0);
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
        self.shows.extend(service_manager::show_status(&self.inventory));
    }
}
