//! What is behind the table's lock: destinations, and where each stands with the policies.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use slab::Slab;

use super::destination::{Destination, Standing};
use super::health::{Health, Verdict};
use super::policy::Policy;
use super::{Balancing, DestinationId, Event, MAX_DESTINATIONS, Origin, Subscriber, TableError};
use crate::address::Endpoint;

/// What the table's lock protects.
pub(super) struct Inner {
    pub(super) destinations: Slab<Destination>,
    pub(super) next_serial: u64,
    pub(super) balancing: Balancing,
    /// Picks from those that are fit.
    pub(super) fit: Box<dyn Policy>,
    /// Picks from those that are avoided.
    pub(super) avoided: Box<dyn Policy>,
    /// When each of those that are avoided is fit again.
    pub(super) readmissions: BTreeSet<(Instant, usize)>,
    /// The slots that a client has tried; kept for its memory.
    pub(super) tried: Vec<usize>,
    /// What was removed by hand, and is not to be discovered again.
    pub(super) withdrawn: HashSet<SocketAddr>,
    pub(super) subscribers: Vec<Subscriber>,
}

impl Inner {
    pub(super) fn at(&self, address: SocketAddr) -> Option<usize> {
        self.destinations.iter().find(|(_, it)| it.address == address).map(|(slot, _)| slot)
    }

    pub(super) fn pick(&mut self, client: IpAddr, tried: &[DestinationId], now: Instant) -> Option<usize> {
        self.readmit(now);
        self.tried.clear();
        for id in tried {
            self.tried.extend(self.find(*id));
        }
        self.fit.pick(client, &self.tried).or_else(|| self.avoided.pick(client, &self.tried))
    }

    /// Those that have been avoided for long enough are fit again.
    pub(super) fn readmit(&mut self, now: Instant) {
        while let Some((_, slot)) = self.readmissions.first().copied().filter(|(until, _)| *until <= now) {
            self.change(slot, |it| it.avoided_until = None);
        }
    }

    pub(super) fn reweight(&mut self, slot: usize, weight: f64) -> f64 {
        if self.destinations[slot].weight == weight {
            // Its place among the others stays as it is.
            return weight;
        }
        self.change(slot, |it| std::mem::replace(&mut it.weight, weight))
    }

    /// Changes what decides where a destination stands.
    pub(super) fn change<T>(&mut self, slot: usize, change: impl FnOnce(&mut Destination) -> T) -> T {
        self.leave(slot);
        let result = change(&mut self.destinations[slot]);
        self.join(slot);
        result
    }

    pub(super) fn join(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        match destination.standing() {
            Standing::Out => {}
            Standing::Fit => self.fit.join(&destination.candidate()),
            Standing::Avoided(until) => {
                self.avoided.join(&destination.candidate());
                self.readmissions.insert((until, slot));
            }
        }
    }

    pub(super) fn leave(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        match destination.standing() {
            Standing::Out => {}
            Standing::Fit => self.fit.leave(&destination.candidate()),
            Standing::Avoided(until) => {
                self.avoided.leave(&destination.candidate());
                self.readmissions.remove(&(until, slot));
            }
        }
    }

    pub(super) fn count(&mut self, slot: usize, change: impl FnOnce(&mut Destination)) {
        let destination = &mut self.destinations[slot];
        change(destination);
        let candidate = destination.candidate();
        match destination.standing() {
            Standing::Out => {}
            Standing::Fit => self.fit.connections_changed(&candidate),
            Standing::Avoided(_) => self.avoided.connections_changed(&candidate),
        }
    }

    /// Each destination's part of 1.
    pub(super) fn weights_in_play(&self, destinations: &[&Destination]) -> Vec<f64> {
        let fit = |it: &&&Destination| it.health.verdict == Some(Verdict::Ready);
        let top = destinations.iter().filter(fit).map(|it| it.weight).fold(0.0, f64::max);
        let in_play = |it: &&Destination| match it {
            it if !fit(&it) || (self.balancing.top && it.weight < top) => 0.0,
            it => it.weight_in_force(),
        };
        let total: f64 = destinations.iter().map(in_play).sum();
        destinations.iter().map(|it| if total > 0.0 { in_play(it) / total } else { 0.0 }).collect()
    }

    pub(super) fn add(
        &mut self,
        endpoint: &Endpoint,
        address: SocketAddr,
        weight: f64,
        origin: Origin,
    ) -> Result<(), TableError> {
        if self.destinations.len() >= MAX_DESTINATIONS {
            return Err(TableError::Full);
        }
        let entry = self.destinations.vacant_entry();
        let id = DestinationId { slot: entry.key(), serial: self.next_serial };
        self.next_serial += 1;
        entry.insert(Destination {
            id,
            endpoint: endpoint.clone(),
            address,
            origin,
            weight,
            health: Health::at_first(self.balancing.watched),
            obsolete: false,
            awaited: false,
            connections: 0,
            elsewhere: 0,
            failed: false,
            avoided_until: None,
        });
        self.join(id.slot);
        self.tell(Event::Added(id));
        Ok(())
    }

    /// Returns the number of connections that it had.
    pub(super) fn remove(&mut self, slot: usize) -> usize {
        self.leave(slot);
        let removed = self.destinations.remove(slot);
        self.tell(Event::Closed(removed.id, removed.address));
        self.tell(Event::Removed(removed.id));
        removed.all_connections()
    }

    pub(super) fn withdraw(&mut self, address: SocketAddr) {
        // There is no end to what a person may remove.
        if self.withdrawn.len() < MAX_DESTINATIONS {
            self.withdrawn.insert(address);
        }
    }

    pub(super) fn tell(&self, event: Event) {
        self.subscribers.iter().for_each(|subscriber| subscriber(event));
    }

    /// The destination's place, if it is still there.
    pub(super) fn find(&self, id: DestinationId) -> Option<usize> {
        self.destinations.get(id.slot).filter(|it| it.id == id).map(|_| id.slot)
    }
}
