//! Headers that destinations are sent, read by a destination in the test's hands.

use std::io::{Read, Write};
use std::net::{Ipv6Addr, Shutdown, SocketAddr, TcpStream};

use nix::sys::signal::Signal;

use super::{read_exactly, version_1, version_2};
use crate::harness::{Glbd, Server, Stage, connect_to, read_line, said_goodbye, wait_until};

const VERSIONS: [&str; 2] = ["1", "2"];

/// The header that a destination is to be sent of this client.
fn header(version: &str, client: &TcpStream) -> Vec<u8> {
    let (source, destination) = (client.local_addr().expect("an address"), client.peer_addr().expect("an address"));
    match version {
        "1" => version_1(source, destination),
        _ => version_2(source, destination, &[]),
    }
}

#[test]
fn a_destination_is_told_the_client_and_the_address_that_it_connected_to() {
    for version in VERSIONS {
        let stage = Stage::start_with(Glbd::builder().args(["--send-proxy", version]));
        let (mut client, mut server) = stage.pair();
        // Before the client says anything.
        read_exactly(&server, &header(version, &client));
        client.write_all(b"hello\n").expect("an open connection");
        assert_eq!(read_line(&server).expect("a line"), "hello");
        server.write_all(b"good morning\n").expect("an open connection");
        assert_eq!(read_line(&client).expect("a line"), "good morning");
    }
}

#[test]
fn the_header_and_what_the_client_has_said_come_in_one_segment() {
    for version in VERSIONS {
        let stage = Stage::start_with(Glbd::builder().args(["--send-proxy", version]));
        stage.glbd.signal(Signal::SIGSTOP);
        let mut client = stage.glbd.connect();
        client.write_all(b"hello\n").expect("an open connection");
        stage.glbd.signal(Signal::SIGCONT);
        let mut bytes = [0; 200];
        let count = stage.accept().read(&mut bytes).expect("an open connection");
        let expected = [header(version, &client), b"hello\n".to_vec()].concat();
        assert_eq!(bytes[..count].escape_ascii().to_string(), expected.escape_ascii().to_string());
    }
}

#[test]
fn the_end_of_a_client_follows_the_header_and_what_it_has_said() {
    for version in VERSIONS {
        let stage = Stage::start_with(Glbd::builder().args(["--send-proxy", version]));
        let mut client = stage.glbd.connect();
        client.write_all(b"hello\n").expect("an open connection");
        client.shutdown(Shutdown::Write).expect("an open connection");
        let mut server = stage.accept();
        let mut bytes = Vec::new();
        server.read_to_end(&mut bytes).expect("an end");
        assert_eq!(bytes, [header(version, &client), b"hello\n".to_vec()].concat());
        server.write_all(b"goodbye\n").expect("a connection that is open in this direction");
        assert_eq!(read_line(&client).expect("a line"), "goodbye");
        drop(server);
        assert!(said_goodbye(&client));
    }
}

#[test]
fn an_ipv4_client_of_a_listener_for_both_families_is_an_ipv4_client() {
    for version in VERSIONS {
        let stage = Stage::start_with(Glbd::builder().listen_everywhere().args(["--send-proxy", version]));
        for ip in ["127.0.0.1".parse().expect("an address"), Ipv6Addr::LOCALHOST.into()] {
            let client = connect_to(SocketAddr::new(ip, stage.glbd.address().port())).expect("glbd accepts");
            read_exactly(&stage.accept(), &header(version, &client));
        }
    }
}

#[test]
fn the_header_is_counted_as_sent_and_not_as_the_clients() {
    let stage = Stage::start_with(Glbd::builder().args(["--send-proxy", "1"]));
    let (mut client, server) = stage.pair();
    let header = header("1", &client);
    client.write_all(b"hello\n").expect("an open connection");
    read_exactly(&server, &[&header[..], b"hello\n"].concat());
    let (mut received, mut returned, mut sent) = (0, 0, 0);
    wait_until("all is counted", || {
        let stats = stage.glbd.stats();
        received += stats.bytes_in;
        returned += stats.bytes_out;
        sent += stats.sent;
        sent as usize == header.len() + 6
    });
    assert_eq!((received, returned), (6, 0));
}

/// A handshake that is long enough to be one.
fn handshake() -> Vec<u8> {
    let body = [&b"\x0a10.11.0-MariaDB\0"[..], &[7; 60]].concat();
    [&[body.len() as u8, 0, 0, 0][..], &body].concat()
}

/// A server that sends nothing before it has read a header of version 1, and then answers this and what the header was.
fn waiting_server(answer: Vec<u8>) -> Server {
    Server::serving(move |mut stream| {
        let line = read_line(stream).unwrap_or_default();
        // Whoever is gone does not read it.
        stream.write_all(&[&answer[..], line.as_bytes(), b"\n"].concat()).ok();
        said_goodbye(stream);
    })
}

#[test]
fn a_server_that_waits_for_the_header_before_it_greets_is_sent_it_and_so_is_the_next_one() {
    let error = b"\x17\0\0\0\xff\x10\x04Too many connections".to_vec();
    let (full, free) = (waiting_server(error), waiting_server(handshake()));
    let glbd = Glbd::builder()
        .args(["--send-proxy", "1", "--greeting", "mysql", "--top"])
        .destinations([full.weighted(1.0), free.weighted(1.0)])
        .start();
    let clients: Vec<TcpStream> = (0..4).map(|_| glbd.connect()).collect();
    for client in &clients {
        read_exactly(client, &handshake());
        let header = String::from_utf8(header("1", client)).expect("text");
        assert_eq!(read_line(client).expect("a line"), header.trim_end_matches('\n'));
    }
    assert!(full.accepted() > 0, "the other one was not tried first");
    glbd.wait_for_log("refuses clients: error 1040: Too many connections");
}

#[test]
fn after_the_greeting_comes_no_second_header() {
    let stage = Stage::start_with(Glbd::builder().args(["--send-proxy", "2", "--greeting", "mysql"]));
    stage.glbd.signal(Signal::SIGSTOP);
    let mut client = stage.glbd.connect();
    client.write_all(b"early\n").expect("an open connection");
    stage.glbd.signal(Signal::SIGCONT);
    let mut server = stage.accept();
    read_exactly(&server, &header("2", &client));
    server.write_all(&handshake()).expect("an open connection");
    assert_eq!(read_line(&server).expect("a line"), "early");
    client.write_all(b"late\n").expect("an open connection");
    assert_eq!(read_line(&server).expect("a line"), "late");
    read_exactly(&client, &handshake());
}

#[test]
fn versions_that_there_are_not_are_refused() {
    for version in ["0", "3", "v2", ""] {
        let outcome = crate::harness::glbd::run(&["--send-proxy", version, "1"]);
        assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
        assert!(String::from_utf8_lossy(&outcome.stderr).contains("neither 1 nor 2"), "{outcome:?}");
    }
}
