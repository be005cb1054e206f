//! The connection log: a line for each connection that has ended, written by a thread of its own.
//!
//! Workers only add to a list in memory. The thread takes all of it a few times a second, and so costs the data path a
//! lock and some bytes for each connection, and the machine one write for many lines. When more lines come than a service
//! may have, or than can be written, the rest are left out and counted.

mod file;
mod format;
mod rate;
#[cfg(test)]
mod tests;
mod writer;

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::address::PeerAddress;
use crate::counters::Cause;
use crate::sessions::SessionId;
pub use writer::{add, flush, start};

/// Whether the connections of a service are logged, and in which form.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Style {
    /// They are not.
    #[default]
    Off,
    /// A line of `key=value`.
    Text,
    /// A JSON object in a line.
    Json,
}

impl Style {
    const ALL: [Style; 3] = [Style::Off, Style::Text, Style::Json];
}

impl fmt::Display for Style {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Style::Off => "off",
            Style::Text => "text",
            Style::Json => "json",
        })
    }
}

impl FromStr for Style {
    type Err = String;

    fn from_str(text: &str) -> Result<Style, String> {
        let named = Style::ALL.into_iter().find(|style| style.to_string() == text);
        named.ok_or_else(|| "neither off, text nor json".to_owned())
    }
}

/// The style of a service's lines, which may change while it has connections. All clones say the same.
#[derive(Debug, Clone, Default)]
pub struct Switch(Arc<AtomicU8>);

impl Switch {
    /// One that begins like this.
    pub fn at(style: Style) -> Switch {
        Switch(Arc::new(AtomicU8::new(style as u8)))
    }

    /// How it stands.
    pub fn get(&self) -> Style {
        Style::ALL.get(usize::from(self.0.load(Ordering::Relaxed))).copied().unwrap_or_default()
    }

    /// How it stands, and how it was asked for, if these are not the same.
    pub fn switched_from(&self, asked_for: Style) -> Option<(Style, Style)> {
        Some((self.get(), asked_for)).filter(|(now, asked_for)| now != asked_for)
    }

    /// From now on like this, also for connections that there are.
    pub fn set(&self, style: Style) {
        self.0.store(style as u8, Ordering::Relaxed);
    }
}

/// How long something took, in a third of the memory that an `Option<Duration>` takes: each connection has several.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Took(f32);

impl Took {
    /// It has not come to that.
    pub const NEVER: Took = Took(f32::NAN);

    /// In seconds; `None` if it has not come to that.
    pub fn seconds(self) -> Option<f32> {
        Some(self.0).filter(|seconds| !seconds.is_nan())
    }
}

impl From<Duration> for Took {
    fn from(time: Duration) -> Took {
        Took(time.as_secs_f32())
    }
}

/// What has become of a connection.
#[derive(Debug, Clone)]
pub struct Ended {
    /// In which form it is written.
    pub style: Style,
    /// Most lines of its service in a second.
    pub rate: u32,
    /// When it has ended.
    pub at: SystemTime,
    /// Of which service.
    pub service: Arc<str>,
    /// Which it was, in this process.
    pub id: SessionId,
    /// The client's address: the one in the PROXY header, where a proxy has sent one.
    pub client: PeerAddress,
    /// What the destination saw as its client.
    pub local: Option<SocketAddr>,
    /// Where it was passed on to.
    pub destination: Option<PeerAddress>,
    /// How many destinations were tried.
    pub attempts: u32,
    /// How long it waited for room on a destination.
    pub queue: Took,
    /// How long the destination took to accept.
    pub connect: Took,
    /// From then until the destination's first byte.
    pub first_byte: Took,
    /// From accepting the client to the end.
    pub duration: Took,
    /// Received from the client.
    pub bytes_in: u64,
    /// Sent to the client.
    pub bytes_out: u64,
    /// Who has ended it, and why.
    pub cause: Cause,
}
