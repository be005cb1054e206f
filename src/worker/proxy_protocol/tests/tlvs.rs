//! What follows the addresses of version 2.

use super::*;

/// A header for 192.0.2.7 with these values behind the addresses.
fn with(tlvs: &[(u8, &[u8])]) -> Vec<u8> {
    let mut body = vec![192, 0, 2, 7, 198, 51, 100, 1, 0, 5, 0, 6];
    for (kind, value) in tlvs {
        body.push(*kind);
        body.extend((value.len() as u16).to_be_bytes());
        body.extend(*value);
    }
    binary(0x21, 0x11, &body)
}

/// What a header that is in order says behind the addresses.
fn received(header: &[u8]) -> Tlvs {
    match parse(header) {
        Parsed::Header { length, tlvs, .. } if length == header.len() => Tlvs::new(&header[tlvs..]),
        other => panic!("{}: {other:?}", header.escape_ascii()),
    }
}

fn all_passed_on(tlvs: &Tlvs) -> Vec<Tlv<'_>> {
    use ProxyV2Option::{Alpn, Authority, Custom, Ssl};
    tlvs.passed_on(&[Alpn, Authority, Custom, Ssl]).collect()
}

/// What a load balancer of AWS has sent: a checksum, the id of an endpoint and padding.
fn of_aws() -> Vec<u8> {
    let mut body = vec![0xac, 0x1f, 0x07, 0x71, 0xac, 0x1f, 0x0a, 0x1f, 0xc8, 0xf2, 0x00, 0x50];
    body.extend([0x03, 0x00, 0x04, 0xe8, 0xd6, 0x89, 0x2d]);
    body.extend(b"\xea\x00\x17\x01vpce-08d2bf15fac5001c9");
    body.extend([0x04, 0x00, 0x24]);
    body.resize(body.len() + 0x24, 0);
    binary(0x21, 0x11, &body)
}

#[test]
fn a_checksum_that_another_program_has_made_is_right_and_with_any_bit_changed_it_is_wrong() {
    let header = of_aws();
    let tlvs = received(&header);
    let id = Tlv { kind: 0xea, value: b"\x01vpce-08d2bf15fac5001c9" };
    assert_eq!(all_passed_on(&tlvs), [id]);
    for byte in 16..header.len() {
        for bit in 0..8 {
            let mut changed = header.clone();
            changed[byte] ^= 1 << bit;
            // A type that is another takes the checksum away, or has it checked as part of something else.
            let no_checksum = byte == 28;
            assert!(no_checksum || is_invalid(&changed), "bit {bit} of byte {byte}");
        }
    }
    // Of what a proxy has connected for itself, all is discarded.
    let mut local = header;
    (local[12], local[31]) = (0x20, 0);
    assert_eq!(parse(&local), Parsed::Header { length: local.len(), addresses: None, tlvs: local.len() });
}

#[test]
fn values_that_are_not_what_they_should_be_are_malformed() {
    let (long_id, long_name) = ([b'x'; 129], [b'x'; 256]);
    for tlvs in [
        &[(0x03, &b""[..])][..],
        &[(0x03, b"123")],
        &[(0x03, b"1234")],
        &[(0x03, b"12345")],
        &[(0x05, &long_id)],
        &[(0x02, &long_name)],
        &[(0x20, b"")],
        &[(0x20, b"\x01\0\0\0")],
        &[(0x20, b"\x01\0\0\0\0\x21")],
        &[(0x20, b"\x01\0\0\0\0\x21\0\x08TLSv1.3")],
    ] {
        assert!(is_invalid(&with(tlvs)), "{tlvs:?}");
    }
    let whole = with(&[(0x02, b"db.example.org"), (0xe0, b"x")]);
    let end = whole.len() - 16;
    for cut in (13..end).filter(|cut| *cut != 12 + 3 + 14) {
        assert!(is_invalid(&binary(0x21, 0x11, &whole[16..16 + cut])), "{cut}");
    }
    // The same, where the addresses mean nothing.
    assert!(is_invalid(&binary(0x21, 0x31, &[&[0; 216][..], b"\x02"].concat())));
    let checksum_of = |header: &[u8]| header[31..35].to_vec();
    let header = super::super::encode(
        ProxyVersion::V2,
        addresses("192.0.2.7:5", "198.51.100.1:6"),
        &Extras { tlvs: vec![Tlv { kind: 3, value: &[0; 4] }], has_checksum: true },
    );
    assert!(is_invalid(&header), "two checksums, the first of which is right: {:?}", checksum_of(&header));
}

#[test]
fn the_longest_values_and_unknown_ones_are_in_order() {
    let ssl = b"\x01\0\0\0\0\x21\0\x07TLSv1.3";
    let header = with(&[
        (0x05, &[b'x'; 128]),
        (0x02, &[b'x'; 255]),
        (0x20, ssl),
        (0x20, &[0; 5]),
        (0x04, b""),
        (0x30, b"blue"),
        (0x00, b""),
        (0xff, b"future"),
        (0xef, b""),
        (0x01, b"mysql"),
    ]);
    let tlvs = received(&header);
    assert_eq!(tlvs.unique_id(), Some(&[b'x'; 128][..]));
    let kinds: Vec<u8> = all_passed_on(&tlvs).iter().map(|tlv| tlv.kind).collect();
    assert_eq!(kinds, [0x02, 0x20, 0x20, 0xef, 0x01]);
    let only = |option| tlvs.passed_on(&[option]).map(|tlv| tlv.kind).collect::<Vec<_>>();
    assert_eq!(only(ProxyV2Option::Alpn), [0x01]);
    assert_eq!(only(ProxyV2Option::Ssl), [0x20, 0x20]);
    assert!(only(ProxyV2Option::UniqueId).is_empty());
    assert!(only(ProxyV2Option::Crc32c).is_empty());
}

#[test]
fn a_header_is_no_longer_than_one_may_be() {
    let (long, short) = ([1; 4000], [2; 20]);
    let tlvs =
        vec![Tlv { kind: 0xe0, value: &long }, Tlv { kind: 0xe1, value: &long }, Tlv { kind: 0xe2, value: &short }];
    for has_checksum in [false, true] {
        let extras = Extras { tlvs: tlvs.clone(), has_checksum };
        let header = super::super::encode(ProxyVersion::V2, addresses("[2001:db8::7]:5", "[2001:db8::1]:6"), &extras);
        let read = received(&header);
        assert_eq!(all_passed_on(&read), [tlvs[0], tlvs[2]]);
    }
}

fn any_tlvs() -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let custom = (0xe0..=0xef_u8, prop::collection::vec(any::<u8>(), 0..300));
    prop::collection::vec(custom, 0..10)
}

proptest! {
    #[test]
    fn what_is_written_behind_the_addresses_is_read_back(
        addresses in any_addresses(), tlvs in any_tlvs(), has_checksum: bool, changed: Option<prop::sample::Index>
    ) {
        let tlvs: Vec<Tlv> = tlvs.iter().map(|(kind, value)| Tlv { kind: *kind, value }).collect();
        let mut header = super::super::encode(ProxyVersion::V2, addresses, &Extras { tlvs: tlvs.clone(), has_checksum });
        let read = received(&header);
        prop_assert_eq!(all_passed_on(&read), tlvs);
        // Changed in any of the addresses, it is found out.
        if let (true, Some(changed)) = (has_checksum, changed) {
            header[16 + changed.index(12)] ^= 0x10;
            prop_assert!(is_invalid(&header));
        }
    }
}
