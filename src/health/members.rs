//! What the destinations that are fit say of each other: the members of their cluster, and how long an answer takes.

use crate::address::PeerAddress;
use std::collections::{HashMap, HashSet};
use std::time::Duration;

/// So that a destination which was slow once still gets clients.
const LEAST_SPEED: f64 = 0.01;

/// What the destinations that are fit say of each other, by their numbers.
#[derive(Default)]
pub(super) struct ClusterView {
    members: HashMap<u64, HashSet<PeerAddress>>,
    latencies: HashMap<u64, Duration>,
}

impl ClusterView {
    /// A destination that is fit reports the members. When these are not all, those that it has reported before count
    /// as well.
    pub(super) fn reports_members(&mut self, id: u64, members: &[PeerAddress], are_complete: bool) {
        let known = self.members.entry(id).or_default();
        if are_complete {
            known.clear();
        }
        known.extend(members);
    }

    /// A destination that is fit takes so long to answer.
    pub(super) fn answers_within(&mut self, id: u64, latency: Duration) {
        self.latencies.insert(id, latency);
    }

    /// A destination is not fit any more: what it says does not count.
    pub(super) fn is_unfit(&mut self, id: u64) {
        self.members.remove(&id);
        self.latencies.remove(&id);
    }

    /// What was said of members does not count any more.
    pub(super) fn forget_members(&mut self) {
        self.members.clear();
    }

    /// Whether some fit destination knows the members, and none of those that do counts this one among them. When all
    /// are silent, none is known to have left.
    pub(super) fn has_left(&self, address: PeerAddress) -> bool {
        !self.members.is_empty() && !self.members.values().any(|members| members.contains(&address))
    }

    /// How much less weight a destination should have that takes so long to answer: its part of the fastest one's speed.
    pub(super) fn speed(&self, latency: Duration) -> f64 {
        let least = self.latencies.values().min().copied().unwrap_or(latency);
        if latency.is_zero() { 1.0 } else { (least.as_secs_f64() / latency.as_secs_f64()).clamp(LEAST_SPEED, 1.0) }
    }
}
