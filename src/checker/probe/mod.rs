//! How a destination is asked how it is: each way in a file of its own.

mod conversation;
mod dialer;
mod exec;
mod galera;
mod http;
mod matcher;
mod quoted;
mod stream;
mod tcp;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use super::option_file::OptionFile;
use super::protocol::{GaleraFacts, ProbeSettings};
use crate::address::PeerAddress;
use crate::config::{GaleraOptions, HttpOptions, ProbeSpec};
use crate::pool::health::Verdict;
pub(super) use conversation::{Conversation, Progress};
use dialer::Dialer;
pub(super) use exec::parse as parse_script_answer;
pub(super) use exec::{are_any_ending, log_to, warn};
pub use exec::{mark, take_mark};
pub(super) use http::read_answer;
pub(super) use quoted::quoted;
pub(super) use stream::at_port;
pub(super) use tcp::connect;

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
    /// What it says of its cluster, where it was asked.
    pub galera: Option<GaleraFacts>,
}

impl Answer {
    pub(super) fn new(verdict: Verdict, reason: impl Into<String>) -> Answer {
        Answer { verdict, reason: reason.into(), members: Vec::new(), absent: false, galera: None }
    }
}

/// What asking once will come to. An error says, in words that stand alone in a log line, why there is no answer; the
/// destination is down then, unless the error is this machine's, such as a want of descriptors.
pub(super) type Asking<'a> = Pin<Box<dyn Future<Output = io::Result<Answer>> + 'a>>;

/// Knows how to ask one destination. Used in one thread, which is that of all other probes as well: it must not block.
pub(super) trait Probe {
    /// Asks once. With `fresh`, over a new connection. It need not watch the time: what takes too long is dropped, and
    /// [`give_up`](Probe::give_up) called.
    fn ask(&mut self, fresh: bool) -> Asking<'_>;

    /// Whether it may [`ask`](Probe::ask) now. If not, there is nothing new to say.
    fn may_ask(&self) -> bool {
        true
    }

    /// Whether an [`ask`](Probe::ask) that takes longer than a check may is to go on: the server has something to clear
    /// away when it is dropped. One that goes on for a minute is dropped all the same.
    fn is_waited_for(&self) -> bool {
        false
    }

    /// The last [`ask`](Probe::ask) was dropped for having taken too long.
    fn give_up(&mut self) {}

    /// Says goodbye, where the server expects that.
    fn end(&mut self) -> Pin<Box<dyn Future<Output = ()> + '_>> {
        Box::pin(async {})
    }
}

/// Makes probes of one kind.
#[derive(Clone)]
pub struct Prober(Kind);

#[derive(Clone)]
enum Kind {
    Exec(String),
    Tcp { port: Option<u16>, conversation: Conversation, dialer: Dialer, patience: Duration },
    Http(Box<HttpOptions>, http::Expected, Dialer),
    Galera(GaleraOptions, galera::Account, Dialer),
}

impl Prober {
    /// Makes probes as a pool's settings say.
    ///
    /// # Errors
    /// One line that says what is wrong with the credentials or the options, which the daemon has checked.
    pub fn new(settings: ProbeSettings) -> Result<Prober, String> {
        let ProbeSettings { spec, credentials, timeout, send_proxy, .. } = settings;
        let dialer = Dialer::new(&spec, &credentials, send_proxy)?;
        Ok(Prober(match spec {
            ProbeSpec::Exec(command) => Kind::Exec(command),
            ProbeSpec::Tcp(options) => {
                let (port, conversation) = (options.port, Conversation::new(&options.steps)?);
                Kind::Tcp { port, conversation, dialer, patience: timeout }
            }
            ProbeSpec::Http(options) => {
                let expected = http::Expected::new(&options)?;
                Kind::Http(options, expected, dialer)
            }
            ProbeSpec::Galera(options) => {
                let account = galera::Account::new(OptionFile::new(options.clone(), credentials)?);
                Kind::Galera(options, account, dialer)
            }
        }))
    }

    /// A probe of the destination at `address`.
    pub(super) fn probe(&self, address: PeerAddress) -> Box<dyn Probe> {
        match self.0.clone() {
            Kind::Exec(command) => Box::new(exec::Exec::new(&command, address)),
            Kind::Tcp { port, conversation, dialer, patience } => {
                Box::new(tcp::Tcp::new(address, port, conversation, dialer, patience))
            }
            Kind::Http(options, expected, dialer) => Box::new(http::Http::new(address, &options, expected, dialer)),
            Kind::Galera(options, account, dialer) => Box::new(galera::Galera::new(address, options, account, dialer)),
        }
    }
}
