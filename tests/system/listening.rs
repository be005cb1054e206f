//! Where services listen: several addresses of one service, each of which comes and goes by itself.

mod backlog;
mod overlaps;
mod sockets;
mod transparent;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::{Command, Stdio};

use crate::harness::daemon::kill_all_with;
use crate::harness::kernel::listening_sockets;
use crate::harness::{Glbd, Launch, Server, connect_to, echoes, free_port, glbd, wait_until};
use crate::services::{Site, at, served};

/// Services of one pool, each with a name and what it says of where it listens.
fn write(site: &Site, server: &Server, services: &[(&str, &str)]) {
    let log = site.daemon.directory().join("log");
    let mut text = format!("[process]\nthreads = 2\nuser = \"root\"\nlog = \"{}\"\n", log.display());
    writeln!(text, "[pool.a]\ndestinations = [\"{server}\"]").expect("text");
    for (name, lines) in services {
        writeln!(text, "[service.{name}]\n{lines}").expect("text");
    }
    fs::write(&site.file, text).expect("a file");
}

/// A list of these ports of 127.0.0.1.
fn listen(ports: &[u16]) -> String {
    let addresses: Vec<String> = ports.iter().map(|port| format!("\"127.0.0.1:{port}\"")).collect();
    format!("listen = [{}]", addresses.join(", "))
}

/// A running daemon whose service `s` listens at these ports.
fn one(ports: &[u16]) -> (Site, Server) {
    let (site, server) = (Site::new(), Server::echo());
    write(&site, &server, &[("s", &listen(ports))]);
    site.start();
    (site, server)
}

fn reload(site: &Site) -> String {
    site.daemon.control("reload")
}

/// So many ports that follow each other.
fn free_range(count: u16) -> u16 {
    let mut first = free_port();
    let mut next = first + 1;
    while next < first + count {
        let port = free_port();
        if port != next {
            first = port;
        }
        next = port + 1;
    }
    first
}

#[test]
fn a_service_listens_at_all_of_its_addresses() {
    let (server, port, range) = (Server::echo(), free_port(), free_range(3));
    let ranged = format!("127.0.0.2:{range}-{}", range + 2);
    let glbd =
        Glbd::builder().listen_also_on(format!("[::1]:{port}")).listen_also_on(&ranged).destinations([&server]).start();
    let addresses: Vec<SocketAddr> = [glbd.address(), (Ipv6Addr::LOCALHOST, port).into()]
        .into_iter()
        .chain((range..range + 3).map(|port| (Ipv4Addr::new(127, 0, 0, 2), port).into()))
        .collect();
    let sessions: Vec<_> = addresses.iter().map(|address| connect_to(*address).expect("it listens")).collect();
    assert!(sessions.iter().all(echoes));
    glbd.wait_for_log(&format!("serving on {}, [::1]:{port}, {ranged}, 1 destination", glbd.address()));
    let info = glbd.info();
    assert_eq!((info.rows.len(), info.rows[0].conns), (1, 5), "one table for all of them");
    for address in addresses {
        let answer = glbd.control(&format!("{address}:1"));
        assert_eq!(answer, format!("Error: {address}: this daemon listens there itself\n"));
    }
}

#[test]
fn it_does_not_start_where_one_address_is_taken() {
    let (ports, other) = ([0; 2].map(|_| free_port()), Server::echo());
    let (site, server, taken) = (Site::new(), Server::echo(), other.address());
    write(&site, &server, &[("s", &listen(&[ports[0], taken.port(), ports[1]]))]);
    let stderr = format!("glbd: cannot listen on {taken}: Address already in use (os error 98)\n");
    assert_eq!(site.daemon.launch(&["--config", &site.file]), Launch { status: Some(1), stderr });
    assert!(ports.iter().all(|port| connect_to(at(*port)).is_err()));
}

