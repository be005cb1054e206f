//! What the probes of all destinations know together: who the cluster's members are, who answers fastest, and whether
//! each has been judged.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::Duration;

use crate::table::DestinationId;

/// Called once, when every destination that there was at the start has been judged.
pub(super) type OnFirstVerdicts = Box<dyn FnOnce() + Send>;

/// What the probes of all destinations know together.
pub(super) struct Fleet {
    unjudged: HashSet<DestinationId>,
    on_first_verdicts: Option<OnFirstVerdicts>,
    /// What each destination that is fit says of who the members are.
    members: HashMap<DestinationId, HashSet<SocketAddr>>,
    /// How long those that are fit take to answer.
    latencies: HashMap<DestinationId, Duration>,
}

impl Fleet {
    /// Of these destinations, none of which has been judged.
    pub(super) fn new(unjudged: HashSet<DestinationId>, on_first_verdicts: OnFirstVerdicts) -> Fleet {
        let on_first_verdicts = Some(on_first_verdicts);
        let mut fleet = Fleet { unjudged, on_first_verdicts, members: HashMap::new(), latencies: HashMap::new() };
        if fleet.unjudged.is_empty() {
            fleet.stop_waiting();
        }
        fleet
    }

    /// This one has been judged, or is gone.
    pub(super) fn judged(&mut self, id: DestinationId) {
        if self.unjudged.remove(&id) && self.unjudged.is_empty() {
            self.stop_waiting();
        }
    }

    /// Those that have not been judged by now need not be waited for.
    pub(super) fn stop_waiting(&mut self) {
        if let Some(call) = self.on_first_verdicts.take() {
            call();
        }
    }

    /// A destination that is fit says who the members are.
    pub(super) fn heard_of(&mut self, id: DestinationId, members: HashSet<SocketAddr>) {
        self.members.insert(id, members);
    }

    /// A destination that is fit takes so long to answer.
    pub(super) fn answers_within(&mut self, id: DestinationId, latency: Duration) {
        self.latencies.insert(id, latency);
    }

    /// A destination is not fit any more: what it says does not count.
    pub(super) fn is_unfit(&mut self, id: DestinationId) {
        self.members.remove(&id);
        self.latencies.remove(&id);
    }

    /// Whether some fit destination knows the members, and none of those that do counts this one among them. When all
    /// are silent, nobody is known to have left.
    pub(super) fn has_left(&self, address: SocketAddr) -> bool {
        !self.members.is_empty() && !self.members.values().any(|members| members.contains(&address))
    }

    /// How much less weight a destination should have that takes so long to answer: its part of the fastest one's speed.
    pub(super) fn speed(&self, latency: Duration) -> f64 {
        let least = self.latencies.values().min().copied().unwrap_or(latency);
        if latency.is_zero() { 1.0 } else { (least.as_secs_f64() / latency.as_secs_f64()).clamp(LEAST_SPEED, 1.0) }
    }
}

/// So that a destination which was slow once still gets clients.
const LEAST_SPEED: f64 = 0.01;
