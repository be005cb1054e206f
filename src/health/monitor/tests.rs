//! The monitor in simulated time: here, when the sessions of destinations that have fallen are closed.

use std::net::Ipv4Addr;
use std::ops::Range;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::address::PeerAddress;
use crate::config::Config;
use crate::pool::{Balancing, DestinationStatus, PolicyKind, Pool, PoolSettings, Rotation};

mod agents;
mod checks;
mod reports;
mod weights;

fn options(arguments: &str) -> WatchdogOptions {
    let line = format!("glbd {arguments} 8010");
    let mut config = Config::from_command_line(line.split_whitespace().map(str::to_owned)).expect("a command line");
    config.pools.remove(0).watchdog.expect("a watchdog")
}

fn address(place: usize) -> PeerAddress {
    PeerAddress::from((Ipv4Addr::LOCALHOST, place as u16 + 1))
}

fn table(count: usize, options: &WatchdogOptions) -> Rotation {
    let table =
        Pool::new(PoolSettings { avoid_failed_for: options.interval, watched: true, ..PoolSettings::default() })
            .rotation(Balancing {
                policy: PolicyKind::LeastConnected,
                top: false,
                shutdown_sessions: options.shutdown_sessions,
            });
    for address in (0..count).map(address) {
        table.set(&address.into(), address, 1.0).expect("there is room");
    }
    table
}

/// As many as this, numbered by their places.
fn destinations(count: usize) -> Vec<DestinationStatus> {
    table(count, &options("-w tcp")).snapshot()
}

/// What a destination says when it is asked in a certain millisecond, and how many it takes to.
type Script = Box<dyn Fn(u64) -> (Says, u64)>;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Says {
    Word(Verdict),
    Nothing,
    /// It cannot be asked, for lack of something here.
    Shortage,
}

const READY: Says = Says::Word(Verdict::Ready);
const DOWN: Says = Says::Word(Verdict::Down);

/// Destinations, by their places.
struct Simulation {
    table: Rotation,
    monitor: Monitor,
    scripts: Vec<Script>,
    start: Instant,
    now: Instant,
    /// When a report comes, on which check, begun when.
    under_way: Vec<(Instant, u64, Says, Instant)>,
    /// Whose sessions were closed, and in which millisecond.
    closed: Vec<(usize, u64)>,
    /// Who was DOWN, and from which millisecond on.
    fallen: Vec<(usize, u64)>,
}

impl Simulation {
    fn new(arguments: &str, scripts: Vec<Script>, phases: &[f64]) -> Simulation {
        let (start, options) = (Instant::now(), options(&format!("-w tcp {arguments}")));
        let table = table(scripts.len(), &options);
        let mut monitor = Monitor::new(options);
        for (row, phase) in table.snapshot().into_iter().zip(phases.iter().cycle()) {
            monitor.watch(row.id, row.address, row.health, *phase, start);
        }
        let (under_way, closed, fallen) = (Vec::new(), Vec::new(), Vec::new());
        Simulation { table, monitor, scripts, start, now: start, under_way, closed, fallen }
    }

    /// Goes on until this millisecond.
    fn run(mut self, milliseconds: u64) -> Simulation {
        let end = self.start + Duration::from_millis(milliseconds);
        loop {
            let first = self.under_way.iter().enumerate().min_by_key(|(_, report)| report.0);
            let first = first.map(|(index, report)| (report.0, index));
            let next = first.map(|(at, _)| at).into_iter().chain(self.monitor.next_deadline()).min();
            let Some(next) = next.filter(|next| *next < end) else { return self };
            // What is asked for at once takes a moment all the same.
            self.now = self.now.max(next) + Duration::from_micros(20);
            match first {
                Some((at, index)) if at <= self.now => {
                    let (_, id, says, asked) = self.under_way.swap_remove(index);
                    self.report(id, says, asked);
                }
                _ => {
                    for (id, _) in self.monitor.due(self.now).checks {
                        let id = id.serial();
                        let (says, takes) = self.scripts[id as usize](self.millisecond());
                        self.under_way.push((self.now + Duration::from_millis(takes), id, says, self.now));
                    }
                }
            }
        }
    }

