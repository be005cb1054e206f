//! The entry point for a fuzzer (`fuzz/`) of what a proxy sends in front of a client's bytes.

use super::proxy_protocol::{Addresses, Extras, MAX_HEADER, Parsed, Tlvs, encode, parse};
use crate::config::{ProxyV2Option, ProxyVersion};

/// A client who begins with this.
pub fn proxy_protocol(bytes: &[u8]) {
    let parsed = parse(bytes);
    match parsed {
        Parsed::Incomplete => assert!(bytes.len() < MAX_HEADER),
        Parsed::Header { length, addresses, tlvs } => {
            assert!(length <= MAX_HEADER);
            assert_eq!(parse(&bytes[..length]), parsed, "what follows says nothing");
            assert_eq!(parse(&bytes[..length - 1]), Parsed::Incomplete);
            let tlvs = Tlvs::new(&bytes[tlvs..length]);
            addresses.into_iter().for_each(|addresses| is_passed_on(addresses, &tlvs));
        }
        // It stays so, whatever follows.
        Parsed::Invalid(_) => assert!(matches!(parse(&[bytes, b"\r\n"].concat()), Parsed::Invalid(_))),
    }
}

/// The next proxy reads what is sent on.
fn is_passed_on(addresses: Addresses, received: &Tlvs) {
    use ProxyV2Option::{Alpn, Authority, Custom, Ssl};
    let passed_on: Vec<_> = received.passed_on(&[Alpn, Authority, Custom, Ssl]).collect();
    for version in [ProxyVersion::V1, ProxyVersion::V2] {
        for has_checksum in [false, true] {
            let header = encode(version, addresses, &Extras { tlvs: passed_on.clone(), has_checksum });
            assert!(header.len() <= MAX_HEADER);
            let Parsed::Header { length, addresses: Some(read), tlvs } = parse(&header) else { panic!("{header:?}") };
            assert_eq!((length, read), (header.len(), addresses));
            let read = Tlvs::new(&header[tlvs..]);
            let read: Vec<_> = read.passed_on(&[Alpn, Authority, Custom, Ssl]).collect();
            // All of them, unless the checksum leaves no room for one.
            assert!(version == ProxyVersion::V1 || has_checksum || read == passed_on);
            assert!(read.iter().all(|tlv| passed_on.contains(tlv)));
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_in_the_corpus_makes_nothing_panic() {
        crate::checker::fuzz::tests::replay("proxy_protocol", super::proxy_protocol);
    }
}
