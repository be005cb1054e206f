//! Clients that wait for room in a service when the socket in whose backlog they are is given up.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;

use nix::sys::signal::Signal;

use super::{reload, write};
use crate::harness::{Server, connect_to, echoes, free_port, read_line, wait_until};
use crate::services::{Site, at, served};

/// A daemon whose service `s` has one client, which is as many as it takes, and four that wait at this port.
fn with_clients_waiting(lines: &str, port: u16) -> (Site, Server, TcpStream, Vec<TcpStream>) {
    let (site, server) = (Site::new(), Server::echo());
    write(&site, &server, &[("s", lines)]);
    site.start();
    let session = served(port);
    let waiting = (0..4).map(|_| connect_to(at(port)).expect("room in the backlog")).collect();
    (site, server, session, waiting)
}

fn limited_at(listen: &str) -> String {
    format!("listen = {listen}\nmax-connections = 1")
}

#[test]
fn clients_that_wait_for_room_are_served_when_a_reload_gives_their_address_up() {
    let [port, other] = [0; 2].map(|_| free_port());
    let elsewhere = |lines: &'static str| {
        (format!("listen = [{port}, {other}]\n{lines}"), ("s", format!("listen = {other}\n{lines}")))
    };
    for (before, (name, after)) in [
        (limited_at(&port.to_string()), ("s", limited_at(&format!("\"127.0.0.1:{port}\"")))),
        (limited_at(&port.to_string()), ("s", limited_at(&other.to_string()))),
        (limited_at(&port.to_string()), ("t", limited_at(&other.to_string()))),
        elsewhere("connection-rate = 1"),
        elsewhere("max-connections = 1"),
    ] {
        let (site, server, session, waiting) = with_clients_waiting(&before, port);
        write(&site, &server, &[(name, &after)]);
        let answer = reload(&site);
        assert!(answer.ends_with("Ok\n"), "{answer}");
        assert!(waiting.iter().all(echoes), "{before}\nand then\n{after}");
        // They count like any others.
        wait_until("all are counted", || site.daemon.info().total == 5);
        drop((session, waiting));
        wait_until("all have left", || site.daemon.info().total == 0);
    }
}

/// The rate of all services holds up clients in the same way.
#[test]
fn clients_that_wait_for_the_rate_of_the_process_are_served_when_their_service_is_dropped() {
    let [port, other] = [0; 2].map(|_| free_port());
    let (site, server) = (Site::new(), Server::echo());
    let write = |name: &str, port: u16| {
        write(&site, &server, &[(name, &format!("listen = {port}"))]);
        let text = fs::read_to_string(&site.file).expect("the file");
        fs::write(&site.file, text.replace("threads = 2", "threads = 2\nconnection-rate = 1")).expect("a file");
    };
    write("s", port);
    site.start();
    let clients = [0; 5].map(|_| connect_to(at(port)).expect("room in the backlog"));
    write("t", other);
    assert!(reload(&site).ends_with("Ok\n"));
    assert!(clients.iter().all(echoes));
}

#[test]
fn clients_that_wait_for_room_are_served_when_the_daemon_drains() {
    let port = free_port();
    let (site, _server, session, waiting) = with_clients_waiting(&limited_at(&port.to_string()), port);
    site.daemon.signal(Signal::SIGUSR1);
    assert!(waiting.iter().all(echoes));
    drop((session, waiting));
    site.daemon.wait_until_gone();
}

/// What the process may have is not exceeded.
#[test]
fn clients_that_wait_for_room_in_the_process_are_reset_when_their_address_is_given_up() {
    let [port, other] = [0; 2].map(|_| free_port());
    let (site, server) = (Site::new(), Server::echo());
    let write = |port: u16| {
        write(&site, &server, &[("s", &format!("listen = {port}"))]);
        let text = fs::read_to_string(&site.file).expect("the file");
        fs::write(&site.file, text.replace("threads = 2", "threads = 2\nmax-connections = 2")).expect("a file");
    };
    write(port);
    site.start();
    let sessions = [0; 2].map(|_| served(port));
    let waiting = [0; 2].map(|_| connect_to(at(port)).expect("room in the backlog"));
    write(other);
    assert!(reload(&site).ends_with("Ok\n"));
    assert!(
        waiting.iter().all(|client| read_line(client).is_err_and(|error| error.kind() == ErrorKind::ConnectionReset))
    );
    assert!(sessions.iter().all(echoes));
    assert!(site.log().contains("the limit of 2 connections is reached"));
}
