//! `getinfo` and `getstat` in GLB's layout, which scripts parse.

use std::fmt::Write;

use crate::stats::Totals;
use crate::table::DestinationStatus;

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
    use crate::address::{Endpoint, Host};

    #[test]
    fn info_looks_as_glb_prints_it() {
        let address = std::net::SocketAddr::from(([127, 0, 0, 1], 33061));
        let endpoint = Endpoint { host: Host::Address(address.ip()), port: 33061 };
        let destination = DestinationStatus { endpoint, address, weight: 0.75, connections: 0, map: None };
        let expected = "\
Router:
------------------------------------------------------
        Address       :   weight   usage    map  conns
      127.0.0.1:33061 :    0.750   0.000    N/A      0
------------------------------------------------------
Destinations: 1, total connections: 0 of 9981 max
";
        assert_eq!(info(&[destination], 9981), expected);
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
