//! Weights as they are changed by hand, and what is seen of them.

use super::*;

fn weights_of(table: &Rotation) -> Vec<f64> {
    table.snapshot().iter().map(|it| it.weight).collect()
}

#[test]
fn a_drained_destination_gets_the_weight_back_that_it_had() {
    let table = table(PolicyKind::RoundRobin, &[3.0, 0.0]);
    assert_eq!(table.enable(at(1)), Ok((3.0, Change::Reweighted(3.0))), "it has its weight");
    table.drain(at(1)).expect("it is there");
    table.drain(at(1)).expect("it is there");
    assert_eq!(table.enable(at(1)), Ok((3.0, Change::Reweighted(0.0))));
    assert_eq!(weights_of(&table), [3.0, 0.0]);
    assert_eq!(table.enable(at(2)), Err(TableError::NoWeight), "it has never had one");
    assert_eq!(table.enable(at(9)), Err(TableError::NoSuchDestination));
    assert_eq!(table.reweigh(at(2), 2.0), Ok(Change::Reweighted(0.0)));
    table.drain(at(2)).expect("it is there");
    let next = filled(table_of(balancing(PolicyKind::RoundRobin)), &[]);
    hand_over(&table, &next);
    assert_eq!(next.enable(at(2)), Ok((2.0, Change::Reweighted(0.0))), "an upgrade forgets nothing");
}

#[test]
fn shares_are_those_of_the_destinations_that_get_clients() {
    for (top, weights, shares) in [
        (false, &[1.0, 3.0][..], &[0.25, 1.0][..]),
        (true, &[1.0, 2.0, 2.0], &[0.0, 0.5, 1.0]),
        (false, &[0.0, 0.0], &[0.0, 0.0]),
        (true, &[0.0], &[0.0]),
    ] {
        let table = filled(table_of(Given { top, ..balancing(PolicyKind::Random) }), weights);
        let map: Vec<_> = table.snapshot().iter().filter_map(|it| it.map).collect();
        assert_eq!(map, shares, "{weights:?}, {top}");
    }
}

#[test]
fn what_was_tried_is_forgotten_when_it_is_removed_and_its_place_is_anothers() {
    let (table, now) = (table(PolicyKind::RoundRobin, &[1.0]), Instant::now());
    let mut tried: Tried = [pick(&table).id()].into_iter().collect();
    let picks = |tried: &mut Tried| table.pick(client(1), tried, now).leased().map(|lease| lease.address().port());
    assert_eq!(picks(&mut tried), None);
    table.remove(at(1)).expect("it is there");
    add(&table, 2, 1.0);
    assert_eq!(picks(&mut tried), Some(2));
    assert_eq!(tried.count(), 0);
}

#[test]
fn only_so_many_removals_are_remembered_and_no_more_destinations_taken_than_there_may_be() {
    let table = table(PolicyKind::RoundRobin, &[]);
    let many = |number: usize| PeerAddress::from(([10, 0, (number / 250) as u8, (number % 250) as u8], 1));
    for number in 0..=MAX_DESTINATIONS {
        let added = table.set(&many(number).into(), many(number), 1.0);
        assert_eq!(added, if number < MAX_DESTINATIONS { Ok(Change::Added) } else { Err(TableError::Full) });
    }
    assert_eq!(table.snapshot().len(), MAX_DESTINATIONS);
    (0..=MAX_DESTINATIONS).for_each(|number| table.withdraw(many(number)));
    assert_eq!((table.snapshot().len(), table.withdrawn().len()), (0, MAX_DESTINATIONS));
}
