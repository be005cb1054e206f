//! The single destination of a rotation, which all its clients go to: which one it is, and how it moves.
//!
//! With a watchdog, the pool chooses: the best verdict, then one that is not to be avoided, then the most weight, then the
//! one that it is already, then the one that was added first. The choice is reviewed after each change. Without a watchdog
//! the policy chooses when it picks, as GLB does, and only a move by hand is a [`Switchover`].

use std::cmp::Reverse;
use std::time::{Instant, SystemTime};

use log::info;

use super::destination::Destination;
use super::health::ShutdownSessions;
use super::inner::Inner;
use super::policy::BySlot;
use super::rotation::RotationState;
use super::switchover::Switchover;
use super::tiers::Rank;
use super::{Balancing, DestinationId, PolicyKind, RotationId, Tried};

/// The single destination of a rotation whose policy keeps to one.
pub(super) struct SingleDestination {
    pub watched: bool,
    /// A move closes the sessions on the former.
    pub closes: bool,
    pub leadership: Leadership,
    /// The one, where there is a watchdog; `None` before it is elected. Without a watchdog, the policy knows it.
    pub current: Option<DestinationId>,
    /// Since when it is this one.
    pub since: Option<SystemTime>,
    pub switchover: Option<Switchover>,
    /// This process's connections that were picked here, by slot: another rotation's sessions do not hold up a move.
    pub sessions: BySlot<usize>,
    /// The same for other processes of this daemon.
    pub elsewhere: BySlot<usize>,
}

/// Which process decides about the single destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leadership {
    /// This one.
    Leads,
    /// The one that has taken over from it.
    Follows,
    /// The same, and clients wait to be told where the single destination is, until this moment at most.
    Asks(Option<Instant>),
}

/// How the single destination restricts a pick.
pub(super) enum PickScope {
    /// Not at all.
    Policy,
    /// To this slot, or to nothing.
    Only(Option<usize>),
    /// The client has to wait.
    Wait,
}

impl SingleDestination {
    /// `None` where the policy does not keep to one.
    pub(super) fn new(balancing: &Balancing, watched: bool) -> Option<Box<SingleDestination>> {
        (balancing.policy == PolicyKind::Single).then(|| {
            Box::new(SingleDestination {
                watched,
                closes: balancing.shutdown_sessions != ShutdownSessions::Never,
                leadership: Leadership::Leads,
                current: None,
                since: None,
                switchover: None,
                sessions: BySlot::default(),
                elsewhere: BySlot::default(),
            })
        })
    }

    pub(super) fn waits(&self) -> bool {
        self.switchover.is_some() || matches!(self.leadership, Leadership::Asks(_))
    }

    /// How many connections to the destination in a slot were picked here, and in other processes.
    pub(super) fn counts(&self, slot: usize) -> (usize, usize) {
        (self.sessions.get(slot).unwrap_or_default(), self.elsewhere.get(slot).unwrap_or_default())
    }

    /// Whether a move leaves no destination but the current one with sessions.
    pub(super) fn closes_others(&self) -> bool {
        self.watched && self.closes
    }
}

impl Inner {
    /// Decides what a pick may choose from.
    pub(super) fn scope(&mut self, rotation: RotationId, tried: &Tried, now: Instant) -> PickScope {
        match self.single(rotation) {
            None => return PickScope::Policy,
            // Those that have queued are the first when the move is done, so no newcomer ends it.
            Some(single) if single.waits() && self.waiting == 0 => self.advance(rotation, now),
            Some(_) => {}
        }
        match self.single(rotation) {
            Some(single) if single.waits() => PickScope::Wait,
            Some(single) if single.watched => {
                self.elect(rotation);
                let current = self.current_single(rotation).filter(|slot| !tried.has(*slot));
                PickScope::Only(current.filter(|slot| self.destinations[*slot].open_verdict().is_some()))
            }
            _ => PickScope::Policy,
        }
    }

    /// Whether a failed connect to a destination is retried there, since only verdicts and hands move the single one.
    pub(super) fn retries(&self, rotation: RotationId) -> bool {
        self.single(rotation).is_some_and(|single| single.watched)
    }

    /// The slot of the single destination, where there is one.
    pub(super) fn current_single(&self, rotation: RotationId) -> Option<usize> {
        let single = self.single(rotation)?;
        if single.watched {
            return self.find(single.current?);
        }
        let serial = self.rotation(rotation).tiers.kept()?;
        self.destinations.iter().find(|(_, it)| it.id.serial == serial).map(|(slot, _)| slot)
    }

