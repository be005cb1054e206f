//! The weighted destination table: the only state that the threads share.
//!
//! It knows no thread, no socket and no event loop. Workers [`pick`](Table::pick) from it and hold a [`Lease`] for as
//! long as they use a destination; control changes it; whoever holds connections subscribes to hear which of them must
//! be closed.

mod policy;

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
    /// The last connect failed; until then others are preferred.
    avoided_until: Option<Instant>,
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
    policy: Box<dyn Policy>,
    candidates: Vec<Candidate>,
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
            policy: balancing.policy.build(),
            balancing,
            candidates: Vec::new(),
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
        if let Some(destination) = inner.at(address) {
            return Ok(Change::Reweighted(std::mem::replace(&mut destination.weight, weight)));
        }
        if inner.destinations.len() >= MAX_DESTINATIONS {
            return Err(TableError::Full);
        }
        let serial = inner.next_serial;
        inner.next_serial += 1;
        let endpoint = endpoint.clone();
        inner.destinations.insert(Destination {
            serial,
            endpoint,
            address,
            weight,
            connections: 0,
            avoided_until: None,
        });
        Ok(Change::Added)
    }

    /// Lets the destination at `address` have no new connections; those it has go on.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn drain(&self, address: SocketAddr) -> Result<Change, TableError> {
        let mut inner = self.0.lock();
        let destination = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        Ok(Change::Reweighted(std::mem::replace(&mut destination.weight, 0.0)))
    }

    /// Takes the destination at `address` out and has its connections closed.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn remove(&self, address: SocketAddr) -> Result<Change, TableError> {
        let mut inner = self.0.lock();
        let found = inner.destinations.iter().find(|(_, destination)| destination.address == address);
        let slot = found.map(|(slot, _)| slot).ok_or(TableError::NoSuchDestination)?;
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
        let slot = inner.choose(client, tried, now)?;
        let destination = &mut inner.destinations[slot];
        destination.connections += 1;
        Some(Lease {
            table: self.clone(),
            id: DestinationId { slot, serial: destination.serial },
            address: destination.address,
            doubtful: destination.avoided_until.is_some(),
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
        let share = inner.policy.deals_in_shares().then(|| inner.weights_in_play(&destinations));
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
    fn at(&mut self, address: SocketAddr) -> Option<&mut Destination> {
        self.destinations.iter_mut().map(|(_, it)| it).find(|it| it.address == address)
    }

    fn choose(&mut self, client: IpAddr, tried: &[DestinationId], now: Instant) -> Option<usize> {
        self.gather(tried, |destination| destination.avoided_until.is_none_or(|until| until <= now));
        if self.candidates.is_empty() {
            self.gather(tried, |_| true);
        }
        if self.balancing.top {
            let top = self.candidates.iter().map(|it| it.weight).fold(0.0, f64::max);
            self.candidates.retain(|it| it.weight == top);
        }
        if self.candidates.is_empty() {
            return None;
        }
        self.policy.choose(&self.candidates, client)
    }

    fn gather(&mut self, tried: &[DestinationId], fit: impl Fn(&Destination) -> bool) {
        self.candidates.clear();
        for (slot, it) in &self.destinations {
            let id = DestinationId { slot, serial: it.serial };
            if it.weight > 0.0 && fit(it) && !tried.contains(&id) {
                let (weight, connections, address) = (it.weight, it.connections, it.address);
                self.candidates.push(Candidate { id, weight, connections, address });
            }
        }
    }

    /// Each destination's part of 1.
    fn weights_in_play(&self, destinations: &[&Destination]) -> Vec<f64> {
        let top = destinations.iter().map(|it| it.weight).fold(0.0, f64::max);
        let in_play = |it: &&Destination| if self.balancing.top && it.weight < top { 0.0 } else { it.weight };
        let total: f64 = destinations.iter().map(in_play).sum();
        destinations.iter().map(|it| if total > 0.0 { in_play(it) / total } else { 0.0 }).collect()
    }

    fn leased(&mut self, id: DestinationId) -> Option<&mut Destination> {
        self.destinations.get_mut(id.slot).filter(|it| it.serial == id.serial)
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
        inner.leased(self.id).is_some_and(|destination| destination.avoided_until.take().is_some())
    }

    /// Gives the lease back because the connect failed, so that others are preferred for a while. True when the one
    /// before had not failed.
    pub fn failed(self, now: Instant) -> bool {
        let mut inner = self.table.0.lock();
        let until = now + inner.balancing.avoid_failed_for;
        let before = inner.leased(self.id).map(|destination| destination.avoided_until.replace(until));
        before == Some(None)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(destination) = self.table.0.lock().leased(self.id) {
            destination.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests;
