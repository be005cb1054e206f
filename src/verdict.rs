//! What is said of a destination's health, in a word.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a destination is good for, from worse to better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Verdict {
    /// Nothing: its connections are closed.
    Down,
    /// The connections that it has, but no new ones.
    Avoid,
    /// New connections only while no destination that is [`Verdict::Ready`] is left for a client.
    Spare,
    /// Everything.
    Ready,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Verdict::Down => "DOWN",
            Verdict::Avoid => "AVOID",
            Verdict::Spare => "SPARE",
            Verdict::Ready => "READY",
        })
    }
}