    /// Since when this one is the single destination, where there is one.
    pub(super) fn single_since(&self, rotation: RotationId) -> Option<SystemTime> {
        self.current_single(rotation)?;
        let single = self.single(rotation)?;
        if single.watched { single.since } else { self.rotation(rotation).tiers.kept_since() }
    }

    /// Keeps to a destination, since then if it is another one than before.
    pub(super) fn keep_to_single(&mut self, rotation: RotationId, id: DestinationId, since: SystemTime) {
        let Some(single) = self.single_mut(rotation) else { return };
        if single.watched {
            single.since = single.since.filter(|_| single.current == Some(id)).or(Some(since));
            single.current = Some(id);
            return;
        }
        let tiers = &mut self.rotation_mut(rotation).tiers;
        if tiers.kept() != Some(id.serial) {
            tiers.keep_to(id.serial, since);
        }
    }

    /// Chooses the first one, if there is a watchdog and nothing was chosen yet.
    pub(super) fn elect(&mut self, rotation: RotationId) {
        if let Some(single) = self.single(rotation)
            && single.watched
            && single.current.is_none()
            && single.leadership == Leadership::Leads
            && let Some(slot) = self.best_single(rotation)
        {
            self.set_single(rotation, slot, false);
            let (address, pool) = (self.destinations[slot].address, self.label.pool());
            let (it, of) = (self.label.of(address), &self.rotation(rotation).label);
            info!(destination:% = address, pool, service = of.service(); "{of}single destination is {it}");
            // Another one may have been preferred.
            self.settled();
            self.review_readers(rotation);
        }
    }

    /// The slot of the destination that should be the single one.
    pub(super) fn best_single(&self, rotation: RotationId) -> Option<usize> {
        let RotationState { single, tiers, .. } = self.rotation(rotation);
        let current = single.as_ref().and_then(|single| single.current);
        let avoided = self.writer_to_avoid(rotation);
        let rank = |(slot, it): (usize, &Destination)| {
            let outweighs = tiers.outweighs(it);
            // The bits of a weight, which has no sign, are in the order of the numbers.
            let weight = it.weight.max(outweighs).to_bits();
            // At the start there is no current one, and an earlier choice by hand decides among equals.
            let is_chosen = outweighs > 0.0;
            let is_avoided = avoided == Some(slot);
            let rank = Rank::of(it)?;
            let rank = if is_chosen && !is_avoided { rank.as_primary() } else { rank };
            Some(((Reverse(rank), !is_avoided, weight, Some(it.id) == current, is_chosen, Reverse(it.id.serial)), slot))
        };
        self.destinations.iter().filter_map(rank).max().map(|(_, slot)| slot)
    }

    /// Makes a destination the single one. An earlier choice by hand is forgotten; this one outweighs all that the pool
    /// holds now, if it was chosen by hand.
    pub(super) fn set_single(&mut self, rotation: RotationId, slot: usize, by_hand: bool) {
        if by_hand {
            self.rejoin(slot, |it| it.avoided_until = None);
            self.choose(rotation, slot, self.heaviest());
        } else {
            self.forget_other_choice(rotation, slot);
        }
        let id = self.destinations[slot].id;
        self.keep_to_single(rotation, id, SystemTime::now());
        self.choices_changed();
    }

    /// Makes a destination the choice of a hand, which counts as at least this heavy.
    pub(super) fn choose(&mut self, rotation: RotationId, slot: usize, weight: f64) {
        self.forget_other_choice(rotation, slot);
        self.rotations[rotation.0].tiers.choose(&self.destinations[slot], weight);
    }

    pub(super) fn heaviest(&self) -> f64 {
        self.destinations.iter().map(|(_, it)| it.weight).fold(0.0, f64::max)
    }

    /// An earlier choice of a hand, unless it is this destination, is none any more.
    fn forget_other_choice(&mut self, rotation: RotationId, slot: usize) {
        let tiers = &mut self.rotations[rotation.0].tiers;
        let other = tiers.choice().and_then(|id| self.destinations.get(id.slot())).filter(|it| it.id.slot() != slot);
        if let Some(other) = other {
            tiers.forget_choice_of(other);
        }
    }
}
