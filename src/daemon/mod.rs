//! Puts the parts together: start-up in order, shut-down in order.

mod display;
mod limits;
mod signals;

use std::fs::File;
use std::io::{self, IsTerminal};
use std::net::{Shutdown, SocketAddr, TcpListener};
use std::path::Path;
use std::thread::JoinHandle;
use std::time::Duration;

use log::{error, info, warn};
use socket2::{SockRef, Socket};

use crate::address::Endpoint;
use crate::config::Config;
use crate::control::{self, Control};
use crate::names;
use crate::process::{self, Identity, Leftovers};
use crate::resolve;
use crate::stats::Stats;
use crate::table::{Balancing, Change, Table};
use crate::watchdog::{self, Prober};
use crate::worker::{self, Workers};
use limits::Limits;

/// Where the control FIFO is unless the command line says otherwise.
const DEFAULT_FIFO: &str = "/tmp/glbd.fifo";
/// Who a daemon started by root runs as unless the command line says otherwise.
const DEFAULT_USER: &str = "daemon";
/// A failed destination is avoided for the interval between checks and this.
const AVOIDED_LONGER: Duration = Duration::from_secs(1);
/// How long tidying up may take, should a file system or syslogd hang.
const STOPPING: Duration = Duration::from_millis(500);

/// Runs until it is stopped by a signal.
///
/// # Errors
/// One line that says why it could not start; nothing is left behind then.
pub fn run(config: Config) -> Result<(), String> {
    let config = with_absolute_paths(config)?;
    let background = config.daemon.then(process::daemonize).transpose();
    let background = background.map_err(|error| format!("cannot go to the background: {error}"))?;
    // Names may take long to resolve; until something is opened, signals end the program as they end any other.
    let prepared = prepare(&config)?;
    let signals = signals::register(config.daemon).map_err(|error| format!("cannot take signals: {error}"))?;
    let mut leftovers = Leftovers::default();
    let mut notices = prepared.notices.clone();
    let opened = open(&config, &prepared, &mut leftovers, &mut notices)?;
    start_log(&config).map_err(|error| format!("cannot start the log: {error}"))?;
    let fifo = opened.fifo.as_ref().map_or("none".into(), |_| fifo_path(&config).display().to_string());
    let mut running = start(&config, &prepared, opened).map_err(|error| format!("cannot start: {error}"))?;
    say_what_runs(&config, &prepared.table, &notices);
    if let Some(background) = background {
        background.announce().map_err(|error| format!("cannot let go of the terminal: {error}"))?;
    } else if io::stdout().is_terminal() {
        display::start(&config, &fifo, prepared.table, prepared.limits.connections);
    }
    let watchdog = running.watchdog.take();
    signals::wait_for_the_end(signals, config.daemon, running, &mut leftovers);
    process::exit_within(STOPPING);
    watchdog.into_iter().for_each(watchdog::Handle::stop);
    leftovers.remove();
    crate::log::say_last("stopped");
    Ok(())
}

/// All that can be known before anything is opened.
struct Prepared {
    limits: Limits,
    listening: SocketAddr,
    control: Option<SocketAddr>,
    table: Table,
    prober: Option<Prober>,
    identity: Option<Identity>,
    /// What the log should tell, once there is one.
    notices: Vec<String>,
}

impl Prepared {
    fn own_addresses(&self) -> Vec<SocketAddr> {
        std::iter::once(self.listening).chain(self.control).collect()
    }
}

