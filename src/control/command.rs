//! What a line of the control protocol asks for.

use crate::address::{DestinationSpec, parse_destination};

/// A request.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Command {
    /// The table.
    Info,
    /// What the watchdog says.
    Watch,
    /// Traffic since the last time.
    Stats,
    /// What can be asked.
    Help,
    /// The program's version.
    Version,
    /// Keep the conversation open.
    Prompt,
    /// End the conversation.
    Quit,
    /// Add, change, drain or remove a destination.
    Change(DestinationSpec),
    /// An empty line.
    Nothing,
}

impl Command {
    /// Reads one line. `getinfo` and `getstat` are known by their beginning, as in GLB; case does not matter.
    ///
    /// # Errors
    /// One line that names what was not understood.
    pub(super) fn parse(line: &str) -> Result<Command, String> {
        let line = line.trim();
        let lower = line.to_ascii_lowercase();
        match lower.as_str() {
            "" => Ok(Command::Nothing),
            "help" | "?" => Ok(Command::Help),
            "version" => Ok(Command::Version),
            "prompt" => Ok(Command::Prompt),
            "quit" | "exit" => Ok(Command::Quit),
            _ if lower.starts_with("getinfo") => Ok(Command::Info),
            _ if lower.starts_with("getwatch") => Ok(Command::Watch),
            _ if lower.starts_with("getstat") => Ok(Command::Stats),
            _ if line.contains(':') => match parse_destination(line, None) {
                Ok(spec) => Ok(Command::Change(spec)),
                Err(error) => Err(format!("'{}': {error}", printable(line))),
            },
            _ => Err(format!("'{}' is neither a command nor HOST:PORT[:WEIGHT]; try help", printable(line))),
        }
    }
}

/// A line as it can be repeated in an answer or a log.
fn printable(line: &str) -> String {
    let shown: String = line.chars().take(100).map(|c| if c.is_control() { '?' } else { c }).collect();
    if shown.len() < line.len() { shown + "..." } else { shown }
}

/// Whether a line was sent by a web browser, or something else that speaks HTTP. A page can have a browser send any
/// text to a port of its own machine, but only behind such a line.
pub(super) fn looks_like_http(line: &str) -> bool {
    const METHODS: [&str; 10] = ["get", "head", "post", "put", "delete", "connect", "options", "trace", "patch", "pri"];
    let lower = line.trim_start().to_ascii_lowercase();
    let method = lower.split_once(char::is_whitespace).is_some_and(|(first, _)| METHODS.contains(&first));
    let version = lower.rsplit(char::is_whitespace).next().is_some_and(|last| last.starts_with("http/"));
    method || version
}

/// Whether a line is made of nothing but text; one that is not comes from something that speaks another protocol.
pub(super) fn is_text(line: &str) -> bool {
    !line.chars().any(|c| (c.is_control() && c != '\t') || c == char::REPLACEMENT_CHARACTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_are_known_by_their_beginning_without_regard_to_case() {
        for (line, command) in [
            ("getinfo", Command::Info),
            ("GetInfo please", Command::Info),
            ("getstat", Command::Stats),
            ("GETSTATS", Command::Stats),
            ("getWatch", Command::Watch),
            ("help", Command::Help),
            (" version \t", Command::Version),
            ("prompt", Command::Prompt),
            ("quit", Command::Quit),
            ("", Command::Nothing),
        ] {
            assert_eq!(Command::parse(line), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let told = |line| Command::parse(line).expect_err("it makes no sense");
        assert_eq!(told("gibberish"), "'gibberish' is neither a command nor HOST:PORT[:WEIGHT]; try help");
        assert_eq!(told("a:b"), "'a:b': 'b' is not a port (1 to 65535)");
        assert_eq!(told("127.0.0.1:1:nan"), "'127.0.0.1:1:nan': 'nan' is not a weight (a finite number)");
    }

    #[test]
    fn http_is_told_from_commands() {
        for line in ["GET / HTTP/1.1", "POST /x HTTP/1.0", "getinfo / HTTP/1.1", "options *", "FOO /\tHTTP/2"] {
            assert!(looks_like_http(line), "{line}");
        }
        for line in ["getinfo", "getstats now", "127.0.0.1:80:1", "http:80:1", "help", ""] {
            assert!(!looks_like_http(line), "{line}");
        }
    }

    proptest! {
        #[test]
        fn no_line_makes_it_panic_or_answer_in_two_lines(line in "\\PC*") {
            if let Err(reason) = Command::parse(&line) {
                prop_assert!(!reason.contains('\n'));
            }
        }
    }
}
