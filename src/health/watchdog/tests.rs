//! What the thread that watches makes of the checker's reports. No checker runs here.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{bounded, unbounded};

use super::*;
use crate::address::PeerAddress;
use crate::checker::Credentials;
use crate::checker::protocol::{Answer, Finding, Id};
use crate::config::{Config, WatchdogOptions};
use crate::health::monitor::Monitor;
use crate::pool::health::{ShutdownSessions, Verdict};
use crate::pool::{Balancing, DestinationStatus, Origin, PolicyKind, PoolSettings};

mod pools;

fn at(port: u16) -> PeerAddress {
    PeerAddress::from((Ipv4Addr::LOCALHOST, port))
}

fn options(arguments: &str) -> WatchdogOptions {
    let line = format!("glbd {arguments} 8010");
    let mut config = Config::from_command_line(line.split_whitespace().map(str::to_owned)).expect("a command line");
    config.pools.remove(0).watchdog.expect("a watchdog")
}

/// With two destinations.
fn pool() -> Pool {
    let pool =
        Pool::new(PoolSettings { avoid_failed_for: Duration::from_secs(1), watched: true, ..PoolSettings::default() });
    for address in [at(1), at(2)] {
        pool.set(&address.into(), address, 1.0).expect("there is room");
    }
    pool
}

/// Those of a daemon that listens on port 8010.
fn settings() -> Settings {
    let closes_sessions = Arc::new(AtomicBool::new(true));
    Settings { mark: String::new(), own_addresses: vec![at(8010)].into(), closes_sessions }
}

fn watch(pool: &Pool, arguments: &str) -> Watch {
    let (pool, options, credentials) = (pool.clone(), options(arguments), Credentials::default());
    Watch { pool, options, credentials, on_first_verdicts: Box::new(|| {}) }
}

/// What a watchdog borrows.
struct Fixture {
    settings: Settings,
    watches: Watches,
    events: (Sender<Input>, Receiver<Input>),
}

impl Fixture {
    fn new() -> Fixture {
        Fixture { settings: settings(), watches: Watches::default(), events: unbounded() }
    }

    fn watchdog(&mut self) -> Watchdog<'_> {
        Watchdog::new(&self.settings, &mut self.watches, self.events.0.clone(), bounded(1).0)
    }

    /// Watches these pools from now on.
    fn watching(&mut self, pools: &[(&Pool, &str)]) -> Watchdog<'_> {
        let mut watchdog = self.watchdog();
        pools.iter().for_each(|(pool, arguments)| watchdog.watch(watch(pool, arguments), Instant::now()));
        watchdog
    }
}

impl Watchdog<'_> {
    fn monitor(&mut self, pool: &Pool) -> &mut Monitor {
        &mut self.watches.pools.get_mut(&pool.number()).expect("it is watched").monitor
    }

    /// A destination of a pool says this now, and was asked for it.
    fn hears(&mut self, pool: &Pool, verdict: Verdict) {
        let now = Instant::now() + Duration::from_secs(3600);
        self.expect_reports(now);
        self.on_report(says(pool, verdict, &[]), now);
    }
}

/// The destination of a pool at port 1 says this, and names these members.
fn says(pool: &Pool, verdict: Verdict, members: &[u16]) -> Report {
    let (reason, members) = ("as told".to_owned(), members.iter().map(|port| at(*port)).collect());
    let (absent, members_are_complete, galera) = (false, true, None);
    let finding = Finding::Answer(Answer { verdict, reason, absent, members, members_are_complete, galera });
    Report::Checked { id: first(pool), address: at(1), finding, took: Duration::ZERO, is_late: false }
}

fn first(pool: &Pool) -> Id {
    Id { pool: pool.number(), serial: 0 }
}

/// The destinations, as a service would see them.
fn rows(pool: &Pool) -> Vec<DestinationStatus> {
    let balancing =
        Balancing { policy: PolicyKind::LeastConnected, top: false, shutdown_sessions: ShutdownSessions::Elsewhere };
    pool.rotation(balancing).snapshot()
}

fn verdicts(pool: &Pool) -> Vec<(u16, Option<Verdict>)> {
    rows(pool).iter().map(|row| (row.address.port(), row.health.verdict)).collect()
}

fn note(pool: &Pool) -> Option<String> {
    pool.checks_note().map(|note| note.to_string())
}

/// One report decides.
const AT_ONCE: &str = "-w galera -D --rise 1 --fall 1";

#[test]
fn only_reports_of_the_checker_that_there_is_count() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    pool.set_checks_note(Some(Reason::new("of an earlier thread")));
    let mut watchdog = fixture.watching(&[(&pool, AT_ONCE)]);
    let now = Instant::now();
    watchdog.hear(Heard::Report(7, says(&pool, Verdict::Ready, &[])), now);
    watchdog.hear(Heard::Lost(7, "hangs".to_owned()), now);
    // None is running, which is known already.
    watchdog.hear(Heard::Lost(0, "hangs".to_owned()), now);
    assert_eq!(verdicts(&pool), [(1, None), (2, None)]);
    assert_eq!(note(&pool).as_deref(), Some("of an earlier thread"));
    watchdog.hear(Heard::Report(0, says(&pool, Verdict::Ready, &[])), now);
    assert_eq!(verdicts(&pool), [(1, Some(Verdict::Ready)), (2, None)]);
    assert_eq!(note(&pool), None, "checks are made again");
}

