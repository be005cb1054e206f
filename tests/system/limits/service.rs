//! Limits of a service: who may connect, how many at a time and how fast.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::{fifty_are_served_at_twenty_a_second, is_served};
use crate::harness::client::{connect_from, connect_through};
use crate::harness::{Glbd, Server, connect_to, echoes, free_port, read_line, said_goodbye, wait_until};
use crate::services::{Site, at};

/// A client's address in 127.0.0.0/8.
fn source(number: u8) -> IpAddr {
    [127, 0, 0, number].into()
}

/// A glbd with two workers and these options in front of a server that names itself.
fn start(server: &Server, options: &[&str]) -> Glbd {
    Glbd::builder().args(["--threads", "2"]).args(options).destinations([server]).start()
}

/// Returns true if a client that connects from this source is served. A reset may come before connect(2) returns.
fn serves(glbd: &Glbd, source: IpAddr) -> bool {
    connect_from(source, glbd.address()).is_ok_and(|client| read_line(&client).is_ok_and(|name| name == "a"))
}

/// A client that connects from this source and stays.
fn stays(glbd: &Glbd, source: IpAddr) -> TcpStream {
    let client = connect_from(source, glbd.address()).expect("glbd accepts");
    assert_eq!(read_line(&client).expect("a name"), "a");
    client
}

fn wait_until_empty(glbd: &Glbd, descriptors: usize) {
    wait_until("all counts are back", || glbd.info().total == 0 && glbd.descriptors() == descriptors);
}

#[test]
fn clients_that_are_not_allowed_are_reset_and_counted_nowhere() {
    let server = Server::named("a");
    let glbd = start(&server, &["--allow=127.0.0.0/8,127.0.1.2", "--deny=127.0.1.0/24,127.0.0.3"]);
    let start = glbd.descriptors();
    let from = |last: [u8; 2]| serves(&glbd, [127, 0, last[0], last[1]].into());
    assert!(from([0, 2]) && from([1, 2]));
    for _ in 0..50 {
        assert!(!from([0, 3]) && !from([1, 3]));
    }
    glbd.wait_for_log("reset: service main does not allow its address");
    assert_eq!(glbd.log().matches("does not allow its address").count(), 1, "it is throttled");
    wait_until_empty(&glbd, start);
    assert_eq!((server.accepted(), glbd.stats().created), (2, 2));
}

#[test]
fn an_ipv4_client_of_an_ipv6_socket_is_an_ipv4_client_and_ipv6_networks_have_ipv6_clients() {
    let server = Server::named("a");
    let is_served = |glbd: &Glbd, ip: IpAddr| {
        let client = connect_to(SocketAddr::new(ip, glbd.address().port()));
        client.is_ok_and(|client| read_line(&client).is_ok_and(|name| name == "a"))
    };
    let (v4, v6) = (source(1), IpAddr::from(Ipv6Addr::LOCALHOST));
    for (option, expected) in
        [("--allow=127.0.0.0/8", [true, false]), ("--allow=::/0", [false, true]), ("--deny=::1", [true, false])]
    {
        let glbd = Glbd::builder().arg(option).listen_everywhere().destinations([&server]).start();
        assert_eq!([is_served(&glbd, v4), is_served(&glbd, v6)], expected, "{option}");
    }
}

#[test]
fn beyond_the_most_connections_of_a_service_clients_wait_and_are_served_in_the_end() {
    let server = Server::named("a");
    let glbd = start(&server, &["--service-max-connections=10"]);
    assert_eq!(super::crowd(&glbd, 60), 10);
    glbd.wait_for_log("service main takes no more than 10 connections; new clients wait in the backlog");
}

#[test]
fn beyond_the_most_connections_of_a_service_clients_are_reset_if_that_is_asked_for() {
    let server = Server::named("a");
    let glbd = start(&server, &["--service-max-connections=3", "--over-limit=reset"]);
    let start = glbd.descriptors();
    let clients: Vec<_> = (0..3).map(|_| stays(&glbd, source(1))).collect();
    assert!((0..20).all(|_| !serves(&glbd, source(1))));
    glbd.wait_for_log("reset: service main takes no more than 3 connections");
    drop(clients);
    wait_until("there is room again", || serves(&glbd, source(1)));
    wait_until_empty(&glbd, start);
}

#[test]
fn clients_that_come_and_go_at_the_limits_of_the_service_and_of_the_process_are_all_served() {
    let server = Server::named_and_closing("a");
    let glbd = start(&server, &["--max_conn=3", "--service-max-connections=2"]);
    super::all_are_served(&glbd, &server);
}

