//! By chance and weight.

use std::net::IpAddr;

use super::{Ahead, Candidate, Policy};
use crate::pool::tried::Tried;

/// A tree of sums over the weights by slot: the node `n` is the sum of the nodes `2n` and `2n + 1`, the root is node 1,
/// the leaves are the last half.
#[derive(Default)]
pub(super) struct Random {
    sums: Vec<f64>,
}

impl Random {
    fn leaves(&self) -> usize {
        self.sums.len() / 2
    }

    fn weight(&self, slot: usize) -> f64 {
        self.sums.get(self.leaves() + slot).copied().unwrap_or(0.0)
    }

    fn set(&mut self, slot: usize, weight: f64) {
        if slot >= self.leaves() {
            self.grow((slot + 1).next_power_of_two());
        }
        let mut node = self.leaves() + slot;
        self.sums[node] = weight;
        while node > 1 {
            node /= 2;
            self.add_up(node);
        }
    }

    fn grow(&mut self, leaves: usize) {
        let before = self.sums.split_off(self.leaves());
        self.sums = vec![0.0; 2 * leaves];
        self.sums[leaves..leaves + before.len()].copy_from_slice(&before);
        (1..leaves).rev().for_each(|node| self.add_up(node));
    }

    fn add_up(&mut self, node: usize) {
        self.sums[node] = self.sums[2 * node] + self.sums[2 * node + 1];
    }

    /// The leaf that this fraction of the sum falls on. Never one of weight zero, whatever rounding does.
    fn find(&self, fraction: f64) -> Option<usize> {
        let sum = self.sums.get(1).filter(|sum| **sum > 0.0)?;
        let (mut part, mut node) = (fraction * sum, 1);
        while node < self.leaves() {
            let (left, right) = (self.sums[2 * node], self.sums[2 * node + 1]);
            if part < left || right <= 0.0 {
                node *= 2;
            } else {
                part -= left;
                node = 2 * node + 1;
            }
        }
        Some(node - self.leaves())
    }
}

impl Policy for Random {
    fn join(&mut self, candidate: &Candidate, _ahead: Ahead) {
        self.set(candidate.slot, candidate.weight);
    }

    fn leave(&mut self, candidate: &Candidate) -> Ahead {
        self.set(candidate.slot, 0.0);
        Ahead::default()
    }

    fn pick(&mut self, _client: IpAddr, tried: &Tried) -> Option<usize> {
        // Those that were tried are hardly ever here still: they stand in another tier.
        let mut left_out = Vec::new();
        let picked = loop {
            match self.find(fastrand::f64()) {
                Some(slot) if tried.has(slot) => {
                    left_out.push((slot, self.weight(slot)));
                    self.set(slot, 0.0);
                }
                picked => break picked,
            }
        };
        left_out.into_iter().for_each(|(slot, weight)| self.set(slot, weight));
        picked
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_weight_has_its_part_of_the_whole(changes in prop::collection::vec((0..40usize, 0..5u8), 1..60)) {
            let (mut random, mut weights) = (Random::default(), vec![0.0; 40]);
            prop_assert_eq!(random.find(0.5), None);
            for (slot, weight) in changes {
                let weight = f64::from(weight);
                weights[slot] = weight;
                random.set(slot, weight);
                prop_assert_eq!(random.weight(slot), weight);
                // Whole numbers, so that every sum is exact.
                let (total, mut before) = (weights.iter().sum::<f64>(), 0.0);
                for (slot, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                    prop_assert_eq!(random.find((before + 0.25) / total), Some(slot), "where its part begins");
                    prop_assert_eq!(random.find((before + weight - 0.25) / total), Some(slot), "near its end");
                    before += weight;
                }
                let last = weights.iter().rposition(|weight| *weight > 0.0);
                prop_assert_eq!(random.find(1.0), last, "whatever rounding does");
                prop_assert!(random.sums.len() <= 2 * 64);
            }
        }
    }
}
