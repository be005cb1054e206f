//! Why a destination has its verdict, in words that are safe to print.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

pub use crate::log::format::is_unprintable;

/// Longest reason, in characters.
const MAX_CHARACTERS: usize = 200;
/// Stands at the end of a reason that was longer.
const CUT: &str = "...";

/// One line of text without control characters, at most 200 characters long. Servers and scripts write these words, so
/// nothing in them may end a line of the log or of a table, or change how a terminal shows it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Reason(Box<str>);

impl Reason {
    /// Replaces what must not be printed by blanks, and cuts what is too long.
    pub fn new(text: &str) -> Reason {
        let printable = |c: char| if is_unprintable(c) { ' ' } else { c };
        // Twice the limit is enough to see whether anything is cut, also of a text that begins with blanks.
        let mut shown: String = text.trim_start().chars().take(2 * MAX_CHARACTERS).map(printable).collect();
        shown.truncate(shown.trim_end().len());
        let begin = shown.len() - shown.trim_start().len();
        shown.drain(..begin);
        if shown.chars().nth(MAX_CHARACTERS).is_some() {
            let kept = MAX_CHARACTERS - CUT.len();
            let end = shown.char_indices().nth(kept).map_or(shown.len(), |(index, _)| index);
            shown.replace_range(end.., CUT);
        }
        Reason(shown.into())
    }
}

impl Deref for Reason {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self)
    }
}

impl From<&str> for Reason {
    fn from(text: &str) -> Reason {
        Reason::new(text)
    }
}

impl From<String> for Reason {
    fn from(text: String) -> Reason {
        Reason::new(&text)
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> String {
        reason.0.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_ordinary_reason_stays_as_it_is() {
        for text in ["", "no answer within 1 s", "Zugriff verweigert für »probe«"] {
            assert_eq!(&*Reason::new(text), text);
        }
    }

    #[test]
    fn what_could_forge_a_line_is_replaced() {
        let forged = "down\n10.0.0.1:3306 :  +    1.000    READY\r\x1b[2K\u{2028}x\0\n";
        assert_eq!(&*Reason::new(forged), "down 10.0.0.1:3306 :  +    1.000    READY  [2K x");
    }

    #[test]
    fn a_long_one_is_cut() {
        let longest = "x".repeat(MAX_CHARACTERS);
        assert_eq!(&*Reason::new(&longest), longest);
        let cut = Reason::new(&"ü".repeat(100_000));
        assert_eq!(cut.chars().count(), MAX_CHARACTERS);
        assert!(cut.ends_with("ü..."));
    }

    proptest! {
        #[test]
        fn whatever_comes_is_one_short_printable_line(text in ".{0,400}|[\\x00-\\x20a]{0,400}") {
            let reason = Reason::new(&text);
            prop_assert!(reason.chars().count() <= MAX_CHARACTERS);
            prop_assert!(!reason.chars().any(is_unprintable));
            prop_assert_eq!(&Reason::new(&reason), &reason, "it is cleaned once");
            // What another process hands over is cleaned as well.
            let received: Reason = serde_json::from_value(serde_json::Value::from(text)).expect("a string");
            prop_assert_eq!(&received, &reason);
            let sent = serde_json::to_value(&reason).expect("a string");
            prop_assert_eq!(sent.as_str(), Some(&*reason));
        }
    }
}
