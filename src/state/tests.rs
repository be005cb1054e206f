use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::contents::Entry;
use super::*;
use crate::address::{PeerAddress, parse_destination};
use crate::config::Config;
use crate::desired::DestinationsChange;
use crate::pool::health::ShutdownSessions;
use crate::pool::{Balancing, PolicyKind, Pool, PoolSettings, Rotation, Tried};
use crate::service::{Service, ServiceEntry};

fn spec(text: &str) -> DestinationSpec {
    parse_destination(text, None).expect("a destination")
}

/// A table as the command line makes it.
fn table(base: &[DestinationSpec]) -> Rotation {
    table_with(PolicyKind::LeastConnected, base)
}

fn table_with(policy: PolicyKind, base: &[DestinationSpec]) -> Rotation {
    let table =
        Pool::new(PoolSettings { avoid_failed_for: Duration::from_secs(2), watched: false, ..PoolSettings::default() })
            .rotation(Balancing { policy, top: false, shutdown_sessions: ShutdownSessions::Elsewhere });
    base.iter().for_each(|it| give(&table, it));
    table
}

/// Adds a destination that is asked for.
fn give(table: &Rotation, spec: &DestinationSpec) {
    table.give(&spec.endpoint, spec.endpoint.address().expect("an address"), spec.weight).expect("there is room");
}

/// Has a table follow what is asked for from now on, as a reload does.
fn reload(table: &Rotation, before: &[DestinationSpec], now: &[DestinationSpec]) {
    let change = DestinationsChange::between(before, now);
    change.added.iter().for_each(|it| give(table, it));
    for it in &change.reweighted {
        // One that a hand has removed stays away.
        let _ = table.reweigh_as_given(it.endpoint.address().expect("an address"), it.weight);
    }
    change.dropped.iter().for_each(|it| drop(table.dismiss(it)));
}

/// Does what the control port does.
fn obey(table: &Rotation, change: &DestinationSpec) {
    let address = change.endpoint.address().expect("an address");
    // Not everything that is drained or removed is there.
    let _ = match change.weight {
        weight if weight < 0.0 => table.remove(address),
        0.0 => table.drain(address),
        weight => table.set(&change.endpoint, address, weight),
    };
}

/// The destinations, in their order, and those that were removed.
fn contents(table: &Rotation) -> (Vec<(String, f64)>, Vec<PeerAddress>) {
    let rows: Vec<_> = table.snapshot().iter().map(|it| (it.address.to_string(), it.weight)).collect();
    let mut withdrawn = table.withdrawn();
    withdrawn.sort();
    (rows, withdrawn)
}

fn file(directory: &tempfile::TempDir) -> StateFile {
    StateFile::new(&directory.path().join("state"))
}

/// A daemon that was asked for these destinations, and has them in this table.
fn setup(table: &Rotation, base: &[DestinationSpec]) -> Setup {
    let mut config = config("main", base);
    let (pool, service) = (config.pools.remove(0), config.services.remove(0));
    let pools = vec![PoolEntry { config: pool, pool: table.pool().clone() }];
    let options = service.connections.clone();
    let service_of = Service::new("main", table.clone(), options);
    Setup { pools, services: vec![ServiceEntry { config: service, service: service_of }], ..Setup::default() }
}

fn changes(table: &Rotation, base: &[DestinationSpec]) -> Vec<Entry> {
    Base { destinations: base, all_addresses: false, finds_more: true }.changes(table)
}

fn load(state: &StateFile, table: &Rotation, base: &[DestinationSpec]) -> Loaded {
    state.load(&setup(table, base), &OwnAddresses::default()).expect("a file")
}

fn config(name: &str, base: &[DestinationSpec]) -> Config {
    let words = ["glbd", "-w", "tcp", "--discover", "1"].map(str::to_owned);
    let mut config = Config::from_command_line(words).expect("a command line");
    config.pools[0].destinations = base.to_vec();
    config.pools[0].name = name.into();
    (config.services[0].pool, config.services[0].name) = (name.into(), name.into());
    config
}

fn change() -> impl Strategy<Value = DestinationSpec> {
    let weight = prop_oneof![Just(-1.0), Just(0.0), Just(1.0), 1e-9f64..1e9];
    (1u16..8, weight).prop_map(|(port, weight)| DestinationSpec { weight, ..spec(&format!("10.0.0.1:{port}")) })
}

