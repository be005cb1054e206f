//! How one of several destinations is picked: an algorithm is a type.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use super::DestinationId;

/// A destination that may be picked.
#[derive(Debug, Clone, Copy)]
pub(super) struct Candidate {
    pub id: DestinationId,
    pub address: SocketAddr,
    /// Above zero.
    pub weight: f64,
    pub connections: usize,
}

/// Picks one of the candidates, and keeps whatever it needs to remember between picks: nothing of it is in the
/// destinations, so that several policies can pick from the same ones.
pub(super) trait Policy: Send {
    /// The slot of the candidate picked; `None` only when there are none.
    fn choose(&mut self, candidates: &[Candidate], client: IpAddr) -> Option<usize>;

    /// Whether every destination has a fixed share of the clients.
    fn deals_in_shares(&self) -> bool {
        false
    }
}

/// The policies there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyKind {
    /// The fewest connections per weight; those that have equally few take turns by weight.
    LeastConnected,
    /// Turns by weight, spread evenly.
    RoundRobin,
    /// By chance and weight.
    Random,
    /// One client address, one destination, for as long as that is there.
    Source,
    /// All to one of the top weight, until it fails or one of more weight appears.
    Single,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PolicyKind::LeastConnected => "least connected",
            PolicyKind::RoundRobin => "round robin",
            PolicyKind::Random => "random",
            PolicyKind::Source => "source",
            PolicyKind::Single => "single",
        })
    }
}

impl PolicyKind {
    pub(super) fn build(self) -> Box<dyn Policy> {
        match self {
            PolicyKind::LeastConnected => Box::new(LeastConnected::default()),
            PolicyKind::RoundRobin => Box::new(RoundRobin::default()),
            PolicyKind::Random => Box::new(Random),
            PolicyKind::Source => Box::new(Source),
            PolicyKind::Single => Box::new(Single::default()),
        }
    }
}

/// Weighted turns, spread as evenly as they go: worst-case fair queueing (WF2Q, Bennett and Zhang, 1996). A turn begins
/// when its time has come and is over 1/weight later; among those begun, the one that is over first is taken.
#[derive(Default)]
struct Turns {
    /// Each turn taken moves it on by 1 over the sum of weights.
    now: f64,
    /// The next turn of each, by slot.
    turns: Vec<Option<Turn>>,
}

#[derive(Clone, Copy)]
struct Turn {
    serial: u64,
    weight: f64,
    begins: f64,
}

/// Sums of fractions are not exact: what begins within so much of now has begun.
const ROUNDING: f64 = 1e-9;
/// Far from zero, floating point numbers are less exact than that.
const MAX_TIME: f64 = 1e5;

impl Turns {
    /// The slot of the candidate whose turn it is.
    fn take(&mut self, candidates: &[Candidate]) -> Option<usize> {
        if self.now > MAX_TIME {
            *self = Turns::default();
        }
        let first = candidates.iter().map(|it| self.begins(it)).min_by(f64::total_cmp)?;
        self.now = self.now.max(first);
        let mut next: Option<(f64, &Candidate)> = None;
        for it in candidates {
            let begins = self.begins(it);
            let ends = begins + 1.0 / it.weight;
            if begins <= self.now + ROUNDING && next.is_none_or(|(earliest, _)| ends + ROUNDING < earliest) {
                next = Some((ends, it));
            }
        }
        let (ends, next) = next?;
        if let Some(turn) = &mut self.turns[next.id.slot] {
            turn.begins = ends;
        }
        self.now += 1.0 / candidates.iter().map(|it| it.weight).sum::<f64>();
        Some(next.id.slot)
    }

    /// When the candidate's next turn begins. One that is new, has another weight, or was away for more than a turn
    /// begins now.
    fn begins(&mut self, candidate: &Candidate) -> f64 {
        if self.turns.len() <= candidate.id.slot {
            self.turns.resize(candidate.id.slot + 1, None);
        }
        let (serial, weight, now) = (candidate.id.serial, candidate.weight, self.now);
        let turn = &mut self.turns[candidate.id.slot];
        match turn {
            Some(turn) if turn.serial == serial && turn.weight == weight && turn.begins + 2.0 / weight >= now => {
                turn.begins
            }
            _ => turn.insert(Turn { serial, weight, begins: now }).begins,
        }
    }
}

#[derive(Default)]
struct RoundRobin(Turns);

impl Policy for RoundRobin {
    fn choose(&mut self, candidates: &[Candidate], _client: IpAddr) -> Option<usize> {
        self.0.take(candidates)
    }
}

#[derive(Default)]
struct LeastConnected {
    turns: Turns,
    least: Vec<Candidate>,
}

impl Policy for LeastConnected {
    fn choose(&mut self, candidates: &[Candidate], _client: IpAddr) -> Option<usize> {
        let load = |it: &Candidate| it.connections as f64 / it.weight;
        let least = candidates.iter().map(load).min_by(f64::total_cmp)?;
        self.least.clear();
        self.least.extend(candidates.iter().filter(|it| load(it) <= least * (1.0 + ROUNDING)));
        self.turns.take(&self.least)
    }
}

struct Random;

impl Policy for Random {
    fn choose(&mut self, candidates: &[Candidate], _client: IpAddr) -> Option<usize> {
        let total: f64 = candidates.iter().map(|it| it.weight).sum();
        let mut rest = fastrand::f64() * total;
        let hit = candidates.iter().find(|it| {
            rest -= it.weight;
            rest < 0.0
        });
        // Rounding may leave a rest behind the last one.
        hit.or(candidates.last()).map(|it| it.id.slot)
    }

    fn deals_in_shares(&self) -> bool {
        true
    }
}

/// Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): a destination that goes loses only its own
/// clients, and gets them back when it returns.
struct Source;

impl Source {
    /// The highest wins. The hash is a part of the behaviour: two daemons with the same table send a client to the
    /// same destination, today's and next year's.
    fn score(candidate: &Candidate, client: IpAddr) -> f64 {
        let mut key = [0; 34];
        key[..16].copy_from_slice(&octets(client));
        key[16..32].copy_from_slice(&octets(candidate.address.ip()));
        key[32..].copy_from_slice(&candidate.address.port().to_be_bytes());
        let hash = twox_hash::XxHash3_64::oneshot(&key);
        // 53 bits, as many as the fraction has, moved off 0 and 1, where the logarithm is no help.
        let uniform = ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
        candidate.weight / -uniform.ln()
    }
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl Policy for Source {
    fn choose(&mut self, candidates: &[Candidate], client: IpAddr) -> Option<usize> {
        let scored = candidates.iter().map(|it| (Source::score(it, client), it));
        scored.max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, it)| it.id.slot)
    }

    fn deals_in_shares(&self) -> bool {
        true
    }
}

#[derive(Default)]
struct Single {
    current: Option<DestinationId>,
}

impl Policy for Single {
    fn choose(&mut self, candidates: &[Candidate], _client: IpAddr) -> Option<usize> {
        // Among equals the one that was added first, so that daemons with the same table agree.
        let first = |a: &&Candidate, b: &&Candidate| a.weight.total_cmp(&b.weight).then(b.id.serial.cmp(&a.id.serial));
        let heaviest = candidates.iter().max_by(first)?;
        let current = candidates.iter().find(|it| Some(it.id) == self.current);
        let chosen = current.filter(|it| it.weight >= heaviest.weight).unwrap_or(heaviest);
        self.current = Some(chosen.id);
        Some(chosen.id.slot)
    }
}
