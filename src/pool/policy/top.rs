//! Only those of the top weight.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Ahead, Candidate, Policy, PolicyKind};
use crate::pool::tried::Tried;

/// A policy for each weight that there is; the heaviest that has anything left to try picks.
pub(super) struct Top {
    kind: PolicyKind,
    /// By the bits of the weight: without a sign those are in the order of the numbers.
    by_weight: BTreeMap<u64, Equals>,
}

/// Those of one weight.
struct Equals {
    count: usize,
    policy: Box<dyn Policy>,
}

impl Top {
    pub(super) fn new(kind: PolicyKind) -> Top {
        Top { kind, by_weight: BTreeMap::new() }
    }
}

impl Policy for Top {
    fn join(&mut self, candidate: &Candidate, ahead: Ahead) {
        let new = || Equals { count: 0, policy: self.kind.build_plain() };
        let equals = self.by_weight.entry(candidate.configured_weight.to_bits()).or_insert_with(new);
        equals.count += 1;
        equals.policy.join(candidate, ahead);
    }

    fn leave(&mut self, candidate: &Candidate) -> Ahead {
        let weight = candidate.configured_weight.to_bits();
        let Some(equals) = self.by_weight.get_mut(&weight) else { return Ahead::default() };
        equals.count -= 1;
        let ahead = equals.policy.leave(candidate);
        if equals.count == 0 {
            self.by_weight.remove(&weight);
        }
        ahead
    }

    fn connections_changed(&mut self, candidate: &Candidate) {
        if let Some(equals) = self.by_weight.get_mut(&candidate.configured_weight.to_bits()) {
            equals.policy.connections_changed(candidate);
        }
    }

    fn pick(&mut self, client: IpAddr, tried: &Tried) -> Option<usize> {
        self.by_weight.values_mut().rev().find_map(|equals| equals.policy.pick(client, tried))
    }
}