fn prepare(config: &Config) -> Result<Prepared, String> {
    let prober = config.watchdog.as_ref().map(|options| Prober::prepare(&options.probe)).transpose()?;
    let limits = Limits::for_config(config, prober.as_ref().map_or(0, Prober::descriptors))?;
    let listening = resolve::resolve_listen_address(&config.listen);
    let listening = listening.map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let control = config.control.as_ref().map(|address| resolve::resolve(address).map_err(|error| (address, error)));
    let control = control.transpose().map_err(|(address, error)| control_trouble(address, &error))?;
    let notices = limits.notice.iter().cloned().collect();
    let balancing = Balancing {
        policy: config.policy,
        top: config.top,
        avoid_failed_for: config.interval + AVOIDED_LONGER,
        watched: config.watchdog.is_some(),
        recheck_after: config.recheck_after,
    };
    let (table, identity) = (Table::new(balancing), identity(config)?);
    let mut prepared = Prepared { limits, listening, control, table, prober, identity, notices };
    fill_table(config, &mut prepared)?;
    Ok(prepared)
}

/// All that needs the rights of the user who started the program.
struct Opened {
    listeners: Vec<mio::net::TcpListener>,
    control: Option<TcpListener>,
    fifo: Option<File>,
    doors: Doors,
}

/// The listening sockets once more, to close them for good without waiting for the threads that accept from them.
struct Doors(Vec<Socket>);

impl Doors {
    fn of(listeners: &[mio::net::TcpListener], control: Option<&TcpListener>) -> io::Result<Doors> {
        let sockets = listeners.iter().map(SockRef::from).chain(control.map(SockRef::from));
        Ok(Doors(sockets.map(|socket| socket.try_clone()).collect::<io::Result<_>>()?))
    }