proptest! {
    #[test]
    fn whatever_was_changed_is_there_after_a_restart(changes in prop::collection::vec(change(), 0..40)) {
        let directory = tempfile::tempdir().expect("a directory");
        let base: Vec<DestinationSpec> = (1..5).map(|port| spec(&format!("10.0.0.1:{port}:{port}"))).collect();
        let state = file(&directory);
        let before = table(&base);
        changes.iter().for_each(|change| obey(&before, change));
        state.save(&setup(&before, &base)).expect("a file");
        let after = table(&base);
        prop_assert!(matches!(load(&state, &after, &base), Loaded::Changes(_, remarks) if remarks.is_empty()));
        prop_assert_eq!(contents(&before), contents(&after));
    }

    #[test]
    fn nothing_is_written_of_what_reloads_have_changed(
        lists in prop::collection::vec(prop::sample::subsequence((1u16..8).collect::<Vec<_>>(), 0..8).prop_shuffle(), 1..6),
        weights in prop::collection::vec(1u8..3, 8),
    ) {
        let list = |(round, ports): (usize, &Vec<u16>)| -> Vec<DestinationSpec> {
            let weight = |port: u16| weights[(usize::from(port) + round) % weights.len()];
            ports.iter().map(|port| spec(&format!("10.0.0.1:{port}:{}", weight(*port)))).collect()
        };
        let lists: Vec<_> = lists.iter().enumerate().map(list).collect();
        let table = table(&lists[0]);
        for pair in lists.windows(2) {
            reload(&table, &pair[0], &pair[1]);
            prop_assert_eq!(changes(&table, &pair[1]), []);
        }
    }

    #[test]
    fn a_file_that_was_cut_short_or_altered_is_damaged(cut in 0usize..400, flip in 0usize..400) {
        let base = [spec("10.0.0.1:1"), spec("10.0.0.1:2")];
        let changed = table(&base);
        obey(&changed, &spec("10.0.0.1:1:0.3"));
        obey(&changed, &spec("10.0.0.1:2:-1"));
        let entries = changes(&changed, &base);
        let text = print(&Contents { entries, ..Contents::default() }).into_bytes();
        prop_assert!(parse(&text).is_ok());
        // The last byte is a newline, which is not missed.
        prop_assert!(parse(&text[..cut % (text.len() - 1)]).is_err());
        let mut altered = text.clone();
        let place = flip % (text.len() - 1);
        altered[place] ^= 1;
        prop_assert!(parse(&altered).is_err());
    }

    #[test]
    fn nothing_that_is_in_the_file_makes_it_panic(text in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse(&text);
    }
}

#[test]
fn nothing_is_written_of_what_the_command_line_says_anyway() {
    let base = [spec("10.0.0.1:1:2"), spec("10.0.0.1:2")];
    let table = table(&base);
    assert_eq!(changes(&table, &base), []);
    obey(&table, &spec("10.0.0.1:1:0"));
    assert_eq!(changes(&table, &base).len(), 1);
    obey(&table, &spec("10.0.0.1:1:2"));
    assert_eq!(changes(&table, &base), []);
}

#[test]
fn what_was_added_and_removed_leaves_nothing_where_nothing_is_found_by_itself() {
    let destinations = [spec("10.0.0.1:1")];
    let base = Base { destinations: &destinations, all_addresses: false, finds_more: false };
    let table = table(&[spec("10.0.0.1:1")]);
    obey(&table, &spec("10.0.0.1:2"));
    obey(&table, &spec("10.0.0.1:2:-1"));
    assert_eq!(base.changes(&table), []);
    obey(&table, &spec("10.0.0.1:1:-1"));
    assert_eq!(base.changes(&table).len(), 1);
}

#[test]
fn what_hands_have_done_is_kept_apart_from_what_a_reload_has_put_before_or_behind_it() {
    let before = [spec("10.0.0.1:1"), spec("10.0.0.1:2"), spec("10.0.0.1:3")];
    let now = [spec("10.0.0.1:4"), spec("10.0.0.1:3"), spec("10.0.0.1:1"), spec("10.0.0.1:2")];
    let lines = |table: &Rotation, base: &[DestinationSpec]| -> Vec<String> {
        changes(table, base).iter().map(|it| format!("{}:{}", it.spec.endpoint, it.spec.weight)).collect()
    };
    let table = table(&before);
    obey(&table, &spec("10.0.0.1:7:2"));
    obey(&table, &spec("10.0.0.1:2:0"));
    reload(&table, &before, &now);
    assert_eq!(lines(&table, &now), ["10.0.0.1:2:0", "10.0.0.1:7:2"]);
    // One that hands put last is last again.
    obey(&table, &spec("10.0.0.1:1:-1"));
    obey(&table, &spec("10.0.0.1:1"));
    assert_eq!(lines(&table, &now), ["10.0.0.1:1:-1", "10.0.0.1:2:0", "10.0.0.1:7:2", "10.0.0.1:1:1"]);
    // Another process goes on with that.
    let next = table_with(PolicyKind::LeastConnected, &[]);
    next.restore(table.save(Instant::now()), Instant::now());
    assert_eq!(lines(&next, &now), lines(&table, &now));
    // What the file says otherwise of a destination, it says of all of it.
    let other = [spec("10.0.0.1:4"), spec("10.0.0.1:1:3"), spec("10.0.0.1:2"), spec("10.0.0.1:7:2")];
    reload(&table, &now, &other);
    assert_eq!(lines(&table, &other), ["10.0.0.1:2:0"]);
}

#[test]
fn each_address_of_a_name_is_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let (state, before) = (file(&directory), table(&[]));
    let named = spec("nowhere.invalid:3306:2");
    let addresses = [1, 2].map(|last| PeerAddress::from(([10, 0, 0, last], 3306)));
    for address in addresses {
        before.set(&named.endpoint, address, named.weight).expect("there is room");
    }
    state.save(&setup(&before, &[])).expect("a file");
    let after = table(&[]);
    load(&state, &after, &[]);
    assert_eq!(contents(&after), contents(&before));
}