#[test]
fn a_checker_that_reports_more_than_it_was_asked_for_is_no_longer_believed() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    let mut watchdog = fixture.watching(&[(&pool, AT_ONCE)]);
    (0..2).for_each(|_| watchdog.on_report(says(&pool, Verdict::Ready, &[]), Instant::now()));
    assert_eq!(note(&pool), None);
    let now = Instant::now();
    watchdog.on_report(says(&pool, Verdict::Down, &[]), now);
    assert_eq!(verdicts(&pool), [(1, Some(Verdict::Ready)), (2, None)]);
    assert_eq!(note(&pool).as_deref(), Some("the checker process reports more than it was asked for"));
    assert!(watchdog.next_deadline() > Some(now), "the checks that are due wait for the next one");
}

#[test]
fn a_report_on_an_address_that_the_destination_has_left_changes_nothing() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    let mut watchdog = fixture.watching(&[(&pool, AT_ONCE)]);
    let Report::Checked { finding, took, is_late, .. } = says(&pool, Verdict::Down, &[]) else { unreachable!() };
    (0..9).for_each(|_| {
        let (id, finding, address) = (first(&pool), finding.clone(), at(9));
        watchdog.on_report(Report::Checked { id, address, finding, took, is_late }, Instant::now());
    });
    assert_eq!(verdicts(&pool), [(1, None), (2, None)]);
    assert_eq!(note(&pool), None, "it may have been under way");
}

#[test]
fn members_are_discovered_but_for_the_daemon_itself_and_go_when_they_have_left() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    let mut watchdog = fixture.watching(&[(&pool, AT_ONCE)]);
    watchdog.on_report(says(&pool, Verdict::Ready, &[1, 2, 3, 8010]), Instant::now());
    let known = |pool: &Pool| rows(pool).iter().map(|row| (row.address.port(), row.origin)).collect::<Vec<_>>();
    let by_hand = [(1, Origin::ByHand), (2, Origin::ByHand)];
    assert_eq!(known(&pool), [&by_hand[..], &[(3, Origin::Discovered)]].concat());
    let found = rows(&pool)[2].id;
    watchdog.on_event(Event::Added(found), Instant::now());
    assert!(watchdog.monitor(&pool).is_watched(found));
    watchdog.on_report(says(&pool, Verdict::Ready, &[1, 2]), Instant::now());
    for place in [1, 2] {
        let id = rows(&pool)[place].id.into();
        for hour in 1..=8 {
            let finding = Finding::Silence("no answer".to_owned());
            let (address, took) = (at(place as u16 + 1), Duration::ZERO);
            let due = Instant::now() + Duration::from_secs(3600 * hour);
            watchdog.expect_reports(due);
            watchdog.on_report(Report::Checked { id, address, finding, took, is_late: false }, due);
        }
    }
    assert_eq!(known(&pool), by_hand, "one that a hand has added stays");
    watchdog.on_event(Event::Removed(found), Instant::now());
    assert!(!watchdog.monitor(&pool).is_watched(found));
}

#[test]
fn what_is_watched_already_is_not_watched_anew_unless_it_has_moved() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    let mut watchdog = fixture.watching(&[(&pool, AT_ONCE)]);
    watchdog.on_report(says(&pool, Verdict::Ready, &[]), Instant::now());
    let (id, ready) = (rows(&pool)[0].id, Some(Verdict::Ready));
    watchdog.on_event(Event::Added(id), Instant::now());
    // Two reports may come of a watch before it is asked for anything, and one has.
    let monitor = watchdog.monitor(&pool);
    assert!(monitor.expects_report(id.serial()) && !monitor.expects_report(id.serial()));
    watchdog.on_event(Event::Moved(id, at(9), at(1)), Instant::now());
    assert!(watchdog.monitor(&pool).expects_report(id.serial()));
    assert_eq!(verdicts(&pool), [(1, ready), (2, None)]);
}

/// The one that serves may have found the destination fit since, and have new sessions there.
#[test]
fn a_process_that_does_not_serve_yet_closes_no_sessions_and_does_later_what_is_due_then() {
    let (mut fixture, pool) = (Fixture::new(), pool());
    let closes_sessions = Arc::clone(&fixture.settings.closes_sessions);
    closes_sessions.store(false, Ordering::Relaxed);
    let (closed, events) = unbounded();
    pool.subscribe(Box::new(move |event| {
        if matches!(event, Event::Closed(..)) {
            closed.send(event).expect("a test that listens");
        }
    }));
    let mut watchdog = fixture.watching(&[(&pool, "-w galera --rise 1 --fall 1 --shutdown-sessions always")]);
    for verdict in [Verdict::Ready, Verdict::Down] {
        watchdog.on_report(says(&pool, verdict, &[]), Instant::now());
    }
    assert_eq!((verdicts(&pool)[0].1, events.len()), (Some(Verdict::Down), 0));
    closes_sessions.store(true, Ordering::Relaxed);
    watchdog.hears(&pool, Verdict::Down);
    assert_eq!(events.len(), 1);
}
