//! The entry point for a fuzzer (`fuzz/`) of what a client of the control port sends.

use super::command::{Command, Target, is_text, looks_like_http};
use super::lines::Lines;
use crate::address::parse_destination;
use crate::pool::health::is_unprintable;

/// A client who sends this.
pub fn control(bytes: &[u8]) {
    let mut lines = Lines::default();
    for piece in bytes.chunks(100) {
        lines.feed(piece);
        loop {
            match lines.next() {
                Ok(Some(line)) => obey(&line),
                Ok(None) => break,
                Err(_) => lines.skip_line(),
            }
        }
    }
    lines.rest().into_iter().for_each(|line| obey(&line));
}

fn obey(line: &str) {
    if looks_like_http(line) || !is_text(line) {
        return;
    }
    match Command::parse(line, Some(8010)) {
        // The state file keeps it as a destination, and reads it as one: behind `add`, a host may have a name that is a
        // command for GLB's sake at the beginning of a line, as `getstat.example` is.
        Ok(Command::Change(Target { spec, .. })) => {
            let kept = format!("{}:{}", spec.endpoint, spec.weight);
            assert_eq!(parse_destination(&kept, None), Ok(spec), "{line}");
        }
        Ok(_) => {}
        // It stands in a log line.
        Err(reason) => assert!(!reason.contains(is_unprintable) || line.contains(is_unprintable), "{reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::fuzz::tests::replay;

    #[test]
    fn what_is_in_the_corpus_makes_nothing_panic() {
        replay("control", control);
    }
}
