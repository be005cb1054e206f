//! Host names: which destinations each of them stands for, and what follows when that changes.
//!
//! Several names may stand for one destination, which stays for as long as one of them, or a hand, wants it there.

use std::collections::HashMap;
use std::net::SocketAddr;

use super::destination::Destination;
use super::health::{Health, Reason};
use super::inner::Inner;
use super::{Event, MAX_DESTINATIONS, Origin, Pool, TableError};
use crate::address::{Endpoint, PeerAddress};

/// Most names and addresses as which one destination is wanted.
const MAX_WANTED_AS: usize = 256;

/// Where each name stands.
pub(super) type Names = HashMap<Endpoint, Standing>;

/// What a name stands for.
pub(super) enum Standing {
    /// The destinations in these slots, at least one.
    At(Vec<usize>),
    /// Nothing: it has not resolved yet. Its destination will have this place in the order.
    Nowhere { serial: u64, weight: f64, reason: Reason },
}

/// A name that has not resolved yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unresolved {
    /// The name.
    pub endpoint: Endpoint,
    /// Which its destination will have.
    pub weight: f64,
    /// Why it does not resolve.
    pub reason: Reason,
    /// Its place in the order of the destinations.
    pub(super) serial: u64,
}

/// What has followed from a name's addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Followed {
    /// Its destination is at the second address now, no longer at the first.
    Moved(PeerAddress, PeerAddress),
    /// There is a new destination.
    Added(PeerAddress),
    /// It stands for a destination that there was already.
    Joined(PeerAddress),
    /// It has an address again, where its destination still is.
    Regained(PeerAddress),
    /// It no longer has this address, whose destination takes no new clients.
    Lost(PeerAddress),
    /// It no longer has this address, where the destination stays: others want it there.
    Left(PeerAddress),
    /// A destination is gone whose address it no longer has.
    Removed(PeerAddress),
    /// There can be no destination at this address, for this reason.
    Refused(PeerAddress, TableError),
}

impl Pool {
    /// All names, in no order.
    pub fn names(&self) -> Vec<Endpoint> {
        self.lock().names.keys().cloned().collect()
    }

    /// The names that have not resolved yet, in the order in which they were added.
    pub fn unresolved(&self) -> Vec<Unresolved> {
        let inner = self.lock();
        let nowhere = inner.names.iter().filter_map(|(endpoint, standing)| match standing {
            Standing::Nowhere { serial, weight, reason } => Some((*serial, endpoint, *weight, reason)),
            Standing::At(_) => None,
        });
        let mut nowhere: Vec<_> = nowhere.collect();
        nowhere.sort_by_key(|(serial, ..)| *serial);
        let unresolved = |(serial, endpoint, weight, reason): (u64, &Endpoint, f64, &Reason)| Unresolved {
            endpoint: endpoint.clone(),
            weight,
            reason: reason.clone(),
            serial,
        };
        nowhere.into_iter().map(unresolved).collect()
    }

    /// Whether a name has not resolved yet.
    pub fn is_unresolved(&self, name: &Endpoint) -> bool {
        matches!(self.lock().names.get(name), Some(Standing::Nowhere { .. }))
    }

    /// The addresses of the destinations that a name stands for, so that those whose name no longer resolves can still be
    /// drained and removed.
    pub fn addresses_of(&self, name: &Endpoint) -> Vec<PeerAddress> {
        let inner = self.lock();
        inner.slots_of(name).into_iter().map(|slot| inner.destinations[slot].address).collect()
    }

    /// Where a destination is, as far as that need not be resolved: its own address, or those that its name stands for.
    pub fn known_addresses(&self, endpoint: &Endpoint) -> Vec<PeerAddress> {
        endpoint.address().map_or_else(|| self.addresses_of(endpoint), |address| vec![address])
    }

    /// The address of one of a name's destinations that new clients can connect to, as far as is known.
    pub fn sound_address_of(&self, name: &Endpoint) -> Option<PeerAddress> {
        let inner = self.lock();
        let slots = inner.slots_of(name).into_iter();
        slots.map(|slot| &inner.destinations[slot]).find(|it| it.is_sound()).map(|it| it.address)
    }

    /// Every name and the addresses that it has, in order; but for addresses with a zone, whose interface may have another
    /// number at the next start, and another one theirs.
    pub fn named_addresses(&self) -> Vec<(Endpoint, PeerAddress)> {
        let inner = self.lock();
        let mut slots: Vec<&Destination> =
            inner.destinations.iter().map(|(_, it)| it).filter(|it| !it.obsolete && !it.leaving).collect();
        slots.sort_by_key(|it| it.id.serial);
        let has_zone =
            |it: &Destination| matches!(it.address.inet(), Some(SocketAddr::V6(address)) if address.scope_id() != 0);
        slots.retain(|it| !has_zone(it));
        let names = |it: &Destination| it.names().map(|name| (name.clone(), it.address)).collect::<Vec<_>>();
        slots.into_iter().flat_map(names).collect()
    }

