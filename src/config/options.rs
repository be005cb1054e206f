//! The command line as clap sees it: GLB's options with their aliases, and ours.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;
use ipnet::IpNet;

use super::cpus::{CpuList, parse_cpus};
use super::http::{HttpAddress, parse_http_address, parse_http_host};
use super::limits::{parse_network, parse_over_limit};
use super::proxy::{parse_proxy_v2_option, parse_proxy_version};
use super::watchdog::{ProbeSpec, parse_send};
use super::{
    AgentPlace, ControlAddress, DEFAULT_BACKLOG, Greeting, LogTarget, OverLimit, ProxyV2Option, ProxyVersion,
    ShutdownSessions, parse_control,
};
use crate::address::{DestinationSpec, ListenAddresses, parse_destination, parse_listen_addresses};
use crate::connection_log::Style;
use crate::log::LogFormat;

const EXAMPLES: &str = "\
Examples:
  glbd 8010 10.0.0.1:3306 10.0.0.2:3306:2
      Balance port 8010 over two servers, the second getting twice as many connections.
  glbd --daemon --control 127.0.0.1:8011 --threads 2 8010 db1:3306 db2:3306
      The same in the background, to be steered through port 8011:
  echo getinfo | nc 127.0.0.1 8011           # show destinations and connections
  echo getstats | nc 127.0.0.1 8011          # show traffic since the last time
  echo 10.0.0.3:3306:1 | nc 127.0.0.1 8011   # add a destination, or change its weight
  echo 10.0.0.3:3306:0 | nc 127.0.0.1 8011   # drain it: no new connections
  echo 10.0.0.3:3306:-1 | nc 127.0.0.1 8011  # remove it and close its connections
Signals:
  SIGTERM, SIGINT   stop at once
  SIGUSR1           stop accepting, serve the open connections to their end, then stop
  SIGUSR2           start the program on disk anew and hand everything over to it, losing no connection
  SIGTTOU, SIGTTIN  let new clients wait, and serve them again (not at a terminal)";

/// More often, asking for names would take a good part of a processor.
const LEAST_RESOLVE: Duration = Duration::from_millis(100);

