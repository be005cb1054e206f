//! Destinations that are not asked for any more, and go when their last connections have ended.

use log::info;

use super::health::Health;
use super::inner::Inner;
use super::named::Standing;
use super::{Origin, Pool, PoolSettings};
use crate::address::{Endpoint, PeerAddress};

/// What has become of a destination that is not asked for any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dismissed {
    /// It is gone.
    Removed(PeerAddress),
    /// It takes no new clients, and goes with the last of so many connections.
    Drained(PeerAddress, usize),
    /// It stays: it is asked for otherwise as well.
    Stays(PeerAddress),
}

impl Pool {
    /// Nobody asks for a destination by this name or address any more. Returns what has become of those that it stands for.
    pub fn dismiss(&self, endpoint: &Endpoint) -> Vec<Dismissed> {
        let mut inner = self.lock();
        if matches!(inner.names.get(endpoint), Some(Standing::Nowhere { .. })) {
            inner.names.remove(endpoint);
            return Vec::new();
        }
        let slots = match endpoint.address() {
            Some(address) => inner.at(address).into_iter().collect(),
            None => inner.slots_of(endpoint),
        };
        slots.into_iter().map(|slot| inner.dismiss(slot, endpoint)).collect()
    }

    /// Becomes a pool that is asked for anew, with other settings. All that was asked for and done by hand before is
    /// forgotten; destinations with connections go when the last of these has ended, unless they are asked for again.
    pub fn begin_anew(&self, settings: PoolSettings) {
        self.configure(settings);
        let mut inner = self.0.lock();
        inner.names.retain(|_, standing| matches!(standing, Standing::At(_)));
        inner.withdrawn.clear();
        let slots: Vec<usize> = inner.destinations.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            inner.rejoin(slot, |it| {
                (it.health, it.obsolete, it.origin) = (Health::at_first(settings.watched), false, Origin::ByHand);
            });
            let wanted_as = inner.destinations[slot].wanted_as.clone();
            wanted_as.iter().for_each(|endpoint| _ = inner.dismiss(slot, endpoint));
        }
    }
}

impl Inner {
    fn dismiss(&mut self, slot: usize, endpoint: &Endpoint) -> Dismissed {
        let destination = &mut self.destinations[slot];
        let address = destination.address;
        if destination.is_wanted_otherwise(endpoint) {
            self.unwant(slot, endpoint);
            return Dismissed::Stays(address);
        }
        // What stands for it nowhere is not resolved any more.
        self.unregister(slot, endpoint);
        self.reweight(slot, 0.0);
        let destination = &mut self.destinations[slot];
        destination.leaving = true;
        let connections = destination.all_connections();
        match connections {
            0 => {
                self.remove(slot);
                Dismissed::Removed(address)
            }
            _ => Dismissed::Drained(address, connections),
        }
    }

    /// A connection on a destination has ended, which may have been the last that it stayed for.
    pub(super) fn let_go(&mut self, slot: usize) {
        let destination = &self.destinations[slot];
        if destination.leaving && destination.all_connections() == 0 {
            let (address, pool) = (destination.address, self.label.pool());
            let it = self.label.of(address);
            info!(
                destination:% = address, pool;
                "destination {it} removed: it is not asked for any more, and has no connections"
            );
            self.remove(slot);
        }
    }
}
