//! The weighted destination table: the only state that the threads share.
//!
//! It knows no thread, no socket and no event loop. Workers [`pick`](Table::pick) from it and hold a [`Lease`] for as
//! long as they use a destination; control changes it; whoever holds connections subscribes to hear which of them must
//! be closed. A watchdog, where there is one, says what each destination is good for: see [`health`].

mod destination;
mod found;
pub mod health;
mod lease;
mod policy;
mod saved;

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use slab::Slab;

use crate::address::Endpoint;
pub use destination::DestinationStatus;
use destination::{Destination, Standing};
use health::{Health, Verdict};
pub use lease::Lease;
use policy::Policy;
pub use policy::PolicyKind;
pub use saved::SavedTable;

/// Most destinations that a table takes.
pub const MAX_DESTINATIONS: usize = 16_384;

/// Tells one destination from every other that is or was in the table: one that was removed and added again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId {
    slot: usize,
    serial: u64,
}

/// What subscribers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The destination's connections are to be closed at once. Where it was may be needed when it is gone.
    Closed(DestinationId, SocketAddr),
    /// It is new.
    Added(DestinationId),
    /// It is gone.
    Removed(DestinationId),
    /// It has another address, of which nothing is known.
    Moved(DestinationId),
    /// A client could not connect to it.
    Doubted(DestinationId),
    /// A client waits to hear how it is.
    Awaited(DestinationId),
    /// That is known now, and whether it is fit.
    Checked(DestinationId, bool),
}

/// Called with the table locked: it must not call the table, nor wait for anybody.
pub type Subscriber = Box<dyn Fn(Event) + Send>;

/// Why a change was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// Nothing at this address to drain or to remove.
    NoSuchDestination,
    /// The table holds [`MAX_DESTINATIONS`].
    Full,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::NoSuchDestination => f.write_str("no such destination"),
            TableError::Full => write!(f, "the table is full ({MAX_DESTINATIONS} destinations)"),
        }
    }
}

impl std::error::Error for TableError {}

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// A new destination.
    Added,
    /// The weight it had before; the same as now when nothing changed.
    Reweighted(f64),
    /// Gone, with the number of connections that it had.
    Removed(usize),
}

/// How destinations are picked.
#[derive(Debug, Clone, Copy)]
pub struct Balancing {
    /// Which of the candidates is picked.
    pub policy: PolicyKind,
    /// Only those of the top weight are candidates.
    pub top: bool,
    /// How long a destination is passed over after a failed connect, while there are others.
    pub avoid_failed_for: Duration,
    /// Whether a watchdog judges the destinations, without whose word none is picked.
    pub watched: bool,
    /// How old its word may be when a client comes; `None`: any age.
    pub recheck_after: Option<Duration>,
}

/// Who put a destination into the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A person, on the command line or through the control port.
    ByHand,
    /// The daemon found it by itself.
    Discovered,
}

struct Inner {
    destinations: Slab<Destination>,
    next_serial: u64,
    balancing: Balancing,
    /// Picks from those that are fit.
    fit: Box<dyn Policy>,
    /// Picks from those that are avoided.
    avoided: Box<dyn Policy>,
    /// When each of those that are avoided is fit again.
    readmissions: BTreeSet<(Instant, usize)>,
    /// The slots that a client has tried; kept for its memory.
    tried: Vec<usize>,
    /// What was removed by hand, and is not to be discovered again.
    withdrawn: HashSet<SocketAddr>,
    subscribers: Vec<Subscriber>,
}

/// The table. Cheap to clone: all clones are the same table.
#[derive(Clone)]
pub struct Table(Arc<Mutex<Inner>>);

impl Table {
    /// An empty table.
    pub fn new(balancing: Balancing) -> Table {
        Table(Arc::new(Mutex::new(Inner {
            destinations: Slab::new(),
            next_serial: 0,
            fit: balancing.policy.build(balancing.top),
            avoided: balancing.policy.build(balancing.top),
            readmissions: BTreeSet::new(),
            tried: Vec::new(),
            withdrawn: HashSet::new(),
            balancing,
            subscribers: Vec::new(),
        })))
    }

    /// Has `subscriber` told of every event from now on.
    pub fn subscribe(&self, subscriber: Subscriber) {
        self.0.lock().subscribers.push(subscriber);
    }

    /// Adds the destination at `address`, or changes the weight of the one that is there. `endpoint` is how the user
    /// names it.
    ///
    /// # Errors
    /// [`TableError::Full`].
    pub fn set(&self, endpoint: &Endpoint, address: SocketAddr, weight: f64) -> Result<Change, TableError> {
        let mut inner = self.0.lock();
        inner.withdrawn.remove(&address);
        if let Some(slot) = inner.at(address) {
            inner.destinations[slot].origin = Origin::ByHand;
            return Ok(Change::Reweighted(inner.reweight(slot, weight)));
        }
        inner.add(endpoint, address, weight, Origin::ByHand)?;
        Ok(Change::Added)
    }

