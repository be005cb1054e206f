//! UNIX sockets in everything that changes destinations: the control port, the file, the state, an upgrade.

use std::fs;
use std::net::TcpStream;

use nix::sys::signal::Signal;

use super::{UnixServer, directory, unix};
use crate::harness::glbd::run;
use crate::harness::{Daemon, Glbd, Server, echoes, wait_until};

#[test]
fn the_control_port_adds_reweighs_drains_enables_and_removes_a_unix_socket() {
    let directory = directory();
    let server = UnixServer::echo(directory.path().join("server"));
    let other = Server::echo();
    let glbd = Glbd::start([&other]);
    let weight = || glbd.info().row(&server).weight;
    for (line, expected) in [
        (format!("{server}"), 1.0),
        (format!("{server}:2.5"), 2.5),
        (format!("main/{server}:3"), 3.0),
        (format!("weight {server} 4"), 4.0),
        (format!("weight {server}:5"), 5.0),
        (format!("{server} 6"), 6.0),
        (format!("drain {server}"), 0.0),
        (format!("enable main/{server}"), 6.0),
        (format!("{server}:0"), 0.0),
        (format!("add {server}:7"), 7.0),
    ] {
        assert_eq!(glbd.control(&line), "Ok\n", "{line}");
        assert_eq!(weight(), expected, "{line}");
    }
    let clients: Vec<TcpStream> = (0..8).map(|_| glbd.connect()).collect();
    assert!(clients.iter().all(echoes));
    assert_eq!((server.accepted(), other.accepted()), (7, 1));
    let width = server.to_string().len().max(21);
    let line = format!("{:>width$} :    7.000   0.875    N/A      7\n", server.to_string());
    assert!(glbd.control("getinfo").contains(&line), "{}", glbd.control("getinfo"));
    assert_eq!(glbd.control(&format!("remove {server}")), "Ok\n");
    assert!(glbd.info().rows.iter().all(|row| row.address != server.to_string()));
    assert_eq!(glbd.control(&format!("remove {server}")), format!("Error: {server}: no such destination\n"));
    assert!(glbd.control(&format!("elsewhere/{server}:1")).contains("there is no pool 'elsewhere'"));
}

#[test]
fn the_writer_moves_to_a_unix_socket_and_back() {
    let directory = directory();
    let unix_server = UnixServer::echo(directory.path().join("server"));
    let tcp_server = Server::echo();
    let glbd = Glbd::builder()
        .args(["--single", "-w", "tcp", "--interval", "0.2"])
        .destinations([tcp_server.to_string(), unix_server.to_string()])
        .start();
    let single = || glbd.info().rows.iter().find(|row| row.is_single).map(|row| row.address.clone());
    wait_until("there is a writer", || single().is_some());
    for destination in [unix_server.to_string(), tcp_server.to_string()] {
        wait_until("it can be the writer", || glbd.control(&format!("writer {destination} 0")) == "Ok\n");
        assert_eq!(single(), Some(destination));
        assert!(echoes(&glbd.connect()));
    }
}

/// A file with these destinations, and that the daemon logs to its directory.
fn write(daemon: &Daemon, destinations: &[String]) -> String {
    let file = daemon.directory().join("glbd.toml").display().to_string();
    let log = daemon.directory().join("log");
    let text = format!(
        "[process]\nuser = \"root\"\nlog = \"{}\"\n[pool.main]\ndestinations = {destinations:?}\n[service.main]\nlisten = \"{}\"\n",
        log.display(),
        daemon.address()
    );
    fs::write(&file, text).expect("a file");
    file
}

#[test]
fn a_file_names_unix_sockets_which_a_reload_adds_reweighs_and_drops() {
    let (daemon, directory) = (Daemon::new(), directory());
    let servers = ["a", "b"].map(|name| UnixServer::echo(directory.path().join(name)));
    let file = write(&daemon, &[servers[0].to_string()]);
    let printed = run(&["--print-config", "--config", &file]).stdout;
    assert!(String::from_utf8_lossy(&printed).contains(&servers[0].to_string()), "{printed:?}");
    daemon.start(&["--config", &file]);
    let kept: Vec<TcpStream> = (0..3).map(|_| daemon.connect()).collect();
    assert!(kept.iter().all(echoes));
    write(&daemon, &[format!("{}:2", servers[0]), servers[1].to_string()]);
    assert_eq!(
        daemon.control("reload"),
        format!(
            "pool main: destination {} added with weight 1\npool main: destination {} has weight 2\nOk\n",
            servers[1], servers[0]
        )
    );
    assert!(echoes(&daemon.connect()));
    assert_eq!(servers[1].accepted(), 1);
    write(&daemon, &[servers[1].to_string()]);
    assert!(daemon.control("reload").contains(&format!("destination {} dropped", servers[0])));
    assert!(kept.iter().all(echoes), "the connections of what is dropped go on");
    write(&daemon, &["unix:relative".to_owned()]);
    let before = daemon.control("getinfo");
    let answer = daemon.control("reload");
    assert!(answer.contains(":5:16: pool.main.destinations"), "{answer}");
    assert_eq!(daemon.control("getinfo"), before);
}

#[test]
fn what_was_changed_of_a_unix_socket_is_there_after_a_restart() {
    let (daemon, directory) = (Daemon::new(), directory());
    let servers = ["a", "b", "c"].map(|name| UnixServer::echo(directory.path().join(name)));
    let [first, second, third] = servers.each_ref().map(ToString::to_string);
    let state = daemon.directory().join("state").display().to_string();
    let words = ["--user", "root", "--state", &state, &first, &second];
    daemon.start(&words);
    for line in [format!("{first}:0"), format!("{second}:-1"), format!("{third}:4")] {
        assert_eq!(daemon.control(&line), "Ok\n");
    }
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    daemon.start(&words);
    let rows: Vec<_> = daemon.info().rows.iter().map(|row| (row.address.clone(), row.weight)).collect();
    assert_eq!(rows, [(first, 0.0), (third, 4.0)]);
}

#[test]
fn an_upgrade_keeps_unix_sockets_their_weights_and_their_connections() {
    let (daemon, directory) = (Daemon::new(), directory());
    let servers = ["a", "b"].map(|name| UnixServer::echo(directory.path().join(name)));
    let [first, second] = servers.each_ref().map(ToString::to_string);
    daemon.start(&["--user", "root", "-w", "tcp", &first]);
    assert_eq!(daemon.control(&format!("{second}:2")), "Ok\n");
    let clients: Vec<TcpStream> = (0..9).map(|_| daemon.connect()).collect();
    assert!(clients.iter().all(echoes));
    let held = |address: &str| daemon.info().row(address).conns;
    assert_eq!((held(&first), held(&second)), (3, 6));
    daemon.upgrade();
    wait_until("what the one before holds is counted", || (held(&first), held(&second)) == (3, 6));
    assert!(clients.iter().all(echoes));
    let more: Vec<TcpStream> = (0..3).map(|_| daemon.connect()).collect();
    assert!(more.iter().all(echoes));
    assert_eq!((held(&first), held(&second)), (4, 8), "they count for the policy as well");
    assert_eq!(daemon.info().row(&second).weight, 2.0);
    // What is removed here goes there as well.
    assert_eq!(daemon.control(&format!("{second}:-1")), "Ok\n");
    wait_until("its connections are gone everywhere", || clients.iter().filter(|client| echoes(client)).count() == 3);
    assert!(unix(&directory.path().join("b")) == second && daemon.info().rows.len() == 1);
}
