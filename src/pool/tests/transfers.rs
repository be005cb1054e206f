//! Moves of the single destination by hand.

use std::sync::Mutex;

use super::single::{Told, marked, single, waits};
use super::*;

/// How a move has ended; `None` while it is under way.
#[derive(Clone, Default)]
pub(super) struct Outcome(Arc<Mutex<Vec<Result<(), String>>>>);

impl Outcome {
    pub(super) fn take(&self) -> Option<Result<(), String>> {
        let mut all = self.0.lock().expect("no panic");
        assert!(all.len() <= 1, "told once: {all:?}");
        all.pop()
    }

    pub(super) fn done(&self) -> SwitchDone {
        let outcome = self.clone();
        Box::new(move |result| outcome.0.lock().expect("no panic").push(result))
    }
}

fn switch(table: &Rotation, port: u16, grace: u64) -> Outcome {
    let outcome = Outcome::default();
    let begun = table.switch_single(at(port), Duration::from_secs(grace), clock::now(), outcome.done());
    assert_eq!(begun, Ok(()));
    outcome
}

fn refusal(table: &Rotation, port: u16) -> String {
    let done: SwitchDone = Box::new(|_| panic!("it has not begun"));
    table.switch_single(at(port), Duration::ZERO, clock::now(), done).expect_err("it is refused").to_string()
}

pub(super) fn pass(table: &Rotation, time: Duration) {
    clock::advance(time);
    table.advance_switchover(clock::now());
}

#[test]
fn clients_wait_until_the_sessions_on_the_former_have_ended_by_themselves() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    let told = Told::by(&table);
    let moved = switch(&table, 2, 10);
    assert!(waits(&table));
    assert_eq!((told.take(), marked(&table)), (vec![], Some(1)), "nothing is closed");
    pass(&table, Duration::from_secs(9));
    assert!(waits(&table));
    assert_eq!(moved.take(), None);
    drop(session);
    assert_eq!(moved.take(), Some(Ok(())));
    assert_eq!(short(&table), 2);
    assert_eq!(told.take().last(), Some(&Event::Settled));
}

#[test]
fn after_the_grace_sessions_are_closed_and_only_then_the_next_serves() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    let told = Told::by(&table);
    let moved = switch(&table, 2, 10);
    pass(&table, Duration::from_secs(10));
    assert_eq!(told.take(), [Event::Closed(session.id(), at(1), Some(table.id()))]);
    assert!(waits(&table));
    assert_eq!(moved.take(), None);
    drop(session);
    assert_eq!((moved.take(), short(&table)), (Some(Ok(())), 2));
    let hung = pick(&table);
    let back = switch(&table, 1, 0);
    assert_eq!(told.closed(), [2], "no grace was given");
    pass(&table, Duration::from_secs(2));
    assert_eq!((back.take(), short(&table)), (Some(Ok(())), 1));
    drop(hung);
}

#[test]
fn with_nothing_to_wait_for_it_moves_at_once() {
    for table in [single(&[2.0, 1.0]), table(PolicyKind::Single, &[2.0, 1.0])] {
        assert_eq!(short(&table), 1);
        let moved = switch(&table, 2, 3600);
        assert_eq!((moved.take(), short(&table), marked(&table)), (Some(Ok(())), 2, Some(2)));
        assert_eq!(switch(&table, 2, 3600).take(), Some(Ok(())), "it is there already");
    }
}

#[test]
fn the_choice_of_a_hand_outweighs_all_that_there_is_until_it_falls() {
    let table = single(&[2.0, 1.0, 3.0]);
    judge(&table, 3, Verdict::Down);
    table.elect_single();
    switch(&table, 2, 0);
    judge(&table, 3, Verdict::Ready);
    assert_eq!(short(&table), 2, "though a heavier one returns");
    assert_eq!(table.chosen().map(|(_, address)| address), Some(at(2)));
    judge(&table, 2, Verdict::Down);
    assert_eq!((short(&table), table.chosen()), (3, None));
    judge(&table, 2, Verdict::Ready);
    assert_eq!(short(&table), 3, "the choice is forgotten");
    switch(&table, 2, 0);
    add(&table, 1, 3.5);
    assert_eq!((short(&table), table.chosen()), (1, None), "a weight was set above all that there were");
}

