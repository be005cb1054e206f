//! What a line of the control protocol asks for.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use log::LevelFilter;

use super::events::EventQuery;
use super::sessions::{SessionQuery, Then};
use crate::address::{DestinationSpec, parse_destination, split_name};
use crate::connection_log::Style;

/// How long sessions on the former single destination have to end, unless `writer` says so.
const GRACE: Duration = Duration::from_secs(10);
const WEIGHT: &str = "weight HOST:PORT:WEIGHT, 0 or more";
/// What a line may begin with.
const WORDS: [&str; 24] = [
    "getinfo",
    "getwatch",
    "getstats",
    "help",
    "version",
    "prompt",
    "quit",
    "writer",
    "add",
    "drain",
    "remove",
    "weight",
    "enable",
    "reload",
    "loglevel",
    "connlog",
    "getconfig",
    "getevents",
    "gethistory",
    "watch",
    "getconns",
    "getclients",
    "kick",
    "wait-empty",
];
/// Those whose further words are read behind them, also where there are none.
const OF_ONE_OR_MORE: [&str; 10] = [
    "wait-empty",
    "writer",
    "loglevel",
    "connlog",
    "getevents",
    "gethistory",
    "watch",
    "getconns",
    "getclients",
    "kick",
];
const HISTORY: &str = "gethistory HOST:PORT [json]";
const CONNECTION_LOG: &str = "connlog [SERVICE] off|text|json";
const LOG_LEVEL: &str = "loglevel error|warn|info|debug";
const WAIT_EMPTY: &str = "wait-empty HOST:PORT SECS";
/// Longest wait for the end of connections, in seconds.
const MAX_WAIT: f64 = 86_400.0;
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
    Change(Target),
    /// Change the weight of a destination that is there.
    Reweigh(Target),
    /// Give a drained destination the weight back that it had. The weight here says nothing.
    Enable(Target),
    /// Move the single destination to this one, and let sessions on the former go on for so long. The weight says nothing.
    Writer(Target, Duration),
    /// Everything, or a part of it, in JSON.
    Json(Part),
    /// What has changed.
    Events(EventQuery),
    /// What has become of a destination's verdict, in JSON or not. The weight says nothing.
    History(Target, bool),
    /// Connections, and what is to be done with them.
    Sessions(SessionQuery),
    /// Wait until a destination has no connections, at most so long. The weight says nothing.
    WaitEmpty(Target, Duration),
    /// Every event as it happens, in JSON or not.
    WatchEvents(bool),
    /// Read the configuration file again.
    Reload,
    /// Log lines of this level and of those that matter more.
    LogLevel(LevelFilter),
    /// The configuration in force.
    Configuration,
    /// Say which services log their connections, and how.
    ConnectionLogs,
    /// Log the connections of this service, or of all, like this.
    LogConnections(Option<String>, Style),
    /// An empty line.
    Nothing,
}

/// A part of what there is to report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// The pools.
    Pools,
    /// The process.
    Process,
}

/// The part that a query for JSON asks for.
fn json_part(line: &str) -> Option<Part> {
    match line.split_whitespace().collect::<Vec<_>>()[..] {
        ["getinfo", "json"] => Some(Part::Whole),
        ["getwatch", "json"] => Some(Part::Pools),
        ["getstat" | "getstats", "json"] => Some(Part::Process),
        _ => None,
    }
}

/// A destination as a command names it, with its weight.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Target {
    /// The pool that it is in, or the service that it serves, if the command says so.
    pub of: Option<String>,
    pub spec: DestinationSpec,
}

impl Target {
    /// Reads `[NAME/]HOST[:PORT[:WEIGHT]]`.
    pub(super) fn parse(text: &str, port: Option<u16>) -> Result<Target, String> {
        let (of, text) = split_name(text);
        let of = of.map(str::to_owned);
        let spec = parse_destination(text, port).map_err(|error| error.to_string())?;
        Ok(Target { of, spec })
    }

