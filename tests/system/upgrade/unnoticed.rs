//! What clients and operators see of an upgrade: nothing.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, Shutdown, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::daemon;
use crate::harness::{
    Daemon, PATIENCE, Payload, Server, connect_to, control, echoes, names_of, said_goodbye, wait_until,
    wait_until_within,
};

const UPGRADES: usize = 10;

#[test]
fn ten_upgrades_lose_none_of_five_thousand_clients_and_none_of_two_hundred_long_connections() {
    const CLIENTS: usize = 5000;
    const AT_A_TIME: usize = 8;
    const LONG: usize = 200;
    const LENGTH: usize = 2000;
    let servers = [Server::echo(), Server::echo()];
    let daemon = daemon(&["-t", "2", &servers[0].to_string(), &servers[1].weighted(0.5)]);
    let long: Vec<TcpStream> = (0..LONG).map(|_| daemon.connect()).collect();
    assert!(long.iter().all(echoes));
    let (begun, served, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
    let come_and_go = || {
        while served.load(Ordering::Relaxed) < CLIENTS || !over.load(Ordering::Relaxed) {
            let number = begun.fetch_add(1, Ordering::Relaxed);
            let (client, payload) = (daemon.connect(), Payload::new(number as u64, LENGTH));
            payload.send(&client).unwrap_or_else(|error| panic!("client {number}: {error}"));
            client.shutdown(Shutdown::Write).expect("an open connection");
            payload.receive_to_end(&client);
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..AT_A_TIME).map(|_| scope.spawn(come_and_go)).collect();
        for upgrade in 1..=UPGRADES {
            let due = upgrade * CLIENTS / (UPGRADES + 1);
            let enough = || served.load(Ordering::Relaxed) >= due || clients.iter().any(|client| client.is_finished());
            wait_until_within(PATIENCE * 6, "enough clients came", enough);
            daemon.upgrade();
            assert!(long.iter().all(echoes), "long connections after upgrade {upgrade}");
        }
        over.store(true, Ordering::Relaxed);
    });
    let clients = served.into_inner();
    assert!(clients >= CLIENTS);
    assert!(long.iter().all(echoes));

    // Those that were served by the processes before are reported a moment later.
    let long_bytes = LONG * (UPGRADES + 2) * "still there?\n".len();
    let mut stats = daemon.stats();
    wait_until_within(PATIENCE, "everything is counted", || {
        let more = daemon.stats();
        stats.created += more.created;
        stats.bytes_in += more.bytes_in;
        stats.bytes_out += more.bytes_out;
        stats.open = more.open;
        let all = clients * LENGTH + long_bytes;
        stats.open == LONG as u64 && stats.bytes_in.min(stats.bytes_out) as usize >= all
    });
    assert_eq!(stats.created as usize, clients + LONG);
    assert_eq!(stats.bytes_in as usize, clients * LENGTH + long_bytes);
    assert_eq!(stats.bytes_out, stats.bytes_in);
    let info = daemon.info();
    assert_eq!(info.total, LONG);
    assert_eq!(info.rows.iter().map(|row| row.weight).collect::<Vec<_>>(), [1.0, 0.5]);
}

#[test]
fn table_weights_and_connections_are_as_before_each_upgrade() {
    let servers: Vec<Server> = ["a", "b", "c", "d"].map(Server::named).into();
    let daemon = daemon(&["--random", &servers[0].to_string(), &servers[1].weighted(0.25)]);
    daemon.control(&format!("{}\n{}:0\n{}:0.3\n{}:-1", servers[2].weighted(7.125), servers[0], servers[3], servers[3]));
    let clients: Vec<TcpStream> = (0..20).map(|_| daemon.connect()).collect();
    names_of(&clients);
    let before = daemon.info();
    assert_eq!(before.rows.len(), 3);
    for _ in 0..UPGRADES {
        daemon.upgrade();
        assert_eq!(daemon.info(), before);
        let stats = daemon.stats();
        assert_eq!(stats.open, 20);
    }
    assert!(clients.iter().all(echoes));
    // What is in force as well.
    daemon.control(&format!("{}:0", servers[1]));
    let names = names_of(&(0..10).map(|_| daemon.connect()).collect::<Vec<_>>());
    assert_eq!(names, ["c"; 10]);
}

#[test]
fn least_connected_counts_the_connections_of_the_processes_before() {
    let servers = ["a", "b"].map(Server::named);
    let daemon = daemon(&[&servers[0].to_string()]);
    let first: Vec<TcpStream> = (0..6).map(|_| daemon.connect()).collect();
    assert_eq!(names_of(&first), ["a"; 6]);
    daemon.upgrade();
    daemon.control(&servers[1].to_string());
    let second: Vec<TcpStream> = (0..6).map(|_| daemon.connect()).collect();
    assert_eq!(names_of(&second), ["b"; 6]);
}

