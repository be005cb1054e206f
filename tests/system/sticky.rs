//! Which destination a client gets: the policies that keep to one, and destinations that are not to be had.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use crate::harness::glbd::run;
use crate::harness::{Glbd, Server, connect_from, free_port, read_line, wait_until};

/// Which server each of so many clients gets, all from different addresses.
fn servers_of(glbd: &Glbd, clients: u8) -> BTreeMap<Ipv4Addr, String> {
    let visit = |number| {
        let source = Ipv4Addr::new(127, 1, 2, number);
        let client = connect_from(source, glbd.address()).expect("glbd accepts");
        (source, read_line(&client).expect("a name"))
    };
    (1..=clients).map(visit).collect()
}

#[test]
fn source_tracking_sends_an_address_to_the_same_destination() {
    let servers = ["a", "b", "c"].map(Server::named);
    for option in ["-s", "--source", "--src_tracking", "--source_tracking"] {
        let glbd = Glbd::builder().arg(option).destinations(&servers).start();
        let first = servers_of(&glbd, 60);
        assert_eq!(servers_of(&glbd, 60), first);
        let used: BTreeSet<_> = first.values().collect();
        assert_eq!(used.len(), 3, "destinations used by 60 addresses: {used:?}");
    }
}

#[test]
fn an_ipv4_client_that_comes_through_an_ipv6_socket_is_the_same_client() {
    let servers = ["a", "b", "c"].map(Server::named);
    let [narrow, wide] = [false, true].map(|everywhere| {
        let glbd = Glbd::builder().args(["--source", "-v"]).destinations(&servers);
        if everywhere { glbd.listen_everywhere().start() } else { glbd.start() }
    });
    assert_eq!(servers_of(&wide, 20), servers_of(&narrow, 20));
    wide.wait_for_log("client 127.1.2.20:");
    assert!(!wide.log().contains("ffff"), "{}", wide.log());
}

#[test]
fn source_tracking_moves_only_the_clients_of_a_removed_destination_and_brings_them_back() {
    let servers = ["a", "b", "c"].map(Server::named);
    let glbd = Glbd::builder().arg("--source").destinations(&servers).start();
    let before = servers_of(&glbd, 100);
    glbd.change(servers[1].weighted(-1.0));
    let without = servers_of(&glbd, 100);
    for (client, server) in &before {
        if server == "b" {
            assert_ne!(without[client], "b");
        } else {
            assert_eq!(&without[client], server, "{client} was moved");
        }
    }
    let heirs: BTreeSet<_> =
        before.keys().filter(|client| before[client] == "b").map(|client| &without[client]).collect();
    assert_eq!(heirs.len(), 2, "the clients of b went to {heirs:?}");
    glbd.change(&servers[1]);
    assert_eq!(servers_of(&glbd, 100), before);
}

#[test]
fn source_tracking_goes_by_weight() {
    let servers = ["light", "heavy"].map(Server::named);
    let glbd =
        Glbd::builder().arg("--source").destinations([servers[0].weighted(1.0), servers[1].weighted(4.0)]).start();
    let names = servers_of(&glbd, 200);
    let heavy = names.values().filter(|name| *name == "heavy").count();
    // Seven standard deviations around four fifths.
    assert!((120..=199).contains(&heavy), "{heavy} of 200 for four fifths of the weight");
}

#[test]
fn single_takes_the_heaviest_and_sticks_to_it() {
    let [a, b, c] = ["a", "b", "c"].map(Server::named);
    let glbd = Glbd::builder().arg("--single").destinations([a.weighted(1.0), b.weighted(2.0)]).start();
    assert_eq!(names(&glbd, 10), ["b"; 10]);
    glbd.change(c.weighted(2.0));
    glbd.change(a.weighted(2.0));
    assert_eq!(names(&glbd, 10), ["b"; 10], "moved to an equal");
    glbd.change(c.weighted(2.5));
    assert_eq!(names(&glbd, 10), ["c"; 10], "did not move to a heavier one");
    glbd.change(c.weighted(2.0));
    assert_eq!(names(&glbd, 10), ["c"; 10], "moved to an equal");
}

#[test]
fn single_moves_when_its_destination_fails_and_does_not_move_back_to_an_equal() {
    let mut servers = ["a", "b"].map(Server::named);
    let glbd = Glbd::builder().args(["--single", "--interval", "0.2"]).destinations(&servers).start();
    let first = names(&glbd, 1).remove(0);
    let (used, other) = if first == "a" { (0, "b") } else { (1, "a") };
    servers[used].stop();
    assert_eq!(names(&glbd, 5), [other; 5]);
    let accepted = servers[used].accepted();
    servers[used].start();
    // Until well after the failure is forgotten, every client must find the one that took over.
    let forgotten = Instant::now() + Duration::from_secs(3);
    while Instant::now() < forgotten {
        assert_eq!(names(&glbd, 1), [other]);
    }
    assert_eq!(servers[used].accepted(), accepted);
}

