//! The single destination where a watchdog judges: it moves by verdict and weight, and without overlap.

use std::sync::Mutex;

use super::*;

/// What a table has told.
#[derive(Clone, Default)]
pub(super) struct Told(Arc<Mutex<Vec<Event>>>);

impl Told {
    pub(super) fn by(table: &Rotation) -> Told {
        let told = Told::default();
        let events = Arc::clone(&told.0);
        table.subscribe(Box::new(move |event| events.lock().expect("no panic").push(event)));
        told
    }

    /// Since the last time.
    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.0.lock().expect("no panic"))
    }

    /// The ports of the destinations whose connections were to be closed since the last time.
    pub(super) fn closed(&self) -> Vec<u16> {
        let port = |event: Event| match event {
            Event::Closed(_, address, _) => Some(address.port()),
            _ => None,
        };
        self.take().into_iter().filter_map(port).collect()
    }
}

pub(super) fn single(weights: &[f64]) -> Rotation {
    watched(PolicyKind::Single, weights)
}

pub(super) fn waits(table: &Rotation) -> bool {
    matches!(table.pick(client(1), &mut Tried::default(), clock::now()), Pick::Wait)
}

pub(super) fn finds_nothing(table: &Rotation) -> bool {
    matches!(table.pick(client(1), &mut Tried::default(), clock::now()), Pick::Nothing)
}

/// The port of the one that is marked.
pub(super) fn marked(table: &Rotation) -> Option<u16> {
    table.snapshot().iter().find(|row| row.is_single).map(|row| row.address.port())
}

#[test]
fn the_first_added_of_the_top_weight_that_is_fit_is_elected() {
    let table = single(&[1.0, 3.0, 2.0, 2.0]);
    judge(&table, 2, Verdict::Spare);
    assert_eq!(marked(&table), None);
    table.elect_single();
    assert_eq!((marked(&table), short(&table)), (Some(3), 3), "READY wins over SPARE, whatever the weight");
}

#[test]
fn a_failed_connect_neither_moves_nor_avoids_it() {
    let table = single(&[1.0, 1.0]);
    for _ in 0..5 {
        let lease = pick(&table);
        assert!(lease.retries());
        assert_eq!(lease.address().port(), 1);
        lease.failed(Instant::now());
        pick(&table).refused(Instant::now(), "Too many connections");
    }
    let lease = pick(&table);
    let other = table.pick(client(1), &mut [lease.id()].into_iter().collect(), Instant::now());
    assert!(matches!(other, Pick::Nothing), "a client is not sent to another one");
}

#[test]
fn without_a_watchdog_a_failed_connect_moves_it() {
    let table = table(PolicyKind::Single, &[1.0, 1.0]);
    let told = Told::by(&table);
    let (held, lease) = (pick(&table), pick(&table));
    assert!(!lease.retries());
    lease.failed(Instant::now());
    assert_eq!((short(&table), marked(&table)), (2, Some(2)));
    assert!(told.closed().is_empty(), "the sessions of the former go on, as in GLB");
    drop(held);
}

#[test]
fn when_it_falls_its_sessions_are_closed_and_clients_wait_until_they_are_gone() {
    let table = single(&[1.0, 1.0]);
    let sessions = [pick(&table), pick(&table)];
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Down);
    assert_eq!(told.take(), [Event::Closed(sessions[0].id(), at(1), Some(table.id()))]);
    assert!(waits(&table));
    assert_eq!(table.single(), None);
    let [first, second] = sessions;
    drop(first);
    assert!(waits(&table));
    assert_eq!(told.take(), []);
    drop(second);
    assert_eq!(told.take(), [Event::Settled]);
    assert_eq!((short(&table), table.single()), (2, Some(at(2))));
    judge(&table, 1, Verdict::Ready);
    assert_eq!(short(&table), 2, "it does not jump back");
}

#[test]
fn sessions_that_do_not_end_hold_up_service_for_two_seconds_only() {
    let table = single(&[1.0, 1.0]);
    let _hung = pick(&table);
    judge(&table, 1, Verdict::Down);
    clock::advance(Duration::from_millis(1900));
    assert!(waits(&table));
    assert!(table.deadline().is_some_and(|deadline| deadline < clock::now() + Duration::from_millis(200)));
    let told = Told::by(&table);
    clock::advance(Duration::from_millis(100));
    table.advance_switchover(clock::now());
    assert_eq!(told.take(), [Event::Settled]);
    assert_eq!((short(&table), table.deadline()), (2, None));
}

