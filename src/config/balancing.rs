//! How destinations are picked, and what becomes of the sessions of those that are not picked any more.

use std::fmt;

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// The fewest connections per weight; those that have equally few take turns by weight.
    LeastConnected,
    /// Turns by weight, spread evenly.
    RoundRobin,
    /// By chance and weight.
    Random,
    /// The one that was added first, until it is full.
    First,
    /// One client address, one destination, for as long as that is there.
    Source,
    /// All to one of the top weight, until it fails or one of more weight appears.
    Single,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyKind::LeastConnected => "least connected",
            PolicyKind::RoundRobin => "round robin",
            PolicyKind::Random => "random",
            PolicyKind::First => "first",
            PolicyKind::Source => "source",
            PolicyKind::Single => "single",
        })
    }
}

/// When the sessions of a destination that goes down, or is no longer the single one, are closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ShutdownSessions {
    /// At once.
    Always,
    /// Once another destination serves.
    #[default]
    Elsewhere,
    /// Never: they go on to their end.
    Never,
}
