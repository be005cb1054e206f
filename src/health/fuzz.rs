//! The entry point for a fuzzer (`fuzz/`) of what the daemon hears from its checker.

use std::net::Ipv4Addr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};

use super::watchdog::{Watchdog, Watches};
use super::{Settings, Watch};
use crate::address::PeerAddress;
use crate::channel;
use crate::checker::Credentials;
use crate::checker::protocol::Report;
use crate::config::{Config, WatchdogOptions};
use crate::pool::health::{ShutdownSessions, is_unprintable};
use crate::pool::{Balancing, PolicyKind, Pool, PoolSettings, Rotation, Tried};
use crate::resolve::OwnAddresses;

/// The ports of the destinations of each pool, whose numbers begin with 0.
const PORTS: [u16; 3] = [1, 2, 3];

/// A checker of two pools, numbered 0 and 1 here, that sends these messages, a line each. Returns true if any of them is a report.
pub fn reports(bytes: &[u8]) -> bool {
    static OPTIONS: LazyLock<Option<WatchdogOptions>> = LazyLock::new(|| {
        let line = ["glbd", "-w", "galera:max-recv-queue=10", "-D", "-L", "3", "8010"];
        Config::from_command_line(line.map(str::to_owned)).ok()?.pools.remove(0).watchdog
    });
    let options = OPTIONS.clone().expect("a command line with a watchdog");
    let pools = [pool(), pool()];
    let settings = Settings {
        mark: String::new(),
        own_addresses: OwnAddresses::default(),
        closes_sessions: Arc::new(AtomicBool::new(true)),
    };
    let ((heard, _received), (events, _events), mut watches) = (bounded(1), unbounded(), Watches::default());
    let mut watchdog = Watchdog::new(&settings, &mut watches, events, heard);
    for table in &pools {
        let (options, credentials) = (options.clone(), Credentials::default());
        let watch = Watch { pool: table.pool().clone(), options, credentials, on_first_verdicts: Box::new(|| {}) };
        watchdog.watch(watch, Instant::now());
    }
    let mut has_report = false;
    for message in bytes.split(|byte| *byte == b'\n') {
        let Ok(mut report) = channel::parse::<Report>(message) else { continue };
        has_report = true;
        if let Report::Checked { id, .. } = &mut report {
            // The numbers of the pools differ from run to run.
            id.pool = pools.get(id.pool as usize).map_or(u32::MAX, |table| table.pool().number());
        }
        if report.is_within_bounds() {
            watchdog.expect_reports(Instant::now() + Duration::from_secs(3600));
            watchdog.on_report(report, Instant::now());
            for table in &pools {
                table.pick(Ipv4Addr::LOCALHOST.into(), &mut Tried::default(), Instant::now());
            }
        }
    }
    for row in pools.iter().flat_map(Rotation::snapshot) {
        assert!(!row.health.reason.to_string().contains(is_unprintable), "{:?}", row.health);
        assert!(row.health.scale.is_finite() && row.health.scale >= 0.0, "{:?}", row.health);
    }
    has_report
}

fn pool() -> Rotation {
    let settings = PoolSettings { avoid_failed_for: Duration::from_secs(1), watched: true, ..PoolSettings::default() };
    let (policy, shutdown_sessions) = (PolicyKind::Single, ShutdownSessions::Elsewhere);
    let table = Pool::new(settings).rotation(Balancing { policy, top: false, shutdown_sessions });
    for address in PORTS.map(|port| PeerAddress::from((Ipv4Addr::LOCALHOST, port))) {
        // There is room for three.
        let _ = table.set(&address.into(), address, 1.0);
    }
    table
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
