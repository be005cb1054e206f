//! Destinations that are not asked for any more.

use super::single::{Told, marked, single};
use super::*;

fn name(text: &str) -> Endpoint {
    Endpoint { host: Host::Name(text.to_owned()), port: 3306 }
}

#[test]
fn one_without_connections_goes_at_once() {
    let table = table(PolicyKind::RoundRobin, &[1.0, 1.0]);
    assert_eq!(table.dismiss(&at(1).into()), [Dismissed::Removed(at(1))]);
    assert_eq!(table.snapshot().len(), 1);
    assert_eq!(table.withdrawn(), [], "a cluster may still bring it back");
    assert_eq!(table.dismiss(&at(9).into()), []);
}

#[test]
fn one_with_connections_takes_no_more_and_goes_with_the_last() {
    let table = table(PolicyKind::RoundRobin, &[1.0, 1.0]);
    let sessions = [pick(&table), pick(&table), pick(&table)];
    let told = Told::by(&table);
    let its = sessions.iter().filter(|it| it.address() == at(1)).count();
    assert_eq!(table.dismiss(&at(1).into()), [Dismissed::Drained(at(1), its)]);
    assert!((0..4).all(|_| pick(&table).address() == at(2)));
    assert!(told.closed().is_empty());
    table.set_elsewhere(at(1), 1);
    drop(sessions);
    assert_eq!(table.snapshot().len(), 2, "another process has one");
    table.set_elsewhere(at(1), 0);
    assert_eq!(table.snapshot().len(), 1);
}

#[test]
fn one_that_is_asked_for_again_stays() {
    let table = table(PolicyKind::RoundRobin, &[1.0, 1.0]);
    let sessions = [pick(&table), pick(&table)];
    table.dismiss(&at(1).into());
    table.set(&at(1).into(), at(1), 2.0).expect("there is room");
    drop(sessions);
    assert_eq!(
        table.snapshot().iter().map(|it| (it.weight, it.is_leaving)).collect::<Vec<_>>(),
        [(2.0, false), (1.0, false)]
    );
}

#[test]
fn one_that_is_given_again_is_as_one_that_was_added_and_stays_without_a_weight_too() {
    for weight in [0.0, 2.0] {
        let table = table(PolicyKind::RoundRobin, &[1.0]);
        let session = pick(&table);
        table.dismiss(&at(1).into());
        let give = || table.give(&at(1).into(), at(1), weight).expect("there is room");
        assert_eq!(give(), Change::Added);
        assert_eq!(give(), Change::Reweighted(weight), "the second time, it is given more than once");
        drop(session);
        assert_eq!(table.snapshot().iter().map(|it| it.weight).collect::<Vec<_>>(), [weight]);
    }
}

#[test]
fn one_that_something_else_wants_stays_and_a_name_is_no_longer_followed() {
    let table = table(PolicyKind::RoundRobin, &[]);
    table.give(&name("db1"), at(1), 1.0).expect("there is room");
    table.give(&name("db2"), at(1), 1.0).expect("there is room");
    table.give(&name("db3"), at(3), 1.0).expect("there is room");
    table.expect(&name("db4"), 1.0, Reason::new("unknown")).expect("there is room");
    let session = pick(&table);
    assert_eq!(table.dismiss(&name("db2")), [Dismissed::Stays(at(1))]);
    let (one, other) = (pick(&table), pick(&table));
    assert_eq!(table.dismiss(&name("db3")).len(), 1);
    assert_eq!(table.dismiss(&name("db4")), []);
    assert_eq!(table.names(), [name("db1")]);
    assert_eq!(table.follow(&name("db3"), &[at(7)], false), []);
    drop((session, one, other));
    assert_eq!(table.snapshot().iter().map(|it| it.address).collect::<Vec<_>>(), [at(1)]);
}

#[test]
fn a_writer_that_is_dropped_moves() {
    let table = single(&[2.0, 1.0]);
    let session = pick(&table);
    let told = Told::by(&table);
    assert_eq!(table.dismiss(&at(1).into()), [Dismissed::Drained(at(1), 1)]);
    assert_eq!((told.closed(), marked(&table)), (vec![1], Some(2)));
    drop(session);
    assert_eq!((pick(&table).address(), table.snapshot().len()), (at(2), 1));
}
