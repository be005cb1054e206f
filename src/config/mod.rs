//! What the user asked for: from the command line to one [`Config`].

mod balancing;
mod options;
mod watchdog;

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::{Command, CommandFactory, Parser};

use crate::address::{DestinationSpec, Endpoint, Host, ListenAddress};
pub use balancing::{PolicyKind, ShutdownSessions};
use options::Options;
pub use watchdog::{GaleraOptions, HttpOptions, ProbeSpec, TlsMode, WatchdogOptions};

/// A probe may take as long as the interval between two, but for very short ones.
const LEAST_DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// Everything that can be chosen at start: for the process, for its pool and for its service.
#[derive(Debug, Clone)]
pub struct Config {
    /// The destinations, and how they are watched.
    pub pool: PoolConfig,
    /// Where clients connect, and how they are served.
    pub service: ServiceConfig,
    /// Worker threads.
    pub threads: usize,
    /// Most client connections; `None`: as many as there are descriptors for.
    pub max_connections: Option<usize>,
    /// Where the control socket listens; `None`: there is none.
    pub control: Option<Endpoint>,
    /// Where the control FIFO is to be; `None`: at its usual place.
    pub fifo: Option<PathBuf>,
    /// Whether only to look if everything is in order for a start.
    pub check: bool,
    /// Whether to go to the background.
    pub daemon: bool,
    /// User, and after a colon group, to run as.
    pub user: Option<String>,
    /// Where to write the process id.
    pub pidfile: Option<PathBuf>,
    /// Where to keep what is changed at run time; `None`: it is forgotten at the end.
    pub state: Option<PathBuf>,
    /// How long the last connections may go on when nobody is accepted any more; `None`: for ever.
    pub drain_timeout: Option<Duration>,
    /// Where log lines go.
    pub log: LogTarget,
    /// Whether to log what happens to single connections.
    pub verbose: bool,
    /// Whether the IPv6 addresses of names are preferred to the IPv4 ones.
    pub prefer_ipv6: bool,
    /// Whether a name that does not resolve prevents the start.
    pub strict_names: bool,
}

/// Destinations, and how they are watched.
#[derive(Debug, Clone)]
pub struct PoolConfig {
    /// Those at the start.
    pub destinations: Vec<DestinationSpec>,
    /// Between health checks; a failed destination is avoided for this and one second.
    pub interval: Duration,
    /// How destinations are watched; `None`: they are not.
    pub watchdog: Option<WatchdogOptions>,
    /// How old what the watchdog says may be when a client comes; `None`: any age.
    pub recheck_after: Option<Duration>,
    /// How often names are resolved again; `None`: never.
    pub resolve: Option<Duration>,
    /// Whether all addresses of a name are destinations, not only one.
    pub resolve_all: bool,
}

/// Where clients connect, and how they are served.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// Where clients connect.
    pub listen: ListenAddress,
    /// How destinations are picked.
    pub policy: PolicyKind,
    /// Only those of the top weight are.
    pub top: bool,
    /// How connections are treated.
    pub connections: ConnectionOptions,
}

/// Where log lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard error.
    Stderr,
    /// syslog(3), under this facility.
    Syslog(i32),
    /// This file.
    File(PathBuf),
}

