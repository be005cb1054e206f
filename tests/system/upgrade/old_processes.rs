//! Processes that have stepped down and still have connections.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::daemon;
use crate::harness::proc::{cpu_time, times_woken};
use crate::harness::{Daemon, Server, echoes, read_line, said_goodbye, wait_until, wait_until_within};

fn is_running(daemon: &Daemon, pid: Pid) -> bool {
    daemon.processes().contains(&pid)
}

/// A client for each of so many processes, all but the last of which have stepped down; and the processes.
fn generations(daemon: &Daemon, count: usize) -> (Vec<TcpStream>, Vec<Pid>) {
    let generation = |number| {
        if number > 0 {
            daemon.upgrade();
        }
        let client = daemon.connect();
        assert!(echoes(&client));
        (client, daemon.pid())
    };
    (0..count).map(generation).unzip()
}

#[test]
fn each_ends_with_its_last_connection() {
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let (mut clients, processes) = generations(&daemon, 4);
    assert_eq!(daemon.info().total, 4);
    // In whatever order.
    for (index, left) in [(1, 3), (0, 2), (0, 1)] {
        let pid = processes.iter().copied().filter(|pid| is_running(&daemon, *pid)).nth(index).expect("a process");
        drop(clients.remove(index));
        wait_until("it has ended", || !is_running(&daemon, pid));
        wait_until("its connection does not count any more", || daemon.info().total == left);
        assert!(clients.iter().all(echoes));
    }
    assert!(is_running(&daemon, processes[3]));
}

#[test]
fn a_removed_destination_loses_its_connections_in_all_of_them() {
    let servers = [Server::echo(), Server::echo()];
    let daemon = daemon(&["--round", &servers[0].to_string(), &servers[1].to_string()]);
    let mut clients = Vec::new();
    for generation in 0..3 {
        if generation > 0 {
            daemon.upgrade();
        }
        clients.extend((0..2).map(|_| daemon.connect()));
        assert!(clients.iter().all(echoes));
    }
    assert_eq!(daemon.info().row(&servers[0]).conns, 3);
    assert_eq!(daemon.control(&format!("{}:-1", servers[0])), "Ok\n");
    wait_until("its connections are closed", || servers[0].open() == 0);
    assert_eq!(servers[1].open(), 3);
    wait_until("they do not count any more", || daemon.info().total == 3);
    let (there, gone): (Vec<_>, Vec<_>) = clients.iter().partition(|client| echoes(client));
    assert_eq!((there.len(), gone.len()), (3, 3));
}

#[test]
fn a_drained_destination_looks_empty_only_when_it_is() {
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let client = daemon.connect();
    assert!(echoes(&client));
    daemon.upgrade();
    assert_eq!(daemon.control(&format!("{server}:0")), "Ok\n");
    assert_eq!(daemon.info().row(&server).conns, 1);
    drop(client);
    wait_until("it is empty", || daemon.info().row(&server).conns == 0);
}

#[test]
fn many_destinations_that_go_at_once_are_all_heard_of() {
    const MANY: u16 = 3000;
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let client = daemon.connect();
    assert!(echoes(&client));
    let all = |weight: &str| (1..=MANY).map(|port| format!("127.0.0.9:{port}:{weight}\n")).collect::<String>();
    assert_eq!(daemon.control(&all("1")).matches("Ok").count(), usize::from(MANY));
    daemon.upgrade();
    let answer = daemon.control(&format!("{}{server}:-1", all("-1")));
    assert_eq!(answer.matches("Ok").count(), usize::from(MANY) + 1);
    wait_until("its connection is closed", || server.open() == 0);
    assert!(!said_goodbye(&client));
}

#[test]
fn their_connections_count_for_the_limit() {
    let server = Server::echo();
    let daemon = daemon(&["--max_conn", "3", &server.to_string()]);
    let (mut clients, _) = generations(&daemon, 3);
    daemon.upgrade();
    let waiting = daemon.connect();
    waiting.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
    assert!(!echoes(&waiting), "there is no room");
    assert_eq!(daemon.info().total, 3);
    waiting.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a socket");
    clients.pop();
    // What it sent before is answered now.
    assert_eq!(read_line(&waiting).expect("an answer"), "still there?");
}

