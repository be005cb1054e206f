//! Addresses that overlap those that a daemon has already, and clients that wait where it is about to leave.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{listen, reload, write};
use crate::harness::{Fault, Glbd, Server, connect_to, echoes, free_port, wait_until};
use crate::services::{Site, at, served};

/// What the file says of where a service listens.
fn at_host(host: &str, port: u16) -> String {
    format!("listen = \"{host}:{port}\"")
}

/// Has clients connect again and again while something is done. Each has to be served.
fn while_clients_come(addresses: &[SocketAddr], done: impl FnOnce()) {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for address in addresses {
            let over = &over;
            scope.spawn(move || {
                let mut served = 0;
                while !over.load(Ordering::Relaxed) || served == 0 {
                    let client = connect_to(*address).expect("it listens all the time");
                    assert!(echoes(&client), "client {served} of {address} is served");
                    served += 1;
                }
            });
        }
        done();
        over.store(true, Ordering::Relaxed);
    });
}

/// A service at 127.0.0.1 and this port, with a client; and another address of this machine with the same port.
fn at_one_address() -> (Site, Server, u16, SocketAddr, TcpStream) {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    write(&site, &server, &[("s", &at_host("127.0.0.1", port))]);
    site.start();
    let session = served(port);
    (site, server, port, SocketAddr::from(([127, 0, 0, 2], port)), session)
}

/// The daemon's own sockets are at the port already, and may have clients waiting.
#[test]
fn a_reload_moves_a_service_to_the_same_port_of_all_addresses_and_loses_nobody() {
    let (site, server, port, other, session) = at_one_address();
    while_clients_come(&[at(port)], || {
        for every in ["0.0.0.0", "[::]"] {
            assert!(connect_to(other).is_err());
            write(&site, &server, &[("s", &at_host(every, port))]);
            let told = format!("service s: it listens on {every}:{port}, no longer on 127.0.0.1:{port}\nOk\n");
            assert_eq!(reload(&site), told);
            assert!(echoes(&connect_to(other).expect("all addresses")));
            let answer = site.daemon.control(&format!("{other}:1"));
            assert_eq!(answer, format!("Error: {other}: this daemon listens there itself\n"));
            write(&site, &server, &[("s", &at_host("127.0.0.1", port))]);
            assert!(reload(&site).ends_with("Ok\n"));
        }
    });
    assert!(connect_to(other).is_err() && echoes(&session));
}

#[test]
fn an_upgrade_moves_a_service_to_the_same_port_of_all_addresses_and_loses_nobody() {
    let (site, server, port, other, session) = at_one_address();
    while_clients_come(&[at(port)], || {
        write(&site, &server, &[("s", &at_host("0.0.0.0", port))]);
        site.daemon.upgrade();
        assert!(echoes(&connect_to(other).expect("all addresses")));
        // The sockets of both kinds are handed over.
        site.daemon.upgrade();
        assert!(echoes(&connect_to(other).expect("all addresses")));
        write(&site, &server, &[("s", &at_host("127.0.0.1", port))]);
        site.daemon.upgrade();
        wait_until("the other address is left", || connect_to(other).is_err());
    });
    assert!(echoes(&session));
}

/// Sockets that were opened by root are shared with those that another user opens later.
#[test]
fn a_daemon_that_gave_up_roots_rights_moves_to_all_addresses_as_well() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let write = |host: &str| {
        write(&site, &server, &[("s", &at_host(host, port))]);
        let text = fs::read_to_string(&site.file).expect("the file").replace("\"root\"", "\"nobody\"");
        fs::write(&site.file, text.replace("log = ", "#log = ")).expect("a file");
    };
    write("127.0.0.1");
    for path in [site.daemon.directory(), Path::new(&site.file)] {
        chown(path, Some(65_534), None).expect("root runs this");
    }
    site.start();
    drop(served(port));
    write("0.0.0.0");
    assert!(reload(&site).ends_with("Ok\n"));
    drop(served(port));
    assert!(echoes(&connect_to(SocketAddr::from(([127, 0, 0, 2], port))).expect("all addresses")));
}