/// Balances the TCP connections that come in on LISTEN_ADDRESS over the destinations, by default to the one that has the
/// fewest connections per weight; can be steered while it runs.
#[derive(Parser, Debug)]
#[command(
    name = "glbd",
    version,
    after_help = EXAMPLES,
    args_override_self = true,
    infer_long_args = true,
    allow_negative_numbers = true,
    max_term_width = 110,
    override_usage = "glbd [OPTIONS] LISTEN_ADDRESS [DESTINATION]...\n       glbd --config FILE"
)]
pub(super) struct Options {
    /// Where clients connect: [HOST:]PORT, without HOST on all interfaces; PORT-PORT is a range, unix:PATH a UNIX socket.
    /// Commas separate several
    #[arg(value_name = "LISTEN_ADDRESS", value_parser = parse_listen_addresses,
        required_unless_present_any = ["config", "print_schema"])]
    pub listen: Option<ListenAddresses>,

    /// Where to pass them on to: HOST[:PORT[:WEIGHT]], IPv6 as [ADDRESS]:PORT, or unix:PATH[:WEIGHT]. PORT defaults to
    /// the listening port, WEIGHT to 1
    #[arg(value_name = "DESTINATION")]
    pub destinations: Vec<String>,

    /// Destinations that take clients only while no other one is READY, separated by commas. 2@DESTINATION takes them only
    /// while no backup without a number is READY either, and so on to 16@
    #[arg(long, value_name = "[N@]DESTINATION[,...]", value_delimiter = ',', value_parser = parse_backup,
        help_heading = "Balancing")]
    pub backups: Vec<String>,

    /// Take destinations in turns, by weight
    #[arg(short = 'b', long = "round", visible_aliases = ["round-robin", "rrb"],
        conflicts_with_all = ["random", "first", "source", "single"], help_heading = "Balancing")]
    pub round: bool,

    /// Choose by chance and weight
    #[arg(short, long, conflicts_with_all = ["round", "first", "source", "single"], help_heading = "Balancing")]
    pub random: bool,

    /// Fill one destination after the other, in their order, each up to --destination-max-connections
    #[arg(long, conflicts_with_all = ["round", "random", "source", "single"], help_heading = "Balancing")]
    pub first: bool,

    /// Always send the same client address to the same destination
    #[arg(short, long, visible_aliases = ["src_tracking", "source_tracking"],
        conflicts_with_all = ["round", "random", "first", "single"], help_heading = "Balancing")]
    pub source: bool,

    /// Send everybody to one destination of top weight until it fails (implies --top)
    #[arg(short = 'S', long, conflicts_with_all = ["round", "random", "first", "source"], help_heading = "Balancing")]
    pub single: bool,

    /// Balance only among the destinations of the top weight
    #[arg(short = 'T', long, help_heading = "Balancing")]
    pub top: bool,

    /// Most client connections at a time; further ones wait in the backlog [default: half of the open-files limit]
    // Prefixes of max_conn that GLB understood, and that name several options now.
    #[arg(id = "max_conn", short, long = "max_conn", visible_aliases = ["connections", "max-conn", "max-connections"],
        aliases = ["m", "ma", "max", "connecti", "connectio", "connection"], value_name = "N",
        value_parser = parse_count, help_heading = "Connections")]
    pub max_connections: Option<usize>,

    /// Most connections of each destination (max-connections in [pool.NAME] of a file): clients wait in a queue for one to
    /// end, and none goes to a backup instead [default: any number]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Limits")]
    pub destination_max_connections: Option<usize>,

    /// Have that limit follow the load, from this number on up to --destination-max-connections, which it is once there are
    /// --full-connections (min-connections in [pool.NAME] of a file)
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Limits")]
    pub destination_min_connections: Option<usize>,

    /// As many connections of all destinations together, clients in the queue among them, have each destination take
    /// --destination-max-connections; with fewer, it takes as much less, but --destination-min-connections
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Limits")]
    pub full_connections: Option<usize>,

    /// Most clients that wait in the queue; further ones are turned away [default: any number]
    #[arg(long, value_name = "N", value_parser = parse_count_or_zero, help_heading = "Limits")]
    pub max_queue: Option<usize>,

    /// How long a client waits in the queue before it is turned away, in seconds [default: the connect timeout]
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, help_heading = "Limits")]
    pub queue_timeout: Option<Duration>,

    /// How long a destination may take to accept a connection before the next one is tried, in seconds
    #[arg(long, value_name = "SECS", default_value = "5", value_parser = parse_seconds, help_heading = "Connections")]
    pub connect_timeout: Duration,

    /// How long a client waits for a destination that is fit when there is none, or none is left that it has not tried
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        help_heading = "Connections")]
    pub wait: Duration,

    /// How many other destinations a client is sent to, one after the other, when one cannot be reached
    #[arg(long, value_name = "N", default_value = "100", value_parser = clap::value_parser!(u32).range(..=1_000_000),
        help_heading = "Connections")]
    pub retries: u32,

    /// Connect to destinations from these addresses of this machine, separated by commas, in turns; each has its own local
    /// ports. The word client stands for the address of each client, which takes CAP_NET_RAW and a route back
    /// [default: as the routing table says]
    #[arg(long, value_name = "ADDRESS[,...]", value_delimiter = ',', value_parser = parse_local_address,
        help_heading = "Connections")]
    pub connect_from: Vec<ConnectFrom>,

    /// Close a connection whose client neither sent nor took anything for so long, in seconds; 0 is never
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        help_heading = "Connections")]
    pub client_idle_timeout: Duration,

    /// The same for the destination's side
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        help_heading = "Connections")]
    pub server_idle_timeout: Duration,

    /// Close a connection one side of which has ended when for so long the other neither sent nor took anything, in
    /// seconds; 0 is never
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        help_heading = "Connections")]
    pub half_close_timeout: Duration,

    /// Close a connection whose peer, on either side, has not acknowledged for so long what it was sent, in seconds; 0
    /// leaves it to the kernel (TCP_USER_TIMEOUT)
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        help_heading = "Connections")]
    pub tcp_user_timeout: Duration,

    /// Probe a peer for being alive when nothing came of it for so long, in whole seconds; 0 leaves it to the kernel
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = clap::value_parser!(u32).range(..=32_767),
        help_heading = "Connections")]
    pub keepalive_time: u32,

    /// And again after so long without an answer, in whole seconds; 0 leaves it to the kernel
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = clap::value_parser!(u32).range(..=32_767),
        help_heading = "Connections")]
    pub keepalive_interval: u32,

    /// And give it up after so many probes; 0 leaves it to the kernel
    #[arg(long, value_name = "N", default_value = "0", value_parser = clap::value_parser!(u32).range(..=127),
        help_heading = "Connections")]
    pub keepalive_count: u32,

    /// Accept a client only once it has sent something (delays protocols in which the server speaks first, as MySQL's)
    // Prefixes that GLB understood, and that --deny has as well.
    #[arg(short = 'a', long, aliases = ["de"], help_heading = "Connections")]
    pub defer_accept: bool,

    /// Connections that may wait to be accepted, for each worker thread; no more than net.core.somaxconn
    #[arg(long, value_name = "N", default_value_t = DEFAULT_BACKLOG, value_parser = clap::value_parser!(i32).range(1..=1_000_000),
        help_heading = "Connections")]
    pub backlog: i32,

    /// Accept only clients that come in through this network interface [default: all]
    #[arg(long, value_name = "NAME", value_parser = parse_interface, help_heading = "Connections")]
    pub interface: Option<String>,

    /// Who owns the files of the UNIX sockets that clients connect to [default: the user that runs it]
    #[arg(long, value_name = "USER", help_heading = "Connections")]
    pub socket_owner: Option<String>,

    /// Their group [default: that user's]
    #[arg(long, value_name = "GROUP", help_heading = "Connections")]
    pub socket_group: Option<String>,

    /// Their mode: who may write to the file may connect [default: 0666]
    #[arg(long, value_name = "MODE", value_parser = parse_mode, help_heading = "Connections")]
    pub socket_mode: Option<u32>,

    /// Listen at addresses that this machine does not have, for clients that are routed through it (takes CAP_NET_RAW)
    #[arg(long, help_heading = "Connections")]
    pub transparent: bool,

    /// Inspect the first packet of a destination: mysql, where a server that refuses a client with an error is passed
    /// over, or none [default: mysql with -w galera, none otherwise]
    #[arg(long, value_name = "PROTOCOL", value_parser = parse_greeting, help_heading = "Connections")]
    pub greeting: Option<Greeting>,

    /// Tell destinations who the client is: send a PROXY header of this version, 1 or 2, in front of everything else
    #[arg(long, value_name = "VERSION", value_parser = parse_proxy_version, help_heading = "Connections")]
    pub send_proxy: Option<ProxyVersion>,

    /// What a PROXY header of version 2 says beside the addresses, separated by commas: unique-id, authority, alpn, ssl,
    /// custom and crc32c. All but crc32c pass on what a proxy in front has sent; unique-id makes a name if it has sent none
    #[arg(long, value_name = "OPTION[,...]", value_delimiter = ',', value_parser = parse_proxy_v2_option,
        help_heading = "Connections")]
    pub proxy_v2_options: Vec<ProxyV2Option>,

    /// Expect a PROXY header in front of each connection from these networks, separated by commas, and take the client's
    /// address from it
    #[arg(long, value_name = "NETWORK[,...]", value_delimiter = ',', value_parser = parse_network,
        help_heading = "Connections")]
    pub accept_proxy: Vec<IpNet>,

    /// Disable lingering in TIME_WAIT: when a client has closed, reset the connection to the destination (half-closed
    /// clients are cut)
    #[arg(short, long, help_heading = "Connections")]
    pub linger: bool,

    /// Disable TCP_NODELAY
    #[arg(short, long, help_heading = "Connections")]
    pub nodelay: bool,

    /// Disable SO_KEEPALIVE on the destinations' side
    // Those that are no longer unambiguous, but were to GLB.
    #[arg(short = 'K', long, aliases = ["k", "ke", "kee", "keep", "keepa", "keepal", "keepali", "keepaliv"],
        help_heading = "Connections")]
    pub keepalive: bool,

    /// Let each worker connect to one destination at a time
    #[arg(short = 'Y', long, help_heading = "Connections")]
    pub synchronous: bool,

    /// Accept only clients from these networks, such as 10.0.0.0/8 or 2001:db8::/32, separated by commas; the others are
    /// reset. Of networks that contain each other in --allow and --deny, the smallest counts [default: all clients]
    #[arg(long, value_name = "NETWORK[,...]", value_delimiter = ',', value_parser = parse_network,
        help_heading = "Limits")]
    pub allow: Vec<IpNet>,

    /// Reset clients from these networks as soon as they connect
    #[arg(long, value_name = "NETWORK[,...]", value_delimiter = ',', value_parser = parse_network,
        help_heading = "Limits")]
    pub deny: Vec<IpNet>,

    /// Most client connections of the service at a time (max-connections in [service.NAME] of a file) [default: as many
    /// as the process takes]
    #[arg(long, value_name = "N", value_parser = parse_count, help_heading = "Limits")]
    pub service_max_connections: Option<usize>,

    /// Most client connections from one source at a time; further ones are reset. A source is an IPv4 address or an IPv6
    /// network of 64 bits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000_000),
        help_heading = "Limits")]
    pub max_connections_per_source: Option<u32>,

    /// Most new connections a second; those of one second may come at once
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Limits")]
    pub connection_rate: Option<u32>,

    /// Most new connections a second from one source; further ones are reset
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Limits")]
    pub connection_rate_per_source: Option<u32>,

    /// What happens to clients above --service-max-connections or --connection-rate: wait (in the backlog) or reset
    /// [default: wait]
    #[arg(long, value_name = "WHAT", value_parser = parse_over_limit, help_heading = "Limits")]
    pub over_limit: Option<OverLimit>,

    /// Most new connections a second of all services together; those of one second may come at once, further ones wait in
    /// the backlog (connection-rate in [process] of a file)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Limits")]
    pub process_connection_rate: Option<u32>,

    /// Open a control socket: [HOST:]PORT, HOST defaults to 127.0.0.1, or unix:PATH. OPTIONS, each behind a comma, are
    /// read-only, and owner=USER, group=GROUP and mode=MODE of a PATH [default: the user that runs it, mode 0600]. May be
    /// given several times
    #[arg(short, long, value_name = "ADDRESS[,OPTIONS]", value_parser = parse_control, help_heading = "Control")]
    pub control: Vec<ControlAddress>,

    /// Where to make the control FIFO; one that nobody reads is replaced [default: /tmp/glbd.fifo]
    #[arg(short, long, aliases = ["f", "fi"], value_name = "PATH", value_parser = parse_path, help_heading = "Control")]
    pub fifo: Option<PathBuf>,

    /// Speak HTTP, for metrics, health, an API and a page: [HOST:]PORT, HOST defaults to 127.0.0.1, or unix:PATH, behind which
    /// owner=USER, group=GROUP and mode=MODE may follow, each after a comma
    #[arg(long, value_name = "ADDRESS", value_parser = parse_http_address, help_heading = "Control")]
    pub http: Option<HttpAddress>,

    /// Names by which HTTP clients may call this machine beside its addresses, its own name and that of --http
    #[arg(long, value_name = "NAME", value_delimiter = ',', value_parser = parse_http_host, help_heading = "Control")]
    pub http_host: Vec<String>,

    /// Let HTTP clients drain, reweigh, move the writer and kick with the token in this file
    #[arg(long, value_name = "FILE", value_parser = parse_path, help_heading = "Control")]
    pub http_admin: Option<PathBuf>,

    /// Take all that is not said here from this file, in TOML; only options below Control and Process may stand beside it,
    /// and win over the file
    #[arg(long, value_name = "FILE", value_parser = parse_path, help_heading = "Process")]
    pub config: Option<PathBuf>,

    /// Print the configuration as a file for --config, and exit
    #[arg(long, help_heading = "Process")]
    pub print_config: bool,

    /// Print a JSON schema of the file for --config, for editors, and exit
    #[arg(long, help_heading = "Process")]
    pub print_schema: bool,

    /// Check the arguments and the files and names in them, and exit; nothing is opened
    #[arg(long, help_heading = "Process")]
    pub check: bool,

    /// Run in the background; as root, change to user daemon
    #[arg(short, long, help_heading = "Process")]
    pub daemon: bool,

    /// Bind worker threads to these processors, the first one to the first, and so on in turns: numbers and ranges separated
    /// by commas, such as 0-3,6 (cpu-affinity in [process] of a file)
    #[arg(long, value_name = "LIST", value_parser = parse_cpus, help_heading = "Process")]
    pub cpus: Option<CpuList>,

    /// Worker threads [default: the number of processors, or of those in --cpus]
    #[arg(short, long, value_name = "N", value_parser = parse_threads, help_heading = "Process")]
    pub threads: Option<usize>,

    /// Change to this user (and group) once the sockets are open
    #[arg(long, value_name = "NAME[:GROUP]", help_heading = "Process")]
    pub user: Option<String>,

    /// Write the process id to this file, and remove it at the end
    #[arg(long, value_name = "PATH", value_parser = parse_path, help_heading = "Process")]
    pub pidfile: Option<PathBuf>,

    /// Keep what is changed at run time in this file, for the next start
    #[arg(long, value_name = "FILE", value_parser = parse_path, help_heading = "Process")]
    pub state: Option<PathBuf>,

    /// Reset what is still connected so long after SIGUSR1 or SIGUSR2, in seconds; 0 is never
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        help_heading = "Process")]
    pub drain_timeout: Duration,

    /// Where log lines go: stderr, syslog[:FACILITY], or a file's PATH, which SIGHUP opens anew [default: stderr, or syslog
    /// with --daemon]
    #[arg(long, value_name = "WHERE", value_parser = parse_log, help_heading = "Process")]
    pub log: Option<LogTarget>,

    /// How log lines are written: text, or fields as logfmt or as a JSON object a line, escaped
    #[arg(long, value_name = "FORMAT", default_value = "text", value_parser = parse_log_format, help_heading = "Process")]
    pub log_format: LogFormat,

    /// Log what has become of each connection when it ends: off, text or json; see `connlog` of the control port
    #[arg(long, value_name = "FORM", default_value = "off", help_heading = "Process")]
    pub connection_log: Style,

    /// Most lines of the connection log in a second, for each service; it counts what it leaves out
    #[arg(long, value_name = "N", default_value = "10000", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Process")]
    pub connection_log_rate: u32,

    /// The file for the connection log, which may be renamed or removed at any time [default: the log]
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub connection_log_file: Option<PathBuf>,

    /// Log what happens to single connections
    #[arg(short, long, help_heading = "Process")]
    pub verbose: bool,

    /// Check destinations, and use only those that are fit. SPEC is galera[:OPTIONS], tcp[:PORT][;STEPS],
    /// http[s]:[PORT][/PATH][;WHAT] or exec:COMMAND. OPTIONS, separated by commas, are defaults-file=PATH,
    /// donor=ready|spare|avoid|down, read-only=ok, port=N, tls=off|prefer|require|verify-ca, max-recv-queue=N,
    /// require-galera=yes|no and login=N. STEPS, separated by semicolons, are send=TEXT, send-hex=DIGITS, expect=TEXT,
    /// expect-line=TEXT, expect-hex=DIGITS and expect-regex=REGEX. WHAT, separated by semicolons, are method=NAME,
    /// version=1.0|1.1, host=NAME, header=NAME: VALUE, body=TEXT, ready=N,N-N..., spare=N..., avoid=N..., expect=TEXT,
    /// expect-regex=REGEX, expect-header=NAME: TEXT, and the opposite of these: expect-not=TEXT, expect-not-regex=REGEX and
    /// expect-not-header=NAME: TEXT. Both take tls=yes, ca=FILE, sni=NAME, verify-host=NAME, cert=FILE, key=FILE and
    /// alpn=NAME,NAME... A TEXT may have \r, \n, \xHH and \;
    #[arg(short, long, value_name = "SPEC", value_parser = ProbeSpec::parse, help_heading = "Health")]
    pub watchdog: Option<ProbeSpec>,

    /// Seconds between destination checks; also, a destination that failed is avoided for this and one second more
    // Prefixes that GLB understood, and that --interface has as well.
    #[arg(short, long, aliases = ["i", "in", "int", "inte", "inter"], value_name = "SECS", default_value = "1.0",
        value_parser = parse_seconds,
        help_heading = "Health")]
    pub interval: Duration,

    /// The same for a destination that is DOWN [default: as otherwise]
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, help_heading = "Health")]
    pub down_interval: Option<Duration>,

    /// How long a check may take, in seconds [default: the interval, at least 1]
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, help_heading = "Health")]
    pub timeout: Option<Duration>,

    /// Checks in a row that bring a destination back
    /// [default: 2]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Health")]
    pub rise: Option<u32>,

    /// Checks in a row that take a destination out; its first check counts at once
    /// [default: 3]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000),
        help_heading = "Health")]
    pub fall: Option<u32>,

    /// Let the weight of a destination that came back grow for so long, in seconds
    #[arg(long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        help_heading = "Health")]
    pub slow_start: Duration,

    /// When to close the connections to a destination that is DOWN: always, elsewhere (once another destination is
    /// READY) or never [default: elsewhere]
    #[arg(long, value_name = "WHEN", value_parser = parse_shutdown_sessions, help_heading = "Health")]
    pub shutdown_sessions: Option<ShutdownSessions>,

    /// The same as --shutdown-sessions never
    #[arg(long, help_heading = "Health")]
    pub keep_sessions: bool,

    /// Close the connections to backups once a destination that is none, or has a lower number, is READY again
    #[arg(long, help_heading = "Health")]
    pub shutdown_backup_sessions: bool,

    /// Check a destination at connect time when the last check is older than this, in seconds; 0 is never
    #[arg(short = 'x', long, value_name = "SECS", default_value = "0", value_parser = parse_seconds_or_zero,
        hide_default_value = true, help_heading = "Health")]
    pub extra: Duration,

    /// Begin each check with a PROXY header of this version, 1 or 2, which names no client
    #[arg(long, value_name = "VERSION", value_parser = parse_proxy_version, help_heading = "Health")]
    pub check_send_proxy: Option<ProxyVersion>,

    /// Ask an agent as well, as HAProxy does, at this port of each destination's host, or at one address for all of them: it
    /// answers up, down, drain, maint, ready, a weight such as 50%, or maxconn:N (without --watchdog, destinations are
    /// checked by tcp)
    #[arg(long, value_name = "[HOST:]PORT", value_parser = AgentPlace::parse, help_heading = "Health")]
    pub agent: Option<AgentPlace>,

    /// Seconds between two questions to the agent [default: the interval]
    #[arg(long, value_name = "SECS", value_parser = parse_seconds, help_heading = "Health")]
    pub agent_interval: Option<Duration>,

    /// Send this to the agent first; \n is the end of a line, and {destination} the destination's address
    #[arg(long, value_name = "TEXT", value_parser = parse_text_to_send, help_heading = "Health")]
    pub agent_send: Option<Text>,

    /// Add the cluster's members that the checks report
    #[arg(short = 'D', long, help_heading = "Health")]
    pub discover: bool,

    /// Scale weights by how fast checks are answered, averaged over N of them; 0 is not
    #[arg(short = 'L', long, value_name = "N", default_value = "0", hide_default_value = true,
        value_parser = clap::value_parser!(u32).range(..=1_000_000), help_heading = "Health")]
    pub latency: u32,

    /// Resolve host names again after so long, in seconds, at least 0.1; 0 is never
    #[arg(long, value_name = "SECS", default_value = "60", value_parser = parse_resolve, help_heading = "Names")]
    pub resolve: Duration,

    /// Take all addresses of a name as destinations, whichever it has over time
    #[arg(long, help_heading = "Names")]
    pub resolve_all: bool,

    /// Which addresses of a name are preferred where it has both kinds: ipv4 or ipv6
    #[arg(long, value_name = "KIND", default_value = "ipv4", value_parser = ["ipv4", "ipv6"], help_heading = "Names")]
    pub prefer: String,

    /// Do not start while a name does not resolve
    #[arg(long, help_heading = "Names")]
    pub strict_names: bool,
}

