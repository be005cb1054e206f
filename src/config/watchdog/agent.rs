//! The agent: a program beside a destination that says how it is, as HAProxy's `agent-check` understands it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::unescape;

/// Most bytes that are sent to an agent.
const MAX_SEND: usize = 1024;

/// Where an agent is asked, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOptions {
    /// A port of the destination's host.
    pub port: u16,
    /// From the beginning of a question to that of the next.
    pub interval: Duration,
    /// What it is sent; may be empty.
    pub send: Vec<u8>,
}

/// Reads what an agent is sent.
///
/// # Errors
/// One line that says what is wrong with it.
pub(in crate::config) fn parse_send(text: &str) -> Result<Vec<u8>, String> {
    match unescape(text)? {
        bytes if bytes.len() > MAX_SEND => Err(format!("longer than {MAX_SEND} bytes")),
        bytes => Ok(bytes),
    }
}
