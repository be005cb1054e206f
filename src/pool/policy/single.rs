//! All to one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Ahead, Candidate, Policy};
use crate::pool::tried::Tried;

/// Of the heaviest the one that was picked before; else the one of them that was added to the table first, so that
/// daemons with the same table agree.
#[derive(Default)]
pub(super) struct Single {
    candidates: BTreeSet<Rank>,
    /// The serial of the one picked last.
    current: Option<u64>,
}

/// Heavier ones first, then older ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    /// Its bits: without a sign those are in the order of the numbers.
    weight: Reverse<u64>,
    serial: u64,
    slot: usize,
}

impl Rank {
    fn of(candidate: &Candidate) -> Rank {
        let Candidate { slot, serial, configured_weight, .. } = *candidate;
        Rank { weight: Reverse(configured_weight.to_bits()), serial, slot }
    }
}

impl Policy for Single {
    fn join(&mut self, candidate: &Candidate, _ahead: Ahead) {
        self.candidates.insert(Rank::of(candidate));
    }

    fn leave(&mut self, candidate: &Candidate) -> Ahead {
        self.candidates.remove(&Rank::of(candidate));
        Ahead::default()
    }

    fn pick(&mut self, _client: IpAddr, tried: &Tried) -> Option<usize> {
        let untried = |it: &&Rank| !tried.has(it.slot);
        let first = self.candidates.iter().find(untried)?;
        let as_current = |serial| Rank { serial, slot: 0, ..*first };
        let next = self.current.and_then(|serial| self.candidates.range(as_current(serial)..).next());
        let current = next.filter(untried).filter(|it| Some(it.serial) == self.current && it.weight == first.weight);
        let picked = current.unwrap_or(first);
        self.current = Some(picked.serial);
        Some(picked.slot)
    }
    fn kept(&self) -> Option<u64> {
        self.current
    }

    fn keep_to(&mut self, serial: u64) {
        self.current = Some(serial);
    }
}
