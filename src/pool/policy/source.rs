//! One client address, one destination.

use std::collections::HashMap;
use std::net::IpAddr;

use twox_hash::XxHash3_64;

use super::{Ahead, Candidate, Policy};
use crate::address::PeerAddress;
use crate::pool::tried::Tried;

/// Weighted rendezvous hashing (Schindelhauer and Schomaker, 2005): a destination that goes loses only its own clients,
/// and gets them back when it returns.
#[derive(Default)]
pub(super) struct Source {
    /// A hash of each candidate; apart from them, since hardly more than this is looked at.
    hashes: Vec<u64>,
    candidates: Vec<Weighted>,
    most_weight: f64,
    /// Where clients went since the candidates last changed, so that not every connection looks at all of them.
    remembered: HashMap<IpAddr, usize>,
}

struct Weighted {
    slot: usize,
    weight: f64,
}

/// Clients that are remembered at most.
const MEMORY: usize = 1 << 16;
/// Candidates that are passed over together when none of them can win, without a branch for each.
const GROUP: usize = 8;
/// Among so few, looking at all of them is as quick as remembering.
const FEW: usize = 32;

impl Source {
    fn winner(&self, client: IpAddr, tried: &Tried) -> Option<usize> {
        let client = Mixer::new(client);
        // Most clients have tried none: for them, the loop does without the question.
        if tried.is_empty() { self.best(&client, |_| false) } else { self.best(&client, |slot| tried.has(slot)) }
    }

    /// The one with the highest score, weight / -ln(1 - x), where x is evenly spread over 0 to 1.
    fn best(&self, client: &Mixer, is_tried: impl Fn(usize) -> bool) -> Option<usize> {
        let (mut best, mut winner) = (0.0, None);
        // Since -ln(1 - x) >= x, nobody with an x from here on can win.
        let mut end = u64::MAX;
        for (hashes, candidates) in self.hashes.chunks(GROUP).zip(self.candidates.chunks(GROUP)) {
            let group = <&[u64; GROUP]>::try_from(hashes);
            if group.is_ok_and(|group| group.iter().all(|hash| client.mix(*hash) > end)) {
                continue;
            }
            for (hash, it) in hashes.iter().zip(candidates) {
                let x = client.mix(*hash);
                if x > end || is_tried(it.slot) {
                    continue;
                }
                let score = it.weight / -(-fraction(x)).ln_1p();
                if score > best {
                    (best, winner) = (score, Some(it.slot));
                    end = (self.most_weight / best * TWO_TO_THE_64TH) as u64;
                }
            }
        }
        winner
    }

    fn changed(&mut self) {
        self.most_weight = self.candidates.iter().map(|it| it.weight).fold(0.0, f64::max);
        self.remembered.clear();
    }
}

/// Mixes one client's hash with the candidates'. The hashes are a part of the behaviour: two daemons with the same table
/// send a client to the same destination, today's and next year's.
struct Mixer {
    offset: u64,
    factor: u64,
}

impl Mixer {
    fn new(client: IpAddr) -> Mixer {
        let octets = octets(client);
        // Multiplying by a random odd number is as good as hashing anew (Dietzfelbinger and others, 1997).
        Mixer { offset: XxHash3_64::oneshot(&octets), factor: XxHash3_64::oneshot_with_seed(1, &octets) | 1 }
    }

    fn mix(&self, hash: u64) -> u64 {
        (hash ^ self.offset).wrapping_mul(self.factor)
    }
}

const TWO_TO_THE_64TH: f64 = (1u128 << 64) as f64;

/// A number between 0 and 1, and neither of them.
fn fraction(x: u64) -> f64 {
    // 53 bits, as many as the fraction has.
    ((x >> 11) as f64 + 0.5) / (1u64 << 53) as f64
}

