//! More clients than there is room for, and room that comes back.

mod destination;
mod service;
mod shared_rate;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::client::connect_through;
use crate::harness::net::alone_in_a_network;
use crate::harness::{Glbd, Server, echoes, names_of, read_line, reset, said_goodbye, wait_until, wait_until_within};

#[test]
fn with_sixty_four_descriptors_all_clients_are_served_in_the_end() {
    let server = Server::named("a");
    let glbd = Glbd::builder()
        .wrapped_by(["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""])
        .args(["--threads", "2"])
        .destinations([&server])
        .start();
    let served_at_once = crowd(&glbd, 100);
    assert!((8..=32).contains(&served_at_once), "{served_at_once} clients at once with 64 descriptors");
}

#[test]
fn beyond_the_most_connections_clients_wait_and_are_served_in_the_end() {
    let server = Server::named("a");
    let glbd = Glbd::builder().args(["--threads", "2", "--max_conn", "10"]).destinations([&server]).start();
    assert_eq!(glbd.info().max, 10);
    assert_eq!(crowd(&glbd, 60), 10);
}

/// Sends in more clients than there is room for, who leave only once they are served; returns for how many there is
/// room. While the others wait the daemon must answer its control port and must not burn the processor.
fn crowd(glbd: &Glbd, size: usize) -> usize {
    let start = glbd.descriptors();
    let mut waiting: Vec<TcpStream> = (0..size).map(|_| glbd.connect()).collect();
    waiting.iter().for_each(|client| client.set_nonblocking(true).expect("O_NONBLOCK"));
    let served = || waiting.iter().filter(|client| is_served(client)).count();
    wait_until("no more clients are let in", || {
        let before = served();
        thread::sleep(Duration::from_millis(500));
        before > 0 && served() == before
    });
    let room = served();

    let (used, begun) = (glbd.cpu_time(), Instant::now());
    for _ in 0..10 {
        assert_eq!(glbd.info().total, room);
        thread::sleep(Duration::from_millis(200));
    }
    let (used, passed) = (glbd.cpu_time() - used, begun.elapsed());
    assert!(used < passed / 4, "{used:?} of processor time in {passed:?} while clients wait");
    assert_eq!(served(), room);

    while !waiting.is_empty() {
        let before = waiting.len();
        wait_until("another client is served and leaves", || {
            waiting.retain(|client| !is_served(client));
            waiting.len() < before
        });
    }
    wait_until("all have left", || glbd.info().total == 0 && glbd.descriptors() == start);
    room
}

/// Sends in fifty clients at once, where twenty a second are taken and the server names itself `a`.
fn fifty_are_served_at_twenty_a_second(glbd: &Glbd) {
    let begun = Instant::now();
    let clients: Vec<_> = (0..50).map(|_| glbd.connect()).collect();
    assert!(clients.iter().all(|client| read_line(client).is_ok_and(|name| name == "a")));
    // 20 at once, and 30 more at 20 a second.
    let took = begun.elapsed();
    assert!(took >= Duration::from_millis(1400), "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// Whether a server's greeting waits for this client.
fn is_served(client: &TcpStream) -> bool {
    match client.peek(&mut [0]) {
        Ok(0) => panic!("a waiting client was closed"),
        Ok(_) => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => false,
        Err(error) => panic!("a waiting client was turned away: {error}"),
    }
}

#[test]
fn descriptors_that_run_out_unforeseen_neither_kill_the_daemon_nor_make_it_spin() {
    let server = Server::named("a");
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations([&server]).start();
    let start = glbd.descriptors();
    set_descriptor_limit(&glbd, start + 9);
    let clients: Vec<_> = (0..40).map(|_| glbd.connect()).collect();
    glbd.wait_for_log("Too many open files");
    // A call may take long on a busy machine; one that spins does so all the time.
    wait_until("two seconds without descriptors take little processor time", || {
        let before = glbd.cpu_time();
        thread::sleep(Duration::from_secs(2));
        glbd.cpu_time() - before < Duration::from_millis(800)
    });

    set_descriptor_limit(&glbd, 1024);
    wait_until("clients are served again", || read_line(&glbd.connect()).is_ok_and(|name| name == "a"));
    drop(clients);
    wait_until("all have left", || glbd.info().total == 0 && glbd.descriptors() == start);
}

#[test]
fn clients_that_come_and_go_while_descriptors_are_short_are_all_served() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--threads", "2", "--connect-timeout", "2"]).destinations([&server]).start();
    set_descriptor_limit(&glbd, glbd.descriptors() + 9);
    thread::scope(|scope| {
        for _ in 0..30 {
            scope.spawn(|| {
                for _ in 0..15 {
                    assert!(echoes(&glbd.connect()));
                }
            });
        }
    });
}

/// Changes the limit of the running daemon.
fn set_descriptor_limit(glbd: &Glbd, limit: usize) {
    let arguments = [format!("--pid={}", glbd.pid()), format!("--nofile={limit}:1024")];
    let status = Command::new("prlimit").args(arguments).status().expect("prlimit, of the package util-linux");
    assert!(status.success(), "prlimit: {status}");
}

#[test]
fn clients_that_come_and_go_at_the_limit_are_all_served() {
    let server = Server::named_and_closing("a");
    let glbd = Glbd::builder().args(["--threads", "2", "--max_conn", "3"]).destinations([&server]).start();
    all_are_served(&glbd, &server);
}

/// Has 480 clients of a server called `a` come and go, twelve at a time.
fn all_are_served(glbd: &Glbd, server: &Server) {
    thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| {
                for _ in 0..40 {
                    assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");
                }
            });
        }
    });
    assert_eq!(server.accepted(), 480);
}

