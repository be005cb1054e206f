//! A pool as plain data, for a process that takes over from this one; and what other processes have to do with it.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use log::warn;
use serde::{Deserialize, Serialize};

use super::health::{Health, Reason, Verdict};
use super::inner::Inner;
use super::named::Standing;
use super::succession::SavedSwitchover;
use super::{Origin, Pool, Rotation, Unresolved};
use crate::address::{Endpoint, can_be_connected_to};

/// Everything in a pool that another process is to go on with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SavedTable {
    /// In the order in which they were added.
    destinations: Vec<SavedDestination>,
    /// Where the single destination is.
    kept: Option<SocketAddr>,
    /// Its move, where one is under way.
    switchover: Option<SavedSwitchover>,
    withdrawn: Vec<SocketAddr>,
    /// Names without a destination.
    #[serde(default)]
    unresolved: Vec<SavedName>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedName {
    endpoint: Endpoint,
    weight: f64,
    reason: Reason,
    /// How many destinations come before it.
    place: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct SavedDestination {
    endpoint: Endpoint,
    /// What else it is wanted as.
    #[serde(default)]
    more: Vec<Endpoint>,
    address: SocketAddr,
    origin: Origin,
    weight: f64,
    obsolete: bool,
    verdict: Option<Verdict>,
    reason: Reason,
    since: Option<SystemTime>,
    /// How long ago.
    checked: Option<Duration>,
    latency: Duration,
    scale: f64,
    outweighs: f64,
    #[serde(default)]
    weight_before: Option<f64>,
}

impl Rotation {
    /// What another process needs to go on with this rotation and its pool.
    pub fn save(&self, now: Instant) -> SavedTable {
        let inner = self.pool().0.lock();
        let slots = inner.in_order();
        let tiers = &inner.rotation(self.id()).tiers;
        let kept = inner.current_single(self.id()).map(|slot| inner.destinations[slot].address);
        let saved = slots.iter().filter_map(|it| it.wanted_as.split_first().zip(Some(it)));
        let saved = saved.map(|((endpoint, more), it)| SavedDestination {
            endpoint: endpoint.clone(),
            more: more.to_vec(),
            address: it.address,
            origin: it.origin,
            weight: it.weight,
            obsolete: it.obsolete,
            verdict: it.health.verdict,
            reason: it.health.reason.clone(),
            since: it.health.since,
            checked: it.health.checked.map(|checked| now.saturating_duration_since(checked)),
            latency: it.health.latency,
            scale: it.health.scale,
            outweighs: tiers.outweighs(it),
            weight_before: it.weight_before,
        });
        let destinations = saved.collect();
        let withdrawn = inner.withdrawn.iter().copied().collect();
        let switchover = inner.save_switchover(self.id(), now);
        let serials: Vec<u64> = slots.iter().map(|it| it.id.serial).collect();
        drop(inner);
        let unresolved = self.unresolved().into_iter().map(|Unresolved { endpoint, weight, reason, serial }| {
            let place = serials.partition_point(|it| *it < serial);
            SavedName { endpoint, weight, reason, place }
        });
        let unresolved = unresolved.collect();
        SavedTable { destinations, kept, switchover, withdrawn, unresolved }
    }

    /// Takes over another process's pool and rotation. This pool must be empty.
    pub fn restore(&self, saved: SavedTable, now: Instant) {
        let mut inner = self.pool().0.lock();
        let mut unresolved = saved.unresolved.into_iter().peekable();
        for (place, it) in saved.destinations.into_iter().enumerate() {
            while let Some(name) = unresolved.next_if(|name| name.place <= place) {
                inner.expect(name);
            }
            if !can_be_connected_to(it.address.ip().to_canonical()) {
                warn!("destination {} is not taken over: nothing can be connected to it", it.address);
                continue;
            }
            // Its pool held no more than this one may.
            if inner.add(&it.endpoint, it.address, it.weight, it.origin, None).is_err() {
                break;
            }
            let Some(slot) = inner.at(it.address) else { continue };
            it.more.iter().for_each(|endpoint| _ = inner.want(slot, endpoint));
            let checked = it.checked.and_then(|age| now.checked_sub(age));
            let health = Health {
                verdict: it.verdict,
                reason: it.reason,
                since: it.since,
                checked,
                latency: it.latency,
                scale: it.scale,
            };
            let (obsolete, outweighs, weight_before) = (it.obsolete, it.outweighs, it.weight_before);
            inner.change(slot, |it| {
                (it.health, it.obsolete, it.weight_before) = (health, obsolete, weight_before);
            });
            if outweighs > 0.0 {
                inner.choose(self.id(), slot, outweighs);
            }
        }
        unresolved.for_each(|name| inner.expect(name));
        inner.withdrawn.extend(saved.withdrawn);
        inner.restore_single(self.id(), saved.kept, saved.switchover, now);
    }
}

impl Pool {
    /// How many connections of this process count on each destination that has any.
    pub fn own_connections(&self) -> Vec<(SocketAddr, usize)> {
        let inner = self.0.lock();
        let counts = inner.destinations.iter().map(|(_, it)| (it.address, it.connections));
        counts.filter(|(_, connections)| *connections > 0).collect()
    }

    /// Knows a destination by another address, as another process does; nobody is told.
    pub fn rename(&self, from: SocketAddr, to: SocketAddr) {
        let mut inner = self.0.lock();
        if let Some(slot) = inner.at(from) {
            inner.change(slot, |it| it.address = to);
        }
    }

    /// Says how many connections other processes have on the destination at `address`, where there is one.
    pub fn set_elsewhere(&self, address: SocketAddr, connections: usize) {
        let mut inner = self.0.lock();
        if let Some(slot) = inner.at(address) {
            inner.count(slot, |it| it.elsewhere = connections);
        }
        let singles = inner.singles();
        singles.into_iter().for_each(|rotation| inner.former_elsewhere(rotation, address, connections));
    }
}

impl Inner {
    fn expect(&mut self, SavedName { endpoint, weight, reason, .. }: SavedName) {
        let serial = self.next_serial();
        self.names.entry(endpoint).or_insert(Standing::Nowhere { serial, weight, reason });
    }
}
