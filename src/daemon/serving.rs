//! A daemon's life from its start to its end: stopping, draining, and stepping down for another process.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGHUP, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2};

use super::STOPPING;
use super::control_sockets::ControlDoor;
use super::handover::{
    HandedAddress, HandedPool, HandedService, LeftAddress, Offer, PredecessorLink, Predecessors, Reports, State,
    Successor, ledger, own_connections,
};
use super::http_socket;
use super::listening::Door;
use super::opened::Doors;
use super::running::Running;
use super::service_manager;
use super::signals::{REQUEST, Signals};
use crate::checker::Credentials;
use crate::config::{Config, LogTarget, Name};
use crate::connection_log;
use crate::control::ReloadDone;
use crate::health;
use crate::http;
use crate::log::events;
use crate::process::socket_file::MadeFiles;
use crate::process::{self, Leftovers};
use crate::service::{Inventory, PoolEntry, ServiceEntry, Setup};
use crate::supervise;
use crate::worker;

/// How long after an upgrade signals still come here that are meant for the process that has taken over. This process stays
/// for as long even if it has no connections: a signal that found it at its very end would be lost.
const MEANT_FOR_SUCCESSOR: Duration = Duration::from_secs(1);
/// The same for signals that find this process without connections. It ends then, but on a busy machine it may wake late to
/// do so.
const MEANT_FOR_SUCCESSOR_IF_IDLE: Duration = Duration::from_secs(5);

/// How long the end may wait for the control thread, which a slow disk may hold up, to answer who waits for it.
const LAST_ANSWERS: Duration = Duration::from_millis(250);

/// A daemon that serves.
pub(super) struct Serving {
    pub config: Config,
    /// What a successor is started from.
    pub program: PathBuf,
    /// Where the paths of the command line begin.
    pub directory: PathBuf,
    /// What the configuration says of what stays as it is when another process takes over.
    pub lasting: Vec<(String, String)>,
    pub signals: Signals,
    pub running: Running,
    pub leftovers: Leftovers,
    /// To the process that has taken over.
    pub reports: Option<Reports>,
    /// That process, and since when.
    pub successor: Option<(Pid, Instant)>,
}

impl Serving {
    /// Returns when the daemon is to end, and all is tidied up: at once on SIGTERM and SIGINT, and after SIGUSR1 or when
    /// another process has taken over, when the last connection has ended.
    pub(super) fn until_the_end(mut self) {
        while let Some(signal) = self.signals.next() {
            match signal {
                REQUEST => self.answer_requests(),
                _ if self.pass_on(signal) => {}
                SIGTTOU => self.running.pause(true),
                SIGTTIN => self.running.pause(false),
                SIGUSR1 => self.drain(),
                SIGUSR2 => self.upgrade(),
                SIGHUP if self.config.file.is_some() => {
                    if matches!(self.config.log, LogTarget::File(_)) {
                        crate::log::reopen();
                    }
                    // The log says what it has come to.
                    let _ = self.reload();
                }
                SIGHUP if matches!(self.config.log, LogTarget::File(_)) => crate::log::reopen(),
                // The terminal that it was started from is gone, which is what being in the background is for.
                SIGHUP if self.config.daemon => {}
                _ => {
                    // Before connections are cut: a move of the writer would seem to be done.
                    self.running.control.close();
                    self.running.control.settle(LAST_ANSWERS);
                    self.running.predecessors.iter().for_each(Predecessors::stop);
                    break;
                }
            }
        }
        self.end();
    }

    /// Reads the configuration file again for all who have asked for that.
    fn answer_requests(&mut self) {
        let waiting: Vec<ReloadDone> = self.running.requests.try_iter().collect();
        if !waiting.is_empty() {
            let outcome = self.reload();
            waiting.into_iter().for_each(|done| done(outcome.clone()));
        }
    }

    /// Whoever sends a signal right after an upgrade meant the daemon, and found the old process in the pid file.
    fn pass_on(&self, signal: i32) -> bool {
        let Some((successor, since)) = self.successor else { return false };
        let limit = if self.is_idle() { MEANT_FOR_SUCCESSOR_IF_IDLE } else { MEANT_FOR_SUCCESSOR };
        since.elapsed() < limit && Signal::try_from(signal).and_then(|signal| kill(successor, signal)).is_ok()
    }

    /// Whether this process, not those before it, has no connections.
    fn is_idle(&self) -> bool {
        self.running.inventory.now().own_connections() == 0
    }

    fn end(mut self) {
        // Before the time is limited, which is for those that hold up a restart.
        if self.is_idle() {
            self.reports.take().into_iter().for_each(|it| it.finish(true));
        }
        self.running.doors.take().into_iter().for_each(Doors::close);
        self.running.http = None;
        process::exit_within(STOPPING);
        // Should anything else take too long, the files are gone all the same.
        self.leftovers.remove_files();
        // The kernel would end them cleanly, as if all had been said.
        self.running.workers.stop(STOPPING / 2);
        self.reports.take().into_iter().for_each(|it| it.finish(false));
        self.running.health.take().into_iter().for_each(health::Handle::stop);
        self.leftovers.remove();
        for signal in self.signals.rest().into_iter().filter(|signal| *signal != REQUEST) {
            self.pass_on(signal);
        }
        connection_log::flush();
        crate::log::say_last("stopped");
    }

