//! Readers that leave the writer's destination alone while there is another.

use std::net::IpAddr;

use super::inner::Inner;
use super::tiers::Standing;
use super::tried::Tried;
use super::{Rotation, RotationId};

impl Rotation {
    /// Leaves the single destination of another rotation of the same pool alone from now on, while there is another that is
    /// as fit; `None`: no more.
    pub fn avoid(&self, writer: Option<&Rotation>) {
        let mut inner = self.pool().0.lock();
        let writer = writer.filter(|it| it.pool().is(self.pool()) && it.id() != self.id());
        inner.rotation_mut(self.id()).avoids = writer.map(Rotation::id);
    }
}

impl Inner {
    /// The slot of the destination that a rotation leaves alone, if it can: where the writer is, or will be when its first
    /// client comes.
    pub(super) fn writer_to_avoid(&self, rotation: RotationId) -> Option<usize> {
        let writer = self.rotation(rotation).avoids.filter(|writer| self.rotations.contains(writer.0))?;
        self.single(writer)?;
        self.current_single(writer).or_else(|| self.best_single(writer))
    }

    /// Picks a destination that is not the writer's, unless that one is fitter than all others.
    pub(super) fn pick_another(
        &mut self,
        rotation: RotationId,
        writer: usize,
        client: IpAddr,
        tried: &mut Tried,
    ) -> Option<usize> {
        let tiers = &mut self.rotation_mut(rotation).tiers;
        let other = tried.apart_from(writer, |tried| tiers.pick(client, tried));
        let rank = |slot: usize| match Standing::of(&self.destinations[slot]) {
            Standing::In(tier) => Some(tier),
            Standing::Out => None,
        };
        match (other, rank(writer)) {
            (Some(other), Some(of_writer)) if rank(other) > Some(of_writer) => Some(writer),
            (None, Some(_)) => Some(writer),
            (other, _) => other,
        }
    }
}