impl Options {
    /// The destinations, the backups behind the others, which are at `port` where they do not say, if there is one; one
    /// argument may hold several, as an init script's quoted variable does.
    ///
    /// # Errors
    /// One line that names the first that is none.
    pub fn parse_destinations(&self, port: Option<u16>) -> Result<Vec<DestinationSpec>, String> {
        let has_port = self.listen.as_ref().is_some_and(|listen| listen.ports().next().is_some());
        let ports = if has_port { "several" } else { "none" };
        let lacks_port = |text: &str| port.is_none() && parse_destination(text, Some(1)).is_ok();
        let parse = |text: &str| match parse_destination(text, port) {
            Ok(spec) if spec.weight < 0.0 => Err(format!("destination '{text}': the weight is below zero")),
            Ok(spec) => Ok(spec),
            Err(_) if lacks_port(text) => Err(format!(
                "destination '{text}' lacks a port, and the service listens at {ports}: write '{text}:PORT'"
            )),
            Err(error) if text.contains(',') => Err(format!("destination '{text}': {error}; blanks separate several")),
            Err(error) => Err(format!("destination '{text}': {error}")),
        };
        let others = self.destinations.iter().flat_map(|argument| argument.split_whitespace());
        others.chain(self.backups.iter().map(|backup| split_backup(backup).1)).map(parse).collect()
    }

