//! Names: whatever they resolve to, and whatever is done by hand meanwhile, each stands where it says.

use std::collections::HashSet;

use super::single::Told;
use super::*;

const NAMES: usize = 3;
const PORTS: std::ops::Range<u16> = 1..6;

#[derive(Debug, Clone)]
enum Action {
    /// A name that had this address when it was added.
    Add(usize, u16, f64),
    /// One that does not resolve.
    Expect(usize, f64),
    /// What is there is wanted by its address, too.
    Give(u16),
    Resolve(usize, Vec<u16>, bool),
    Drop(usize),
    Remove(u16),
    Come,
    Leave(usize),
}

fn action() -> impl Strategy<Value = Action> {
    let (name, weight) = (0..NAMES, (1..4u8).prop_map(f64::from));
    prop_oneof![
        2 => (name.clone(), PORTS, weight.clone()).prop_map(|(name, port, weight)| Action::Add(name, port, weight)),
        1 => (name.clone(), weight).prop_map(|(name, weight)| Action::Expect(name, weight)),
        1 => PORTS.prop_map(Action::Give),
        8 => (name.clone(), prop::sample::subsequence(PORTS.collect::<Vec<_>>(), 1..4).prop_shuffle(), any::<bool>())
            .prop_map(|(name, ports, all)| Action::Resolve(name, ports, all)),
        1 => name.prop_map(Action::Drop),
        1 => PORTS.prop_map(Action::Remove),
        3 => Just(Action::Come),
        2 => any::<usize>().prop_map(Action::Leave),
    ]
}

fn name(number: usize) -> Endpoint {
    Endpoint { host: Host::Name(format!("db{number}")), port: 3306 }
}

fn reason() -> Reason {
    Reason::new("it does not resolve")
}

/// The destinations that a name stands for, and whether they take new clients for its sake.
fn rows_of(table: &Rotation, name: &Endpoint) -> Vec<DestinationStatus> {
    table.snapshot().into_iter().filter(|row| row.wanted_as.contains(name)).collect()
}

/// The addresses that a name has, sorted.
fn live(table: &Rotation, name: &Endpoint) -> Vec<PeerAddress> {
    let named = table.named_addresses().into_iter().filter(|(it, _)| it == name);
    let mut live: Vec<_> = named.map(|(_, address)| address).collect();
    live.sort();
    live
}

fn act(table: &Rotation, leases: &mut Vec<Lease>, action: &Action) -> Result<(), TestCaseError> {
    match action {
        Action::Add(number, port, weight) => {
            table.set(&name(*number), at(*port), *weight).expect("there is room");
            prop_assert!(table.addresses_of(&name(*number)).contains(&at(*port)));
        }
        Action::Expect(number, weight) => {
            let before = table.addresses_of(&name(*number));
            table.expect(&name(*number), *weight, reason()).expect("there is room");
            prop_assert_eq!(table.addresses_of(&name(*number)), before, "one that stands somewhere stays there");
        }
        Action::Give(port) => drop(table.give(&at(*port).into(), at(*port), 1.0)),
        Action::Resolve(number, ports, all) => resolve(table, &name(*number), ports, *all)?,
        Action::Drop(number) => drop_name(table, &name(*number))?,
        Action::Remove(port) => {
            let was_there = table.snapshot().iter().any(|row| row.address == at(*port));
            prop_assert_eq!(table.remove(at(*port)).is_ok(), was_there);
            prop_assert_eq!(
                table.withdrawn().contains(&at(*port)),
                was_there || table.withdrawn().contains(&at(*port))
            );
        }
        Action::Come => leases.extend(table.pick(client(1), &mut Tried::default(), Instant::now()).leased()),
        Action::Leave(index) if !leases.is_empty() => drop(leases.swap_remove(index % leases.len())),
        Action::Leave(_) => {}
    }
    Ok(())
}