    fn with_weight(self, weight: f64) -> Target {
        Target { spec: DestinationSpec { weight, ..self.spec }, ..self }
    }

    /// The same with a weight that is still to be read.
    fn weighing(self, weight: &str) -> Result<Target, String> {
        let spec = parse_destination(&format!("{}:{weight}", self.spec.endpoint), None);
        Ok(Target { spec: spec.map_err(|error| error.to_string())?, ..self })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.of.iter().try_for_each(|of| write!(f, "{of}/"))?;
        self.spec.endpoint.fmt(f)
    }
}

impl Command {
    /// Returns true if it only asks, and changes nothing but the conversation that it comes in.
    pub(super) fn is_query(&self) -> bool {
        match self {
            Command::Info | Command::Watch | Command::Stats | Command::Help | Command::Version => true,
            Command::ConnectionLogs => true,
            Command::Json(_) | Command::Events(_) | Command::History(..) | Command::WatchEvents(_) => true,
            Command::Prompt | Command::Quit | Command::Nothing | Command::WaitEmpty(..) => true,
            Command::Sessions(query) => !matches!(query.then, Then::Kick(_)),
            Command::Change(_) | Command::Reweigh(_) | Command::Enable(_) | Command::Writer(..) => false,
            // It may have what not everybody is to know, as scripts' arguments.
            Command::Configuration => false,
            Command::Reload | Command::LogLevel(_) | Command::LogConnections(..) => false,
        }
    }

    /// Reads one line. `getinfo` and `getstat` are known by their beginning, as in GLB; case does not matter.
    ///
    /// # Errors
    /// One line that names what was not understood.
    ///
    /// An address without a port is one at `port`, where clients connect to this daemon, as in GLB; `None`: at several. A
    /// name without one is not: it would be any word that was mistyped.
    pub(super) fn parse(line: &str, port: Option<u16>) -> Result<Command, String> {
        let line = line.trim();
        let lower = line.to_ascii_lowercase();
        let is_address = |text: &str| text.rsplit('/').next().is_some_and(|it| it.parse::<Ipv4Addr>().is_ok());
        match lower.as_str() {
            "" => Ok(Command::Nothing),
            "help" | "?" => Ok(Command::Help),
            "version" => Ok(Command::Version),
            "prompt" => Ok(Command::Prompt),
            "reload" => Ok(Command::Reload),
            "getconfig" => Ok(Command::Configuration),
            "quit" | "exit" => Ok(Command::Quit),
            _ if let Some(part) = json_part(&lower) => Ok(Command::Json(part)),
            _ if lower.starts_with("getinfo") => Ok(Command::Info),
            _ if lower.starts_with("getwatch") => Ok(Command::Watch),
            _ if lower.starts_with("getstat") => Ok(Command::Stats),
            _ if lower.split_whitespace().count() > 1 || OF_ONE_OR_MORE.contains(&lower.as_str()) => {
                parse_words(line, port)
            }
            _ if line.contains(':') || is_address(line) => match Target::parse(line, port) {
                Ok(target) => Ok(Command::Change(target)),
                Err(error) => Err(format!("'{}': {error}", printable(line))),
            },
            _ => Err(not_understood(line)),
        }
    }
}

fn not_understood(line: &str) -> String {
    let word = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
    let near = |command: &&str| strsim::damerau_levenshtein(command, &word) <= 2 && word.len() > 2;
    let advice = match WORDS.into_iter().filter(near).min_by_key(|it| strsim::damerau_levenshtein(it, &word)) {
        Some(command) if command != word => format!("did you mean {command}?"),
        _ => "try help".to_owned(),
    };
    format!("'{}' is neither a command nor HOST:PORT[:WEIGHT]; {advice}", printable(line))
}

