//! What changes a daemon: the lines that are sent to it, and waiting until it is as asked for.

use std::net::SocketAddr;
use std::thread;
use std::time::{Duration, Instant};

use super::client::{Client, Failure};
use super::model::{Destination, Filter, Status, value};

/// The longest that one look at the daemon may take while waiting.
const LOOK: Duration = Duration::from_secs(10);
/// Between two looks at first; later ten times as long.
const SOON: Duration = Duration::from_millis(100);

/// What is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// It has no connections, and gets none.
    Empty,
    /// It may have clients.
    Fit,
    /// It is not there.
    Gone,
}

/// A destination as somebody has named it: `[POOL/]HOST[:PORT[:WEIGHT]]` or `[POOL/]unix:PATH[:WEIGHT]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pool: Option<String>,
    /// Without a weight.
    name: String,
    weight: Option<String>,
}

impl Target {
    /// Reads one, which is in this pool unless it says otherwise.
    pub fn parse(text: &str, filter: &Filter) -> Target {
        let is_pool = |pool: &str| !pool.is_empty() && !pool.contains([':', '[', '@']);
        let (pool, rest) = match text.split_once('/').filter(|(pool, _)| is_pool(pool)) {
            Some((pool, rest)) => (Some(pool.to_owned()), rest),
            None => (filter.pool.clone(), text),
        };
        // The colons of an IPv6 address stand in brackets, and the first one of `unix:` belongs to the name.
        let is_unix = rest.starts_with("unix:/") || rest.starts_with("unix:@");
        let host = if is_unix { "unix:".len() } else { rest.find(']').unwrap_or_default() };
        let mut parts = rest[host..].splitn(if is_unix { 2 } else { 3 }, ':');
        let first = parts.next().unwrap_or_default();
        let port = if is_unix { None } else { parts.next() };
        let name = [&rest[..host], first].concat() + &port.map(|port| format!(":{port}")).unwrap_or_default();
        Target { pool, name, weight: parts.next().map(str::to_owned) }
    }

    /// As the daemon is to read it.
    pub fn line(&self) -> String {
        let pool = self.pool.as_ref().map(|pool| format!("{pool}/")).unwrap_or_default();
        let weight = self.weight.as_ref().map(|weight| format!(":{weight}")).unwrap_or_default();
        format!("{pool}{}{weight}", self.name)
    }

    /// Whether this means to drain it.
    pub fn is_drained(&self) -> bool {
        self.weight.as_ref().and_then(|weight| weight.parse().ok()).is_some_and(|weight: f64| weight == 0.0)
    }

    fn means(&self, destination: &Destination) -> bool {
        self.is(destination.address.as_str()) || destination.names.iter().any(|name| self.is(name.as_str()))
    }

    fn is(&self, name: &str) -> bool {
        let parsed = |text: &str| text.parse::<SocketAddr>().ok();
        let has_port =
            self.name.starts_with("unix:") || self.name.rsplit(']').next().is_some_and(|it| it.contains(':'));
        let host = || name.rsplit_once(':').map(|(host, _)| host);
        name.eq_ignore_ascii_case(&self.name)
            || parsed(name).is_some_and(|address| parsed(&self.name) == Some(address))
            || !has_port && host().is_some_and(|host| host.eq_ignore_ascii_case(&self.name))
    }
}

/// Waits until a destination is as asked for.
///
/// # Errors
/// It has not become so by the deadline, or somebody has asked for something else meanwhile.
pub fn wait(client: &Client, target: &Target, goal: Goal, deadline: Instant) -> Result<(), Failure> {
    let mut pause = SOON;
    loop {
        let look = client.ask("getinfo json", deadline.min(Instant::now() + LOOK)).and_then(|answer| value(&answer));
        let missing = match look.and_then(|status| progress(&status, target, goal)) {
            Ok(Progress::Done) => return Ok(()),
            Ok(Progress::Missing(missing)) => missing,
            // Another process may be taking over.
            Err(Failure::Unreachable(reason)) => reason,
            Err(failure) => return Err(failure),
        };
        if Instant::now() + pause >= deadline {
            return Err(Failure::Unreachable(format!("not in time: {missing}")));
        }
        thread::sleep(pause);
        pause = (pause * 5 / 4).min(SOON * 10);
    }
}

#[derive(Debug, PartialEq)]
enum Progress {
    Done,
    Missing(String),
}

