//! A worker that is driven by hand over real sockets, so that what happens between two of its turns is certain.

mod changes;
mod replaced;
mod services;
mod stage;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use socket2::SockRef;

use super::*;
use stage::{Destination, Stage, wait_until_arrived};

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

#[test]
fn an_answer_that_has_come_when_its_destination_is_removed_reaches_the_client_with_a_clean_end() {
    let (mut stage, destination) = (Stage::new(), Destination::new());
    stage.add(&destination);
    let (mut client, mut server) = stage.pair(&destination);
    stage.turn_until_quiet();
    // The mailbox rings before anything comes of the destination.
    stage.remove(&destination);
    server.write_all(b"all of it").expect("an open connection");
    server.shutdown(Shutdown::Write).expect("an open connection");
    wait_until_arrived(&server);
    stage.turn_until_quiet();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard, b"all of it");
}

#[test]
fn a_destination_that_has_got_all_of_an_upload_keeps_it_when_it_is_removed() {
    const LENGTH: usize = 200_000;
    let (mut stage, destination) = (Stage::new(), Destination::new());
    stage.add(&destination);
    let (mut client, mut server) = stage.pair(&destination);
    client.write_all(&vec![7; LENGTH]).expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    // The destination reads nothing: it is on its way in the kernel.
    let stats = stage.stats.clone();
    stage.turn_until("all is passed on", || stats.totals().sent as usize == LENGTH);
    wait_until_arrived(&client);
    stage.turn_until_quiet();
    stage.remove(&destination);
    stage.turn_until_quiet();
    assert!(client.read(&mut [0]).is_err(), "a client that has got no answer is reset");
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard.len(), LENGTH);
}

/// Only the client's socket tells of it: there is no more room to send, and nothing to receive.
#[test]
fn a_client_that_resets_while_its_destination_reads_nothing_frees_it() {
    let (mut stage, destination) = (Stage::new(), Destination::new());
    stage.add(&destination);
    let (client, _server) = stage.pair(&destination);
    client.set_nonblocking(true).expect("O_NONBLOCK");
    let mut is_full = false;
    while !is_full {
        is_full = true;
        while (&client).write(&[7; 64 * 1024]).is_ok() {
            is_full = false;
        }
        stage.turn_until_quiet();
    }
    reset(client);
    let table = stage.table.clone();
    stage.turn_until("it is forgotten", || table.connections() == 0);
}

