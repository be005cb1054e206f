//! The threads, and how to reach them.

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
use crate::config::Config;
use crate::control::{self, Control};
use crate::health;
use crate::names;
use crate::pool::Rotation;
use crate::repeat::Repeating;
use crate::resolve;
use crate::service::Service;
use crate::stats::{SavedStats, Stats};
use crate::worker::{self, ListenerGroup, Workers};

/// The threads, how to reach them, and what they share.
pub(super) struct Running {
    pub table: Rotation,
    pub stats: Stats,
    pub workers: worker::Handle,
    /// The workers'. `None` once these are to end by themselves.
    pub threads: Option<Vec<JoinHandle<()>>>,
    pub control: control::Handle,
    pub health: Option<health::Handle>,
    closes_sessions: Arc<AtomicBool>,
    pub names: Option<names::Handle>,
    /// What is shown on a terminal, or to the service manager.
    pub shows: Vec<Repeating>,
    /// `None` once the threads close the sockets in their own time, or another process has them.
    pub doors: Option<Doors>,
    pub predecessors: Option<Predecessors>,
    pub credentials: Option<Credentials>,
    gate: Gate,
    has_fifo: bool,
}

/// Keeps clients in the backlog until nothing speaks against letting them in any more.
#[derive(Clone)]
struct Gate {
    workers: worker::Handle,
    listeners: ListenerGroup,
    obstacles: Arc<AtomicUsize>,
}

impl Gate {
    fn remove_obstacle(&self) {
        if self.obstacles.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.workers.accept(self.listeners);
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
    let (table, max_connections) = (&prepared.table, prepared.limits.connections);
    let own_addresses = prepared.own_addresses();
    resolve::set_own_addresses(own_addresses.clone());
    let waits = taken_over.is_some();
    let stats = Stats::resume(opened.listeners.len(), taken_over.unwrap_or_default());
    let limits = worker::Limits { connections: max_connections, pipes: prepared.limits.pipes };
    // The process before this one, and destinations of which nothing is known.
    let obstacles = usize::from(waits) + usize::from(config.pool.watchdog.is_some());
    let name = config.service.listen.to_string();
    let service = Service::new(&name, table.clone(), config.service.connections.clone());
    let workers = Workers::new(opened.listeners.len(), limits, &stats)?;
    let listeners = workers.handle().serve(&service, opened.listeners, obstacles > 0)?;
    workers.handle().follow(table);
    let has_fifo = opened.fifo.is_some();
    let control = Control::new(control::Settings {
        listener: opened.control,
        fifo: opened.fifo,
        max_conversations: prepared.limits.conversations,
        table: table.clone(),
        stats: stats.clone(),
        max_connections,
        own_addresses,
        port: prepared.listening.port(),
        all_addresses: config.pool.resolve_all,
        state: prepared.state.clone(),
    })?;
    let (workers, threads) = workers.start()?;
    let gate = Gate { workers: workers.clone(), listeners, obstacles: Arc::new(AtomicUsize::new(obstacles)) };
    let closes_sessions = Arc::new(AtomicBool::new(!waits));
    let health = start_health(config, prepared, gate.clone(), &closes_sessions)?;
    let names = names::Settings {
        table: table.pool().clone(),
        interval: config.pool.resolve,
        all: config.pool.resolve_all,
        own_addresses: prepared.own_addresses(),
    };
    Ok(Running {
        table: table.clone(),
        stats,
        workers,
        threads: Some(threads),
        control: control.start(waits)?,
        health,
        closes_sessions,
        names: names::start(names)?,
        shows: Vec::new(),
        doors: Some(opened.doors),
        predecessors: None,
        credentials: prepared.credentials.clone(),
        gate,
        has_fifo,
    })
}

/// Watches the destinations, where that is wanted, and lets clients in when all have been judged.
fn start_health(
    config: &Config,
    prepared: &Prepared,
    gate: Gate,
    closes_sessions: &Arc<AtomicBool>,
) -> io::Result<Option<health::Handle>> {
    let (Some(options), Some(credentials)) = (&config.pool.watchdog, &prepared.credentials) else { return Ok(None) };
    let (once, table) = (AtomicBool::new(true), prepared.table.clone());
    let settings = health::Settings {
        options: options.clone(),
        credentials: credentials.clone(),
        mark: checker::mark().to_owned(),
        table: prepared.table.pool().clone(),
        own_addresses: prepared.own_addresses(),
        closes_sessions: Arc::clone(closes_sessions),
        on_first_verdicts: Box::new(move || {
            if once.swap(false, Ordering::SeqCst) {
                table.elect_single();
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
        match Predecessors::start(predecessors, &self.table, &self.stats, &self.workers) {
            Ok(started) => self.predecessors = Some(started),
            Err(error) => {
                warn!("connections of the processes before this one do not count here: {error}");
                // Nobody would hear of their end.
                self.workers.set_elsewhere(0);
                self.table.snapshot().iter().for_each(|it| self.table.set_elsewhere(it.address, 0));
            }
        }
        // What was closed since this process began to watch was not heard by the others.
        if let Some(predecessors) = &self.predecessors {
            self.table.strays().into_iter().for_each(|address| predecessors.close(address));
        }
        self.closes_sessions.store(true, Ordering::Relaxed);
        self.control.go_on();
    }

    /// Shows what happens: on a terminal in the foreground, and to the service manager.
    pub(super) fn show(&mut self, config: &Config, prepared: &Prepared) {
        if !config.daemon && io::stdout().is_terminal() {
            let fifo = if self.has_fifo { fifo_path(config).display().to_string() } else { "none".to_owned() };
            self.shows.extend(display::start(config, &fifo, &self.table, prepared.limits.connections));
        }
        self.shows.extend(service_manager::show_status(&config.service.listen, &self.table));
    }
}
