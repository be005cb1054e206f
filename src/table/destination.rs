//! One destination in the table, and as it is seen from outside.

use std::net::SocketAddr;
use std::time::Instant;

use super::health::{Health, Verdict};
use super::policy::Candidate;
use super::{DestinationId, Origin};
use crate::address::{Endpoint, MIN_WEIGHT};

/// What the table holds of one destination.
pub(super) struct Destination {
    pub id: DestinationId,
    pub endpoint: Endpoint,
    pub address: SocketAddr,
    pub origin: Origin,
    /// As configured; zero takes no new connections.
    pub weight: f64,
    /// What the watchdog says; always [`Verdict::Ready`] where there is none.
    pub health: Health,
    /// Its name no longer has its address.
    pub obsolete: bool,
    /// Somebody waits for the next word of the watchdog.
    pub awaited: bool,
    /// Those of this process.
    pub connections: usize,
    /// Those that other processes, which this one has taken over from, still have.
    pub elsewhere: usize,
    /// The last connect failed.
    pub failed: bool,
    /// Until then others are preferred.
    pub avoided_until: Option<Instant>,
}

impl Destination {
    pub(super) fn standing(&self) -> Standing {
        match self.avoided_until {
            _ if self.weight <= 0.0 || self.obsolete || self.health.verdict != Some(Verdict::Ready) => Standing::Out,
            Some(until) => Standing::Avoided(until),
            None => Standing::Fit,
        }
    }

    pub(super) fn candidate(&self) -> Candidate {
        let Destination { id: DestinationId { slot, serial }, address, .. } = *self;
        let connections = self.all_connections();
        let (weight, configured_weight) = (self.weight_in_force(), self.weight);
        Candidate { slot, serial, address, weight, configured_weight, connections }
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

/// Where a destination stands when a client comes.
pub(super) enum Standing {
    /// It takes no new connections.
    Out,
    /// It is among those that come first.
    Fit,
    /// It comes when none of those is left, until this moment.
    Avoided(Instant),
}

/// One destination, as seen at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct DestinationStatus {
    /// As it was named when it was added.
    pub endpoint: Endpoint,
    /// What is connected to.
    pub address: SocketAddr,
    /// Which it is.
    pub id: DestinationId,
    /// Who put it there.
    pub origin: Origin,
    /// As configured.
    pub weight: f64,
    /// What follows from that and from the watchdog's word.
    pub weight_in_force: f64,
    /// What the watchdog says.
    pub health: Health,
    /// Connections that count on it, those being opened and those of other processes included.
    pub connections: usize,
    /// Upper end of its share of [0, 1), where the policy deals in shares.
    pub map: Option<f64>,
}
