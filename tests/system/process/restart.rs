//! A daemon that is started again at once on the same ports.

use std::fs;
use std::io;
use std::net::TcpStream;
use std::time::Instant;

use nix::sys::signal::Signal;

use crate::harness::{Daemon, KernelsEnd, PATIENCE, Server, connect_to, read_line, said_goodbye, wait_until};

fn served_client(daemon: &Daemon) -> TcpStream {
    let client = connect_to(daemon.address()).expect("a daemon that accepts");
    assert_eq!(read_line(&client).expect("a name"), "a");
    client
}

#[test]
fn a_restart_works_at_once_with_connections_that_were_just_cut() {
    let server = Server::named("a");
    let daemon = Daemon::started(&[&server.to_string()]);
    for _ in 0..10 {
        let clients: Vec<TcpStream> = (0..5).map(|_| served_client(&daemon)).collect();
        daemon.signal(Signal::SIGTERM);
        daemon.wait_until_gone();
        daemon.start(&[&server.to_string()]);
        // The clients still have their ends open.
        for client in clients {
            said_goodbye(&client);
            served_client(&daemon);
        }
    }
}

#[test]
fn a_restart_works_at_once_with_connections_in_time_wait() {
    let server = Server::named_and_closing("a");
    let daemon = Daemon::started(&[&server.to_string()]);
    for _ in 0..3 {
        // The server ends first, and so does glbd towards its client, whose end it then remembers for a minute.
        for _ in 0..5 {
            let client = served_client(&daemon);
            io::copy(&mut &client, &mut io::sink()).expect("a clean end");
        }
        wait_until("ends linger", || KernelsEnd::in_time_wait_at(daemon.address()) > 0);
        assert_eq!(daemon.control("version"), "glbd 2.0.0\n");
        daemon.signal(Signal::SIGTERM);
        daemon.wait_until_gone();
        daemon.start(&[&server.to_string()]);
        served_client(&daemon);
    }
}

#[test]
fn a_restart_works_as_soon_as_the_process_seems_to_be_gone() {
    let daemon = Daemon::started(&["-t", "8"]);
    for _ in 0..40 {
        let stat = daemon.proc("stat");
        daemon.signal(Signal::SIGTERM);
        // As an init script looks for it, but with less patience. Nobody may have asked yet how it ended.
        let is_gone = || fs::read_to_string(&stat).map_or(true, |stat| stat.contains(") Z "));
        let deadline = Instant::now() + PATIENCE;
        while !is_gone() || daemon.pidfile().exists() {
            assert!(Instant::now() < deadline, "it does not stop");
        }
        daemon.start(&["-t", "8"]);
    }
}

#[test]
fn a_restart_works_at_once_after_the_daemon_was_killed() {
    let server = Server::named("a");
    let daemon = Daemon::started(&[&server.to_string()]);
    for _ in 0..5 {
        let client = served_client(&daemon);
        daemon.signal(Signal::SIGKILL);
        daemon.wait_until_gone();
        daemon.start(&[&server.to_string()]);
        said_goodbye(&client);
        served_client(&daemon);
    }
}

#[test]
fn a_restart_begins_with_the_table_of_the_command_line() {
    let daemon = Daemon::started(&["127.0.0.1:1:0.5"]);
    assert_eq!(daemon.control("127.0.0.1:2\n127.0.0.1:1:-1"), "Ok\nOk\n");
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    daemon.start(&["127.0.0.1:1:0.5"]);
    assert_eq!(daemon.control("127.0.0.1:2:-1"), "Error: 127.0.0.1:2: no such destination\n");
    assert_eq!(daemon.control("127.0.0.1:1:-1"), "Ok\n");
}
