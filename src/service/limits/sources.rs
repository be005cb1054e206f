//! Where connections come from: how many there are of each source, and how fast they come.
//!
//! The table has a fixed size, whatever comes. A source has a slot in one set of them, which its hash with a secret key
//! chooses. Its slot is as good as free once it has no connections and its bucket is full, at most a second after the
//! last one: then nothing is lost when another source takes it. If none is free, the source without connections goes
//! whose bucket is the fullest, so that a source which has used up its own is the last to be forgotten. A source with
//! connections is never forgotten. If all in a set have some, further sources of this set are not limited: limiting them
//! together would lock out sources that have opened few.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use parking_lot::Mutex;

use super::rate::Rate;

/// How many slots there are in the table. Each has 24 bytes.
pub(super) const SLOTS: usize = 65_536;
/// How many slots a set has.
const WAYS: usize = 16;

/// What is limited: an IPv4 address, or an IPv6 network of 64 bits, which is what a subscriber or a machine is given.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(super) struct Source(u64);

impl Source {
    /// IPv4 addresses are put where IPv6 has multicast addresses, which no client has.
    const IPV4: u64 = 0xffff_ffff << 32;

    pub(super) fn of(client: IpAddr) -> Source {
        match client.to_canonical() {
            IpAddr::V4(address) => Source(Source::IPV4 | u64::from(address.to_bits())),
            IpAddr::V6(address) => Source((address.to_bits() >> 64) as u64),
        }
    }

    /// An address of it.
    pub(super) fn address(self) -> IpAddr {
        match self.0 & Source::IPV4 {
            // What is left are the bits of the address.
            Source::IPV4 => Ipv4Addr::from_bits(self.0 as u32).into(),
            _ => Ipv6Addr::from_bits(u128::from(self.0) << 64).into(),
        }
    }
}

/// The limits of each source.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SourceLimits {
    pub connections: Option<u32>,
    pub rate: Option<Rate>,
}

/// What is said of a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is counted in this slot until [`Sources::leave`].
    Counted(u32),
    /// Nothing is counted: connections have no limit.
    NotCounted,
    /// The table has no slot for this source, which is not limited.
    NoSlot,
    /// The source has as many as it may.
    TooMany,
    /// They come faster than they may.
    TooFast,
}

/// The table.
pub(super) struct Sources {
    sets: Box<[Mutex<[Slot; WAYS]>]>,
    hasher: RandomState,
}

/// What is known of a source. One that nothing is known of needs no slot.
#[derive(Clone, Copy, Default)]
struct Slot {
    source: Source,
    /// When its bucket will be full, in nanoseconds.
    full_at: u64,
    connections: u32,
    /// Those that the processes before this one have.
    elsewhere: u32,
}

impl Sources {
    pub(super) fn new() -> Sources {
        Sources::with_slots(SLOTS)
    }

    fn with_slots(slots: usize) -> Sources {
        let sets = (0..slots / WAYS).map(|_| Mutex::new([Slot::default(); WAYS])).collect();
        Sources { sets, hasher: RandomState::new() }
    }

    /// Takes in a connection of this source at the time `now`, if its limits permit.
    pub(super) fn enter(&self, source: Source, limits: SourceLimits, now: u64) -> Outcome {
        let index = self.set_of(source);
        let mut set = self.sets[index].lock();
        let Some(way) = way_for(&set, source) else { return Outcome::NoSlot };
        let slot = &mut set[way];
        let mut next = if slot.source == source { *slot } else { Slot { source, ..Slot::default() } };
        if limits.connections.is_some_and(|most| next.connections.saturating_add(next.elsewhere) >= most) {
            return Outcome::TooMany;
        }
        if let Some(rate) = limits.rate {
            match rate.take(next.full_at, now) {
                Ok(full_at) => next.full_at = full_at,
                Err(_) => return Outcome::TooFast,
            }
        }
        if limits.connections.is_none() {
            *slot = next;
            return Outcome::NotCounted;
        }
        next.connections += 1;
        *slot = next;
        // There are no more slots than that.
        Outcome::Counted((index * WAYS + way) as u32)
    }

    /// Forgets one connection that was counted.
    pub(super) fn leave(&self, slot: u32) {
        let slot = slot as usize;
        let mut set = self.sets[slot / WAYS].lock();
        set[slot % WAYS].connections -= 1;
    }

