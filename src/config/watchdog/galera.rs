//! The `galera` check: how to ask MySQL, and what to think of the answers.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::spec::parse_port;
use crate::verdict::Verdict;

/// How to ask MySQL, and what to think of the answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaleraOptions {
    /// The option file with user and password; `None`: user root without one.
    pub defaults_file: Option<PathBuf>,
    /// The verdict on a node that gives its state to another, was told to fall behind, or catches up.
    pub donor: Verdict,
    /// Whether a server that is read-only is fit.
    pub read_only_is_fit: bool,
    /// The port to ask at; `None`: the destination's.
    pub port: Option<u16>,
    /// How to agree on TLS; `None`: as the option file says, or else [`TlsMode::Prefer`].
    pub tls: Option<TlsMode>,
    /// The longest queue of write sets with which a node is READY; `None`: any.
    pub max_recv_queue: Option<u64>,
    /// Whether nodes without Galera are DOWN once one has shown Galera.
    pub require_galera: bool,
    /// Every such check logs in afresh.
    pub login: u32,
}

impl Default for GaleraOptions {
    fn default() -> Self {
        GaleraOptions {
            defaults_file: None,
            donor: Verdict::Spare,
            read_only_is_fit: false,
            port: None,
            tls: None,
            max_recv_queue: None,
            require_galera: true,
            login: 5,
        }
    }
}

/// How to agree on TLS with a MySQL server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TlsMode {
    /// Not at all.
    Off,
    /// Where the server offers it. Any certificate is accepted.
    Prefer,
    /// Always. Any certificate is accepted.
    Require,
    /// Always. The certificate must come from an authority in `ssl-ca`.
    VerifyCa,
}

impl GaleraOptions {
    /// Reads `NAME=VALUE,NAME=VALUE`.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<GaleraOptions, String> {
        let mut options = GaleraOptions::default();
        for option in text.split(',').filter(|option| !option.is_empty()) {
            match option.split_once('=') {
                Some((name, value)) => options.set(name, value)?,
                None => return Err(no_such_option(option)),
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let one_of = |values: &str| format!("galera: {name}={value} is not one of {values}");
        match name {
            "defaults-file" if value.is_empty() => return Err("galera: defaults-file needs a path".to_owned()),
            "defaults-file" => self.defaults_file = Some(value.into()),
            "donor" => {
                self.donor = match value {
                    "ready" => Verdict::Ready,
                    "spare" => Verdict::Spare,
                    "avoid" => Verdict::Avoid,
                    "down" => Verdict::Down,
                    _ => return Err(one_of("ready, spare, avoid and down")),
                }
            }
            "read-only" if value == "ok" => self.read_only_is_fit = true,
            "read-only" => return Err(one_of("ok")),
            "port" => self.port = Some(parse_port("galera", value)?),
            "tls" => {
                self.tls = Some(match value {
                    "off" => TlsMode::Off,
                    "prefer" => TlsMode::Prefer,
                    "require" => TlsMode::Require,
                    "verify-ca" => TlsMode::VerifyCa,
                    _ => return Err(one_of("off, prefer, require and verify-ca")),
                });
            }
            "max-recv-queue" => self.max_recv_queue = Some(number(name, value)?),
            "require-galera" => {
                self.require_galera = match value {
                    "yes" => true,
                    "no" => false,
                    _ => return Err(one_of("yes and no")),
                }
            }
            "login" => {
                let checks = number(name, value)?;
                self.login = u32::try_from(checks)
                    .ok()
                    .filter(|checks| *checks > 0)
                    .ok_or_else(|| format!("galera: login={value} is not a number of checks (1 or more)"))?;
            }
            _ => return Err(no_such_option(&format!("{name}={value}"))),
        }
        Ok(())
    }
}

fn number(name: &str, value: &str) -> Result<u64, String> {
    let digits = value.bytes().all(|byte| byte.is_ascii_digit());
    value.parse().ok().filter(|_| digits).ok_or_else(|| format!("galera: {name}={value} is not a number"))
}

fn no_such_option(option: &str) -> String {
    format!(
        "galera: no such option '{option}' (there are defaults-file=PATH, donor=ready|spare|avoid|down, read-only=ok, \
        port=N, tls=off|prefer|require|verify-ca, max-recv-queue=N, require-galera=yes|no and login=N)"
    )
}