    /// Nobody listens any more, so that the next daemon can at once.
    fn close(self) {
        for socket in self.0 {
            // It fails on one that does not listen.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }
}

/// Opens everything, and gives up the rights that were needed for it.
fn open(
    config: &Config,
    prepared: &Prepared,
    leftovers: &mut Leftovers,
    notices: &mut Vec<String>,
) -> Result<Opened, String> {
    let listeners = worker::listen(prepared.listening, config.threads, &config.connections)
        .map_err(|error| format!("cannot listen on {}: {error}", config.listen))?;
    let control = match (&config.control, prepared.control) {
        (Some(name), Some(address)) => Some(TcpListener::bind(address).map_err(|error| control_trouble(name, &error))?),
        _ => None,
    };
    let doors = Doors::of(&listeners, control.as_ref()).map_err(|error| format!("cannot listen: {error}"))?;
    let fifo = open_fifo(config, leftovers, notices)?;
    if let Some(path) = &config.pidfile {
        leftovers.write_pidfile(path)?;
    }
    if prepared.prober.as_ref().is_some_and(Prober::starts_programs) {
        leftovers.add_marked_processes(watchdog::mark());
    }
    let identity = prepared.identity.as_ref();
    leftovers.prepare_for(identity).map_err(|error| format!("cannot start the janitor: {error}"))?;
    identity.map_or(Ok(()), Identity::assume)?;
    Ok(Opened { listeners, control, fifo, doors })
}

fn control_trouble(address: &Endpoint, error: &io::Error) -> String {
    format!("cannot open the control socket on {address}: {error}")
}

/// The threads, and how to reach them.
struct Running {
    workers: worker::Handle,
    threads: Vec<JoinHandle<()>>,
    control: control::Handle,
    watchdog: Option<watchdog::Handle>,
    /// `None` once the threads close the sockets in their own time.
    doors: Option<Doors>,
}

fn start(config: &Config, prepared: &Prepared, opened: Opened) -> io::Result<Running> {
    let stats = Stats::new(config.threads);
    let (table, max_connections) = (&prepared.table, prepared.limits.connections);
    let limits = worker::Limits { connections: max_connections, pipes: prepared.limits.pipes };
    let held = config.watchdog.is_some();
    let workers = Workers::new(opened.listeners, limits, table, &stats, &config.connections, held)?;
    let control = Control::new(control::Settings {
        listener: opened.control,
        fifo: opened.fifo,
        max_conversations: prepared.limits.conversations,
        table: table.clone(),
        stats,
        max_connections,
        own_addresses: prepared.own_addresses(),
        all_addresses: config.resolve_all,
    })?;
    let (workers, threads) = workers.start()?;
    let watchdog = start_watchdog(config, prepared, &workers)?;
    if let Some(interval) = config.resolve {
        let (table, own_addresses) = (prepared.table.clone(), prepared.own_addresses());
        names::start(names::Settings { table, interval, all: config.resolve_all, own_addresses })?;
    }
    Ok(Running { workers, threads, control: control.start()?, watchdog, doors: Some(opened.doors) })
}

fn start_watchdog(
    config: &Config,
    prepared: &Prepared,
    workers: &worker::Handle,
) -> io::Result<Option<watchdog::Handle>> {
    let (Some(options), Some(prober)) = (&config.watchdog, &prepared.prober) else { return Ok(None) };
    let workers = workers.clone();
    let settings = watchdog::Settings {
        options: options.clone(),
        prober: prober.clone(),
        table: prepared.table.clone(),
        own_addresses: prepared.own_addresses(),
        on_first_verdicts: Box::new(move || workers.accept()),
    };
    watchdog::start(settings).map(Some)
}

/// In the background the working directory is another.
fn with_absolute_paths(mut config: Config) -> Result<Config, String> {
    for path in [&mut config.fifo, &mut config.pidfile].into_iter().flatten() {
        *path = std::path::absolute(&*path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    Ok(config)
}

fn fill_table(config: &Config, prepared: &mut Prepared) -> Result<(), String> {
    let own_addresses = prepared.own_addresses();
    for spec in &config.destinations {
        let told = |reason: String| format!("destination {}: {reason}", spec.endpoint);
        let addresses = resolve::resolve_every(&spec.endpoint).map_err(|error| told(error.to_string()))?;
        for address in addresses.into_iter().take(if config.resolve_all { usize::MAX } else { 1 }) {
            if resolve::is_own_address(&own_addresses, address) {
                return Err(told("this daemon is to listen there itself".to_owned()));
            }
            let change = prepared.table.set(&spec.endpoint, address, spec.weight);
            if change.map_err(|error| told(error.to_string()))? != Change::Added {
                prepared.notices.push(told(format!("given more than once; its weight is {}", spec.weight)));
            }
        }
    }
    Ok(())
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

fn fifo_path(config: &Config) -> &Path {
    config.fifo.as_deref().unwrap_or(Path::new(DEFAULT_FIFO))
}

fn open_fifo(config: &Config, leftovers: &mut Leftovers, notices: &mut Vec<String>) -> Result<Option<File>, String> {
    let path = fifo_path(config);
    if config.fifo.is_none() {
        control::remove_stale_fifo(path);
    }
    match control::create_fifo(path) {
        Ok(fifo) => {
            leftovers.add(path.to_owned());
            Ok(Some(fifo))
        }
        // Nobody asked for it: another daemon that has it is no reason not to start.
        Err(error) if config.fifo.is_none() => {
            notices.push(format!("there is no control FIFO {}: {error}", path.display()));
            Ok(None)
        }
        Err(error) => Err(format!("cannot make the FIFO {}: {error}", path.display())),
    }
}

fn start_log(config: &Config) -> io::Result<()> {
    let destination = if config.daemon { crate::log::Destination::Syslog } else { crate::log::Destination::Stderr };
    crate::log::start(destination, config.verbose)?;
    std::panic::set_hook(Box::new(|panic| {
        error!("glbd has a defect and stops: {panic}");
        crate::log::flush();
        std::process::abort();
    }));
    Ok(())
}

fn say_what_runs(config: &Config, table: &Table, notices: &[String]) {
    let (count, threads) = (table.snapshot().len(), config.threads);
    let version = env!("CARGO_PKG_VERSION");
    info!("glbd {version} serving on {}, {count} destinations, {threads} threads", config.listen);
    notices.iter().for_each(|notice| warn!("{notice}"));
}
