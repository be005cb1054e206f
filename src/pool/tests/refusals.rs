//! What the table keeps of clients that were not served, and of verdicts.

use super::*;

fn refusals(table: &Rotation) -> Option<(u32, String)> {
    let row = table.snapshot().remove(0);
    row.refusals.map(|it| (it.count, it.reason.to_string()))
}

#[test]
fn refusals_are_counted_until_a_client_is_served() {
    let (table, now) = (table(PolicyKind::RoundRobin, &[1.0]), Instant::now());
    assert_eq!(refusals(&table), None);
    assert!(pick(&table).refused(now, "Too many\nconnections"), "the first is news");
    assert!(!pick(&table).failed(now));
    assert_eq!(refusals(&table), Some((2, "connects fail".to_owned())));
    assert!(!pick(&table).refused(now, "Too many\nconnections"));
    assert_eq!(refusals(&table), Some((3, "Too many connections".to_owned())));
    let since = table.snapshot().remove(0).refusals.map(|it| it.since);
    pick(&table).failed(now);
    assert_eq!(table.snapshot().remove(0).refusals.map(|it| it.since), since);
    assert!(pick(&table).connected(), "it is news that it serves again");
    assert_eq!(refusals(&table), None);
}

#[test]
fn a_refused_client_hints_the_watchdog_and_others_are_preferred() {
    let table = table(PolicyKind::RoundRobin, &[1.0, 1.0]);
    let doubted = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&doubted);
    table.subscribe(Box::new(move |event| {
        counter.fetch_add(usize::from(matches!(event, Event::Doubted(_))), Ordering::Relaxed);
    }));
    let lease = pick(&table);
    let refusing = lease.address().port();
    lease.refused(Instant::now(), "Too many connections");
    assert_eq!(doubted.load(Ordering::Relaxed), 1);
    assert!((0..10).all(|_| short(&table) != refusing));
}

#[test]
fn a_client_that_is_refused_late_has_others_preferred_and_is_news_once() {
    let (table, now) = (table(PolicyKind::RoundRobin, &[1.0, 1.0]), Instant::now());
    let (mut lease, mut late) = (pick(&table), pick(&table));
    let (refusing, slow) = (lease.address().port(), late.address().port());
    assert!(lease.refused_late(now, "Host is blocked") && !lease.refused_late(now, "Host is blocked"));
    assert!((0..10).all(|_| short(&table) == slow));
    assert!(lease.connected(), "it serves the client after all");
    assert!(late.suspect(now) && !late.suspect(now));
    let reasons = table.snapshot().into_iter().map(|row| row.refusals.map(|it| it.reason.to_string()));
    assert_eq!(reasons.flatten().collect::<Vec<_>>(), ["its greeting is late"]);
    assert!((0..10).all(|_| short(&table) == refusing));
    assert!(late.connected() && !late.connected());
}

#[test]
fn since_when_a_verdict_holds_changes_with_the_verdict_only() {
    let table = watched(PolicyKind::RoundRobin, &[1.0]);
    let since = || table.snapshot().remove(0).health.since.expect("it is judged");
    let first = since();
    judge(&table, 1, Verdict::Ready);
    assert_eq!(since(), first);
    judge(&table, 1, Verdict::Down);
    assert!(since() >= first);
    let down = since();
    judge(&table, 1, Verdict::Down);
    assert_eq!(since(), down);
}

#[test]
fn a_verdict_on_an_address_that_the_destination_has_left_is_ignored() {
    let table = watched(PolicyKind::RoundRobin, &[1.0]);
    let id = table.snapshot().remove(0).id;
    move_to(&table, 1, 9);
    let down = Health { verdict: Some(Verdict::Down), ..Health::unjudged() };
    table.judge(id, at(1), down.clone(), false);
    assert_eq!(table.snapshot().remove(0).health.verdict, None);
    table.judge(id, at(9), down, false);
    assert_eq!(table.snapshot().remove(0).health.verdict, Some(Verdict::Down));
}
