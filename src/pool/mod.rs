//! Pools of destinations, a weighted table each: the only state that the threads share.
//!
//! A [`Pool`] knows no thread, no socket and no event loop. It has the destinations, their weights, their health and
//! their connections. A [`Rotation`] is how one service chooses from them: its policy, and the single destination where
//! the policy keeps to one. Workers [`pick`](Rotation::pick) from a rotation and hold a [`Lease`] for as long as they use
//! a destination; control changes the pool; the workers subscribe to its events, which say which connections must be
//! closed. A watchdog, where there is one, says what each destination is good for: see [`health`].

mod accounts;
mod agent;
mod avoided;
mod backups;
mod by_hand;
mod clock;
mod day;
mod destination;
mod dismissal;
mod fallen;
mod found;
pub mod health;
mod history;
mod inner;
mod label;
mod lease;
mod limit;
mod moves;
mod named;
mod policy;
mod queue;
mod reason;
mod reconfigured;
mod refusals;
mod rotation;
mod saved;
mod shares;
mod single;
mod succession;
mod switchover;
mod tiers;
mod tried;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use slab::Slab;

use crate::address::{Endpoint, Host, PeerAddress};
use crate::config::Ramp;
use crate::counters::Totals;
pub use accounts::Account;
pub use agent::{AgentMode, AgentState};
pub use by_hand::SwitchError;
pub use day::{Tallies, Tally};
pub use destination::DestinationStatus;
pub use dismissal::Dismissed;
pub use history::{Held, History, VerdictChange};
use inner::Inner;
pub use label::{Label, Labelled};
pub use lease::Lease;
pub use named::{Followed, Unresolved};
pub use policy::PolicyKind;
use queue::{Locked, Room};
pub use queue::{Ticket, Turn, Wake};
pub use refusals::Refusals;
pub use rotation::{Balancing, Pick, Rotation, RotationId};
pub use saved::{SavedPool, SavedRotation};
pub use shares::weights_in_use;
pub use switchover::SwitchDone;
pub use tried::Tried;

/// Most destinations that a pool takes.
pub const MAX_DESTINATIONS: usize = 16_384;

/// Tells one destination from every other that is or was in any pool: one that was removed and added again is another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DestinationId {
    pool: u32,
    /// Half as long as an index, since every connection has one.
    slot: u32,
    serial: u64,
}

impl DestinationId {
    fn slot(self) -> usize {
        self.slot as usize
    }

    /// The [number](Pool::number) of its pool.
    pub fn pool(self) -> u32 {
        self.pool
    }

    /// A number that no other destination of its pool has had or will have.
    pub fn serial(self) -> u64 {
        self.serial
    }
}

/// What subscribers are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// The destination's connections are to be closed at once: those of one rotation, or all. Where it was may be needed
    /// when it is gone.
    Closed(DestinationId, PeerAddress, Option<RotationId>),
    /// It is new.
    Added(DestinationId),
    /// It is gone.
    Removed(DestinationId),
    /// It has another address than before, of which nothing is known.
    Moved(DestinationId, PeerAddress, PeerAddress),
    /// A client could not connect to it.
    Doubted(DestinationId),
    /// A client waits to hear how it is.
    Awaited(DestinationId),
    /// That is known now, and whether it is fit.
    Checked(DestinationId, bool),
    /// The single destination has moved, or stays after all, or first verdicts are known: clients that wait because of [`Pick::Wait`] pick again.
    Settled,
    /// Names stand for other destinations than before.
    Named,
}

/// Called with the pool locked: it must not call the pool, nor wait for another thread.
pub type Subscriber = Box<dyn Fn(Event) + Send>;

/// Why a change was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableError {
    /// Nothing at this address to drain or to remove.
    NoSuchDestination,
    /// The table holds [`MAX_DESTINATIONS`].
    Full,
    /// A destination was added with weight 0, or drained by an earlier process.
    NoWeight,
    /// One destination has as many names as it may have.
    TooManyNames,
}

