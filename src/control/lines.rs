//! Lines out of a stream of bytes, however these come in pieces.

/// Longest line, in bytes, without its end.
pub(super) const MAX_LINE: usize = 4096;

/// Bytes that were read and not yet obeyed.
#[derive(Default)]
pub(super) struct Lines {
    bytes: Vec<u8>,
    /// No line ends before this.
    searched: usize,
    /// The rest of a line that is to be ignored is still to come.
    skipping: bool,
}

/// The line that is being sent has become longer than [`MAX_LINE`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Lines {
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        if self.skipping {
            self.skip_line();
        }
    }

    /// Ignores the line that was found to be too long, up to its end, wherever that is.
    pub(super) fn skip_line(&mut self) {
        let end = self.bytes.iter().position(|byte| *byte == b'\n');
        self.bytes.drain(..end.map_or(self.bytes.len(), |end| end + 1));
        self.skipping = end.is_none();
        self.searched = 0;
    }

    /// The next complete line, without its end and trailing blanks.
    ///
    /// # Errors
    /// [`TooLong`].
    pub(super) fn next(&mut self) -> Result<Option<String>, TooLong> {
        let end = self.bytes[self.searched..].iter().position(|byte| *byte == b'\n').map(|end| self.searched + end);
        if end.unwrap_or(self.bytes.len()) > MAX_LINE {
            return Err(TooLong);
        }
        let Some(end) = end else {
            self.searched = self.bytes.len();
            return Ok(None);
        };
        self.searched = 0;
        let line = text(&self.bytes[..end]);
        self.bytes.drain(..=end);
        Ok(Some(line))
    }

    /// What has come of a line that will not be ended; to be called when there is no complete one.
    pub(super) fn rest(&mut self) -> Option<String> {
        self.searched = 0;
        let rest = text(&std::mem::take(&mut self.bytes));
        Some(rest).filter(|rest| !rest.is_empty())
    }

    /// Whether enough has come to keep whoever obeys busy.
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() > MAX_LINE
    }

    /// Whether a line is there to its end.
    pub(super) fn has_line(&self) -> bool {
        self.bytes.contains(&b'\n')
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        *self = Lines::default();
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_line_that_never_ends_is_refused_with_bounded_memory() {
        let mut lines = Lines::default();
        lines.feed(&[b'a'; MAX_LINE]);
        assert_eq!(lines.next(), Ok(None));
        lines.feed(b"a");
        assert_eq!(lines.next(), Err(TooLong));
    }

    #[test]
    fn a_line_that_is_skipped_takes_no_other_with_it() {
        for rest in ["\nnext\n", "a\nnext\n"] {
            let mut lines = Lines::default();
            lines.feed(&[b'a'; MAX_LINE + 1]);
            lines.feed(rest.as_bytes());
            assert_eq!(lines.next(), Err(TooLong));
            lines.skip_line();
            assert_eq!(lines.next(), Ok(Some("next".to_owned())));
        }
        let mut lines = Lines::default();
        lines.feed(&[b'a'; MAX_LINE + 1]);
        lines.skip_line();
        lines.feed(b"aaa");
        lines.feed(b"a\nnext\n");
        assert_eq!(lines.next(), Ok(Some("next".to_owned())));
    }

    proptest! {
        #[test]
        fn lines_are_the_same_however_they_are_cut(text in "[a-z\r\n]{0,80}", cuts in prop::collection::vec(0..80usize, 0..6)) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            for piece in cuts.windows(2) {
                lines.feed(&text.as_bytes()[piece[0]..piece[1]]);
                while let Ok(Some(line)) = lines.next() {
                    found.push(line);
                }
            }
            let complete = text.rsplit_once('\n').map_or("", |(complete, _)| complete);
            let expected: Vec<&str> =
                if text.contains('\n') { complete.split('\n').map(str::trim_end).collect() } else { Vec::new() };
            prop_assert_eq!(found, expected);
        }
    }
}