/// Reads a line of several words: what is to be done, and with which destination; or a destination and its weight.
fn parse_words(line: &str, port: Option<u16>) -> Result<Command, String> {
    let told = |reason: String| format!("'{}': {reason}", printable(line));
    let usage = |usage: &str| told(format!("expected {usage}"));
    let destination = |text| Target::parse(text, port).map_err(told);
    let words: Vec<&str> = line.split_whitespace().collect();
    let verb = words[0].to_ascii_lowercase();
    match (verb.as_str(), &words[1..]) {
        ("writer", [text, rest @ ..]) if rest.len() < 2 => {
            let usage = || usage("writer HOST:PORT [GRACE]");
            let grace = rest.first().map_or(Ok(GRACE), |grace| parse_grace(grace).map_err(told))?;
            if !text.contains(':') {
                return Err(usage());
            }
            let target = Target::parse(text, None).map_err(told)?;
            if has_weight(text) { Err(usage()) } else { Ok(Command::Writer(target, grace)) }
        }
        ("getevents", words) => EventQuery::parse(words).map(Command::Events).map_err(told),
        ("getconns" | "getclients" | "kick", words) => {
            SessionQuery::parse(&verb, words, port).map(Command::Sessions).map_err(told)
        }
        ("wait-empty", [text, seconds]) if !has_weight(text) => {
            let seconds = parse_seconds(seconds, MAX_WAIT)
                .ok_or_else(|| told(format!("'{seconds}' is no time to wait (0 to {MAX_WAIT} seconds)")))?;
            Ok(Command::WaitEmpty(destination(text)?, seconds))
        }
        ("wait-empty", _) => Err(usage(WAIT_EMPTY)),
        ("gethistory", [text, json @ ..]) if json.is_empty() || is_json(json) => match destination(text)? {
            _ if has_weight(text) => Err(usage(HISTORY)),
            target => Ok(Command::History(target, is_json(json))),
        },
        ("gethistory", _) => Err(usage(HISTORY)),
        ("watch", json) if json.is_empty() || is_json(json) => Ok(Command::WatchEvents(is_json(json))),
        ("watch", _) => Err(usage("watch [json]")),
        ("writer", _) => Err(usage("writer HOST:PORT [GRACE]")),
        ("loglevel", [level]) => match level.to_ascii_lowercase().as_str() {
            "error" => Ok(Command::LogLevel(LevelFilter::Error)),
            "warn" => Ok(Command::LogLevel(LevelFilter::Warn)),
            "info" => Ok(Command::LogLevel(LevelFilter::Info)),
            "debug" => Ok(Command::LogLevel(LevelFilter::Debug)),
            _ => Err(usage(LOG_LEVEL)),
        },
        ("loglevel", _) => Err(usage(LOG_LEVEL)),
        ("connlog", []) => Ok(Command::ConnectionLogs),
        ("connlog", [service @ .., style]) if service.len() < 2 => {
            let style = style.to_ascii_lowercase().parse().map_err(|_| usage(CONNECTION_LOG))?;
            Ok(Command::LogConnections(service.first().map(|it| (*it).to_owned()), style))
        }
        ("connlog", _) => Err(usage(CONNECTION_LOG)),
        ("add", [text]) => match destination(text)? {
            target if target.spec.weight > 0.0 => Ok(Command::Change(target)),
            _ => Err(told("what is added has a weight above 0".to_owned())),
        },
        ("drain" | "remove", [text]) => match destination(text)? {
            _ if has_weight(text) => Err(usage(&format!("{verb} HOST:PORT"))),
            target => Ok(Command::Change(target.with_weight(if verb == "drain" { 0.0 } else { -1.0 }))),
        },
        ("weight", [text]) => match destination(text)? {
            target if has_weight(text) && target.spec.weight >= 0.0 => Ok(Command::Reweigh(target)),
            _ => Err(usage(WEIGHT)),
        },
        ("weight", [text, weight]) => match destination(text)? {
            _ if has_weight(text) => Err(usage(WEIGHT)),
            target => match target.weighing(weight).map_err(told)? {
                target if target.spec.weight >= 0.0 => Ok(Command::Reweigh(target)),
                _ => Err(usage(WEIGHT)),
            },
        },
        ("weight", _) => Err(usage(WEIGHT)),
        ("enable", [text]) => match destination(text)? {
            _ if has_weight(text) => Err(usage("enable HOST:PORT")),
            target => Ok(Command::Enable(target)),
        },
        ("enable", _) => Err(usage("enable HOST:PORT")),
        ("add", _) => Err(usage("add HOST:PORT[:WEIGHT]")),
        ("drain" | "remove", _) => Err(usage(&format!("{verb} HOST:PORT"))),
        (_, [weight]) if words[0].contains(':') => match destination(words[0])? {
            _ if has_weight(words[0]) => Err(usage("HOST:PORT:WEIGHT")),
            target => target.weighing(weight).map(Command::Change).map_err(told),
        },
        _ if words[0].contains(':') => Err(usage("HOST:PORT:WEIGHT")),
        _ => Err(not_understood(line)),
    }
}

