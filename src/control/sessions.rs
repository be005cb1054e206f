//! Who is connected to what, and putting an end to it: `getconns`, `getclients` and `kick`.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use log::info;

use super::command::{Target, has_weight};
use super::late::Asker;
use crate::address::PeerAddress;
use crate::counted::Counted;
use crate::sessions::{FoundSessions, MissingProcess, Session, SessionControl, SessionFilter, SessionId};

const CONNECTIONS: &str = "getconns [SERVICE] [client=NETWORK|unix:PATH] [dest=[POOL/]HOST:PORT] [older=SECS] [idle=SECS] [sort=bytes|age|idle] [limit=N] [json]";
const CLIENTS: &str =
    "getclients [SERVICE] [client=NETWORK|unix:PATH] [dest=[POOL/]HOST:PORT] [sort=bytes|age|idle] [limit=N] [json]";
const KICK: &str = "kick ID|client=NETWORK|client=unix:PATH|dest=[POOL/]HOST:PORT|idle=SECS|older=SECS [pace=N]";
/// Most connections that are closed in one turn, where a pace is asked for.
const MOST_KICKS_A_TURN: usize = 10_000;

/// What is to be done with the connections that are found.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct SessionQuery {
    pub filter: SessionFilter,
    pub then: Then,
}

/// What is to be done with the connections that are found.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Then {
    /// They are shown.
    Show(Shown),
    /// Their clients are.
    ShowClients(Shown),
    /// They are closed, so many a second; `None`: at once.
    Kick(Option<f64>),
}

/// How they are shown.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shown {
    sort: Sort,
    limit: usize,
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sort {
    Bytes,
    Age,
    Idle,
}

impl SessionQuery {
    /// Reads what stands behind `getconns`, `getclients` or `kick`. A destination without a port is one at `port`.
    ///
    /// # Errors
    /// What was not understood, and what is.
    pub(super) fn parse(verb: &str, words: &[&str], port: Option<u16>) -> Result<SessionQuery, String> {
        let usage = match verb {
            "getconns" => CONNECTIONS,
            "getclients" => CLIENTS,
            _ => KICK,
        };
        let expected = || format!("expected {usage}");
        let (mut filter, mut pace) = (SessionFilter::default(), None);
        let mut shown = Shown { sort: Sort::Age, limit: usize::MAX, json: false };
        for word in words {
            match word.split_once('=') {
                Some(("client", text)) => (filter.client, filter.socket) = parse_client(text)?,
                Some(("dest", text)) => {
                    let (pool, address) = parse_place(text, port)?;
                    (filter.pool, filter.destination) = (pool, Some(address));
                }
                Some(("older", text)) => filter.older = Some(parse_seconds(text)?),
                Some(("idle", text)) => filter.idle = Some(parse_seconds(text)?),
                Some(("sort", text)) if verb != "kick" => shown.sort = parse_sort(text)?,
                Some(("limit", text)) if verb != "kick" => {
                    shown.limit = text.parse().map_err(|_| format!("'{text}' is not a number"))?;
                }
                Some(("pace", text)) if verb == "kick" => pace = Some(parse_pace(text)?),
                // A service may be called that as well.
                None if verb != "kick" && !shown.json && word.eq_ignore_ascii_case("json") => shown.json = true,
                None if verb != "kick" && filter.service.is_none() => filter.service = Some((*word).to_owned()),
                None if verb == "kick" && filter.id.is_none() => filter.id = Some(parse_id(word)?),
                _ => return Err(expected()),
            }
        }
        let then = match verb {
            "getconns" => Then::Show(shown),
            "getclients" => Then::ShowClients(shown),
            // Whoever forgets to say which has not meant all.
            _ if filter == SessionFilter::default() => return Err(expected()),
            _ => Then::Kick(pace),
        };
        Ok(SessionQuery { filter, then })
    }
}

/// Reads a network, or the path of a UNIX socket that clients connect to.
fn parse_client(text: &str) -> Result<(Option<IpNet>, Option<String>), String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| path.starts_with(['/', '@'])) {
        return Ok((None, Some(path.to_owned())));
    }
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let wrong = |_| format!("'{text}' is neither an address, nor a network, such as 10.0.0.0/8, nor unix:PATH");
    network.map(|network| (Some(network), None)).map_err(wrong)
}

