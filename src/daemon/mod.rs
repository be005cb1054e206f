//! Puts the parts together: start-up in order, shut-down in order.

mod control_sockets;
mod display;
mod filling;
pub mod fuzz;
mod handover;
mod http_socket;
mod limits;
mod listening;
mod opened;
mod prepared;
mod reload;
mod running;
mod service_manager;
mod serving;
mod signals;

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use log::{error, info, warn};
use socket2::Socket;

use crate::address::{ListenAddress, ListenAddresses, PeerAddress};
use crate::checker;
use crate::config::{Config, LogTarget, Name, ServiceConfig};
use crate::connection_log;
use crate::counted::Counted;
use crate::desired;
use crate::pool::Pool;
use crate::process::{self, Leftovers};
use crate::resolve;
use crate::service::{PoolEntry, ServiceEntry, Setup};
use control_sockets::ControlDoor;
use handover::{HandedAddress, HandedService, Inheritance, Predecessor, PredecessorLink, State};
use http_socket::HttpSocket;
use listening::{Door, ListenPlace};
use opened::{OpenSockets, Opened};
use prepared::Prepared;
use running::Running;
use service_manager::Sockets;
use serving::Serving;
use signals::Signals;

/// How long tidying up may take, should a file system or syslogd hang.
const STOPPING: Duration = Duration::from_millis(500);

/// Runs until it is stopped by a signal, or until another process that has taken over from it serves alone.
///
/// # Errors
/// One line that says why it could not start; nothing is left behind then.
pub fn run(config: Config) -> Result<(), String> {
    process::take_usual_mask();
    resolve::prefer_ipv6(config.prefer_ipv6);
    // Where it lies is known only in the directory that the command line was meant for.
    let program = process::program().map_err(|error| format!("cannot find the program: {error}"))?;
    match Predecessor::from_environment()? {
        None => start_anew(config, program),
        Some(predecessor) => take_over(config, program, predecessor),
    }
}

/// Looks whether a start would find anything wrong, and opens nothing. Returns what it would tell, a line each.
///
/// # Errors
/// One line that says why it could not start.
pub fn check(mut config: Config) -> Result<Vec<String>, String> {
    let directory = working_directory(&mut config)?;
    resolve::prefer_ipv6(config.prefer_ipv6);
    let config = config.with_paths_in(&directory);
    let mut prepared = Prepared::anew(&config, &[], Vec::new())?;
    prepared.fill(&config, &mut || false)?;
    http_socket::check(&config)?;
    let notices = prepared.notices.iter().map(|(_, notice)| notice.clone());
    let what = config.file.as_ref().map_or("the command line".to_owned(), |file| file.display().to_string());
    let (count, unresolved) = destinations(&prepared.setup);
    let unresolved =
        if unresolved == 0 { String::new() } else { format!(", and {} unresolved", Counted(unresolved, "name")) };
    Ok(notices.chain([format!("{what} is in order: {}{unresolved}", Counted(count, "destination"))]).collect())
}

/// Where relative paths of the command line begin.
fn working_directory(config: &mut Config) -> Result<PathBuf, String> {
    match std::env::current_dir() {
        // It may have been removed, which matters to relative paths only.
        Err(error) if config.has_relative_paths() => Err(format!("the working directory: {error}")),
        // A process that takes over is told it as text.
        Ok(directory) if directory.to_str().is_none() => match config.has_relative_paths() {
            true => Err(format!("the working directory '{}' is not UTF-8: give whole paths", directory.display())),
            false => Ok(PathBuf::from("/")),
        },
        directory => Ok(directory.unwrap_or_else(|_| PathBuf::from("/"))),
    }
}