/// Both come before the worker has looked, and nothing was said to the client yet.
#[test]
fn a_client_of_a_destination_that_accepts_and_resets_at_once_is_served_by_another() {
    let (mut stage, first, last) = (Stage::new(), Destination::new(), Destination::new());
    stage.add(&first);
    let client = stage.connect();
    let mut accepted = None;
    while accepted.is_none() {
        stage.turn();
        accepted = first.accept();
    }
    accepted.into_iter().for_each(reset);
    stage.add(&last);
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

#[test]
fn a_late_event_of_one_attempt_does_not_count_for_the_next() {
    let (mut stage, first) = (Stage::new(), Destination::new());
    let (silent, last) = (Destination::silent(), Destination::new());
    stage.add(&first);
    let client = stage.connect();
    let stats = stage.stats.clone();
    stage.turn_until("the first attempt has begun", || stats.totals().connections == 1);
    let accepted = stage.take_events();
    stage.add(&silent);
    stage.remove(&first);
    stage.worker.read_mail();
    stage.worker.dispatch(&accepted);
    // It still waits for an answer, and can go elsewhere.
    stage.add(&last);
    stage.remove(&silent);
    stage.turn_until_quiet();
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

#[test]
fn a_late_event_of_a_client_that_has_gone_does_not_count_for_the_next_one_in_its_place() {
    let (mut stage, silent) = (Stage::new(), Destination::silent());
    stage.add(&silent);
    let gone = stage.connect();
    stage.turn_until_quiet();
    reset(gone);
    let its_reset = stage.take_events();
    let keys: Vec<Key> = stage.worker.connections.iter().map(|(_, connection)| connection.key()).collect();
    keys.into_iter().for_each(|key| stage.worker.with(key, |_, _| Next::Close(Ending::Clean)));
    let client = stage.connect();
    stage.turn_until_quiet();
    stage.worker.dispatch(&its_reset);
    assert_goes_on_to_another(&mut stage, &silent, &client);
}

/// It takes the place of the one before, whose turn must not seem to be its own.
#[test]
fn with_one_connect_at_a_time_a_client_that_comes_as_another_leaves_has_its_turn() {
    let (mut stage, silent) = (Stage::with(&["--synchronous"], false), Destination::silent());
    stage.add(&silent);
    let gone = stage.connect();
    stage.turn_until_quiet();
    reset(gone);
    let client = stage.connect();
    stage.turn_until_quiet();
    assert_goes_on_to_another(&mut stage, &silent, &client);
}

#[test]
fn with_one_connect_at_a_time_the_second_client_waits_for_the_first() {
    let (mut stage, silent) = (Stage::with(&["--synchronous"], false), Destination::silent());
    stage.add(&silent);
    let clients = [stage.connect(), stage.connect()];
    let stats = stage.stats.clone();
    stage.turn_until("both are let in", || stats.totals().connections == 2);
    stage.turn_until_quiet();
    assert_eq!(stage.table.connections(), 1, "one connect is under way");
    let last = Destination::new();
    stage.add(&last);
    stage.remove(&silent);
    for client in &clients {
        stage.accept_at(&last).write_all(b"hello").expect("an open connection");
        assert_eq!(stage.read_at(client).expect("a greeting"), b"hello");
    }
}

#[test]
fn clients_that_wait_to_be_let_in_are_served_by_a_daemon_that_drains() {
    let (mut stage, destination) = (Stage::with(&[], true), Destination::new());
    stage.add(&destination);
    // More than are accepted in one turn.
    let clients: Vec<TcpStream> = (0..ACCEPTS + 10).map(|_| stage.connect()).collect();
    stage.turn_until_quiet();
    stage.handle.drain();
    stage.turn_until_quiet();
    for _ in &clients {
        stage.accept_at(&destination).write_all(b"hello").expect("an open connection");
    }
    for client in &clients {
        assert_eq!(stage.read_at(client).expect("a greeting"), b"hello");
    }
}

/// The other process has the socket as well, so that the kernel goes on to report its clients.
#[test]
fn clients_of_a_socket_that_was_handed_over_do_not_wake_the_worker() {
    let (mut stage, destination) = (Stage::new(), Destination::new());
    stage.add(&destination);
    let _pair = stage.pair(&destination);
    stage.turn_until_quiet();
    stage.handle.hand_over();
    stage.turn_until_quiet();
    let _next = stage.connect();
    // The kernel reports what there is before it reports what comes later.
    stage.handle.hand_over();
    let events = stage.take_events();
    assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [MAIL]);
}

/// Its kernel has it only once it reads, and a reset that comes before would take the rest.
#[test]
fn with_linger_a_destination_that_reads_late_is_reset_once_it_has_all() {
    let (mut stage, mut server) = upload_to_one_that_does_not_read_yet();
    let mut heard = vec![0; UPLOAD];
    server.set_nonblocking(true).expect("O_NONBLOCK");
    let mut count = 0;
    stage.turn_until("the destination has read all", || {
        count += server.read(&mut heard[count..]).unwrap_or(0);
        count == UPLOAD
    });
    let mut end = Ok(1);
    stage.turn_until("it sees the end", || {
        end = server.read(&mut [0]);
        !end.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    });
    assert_eq!(
        end.map_err(|error| error.kind()),
        Err(io::ErrorKind::ConnectionReset),
        "a clean end leaves a TIME_WAIT"
    );
    assert_eq!(stage.table.connections(), 0);
}

#[test]
fn with_linger_a_destination_that_takes_too_long_to_read_gets_all_and_the_ordinary_end() {
    let (mut stage, mut server) = upload_to_one_that_does_not_read_yet();
    stage.turn_until_no_deadline_is_left();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard.len(), UPLOAD);
}

#[test]
fn with_linger_a_destination_that_refuses_a_client_is_reset() {
    let (mut stage, full) = (Stage::with(&["--linger", "--greeting", "mysql"], false), Destination::new());
    stage.add(&full);
    let (client, mut server) = stage.pair(&full);
    server.write_all(REFUSAL).expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("the error"), REFUSAL);
    let end = server.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(end, Err(io::ErrorKind::ConnectionReset), "a clean end leaves a TIME_WAIT");
}

