//! What a line of the control protocol asks for.

use std::time::Duration;

use crate::address::{DestinationSpec, Endpoint, parse_destination};

/// How long sessions on the former single destination have to end, unless `writer` says so.
const GRACE: Duration = Duration::from_secs(10);
/// Longest grace, in seconds.
const MAX_GRACE: f64 = 3600.0;

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
    /// Move the single destination to this one, and let sessions on the former go on for so long.
    Writer(Endpoint, Duration),
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
            _ if lower.split_whitespace().next() == Some("writer") => parse_writer(line),
            _ if line.contains(':') => match parse_destination(line, None) {
                Ok(spec) => Ok(Command::Change(spec)),
                Err(error) => Err(format!("'{}': {error}", printable(line))),
            },
            _ => Err(format!("'{}' is neither a command nor HOST:PORT[:WEIGHT]; try help", printable(line))),
        }
    }
}

/// Reads what follows the word `writer`.
fn parse_writer(line: &str) -> Result<Command, String> {
    let told = |reason: String| format!("'{}': {reason}", printable(line));
    let usage = || told("expected writer HOST:PORT [GRACE]".to_owned());
    let words: Vec<&str> = line.split_whitespace().skip(1).collect();
    let (destination, grace) = match words[..] {
        [destination] => (destination, GRACE),
        [destination, grace] => (destination, parse_grace(grace).map_err(told)?),
        _ => return Err(usage()),
    };
    let DestinationSpec { endpoint, weight } =
        parse_destination(destination, None).map_err(|it| told(it.to_string()))?;
    // A weight has no meaning here. Written or not, 1 is what is read without one.
    let has_weight = weight != 1.0 || endpoint.to_string().matches(':').count() < destination.matches(':').count();
    if has_weight { Err(usage()) } else { Ok(Command::Writer(endpoint, grace)) }
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=MAX_GRACE).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| format!("'{text}' is not a grace (0 to {MAX_GRACE} seconds)"))
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
    fn a_move_of_the_single_destination_may_say_its_grace() {
        let writer = |text: &str, seconds| {
            let endpoint = parse_destination(text, None).expect("a destination").endpoint;
            Ok(Command::Writer(endpoint, Duration::from_secs_f64(seconds)))
        };
        assert_eq!(Command::parse("writer 10.0.0.1:3306"), writer("10.0.0.1:3306", 10.0));
        assert_eq!(Command::parse(" WRITER\tdb1:3306  0.5 "), writer("db1:3306", 0.5));
        assert_eq!(Command::parse("writer [::1]:3306 3600"), writer("[::1]:3306", 3600.0));
        // A destination of this name.
        assert!(matches!(Command::parse("writer:3306"), Ok(Command::Change(_))));
        for (line, complaint) in [
            ("writer", "'writer': expected writer HOST:PORT [GRACE]"),
            ("writer db1", "'writer db1': expected HOST:PORT[:WEIGHT]"),
            ("writer db1:3306:1", "'writer db1:3306:1': expected writer HOST:PORT [GRACE]"),
            ("writer db1:3306:0", "'writer db1:3306:0': expected writer HOST:PORT [GRACE]"),
            ("writer db1:3306 1 2", "'writer db1:3306 1 2': expected writer HOST:PORT [GRACE]"),
            ("writer db1:3306 -1", "'writer db1:3306 -1': '-1' is not a grace (0 to 3600 seconds)"),
            ("writer db1:3306 nan", "'writer db1:3306 nan': 'nan' is not a grace (0 to 3600 seconds)"),
            ("writer db1:3306 3601", "'writer db1:3306 3601': '3601' is not a grace (0 to 3600 seconds)"),
            ("writer db1:3306 soon", "'writer db1:3306 soon': 'soon' is not a grace (0 to 3600 seconds)"),
        ] {
            assert_eq!(Command::parse(line), Err(complaint.to_owned()), "{line}");
        }
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
