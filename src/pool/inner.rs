//! What is behind a pool's lock: destinations, and where each stands with the policies.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Instant;

use slab::Slab;

use super::agent::AgentState;
use super::destination::Destination;
use super::health::{Health, Reason};
use super::history::History;
use super::label::Label;
use super::named::Names;
use super::queue::{Line, Room};
use super::rotation::{RotationId, RotationState};
use super::single::PickScope;
use super::tiers::{TierPick, readmission};
use super::tried::Tried;
use super::{DestinationId, Event, MAX_DESTINATIONS, Origin, PoolSettings, Subscriber, TableError};
use crate::address::{Endpoint, PeerAddress};
use crate::counters::{Counters, Totals};

/// What a pool's lock protects.
pub(super) struct Inner {
    /// Tells it from other pools.
    pub(super) number: u32,
    /// What log lines call its destinations.
    pub(super) label: Label,
    pub(super) next_serial: u64,
    pub(super) destinations: Slab<Destination>,
    /// The slot of each.
    pub(super) by_address: HashMap<PeerAddress, usize>,
    /// Where each name stands.
    pub(super) names: Names,
    /// What is wanted as nothing but some of these is a backup, of the lowest of their numbers.
    pub(super) backups: HashMap<Endpoint, u8>,
    pub(super) settings: PoolSettings,
    /// What picks from them.
    pub(super) rotations: Slab<RotationState>,
    /// When each of those that are avoided is fit again.
    pub(super) readmissions: BTreeSet<(Instant, usize)>,
    /// How many clients have ever waited for room on a destination, and how many do.
    pub(super) next_ticket: u64,
    pub(super) waiting: usize,
    /// Where there may be room for them.
    pub(super) room: Room,
    /// What those that have been removed have come to.
    pub(super) gone: Totals,
    /// How many destinations have been removed.
    pub(super) removals: u64,
    /// What was removed by hand, and is not to be discovered again.
    pub(super) withdrawn: HashSet<PeerAddress>,
    /// Clients wait until every destination that there is at first has been judged.
    pub(super) awaits_first_verdicts: bool,
    /// Why no checks are being made.
    pub(super) checks_note: Option<Reason>,
    pub(super) subscribers: Vec<Subscriber>,
}

impl Inner {
    pub(super) fn at(&self, address: PeerAddress) -> Option<usize> {
        self.by_address.get(&address).copied()
    }

    /// In the order in which they were added.
    pub(super) fn in_order(&self) -> Vec<&Destination> {
        let mut destinations: Vec<&Destination> = self.destinations.iter().map(|(_, it)| it).collect();
        destinations.sort_by_key(|it| it.id.serial);
        destinations
    }

    pub(super) fn pick(&mut self, rotation: RotationId, client: IpAddr, tried: &mut Tried, now: Instant) -> Picked {
        if self.awaits_first_verdicts {
            return Picked::Wait;
        }
        self.readmit(now);
        tried.forget_absent((self.number, self.removals), |id| self.find(id).is_some());
        match self.scope(rotation, tried, now) {
            PickScope::Wait => return Picked::Wait,
            PickScope::Only(None) => return Picked::Nothing,
            PickScope::Only(Some(slot)) => return self.if_it_has_room(slot),
            PickScope::Policy => {}
        }
        let picked = match self.writer_to_avoid(rotation).filter(|writer| !tried.has(*writer)) {
            Some(writer) => self.pick_another(rotation, writer, client, tried),
            None => self.rotation_mut(rotation).tiers.pick(client, tried),
        };
        match picked {
            TierPick::Slot(slot) => self.if_it_has_room(slot),
            TierPick::Full(_) => Picked::Full(None),
            TierPick::Nothing => Picked::Nothing,
        }
    }

    fn if_it_has_room(&self, slot: usize) -> Picked {
        if self.destinations[slot].is_full() { Picked::Full(Some(slot)) } else { Picked::Slot(slot) }
    }

    /// Counts a connection on a destination that was picked for a client.
    pub(super) fn take(&mut self, rotation: RotationId, slot: usize) {
        self.count(slot, |it| it.connections += 1);
        self.rotation_mut(rotation).count(slot, |sessions| sessions + 1);
    }

    /// Has others preferred to a destination for a while. Without a watchdog, it is no longer the choice of a hand.
    pub(super) fn avoid(&mut self, slot: usize, now: Instant) {
        let until = now + self.settings.avoid_failed_for;
        let is_no_choice_now = !self.settings.watched && self.forget_choice(slot);
        self.prefer(slot, |it| it.avoided_until = Some(until));
        if is_no_choice_now {
            self.settled();
        }
    }

    /// Those that have been avoided for long enough are fit again.
    fn readmit(&mut self, now: Instant) {
        while let Some((_, slot)) = self.readmissions.first().copied().filter(|(until, _)| *until <= now) {
            self.prefer(slot, |it| it.avoided_until = None);
        }
    }

    /// Changes whether others are preferred to a destination, which makes no room anywhere.
    pub(super) fn prefer(&mut self, slot: usize, change: impl FnOnce(&mut Destination)) {
        self.rejoin(slot, change);
        self.review_singles();
    }

    pub(super) fn reweight(&mut self, slot: usize, weight: f64) -> f64 {
        if self.destinations[slot].weight == weight {
            // Its place among the others stays as it is.
            return weight;
        }
        if weight == 0.0 {
            self.forget_choice(slot);
        }
        self.change(slot, |it| {
            it.leaving &= weight == 0.0;
            it.weight_before = (weight == 0.0).then_some(it.weight);
            std::mem::replace(&mut it.weight, weight)
        })
    }