    /// The number of each backup, in their order.
    pub fn backup_numbers(&self) -> impl Iterator<Item = u8> {
        self.backups.iter().map(|backup| split_backup(backup).0.and_then(|number| number.parse().ok()).unwrap_or(1))
    }
}

/// The highest number of a backup.
const MOST_BACKUPS: u8 = 16;

/// Bytes in a type of their own: clap would take a list for several values.
#[derive(Debug, Clone)]
pub(super) struct Text(pub Vec<u8>);

fn parse_text_to_send(text: &str) -> Result<Text, String> {
    parse_send(text).map(Text)
}

/// Those that a program may use which is not the system's own.
pub(super) const FACILITIES: [(&str, i32); 13] = [
    ("user", libc::LOG_USER),
    ("mail", libc::LOG_MAIL),
    ("daemon", libc::LOG_DAEMON),
    ("auth", libc::LOG_AUTH),
    ("authpriv", libc::LOG_AUTHPRIV),
    ("local0", libc::LOG_LOCAL0),
    ("local1", libc::LOG_LOCAL1),
    ("local2", libc::LOG_LOCAL2),
    ("local3", libc::LOG_LOCAL3),
    ("local4", libc::LOG_LOCAL4),
    ("local5", libc::LOG_LOCAL5),
    ("local6", libc::LOG_LOCAL6),
    ("local7", libc::LOG_LOCAL7),
];

