//! What a service asks of its listening sockets: an interface, a backlog, to defer accepting.

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::{listen, reload, write};
use crate::harness::neighbour::Neighbour;
use crate::harness::net::alone_in_a_network;
use crate::harness::{Glbd, Server, connect_to, echoes, free_port, glbd, wait_until};
use crate::services::{Site, at, served};

/// A site in a network of its own, where a neighbour has a cable `one` to 10.9.1.1 and a cable `two` to 10.9.2.1.
fn with_two_cables(test: impl FnOnce(&Site, &Neighbour) + Send + 'static) {
    alone_in_a_network(|| {
        let neighbour = Neighbour::new();
        neighbour.plug("one", "10.9.1.1/24", "10.9.1.2/24");
        neighbour.plug("two", "10.9.2.1/24", "10.9.2.2/24");
        test(&Site::new(), &neighbour);
    });
}

/// Whether the neighbour is served at the addresses of this machine at the ends of both cables.
fn reaches(neighbour: &Neighbour, port: u16) -> [bool; 2] {
    [1, 2].map(|cable| {
        let address = SocketAddr::from(([10, 9, cable, 1], port));
        let is_served = move || connect_to(address).is_ok_and(|client: TcpStream| echoes(&client));
        neighbour.inside(is_served)
    })
}

fn on(port: u16, interface: &str) -> String {
    format!("listen = {port}\ninterface = \"{interface}\"")
}

#[test]
fn clients_come_in_through_the_interface_of_their_service_only() {
    with_two_cables(|site, neighbour| {
        let (server, port) = (Server::echo(), free_port());
        write(site, &server, &[("s", &on(port, "one"))]);
        site.start();
        assert_eq!(reaches(neighbour, port), [true, false]);
        assert!(connect_to(at(port)).is_err(), "nor through the loopback interface");
        let session =
            neighbour.inside(move || connect_to(SocketAddr::from(([10, 9, 1, 1], port)))).expect("it listens");
        assert!(echoes(&session));
        site.daemon.upgrade();
        assert_eq!(reaches(neighbour, port), [true, false]);
        let says = "service s: connections have other options\nOk\n";
        write(site, &server, &[("s", &on(port, "two"))]);
        assert_eq!(reload(site), says);
        assert_eq!(reaches(neighbour, port), [false, true]);
        write(site, &server, &[("s", &format!("listen = {port}"))]);
        assert_eq!(reload(site), says);
        assert_eq!(reaches(neighbour, port), [true, true]);
        drop(served(port));
        // An upgrade follows the file as well.
        write(site, &server, &[("s", &on(port, "one"))]);
        site.daemon.upgrade();
        assert_eq!(reaches(neighbour, port), [true, false]);
        assert!(echoes(&session));
    });
}

#[test]
fn services_share_a_port_if_each_has_an_interface_of_its_own() {
    with_two_cables(|site, neighbour| {
        let (servers, port) = ([0; 2].map(|_| Server::echo()), free_port());
        let write = |interfaces: [&str; 2]| {
            let directory = site.daemon.directory().display().to_string();
            let mut text = format!("[process]\nthreads = 2\nuser = \"root\"\nlog = \"{directory}/log\"\n");
            for ((name, server), interface) in ["s", "t"].iter().zip(&servers).zip(interfaces) {
                writeln!(text, "[pool.{name}]\ndestinations = [\"{server}\"]").expect("text");
                writeln!(text, "[service.{name}]\npool = \"{name}\"\n{}", on(port, interface)).expect("text");
            }
            fs::write(&site.file, text).expect("a file");
        };
        let accepted = || servers.each_ref().map(Server::accepted);
        write(["one", "two"]);
        site.start();
        let mut expected = [0, 0];
        let mut each_is_served = |cables: [usize; 2]| {
            for (service, cable) in cables.into_iter().enumerate() {
                let address = SocketAddr::from(([10, 9, cable as u8, 1], port));
                assert!(neighbour.inside(move || connect_to(address).is_ok_and(|client| echoes(&client))));
                expected[service] += 1;
                assert_eq!(accepted(), expected);
            }
        };
        each_is_served([1, 2]);
        write(["two", "one"]);
        assert!(reload(site).ends_with("Ok\n"));
        each_is_served([2, 1]);
        write(["one", "two"]);
        site.daemon.upgrade();
        each_is_served([1, 2]);
    });
}