    /// Adds a name that does not resolve, for this reason. One that stands for a destination keeps it.
    ///
    /// # Errors
    /// [`TableError::Full`].
    pub fn expect(&self, name: &Endpoint, weight: f64, reason: Reason) -> Result<(), TableError> {
        let mut inner = self.lock();
        let serial = match inner.names.get(name) {
            Some(Standing::At(_)) => return Ok(()),
            Some(Standing::Nowhere { serial, .. }) => *serial,
            None if inner.names.len() >= MAX_DESTINATIONS => return Err(TableError::Full),
            None => inner.next_serial(),
        };
        inner.names.insert(name.clone(), Standing::Nowhere { serial, weight, reason });
        Ok(())
    }

    /// Changes the weight that the destination of a name will have which has not resolved yet. Returns the one before, or
    /// `None` if there is no such name.
    pub fn reweigh_unresolved(&self, name: &Endpoint, weight: f64) -> Option<f64> {
        match self.lock().names.get_mut(name) {
            Some(Standing::Nowhere { weight: before, .. }) => Some(std::mem::replace(before, weight)),
            _ => None,
        }
    }

    /// Says why a name still does not resolve. Nothing happens if it stands for a destination, or is not there.
    pub fn still_unresolved(&self, name: &Endpoint, why: Reason) {
        if let Some(Standing::Nowhere { reason, .. }) = self.lock().names.get_mut(name) {
            *reason = why;
        }
    }

    /// Takes a name out, and the destinations that nothing else wants where they are. Returns where they are, with the
    /// number of connections of each that is gone.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn remove_name(&self, name: &Endpoint) -> Result<Vec<(PeerAddress, Option<usize>)>, TableError> {
        let mut inner = self.lock();
        match inner.names.get(name) {
            None => return Err(TableError::NoSuchDestination),
            Some(Standing::Nowhere { .. }) => {
                inner.names.remove(name);
                return Ok(Vec::new());
            }
            Some(Standing::At(_)) => {}
        }
        let mut gone = Vec::new();
        for slot in inner.slots_of(name) {
            let destination = &inner.destinations[slot];
            let address = destination.address;
            if destination.is_wanted_otherwise(name) {
                inner.unwant(slot, name);
                gone.push((address, None));
            } else {
                inner.withdraw(address);
                gone.push((address, Some(inner.remove(slot))));
            }
        }
        inner.tell(Event::Named);
        Ok(gone)
    }

    /// Has a name stand for the addresses that it was found to have: for `all` of them, or for one. Nothing happens if it
    /// has been removed meanwhile.
    pub fn follow(&self, name: &Endpoint, found: &[PeerAddress], all: bool) -> Vec<Followed> {
        let mut inner = self.lock();
        let news = match inner.names.get(name) {
            None => Vec::new(),
            Some(Standing::Nowhere { .. }) => inner.arrive(name, found, all),
            Some(Standing::At(_)) => inner.follow(name, found, all),
        };
        if !news.is_empty() {
            inner.tell(Event::Named);
        }
        news
    }
}

impl Inner {
    pub(super) fn slots_of(&self, name: &Endpoint) -> Vec<usize> {
        match self.names.get(name) {
            Some(Standing::At(slots)) => slots.clone(),
            _ => Vec::new(),
        }
    }

    /// Has a destination wanted as this as well.
    ///
    /// # Errors
    /// [`TableError::TooManyNames`].
    pub(super) fn want(&mut self, slot: usize, endpoint: &Endpoint) -> Result<(), TableError> {
        let wanted_as = &mut self.destinations[slot].wanted_as;
        if wanted_as.contains(endpoint) {
            return Ok(());
        }
        if wanted_as.len() >= MAX_WANTED_AS {
            return Err(TableError::TooManyNames);
        }
        wanted_as.push(endpoint.clone());
        self.register(slot, endpoint);
        self.review_backup(slot);
        Ok(())
    }

    /// Takes note of a name that a destination is wanted as.
    pub(super) fn register(&mut self, slot: usize, endpoint: &Endpoint) {
        if !endpoint.is_name() {
            return;
        }
        match self.names.get_mut(endpoint) {
            Some(Standing::At(slots)) => slots.push(slot),
            _ => drop(self.names.insert(endpoint.clone(), Standing::At(vec![slot]))),
        }
    }

    /// A destination is not wanted as this any more, but otherwise.
    pub(super) fn unwant(&mut self, slot: usize, name: &Endpoint) {
        self.destinations[slot].wanted_as.retain(|it| it != name);
        self.unregister(slot, name);
        self.review_backup(slot);
    }

    pub(super) fn unregister(&mut self, slot: usize, endpoint: &Endpoint) {
        if let Some(Standing::At(slots)) = self.names.get_mut(endpoint) {
            slots.retain(|it| *it != slot);
            if slots.is_empty() {
                self.names.remove(endpoint);
            }
        }
    }