impl fmt::Display for TableError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TableError::NoSuchDestination => f.write_str("no such destination"),
            TableError::Full => write!(f, "the table is full ({MAX_DESTINATIONS} destinations)"),
            TableError::NoWeight => f.write_str("it has had no weight before: say which it is to have"),
            TableError::TooManyNames => f.write_str("the destination there has too many names"),
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

/// Settings of a pool that all its rotations share.
#[derive(Debug, Clone, Copy, Default)]
pub struct PoolSettings {
    /// How long a destination is passed over after a failed connect, while there are others.
    pub avoid_failed_for: Duration,
    /// Whether a watchdog judges the destinations, without whose word none is picked.
    pub watched: bool,
    /// How old its word may be when a client comes; `None`: any age.
    pub recheck_after: Option<Duration>,
    /// Whether connections to backups are closed once a destination that comes before them is READY again.
    pub shutdown_backup_sessions: bool,
    /// Most connections of each destination; `None`: any number.
    pub max_connections: Option<usize>,
    /// How that follows the load; `None`: it does not.
    pub ramp: Option<Ramp>,
    /// Most clients that wait for room on a destination; `None`: any number.
    pub max_queue: Option<usize>,
}

/// Who put a destination into the pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Origin {
    /// A person, on the command line or through the control port.
    ByHand,
    /// The daemon found it by itself.
    Discovered,
}

/// A pool of destinations. Cheap to clone: all clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Mutex<Inner>>);

impl Pool {
    /// An empty pool, which no service uses yet.
    pub fn new(settings: PoolSettings) -> Pool {
        static POOLS: AtomicU32 = AtomicU32::new(0);
        Pool(Arc::new(Mutex::new(Inner {
            number: POOLS.fetch_add(1, Ordering::Relaxed),
            label: Label::default(),
            next_serial: 0,
            destinations: Slab::new(),
            by_address: HashMap::new(),
            names: HashMap::new(),
            backups: HashMap::new(),
            rotations: Slab::new(),
            readmissions: BTreeSet::new(),
            removals: 0,
            gone: Totals::default(),
            next_ticket: 0,
            waiting: 0,
            room: Room::default(),
            withdrawn: HashSet::new(),
            settings,
            awaits_first_verdicts: false,
            checks_note: None,
            subscribers: Vec::new(),
        })))
    }