/// Each takes its place from accept to close, whatever comes between.
#[test]
fn clients_without_a_destination_count_until_they_leave() {
    let glbd = Glbd::builder().args(["--service-max-connections=2", "--max-connections-per-source=1"]).start();
    let start = glbd.descriptors();
    for _ in 0..50 {
        assert!(said_goodbye(&glbd.connect()), "it was turned away, not reset");
        wait_until_empty(&glbd, start);
    }
    let server = Server::named("a");
    let refusing = format!("127.0.0.1:{}:100", free_port());
    glbd.change(&server);
    glbd.change(refusing);
    for _ in 0..50 {
        drop(stays(&glbd, source(1)));
        wait_until_empty(&glbd, start);
    }
}

#[test]
fn clients_above_the_rate_wait_for_their_turn() {
    let server = Server::named_and_closing("a");
    let glbd = start(&server, &["--connection-rate=20"]);
    fifty_are_served_at_twenty_a_second(&glbd);
    glbd.wait_for_log("service main takes no more than 20 connections a second; new clients wait in the backlog");
}

#[test]
fn clients_above_the_rate_are_reset_if_that_is_asked_for() {
    let server = Server::named("a");
    let glbd = start(&server, &["--connection-rate=5", "--over-limit=reset"]);
    let begun = Instant::now();
    let served = (0..50).filter(|_| serves(&glbd, source(1))).count();
    let most = 5.0 + 5.0 * begun.elapsed().as_secs_f64() + 1.0;
    assert!(served >= 5 && served as f64 <= most, "{served} of at most {most}");
    wait_until("a token has come", || serves(&glbd, source(1)));
}

#[test]
fn a_source_has_its_own_limit_of_connections_and_gets_places_back() {
    let server = Server::named("a");
    let glbd = start(&server, &["--max-connections-per-source=3"]);
    let start = glbd.descriptors();
    let clients: Vec<_> = (0..3).map(|_| stays(&glbd, source(2))).collect();
    assert!((0..20).all(|_| !serves(&glbd, source(2))));
    let _others: Vec<_> = (0..3).map(|_| stays(&glbd, source(3))).collect();
    glbd.wait_for_log("reset: service main takes no more than 3 connections from one source");
    drop((clients, _others));
    wait_until_empty(&glbd, start);
    let again: Vec<_> = (0..3).map(|_| stays(&glbd, source(2))).collect();
    assert!(!serves(&glbd, source(2)));
    drop(again);
}

/// All of ::1 is one source, and not that of 127.0.0.1.
#[test]
fn an_ipv6_source_has_its_limit() {
    let server = Server::named("a");
    let glbd =
        Glbd::builder().arg("--max-connections-per-source=1").listen_everywhere().destinations([&server]).start();
    let v6 = SocketAddr::new(Ipv6Addr::LOCALHOST.into(), glbd.address().port());
    let client = connect_to(v6).expect("glbd accepts");
    assert_eq!(read_line(&client).expect("a name"), "a");
    assert!(!connect_to(v6).is_ok_and(|client| read_line(&client).is_ok_and(|name| name == "a")));
    assert_eq!(read_line(&connect_through(free_port(), glbd.address())).expect("a name"), "a");
}

/// The attacker takes neither the rate nor the places of the others.
#[test]
fn while_one_source_opens_thousands_of_connections_another_is_served_each_time() {
    ["wait", "reset"].into_iter().for_each(withstand_an_attack);
}

fn withstand_an_attack(over_limit: &str) {
    let server = Server::named("a");
    let glbd = start(
        &server,
        &[
            "--max-connections-per-source=20",
            "--connection-rate-per-source=100",
            "--service-max-connections=100",
            "--connection-rate=1000",
            "--over-limit",
            over_limit,
        ],
    );
    let start = glbd.descriptors();
    let address = glbd.address();
    thread::scope(|scope| {
        let attackers: Vec<_> = (0..5)
            .map(|_| {
                scope.spawn(move || {
                    let mut held = Vec::new();
                    for _ in 0..1000 {
                        // One that was refused is over.
                        held.extend(connect_from(source(2), address));
                        if held.len() > 100 {
                            held.drain(..50);
                        }
                    }
                })
            })
            .collect();
        let (mut served, begun) = (0, Instant::now());
        while attackers.iter().any(|attacker| !attacker.is_finished()) || served < 100 {
            assert!(serves(&glbd, source(3)), "{over_limit}: client {served} was not served");
            served += 1;
            // Below its own rate.
            thread::sleep(Duration::from_millis(12));
            assert!(begun.elapsed() < Duration::from_secs(120));
        }
    });
    glbd.wait_for_log("from one source");
    wait_until_empty(&glbd, start);
    assert!(serves(&glbd, source(3)));
    wait_until("the attacker is served when it behaves", || serves(&glbd, source(2)));
}

fn reload(site: &Site) {
    assert_eq!(site.daemon.control("reload"), "service s: new connections have other limits\nOk\n");
}

