//! How connections to UNIX sockets end. They know no reset: what is broken ends there as if it had been closed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};

use super::{Listening, directory, unix};
use crate::harness::{Builder, Glbd, read_line, reset, said_goodbye, wait_until};

struct UnixStage {
    glbd: Glbd,
    listening: Listening,
    _directory: tempfile::TempDir,
}

impl UnixStage {
    fn start(builder: Builder) -> Self {
        let directory = directory();
        let path = directory.path().join("server");
        let listening = Listening::at(&path);
        Self { glbd: builder.destinations([unix(&path)]).start(), listening, _directory: directory }
    }

    fn pair(&self) -> (TcpStream, TcpStream) {
        let client = self.glbd.connect();
        (client, self.listening.accept())
    }

    fn is_empty_soon(&self) {
        wait_until("no connection is left", || self.glbd.info().total == 0);
    }
}

#[test]
fn a_half_closed_connection_goes_on_one_way_for_as_long_as_both_want() {
    for linger in [false, true] {
        let mut builder = Glbd::builder();
        if linger {
            builder = builder.arg("--linger");
        }
        let stage = UnixStage::start(builder);
        let (mut client, mut server) = stage.pair();
        client.write_all(b"request").expect("an open connection");
        client.shutdown(Shutdown::Write).expect("an open connection");
        let mut request = String::new();
        server.read_to_string(&mut request).expect("the request and its end");
        assert_eq!(request, "request");
        for _ in 0..3 {
            server.write_all(b"answer\n").expect("an open connection");
            assert_eq!(read_line(&client).expect("a line"), "answer");
        }
        drop(server);
        assert!(said_goodbye(&client));
        stage.is_empty_soon();

        let (mut client, mut server) = stage.pair();
        server.write_all(b"greeting\n").expect("an open connection");
        server.shutdown(Shutdown::Write).expect("an open connection");
        assert_eq!(read_line(&client).expect("a line"), "greeting");
        assert_eq!(client.read(&mut [0]).expect("an end"), 0);
        client.write_all(b"still here\n").expect("an open connection");
        assert_eq!(read_line(&server).expect("a line"), "still here");
        drop(client);
        assert!(said_goodbye(&server));
        stage.is_empty_soon();
    }
}

#[test]
fn a_client_that_is_reset_is_an_end_to_the_server_and_leaves_nothing_behind() {
    let stage = UnixStage::start(Glbd::builder());
    let (client, server) = stage.pair();
    reset(client);
    assert!(said_goodbye(&server), "a UNIX socket knows no reset");
    drop(server);
    stage.is_empty_soon();
}

/// The kernel reports that a UNIX socket was closed before all was read, as it does with TCP.
#[test]
fn a_server_that_leaves_something_unread_resets_its_client() {
    let stage = UnixStage::start(Glbd::builder());
    let (mut client, server) = stage.pair();
    client.write_all(b"unread").expect("an open connection");
    wait_until("it has arrived", || server.peek(&mut [0; 6]).is_ok_and(|count| count == 6));
    drop(server);
    let error = client.read(&mut [0]).expect_err("a reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    stage.is_empty_soon();
}

#[test]
fn what_a_server_says_before_it_closes_arrives_though_the_client_has_more_to_say() {
    let stage = UnixStage::start(Glbd::builder());
    let (mut client, mut server) = stage.pair();
    client.write_all(b"x").expect("an open connection");
    server.read_exact(&mut [0]).expect("a byte");
    server.write_all(b"enough\n").expect("an open connection");
    drop(server);
    assert_eq!(read_line(&client).expect("a line"), "enough");
    // Whether it ends or is reset depends on whether more was under way.
    client.write_all(b"more").ok();
    said_goodbye(&client);
    stage.is_empty_soon();
}

#[test]
fn an_idle_server_behind_a_unix_socket_is_cut_off() {
    let stage = UnixStage::start(Glbd::builder().args(["--server-idle-timeout", "1"]));
    let (client, server) = stage.pair();
    assert!(!said_goodbye(&client), "idle connections end with a reset");
    assert!(said_goodbye(&server));
    stage.is_empty_soon();
}

#[test]
fn a_destination_that_is_removed_lets_go_of_its_clients() {
    let stage = UnixStage::start(Glbd::builder());
    let (client, server) = stage.pair();
    let address = stage.glbd.info().rows[0].address.clone();
    stage.glbd.change(format!("{address}:-1"));
    assert!(!said_goodbye(&client));
    assert!(said_goodbye(&server));
    stage.is_empty_soon();
}
