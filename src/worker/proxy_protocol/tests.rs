use proptest::prelude::*;

use super::*;
use crate::config::{ProxyV2Option, ProxyVersion};

mod tlvs;

fn addresses(source: &str, destination: &str) -> Addresses {
    Addresses { source: source.parse().expect("an address"), destination: destination.parse().expect("an address") }
}

/// A header of version 2 with this command, family and body.
fn binary(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
    [&SIGNATURE[..], &[command, family], &(body.len() as u16).to_be_bytes(), body].concat()
}

/// The header of this version that says nothing but addresses.
fn encode(version: ProxyVersion, addresses: Addresses) -> Box<[u8]> {
    super::encode(version, addresses, &Extras::default())
}

fn is_invalid(bytes: &[u8]) -> bool {
    matches!(parse(bytes), Parsed::Invalid(_))
}

#[test]
fn version_1_is_a_line_of_text() {
    let four = addresses("192.0.2.7:50000", "198.51.100.1:3306");
    assert_eq!(&*encode(ProxyVersion::V1, four), b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 3306\r\n");
    let six = addresses("[2001:db8::7]:50000", "[2001:db8::1]:3306");
    assert_eq!(&*encode(ProxyVersion::V1, six), b"PROXY TCP6 2001:db8::7 2001:db8::1 50000 3306\r\n");
}

#[test]
fn version_2_has_addresses_and_ports_in_the_order_of_the_network() {
    let four = encode(ProxyVersion::V2, addresses("192.0.2.7:50000", "198.51.100.1:3306"));
    assert_eq!(four[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c");
    assert_eq!(four[16..], [192, 0, 2, 7, 198, 51, 100, 1, 0xc3, 0x50, 0x0c, 0xea]);
    let six = encode(ProxyVersion::V2, addresses("[2001:db8::7]:1", "[2001:db8::1]:2"));
    assert_eq!(six[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x21\x00\x24");
    assert_eq!(six.len(), 52);
}

#[test]
fn ipv4_in_ipv6_form_is_ipv4_and_two_families_become_ipv6() {
    let mapped = addresses("[::ffff:192.0.2.7]:5", "[::ffff:198.51.100.1]:6");
    assert_eq!(&*encode(ProxyVersion::V1, mapped), b"PROXY TCP4 192.0.2.7 198.51.100.1 5 6\r\n");
    let mixed = addresses("192.0.2.7:5", "[2001:db8::1]:6");
    assert_eq!(&*encode(ProxyVersion::V1, mixed), b"PROXY TCP6 ::ffff:192.0.2.7 2001:db8::1 5 6\r\n");
}

#[test]
fn connections_without_a_client_are_known() {
    let unix = [0; 216];
    for (header, rest) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), "hello"),
        (b"PROXY UNKNOWN ffff:: ffff:: 65535 65535\r\n".to_vec(), ""),
        (binary(0x20, 0x00, &[]), "hello"),
        (binary(0x20, 0x11, &[1; 12]), ""),
        (binary(0x20, 0x77, &[1; 3]), ""),
        (binary(0x21, 0x00, &[]), ""),
        (binary(0x21, 0x12, &[1; 12]), ""),
        (binary(0x21, 0x31, &unix), "hello"),
    ] {
        let bytes = [&header[..], rest.as_bytes()].concat();
        let Parsed::Header { length, addresses: None, .. } = parse(&bytes) else { panic!("{header:?}") };
        assert_eq!(length, header.len(), "{header:?}");
    }
}

#[test]
fn what_follows_the_addresses_of_version_2_is_skipped() {
    let mut body = vec![192, 0, 2, 7, 198, 51, 100, 1, 0, 5, 0, 6];
    body.extend([0x05, 0, 3, 1, 2, 3]);
    body.resize(MAX_HEADER - 16, 0);
    let header = binary(0x21, 0x11, &body);
    let expected = addresses("192.0.2.7:5", "198.51.100.1:6");
    assert_eq!(parse(&header), Parsed::Header { length: MAX_HEADER, addresses: Some(expected), tlvs: 28 });
    body.push(0);
    assert!(is_invalid(&binary(0x21, 0x11, &body)));
    // It is known from the length: the rest is not waited for.
    assert!(is_invalid(&binary(0x21, 0x11, &body)[..16]));
}

#[test]
fn what_is_no_header_is_found_out_as_soon_as_it_can_be() {
    for bytes in [
        &b"GET / HTTP/1.0\r\n"[..],
        b"\n",
        b"PROXY\r\n",
        b"PROXX",
        b"PROXY TCP4\r\n",
        b"PROXY  TCP4 192.0.2.7 198.51.100.1 5 6\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 5 6 \r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 5\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 5 65536\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +5 6\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 05 6\r\n",
        b"PROXY TCP4 192.0.2.007 198.51.100.1 5 6\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 5 6\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 5 6\r\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 5 6\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.\xff 5 6\r\n",
        b"\r\n\r\n\0\r\nQUIT\r",
        b"\r\n\r\n\0\r\nQUIT\n\x11\x11\0\x0c",
        b"\r\n\r\n\0\r\nQUIT\n\x22\x11\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x41\0\0",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b12345678901",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x21\0\x0c123456789012",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x12\0\x0b12345678901",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x31\0\x0c123456789012",
    ] {
        assert!(is_invalid(bytes), "{}", bytes.escape_ascii());
    }
}

#[test]
fn a_line_is_not_waited_for_longer_than_one_can_be() {
    let line = [b"PROXY UNKNOWN ", &[b'x'; 200][..]].concat();
    assert_eq!(parse(&line[..106]), Parsed::Incomplete);
    assert!(is_invalid(&line[..107]));
    let longest = [&line[..105], b"\r\n"].concat();
    assert_eq!(parse(&longest), Parsed::Header { length: 107, addresses: None, tlvs: 107 });
}

fn any_addresses() -> impl Strategy<Value = Addresses> {
    let addresses = (any::<IpAddr>(), any::<u16>(), any::<IpAddr>(), any::<u16>());
    addresses.prop_map(|(source, from, destination, to)| Addresses {
        source: SocketAddr::new(source, from),
        destination: SocketAddr::new(destination, to),
    })
}

fn any_version() -> impl Strategy<Value = ProxyVersion> {
    prop_oneof![Just(ProxyVersion::V1), Just(ProxyVersion::V2)]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back_and_nothing_of_what_follows(
        version in any_version(), addresses in any_addresses(), rest: Vec<u8>
    ) {
        let header = encode(version, addresses);
        let bytes = [&header, &rest[..]].concat();
        prop_assert_eq!(
            parse(&bytes),
            Parsed::Header { length: header.len(), addresses: Some(addresses.canonical()), tlvs: header.len() }
        );
    }

    #[test]
    fn a_part_of_a_header_is_waited_for(version in any_version(), addresses in any_addresses(), at: prop::sample::Index) {
        let header = encode(version, addresses);
        prop_assert_eq!(parse(&header[..at.index(header.len())]), Parsed::Incomplete);
    }

    #[test]
    fn no_bytes_make_the_parser_panic_or_wait_for_ever(start in 0..4usize, bytes in prop::collection::vec(any::<u8>(), 0..5000)) {
        let starts = [&b""[..], b"PROXY ", b"PROXY TCP4 1.1.1.1 ", &SIGNATURE];
        let bytes = [starts[start], &bytes].concat();
        match parse(&bytes) {
            Parsed::Incomplete => prop_assert!(bytes.len() < MAX_HEADER),
            Parsed::Header { length, .. } => prop_assert!(length <= bytes.len().min(MAX_HEADER)),
            Parsed::Invalid(_) => {}
        }
    }
}