fn resolve(table: &Rotation, name: &Endpoint, ports: &[u16], all: bool) -> Result<(), TestCaseError> {
    let found: Vec<_> = ports.iter().map(|port| at(*port)).collect();
    let (before, was_live, withdrawn) = (table.snapshot(), live(table, name), table.withdrawn());
    let had = table.addresses_of(name);
    let weights: Vec<f64> = table.unresolved().iter().filter(|it| it.endpoint == *name).map(|it| it.weight).collect();
    let is_known = table.names().contains(name);
    let news = table.follow(name, &found, all);
    prop_assert_eq!(table.names().contains(name), is_known, "whatever it resolves to, it is followed");
    if !is_known {
        prop_assert_eq!((news, &table.snapshot()), (vec![], &before), "nothing follows from a name that is not there");
        return Ok(());
    }
    let (after, is_live) = (table.snapshot(), live(table, name));
    if all {
        // One that was removed by hand does not come back with a name that has been there before.
        let is_wanted = |it: &&PeerAddress| had.is_empty() || had.contains(it) || !withdrawn.contains(it);
        let mut wanted: Vec<_> = found.iter().filter(is_wanted).copied().collect();
        wanted.sort();
        // With nowhere to go, it stays with those that others want, and takes no clients elsewhere.
        let shared =
            |it: &&PeerAddress| rows_of(table, name).iter().any(|row| row.address == **it && row.wanted_as.len() > 1);
        let is_right = if wanted.is_empty() { is_live.iter().all(|it| shared(&it)) } else { is_live == wanted };
        prop_assert!(is_right, "{is_live:?}, not {wanted:?}");
    } else {
        match was_live.iter().find(|it| found.contains(it)) {
            Some(_) => prop_assert!(is_live.len() == 1 && was_live.contains(&is_live[0]), "it keeps what it has"),
            None => prop_assert_eq!(&is_live[..], &found[..1]),
        }
    }
    for row in after.iter().filter(|row| weights.len() == 1 && !before.iter().any(|it| it.address == row.address)) {
        prop_assert_eq!(row.weight, weights[0], "the weight that it was added with");
    }
    follows(&before, &after, name)?;
    for event in news {
        let row = |address| after.iter().find(|row| row.address == address);
        let wanted = |address| row(address).is_some_and(|row| row.wanted_as.contains(name));
        let was_there = |address| before.iter().any(|row| row.address == address);
        let is_right = match event {
            Followed::Moved(from, to) => was_there(from) && !was_there(to) && wanted(to) && row(from).is_none(),
            Followed::Added(address) => wanted(address) && !was_there(address),
            Followed::Joined(address) => wanted(address) && was_there(address) && !had.contains(&address),
            Followed::Regained(address) => is_live.contains(&address) && !was_live.contains(&address),
            Followed::Lost(address) => was_live.contains(&address) && !is_live.contains(&address),
            Followed::Left(address) => was_there(address) && row(address).is_some() && !wanted(address),
            Followed::Removed(address) => was_there(address) && row(address).is_none(),
            Followed::Refused(..) => false,
        };
        prop_assert!(is_right, "{event:?}");
    }
    Ok(())
}

/// What others want stays where it is; what has connections stays in the table.
fn follows(before: &[DestinationStatus], after: &[DestinationStatus], name: &Endpoint) -> Result<(), TestCaseError> {
    for row in before {
        let now = after.iter().find(|it| it.id == row.id);
        let others =
            |row: &DestinationStatus| row.wanted_as.iter().filter(|it| *it != name).cloned().collect::<Vec<_>>();
        if !others(row).is_empty() {
            prop_assert_eq!(now.map(|it| (it.address, others(it))), Some((row.address, others(row))));
        }
        prop_assert!(row.connections == 0 || now.is_some(), "a change of a name closes nothing");
        let concerns = |it: &DestinationStatus| it.wanted_as.contains(name);
        prop_assert!(concerns(row) || now.is_some_and(|it| concerns(it) || it == row), "nothing else has changed");
    }
    Ok(())
}

fn drop_name(table: &Rotation, name: &Endpoint) -> Result<(), TestCaseError> {
    let (before, known) = (table.snapshot(), table.names().contains(name));
    let gone = table.remove_name(name);
    prop_assert_eq!(gone.is_ok(), known);
    prop_assert!(!table.names().contains(name) && !table.is_unresolved(name));
    let after = table.snapshot();
    for row in before.iter().filter(|row| row.wanted_as.contains(name)) {
        let is_there = after.iter().any(|it| it.id == row.id);
        prop_assert_eq!(is_there, row.wanted_as.len() > 1, "it stays for the sake of others");
        let expected = (row.address, (!is_there).then_some(row.connections));
        prop_assert!(gone.as_ref().is_ok_and(|gone| gone.contains(&expected)), "{gone:?}");
        prop_assert!(is_there || table.withdrawn().contains(&row.address));
    }
    Ok(())
}

fn is_consistent(table: &Rotation, leases: &[Lease]) -> Result<(), TestCaseError> {
    let (rows, names) = (table.snapshot(), table.names());
    prop_assert!(rows.is_empty() || table.connections() == rows.iter().map(|row| row.connections).sum::<usize>());
    let addresses: HashSet<_> = rows.iter().map(|row| row.address).collect();
    prop_assert_eq!(addresses.len(), rows.len(), "one destination an address");
    for row in &rows {
        prop_assert!(!row.wanted_as.is_empty());
        prop_assert_eq!(row.wanted_as.iter().collect::<HashSet<_>>().len(), row.wanted_as.len());
        for wanted in row.wanted_as.iter().filter(|it| matches!(it.host, Host::Name(_))) {
            prop_assert!(names.contains(wanted), "{wanted:?} is known");
        }
        let held = leases.iter().filter(|lease| lease.id() == row.id).count();
        prop_assert_eq!(row.connections, held);
    }
    for name in &names {
        let mut standing = table.addresses_of(name);
        let mut expected: Vec<_> = rows_of(table, name).iter().map(|row| row.address).collect();
        standing.sort();
        expected.sort();
        prop_assert_eq!(&standing, &expected);
        prop_assert_eq!(standing.is_empty(), table.is_unresolved(name));
    }
    let unresolved: HashSet<_> = table.unresolved().into_iter().map(|it| it.endpoint).collect();
    prop_assert_eq!(unresolved, names.into_iter().filter(|name| table.is_unresolved(name)).collect());
    Ok(())
}

