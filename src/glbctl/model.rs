//! What glbctl shows of a daemon's JSON. A daemon of another version may leave things out, and say more.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::client::Failure;
use super::text::Text;

/// The answer to `getinfo json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Status {
    pub process: Process,
    pub services: Vec<Service>,
    pub pools: Vec<Pool>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Process {
    pub version: Text,
    pub pid: u64,
    pub time: Text,
    pub started: Text,
    pub uptime: f64,
    pub connections: u64,
    pub own_connections: u64,
    pub max_connections: u64,
    pub paused: bool,
    pub accepted: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Connections {
    pub now: u64,
    pub highest: u64,
    pub total: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Connects {
    pub tried: u64,
    pub refused: u64,
    pub timed_out: u64,
    pub turned_down: u64,
    pub failed: u64,
    pub redispatched: u64,
}

impl Connects {
    /// Attempts that did not lead to a connection.
    pub fn failures(&self) -> u64 {
        [self.refused, self.timed_out, self.turned_down, self.failed].into_iter().fold(0, u64::saturating_add)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Service {
    pub name: Text,
    pub pool: Text,
    pub listen: Text,
    pub policy: Text,
    pub single: bool,
    pub writer: Option<Text>,
    pub writer_since: Option<Text>,
    pub connections: Connections,
    pub max_connections: Option<u64>,
    pub queue: u64,
    pub ready: bool,
    pub full: bool,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub connects: Connects,
    pub ended: Vec<Ended>,
    pub limited: Vec<Limited>,
    pub times: Vec<Times>,
}

impl Service {
    /// How many connections have ended for a cause.
    pub fn ended(&self, cause: &str) -> u64 {
        self.ended.iter().find(|it| it.cause.as_str() == cause).map_or(0, |it| it.count)
    }

    /// How many clients were not served.
    pub fn turned_away(&self) -> u64 {
        // Whoever was denied behind a PROXY header is among those that were reset.
        let ended = ["no-destination", "no-room", "shortage"].map(|it| self.ended(it));
        let reset = self.limited.iter().filter(|it| it.effect.as_str() == "reset").map(|it| it.count);
        ended.into_iter().chain(reset).fold(0, u64::saturating_add)
    }

    /// Whether clients are served, in a word.
    pub fn state(&self, process: &Process) -> &'static str {
        match (process.paused, self.ready, self.full) {
            (true, ..) => "paused",
            (_, false, _) => "no destination",
            (_, true, true) => "full",
            (_, true, false) => "ready",
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Ended {
    pub cause: Text,
    pub count: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Limited {
    pub effect: Text,
    pub count: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Times {
    pub what: Text,
    pub count: u64,
    pub sum: f64,
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Pool {
    pub name: Text,
    pub watched: bool,
    pub checks_note: Option<Text>,
    pub max_connections: Option<u64>,
    pub destinations: Vec<Destination>,
    pub unresolved: Vec<Unresolved>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Destination {
    pub address: Text,
    pub names: Vec<Text>,
    pub writer: bool,
    pub weight: f64,
    pub weight_in_force: f64,
    pub max_connections: Option<u64>,
    pub backup: u64,
    pub leaving: bool,
    pub verdict: Text,
    pub takes_clients: bool,
    pub reason: Text,
    pub since: Option<Text>,
    pub latency: f64,
    pub refusals: u64,
    pub refusal: Option<Text>,
    pub connections: Connections,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub connects: Connects,
    pub times: Vec<Times>,
    pub down_count: u64,
    pub last_day: Verdicts<Day>,
}

impl Destination {
    /// Why it is as it is, and what else is to be known of it.
    pub fn remarks(&self) -> String {
        let mut remarks = Vec::new();
        if self.weight == 0.0 {
            remarks.push("drained".to_owned());
        }
        if self.leaving {
            remarks.push("goes with its last connection".to_owned());
        }
        if self.backup > 0 {
            remarks.push(format!("backup {}", self.backup));
        }
        if !self.reason.is_empty() {
            remarks.push(self.reason.to_string());
        }
        if let Some(refusal) = self.refusal.as_ref().filter(|_| self.refusals > 0) {
            remarks.push(format!("refuses clients: {refusal} ({} in a row)", self.refusals));
        }
        remarks.join(", ")
    }

    /// Whether something is wrong with it: what was drained is meant to have no clients.
    pub fn is_unfit(&self) -> bool {
        self.weight > 0.0 && !matches!(self.verdict.as_str(), "READY" | "SPARE")
    }

    /// How long something takes there.
    pub fn times(&self, what: &str) -> Option<&Times> {
        self.times.iter().find(|times| times.what.as_str() == what)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Unresolved {
    pub name: Text,
    pub weight: f64,
    pub reason: Text,
}

/// A line of `getevents json` and `watch json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Event {
    pub number: u64,
    pub time: Text,
    pub kind: Text,
    pub level: Text,
    pub text: Text,
}

/// A line of `watch json` that stands for events which were missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct MissedLine {
    pub missed: u64,
}

/// A line of `getclients json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct ClientLine {
    pub client: Text,
    pub connections: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub oldest: Option<f64>,
    pub idle: Option<f64>,
    pub destinations: BTreeMap<Text, u64>,
}

/// Most destinations of a client that are named.
const MOST_PLACES: usize = 4;

impl ClientLine {
    /// The destinations that it has connections to, and how many.
    pub fn places(&self) -> String {
        let mut places: Vec<_> = self.destinations.iter().collect();
        places.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        let named = places.iter().take(MOST_PLACES).map(|(place, count)| format!("{place} {count}"));
        let mut named: Vec<String> = named.collect();
        if places.len() > MOST_PLACES {
            named.push(format!("{} more", places.len() - MOST_PLACES));
        }
        named.join(", ")
    }
}

/// A line of `getconns json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Connection {
    pub id: Text,
    pub service: Text,
    pub client: Text,
    pub via: Option<Text>,
    pub local: Option<Text>,
    pub destination: Option<Text>,
    pub state: Text,
    pub age: f64,
    pub idle: f64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub attempts: Option<u64>,
}

/// The answer to `gethistory json`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct History {
    pub destination: Text,
    pub verdict: Text,
    pub reason: Text,
    pub down_count: u64,
    pub change_count: u64,
    pub seconds: Verdicts<f64>,
    pub last_day: Verdicts<Day>,
    pub changes: Vec<Spell>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "UPPERCASE")]
pub struct Verdicts<T> {
    pub ready: T,
    pub spare: T,
    pub avoid: T,
    pub down: T,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Day {
    pub count: u64,
    pub seconds: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Spell {
    pub time: Text,
    pub verdict: Text,
    pub reason: Text,
    pub seconds: f64,
}

/// Which of the services and pools are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub pool: Option<String>,
    pub service: Option<String>,
}

impl Status {
    /// Only what is asked for.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn filtered(mut self, filter: &Filter) -> Result<Status, Failure> {
        if let Some(name) = &filter.service {
            self.services.retain(|service| service.name.as_str() == name);
            let service =
                self.services.first().ok_or_else(|| Failure::Refused(vec![format!("{name}: no such service")]))?;
            let pool = service.pool.clone();
            self.pools.retain(|it| it.name == pool);
        }
        if let Some(name) = &filter.pool {
            self.pools.retain(|pool| pool.name.as_str() == name);
            if self.pools.is_empty() {
                return Err(Failure::Refused(vec![format!("{name}: no such pool")]));
            }
            self.services.retain(|service| service.pool.as_str() == name);
        }
        Ok(self)
    }

    /// All destinations, with the pools they are in.
    pub fn destinations(&self) -> impl Iterator<Item = (&Pool, &Destination)> {
        self.pools.iter().flat_map(|pool| pool.destinations.iter().map(move |destination| (pool, destination)))
    }
}

/// Reads an answer that is one JSON value.
///
/// # Errors
/// It is something else.
pub fn value<T: DeserializeOwned>(answer: &str) -> Result<T, Failure> {
    serde_json::from_str(answer)
        .map_err(|error| Failure::Unreachable(format!("the daemon's answer is not understood: {error}")))
}

/// A line of `getconns json` or `getclients json` about a process that has not answered.
#[derive(Deserialize)]
struct MissingLine {
    missing: Missing,
}

#[derive(Deserialize)]
struct Missing {
    process: Option<u32>,
    connections: u64,
}

/// An answer to `getconns json` or `getclients json`.
#[derive(Debug, Default)]
pub struct Listed {
    /// The lines about connections or clients.
    pub found: String,
    /// Those about processes that have not answered.
    pub missing: String,
    /// The same in words, a line for each.
    pub reasons: Vec<String>,
}

impl Listed {
    /// Reads an answer.
    pub fn parse(answer: &str) -> Listed {
        let mut listed = Listed::default();
        for line in answer.split_inclusive('\n') {
            match serde_json::from_str(line) {
                Ok(MissingLine { missing: Missing { process, connections } }) => {
                    let process = process.map_or_else(|| "of an earlier version".to_owned(), |it| it.to_string());
                    let ending = if connections == 1 { "" } else { "s" };
                    let has = format!("{connections} connection{ending}");
                    listed.reasons.push(format!("process {process} does not answer, and has {has}"));
                    listed.missing += line;
                }
                Err(_) => listed.found += line,
            }
        }
        listed
    }
}

/// Reads an answer with a JSON value in each line.
///
/// # Errors
/// A line is something else.
pub fn lines<T: DeserializeOwned>(answer: &str) -> Result<Vec<T>, Failure> {
    answer.lines().map(value).collect()
}
