//! Connections of the processes before this one, which are listed and kicked like its own.

use std::collections::BTreeSet;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::sessions::{is_over, lines, text};
use crate::harness::client::connect_from;
use crate::harness::{Daemon, Server, echoes, wait_until};

/// The longest that an answer may take where a process does not answer.
const BOUNDED: Duration = Duration::from_secs(20);

/// Clients of each of so many processes, 127.0.0.1 of the first and so on; and the processes.
fn generations(daemon: &Daemon, count: u8, clients: usize) -> (Vec<Vec<TcpStream>>, Vec<Pid>) {
    let generation = |number| {
        if number > 1 {
            daemon.upgrade();
        }
        let client = |_| connect_from([127, 0, 0, number], daemon.address()).expect("glbd accepts");
        let clients: Vec<TcpStream> = (0..clients).map(client).collect();
        assert!(clients.iter().all(echoes));
        (clients, daemon.pid())
    };
    (1..=count).map(generation).unzip()
}

fn daemon(server: &Server) -> Daemon {
    Daemon::started(&["-t", "2", &server.to_string()])
}

#[test]
fn connections_of_three_generations_are_listed_as_one() {
    let server = Server::echo();
    let daemon = daemon(&server);
    let (clients, processes) = generations(&daemon, 3, 2);
    let shown = lines(&daemon.control("getconns json"));
    let ids: BTreeSet<&str> = shown.iter().map(|it| text(it, "id")).collect();
    assert_eq!((shown.len(), ids.len()), (6, 6), "{shown:?}");
    for (own, pid) in clients.iter().zip(&processes) {
        for client in own {
            let address = client.local_addr().expect("an address").to_string();
            let it = shown.iter().find(|it| text(it, "client") == address).expect("its line");
            assert!(text(it, "id").starts_with(&format!("{pid}.")), "{it}");
            assert_eq!((text(it, "state"), it["bytes_in"].as_u64()), ("connected", Some(13)));
        }
    }
    assert!(daemon.control("getconns").ends_with("Connections: 6\n"));
    let count = |query: &str| lines(&daemon.control(&format!("getconns {query} json"))).len();
    assert_eq!((count("main"), count("client=127.0.0.2"), count("limit=4")), (6, 2, 4));
    assert_eq!((count(&format!("dest={server}")), count("older=3600")), (6, 0));
    let shown = lines(&daemon.control("getclients json"));
    let all: Vec<_> = shown.iter().map(|it| (text(it, "client"), it["connections"].as_u64())).collect();
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(all.iter().all(|(_, count)| *count == Some(2)), "{all:?}");
}

#[test]
fn a_kick_reaches_every_process_and_closes_nothing_else() {
    let server = Server::echo();
    let daemon = daemon(&server);
    let (clients, _) = generations(&daemon, 3, 2);
    for own in &clients {
        let address = own[0].local_addr().expect("an address").ip();
        let shown = lines(&daemon.control(&format!("getconns client={address} json")));
        let first = own[0].local_addr().expect("an address").to_string();
        let id = text(shown.iter().find(|it| text(it, "client") == first).expect("its line"), "id").to_owned();
        assert_eq!(daemon.control(&format!("kick {id}")), "1 connection closed\nOk\n");
        wait_until("it is closed", || is_over(&own[0]));
        own[1].set_nonblocking(false).expect("a socket");
        assert!(echoes(&own[1]));
        assert_eq!(daemon.control(&format!("kick {id}")), format!("Error: {id}: no such connection\n"));
    }
    assert_eq!(daemon.control(&format!("kick dest={server}")), "3 connections closed\nOk\n");
    wait_until("all are closed", || clients.iter().all(|own| is_over(&own[1])));
    wait_until("none counts", || daemon.info().total == 0);
    let kicked = || {
        let all = lines(&daemon.control("getinfo json")).remove(0);
        let ended = all["services"][0]["ended"].as_array().expect("a list").clone();
        ended.iter().find(|it| it["cause"] == "kicked").and_then(|it| it["count"].as_u64())
    };
    wait_until("every one is counted", || kicked() == Some(6));
}

#[test]
fn connections_of_older_processes_are_closed_at_a_pace() {
    let server = Server::echo();
    let daemon = daemon(&server);
    let (clients, _) = generations(&daemon, 2, 5);
    let clients: Vec<TcpStream> = clients.into_iter().flatten().collect();
    let begun = Instant::now();
    let answer = daemon.control(&format!("kick dest={server} pace=10"));
    assert_eq!(answer, "10 connections being closed, 10 a second\nOk\n");
    wait_until("all are closed", || clients.iter().all(is_over));
    assert!(begun.elapsed() >= Duration::from_millis(850), "{:?}", begun.elapsed());
}

