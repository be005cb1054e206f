//! Readers that leave the writer's destination alone while there is another.

use std::net::IpAddr;

use super::inner::Inner;
use super::tiers::{Tier, TierPick};
use super::tried::Tried;
use super::{Rotation, RotationId};

impl Rotation {
    /// Leaves the single destination of another rotation of the same pool alone from now on, while there is another that is
    /// as fit; `None`: no more.
    pub fn avoid(&self, writer: Option<&Rotation>) {
        let mut inner = self.pool().lock();
        let writer = writer.filter(|it| it.pool().is(self.pool()) && it.id() != self.id());
        inner.rotation_mut(self.id()).avoids = writer.map(Rotation::id);
        inner.choices_changed();
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
    ) -> TierPick {
        let tiers = &mut self.rotation_mut(rotation).tiers;
        let other = tried.apart_from(writer, |tried| tiers.pick(client, tried));
        let Some(of_writer) = Tier::of(&self.destinations[writer]) else { return other };
        let writer_is_fitter = match other {
            TierPick::Slot(other) => Tier::of(&self.destinations[other]).is_some_and(|tier| tier > of_writer),
            TierPick::Full(rank) => rank > of_writer.rank(),
            TierPick::Nothing => true,
        };
        if writer_is_fitter { TierPick::Slot(writer) } else { other }
    }
}
