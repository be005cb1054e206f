//! Peers that vanish without a word, half-closed connections of which nothing more comes, and the addresses from which
//! glbd connects.

use std::fs;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::harness::client::connect_through;
use crate::harness::net::alone_in_a_network;
use crate::harness::{Glbd, Server, Stage, connect_from, echoes, names_of, read_line, reset, said_goodbye, wait_until};

/// From now on nothing that is sent to this address arrives, and nobody is told.
fn cut_off(address: &str) {
    ip(&["route", "add", "blackhole", address, "table", "local"]);
}

fn ip(arguments: &[&str]) {
    let status = Command::new("ip").args(arguments).status().expect("ip, from Debian's package iproute2");
    assert!(status.success(), "ip {arguments:?}: {status}");
}

#[test]
fn a_destination_that_vanishes_with_data_on_the_way_costs_its_client_no_more_than_the_timeout() {
    alone_in_a_network(|| {
        let server = Server::named_at("a", "127.0.0.9:33061".parse().expect("an address"));
        let glbd = Glbd::builder().args(["--tcp-user-timeout", "1"]).destinations([&server]).start();
        let mut client = glbd.connect();
        assert_eq!(read_line(&client).expect("a name"), "a");
        cut_off("127.0.0.9");
        client.write_all(b"are you there?\n").expect("an open connection");
        assert!(!said_goodbye(&client), "the client hears that it was not delivered");
        wait_until("it is not counted any more", || glbd.info().total == 0);
    });
}

#[test]
fn a_client_that_vanishes_with_data_on_the_way_frees_its_destination_after_the_timeout() {
    alone_in_a_network(|| {
        let stage = Stage::start_with(Glbd::builder().args(["--tcp-user-timeout", "1"]));
        let _client = connect_from([127, 0, 0, 8], stage.glbd.address()).expect("glbd accepts");
        let mut server = stage.accept();
        cut_off("127.0.0.8");
        server.write_all(b"are you there?\n").expect("an open connection");
        assert!(!said_goodbye(&server), "the server hears that it was not delivered");
    });
}

#[test]
fn silent_peers_that_have_vanished_are_found_by_keepalive_probes() {
    let probing = ["--keepalive-time", "1", "--keepalive-interval", "1", "--keepalive-count", "2"];
    for vanishing in ["127.0.0.8", "127.0.0.9"] {
        alone_in_a_network(move || {
            let server = Server::named_at("a", "127.0.0.9:33061".parse().expect("an address"));
            let glbd = Glbd::builder().args(probing).destinations([&server]).start();
            let vanishes = connect_from([127, 0, 0, 8], glbd.address()).expect("glbd accepts");
            assert_eq!(read_line(&vanishes).expect("a name"), "a");
            cut_off(vanishing);
            wait_until("its connection is given up", || glbd.info().total == 0);
        });
    }
}

#[test]
fn a_half_closed_connection_ends_when_nothing_more_comes() {
    let stage = Stage::start_with(Glbd::builder().args(["--half-close-timeout", "1"]));
    for server_ends in [false, true] {
        let (client, server) = stage.pair();
        let (ends, stays): (&TcpStream, &TcpStream) = if server_ends { (&server, &client) } else { (&client, &server) };
        ends.shutdown(Shutdown::Write).expect("an open connection");
        assert!(said_goodbye(stays));
        assert!(!said_goodbye(ends), "there was no end to pass on");
        wait_until("it is not counted any more", || stage.glbd.info().total == 0);
    }
}

#[test]
fn a_half_closed_connection_ends_in_its_own_time_where_an_open_one_may_be_idle_for_an_hour() {
    let stage = Stage::start_with(Glbd::builder().args(["--half-close-timeout", "1", "--client-idle-timeout", "3600"]));
    let (client, server) = stage.pair();
    client.shutdown(Shutdown::Write).expect("an open connection");
    assert!(said_goodbye(&server));
    wait_until("it is not counted any more", || stage.glbd.info().total == 0);
}

#[test]
fn a_half_closed_connection_stays_while_something_comes_and_an_open_one_stays_anyway() {
    let stage = Stage::start_with(Glbd::builder().args(["--half-close-timeout", "2"]));
    let (open, idle) = stage.pair();
    let (client, mut server) = stage.pair();
    client.shutdown(Shutdown::Write).expect("an open connection");
    assert!(said_goodbye(&server));
    for _ in 0..16 {
        thread::sleep(Duration::from_millis(250));
        server.write_all(b"still busy\n").expect("an open connection");
        assert_eq!(read_line(&client).expect("an open connection"), "still busy");
    }
    drop(server);
    assert!(said_goodbye(&client), "the answer has ended as it should");
    (&open).write_all(b"x\n").expect("an open connection");
    assert_eq!(read_line(&idle).expect("an open connection"), "x");
}

#[test]
fn connections_come_from_the_chosen_addresses_each_with_all_ports_for_each_destination() {
    alone_in_a_network(|| {
        let servers = ["a", "b"].map(Server::named);
        let glbd = Glbd::builder()
            .args(["--connect-from", "127.0.0.21,127.0.0.22,::1", "--connect-timeout", "60", "--round"])
            .destinations(&servers)
            .start();
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").expect("this namespace's own range");
        let connect = |port| {
            let client = connect_through(port, glbd.address());
            (read_line(&client).expect("a name"), client)
        };
        let clients: Vec<_> = (50_000..50_016).map(connect).collect();
        let of = |name: &str| clients.iter().filter(|(it, _)| it == name).count();
        assert_eq!((of("a"), of("b")), (8, 8));
        let waiting = connect_through(50_016, glbd.address());
        glbd.wait_for_log("this machine cannot make a connection: Cannot assign requested address");
        // A reset leaves no TIME_WAIT, which would keep the port.
        clients.into_iter().for_each(|(_, client)| reset(client));
        assert_eq!(names_of(&[waiting]).len(), 1);
        assert!(!glbd.log().contains("cannot be reached"), "{}", glbd.log());
    });
}

#[test]
fn an_address_that_this_machine_does_not_have_is_passed_over_and_no_destination_is_blamed() {
    let server = Server::named("a");
    let glbd = Glbd::builder().args(["--connect-from", "192.0.2.1,127.0.0.21"]).destinations([&server]).start();
    let clients: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&clients), ["a"; 4]);
    let lost =
        Glbd::builder().args(["--connect-from", "192.0.2.1", "--connect-timeout", "1"]).destinations([&server]).start();
    assert!(said_goodbye(&lost.connect()), "it is turned away in the end");
    assert!(lost.log().contains("this machine cannot make a connection: Cannot assign requested address"));
    assert!(!lost.log().contains("cannot be reached"), "{}", lost.log());
    // There is none of this family, so that the kernel chooses.
    let other = Glbd::builder().args(["--connect-from", "::1"]).destinations([&server]).start();
    assert!(echoes(&other.connect()) || !names_of(&[other.connect()]).is_empty());
}
