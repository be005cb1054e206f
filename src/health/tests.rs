//! What the thread that watches makes of the checker's reports. No checker runs here.

use std::net::Ipv4Addr;

use super::*;
use crate::checker::protocol::Answer;
use crate::config::Config;
use crate::pool::health::{ShutdownSessions, Verdict};
use crate::pool::{Balancing, DestinationStatus, Origin, PolicyKind, PoolSettings};

fn at(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// Two destinations, and a daemon that listens on port 8010.
fn settings() -> Settings {
    let line = ["glbd", "-w", "galera", "-D", "--rise", "1", "--fall", "1", "8010"];
    let options =
        Config::from_command_line(line.map(str::to_owned)).ok().and_then(|mut it| it.pools.remove(0).watchdog);
    let table =
        Pool::new(PoolSettings { avoid_failed_for: Duration::from_secs(1), watched: true, recheck_after: None });
    for address in [at(1), at(2)] {
        table.set(&address.into(), address, 1.0).expect("there is room");
    }
    Settings {
        options: options.expect("a watchdog"),
        credentials: Credentials::default(),
        mark: String::new(),
        table,
        own_addresses: vec![at(8010)].into(),
        closes_sessions: Arc::new(AtomicBool::new(true)),
        on_first_verdicts: Box::new(|| {}),
    }
}

fn watchdog(settings: &Settings) -> Watchdog<'_> {
    Watchdog::new(settings, bounded(1).0)
}

/// The destination at port 1 says this, and names these members.
fn says(verdict: Verdict, members: &[u16]) -> Report {
    let (reason, members) = ("as told".to_owned(), members.iter().map(|port| at(*port)).collect());
    let (absent, members_are_complete, galera) = (false, true, None);
    let finding = Finding::Answer(Answer { verdict, reason, absent, members, members_are_complete, galera });
    Report::Checked { id: 0, address: at(1), finding, took: Duration::ZERO, is_late: false }
}

/// The destinations, as a service would see them.
fn rows(settings: &Settings) -> Vec<DestinationStatus> {
    let balancing =
        Balancing { policy: PolicyKind::LeastConnected, top: false, shutdown_sessions: ShutdownSessions::Elsewhere };
    settings.table.rotation(balancing).snapshot()
}

fn verdicts(settings: &Settings) -> Vec<(u16, Option<Verdict>)> {
    rows(settings).iter().map(|row| (row.address.port(), row.health.verdict)).collect()
}

#[test]
fn only_reports_of_the_checker_that_there_is_count() {
    let settings = settings();
    settings.table.set_checks_note(Some(Reason::new("of an earlier thread")));
    let mut watchdog = watchdog(&settings);
    let now = Instant::now();
    watchdog.hear(Heard::Report(7, says(Verdict::Ready, &[])), now);
    watchdog.hear(Heard::Lost(7, "hangs".to_owned()), now);
    // None is running, which is known already.
    watchdog.hear(Heard::Lost(0, "hangs".to_owned()), now);
    assert_eq!(verdicts(&settings), [(1, None), (2, None)]);
    assert_eq!(settings.table.checks_note().as_deref(), Some("of an earlier thread"));
    watchdog.hear(Heard::Report(0, says(Verdict::Ready, &[])), now);
    assert_eq!(verdicts(&settings), [(1, Some(Verdict::Ready)), (2, None)]);
    assert_eq!(settings.table.checks_note(), None, "checks are made again");
}

#[test]
fn a_checker_that_reports_more_than_it_was_asked_for_is_no_longer_believed() {
    let settings = settings();
    let mut watchdog = watchdog(&settings);
    (0..2).for_each(|_| watchdog.on_report(says(Verdict::Ready, &[]), Instant::now()));
    assert_eq!(settings.table.checks_note(), None);
    watchdog.on_report(says(Verdict::Down, &[]), Instant::now());
    assert_eq!(verdicts(&settings), [(1, Some(Verdict::Ready)), (2, None)]);
    let note = settings.table.checks_note().expect("a note");
    assert_eq!(&*note, "the checker process reports more than it was asked for");
}