#[test]
fn destinations_need_a_port_where_there_are_several() {
    let said = |arguments: &[&str]| {
        let output = glbd::run(arguments);
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let needs = "glbd: destination 'db1' lacks a port, and the service listens at several: write 'db1:PORT'\n";
    assert_eq!(said(&["--check", "3306,3307", "db1"]), (Some(2), needs.to_owned()));
    assert_eq!(said(&["--check", "10.0.0.1:3306,10.0.0.2:3306", "127.0.0.1"]).0, Some(0));
    let overlap = "glbd: invalid value '3306,10.0.0.1:3306' for '[LISTEN_ADDRESS]': 10.0.0.1:3306 and *:3306 overlap\n";
    assert_eq!(said(&["--check", "3306,10.0.0.1:3306", "127.0.0.1"]), (Some(2), overlap.to_owned()));
}

#[test]
fn a_reload_adds_and_removes_one_address_and_leaves_the_others_alone() {
    let ports = [0; 3].map(|_| free_port());
    let (site, server) = one(&[ports[0], ports[1]]);
    let sessions = [ports[0], ports[1]].map(served);
    let before = listening_sockets(site.daemon.pid(), ports[0]);
    assert_eq!(before.len(), 2, "one a worker");
    write(&site, &server, &[("s", &listen(&ports))]);
    assert_eq!(reload(&site), format!("service s: it listens on 127.0.0.1:{} as well\nOk\n", ports[2]));
    let session = served(ports[2]);
    write(&site, &server, &[("s", &listen(&[ports[0], ports[2]]))]);
    assert_eq!(reload(&site), format!("service s: it listens no longer on 127.0.0.1:{}\nOk\n", ports[1]));
    assert!(connect_to(at(ports[1])).is_err(), "what is answered is in force");
    drop((served(ports[0]), served(ports[2])));
    // In another order, as a range, or as a single value: it is the same.
    write(&site, &server, &[("s", &listen(&[ports[2], ports[0]]))]);
    assert_eq!(reload(&site), "Ok\n");
    assert_eq!(listening_sockets(site.daemon.pid(), ports[0]), before, "those sockets are still the same ones");
    assert!(sessions.iter().chain([&session]).all(echoes));
    write(&site, &server, &[("s", &listen(&[ports[1]]))]);
    let told = format!(
        "service s: it listens on 127.0.0.1:{}, no longer on 127.0.0.1:{}, 127.0.0.1:{}\nOk\n",
        ports[1], ports[2], ports[0]
    );
    assert_eq!(reload(&site), told);
    assert!(echoes(&served(ports[1])) && sessions.iter().chain([&session]).all(echoes));
}

#[test]
fn a_reload_with_one_address_that_is_taken_changes_nothing() {
    let ports = [0; 3].map(|_| free_port());
    let ((site, server), other) = (one(&[ports[0], ports[1]]), Server::echo());
    let (session, taken) = (served(ports[1]), other.address().port());
    write(&site, &server, &[("s", &listen(&[ports[0], ports[2], taken]))]);
    let told = format!("Error: cannot listen on 127.0.0.1:{taken}: Address already in use (os error 98)\n");
    assert_eq!(reload(&site), told);
    assert!(echoes(&session));
    drop((served(ports[0]), served(ports[1])));
    wait_until("what was opened is closed again", || connect_to(at(ports[2])).is_err());
}

#[test]
fn addresses_move_from_one_service_to_another() {
    let ports = [0; 3].map(|_| free_port());
    let (site, servers) = (Site::new(), [0; 2].map(|_| Server::echo()));
    let write = |of_s: &[u16], of_t: &[u16]| {
        let mut text =
            format!("[process]\nthreads = 2\nuser = \"root\"\nlog = \"{}/log\"\n", site.daemon.directory().display());
        for (name, server, ports) in [("s", &servers[0], of_s), ("t", &servers[1], of_t)] {
            writeln!(text, "[pool.{name}]\ndestinations = [\"{server}\"]").expect("text");
            writeln!(text, "[service.{name}]\npool = \"{name}\"\n{}", listen(ports)).expect("text");
        }
        fs::write(&site.file, text).expect("a file");
    };
    write(&[ports[0], ports[1]], &[ports[2]]);
    site.start();
    let session = served(ports[1]);
    let moved = listening_sockets(site.daemon.pid(), ports[1]);
    write(&[ports[0]], &[ports[1], ports[2]]);
    assert!(reload(&site).ends_with("Ok\n"));
    assert_eq!(listening_sockets(site.daemon.pid(), ports[1]), moved, "nobody who waits there is refused");
    ports.iter().for_each(|port| drop(served(*port)));
    assert_eq!(servers.each_ref().map(Server::accepted), [2, 2]);
    write(&[ports[2], ports[1]], &[ports[0]]);
    site.daemon.upgrade();
    ports.iter().for_each(|port| drop(served(*port)));
    assert_eq!(servers.each_ref().map(Server::accepted), [4, 3]);
    assert!(echoes(&session));
}

#[test]
fn an_upgrade_hands_over_every_address() {
    let ports = [0; 3].map(|_| free_port());
    let (site, server) = one(&[ports[0], ports[1]]);
    let sessions = [ports[0], ports[1]].map(served);
    let before: [BTreeSet<String>; 2] = [0, 1].map(|n| listening_sockets(site.daemon.pid(), ports[n]));
    site.daemon.upgrade();
    let after: [BTreeSet<String>; 2] = [0, 1].map(|n| listening_sockets(site.daemon.pid(), ports[n]));
    assert_eq!(after, before, "they are the same sockets");
    // One goes, and another comes, with the upgrade.
    write(&site, &server, &[("s", &listen(&[ports[0], ports[2]]))]);
    site.daemon.upgrade();
    assert_eq!(listening_sockets(site.daemon.pid(), ports[0]), before[0]);
    drop((served(ports[0]), served(ports[2])));
    wait_until("nobody is let in there any more", || connect_to(at(ports[1])).is_err());
    assert!(sessions.iter().all(echoes));
    // And a reload of the new process is the same as one of the old.
    write(&site, &server, &[("s", &listen(&[ports[2], ports[1]]))]);
    let told = format!("service s: it listens on 127.0.0.1:{}, no longer on 127.0.0.1:{}\nOk\n", ports[1], ports[0]);
    assert_eq!(reload(&site), told);
    drop((served(ports[1]), served(ports[2])));
}

/// Sockets of one name are one service's, whatever the file says of where it listens.
#[test]
fn sockets_of_a_service_manager_go_to_services_by_name() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 4].map(|_| free_port()));
    write(&site, &server, &[("s", &listen(&[ports[3]])), ("t", "listen = 1")]);
    let mut command = Command::new("systemd-socket-activate");
    command.args(ports[..3].iter().map(|port| format!("--listen=127.0.0.1:{port}")));
    let (fifo, pidfile) = (site.daemon.fifo(), site.daemon.pidfile());
    let mut activated = command
        .args(["--fdname=s:t:s", glbd::PROGRAM, "--control", &site.daemon.control_address().to_string()])
        .args(["--fifo".as_ref(), fifo.as_os_str(), "--pidfile".as_ref(), pidfile.as_os_str()])
        .args(["--config", &site.file])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-socket-activate, from Debian's package systemd");
    wait_until("the first client is served", || connect_to(at(ports[0])).is_ok_and(|client| echoes(&client)));
    let serves = |starts: usize| {
        ports[..3].iter().for_each(|port| drop(served(*port)));
        assert!(connect_to(at(ports[3])).is_err());
        let (s, t) = (format!("127.0.0.1:{}, 127.0.0.1:{}", ports[0], ports[2]), format!("127.0.0.1:{}", ports[1]));
        for (name, places) in [("s", s), ("t", t)] {
            let said = format!("serving {name} on {places}, ");
            wait_until("the log says so", || site.log().matches(&said).count() == starts);
        }
    };
    serves(1);
    site.daemon.upgrade();
    serves(2);
    // Another address in the file changes nothing about that.
    write(&site, &server, &[("s", "listen = 2"), ("t", "listen = 1")]);
    assert_eq!(reload(&site), "Ok\n");
    serves(2);
    // It cannot know who else may have them.
    let every = format!("0.0.0.0:{}", ports[0]);
    write(&site, &server, &[("s", "listen = 2"), ("t", "listen = 1"), ("u", &format!("listen = \"{every}\""))]);
    let told = format!(
        "Error: cannot listen on {every}: Address already in use (os error 98); \
         service s has the service manager's socket there, which takes a restart to change\n"
    );
    assert_eq!(reload(&site), told);
    kill_all_with(&site.daemon.directory().display().to_string());
    activated.wait().expect("a child of this process");
}
