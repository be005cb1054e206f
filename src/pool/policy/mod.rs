//! How one of several destinations is picked: an algorithm is a type, in a file of its own.
//!
//! Each keeps its destinations in an order that suits it, so that a pick does not look at all of them (but for source,
//! with a client that it does not remember).

mod first;
mod least_connected;
mod random;
mod round_robin;
mod single;
mod source;
mod top;

use crate::address::PeerAddress;
use std::net::IpAddr;
use std::time::SystemTime;

use first::First;
use least_connected::LeastConnected;
use random::Random;
use round_robin::RoundRobin;
use single::Single;
use source::Source;
use top::Top;

use super::tried::Tried;
pub use crate::config::PolicyKind;

/// A destination that may be picked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    /// No two of the same policy have the same.
    pub slot: usize,
    /// The lower, the earlier it was added to the table.
    pub serial: u64,
    pub address: PeerAddress,
    /// In force; above zero.
    pub weight: f64,
    /// As the user set it, which decides who is of the top weight.
    pub configured_weight: f64,
    pub connections: usize,
}

/// Picks one of the candidates that have joined, and keeps whatever it needs to remember between picks: nothing of it is
/// in the destinations, so that several policies can pick from the same ones.
pub(super) trait Policy: Send {
    /// From now on it may be picked. One whose weight or tier changes leaves and joins again, as far ahead as it was then.
    fn join(&mut self, candidate: &Candidate, ahead: Ahead);

    /// It may not be picked any more. It is as it was when it joined, but for its connections. Returns how far it is
    /// ahead.
    fn leave(&mut self, candidate: &Candidate) -> Ahead;

    /// The number of connections of one that has joined is another now: only where the policy
    /// [goes by them](PolicyKind::goes_by_connections).
    fn connections_changed(&mut self, _candidate: &Candidate) {}

    /// The slot of the one picked. `None`: all that have joined were tried.
    fn pick(&mut self, client: IpAddr, tried: &Tried) -> Option<usize>;

    /// The serial of the one that it keeps to, where it keeps to one.
    fn kept(&self) -> Option<u64> {
        None
    }

    /// Since when.
    fn kept_since(&self) -> Option<SystemTime> {
        None
    }

    /// Has it keep to this one from now on, or since then in another process.
    fn keep_to(&mut self, _serial: u64, _since: SystemTime) {}
}

impl PolicyKind {
    /// A policy without any candidates. With `top`, only those of the top weight are picked, while any is left.
    pub(super) fn build(self, top: bool) -> Box<dyn Policy> {
        // Single looks at the weights by itself.
        if top && self != PolicyKind::Single { Box::new(Top::new(self)) } else { self.build_plain() }
    }

    /// Whether the policy goes by the number of connections, and so has to be told when that changes.
    pub(super) fn goes_by_connections(self) -> bool {
        self == PolicyKind::LeastConnected
    }

    /// Whether every destination has a fixed share of the clients.
    pub(super) fn deals_in_shares(self) -> bool {
        matches!(self, PolicyKind::Random | PolicyKind::Source)
    }

    fn build_plain(self) -> Box<dyn Policy> {
        match self {
            PolicyKind::LeastConnected => Box::new(LeastConnected::default()),
            PolicyKind::RoundRobin => Box::new(RoundRobin::default()),
            PolicyKind::Random => Box::new(Random::default()),
            PolicyKind::First => Box::new(First::default()),
            PolicyKind::Source => Box::new(Source::default()),
            PolicyKind::Single => Box::new(Single::default()),
        }
    }
}

/// Time as turns count it: one of weight 1 takes [`TURN`]. Whole numbers, whose sums are exact; so many bits that they
/// do not overflow before 2^34 turns of the least weight that there may be.
type Time = u128;

/// When a policy begins: one that joins it may be overdue.
const START: Time = 1 << 100;

const TURN: f64 = (1u128 << 64) as f64;

/// How long a turn takes that comes with this weight, or any turn with this sum of weights.
fn turn(weight: f64) -> Time {
    (TURN / weight) as Time
}

/// How long a candidate's next turn is off, by the time of the policy that it leaves; the same share of a turn when it
/// joins one with another time or another weight.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ahead {
    time: Time,
    /// It should have begun so long ago.
    overdue: bool,
    weight: f64,
}

impl Ahead {
    /// Of one whose next turn begins then.
    fn of(begins: Time, now: Time, weight: f64) -> Ahead {
        Ahead { time: begins.abs_diff(now), overdue: begins < now, weight }
    }

    /// The same, but after all whose turn begins in the same moment.
    pub(super) fn after_equals(self) -> Ahead {
        if self.overdue { self } else { Ahead { time: self.time.saturating_add(1), ..self } }
    }

    /// When its next turn begins.
    fn begins(self, now: Time, weight: f64) -> Time {
        let same = weight == self.weight;
        let time = if same { self.time } else { (self.time as f64 * (self.weight / weight)) as Time };
        if self.overdue { now.saturating_sub(time) } else { now.saturating_add(time) }
    }
}

/// Of a newcomer, whose turn begins now.
impl Default for Ahead {
    fn default() -> Self {
        Ahead { time: 0, overdue: false, weight: 1.0 }
    }
}

/// What is kept for each candidate, by slot.
pub(super) struct BySlot<T>(Vec<Option<T>>);

impl<T> Default for BySlot<T> {
    fn default() -> Self {
        BySlot(Vec::new())
    }
}

impl<T> BySlot<T> {
    pub(super) fn insert(&mut self, slot: usize, value: T) {
        if self.0.len() <= slot {
            self.0.resize_with(slot + 1, || None);
        }
        self.0[slot] = Some(value);
    }

    fn get_mut(&mut self, slot: usize) -> Option<&mut T> {
        self.0.get_mut(slot)?.as_mut()
    }

    pub(super) fn get(&self, slot: usize) -> Option<T>
    where
        T: Copy,
    {
        *self.0.get(slot)?
    }

    pub(super) fn remove(&mut self, slot: usize) -> Option<T> {
        self.0.get_mut(slot)?.take()
    }
}
