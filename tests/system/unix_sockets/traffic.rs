//! What goes through to UNIX sockets, and how clients are spread over them.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::thread;

use super::{Listening, UnixServer, directory, unix};
use crate::harness::{Glbd, Payload, Server, echoes, names_of, read_line, wait_until};

/// More than all buffers on the way hold.
const BULK: usize = 40_000_000;

#[test]
fn every_byte_arrives_both_ways_copied_and_spliced_with_every_option_of_tcp_ignored() {
    for splice in ["never", "always", "auto"] {
        let directory = directory();
        let server = UnixServer::echo(directory.path().join("server"));
        let options =
            ["--keepalive", "--nodelay", "--tcp-user-timeout", "5", "--connect-from", "127.0.0.9", "--linger"];
        let glbd = Glbd::builder()
            .wrapped_by(["env", &format!("GLBD_SPLICE={splice}")])
            .args(options)
            .destinations([&server])
            .start();
        thread::scope(|scope| {
            for seed in 0..4 {
                let glbd = &glbd;
                scope.spawn(move || {
                    let (client, payload) = (glbd.connect(), Payload::new(seed, BULK / 4));
                    thread::scope(|scope| {
                        scope.spawn(|| {
                            payload.send(&client).expect("an open connection");
                        });
                        payload.receive(&client);
                    });
                    assert!(echoes(&client));
                });
            }
        });
        assert_eq!(server.accepted(), 4);
    }
}

#[test]
fn a_slow_reader_at_a_unix_socket_holds_its_sender_back_and_gets_every_byte() {
    let directory = directory();
    let path = directory.path().join("server");
    let listening = Listening::at(&path);
    let glbd = Glbd::start([unix(&path)]);
    let payload = Payload::new(7, BULK);
    let client = glbd.connect();
    let server = listening.accept();
    thread::scope(|scope| {
        let sending = scope.spawn(|| payload.send(&client));
        wait_until("the sender is held back", || glbd.stats().bytes_in == 0);
        assert!(!sending.is_finished());
        assert!(glbd.resident_bytes() < 50_000_000, "{}", glbd.resident_bytes());
        payload.receive(&server);
        sending.join().expect("a thread").expect("an open connection");
    });
    // And the other way.
    thread::scope(|scope| {
        let sending = scope.spawn(|| payload.send(&server));
        payload.receive(&client);
        sending.join().expect("a thread").expect("an open connection");
    });
}

#[test]
fn clients_are_spread_by_weight_over_unix_sockets_and_ports_and_getinfo_shows_both() {
    let directory = directory();
    let unix_server = UnixServer::named(directory.path().join("server"), "unix");
    let tcp_server = Server::named("tcp");
    let glbd = Glbd::start([format!("{unix_server}:2"), tcp_server.to_string()]);
    let clients: Vec<_> = (0..30).map(|_| glbd.connect()).collect();
    let names = names_of(&clients);
    assert_eq!(names.iter().filter(|name| *name == "unix").count(), 20);
    let info = glbd.info();
    assert_eq!((info.row(&unix_server).conns, info.row(&tcp_server).conns), (20, 10));
    assert_eq!(info.row(&unix_server).weight, 2.0);
}

#[test]
fn with_source_a_client_keeps_its_unix_socket_whatever_else_comes_and_goes() {
    let directory = directory();
    let servers = [0, 1, 2].map(|n| UnixServer::named(directory.path().join(format!("server{n}")), &n.to_string()));
    let glbd = Glbd::builder().arg("--source").destinations(&servers).start();
    let name = || read_line(&glbd.connect()).expect("a name");
    let first = name();
    assert!((0..10).all(|_| name() == first));
    let other = servers.iter().position(|it| !it.to_string().ends_with(&first)).expect("there are three");
    glbd.change(format!("{}:-1", servers[other]));
    assert!((0..10).all(|_| name() == first));
    glbd.change(format!("{}:1", servers[other]));
    assert!((0..10).all(|_| name() == first));
}

#[test]
fn an_abstract_name_is_a_destination_as_well() {
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};
    let name = format!("glbd-test-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a short name");
    let listener = UnixListener::bind_addr(&address).expect("a name of its own");
    let glbd = Glbd::start([format!("unix:@{name}")]);
    let mut client = glbd.connect();
    let (stream, _) = listener.accept().expect("a connection");
    let mut server = super::as_stream(stream);
    server.write_all(b"hello\n").expect("an open connection");
    assert_eq!(read_line(&client).expect("a line"), "hello");
    client.write_all(b"bye").expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    let mut said = String::new();
    server.read_to_string(&mut said).expect("text");
    assert_eq!(said, "bye");
    assert_eq!(glbd.info().row(format!("unix:@{name}")).conns, 1);
}

/// With a greeting to wait for, nothing of the client goes to a server that has said nothing.
#[test]
fn where_a_greeting_is_awaited_a_unix_socket_that_says_nothing_is_passed_over() {
    let directory = directory();
    let silent = directory.path().join("silent");
    let listening = Listening::at(&silent);
    let glbd = Glbd::builder()
        .args(["--greeting", "mysql", "--connect-timeout", "0.3", "--round"])
        .destinations([unix(&silent)])
        .start();
    let client = glbd.connect();
    let server = listening.accept();
    drop(server);
    assert!(read_line(&client).is_ok_and(|line| line.is_empty()), "nothing serves it");
    glbd.wait_for_log("connection ended before a greeting");
}