#[test]
fn every_kind_of_move_closes_the_sessions_of_the_former() {
    type Change = fn(&Rotation);
    let changes: [(&str, Change, u16); 7] = [
        ("AVOID", |table| judge(table, 1, Verdict::Avoid), 2),
        ("SPARE", |table| judge(table, 1, Verdict::Spare), 2),
        ("drained", |table| assert!(table.drain(at(1)).is_ok()), 2),
        ("removed", |table| assert!(table.remove(at(1)).is_ok()), 2),
        ("heavier", |table| add(table, 2, 2.0), 2),
        ("heavier one returns", |table| judge(table, 3, Verdict::Ready), 3),
        ("moved away", |table| move_to(table, 1, 9), 2),
    ];
    for (what, change, next) in changes {
        let table = single(&[1.0, 1.0, 3.0]);
        judge(&table, 3, Verdict::Down);
        let session = pick(&table);
        let told = Told::by(&table);
        change(&table);
        assert!(waits(&table), "{what}");
        let events = told.take();
        let closed = |event: &Event| matches!(event, Event::Closed(id, ..) if *id == session.id());
        assert!(events.iter().any(closed), "{what}: {events:?}");
        drop(session);
        assert_eq!(short(&table), next, "{what}");
    }
}

#[test]
fn an_equal_one_that_comes_or_returns_changes_nothing() {
    let table = single(&[1.0, 1.0]);
    judge(&table, 1, Verdict::Down);
    let session = pick(&table);
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Ready);
    add(&table, 3, 1.0);
    judge(&table, 3, Verdict::Ready);
    assert_eq!((told.closed(), short(&table)), (vec![], 2));
    drop(session);
}

#[test]
fn another_one_that_is_removed_changes_nothing() {
    let table = single(&[1.0, 1.0, 1.0]);
    judge(&table, 1, Verdict::Down);
    let session = pick(&table);
    judge(&table, 1, Verdict::Ready);
    let told = Told::by(&table);
    table.remove(at(3)).expect("it is there");
    assert_eq!((told.closed(), short(&table)), (vec![3], 2));
    drop(session);
}

#[test]
fn while_there_is_no_other_candidate_it_stays_and_its_sessions_too() {
    let table = single(&[1.0, 1.0]);
    let session = pick(&table);
    judge(&table, 2, Verdict::Down);
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Down);
    assert!(finds_nothing(&table));
    assert_eq!((told.closed(), marked(&table)), (vec![], Some(1)));
    judge(&table, 1, Verdict::Ready);
    assert_eq!(short(&table), 1);
    judge(&table, 1, Verdict::Down);
    judge(&table, 2, Verdict::Spare);
    assert_eq!(told.closed(), [1], "there is somewhere to go now");
    drop(session);
    assert_eq!(short(&table), 2);
    judge(&table, 1, Verdict::Ready);
    assert_eq!(short(&table), 1, "READY wins over SPARE");
}

#[test]
fn with_never_sessions_stay_and_nothing_waits() {
    let never = Given { shutdown_sessions: ShutdownSessions::Never, watched: true, ..balancing(PolicyKind::Single) };
    let table = filled(table_of(never), &[1.0, 1.0]);
    (1..=2).for_each(|port| judge(&table, port, Verdict::Ready));
    let session = pick(&table);
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Down);
    assert!(told.closed().is_empty());
    assert_eq!(short(&table), 2);
    drop(session);
}

#[test]
fn one_that_falls_before_it_serves_is_passed_over() {
    let table = single(&[1.0, 1.0, 1.0]);
    let session = pick(&table);
    judge(&table, 1, Verdict::Down);
    judge(&table, 2, Verdict::Down);
    assert!(waits(&table));
    drop(session);
    assert_eq!(short(&table), 3);
}

#[test]
fn one_that_comes_back_before_another_serves_can_serve_at_once() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    let told = Told::by(&table);
    judge(&table, 1, Verdict::Down);
    judge(&table, 1, Verdict::Ready);
    assert_eq!(short(&table), 1, "heavier, and no other one has served");
    assert_eq!(told.take().last(), Some(&Event::Settled));
    drop(session);
}

#[test]
fn connections_of_other_processes_are_waited_for_as_well() {
    let table = single(&[1.0, 1.0]);
    table.elect_single();
    set_elsewhere(&table, at(1), 2);
    judge(&table, 1, Verdict::Down);
    assert!(waits(&table));
    set_elsewhere(&table, at(1), 1);
    assert!(waits(&table));
    set_elsewhere(&table, at(1), 0);
    assert_eq!(short(&table), 2);
}

#[test]
fn the_connections_of_one_that_was_removed_are_waited_for() {
    let table = single(&[1.0, 1.0]);
    let session = pick(&table);
    set_elsewhere(&table, at(1), 1);
    table.remove(at(1)).expect("it is there");
    assert!(waits(&table));
    drop(session);
    assert!(waits(&table));
    set_elsewhere(&table, at(1), 0);
    assert_eq!(short(&table), 2);
}

#[test]
fn after_the_last_one_was_removed_the_next_that_comes_is_elected() {
    let table = single(&[1.0]);
    table.elect_single();
    table.remove(at(1)).expect("it is there");
    assert!(finds_nothing(&table));
    add(&table, 2, 1.0);
    judge(&table, 2, Verdict::Ready);
    assert_eq!(short(&table), 2);
}
