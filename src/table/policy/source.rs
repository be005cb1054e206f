//! One client address, one destination.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use twox_hash::XxHash3_64;

use super::{Candidate, Policy};

/// Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): a destination that goes loses only its own clients,
/// and gets them back when it returns.
#[derive(Default)]
pub(super) struct Source {
    candidates: Vec<Scored>,
    /// Where clients went since the candidates last changed, so that not every connection looks at all of them.
    remembered: HashMap<IpAddr, usize>,
}

struct Scored {
    slot: usize,
    weight: f64,
    hash: u64,
}

/// Clients that are remembered at most.
const MEMORY: usize = 1 << 16;
/// Among so few, looking at all of them is as quick as remembering.
const FEW: usize = 32;

impl Source {
    /// The one with the highest score, weight / -ln(1 - x), where x is evenly spread over 0 to 1.
    fn winner(&self, client: IpAddr, tried: &[usize]) -> Option<usize> {
        let client = XxHash3_64::oneshot(&octets(client));
        let mut best = (0.0, None);
        for it in &self.candidates {
            let x = uniform(it.hash ^ client);
            // Since -ln(1 - x) >= x, most need no logarithm to be seen to lose.
            if it.weight <= best.0 * x || tried.contains(&it.slot) {
                continue;
            }
            let score = it.weight / -(-x).ln_1p();
            if score > best.0 {
                best = (score, Some(it.slot));
            }
        }
        best.1
    }
}

/// A number between 0 and 1, and neither of them. The hashes are a part of the behaviour: two daemons with the same
/// table send a client to the same destination, today's and next year's.
fn uniform(hash: u64) -> f64 {
    // The last steps of MurmurHash3, which spread every bit over all.
    let mut hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^= hash >> 33;
    // 53 bits, as many as the fraction has.
    ((hash >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

fn hash_of(address: SocketAddr) -> u64 {
    let mut key = [0; 18];
    key[..16].copy_from_slice(&octets(address.ip()));
    key[16..].copy_from_slice(&address.port().to_be_bytes());
    XxHash3_64::oneshot(&key)
}

fn octets(address: IpAddr) -> [u8; 16] {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

impl Policy for Source {
    fn join(&mut self, candidate: &Candidate) {
        let Candidate { slot, weight, address, .. } = *candidate;
        self.candidates.push(Scored { slot, weight, hash: hash_of(address) });
        self.remembered.clear();
    }

    fn leave(&mut self, candidate: &Candidate) {
        self.candidates.retain(|it| it.slot != candidate.slot);
        self.remembered.clear();
    }

    fn pick(&mut self, client: IpAddr, tried: &[usize]) -> Option<usize> {
        if self.candidates.len() <= FEW || !tried.is_empty() {
            return self.winner(client, tried);
        }
        if let Some(slot) = self.remembered.get(&client) {
            return Some(*slot);
        }
        let winner = self.winner(client, tried)?;
        if self.remembered.len() >= MEMORY {
            self.remembered.clear();
        }
        self.remembered.insert(client, winner);
        Some(winner)
    }

    fn deals_in_shares(&self) -> bool {
        true
    }
}
