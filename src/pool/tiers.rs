//! The order in which destinations come: those of a tier only when no tier above it has one left for the client.

use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use super::DestinationId;
use super::destination::Destination;
use super::health::Verdict;
use super::policy::{Ahead, BySlot, Candidate, Policy, PolicyKind};
use super::tried::Tried;

/// A group of destinations that one policy picks from. The lowest comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tier(u16);

/// What decides between destinations before any policy does. The lowest comes first: those that are READY, and of these
/// the ones that are no backups, and backups in the order of their numbers; then the same of those that are SPARE. One
/// number, since every pick and every end compares some.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank(u16);

impl Rank {
    /// Of one that is SPARE, beside the number of the backup.
    const SPARE: u16 = 1 << u8::BITS;

    /// `None` where the destination takes no new connections.
    pub(super) fn of(destination: &Destination) -> Option<Rank> {
        let spare = if destination.open_verdict()? == Verdict::Ready { 0 } else { Rank::SPARE };
        Some(Rank(spare | u16::from(destination.backup)))
    }

    /// The same of one that is no backup.
    pub(super) fn as_primary(self) -> Rank {
        Rank(self.0 & Rank::SPARE)
    }
}

impl Tier {
    const FIRST: Tier = Tier(0);

    pub(super) fn rank(self) -> Rank {
        Rank(self.0 >> 1)
    }

    /// `None` where the destination takes no new connections. In each rank, those whose last connect failed a short while
    /// ago come after the others.
    pub(super) fn of(destination: &Destination) -> Option<Tier> {
        Rank::of(destination).map(|rank| Tier(rank.0 << 1 | u16::from(destination.avoided_until.is_some())))
    }
}

/// The outcome of [`Tiers::pick`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TierPick {
    /// The destination in this slot.
    Slot(usize),
    /// All that are left of this rank are full.
    Full(Rank),
    /// There is none left.
    Nothing,
}

/// A policy for each tier, all of the same kind.
pub(super) struct Tiers {
    kind: PolicyKind,
    top: bool,
    /// In their order, from the first on. Those that nothing has stood in yet are not there.
    tiers: Vec<(Tier, Members)>,
    /// Of those that take no new connections now: when they come back they do not have again the turns that they had.
    ahead: BySlot<Ahead>,
    /// The choice of a hand, and the weight that it counts as, at least.
    choice: Option<(DestinationId, f64)>,
}

/// The destinations of one tier.
struct Members {
    /// Picks from those that have room.
    policy: Box<dyn Policy>,
    /// The slots of those that are full, where the policy goes on to others then.
    full: Vec<usize>,
}

impl Tiers {
    pub(super) fn new(kind: PolicyKind, top: bool) -> Tiers {
        let mut tiers = Tiers { kind, top, tiers: Vec::new(), ahead: BySlot::default(), choice: None };
        tiers.members(Tier::FIRST);
        tiers
    }

    /// The slot of the destination that the first tier with an untried one picks. Clients do not go on to a lower rank because
    /// a destination is full.
    pub(super) fn pick(&mut self, client: IpAddr, tried: &Tried) -> TierPick {
        let mut full = None;
        for (tier, members) in &mut self.tiers {
            if full.is_some_and(|full| full != tier.rank()) {
                break;
            }
            if let Some(slot) = members.policy.pick(client, tried) {
                return TierPick::Slot(slot);
            }
            if members.full.iter().any(|slot| !tried.has(*slot)) {
                full = Some(tier.rank());
            }
        }
        full.map_or(TierPick::Nothing, TierPick::Full)
    }

    /// Whether its clients wait for one destination that is full, rather than go to another.
    pub(super) fn binds(&self) -> bool {
        self.kind.binds()
    }

    /// Has it stand where it belongs, with as many turns ahead as when it left.
    pub(super) fn join(&mut self, destination: &Destination) {
        let Some(tier) = Tier::of(destination) else { return };
        if self.leaves_out(destination) {
            self.members(tier).full.push(destination.id.slot());
            return;
        }
        let mut ahead = self.ahead.remove(destination.id.slot()).unwrap_or_default();
        if destination.avoided_until.is_some() {
            // Its last client has had a turn of another one as well.
            ahead = ahead.after_equals();
        }
        let candidate = self.candidate(destination);
        self.members(tier).policy.join(&candidate, ahead);
    }

    /// Has it stand nowhere, until it joins again or is forgotten.
    pub(super) fn leave(&mut self, destination: &Destination) {
        let Some(tier) = Tier::of(destination) else { return };
        let slot = destination.id.slot();
        if self.leaves_out(destination) {
            self.members(tier).full.retain(|full| *full != slot);
            return;
        }
        let candidate = self.candidate(destination);
        let ahead = self.members(tier).policy.leave(&candidate);
        self.ahead.insert(slot, ahead);
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

    /// The number of its connections is another, and it has room, or none, as before.
    pub(super) fn connections_changed(&mut self, destination: &Destination) {
        if !self.kind.goes_by_connections() || self.leaves_out(destination) {
            return;
        }
        let candidate = self.candidate(destination);
        if let Some(tier) = Tier::of(destination) {
            self.members(tier).policy.connections_changed(&candidate);
        }
    }

    /// One that had room is full now.
    pub(super) fn fills(&mut self, destination: &Destination) {
        let Some(tier) = Tier::of(destination).filter(|_| !self.binds()) else {
            return self.connections_changed(destination);
        };
        let (candidate, slot) = (self.candidate(destination), destination.id.slot());
        let members = self.members(tier);
        let ahead = members.policy.leave(&candidate);
        members.full.push(slot);
        self.ahead.insert(slot, ahead);
    }

    /// The serial of the destination that the first tier's policy keeps to, where it keeps to one.
    pub(super) fn kept(&self) -> Option<u64> {
        self.tiers[0].1.policy.kept()
    }

    /// Since when.
    pub(super) fn kept_since(&self) -> Option<SystemTime> {
        self.tiers[0].1.policy.kept_since()
    }

    /// Has the first tier's policy keep to this destination.
    pub(super) fn keep_to(&mut self, serial: u64, since: SystemTime) {
        self.tiers[0].1.policy.keep_to(serial, since);
    }

    /// Whether a destination is none that the policy picks from, because it is full.
    fn leaves_out(&self, destination: &Destination) -> bool {
        destination.is_full() && !self.binds()
    }

    fn members(&mut self, tier: Tier) -> &mut Members {
        // Nearly always the first, and hardly ever behind the fourth.
        let place = self.tiers.iter().position(|(other, _)| *other >= tier).unwrap_or(self.tiers.len());
        if self.tiers.get(place).is_none_or(|(other, _)| *other != tier) {
            let members = Members { policy: self.kind.build(self.top), full: Vec::new() };
            self.tiers.insert(place, (tier, members));
        }
        &mut self.tiers[place].1
    }
}

/// When a destination that is avoided is fit again, if it takes connections at all.
pub(super) fn readmission(destination: &Destination) -> Option<Instant> {
    destination.avoided_until.filter(|_| Rank::of(destination).is_some())
}