#[test]
fn without_a_watchdog_the_choice_holds_until_a_connect_fails() {
    let table = table(PolicyKind::Single, &[2.0, 1.0]);
    let session = pick(&table);
    let told = Told::by(&table);
    let moved = switch(&table, 2, 10);
    assert!(waits(&table));
    pass(&table, Duration::from_secs(10));
    assert_eq!(told.closed(), [1], "a move by hand closes sessions also there");
    drop(session);
    assert_eq!(moved.take(), Some(Ok(())));
    assert!((0..5).all(|_| short(&table) == 2));
    told.take();
    pick(&table).failed(clock::now());
    assert!(told.take().contains(&Event::Settled), "the choice is news, and so is its end");
    assert_eq!((short(&table), table.chosen()), (1, None));
    pick(&table).failed(clock::now());
    assert!(!told.take().contains(&Event::Settled), "it was no choice");
}

#[test]
fn one_that_falls_while_sessions_may_still_end_cancels_the_move() {
    let changes: [fn(&Rotation); 4] = [
        |table| judge(table, 2, Verdict::Down),
        |table| judge(table, 2, Verdict::Spare),
        |table| assert!(table.drain(at(2)).is_ok()),
        |table| assert!(table.remove(at(2)).is_ok()),
    ];
    for change in changes {
        let table = single(&[2.0, 1.0]);
        let session = pick(&table);
        let moved = switch(&table, 2, 10);
        let told = Told::by(&table);
        change(&table);
        assert!(moved.take().is_some_and(|result| result.is_err_and(|reason| reason.starts_with("cancelled: "))));
        assert_eq!((short(&table), marked(&table)), (1, Some(1)));
        let events = told.take();
        assert!(events.contains(&Event::Settled), "{events:?}");
        assert!(!events.contains(&Event::Closed(session.id(), at(1), Some(table.id()))), "{events:?}");
    }
}

#[test]
fn a_former_that_goes_down_has_had_its_grace() {
    for by_verdict in [true, false] {
        let table = single(&[2.0, 1.0, 3.0]);
        judge(&table, 3, Verdict::Down);
        let session = pick(&table);
        let moved = switch(&table, 2, 3600);
        let told = Told::by(&table);
        judge(&table, 1, Verdict::Avoid);
        judge(&table, 3, Verdict::Ready);
        assert!(waits(&table));
        assert!(told.closed().is_empty(), "a node that is put aside keeps its sessions meanwhile");
        if by_verdict {
            judge(&table, 1, Verdict::Down);
        } else {
            table.remove(at(1)).expect("it is there");
        }
        drop(session);
        assert_eq!((moved.take(), short(&table)), (Some(Ok(())), 2));
    }
}

#[test]
fn one_that_falls_after_sessions_were_closed_is_replaced() {
    let table = single(&[2.0, 1.0, 1.0]);
    let session = pick(&table);
    let moved = switch(&table, 2, 0);
    judge(&table, 1, Verdict::Avoid);
    judge(&table, 2, Verdict::Down);
    assert_eq!(moved.take(), Some(Err("127.0.0.1:2 is DOWN: as told".to_owned())));
    assert!(waits(&table));
    drop(session);
    assert_eq!(short(&table), 3);
}

#[test]
fn after_sessions_were_closed_the_move_waits_for_their_end_while_there_is_no_other_candidate() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    let moved = switch(&table, 2, 0);
    judge(&table, 1, Verdict::Avoid);
    judge(&table, 2, Verdict::Down);
    assert_eq!((moved.take(), waits(&table)), (None, true), "it may come back");
    judge(&table, 2, Verdict::Ready);
    drop(session);
    assert_eq!((moved.take(), short(&table)), (Some(Ok(())), 2));
}

#[test]
fn one_that_is_better_than_the_target_takes_its_place_and_the_reason_is_told() {
    type Change = fn(&Rotation);
    let changes: [(Change, &str); 2] = [
        (|table| add(table, 3, 9.0), "127.0.0.1:3 has more weight"),
        (|table| judge(table, 2, Verdict::Spare), "127.0.0.1:2 is SPARE: as told"),
    ];
    for (change, reason) in changes {
        let table = single(&[1.0, 1.0, 1.0]);
        let session = pick(&table);
        let moved = switch(&table, 2, 0);
        judge(&table, 1, Verdict::Avoid);
        change(&table);
        assert_eq!(moved.take(), Some(Err(reason.to_owned())));
        drop(session);
        assert_eq!(short(&table), 3);
    }
}

#[test]
fn sessions_on_a_former_that_is_removed_hold_up_service_for_two_seconds_only() {
    let table = single(&[2.0, 1.0]);
    let _hung = pick(&table);
    let moved = switch(&table, 2, 3600);
    table.remove(at(1)).expect("it is there");
    pass(&table, Duration::from_millis(1900));
    assert!(waits(&table));
    pass(&table, Duration::from_millis(200));
    assert_eq!((moved.take(), short(&table)), (Some(Ok(())), 2));
}

