//! A pool as plain data, for a process that takes over from this one; and what other processes have to do with it.

use std::time::{Duration, Instant, SystemTime};

use log::warn;
use serde::{Deserialize, Serialize};

use super::agent::AgentState;
use super::health::{Health, Reason, Verdict};
use super::history::SavedHistory;
use super::inner::Inner;
use super::named::Standing;
use super::succession::SavedSwitchover;
use super::{Origin, Pool, Rotation, Unresolved};
use crate::address::{Endpoint, PeerAddress};

/// Everything in a pool that another process is to go on with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SavedPool {
    /// In the order in which they were added.
    destinations: Vec<SavedDestination>,
    withdrawn: Vec<PeerAddress>,
    /// Names without a destination.
    #[serde(default)]
    unresolved: Vec<SavedName>,
}

/// Everything in a rotation that another process is to go on with.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SavedRotation {
    /// Where the single destination is.
    kept: Option<PeerAddress>,
    /// Since when it is there.
    #[serde(default)]
    since: Option<SystemTime>,
    /// Its move, where one is under way.
    switchover: Option<SavedSwitchover>,
    /// The choice of a hand, and the weight that it counts as.
    chosen: Option<(PeerAddress, f64)>,
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
    address: PeerAddress,
    origin: Origin,
    #[serde(default)]
    placed_by_hand: bool,
    weight: f64,
    obsolete: bool,
    #[serde(default)]
    leaving: bool,
    verdict: Option<Verdict>,
    reason: Reason,
    since: Option<SystemTime>,
    /// How long ago.
    checked: Option<Duration>,
    latency: Duration,
    scale: f64,
    #[serde(default)]
    agent: AgentState,
    #[serde(default)]
    weight_before: Option<f64>,
    #[serde(default)]
    history: SavedHistory,
}

impl Pool {
    /// What another process needs to go on with this pool.
    pub fn save(&self, now: Instant) -> SavedPool {
        let inner = self.lock();
        let slots = inner.in_order();
        let saved = slots.iter().filter_map(|it| it.wanted_as.split_first().zip(Some(it)));
        let saved = saved.map(|((endpoint, more), it)| SavedDestination {
            endpoint: endpoint.clone(),
            more: more.to_vec(),
            address: it.address,
            origin: it.origin,
            placed_by_hand: it.placed_by_hand,
            weight: it.weight,
            obsolete: it.obsolete,
            leaving: it.leaving,
            verdict: it.health.verdict,
            reason: it.health.reason.clone(),
            since: it.health.since,
            checked: it.health.checked.map(|checked| now.saturating_duration_since(checked)),
            latency: it.health.latency,
            scale: it.health.scale,
            agent: it.health.agent.clone(),
            weight_before: it.weight_before,
            history: it.history.save(it.health.verdict),
        });
        let destinations = saved.collect();
        let withdrawn = inner.withdrawn.iter().copied().collect();
        let serials: Vec<u64> = slots.iter().map(|it| it.id.serial).collect();
        drop(inner);
        let unresolved = self.unresolved().into_iter().map(|Unresolved { endpoint, weight, reason, serial }| {
            let place = serials.partition_point(|it| *it < serial);
            SavedName { endpoint, weight, reason, place }
        });
        let unresolved = unresolved.collect();
        SavedPool { destinations, withdrawn, unresolved }
    }

    /// Takes over another process's pool. This one must be empty.
    pub fn restore(&self, saved: SavedPool, now: Instant) {
        let mut inner = self.lock();
        let mut unresolved = saved.unresolved.into_iter().peekable();
        for (place, it) in saved.destinations.into_iter().enumerate() {
            while let Some(name) = unresolved.next_if(|name| name.place <= place) {
                inner.expect(name);
            }
            if !it.address.can_be_connected_to() {
                let (pool, name) = (inner.label.pool(), inner.label.of(it.address));
                warn!(
                    destination:% = it.address, pool;
                    "destination {name} is not taken over: nothing can be connected to it"
                );
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
                agent: it.agent,
            };
            let (obsolete, leaving, weight_before) = (it.obsolete, it.leaving, it.weight_before);
            let limit = inner.limit_by(&health.agent);
            inner.destinations[slot].history = it.history.resumed();
            inner.destinations[slot].placed_by_hand = it.placed_by_hand;
            inner.change(slot, |it| {
                (it.health, it.limit) = (health, limit);
                (it.obsolete, it.leaving, it.weight_before) = (obsolete, leaving, weight_before);
            });
        }
        unresolved.for_each(|name| inner.expect(name));
        inner.withdrawn.extend(saved.withdrawn);
    }