/// As it would at a start, though the kernel lets programs of one user share a port that ask for it.
#[test]
fn a_port_of_which_another_daemon_has_an_address_is_taken() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    write(&site, &server, &[("s", &at_host("127.0.0.1", port))]);
    site.start();
    let other = Glbd::builder().listen_on([127, 0, 0, 2]).listen_on_port(port).destinations([&server]).start();
    for every in ["0.0.0.0", "[::]"] {
        write(&site, &server, &[("s", &at_host(every, port))]);
        let answer = reload(&site);
        assert_eq!(answer, format!("Error: cannot listen on {every}:{port}: Address already in use (os error 98)\n"));
        assert!(echoes(&connect_to(other.address()).expect("it listens")));
        drop(served(port));
    }
}

/// Addresses that overlap go from one service to another, in both directions at once.
#[test]
fn services_swap_ports_and_overlapping_addresses() {
    let (site, servers, ports) = (Site::new(), [0; 2].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
    let write = |of_s: (&str, u16), of_t: (&str, u16)| {
        let directory = site.daemon.directory().display().to_string();
        let mut text = format!("[process]\nthreads = 2\nuser = \"root\"\nlog = \"{directory}/log\"\n");
        for (name, server, (host, port)) in [("s", &servers[0], of_s), ("t", &servers[1], of_t)] {
            writeln!(text, "[pool.{name}]\ndestinations = [\"{server}\"]").expect("text");
            writeln!(text, "[service.{name}]\npool = \"{name}\"\n{}", at_host(host, port)).expect("text");
        }
        fs::write(&site.file, text).expect("a file");
    };
    write(("127.0.0.1", ports[0]), ("0.0.0.0", ports[1]));
    site.start();
    let mut expected = [0, 0];
    let mut serve = |of_s: u16, of_t: u16| {
        drop((served(of_s), served(of_t)));
        expected = expected.map(|count| count + 1);
        assert_eq!(servers.each_ref().map(Server::accepted), expected, "each goes where the file says");
    };
    serve(ports[0], ports[1]);
    write(("127.0.0.1", ports[1]), ("0.0.0.0", ports[0]));
    assert!(reload(&site).ends_with("Ok\n"));
    serve(ports[1], ports[0]);
    write(("0.0.0.0", ports[0]), ("127.0.0.1", ports[1]));
    site.daemon.upgrade();
    serve(ports[0], ports[1]);
}

/// Those who come in the moment in which the workers hear that another process has taken over, and have not been accepted:
/// the workers are slow here to look for either.
#[test]
fn an_upgrade_serves_the_clients_that_wait_at_an_address_which_is_left() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 3].map(|_| free_port()));
    write(&site, &server, &[("s", &listen(&ports[..1])), ("t", &listen(&ports[1..2]))]);
    site.start();
    let old = site.daemon.pid();
    let slow = Fault::inject(old, "epoll_wait:delay_enter=200000");
    // One service moves, and the other one is dropped.
    write(&site, &server, &[("s", &listen(&ports[2..]))]);
    let lost = thread::scope(|scope| {
        let clients = [ports[0], ports[1]].map(|port| scope.spawn(move || lost_until_refused(port)));
        site.daemon.signal(Signal::SIGUSR2);
        clients.map(|it| it.join().expect("a thread"))
    });
    slow.lift();
    // The kernel resets one that comes between the last look for clients and the end of a socket, of which each of the two
    // workers has one.
    assert!(lost.iter().all(|lost| *lost <= 2), "{lost:?}");
    drop(served(ports[2]));
}

/// Connects again and again until nobody listens any more. Returns how many of them were not served.
fn lost_until_refused(port: u16) -> usize {
    let mut clients: Vec<TcpStream> = Vec::new();
    while let Ok(mut client) = TcpStream::connect(at(port)) {
        // It may have been reset already, which the answer will tell.
        client.write_all(b"?").ok();
        clients.push(client);
        thread::sleep(Duration::from_millis(5));
    }
    assert!(clients.len() > 10, "it takes its time: {}", clients.len());
    let is_served = |mut client: TcpStream| client.read_exact(&mut [0]).is_ok();
    clients.into_iter().filter(|client| !is_served(client.try_clone().expect("a descriptor"))).count()
}
