//! Settings that change while connections go on.

use super::single::{Told, marked, single};
use super::*;

fn rules(policy: PolicyKind) -> Balancing {
    Balancing { policy, top: policy == PolicyKind::Single, shutdown_sessions: ShutdownSessions::Elsewhere }
}

fn settings(watched: bool) -> PoolSettings {
    PoolSettings { avoid_failed_for: Duration::from_secs(2), watched, ..PoolSettings::default() }
}

fn ports(table: &Rotation, count: usize) -> Vec<u16> {
    (0..count).map(|_| pick(table).address().port()).collect()
}

#[test]
fn another_policy_applies_to_new_clients_and_counts_go_on() {
    let table = table(PolicyKind::Single, &[1.0, 1.0]);
    let sessions: Vec<Lease> = (0..4).map(|_| pick(&table)).collect();
    assert_eq!(sessions.iter().map(|it| it.address().port()).collect::<Vec<_>>(), [1; 4]);
    table.rebalance(rules(PolicyKind::LeastConnected));
    let more: Vec<Lease> = (0..4).map(|_| pick(&table)).collect();
    assert_eq!(more.iter().map(|it| it.address().port()).collect::<Vec<_>>(), [2; 4], "the first has four already");
    table.rebalance(rules(PolicyKind::RoundRobin));
    drop((sessions, more));
    assert_eq!(table.connections(), 0);
    let mut turns = ports(&table, 4);
    turns.sort();
    assert_eq!(turns, [1, 1, 2, 2]);
}

#[test]
fn a_writer_stays_where_it_is_and_its_sessions_are_closed_when_it_moves_later() {
    let table = single(&[1.0, 1.0]);
    let session = pick(&table);
    assert_eq!(marked(&table), Some(1));
    table.rebalance(Balancing { top: false, ..rules(PolicyKind::Single) });
    assert_eq!(marked(&table), Some(1));
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Down);
    assert_eq!((told.closed(), marked(&table)), (vec![1], Some(2)));
    drop(session);
    assert_eq!(pick(&table).address().port(), 2);
}

#[test]
fn one_that_becomes_a_writer_closes_what_it_had_there_when_it_moves() {
    let table = watched(PolicyKind::RoundRobin, &[2.0, 1.0]);
    let _session = pick(&table);
    table.rebalance(rules(PolicyKind::Single));
    assert_eq!(pick(&table).address().port(), 1);
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Down);
    assert_eq!(told.closed(), [1]);
}

#[test]
fn where_a_watchdog_comes_destinations_stay_fit_until_it_has_judged_them() {
    let table = table(PolicyKind::RoundRobin, &[1.0, 1.0]);
    table.configure(settings(true));
    assert_eq!(ports(&table, 2).len(), 2);
    judge(&table, 1, Verdict::Down);
    assert_eq!(ports(&table, 2), [2, 2]);
}

#[test]
fn where_the_watchdog_goes_all_are_fit() {
    for policy in [PolicyKind::RoundRobin, PolicyKind::Single] {
        let table = watched(policy, &[1.0, 1.0]);
        judge(&table, 1, Verdict::Down);
        judge(&table, 2, Verdict::Down);
        table.set_checks_note(Some(Reason::new("the checker is gone")));
        table.configure(settings(false));
        assert!(pick(&table).address().port() > 0);
        assert_eq!(table.checks_note(), None);
        assert!(table.snapshot().iter().all(|it| it.health.verdict == Some(Verdict::Ready)));
    }
}

#[test]
fn a_writer_stays_the_same_when_the_watchdog_comes_and_goes() {
    let table = table(PolicyKind::Single, &[1.0, 1.0, 1.0]);
    table.switch_single(at(2), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit");
    for watched in [true, false, true] {
        table.configure(settings(watched));
        assert_eq!((pick(&table).address().port(), marked(&table)), (2, Some(2)), "{watched}");
    }
}

#[test]
fn a_move_that_is_under_way_ends_when_nothing_is_single_any_more() {
    let table = table(PolicyKind::Single, &[1.0, 1.0]);
    let _session = pick(&table);
    let (answer, answered) = std::sync::mpsc::channel();
    let done = Box::new(move |result| answer.send(result).expect("it is waited for"));
    table.switch_single(at(2), Duration::from_secs(9), Instant::now(), done).expect("it is fit");
    assert!(super::single::waits(&table));
    table.rebalance(rules(PolicyKind::RoundRobin));
    assert_eq!(answered.try_recv(), Ok(Err("cancelled: nothing is single any more".to_owned())));
    assert!(!super::single::waits(&table));
}
