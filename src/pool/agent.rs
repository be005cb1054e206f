//! What an agent beside a destination has said, as far as it still counts.

use serde::{Deserialize, Serialize};

use super::health::{Reason, Verdict};

/// What an agent has said. It stays so until the agent says otherwise, however long it is silent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentState {
    /// How much of its weight the destination is to have.
    pub percent: u16,
    /// Whether it is to have clients.
    pub mode: AgentMode,
    /// Why not.
    pub mode_reason: Reason,
    /// Most connections that the destination may have, whatever the settings say; 0 is any number.
    #[serde(default)]
    pub max_connections: Option<u32>,
    /// That the service is not there, in words.
    pub down: Option<Reason>,
}

/// Whether an agent wants its destination to have clients.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentMode {
    /// It is to be as the checks find it.
    #[default]
    Ready,
    /// It is to get no new ones.
    Drain,
    /// It is to have none.
    Maint,
}

impl Default for AgentState {
    fn default() -> AgentState {
        AgentState {
            percent: 100,
            mode: AgentMode::Ready,
            mode_reason: Reason::default(),
            max_connections: None,
            down: None,
        }
    }
}

impl AgentState {
    /// The best verdict that the destination may have, and why; `None`: any.
    pub fn limit(&self) -> Option<(Verdict, Reason)> {
        let says = |verdict, word: &str, why: &Reason| {
            let colon = if why.is_empty() { "" } else { ": " };
            Some((verdict, Reason::new(&format!("agent: {word}{colon}{why}"))))
        };
        match (&self.down, self.mode, self.percent) {
            (Some(words), ..) => Some((Verdict::Down, Reason::new(&format!("agent: {words}")))),
            (None, AgentMode::Maint, _) => says(Verdict::Down, "maint", &self.mode_reason),
            (None, AgentMode::Drain, _) => says(Verdict::Avoid, "drain", &self.mode_reason),
            (None, AgentMode::Ready, 0) => says(Verdict::Avoid, "0%", &Reason::default()),
            (None, AgentMode::Ready, _) => None,
        }
    }

    /// What the weight is to be multiplied by. A weight of nothing is a limit.
    pub fn factor(&self) -> f64 {
        if self.percent == 0 { 1.0 } else { f64::from(self.percent) / 100.0 }
    }
}
