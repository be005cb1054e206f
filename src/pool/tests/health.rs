//! What a watchdog tells the table, and asks of it.

use super::single::{Told, waits};
use super::*;

fn id(table: &Rotation, port: u16) -> DestinationId {
    table.snapshot().iter().find(|row| row.address == at(port)).map(|row| row.id).expect("it is there")
}

fn scaled(scale: f64) -> Health {
    Health { verdict: Some(Verdict::Ready), scale, ..Health::unjudged() }
}

#[test]
fn a_destination_that_is_gone_has_no_health() {
    let table = watched(PolicyKind::RoundRobin, &[1.0]);
    let id = id(&table, 1);
    assert_eq!(table.health_of(id).and_then(|it| it.verdict), Some(Verdict::Ready));
    assert_eq!(table.address_at(id), Some(at(1)));
    table.remove(at(1)).expect("it is there");
    assert_eq!((table.health_of(id), table.address_at(id)), (None, None));
}

#[test]
fn a_weight_is_multiplied_by_the_scale_and_never_becomes_zero_or_more_than_that() {
    let table = watched(PolicyKind::LeastConnected, &[4.0, 2.0]);
    let in_force = |table: &Rotation| table.snapshot().iter().map(|it| it.weight_in_force).collect::<Vec<_>>();
    table.rescale(id(&table, 1), 0.25);
    assert_eq!(in_force(&table), [1.0, 2.0]);
    let held: Vec<Lease> = (0..9).map(|_| pick(&table)).collect();
    assert_eq!(counts(&table), [3, 6]);
    drop(held);
    table.judge(id(&table, 1), at(1), scaled(0.5), true);
    let held: Vec<Lease> = (0..8).map(|_| pick(&table)).collect();
    assert_eq!((in_force(&table), counts(&table)), (vec![2.0, 2.0], vec![4, 4]), "the verdict is the same");
    drop(held);
    table.rescale(id(&table, 1), 0.0);
    assert!(in_force(&table)[0] > 0.0 && in_force(&table)[0] < 1e-6);
    table.drain(at(1)).expect("it is there");
    assert_eq!(in_force(&table), [0.0, 2.0]);
}

#[test]
fn a_scale_that_comes_with_the_same_verdict_changes_the_turns() {
    let table = watched(PolicyKind::RoundRobin, &[2.0, 2.0]);
    table.judge(id(&table, 1), at(1), scaled(0.5), true);
    assert_eq!((0..30).filter(|_| short(&table) == 1).count(), 10);
    table.rescale(id(&table, 1), 1.0);
    assert_eq!((0..30).filter(|_| short(&table) == 1).count(), 15);
}

#[test]
fn a_client_waits_for_a_check_when_the_last_one_is_too_old_and_is_told_once() {
    let recheck = Some(Duration::from_secs(5));
    let table =
        filled(table_of(Given { watched: true, recheck_after: recheck, ..balancing(PolicyKind::RoundRobin) }), &[1.0]);
    let (id, now) = (id(&table, 1), Instant::now());
    let health = |verdict| Health { verdict: Some(verdict), checked: Some(now), ..Health::unjudged() };
    let lease = |later| table.pick(client(1), &mut Tried::default(), now + later).leased().expect("it is READY");
    table.judge(id, at(1), health(Verdict::Ready), true);
    assert!(!lease(Duration::from_secs(5)).is_outdated());
    let mut outdated = lease(Duration::from_millis(5001));
    assert!(outdated.is_outdated());
    let told = Told::by(&table);
    outdated.ask_watchdog();
    assert!(!outdated.is_outdated());
    lease(Duration::from_secs(6)).ask_watchdog();
    assert_eq!(told.take(), [Event::Awaited(id)], "it is asked once for all who wait");
    table.judge(id, at(1), health(Verdict::Spare), false);
    table.judge(id, at(1), health(Verdict::Spare), true);
    assert_eq!(told.take(), [Event::Checked(id, false)], "all are told what was found");
    table.judge(id, at(1), health(Verdict::Ready), true);
    lease(Duration::from_secs(6)).ask_watchdog();
    table.set_checks_note(Some(Reason::new("there is no checker")));
    assert_eq!(told.take(), [Event::Awaited(id), Event::Checked(id, true)], "they go by what was known");
    assert!(!lease(Duration::from_secs(6)).is_outdated(), "nobody waits for a check that is not made");
    assert_eq!(table.checks_note().as_deref(), Some("there is no checker"));
    table.set_checks_note(None);
    assert_eq!(table.checks_note(), None);
    let mut last = lease(Duration::from_secs(6));
    assert!(last.is_outdated());
    last.ask_watchdog();
    table.judge(id, at(1), health(Verdict::Avoid), false);
    told.take();
    table.ask_nobody();
    assert_eq!(told.take(), [], "nobody waits");
    table.judge(id, at(1), health(Verdict::Ready), true);
    assert!(!lease(Duration::from_secs(6)).is_outdated(), "without a watchdog nobody waits");
}

