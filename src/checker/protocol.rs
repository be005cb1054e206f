//! What the daemon and its checker process say to each other, one message at a time.
//!
//! The checker is not trusted: it reads what servers and scripts say, and may be wrong, hang, or die. The daemon takes a
//! [`Report`] for no more than it is, and checks the length of each part of it: see [`Report::is_within_bounds`].

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::option_file::Credentials;
use crate::address::PeerAddress;
use crate::config::{AgentOptions, ProbeSpec, ProxyVersion};
use crate::pool::health::{Reason, Verdict};
use crate::pool::{AgentMode, DestinationId};

/// Most members of a cluster that one answer may name.
pub const MAX_MEMBERS: usize = 128;
/// Longest text in a report, in bytes. What is longer is cut off by the checker, so that more is a sign of a defect.
pub const MAX_TEXT: usize = 1000;

/// From the daemon to the checker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    /// What is common to all pools; the first message, and sent once.
    Settings(Settings),
    /// Adds a pool, or replaces how its destinations are checked. Those that are being watched go on as before until they
    /// are watched anew.
    Pool {
        /// The pool's number.
        pool: u32,
        /// How to check its destinations.
        settings: Box<ProbeSettings>,
    },
    /// Stops watching all destinations of a pool, and forgets the pool.
    ForgetPool {
        /// The pool's number.
        pool: u32,
    },
    /// Adds a destination of a pool that was added before. One that is watched is watched anew.
    Watch {
        /// Which it is.
        id: Id,
        /// Where it is.
        address: PeerAddress,
    },
    /// Stops watching a destination.
    Forget {
        /// Which it is.
        id: Id,
    },
    /// Check a destination, and report. While the check before has not been answered, that one is waited for.
    Check {
        /// Which it is.
        id: Id,
        /// Whether a connection that is kept will not do: a new client must be able to log in.
        fresh: bool,
    },
    /// Ask the agent of a destination, and report. While the question before has not been answered, that one is waited for.
    AskAgent {
        /// Which it is.
        id: Id,
    },
}

/// The daemon's number for a destination, which no other one has, earlier or later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Id {
    /// Its pool's number.
    pub pool: u32,
    /// Its number in that pool.
    pub serial: u64,
}

impl From<DestinationId> for Id {
    fn from(id: DestinationId) -> Id {
        Id { pool: id.pool(), serial: id.serial() }
    }
}

/// What is common to all pools.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// `NAME=VALUE` in the environment of scripts.
    pub mark: String,
    /// Whether the IPv6 addresses of names are preferred.
    pub prefer_ipv6: bool,
}

/// How to check the destinations of a pool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ProbeSettings {
    /// What to ask.
    pub spec: ProbeSpec,
    /// Who to log in as.
    pub credentials: Credentials,
    /// How long an answer may take until the destination counts as silent.
    pub timeout: Duration,
    /// The PROXY header that begins a check, if any.
    pub send_proxy: Option<ProxyVersion>,
    /// How to ask the agents, if there are any.
    pub agent: Option<AgentOptions>,
}

/// From the checker to the daemon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Report {
    /// What a check has found out. Each [`Request::Check`] brings at least one of these.
    Checked {
        /// Which destination it was.
        id: Id,
        /// See [`Request::Watch`]: a name's destination keeps its number when it moves.
        address: PeerAddress,
        /// The result.
        finding: Finding,
        /// How long the check took.
        took: Duration,
        /// Silence was reported of this same check before.
        is_late: bool,
    },
    /// What an agent has said. Each [`Request::AskAgent`] brings one of these.
    Agent {
        /// Which destination's it is.
        id: Id,
        /// See [`Request::Watch`].
        address: PeerAddress,
        /// Its word, or why there is none.
        word: Result<AgentWord, String>,
    },
    /// A line for the log, as a warning.
    Log(String),
}

/// What an agent says. What it does not mention stays as it was.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentWord {
    /// How much of its weight the destination is to have.
    pub percent: Option<u16>,
    /// Whether it is to have clients.
    pub mode: Option<AgentMode>,
    /// Whether the service is there.
    pub health: Option<AgentHealth>,
    /// Most connections that the destination may have; 0 is any number.
    pub max_connections: Option<u32>,
    /// Why, in words; empty when there is nothing to say.
    pub comment: String,
}

/// What an agent says of its service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum AgentHealth {
    /// It is there.
    Up,
    /// It is not, in these words.
    Down(String),
}

/// The result of a check.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Finding {
    /// The destination's own word.
    Answer(Answer),
    /// It does not answer, for this reason.
    Silence(String),
    /// It was not asked, for lack of something on this machine, or of a way to ask.
    Shortage(String),
    /// It was not asked, since its script is not to be started again so soon.
    Pause,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Finding::Answer(answer) => write!(f, "{} {}", answer.verdict, Reason::new(&answer.reason)),
            Finding::Silence(reason) => write!(f, "nothing: {}", Reason::new(reason)),
            Finding::Shortage(reason) => write!(f, "nothing, for lack of something here: {}", Reason::new(reason)),
            Finding::Pause => f.write_str("nothing new: its script is started again later"),
        }
    }
}

