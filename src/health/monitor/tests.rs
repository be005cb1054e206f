//! When the sessions of destinations that have fallen are closed, in simulated time.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::Config;
use crate::table::{Balancing, PolicyKind, Table};

/// Between a check and its report.
const TAKES: Duration = Duration::from_millis(3);

/// What destinations say that are bad from one millisecond to another.
struct Simulation {
    table: Table,
    monitor: Monitor,
    bad: Vec<Range<u64>>,
    start: Instant,
    /// Whose sessions were closed, by its place, and in which millisecond.
    closed: Vec<(usize, u64)>,
}

impl Simulation {
    fn new(arguments: &str, bad: &[Range<u64>], phases: &[f64]) -> Simulation {
        let line = format!("glbd -w tcp {arguments} 8010");
        let config = Config::from_command_line(line.split_whitespace().map(str::to_owned)).expect("a command line");
        let (start, options) = (Instant::now(), config.watchdog.expect("a watchdog"));
        let table = Table::new(Balancing {
            policy: PolicyKind::LeastConnected,
            top: false,
            avoid_failed_for: options.interval,
            watched: true,
            recheck_after: None,
            shutdown_sessions: options.shutdown_sessions,
        });
        let mut monitor = Monitor::new(options);
        for place in 0..bad.len() {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, place as u16 + 1));
            table.set(&address.into(), address, 1.0).expect("there is room");
        }
        for (row, phase) in table.snapshot().into_iter().zip(phases.iter().cycle()) {
            monitor.watch(row.id, row.address, row.health, *phase, start);
        }
        Simulation { table, monitor, bad: bad.to_vec(), start, closed: Vec::new() }
    }

    /// Whose sessions are closed, by its place, and in which millisecond.
    fn run(mut self, milliseconds: u64) -> Vec<(usize, u64)> {
        let end = self.start + Duration::from_millis(milliseconds);
        while let Some(now) = self.monitor.next_deadline().filter(|now| *now < end) {
            let checks = self.monitor.due(now).checks;
            checks.into_iter().for_each(|(id, _)| self.report(id, now));
        }
        self.closed
    }

    fn report(&mut self, id: u64, asked: Instant) {
        let place = id as usize;
        let is_bad = self.bad[place].contains(&(asked.duration_since(self.start).as_millis() as u64));
        let verdict = if is_bad { Verdict::Down } else { Verdict::Ready };
        let now = asked + TAKES;
        let (reason, members) = ("as told".to_owned(), Vec::new());
        let answer = Answer { verdict, reason, absent: false, members, members_are_complete: true, galera: None };
        let judgement = self.monitor.report(id, &Finding::Answer(answer), Timing { took: TAKES, is_late: false }, now);
        let Judgement { id, address, health, fit, .. } = judgement.expect("it is watched");
        self.table.judge(id, address, health, fit);
        for ToBeClosed { id, elsewhere, .. } in self.monitor.to_be_closed(id.serial()) {
            if self.table.close_fallen(id, elsewhere.as_deref()).is_some() {
                self.monitor.sessions_are_closed(id);
                self.closed.push((id.serial() as usize, now.duration_since(self.start).as_millis() as u64));
            }
        }
    }
}

const NEVER: Range<u64> = 0..0;

#[test]
fn one_that_falls_alone_loses_its_sessions_when_it_is_down() {
    for interval in ["1", "20"] {
        let closed = Simulation::new(&format!("-i {interval}"), &[NEVER, 40_000..u64::MAX, NEVER], &[0.0]).run(90_000);
        let [(1, at)] = closed[..] else { panic!("{closed:?}") };
        let interval: u64 = interval.parse().expect("a number");
        assert!((40_000..40_000 + 520 * interval).contains(&at), "{at}");
    }
}

#[test]
fn those_that_fall_together_lose_none_although_they_are_not_asked_at_the_same_time() {
    // The second would be asked again only after the first is DOWN.
    let closed = Simulation::new("-i 1", &[10_001..15_000, 10_001..15_000], &[0.3, 0.9]).run(60_000);
    assert_eq!(closed, []);
}

#[test]
fn one_that_stays_down_when_another_comes_back_loses_them_after_a_second() {
    let closed = Simulation::new("-i 1", &[10_000..20_000, 10_000..u64::MAX], &[0.3, 0.8]).run(60_000);
    let [(1, at)] = closed[..] else { panic!("{closed:?}") };
    assert!((21_000..24_000).contains(&at), "{at}");
}

#[test]
fn they_are_closed_at_once_or_never_where_that_is_asked_for() {
    let both_bad = [10_000..20_000, 10_000..20_000];
    let closed = Simulation::new("--shutdown-sessions always", &both_bad, &[0.3, 0.8]).run(60_000);
    assert_eq!(closed.len(), 2);
    assert!(closed.iter().all(|(_, at)| *at < 12_000), "{closed:?}");
    let closed = Simulation::new("--shutdown-sessions never", &[NEVER, 10_000..u64::MAX], &[0.3]).run(60_000);
    assert_eq!(closed, []);
}

proptest! {
    #[test]
    fn whoever_is_away_together_and_back_within_a_second_loses_no_session(
        // Long enough for everybody to be asked.
        away in 1100..6000u64,
        back in proptest::collection::vec((0..1000u64, 0.0..1.0), 1..6),
    ) {
        let bad: Vec<_> = back.iter().map(|(later, _)| 10_000..10_000 + away + later).collect();
        let phases: Vec<f64> = back.iter().map(|(_, phase)| *phase).collect();
        prop_assert_eq!(Simulation::new("-i 1", &bad, &phases).run(40_000), []);
    }

    #[test]
    fn whoever_stays_away_loses_them_once_whatever_the_others_do(
        others in proptest::collection::vec((10_000..20_000u64, 0..10_000u64, 0.0..1.0), 1..6),
        phase in 0.0..1.0,
    ) {
        let mut bad: Vec<_> = others.iter().map(|(from, long, _)| *from..from + long).collect();
        let mut phases: Vec<f64> = others.iter().map(|(.., phase)| *phase).collect();
        bad.push(10_000..u64::MAX);
        phases.push(phase);
        let closed = Simulation::new("-i 1", &bad, &phases).run(60_000);
        prop_assert_eq!(closed.iter().filter(|(place, _)| *place == others.len()).count(), 1, "{:?}", closed);
    }
}
