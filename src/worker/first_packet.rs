//! The first packet of a MySQL server: a handshake, or an error with which it refuses the client.

use crate::pool::health::is_unprintable;

/// The longest error packet that is kept, its header included. MySQL's own have less than 600 bytes.
pub(super) const MAX_ERROR: usize = 4096;

/// Length and sequence number.
const HEADER: usize = 4;
/// The first byte of an error packet's payload.
const ERROR: u8 = 0xff;
/// The first byte of a handshake, the protocol's version; 9 is that of very old servers.
const VERSIONS: [u8; 2] = [9, 10];
/// The longest handshake that is waited for. MySQL's own have about 100 bytes.
const MAX_HANDSHAKE: usize = 4096;
/// `ER_CON_COUNT_ERROR`: too many connections.
const FULL: u16 = 1040;
/// Most characters of a server's text that are logged.
const MAX_TEXT: usize = 200;

/// What the bytes that a server has sent so far amount to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Inspection<'a> {
    /// More is needed to decide.
    Incomplete,
    /// They may be passed on: this is not an error packet.
    Accepted,
    /// This error packet; of one that is longer than [`MAX_ERROR`], as much.
    Refused(&'a [u8]),
}

/// Inspects the bytes that a server has sent so far.
pub(super) fn inspect(bytes: &[u8]) -> Inspection<'_> {
    let [low, middle, high, _sequence, payload @ ..] = bytes else { return Inspection::Incomplete };
    let length = usize::from(*low) | usize::from(*middle) << 8 | usize::from(*high) << 16;
    match payload.first() {
        _ if length == 0 => Inspection::Accepted,
        None => Inspection::Incomplete,
        Some(&ERROR) => match bytes.get(..(HEADER + length).min(MAX_ERROR)) {
            Some(packet) => Inspection::Refused(packet),
            None => Inspection::Incomplete,
        },
        // A server that dies over it has not served the client yet.
        Some(version) if VERSIONS.contains(version) && length <= MAX_HANDSHAKE && bytes.len() < HEADER + length => {
            Inspection::Incomplete
        }
        Some(_) => Inspection::Accepted,
    }
}

/// An error packet to be sent later, which is one also if it is only the beginning of a longer one.
pub(super) fn keep(packet: &[u8]) -> Box<[u8]> {
    let mut kept: Box<[u8]> = packet.into();
    let length = (kept.len().saturating_sub(HEADER) as u32).to_le_bytes();
    kept.iter_mut().zip(&length[..3]).for_each(|(byte, length)| *byte = *length);
    kept
}

/// Whether a server that has greeted a client refuses it now because it is full: the one place beyond `max_connections` is
/// for those who have the right to it, which shows only once the client has said who it is.
pub(super) fn is_full(bytes: &[u8]) -> bool {
    matches!(bytes, [_, _, _, sequence, ERROR, low, high, ..] if *sequence > 0 && u16::from_le_bytes([*low, *high]) == FULL)
}

/// Says what is in an error packet, in one line of printable characters.
pub(super) fn describe(packet: &[u8]) -> String {
    let Some([low, high, message @ ..]) = packet.get(HEADER + 1..) else { return "an error without a code".to_owned() };
    let code = u16::from_le_bytes([*low, *high]);
    // The SQL state is not sent before the handshake, but by some proxies.
    let message = match message {
        [b'#', _, _, _, _, _, message @ ..] => message,
        message => message,
    };
    format!("error {code}: {}", printable(&String::from_utf8_lossy(message)))
}