/// Whether the answer is to be in JSON, and nothing else is said.
fn is_json(words: &[&str]) -> bool {
    matches!(words, [word] if word.eq_ignore_ascii_case("json"))
}

/// Whether a destination is written with a weight: behind the host, there is a colon in front of each number.
pub(super) fn has_weight(text: &str) -> bool {
    text.rsplit(']').next().is_some_and(|numbers| numbers.matches(':').count() > 1)
}

fn parse_grace(text: &str) -> Result<Duration, String> {
    parse_seconds(text, MAX_GRACE).ok_or_else(|| format!("'{text}' is not a grace (0 to {MAX_GRACE} seconds)"))
}

fn parse_seconds(text: &str, most: f64) -> Option<Duration> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..=most).contains(seconds));
    seconds.map(Duration::from_secs_f64)
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
            ("Reload ", Command::Reload),
            ("quit", Command::Quit),
            ("", Command::Nothing),
        ] {
            assert_eq!(Command::parse(line, Some(8010)), Ok(command), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        let told = |line| Command::parse(line, Some(8010)).expect_err("it makes no sense");
        assert_eq!(told("gibberish"), "'gibberish' is neither a command nor HOST:PORT[:WEIGHT]; try help");
        assert_eq!(told("a:b"), "'a:b': 'b' is not a port (1 to 65535)");
        assert_eq!(told("127.0.0.1:1:nan"), "'127.0.0.1:1:nan': 'nan' is not a weight (a finite number)");
    }

    #[test]
    fn a_change_may_be_said_in_words() {
        for (line, same) in [
            ("add 10.0.0.4:3306", "10.0.0.4:3306:1"),
            ("ADD db1:3306:0.5", "db1:3306:0.5"),
            ("add 10.0.0.4", "10.0.0.4:8010:1"),
            ("drain 10.0.0.4:3306", "10.0.0.4:3306:0"),
            ("Remove [::1]:3306", "[::1]:3306:-1"),
            ("10.0.0.4:3306 0", "10.0.0.4:3306:0"),
            ("db1:3306\t-1", "db1:3306:-1"),
            ("10.0.0.4", "10.0.0.4:8010:1"),
            ("[::1]", "[::1]:8010:1"),
            ("add:3306", "add:3306:1"),
        ] {
            assert!(matches!(Command::parse(line, Some(8010)), Ok(Command::Change(_))), "{line}");
            assert_eq!(Command::parse(line, Some(8010)), Command::parse(same, Some(8010)), "{line}");
        }
        for (line, complaint) in [
            ("drain 10.0.0.4:3306:1", "'drain 10.0.0.4:3306:1': expected drain HOST:PORT"),
            ("remove", "'remove' is neither a command nor HOST:PORT[:WEIGHT]; try help"),
            ("remove a b", "'remove a b': expected remove HOST:PORT"),
            ("add 10.0.0.4:3306:0", "'add 10.0.0.4:3306:0': what is added has a weight above 0"),
            ("10.0.0.4:3306:1 0", "'10.0.0.4:3306:1 0': expected HOST:PORT:WEIGHT"),
            ("10.0.0.4:3306 heavy", "'10.0.0.4:3306 heavy': 'heavy' is not a weight (a finite number)"),
            ("10.0.0.4:3306 0 0", "'10.0.0.4:3306 0 0': expected HOST:PORT:WEIGHT"),
            ("db1", "'db1' is neither a command nor HOST:PORT[:WEIGHT]; try help"),
            ("getwach", "'getwach' is neither a command nor HOST:PORT[:WEIGHT]; did you mean getwatch?"),
            ("stat", "'stat' is neither a command nor HOST:PORT[:WEIGHT]; try help"),
            ("Drian db1", "'Drian db1' is neither a command nor HOST:PORT[:WEIGHT]; did you mean drain?"),
            ("weight db1:3306", "'weight db1:3306': expected weight HOST:PORT:WEIGHT, 0 or more"),
            ("weight db1:3306:-1", "'weight db1:3306:-1': expected weight HOST:PORT:WEIGHT, 0 or more"),
            ("weight db1:3306:1 2", "'weight db1:3306:1 2': expected weight HOST:PORT:WEIGHT, 0 or more"),
            ("weight db1:3306 much", "'weight db1:3306 much': 'much' is not a weight (a finite number)"),
            ("enable db1:3306:1", "'enable db1:3306:1': expected enable HOST:PORT"),
            ("enable a b", "'enable a b': expected enable HOST:PORT"),
        ] {
            assert_eq!(Command::parse(line, Some(8010)), Err(complaint.to_owned()), "{line}");
        }
    }

    #[test]
    fn a_move_of_the_single_destination_may_say_its_grace() {
        let writer = |text: &str, seconds| {
            let target = Target::parse(text, None).expect("a destination");
            Ok(Command::Writer(target, Duration::from_secs_f64(seconds)))
        };
        assert_eq!(Command::parse("writer 10.0.0.1:3306", Some(8010)), writer("10.0.0.1:3306", 10.0));
        assert_eq!(Command::parse(" WRITER\tdb1:3306  0.5 ", Some(8010)), writer("db1:3306", 0.5));
        assert_eq!(Command::parse("writer [::1]:3306 3600", Some(8010)), writer("[::1]:3306", 3600.0));
        // A destination of this name.
        assert!(matches!(Command::parse("writer:3306", Some(8010)), Ok(Command::Change(_))));
        for (line, complaint) in [
            ("writer", "'writer': expected writer HOST:PORT [GRACE]"),
            ("writer db1", "'writer db1': expected writer HOST:PORT [GRACE]"),
            ("writer db1:3306:1", "'writer db1:3306:1': expected writer HOST:PORT [GRACE]"),
            ("writer db1:3306:0", "'writer db1:3306:0': expected writer HOST:PORT [GRACE]"),
            ("writer db1:3306 1 2", "'writer db1:3306 1 2': expected writer HOST:PORT [GRACE]"),
            ("writer db1:3306 -1", "'writer db1:3306 -1': '-1' is not a grace (0 to 3600 seconds)"),
            ("writer db1:3306 nan", "'writer db1:3306 nan': 'nan' is not a grace (0 to 3600 seconds)"),
            ("writer db1:3306 3601", "'writer db1:3306 3601': '3601' is not a grace (0 to 3600 seconds)"),
            ("writer db1:3306 soon", "'writer db1:3306 soon': 'soon' is not a grace (0 to 3600 seconds)"),
        ] {
            assert_eq!(Command::parse(line, Some(8010)), Err(complaint.to_owned()), "{line}");
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
            if let Err(reason) = Command::parse(&line, Some(8010)) {
                prop_assert!(!reason.contains('\n'));
            }
        }
    }
}
