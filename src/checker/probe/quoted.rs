//! What a server has said, in a reason.

use crate::pool::health::is_unprintable;

/// How much of it is repeated, in characters.
const LONGEST: usize = 60;

/// The beginning of some bytes, in quotes: text as it is, and escapes for everything else.
pub(in crate::checker) fn quoted(bytes: &[u8]) -> String {
    let mut shown = Vec::new();
    // More than that is never shown.
    for chunk in bytes.get(..4 * LONGEST).unwrap_or(bytes).utf8_chunks() {
        shown.extend(chunk.valid().chars().map(|letter| match letter {
            '\r' => "\\r".to_owned(),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            letter if is_unprintable(letter) => hex(letter.encode_utf8(&mut [0; 4]).as_bytes()),
            letter => letter.to_string(),
        }));
        shown.extend(Some(hex(chunk.invalid())).filter(|hex| !hex.is_empty()));
    }
    let mut length = 0;
    let kept: String = shown
        .iter()
        .take_while(|part| {
            length += part.chars().count();
            length <= LONGEST
        })
        .map(String::as_str)
        .collect();
    let cut = if length > LONGEST || bytes.len() > 4 * LONGEST { "..." } else { "" };
    format!("'{kept}{cut}'")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\x{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_is_shown_as_it_is_and_the_rest_in_escapes() {
        for (bytes, shown) in [
            (&b"-ERR unknown\r\n"[..], "'-ERR unknown\\r\\n'"),
            (b"", "''"),
            (b"AMQP\0\0\x09\x01", "'AMQP\\x00\\x00\\x09\\x01'".replace("\\x09", "\\t").as_str()),
            ("\u{fc}\u{202e}".as_bytes(), "'\u{fc}\\xe2\\x80\\xae'"),
            (b"\xff\xfea", "'\\xff\\xfea'"),
        ] {
            assert_eq!(quoted(bytes), shown);
        }
        assert_eq!(quoted(&[b'x'; 60]), format!("'{}'", "x".repeat(60)));
        assert_eq!(quoted(&[b'x'; 61]), format!("'{}...'", "x".repeat(60)));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_short_and_printable(bytes: Vec<u8>) {
            let shown = quoted(&bytes);
            prop_assert!(shown.chars().count() <= LONGEST + 5 && !shown.contains(is_unprintable), "{}", shown);
        }
    }
}
