//! `getinfo` and `getstat` in GLB's layout, which scripts parse.

use std::fmt::Write;
use std::time::Duration;

use crate::counted::Counted;
use crate::pool::health::{Reason, Verdict};
use crate::pool::{DestinationStatus, Origin, Unresolved, weights_in_use};
use crate::service::{PoolEntry, ServiceEntry, Setup};
use crate::stats::Totals;

const WATCH_RULE: &str = "------------------------------------------------------------";
const RULE: &str = "------------------------------------------------------";

/// Each service's destinations, as `getinfo` answers it.
pub fn info(setup: &Setup, max_connections: usize) -> String {
    let name = |it: &ServiceEntry| match setup.is_plain() {
        true => String::new(),
        false => format!(" {}, pool {}", it.config.name, it.config.pool),
    };
    let info = |it: &ServiceEntry| {
        let configured = setup.pool(&it.config.pool).and_then(|pool| pool.config.max_connections);
        let destinations = it.rotation().snapshot();
        let is_limited = configured.is_some() || destinations.iter().any(|it| it.limit.is_some());
        let limits =
            if destinations.is_empty() { vec![configured] } else { destinations.iter().map(|it| it.limit).collect() };
        let queue = if is_limited { queue(it.rotation().waiting(), &limits) } else { String::new() };
        router(&name(it), &destinations, max_connections) + &queue
    };
    setup.services.iter().map(info).collect()
}

/// Clients that wait for room, where destinations are limited: GLB has no such line.
fn queue(waiting: usize, limits: &[Option<usize>]) -> String {
    let least = limits.iter().flatten().min().copied();
    let most = limits.iter().all(Option::is_some).then(|| limits.iter().flatten().max().copied()).flatten();
    let takes = match (least, most) {
        (Some(least), Some(most)) if least < most => format!("{least} to {}", Counted(most, "connection")),
        (_, Some(most)) => Counted(most, "connection").to_string(),
        (Some(least), None) => format!("at least {}", Counted(least, "connection")),
        (None, None) => "any number of connections".to_owned(),
    };
    format!("Queue: {}, each destination takes {takes}\n", Counted(waiting, "client"))
}

/// How the connections of each service are logged, a line for each.
pub fn connection_logs(setup: &Setup) -> String {
    setup.services.iter().map(|it| format!("{} {}\n", it.config.name, it.service.connection_log.get())).collect()
}

/// Each pool's destinations as the watchdog sees them, as `getwatch` answers it.
pub fn watch(setup: &Setup) -> String {
    let watch = |PoolEntry { config, pool }: &PoolEntry| {
        let name = if setup.is_plain() { String::new() } else { format!(" {}", config.name) };
        watchdog(&name, &pool.snapshot(), &pool.unresolved(), pool.checks_note().as_ref())
    };
    setup.pools.iter().map(watch).collect()
}

/// Destinations under a name, where they need one.
fn router(name: &str, destinations: &[DestinationStatus], max_connections: usize) -> String {
    let mut text = format!("Router:{name}\n{RULE}\n        Address       :   weight   usage    map  conns\n");
    for it in destinations {
        let map = match it.map {
            Some(map) => format!("{map:.3}"),
            None if it.is_single => "single".to_owned(),
            // GLB has a blank behind its N/A.
            None => "N/A ".to_owned(),
        };
        let (address, weight, usage, connections) = (it.address.to_string(), it.weight, usage(it), it.connections);
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{address:>21} : {weight:8.3} {usage:7.3} {map:>7} {connections:5}");
    }
    let total: usize = destinations.iter().map(|it| it.connections).sum();
    let count = destinations.len();
    let _ = writeln!(text, "{RULE}\nDestinations: {count}, total connections: {total} of {max_connections} max");
    text
}

/// The same destinations as the watchdog sees them, with what GLB prints in the foreground and the reasons; and the names
/// that have not resolved yet. The `note` says why no checks are being made at the moment.
fn watchdog(
    name: &str,
    destinations: &[DestinationStatus],
    unresolved: &[Unresolved],
    note: Option<&Reason>,
) -> String {
    let weights = weights_in_use(&destinations.iter().collect::<Vec<_>>());
    let note = note.map_or_else(String::new, |why| format!(" no checks at the moment, {why}"));
    let mut text = format!(
        "Watchdog:{name}{note}\n{WATCH_RULE}\n        Address       : exp  setw     state    lat     curw  reason\n"
    );
    for (it, in_force) in destinations.iter().zip(weights) {
        let (address, weight) = (it.address.to_string(), it.weight);
        let by_hand = if it.origin == Origin::ByHand { '+' } else { ' ' };
        let state = it.health.verdict.map_or_else(|| "UNKNOWN".to_owned(), |verdict| verdict.to_string());
        // Of one that is DOWN, the last good check says nothing any more.
        let latency = if it.health.verdict == Some(Verdict::Down) { Duration::ZERO } else { it.health.latency };
        let (latency, reason) = (latency.as_secs_f64(), reason(it));
        let line =
            format!("{address:>21} :  {by_hand}  {weight:7.3} {state:>8} {latency:8.5} {in_force:7.3}  {reason}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", line.trim_end());
    }
    for Unresolved { endpoint, weight, reason, .. } in unresolved {
        let name = endpoint.to_string();
        let _ = writeln!(text, "{name:>21} :  +  {weight:7.3} UNRESOLVED {:6.4} {:7.3}  {reason}", 0.0, 0.0);
    }
    let unresolved = if unresolved.is_empty() { String::new() } else { format!(", unresolved: {}", unresolved.len()) };
    let _ = writeln!(text, "{WATCH_RULE}\nDestinations: {}{unresolved}", destinations.len());
    text
}

