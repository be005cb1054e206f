//! Readers that leave the writer's destination alone while there is another.
//!
//! A reader with a single destination and a watchdog has it elsewhere, and moves when the writer comes there, as after a
//! verdict. Services never avoid each other in a circle, so these moves come to an end.

use std::net::IpAddr;

use super::inner::Inner;
use super::tiers::{Rank, Tier, TierPick};
use super::tried::Tried;
use super::{Pool, Rotation, RotationId};

impl Pool {
    /// Has rotations of this pool, the readers, each leave the single destination of another one, the writer, alone from now
    /// on, while there is another destination that is as fit; `None`: no more. A circle of them is not obeyed.
    pub fn avoid(&self, writers: &[(&Rotation, Option<&Rotation>)]) {
        let mut inner = self.lock();
        for (reader, writer) in writers.iter().filter(|(reader, _)| reader.pool().is(self)) {
            let writer = writer.filter(|it| it.pool().is(self)).map(Rotation::id);
            inner.rotation_mut(reader.id()).avoids = writer;
        }
        for (reader, _) in writers.iter().filter(|(reader, _)| reader.pool().is(self)) {
            if inner.avoids_itself(reader.id()) {
                inner.rotation_mut(reader.id()).avoids = None;
            }
        }
        inner.review_singles();
        inner.choices_changed();
    }
}

impl Inner {
    fn avoided(&self, rotation: RotationId) -> Option<RotationId> {
        self.rotations.get(rotation.0)?.avoids
    }

    /// Whether a rotation avoids one that avoids it, and so on.
    fn avoids_itself(&self, rotation: RotationId) -> bool {
        let avoided = std::iter::successors(self.avoided(rotation), |it| self.avoided(*it));
        // Further ones are in a circle that this one only leads to.
        avoided.take(self.rotations.len()).any(|it| it == rotation)
    }

    /// Rotations that avoid this one have another choice, since its single destination is another.
    pub(super) fn review_readers(&mut self, writer: RotationId) {
        let readers: Vec<RotationId> =
            self.singles().into_iter().filter(|it| self.avoided(*it) == Some(writer)).collect();
        readers.into_iter().for_each(|reader| self.review_single(reader));
    }

    /// Why a rotation leaves a destination alone: the writer is there, and another one is as fit.
    pub(super) fn why_avoid(&self, rotation: RotationId, slot: usize) -> Option<String> {
        let writer = self.avoided(rotation).filter(|_| self.writer_to_avoid(rotation) == Some(slot))?;
        let rank = Rank::of(&self.destinations[slot])?;
        let is_as_fit = |it| Rank::of(it).is_some_and(|other| other <= rank);
        let has_other = self.destinations.iter().any(|(other, it)| other != slot && is_as_fit(it));
        has_other.then(|| format!("is the single destination of service {}", self.rotation(writer).label.service()))
    }

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