#[test]
fn single_keeps_to_its_destination() {
    let mut servers = ["a", "b", "c"].map(Server::named);
    let daemon = daemon(&["--single", &servers[0].to_string(), &servers[1].to_string(), &servers[2].to_string()]);
    assert_eq!(names_of(&[daemon.connect()]), ["a"]);
    servers[0].stop();
    assert_eq!(names_of(&[daemon.connect()]), ["b"]);
    servers[0].start();
    for _ in 0..3 {
        daemon.upgrade();
        assert_eq!(names_of(&[daemon.connect()]), ["b"]);
    }
}

#[test]
fn every_change_that_is_answered_is_there_after_the_upgrades() {
    const DESTINATIONS: u32 = 2000;
    let daemon = daemon(&[]);
    let done = AtomicBool::new(false);
    let answered = thread::scope(|scope| {
        let change = || {
            let mut answered = BTreeMap::new();
            // As many rounds over all destinations as there is time for, each with another weight.
            for (weight, number) in (1..).flat_map(|weight| (0..DESTINATIONS).map(move |number| (weight, number))) {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                let address = format!("{}:1", Ipv4Addr::from_bits(0x0a00_0001 + number));
                let destination = format!("{address}:{weight}");
                assert_eq!(control::ask(daemon.control_address(), &destination).expect("an answer"), "Ok\n");
                answered.insert(address, f64::from(weight));
            }
            answered
        };
        let changes = scope.spawn(change);
        (0..UPGRADES).for_each(|_| daemon.upgrade());
        done.store(true, Ordering::Relaxed);
        changes.join().expect("every change was answered")
    });
    let there: BTreeMap<_, _> = daemon.info().rows.into_iter().map(|row| (row.address, row.weight)).collect();
    assert_eq!(there, answered);
}

#[test]
fn commands_that_come_through_the_fifo_during_upgrades_are_all_obeyed() {
    let daemon = daemon(&[]);
    let write = |port: u16| std::fs::write(daemon.fifo(), format!("127.0.0.1:{port}:0.5\n")).expect("a FIFO");
    thread::scope(|scope| {
        let commands = scope.spawn(|| (1..=200).for_each(write));
        (0..UPGRADES).for_each(|_| daemon.upgrade());
        commands.join().expect("every command was written");
    });
    wait_until("all were obeyed", || daemon.info().rows.len() == 200);
}

#[test]
fn a_fifo_that_is_written_to_without_a_pause_does_not_hold_up_an_upgrade() {
    let daemon = daemon(&[]);
    let script = format!("exec yes 127.0.0.1:1:0.5 >'{}'", daemon.fifo().display());
    let mut flood = Command::new("sh").args(["-c", &script]).spawn().expect("a shell");
    wait_until("it is obeyed", || !daemon.info().rows.is_empty());
    (0..3).for_each(|_| daemon.upgrade());
    flood.kill().and_then(|()| flood.wait()).expect("it runs");
    // No line was torn in two.
    let addresses: Vec<String> = daemon.info().rows.into_iter().map(|row| row.address).collect();
    assert_eq!(addresses, ["127.0.0.1:1"]);
}

#[test]
fn a_signal_that_comes_meanwhile_is_meant_for_the_daemon() {
    for signal in [Signal::SIGTERM, Signal::SIGUSR1] {
        for delay in 0..20 {
            let daemon = daemon(&[]);
            let (pid, since) = (daemon.pid(), Instant::now());
            daemon.signal(Signal::SIGUSR2);
            thread::sleep(Duration::from_millis(delay));
            // As an init script does, which has read the pid file before. If this thread slept for long, the old process
            // may be ending, and the signal is lost.
            if kill(pid, signal).is_ok() && since.elapsed() < Duration::from_secs(1) {
                daemon.wait_until_gone();
                assert_eq!(daemon.files(), [""; 0], "{signal} after {delay} ms");
            }
        }
    }
}

#[test]
fn a_person_at_a_prompt_does_not_hold_up_an_upgrade() {
    let daemon = daemon(&[]);
    let mut person = connect_to(daemon.control_address()).expect("a control port");
    person.write_all(b"prompt\n").expect("an open connection");
    daemon.upgrade();
    // It is closed, one way or the other.
    said_goodbye(&person);
    assert_eq!(daemon.control("version"), "glbd 2.0.0\n");
}

#[test]
fn several_listening_sockets_are_all_served_by_the_successor() {
    let server = Server::named("a");
    let daemon = daemon(&["-t", "8", &server.to_string()]);
    for _ in 0..3 {
        daemon.upgrade();
        let clients: Vec<TcpStream> = (0..64).map(|_| daemon.connect()).collect();
        assert_eq!(names_of(&clients), ["a"; 64]);
    }
}

#[test]
fn an_upgraded_daemon_drains_and_stops_as_any_other() {
    let server = Server::echo();
    for signal in [Signal::SIGUSR1, Signal::SIGTERM] {
        let daemon: Daemon = daemon(&[&server.to_string()]);
        daemon.upgrade();
        let client = daemon.connect();
        assert!(echoes(&client));
        daemon.signal(signal);
        if signal == Signal::SIGUSR1 {
            wait_until("the pid file is given up", || !daemon.pidfile().exists());
            assert!(echoes(&client));
            drop(client);
        }
        daemon.wait_until_gone();
        assert_eq!(daemon.files(), [""; 0]);
    }
}
