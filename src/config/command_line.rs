//! From the command line, or a configuration file, to a [`Config`].

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};

use super::file::{self, Complaint, Part};
use super::keys::{KEYS, Section};
use super::options::{ConnectFrom, Options};
use super::print::{Printed, Printer};
use super::{
    AgentOptions, Config, ConnectionOptions, ControlAddress, Greeting, KeepaliveProbes, LimitOptions, LogTarget, MAIN,
    Name, PolicyKind, PoolConfig, ProbeSpec, Ramp, Refused, ServiceConfig, ShutdownSessions, TcpOptions,
    WatchdogOptions, schema,
};
use crate::address::{DestinationSpec, ListenAddresses};
use crate::process::socket_file::SocketAccess;

/// Of a UNIX socket's file: every user of this machine may connect, as to a port.
const DEFAULT_SOCKET_MODE: u32 = 0o666;
/// A probe may take as long as the interval between two, but for very short ones.
const LEAST_DEFAULT_TIMEOUT: Duration = Duration::from_secs(1);

/// The words of this process's own command line, the program's name first.
///
/// # Errors
/// One line that shows the word that is not UTF-8: what is read from it may be a path, which has to be the same one when
/// the configuration is printed, read again or handed to another process.
pub fn own_arguments() -> Result<Vec<String>, String> {
    let text = |(place, word): (usize, OsString)| match word.into_string() {
        Err(word) if place > 0 => Err(format!("'{}' is not UTF-8", word.display())),
        text => Ok(text.unwrap_or_else(|name| name.to_string_lossy().into_owned())),
    };
    std::env::args_os().enumerate().map(text).collect()
}