fn parse_seconds_or_zero(text: &str) -> Result<Duration, String> {
    let decimal = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = text.parse::<f64>().ok().filter(|seconds| decimal && *seconds <= 1e9);
    let duration = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    duration.ok_or_else(|| "not a number of seconds (0 to 1000000000, such as 2.5)".to_owned())
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    match parse_seconds_or_zero(text)? {
        Duration::ZERO => Err("must be more than 0".to_owned()),
        duration => Ok(duration),
    }
}

fn parse_resolve(text: &str) -> Result<Duration, String> {
    match parse_seconds_or_zero(text)? {
        short if !short.is_zero() && short < LEAST_RESOLVE => Err("must be 0, or at least 0.1".to_owned()),
        duration => Ok(duration),
    }
}

/// Splits `[NUMBER@]DESTINATION`. The name of a UNIX socket may contain an `@` as well.
pub(super) fn split_backup(text: &str) -> (Option<&str>, &str) {
    let numbered = text.split_once('@').filter(|(number, _)| !number.contains(':'));
    numbered.map_or((None, text), |(number, destination)| (Some(number), destination))
}

/// The port that it may lack is the service's.
fn parse_backup(text: &str) -> Result<String, String> {
    let (number, destination) = split_backup(text);
    if let Some(number) = number.filter(|number| !matches!(number.parse::<u8>(), Ok(1..=MOST_BACKUPS))) {
        return Err(format!("'{number}' is not a number from 1 to {MOST_BACKUPS}"));
    }
    match parse_destination(destination, Some(1)) {
        Ok(spec) if spec.weight < 0.0 => Err("the weight is below zero".to_owned()),
        Ok(_) => Ok(text.to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

/// Where connections to destinations come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectFrom {
    /// The client's own address.
    Client,
    /// One of this machine's.
    Address(IpAddr),
}

impl ConnectFrom {
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self {
            ConnectFrom::Client => None,
            ConnectFrom::Address(address) => Some(*address),
        }
    }
}

fn parse_local_address(text: &str) -> Result<ConnectFrom, String> {
    match text.parse::<IpAddr>().map(|address| address.to_canonical()) {
        _ if text == "client" => Ok(ConnectFrom::Client),
        Ok(address) if address.is_unspecified() || address.is_multicast() => {
            Err("not an address of a machine".to_owned())
        }
        Ok(address) => Ok(ConnectFrom::Address(address)),
        Err(_) => Err("not an IP address".to_owned()),
    }
}

fn parse_log(text: &str) -> Result<LogTarget, String> {
    match text.split_once(':').unwrap_or((text, "daemon")) {
        _ if text == "stderr" => Ok(LogTarget::Stderr),
        // A word that was mistyped is not to be the name of a file.
        _ if text.contains('/') => parse_path(text).map(LogTarget::File),
        ("syslog", facility) => match FACILITIES.iter().find(|(name, _)| *name == facility) {
            Some((_, facility)) => Ok(LogTarget::Syslog(*facility)),
            None => Err(format!("there is no facility '{facility}'")),
        },
        _ => Err("neither stderr nor syslog[:FACILITY], nor a path, which has a '/'".to_owned()),
    }
}

fn parse_log_format(text: &str) -> Result<LogFormat, String> {
    text.parse()
}

fn parse_number(text: &str, most: usize) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (1..=most).contains(number));
    number.ok_or_else(|| format!("not a number from 1 to {most}"))
}

