//! The command line of glbctl. Uses nothing of the rest of the program: the manual page is made from it as well.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Behind the options, in `--help` and in the manual page.
pub const NOTES: &str = "\
Exit status:
  0  done, and everything is as asked for
  1  the daemon has refused it (the reason is on stderr), or has undone it meanwhile
  2  the command line is wrong
  3  no daemon can be reached, or it has not done it in time
  health has those of monitoring plugins: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN
Environment:
  GLB_CONTROL  where the daemon takes commands, unless -c says so
  NO_COLOR     no colours, if it is not empty";

/// Shows what glbd does, and steers it, over its control socket.
#[derive(Parser, Debug)]
#[command(name = "glbctl", version, after_help = NOTES, max_term_width = 110, arg_required_else_help = true)]
pub struct Arguments {
    /// Where the daemon takes commands: HOST:PORT, PORT or unix:PATH. Without it, the socket /run/glbd/glbd.sock if it is
    /// there, or else 127.0.0.1:8011. top takes several
    #[arg(short, long, value_name = "ADDR", global = true)]
    pub control: Vec<ControlAddress>,

    /// Write JSON, for programs: as the daemon has sent it, where it comes from there
    #[arg(long, global = true)]
    pub json: bool,

    /// Only this pool
    #[arg(long, value_name = "POOL", global = true, value_parser = parse_word)]
    pub pool: Option<String>,

    /// Only this service
    #[arg(long, value_name = "SERVICE", global = true, value_parser = parse_word)]
    pub service: Option<String>,

    /// The most time that the command may take. Without it 10 s, for reload and check 60 s, for writer 10 s more than its
    /// grace, and with --wait 10 minutes
    #[arg(long, value_name = "SECS", global = true, value_parser = parse_seconds)]
    pub timeout: Option<Duration>,

    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Show services, pools and destinations
    Status,
    /// Show everything about the destinations
    Destinations,
    /// Show what has changed, when, why and by whom
    Events(Events),
    /// Show how often and how long a destination was DOWN, and why
    History {
        /// HOST:PORT. Without it, the last 24 hours of all of them
        #[arg(value_name = "DESTINATION", value_parser = parse_word)]
        destination: Option<String>,
    },
    /// Add a destination, or change its weight
    Add(Change),
    /// Give a destination no new connections; those that are open go on
    Drain(Change),
    /// Give a drained destination the weight back that it had
    Enable(Change),
    /// Remove a destination, and close its connections
    Remove(Change),
    /// Change the weight of a destination that is there
    Weight {
        #[command(flatten)]
        change: Change,
        /// 0 or more
        #[arg(value_name = "WEIGHT", value_parser = parse_word)]
        weight: String,
    },
    /// Move the single destination here, so that no two have clients in the same moment
    Writer {
        /// HOST:PORT
        #[arg(value_name = "DESTINATION", value_parser = parse_word)]
        destination: String,
        /// How long sessions on the former may take to end by themselves
        #[arg(long, value_name = "SECS", value_parser = parse_grace)]
        grace: Option<Duration>,
    },
    /// Have the daemon read its configuration file again
    Reload,
    /// Check a configuration file, by glbd --check
    Check {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Show connections
    Conns(Conns),
    /// Show clients, those with the most connections first
    Clients {
        /// Only so many
        #[arg(long, value_name = "N")]
        limit: Option<usize>,
    },
    /// Close connections
    Kick {
        /// The ID of one, or client=NETWORK, client=unix:PATH, dest=[POOL/]HOST:PORT (without a pool, in all), older=SECS, idle=SECS
        #[arg(value_name = "WHICH", value_parser = parse_word, required = true)]
        which: Vec<String>,
        /// Only so many a second
        #[arg(long, value_name = "N")]
        pace: Option<u32>,
    },
    /// Show what the daemon has done since its start
    Stats,
    /// Say whether all is well, as monitoring plugins do
    Health(Health),
    /// Show everything as it happens, and change it by key
    Top {
        /// Seconds between two looks
        #[arg(long, value_name = "SECS", default_value = "1", value_parser = parse_interval)]
        interval: Duration,
    },
}

/// Which events.
#[derive(Args, Debug)]
pub struct Events {
    /// Since a time (2026-11-27T08:00:00Z), for so long (90m), or after the event of this number
    #[arg(long, value_name = "WHEN", value_parser = parse_word)]
    pub since: Option<String>,
    /// Only this kind: table, verdict, writer, configuration or process; with --follow also clients
    #[arg(long, value_name = "KIND", value_parser = parse_word)]
    pub kind: Option<String>,
    /// The last N of them
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Go on with those to come
    #[arg(short, long)]
    pub follow: bool,
}

/// A change of a destination.
#[derive(Args, Debug)]
pub struct Change {
    /// HOST:PORT, or unix:PATH; for add, a weight may follow: HOST:PORT:WEIGHT
    #[arg(value_name = "DESTINATION", value_parser = parse_word)]
    pub destination: String,
    /// Return once it is so: drained until it has no connections, removed until it is gone, otherwise until it is
    /// READY or SPARE
    #[arg(long)]
    pub wait: bool,
}

/// Which connections.
#[derive(Args, Debug)]
pub struct Conns {
    /// Of this client or network, or of the UNIX socket unix:PATH
    #[arg(long, value_name = "NETWORK", value_parser = parse_word)]
    pub client: Option<String>,
    /// To this destination
    #[arg(long, value_name = "DESTINATION", value_parser = parse_word)]
    pub dest: Option<String>,
    /// Open for longer than this
    #[arg(long, value_name = "SECS", value_parser = parse_word)]
    pub older: Option<String>,
    /// Idle for longer than this
    #[arg(long, value_name = "SECS", value_parser = parse_word)]
    pub idle: Option<String>,
    /// Those with the most bytes, age or idle time first
    #[arg(long, value_name = "BY", value_parser = ["bytes", "age", "idle"])]
    pub sort: Option<String>,
    /// Only so many
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
}

/// When to warn.
#[derive(Args, Debug)]
pub struct Health {
    /// WARNING from so many destinations on that are unfit
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub warning: usize,
    /// CRITICAL from so many on. It always is when a service has no destination for its clients, or is full, or the daemon
    /// cannot be reached
    #[arg(long, value_name = "N", default_value_t = 2)]
    pub critical: usize,
}

/// Where a daemon takes commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlAddress {
    /// Over TCP: a host and a port.
    Tcp(String, u16),
    /// At a socket file.
    Unix(PathBuf),
}