#[test]
fn a_name_that_does_not_resolve_is_where_it_was() {
    let directory = tempfile::tempdir().expect("a directory");
    let (state, before) = (file(&directory), table(&[]));
    let (named, address) = (spec("nowhere.invalid:3306:2"), PeerAddress::from(([10, 0, 0, 9], 3306)));
    before.set(&named.endpoint, address, named.weight).expect("there is room");
    state.save(&setup(&before, &[])).expect("a file");
    let after = table(&[]);
    assert_eq!(load(&state, &after, &[]), Loaded::Changes(vec!["nowhere.invalid:3306:2".to_owned()], vec![]));
    let row = after.snapshot().remove(0);
    assert_eq!((row.wanted_as, row.address, row.weight), (vec![named.endpoint], address, 2.0));
}

#[test]
fn the_single_destination_that_was_chosen_by_hand_is_chosen_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = [spec("10.0.0.1:1:3"), spec("10.0.0.1:2"), spec("10.0.0.1:3")];
    let (state, before) = (file(&directory), table_with(PolicyKind::Single, &base));
    let (second, now) = (PeerAddress::from(([10, 0, 0, 1], 2)), Instant::now());
    before.switch_single(second, Duration::ZERO, now, Box::new(|_| {})).expect("it is fit");
    state.save(&setup(&before, &base)).expect("a file");
    let after = table_with(PolicyKind::Single, &base);
    assert_eq!(load(&state, &after, &base), Loaded::Changes(vec!["writer 10.0.0.1:2".to_owned()], vec![]));
    assert_eq!(
        after.pick([10, 0, 0, 9].into(), &mut Tried::default(), now).leased().map(|it| it.address()),
        Some(second)
    );
    // Where nothing is single any more, that is said.
    let remarks = vec!["writer 10.0.0.1:2: it cannot be the single destination".to_owned()];
    assert_eq!(load(&state, &table(&base), &base), Loaded::Changes(vec![], remarks));
}

#[test]
fn an_address_that_nothing_can_be_connected_to_is_nobodys() {
    for useless in ["0.0.0.0:3306", "[::]:3306", "[::ffff:0.0.0.0]:3306", "224.0.0.1:3306"] {
        let address: PeerAddress = useless.parse().expect("an address");
        let named = spec("nowhere.invalid:3306:2");
        let entries = vec![Entry { of: None, spec: named.clone(), address: Some(address) }];
        let text = print(&Contents { at: entries.clone(), entries, writers: Vec::new() });
        let contents = parse(text.as_bytes()).expect("it is whole");
        assert_eq!((contents.entries[0].address, contents.at.len()), (None, 0), "{useless}");
        // Nor in the table of another process.
        let (before, after) = (table(&[]), table(&[]));
        before.set(&named.endpoint, address, 1.0).expect("there is room");
        after.restore(before.save(Instant::now()), Instant::now());
        after.restore_choices(before.save_choices(Instant::now()), Instant::now());
        assert_eq!(after.snapshot(), [], "{useless}");
    }
}

#[test]
fn each_pool_has_its_own_changes_and_each_service_its_own_writer() {
    let directory = tempfile::tempdir().expect("a directory");
    let base = [spec("10.0.0.1:1"), spec("10.0.0.1:2")];
    let both = |first: &Rotation, second: &Rotation| {
        let [mut one, other] = [first, second].map(|it| setup(it, &base));
        one.pools[0].config.name = "galera".into();
        (one.services[0].config.name, one.services[0].config.pool) = ("writer".into(), "galera".into());
        one.pools.extend(other.pools);
        one.services.extend(other.services);
        one
    };
    let pair = || (table_with(PolicyKind::Single, &base), table(&base));
    let (first, second) = pair();
    obey(&first, &spec("10.0.0.1:1:0"));
    obey(&second, &spec("10.0.0.1:3:5"));
    let chosen = PeerAddress::from(([10, 0, 0, 1], 2));
    first.switch_single(chosen, Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is fit");
    let state = file(&directory);
    state.save(&both(&first, &second)).expect("a file");
    let (third, fourth) = pair();
    let loaded = state.load(&both(&third, &fourth), &OwnAddresses::default()).expect("a file");
    let made = ["galera/10.0.0.1:1:0", "10.0.0.1:3:5", "writer writer/10.0.0.1:2"].map(str::to_owned);
    assert_eq!(loaded, Loaded::Changes(made.to_vec(), vec![]));
    assert_eq!((contents(&third), contents(&fourth)), (contents(&first), contents(&second)));
    // A pool that is there no more is said to be, and costs the others nothing.
    let alone = table(&base);
    let Loaded::Changes(made, remarks) = load(&state, &alone, &base) else { panic!("it is whole") };
    assert_eq!(made, ["10.0.0.1:3:5"]);
    assert_eq!(
        remarks,
        ["writer writer/10.0.0.1:2: there is no such service", "galera/10.0.0.1:1: there is no such pool"]
    );
}
