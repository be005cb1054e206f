//! Destinations that come, move and go without anybody having said so: a cluster's members, a name's addresses.

use std::net::SocketAddr;

use super::health::Health;
use super::{DestinationId, Event, Origin, Table, TableError};
use crate::address::Endpoint;

impl Table {
    /// Adds a destination that nobody has named, unless it is there or was removed by hand. True when it was added.
    ///
    /// # Errors
    /// [`TableError::Full`].
    pub fn discover(&self, endpoint: &Endpoint, address: SocketAddr, weight: f64) -> Result<bool, TableError> {
        let mut inner = self.0.lock();
        if inner.withdrawn.contains(&address) || inner.at(address).is_some() {
            return Ok(false);
        }
        inner.add(endpoint, address, weight, Origin::Discovered).map(|()| true)
    }

    /// Takes out a destination that was discovered; one named by hand stays. True when it was taken out.
    pub fn forget(&self, id: DestinationId) -> bool {
        let mut inner = self.0.lock();
        let found = inner.find(id).filter(|slot| inner.destinations[*slot].origin == Origin::Discovered);
        found.map(|slot| inner.remove(slot)).is_some()
    }

    /// Has new connections go to another address. Those that there are stay; what was known of its health is forgotten.
    /// False when there is no such destination, or another one at that address.
    pub fn move_to(&self, id: DestinationId, address: SocketAddr) -> bool {
        let mut inner = self.0.lock();
        let Some(slot) = inner.find(id).filter(|_| inner.at(address).is_none()) else { return false };
        let watched = inner.balancing.watched;
        let before = inner.rejoin(slot, |it| {
            let before = std::mem::replace(&mut it.address, address);
            it.health = Health::at_first(watched);
            (it.refusals, it.avoided_until, it.was_closed) = (None, None, false);
            before
        });
        inner.tell(Event::Moved(id, before, address));
        // Its sessions may be closed, and are known at the new address by now.
        inner.review_single();
        true
    }

    /// Says whether a destination's name no longer has its address; it gets no new connections then. True when that is
    /// news.
    pub fn set_obsolete(&self, id: DestinationId, obsolete: bool) -> bool {
        let mut inner = self.0.lock();
        let found = inner.find(id).filter(|slot| inner.destinations[*slot].obsolete != obsolete);
        found.map(|slot| inner.change(slot, |it| it.obsolete = obsolete)).is_some()
    }

    /// Takes a destination out that is obsolete and has no connections. True when it was taken out.
    pub fn drop_obsolete(&self, id: DestinationId) -> bool {
        let mut inner = self.0.lock();
        let idle =
            |slot: &usize| inner.destinations[*slot].obsolete && inner.destinations[*slot].all_connections() == 0;
        let found = inner.find(id).filter(idle);
        found.map(|slot| inner.remove(slot)).is_some()
    }
}