    fn millisecond(&self) -> u64 {
        self.now.duration_since(self.start).as_millis() as u64
    }

    fn report(&mut self, id: u64, says: Says, asked: Instant) {
        let (reason, members) = ("as told".to_owned(), Vec::new());
        let finding = match says {
            Says::Word(verdict) => {
                let (absent, members_are_complete, galera) = (false, true, None);
                Finding::Answer(Answer { verdict, reason, absent, members, members_are_complete, galera })
            }
            Says::Nothing => Finding::Silence(reason),
            Says::Shortage => Finding::Shortage(reason),
        };
        let timing = Timing { took: self.now.duration_since(asked), is_late: false };
        let judgement = self.monitor.report(id, &finding, timing, self.now).expect("it is watched");
        let Judgement { id, address, health, fit, changed_from, .. } = judgement;
        if changed_from.is_some() && health.verdict == Some(Verdict::Down) {
            self.fallen.push((id.serial() as usize, self.millisecond()));
        }
        self.table.judge(id, address, health, fit);
        for ToBeClosed { id, elsewhere, .. } in self.monitor.to_be_closed(id.serial()) {
            if self.table.close_fallen(id, elsewhere.as_deref()).is_some() {
                self.monitor.sessions_are_closed(id);
                self.closed.push((id.serial() as usize, self.millisecond()));
            }
        }
    }

    /// In which millisecond the only sessions that were closed were those of this one.
    fn closed_only(&self, place: usize) -> u64 {
        match self.closed[..] {
            [(closed, at)] if closed == place => at,
            _ => panic!("{:?}", self.closed),
        }
    }
}

fn good() -> Script {
    while_in(0..0, DOWN, 0)
}

/// In these milliseconds it says this, and takes so long to; otherwise it is READY.
fn while_in(when: Range<u64>, says: Says, takes: u64) -> Script {
    Box::new(move |now| if when.contains(&now) { (says, takes) } else { (READY, 3) })
}

fn bad(when: Range<u64>) -> Script {
    while_in(when, DOWN, 3)
}

/// Many ways in which the checks of two destinations lie to each other.
fn phases() -> impl Iterator<Item = [f64; 2]> {
    (0..100).map(|number| [f64::from(number % 10) / 10.0, f64::from(number / 10) / 10.0])
}

#[test]
fn one_that_falls_alone_loses_its_sessions_when_it_is_down() {
    for (options, down) in [("-i 1", 500), ("-i 20", 10_000), ("-i 20 --fall 1", 0), ("-i 1 --fall 1", 0)] {
        let simulation = Simulation::new(options, vec![good(), bad(40_000..u64::MAX), good()], &[0.0]).run(90_000);
        let at = simulation.closed_only(1);
        assert!((40_000 + down..40_000 + down + 200).contains(&at), "{options}: {at}");
    }
}

/// Also when they do so one after the other, and are silent rather than bad.
#[test]
fn those_that_fall_together_lose_no_sessions_although_they_are_not_asked_at_the_same_time() {
    for (interval, later, long) in [(1, 0, 3000), (1, 300, 5000), (5, 1000, 15_000), (20, 5000, 60_000)] {
        for phases in phases() {
            for says in [DOWN, Says::Nothing] {
                let away = |from: u64| while_in(from..100_000 + long, says, 1);
                let scripts = vec![away(100_000), away(100_000 + later)];
                let simulation = Simulation::new(&format!("-i {interval}"), scripts, &phases).run(220_000);
                assert_eq!(simulation.closed, [], "-i {interval}, {later} ms later, {phases:?}, {says:?}");
            }
        }
    }
}

