//! Destinations that take clients only while no other one is as fit.

use std::collections::HashMap;

use super::single::{Told, marked};
use super::*;

/// Destinations, of which those at these ports are backups.
fn with_backups(policy: PolicyKind, weights: &[f64], backups: &[u16]) -> Rotation {
    let table = watched(policy, weights);
    table.set_backups(backups.iter().map(|port| (at(*port).into(), 1)).collect());
    table
}

fn ports(table: &Rotation, count: usize) -> Vec<u16> {
    let mut ports: Vec<u16> = (0..count).map(|_| pick(table).address().port()).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn backups_serve_while_no_other_one_is_ready_and_before_those_that_are_spare() {
    let table = with_backups(PolicyKind::RoundRobin, &[1.0; 4], &[3, 4]);
    assert_eq!(ports(&table, 4), [1, 1, 2, 2]);
    judge(&table, 1, Verdict::Down);
    assert_eq!(ports(&table, 2), [2, 2]);
    judge(&table, 2, Verdict::Spare);
    assert_eq!(ports(&table, 4), [3, 3, 4, 4]);
    judge(&table, 3, Verdict::Down);
    judge(&table, 4, Verdict::Spare);
    assert_eq!(ports(&table, 2), [2, 2], "of the SPARE ones, backups come last");
    judge(&table, 1, Verdict::Ready);
    assert_eq!(ports(&table, 2), [1, 1]);
}

#[test]
fn backups_with_numbers_serve_one_after_the_other() {
    let table = watched(PolicyKind::RoundRobin, &[1.0; 4]);
    table.set_backups([(2, 2), (3, 1), (4, 16)].map(|(port, number)| (at(port).into(), number)).into());
    for (port, next) in [(1, 3), (3, 2), (2, 4)] {
        assert_eq!(ports(&table, 2), [port; 2]);
        judge(&table, port, Verdict::Spare);
        assert_eq!(ports(&table, 2), [next; 2], "a backup that is READY comes before those that are SPARE");
    }
    judge(&table, 4, Verdict::Spare);
    assert_eq!(ports(&table, 2), [1, 1]);
}

#[test]
fn sessions_on_backups_are_closed_if_asked_for_once_one_that_comes_before_them_is_ready_again() {
    let table = watched(PolicyKind::RoundRobin, &[1.0; 4]);
    table.set_backups([(3, 1), (4, 2)].map(|(port, number)| (at(port).into(), number)).into());
    (1..4).for_each(|port| judge(&table, port, Verdict::Down));
    let _on_the_last = pick(&table);
    judge(&table, 3, Verdict::Ready);
    let _on_the_third = pick(&table);
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Ready);
    assert_eq!(told.closed(), [0u16; 0], "not unless it is asked for");
    judge(&table, 1, Verdict::Down);
    table.configure(PoolSettings { watched: true, shutdown_backup_sessions: true, ..PoolSettings::default() });
    judge(&table, 3, Verdict::Down);
    judge(&table, 3, Verdict::Ready);
    assert_eq!(told.closed(), [4], "a backup of a lower number comes before it");
    judge(&table, 1, Verdict::Spare);
    assert_eq!(told.closed(), [0u16; 0], "it is not READY");
    judge(&table, 1, Verdict::Ready);
    assert_eq!(told.closed(), [3, 4]);
    judge(&table, 1, Verdict::Ready);
    assert_eq!(told.closed(), [0u16; 0], "it has been READY before");
    judge(&table, 2, Verdict::Ready);
    assert_eq!(told.closed(), [3, 4], "as in HAProxy");
}

#[test]
fn a_writer_goes_to_the_backup_of_the_lowest_number() {
    let table = watched(PolicyKind::Single, &[1.0, 9.0, 1.0]);
    table.set_backups([(2, 2), (3, 1)].map(|(port, number)| (at(port).into(), number)).into());
    drop(pick(&table));
    judge(&table, 1, Verdict::Down);
    assert_eq!(marked(&table), Some(3));
    judge(&table, 3, Verdict::Down);
    assert_eq!(marked(&table), Some(2));
    judge(&table, 3, Verdict::Ready);
    assert_eq!(marked(&table), Some(3));
}

#[test]
fn a_client_that_has_tried_all_others_in_vain_gets_a_backup() {
    let table = with_backups(PolicyKind::LeastConnected, &[1.0; 3], &[3]);
    let mut tried = Tried::default();
    let mut next = || {
        let lease = table.pick(client(1), &mut tried, Instant::now()).leased().expect("one is left");
        tried.add(lease.id());
        lease.address().port()
    };
    let mut first = [next(), next()];
    first.sort_unstable();
    assert_eq!((first, next()), ([1, 2], 3));
}

#[test]
fn a_writer_goes_to_a_backup_when_nothing_else_is_ready_and_back() {
    let table = with_backups(PolicyKind::Single, &[1.0, 9.0], &[2]);
    let _session = pick(&table);
    assert_eq!(marked(&table), Some(1), "however much the backup weighs");
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Down);
    assert_eq!((told.closed(), marked(&table)), (vec![1], Some(2)));
    judge(&table, 1, Verdict::Ready);
    assert_eq!(marked(&table), Some(1));
}

#[test]
fn a_backup_that_a_hand_has_chosen_stays_the_writer() {
    let table = with_backups(PolicyKind::Single, &[1.0, 1.0], &[2]);
    drop(pick(&table));
    table.switch_single(at(2), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit");
    judge(&table, 1, Verdict::Down);
    judge(&table, 1, Verdict::Ready);
    assert_eq!(marked(&table), Some(2));
}

#[test]
fn what_is_wanted_otherwise_as_well_is_no_backup() {
    let table = table(PolicyKind::RoundRobin, &[]);
    let [primary, backup] = ["db1", "db2"].map(|name| Endpoint { host: Host::Name(name.to_owned()), port: 3306 });
    table.set_backups(HashMap::from([(backup.clone(), 1), (at(3).into(), 1)]));
    table.give(&backup, at(1), 1.0).expect("there is room");
    add(&table, 2, 1.0);
    add(&table, 3, 1.0);
    let backups = || {
        let rows = table.snapshot().into_iter().filter(|row| row.backup > 0);
        rows.map(|row| row.address.port()).collect::<Vec<_>>()
    };
    assert_eq!(backups(), [1, 3]);
    table.give(&primary, at(1), 1.0).expect("there is room");
    assert_eq!(backups(), [3]);
    table.dismiss(&primary);
    assert_eq!(backups(), [1, 3]);
    table.set_backups(HashMap::new());
    assert_eq!(backups(), [0; 0]);
}