#[test]
fn what_is_left_of_a_kick_with_a_pace_is_not_closed_after_an_upgrade() {
    let server = Server::echo();
    let daemon = daemon(&server);
    let (clients, _) = generations(&daemon, 1, 5);
    let clients: Vec<TcpStream> = clients.into_iter().flatten().collect();
    assert!(daemon.control(&format!("kick dest={server} pace=0.5")).ends_with("Ok\n"));
    daemon.upgrade();
    let left = || clients.iter().filter(|client| !is_over(client)).count();
    let before = left();
    assert!(before >= 3, "{before}");
    // As long as the next two would take.
    std::thread::sleep(Duration::from_secs(4));
    assert_eq!(left(), before);
}

#[test]
fn a_process_that_has_stopped_holds_up_no_answer_and_is_named() {
    let server = Server::echo();
    let daemon = daemon(&server);
    let (clients, processes) = generations(&daemon, 3, 2);
    kill(processes[0], Signal::SIGSTOP).expect("it runs");
    let line = format!("Missing: process {} does not answer, and has 2 connections\n", processes[0]);
    let ask = |command: &str| {
        let begun = Instant::now();
        let answer = daemon.control(command);
        assert!(begun.elapsed() < BOUNDED, "{command}: {:?}", begun.elapsed());
        answer
    };
    let table = ask("getconns");
    assert!(table.ends_with(&format!("Connections: 4\n{line}")), "{table}");
    let shown = lines(&ask("getconns json"));
    let expected = serde_json::json!({ "missing": { "process": processes[0].as_raw(), "connections": 2 } });
    assert_eq!((shown.len(), shown.last()), (5, Some(&expected)));
    assert!(ask("getclients").ends_with(&line));
    // Whoever asks for one of another process does not wait for this one.
    let other = format!("{}.0-0-0", processes[1]);
    assert_eq!(daemon.control(&format!("kick {other}")), format!("Error: {other}: no such connection\n"));
    let its = format!("{}.0-1-1", processes[0]);
    let told = format!("Error: {its}: process {} does not answer\n", processes[0]);
    assert_eq!(ask(&format!("kick {its}")), told, "nobody knows whether there is such a connection");
    // Many questions in vain are no reason to count its connections no longer.
    std::thread::scope(|scope| (0..20).for_each(|_| drop(scope.spawn(|| ask("getconns limit=1")))));
    assert_eq!(daemon.info().total, 6);
    assert_eq!(ask("kick client=127.0.0.2"), format!("2 connections closed\n{line}Ok\n"));
    kill(processes[0], Signal::SIGCONT).expect("it is there");
    let count = || lines(&ask("getconns json")).iter().filter(|it| it["missing"].is_null()).count();
    wait_until("it answers again", || count() == 4);
    assert!(clients[0].iter().all(echoes));
    assert!(!ask("getconns").contains("Missing"));
}

#[test]
fn a_process_that_is_killed_is_not_missed() {
    let server = Server::echo();
    let daemon = daemon(&server);
    let (clients, processes) = generations(&daemon, 3, 2);
    kill(processes[1], Signal::SIGSTOP).expect("it runs");
    std::thread::scope(|scope| {
        let asking = scope.spawn(|| daemon.control("getconns"));
        kill(processes[1], Signal::SIGKILL).expect("it is there");
        let answer = asking.join().expect("no panic");
        assert!(answer.contains("Connections: 4\n"), "{answer}");
    });
    wait_until("its connections do not count any more", || daemon.info().total == 4);
    assert!(daemon.control("getconns").ends_with("Connections: 4\n"));
    assert!(clients[0].iter().chain(&clients[2]).all(echoes));
}

#[test]
fn thousands_of_connections_of_an_older_process_are_all_listed() {
    const COUNT: usize = 2000;
    let server = Server::echo();
    let daemon = daemon(&server);
    let (clients, _) = generations(&daemon, 2, COUNT / 2);
    let shown = lines(&daemon.control("getconns json"));
    assert_eq!(shown.len(), COUNT, "{:?}", shown.last());
    std::thread::scope(|scope| {
        let ask = || assert_eq!(lines(&daemon.control("getconns json")).len(), COUNT);
        let asking: Vec<_> = (0..3).map(|_| scope.spawn(ask)).collect();
        while !asking.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            assert!(echoes(&clients[0][0]));
        }
    });
    assert_eq!(daemon.control("kick client=127.0.0.1"), format!("{} connections closed\nOk\n", COUNT / 2));
    wait_until("they are closed", || daemon.info().total == COUNT / 2);
    assert!(clients[1].iter().all(echoes));
}