#[test]
fn an_interface_that_there_is_not_is_an_error() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let told = format!("cannot listen on 127.0.0.1:{port}: interface nosuch: No such device (os error 19)\n");
    let arguments = ["--interface", "nosuch", &format!("127.0.0.1:{port}"), &server.to_string()];
    for arguments in [&arguments[..], &[&["--check"], &arguments[..]].concat()] {
        let output = glbd::run(arguments);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), said), (Some(1), format!("glbd: {told}")), "{arguments:?}");
    }
    write(&site, &server, &[("s", &listen(&[port]))]);
    site.start();
    write(&site, &server, &[("s", &format!("{}\ninterface = \"nosuch\"", listen(&[port])))]);
    assert_eq!(reload(&site), format!("Error: {told}"));
    drop(served(port));
}

/// The kernel lets anybody bind a socket to an interface, and only root have it leave that.
#[test]
fn without_the_right_to_it_an_interface_is_not_changed() {
    with_two_cables(|site, neighbour| {
        let (server, port) = (Server::echo(), free_port());
        let write = |lines: &str| {
            write(site, &server, &[("s", lines)]);
            let text = fs::read_to_string(&site.file).expect("the file").replace("\"root\"", "\"nobody\"");
            fs::write(&site.file, text.replace("log = ", "#log = ")).expect("a file");
        };
        write(&format!("listen = {port}"));
        for path in [site.daemon.directory(), Path::new(&site.file)] {
            chown(path, Some(65_534), None).expect("root runs this");
        }
        site.start();
        write(&on(port, "one"));
        assert!(reload(site).ends_with("Ok\n"));
        assert_eq!(reaches(neighbour, port), [true, false]);
        let told =
            |which: &str| format!("Error: cannot listen on *:{port}: {which}: Operation not permitted (os error 1)\n");
        write(&on(port, "two"));
        assert_eq!(reload(site), told("interface two"));
        write(&format!("listen = {port}"));
        assert_eq!(reload(site), told("all interfaces"));
        assert_eq!(reaches(neighbour, port), [true, false]);
        // What has not changed needs no right.
        write(&format!("{}\nretries = 7", on(port, "one")));
        assert_eq!(reload(site), "service s: connections have other options\nOk\n");
        site.daemon.upgrade();
        assert_eq!(reaches(neighbour, port), [true, false]);
    });
}

/// How many connections may wait at a port, of each socket, as ss(8) shows it.
fn backlogs(port: u16) -> Vec<String> {
    let output = Command::new("ss").args(["-Hltn", &format!("sport = :{port}")]).output();
    let output = output.expect("ss, from Debian's package iproute2");
    let lines = String::from_utf8(output.stdout).expect("text");
    lines.lines().filter_map(|line| Some(line.split_whitespace().nth(2)?.to_owned())).collect()
}

#[test]
fn as_many_clients_may_wait_as_the_service_says() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let glbd = Glbd::builder().args(["--backlog", "7", "--threads", "2"]).destinations([&server]).start();
    assert_eq!(backlogs(glbd.address().port()), ["7", "7"]);
    let with = |more: &str| write(&site, &server, &[("s", &format!("{}\n{more}", listen(&[port])))]);
    with("");
    site.start();
    let usual = backlogs(port);
    let limit = fs::read_to_string("/proc/sys/net/core/somaxconn").expect("/proc");
    let limit: usize = limit.trim().parse().expect("a number");
    assert_eq!(usual, [limit.min(4096).to_string(), limit.min(4096).to_string()]);
    with("backlog = 9");
    assert_eq!(reload(&site), "service s: connections have other options\nOk\n");
    assert_eq!(backlogs(port), ["9", "9"]);
    with("backlog = 11");
    site.daemon.upgrade();
    wait_until("the old process has closed its sockets", || backlogs(port) == ["11", "11"]);
    with("");
    assert!(reload(&site).ends_with("Ok\n"));
    assert_eq!(backlogs(port), usual);
}

/// One who says nothing is not accepted then, for a minute.
#[test]
fn a_reload_and_an_upgrade_begin_and_end_to_defer_accepting() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let with = |more: &str| write(&site, &server, &[("s", &format!("{}\n{more}", listen(&[port])))]);
    with("");
    site.start();
    let mut silent: Vec<TcpStream> = Vec::new();
    let mut silent_is_served = |expected: bool| {
        let before = server.accepted();
        silent.push(connect_to(at(port)).expect("the kernel accepts"));
        match expected {
            true => wait_until("it is passed on", || server.accepted() == before + 1),
            false => {
                // Others who come later are, and it is not.
                drop(served(port));
                thread::sleep(Duration::from_millis(100));
                assert_eq!(server.accepted(), before + 1);
            }
        }
    };
    silent_is_served(true);
    with("defer-accept = true");
    assert!(reload(&site).ends_with("Ok\n"));
    silent_is_served(false);
    with("");
    assert!(reload(&site).ends_with("Ok\n"));
    silent_is_served(true);
    with("defer-accept = true");
    site.daemon.upgrade();
    silent_is_served(false);
    with("");
    site.daemon.upgrade();
    silent_is_served(true);
}