fn parse_count(text: &str) -> Result<usize, String> {
    parse_number(text, 100_000_000)
}

fn parse_count_or_zero(text: &str) -> Result<usize, String> {
    if text == "0" { Ok(0) } else { parse_count(text) }
}

fn parse_threads(text: &str) -> Result<usize, String> {
    parse_number(text, 1024)
}

fn parse_shutdown_sessions(text: &str) -> Result<ShutdownSessions, String> {
    match text {
        "always" => Ok(ShutdownSessions::Always),
        "elsewhere" => Ok(ShutdownSessions::Elsewhere),
        "never" => Ok(ShutdownSessions::Never),
        _ => Err("not one of always, elsewhere, never".to_owned()),
    }
}

fn parse_mode(text: &str) -> Result<u32, String> {
    let octal = (3..=4).contains(&text.len()) && text.bytes().all(|byte| (b'0'..=b'7').contains(&byte));
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| octal && *mode <= 0o777);
    mode.ok_or_else(|| "not a mode, such as 0660".to_owned())
}

fn parse_greeting(text: &str) -> Result<Greeting, String> {
    match text {
        "mysql" => Ok(Greeting::Mysql),
        "none" => Ok(Greeting::None),
        _ => Err("neither mysql nor none".to_owned()),
    }
}

fn parse_interface(text: &str) -> Result<String, String> {
    /// IFNAMSIZ of Linux, less the zero at the end.
    const LONGEST: usize = 15;
    let possible = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    match (1..=LONGEST).contains(&text.len()) && possible && text != "." && text != ".." {
        true => Ok(text.to_owned()),
        false => Err("not the name of a network interface".to_owned()),
    }
}

fn parse_path(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() { Err("the path is empty".to_owned()) } else { Ok(PathBuf::from(text)) }
}
