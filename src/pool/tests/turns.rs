//! Turns that have been had stay so, whatever is done to a destination in between.

use super::*;

const IN_TURNS: [PolicyKind; 2] = [PolicyKind::LeastConnected, PolicyKind::RoundRobin];

/// How many of so many clients, each gone before the next comes, go to port 1, when `meanwhile` comes before each.
fn of_the_first(table: &Rotation, clients: usize, mut meanwhile: impl FnMut(usize)) -> usize {
    let visit = |number| {
        meanwhile(number);
        short(table)
    };
    (0..clients).map(visit).filter(|port| *port == 1).count()
}

#[test]
fn a_weight_that_changes_a_little_all_the_time_gives_no_more_turns() {
    for policy in IN_TURNS {
        let table = table(policy, &[1.0, 1.0, 1.0]);
        let first = of_the_first(&table, 150, |number| add(&table, 1, [1.0, 1.01][number % 2]));
        assert!((49..=52).contains(&first), "{first} of 150 with {policy}");
    }
}

#[test]
fn a_weight_that_grows_gives_turns_as_it_grows() {
    for policy in IN_TURNS {
        let table = table(policy, &[1.0, 1.0, 1.0]);
        let first = of_the_first(&table, 20, |number| add(&table, 1, 0.05 * (number + 1) as f64));
        // The sum of w / (w + 2) over the twenty weights is 3.9.
        assert!((3..=5).contains(&first), "{first} of 20 with {policy}");
    }
}

#[test]
fn one_whose_weight_grows_by_far_does_not_wait_as_long_as_before() {
    for policy in IN_TURNS {
        let table = table(policy, &[0.01, 1.0]);
        assert_eq!(of_the_first(&table, 50, |_| {}), 1, "{policy}");
        add(&table, 1, 1.0);
        let first = of_the_first(&table, 20, |_| {});
        assert!((9..=11).contains(&first), "{first} of 20 with {policy}");
    }
}

#[test]
fn one_that_is_added_where_another_was_has_had_no_turns() {
    let table = table(PolicyKind::LeastConnected, &[1.0, 1.0]);
    assert_eq!(short(&table), 1);
    table.remove(at(1)).expect("it is there");
    add(&table, 3, 1.0);
    assert_eq!([short(&table), short(&table)], [3, 2]);
}

#[test]
fn of_the_heaviest_those_that_are_left_are_picked_when_one_goes() {
    for policy in IN_TURNS {
        let table = filled(table_of(Given { top: true, ..balancing(policy) }), &[2.0, 2.0, 1.0]);
        table.drain(at(1)).expect("it is there");
        assert!((0..5).all(|_| short(&table) == 2), "{policy}");
        table.remove(at(2)).expect("it is there");
        assert!((0..5).all(|_| short(&table) == 3), "{policy}");
    }
}

#[test]
fn one_that_fails_is_not_the_first_to_be_tried_when_it_is_avoided_no_more() {
    for policy in IN_TURNS {
        let table = table(policy, &[1.0, 1.0, 1.0]);
        let mut now = Instant::now();
        let mut failed = 0;
        for _ in 0..30 {
            now += Duration::from_secs(1);
            let lease = table.pick(client(1), &mut Tried::default(), now).leased().expect("something to pick");
            if lease.address() == at(1) {
                failed += 1;
                let mut tried = [lease.id()].into_iter().collect();
                lease.failed(now);
                table.pick(client(1), &mut tried, now).leased().expect("another one");
            }
        }
        assert!((4..=10).contains(&failed), "{failed} of 30 tried it first, with {policy}");
    }
}

/// What ends as it began.
fn disturb(table: &Rotation, port: u16, weight: f64, how: u8) {
    match how {
        0 => drop(table.drain(at(port))),
        1 => judge(table, port, Verdict::Down),
        2 => judge(table, port, Verdict::Spare),
        _ => {}
    }
    add(table, port, weight);
    judge(table, port, Verdict::Ready);
}

proptest! {
    #[test]
    fn least_connected_picks_one_that_has_the_fewest_for_its_weight_whoever_has_left(
        weights in prop::collection::vec((1..5u8).prop_map(f64::from), 2..6),
        steps in prop::collection::vec(any::<Option<prop::sample::Index>>(), 1..150),
        top: bool,
    ) {
        // With `top`, among the heaviest.
        let heaviest = weights.iter().copied().filter(|_| top).fold(0.0, f64::max);
        let balancing = Given { top, ..balancing(PolicyKind::LeastConnected) };
        let (table, mut held) = (filled(table_of(balancing), &weights), Vec::new());
        for step in steps {
            if let Some(index) = step.filter(|_| !held.is_empty()) {
                held.swap_remove(index.index(held.len()));
                continue;
            }
            let loads: Vec<_> = counts(&table).iter().zip(&weights).map(|(count, weight)| *count as f64 / weight).collect();
            let candidates = loads.iter().zip(&weights).filter(|(_, weight)| **weight >= heaviest);
            let least = candidates.map(|(load, _)| *load).fold(f64::MAX, f64::min);
            let lease: Lease = pick(&table);
            let picked = usize::from(lease.address().port()) - 1;
            prop_assert!((loads[picked] - least).abs() < 1e-9 && weights[picked] >= heaviest, "{loads:?}");
            held.push(lease);
        }
    }

    #[test]
    fn what_is_changed_and_changed_back_leaves_the_turns_as_they_were(
        weights in weights(),
        policy in prop::sample::select(&IN_TURNS),
        disturbances in prop::collection::vec((0..12usize, 0..4u8), 1..200),
    ) {
        let (left_alone, disturbed) = (watched(policy, &weights), watched(policy, &weights));
        for (index, how) in disturbances {
            let index = index % weights.len();
            disturb(&disturbed, index as u16 + 1, weights[index], how);
            prop_assert_eq!(short(&left_alone), short(&disturbed));
        }
    }
}