/// How connections are treated.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// How long a destination may take to accept.
    pub connect_timeout: Duration,
    /// How long a client may be quiet; `None`: for ever.
    pub client_idle_timeout: Option<Duration>,
    /// How long a destination may be quiet; `None`: for ever.
    pub server_idle_timeout: Option<Duration>,
    /// Accept only clients that have sent something.
    pub defer_accept: bool,
    /// Most destinations that a client tries in vain.
    pub most_attempts: usize,
    /// Addresses of this machine to connect from; none: the kernel chooses.
    pub connect_from: Vec<IpAddr>,
    /// How long both sides may be quiet when one of them has ended; `None`: for ever.
    pub half_close_timeout: Option<Duration>,
    /// How long a peer may leave data unacknowledged; `None`: as the kernel's settings say.
    pub tcp_user_timeout: Option<Duration>,
    /// When and how often silent peers are probed, as far as the kernel's settings are not to decide.
    pub keepalive_probes: KeepaliveProbes,
    /// Avoid TIME_WAIT by resetting a destination's connection once its client has closed.
    pub reset_on_close: bool,
    /// Send small segments at once.
    pub nodelay: bool,
    /// Probe silent destinations' connections for being alive.
    pub keepalive: bool,
    /// One connect at a time.
    pub synchronous: bool,
    /// Which first packet is expected of a destination.
    pub greeting: Greeting,
    /// How late that may be before other destinations are preferred.
    pub suspect_after: Duration,
}

/// When and how often silent peers are probed; `None`: as the kernel's settings say.
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepaliveProbes {
    /// After how long a silence.
    pub time: Option<Duration>,
    /// How long after the probe before.
    pub interval: Option<Duration>,
    /// How many are not answered before the peer counts as gone.
    pub count: Option<u32>,
}

/// The first packet of a destination, where it is inspected before anything is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Greeting {
    /// Nothing is inspected.
    None,
    /// MySQL's: a handshake, or an error with which the server refuses the client.
    Mysql,
}

/// What a command line came to, when not to a [`Config`].
#[derive(Debug)]
pub enum Refused {
    /// It asked for this text, the help or the version.
    Show(String),
    /// It is wrong; one line that says where and why.
    Wrong(String),
}

