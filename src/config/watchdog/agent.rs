//! The agent: a program beside a destination that says how it is, as HAProxy's `agent-check` understands it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::spec::{parse_port, unescape};
use crate::address::{Endpoint, Host, parse_destination};

/// Most bytes that are sent to an agent.
const MAX_SEND: usize = 1024;

/// Where an agent is asked, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentOptions {
    /// Where it is.
    pub place: AgentPlace,
    /// From the beginning of a question to that of the next.
    pub interval: Duration,
    /// What it is sent; may be empty. [`DESTINATION`] in it stands for the destination's address.
    pub send: Vec<u8>,
}

/// Stands for the address of a destination in what its agent is sent.
pub const DESTINATION: &str = "{destination}";

/// Where the agents of a pool are asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentPlace {
    /// At this port of each destination's host.
    Beside(u16),
    /// All at one address.
    At(Endpoint),
}

impl AgentPlace {
    /// Reads `[HOST:]PORT`.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(in crate::config) fn parse(text: &str) -> Result<AgentPlace, String> {
        if !text.contains(':') {
            return parse_port("agent", text).map(AgentPlace::Beside);
        }
        // With a weight behind it, it is a destination.
        match parse_destination(&format!("{text}:1"), None).map(|spec| spec.endpoint) {
            Ok(Endpoint { host: Host::Unix(_), .. }) => Err("an agent is not asked at a UNIX socket".to_owned()),
            Ok(endpoint) => Ok(AgentPlace::At(endpoint)),
            Err(error) => Err(format!("{error} ([HOST:]PORT)")),
        }
    }
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