/// Why the destination has its verdict, or that it refuses clients though it looks healthy; and since when it has it.
fn reason(destination: &DestinationStatus) -> String {
    let health = &destination.health;
    let why = match &destination.refusals {
        Some(it) if health.verdict == Some(Verdict::Ready) => {
            format!("refuses clients: {} ({} in a row) ", it.reason, it.count)
        }
        _ if health.reason.is_empty() => String::new(),
        _ => format!("{} ", health.reason),
    };
    let why = match destination.backup {
        0 => why,
        1 => format!("backup {why}"),
        number => format!("backup {number} {why}"),
    };
    let since = health.since.map(|since| format!("(since {})", humantime::format_rfc3339_seconds(since)));
    why + &since.unwrap_or_default()
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
    use crate::address::PeerAddress;
    use std::time::{Instant, SystemTime};

    use crate::pool::health::{Health, ShutdownSessions};
    use crate::pool::{Balancing, PolicyKind, Pool, PoolSettings, Refusals, Rotation};

    fn table(policy: PolicyKind, watched: bool) -> Rotation {
        let (avoid_failed_for, recheck_after) = (Duration::from_secs(2), None);
        let shutdown_sessions = ShutdownSessions::Elsewhere;
        let table = Pool::new(PoolSettings { avoid_failed_for, watched, recheck_after, ..PoolSettings::default() })
            .rotation(Balancing { policy, top: false, shutdown_sessions });
        let address = PeerAddress::from(([127, 0, 0, 1], 33061));
        table.set(&address.into(), address, 0.75).expect("there is room");
        table
    }

    /// What the watchdog found, long ago.
    fn status(verdict: Verdict, reason: &str) -> DestinationStatus {
        let mut status = table(PolicyKind::LeastConnected, true).snapshot().remove(0);
        status.health = Health {
            verdict: Some(verdict),
            reason: Reason::new(reason),
            since: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_817_405)),
            checked: Some(Instant::now()),
            latency: Duration::from_micros(1250),
            ..Health::unjudged()
        };
        status
    }

    #[test]
    fn the_watchdogs_table_looks_as_glb_prints_it_and_gives_reasons() {
        let expected = "\
Watchdog:
------------------------------------------------------------
        Address       : exp  setw     state    lat     curw  reason
      127.0.0.1:33061 :  +    0.750    AVOID  0.00125   0.000  wsrep_local_state is 2 (since 2026-11-27T22:10:05Z)
------------------------------------------------------------
Destinations: 1
";
        assert_eq!(watchdog("", &[status(Verdict::Avoid, "wsrep_local_state is 2")], &[], None), expected);
    }

    #[test]
    fn a_destination_that_is_ready_but_refuses_clients_says_so() {
        let mut row = status(Verdict::Ready, "");
        let (since, reason) = (SystemTime::UNIX_EPOCH, Reason::new("Too many\nconnections"));
        row.refusals = Some(Refusals { count: 12, since, reason });
        let shown = watchdog("", &[row.clone()], &[], None);
        let wanted = "  0.750  refuses clients: Too many connections (12 in a row) (since 2026-11-27T22:10:05Z)\n";
        assert!(shown.contains(wanted), "{shown}");
        row.health = status(Verdict::Down, "no answer within 1 s").health;
        assert!(
            watchdog("", &[row], &[], None)
                .contains("   DOWN  0.00000   0.000  no answer within 1 s (since 2026-11-27T22:10:05Z)\n")
        );
    }

    #[test]
    fn a_spare_one_has_its_weight_in_force_only_while_none_is_ready() {
        let [spare, ready] = [status(Verdict::Spare, "donor"), status(Verdict::Ready, "")];
        assert!(watchdog("", &[spare.clone(), ready.clone()], &[], None).contains("SPARE  0.00125   0.000  donor"));
        let drained = DestinationStatus { weight: 0.0, weight_in_force: 0.0, ..ready };
        assert!(watchdog("", &[spare, drained], &[], None).contains("SPARE  0.00125   0.750  donor"));
    }

    #[test]
    fn the_single_destination_is_marked() {
        let table = table(PolicyKind::Single, false);
        assert!(router("", &table.snapshot(), 9981).contains("   0.000    N/A      0\n"), "no client has come");
        drop(table.pick([127, 0, 0, 1].into(), &mut crate::pool::Tried::default(), Instant::now()));
        assert!(router("", &table.snapshot(), 9981).contains("127.0.0.1:33061 :    0.750   0.000  single     0\n"));
    }

    #[test]
    fn info_looks_as_glb_prints_it() {
        let destinations = table(PolicyKind::LeastConnected, false).snapshot();
        let expected = "\
Router:
------------------------------------------------------
        Address       :   weight   usage    map  conns
      127.0.0.1:33061 :    0.750   0.000    N/A      0
------------------------------------------------------
Destinations: 1, total connections: 0 of 9981 max
";
        assert_eq!(router("", &destinations, 9981), expected);
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
