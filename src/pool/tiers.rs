//! The order in which destinations come: those of a tier only when no tier above it has one left for the client.

use std::net::IpAddr;
use std::time::Instant;

use super::DestinationId;
use super::destination::Destination;
use super::health::Verdict;
use super::policy::{Ahead, BySlot, Candidate, Policy, PolicyKind};
use super::tried::Tried;

/// READY or SPARE, and of each those that are no backups and those that are, without and with a failed connect.
const TIERS: usize = 8;

/// Where a destination stands when a client comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It takes no new connections.
    Out,
    /// It takes them in this tier, the lowest first.
    In(usize),
}

impl Standing {
    pub(super) fn of(destination: &Destination) -> Standing {
        let avoided = usize::from(destination.avoided_until.is_some());
        let backup = 2 * usize::from(destination.backup);
        match destination.open_verdict() {
            Some(Verdict::Ready) => Standing::In(backup + avoided),
            Some(Verdict::Spare) => Standing::In(4 + backup + avoided),
            _ => Standing::Out,
        }
    }
}

/// A policy for each tier, all of the same kind.
pub(super) struct Tiers {
    policies: [Box<dyn Policy>; TIERS],
    /// Of those that take no new connections now: when they come back they do not have again the turns that they had.
    ahead: BySlot<Ahead>,
    /// The choice of a hand, and the weight that it counts as, at least.
    choice: Option<(DestinationId, f64)>,
}

impl Tiers {
    pub(super) fn new(kind: PolicyKind, top: bool) -> Tiers {
        Tiers { policies: std::array::from_fn(|_| kind.build(top)), ahead: BySlot::default(), choice: None }
    }

    /// The slot of the destination that the first tier with an untried one picks.
    pub(super) fn pick(&mut self, client: IpAddr, tried: &Tried) -> Option<usize> {
        self.policies.iter_mut().find_map(|policy| policy.pick(client, tried))
    }

    /// Has it stand where it belongs, with as many turns ahead as when it left.
    pub(super) fn join(&mut self, destination: &Destination) {
        if let Standing::In(tier) = Standing::of(destination) {
            let mut ahead = self.ahead.remove(destination.id.slot()).unwrap_or_default();
            if destination.avoided_until.is_some() {
                // Its last client has had a turn of another one as well.
                ahead = ahead.after_equals();
            }
            self.policies[tier].join(&self.candidate(destination), ahead);
        }
    }

    /// Has it stand nowhere, until it joins again or is forgotten.
    pub(super) fn leave(&mut self, destination: &Destination) {
        let candidate = self.candidate(destination);
        if let Some(policy) = self.of(destination) {
            let ahead = policy.leave(&candidate);
            self.ahead.insert(destination.id.slot(), ahead);
        }
    }

    /// It has left for good.
    pub(super) fn forget(&mut self, id: DestinationId) {
        self.ahead.remove(id.slot());
        self.choice.take_if(|(choice, _)| *choice == id);
    }

    /// The weight that a destination counts as, at least, because a hand chose it; zero for all others.
    pub(super) fn outweighs(&self, destination: &Destination) -> f64 {
        self.choice.filter(|(choice, _)| *choice == destination.id).map_or(0.0, |(_, weight)| weight)
    }

    /// The choice of a hand.
    pub(super) fn choice(&self) -> Option<DestinationId> {
        self.choice.map(|(choice, _)| choice)
    }

    /// Makes a destination the choice of a hand, where there is no other.
    pub(super) fn choose(&mut self, destination: &Destination, weight: f64) {
        self.leave(destination);
        self.choice = (weight > 0.0).then_some((destination.id, weight));
        self.join(destination);
    }

    /// A destination is no longer the choice of a hand. Returns true if it was.
    pub(super) fn forget_choice_of(&mut self, destination: &Destination) -> bool {
        let was_chosen = self.choice() == Some(destination.id);
        if was_chosen {
            self.choose(destination, 0.0);
        }
        was_chosen
    }

    fn candidate(&self, destination: &Destination) -> Candidate {
        destination.candidate(self.outweighs(destination))
    }

    pub(super) fn connections_changed(&mut self, destination: &Destination) {
        let candidate = self.candidate(destination);
        if let Some(policy) = self.of(destination) {
            policy.connections_changed(&candidate);
        }
    }

    /// The serial of the destination that the first tier's policy keeps to, where it keeps to one.
    pub(super) fn kept(&self) -> Option<u64> {
        self.policies[0].kept()
    }

    /// Has the first tier's policy keep to this destination.
    pub(super) fn keep_to(&mut self, serial: u64) {
        self.policies[0].keep_to(serial);
    }

    fn of(&mut self, destination: &Destination) -> Option<&mut dyn Policy> {
        match Standing::of(destination) {
            Standing::Out => None,
            Standing::In(tier) => Some(&mut *self.policies[tier]),
        }
    }
}

/// When a destination that is avoided is fit again, if it takes connections at all.
pub(super) fn readmission(destination: &Destination) -> Option<Instant> {
    destination.avoided_until.filter(|_| Standing::of(destination) != Standing::Out)
}
