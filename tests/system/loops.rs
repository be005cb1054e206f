//! Balancers that have each other among their destinations.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use socket2::{Domain, Socket, Type};

use crate::harness::{Glbd, Server, echoes, names_of, read_line, said_goodbye, wait_until};

/// Daemons that listen on these hosts, each with the next as its destination and the last with the first.
fn ring(hosts: &[IpAddr]) -> Vec<Glbd> {
    let start = |host: &IpAddr| Glbd::builder().listen_on(*host).args(["--max_conn", "50"]).start();
    let ring: Vec<Glbd> = hosts.iter().map(start).collect();
    let next = ring.iter().cycle().skip(1);
    ring.iter().zip(next).for_each(|(glbd, next)| glbd.change(next.address()));
    ring
}

fn loop_is_logged(ring: &[Glbd]) -> bool {
    ring.iter()
        .any(|glbd| glbd.log().contains(" turned away: it has come through a loop: a destination passes clients back"))
}

/// Every slot of both was taken for good before, also when the client had left.
#[test]
fn a_client_of_two_that_name_each_other_is_turned_away_and_leaves_nothing_behind() {
    let (one, two) = (Ipv4Addr::LOCALHOST.into(), Ipv4Addr::new(127, 0, 0, 2).into());
    let six = Ipv6Addr::LOCALHOST.into();
    for hosts in [vec![one, one], vec![one, two], vec![six, six], vec![one, six, two]] {
        let daemons = ring(&hosts);
        for speaks in [true, false] {
            let mut client = daemons[0].connect();
            if speaks {
                client.write_all(b"good morning\n").expect("an open connection");
            }
            assert!(said_goodbye(&client), "{hosts:?}");
            wait_until("it is logged", || loop_is_logged(&daemons));
            drop(client);
            wait_until("nothing is left of it", || daemons.iter().all(|glbd| glbd.stats().open == 0));
        }
        // One that can get out of the loop does.
        let server = Server::named("db");
        let last = daemons.last().expect("several");
        last.change(&server);
        last.control(&format!("{}:0", daemons[0].address()));
        let client = daemons[0].connect();
        assert_eq!(read_line(&client).expect("a name"), "db");
        assert!(echoes(&client));
    }
}

/// As many as anybody has, one behind the other.
#[test]
fn balancers_in_a_row_are_no_loop() {
    let server = Server::named("db");
    let mut daemons: Vec<Glbd> = vec![Glbd::start([&server])];
    for _ in 0..5 {
        let next = daemons.last().expect("one").address().to_string();
        daemons.push(Glbd::start([next]));
    }
    assert_eq!(names_of(&[daemons.last().expect("one").connect()]), ["db"]);
}

/// A low hop limit of a client may cost its destination nothing, either: it is not passed on.
#[test]
fn clients_are_served_whatever_hop_limit_they_send_with() {
    let server = Server::named("db");
    let glbd = Glbd::start([&server]);
    for limit in [1, 2, 5, 8, 32, 64, 128, 230, 255] {
        let client = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        client.set_ttl_v4(limit).expect("a hop limit");
        client.connect(&glbd.address().into()).expect("a daemon that accepts");
        assert_eq!(read_line(&client.into()).expect("a name"), "db", "{limit}");
    }
    let client = glbd.connect();
    assert_eq!(read_line(&client).expect("a name"), "db");
}

/// Each took the next one's refusal for a server's and tried the others: 65,535 connections for one client.
#[test]
fn attempts_do_not_multiply_where_balancers_have_several_others() {
    let start = |_| Glbd::builder().args(["--greeting", "mysql"]).start();
    let daemons = [(); 4].map(start);
    for (own, glbd) in daemons.iter().enumerate() {
        let others = daemons.iter().enumerate().filter(|(number, _)| *number != own);
        others.for_each(|(_, other)| glbd.change(other.address()));
    }
    assert!(said_goodbye(&daemons[0].connect()));
    let mut opened = 0;
    wait_until("it is over", || {
        // They count what is new since they were asked last.
        let all = daemons.each_ref().map(Glbd::stats);
        opened += all.iter().map(|stats| stats.created).sum::<u64>();
        all.iter().all(|stats| stats.open == 0)
    });
    assert!(opened < 3000, "{opened} connections");
}