    /// A name has resolved for the first time.
    fn arrive(&mut self, name: &Endpoint, found: &[PeerAddress], all: bool) -> Vec<Followed> {
        let Some(Standing::Nowhere { serial, weight, reason }) = self.names.remove(name) else { return Vec::new() };
        let mut serial_left = Some(serial);
        let wanted = found.iter().take(if all { usize::MAX } else { 1 });
        let place = |address: &PeerAddress| self.place(name, *address, weight, Origin::ByHand, serial_left.take());
        let news = wanted.map(place).collect();
        // Also when nothing was found, or there is no room.
        self.names.entry(name.clone()).or_insert(Standing::Nowhere { serial, weight, reason });
        news
    }

    /// The addresses of a name may be others than before.
    fn follow(&mut self, name: &Endpoint, found: &[PeerAddress], all: bool) -> Vec<Followed> {
        let slots = self.slots_of(name);
        let live: Vec<usize> = slots.iter().copied().filter(|slot| !self.destinations[*slot].obsolete).collect();
        let wanted = match (all, live.iter().map(|slot| self.destinations[*slot].address).find(|it| found.contains(it)))
        {
            (true, _) => found.to_vec(),
            (false, Some(kept)) => vec![kept],
            (false, None) => found.iter().copied().take(1).collect(),
        };
        if let ([slot], [address], false) = (&live[..], &wanted[..], all)
            && let Some(from) = self.move_to(*slot, name, *address)
        {
            return vec![Followed::Moved(from, *address)];
        }
        let mut news = Vec::new();
        // The weight is that of the name, and is not to be lost with the destinations.
        let model = live.first().or(slots.first()).map(|slot| &self.destinations[*slot]);
        let weight = model.map_or(1.0, |it| it.weight);
        let origin = if all { Origin::Discovered } else { Origin::ByHand };
        let had: Vec<PeerAddress> = slots.iter().map(|slot| self.destinations[*slot].address).collect();
        for address in wanted.iter().filter(|address| !had.contains(address)) {
            if !(all && self.withdrawn.contains(address)) {
                news.push(self.place(name, *address, weight, origin, None));
            }
        }
        for slot in slots {
            let is_wanted = wanted.contains(&self.destinations[slot].address);
            match is_wanted {
                true => news.extend(self.keep(slot)),
                false => news.extend(self.leave_to_others(slot, name)),
            }
        }
        news
    }

    /// Has new connections of a name's only destination go to another address, where there is none yet. Those that there
    /// are stay; what was known of its health is forgotten. Returns where it was, if it has moved.
    pub(super) fn move_to(&mut self, slot: usize, name: &Endpoint, address: PeerAddress) -> Option<PeerAddress> {
        if self.at(address).is_some() || self.destinations[slot].is_wanted_otherwise(name) {
            return None;
        }
        let (id, watched) = (self.destinations[slot].id, self.settings.watched);
        let before = self.rejoin(slot, |it| {
            let before = std::mem::replace(&mut it.address, address);
            it.health = Health::at_first(watched);
            (it.refusals, it.avoided_until) = (None, None);
            before
        });
        self.tell(Event::Moved(id, before, address));
        // Its sessions may be closed, and are known at the new address by now.
        self.review_singles();
        Some(before)
    }

    /// Has a name stand for the destination at `address`, which is added if there is none.
    fn place(
        &mut self,
        name: &Endpoint,
        address: PeerAddress,
        weight: f64,
        origin: Origin,
        serial: Option<u64>,
    ) -> Followed {
        let placed = match self.at(address) {
            Some(slot) => self.want(slot, name).map(|()| {
                self.keep(slot);
                Followed::Joined(address)
            }),
            None => self.add(name, address, weight, origin, serial).map(|()| Followed::Added(address)),
        };
        placed.unwrap_or_else(|error| Followed::Refused(address, error))
    }

    /// A destination is where its name says.
    fn keep(&mut self, slot: usize) -> Option<Followed> {
        let address = self.destinations[slot].address;
        self.destinations[slot].obsolete.then(|| {
            self.change(slot, |it| it.obsolete = false);
            Followed::Regained(address)
        })
    }

    /// A destination is no longer where this name says. It goes when nothing else wants it and it has no connections. The
    /// last one that a name stands for stays, because a name without any would be forgotten and never followed again.
    fn leave_to_others(&mut self, slot: usize, name: &Endpoint) -> Vec<Followed> {
        let destination = &self.destinations[slot];
        let (address, is_last) = (destination.address, self.slots_of(name).len() == 1);
        if destination.is_wanted_otherwise(name) {
            if is_last {
                return Vec::new();
            }
            self.unwant(slot, name);
            return vec![Followed::Left(address)];
        }
        let mut news = Vec::new();
        if !destination.obsolete {
            news.push(Followed::Lost(address));
            self.change(slot, |it| it.obsolete = true);
        }
        if self.destinations[slot].all_connections() == 0 && !is_last {
            news.push(Followed::Removed(address));
            self.remove(slot);
        }
        news
    }
}
