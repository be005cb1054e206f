//! Waiting until a destination has no connections.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use crate::harness::{Daemon, Glbd, Server, echoes, free_port, wait_until};
use crate::services::{Site, served};

#[test]
fn the_answer_comes_with_the_end_of_the_last_connection_of_any_process() {
    let server = Server::echo();
    let daemon = Daemon::started(&[&server.to_string()]);
    let mut clients: Vec<TcpStream> = Vec::new();
    for generation in 0..3 {
        if generation > 0 {
            daemon.upgrade();
        }
        clients.push(daemon.connect());
        assert!(clients.iter().all(echoes));
    }
    daemon.control(&format!("drain {server}"));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| daemon.control(&format!("wait-empty {server} 60")));
        while clients.len() > 1 {
            drop(clients.remove(0));
            wait_until("it does not count any more", || daemon.info().row(&server).conns == clients.len());
        }
        thread::sleep(Duration::from_millis(500));
        assert!(!waiting.is_finished(), "one is left");
        clients.clear();
        assert_eq!(waiting.join().expect("no panic"), "Ok\n");
    });
    assert_eq!(daemon.control(&format!("wait-empty {server} 0")), "Ok\n", "it is empty already");
}

#[test]
fn at_the_deadline_the_answer_says_how_many_are_left() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let clients = [glbd.connect(), glbd.connect()];
    assert!(clients.iter().all(echoes));
    let begun = Instant::now();
    let answer = glbd.control(&format!("wait-empty {server} 0.5"));
    assert_eq!(answer, format!("Error: {server}: not empty in time, 2 connections left\n"));
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(clients.iter().all(echoes), "waiting ends nothing");
}

#[test]
fn a_process_that_has_stopped_holds_connections_until_it_is_gone() {
    let server = Server::echo();
    let daemon = Daemon::started(&[&server.to_string()]);
    let client = daemon.connect();
    assert!(echoes(&client));
    let old = daemon.pid();
    daemon.upgrade();
    kill(old, Signal::SIGSTOP).expect("it runs");
    drop(client);
    let answer = daemon.control(&format!("wait-empty {server} 0.5"));
    assert_eq!(answer, format!("Error: {server}: not empty in time, 1 connection left\n"));
    thread::scope(|scope| {
        let waiting = scope.spawn(|| daemon.control(&format!("wait-empty {server} 60")));
        kill(old, Signal::SIGKILL).expect("it is there");
        assert_eq!(waiting.join().expect("no panic"), "Ok\n");
    });
}

#[test]
fn a_destination_that_is_removed_meanwhile_is_empty() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let client = glbd.connect();
    assert!(echoes(&client));
    let mut waiting = TcpStream::connect(glbd.control_address()).expect("the control port");
    waiting.write_all(format!("wait-empty {server} 60\n").as_bytes()).expect("it listens");
    // Its command came before this one.
    glbd.change(format!("{server}:-1"));
    let mut answer = String::new();
    waiting.read_to_string(&mut answer).expect("an answer");
    assert_eq!(answer, "Ok\n");
}

#[test]
fn others_are_obeyed_meanwhile_and_whoever_hangs_up_is_forgotten() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let client = glbd.connect();
    assert!(echoes(&client));
    thread::scope(|scope| {
        let many: Vec<_> = (0..40).map(|_| scope.spawn(|| glbd.control(&format!("wait-empty {server} 3")))).collect();
        assert_eq!(glbd.info().total, 1);
        let answers: Vec<String> = many.into_iter().map(|it| it.join().expect("no panic")).collect();
        let in_vain = format!("Error: {server}: not empty in time, 1 connection left\n");
        let too_many = format!("Error: {server}: 32 others wait already\n");
        assert!(answers.iter().all(|it| *it == in_vain || *it == too_many), "{answers:?}");
        assert!(answers.contains(&in_vain));
    });
    assert_eq!(glbd.control(&format!("wait-empty {server} 0")).lines().count(), 1);
}

#[test]
fn what_cannot_be_waited_for_is_said_at_once() {
    let (site, servers, ports) = (Site::new(), [Server::echo(), Server::echo()], [free_port(), free_port()]);
    site.write(
        &[("one", &[&servers[0]], ""), ("other", &[&servers[1]], "")],
        &[("a", ports[0], "pool = 'one'"), ("b", ports[1], "pool = 'other'")],
    );
    site.start();
    let _client = served(ports[0]);
    let ask = |line: &str| site.daemon.control(line);
    assert_eq!(ask(&format!("wait-empty other/{} 0", servers[1])), "Ok\n");
    assert_eq!(
        ask(&format!("wait-empty one/{} 0", servers[0])),
        format!("Error: one/{}: not empty in time, 1 connection left\n", servers[0])
    );
    assert_eq!(ask("wait-empty one/127.0.0.1:1 5"), "Error: one/127.0.0.1:1: no such destination\n");
    for (line, reason) in [
        ("wait-empty", "expected wait-empty HOST:PORT SECS"),
        ("wait-empty 127.0.0.1:1", "expected wait-empty HOST:PORT SECS"),
        ("wait-empty 127.0.0.1:1:2 3", "expected wait-empty HOST:PORT SECS"),
        ("wait-empty 127.0.0.1:1 -1", "'-1' is no time to wait (0 to 86400 seconds)"),
        ("wait-empty 127.0.0.1:1 NaN", "'NaN' is no time to wait (0 to 86400 seconds)"),
    ] {
        assert_eq!(ask(line), format!("Error: '{line}': {reason}\n"));
    }
}
