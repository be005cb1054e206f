//! Turns by weight.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Ahead, BySlot, Candidate, Policy, START, Time, turn};
use crate::pool::tried::Tried;

/// Weighted turns, spread as evenly as they go: worst-case fair queueing (WF2Q, Bennett and Zhang, 1996). A turn begins
/// when its time has come and is over 1/weight later; among those begun, the one that is over first is taken.
pub(super) struct RoundRobin {
    /// Each turn taken moves it on by 1 over the sum of weights.
    now: Time,
    /// In units of [`WEIGHT_UNIT`]: whole numbers can be added and taken away again without a rest.
    sum_of_weights: u128,
    turns: BySlot<Turn>,
    /// Those whose turn begins later, by when it begins.
    waiting: BTreeSet<(Time, usize)>,
    /// Those whose turn has begun, by when it is over.
    begun: BTreeSet<(Time, usize)>,
}

impl Default for RoundRobin {
    fn default() -> Self {
        let (waiting, begun) = (BTreeSet::new(), BTreeSet::new());
        RoundRobin { now: START, sum_of_weights: 0, turns: BySlot::default(), waiting, begun }
    }
}

struct Turn {
    weight: f64,
    begins: Time,
}

impl Turn {
    fn is_over(&self) -> Time {
        self.begins.saturating_add(turn(self.weight))
    }
}

/// The length of a turn is rounded: what begins within so much of now has begun.
const ROUNDING: Time = 1 << 24;

impl RoundRobin {
    fn begin_turns(&mut self) {
        if let (true, Some((begins, _))) = (self.begun.is_empty(), self.waiting.first())
            && *begins > self.now.saturating_add(ROUNDING)
        {
            self.now = *begins;
        }
        let begun = self.now.saturating_add(ROUNDING);
        while let Some((_, slot)) = self.waiting.first().copied().filter(|(begins, _)| *begins <= begun) {
            self.waiting.pop_first();
            self.begun.extend(self.turns.get_mut(slot).map(|turn| (turn.is_over(), slot)));
        }
    }
}

const WEIGHT_UNIT: f64 = 1.0 / (1u128 << 64) as f64;

fn in_units(weight: f64) -> u128 {
    (weight / WEIGHT_UNIT) as u128
}

impl Policy for RoundRobin {
    /// A newcomer's turn begins now: it does not catch up on those that it missed.
    fn join(&mut self, candidate: &Candidate, ahead: Ahead) {
        let begins = ahead.begins(self.now, candidate.weight);
        self.turns.insert(candidate.slot, Turn { weight: candidate.weight, begins });
        self.waiting.insert((begins, candidate.slot));
        self.sum_of_weights += in_units(candidate.weight);
    }

    fn leave(&mut self, candidate: &Candidate) -> Ahead {
        let Some(turn) = self.turns.remove(candidate.slot) else { return Ahead::default() };
        self.waiting.remove(&(turn.begins, candidate.slot));
        self.begun.remove(&(turn.is_over(), candidate.slot));
        self.sum_of_weights -= in_units(turn.weight);
        Ahead::of(turn.begins, self.now, turn.weight)
    }

    fn pick(&mut self, _client: IpAddr, tried: &Tried) -> Option<usize> {
        self.begin_turns();
        let untried = |(_, slot): &&(Time, usize)| !tried.has(*slot);
        let (_, slot) = *self.begun.iter().find(untried).or_else(|| self.waiting.iter().find(untried))?;
        let taken = self.turns.get_mut(slot)?;
        let over = taken.is_over();
        self.waiting.remove(&(taken.begins, slot));
        self.begun.remove(&(over, slot));
        taken.begins = over;
        self.waiting.insert((over, slot));
        self.now = self.now.saturating_add(turn(self.sum_of_weights as f64 * WEIGHT_UNIT));
        Some(slot)
    }
}
