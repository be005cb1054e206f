//! What the user asked for, on the command line or in a file: one [`Config`].

mod balancing;
mod command_line;
mod control;
mod cpus;
mod file;
pub mod fuzz;
mod http;
mod keys;
mod limits;
mod misfits;
mod options;
mod print;
mod proxy;
mod schema;
mod watchdog;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::address::{DestinationSpec, Endpoint, ListenAddresses};
use crate::connection_log::Style;
use crate::log::LogFormat;
use crate::process::socket_file::SocketAccess;
pub use balancing::{PolicyKind, ShutdownSessions};
pub use command_line::{command, own_arguments};
pub use control::{ControlAddress, ControlPlace, parse_control};
pub use cpus::CpuList;
pub use http::HttpAddress;
pub use limits::{LimitOptions, OverLimit, Ramp};
pub use print::Printed;
pub use proxy::{ProxyV2Option, ProxyVersion};
pub use watchdog::{
    AgentOptions, AgentPlace, DESTINATION, GaleraOptions, HeaderPattern, HttpContent, HttpOptions, HttpRequest,
    Pattern, ProbeSpec, StatusRange, Statuses, Step, TcpOptions, TlsMode, TlsOptions, WatchdogOptions, compile,
    looks_ahead,
};

/// What a pool or a service is called.
pub type Name = Arc<str>;

/// Connections that may wait to be accepted on each listening socket; the kernel allows less where net.core.somaxconn says
/// so.
pub const DEFAULT_BACKLOG: i32 = 4096;

/// The name of the only pool and of the only service, unless the configuration file gives them others.
pub const MAIN: &str = "main";

/// Everything that can be chosen at start: for the process, for its pools and for its services.
#[derive(Debug, Clone)]
pub struct Config {
    /// In the order of the file; at least one.
    pub pools: Vec<PoolConfig>,
    /// In the order of the file; at least one.
    pub services: Vec<ServiceConfig>,
    /// The configuration file; `None`: the command line says all.
    pub file: Option<PathBuf>,
    /// All of it as a file says it.
    pub printed: Printed,
    /// Worker threads.
    pub threads: usize,
    /// The processors that workers are bound to, in turns; none: the kernel chooses.
    pub cpus: CpuList,
    /// Most client connections; `None`: as many as there are descriptors for.
    pub max_connections: Option<usize>,
    /// Most new connections a second, of all services together; `None`: as many as come.
    pub connection_rate: Option<u32>,
    /// Where control sockets listen, each place once.
    pub control: Vec<ControlAddress>,
    /// Where the control FIFO is to be; `None`: at its usual place.
    pub fifo: Option<PathBuf>,
    /// Where HTTP is spoken; `None`: nowhere.
    pub http: Option<HttpAddress>,
    /// What else than addresses HTTP clients may call this machine.
    pub http_hosts: Vec<String>,
    /// The file with the token that permits changes through HTTP; `None`: HTTP is read-only.
    pub http_admin: Option<PathBuf>,
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
    /// What they look like.
    pub log_format: LogFormat,
    /// Whether to log what happens to single connections.
    pub verbose: bool,
    /// Where lines about connections that have ended go; `None`: where other log lines go.
    pub connection_log: Option<PathBuf>,
    /// Whether the IPv6 addresses of names are preferred to the IPv4 ones.
    pub prefer_ipv6: bool,
    /// Whether a name that does not resolve prevents the start.
    pub strict_names: bool,
}