    /// Sets how many connections of this source other processes have. If there is no slot for it, they do not count.
    pub(super) fn set_elsewhere(&self, source: Source, connections: u32) {
        let mut set = self.sets[self.set_of(source)].lock();
        let own = set.iter_mut().find(|slot| slot.source == source);
        if let Some(slot) = own {
            slot.elsewhere = connections;
        } else if connections > 0
            && let Some(way) = way_for(&set, source)
        {
            set[way] = Slot { source, elsewhere: connections, ..Slot::default() };
        }
    }

    /// No other process has any.
    pub(super) fn forget_elsewhere(&self) {
        self.sets.iter().for_each(|set| set.lock().iter_mut().for_each(|slot| slot.elsewhere = 0));
    }

    /// How many connections of each source there are in this process.
    pub(super) fn own(&self) -> Vec<(Source, u32)> {
        let mut own = Vec::new();
        for set in &self.sets {
            let set = set.lock();
            own.extend(set.iter().filter(|slot| slot.connections > 0).map(|slot| (slot.source, slot.connections)));
        }
        own
    }

    fn set_of(&self, source: Source) -> usize {
        // The remainder is less than the number of sets.
        (self.hasher.hash_one(source) % self.sets.len() as u64) as usize
    }

    #[cfg(test)]
    fn connections(&self) -> u32 {
        self.sets.iter().map(|set| set.lock().iter().map(|slot| slot.connections).sum::<u32>()).sum()
    }
}