proptest! {
    #[test]
    fn whatever_names_resolve_to_each_stands_where_it_says(actions in prop::collection::vec(action(), 1..60)) {
        let (table, mut leases) = (table(PolicyKind::RoundRobin, &[]), Vec::new());
        for action in actions {
            act(&table, &mut leases, &action)?;
            is_consistent(&table, &leases)?;
        }
        drop(leases);
        prop_assert_eq!(table.connections(), 0);
    }
}

#[test]
fn a_name_that_does_not_resolve_keeps_its_place_and_the_weight_that_it_was_given() {
    let table = table(PolicyKind::RoundRobin, &[1.0]);
    table.expect(&name(1), 2.0, reason()).expect("there is room");
    add(&table, 2, 1.0);
    table.expect(&name(2), 1.0, reason()).expect("there is room");
    assert_eq!(table.reweigh_unresolved(&name(1), 3.0), Some(2.0));
    assert_eq!(table.reweigh_unresolved(&name(7), 3.0), None);
    table.still_unresolved(&name(1), Reason::new("no such name"));
    let unresolved: Vec<_> = table.unresolved().into_iter().map(|it| (it.endpoint, it.reason.to_string())).collect();
    assert_eq!(unresolved, [(name(1), "no such name".to_owned()), (name(2), "it does not resolve".to_owned())]);
    let told = Told::by(&table);
    assert_eq!(table.follow(&name(1), &[at(7)], false), [Followed::Added(at(7))]);
    assert_eq!(told.take().last(), Some(&Event::Named));
    assert_eq!(table.follow(&name(1), &[at(7), at(8)], false), [], "it stays where it is");
    assert_eq!(told.take(), [], "that is no news");
    let rows: Vec<_> = table.snapshot().into_iter().map(|row| (row.address, row.weight)).collect();
    assert_eq!(rows, [(at(1), 1.0), (at(7), 3.0), (at(2), 1.0)]);
    assert_eq!(table.reweigh_unresolved(&name(1), 5.0), None, "it is a destination now");
}

#[test]
fn an_address_of_a_name_taken_whole_that_was_removed_by_hand_does_not_come_back() {
    let table = table(PolicyKind::RoundRobin, &[]);
    table.set(&name(1), at(1), 1.0).expect("there is room");
    table.follow(&name(1), &[at(1), at(2)], true);
    table.remove(at(2)).expect("it is there");
    assert_eq!(table.follow(&name(1), &[at(1), at(2)], true), []);
    add(&table, 2, 1.0);
    assert_eq!(table.withdrawn(), [], "until a hand adds it again");
}

/// Also when all that it resolves to was removed by hand, or has no room for one more name.
#[test]
fn a_name_that_can_stand_nowhere_takes_no_clients_and_is_followed_when_it_can() {
    let table = table(PolicyKind::RoundRobin, &[]);
    table.set(&name(1), at(1), 2.0).expect("there is room");
    table.follow(&name(1), &[at(1), at(2)], true);
    table.remove(at(2)).expect("it is there");
    assert_eq!(table.follow(&name(1), &[at(2)], true), [Followed::Lost(at(1))]);
    assert!(table.pick(client(1), &mut Tried::default(), Instant::now()).leased().is_none());
    assert_eq!(table.follow(&name(1), &[at(2)], true), [], "it is news once");
    let news = table.follow(&name(1), &[at(2), at(3)], true);
    assert_eq!(news, [Followed::Added(at(3)), Followed::Removed(at(1))]);
    let rows: Vec<_> = table.snapshot().into_iter().map(|row| (row.address, row.weight)).collect();
    assert_eq!(rows, [(at(3), 2.0)], "with the weight that it had");
}

#[test]
fn a_destination_has_only_so_many_names() {
    let table = table(PolicyKind::RoundRobin, &[1.0]);
    let refused = (0..300).find(|number| table.set(&name(*number), at(1), 1.0).is_err());
    assert_eq!(refused, Some(255), "with its address, that is 256");
    assert_eq!(table.set(&name(0), at(1), 1.0), Ok(Change::Reweighted(1.0)), "one that it has is no other");
    table.set(&name(300), at(2), 1.0).expect("there is room elsewhere");
    let full = Followed::Refused(at(1), TableError::TooManyNames);
    assert_eq!(table.follow(&name(300), &[at(1)], false).first(), Some(&full));
}

#[test]
fn no_more_names_are_waited_for_than_there_may_be_destinations() {
    let table = table(PolicyKind::RoundRobin, &[]);
    for number in 0..=MAX_DESTINATIONS {
        let expected = if number < MAX_DESTINATIONS { Ok(()) } else { Err(TableError::Full) };
        assert_eq!(table.expect(&name(number), 1.0, reason()), expected);
    }
    assert_eq!(table.expect(&name(0), 1.0, reason()), Ok(()), "one that is there is no other");
}
