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

/// Weighted turns: stride scheduling (Waldspurger and Weihl, 1995). Every destination is due again 1/weight after its
/// last turn; a new one is first due half of that after the present, which spreads turns as evenly as they go.
#[derive(Default)]
struct Turns {
    /// When the last turn taken was due.
    now: f64,
    /// By slot.
    turns: Vec<Option<Turn>>,
}

#[derive(Clone, Copy)]
struct Turn {
    serial: u64,
    weight: f64,
    due: f64,
}

impl Turns {
    /// When this candidate's turn is. One that is new, has another weight, or was away for its last turn starts anew.
    fn due(&mut self, candidate: &Candidate) -> f64 {
        if self.turns.len() <= candidate.id.slot {
            self.turns.resize(candidate.id.slot + 1, None);
        }
        let (serial, weight, now) = (candidate.id.serial, candidate.weight, self.now);
        let turn = &mut self.turns[candidate.id.slot];
        match turn {
            Some(turn) if turn.serial == serial && turn.weight == weight && turn.due >= now => turn.due,
            _ => turn.insert(Turn { serial, weight, due: now + 0.5 / weight }).due,
        }
    }

    fn take(&mut self, candidate: &Candidate) -> usize {
        self.now = self.due(candidate);
        if let Some(turn) = &mut self.turns[candidate.id.slot] {
            turn.due += 1.0 / candidate.weight;
        }
        candidate.id.slot
    }
}

#[derive(Default)]
struct RoundRobin(Turns);

impl Policy for RoundRobin {
    fn choose(&mut self, candidates: &[Candidate], _client: IpAddr) -> Option<usize> {
        let next = candidates.iter().map(|it| (self.0.due(it), it)).min_by(|a, b| a.0.total_cmp(&b.0))?.1;
        Some(self.0.take(next))
    }
}

#[derive(Default)]
struct LeastConnected(Turns);

impl Policy for LeastConnected {
    fn choose(&mut self, candidates: &[Candidate], _client: IpAddr) -> Option<usize> {
        let rank = |it: &Candidate| (it.connections as f64 / it.weight, self.0.due(it));
        let ranked = candidates.iter().map(rank).zip(candidates);
        let least = ranked.min_by(|(a, _), (b, _)| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)))?.1;
        Some(self.0.take(least))
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
