//! The fewest connections per weight.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::{Ahead, BySlot, Candidate, Policy, START, Time, turn};
use crate::pool::tried::Tried;

/// All, in the order in which they are to be picked. Those that have equally few connections per weight take turns by
/// weight, as in start-time fair queueing (Goyal, Vin and Cheng, 1996): the one whose turn begins first is first.
pub(super) struct LeastConnected {
    order: BTreeSet<(Rank, usize)>,
    standings: BySlot<Standing>,
    /// When the last turn taken began.
    now: Time,
    /// The one picked last, if it stands as before still: it takes its turn together with its new connection.
    picked: Option<usize>,
}

impl Default for LeastConnected {
    fn default() -> Self {
        LeastConnected { order: BTreeSet::new(), standings: BySlot::default(), now: START, picked: None }
    }
}

struct Standing {
    rank: Rank,
    weight: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    load: Load,
    turn_begins: Time,
}

/// Connections per weight, as the bits of a floating point number: without a sign those are in the order of the numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Load(u64);

impl Load {
    fn of(candidate: &Candidate) -> Load {
        /// Quotients are not exact: what differs only in the last bits is equal.
        const ROUNDING: u32 = 16;
        let load = candidate.connections as f64 / candidate.weight;
        Load((load.to_bits() + (1 << (ROUNDING - 1))) >> ROUNDING)
    }
}

impl LeastConnected {
    fn rank(&mut self, slot: usize, change: impl FnOnce(&mut Standing)) {
        if let Some(standing) = self.standings.get_mut(slot) {
            self.order.remove(&(standing.rank, slot));
            change(standing);
            self.order.insert((standing.rank, slot));
        }
    }

    /// Has the one picked last take its turn, whatever has become of the connection.
    fn take_turn(&mut self) {
        if let Some(slot) = self.picked.take() {
            let now = self.now;
            self.rank(slot, |it| it.take_turn(now));
        }
    }
}

impl Standing {
    /// Its next turn begins after the one that begins now.
    fn take_turn(&mut self, now: Time) {
        self.rank.turn_begins = now.saturating_add(turn(self.weight));
    }
}

impl Policy for LeastConnected {
    fn join(&mut self, candidate: &Candidate, ahead: Ahead) {
        self.take_turn();
        let turn_begins = ahead.begins(self.now, candidate.weight);
        let rank = Rank { load: Load::of(candidate), turn_begins };
        self.standings.insert(candidate.slot, Standing { rank, weight: candidate.weight });
        self.order.insert((rank, candidate.slot));
    }

    fn leave(&mut self, candidate: &Candidate) -> Ahead {
        self.take_turn();
        let Some(standing) = self.standings.remove(candidate.slot) else { return Ahead::default() };
        self.order.remove(&(standing.rank, candidate.slot));
        Ahead::of(standing.rank.turn_begins, self.now, standing.weight)
    }

    fn connections_changed(&mut self, candidate: &Candidate) {
        let takes_turn = self.picked.take_if(|slot| *slot == candidate.slot).is_some();
        self.take_turn();
        let now = self.now;
        self.rank(candidate.slot, |it| {
            it.rank.load = Load::of(candidate);
            if takes_turn {
                it.take_turn(now);
            }
        });
    }

    fn pick(&mut self, _client: IpAddr, tried: &Tried) -> Option<usize> {
        self.take_turn();
        let (first, slot) = *self.order.iter().find(|(_, slot)| !tried.has(*slot))?;
        self.now = self.now.max(first.turn_begins);
        self.picked = Some(slot);
        Some(slot)
    }
}
