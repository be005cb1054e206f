//! `getinfo` and `getstat` in GLB's layout, which scripts parse.

use std::fmt::Write;

use crate::stats::Totals;
use crate::table::health::Verdict;
use crate::table::{DestinationStatus, Origin};

const WATCH_RULE: &str = "------------------------------------------------------------";
const RULE: &str = "------------------------------------------------------";

/// The table, as `getinfo` answers it.
pub fn info(destinations: &[DestinationStatus], max_connections: usize) -> String {
    let mut text = format!("Router:\n{RULE}\n        Address       :   weight   usage    map  conns\n");
    for it in destinations {
        // GLB has a blank behind its N/A.
        let map = it.map.map_or_else(|| "N/A ".to_owned(), |map| format!("{map:.3}"));
        let (address, weight, usage, connections) = (it.address.to_string(), it.weight, usage(it), it.connections);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address:>21} : {weight:8.3} {usage:7.3} {map:>7} {connections:5}");
    }
    let total: usize = destinations.iter().map(|it| it.connections).sum();
    let count = destinations.len();
    let _ = writeln!(text, "{RULE}\nDestinations: {count}, total connections: {total} of {max_connections} max");
    text
}

/// The same destinations as the watchdog sees them, with what GLB prints in the foreground and the reasons.
pub fn watch(destinations: &[DestinationStatus]) -> String {
    let mut text =
        format!("Watchdog:\n{WATCH_RULE}\n        Address       : exp  setw     state    lat     curw  reason\n");
    for it in destinations {
        let (address, weight, in_force) = (it.address.to_string(), it.weight, it.weight_in_force);
        let by_hand = if it.origin == Origin::ByHand { '+' } else { ' ' };
        let state = it.health.verdict.map_or_else(|| "UNKNOWN".to_owned(), |verdict| verdict.to_string());
        let in_force = if it.health.verdict == Some(Verdict::Ready) { in_force } else { 0.0 };
        let (latency, reason) = (it.health.latency.as_secs_f64(), &it.health.reason);
        let line =
            format!("{address:>21} :  {by_hand}  {weight:7.3} {state:>8} {latency:8.5} {in_force:7.3}  {reason}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = writeln!(text, "{WATCH_RULE}\nDestinations: {}", destinations.len());
    text
}

/// From 0, unused, to 1, full.
fn usage(destination: &DestinationStatus) -> f64 {
    if destination.weight == 0.0 { 1.0 } else { 1.0 - 1.0 / (destination.connections as f64 + 1.0) }
}

/// Traffic, as `getstat` answers it.
pub(super) fn stats(totals: &Totals, connections_now: usize, elapsed_seconds: f64) -> String {
    let it = totals;
    format!(
        "in: {} out: {} recv: {} / {} send: {} / {} conns: {} / {} poll: {} / {} / {} elapsed: {:.5}\n",
        it.from_clients,
        it.to_clients,
        it.received,
        it.receive_calls,
        it.sent,
        it.send_calls,
        it.connections,
        connections_now,
        it.readable,
        it.writable,
        it.polls,
        elapsed_seconds
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    use crate::table::health::Health;
    use crate::table::{Balancing, PolicyKind, Table};

    fn table(watched: bool) -> Table {
        let (avoid_failed_for, recheck_after) = (Duration::from_secs(2), None);
        let policy = PolicyKind::LeastConnected;
        let table = Table::new(Balancing { policy, top: false, avoid_failed_for, watched, recheck_after });
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 33061));
        table.set(&address.into(), address, 0.75).expect("there is room");
        table
    }

    #[test]
    fn the_watchdogs_table_looks_as_glb_prints_it_and_gives_reasons() {
        let table = table(true);
        let id = table.snapshot().first().expect("a destination").id;
        let health = Health {
            verdict: Some(Verdict::Avoid),
            reason: "wsrep_local_state is Donor/Desynced".to_owned(),
            checked: Some(Instant::now()),
            latency: Duration::from_micros(1250),
            scale: 1.0,
        };
        table.judge(id, health, false, false);
        let expected = "\
Watchdog:
------------------------------------------------------------
        Address       : exp  setw     state    lat     curw  reason
      127.0.0.1:33061 :  +    0.750    AVOID  0.00125   0.000  wsrep_local_state is Donor/Desynced
------------------------------------------------------------
Destinations: 1
";
        assert_eq!(watch(&table.snapshot()), expected);
    }

    #[test]
    fn info_looks_as_glb_prints_it() {
        let destinations = table(false).snapshot();
        let expected = "\
Router:
------------------------------------------------------
        Address       :   weight   usage    map  conns
      127.0.0.1:33061 :    0.750   0.000    N/A      0
------------------------------------------------------
Destinations: 1, total connections: 0 of 9981 max
";
        assert_eq!(info(&destinations, 9981), expected);
    }

    #[test]
    fn stats_look_as_glb_prints_them() {
        let totals = Totals {
            from_clients: 1554,
            to_clients: 2256,
            received: 3810,
            receive_calls: 42,
            sent: 3810,
            send_calls: 36,
            connections: 6,
            readable: 42,
            writable: 6,
            polls: 48,
        };
        let expected =
            "in: 1554 out: 2256 recv: 3810 / 42 send: 3810 / 36 conns: 6 / 0 poll: 42 / 6 / 48 elapsed: 1.06949\n";
        assert_eq!(stats(&totals, 0, 1.06949), expected);
    }
}