impl Config {
    /// Reads a command line, the program's name first. getopt_long's habits hold: options may follow the destinations,
    /// short ones join, long ones shorten while unambiguous, and of several values the last one counts. Policies that
    /// contradict each other are refused.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn from_command_line(arguments: impl IntoIterator<Item = String>) -> Result<Config, Refused> {
        let (matches, options) = parse(arguments)?;
        if options.print_schema {
            return Err(Refused::Show(schema::schema()));
        }
        let prints = matches.get_flag("print_config");
        let config = match options.config.clone() {
            Some(path) => Config::from_file(path, &matches)?,
            None => {
                let (config, mut printer) = (Config::from_options(options).map_err(first_of)?, Printer::default());
                printer.add(&config.services[0], &matches);
                Config { printed: printer.finish(&config.pools), ..config }
            }
        };
        if prints { Err(Refused::Show(config.printed.to_string())) } else { Ok(config) }
    }

    /// Reads the configuration file again that this one was read from, with what the command line said beside it.
    ///
    /// # Errors
    /// [`Refused`].
    pub fn reread(arguments: impl IntoIterator<Item = String>, directory: &Path) -> Result<Config, Refused> {
        let (matches, options) = parse(arguments)?;
        let Some(path) = options.config else {
            return Err(Refused::Wrong("there is no configuration file to read again".to_owned()));
        };
        let path = directory.join(path);
        // Opening a pipe waits for someone who writes, and nothing can interrupt that; its contents have been read.
        if std::fs::metadata(&path).is_ok_and(|it| !it.is_file()) {
            let reason = format!("{}: it is no ordinary file, and cannot be read again", path.display());
            return Err(Refused::WrongFile(vec![reason]));
        }
        Config::from_file(path, &matches)
    }

    /// Reads a configuration file, and what the command line says beside it.
    fn from_file(path: PathBuf, beside: &ArgMatches) -> Result<Config, Refused> {
        let beside = options_beside_file(beside).map_err(Refused::Wrong)?;
        let told = |reason: String| format!("{}:{reason}", path.display());
        let text = read_file(&path).map_err(|reason| Refused::WrongFile(vec![told(format!(" {reason}"))]))?;
        let read = Config::from_text(&text, &beside).map_err(|refused| match refused {
            Refused::WrongFile(reasons) => Refused::WrongFile(reasons.into_iter().map(told).collect()),
            other => other,
        });
        let (config, printed) = read?;
        Ok(Config { file: Some(path.clone()), printed, ..config })
    }

    /// Reads what a configuration file says, with these options beside it. Returns it as it is printed as well.
    ///
    /// # Errors
    /// [`Refused`]; all that is wrong with the file, without its name.
    pub(super) fn from_text(text: &str, beside: &[String]) -> Result<(Config, Printed), Refused> {
        let wrong =
            |complaints: Vec<Complaint>| Refused::WrongFile(complaints.iter().map(ToString::to_string).collect());
        let contents = file::read(text).map_err(wrong)?;
        let (mut config, mut printer): (Option<Config>, _) = (None, Printer::default());
        let mut complaints = Vec::new();
        for part in contents.parts() {
            let (matches, options) = parse(part.command_line(beside))?;
            match Config::from_options(options) {
                Ok(one) => {
                    let whole = Config::join(config, one, &part);
                    whole.services.last().into_iter().for_each(|it| printer.add(it, &matches));
                    config = Some(whole);
                }
                Err(reasons) => {
                    for reason in reasons {
                        match part.locate(text, &reason) {
                            Some(complaint) if complaints.contains(&complaint) => {}
                            Some(complaint) => complaints.push(complaint),
                            None => return Err(Refused::Wrong(reason)),
                        }
                    }
                }
            }
        }
        config.iter_mut().for_each(|config| config.pools.sort_by_key(|pool| contents.place_of(&pool.name)));
        match config {
            Some(config) if complaints.is_empty() => {
                let printed = printer.finish(&config.pools);
                Ok((config, printed))
            }
            _ => Err(wrong(file::in_order(complaints))),
        }
    }

    /// A part of a file joins those before it.
    fn join(before: Option<Config>, mut one: Config, part: &Part) -> Config {
        let (service, pool): (Name, Name) = (part.service.into(), part.pool.into());
        for it in &mut one.services {
            (it.name, it.pool, it.avoid) = (Name::clone(&service), Name::clone(&pool), part.avoid.map(Name::from));
        }
        one.pools.iter_mut().for_each(|it| it.name = Name::clone(&pool));
        let Some(mut whole) = before else { return one };
        whole.services.append(&mut one.services);
        if whole.pools.iter().all(|it| it.name != pool) {
            whole.pools.append(&mut one.pools);
        }
        whole
    }

    fn from_options(options: Options) -> Result<Config, Vec<String>> {
        let listen = options.listen.clone().ok_or_else(|| vec!["there is no LISTEN_ADDRESS".to_owned()])?;
        let destinations = options.parse_destinations(listen.only_port()).map_err(|reason| vec![reason])?;
        let misfits = options.misfits();
        if misfits.is_empty() { Ok(Config::of(options, listen, destinations)) } else { Err(misfits) }
    }

    fn of(options: Options, listen: ListenAddresses, destinations: Vec<DestinationSpec>) -> Config {
        // A server that is checked as MySQL is one.
        let greeting = options.greeting.unwrap_or(match options.watchdog {
            Some(ProbeSpec::Galera(_)) => Greeting::Mysql,
            _ => Greeting::None,
        });
        // An agent says nothing of whether its destination accepts connections.
        let default_probe = options.agent.as_ref().map(|_| ProbeSpec::Tcp(TcpOptions::default()));
        let probe = options.watchdog.clone().or(default_probe);
        let unless_zero = |duration: Duration| Some(duration).filter(|duration| !duration.is_zero());
        let backups = destinations[destinations.len() - options.backups.len()..].iter();
        let pool = PoolConfig {
            name: MAIN.into(),
            backups: backups.map(|spec| spec.endpoint.clone()).zip(options.backup_numbers()).collect(),
            max_connections: options.destination_max_connections,
            ramp: options
                .destination_min_connections
                .zip(options.full_connections)
                .map(|(least, full)| Ramp { least, full }),
            max_queue: options.max_queue,
            destinations,
            interval: options.interval,
            recheck_after: unless_zero(options.extra),
            resolve: unless_zero(options.resolve),
            resolve_all: options.resolve_all,
            watchdog: probe.map(|probe| WatchdogOptions {
                probe,
                interval: options.interval,
                down_interval: options.down_interval,
                timeout: options.timeout.unwrap_or(options.interval.max(LEAST_DEFAULT_TIMEOUT)),
                rise: options.rise.unwrap_or(2),
                fall: options.fall.unwrap_or(3),
                slow_start: options.slow_start,
                shutdown_sessions: match options.keep_sessions {
                    true => ShutdownSessions::Never,
                    false => options.shutdown_sessions.unwrap_or(ShutdownSessions::Elsewhere),
                },
                shutdown_backup_sessions: options.shutdown_backup_sessions,
                discover: options.discover,
                latency_samples: Some(options.latency).filter(|samples| *samples > 0),
                send_proxy: options.check_send_proxy,
                agent: options.agent.map(|place| AgentOptions {
                    place,
                    interval: options.agent_interval.unwrap_or(options.interval),
                    send: options.agent_send.map(|text| text.0).unwrap_or_default(),
                }),
            }),
        };
        let service = ServiceConfig {
            name: MAIN.into(),
            pool: MAIN.into(),
            listen,
            policy: match () {
                () if options.round => PolicyKind::RoundRobin,
                () if options.random => PolicyKind::Random,
                () if options.first => PolicyKind::First,
                () if options.source => PolicyKind::Source,
                () if options.single => PolicyKind::Single,
                () => PolicyKind::LeastConnected,
            },
            top: options.top || options.single,
            avoid: None,
            connections: ConnectionOptions {
                connect_timeout: options.connect_timeout,
                wait: unless_zero(options.wait),
                queue_timeout: options.queue_timeout.unwrap_or(options.connect_timeout),
                client_idle_timeout: unless_zero(options.client_idle_timeout),
                server_idle_timeout: unless_zero(options.server_idle_timeout),
                most_attempts: options.retries as usize + 1,
                connect_as_client: options.connect_from.contains(&ConnectFrom::Client),
                connect_from: options.connect_from.iter().filter_map(ConnectFrom::address).collect(),
                half_close_timeout: unless_zero(options.half_close_timeout),
                tcp_user_timeout: unless_zero(options.tcp_user_timeout),
                keepalive_probes: KeepaliveProbes {
                    time: unless_zero(Duration::from_secs(options.keepalive_time.into())),
                    interval: unless_zero(Duration::from_secs(options.keepalive_interval.into())),
                    count: Some(options.keepalive_count).filter(|count| *count > 0),
                },
                defer_accept: options.defer_accept,
                backlog: options.backlog,
                transparent: options.transparent,
                interface: options.interface,
                socket_access: SocketAccess {
                    owner: options.socket_owner,
                    group: options.socket_group,
                    mode: options.socket_mode.unwrap_or(DEFAULT_SOCKET_MODE),
                },
                reset_on_close: options.linger,
                nodelay: !options.nodelay,
                keepalive: !options.keepalive,
                synchronous: options.synchronous,
                greeting,
                suspect_after: options.interval.min(options.connect_timeout),
                send_proxy: options.send_proxy,
                proxy_v2_options: options.proxy_v2_options,
                accept_proxy: options.accept_proxy,
                log: options.connection_log,
                log_rate: options.connection_log_rate,
            },
            limits: LimitOptions {
                allow: options.allow,
                deny: options.deny,
                max_connections: options.service_max_connections,
                max_connections_per_source: options.max_connections_per_source,
                connection_rate: options.connection_rate,
                connection_rate_per_source: options.connection_rate_per_source,
                over_limit: options.over_limit.unwrap_or_default(),
            },
        };
        let cpus = options.cpus.unwrap_or_default();
        Config {
            pools: vec![pool],
            services: vec![service],
            file: None,
            printed: Printed::default(),
            threads: options.threads.unwrap_or_else(|| match cpus.numbers() {
                [] => std::thread::available_parallelism().map_or(1, usize::from),
                numbers => numbers.len(),
            }),
            cpus,
            max_connections: options.max_connections,
            connection_rate: options.process_connection_rate,
            control: each_once(options.control),
            fifo: options.fifo,
            http: options.http,
            http_hosts: options.http_host,
            http_admin: options.http_admin,
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
            log_format: options.log_format,
            verbose: options.verbose,
            connection_log: options.connection_log_file,
            prefer_ipv6: options.prefer == "ipv6",
            strict_names: options.strict_names,
        }
    }
}