#[test]
fn single_returns_to_the_heavier_one_once_its_failure_is_forgotten() {
    let (mut writer, spare) = (Server::named("writer"), Server::named("spare"));
    let glbd = Glbd::builder()
        .args(["--single", "--interval", "0.2"])
        .destinations([writer.weighted(2.0), spare.weighted(1.0)])
        .start();
    assert_eq!(names(&glbd, 3), ["writer"; 3]);
    writer.stop();
    assert_eq!(names(&glbd, 3), ["spare"; 3]);
    writer.start();
    wait_until("the heavier one is used again", || names(&glbd, 1) == ["writer"]);
}

#[test]
fn top_narrows_the_policy_to_the_heaviest() {
    let [a, b, c] = ["a", "b", "c"].map(Server::named);
    for policy in ["--round", "--random", "--source", "--verbose"] {
        let destinations = [a.weighted(2.0), b.weighted(2.0), c.weighted(1.0)];
        let glbd = Glbd::builder().args(["--top", policy]).destinations(destinations).start();
        let used: BTreeSet<_> = servers_of(&glbd, 40).into_values().collect();
        assert_eq!(used, BTreeSet::from(["a".to_owned(), "b".to_owned()]), "used with {policy}");
        glbd.change(c.weighted(3.0));
        assert_eq!(names(&glbd, 5), ["c"; 5], "used with {policy}");
    }
}

#[test]
fn top_goes_down_to_the_next_when_the_heaviest_fail() {
    let [mut a, b] = ["a", "b"].map(Server::named);
    let glbd = Glbd::builder().arg("--top").destinations([a.weighted(2.0), b.weighted(1.0)]).start();
    assert_eq!(names(&glbd, 3), ["a"; 3]);
    a.stop();
    assert_eq!(names(&glbd, 3), ["b"; 3]);
}

/// The names of those who serve so many clients.
fn names(glbd: &Glbd, clients: usize) -> Vec<String> {
    (0..clients).map(|_| read_line(&glbd.connect()).expect("a name")).collect()
}

#[test]
fn the_daemons_own_address_is_refused_as_a_destination() {
    let server = Server::named("a");
    let glbd = Glbd::start([&server]);
    let answer = glbd.control(&glbd.address().to_string());
    assert!(answer.starts_with("Error: "), "answer: {answer:?}");
    assert_eq!(glbd.info().rows.len(), 1);
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");

    let answer = glbd.control(&glbd.control_address().to_string());
    assert!(answer.starts_with("Error: "), "the control port lets the whole world steer: {answer:?}");

    let everywhere = Glbd::builder().listen_everywhere().destinations([&server]).start();
    for host in ["127.0.0.1", "[::1]", "localhost"] {
        let answer = everywhere.control(&format!("{host}:{}", everywhere.address().port()));
        assert!(answer.starts_with("Error: "), "answer for {host}: {answer:?}");
    }

    let own = format!("127.0.0.1:{}", free_port());
    let output = run(&[&own, &own]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(complaint.starts_with("glbd: ") && complaint.contains(&own), "complaint: {complaint:?}");
}

#[test]
fn a_name_that_does_not_resolve_is_named_in_the_error() {
    const NAME: &str = "no-such-host.invalid";
    let server = Server::named("a");
    let glbd = Glbd::start([&server]);
    let answer = glbd.control(&format!("{NAME}:3306"));
    assert!(answer.starts_with("Error: ") && answer.contains(NAME), "answer: {answer:?}");
    assert_eq!(answer.lines().count(), 1);
    assert_eq!(glbd.info().rows.len(), 1);

    let output = run(&["--strict-names", &format!("127.0.0.1:{}", free_port()), NAME]);
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(complaint.starts_with("glbd: ") && complaint.contains(NAME), "complaint: {complaint:?}");
}

#[test]
fn addresses_that_are_nobodys_are_refused() {
    let server = Server::named("a");
    let glbd = Glbd::start([&server]);
    for nobody in ["0.0.0.0:3306", "[::]:3306", "127.0.0.1:0"] {
        let answer = glbd.control(nobody);
        assert!(answer.starts_with("Error: "), "answer for {nobody}: {answer:?}");
    }
    assert_eq!(glbd.info().rows.len(), 1);
    assert_eq!(names(&glbd, 1), ["a"]);
}
