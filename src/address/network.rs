//! Networks of IP addresses, as `10.0.0.0/8`.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use super::{AddressError, error};

/// An IPv4 or IPv6 network. One in IPv6 form that has only IPv4 addresses is an IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// Its first address.
    first: IpAddr,
    /// How many bits all its addresses have in common.
    prefix: u32,
}

impl Network {
    /// Returns true if an address belongs to it.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && shared_bits(address, self.first) >= self.prefix
    }
}

/// The length of an address in bits.
fn length(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// How many bits two addresses of one family have in common, from the first on.
fn shared_bits(one: IpAddr, other: IpAddr) -> u32 {
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        (IpAddr::V6(one), IpAddr::V6(other)) => (one.to_bits() ^ other.to_bits()).leading_zeros(),
        _ => 0,
    }
}

/// The first address of the network of an address.
fn first_address(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(address) => IpAddr::V4((address.to_bits() & u32::MAX.checked_shl(32 - prefix).unwrap_or(0)).into()),
        IpAddr::V6(address) => {
            IpAddr::V6((address.to_bits() & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)).into())
        }
    }
}

impl FromStr for Network {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Network, AddressError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| error(format!("'{address}' is not an IP address")))?;
        let most = length(written);
        let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let prefix = match prefix {
            None => most,
            Some(text) => match text.parse::<u32>() {
                Ok(prefix) if prefix <= most && is_number(text) => prefix,
                _ => return Err(error(format!("'{text}' is not a prefix length (0 to {most})"))),
            },
        };
        let first = written.to_canonical();
        let network = match prefix.checked_sub(most - length(first)) {
            Some(prefix) => Network { first, prefix },
            None => Network { first: written, prefix },
        };
        let start = Network { first: first_address(network.first, network.prefix), ..network };
        // It is unclear what was meant: the address or the network.
        if start == network { Ok(network) } else { Err(error(format!("the network begins with {start}"))) }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn network(text: &str) -> Result<String, String> {
        text.parse::<Network>().map(|network| network.to_string()).map_err(|error| error.to_string())
    }

    #[test]
    fn networks_are_read_in_every_form() {
        for (text, meaning) in [
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("10.1.2.3", "10.1.2.3/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("::/0", "::/0"),
            ("fd00::/8", "fd00::/8"),
            ("fe80::1", "fe80::1/128"),
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
        ] {
            assert_eq!(network(text), Ok(meaning.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_network_is_refused() {
        for (text, reason) in [
            ("", "'' is not an IP address"),
            ("db", "'db' is not an IP address"),
            ("10.0.0/8", "'10.0.0' is not an IP address"),
            ("10.0.0.0/33", "'33' is not a prefix length (0 to 32)"),
            ("10.0.0.0/", "'' is not a prefix length (0 to 32)"),
            ("10.0.0.0/+8", "'+8' is not a prefix length (0 to 32)"),
            ("fd00::/129", "'129' is not a prefix length (0 to 128)"),
            ("10.1.0.0/8", "the network begins with 10.0.0.0/8"),
            ("::1/64", "the network begins with ::/64"),
        ] {
            assert_eq!(network(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn an_address_is_in_the_networks_of_its_family_that_begin_like_it() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::a00:1"),
            ("10.1.2.3", "10.1.2.3", "10.1.2.2"),
            ("0.0.0.0/0", "255.1.2.3", "::1"),
            ("::/0", "2001:db8::1", "10.0.0.1"),
            ("fd00::/9", "fd7f::1", "fd80::1"),
        ] {
            let network: Network = text.parse().expect("a network");
            assert!(network.contains(inside.parse().expect("an address")), "{text} {inside}");
            assert!(!network.contains(outside.parse().expect("an address")), "{text} {outside}");
        }
    }

    proptest! {
        #[test]
        fn each_network_of_an_address_contains_it_and_is_read_back(address: IpAddr, prefix in 0..=128u32) {
            let address = address.to_canonical();
            let prefix = prefix.min(length(address));
            let network = Network { first: first_address(address, prefix), prefix };
            prop_assert!(network.contains(address));
            prop_assert_eq!(network.to_string().parse::<Network>().ok(), Some(network));
        }
    }
}