fn each_once(mut addresses: Vec<ControlAddress>) -> Vec<ControlAddress> {
    let given = std::mem::take(&mut addresses);
    given.into_iter().for_each(|it| {
        if !addresses.contains(&it) {
            addresses.push(it)
        }
    });
    addresses
}

/// The definition of the command line, from which its manual page and the shells' completions are made.
pub fn command() -> Command {
    Options::command()
}

/// Reads the words of a command line.
pub(super) fn parse(words: impl IntoIterator<Item = String>) -> Result<(ArgMatches, Options), Refused> {
    let matches = Options::command().try_get_matches_from(words);
    let parsed = matches.and_then(|matches| Ok((Options::from_arg_matches(&matches)?, matches)));
    let (options, matches) = parsed.map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Refused::Show(error.render().to_string()),
        _ => Refused::Wrong(in_one_line(&error.render().to_string())),
    })?;
    Ok((matches, options))
}

/// What the command line says beside a configuration file, once more.
///
/// # Errors
/// One line that names what has to stand in the file.
fn options_beside_file(matches: &ArgMatches) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    for id in matches.ids().map(clap::Id::as_str) {
        if matches.value_source(id) != Some(ValueSource::CommandLine) || id == "config" || id == "Options" {
            continue;
        }
        let key = KEYS.iter().find(|key| key.id() == id);
        let option = key.map_or_else(|| id.replace('_', "-"), |key| key.option().to_owned());
        let stands_beside =
            ["check", "print_config"].contains(&id) || key.is_some_and(|key| key.section == Section::Process);
        let raw = || matches.get_raw(id).into_iter().flatten().map(|it| it.to_string_lossy().into_owned());
        match matches.try_get_one::<bool>(id) {
            _ if ["listen", "destinations"].contains(&id) => {
                return Err(format!(
                    "'{}': with --config, the addresses stand in the file",
                    raw().next().unwrap_or_default()
                ));
            }
            _ if !stands_beside => return Err(format!("--{option}: with --config, it stands in the file")),
            Ok(_) => words.push(format!("--{option}")),
            Err(_) => words.extend(raw().map(|value| format!("--{option}={value}"))),
        }
    }
    Ok(words)
}

/// A command line is refused for one thing at a time.
fn first_of(reasons: Vec<String>) -> Refused {
    Refused::Wrong(reasons.into_iter().next().unwrap_or_default())
}

/// More than any file that a person writes.
const LARGEST_FILE: u64 = 1 << 20;

fn read_file(path: &Path) -> Result<String, String> {
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(|error| error.to_string())?;
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(format!("it has more than {LARGEST_FILE} bytes"));
    }
    String::from_utf8(bytes).map_err(|error| format!("byte {} is not UTF-8", error.utf8_error().valid_up_to() + 1))
}

/// clap's message without its advice, which takes several lines.
pub(super) fn in_one_line(message: &str) -> String {
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
            assert_eq!(config.services[0].connections.greeting, greeting, "{arguments:?}");
        }
    }
}