#[test]
fn who_waits_in_the_backlog_is_not_let_in_beyond_the_limit_by_an_upgrade() {
    let server = Server::echo();
    let daemon = daemon(&["--max_conn", "5", &server.to_string()]);
    let served: Vec<TcpStream> = (0..5).map(|_| daemon.connect()).collect();
    assert!(served.iter().all(echoes));
    let waiting: Vec<TcpStream> = (0..5).map(|_| daemon.connect()).collect();
    for _ in 0..3 {
        daemon.upgrade();
        assert_eq!((daemon.info().total, server.accepted()), (5, 5));
    }
    drop(served);
    assert!(waiting.iter().all(echoes));
}

#[test]
fn a_daemon_that_drains_waits_for_them() {
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let (mut clients, processes) = generations(&daemon, 2);
    daemon.signal(Signal::SIGUSR1);
    wait_until("the pid file is given up", || !daemon.pidfile().exists());
    drop(clients.pop());
    assert!(echoes(&clients[0]) && is_running(&daemon, processes[1]));
    drop(clients.pop());
    daemon.wait_until_gone();
}

#[test]
fn they_stop_when_the_daemon_is_stopped() {
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let (clients, _) = generations(&daemon, 4);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    for client in clients {
        said_goodbye(&client);
    }
    assert_eq!(daemon.files(), [""; 0]);
}

#[test]
fn they_go_on_when_the_daemon_is_killed() {
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let (clients, processes) = generations(&daemon, 3);
    kill(processes[2], Signal::SIGKILL).expect("it runs");
    wait_until("it is gone", || !is_running(&daemon, processes[2]));
    assert!(echoes(&clients[0]) && echoes(&clients[1]));
    drop(clients);
    daemon.wait_until_gone();
}

#[test]
fn after_the_drain_timeout_their_connections_are_reset() {
    let server = Server::echo();
    let daemon = daemon(&["--drain-timeout", "1", &server.to_string()]);
    let (clients, processes) = generations(&daemon, 2);
    wait_until("the old process has ended", || !is_running(&daemon, processes[0]));
    assert!(!said_goodbye(&clients[0]), "it is reset");
    assert!(echoes(&clients[1]));
}

#[test]
fn the_drain_timeout_holds_without_a_successor_as_well() {
    let server = Server::echo();
    let daemon = daemon(&["--drain-timeout", "0.5", &server.to_string()]);
    let client = daemon.connect();
    assert!(echoes(&client));
    daemon.signal(Signal::SIGUSR1);
    daemon.wait_until_gone();
    assert!(!said_goodbye(&client), "it is reset");
}

#[test]
fn they_use_no_processor_time() {
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let (_clients, processes) = generations(&daemon, 2);
    let woken = || times_woken(processes[0], "").into_values().sum::<u64>();
    // On a busy machine, a single wakeup may cost a tenth of a second: that it uses little at times is enough.
    let rests = || {
        let (used_before, woken_before, begun) = (cpu_time(processes[0]), woken(), Instant::now());
        // New clients are none of its business.
        (0..100).for_each(|_| assert!(echoes(&daemon.connect())));
        std::thread::sleep(Duration::from_millis(500));
        let (used, passed) = (cpu_time(processes[0]) - used_before, begun.elapsed());
        let woken = woken() - woken_before;
        println!("{used:?} of {passed:?}, woken {woken} times");
        used < passed / 4 && woken < 50 + 10 * passed.as_secs()
    };
    assert!((0..20).any(|_| rests()), "it uses the processor all the time, or is woken by new clients");
}

#[test]
fn fifty_upgrades_leave_no_descriptor_and_no_process_behind() {
    let server = Server::echo();
    let daemon = daemon(&[&server.to_string()]);
    let descriptors = || std::fs::read_dir(daemon.proc("fd")).expect("it runs").count();
    daemon.upgrade();
    wait_until("the first is alone", || daemon.processes().len() == 1);
    let before = loop {
        let found = descriptors();
        std::thread::sleep(Duration::from_secs(1));
        if descriptors() == found {
            break found;
        }
    };
    for _ in 0..50 {
        daemon.upgrade();
    }
    wait_until_within(crate::harness::PATIENCE, "the last is alone", || daemon.processes().len() == 1);
    wait_until("its descriptors are no more than the first one's", || descriptors() <= before);
}
