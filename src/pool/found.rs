//! Destinations that come and go without anybody having said so: a cluster's members.

use super::{DestinationId, Origin, Pool, TableError};
use crate::address::PeerAddress;

impl Pool {
    /// Adds a destination that nobody has named, unless it is there or was removed by hand. True when it was added.
    ///
    /// # Errors
    /// [`TableError::Full`].
    pub fn discover(&self, address: PeerAddress, weight: f64) -> Result<bool, TableError> {
        let mut inner = self.lock();
        if inner.withdrawn.contains(&address) || inner.at(address).is_some() {
            return Ok(false);
        }
        inner.add(&address.into(), address, weight, Origin::Discovered, None).map(|()| true)
    }

    /// Takes out a destination that was discovered; one named by hand stays. True when it was taken out.
    pub fn forget(&self, id: DestinationId) -> bool {
        let mut inner = self.lock();
        let found = inner.find(id).filter(|slot| inner.destinations[*slot].origin == Origin::Discovered);
        found.map(|slot| inner.remove(slot)).is_some()
    }
}
