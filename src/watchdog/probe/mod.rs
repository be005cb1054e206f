//! How a destination is asked how it is: each way in a file of its own.

mod exec;
mod galera;
mod http;
mod option_file;
mod tcp;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;

use crate::config::{GaleraOptions, ProbeSpec};
use crate::table::health::Verdict;
pub use exec::{are_any_ending, mark, take_mark};
pub use option_file::Credentials;

/// What a probe found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub verdict: Verdict,
    /// Why, in words, for a log line; empty when there is nothing to say.
    pub reason: String,
    /// The addresses of the cluster's members as it reports them, not checked in any way.
    pub members: Vec<String>,
    /// Whether there is nothing at all at this address, so that it may be asked less often.
    pub absent: bool,
}

impl Answer {
    pub(super) fn new(verdict: Verdict, reason: impl Into<String>) -> Answer {
        Answer { verdict, reason: reason.into(), members: Vec::new(), absent: false }
    }
}

/// What asking once will come to. An error says, in words that stand alone in a log line, why there is no answer; the
/// destination is down then, unless the error is this machine's, such as a want of descriptors.
pub(super) type Asking<'a> = Pin<Box<dyn Future<Output = io::Result<Answer>> + 'a>>;

/// Knows how to ask one destination. Used in one thread, which is that of all other probes as well: it must not block.
pub(super) trait Probe {
    /// Asks once. It need not watch the time: what takes too long is dropped, and [`give_up`](Probe::give_up) called.
    fn ask(&mut self) -> Asking<'_>;

    /// The last [`ask`](Probe::ask) was dropped for having taken too long.
    fn give_up(&mut self) {}
}

/// Makes probes of one kind.
#[derive(Clone)]
pub struct Prober(Kind);

#[derive(Clone)]
enum Kind {
    Exec(String),
    Tcp,
    Http { port: Option<u16>, path: String },
    Galera(GaleraOptions, Credentials),
}

impl Prober {
    /// Prepares for making probes, with the rights that the program was started with: reads the option file. Where that
    /// may not be read, what a process knew that had more rights will do.
    ///
    /// # Errors
    /// One line that names the file that cannot be read, and says why.
    pub fn prepare(spec: &ProbeSpec, known: Option<Credentials>) -> Result<Prober, String> {
        Ok(Prober(match spec.clone() {
            ProbeSpec::Exec(command) => Kind::Exec(command),
            ProbeSpec::Tcp => Kind::Tcp,
            ProbeSpec::Http { port, path } => Kind::Http { port, path },
            ProbeSpec::Galera(options) => {
                let file = options.defaults_file.as_deref();
                let credentials = file.map(|path| Credentials::read(path, known)).transpose()?;
                Kind::Galera(options, credentials.unwrap_or_default())
            }
        }))
    }

    /// Who it logs in as, for a process that may no longer read the option file.
    pub fn credentials(&self) -> Option<&Credentials> {
        match &self.0 {
            Kind::Galera(_, credentials) => Some(credentials),
            _ => None,
        }
    }

    /// Whether it starts programs, which must not outlive the daemon.
    pub fn starts_programs(&self) -> bool {
        matches!(self.0, Kind::Exec(_))
    }

    /// Most descriptors that the probe of one destination takes.
    pub fn descriptors(&self) -> usize {
        match self.0 {
            Kind::Exec(_) => 6,
            Kind::Galera(..) => 2,
            Kind::Tcp | Kind::Http { .. } => 1,
        }
    }

    /// A probe of the destination at `address`.
    pub(super) fn probe(&self, address: SocketAddr) -> Box<dyn Probe> {
        match self.0.clone() {
            Kind::Exec(command) => Box::new(exec::Exec::new(&command, address)),
            Kind::Tcp => Box::new(tcp::Tcp::new(address)),
            Kind::Http { port, path } => Box::new(http::Http::new(address, port, path)),
            Kind::Galera(options, credentials) => Box::new(galera::Galera::new(address, options, credentials)),
        }
    }
}
