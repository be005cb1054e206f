//! What a check is told: `TARGET;NAME=VALUE;NAME=VALUE`, and the escapes in it.

/// The longest text that says how to check. All of it goes to the checker in one message.
const MAX_LENGTH: usize = 4096;

/// A text, taken apart.
pub(super) struct Spec<'t> {
    /// What stands in front of the options.
    pub target: &'t str,
    /// Names and values, in their order.
    pub options: Vec<(&'t str, &'t str)>,
}

impl<'t> Spec<'t> {
    /// Takes the options with these names from the end of a text. What is no option belongs to the target, where a path may
    /// contain semicolons too.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(backend: &str, text: &'t str, names: &[&str]) -> Result<Spec<'t>, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("{backend}: longer than {MAX_LENGTH} bytes"));
        }
        let (mut target, mut options) = (text, Vec::new());
        while !target.is_empty() {
            let (front, last) = rsplit(target);
            let Some(option) = last.split_once('=').filter(|(name, _)| names.contains(name)) else { break };
            options.push(option);
            target = front;
        }
        options.reverse();
        Ok(Spec { target, options })
    }
}

/// The part behind the last `;` that no backslash escapes, and what stands in front of that.
fn rsplit(text: &str) -> (&str, &str) {
    let (mut escaped, mut last) = (false, None);
    for (place, letter) in text.char_indices() {
        if letter == ';' && !escaped {
            last = Some(place);
        }
        escaped = letter == '\\' && !escaped;
    }
    match last.and_then(|place| text.split_at_checked(place)) {
        Some((front, rest)) => (front, rest.strip_prefix(';').unwrap_or(rest)),
        None => ("", text),
    }
}

/// The bytes that a value stands for: `\r`, `\n`, `\t`, `\0`, `\\`, `\;` and `\xHH` are what they are in many languages. A
/// backslash in front of anything else stands for itself.
///
/// # Errors
/// One line that says what is wrong with it.
pub(super) fn unescape(text: &str) -> Result<Vec<u8>, String> {
    let (mut bytes, mut rest) = (Vec::new(), text);
    while let Some((plain, escape)) = rest.split_once('\\') {
        bytes.extend(plain.as_bytes());
        let mut letters = escape.chars();
        match letters.next() {
            Some('r') => bytes.push(b'\r'),
            Some('n') => bytes.push(b'\n'),
            Some('t') => bytes.push(b'\t'),
            Some('0') => bytes.push(0),
            Some(itself @ ('\\' | ';')) => bytes.push(itself as u8),
            Some('x') => {
                let byte = escape.get(1..3).and_then(hex_byte).ok_or("\\x needs two hexadecimal digits")?;
                bytes.push(byte);
                letters = escape.get(3..).unwrap_or_default().chars();
            }
            _ => {
                bytes.push(b'\\');
                letters = escape.chars();
            }
        }
        rest = letters.as_str();
    }
    bytes.extend(rest.as_bytes());
    Ok(bytes)
}

/// The bytes that these hexadecimal digits stand for.
///
/// # Errors
/// One line that says that they are none.
pub(super) fn from_hex(text: &str) -> Result<Vec<u8>, String> {
    let byte = |place| text.get(place..place + 2).and_then(hex_byte);
    let bytes: Option<Vec<u8>> = (0..text.len()).step_by(2).map(byte).collect();
    bytes.ok_or_else(|| format!("'{text}' is not pairs of hexadecimal digits"))
}

fn hex_byte(digits: &str) -> Option<u8> {
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    u8::from_str_radix(digits, 16).ok().filter(|_| are_digits)
}

/// A text as a value may have it: a `;` does not end it, and no control character is left.
pub(in crate::config) fn guard(text: &str) -> String {
    let (mut guarded, mut escaped) = (String::new(), false);
    for letter in text.chars() {
        match letter {
            ';' if !escaped => guarded.push_str("\\;"),
            letter => guarded.push(letter),
        }
        escaped = letter == '\\' && !escaped;
    }
    if escaped {
        // Otherwise it would escape what follows.
        guarded.push('\\');
    }
    printable(&guarded)
}

/// The same text, with escapes in the place of control characters.
pub(in crate::config) fn printable(text: &str) -> String {
    let (mut shown, mut escaped) = (String::new(), false);
    for letter in text.chars() {
        if escaped && letter.is_control() {
            // Otherwise the backslash would take the escape's own for the one that it escapes.
            shown.push('\\');
        }
        escaped = letter == '\\' && !escaped;
        match letter {
            '\r' => shown.push_str("\\r"),
            '\n' => shown.push_str("\\n"),
            '\t' => shown.push_str("\\t"),
            letter if letter.is_control() => {
                let mut bytes = [0; 4];
                let bytes = letter.encode_utf8(&mut bytes).bytes();
                shown.extend(bytes.map(|byte| format!("\\x{byte:02x}")));
            }
            letter => shown.push(letter),
        }
    }
    shown
}

/// Reads a port.
///
/// # Errors
/// One line that says that it is none.
pub(super) fn parse_port(backend: &str, text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(port) if port > 0 && text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(format!("{backend}: '{text}' is not a port (1 to 65535)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_stand_for_bytes_and_other_backslashes_for_themselves() {
        for (text, bytes) in [
            ("PING\\r\\n", &b"PING\r\n"[..]),
            ("\\x00\\xfF\\0\\t", b"\0\xff\0\t"),
            ("a\\;b\\\\n", b"a;b\\n"),
            ("\\d+ \\", b"\\d+ \\"),
            ("\u{fc}\r\n", b"\xc3\xbc\r\n"),
        ] {
            assert_eq!(unescape(text).as_deref(), Ok(bytes), "{text}");
        }
        for text in ["\\x", "\\x1", "\\x+1", "\\xg0", "\\x\u{fc}"] {
            assert!(unescape(text).is_err(), "{text}");
        }
        assert_eq!(from_hex("50494e470d0A").as_deref(), Ok(&b"PING\r\n"[..]));
        for text in ["5", "5g", "+1", "\u{fc}"] {
            assert!(from_hex(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_guarded_value_is_one_value_and_means_the_same(text in "[a-z;\\\\=\r\n\u{0}\u{85}]{0,12}") {
            let guarded = guard(&text);
            prop_assert!(!guarded.contains(char::is_control));
            let whole = format!("1;a={guarded};b=2");
            let spec = Spec::parse("tcp", &whole, &["a", "b"]).expect("it is short");
            prop_assert_eq!((spec.target, &spec.options[..]), ("1", &[("a", &guarded[..]), ("b", "2")][..]));
            prop_assert_eq!(unescape(&guarded), unescape(&text));
        }
    }
}