impl FromStr for ControlAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<ControlAddress, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            return match path.starts_with('/') || path.len() > 1 && path.starts_with('@') {
                true => Ok(ControlAddress::Unix(path.into())),
                false => Err("the path of a UNIX socket must be absolute, or '@' and a name".into()),
            };
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port),
            None => ("127.0.0.1", text),
        };
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or("expected HOST:PORT, PORT or unix:PATH")?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if bare.is_none() && host.contains(':') {
            return Err("an IPv6 address must stand in brackets".into());
        }
        let host = bare.unwrap_or(host);
        if host.is_empty() || host.contains(|c: char| c.is_control() || c.is_whitespace()) {
            return Err("expected HOST:PORT, PORT or unix:PATH".into());
        }
        Ok(ControlAddress::Tcp(host.to_owned(), port))
    }
}

impl fmt::Display for ControlAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlAddress::Tcp(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            ControlAddress::Tcp(host, port) => write!(f, "{host}:{port}"),
            ControlAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What becomes a word of a command must not become two, nor another command.
fn parse_word(text: &str) -> Result<String, String> {
    let is_odd = |c: char| c.is_control() || c.is_whitespace();
    match text {
        "" => Err("it is empty".into()),
        _ if text.len() > 1000 => Err("it is longer than 1000 bytes".into()),
        _ if text.contains(is_odd) => Err("it contains blanks or control characters".into()),
        _ => Ok(text.to_owned()),
    }
}

fn seconds(text: &str, least: f64, most: f64) -> Result<Duration, String> {
    let found = text.parse().ok().filter(|seconds: &f64| (least..=most).contains(seconds));
    found.map(Duration::from_secs_f64).ok_or_else(|| format!("expected seconds ({least} to {most})"))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    seconds(text, 0.1, 86400.0)
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    seconds(text, 0.0, 3600.0)
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    seconds(text, 0.2, 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_addresses_are_read_as_they_are_shown() {
        for (text, shown) in [
            ("8011", "127.0.0.1:8011"),
            ("db1:8011", "db1:8011"),
            ("[::1]:8011", "[::1]:8011"),
            ("unix:/run/glbd/glbd.sock", "unix:/run/glbd/glbd.sock"),
            ("unix:@glbd", "unix:@glbd"),
        ] {
            assert_eq!(text.parse::<ControlAddress>().map(|it| it.to_string()), Ok(shown.to_owned()));
        }
        for text in
            ["", "host", "host:", "host:0", ":8011", "::1:8011", "a b:1", "unix:", "unix:run", "unix:@", "70000"]
        {
            assert!(text.parse::<ControlAddress>().is_err(), "{text}");
        }
    }

    #[test]
    fn nothing_can_be_smuggled_into_a_command() {
        for text in ["", "a b", "a\nb", "a\u{1b}", "a\u{a0}b", &"a".repeat(1001)] {
            assert!(parse_word(text).is_err(), "{text:?}");
        }
        assert_eq!(parse_word("p/[::1]:3306:2"), Ok("p/[::1]:3306:2".into()));
    }
}