#[test]
fn a_reload_changes_limits_for_new_clients_and_closes_nothing() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let write = |limits: &str| site.write(&[("a", &[&server], "")], &[("s", port, limits)]);
    let connect = || connect_from(source(1), at(port)).ok().filter(echoes);
    write("max-connections-per-source = 4");
    site.start();
    let mut clients: Vec<_> = (0..4).map(|_| connect().expect("it is served")).collect();
    assert!(connect().is_none());
    write("max-connections-per-source = 5");
    reload(&site);
    clients.extend(connect());
    assert!(clients.len() == 5 && connect().is_none(), "those from before count");
    write("max-connections-per-source = 2\nmax-connections = 9");
    reload(&site);
    assert!(connect().is_none() && clients.iter().all(echoes));
    clients.truncate(1);
    wait_until("there is room", || connect().is_some());
    write("deny = [\"127.0.0.0/8\"]");
    reload(&site);
    assert!(connect().is_none() && clients.iter().all(echoes));
    write("max-connections = 1");
    reload(&site);
    // It waits, and is let in when the limit is raised though nobody leaves.
    let waits = connect_to(at(port)).expect("the kernel accepts");
    thread::sleep(Duration::from_millis(300));
    assert_eq!(site.daemon.info().total, 1);
    write("max-connections = 2");
    reload(&site);
    assert!(echoes(&waits) && clients.iter().all(echoes));
    write("");
    reload(&site);
    let many: Vec<_> = (0..20).map(|_| connect()).collect();
    assert!(many.iter().all(Option::is_some));
}

#[test]
fn an_upgrade_keeps_connections_which_count_for_their_source() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    site.write(&[("a", &[&server], "")], &[("s", port, "max-connections-per-source = 2")]);
    site.start();
    let connect = || connect_from(source(1), at(port)).ok().filter(echoes);
    let mut clients = vec![connect()];
    site.daemon.upgrade();
    clients.push(connect());
    assert!(connect().is_none());
    site.daemon.upgrade();
    assert!(connect().is_none());
    assert!(connect_from(source(2), at(port)).is_ok_and(|client| echoes(&client)));
    assert!(clients.iter().flatten().filter(|client| echoes(client)).count() == 2);
    // One of the oldest process, and one of the next.
    for _ in 0..2 {
        clients.remove(0);
        wait_until("there is room for one", || {
            let client = connect();
            let is_served = client.is_some();
            clients.extend(client.map(Some));
            is_served
        });
        assert!(connect().is_none());
    }
}

/// A limit of ten is one of ten, however many processes have them.
#[test]
fn connections_from_before_upgrades_count_for_the_most_connections_of_their_service() {
    for over_limit in ["wait", "reset"] {
        let (site, server, [port, other]) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
        let write = |most: usize| {
            let limits = format!("max-connections = {most}\nover-limit = \"{over_limit}\"");
            site.write(&[("a", &[&server], "")], &[("s", port, &limits), ("other", other, &limits)]);
        };
        write(4);
        site.start();
        let connect = || connect_to(at(port)).ok().filter(echoes);
        // Both services have the same pool.
        let has =
            |total: usize| site.daemon.control("getinfo").matches(&format!("connections: {total} of")).count() == 2;
        let mut clients = vec![connect(), connect()];
        site.daemon.upgrade();
        clients.push(connect());
        site.daemon.upgrade();
        clients.push(connect());
        assert!(clients.iter().all(Option::is_some));
        wait_until("all are counted", || has(4));
        // The fifth; those of another service do not count.
        let fifth = connect_to(at(port)).ok();
        let others: Vec<_> = (0..4).map(|_| connect_to(at(other)).expect("glbd accepts")).collect();
        assert!(others.iter().all(echoes));
        match over_limit {
            "wait" => {
                thread::sleep(Duration::from_millis(500));
                assert!(has(8), "the fifth waits");
                // A connection of the oldest process ends.
                clients.remove(0);
                assert!(echoes(&fifth.expect("the kernel accepts")));
            }
            _ => {
                assert!(!fifth.is_some_and(|client| echoes(&client)) && connect().is_none());
                clients.remove(0);
                wait_until("there is room", || connect().is_some());
            }
        }
        assert!(clients.iter().flatten().all(echoes));
        // A reload keeps what is counted, and a client that waits is let in when the limit is raised.
        write(5);
        assert!(site.daemon.control("reload").ends_with("Ok\n"));
        wait_until("there is room", || connect().is_some());
        drop((clients, others));
        wait_until("all counts are back", || has(0));
        let all: Vec<_> = (0..5).map(|_| connect()).collect();
        assert!(all.iter().all(Option::is_some));
    }
}

#[test]
fn a_client_that_leaves_while_it_waits_for_the_limit_holds_up_nobody() {
    let server = Server::named("a");
    let glbd = start(&server, &["--service-max-connections=1"]);
    let client = stays(&glbd, source(1));
    let waiting: Vec<_> = (0..20).map(|_| glbd.connect()).collect();
    let last = glbd.connect();
    last.set_nonblocking(true).expect("O_NONBLOCK");
    assert!(!is_served(&last));
    drop((waiting, client));
    wait_until("it is served", || is_served(&last));
}
