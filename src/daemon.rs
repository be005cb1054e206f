//! Puts the parts together: start-up in order, shut-down in order.

use std::fs::File;
use std::io::{IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::address::ListenAddress;
use crate::config::Config;
use crate::control::{self, Control};
use crate::process::{self, Identity, Leftovers};
use crate::resolve;
use crate::stats::Stats;
use crate::table::{Balancing, Change, Table};
use crate::worker::{self, Workers};

/// Where the control FIFO is unless the command line says otherwise.
const DEFAULT_FIFO: &str = "/tmp/glbd.fifo";
/// Who a daemon started by root runs as unless the command line says otherwise.
const DEFAULT_USER: &str = "daemon";
/// A failed destination is avoided for the interval between checks and this.
const AVOIDED_LONGER: Duration = Duration::from_secs(1);
/// How often a terminal is shown the table.
const DISPLAY_INTERVAL: Duration = Duration::from_secs(5);

/// Runs until it is stopped by a signal.
///
/// # Errors
/// One line that says why it could not start; nothing is left behind then.
pub fn run(config: Config) -> Result<(), String> {
    let config = with_absolute_paths(config)?;
    let background = config.daemon.then(process::daemonize).transpose();
    let background = background.map_err(|error| format!("cannot go to the background: {error}"))?;
    let signals = Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1]);
    let signals = signals.map_err(|error| format!("cannot listen to signals: {error}"))?;

    let mut leftovers = Leftovers::default();
    let limits = Limits::for_config(&config)?;
    let listening = resolve_listening(&config.listen)?;
    let table = fill_table(&config, listening)?;
    let identity = identity(&config)?;
    let (listeners, control_socket) = open_sockets(&config, listening)?;
    let fifo = open_fifo(&config, &mut leftovers)?;
    if let Some(path) = &config.pidfile {
        leftovers.write_pidfile(path)?;
    }
    if let Some(identity) = identity {
        leftovers.leave_to_janitor().map_err(|error| format!("cannot start the janitor: {error}"))?;
        identity.assume()?;
    }

    start_log(&config).map_err(|error| format!("cannot start the log: {error}"))?;
    let stats = Stats::new(config.threads);
    let max_connections = limits.connections;
    let workers = Workers::new(listeners, max_connections, &table, &stats, &config.connections);
    let (workers, threads) = workers.and_then(Workers::start).map_err(|error| format!("cannot start: {error}"))?;
    let control = Control::new(control::Settings {
        listener: control_socket,
        fifo,
        max_conversations: limits.conversations,
        table: table.clone(),
        stats,
        max_connections,
        own_addresses: vec![listening],
    });
    let control = control.and_then(Control::start).map_err(|error| format!("cannot start: {error}"))?;
    let events = Events::listen(signals, config.daemon)?;
    say_what_runs(&config, &limits, &table);
    if let Some(background) = background {
        background.announce().map_err(|error| format!("cannot let go of the terminal: {error}"))?;
    } else if std::io::stdout().is_terminal() {
        start_display(&config, table, max_connections);
    }

    wait_for_the_end(&events, &workers, threads, &control, &mut leftovers);
    info!("stopped");
    leftovers.remove();
    crate::log::flush();
    Ok(())
}

/// In the background the working directory is another.
fn with_absolute_paths(mut config: Config) -> Result<Config, String> {
    for path in [&mut config.fifo, &mut config.pidfile].into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(config)
}

/// How much fits into the limit of open files.
struct Limits {
    descriptors: usize,
    connections: usize,
    conversations: usize,
}

impl Limits {
    /// A connection takes two descriptors. Kept free are: each worker's event queue, waker and listening socket; the
    /// control conversations; and some for the rest of the program, name look-ups included.
    fn for_config(config: &Config) -> Result<Limits, String> {
        const FOR_THE_REST: usize = 20;
        const MOST_BY_DEFAULT: usize = 1_000_000;
        let reserve = |conversations| FOR_THE_REST + 3 * config.threads + conversations;
        let wanted = config.max_connections.map_or(0, |most| 2 * most + reserve(64));
        let descriptors = process::raise_descriptor_limit(wanted as u64)
            .map_err(|error| format!("cannot read the limit of open files: {error}"))?;
        let conversations = if descriptors < 1024 { 8 } else { 64 };
        let room = descriptors.saturating_sub(reserve(conversations)) / 2;
        if room == 0 {
            return Err(format!("the limit of {descriptors} open files leaves no room for connections"));
        }
        let connections = config.max_connections.unwrap_or(MOST_BY_DEFAULT).min(room);
        Ok(Limits { descriptors, connections, conversations })
    }
}

fn resolve_listening(address: &ListenAddress) -> Result<SocketAddr, String> {
    resolve::resolve_listen_address(address).map_err(|error| format!("cannot listen on {address}: {error}"))
}