    /// Lets the destination at `address` have no new connections; those it has go on.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn drain(&self, address: SocketAddr) -> Result<Change, TableError> {
        let mut inner = self.0.lock();
        let slot = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        inner.destinations[slot].origin = Origin::ByHand;
        Ok(Change::Reweighted(inner.reweight(slot, 0.0)))
    }

    /// Takes the destination at `address` out and has its connections closed.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn remove(&self, address: SocketAddr) -> Result<Change, TableError> {
        let mut inner = self.0.lock();
        let slot = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        inner.withdraw(address);
        Ok(Change::Removed(inner.remove(slot)))
    }

    /// Has an address count as removed by hand, whether it is in the table or not.
    pub fn withdraw(&self, address: SocketAddr) {
        // That there is nothing to remove is what is wanted.
        if self.remove(address).is_err() {
            self.0.lock().withdraw(address);
        }
    }

    /// The addresses that were removed by hand and not added again since.
    pub fn withdrawn(&self) -> Vec<SocketAddr> {
        self.0.lock().withdrawn.iter().copied().collect()
    }

    /// The addresses of the destinations that were added under this name, so that those whose name no longer resolves
    /// can still be drained and removed.
    pub fn addresses_of(&self, endpoint: &Endpoint) -> Vec<SocketAddr> {
        let inner = self.0.lock();
        inner.destinations.iter().filter(|(_, it)| it.endpoint == *endpoint).map(|(_, it)| it.address).collect()
    }

    /// Picks a destination for a client, one that is not in `tried`, and counts a connection on it. Those whose last
    /// connect failed come only when there are no others. `None`: nothing is left to try.
    pub fn pick(&self, client: IpAddr, tried: &[DestinationId], now: Instant) -> Option<Lease> {
        let mut inner = self.0.lock();
        let slot = inner.pick(client, tried, now)?;
        inner.count(slot, |it| it.connections += 1);
        let destination = &inner.destinations[slot];
        Some(Lease {
            table: self.clone(),
            id: destination.id,
            address: destination.address,
            doubtful: destination.failed,
            outdated: inner.balancing.recheck_after.is_some_and(|age| destination.health.is_older_than(age, now)),
        })
    }

    /// Connections on all destinations together, those of other processes included.
    pub fn connections(&self) -> usize {
        self.0.lock().destinations.iter().map(|(_, it)| it.all_connections()).sum()
    }

    /// Every destination, in the order in which they were added.
    pub fn snapshot(&self) -> Vec<DestinationStatus> {
        let inner = self.0.lock();
        let mut destinations: Vec<&Destination> = inner.destinations.iter().map(|(_, it)| it).collect();
        destinations.sort_by_key(|it| it.id.serial);
        let share = inner.balancing.policy.deals_in_shares().then(|| inner.weights_in_play(&destinations));
        let mut upper_end = 0.0;
        let status = |(index, it): (usize, &&Destination)| DestinationStatus {
            endpoint: it.endpoint.clone(),
            address: it.address,
            id: it.id,
            origin: it.origin,
            weight: it.weight,
            weight_in_force: it.weight_in_force(),
            health: it.health.clone(),
            connections: it.all_connections(),
            map: share.as_ref().map(|weights| {
                upper_end += weights[index];
                upper_end
            }),
        };
        destinations.iter().enumerate().map(status).collect()
    }
}

impl Inner {
    fn at(&self, address: SocketAddr) -> Option<usize> {
        self.destinations.iter().find(|(_, it)| it.address == address).map(|(slot, _)| slot)
    }

    fn pick(&mut self, client: IpAddr, tried: &[DestinationId], now: Instant) -> Option<usize> {
        self.readmit(now);
        self.tried.clear();
        for id in tried {
            self.tried.extend(self.find(*id));
        }
        self.fit.pick(client, &self.tried).or_else(|| self.avoided.pick(client, &self.tried))
    }

    /// Those that have been avoided for long enough are fit again.
    fn readmit(&mut self, now: Instant) {
        while let Some((_, slot)) = self.readmissions.first().copied().filter(|(until, _)| *until <= now) {
            self.change(slot, |it| it.avoided_until = None);
        }
    }

    fn reweight(&mut self, slot: usize, weight: f64) -> f64 {
        if self.destinations[slot].weight == weight {
            // Its place among the others stays as it is.
            return weight;
        }
        self.change(slot, |it| std::mem::replace(&mut it.weight, weight))
    }

    /// Changes what decides where a destination stands.
    fn change<T>(&mut self, slot: usize, change: impl FnOnce(&mut Destination) -> T) -> T {
        self.leave(slot);
        let result = change(&mut self.destinations[slot]);
        self.join(slot);
        result
    }

    fn join(&mut self, slot: usize) {
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

    fn leave(&mut self, slot: usize) {
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

    fn count(&mut self, slot: usize, change: impl FnOnce(&mut Destination)) {
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
    fn weights_in_play(&self, destinations: &[&Destination]) -> Vec<f64> {
        let fit = |it: &&&Destination| it.health.verdict == Some(Verdict::Ready);
        let top = destinations.iter().filter(fit).map(|it| it.weight).fold(0.0, f64::max);
        let in_play = |it: &&Destination| match it {
            it if !fit(&it) || (self.balancing.top && it.weight < top) => 0.0,
            it => it.weight_in_force(),
        };
        let total: f64 = destinations.iter().map(in_play).sum();
        destinations.iter().map(|it| if total > 0.0 { in_play(it) / total } else { 0.0 }).collect()
    }

    fn add(&mut self, endpoint: &Endpoint, address: SocketAddr, weight: f64, origin: Origin) -> Result<(), TableError> {
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
    fn remove(&mut self, slot: usize) -> usize {
        self.leave(slot);
        let removed = self.destinations.remove(slot);
        self.tell(Event::Closed(removed.id, removed.address));
        self.tell(Event::Removed(removed.id));
        removed.all_connections()
    }

    fn withdraw(&mut self, address: SocketAddr) {
        // There is no end to what a person may remove.
        if self.withdrawn.len() < MAX_DESTINATIONS {
            self.withdrawn.insert(address);
        }
    }

    fn tell(&self, event: Event) {
        self.subscribers.iter().for_each(|subscriber| subscriber(event));
    }

    /// The destination's place, if it is still there.
    fn find(&self, id: DestinationId) -> Option<usize> {
        self.destinations.get(id.slot).filter(|it| it.id == id).map(|_| id.slot)
    }
}

#[cfg(test)]
mod tests;
