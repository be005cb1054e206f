//! One destination of a pool, and as it is seen from outside.

use std::time::Instant;

use super::health::{Health, Verdict};
use super::history::History;
use super::policy::Candidate;
use super::refusals::Refusals;
use super::{DestinationId, Origin};
use crate::address::{Endpoint, Host, MIN_WEIGHT, PeerAddress};
use crate::counters::Counters;

/// What a pool holds of one destination.
pub(super) struct Destination {
    pub id: DestinationId,
    /// The names and addresses as which it is wanted where it is, at least one: the first is what it was added as.
    pub wanted_as: Vec<Endpoint>,
    pub address: PeerAddress,
    pub origin: Origin,
    /// A hand has added it, so it stands where hands have put it, not where the configuration does.
    pub placed_by_hand: bool,
    /// As configured; zero takes no new connections.
    pub weight: f64,
    /// What it was before it was drained.
    pub weight_before: Option<f64>,
    /// What the watchdog says; always [`Verdict::Ready`] where there is none.
    pub health: Health,
    /// What has become of the verdict over time.
    pub history: History,
    /// None of its names has its address any more.
    pub obsolete: bool,
    /// It is not asked for any more, and goes with its last connection.
    pub leaving: bool,
    /// It takes clients only while none of a lower number is as fit; 0 is no backup.
    pub backup: u8,
    /// Somebody waits for the next word of the watchdog.
    pub awaited: bool,
    /// Most connections that it may have; `None`: any number.
    pub limit: Option<usize>,
    /// Those of this process.
    pub connections: usize,
    /// The most that there ever were, those of other processes included.
    pub highest: usize,
    /// What its connections come to.
    pub counters: Counters,
    /// Those that other processes, which this one has taken over from, still have.
    pub elsewhere: usize,
    /// Connects that failed and clients that were refused, in a row; `None` when the last client was served.
    pub refusals: Option<Refusals>,
    /// Until then others are preferred.
    pub avoided_until: Option<Instant>,
}

impl Destination {
    /// The verdict that new connections depend on; `None` where the destination takes none, whatever its health.
    pub(super) fn open_verdict(&self) -> Option<Verdict> {
        self.health.verdict.filter(|verdict| self.weight > 0.0 && !self.obsolete && *verdict >= Verdict::Spare)
    }

    /// Whether it has as many connections as it may have.
    pub(super) fn is_full(&self) -> bool {
        self.limit.is_some_and(|limit| self.all_connections() >= limit)
    }

    /// Whether nothing says that new clients cannot connect to it.
    pub(super) fn is_sound(&self) -> bool {
        !self.obsolete && self.refusals.is_none() && self.health.verdict != Some(Verdict::Down)
    }

    /// Whether anything but this name wants it where it is.
    pub(super) fn is_wanted_otherwise(&self, name: &Endpoint) -> bool {
        self.wanted_as.iter().any(|it| it != name)
    }

    /// The names as which it is wanted.
    pub(super) fn names(&self) -> impl Iterator<Item = &Endpoint> {
        self.wanted_as.iter().filter(|it| matches!(it.host, Host::Name(_)))
    }

    /// As one of those that a policy picks from, where it counts as at least this heavy.
    pub(super) fn candidate(&self, outweighs: f64) -> Candidate {
        let Destination { id, address, .. } = *self;
        let (slot, serial) = (id.slot(), id.serial);
        let connections = self.all_connections();
        let (weight, configured_weight) = (self.weight_in_force(), self.weight.max(outweighs));
        Candidate { slot, serial, address, weight, configured_weight, connections }
    }

    /// As it is seen at this moment, whatever a service chooses.
    pub(super) fn status(&self) -> DestinationStatus {
        DestinationStatus {
            wanted_as: self.wanted_as.clone(),
            address: self.address,
            id: self.id,
            origin: self.origin,
            is_placed_by_hand: self.placed_by_hand,
            weight: self.weight,
            weight_in_force: if self.obsolete { 0.0 } else { self.weight_in_force() },
            health: self.health.clone(),
            refusals: self.refusals.clone(),
            is_leaving: self.leaving,
            backup: self.backup,
            is_single: false,
            connections: self.all_connections(),
            highest: self.highest,
            limit: self.limit,
            map: None,
        }
    }

    pub(super) fn all_connections(&self) -> usize {
        self.connections + self.elsewhere
    }

    pub(super) fn weight_in_force(&self) -> f64 {
        match self.weight {
            weight if weight > 0.0 => (weight * self.health.scale).max(MIN_WEIGHT),
            weight => weight,
        }
    }
}

impl DestinationStatus {
    /// What decides whether it comes before another one, from the lowest on; none where it gets no new clients.
    pub(super) fn rank(&self) -> Option<(bool, u8)> {
        let verdict = self.health.verdict.filter(|verdict| *verdict >= Verdict::Spare)?;
        Some((verdict != Verdict::Ready, self.backup))
    }
}

/// One destination, as seen at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationStatus {
    /// The names and addresses as which it is wanted, at least one: the first is what it was added as.
    pub wanted_as: Vec<Endpoint>,
    /// What is connected to.
    pub address: PeerAddress,
    /// Which it is.
    pub id: DestinationId,
    /// Who put it there.
    pub origin: Origin,
    /// A hand has added it, so it stands where hands have put it, not where the configuration does.
    pub is_placed_by_hand: bool,
    /// As configured.
    pub weight: f64,
    /// What follows from that and from the watchdog's word; 0 if it is no longer an address of its name.
    pub weight_in_force: f64,
    /// What the watchdog says.
    pub health: Health,
    /// How its last clients fared, unless the very last one was served.
    pub refusals: Option<Refusals>,
    /// It is not asked for any more, and goes with its last connection.
    pub is_leaving: bool,
    /// It takes clients only while none of a lower number is as fit; 0 is no backup.
    pub backup: u8,
    /// It is the single destination.
    pub is_single: bool,
    /// Connections that count on it, those being opened and those of other processes included.
    pub connections: usize,
    /// The most that there ever were.
    pub highest: usize,
    /// The most that it may have now; `None`: any number.
    pub limit: Option<usize>,
    /// Upper end of its share of [0, 1), where the policy deals in shares.
    pub map: Option<f64>,
}
