//! Whether an answer contains what it has to.

use std::fmt::Write;

use regex::bytes::Regex;

use super::quoted::quoted;
use crate::config::{Pattern, compile};

/// Looks for a [`Pattern`], in a time that grows only as the answer does.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    regex: Regex,
    /// What is looked for, in words.
    pub wanted: String,
}

impl Matcher {
    /// # Errors
    /// One line that says what is wrong with a regular expression, which the daemon has checked.
    pub(super) fn new(pattern: &Pattern) -> Result<Matcher, String> {
        let (regex, wanted) = match pattern {
            Pattern::Text(bytes) => (literal("", bytes), quoted(bytes)),
            Pattern::Line(bytes) => (literal("^", bytes), format!("a line that begins with {}", quoted(bytes))),
            Pattern::Regex(regex) => (regex.clone(), format!("a match of {}", quoted(regex.as_bytes()))),
        };
        Ok(Matcher { regex: compile(&regex)?, wanted })
    }

    pub(super) fn is_in(&self, answer: &[u8]) -> bool {
        self.regex.is_match(answer)
    }
}

/// These bytes, as a regular expression.
fn literal(front: &str, bytes: &[u8]) -> String {
    let mut regex = format!("(?-u){front}");
    for byte in bytes {
        // Writing to a string cannot fail.
        let _ = write!(regex, "\\x{byte:02x}");
    }
    regex
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matcher(pattern: Pattern) -> Matcher {
        Matcher::new(&pattern).expect("a pattern")
    }

    #[test]
    fn a_line_is_found_by_its_beginning_and_by_nothing_else() {
        let role = matcher(Pattern::Line(b"role:master".to_vec()));
        assert!(role.is_in(b"role:master\r\n") && role.is_in(b"# Replication\r\nrole:master\r\nx"));
        assert!(!role.is_in(b"my-role:master\r\n") && !role.is_in(b"role:slave\r\nmaster_host:role:master"));
        let binary = matcher(Pattern::Line(b"\x01\xff".to_vec()));
        assert!(binary.is_in(b"\x01\xff\n") && !binary.is_in(b"\0\x01\xff"));
        assert!(matcher(Pattern::Regex(r"^role:(master|primary)\r$".to_owned())).is_in(b"a\nrole:primary\r\nb"));
        // One that is as long as any may be.
        assert!(!matcher(Pattern::Text(vec![0xc3; 4096])).is_in(&[0xc3; 4095]));
    }

    proptest! {
        #[test]
        fn bytes_are_found_wherever_they_are(front: Vec<u8>, bytes in prop::collection::vec(any::<u8>(), 1..20), back: Vec<u8>) {
            let matcher = matcher(Pattern::Text(bytes.clone()));
            prop_assert!(matcher.is_in(&[&front[..], &bytes, &back].concat()));
            prop_assert_eq!(matcher.is_in(&front), front.windows(bytes.len()).any(|window| window == bytes));
        }
    }
}