/// Reads a destination, and its pool, if that is said.
fn parse_place(text: &str, port: Option<u16>) -> Result<(Option<String>, PeerAddress), String> {
    if has_weight(text) {
        return Err(format!("'{text}': expected [POOL/]HOST:PORT"));
    }
    let Target { of, spec } = Target::parse(text, port).map_err(|error| format!("'{text}': {error}"))?;
    let address = spec.endpoint.address();
    let address = address.ok_or_else(|| format!("'{text}' is a name: say the address that getinfo shows"))?;
    Ok((of, address))
}

fn parse_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.ok_or_else(|| format!("'{text}' is not a number of seconds"))
}

fn parse_pace(text: &str) -> Result<f64, String> {
    let pace = text.parse::<f64>().ok().filter(|pace| (0.001..=1e6).contains(pace));
    pace.ok_or_else(|| format!("'{text}' is not a pace (connections a second, 0.001 to 1000000)"))
}

fn parse_sort(text: &str) -> Result<Sort, String> {
    match text {
        "bytes" => Ok(Sort::Bytes),
        "age" => Ok(Sort::Age),
        "idle" => Ok(Sort::Idle),
        _ => Err(format!("'{text}' is not one of bytes, age, idle")),
    }
}

fn parse_id(text: &str) -> Result<SessionId, String> {
    text.parse().map_err(|()| format!("'{text}' is not the number of a connection, as getconns shows it"))
}

/// What is said of processes that have not answered, a line for each.
fn missing(missing: &[MissingProcess], json: bool) -> String {
    let line = |it: &MissingProcess| match (json, it.process) {
        (true, process) => {
            format!("{}\n", serde_json::json!({ "missing": { "process": process, "connections": it.connections } }))
        }
        (false, process) => {
            let count = Counted(it.connections, "connection");
            let process = process.map_or_else(|| "of an earlier version".to_owned(), |it| it.to_string());
            format!("Missing: process {process} does not answer, and has {count}\n")
        }
    };
    missing.iter().map(line).collect()
}

fn order(sessions: &mut [Session], sort: Sort) {
    // The most of it first.
    match sort {
        Sort::Bytes => sessions.sort_by_key(|it| std::cmp::Reverse(it.bytes_in + it.bytes_out)),
        Sort::Age => sessions.sort_by_key(|it| std::cmp::Reverse(it.age)),
        Sort::Idle => sessions.sort_by_key(|it| std::cmp::Reverse(it.idle)),
    }
}

/// Connections, a line for each.
pub(super) fn connections(FoundSessions { mut sessions, missing: gone }: FoundSessions, shown: Shown) -> String {
    order(&mut sessions, shown.sort);
    let count = sessions.len();
    let mut text = String::new();
    if !shown.json {
        text += "id service client local destination state age idle bytes_in bytes_out\n";
    }
    for it in sessions.iter().take(shown.limit) {
        let Session { service, client, state, bytes_in, bytes_out, .. } = it;
        let id = it.id.to_string();
        let (age, idle) = (tenths(it.age), tenths(it.idle));
        let local = it.local.map(|local| local.to_string());
        let destination = it.destination.map(|destination| destination.to_string());
        // Writing to a string cannot fail.
        let _ = if shown.json {
            writeln!(
                text,
                "{}",
                serde_json::json!({
                    "id": id, "service": &**service, "client": client.to_string(), "local": local,
                    "destination": destination, "state": state, "age": age, "idle": idle, "bytes_in": bytes_in,
                    "bytes_out": bytes_out
                })
            )
        } else {
            let (local, destination) = (local.as_deref().unwrap_or("-"), destination.as_deref().unwrap_or("-"));
            writeln!(
                text,
                "{id} {service} {client} {local} {destination} {state} {age:.1} {idle:.1} {bytes_in} {bytes_out}"
            )
        };
    }
    if !shown.json {
        let _ = writeln!(text, "Connections: {count}");
    }
    text + &missing(&gone, shown.json)
}

/// What one client has.
#[derive(Default)]
struct Client {
    connections: usize,
    bytes_in: u64,
    bytes_out: u64,
    age: Duration,
    idle: Option<Duration>,
    /// How many on each destination.
    destinations: BTreeMap<String, usize>,
}

