//! The entry point for a fuzzer (`fuzz/`) of what the daemon hears from its checker.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use super::{Settings, Watchdog};
use crate::channel;
use crate::checker::Credentials;
use crate::checker::protocol::Report;
use crate::config::{Config, WatchdogOptions};
use crate::pool::health::{ShutdownSessions, is_unprintable};
use crate::pool::{Balancing, PolicyKind, Pool, PoolSettings, Tried};
use crate::resolve::OwnAddresses;

/// The ports of the destinations, whose numbers begin with 0.
const PORTS: [u16; 3] = [1, 2, 3];

/// A checker that sends these messages, a line each. Returns true if any of them is a report.
pub fn reports(bytes: &[u8]) -> bool {
    static OPTIONS: LazyLock<Option<WatchdogOptions>> = LazyLock::new(|| {
        let line = ["glbd", "-w", "galera:max-recv-queue=10", "-D", "-L", "3", "8010"];
        Config::from_command_line(line.map(str::to_owned)).ok()?.pools.remove(0).watchdog
    });
    let options = OPTIONS.clone().expect("a command line with a watchdog");
    let table =
        Pool::new(PoolSettings { avoid_failed_for: Duration::from_secs(1), watched: true, recheck_after: None })
            .rotation(Balancing {
                policy: PolicyKind::Single,
                top: false,
                shutdown_sessions: ShutdownSessions::Elsewhere,
            });
    for address in PORTS.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))) {
        // There is room for three.
        let _ = table.set(&address.into(), address, 1.0);
    }
    let settings = Settings {
        options,
        credentials: Credentials::default(),
        mark: String::new(),
        table: table.pool().clone(),
        own_addresses: OwnAddresses::default(),
        closes_sessions: Arc::new(AtomicBool::new(true)),
        on_first_verdicts: Box::new(|| {}),
    };
    let (heard, _received) = bounded(1);
    let mut watchdog = Watchdog::new(&settings, heard);
    let mut has_report = false;
    for message in bytes.split(|byte| *byte == b'\n') {
        let Ok(report) = channel::parse::<Report>(message) else { continue };
        has_report = true;
        if report.is_within_bounds() {
            drop(watchdog.monitor.due(Instant::now() + Duration::from_secs(3600)));
            watchdog.on_report(report, Instant::now());
            table.pick(Ipv4Addr::LOCALHOST.into(), &mut Tried::default(), Instant::now());
        }
    }
    for row in table.snapshot() {
        assert!(!row.health.reason.to_string().contains(is_unprintable), "{:?}", row.health);
        assert!(row.health.scale.is_finite() && row.health.scale >= 0.0, "{:?}", row.health);
    }
    has_report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::fuzz::tests::{corpus, replay};

    #[test]
    fn what_fuzzers_found_makes_nothing_panic() {
        replay("reports", |bytes| {
            reports(bytes);
        });
    }

    /// Otherwise a change of the protocol would leave a corpus that tries nothing.
    #[test]
    fn what_is_in_the_corpus_are_reports() {
        for bytes in corpus("reports") {
            assert!(reports(&bytes), "{}", String::from_utf8_lossy(&bytes));
        }
    }
}