fn fill_table(config: &Config, listening: SocketAddr) -> Result<Table, String> {
    let avoid_failed_for = config.interval + AVOIDED_LONGER;
    let table = Table::new(Balancing { policy: config.policy, top: config.top, avoid_failed_for });
    for spec in &config.destinations {
        let told = |reason: String| format!("destination {}: {reason}", spec.endpoint);
        let address = resolve::resolve(&spec.endpoint).map_err(|error| told(error.to_string()))?;
        if resolve::is_own_address(&[listening], address) {
            return Err(told("this daemon is to listen there itself".to_owned()));
        }
        let change = table.set(&spec.endpoint, address, spec.weight).map_err(|error| told(error.to_string()))?;
        if change != Change::Added {
            // Said on the terminal, since the log has not started.
            let _ = writeln!(
                std::io::stderr(),
                "glbd: {}",
                told("given more than once, the last weight counts".to_owned())
            );
        }
    }
    Ok(table)
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

fn open_sockets(
    config: &Config,
    listening: SocketAddr,
) -> Result<(Vec<mio::net::TcpListener>, Option<TcpListener>), String> {
    let listeners = worker::listen(listening, config.threads, &config.connections)
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let Some(address) = &config.control else { return Ok((listeners, None)) };
    let told = |error| format!("cannot open the control socket on {address}: {error}");
    let socket = resolve::resolve_control_address(address).and_then(TcpListener::bind).map_err(told)?;
    Ok((listeners, Some(socket)))
}

fn open_fifo(config: &Config, leftovers: &mut Leftovers) -> Result<Option<File>, String> {
    if let Some(path) = &config.fifo {
        let fifo =
            control::create_fifo(path).map_err(|error| format!("cannot make the FIFO {}: {error}", path.display()))?;
        leftovers.add(path.clone());
        return Ok(Some(fifo));
    }
    let path = Path::new(DEFAULT_FIFO);
    control::remove_stale_fifo(path);
    match control::create_fifo(path) {
        Ok(fifo) => {
            leftovers.add(PathBuf::from(path));
            Ok(Some(fifo))
        }
        // Nobody asked for it: another daemon that has it is no reason not to start.
        Err(_) => Ok(None),
    }
}

fn start_log(config: &Config) -> std::io::Result<()> {
    let destination = if config.daemon { crate::log::Destination::Syslog } else { crate::log::Destination::Stderr };
    crate::log::start(destination, config.verbose)?;
    std::panic::set_hook(Box::new(|panic| {
        error!("glbd has a defect and stops: {panic}");
        crate::log::flush();
        std::process::abort();
    }));
    Ok(())
}

fn say_what_runs(config: &Config, limits: &Limits, table: &Table) {
    let (count, threads) = (table.snapshot().len(), config.threads);
    let version = env!("CARGO_PKG_VERSION");
    info!("glbd {version} serving on {}, {count} destinations, {threads} threads", config.listen);
    if config.max_connections.is_some_and(|wanted| wanted > limits.connections) {
        let (connections, descriptors) = (limits.connections, limits.descriptors);
        warn!("the limit of {descriptors} open files allows {connections} connections, fewer than asked for");
    }
}

/// Shows what a person at a terminal wants to see: the configuration, and the table from time to time.
fn start_display(config: &Config, table: Table, max_connections: usize) {
    let control = config.control.as_ref().map_or("none".to_owned(), ToString::to_string);
    let start = format!(
        "glbd {}\nListening on: {}\nControl socket: {control}\nPolicy: {:?}{}\nThreads: {}\nMax connections: {max_connections}\n",
        env!("CARGO_PKG_VERSION"),
        config.listen,
        config.policy,
        if config.top { ", top weight only" } else { "" },
        config.threads,
    );
    let show = move || {
        let mut out = std::io::stdout();
        let mut shown = out.write_all(start.as_bytes());
        // Ends when the terminal is gone.
        while shown.is_ok() {
            shown =
                out.write_all(control::info(&table.snapshot(), max_connections).as_bytes()).and_then(|()| out.flush());
            thread::sleep(DISPLAY_INTERVAL);
        }
    };
    if let Err(error) = thread::Builder::new().name("display".into()).spawn(show) {
        warn!("cannot show the table: {error}");
    }
}

/// What the main thread waits for.
enum Event {
    /// Stop at once.
    Stop,
    /// Stop when the open connections have ended.
    Drain,
    /// They have.
    Drained,
}

struct Events {
    sender: Sender<Event>,
    receiver: Receiver<Event>,
}

impl Events {
    fn listen(mut signals: Signals, in_background: bool) -> Result<Events, String> {
        let (sender, receiver) = unbounded();
        let events = Events { sender: sender.clone(), receiver };
        let listen = move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGUSR1 => Event::Drain,
                    // The terminal is gone; without one there is nothing that it could mean yet.
                    SIGHUP if in_background => continue,
                    _ => Event::Stop,
                };
                // The receiver lives as long as the program.
                let _ = sender.send(event);
            }
        };
        let started = thread::Builder::new().name("signals".into()).spawn(listen);
        started.map(|_| events).map_err(|error| format!("cannot listen to signals: {error}"))
    }

    /// Has the end of all these threads reported.
    fn report_end_of(&self, threads: Vec<JoinHandle<()>>) {
        let sender = self.sender.clone();
        let join = move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            let _ = sender.send(Event::Drained);
        };
        if let Err(error) = thread::Builder::new().name("drain".into()).spawn(join) {
            error!("cannot wait for the connections to end: {error}");
            let _ = self.sender.send(Event::Stop);
        }
    }
}

fn wait_for_the_end(
    events: &Events,
    workers: &worker::Handle,
    threads: Vec<JoinHandle<()>>,
    control: &control::Handle,
    leftovers: &mut Leftovers,
) {
    let mut threads = Some(threads);
    for event in &events.receiver {
        match (event, threads.take()) {
            (Event::Stop | Event::Drained, _) => return,
            (Event::Drain, None) => {}
            (Event::Drain, Some(threads)) => {
                info!("stopping: no new connections, the open ones go on to their end");
                workers.drain();
                // So that another daemon can take over everything at once.
                control.close();
                leftovers.remove();
                events.report_end_of(threads);
            }
        }
    }
}
