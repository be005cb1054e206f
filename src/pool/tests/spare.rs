//! Destinations that are SPARE: the order in which they come.

use super::*;

const POLICIES: [PolicyKind; 4] =
    [PolicyKind::LeastConnected, PolicyKind::RoundRobin, PolicyKind::Random, PolicyKind::Source];

#[test]
fn a_spare_one_comes_after_all_that_are_ready_even_those_whose_connect_failed() {
    for policy in POLICIES {
        let (table, now) = (watched(policy, &[1.0, 1.0, 1.0, 9.0]), Instant::now());
        judge(&table, 3, Verdict::Avoid);
        judge(&table, 4, Verdict::Spare);
        assert!((0..20).all(|_| short(&table) < 3), "{policy}");
        let mut tried = Tried::default();
        let mut order = Vec::new();
        let failing = pick(&table);
        let failed = failing.address().port();
        failing.failed(now);
        while let Some(lease) = table.pick(client(1), &mut tried, now).leased() {
            tried.add(lease.id());
            order.push(lease.address().port());
        }
        assert_eq!(order, [3 - failed, failed, 4], "{policy}");
    }
}

#[test]
fn among_spare_ones_those_whose_connect_failed_come_last() {
    for policy in POLICIES {
        let (table, now) = (watched(policy, &[1.0, 1.0]), Instant::now());
        (1..=2).for_each(|port| judge(&table, port, Verdict::Spare));
        let failing = pick(&table);
        let failed = failing.address().port();
        failing.failed(now);
        assert!((0..20).all(|_| short(&table) != failed), "{policy}");
        let later = now + Duration::from_secs(3);
        let again: Vec<u16> = (0..200)
            .filter_map(|number| {
                table.pick(client(number), &mut Tried::default(), later).leased().map(|it| it.address().port())
            })
            .collect();
        assert!(again.contains(&failed), "it is fit again with {policy}");
    }
}

#[test]
fn spare_ones_share_among_themselves_while_none_is_ready() {
    let table = watched(PolicyKind::Random, &[1.0, 1.0, 2.0]);
    let maps = || table.snapshot().iter().map(|it| it.map).collect::<Vec<_>>();
    judge(&table, 1, Verdict::Spare);
    judge(&table, 2, Verdict::Spare);
    assert_eq!(maps(), [Some(0.0), Some(0.0), Some(1.0)]);
    table.drain(at(3)).expect("it is there");
    assert_eq!(maps(), [Some(0.5), Some(1.0), Some(1.0)]);
    assert!((0..20).all(|_| short(&table) != 3));
}

#[test]
fn the_top_weight_is_that_of_the_tier() {
    let table = filled(
        table_of(Given { top: true, watched: true, ..balancing(PolicyKind::RoundRobin) }),
        &[1.0, 2.0, 5.0, 5.0],
    );
    for (port, verdict) in [(1, Verdict::Ready), (2, Verdict::Ready), (3, Verdict::Spare), (4, Verdict::Down)] {
        judge(&table, port, verdict);
    }
    assert_eq!(short(&table), 2);
    judge(&table, 2, Verdict::Avoid);
    assert_eq!(short(&table), 1);
    judge(&table, 1, Verdict::Down);
    assert_eq!(short(&table), 3);
}

#[test]
fn a_verdict_is_kept_for_the_next_process() {
    let table = watched(PolicyKind::RoundRobin, &[1.0, 1.0]);
    judge(&table, 1, Verdict::Spare);
    let next = table_of(Given { watched: true, ..balancing(PolicyKind::RoundRobin) });
    hand_over(&table, &next);
    assert!((0..10).all(|_| short(&next) == 2));
    judge(&next, 2, Verdict::Down);
    assert_eq!(short(&next), 1);
    let health = |table: &Rotation| table.snapshot().first().map(|row| (row.health.since, row.health.reason.clone()));
    assert_eq!(health(&next), health(&table));
    assert!(health(&next).is_some_and(|(since, _)| since.is_some()));
}

proptest! {
    #[test]
    fn whatever_the_verdicts_clients_go_to_the_best_that_is_left(
        verdicts in prop::collection::vec(0..4usize, 1..8), kind in 0..4usize, top: bool
    ) {
        const VERDICTS: [Verdict; 4] = [Verdict::Down, Verdict::Avoid, Verdict::Spare, Verdict::Ready];
        let weights = vec![1.0; verdicts.len()];
        let table = filled(table_of(Given { top, watched: true, ..balancing(POLICIES[kind]) }), &weights);
        for (index, verdict) in verdicts.iter().enumerate() {
            judge(&table, index as u16 + 1, VERDICTS[*verdict]);
        }
        let (mut tried, mut order) = (Tried::default(), Vec::new());
        while let Some(lease) = table.pick(client(1), &mut tried, Instant::now()).leased() {
            tried.add(lease.id());
            order.push(verdicts[usize::from(lease.address().port()) - 1]);
        }
        let mut expected: Vec<usize> = verdicts.into_iter().filter(|verdict| *verdict >= 2).collect();
        expected.sort_by(|one, other| other.cmp(one));
        prop_assert_eq!(order, expected);
    }
}
