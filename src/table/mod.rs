//! The weighted destination table: the only state that the threads share.
//!
//! It knows no thread, no socket and no event loop. Workers [`pick`](Table::pick) from it and hold a [`Lease`] for as
//! long as they use a destination; control changes it; whoever holds connections subscribes to hear which of them must
//! be closed.

mod policy;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use slab::Slab;

use crate::address::Endpoint;
pub use policy::PolicyKind;
use policy::{Candidate, Policy};

/// Most destinations that a table takes.
pub const MAX_DESTINATIONS: usize = 16_384;

/// Tells one destination from every other that is or was in the table: one that was removed and added again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DestinationId {
    slot: usize,
    serial: u64,
}

/// What subscribers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The destination's connections are to be closed at once.
    Closed(DestinationId),
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
}

struct Destination {
    serial: u64,
    endpoint: Endpoint,
    address: SocketAddr,
    /// As configured; zero takes no new connections.
    weight: f64,
    connections: usize,
    /// The last connect failed.
    failed: bool,
    /// Until then others are preferred.
    avoided_until: Option<Instant>,
}

impl Destination {
    fn standing(&self) -> Standing {
        match self.avoided_until {
            _ if self.weight <= 0.0 => Standing::Out,
            Some(until) => Standing::Avoided(until),
            None => Standing::Fit,
        }
    }

    fn candidate(&self, slot: usize) -> Candidate {
        let Destination { serial, address, weight, connections, .. } = *self;
        Candidate { slot, serial, address, weight, connections }
    }
}

