//! Options that change how sockets are made, and the kinds of addresses.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::harness::net::alone_in_a_network;
use crate::harness::{
    Glbd, KernelsEnd, PATIENCE, Payload, Server, Stage, connect_to, patient, read_line, servers, wait_until,
};
use crate::high_availability::network::Network;
use crate::init_scripts::machine::Machine;

#[test]
fn ipv6_listens_and_is_a_destination() {
    let server = Server::serving_at(Ipv6Addr::LOCALHOST, servers::echo);
    let glbd = Glbd::builder().listen_on(Ipv6Addr::LOCALHOST).destinations([server.weighted(2.0)]).start();
    let client = glbd.connect();
    Payload::new(1, 100_000).send(&client).expect("an open connection");
    Payload::new(1, 100_000).receive(&client);
    let row = glbd.info().row(format!("[::1]:{}", server.address().port())).clone();
    assert_eq!((row.weight, row.conns), (2.0, 1));
}

#[test]
fn a_listening_address_without_an_ip_serves_ipv4_and_ipv6() {
    let server = Server::named("a");
    let glbd = Glbd::builder().listen_everywhere().destinations([&server]).start();
    let port = glbd.address().port();
    for ip in [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()] {
        let client = connect_to(SocketAddr::new(ip, port)).expect("glbd accepts");
        assert_eq!(read_line(&client).expect("a name"), "a");
    }
}

#[test]
fn a_host_name_is_a_destination() {
    let server = Server::named("a");
    let glbd = Glbd::start([format!("localhost:{}", server.address().port())]);
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");
}

#[test]
fn a_connection_passes_with_every_socket_option() {
    let server = Server::echo();
    for option in
        ["-l", "-n", "-K", "-a", "-Y", "--linger", "--nodelay", "--keepalive", "--defer-accept", "--synchronous"]
    {
        let glbd = Glbd::builder().arg(option).destinations([&server]).start();
        let client = glbd.connect();
        let payload = Payload::new(1, 1_000_000);
        thread::scope(|scope| {
            scope.spawn(|| payload.send(&client).expect("the server reads"));
            payload.receive(&client);
        });
    }
}

#[test]
fn connecting_one_at_a_time_serves_everybody() {
    let server = Server::named("a");
    let glbd = Glbd::builder().arg("-Y").destinations([&server]).start();
    let clients: Vec<_> = (0..50).map(|_| glbd.connect()).collect();
    assert!(clients.iter().all(|client| read_line(client).expect("a name") == "a"));
}

#[test]
fn no_linger_leaves_no_time_wait_towards_destinations_when_clients_close() {
    // Elsewhere, others may have left as many as the kernel keeps.
    alone_in_a_network(|| {
        for (options, expected) in [(&[][..], 10), (&["-l"], 0)] {
            let server = Server::named("a");
            let glbd = Glbd::builder().args(options).destinations([&server]).start();
            for _ in 0..10 {
                assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");
            }
            wait_until("all have left", || glbd.info().total == 0 && server.open() == 0);
            // A table that changes while it is read may come out short, hence more than one look.
            wait_until("the right number lingers", || KernelsEnd::in_time_wait_towards(server.address()) == expected);
        }
    });
}

/// A reset takes what is still on its way, and what would be sent again.
#[test]
fn no_linger_loses_nothing_when_packets_are_lost() {
    let network = Network::new(&["10.0.0.1/24", "10.0.1.1/24"].map(str::to_owned));
    let machine = Machine::boot(&[]);
    network.plug("servers", &machine, "eth0", "10.0.0.10/24");
    network.plug("clients", &machine, "eth1", "10.0.1.10/24");
    let listening = SocketAddr::from(([10, 0, 1, 10], 8010));
    let listener = network.inside(|| TcpListener::bind("10.0.0.1:9000")).expect("an address of the network");
    SockRef::from(&listener).set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    machine.expect(&["/usr/sbin/glbd", "--daemon", "-l", &listening.to_string(), "10.0.0.1:9000"]);
    let mut client = network.inside(|| connect_to(listening)).expect("glbd");
    let mut server = patient(listener.accept().expect("a connection from glbd").0).expect("timeouts");
    client.write_all(b"first words").expect("room");
    server.read_exact(&mut [0; 11]).expect("the first words");

    network.isolate("servers");
    client.write_all(b"last words").expect("room");
    drop(client);
    wait_until("glbd has read all up to the client's end", || {
        KernelsEnd::at(listening, &machine.expect(&["cat", "/proc/net/tcp"])).iter().all(KernelsEnd::has_read_all)
    });
    network.join("servers");
    let mut last = [0; 10];
    server.read_exact(&mut last).expect("what was sent again");
    assert_eq!(&last, b"last words");
}

#[test]
fn no_linger_loses_no_data() {
    let stage = Stage::start_with(Glbd::builder().arg("-l"));
    let payload = &Payload::new(1, 3_000_000);
    for round in 0..20 {
        let (client, server) = stage.pair();
        let (from, to) = if round % 2 == 0 { (client, server) } else { (server, client) };
        thread::scope(|scope| {
            // Closed at once, while much of it is still on the way.
            scope.spawn(move || payload.send(&from).expect("the other end reads"));
            payload.receive(&to);
        });
    }
}

#[test]
fn keepalive_is_on_towards_servers_unless_disabled() {
    let stage = Stage::start();
    let (_client, server) = stage.pair();
    wait_until("a keepalive timer runs", || timer(&server) == Some(KernelsEnd::KEEPALIVE_TIMER));

    let stage = Stage::start_with(Glbd::builder().arg("-K"));
    let (_client, server) = stage.pair();
    wait_until("no timer runs", || timer(&server) == Some(KernelsEnd::NO_TIMER));
}

#[test]
fn a_deferred_client_reaches_the_server_only_when_it_speaks() {
    let server = Server::named("a");
    let prompt = Glbd::start([&server]);
    let _silent_client = prompt.connect();
    wait_until("a silent client is served", || server.accepted() == 1);

    let deferring = Glbd::builder().arg("-a").destinations([&server]).start();
    let mut client = deferring.connect();
    // Long enough for a client that was not deferred to have been served.
    thread::sleep(Duration::from_millis(300));
    assert_eq!(server.accepted(), 1, "a silent client was not deferred");
    client.write_all(b"hello\n").expect("an open connection");
    assert_eq!(read_line(&client).expect("a name"), "a");
    assert_eq!(read_line(&client).expect("an echo"), "hello");
}

/// The timer that runs on the daemon's end of the connection to `server`.
fn timer(server: &TcpStream) -> Option<u8> {
    KernelsEnd::opposite(server).map(|end| end.timer)
}