fn start_anew(mut config: Config, program: PathBuf) -> Result<(), String> {
    crate::status::started();
    let directory = working_directory(&mut config)?;
    let mut config = config.with_paths_in(&directory);
    let mut sockets = Sockets::take().map_err(|error| format!("the service manager's sockets: {error}"))?;
    if config.daemon && sockets.are_any() {
        return Err("with sockets from a service manager, it runs in the foreground: leave out --daemon".to_owned());
    }
    let open = OpenSockets { services: sockets.by_service(&config.services)? };
    let open_control = sockets.control.drain(..);
    let open_control: Vec<_> =
        open_control.filter_map(|(socket, read_only)| ControlDoor::borrowed(socket, read_only)).collect();
    listen_where_sockets_are(&mut config, &open.services);
    let background = config.daemon.then(process::daemonize).transpose();
    let background = background.map_err(|error| format!("cannot go to the background: {error}"))?;
    let mut prepared = Prepared::anew(&config, &open.services, open_control)?;
    let mut signals = Signals::register(config.daemon).map_err(|error| format!("cannot take signals: {error}"))?;
    let mut leftovers = Leftovers::default();
    let opened = opened::open(&config, open, &mut prepared, &mut leftovers)?;
    listen_where_control_is(&mut config, &opened);
    // Names may take long to resolve.
    prepared.fill(&config, &mut || signals.is_end_wanted())?;
    if signals.is_end_wanted() {
        return Ok(());
    }
    start_log(&config).map_err(|error| format!("cannot start the log: {error}"))?;
    let start = running::start(&config, &prepared, opened, None, signals.requester());
    let mut running = start.map_err(|error| format!("cannot start: {error}"))?;
    say_what_runs(&config, &prepared);
    if let Some(background) = background {
        background.announce().map_err(|error| format!("cannot let go of the terminal: {error}"))?;
    }
    service_manager::say_ready();
    running.show(&config, &prepared);
    // A service holds on to all that have replaced it.
    drop(prepared);
    let lasting = desired::lasting(&config);
    Serving { config, program, directory, lasting, signals, running, leftovers, reports: None, successor: None }
        .until_the_end();
    Ok(())
}

/// Goes on where another process is. Whatever keeps this one from doing so, the other goes on itself, and says why.
fn take_over(config: Config, program: PathBuf, predecessor: Predecessor) -> Result<(), String> {
    if config.daemon {
        // It was started where its configuration file may be meant, which has been read.
        std::env::set_current_dir("/").map_err(|error| format!("cannot leave the working directory: {error}"))?;
    }
    let ready = Ready::from(config, &predecessor).inspect_err(|reason| predecessor.refuse(reason))?;
    let Ready { config, prepared, signals, mut running, state, janitor, mut predecessors, .. } = ready;
    let (new_files, unwanted_control) = (ready.new_files, ready.unwanted_control);
    let (pid, directory) = (state.pid, state.directory.clone());
    state.count_elsewhere(&running.inventory.now(), &running.workers);
    running.pause(state.paused);
    running.begin();
    predecessors.push(predecessor.step_down(&state));
    running.heed(predecessors);
    let mut leftovers = Leftovers::inherit(state.leftovers, janitor);
    running.doors.iter_mut().for_each(|doors| leftovers.join(doors.take_made()));
    files_left(&state.services, &running).into_iter().for_each(|file| _ = leftovers.remove_file(file));
    leftovers.join(new_files);
    for path in unwanted_control.iter().filter_map(ControlDoor::own_file) {
        leftovers.remove_file(path);
    }
    crate::log::events::resume(state.events);
    crate::status::resume(state.started);
    let setup = running.inventory.now();
    handover::enter(&setup, &state.ledger);
    handover::enter_highest(&setup, &state.highest);
    info!("taken over from process {pid}");
    running.all_doors().iter().for_each(Door::warn_if_out_of_reach);
    say_what_runs(&config, &prepared);
    // Whoever waits for it to name this process finds that all is done.
    if let Err(error) = leftovers.rewrite_pidfile() {
        warn!("the pid file does not name this process: {error}");
    }
    if config.daemon
        && let Err(error) = process::let_go_of_terminal()
    {
        warn!("cannot let go of the standard descriptors: {error}");
    }
    running.show(&config, &prepared);
    // A service holds on to all that have replaced it.
    drop(prepared);
    let lasting = if state.lasting.is_empty() { desired::lasting(&config) } else { state.lasting };
    Serving { config, program, directory, lasting, signals, running, leftovers, reports: None, successor: None }
        .until_the_end();
    Ok(())
}

