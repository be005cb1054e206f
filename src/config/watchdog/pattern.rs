//! What an answer has to contain.

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::Look;
use serde::{Deserialize, Serialize};

use super::spec::{from_hex, unescape};
use crate::verdict::Verdict;

/// Most memory that a regular expression may take, in bytes.
const MAX_REGEX: usize = 1 << 20;

/// What an answer has to contain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pattern {
    /// These bytes, anywhere.
    Text(Vec<u8>),
    /// A line that begins with these bytes.
    Line(Vec<u8>),
    /// What this regular expression matches.
    Regex(String),
}

impl Pattern {
    /// Reads the value of `expect`, or of `expect-line`, `expect-hex` or `expect-regex`.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(name: &str, value: &str) -> Result<Pattern, String> {
        let pattern = match name {
            "expect-line" => Pattern::Line(unescape(value)?),
            "expect-hex" => Pattern::Text(from_hex(value)?),
            // All other escapes are its own.
            "expect-regex" => Pattern::Regex(value.replace("\\;", ";")),
            _ => Pattern::Text(unescape(value)?),
        };
        match &pattern {
            Pattern::Text(bytes) | Pattern::Line(bytes) if bytes.is_empty() => Err("nothing is expected".to_owned()),
            Pattern::Regex(text) if text.is_empty() => Err("nothing is expected".to_owned()),
            // In the message to the checker, it would take six times its length.
            Pattern::Regex(text) if text.contains(char::is_control) => {
                Err("it has a control character, which \\n or \\xHH stands for".to_owned())
            }
            Pattern::Regex(text) => compile(text).map(|_| pattern),
            _ => Ok(pattern),
        }
    }
}

/// Returns true if whether a regular expression matches may depend on what comes behind the match: it can end with `$`, `\b` or
/// the like.
pub fn looks_ahead(regex: &str) -> bool {
    let parsed = ParserBuilder::new().multi_line(true).utf8(false).build().parse(regex);
    let is_ahead = |look: Look| !matches!(look, Look::Start | Look::StartLF | Look::StartCRLF);
    parsed.is_ok_and(|parsed| parsed.properties().look_set_suffix_any().iter().any(is_ahead))
}

/// Makes ready what looks for a regular expression, in a time that grows only as the text does.
///
/// # Errors
/// One line that says what is wrong with it.
pub fn compile(regex: &str) -> Result<Regex, String> {
    let compiled = RegexBuilder::new(regex).size_limit(MAX_REGEX).dfa_size_limit(MAX_REGEX).multi_line(true).build();
    compiled.map_err(|error| {
        let message = error.to_string();
        // It draws where the fault is, on lines of its own.
        let last = message.lines().last().unwrap_or_default().trim();
        format!("'{regex}' is not a regular expression: {}", last.strip_prefix("error: ").unwrap_or(last))
    })
}

/// Statuses from one number to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusRange {
    /// The first of them.
    pub first: u16,
    /// The last.
    pub last: u16,
}

/// Which statuses mean what. With any other one, a destination is DOWN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statuses {
    /// Of a destination that is READY.
    pub ready: Vec<StatusRange>,
    /// Of one that is SPARE.
    pub spare: Vec<StatusRange>,
    /// Of one that is AVOID.
    pub avoid: Vec<StatusRange>,
}

impl Default for Statuses {
    fn default() -> Statuses {
        Statuses { ready: vec![StatusRange { first: 200, last: 200 }], spare: Vec::new(), avoid: Vec::new() }
    }
}

impl Statuses {
    /// What a status means.
    pub fn verdict(&self, status: u16) -> Verdict {
        let has = |list: &[StatusRange]| list.iter().any(|range| (range.first..=range.last).contains(&status));
        match () {
            () if has(&self.ready) => Verdict::Ready,
            () if has(&self.spare) => Verdict::Spare,
            () if has(&self.avoid) => Verdict::Avoid,
            () => Verdict::Down,
        }
    }

    /// Sets the list of this name.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn set(&mut self, name: &str, list: &str) -> Result<(), String> {
        let ranges = list.split(',').map(parse_range).collect::<Result<_, _>>()?;
        match name {
            "ready" => self.ready = ranges,
            "spare" => self.spare = ranges,
            _ => self.avoid = ranges,
        }
        Ok(())
    }

    /// Whether no status is in two lists.
    ///
    /// # Errors
    /// One line that names the first that is.
    pub(super) fn check(&self) -> Result<(), String> {
        let lists = [&self.ready, &self.spare, &self.avoid];
        let has = |list: &[StatusRange], status| list.iter().any(|it| (it.first..=it.last).contains(&status));
        match (200..600).find(|status| lists.iter().filter(|list| has(list, *status)).count() > 1) {
            Some(twice) => Err(format!("status {twice} is in two lists")),
            None => Ok(()),
        }
    }
}

fn parse_range(text: &str) -> Result<StatusRange, String> {
    let status = |text: &str| text.parse().ok().filter(|status| (200..600).contains(status) && text.len() == 3);
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (status(first), status(last)) {
        (Some(first), Some(last)) if first <= last => Ok(StatusRange { first, last }),
        (Some(_), Some(_)) => Err(format!("'{text}' ends before it begins")),
        _ if text.contains('-') => Err(format!("'{text}' is not a range of statuses (200 to 599)")),
        _ => Err(format!("'{text}' is not a status (200 to 599)")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_single_statuses_are_read_and_overlaps_are_refused() {
        let mut statuses = Statuses::default();
        statuses.set("ready", "200-399,404").expect("ranges");
        statuses.set("spare", "503").expect("a status");
        for (status, verdict) in [
            (200, Verdict::Ready),
            (399, Verdict::Ready),
            (400, Verdict::Down),
            (404, Verdict::Ready),
            (503, Verdict::Spare),
        ] {
            assert_eq!(statuses.verdict(status), verdict, "{status}");
        }
        assert_eq!(statuses.check(), Ok(()));
        statuses.set("avoid", "404-410").expect("a range");
        assert_eq!(statuses.check(), Err("status 404 is in two lists".to_owned()));
        for (list, why) in [
            ("399-200", "'399-200' ends before it begins"),
            ("200-", "'200-' is not a range of statuses (200 to 599)"),
            ("99", "'99' is not a status (200 to 599)"),
            ("", "'' is not a status (200 to 599)"),
        ] {
            assert_eq!(statuses.set("avoid", list), Err(why.to_owned()));
        }
    }

    #[test]
    fn a_regular_expression_that_is_none_or_would_take_much_memory_is_refused() {
        let why = Pattern::parse("expect-regex", "a(b").expect_err("it is none");
        assert!(why.starts_with("'a(b' is not a regular expression: ") && !why.contains('\n'), "{why}");
        let why = Pattern::parse("expect-regex", r"(\w{1000}){1000}").expect_err("it is too large");
        assert!(why.contains("is not a regular expression: ") && !why.contains('\n'), "{why}");
        assert_eq!(Pattern::parse("expect-regex", r"^\d+\;"), Ok(Pattern::Regex(r"^\d+;".to_owned())));
    }
}
