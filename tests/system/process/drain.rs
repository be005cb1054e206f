//! SIGUSR1: no new connections, the open ones go on to their end, and then so does the daemon.

use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::harness::{Daemon, Glbd, Server, Stage, connect_to, read_line, wait_until};

/// Whether a word still comes back from the other end.
fn is_served(mut client: &TcpStream) -> bool {
    client.write_all(b"hello\n").is_ok() && read_line(client).is_ok_and(|line| line == "hello")
}

fn refuses(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_secs(5)).is_err()
}

#[test]
fn new_connections_are_refused_and_open_ones_served_to_their_end() {
    let server = Server::echo();
    let mut glbd = Glbd::builder().args(["-t", "4"]).destinations([&server]).start();
    let mut clients: Vec<TcpStream> = (0..8).map(|_| glbd.connect()).collect();
    assert!(clients.iter().all(is_served));

    glbd.signal(Signal::SIGUSR1);
    glbd.wait_for_log("no new connections");
    wait_until("clients are refused", || refuses(glbd.address()));
    wait_until("control is closed", || refuses(glbd.control_address()));
    assert!(!glbd.fifo().exists());
    while let Some(client) = clients.pop() {
        assert!(is_served(&client) && clients.iter().all(is_served));
        assert!(glbd.exited().is_none(), "it left {} clients", clients.len() + 1);
    }
    assert_eq!(glbd.wait_exit().code(), Some(0));
    glbd.wait_for_log("INFO stopped");
}

#[test]
fn without_connections_it_ends_at_once() {
    let mut glbd = Glbd::builder().args(["-t", "4"]).start();
    glbd.signal(Signal::SIGUSR1);
    assert_eq!(glbd.wait_exit().code(), Some(0));
}

#[test]
fn half_closed_connections_are_served_to_their_end_too() {
    let mut stage = Stage::start();
    let (client, server) = stage.pair();
    client.shutdown(Shutdown::Write).expect("an open connection");
    assert_eq!(read_line(&server).expect("the client's end"), "");
    stage.glbd.signal(Signal::SIGUSR1);
    stage.glbd.wait_for_log("no new connections");
    (&server).write_all(b"late answer\n").expect("an open connection");
    assert_eq!(read_line(&client).expect("the answer"), "late answer");
    assert!(stage.glbd.exited().is_none());
    drop(server);
    assert_eq!(stage.glbd.wait_exit().code(), Some(0));
}

#[test]
fn a_second_time_changes_nothing() {
    let server = Server::echo();
    let mut glbd = Glbd::start([&server]);
    let client = glbd.connect();
    assert!(is_served(&client));
    for _ in 0..3 {
        glbd.signal(Signal::SIGUSR1);
        glbd.wait_for_log("no new connections");
    }
    assert!(is_served(&client) && glbd.exited().is_none());
    assert_eq!(glbd.log().matches("no new connections").count(), 1);
    drop(client);
    assert_eq!(glbd.wait_exit().code(), Some(0));
}

#[test]
fn sigterm_ends_the_wait_for_connections() {
    let server = Server::echo();
    let mut glbd = Glbd::start([&server]);
    let client = glbd.connect();
    assert!(is_served(&client));
    glbd.signal(Signal::SIGUSR1);
    glbd.wait_for_log("no new connections");
    assert!(is_served(&client));
    glbd.signal(Signal::SIGTERM);
    assert_eq!(glbd.wait_exit().code(), Some(0));
    assert!(!is_served(&client));
}

#[test]
fn a_new_daemon_takes_over_while_the_old_one_serves_its_last_clients() {
    let [old, new] = ["old", "new"].map(Server::named);
    let daemon = Daemon::started(&[&old.to_string()]);
    let connect = || connect_to(daemon.address()).expect("a daemon that accepts");
    let old_client = connect();
    assert_eq!(read_line(&old_client).expect("a name"), "old");

    let old_daemon = daemon.pid();
    daemon.signal(Signal::SIGUSR1);
    // The pid file is the last that it gives up.
    wait_until("everything is given up", || !daemon.pidfile().exists());
    wait_until("the new daemon starts", || daemon.launch(&[&new.to_string()]).status == Some(0));
    let new_daemon = daemon.pid();
    assert_ne!(new_daemon, old_daemon);
    assert!(daemon.processes().contains(&old_daemon));

    assert!(is_served(&old_client));
    assert_eq!(read_line(&connect()).expect("a name"), "new");
    drop(old_client);
    wait_until("the old daemon ends", || !daemon.processes().contains(&old_daemon));
    assert_eq!(daemon.files(), ["glbd.fifo", "glbd.pid"], "the old daemon took the new one's files with it");
    assert_eq!(daemon.pid(), new_daemon);
    assert_eq!(daemon.control("version"), "glbd 2.0.0\n");
    assert_eq!(read_line(&connect()).expect("a name"), "new");
}