/// All that a process has which is about to take over.
struct Ready {
    config: Config,
    prepared: Prepared,
    signals: Signals,
    running: Running,
    state: State,
    janitor: Option<OwnedFd>,
    predecessors: Vec<PredecessorLink>,
    /// Files that this process has made.
    new_files: Leftovers,
    /// Control sockets that are wanted no longer.
    unwanted_control: Vec<ControlDoor>,
}

impl Ready {
    /// Gets ready, and waits for its turn.
    fn from(config: Config, predecessor: &Predecessor) -> Result<Ready, String> {
        let inheritance = predecessor.inherit().map_err(|error| format!("nothing is handed over: {error}"))?;
        let Inheritance { mut state, listeners, control, http, fifo, janitor, predecessors } = inheritance;
        let mut config = config.with_paths_in(&state.directory);
        std::mem::take(&mut state.socket_files).inherit();
        let open = sockets_handed_over(&config, &state, listeners);
        let control = ControlDoor::handed(control, &state.controls, state.borrowed_control);
        listen_where_sockets_are(&mut config, &open.services);
        let mut prepared = Prepared::to_take_over(&config, &state, &open.services, control)?;
        state.leftovers.mark().into_iter().for_each(checker::take_mark);
        let signals = Signals::register(config.daemon).map_err(|error| format!("cannot take signals: {error}"))?;
        let unwanted_control = std::mem::take(&mut prepared.control.unwanted);
        let mut new_files = Leftovers::default();
        let http = HttpSocket::take_over(&config, state.http.as_ref(), http, state.samples.clone())?;
        http.iter().for_each(|http| http.note(&mut new_files));
        let mut opened = Opened::inherited(&config, &mut prepared, open, fifo, &mut new_files)?;
        opened.http = http;
        listen_where_control_is(&mut config, &opened);
        let unused = std::mem::take(&mut opened.unused);
        start_log(&config).map_err(|error| format!("cannot start the log: {error}"))?;
        let stats = Some(std::mem::take(&mut state.stats));
        let running = running::start(&config, &prepared, opened, stats, signals.requester());
        let running = running.map_err(|error| format!("cannot start: {error}"))?;
        predecessor
            .wait_for_go(&unused)
            .map_err(|error| format!("the process before this one does not step down: {error}"))?;
        Ok(Ready { config, prepared, signals, running, state, janitor, predecessors, new_files, unwanted_control })
    }
}

/// The sockets that are handed over: of services that still listen there, and of those that do no longer.
fn sockets_handed_over(config: &Config, state: &State, listeners: Vec<Socket>) -> OpenSockets {
    let mut listeners = listeners.into_iter();
    let mut doors = Vec::new();
    for handed in &state.services {
        for HandedAddress { listen, at, interface, sockets, borrowed } in &handed.addresses {
            let sockets: Vec<Socket> = listeners.by_ref().take(*sockets).collect();
            // Whatever it is called now, a service listens on the sockets that are at its address.
            let is_same = |service: &&ServiceConfig| *service.name == *handed.name;
            let asks =
                |service: &ServiceConfig| service.listen.iter().find(|asked| asked.to_string() == *listen).cloned();
            let has_moved = |service: &&ServiceConfig| service.connections.interface == *interface;
            let services = || config.services.iter().filter(|service| asks(service).is_some());
            let service = match borrowed {
                true => config.services.iter().find(is_same),
                false => services().find(is_same).or_else(|| services().find(has_moved)),
            };
            // Of an address that was given by a name, the name counts.
            let asked = service.filter(|_| !borrowed).and_then(asks);
            let place = ListenPlace { listen: asked.unwrap_or_else(|| (*at).into()), at: *at };
            let service = service.map_or_else(|| handed.name.as_str().into(), |it| Name::clone(&it.name));
            let interface = interface.clone();
            let made = Leftovers::default();
            doors.push(Door { service, place, interface, borrowed: *borrowed, sockets, group: None, made });
        }
    }
    OpenSockets { services: doors }
}

