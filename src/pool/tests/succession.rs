//! The single destination when another process takes over.

use super::single::{Told, finds_nothing, marked, single, waits};
use super::*;

fn switch(table: &Rotation, port: u16, grace: u64) {
    let grace = Duration::from_secs(grace);
    table.switch_single(at(port), grace, clock::now(), Box::new(|_| {})).expect("it is fit");
}

/// Goes on with a table, and counts what the process before has.
fn successor(table: &Rotation) -> Rotation {
    let next = table_of(Given { watched: true, ..balancing(PolicyKind::Single) });
    hand_over(table, &next);
    for it in table.snapshot() {
        set_elsewhere(&next, it.address, it.connections);
    }
    next
}

#[test]
fn the_single_destination_and_the_choice_of_a_hand_are_kept() {
    let table = single(&[2.0, 1.0]);
    table.elect_single();
    switch(&table, 2, 0);
    let next = successor(&successor(&table));
    assert_eq!((marked(&next), short(&next)), (Some(2), 2));
    judge(&next, 1, Verdict::Ready);
    assert_eq!(short(&next), 2, "it outweighs the other");
}

#[test]
fn a_move_goes_on_in_the_new_process() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    switch(&table, 2, 10);
    clock::advance(Duration::from_secs(4));
    let next = successor(&table);
    let told = Told::by(&next);
    assert!(waits(&next));
    clock::advance(Duration::from_secs(5));
    next.advance_switchover(clock::now());
    assert_eq!((waits(&next), told.take()), (true, vec![]));
    clock::advance(Duration::from_secs(1));
    next.advance_switchover(clock::now());
    assert_eq!(told.closed(), [1]);
    assert!(waits(&successor(&next)), "after one more, while the session is still there");
    set_elsewhere(&next, at(1), 0);
    assert_eq!(short(&next), 2);
    drop(session);
}

#[test]
fn clients_that_wait_in_the_old_process_go_where_the_new_one_says() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    switch(&table, 2, 10);
    table.follow_successor();
    let told = Told::by(&table);
    clock::advance(Duration::from_secs(60));
    table.advance_switchover(clock::now());
    assert!(waits(&table), "only the new one decides now");
    assert_eq!(told.take(), []);
    table.close_sessions(at(1));
    assert_eq!((waits(&table), told.closed()), (true, vec![1]));
    assert_eq!(table.own_connections(), [(at(1), 1)], "it counts until it has ended");
    table.follow_single(at(2));
    assert_eq!(told.take().last(), Some(&Event::Settled));
    assert_eq!(short(&table), 2);
    drop(session);
}

#[test]
fn the_old_process_does_not_choose_by_itself() {
    let table = single(&[2.0, 1.0]);
    table.elect_single();
    table.follow_successor();
    judge(&table, 1, Verdict::Down);
    assert!(finds_nothing(&table));
    table.close_sessions(at(1));
    assert!(waits(&table));
    clock::advance(Duration::from_secs(5));
    table.advance_switchover(clock::now());
    assert!(finds_nothing(&table), "the new one has not said anything");
}

#[test]
fn without_the_new_process_nothing_waits() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    switch(&table, 2, 10);
    table.follow_successor();
    assert!(waits(&table));
    table.follow_nobody();
    assert!(!waits(&table));
    drop(session);
}

#[test]
fn sessions_elsewhere_on_others_than_the_single_one_are_closed_once_more() {
    let table = single(&[1.0, 1.0, 1.0]);
    assert_eq!(table.strays(), []);
    table.elect_single();
    (1..=2).for_each(|port| set_elsewhere(&table, at(port), 1));
    assert_eq!(table.strays(), [at(2)]);
}

#[test]
fn sessions_elsewhere_on_a_former_that_is_being_closed_are_closed_once_more() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    switch(&table, 2, 10);
    assert_eq!(table.strays(), [], "they may still end by themselves");
    clock::advance(Duration::from_secs(10));
    table.advance_switchover(clock::now());
    assert_eq!(table.strays(), [at(1)]);
    drop(session);
    assert_eq!(table.strays(), []);
}

#[test]
fn without_a_watchdog_the_next_process_keeps_to_the_destination_too() {
    let table = table(PolicyKind::Single, &[1.0, 1.0]);
    pick(&table).failed(clock::now());
    assert_eq!(short(&table), 2);
    let next = table_of(balancing(PolicyKind::Single));
    hand_over(&table, &next);
    assert_eq!((marked(&next), short(&next)), (Some(2), 2));
}

/// The former is gone from the table, and the move still waits for its connections.
#[test]
fn a_move_away_from_one_that_was_removed_goes_on() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    table.remove(at(1)).expect("it is there");
    let next = successor(&table);
    set_elsewhere(&next, at(1), 1);
    assert!(waits(&next));
    set_elsewhere(&next, at(1), 0);
    assert_eq!(short(&next), 2);
    drop(session);
}
