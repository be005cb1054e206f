//! What the next process knows of the table.

use super::single::Told;
use super::*;

fn name(text: &str) -> Endpoint {
    Endpoint { host: Host::Name(text.to_owned()), port: 3306 }
}

fn successor(table: &Rotation) -> Rotation {
    let next = table_of(balancing(PolicyKind::RoundRobin));
    hand_over(table, &next);
    next
}

#[test]
fn names_that_have_not_resolved_keep_their_places_among_the_destinations() {
    let table = table(PolicyKind::RoundRobin, &[]);
    for port in 1..4u16 {
        table.expect(&name(&format!("db{port}")), f64::from(port), Reason::new("unknown")).expect("there is room");
        add(&table, port, 1.0);
    }
    table.expect(&name("last"), 9.0, Reason::new("unknown")).expect("there is room");
    let next = successor(&successor(&table));
    let names: Vec<_> = next.unresolved().into_iter().map(|it| (it.endpoint.to_string(), it.weight)).collect();
    assert_eq!(
        names,
        [("db1:3306", 1.0), ("db2:3306", 2.0), ("db3:3306", 3.0), ("last:3306", 9.0)]
            .map(|(it, weight)| (it.to_owned(), weight))
    );
    for (place, text) in ["db1", "db2", "db3", "last"].into_iter().enumerate() {
        next.follow(&name(text), &[at(10 + place as u16)], false);
    }
    let ports: Vec<_> = next.snapshot().iter().map(|row| row.address.port()).collect();
    assert_eq!(ports, [10, 1, 11, 2, 12, 3, 13]);
}

#[test]
fn all_that_is_known_of_a_destination_is_handed_over() {
    let table = watched(PolicyKind::RoundRobin, &[1.0, 2.0]);
    let checked = Some(Instant::now());
    let health = Health {
        verdict: Some(Verdict::Spare),
        reason: Reason::new("it lags"),
        latency: Duration::from_millis(7),
        scale: 0.5,
        checked,
        since: None,
        agent: AgentState {
            percent: 50,
            max_connections: Some(7),
            mode: AgentMode::Drain,
            mode_reason: "busy".into(),
            down: Some("fail".into()),
        },
    };
    table.judge(table.snapshot()[1].id, at(2), health, true);
    table.give(&name("db"), at(1), 3.0).expect("there is room");
    table.give(&at(1).into(), at(1), 3.0).expect("there is room");
    table.discover(at(3), 4.0).expect("there is room");
    table.withdraw(at(4));
    let next = successor(&table);
    // As this process numbers them, which is nobody's business but its own.
    let rows = |table: &Rotation| {
        let known = |row: DestinationStatus| (row.wanted_as, row.address, row.origin, row.weight, row.health);
        table.snapshot().into_iter().map(known).collect::<Vec<_>>()
    };
    let since = |rows: Vec<(Vec<Endpoint>, PeerAddress, Origin, f64, Health)>| {
        rows.into_iter()
            .map(|(names, address, origin, weight, health)| {
                let age = health.checked.map(|checked| checked.elapsed().as_secs());
                (names, address, origin, weight, Health { checked: None, ..health }, age)
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(since(rows(&next)), since(rows(&table)));
    assert_eq!(next.withdrawn(), [at(4)]);
    assert_eq!(next.own_connections(), []);
    let _lease = table.pick(client(1), &mut Tried::default(), Instant::now()).leased().expect("one is READY");
    assert_eq!(table.own_connections().iter().map(|(_, count)| *count).collect::<Vec<_>>(), [1]);
}

#[test]
fn a_destination_that_another_process_has_moved_is_known_by_its_new_address_and_keeps_its_sessions() {
    let table = table(PolicyKind::RoundRobin, &[1.0]);
    let session = pick(&table);
    let told = Told::by(&table);
    table.rename(at(1), at(9));
    table.rename(at(5), at(6));
    assert_eq!(told.take(), []);
    assert_eq!((short(&table), counts(&table)), (9, vec![1]));
    assert_eq!(table.remove(at(9)), Ok(Change::Removed(1)));
    drop(session);
}