fn progress(status: &Status, target: &Target, goal: Goal) -> Result<Progress, Failure> {
    let pools =
        || status.pools.iter().filter(|pool| target.pool.as_ref().is_none_or(|name| pool.name.as_str() == name));
    let found: Vec<_> = pools().flat_map(|pool| &pool.destinations).filter(|it| target.means(it)).collect();
    let is_unresolved = pools().flat_map(|pool| &pool.unresolved).any(|name| target.is(name.name.as_str()));
    let name = &target.name;
    let undone = |what: &str| Err(Failure::Refused(vec![format!("{name}: {what} meanwhile")]));
    Ok(match goal {
        Goal::Gone if found.is_empty() => Progress::Done,
        Goal::Gone => Progress::Missing(format!("{name} is there")),
        Goal::Empty if found.iter().any(|it| it.weight > 0.0) => return undone("it was given a weight"),
        Goal::Empty => match found.iter().fold(0u64, |sum, it| sum.saturating_add(it.connections.now)) {
            0 => Progress::Done,
            1 => Progress::Missing(format!("{name} has 1 connection")),
            count => Progress::Missing(format!("{name} has {count} connections")),
        },
        Goal::Fit if found.is_empty() && is_unresolved => Progress::Missing(format!("{name} has no address")),
        Goal::Fit if found.is_empty() => return undone("it was removed"),
        Goal::Fit if found.iter().any(|it| it.weight == 0.0) => return undone("it was drained"),
        Goal::Fit => match found.iter().find(|it| it.is_unfit()) {
            None => Progress::Done,
            Some(it) => Progress::Missing(format!("{} is {}: {}", it.address, it.verdict, it.remarks())),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(text: &str) -> Target {
        Target::parse(text, &Filter { pool: Some("given".into()), service: None })
    }

    #[test]
    fn targets_are_sent_as_they_were_named() {
        for (text, pool, name, weight) in [
            ("10.0.0.1", "given", "10.0.0.1", None),
            ("10.0.0.1:3306:2", "given", "10.0.0.1:3306", Some("2")),
            ("p/db1:3306", "p", "db1:3306", None),
            ("[::1]:3306:0", "given", "[::1]:3306", Some("0")),
            ("p/[fe80::1%eth0]", "p", "[fe80::1%eth0]", None),
            ("unix:/run/a.sock:2", "given", "unix:/run/a.sock", Some("2")),
            ("p/unix:/run/a.sock", "p", "unix:/run/a.sock", None),
        ] {
            let it = target(text);
            assert_eq!(
                (it.pool.as_deref(), it.name.as_str(), it.weight.as_deref()),
                (Some(pool), name, weight),
                "{text}"
            );
            assert!(it.line().ends_with(text), "{text}");
        }
    }

    #[test]
    fn a_destination_is_known_by_address_and_names() {
        let it: Destination = value(r#"{"address":"[2001:db8::1]:3306","names":["db1:3306"]}"#).expect("JSON");
        for text in ["[2001:db8:0::1]:3306", "db1:3306", "DB1", "[2001:db8::1]"] {
            assert!(target(text).means(&it), "{text}");
        }
        for text in ["[2001:db8::2]:3306", "db1:3307", "db", "3306"] {
            assert!(!target(text).means(&it), "{text}");
        }
    }

    #[test]
    fn what_is_waited_for_may_come_or_become_impossible() {
        let status = |text: &str| -> Status {
            value(&format!(r#"{{"pools":[{{"name":"given","destinations":[{text}]}}]}}"#)).expect("JSON")
        };
        let it = |weight: u32, verdict: &str, conns: u32| {
            status(&format!(
                r#"{{"address":"10.0.0.1:1","weight":{weight},"verdict":"{verdict}","connections":{{"now":{conns}}}}}"#
            ))
        };
        let of = |status: &Status, goal| progress(status, &target("10.0.0.1:1"), goal);
        let is_missing = |result| matches!(result, Ok(Progress::Missing(_)));
        assert!(is_missing(of(&it(0, "READY", 2), Goal::Empty)));
        assert_eq!(of(&it(0, "READY", 0), Goal::Empty), Ok(Progress::Done));
        assert!(matches!(of(&it(1, "READY", 0), Goal::Empty), Err(Failure::Refused(_))));
        assert!(is_missing(of(&it(1, "UNKNOWN", 0), Goal::Fit)));
        assert_eq!(of(&it(1, "SPARE", 0), Goal::Fit), Ok(Progress::Done));
        assert!(matches!(of(&it(0, "READY", 0), Goal::Fit), Err(Failure::Refused(_))));
        assert!(is_missing(of(&it(1, "READY", 0), Goal::Gone)));
        for goal in [Goal::Gone, Goal::Empty] {
            assert_eq!(of(&status(""), goal), Ok(Progress::Done));
        }
        assert!(matches!(of(&status(""), Goal::Fit), Err(Failure::Refused(_))));
    }
}