/// Replaces what could forge or disfigure a log line, and bounds the length.
fn printable(text: &str) -> String {
    text.chars().take(MAX_TEXT).map(|it| if is_unprintable(it) { ' ' } else { it }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(payload: &[u8]) -> Vec<u8> {
        let length = payload.len() as u32;
        [&length.to_le_bytes()[..3], &[0], payload].concat()
    }

    fn error(code: u16, message: &str) -> Vec<u8> {
        packet(&[&[ERROR][..], &code.to_le_bytes(), message.as_bytes()].concat())
    }

    #[test]
    fn a_handshake_is_accepted_when_it_is_complete() {
        let handshake = packet(b"\x0a10.11.6-MariaDB\0and so on");
        for count in 0..handshake.len() {
            assert_eq!(inspect(&handshake[..count]), Inspection::Incomplete, "{count} bytes");
        }
        assert_eq!(inspect(&handshake), Inspection::Accepted);
        assert_eq!(inspect(&[&handshake[..], b"and more"].concat()), Inspection::Accepted);
        // One that is as long is nobody's.
        assert_eq!(inspect(&packet(&[10; 5000])[..5]), Inspection::Accepted);
    }

    #[test]
    fn an_error_is_refused_once_it_is_whole() {
        let error = error(1040, "Too many connections");
        for count in 0..error.len() {
            assert_eq!(inspect(&error[..count]), Inspection::Incomplete, "{count} bytes");
        }
        assert_eq!(inspect(&error), Inspection::Refused(&error));
        let followed = [&error[..], b"more"].concat();
        assert_eq!(inspect(&followed), Inspection::Refused(&error));
    }

    #[test]
    fn an_error_that_is_longer_than_any_is_refused_as_far_as_it_is_kept() {
        let error = error(1040, &"x".repeat(100_000));
        assert_eq!(inspect(&error[..MAX_ERROR - 1]), Inspection::Incomplete);
        assert_eq!(inspect(&error[..MAX_ERROR]), Inspection::Refused(&error[..MAX_ERROR]));
        assert_eq!(inspect(&error), Inspection::Refused(&error[..MAX_ERROR]));
    }

    #[test]
    fn an_empty_packet_and_other_protocols_are_passed_on() {
        for bytes in [&b"\0\0\0\0"[..], b"\0\0\0\0\xff", b"SSH-2.0-OpenSSH\r\n", b"+OK hello\r\n", b"220 mail\r\n"] {
            assert_eq!(inspect(bytes), Inspection::Accepted, "{bytes:?}");
        }
    }

    #[test]
    fn errors_are_described_with_code_and_message() {
        assert_eq!(describe(&error(1040, "Too many connections")), "error 1040: Too many connections");
        assert_eq!(describe(&error(1040, "#08004Too many connections")), "error 1040: Too many connections");
        assert_eq!(describe(&packet(&[ERROR])), "an error without a code");
        assert_eq!(describe(&error(1, "a\nb\x1b[31m\u{202e}c\u{2028}d")), "error 1: a b [31m c d");
        assert_eq!(describe(&error(1, &"x".repeat(4000))).len(), "error 1: ".len() + MAX_TEXT);
    }

    #[test]
    fn only_a_server_that_greets_and_then_says_that_it_is_full_counts_as_full() {
        let with_sequence = |packet: Vec<u8>, sequence| [&packet[..3], &[sequence], &packet[4..]].concat();
        assert!(is_full(&with_sequence(error(1040, "#08004Too many connections"), 2)));
        assert!(!is_full(&with_sequence(error(1045, "#28000Access denied for user 'a'"), 2)));
        assert!(!is_full(&error(1040, "Too many connections")), "its first packet");
        assert!(!is_full(&with_sequence(packet(b"\0\0\0\x02\0\0\0"), 2)), "it lets the client in");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Inspection::Refused(packet) = inspect(&bytes) {
                prop_assert!(!describe(packet).chars().any(char::is_control));
            }
            let _ = describe(&bytes);
        }

        #[test]
        fn what_was_decided_stays_so_whatever_follows(
            payload in proptest::collection::vec(any::<u8>(), 0..64), more in proptest::collection::vec(any::<u8>(), 0..64),
            is_error in any::<bool>()
        ) {
            let bytes = if is_error { packet(&[&[ERROR][..], &payload].concat()) } else { packet(&payload) };
            let decided = (0..=bytes.len()).map(|count| inspect(&bytes[..count])).find(|it| *it != Inspection::Incomplete);
            let whole = [bytes.clone(), more].concat();
            prop_assert_eq!(decided, Some(inspect(&whole)));
            prop_assert_eq!(matches!(decided, Some(Inspection::Refused(packet)) if packet == bytes),
                is_error || payload.first() == Some(&ERROR));
        }
    }
}
