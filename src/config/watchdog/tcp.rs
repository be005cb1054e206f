//! The `tcp` check: whether a destination accepts connections, and what it says.

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use super::spec::{Spec, from_hex, parse_port, unescape};
use super::tls::{self, TlsOptions};

/// Most steps of a conversation.
const MAX_STEPS: usize = 100;

/// Where to connect, and what is said then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcpOptions {
    /// `None`: the destination's.
    pub port: Option<u16>,
    /// `None`: there is none.
    pub tls: Option<TlsOptions>,
    /// What is said, in this order; nothing: the connection is enough.
    pub steps: Vec<Step>,
}

/// One step of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// These bytes are sent.
    Send(Vec<u8>),
    /// What has come since the last bytes were sent must contain this.
    Expect(Pattern),
}

const STEPS: [&str; 6] = ["send", "send-hex", "expect", "expect-line", "expect-hex", "expect-regex"];

impl TcpOptions {
    /// Reads `[PORT][;tls=yes][;ca=FILE][;sni=NAME][;send=TEXT|;expect=TEXT]...`. Without a port, the first `;` may be left
    /// out.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<TcpOptions, String> {
        let names = option_names();
        let Spec { target, options } = Spec::parse("tcp", text, &names)?;
        let mut parsed = TcpOptions::default();
        if target.contains([';', '=']) {
            return Err(format!("tcp: no such option '{}' (there are {})", target.trim_matches(';'), names.join(", ")));
        }
        if !target.is_empty() {
            parsed.port = Some(parse_port("tcp", target)?);
        }
        for (name, value) in options {
            parsed.set(name, value).map_err(|reason| format!("tcp: {reason}"))?;
        }
        Ok(parsed)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), String> {
        let step = match name {
            "send" => Step::Send(unescape(value)?),
            "send-hex" => Step::Send(from_hex(value)?),
            name if name.starts_with("expect") => {
                Step::Expect(Pattern::parse(name, value).map_err(|reason| format!("{name}: {reason}"))?)
            }
            name => return tls::set(&mut self.tls, name, value),
        };
        if step == Step::Send(Vec::new()) {
            return Err(format!("{name}: nothing is sent"));
        }
        if self.steps.len() >= MAX_STEPS {
            return Err(format!("more than {MAX_STEPS} steps"));
        }
        self.steps.push(step);
        Ok(())
    }
}

/// The names of what a step may be.
pub(in crate::config) fn step_names() -> &'static [&'static str] {
    &STEPS
}

/// The names of all options.
pub(super) fn option_names() -> Vec<&'static str> {
    tls::NAMES.into_iter().chain(STEPS).collect()
}