fn hash_of(address: PeerAddress) -> u64 {
    let address = match address {
        PeerAddress::Inet(address) => address,
        PeerAddress::Unix(path) => return XxHash3_64::oneshot(path.as_str().as_bytes()),
    };
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
    fn join(&mut self, candidate: &Candidate, _ahead: Ahead) {
        let Candidate { slot, weight, address, .. } = *candidate;
        self.hashes.push(hash_of(address));
        self.candidates.push(Weighted { slot, weight });
        self.changed();
    }

    fn leave(&mut self, candidate: &Candidate) -> Ahead {
        if let Some(index) = self.candidates.iter().position(|it| it.slot == candidate.slot) {
            self.hashes.swap_remove(index);
            self.candidates.swap_remove(index);
            self.changed();
        }
        Ahead::default()
    }

    fn pick(&mut self, client: IpAddr, tried: &Tried) -> Option<usize> {
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::Ipv4Addr;

    use crate::pool::DestinationId;

    fn candidate(slot: usize, weight: f64) -> Candidate {
        let address = PeerAddress::from((Ipv4Addr::LOCALHOST, slot as u16 + 1));
        Candidate { slot, serial: slot as u64, address, weight, configured_weight: weight, connections: 0 }
    }

    /// Looks at the score of each.
    fn best(candidates: &[Candidate], client: IpAddr, tried: &Tried) -> Option<usize> {
        let mixer = Mixer::new(client);
        let score = |it: &Candidate| it.weight / -(-fraction(mixer.mix(hash_of(it.address)))).ln_1p();
        let untried = candidates.iter().filter(|it| !tried.has(it.slot));
        untried.max_by(|one, other| score(one).total_cmp(&score(other))).map(|it| it.slot)
    }

    proptest! {
        #[test]
        fn what_is_passed_over_unseen_or_remembered_is_what_looking_at_all_finds(
            changes in prop::collection::vec((0..80usize, 0.01..100.0f64, any::<bool>()), 1..100),
            clients in prop::collection::vec(any::<u32>(), 1..4),
        ) {
            let (mut source, mut candidates): (_, Vec<Candidate>) = (Source::default(), Vec::new());
            for (slot, weight, try_it) in changes {
                let before = candidates.iter().position(|it| it.slot == slot).map(|index| candidates.remove(index));
                match before {
                    Some(before) => _ = source.leave(&before),
                    None => {
                        candidates.push(candidate(slot, weight));
                        source.join(&candidate(slot, weight), Ahead::default());
                    }
                }
                let tried = candidates.iter().filter(|it| try_it && it.slot % 2 == 0);
                let tried: Tried = tried.map(|it| DestinationId { pool: 0, slot: it.slot as u32, serial: it.serial }).collect();
                for client in clients.iter().flat_map(|client| [client, client]) {
                    let client = IpAddr::V4((*client).into());
                    prop_assert_eq!(source.pick(client, &tried), best(&candidates, client, &tried));
                }
            }
        }
    }

    #[test]
    fn no_more_clients_are_remembered_than_there_is_room_for() {
        let mut source = Source::default();
        (0..=FEW).for_each(|slot| source.join(&candidate(slot, 1.0), Ahead::default()));
        let mut remembered = |client: usize| {
            source.pick(IpAddr::V4((client as u32).into()), &Tried::default());
            source.remembered.len()
        };
        assert_eq!((0..MEMORY).map(&mut remembered).last(), Some(MEMORY));
        assert_eq!(remembered(0), MEMORY, "it is remembered");
        assert_eq!(remembered(MEMORY), 1, "the memory begins anew");
        let few = |count: usize| {
            let mut source = Source::default();
            (0..count).for_each(|slot| source.join(&candidate(slot, 1.0), Ahead::default()));
            source.pick(IpAddr::V4(1.into()), &Tried::default());
            source.remembered.len()
        };
        assert_eq!((few(FEW), few(FEW + 1)), (0, 1), "among a few, looking at all is as quick");
    }
}
