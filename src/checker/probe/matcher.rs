//! Whether an answer contains what it has to.

use std::fmt::Write;

use regex::bytes::Regex;

use super::quoted::quoted;
use crate::config::{Pattern, compile, looks_ahead};

/// Looks for a [`Pattern`], in a time that grows only as the answer does.
#[derive(Debug, Clone)]
pub(super) struct Matcher {
    regex: Regex,
    /// What comes behind a match may speak against it.
    looks_ahead: bool,
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
        Ok(Matcher { looks_ahead: looks_ahead(&regex), regex: compile(&regex)?, wanted })
    }

    /// Returns true if a part of an answer contains it, whatever is to come behind that part.
    pub(super) fn is_in_part(&self, part: &[u8]) -> bool {
        match self.looks_ahead {
            true => self.regex.shortest_match(part).is_some_and(|end| end < part.len()),
            false => self.is_in(part),
        }
    }

    /// Returns true if a whole answer contains it.
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

    #[test]
    fn an_end_of_a_line_is_found_once_no_more_can_come_in_front_of_it() {
        let regex = |text: &str| matcher(Pattern::Regex(text.to_owned()));
        for (text, part, more) in [
            (r"^slaves=1$", "slaves=1", "\n"),
            (r"^slaves=1\r$", "slaves=1\r", "\n"),
            (r"^slaves=1\r?$", "x\nslaves=1", "\r\n"),
            (r"^OK(AY)?$", "OK", "\n"),
            (r"^load \d+\b", "load 1", " "),
            (r"^OK.*$", "OK", "\n"),
            (r"(?s)^OK.*$", "OK", "\nmore"),
            (r"down|up$", "up", "\n"),
        ] {
            let it = regex(text);
            let whole = format!("{part}{more}");
            assert!(!it.is_in_part(part.as_bytes()) && it.is_in(part.as_bytes()), "{text}");
            assert!(it.is_in_part(whole.as_bytes()) && it.is_in(whole.as_bytes()), "{text}");
        }
        for (text, part) in [(r"\+PONG", "+PONG"), (r"^a$\n^b", "a\nb"), (r"^x|^", "y")] {
            assert!(regex(text).is_in_part(part.as_bytes()), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_in_a_part_is_in_the_whole(part in "[a1 \n]{0,6}", rest in "[a1 \n]{0,4}") {
            for text in ["a$", r"^\w+$", r"\b1", r"1\b", r"a\B", "^$", r"^a1?$|1 "] {
                let it = matcher(Pattern::Regex(text.to_owned()));
                prop_assert!(!it.is_in_part(part.as_bytes()) || it.is_in(format!("{part}{rest}").as_bytes()), "{}", text);
            }
        }

        #[test]
        fn bytes_are_found_wherever_they_are(front: Vec<u8>, bytes in prop::collection::vec(any::<u8>(), 1..20), back: Vec<u8>) {
            let matcher = matcher(Pattern::Text(bytes.clone()));
            prop_assert!(matcher.is_in(&[&front[..], &bytes, &back].concat()));
            prop_assert_eq!(matcher.is_in(&front), front.windows(bytes.len()).any(|window| window == bytes));
        }
    }
}
