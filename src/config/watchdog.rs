//! How destinations are to be watched: what `-w SPEC` and the options around it say.

mod agent;
mod galera;
mod http;
mod pattern;
mod spec;
mod tcp;
#[cfg(test)]
mod tests;
mod tls;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ProxyVersion, ShutdownSessions};
pub(super) use agent::parse_send;
pub use agent::{AgentOptions, AgentPlace, DESTINATION};
pub use galera::{GaleraOptions, TlsMode};
pub use http::{HeaderPattern, HttpContent, HttpOptions, HttpRequest};
pub use pattern::{Pattern, StatusRange, Statuses, compile, looks_ahead};
pub(super) use spec::{guard, printable};
pub(super) use tcp::step_names;
pub use tcp::{Step, TcpOptions};
pub use tls::TlsOptions;

/// How destinations are watched.
#[derive(Debug, Clone, PartialEq)]
pub struct WatchdogOptions {
    /// What is asked.
    pub probe: ProbeSpec,
    /// From the beginning of a probe to that of the next.
    pub interval: Duration,
    /// The same while a destination is DOWN; `None`: as otherwise.
    pub down_interval: Option<Duration>,
    /// How long a probe may take.
    pub timeout: Duration,
    /// Probes in a row that it takes to become better.
    pub rise: u32,
    /// Probes in a row that it takes to become worse.
    pub fall: u32,
    /// How long the weight of a destination that came back grows.
    pub slow_start: Duration,
    /// When the sessions of a destination that is DOWN are closed.
    pub shutdown_sessions: ShutdownSessions,
    /// Whether those to backups are closed once one that comes before them is READY again.
    pub shutdown_backup_sessions: bool,
    /// Whether members that the probes report are added.
    pub discover: bool,
    /// Over how many probes the latency by which weights are scaled is averaged; `None`: they are not scaled.
    pub latency_samples: Option<u32>,
    /// The PROXY header that a probe sends first, if any. It names no client.
    pub send_proxy: Option<ProxyVersion>,
    /// The agent that is asked as well, if any.
    pub agent: Option<AgentOptions>,
}

/// The names of the options of the `tcp` and the `http` check.
pub(super) fn option_names(backend: &str) -> Vec<&'static str> {
    if backend == "tcp" { tcp::option_names() } else { http::option_names() }
}

/// What to ask a destination, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeSpec {
    /// A program that answers for it, in GLB's protocol.
    Exec(String),
    /// Whether it accepts connections, and what it says then.
    Tcp(TcpOptions),
    /// What an HTTP server answers.
    Http(Box<HttpOptions>),
    /// What MySQL or MariaDB, and Galera in it, say.
    Galera(GaleraOptions),
}

impl ProbeSpec {
    /// Whether nodes without Galera do not count among nodes that have it.
    pub fn requires_galera(&self) -> bool {
        matches!(self, ProbeSpec::Galera(options) if options.require_galera)
    }

    /// How to agree on TLS, where another protocol is spoken inside it.
    pub fn tls(&self) -> Option<&TlsOptions> {
        match self {
            ProbeSpec::Tcp(options) => options.tls.as_ref(),
            ProbeSpec::Http(options) => options.tls.as_ref(),
            ProbeSpec::Exec(_) | ProbeSpec::Galera(_) => None,
        }
    }

    /// The files that it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let (tls, file) = match self {
            ProbeSpec::Tcp(options) => (options.tls.as_mut(), None),
            ProbeSpec::Http(options) => (options.tls.as_mut(), None),
            ProbeSpec::Galera(options) => (None, options.defaults_file.as_mut()),
            ProbeSpec::Exec(_) => (None, None),
        };
        tls.into_iter().flat_map(TlsOptions::paths).chain(file)
    }

    /// Reads `BACKEND[:STRING]`.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<ProbeSpec, String> {
        let (backend, argument) = text.split_once(':').unwrap_or((text, ""));
        match backend {
            "exec" if argument.trim().is_empty() => Err("exec needs a command (exec:COMMAND)".to_owned()),
            "exec" if argument.contains('\0') => Err("the command contains a NUL".to_owned()),
            "exec" => Ok(ProbeSpec::Exec(argument.trim().to_owned())),
            "tcp" => Ok(ProbeSpec::Tcp(TcpOptions::parse(argument)?)),
            "http" | "https" => Ok(ProbeSpec::Http(Box::new(HttpOptions::parse(argument, backend == "https")?))),
            "galera" | "mysql" => Ok(ProbeSpec::Galera(GaleraOptions::parse(argument)?)),
            _ => Err(format!(
                "no such backend '{backend}' (there are exec:COMMAND, tcp[:OPTIONS], http:[PORT][/PATH][;OPTIONS], https:... \
                and galera:[OPTIONS])"
            )),
        }
    }
}
