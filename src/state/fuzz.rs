//! The entry point for a fuzzer (`fuzz/`) of state files.

use super::contents::{parse, print, sealed};

/// A file with this in it; and one that has the right beginning and end.
pub fn state(bytes: &[u8]) {
    // An error is as good as an answer.
    let _ = parse(bytes);
    let Ok(body) = str::from_utf8(bytes) else { return };
    if let Ok(contents) = parse(sealed(body).as_bytes()) {
        assert_eq!(parse(print(&contents).as_bytes()), Ok(contents), "{body}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::fuzz::tests::replay;

    #[test]
    fn what_is_in_the_corpus_makes_nothing_panic() {
        replay("state", state);
    }
}