/// The files of UNIX sockets that were handed over and at which no service listens any more.
fn files_left(handed: &[HandedService], running: &Running) -> Vec<&'static Path> {
    let handed = handed.iter().flat_map(|service| &service.addresses).filter(|it| !it.borrowed);
    let is_left = |at: &PeerAddress| running.all_doors().iter().all(|door| door.place.at != *at);
    handed.map(|it| it.at).filter(is_left).filter_map(|at| at.file()).collect()
}

/// A service manager has decided where services listen.
fn listen_where_sockets_are(config: &mut Config, open: &[Door]) {
    for service in &mut config.services {
        let places = open.iter().filter(|door| door.borrowed && door.service == service.name).map(|door| &door.place);
        if let Some(addresses) = ListenAddresses::new(places.map(|place| place.listen.clone())) {
            service.listen = addresses;
        }
    }
}

/// A service manager has decided where the control sockets are.
fn listen_where_control_is(config: &mut Config, opened: &Opened) {
    if opened.doors.has_borrowed_control() {
        config.control = opened.doors.control.iter().map(|door| door.address.clone()).collect();
    }
}

/// How many destinations there are, and how many names that have not resolved.
fn destinations(setup: &Setup) -> (usize, usize) {
    let count = |count: fn(&Pool) -> usize| setup.pools.iter().map(|it| count(&it.pool)).sum();
    (count(|pool| pool.snapshot().len()), count(|pool| pool.unresolved().len()))
}

fn listen_trouble(address: &ListenAddress, error: &io::Error) -> String {
    format!("cannot listen on {address}: {error}")
}

fn start_log(config: &Config) -> io::Result<()> {
    use crate::log::Destination;
    let destination = match &config.log {
        LogTarget::Stderr => Destination::stderr(),
        LogTarget::Syslog(facility) => Destination::Syslog(*facility),
        LogTarget::File(path) => Destination::File(path.clone()),
    };
    crate::log::set_format(config.log_format);
    crate::log::start(destination, config.verbose)?;
    connection_log::start(config.connection_log.as_deref())?;
    std::panic::set_hook(Box::new(|panic| {
        let thread = std::thread::current();
        // A thread that carries connections, or starts and ends those that do, cannot go on: the process restarts whole.
        let is_vital = thread.name().is_none_or(|name| name == "main" || name.starts_with("worker-"));
        if !is_vital {
            return error!("glbd has a defect: {panic}");
        }
        error!("glbd has a defect and stops: {panic}");
        crate::log::flush();
        std::process::abort();
    }));
    Ok(())
}

fn say_what_runs(config: &Config, prepared: &Prepared) {
    let (version, threads) = (env!("CARGO_PKG_VERSION"), Counted(config.threads, "thread"));
    for ServiceEntry { config: service, .. } in &prepared.setup.services {
        let Some(PoolEntry { pool, .. }) = prepared.setup.pool(&service.pool) else { continue };
        let count = pool.snapshot().len();
        let (destinations, policy, listen) = (Counted(count, "destination"), service.policy, &service.listen);
        let top = if service.top { ", top weight only" } else { "" };
        let (of, name) =
            if config.is_plain() { (String::new(), "") } else { (format!(" {}", service.name), &*service.name) };
        info!(service = name; "glbd {version} serving{of} on {listen}, {destinations}, {threads}, {policy}{top}");
        if count == 0 && pool.unresolved().is_empty() {
            let of = if config.is_plain() { String::new() } else { format!("pool {}: ", service.pool) };
            warn!("{of}there are no destinations: clients are turned away until one is added");
        }
    }
    prepared.notices.iter().for_each(|(level, notice)| log::log!(*level, "{notice}"));
}
