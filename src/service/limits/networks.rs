//! The networks whose clients are allowed or denied.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// Decides by the longest prefix that an address has.
#[derive(Default)]
pub(super) struct Networks {
    v4: Prefixes,
    v6: Prefixes,
    /// Whether clients are allowed that are in no network.
    others: bool,
}

/// For each length of prefix, the longest first: the first addresses of the networks, and whether these are allowed.
type Prefixes = Vec<(u8, HashMap<u128, bool>)>;

impl Networks {
    pub(super) fn new(allow: &[IpNet], deny: &[IpNet]) -> Networks {
        let mut networks = Networks { others: allow.is_empty(), ..Networks::default() };
        allow.iter().for_each(|network| networks.add(network, true));
        // What stands in both is denied.
        deny.iter().for_each(|network| networks.add(network, false));
        for prefixes in [&mut networks.v4, &mut networks.v6] {
            prefixes.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        }
        networks
    }

    fn add(&mut self, network: &IpNet, allowed: bool) {
        let (prefixes, length) =
            (if network.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 }, network.prefix_len());
        let index = prefixes.iter().position(|(it, _)| *it == length).unwrap_or_else(|| {
            prefixes.push((length, HashMap::new()));
            prefixes.len() - 1
        });
        prefixes[index].1.insert(first_address(network.addr(), length), allowed);
    }

    /// Returns true if a client with this address may connect.
    pub(super) fn allow(&self, client: IpAddr) -> bool {
        let prefixes = if client.is_ipv4() { &self.v4 } else { &self.v6 };
        let mut verdicts =
            prefixes.iter().filter_map(|(length, networks)| networks.get(&first_address(client, *length)));
        verdicts.next().copied().unwrap_or(self.others)
    }
}

/// The first address of the network that has this prefix in common with `address`.
fn first_address(address: IpAddr, length: u8) -> u128 {
    let (bits, width) = match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), Ipv4Addr::BITS),
        IpAddr::V6(address) => (address.to_bits(), Ipv6Addr::BITS),
    };
    let behind = width - u32::from(length);
    // A shift by the whole width is none.
    bits.checked_shr(behind).and_then(|prefix| prefix.checked_shl(behind)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn networks(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    #[test]
    fn the_longest_prefix_decides_and_without_an_allowed_network_the_others_may_connect() {
        let office =
            Networks::new(&networks(&["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32"]), &networks(&["10.1.0.0/16"]));
        for (client, allowed) in [
            ("10.0.0.1", true),
            ("10.1.2.2", false),
            ("10.1.2.3", true),
            ("192.0.2.1", false),
            ("2001:db8:1::1", true),
            ("2001:db9::1", false),
            // Not 10.0.0.1.
            ("::a00:1", false),
        ] {
            assert_eq!(office.allow(client.parse().expect("an address")), allowed, "{client}");
        }
        let blocked = Networks::new(&[], &networks(&["0.0.0.0/0", "2001:db8::/32"]));
        for (client, allowed) in [("10.0.0.1", false), ("2001:db8::1", false), ("::1", true)] {
            assert_eq!(blocked.allow(client.parse().expect("an address")), allowed, "{client}");
        }
        assert!(Networks::new(&[], &[]).allow(Ipv4Addr::LOCALHOST.into()));
        assert!(!Networks::new(&networks(&["::/0"]), &[]).allow(Ipv4Addr::LOCALHOST.into()));
    }

    /// Addresses that have much in common with each other.
    fn address() -> impl Strategy<Value = IpAddr> {
        let few = prop_oneof![Just(0u128), Just(1), Just(1 << 7), Just(1 << 20), Just(1 << 31)];
        let v4 = (few.clone(), few.clone()).prop_map(|(one, other)| Ipv4Addr::from_bits((one ^ other) as u32).into());
        let v6 = (few.clone(), few, 0..2u32)
            .prop_map(|(one, other, high)| Ipv6Addr::from_bits((one ^ other) << (high * 96)).into());
        prop_oneof![v4, v6]
    }

    fn network() -> impl Strategy<Value = IpNet> {
        (address(), 0..=128u8).prop_map(|(address, length)| {
            let most = if address.is_ipv4() { 32 } else { 128 };
            IpNet::new(address, length % (most + 1)).expect("a length").trunc()
        })
    }

    proptest! {
        #[test]
        fn it_decides_as_a_look_at_each_network_does(
            allow in prop::collection::vec(network(), 0..6), deny in prop::collection::vec(network(), 0..6),
            client in address()
        ) {
            let all = allow.iter().map(|network| (network, true)).chain(deny.iter().map(|network| (network, false)));
            let holding = all.filter(|(network, _)| network.contains(&client));
            // Of two that are the same, the denied one.
            let longest = holding.max_by_key(|(network, allowed)| (network.prefix_len(), !allowed));
            let expected = longest.map_or(allow.is_empty(), |(_, allowed)| allowed);
            prop_assert_eq!(Networks::new(&allow, &deny).allow(client), expected);
        }
    }
}