    /// Lets nobody in any more, and ends with the last connection.
    fn drain(&mut self) {
        let Some(threads) = self.running.threads.take() else { return };
        info!("stopping: no new connections, the open ones go on to their end");
        self.running.shows.clear();
        service_manager::say_status("No new connections, the open ones go on to their end");
        self.running.doors = None;
        self.running.http.take().into_iter().for_each(http::Handle::leave);
        self.running.workers.drain();
        // So that another daemon can take over everything at once.
        self.running.control.close();
        // The scripts of the checks go on: destinations are watched to the end.
        self.leftovers.remove_files();
        // Those that this one has taken over from have clients of the same daemon.
        let others = self.running.predecessors.as_ref().map(Predecessors::ended);
        self.end_with(threads, move || {
            // Closed without a word.
            let _ = others.map(|ended| ended.recv());
        });
    }

    /// Has the program that is on disk now take over.
    fn upgrade(&mut self) {
        if self.running.threads.is_none() {
            info!("not upgraded: this process accepts nobody any more");
            return;
        }
        info!("upgrading: starting {}", self.program.display());
        service_manager::say_reloading();
        match self.find_successor() {
            Ok((successor, state, left)) => self.step_down(successor, &state, &left),
            Err(reason) => {
                self.running.predecessors.iter().for_each(Predecessors::resume);
                self.running.control.go_on();
                match self.signals.is_end_wanted() {
                    true => info!("not upgraded: {reason}"),
                    false => error!("not upgraded: {reason}; this process goes on as before"),
                }
                service_manager::say_ready();
            }
        }
    }

    /// Starts it, and hands everything to it. What it has got then is in [`State`]; where it does not listen any more, it says.
    fn find_successor(&mut self) -> Result<(Successor, State, Vec<LeftAddress>), String> {
        let Serving { running, leftovers, signals, .. } = self;
        let give_up = &mut || signals.is_end_wanted();
        let directory = self.config.file.is_some().then_some(&*self.directory);
        let mut successor = Successor::start(&self.program, directory, self.config.daemon)?;
        successor.wait_for_hello(give_up)?;
        running.control.stand_still();
        let is_still = || {
            // The FIFO would wait for an answer that this thread owes it, and this thread for the FIFO.
            let refuse = |done: ReloadDone| done(Err(vec!["an upgrade is under way, which reads the file".to_owned()]));
            running.requests.try_iter().for_each(refuse);
            running.control.is_still()
        };
        successor.wait_until("obeying the last control commands", is_still, give_up)?;
        let links = running.predecessors.as_ref().map(Predecessors::pause).unwrap_or_default();
        let (handed, janitor) = leftovers.to_hand_over();
        let setup = running.inventory.forget_ended();
        let (ledger, highest) = ledger(&setup);
        let state = State {
            ledger,
            highest,
            pid: std::process::id(),
            directory: self.directory.clone(),
            pools: handed_pools(&setup, &running.credentials),
            services: handed_services(&setup, running.doors.as_ref()),
            borrowed_control: running.doors.as_ref().is_some_and(Doors::has_borrowed_control),
            controls: control_doors(running.doors.as_ref()).iter().map(ControlDoor::to_hand_over).collect(),
            paused: running.paused.load(Ordering::Relaxed),
            stats: running.stats.save(),
            leftovers: handed,
            connections: own_connections(&setup),
            predecessors: links.iter().map(|link| (link.connections(), link.orders())).collect(),
            predecessor_pids: links.iter().map(PredecessorLink::pid).collect(),
            answers: true,
            events: events::changes(),
            started: crate::status::started(),
            http: http_socket::handed(&self.config, running.http.as_ref()),
            samples: running.http.as_ref().map(http::Handle::samples).unwrap_or_default(),
            lasting: self.lasting.clone(),
            socket_files: MadeFiles::all(),
        };
        let doors = running.doors.as_ref();
        let offer = Offer {
            listeners: setup.services.iter().flat_map(|it| listeners(doors, &it.config.name)).collect(),
            control: control_doors(doors).iter().map(ControlDoor::descriptor).collect(),
            fifo: doors.and_then(Doors::fifo),
            http: running.http.as_ref().map(|http| http.listener().as_fd()),
            janitor,
            predecessors: &links,
        };
        successor.hand_over(&state, &offer).map_err(|error| format!("cannot hand over: {error}"))?;
        let left = successor.wait_until_ready(give_up)?;
        successor.let_serve(give_up)?;
        Ok((successor, state, left))
    }