    /// How many connections of this process count on each destination that has any.
    pub fn own_connections(&self) -> Vec<(PeerAddress, usize)> {
        let inner = self.lock();
        let counts = inner.destinations.iter().map(|(_, it)| (it.address, it.connections));
        counts.filter(|(_, connections)| *connections > 0).collect()
    }

    /// Knows a destination by another address, as another process does; nobody is told.
    pub fn rename(&self, from: PeerAddress, to: PeerAddress) {
        let mut inner = self.lock();
        if let Some(slot) = inner.at(from) {
            inner.change(slot, |it| it.address = to);
        }
    }

    /// Says how many connections other processes have on the destination at `address`, where there is one.
    pub fn set_elsewhere(&self, address: PeerAddress, connections: usize) {
        let mut inner = self.lock();
        if let Some(slot) = inner.at(address) {
            inner.count(slot, |it| it.elsewhere = connections);
            inner.let_go(slot);
        }
    }
}

impl Rotation {
    /// What another process needs to go on with this rotation.
    pub fn save_choices(&self, now: Instant) -> SavedRotation {
        let inner = self.pool().lock();
        let tiers = &inner.rotation(self.id()).tiers;
        let kept = inner.current_single(self.id()).map(|slot| inner.destinations[slot].address);
        let chosen = tiers.choice().and_then(|id| inner.find(id)).map(|slot| &inner.destinations[slot]);
        SavedRotation {
            kept,
            since: inner.single_since(self.id()),
            switchover: inner.save_switchover(self.id(), now),
            chosen: chosen.map(|it| (it.address, tiers.outweighs(it))),
        }
    }

    /// Takes over another process's rotation. Its pool must have been [restored](Pool::restore) before.
    pub fn restore_choices(&self, saved: SavedRotation, now: Instant) {
        let mut inner = self.pool().lock();
        if let Some((address, weight)) = saved.chosen
            && let Some(slot) = inner.at(address)
        {
            inner.choose(self.id(), slot, weight);
        }
        let kept = saved.kept.map(|kept| (kept, saved.since.unwrap_or_else(SystemTime::now)));
        inner.restore_single(self.id(), kept, saved.switchover, now);
    }

    /// How many of the connections of this process on each destination were picked here, where the policy keeps to a single
    /// one; nothing where it does not.
    pub fn own_sessions(&self) -> Vec<(PeerAddress, usize)> {
        let inner = self.pool().lock();
        let Some(single) = inner.single(self.id()) else { return Vec::new() };
        let sessions = |slot| single.sessions.get(slot).unwrap_or_default();
        let counts = inner.destinations.iter().map(|(slot, it)| (it.address, sessions(slot)));
        counts.filter(|(_, sessions)| *sessions > 0).collect()
    }

    /// Says how many sessions that were picked by the same service in other processes the destination at `address` has, where
    /// the policy keeps to a single one.
    pub fn set_sessions_elsewhere(&self, address: PeerAddress, sessions: usize) {
        let mut inner = self.pool().lock();
        let slot = inner.at(address);
        if let Some(single) = inner.single_mut(self.id())
            && let Some(slot) = slot
        {
            single.elsewhere.insert(slot, sessions);
        }
        inner.former_elsewhere(self.id(), address, sessions);
    }
}

impl Inner {
    fn expect(&mut self, SavedName { endpoint, weight, reason, .. }: SavedName) {
        let serial = self.next_serial();
        self.names.entry(endpoint).or_insert(Standing::Nowhere { serial, weight, reason });
    }
}