/// It sends the error, then the end, and lets the client finish: closed at once, the connection would be reset.
#[test]
fn a_client_that_is_turned_away_gets_the_end_at_once_and_may_talk_on() {
    let (mut stage, full) = (Stage::with(&["--greeting", "mysql"], false), Destination::new());
    stage.add(&full);
    let (mut client, mut server) = stage.pair(&full);
    client.write_all(b"a login").expect("an open connection");
    wait_until_arrived(&client);
    server.write_all(REFUSAL).expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("the error"), REFUSAL);
    stage.turn_until_quiet();
    client.set_nonblocking(true).expect("O_NONBLOCK");
    assert_eq!(client.read(&mut [0]).expect("the end has come"), 0);
    for _ in 0..2 {
        client.write_all(b"a query").expect("a connection open one way");
        stage.turn_until_quiet();
    }
    assert_eq!(stage.table.connections(), 0);
}

#[test]
fn a_client_that_has_spoken_and_ended_its_side_is_served_by_the_next_when_one_refuses() {
    let (mut stage, full, last) =
        (Stage::with(&["--greeting", "mysql"], false), Destination::new(), Destination::new());
    stage.add(&full);
    let mut client = stage.connect();
    client.write_all(b"a login").expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    wait_until_arrived(&client);
    let mut server = stage.accept_at(&full);
    stage.add(&last);
    server.write_all(REFUSAL).expect("an open connection");
    let mut server = stage.accept_at(&last);
    server.write_all(HANDSHAKE).expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), HANDSHAKE);
    stage.turn_until_quiet();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard, b"a login");
}

#[test]
fn a_server_that_is_full_counts_as_refusing_however_many_packets_the_login_has_had() {
    let (mut stage, destination) = (Stage::with(&["--greeting", "mysql"], false), Destination::new());
    let (mut client, mut server) = greeted_pair(&mut stage, &destination);
    for _ in 0..10 {
        client.write_all(b"a piece of a login").expect("an open connection");
        stage.turn_until_quiet();
    }
    server.write_all(LATE_REFUSAL).expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("the error"), LATE_REFUSAL);
    assert!(stage.table.snapshot().iter().all(|it| it.refusals.is_some()));
}

#[test]
fn what_looks_like_a_refusal_long_after_the_login_counts_against_no_server() {
    let (mut stage, destination) = (Stage::with(&["--greeting", "mysql"], false), Destination::new());
    let (client, mut server) = greeted_pair(&mut stage, &destination);
    for _ in 0..10 {
        server.write_all(b"an answer").expect("an open connection");
        assert_eq!(stage.read_at(&client).expect("the answer"), b"an answer");
    }
    server.write_all(LATE_REFUSAL).expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("the error"), LATE_REFUSAL);
    assert!(stage.table.snapshot().iter().all(|it| it.refusals.is_none()));
}

/// A client that has got its server's greeting, and the other end of its connection.
fn greeted_pair(stage: &mut Stage, destination: &Destination) -> (TcpStream, TcpStream) {
    stage.add(destination);
    let (client, mut server) = stage.pair(destination);
    server.write_all(HANDSHAKE).expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), HANDSHAKE);
    (client, server)
}

/// The beginning of a handshake, which is enough of one.
const HANDSHAKE: &[u8] = b"\x05\0\0\0\x0a10.1";
/// An error packet: error 1040.
const REFUSAL: &[u8] = b"\x17\0\0\0\xff\x10\x04Too many connections";
/// The same in answer to a login.
const LATE_REFUSAL: &[u8] = b"\x17\0\0\x02\xff\x10\x04Too many connections";
const UPLOAD: usize = 200_000;

/// With `--linger`: all that the client had to say and its end are on their way to a destination.
fn upload_to_one_that_does_not_read_yet() -> (Stage, TcpStream) {
    let (mut stage, destination) = (Stage::with(&["--linger"], false), Destination::new());
    stage.add(&destination);
    let (mut client, server) = stage.pair(&destination);
    client.write_all(&[7; UPLOAD]).expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    let stats = stage.stats.clone();
    stage.turn_until("all is passed on", || stats.totals().sent as usize == UPLOAD);
    (stage, server)
}

/// A client that waits for a destination is served by the next one when that is removed.
fn assert_goes_on_to_another(stage: &mut Stage, silent: &Destination, client: &TcpStream) {
    let last = Destination::new();
    stage.add(&last);
    stage.remove(silent);
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(client).expect("a greeting"), b"hello");
}