impl Config {
    /// Reads a command line, the program's name first. getopt_long's habits hold: options may follow the destinations,
    /// short ones join, long ones shorten while unambiguous, and of several values the last one counts. Policies that contradict each other are refused.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn from_command_line(arguments: impl IntoIterator<Item = String>) -> Result<Config, Refused> {
        let options = Options::try_parse_from(arguments).map_err(|error| match error.kind() {
            ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refused::Show(error.render().to_string()),
            _ => Refused::Wrong(in_one_line(&error.render().to_string())),
        })?;
        let destinations = options.parse_destinations().map_err(Refused::Wrong)?;
        options.check().map_err(Refused::Wrong)?;
        Ok(Config::from_options(options, destinations))
    }

    /// Makes its paths absolute, as they were meant in `directory`: in the background the working directory is another.
    pub fn with_paths_in(mut self, directory: &Path) -> Config {
        for path in self.paths() {
            *path = directory.join(&*path);
        }
        self
    }

    /// Whether some path is meant in the working directory.
    pub fn has_relative_paths(&mut self) -> bool {
        self.paths().any(|path| path.is_relative())
    }

    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let defaults_file = match self.pool.watchdog.as_mut().map(|options| &mut options.probe) {
            Some(ProbeSpec::Galera(options)) => options.defaults_file.as_mut(),
            _ => None,
        };
        let log = match &mut self.log {
            LogTarget::File(path) => Some(path),
            LogTarget::Stderr | LogTarget::Syslog(_) => None,
        };
        [self.fifo.as_mut(), self.pidfile.as_mut(), self.state.as_mut(), log, defaults_file].into_iter().flatten()
    }

    fn from_options(options: Options, destinations: Vec<DestinationSpec>) -> Config {
        // A server that is checked as MySQL is one.
        let greeting = options.greeting.unwrap_or(match options.watchdog {
            Some(ProbeSpec::Galera(_)) => Greeting::Mysql,
            _ => Greeting::None,
        });
        let unless_zero = |duration: Duration| Some(duration).filter(|duration| !duration.is_zero());
        let pool = PoolConfig {
            destinations,
            interval: options.interval,
            recheck_after: unless_zero(options.extra),
            resolve: unless_zero(options.resolve),
            resolve_all: options.resolve_all,
            watchdog: options.watchdog.map(|probe| WatchdogOptions {
                probe,
                interval: options.interval,
                timeout: options.timeout.unwrap_or(options.interval.max(LEAST_DEFAULT_TIMEOUT)),
                rise: options.rise.unwrap_or(2),
                fall: options.fall.unwrap_or(3),
                slow_start: options.slow_start,
                shutdown_sessions: match options.keep_sessions {
                    true => ShutdownSessions::Never,
                    false => options.shutdown_sessions.unwrap_or(ShutdownSessions::Elsewhere),
                },
                discover: options.discover,
                latency_samples: Some(options.latency).filter(|samples| *samples > 0),
            }),
        };
        let service = ServiceConfig {
            listen: options.listen,
            policy: match () {
                () if options.round => PolicyKind::RoundRobin,
                () if options.random => PolicyKind::Random,
                () if options.source => PolicyKind::Source,
                () if options.single => PolicyKind::Single,
                () => PolicyKind::LeastConnected,
            },
            top: options.top || options.single,
            connections: ConnectionOptions {
                connect_timeout: options.connect_timeout,
                client_idle_timeout: unless_zero(options.client_idle_timeout),
                server_idle_timeout: unless_zero(options.server_idle_timeout),
                most_attempts: options.retries as usize + 1,
                connect_from: options.connect_from,
                half_close_timeout: unless_zero(options.half_close_timeout),
                tcp_user_timeout: unless_zero(options.tcp_user_timeout),
                keepalive_probes: KeepaliveProbes {
                    time: unless_zero(Duration::from_secs(options.keepalive_time.into())),
                    interval: unless_zero(Duration::from_secs(options.keepalive_interval.into())),
                    count: Some(options.keepalive_count).filter(|count| *count > 0),
                },
                defer_accept: options.defer_accept,
                reset_on_close: options.linger,
                nodelay: !options.nodelay,
                keepalive: !options.keepalive,
                synchronous: options.synchronous,
                greeting,
                suspect_after: options.interval.min(options.connect_timeout),
            },
        };
        Config {
            pool,
            service,
            threads: options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
            max_connections: options.max_connections,
            control: options.control.map(|address| Endpoint {
                // Not the whole world unless it was asked for.
                host: address.host.unwrap_or(Host::Address(Ipv4Addr::LOCALHOST.into())),
                port: address.port,
            }),
            fifo: options.fifo,
            check: options.check,
            daemon: options.daemon,
            user: options.user,
            pidfile: options.pidfile,
            state: options.state,
            drain_timeout: unless_zero(options.drain_timeout),
            log: options.log.unwrap_or(match options.daemon {
                true => LogTarget::Syslog(libc::LOG_DAEMON),
                false => LogTarget::Stderr,
            }),
            verbose: options.verbose,
            prefer_ipv6: options.prefer == "ipv6",
            strict_names: options.strict_names,
        }
    }
}

/// The definition of the command line, from which its manual page and the shells' completions are made.
pub fn command() -> Command {
    Options::command()
}

/// clap's message without its advice, which takes several lines.
fn in_one_line(message: &str) -> String {
    let first_paragraph = message.trim().split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = first_paragraph.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greeting_is_inspected_in_front_of_mysql_unless_options_say_otherwise() {
        for (arguments, greeting) in [
            ([""; 0].as_slice(), Greeting::None),
            (&["-w", "tcp"], Greeting::None),
            (&["-w", "galera"], Greeting::Mysql),
            (&["-w", "mysql"], Greeting::Mysql),
            (&["-w", "mysql", "--greeting", "none"], Greeting::None),
            (&["--greeting", "mysql"], Greeting::Mysql),
        ] {
            let words = ["glbd", "3306"].iter().chain(arguments).map(|word| (*word).to_owned());
            let config = Config::from_command_line(words).expect("a command line");
            assert_eq!(config.service.connections.greeting, greeting, "{arguments:?}");
        }
    }
}
