//! Which part of a service's new clients each destination gets, for people.

use super::destination::Destination;
use super::inner::Inner;
use super::tiers::Rank;
use super::{DestinationStatus, PolicyKind, Rotation, RotationId};
use crate::address::PeerAddress;

impl Rotation {
    /// The destinations that get new clients here, and which part of them. *Source* and *least connected* come near to it
    /// only with time.
    pub fn shares(&self) -> Vec<(PeerAddress, f64)> {
        let inner = self.pool().lock();
        let candidates = inner.candidates(self.id());
        let shares = inner.weights_in_play(self.id(), &candidates).into_iter();
        candidates.iter().map(|it| it.address).zip(shares).filter(|(_, share)| *share > 0.0).collect()
    }
}

impl Inner {
    /// Those that the next client may be sent to.
    fn candidates(&self, rotation: RotationId) -> Vec<&Destination> {
        let mut all = self.in_order();
        all.retain(|it| it.weight > 0.0 && Rank::of(it).is_some());
        if self.single(rotation).is_some() {
            let single = self.current_single(rotation).or_else(|| self.best_single(rotation));
            all.retain(|it| Some(it.id.slot()) == single);
            return all;
        }
        let best = |all: &[&Destination]| all.iter().filter_map(|it| Rank::of(it)).min();
        if let Some(writer) = self.writer_to_avoid(rotation) {
            let others: Vec<_> = all.iter().copied().filter(|it| it.id.slot() != writer).collect();
            // It is fitter than all others otherwise.
            if best(&others).is_some_and(|rank| Some(rank) == best(&all)) {
                all = others;
            }
        }
        let rank = best(&all);
        all.retain(|it| Rank::of(it) == rank);
        if all.iter().any(|it| !it.is_full()) {
            all.retain(|it| !it.is_full());
        }
        if self.rotation(rotation).balancing.policy == PolicyKind::First {
            all.truncate(1);
        }
        all
    }
}

/// The weights by which new clients are spread over these destinations of a pool: 0 for one that gets none, be it only
/// since a fitter one is there.
pub fn weights_in_use(destinations: &[&DestinationStatus]) -> Vec<f64> {
    let best = destinations.iter().filter(|it| it.weight > 0.0).filter_map(|it| it.rank()).min();
    let weight = |it: &&DestinationStatus| match it.rank() {
        rank @ Some(_) if rank == best => it.weight_in_force,
        _ => 0.0,
    };
    destinations.iter().map(weight).collect()
}