#[test]
fn without_a_watchdog_a_move_fails_when_its_target_can_serve_no_longer_and_goes_on_otherwise() {
    type Change = fn(&Rotation);
    let changes: [(Change, Option<&str>); 3] = [
        (|table| assert!(table.drain(at(2)).is_ok()), Some("127.0.0.1:2 is drained")),
        (|table| assert!(table.remove(at(2)).is_ok()), Some("its target was removed")),
        (|table| add(table, 3, 1.0), None),
    ];
    for (change, reason) in changes {
        let table = table(PolicyKind::Single, &[2.0, 1.0]);
        let session = pick(&table);
        let moved = switch(&table, 2, 0);
        change(&table);
        assert_eq!(moved.take(), reason.map(|reason| Err(reason.to_owned())));
        assert_eq!(waits(&table), reason.is_none());
        drop(session);
        assert_eq!(short(&table), if reason.is_some() { 1 } else { 2 });
    }
}

#[test]
fn a_move_back_to_the_former_makes_that_the_choice_of_a_hand() {
    let table = single(&[1.0, 1.0, 3.0]);
    judge(&table, 3, Verdict::Down);
    let session = pick(&table);
    switch(&table, 2, 3600);
    let back = switch(&table, 1, 3600);
    judge(&table, 3, Verdict::Ready);
    assert_eq!((back.take(), short(&table)), (Some(Ok(())), 1), "though a heavier one returns");
    assert_eq!(table.chosen().map(|(_, address)| address), Some(at(1)));
    drop(session);
}

#[test]
fn a_second_choice_replaces_the_first_and_the_former_cancels_it() {
    let table = single(&[2.0, 1.0, 1.0]);
    let session = pick(&table);
    let (first, second) = (switch(&table, 2, 3600), switch(&table, 3, 10));
    assert_eq!(first.take(), Some(Err("cancelled: 127.0.0.1:3 was chosen by hand".to_owned())));
    pass(&table, Duration::from_secs(9));
    let told = Told::by(&table);
    let back = switch(&table, 1, 10);
    assert!(second.take().is_some_and(|result| result.is_err()));
    assert_eq!((back.take(), short(&table)), (Some(Ok(())), 1));
    assert_eq!(told.take(), [Event::Settled], "no session was closed");
    let shortened = [switch(&table, 2, 3600), switch(&table, 2, 0)];
    assert_eq!(told.closed(), [1]);
    drop(session);
    assert_eq!((shortened[1].take(), short(&table)), (Some(Ok(())), 2));
}

#[test]
fn what_cannot_serve_is_refused() {
    let table = single(&[1.0, 1.0, 1.0, 1.0]);
    table.elect_single();
    judge(&table, 2, Verdict::Down);
    judge(&table, 3, Verdict::Spare);
    table.drain(at(4)).expect("it is there");
    add(&table, 5, 1.0);
    let name = Endpoint { host: Host::Name("db".to_owned()), port: 6 };
    table.set(&name, at(6), 1.0).expect("there is room");
    set_elsewhere(&table, at(6), 1);
    table.follow(&name, &[at(7)], true);
    let only = "; only a READY destination can be the single one";
    for (port, reason) in [
        (2, format!("it is DOWN: as told{only}")),
        (3, format!("it is SPARE: as told{only}")),
        (4, format!("it is drained{only}")),
        (5, format!("it has not been checked{only}")),
        (6, format!("it is no longer an address of its name{only}")),
        (9, "no such destination".to_owned()),
    ] {
        assert_eq!(refusal(&table, port), reason);
    }
    assert_eq!(short(&table), 1);
    let not_single = watched(PolicyKind::RoundRobin, &[1.0]);
    assert_eq!(refusal(&not_single, 1), "there is no single destination to move: glbd runs without --single");
}

#[test]
fn the_choice_of_an_earlier_life_is_elected_if_it_is_fit() {
    for fit in [true, false] {
        let table = filled(table_of(Given { watched: true, ..balancing(PolicyKind::Single) }), &[2.0, 1.0]);
        assert!(table.prefer(at(2)));
        judge(&table, 1, Verdict::Ready);
        judge(&table, 2, if fit { Verdict::Ready } else { Verdict::Down });
        table.elect_single();
        judge(&table, 2, Verdict::Ready);
        assert_eq!(short(&table), if fit { 2 } else { 1 });
        assert_eq!(table.chosen().is_some(), fit);
    }
    assert!(!table(PolicyKind::RoundRobin, &[1.0]).prefer(at(1)));
    let table = filled(table_of(Given { watched: true, ..balancing(PolicyKind::Single) }), &[2.0, 0.0]);
    assert!(!table.prefer(at(2)), "it is drained");
    assert!(!table.prefer(at(9)), "nothing is there");
}