/// A destination's own word.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// What it is good for.
    pub verdict: Verdict,
    /// Why, in words; empty when there is nothing to say.
    pub reason: String,
    /// Whether there is nothing at all at this address, so that it may be checked less often.
    pub absent: bool,
    /// The cluster's members as it reports them.
    pub members: Vec<PeerAddress>,
    /// Whether these are all of them: the names of some may still be being resolved.
    pub members_are_complete: bool,
    /// What it says of its cluster, where it was asked.
    pub galera: Option<GaleraFacts>,
}

/// What a MySQL server says of the Galera cluster that it belongs to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GaleraFacts {
    /// Whether it has Galera at all. Without it, the rest says nothing.
    pub has_galera: bool,
    /// `wsrep_cluster_state_uuid`: which data these are.
    pub state_uuid: String,
    /// `wsrep_cluster_conf_id`: how many times the component has changed its members.
    pub conf_id: u64,
    /// `wsrep_cluster_size`: members of the component.
    pub size: u32,
    /// Whether the component is primary.
    pub primary: bool,
    /// `wsrep_local_recv_queue`: write sets that wait to be applied.
    pub recv_queue: u64,
}

impl Report {
    /// Whether no part is longer than the checker makes it.
    pub fn is_within_bounds(&self) -> bool {
        match self {
            Report::Log(text) | Report::Agent { word: Err(text), .. } => text.len() <= MAX_TEXT,
            Report::Agent { word: Ok(AgentWord { health, comment, .. }), .. } => {
                let words = if let Some(AgentHealth::Down(words)) = health { words.len() } else { 0 };
                comment.len() <= MAX_TEXT && words <= MAX_TEXT
            }
            Report::Checked { finding: Finding::Silence(reason) | Finding::Shortage(reason), .. } => {
                reason.len() <= MAX_TEXT
            }
            Report::Checked { finding: Finding::Pause, .. } => true,
            Report::Checked { finding: Finding::Answer(answer), .. } => {
                let uuid = answer.galera.as_ref().map_or(0, |facts| facts.state_uuid.len());
                answer.reason.len() <= MAX_TEXT && answer.members.len() <= MAX_MEMBERS && uuid <= MAX_TEXT
            }
        }
    }
}

/// The beginning of a text, as much as a report may hold.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(MAX_TEXT / 4).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    fn checked(finding: Finding) -> Report {
        let address = PeerAddress::from((Ipv4Addr::LOCALHOST, 1));
        Report::Checked { id: Id { pool: 0, serial: 0 }, address, finding, took: Duration::ZERO, is_late: false }
    }

    fn answer(reason: String, members: usize, state_uuid: String) -> Finding {
        let members = vec![PeerAddress::from((Ipv4Addr::LOCALHOST, 1)); members];
        let galera = Some(GaleraFacts { state_uuid, ..GaleraFacts::default() });
        let (verdict, absent, members_are_complete) = (Verdict::Ready, false, true);
        Finding::Answer(Answer { verdict, reason, absent, members, members_are_complete, galera })
    }

    #[test]
    fn a_report_that_is_longer_than_the_checker_makes_any_is_out_of_bounds() {
        for (more, is_within) in [(0, true), (1, false)] {
            let text = || "x".repeat(MAX_TEXT + more);
            for report in [
                Report::Log(text()),
                checked(Finding::Silence(text())),
                checked(Finding::Shortage(text())),
                checked(answer(text(), 0, String::new())),
                checked(answer(String::new(), MAX_MEMBERS + more, String::new())),
                checked(answer(String::new(), 0, text())),
            ] {
                assert_eq!(report.is_within_bounds(), is_within, "{report:?}");
            }
        }
        assert!(checked(Finding::Pause).is_within_bounds());
        let (id, address) = (Id { pool: 0, serial: 0 }, PeerAddress::from((Ipv4Addr::LOCALHOST, 1)));
        for (length, is_within) in [(MAX_TEXT, true), (MAX_TEXT + 1, false)] {
            let text = "x".repeat(length);
            for word in [
                Err(text.clone()),
                Ok(AgentWord { comment: text.clone(), ..AgentWord::default() }),
                Ok(AgentWord { health: Some(AgentHealth::Down(text)), ..AgentWord::default() }),
            ] {
                assert_eq!(Report::Agent { id, address, word }.is_within_bounds(), is_within);
            }
        }
    }

    proptest! {
        #[test]
        fn a_text_that_was_cut_is_its_beginning_and_within_bounds(text in "\\PC{0,300}|[\u{10000}-\u{10ffff}]{0,300}") {
            let cut = cut(&text);
            prop_assert!(text.starts_with(&cut) && Report::Log(cut.clone()).is_within_bounds());
            prop_assert!(cut == text || cut.chars().count() == MAX_TEXT / 4, "no more is lost than must be");
        }
    }
}
