//! Which destination a client gets: least connected, round-robin, random.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::thread;

use crate::harness::{Glbd, Info, Server, names_of, read_line, wait_until};

/// Servers with these names.
fn named<const N: usize>(names: [&str; N]) -> [Server; N] {
    names.map(Server::named)
}

/// The servers as destinations with these weights.
fn weighted<const N: usize>(servers: &[Server; N], weights: [f64; N]) -> Vec<String> {
    servers.iter().zip(weights).map(|(server, weight)| server.weighted(weight)).collect()
}

fn count(names: impl IntoIterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

fn counts<const N: usize>(expected: [(&str, usize); N]) -> BTreeMap<String, usize> {
    expected.map(|(name, count)| (name.to_owned(), count)).into()
}

/// The names of those who serve so many clients, one after the other, each gone before the next comes.
fn one_after_the_other(glbd: &Glbd, clients: usize) -> Vec<String> {
    let visit = |_| {
        let name = read_line(&glbd.connect()).expect("a name");
        wait_until("the client is gone", || glbd.info().total == 0);
        name
    };
    (0..clients).map(visit).collect()
}

/// Clients who come one after the other and stay.
fn held(glbd: &Glbd, clients: usize) -> (Vec<TcpStream>, Vec<String>) {
    let come = |_| {
        let client = glbd.connect();
        let name = read_line(&client).expect("a name");
        (client, name)
    };
    (0..clients).map(come).unzip()
}

#[test]
fn least_connected_spreads_held_connections_exactly_by_weight() {
    let servers = named(["one", "two", "three"]);
    let glbd = Glbd::builder().args(["--threads", "4"]).destinations(weighted(&servers, [1.0, 2.0, 3.0])).start();
    let clients: Vec<TcpStream> = thread::scope(|scope| {
        let crowds = [(); 6].map(|()| scope.spawn(|| held(&glbd, 10).0));
        crowds.into_iter().flat_map(|crowd| crowd.join().expect("ten clients")).collect()
    });
    let spread = |info: Info| servers.each_ref().map(|server| info.row(server).conns);
    assert_eq!(spread(glbd.info()), [10, 20, 30]);
    assert_eq!(glbd.info().total, 60);
    drop(clients);
    wait_until("all have left", || glbd.info().total == 0);
}

#[test]
fn least_connected_fills_up_the_destination_whose_clients_left() {
    let servers = named(["a", "b", "c"]);
    let glbd = Glbd::start(&servers);
    let (mut clients, mut names) = held(&glbd, 12);
    while let Some(position) = names.iter().position(|name| name == "b") {
        clients.remove(position);
        names.remove(position);
    }
    wait_until("those of b have left", || glbd.info().row(&servers[1]).conns == 0);
    let (_newcomers, names) = held(&glbd, 4);
    assert_eq!(names, ["b"; 4]);
}

#[test]
fn least_connected_takes_turns_with_short_connections() {
    let servers = named(["a", "b", "c"]);
    let glbd = Glbd::start(&servers);
    assert_eq!(count(one_after_the_other(&glbd, 12)), counts([("a", 4), ("b", 4), ("c", 4)]));

    let weighted = Glbd::start(weighted(&servers, [1.0, 2.0, 3.0]));
    assert_eq!(count(one_after_the_other(&weighted, 12)), counts([("a", 2), ("b", 4), ("c", 6)]));
}

#[test]
fn a_destination_whose_weight_changes_all_the_time_gets_no_more_clients() {
    let servers = named(["a", "b", "c"]);
    for option in [&[][..], &["--round"]] {
        let glbd = Glbd::builder().args(option).destinations(&servers).start();
        let names = (0..60).flat_map(|number| {
            glbd.change(servers[0].weighted([1.0, 1.01][number % 2]));
            one_after_the_other(&glbd, 1)
        });
        let changed = names.filter(|name| name == "a").count();
        assert!((19..=22).contains(&changed), "{changed} of 60 with {option:?}");
    }
}

#[test]
fn real_weights_count_as_what_they_are() {
    let servers = named(["a", "b", "c"]);
    let glbd = Glbd::start(weighted(&servers, [0.75, 0.75, 1.5]));
    assert_eq!(glbd.info().row(&servers[0]).weight, 0.75);
    let (_clients, names) = held(&glbd, 16);
    assert_eq!(count(names), counts([("a", 4), ("b", 4), ("c", 8)]));
}

#[test]
fn round_robin_goes_round() {
    let servers = named(["a", "b", "c"]);
    for option in ["-b", "--round", "--round-robin", "--rrb"] {
        let glbd = Glbd::builder().arg(option).destinations(&servers).start();
        let (_clients, names) = held(&glbd, 9);
        assert_eq!(count(names[..3].to_vec()), counts([("a", 1), ("b", 1), ("c", 1)]));
        assert_eq!(names[..3], names[3..6]);
        assert_eq!(names[..3], names[6..]);
    }
}

#[test]
fn round_robin_is_smooth_with_weights() {
    let servers = named(["a", "b", "c"]);
    let glbd = Glbd::builder().arg("--round").destinations(weighted(&servers, [5.0, 1.0, 1.0])).start();
    let (_clients, names) = held(&glbd, 70);
    for round in names.chunks(7) {
        assert_eq!(count(round.to_vec()), counts([("a", 5), ("b", 1), ("c", 1)]));
    }
    let longest = names.chunk_by(|one, next| one == next).map(<[String]>::len).max();
    assert!(longest < Some(5), "one destination got {longest:?} clients in a row");
}

#[test]
fn random_spreads_by_weight_but_not_in_turns() {
    let servers = named(["a", "b"]);
    let glbd = Glbd::builder().arg("--random").destinations(weighted(&servers, [1.0, 3.0])).start();
    let (_clients, names) = held(&glbd, 400);
    let heavier = names.iter().filter(|name| *name == "b").count();
    // Seven standard deviations around three quarters.
    assert!((240..=360).contains(&heavier), "{heavier} of 400 for three quarters of the weight");
    // Turns would give each four clients in a row the same sum.
    let sums = names.chunks(4).map(|four| four.iter().filter(|name| *name == "b").count());
    assert_ne!(sums.clone().min(), sums.max());
}

#[test]
fn the_map_column_shows_shares_where_the_policy_has_them() {
    let servers = named(["a", "b"]);
    let map = |option: &[&str]| {
        let glbd = Glbd::builder().args(option).destinations(weighted(&servers, [1.0, 3.0])).start();
        let info = glbd.info();
        servers.each_ref().map(|server| info.row(server).map)
    };
    for policy in ["--random", "--source"] {
        assert_eq!(map(&[policy]), [Some(0.25), Some(1.0)], "map of {policy}");
    }
    for policy in [&[][..], &["--round"], &["--single"]] {
        assert_eq!(map(policy), [None, None], "map of {policy:?}");
    }
}

#[test]
fn a_drained_destination_keeps_its_clients_and_gets_no_new_ones() {
    let servers = named(["stays", "drained"]);
    for policy in ["--round", "--random", "--source", "--top", "--single"] {
        let glbd = Glbd::builder().arg(policy).destinations([&servers[1]]).start();
        let old = glbd.connect();
        assert_eq!(read_line(&old).expect("a name"), "drained");
        glbd.change(&servers[0]);
        glbd.change(servers[1].weighted(0.0));
        let (new, names) = held(&glbd, 20);
        assert_eq!(names, ["stays"; 20], "new clients with {policy}");
        (&old).write_all(b"still there?\n").expect("an open connection");
        assert_eq!(read_line(&old).expect("an echo"), "still there?");
        assert_eq!(glbd.info().row(&servers[1]).conns, 1);
        drop((old, new));
        wait_until("all have left", || glbd.info().total == 0);
        glbd.change(servers[0].weighted(0.0));
        glbd.change(servers[1].weighted(1.0));
        assert_eq!(names_of(&[glbd.connect()]), ["drained"], "back with {policy}");
    }
}