    /// No rotation outweighs others with a destination any more. Returns true if one did.
    fn forget_choice(&mut self, slot: usize) -> bool {
        let destination = &self.destinations[slot];
        let forget = |(_, it): (usize, &mut RotationState)| it.tiers.forget_choice_of(destination);
        self.rotations.iter_mut().map(forget).fold(false, |any, forgotten| any | forgotten)
    }

    /// Changes what decides where a destination stands, and what follows from that for single ones.
    pub(super) fn change<T>(&mut self, slot: usize, change: impl FnOnce(&mut Destination) -> T) -> T {
        let result = self.rejoin(slot, change);
        self.review_singles();
        self.choices_changed();
        result
    }

    /// Changes what decides where a destination stands, and nothing else.
    pub(super) fn rejoin<T>(&mut self, slot: usize, change: impl FnOnce(&mut Destination) -> T) -> T {
        self.leave(slot);
        let result = change(&mut self.destinations[slot]);
        self.join(slot);
        result
    }

    fn join(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        // In an older process, one that has moved may meet one that is removed elsewhere: that one was there first.
        self.by_address.entry(destination.address).or_insert(slot);
        self.rotations.iter_mut().for_each(|(_, it)| it.tiers.join(destination));
        self.readmissions.extend(readmission(destination).map(|until| (until, slot)));
    }

    fn leave(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        if self.by_address.get(&destination.address) == Some(&slot) {
            self.by_address.remove(&destination.address);
        }
        self.rotations.iter_mut().for_each(|(_, it)| it.tiers.leave(destination));
        if let Some(until) = readmission(destination) {
            self.readmissions.remove(&(until, slot));
        }
    }

    pub(super) fn count(&mut self, slot: usize, change: impl FnOnce(&mut Destination)) {
        let destination = &mut self.destinations[slot];
        let limited = destination.limit.is_some();
        let was_full = limited && destination.is_full();
        if was_full {
            self.rotations.iter_mut().for_each(|(_, it)| it.tiers.leave(destination));
        }
        change(destination);
        destination.highest = destination.highest.max(destination.all_connections());
        match (was_full, limited && destination.is_full()) {
            (false, false) => self.rotations.iter_mut().for_each(|(_, it)| it.tiers.connections_changed(destination)),
            (false, true) => self.rotations.iter_mut().for_each(|(_, it)| it.tiers.fills(destination)),
            (true, is_full) => {
                self.rotations.iter_mut().for_each(|(_, it)| it.tiers.join(destination));
                if !is_full {
                    self.has_room(slot);
                }
            }
        }
        self.load_changed();
    }

    /// Adds a destination, with this serial number if one was kept for it.
    pub(super) fn add(
        &mut self,
        endpoint: &Endpoint,
        address: PeerAddress,
        weight: f64,
        origin: Origin,
        serial: Option<u64>,
    ) -> Result<(), TableError> {
        if self.destinations.len() >= MAX_DESTINATIONS {
            return Err(TableError::Full);
        }
        let serial = serial.unwrap_or_else(|| self.next_serial());
        let limit = self.limit_by(&AgentState::default());
        let entry = self.destinations.vacant_entry();
        let id = DestinationId { pool: self.number, slot: entry.key() as u32, serial };
        entry.insert(Destination {
            id,
            wanted_as: vec![endpoint.clone()],
            address,
            origin,
            placed_by_hand: false,
            weight,
            weight_before: None,
            health: Health::at_first(self.settings.watched),
            history: History::new(),
            obsolete: false,
            leaving: false,
            backup: self.backups.get(endpoint).copied().unwrap_or_default(),
            awaited: false,
            limit,
            connections: 0,
            highest: 0,
            counters: Counters::default(),
            elsewhere: 0,
            refusals: None,
            avoided_until: None,
        });
        self.join(id.slot());
        self.register(id.slot(), endpoint);
        self.tell(Event::Added(id));
        self.review_singles();
        self.choices_changed();
        Ok(())
    }

    /// Whether a client is to wait for another check; while none is made, there is nothing to wait for.
    pub(super) fn is_outdated(&self, destination: &Destination, now: Instant) -> bool {
        let age = self.settings.recheck_after.filter(|_| self.checks_note.is_none());
        age.is_some_and(|age| destination.health.is_older_than(age, now))
    }

    /// Returns the number of connections that it had.
    pub(super) fn remove(&mut self, slot: usize) -> usize {
        self.leave(slot);
        self.removals += 1;
        let removed = self.destinations.remove(slot);
        removed.wanted_as.iter().for_each(|endpoint| self.unregister(slot, endpoint));
        self.tell(Event::Closed(removed.id, removed.address, None));
        self.tell(Event::Removed(removed.id));
        self.singles().into_iter().for_each(|rotation| self.single_removed(rotation, &removed));
        self.rotations.iter_mut().for_each(|(_, it)| it.forget(&removed));
        self.choices_changed();
        self.gone += &removed.counters.totals();
        self.load_changed();
        removed.all_connections()
    }

    pub(super) fn withdraw(&mut self, address: PeerAddress) {
        // There is no end to what a person may remove.
        if self.withdrawn.len() < MAX_DESTINATIONS {
            self.withdrawn.insert(address);
        }
    }

    pub(super) fn tell(&self, event: Event) {
        self.subscribers.iter().for_each(|subscriber| subscriber(event));
    }

    pub(super) fn next_serial(&mut self) -> u64 {
        self.next_serial += 1;
        self.next_serial - 1
    }

    /// The destination's place, if it is still there.
    pub(super) fn find(&self, id: DestinationId) -> Option<usize> {
        self.destinations.get(id.slot()).filter(|it| it.id == id).map(|_| id.slot())
    }
}

/// The outcome of a pick.
pub(super) enum Picked {
    Slot(usize),
    /// What the client may have is full, and it may wait for this.
    Full(Line),
    Wait,
    Nothing,
}