/// Destinations, and how they are watched.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolConfig {
    /// What it is called.
    pub name: Name,
    /// Those at the start, backups among them.
    pub destinations: Vec<DestinationSpec>,
    /// Which of them take clients only while none of a lower number, or of none, is as fit.
    pub backups: Vec<(Endpoint, u8)>,
    /// Most connections of each; `None`: any number.
    pub max_connections: Option<usize>,
    /// How that follows the load; `None`: it does not.
    pub ramp: Option<Ramp>,
    /// Most clients that wait for one to end; `None`: any number.
    pub max_queue: Option<usize>,
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
#[derive(Debug, Clone, PartialEq)]
pub struct ServiceConfig {
    /// What it is called.
    pub name: Name,
    /// The pool that it takes destinations from.
    pub pool: Name,
    /// Where clients connect.
    pub listen: ListenAddresses,
    /// How destinations are picked.
    pub policy: PolicyKind,
    /// Only those of the top weight are.
    pub top: bool,
    /// The service whose single destination is left alone while there is another.
    pub avoid: Option<Name>,
    /// How connections are treated.
    pub connections: ConnectionOptions,
    /// Which clients may connect, and how many.
    pub limits: LimitOptions,
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
#[derive(Debug, Clone, PartialEq)]
pub struct ConnectionOptions {
    /// How long a destination may take to accept.
    pub connect_timeout: Duration,
    /// How long a client waits for a destination that is fit; `None`: not at all.
    pub wait: Option<Duration>,
    /// How long a client waits for room on a destination that may have no more connections.
    pub queue_timeout: Duration,
    /// How long a client may be quiet; `None`: for ever.
    pub client_idle_timeout: Option<Duration>,
    /// How long a destination may be quiet; `None`: for ever.
    pub server_idle_timeout: Option<Duration>,
    /// Accept only clients that have sent something.
    pub defer_accept: bool,
    /// Connections that may wait to be accepted, on each listening socket.
    pub backlog: i32,
    /// Accept only clients that come in through this interface; `None`: through any.
    pub interface: Option<String>,
    /// Who may connect to the UNIX sockets at which the service listens.
    pub socket_access: SocketAccess,
    /// Accept clients of addresses that this machine does not have.
    pub transparent: bool,
    /// Most destinations that a client tries in vain.
    pub most_attempts: usize,
    /// Addresses of this machine to connect from; none: the kernel chooses.
    pub connect_from: Vec<IpAddr>,
    /// Connect from the client's own address.
    pub connect_as_client: bool,
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
    /// The PROXY header that a destination is sent first, if any.
    pub send_proxy: Option<ProxyVersion>,
    /// What that says beside the addresses.
    pub proxy_v2_options: Vec<ProxyV2Option>,
    /// Clients from these networks are proxies, which send a PROXY header first.
    pub accept_proxy: Vec<IpNet>,
    /// Whether what has become of each connection is logged, and in which form.
    pub log: Style,
    /// In how many lines a second at most.
    pub log_rate: u32,
}

impl ConnectionOptions {
    /// Whether sockets have addresses that this machine does not have.
    pub fn uses_any_address(&self) -> bool {
        self.transparent || self.connect_as_client
    }
}

/// When and how often silent peers are probed; `None`: as the kernel's settings say.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
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
    /// It asked for this text: the help, the version, or the configuration.
    Show(String),
    /// It is wrong; one line that says where and why.
    Wrong(String),
    /// The configuration file is wrong; a line for each place, which says where and why.
    WrongFile(Vec<String>),
}

impl Config {
    /// Whether there is one pool and one service, which need not be named.
    pub fn is_plain(&self) -> bool {
        self.pools.len() == 1 && self.services.len() == 1
    }

    /// The pool that a service takes destinations from.
    pub fn pool_of(&self, service: &ServiceConfig) -> &PoolConfig {
        // There is one for each service.
        self.pools.iter().find(|pool| pool.name == service.pool).unwrap_or(&self.pools[0])
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
        let checks = self.pools.iter_mut().filter_map(|pool| pool.watchdog.as_mut());
        let files_of_checks = checks.flat_map(|options| options.probe.paths());
        let log = match &mut self.log {
            LogTarget::File(path) => Some(path),
            LogTarget::Stderr | LogTarget::Syslog(_) => None,
        };
        let socket = self.http.as_mut().and_then(HttpAddress::path_mut);
        let run = [&mut self.fifo, &mut self.pidfile, &mut self.state];
        let files = [&mut self.file, &mut self.http_admin, &mut self.connection_log].into_iter().chain(run);
        let files = files.map(Option::as_mut).chain([log, socket]).flatten();
        let sockets = self.control.iter_mut().filter_map(ControlAddress::path_mut);
        files.chain(files_of_checks).chain(sockets)
    }
}
