//! All to one.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::SystemTime;

use super::{Ahead, Candidate, Policy};
use crate::pool::tried::Tried;

/// Of the heaviest the one that was picked before; else the one of them that was added to the table first, so that
/// daemons with the same table agree.
#[derive(Default)]
pub(super) struct Single {
    candidates: BTreeSet<Rank>,
    /// The serial of the one picked last, and since when it is this one.
    current: Option<u64>,
    since: Option<SystemTime>,
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
        let (serial, slot) = (picked.serial, picked.slot);
        if self.current != Some(serial) {
            self.keep_to(serial, SystemTime::now());
        }
        Some(slot)
    }

    fn kept(&self) -> Option<u64> {
        self.current
    }

    fn kept_since(&self) -> Option<SystemTime> {
        self.since
    }

    fn keep_to(&mut self, serial: u64, since: SystemTime) {
        (self.current, self.since) = (Some(serial), Some(since));
    }
}