/// The slot of a source, or else the one that is forgotten for it.
fn way_for(set: &[Slot; WAYS], source: Source) -> Option<usize> {
    let own = set.iter().position(|slot| slot.source == source);
    let is_idle = |way: &usize| set[*way].connections == 0 && set[*way].elsewhere == 0;
    own.or_else(|| (0..WAYS).filter(is_idle).min_by_key(|way| set[*way].full_at))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn limits(connections: Option<u32>, rate: Option<u32>) -> SourceLimits {
        SourceLimits { connections, rate: rate.map(Rate::per_second) }
    }

    fn source(text: &str) -> Source {
        Source::of(text.parse().expect("an address"))
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_the_first_half_of_an_ipv6_address() {
        assert_eq!(source("::ffff:10.0.0.1"), source("10.0.0.1"));
        assert_ne!(source("10.0.0.1"), source("10.0.0.2"));
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1:ffff::2"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_ne!(source("::a00:1"), source("10.0.0.1"));
        for text in ["10.0.0.1", "255.255.255.255", "0.0.0.0", "::1", "2001:db8:0:1::1"] {
            assert_eq!(Source::of(source(text).address()), source(text));
        }
    }

    #[test]
    fn connections_of_other_processes_count_and_are_not_forgotten() {
        let (sources, limits) = (Sources::with_slots(WAYS), limits(Some(3), None));
        let one = source("10.0.0.1");
        sources.set_elsewhere(one, 2);
        let Outcome::Counted(slot) = sources.enter(one, limits, 0) else { panic!("it has two") };
        assert_eq!(sources.enter(one, limits, 0), Outcome::TooMany);
        assert_eq!(sources.own(), [(one, 1)]);
        sources.leave(slot);
        // A slot is one of its own, though there is no connection in this process.
        let full: Vec<Outcome> = others(WAYS as u32).map(|other| sources.enter(other, limits, 0)).collect();
        assert_eq!(full.iter().filter(|outcome| **outcome == Outcome::NoSlot).count(), 1);
        sources.set_elsewhere(source("10.0.0.2"), 7);
        assert_eq!(sources.enter(source("10.0.0.2"), limits, 0), Outcome::NoSlot);
        sources.set_elsewhere(one, 3);
        assert_eq!(sources.enter(one, limits, 0), Outcome::TooMany);
        sources.set_elsewhere(one, 0);
        assert!(matches!(sources.enter(one, limits, 0), Outcome::Counted(_)));
        sources.set_elsewhere(one, 3);
        sources.forget_elsewhere();
        assert!(matches!(sources.enter(one, limits, 0), Outcome::Counted(_)));
    }

    #[test]
    fn each_source_has_its_own_limits() {
        let (sources, limits) = (Sources::new(), limits(Some(2), None));
        let (one, other) = (source("10.0.0.1"), source("10.0.0.2"));
        let Outcome::Counted(slot) = sources.enter(one, limits, 0) else { panic!("it has none yet") };
        assert_eq!(sources.enter(one, limits, 0), Outcome::Counted(slot));
        assert_eq!(sources.enter(one, limits, 0), Outcome::TooMany);
        assert!(matches!(sources.enter(other, limits, 0), Outcome::Counted(_)));
        sources.leave(slot);
        assert_eq!(sources.enter(one, limits, 0), Outcome::Counted(slot));
    }

    #[test]
    fn what_is_refused_for_the_number_takes_no_token() {
        let sources = Sources::new();
        let client = source("::1");
        let Outcome::Counted(slot) = sources.enter(client, limits(Some(1), Some(2)), 0) else { panic!("the first") };
        (0..9).for_each(|_| assert_eq!(sources.enter(client, limits(Some(1), Some(2)), 0), Outcome::TooMany));
        sources.leave(slot);
        assert_eq!(sources.enter(client, limits(Some(1), Some(2)), 0), Outcome::Counted(slot));
        sources.leave(slot);
        assert_eq!(sources.enter(client, limits(Some(1), Some(2)), 0), Outcome::TooFast);
    }

    /// All sources of one set.
    fn others(count: u32) -> impl Iterator<Item = Source> {
        (0..count).map(|number| Source(u64::from(number) << 8 | 1))
    }

    #[test]
    fn a_source_that_has_used_up_its_rate_is_not_forgotten_for_any_number_of_others() {
        let (sources, limits) = (Sources::with_slots(WAYS), limits(None, Some(10)));
        let attacker = source("10.0.0.1");
        (0..10).for_each(|_| assert_eq!(sources.enter(attacker, limits, 0), Outcome::NotCounted));
        for other in others(100_000) {
            assert_eq!(sources.enter(other, limits, 0), Outcome::NotCounted, "none is locked out");
        }
        assert_eq!(sources.enter(attacker, limits, 0), Outcome::TooFast);
        assert_eq!(sources.enter(attacker, limits, SECOND), Outcome::NotCounted);
    }

    #[test]
    fn a_source_with_connections_is_never_forgotten_and_where_all_have_some_others_are_not_limited() {
        let (sources, limits) = (Sources::with_slots(WAYS), limits(Some(1), Some(1)));
        let mut slots = Vec::new();
        for other in others(WAYS as u32) {
            let Outcome::Counted(slot) = sources.enter(other, limits, 0) else { panic!("there is room") };
            slots.push(slot);
        }
        let late = source("10.0.0.1");
        (0..9).for_each(|_| assert_eq!(sources.enter(late, limits, 0), Outcome::NoSlot));
        others(WAYS as u32).for_each(|other| assert_eq!(sources.enter(other, limits, 9 * SECOND), Outcome::TooMany));
        slots.into_iter().for_each(|slot| sources.leave(slot));
        assert!(matches!(sources.enter(late, limits, 0), Outcome::Counted(_)));
        assert_eq!(sources.connections(), 1);
    }

    #[test]
    fn a_table_has_a_megabyte_and_a_half() {
        let sources = Sources::new();
        assert_eq!(sources.sets.len() * WAYS, SLOTS);
        assert!(size_of_val(&*sources.sets) <= 27 * SLOTS, "{}", size_of_val(&*sources.sets));
    }

    proptest! {
        /// As long as there are fewer sources than slots in a set, nothing is ever forgotten.
        #[test]
        fn it_limits_as_a_table_without_bounds_does(
            most in 1..4u32, rate in 1..6u32,
            steps in prop::collection::vec((0..WAYS as u64, 0..SECOND / 3, prop::bool::ANY), 1..200)
        ) {
            let (sources, limits) = (Sources::with_slots(WAYS), limits(Some(most), Some(rate)));
            let mut model: HashMap<u64, (u32, u64)> = HashMap::new();
            let (mut now, mut open) = (0, Vec::new());
            for (number, pause, leaves) in steps {
                now += pause;
                if leaves && let Some((number, slot)) = open.pop() {
                    sources.leave(slot);
                    model.entry(number).and_modify(|(connections, _)| *connections -= 1);
                    continue;
                }
                let (connections, full_at) = model.entry(number).or_default();
                let expected = match limits.rate.expect("a rate").take(*full_at, now) {
                    _ if *connections == most => Err(Outcome::TooMany),
                    Err(_) => Err(Outcome::TooFast),
                    Ok(next) => {
                        (*connections, *full_at) = (*connections + 1, next);
                        Ok(())
                    }
                };
                match (sources.enter(Source(number), limits, now), expected) {
                    (Outcome::Counted(slot), Ok(())) => open.push((number, slot)),
                    (found, expected) => prop_assert_eq!(Err(found), expected),
                }
            }
            prop_assert_eq!(sources.connections() as usize, open.len());
            open.into_iter().for_each(|(_, slot)| sources.leave(slot));
            prop_assert_eq!(sources.connections(), 0);
        }
    }
}