#[test]
fn a_report_on_an_address_that_the_destination_has_left_changes_nothing() {
    let settings = settings();
    let mut watchdog = watchdog(&settings);
    let Report::Checked { finding, took, is_late, .. } = says(Verdict::Down, &[]) else { unreachable!() };
    (0..9).for_each(|_| {
        let (finding, address) = (finding.clone(), at(9));
        watchdog.on_report(Report::Checked { id: 0, address, finding, took, is_late }, Instant::now());
    });
    assert_eq!(verdicts(&settings), [(1, None), (2, None)]);
    assert_eq!(settings.table.checks_note(), None, "it may have been under way");
}

#[test]
fn members_are_discovered_but_for_the_daemon_itself_and_go_when_they_have_left() {
    let settings = settings();
    let mut watchdog = watchdog(&settings);
    watchdog.on_report(says(Verdict::Ready, &[1, 2, 3, 8010]), Instant::now());
    let known =
        |settings: &Settings| rows(settings).iter().map(|row| (row.address.port(), row.origin)).collect::<Vec<_>>();
    let by_hand = [(1, Origin::ByHand), (2, Origin::ByHand)];
    assert_eq!(known(&settings), [&by_hand[..], &[(3, Origin::Discovered)]].concat());
    let found = rows(&settings)[2].id;
    watchdog.on_event(Event::Added(found), Instant::now());
    assert!(watchdog.monitor.is_watched(found));
    watchdog.on_report(says(Verdict::Ready, &[1, 2]), Instant::now());
    for place in [1, 2] {
        let id = rows(&settings)[place].id.serial();
        for hour in 1..=8 {
            let finding = Finding::Silence("no answer".to_owned());
            let (address, took) = (at(place as u16 + 1), Duration::ZERO);
            let due = Instant::now() + Duration::from_secs(3600 * hour);
            drop(watchdog.monitor.due(due));
            watchdog.on_report(Report::Checked { id, address, finding, took, is_late: false }, due);
        }
    }
    assert_eq!(known(&settings), by_hand, "one that a hand has added stays");
    watchdog.on_event(Event::Removed(found), Instant::now());
    assert!(!watchdog.monitor.is_watched(found));
}

#[test]
fn what_is_watched_already_is_not_watched_anew_unless_it_has_moved() {
    let settings = settings();
    let mut watchdog = watchdog(&settings);
    watchdog.on_report(says(Verdict::Ready, &[]), Instant::now());
    let (id, ready) = (rows(&settings)[0].id, Some(Verdict::Ready));
    watchdog.on_event(Event::Added(id), Instant::now());
    // Two reports may come of a watch before it is asked for anything, and one has.
    assert!(watchdog.monitor.expects_report(id.serial()) && !watchdog.monitor.expects_report(id.serial()));
    watchdog.on_event(Event::Moved(id, at(9), at(1)), Instant::now());
    assert!(watchdog.monitor.expects_report(id.serial()));
    assert_eq!(verdicts(&settings), [(1, ready), (2, None)]);
}

/// The one that serves may have found the destination fit since, and have new sessions there.
#[test]
fn a_process_that_does_not_serve_yet_closes_no_sessions_and_does_later_what_is_due_then() {
    let mut settings = settings();
    settings.options.shutdown_sessions = ShutdownSessions::Always;
    settings.closes_sessions.store(false, Ordering::Relaxed);
    let (closed, events) = unbounded();
    settings.table.subscribe(Box::new(move |event| {
        if matches!(event, Event::Closed(..)) {
            closed.send(event).expect("a test that listens");
        }
    }));
    let mut watchdog = watchdog(&settings);
    for verdict in [Verdict::Ready, Verdict::Down] {
        watchdog.on_report(says(verdict, &[]), Instant::now());
    }
    assert_eq!((verdicts(&settings)[0].1, events.len()), (Some(Verdict::Down), 0));
    settings.closes_sessions.store(true, Ordering::Relaxed);
    let later = Instant::now() + Duration::from_secs(3600);
    drop(watchdog.monitor.due(later));
    watchdog.on_report(says(Verdict::Down, &[]), later);
    assert_eq!(events.len(), 1);
}