#[test]
fn five_thousand_connections_leave_nothing_behind() {
    let servers = ["a", "b", "c"].map(Server::named);
    let glbd = Glbd::start(&servers);
    let start = glbd.descriptors();
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let clients: Vec<_> = (0..5).map(|_| glbd.connect()).collect();
                    assert!(names_of(&clients).iter().all(|name| !name.is_empty()));
                }
            });
        }
    });
    let patience = Duration::from_secs(60);
    wait_until_within(patience, "all counts are back", || glbd.info().rows.iter().all(|row| row.conns == 0));
    wait_until("all descriptors are back", || glbd.descriptors() == start);
    let stats = glbd.stats();
    assert_eq!((stats.created, stats.open), (5_000, 0));
    assert_eq!(servers.iter().map(Server::accepted).sum::<usize>(), 5_000);
    wait_until("the servers are left alone", || servers.iter().all(|server| server.open() == 0));
}

/// Local ports are this machine's: no destination is to blame, least of all the single one, which would be two then.
#[test]
fn a_client_for_which_there_is_no_local_port_waits_for_one_and_goes_nowhere_else() {
    alone_in_a_network(|| {
        let (first, second) = (Server::named("first"), Server::named("second"));
        let glbd = Glbd::builder()
            .args(["--single", "--connect-timeout", "60"])
            .destinations([first.weighted(2.0), second.weighted(1.0)])
            .start();
        fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40003").expect("this namespace's own range");
        let clients: Vec<_> = (50_000..50_004).map(|port| connect_through(port, glbd.address())).collect();
        assert_eq!(names_of(&clients), ["first"; 4]);
        let waiting = connect_through(50_004, glbd.address());
        glbd.wait_for_log("this machine cannot make a connection: Cannot assign requested address");
        // A reset leaves no TIME_WAIT, which would keep the port.
        clients.into_iter().for_each(reset);
        assert_eq!(read_line(&waiting).expect("a name"), "first");
        assert!(!glbd.log().contains("cannot be reached"), "{}", glbd.log());
        assert_eq!(second.accepted(), 0);
    });
}

/// From four threads, and up to the end.
#[test]
fn a_trouble_of_many_clients_is_a_line_when_it_begins_and_one_when_it_is_over() {
    let glbd = Glbd::builder().args(["-t", "4", "--max_conn", "1"]).start();
    let turned_away = || glbd.log().matches("turned away: no destination serves it").count();
    for _ in 0..40 {
        assert!(said_goodbye(&glbd.connect()));
    }
    wait_until("it is logged", || turned_away() == 1);
    let server = Server::named("db");
    glbd.change(&server);
    let held = glbd.connect();
    assert_eq!(read_line(&held).expect("a name"), "db");
    let waits = glbd.connect();
    glbd.wait_for_log("the limit of 1 connection is reached; new clients wait in the backlog");
    glbd.wait_for_log("INFO over: clients are turned away because no destination serves them (40 times in ");
    assert_eq!(turned_away(), 1);
    let is_over = || glbd.log().contains("over: new clients wait");
    assert!(!is_over(), "it goes on, though nothing happens");
    drop(held);
    assert_eq!(read_line(&waits).expect("a name"), "db");
    drop(waits);
    wait_until("that is over too", is_over);
    let events = glbd.control("getevents");
    assert!(
        !events.contains("over: ") && !events.contains(" turned away: "),
        "neither its begin nor its end: {events}"
    );
}