    /// Leaves everything but the open connections to the process that is ready for it.
    fn step_down(&mut self, successor: Successor, state: &State, left: &[LeftAddress]) {
        let Some(threads) = self.running.threads.take() else { return };
        let pid = successor.pid();
        self.running.close(|door| door.is_among(left));
        self.running.workers.hand_over();
        self.running.shows.clear();
        service_manager::say_successor(pid);
        self.running.inventory.now().follow_successor();
        let Running { inventory, stats, workers, .. } = &self.running;
        let reports = Reports::start(successor, state, inventory, (stats, workers), self.signals.ender());
        let told =
            |error: &std::io::Error| error!("process {pid} does not count the connections that are left: {error}");
        self.reports = reports.inspect_err(told).ok();
        if self.reports.is_none() {
            self.running.inventory.now().follow_nobody();
        }
        self.leftovers.abandon();
        self.running.http.take().into_iter().for_each(http::Handle::leave);
        self.running.control.close();
        (self.running.doors, self.running.predecessors) = (None, None);
        self.running.names = None;
        // From now on, the other process says what is down, and where the single destination is.
        self.running.inventory.now().pools.iter().for_each(|it| it.pool.ask_nobody());
        self.running.health.take().into_iter().for_each(health::Handle::stop);
        info!("process {pid} has taken over; the open connections go on to their end");
        let now = Instant::now();
        self.successor = i32::try_from(pid).ok().map(|pid| (Pid::from_raw(pid), now));
        self.end_with(threads, move || thread::sleep(MEANT_FOR_SUCCESSOR.saturating_sub(now.elapsed())));
    }

    /// Ends the wait for signals when all these threads have ended and `wait_further` has returned, and resets what is
    /// still connected when that takes too long.
    fn end_with(&self, threads: Vec<JoinHandle<()>>, wait_further: impl FnOnce() + Send + 'static) {
        let end = self.signals.ender();
        let join = move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            wait_further();
            end();
        };
        if let Err(error) = supervise::spawn("drain", join) {
            error!("cannot wait for the connections to end: {error}; SIGTERM stops at once");
        }
        if let Some(timeout) = self.config.drain_timeout {
            let (inventory, workers) = (self.running.inventory.clone(), self.running.workers.clone());
            let limit = supervise::spawn("drain-timeout", move || reset_after(timeout, &inventory, &workers));
            limit.map_or_else(|error| error!("cannot watch the drain timeout: {error}"), drop);
        }
    }
}

fn handed_pools(setup: &Setup, credentials: &HashMap<Name, Credentials>) -> Vec<HandedPool> {
    let hand_over = |PoolEntry { config, pool }: &PoolEntry| HandedPool {
        name: config.name.to_string(),
        pool: pool.save(Instant::now()),
        asked_for: config.destinations.iter().map(|spec| format!("{}:{}", spec.endpoint, spec.weight)).collect(),
        credentials: credentials.get(&config.name).cloned(),
    };
    setup.pools.iter().map(hand_over).collect()
}

fn handed_services(setup: &Setup, doors: Option<&Doors>) -> Vec<HandedService> {
    let hand_over = |it: &ServiceEntry| {
        let doors = doors.into_iter().flat_map(|doors| doors.of_service(&it.config.name));
        let address = |door: &Door| HandedAddress {
            listen: door.place.listen.to_string(),
            at: door.place.at,
            interface: door.interface.clone(),
            sockets: door.sockets.len(),
            borrowed: door.borrowed,
        };
        HandedService {
            name: it.config.name.to_string(),
            pool: it.config.pool.to_string(),
            choices: it.rotation().save_choices(Instant::now()),
            connection_log: it.service.connection_log.switched_from(it.service.options.log),
            addresses: doors.map(address).collect(),
        }
    };
    setup.services.iter().map(hand_over).collect()
}

fn listeners<'d>(doors: Option<&'d Doors>, service: &'d str) -> impl Iterator<Item = BorrowedFd<'d>> {
    let doors = doors.into_iter().flat_map(move |doors| doors.of_service(service));
    doors.flat_map(|door| &door.sockets).map(AsFd::as_fd)
}

fn control_doors(doors: Option<&Doors>) -> &[ControlDoor] {
    doors.map(|doors| &doors.control[..]).unwrap_or_default()
}

/// Has all connections reset that are left then, those of older processes as well.
fn reset_after(timeout: Duration, inventory: &Inventory, workers: &worker::Handle) {
    thread::sleep(timeout);
    let setup = inventory.now();
    let count = setup.own_connections();
    warn!("connections reset after the drain timeout of {} s: {count}", timeout.as_secs_f64());
    workers.stop(STOPPING / 2);
    // Those of older processes, which are told so.
    for PoolEntry { pool, .. } in setup.all_pools() {
        pool.snapshot().into_iter().for_each(|it| pool.close_sessions(it.address));
    }
}
