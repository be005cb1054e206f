//! Counting a connection on a destination for as long as it lasts.

use crate::address::PeerAddress;
use std::sync::Arc;
use std::time::Instant;

use super::health::Reason;
use super::inner::Inner;
use super::refusals::Refusals;
use super::{DestinationId, Event, Rotation, RotationId};
use crate::counters::Shard;

/// What a failed connect is called where its cause is not known.
const CONNECT_FAILED: &str = "connects fail";
/// What it is called that a destination accepts a client and does not greet it.
const GREETING_LATE: &str = "its greeting is late";

/// One connection's claim on a destination: counted from the pick until it is dropped.
pub struct Lease {
    pub(super) rotation: Rotation,
    pub(super) id: DestinationId,
    pub(super) address: PeerAddress,
    pub(super) doubtful: bool,
    pub(super) outdated: bool,
    pub(super) retries: bool,
}

impl Lease {
    /// Whose lease this is.
    pub fn id(&self) -> DestinationId {
        self.id
    }

    /// A worker's part of what the destination's connections come to; of nothing any more, if the destination is gone.
    pub fn shard(&self, worker: usize) -> Arc<Shard> {
        let inner = self.rotation.pool().lock();
        inner.find(self.id).map(|slot| inner.destinations[slot].counters.shard(worker)).unwrap_or_default()
    }

    /// What has picked it.
    pub fn rotation(&self) -> RotationId {
        self.rotation.id()
    }

    /// The name of the pool that it is in.
    pub fn pool_name(&self) -> Option<Arc<str>> {
        self.rotation.pool().name()
    }

    /// What to connect to.
    pub fn address(&self) -> PeerAddress {
        self.address
    }

    /// Whether the watchdog's last word on the destination is so old that it is to be asked before connecting.
    pub fn is_outdated(&self) -> bool {
        self.outdated
    }

    /// Whether a failed connect is to be tried again here, until the connect timeout, rather than elsewhere: the single
    /// destination moves only by verdict or by hand where there is a watchdog.
    pub fn retries(&self) -> bool {
        self.retries
    }

    /// Asks the watchdog, whose answer all subscribers get as [`Event::Checked`].
    pub fn ask_watchdog(&mut self) {
        self.outdated = false;
        let mut inner = self.rotation.pool().lock();
        if let Some(slot) = inner.find(self.id)
            && !std::mem::replace(&mut inner.destinations[slot].awaited, true)
        {
            inner.tell(Event::Awaited(self.id));
        }
    }

    /// The destination serves the client. Returns true if the one before was not served.
    pub fn connected(&mut self) -> bool {
        if !std::mem::take(&mut self.doubtful) {
            return false;
        }
        let mut inner = self.rotation.pool().lock();
        let Some(slot) = self.place(&inner) else { return false };
        if inner.destinations[slot].avoided_until.is_some() {
            inner.prefer(slot, |it| it.avoided_until = None);
        }
        inner.destinations[slot].refusals.take().is_some()
    }

    /// Gives the lease back because the connect failed. Others are preferred for a while, unless only a verdict moves the
    /// single destination. Returns true if the one before had not failed.
    pub fn failed(self, now: Instant) -> bool {
        self.not_served(now, CONNECT_FAILED)
    }

    /// Has others preferred while this connection still waits for the destination, which is late. Returns true if the
    /// client before was served.
    pub fn suspect(&mut self, now: Instant) -> bool {
        self.refused_late(now, GREETING_LATE)
    }

    /// Gives the lease back because the destination accepted the connection and then refused the client, in its first
    /// packet or by ending without a word: the same as [`failed`](Lease::failed), with the reason.
    pub fn refused(self, now: Instant, reason: &str) -> bool {
        self.not_served(now, reason)
    }

    /// Has others preferred though this client is served so far: the destination refuses it only now, for this reason.
    /// Returns true if the client before was served.
    pub fn refused_late(&mut self, now: Instant, reason: &str) -> bool {
        self.doubtful = true;
        self.not_served(now, reason)
    }

    fn not_served(&self, now: Instant, reason: &str) -> bool {
        let mut inner = self.rotation.pool().lock();
        let Some(slot) = self.place(&inner) else { return false };
        inner.tell(Event::Doubted(self.id));
        let destination = &mut inner.destinations[slot];
        let before = destination.refusals.take();
        let is_news = before.is_none();
        destination.refusals = Some(Refusals::add(before, Reason::new(reason)));
        if !inner.retries(self.rotation()) {
            inner.avoid(slot, now);
        }
        is_news
    }

    /// Where the destination stands, unless it has moved to another address, of which this connection says nothing.
    fn place(&self, inner: &Inner) -> Option<usize> {
        inner.find(self.id).filter(|slot| inner.destinations[*slot].address == self.address)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.rotation.pool().lock().release(self.rotation(), self.id);
    }
}
