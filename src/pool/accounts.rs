//! What the connections of destinations have come to.

use std::time::{Duration, SystemTime};

use super::destination::Destination;
use super::{DestinationId, DestinationStatus, Held, Pool, Tallies};
use crate::address::PeerAddress;
use crate::counters::{CheckResult, Counters, Totals};

/// All that there is to report of a destination at one moment.
pub struct Account {
    /// How it is.
    pub status: DestinationStatus,
    /// What its connections have come to.
    pub counters: Counters,
    /// How often it has become DOWN, and how often its verdict has changed.
    pub counts: (u64, u64),
    /// How long each verdict has held.
    pub held: Held,
    /// The same of the last 24 hours, and how often each was given.
    pub last_day: Tallies,
}

impl Pool {
    /// What the connections of all its destinations have come to, those that have been removed included.
    pub fn totals(&self) -> Totals {
        let inner = self.lock();
        let mut totals = inner.gone.clone();
        inner.destinations.iter().for_each(|(_, it)| totals += &it.counters.totals());
        totals
    }

    /// What the connections of destinations have come to that have been removed.
    pub fn gone(&self) -> Totals {
        self.lock().gone.clone()
    }

    /// Adds what another process has counted of the destination at `address`, or of one that is gone.
    pub fn count_elsewhere(&self, address: PeerAddress, counted: &Totals) {
        let mut inner = self.lock();
        match inner.at(address) {
            Some(slot) => inner.destinations[slot].counters.add(counted),
            None => inner.gone += counted,
        }
    }

    /// Counts a check of a destination.
    pub fn count_check(&self, id: DestinationId, result: CheckResult, took: Duration) {
        let inner = self.lock();
        if let Some(slot) = inner.find(id) {
            inner.destinations[slot].counters.checked(result, took);
        }
    }

    /// The destination at `address` has had so many connections at a time in another process.
    pub fn were_open(&self, address: PeerAddress, highest: usize) {
        let mut inner = self.lock();
        if let Some(slot) = inner.at(address) {
            let destination = &mut inner.destinations[slot];
            destination.highest = destination.highest.max(highest);
        }
    }

    /// The destinations, what their connections have come to, and what has become of their verdicts.
    pub fn accounts(&self) -> Vec<Account> {
        let (inner, now) = (self.lock(), SystemTime::now());
        let account = |it: &Destination| Account {
            status: it.status(),
            counters: it.counters.clone(),
            counts: it.history.counts(),
            held: it.history.held(it.health.verdict),
            last_day: it.history.last_day(now),
        };
        inner.in_order().into_iter().map(account).collect()
    }
}