/// Where a destination stands when a client comes.
enum Standing {
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
    /// As configured.
    pub weight: f64,
    /// Connections that count on it, those being opened included.
    pub connections: usize,
    /// Upper end of its share of [0, 1), where the policy deals in shares.
    pub map: Option<f64>,
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
        if let Some(slot) = inner.at(address) {
            return Ok(Change::Reweighted(inner.reweight(slot, weight)));
        }
        if inner.destinations.len() >= MAX_DESTINATIONS {
            return Err(TableError::Full);
        }
        let (serial, endpoint) = (inner.next_serial, endpoint.clone());
        inner.next_serial += 1;
        let (connections, failed, avoided_until) = (0, false, None);
        let destination = Destination { serial, endpoint, address, weight, connections, failed, avoided_until };
        let slot = inner.destinations.insert(destination);
        inner.join(slot);
        Ok(Change::Added)
    }

    /// Lets the destination at `address` have no new connections; those it has go on.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn drain(&self, address: SocketAddr) -> Result<Change, TableError> {
        let mut inner = self.0.lock();
        let slot = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        Ok(Change::Reweighted(inner.reweight(slot, 0.0)))
    }

    /// Takes the destination at `address` out and has its connections closed.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn remove(&self, address: SocketAddr) -> Result<Change, TableError> {
        let mut inner = self.0.lock();
        let slot = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        inner.leave(slot);
        let removed = inner.destinations.remove(slot);
        let event = Event::Closed(DestinationId { slot, serial: removed.serial });
        for subscriber in &inner.subscribers {
            subscriber(event);
        }
        Ok(Change::Removed(removed.connections))
    }

    /// The address of the destination that was added under this name, so that one whose name no longer resolves can
    /// still be drained and removed.
    pub fn address_of(&self, endpoint: &Endpoint) -> Option<SocketAddr> {
        let inner = self.0.lock();
        inner.destinations.iter().map(|(_, it)| it).find(|it| it.endpoint == *endpoint).map(|it| it.address)
    }

    /// Picks a destination for a client, one that is not in `tried`, and counts a connection on it. Those whose last
    /// connect failed come only when there are no others. `None`: nothing is left to try.
    pub fn pick(&self, client: IpAddr, tried: &[DestinationId], now: Instant) -> Option<Lease> {
        let mut inner = self.0.lock();
        let slot = inner.pick(client, tried, now)?;
        inner.count(slot, |connections| connections + 1);
        let destination = &inner.destinations[slot];
        Some(Lease {
            table: self.clone(),
            id: DestinationId { slot, serial: destination.serial },
            address: destination.address,
            doubtful: destination.failed,
        })
    }

    /// Connections on all destinations together.
    pub fn connections(&self) -> usize {
        self.0.lock().destinations.iter().map(|(_, it)| it.connections).sum()
    }

    /// Every destination, in the order in which they were added.
    pub fn snapshot(&self) -> Vec<DestinationStatus> {
        let inner = self.0.lock();
        let mut destinations: Vec<&Destination> = inner.destinations.iter().map(|(_, it)| it).collect();
        destinations.sort_by_key(|it| it.serial);
        let share = inner.balancing.policy.deals_in_shares().then(|| inner.weights_in_play(&destinations));
        let mut upper_end = 0.0;
        let status = |(index, it): (usize, &&Destination)| DestinationStatus {
            endpoint: it.endpoint.clone(),
            address: it.address,
            weight: it.weight,
            connections: it.connections,
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
            Standing::Fit => self.fit.join(&destination.candidate(slot)),
            Standing::Avoided(until) => {
                self.avoided.join(&destination.candidate(slot));
                self.readmissions.insert((until, slot));
            }
        }
    }

    fn leave(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        match destination.standing() {
            Standing::Out => {}
            Standing::Fit => self.fit.leave(&destination.candidate(slot)),
            Standing::Avoided(until) => {
                self.avoided.leave(&destination.candidate(slot));
                self.readmissions.remove(&(until, slot));
            }
        }
    }

    fn count(&mut self, slot: usize, change: impl FnOnce(usize) -> usize) {
        let destination = &mut self.destinations[slot];
        destination.connections = change(destination.connections);
        let candidate = destination.candidate(slot);
        match destination.standing() {
            Standing::Out => {}
            Standing::Fit => self.fit.connections_changed(&candidate),
            Standing::Avoided(_) => self.avoided.connections_changed(&candidate),
        }
    }

    /// Each destination's part of 1.
    fn weights_in_play(&self, destinations: &[&Destination]) -> Vec<f64> {
        let top = destinations.iter().map(|it| it.weight).fold(0.0, f64::max);
        let in_play = |it: &&Destination| if self.balancing.top && it.weight < top { 0.0 } else { it.weight };
        let total: f64 = destinations.iter().map(in_play).sum();
        destinations.iter().map(|it| if total > 0.0 { in_play(it) / total } else { 0.0 }).collect()
    }

    /// The destination's place, if it is still there.
    fn find(&self, id: DestinationId) -> Option<usize> {
        self.destinations.get(id.slot).filter(|it| it.serial == id.serial).map(|_| id.slot)
    }
}

/// One connection's claim on a destination: counted from the pick until it is dropped.
pub struct Lease {
    table: Table,
    id: DestinationId,
    address: SocketAddr,
    doubtful: bool,
}

impl Lease {
    /// Whose lease this is.
    pub fn id(&self) -> DestinationId {
        self.id
    }

    /// What to connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The connect succeeded. True when the one before had failed.
    pub fn connected(&mut self) -> bool {
        if !std::mem::take(&mut self.doubtful) {
            return false;
        }
        let mut inner = self.table.0.lock();
        let Some(slot) = inner.find(self.id) else { return false };
        if inner.destinations[slot].avoided_until.is_some() {
            inner.change(slot, |it| it.avoided_until = None);
        }
        std::mem::take(&mut inner.destinations[slot].failed)
    }

    /// Gives the lease back because the connect failed, so that others are preferred for a while. True when the one
    /// before had not failed.
    pub fn failed(self, now: Instant) -> bool {
        let mut inner = self.table.0.lock();
        let Some(slot) = inner.find(self.id) else { return false };
        let until = now + inner.balancing.avoid_failed_for;
        inner.change(slot, |it| {
            it.avoided_until = Some(until);
            !std::mem::replace(&mut it.failed, true)
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut inner = self.table.0.lock();
        if let Some(slot) = inner.find(self.id) {
            inner.count(slot, |connections| connections - 1);
        }
    }
}

#[cfg(test)]
mod tests;