#[test]
fn those_who_wait_when_checks_end_go_by_the_last_verdict() {
    let recheck = Some(Duration::ZERO);
    for (verdict, fit) in
        [(Verdict::Ready, true), (Verdict::Spare, true), (Verdict::Avoid, false), (Verdict::Down, false)]
    {
        let table = filled(
            table_of(Given { watched: true, recheck_after: recheck, ..balancing(PolicyKind::RoundRobin) }),
            &[1.0],
        );
        judge(&table, 1, Verdict::Ready);
        let mut lease = pick(&table);
        judge(&table, 1, verdict);
        lease.ask_watchdog();
        let told = Told::by(&table);
        table.ask_nobody();
        assert_eq!(told.take(), [Event::Checked(lease.id(), fit)], "{verdict}");
    }
}

#[test]
fn sessions_of_one_that_is_down_are_closed_where_another_takes_clients() {
    let table = watched(PolicyKind::RoundRobin, &[1.0, 1.0, 1.0, 1.0]);
    let ids: Vec<_> = (1..=4).map(|port| id(&table, port)).collect();
    let told = Told::by(&table);
    assert_eq!(table.serving(), 4);
    judge(&table, 1, Verdict::Down);
    judge(&table, 2, Verdict::Spare);
    table.drain(at(3)).expect("it is there");
    assert_eq!(table.serving(), 2, "one that is SPARE takes clients, too");
    for elsewhere in [&[][..], &[ids[1]], &[ids[2]], &[ids[1], ids[2]]] {
        assert_eq!(table.close_fallen(ids[0], Some(elsewhere)), None, "{elsewhere:?}");
    }
    assert!(told.closed().is_empty());
    set_elsewhere(&table, at(1), 3);
    assert_eq!(table.close_fallen(ids[0], Some(&[ids[1], ids[3]])), Some(3));
    assert_eq!(told.closed(), [1]);
    assert_eq!((table.close_fallen(ids[1], None), told.closed()), (Some(0), vec![2]), "in any case");
    table.remove(at(2)).expect("it is there");
    assert_eq!(table.close_fallen(ids[1], None), None, "it is gone");
}

#[test]
fn sessions_that_a_move_of_the_single_destination_closes_do_not_count() {
    for (policy, shutdown_sessions, watched, count) in [
        (PolicyKind::Single, ShutdownSessions::Elsewhere, true, 0),
        (PolicyKind::Single, ShutdownSessions::Never, true, 2),
        (PolicyKind::Single, ShutdownSessions::Elsewhere, false, 2),
        (PolicyKind::RoundRobin, ShutdownSessions::Elsewhere, true, 2),
    ] {
        let table = filled(table_of(Given { watched, shutdown_sessions, ..balancing(policy) }), &[1.0, 1.0]);
        (1..=2).for_each(|port| judge(&table, port, Verdict::Ready));
        pick(&table);
        (1..=2).for_each(|port| set_elsewhere(&table, at(port), 2));
        let on = |port| table.sessions_on(id(&table, port));
        assert_eq!((on(1), on(2)), (2, count), "{policy}, {shutdown_sessions:?}, {watched}");
    }
}

#[test]
fn one_that_was_discovered_goes_when_it_has_left_and_one_that_a_hand_has_named_stays() {
    let table = table(PolicyKind::RoundRobin, &[1.0]);
    assert_eq!(table.discover(at(1), 1.0), Ok(false), "it is there");
    assert_eq!(table.discover(at(2), 1.0), Ok(true));
    assert_eq!(table.discover(at(3), 1.0), Ok(true));
    let ids: Vec<_> = (1..=3).map(|port| id(&table, port)).collect();
    add(&table, 3, 1.0);
    assert_eq!(ids.iter().map(|id| table.forget(*id)).collect::<Vec<_>>(), [false, true, false]);
    assert!(!table.forget(ids[1]), "it is gone");
    table.remove(at(3)).expect("it is there");
    assert_eq!(table.discover(at(3), 1.0), Ok(false), "what a hand has removed stays away");
    assert_eq!(table.discover(at(2), 1.0), Ok(true), "what has left may come back");
}

#[test]
fn before_first_verdicts_clients_wait_and_then_all_hear_of_them() {
    let table = table(PolicyKind::RoundRobin, &[1.0]);
    let told = Told::by(&table);
    table.first_verdicts_are_known();
    assert_eq!(told.take(), []);
    for end in [Pool::first_verdicts_are_known, Pool::ask_nobody] {
        table.await_first_verdicts();
        assert!(waits(&table));
        end(&table);
        assert_eq!(told.take(), [Event::Settled]);
        assert_eq!(pick(&table).address(), at(1));
    }
}
