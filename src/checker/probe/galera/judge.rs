//! What a server that answers is good for.

use std::collections::HashMap;

use crate::checker::probe::Answer;
use crate::checker::protocol::{GaleraFacts, MAX_MEMBERS};
use crate::config::GaleraOptions;
use crate::pool::health::Verdict;

/// `wsrep_local_state`, as Galera numbers them.
const DONOR: &str = "2";
const JOINED: &str = "3";
const SYNCED: &str = "4";

/// Judges a server by the variables that it shows. So many `leaving` connections are about to end.
pub(super) fn judge(answers: &HashMap<String, String>, options: &GaleraOptions, leaving: u64) -> Answer {
    let says = |name: &str| answers.get(name).map_or("", String::as_str);
    let is = |name: &str, value: &str| says(name).eq_ignore_ascii_case(value);
    let unless =
        |name: &str, usual: &str| (!says(name).is_empty() && !is(name, usual)).then(|| because(name, says(name)));
    let required = |name: &str, usual: &str| {
        unless(name, usual).or_else(|| says(name).is_empty().then(|| because(name, "unknown")))
    };
    let facts = facts(answers);
    let galera = |found: Option<(Verdict, String)>| found.filter(|_| facts.has_galera);
    let synced = is("wsrep_local_state", SYNCED);
    let catches_up = is("wsrep_local_state", DONOR) || is("wsrep_local_state", JOINED);
    let state = || match [says("wsrep_local_state_comment"), says("wsrep_local_state")] {
        ["", ""] => "wsrep_local_state is unknown".to_owned(),
        ["", number] => because("wsrep_local_state", number),
        [comment, _] => because("wsrep_local_state", comment),
    };
    let lags = options.max_recv_queue.filter(|most| facts.recv_queue > *most);
    let lag = |most: u64| format!("wsrep_local_recv_queue is {} (more than {most})", facts.recv_queue);
    let verdicts = [
        galera(required("wsrep_cluster_status", "Primary").map(|it| (Verdict::Down, it))),
        galera(unless("wsrep_reject_queries", "NONE").map(|it| (Verdict::Down, it))),
        galera((!synced && !catches_up).then(|| (Verdict::Down, state()))),
        galera(required("wsrep_ready", "ON").map(|it| (Verdict::Down, it))),
        galera((catches_up && options.donor != Verdict::Ready).then(|| (options.donor, state()))),
        galera(lags.map(|most| (Verdict::Spare, lag(most)))),
        full(answers, leaving).map(|it| (Verdict::Avoid, it)),
        unless("pxc_maint_mode", "DISABLED").map(|it| (Verdict::Avoid, it)),
        unless("read_only", "OFF").filter(|_| !options.read_only_is_fit).map(|it| (Verdict::Avoid, it)),
    ];
    // The gravest reason; among equals the first.
    let worst = verdicts.into_iter().flatten().min_by_key(|(verdict, _)| *verdict);
    let (verdict, reason) = worst.unwrap_or((Verdict::Ready, String::new()));
    let members = members(says("wsrep_incoming_addresses"));
    Answer { members, galera: Some(facts), ..Answer::new(verdict, reason) }
}

fn facts(answers: &HashMap<String, String>) -> GaleraFacts {
    let says = |name: &str| answers.get(name).map_or("", String::as_str);
    // What is not a number counts as none.
    let number = |name: &str| says(name).parse().unwrap_or(0_u64);
    let provider = says("wsrep_provider");
    GaleraFacts {
        has_galera: !provider.is_empty()
            && !provider.eq_ignore_ascii_case("none")
            && answers.contains_key("wsrep_cluster_status"),
        state_uuid: says("wsrep_cluster_state_uuid").chars().filter(char::is_ascii_graphic).take(64).collect(),
        conf_id: number("wsrep_cluster_conf_id"),
        size: u32::try_from(number("wsrep_cluster_size")).unwrap_or(0),
        primary: says("wsrep_cluster_status").eq_ignore_ascii_case("Primary"),
        recv_queue: number("wsrep_local_recv_queue"),
    }
}

/// Whether the next client would be refused, unless it had the right to the one place beyond `max_connections`.
fn full(answers: &HashMap<String, String>, leaving: u64) -> Option<String> {
    let number = |name: &str| answers.get(name).and_then(|value| value.parse::<u64>().ok());
    let (connected, most) = (number("threads_connected")?, number("max_connections")?);
    (most > 0 && connected.saturating_sub(leaving) >= most)
        .then(|| format!("Too many connections: max_connections is {most}"))
}

fn because(name: &str, value: &str) -> String {
    format!("{name} is {value}")
}

/// Arbitrators have no address, and some servers do not know theirs.
fn members(text: &str) -> Vec<String> {
    let is_address = |it: &&str| !matches!(*it, "" | "AUTO" | "unspecified") && !it.ends_with(":0");
    text.split(',').map(str::trim).filter(is_address).take(MAX_MEMBERS).map(str::to_owned).collect()
}
