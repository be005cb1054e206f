//! The entry point for a fuzzer (`fuzz/`) of what a proxy sends in front of a client's bytes.

use super::proxy_protocol::{Addresses, MAX_HEADER, Parsed, encode, parse};
use crate::config::ProxyVersion;

/// A client who begins with this.
pub fn proxy_protocol(bytes: &[u8]) {
    let parsed = parse(bytes);
    match parsed {
        Parsed::Incomplete => assert!(bytes.len() < MAX_HEADER),
        Parsed::Header { length, addresses } => {
            assert!(length <= MAX_HEADER);
            assert_eq!(parse(&bytes[..length]), parsed, "what follows says nothing");
            assert_eq!(parse(&bytes[..length - 1]), Parsed::Incomplete);
            addresses.into_iter().for_each(is_passed_on);
        }
        // It stays so, whatever follows.
        Parsed::Invalid(_) => assert!(matches!(parse(&[bytes, b"\r\n"].concat()), Parsed::Invalid(_))),
    }
}

/// The next proxy reads what is sent on.
fn is_passed_on(addresses: Addresses) {
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        let header = encode(version, addresses);
        assert_eq!(parse(&header), Parsed::Header { length: header.len(), addresses: Some(addresses) });
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_the_corpus_makes_nothing_panic() {
        crate::checker::fuzz::tests::replay("proxy_protocol", super::proxy_protocol);
    }
}