#[test]
fn one_that_stays_down_when_another_comes_back_loses_them_after_a_second() {
    for (interval, until_ready) in [(1, 2), (20, 30)] {
        for phases in phases() {
            let scripts = vec![bad(100_000..200_000), bad(100_000..u64::MAX)];
            let at = Simulation::new(&format!("-i {interval}"), scripts, &phases).run(300_000).closed_only(1);
            assert!((201_000..202_100 + 1000 * until_ready).contains(&at), "-i {interval}, {phases:?}: {at}");
        }
    }
}

#[test]
fn one_that_could_not_be_asked_since_another_came_back_keeps_them_until_it_is() {
    for phases in phases() {
        let lacking: Script = Box::new(|now| match now {
            10_000..15_300 => (DOWN, 3),
            15_300..18_000 => (Says::Shortage, 3),
            _ => (READY, 3),
        });
        assert_eq!(Simulation::new("-i 1", vec![bad(10_000..15_000), lacking], &phases).run(40_000).closed, []);
    }
}

#[test]
fn one_whose_good_answer_is_under_way_keeps_them() {
    for phases in phases() {
        let slow: Script = Box::new(|now| match now {
            100_000..150_500 => (DOWN, 3),
            150_500.. => (READY, 50),
            _ => (READY, 3),
        });
        let scripts = vec![bad(100_000..150_000), slow];
        assert_eq!(Simulation::new("-i 5 --rise 1", scripts, &phases).run(220_000).closed, []);
    }
}

#[test]
fn a_moments_silence_of_many_takes_none_of_them_out() {
    for number in 0..20 {
        let phases: Vec<f64> =
            (0..20).map(|place| f64::from((place * 7919 + number * 104_729) % 1000) / 1000.0).collect();
        let scripts = (0..20).map(|_| while_in(100_000..103_000, Says::Nothing, 1)).collect();
        let simulation = Simulation::new("-i 20", scripts, &phases).run(140_000);
        assert_eq!(simulation.fallen, [], "no check comes sooner than it would have");
    }
}

#[test]
fn they_are_closed_at_once_or_never_where_that_is_asked_for() {
    let both = || vec![bad(10_000..20_000), bad(10_000..20_000)];
    let closed = Simulation::new("--shutdown-sessions always", both(), &[0.3, 0.8]).run(60_000).closed;
    assert_eq!(closed.len(), 2);
    assert!(closed.iter().all(|(_, at)| *at < 12_000), "{closed:?}");
    let one = vec![good(), bad(10_000..u64::MAX)];
    assert_eq!(Simulation::new("--shutdown-sessions never", one, &[0.3]).run(60_000).closed, []);
}

proptest! {
    #[test]
    fn whoever_is_away_together_and_back_within_a_second_loses_no_session(
        // Long enough for everybody to be asked.
        away in 1100..6000u64,
        back in proptest::collection::vec((0..1000u64, 0.0..1.0), 1..6),
    ) {
        let scripts = back.iter().map(|(later, _)| bad(10_000..10_000 + away + later)).collect();
        let phases: Vec<f64> = back.iter().map(|(_, phase)| *phase).collect();
        prop_assert_eq!(Simulation::new("-i 1", scripts, &phases).run(40_000).closed, []);
    }

    #[test]
    fn whoever_stays_away_loses_them_once_whatever_the_others_do(
        others in proptest::collection::vec((10_000..20_000u64, 0..10_000u64, 0.0..1.0), 1..6),
        phase in 0.0..1.0,
    ) {
        let mut scripts: Vec<_> = others.iter().map(|(from, long, _)| bad(*from..from + long)).collect();
        let mut phases: Vec<f64> = others.iter().map(|(.., phase)| *phase).collect();
        scripts.push(bad(10_000..u64::MAX));
        phases.push(phase);
        let closed = Simulation::new("-i 1", scripts, &phases).run(60_000).closed;
        prop_assert_eq!(closed.iter().filter(|(place, _)| *place == others.len()).count(), 1, "{:?}", closed);
    }
}