    fn lock(&self) -> Locked<'_> {
        Locked(self.0.lock())
    }

    /// A number that no other pool of this process has had or will have.
    pub fn number(&self) -> u32 {
        self.lock().number
    }

    /// Whether both are the same pool.
    pub fn is(&self, other: &Pool) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Has `subscriber` told of every event from now on.
    pub fn subscribe(&self, subscriber: Subscriber) {
        self.lock().subscribers.push(subscriber);
    }

    /// Adds the destination at `address`, or changes the weight of the one that is there. `endpoint` is how the user calls
    /// it; a name is one more that wants it there.
    ///
    /// # Errors
    /// [`TableError::Full`] and [`TableError::TooManyNames`].
    pub fn set(&self, endpoint: &Endpoint, address: PeerAddress, weight: f64) -> Result<Change, TableError> {
        let mut inner = self.lock();
        let change = inner.set(endpoint, address, weight)?;
        if change == Change::Added {
            inner.note_placed(address, true);
        }
        Ok(change)
    }

    /// The same as [`set`](Pool::set) for what the configuration says: the destination's place in the order is not by hand.
    /// An address is one more that wants it there, too, whatever becomes of the names that stand for it. A destination that
    /// was to go with its last connection stays, and counts as added.
    ///
    /// # Errors
    /// Those of [`set`](Pool::set).
    pub fn give(&self, endpoint: &Endpoint, address: PeerAddress, weight: f64) -> Result<Change, TableError> {
        let mut inner = self.lock();
        let was_leaving = inner.at(address).is_some_and(|slot| inner.destinations[slot].leaving);
        let change = inner.set(endpoint, address, weight)?;
        let slot = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        inner.want(slot, endpoint)?;
        inner.destinations[slot].leaving = false;
        inner.note_placed(address, false);
        Ok(if was_leaving { Change::Added } else { change })
    }

    /// Lets the destination at `address` have no new connections; those it has go on.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn drain(&self, address: PeerAddress) -> Result<Change, TableError> {
        self.reweigh(address, 0.0)
    }

    /// Changes the weight of the destination at `address`.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn reweigh(&self, address: PeerAddress, weight: f64) -> Result<Change, TableError> {
        self.lock().reweigh(address, weight)
    }

    /// The same as [`reweigh`](Pool::reweigh) for what the configuration says now: the destination's place in the order is not
    /// by hand any more.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn reweigh_as_given(&self, address: PeerAddress, weight: f64) -> Result<Change, TableError> {
        let mut inner = self.lock();
        let change = inner.reweigh(address, weight)?;
        inner.note_placed(address, false);
        Ok(change)
    }

    /// Gives the destination at `address` the weight back that it had before it was drained. Returns that weight, and the
    /// change.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`], and [`TableError::NoWeight`] where the weight is not known.
    pub fn enable(&self, address: PeerAddress) -> Result<(f64, Change), TableError> {
        let mut inner = self.lock();
        let slot = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        let destination = &mut inner.destinations[slot];
        let weight = if destination.weight > 0.0 { Some(destination.weight) } else { destination.weight_before };
        let weight = weight.filter(|weight| *weight > 0.0).ok_or(TableError::NoWeight)?;
        destination.origin = Origin::ByHand;
        Ok((weight, Change::Reweighted(inner.reweight(slot, weight))))
    }

    /// The destinations in the order in which they were added, but for what a service makes of them.
    pub fn snapshot(&self) -> Vec<DestinationStatus> {
        self.lock().in_order().into_iter().map(|it| it.status()).collect()
    }

    /// Whether there is a destination at `address`.
    pub fn has(&self, address: PeerAddress) -> bool {
        self.lock().at(address).is_some()
    }

    /// Takes the destination at `address` out and has its connections closed.
    ///
    /// # Errors
    /// [`TableError::NoSuchDestination`].
    pub fn remove(&self, address: PeerAddress) -> Result<Change, TableError> {
        let mut inner = self.lock();
        let slot = inner.at(address).ok_or(TableError::NoSuchDestination)?;
        inner.withdraw(address);
        Ok(Change::Removed(inner.remove(slot)))
    }

    /// Has an address count as removed by hand, whether it is in the table or not.
    pub fn withdraw(&self, address: PeerAddress) {
        // That there is nothing to remove is what is wanted.
        if self.remove(address).is_err() {
            self.lock().withdraw(address);
        }
    }

    /// The addresses that were removed by hand and not added again since.
    pub fn withdrawn(&self) -> Vec<PeerAddress> {
        self.lock().withdrawn.iter().copied().collect()
    }

    /// Connections on all destinations together, those of other processes included.
    pub fn connections(&self) -> usize {
        self.lock().destinations.iter().map(|(_, it)| it.all_connections()).sum()
    }
}

impl Inner {
    fn set(&mut self, endpoint: &Endpoint, address: PeerAddress, weight: f64) -> Result<Change, TableError> {
        let Some(slot) = self.at(address) else {
            self.withdrawn.remove(&address);
            self.add(endpoint, address, weight, Origin::ByHand, None)?;
            return Ok(Change::Added);
        };
        if matches!(endpoint.host, Host::Name(_)) {
            self.want(slot, endpoint)?;
        }
        self.withdrawn.remove(&address);
        self.reweigh(address, weight)
    }

    fn reweigh(&mut self, address: PeerAddress, weight: f64) -> Result<Change, TableError> {
        let slot = self.at(address).ok_or(TableError::NoSuchDestination)?;
        self.destinations[slot].origin = Origin::ByHand;
        Ok(Change::Reweighted(self.reweight(slot, weight)))
    }

    /// Records whether the destination at `address` stands where a hand has put it.
    fn note_placed(&mut self, address: PeerAddress, by_hand: bool) {
        if let Some(slot) = self.at(address) {
            self.destinations[slot].placed_by_hand = by_hand;
        }
    }
}

#[cfg(test)]
mod tests;