/// The clients of connections, a line for each address.
pub(super) fn clients(FoundSessions { sessions, missing: gone }: FoundSessions, shown: Shown) -> String {
    let mut clients: BTreeMap<String, Client> = BTreeMap::new();
    for it in &sessions {
        let name = it.client.ip().map_or_else(|| it.client.to_string(), |ip| ip.to_string());
        let client = clients.entry(name).or_default();
        client.connections += 1;
        client.bytes_in += it.bytes_in;
        client.bytes_out += it.bytes_out;
        client.age = client.age.max(it.age);
        if let Some(destination) = it.destination {
            *client.destinations.entry(destination.to_string()).or_default() += 1;
        }
        client.idle = Some(client.idle.map_or(it.idle, |idle| idle.min(it.idle)));
    }
    let count = clients.len();
    let mut clients: Vec<(String, Client)> = clients.into_iter().collect();
    match shown.sort {
        Sort::Bytes => clients.sort_by_key(|(_, it)| std::cmp::Reverse(it.bytes_in + it.bytes_out)),
        // Who has the most is who is looked for.
        Sort::Age => clients.sort_by_key(|(_, it)| std::cmp::Reverse(it.connections)),
        Sort::Idle => clients.sort_by_key(|(_, it)| std::cmp::Reverse(it.idle)),
    }
    let mut text = String::new();
    if !shown.json {
        text += "client connections bytes_in bytes_out oldest idle\n";
    }
    for (name, it) in clients.iter().take(shown.limit) {
        let Client { connections, bytes_in, bytes_out, .. } = it;
        let (oldest, idle) = (tenths(it.age), tenths(it.idle.unwrap_or_default()));
        // Writing to a string cannot fail.
        let _ = if shown.json {
            writeln!(
                text,
                "{}",
                serde_json::json!({
                    "client": name, "connections": connections, "bytes_in": bytes_in, "bytes_out": bytes_out,
                    "oldest": oldest, "idle": idle, "destinations": it.destinations
                })
            )
        } else {
            writeln!(text, "{name} {connections} {bytes_in} {bytes_out} {oldest:.1} {idle:.1}")
        };
    }
    if !shown.json {
        let _ = writeln!(text, "Clients: {count}, connections: {}", sessions.len());
    }
    text + &missing(&gone, shown.json)
}

/// The answer to a kick of a connection that has ended, or never was, or is in a process that has not answered.
pub(super) fn no_such_connection(id: SessionId, found: &FoundSessions) -> String {
    let may_have_it = |it: &&MissingProcess| it.process.is_none_or(|process| process == id.process);
    match found.missing.iter().find(may_have_it) {
        Some(MissingProcess { process: Some(process), .. }) => {
            format!("Error: {id}: process {process} does not answer\n")
        }
        Some(_) => format!("Error: {id}: not found, and a process of an earlier version cannot be asked\n"),
        None => format!("Error: {id}: no such connection\n"),
    }
}

/// In seconds.
fn tenths(time: Duration) -> f64 {
    (time.as_secs_f64() * 10.0).round() / 10.0
}

/// Connections that are to be closed, a few at a time.
#[derive(Default)]
pub(super) struct Kicks(VecDeque<PacedKick>);

struct PacedKick {
    ids: VecDeque<SessionId>,
    /// Between two.
    pause: Duration,
    next: Instant,
}

impl Kicks {
    /// Closes what was found, at this pace. Returns the answer.
    pub(super) fn begin(
        &mut self,
        FoundSessions { sessions: found, missing: gone }: FoundSessions,
        pace: Option<f64>,
        asker: Asker,
        sessions: &dyn SessionControl,
    ) -> String {
        let ids: Vec<SessionId> = found.iter().map(|it| it.id).collect();
        let count = Counted(ids.len(), "connection");
        let gone = missing(&gone, false);
        match pace {
            None => {
                sessions.close(&ids);
                info!("{count} closed by hand, {asker}");
                format!("{count} closed\n{gone}Ok\n")
            }
            Some(pace) => {
                info!("{count} being closed by hand, {pace} a second, {asker}");
                let answer = format!("{count} being closed, {pace} a second\n{gone}Ok\n");
                let pause = Duration::from_secs_f64(1.0 / pace);
                self.0.push_back(PacedKick { ids: ids.into(), pause, next: Instant::now() });
                answer
            }
        }
    }

    /// When to go on.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.iter().map(|it| it.next).min()
    }

    /// Closes those whose time has come.
    pub(super) fn go_on(&mut self, now: Instant, sessions: &dyn SessionControl) {
        for kick in &mut self.0 {
            let mut due = Vec::new();
            while kick.next <= now && due.len() < MOST_KICKS_A_TURN {
                let Some(id) = kick.ids.pop_front() else { break };
                due.push(id);
                kick.next += kick.pause;
            }
            if !due.is_empty() {
                sessions.close(&due);
            }
        }
        self.0.retain(|kick| !kick.ids.is_empty());
    }
}
