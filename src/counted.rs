//! Numbers of things, in words.

use std::fmt;

/// A number of things, which is printed with the right form of the word: `1 session`, `2 sessions`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted(pub usize, pub &'static str);

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counted(count, thing) = self;
        let plural = if *count == 1 { "" } else { "s" };
        write!(f, "{count} {thing}{plural}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_not_several() {
        let told = |count| Counted(count, "session").to_string();
        assert_eq!([0, 1, 2].map(told), ["0 sessions", "1 session", "2 sessions"]);
    }
}
