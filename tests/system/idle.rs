//! Idle timeouts: who is closed for saying and taking nothing, and who is not.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::harness::{Glbd, Payload, Server, Stage, read_line, said_goodbye, wait_until};

#[test]
fn a_client_that_idles_beyond_its_timeout_is_closed_and_a_busy_one_is_not() {
    idle_and_busy("--client-idle-timeout");
}

#[test]
fn a_server_that_idles_beyond_its_timeout_is_closed_and_a_busy_one_is_not() {
    idle_and_busy("--server-idle-timeout");
}

fn idle_and_busy(option: &str) {
    let server = Server::echo();
    let glbd = Glbd::builder().args([option, "1.5"]).destinations([&server]).start();
    let mut busy = glbd.connect();
    let begun = Instant::now();
    let mut idle = glbd.connect();
    idle.write_all(b"before\n").expect("an open connection");
    assert_eq!(read_line(&idle).expect("an echo"), "before");
    thread::scope(|scope| {
        let idle = scope.spawn(move || {
            said_goodbye(&idle);
            begun.elapsed()
        });
        // Twice as long as the timeout, in steps that are far shorter.
        for number in 0..60 {
            writeln!(busy, "message {number}").expect("an open connection");
            assert_eq!(read_line(&busy).expect("an echo"), format!("message {number}"));
            thread::sleep(Duration::from_millis(50));
        }
        let closed_after = idle.join().expect("an end");
        let range = Duration::from_millis(1500)..Duration::from_secs(5);
        assert!(range.contains(&closed_after), "closed after {closed_after:?}");
    });
    wait_until("only the busy client is left", || glbd.info().total == 1 && server.open() == 1);
}

#[test]
fn a_client_that_only_listens_and_a_server_that_only_talks_are_not_idle() {
    const LINES: usize = 60;
    let server = Server::serving(|mut stream| {
        for _ in 0..LINES {
            writeln!(stream, "news").expect("a client that listens");
            thread::sleep(Duration::from_millis(50));
        }
    });
    let timeouts = ["--client-idle-timeout", "1.5", "--server-idle-timeout", "1.5"];
    let glbd = Glbd::builder().args(timeouts).destinations([&server]).start();
    let mut heard = String::new();
    glbd.connect().read_to_string(&mut heard).expect("a clean end");
    assert_eq!(heard.lines().count(), LINES);
}

#[test]
fn who_reads_slowly_is_not_idle_and_neither_is_who_waits_for_that() {
    thread::scope(|scope| {
        for option in ["--client-idle-timeout", "--server-idle-timeout"] {
            for downloads in [true, false] {
                scope.spawn(move || read_slowly(option, downloads));
            }
        }
    });
}

/// Takes twice the timeout to read what the kernel takes at once.
fn read_slowly(option: &str, downloads: bool) {
    let stage = Stage::start_with(Glbd::builder().args([option, "1.5"]));
    let payload = Payload::new(1, 3_000_000);
    let (reader, writer) = reader_and_writer(&stage, downloads);
    thread::scope(|scope| {
        scope.spawn(|| {
            payload.send(&writer).expect("somebody who reads");
            writer.shutdown(Shutdown::Write).expect("an open connection");
        });
        let mut read = Vec::new();
        let end = loop {
            match (&reader).take(50_000).read_to_end(&mut read) {
                Ok(50_000) => thread::sleep(Duration::from_millis(50)),
                end => break end,
            }
        };
        let length = read.len();
        assert!(end.is_ok(), "{option}, downloads: {downloads}: {end:?} after {length} bytes");
        assert!(read == payload.to_vec(), "{option}, downloads: {downloads}: {length} bytes, or wrong ones");
    });
}

#[test]
fn a_client_that_takes_nothing_of_what_waits_for_it_is_idle() {
    let stage = Stage::start_with(Glbd::builder().args(["--client-idle-timeout", "1.5"]));
    let (reader, writer) = reader_and_writer(&stage, true);
    let begun = Instant::now();
    writer.set_write_timeout(None).expect("SO_SNDTIMEO");
    let sent = Payload::new(1, 50_000_000).send(&writer);
    assert!(sent.is_err(), "nobody has read it");
    let closed_after = begun.elapsed();
    let range = Duration::from_millis(1500)..Duration::from_secs(6);
    assert!(range.contains(&closed_after), "closed after {closed_after:?}");
    drop(reader);
}

/// Each waits for the other to read.
#[test]
fn a_client_that_only_writes_to_a_server_that_answers_is_idle_and_so_is_the_server_then() {
    let both = ["--client-idle-timeout", "1.5", "--server-idle-timeout", "1.5"];
    thread::scope(|scope| {
        for options in [&both[..2], &both[2..], &both] {
            scope.spawn(move || {
                let server = Server::echo();
                let glbd = Glbd::builder().args(options).destinations([&server]).start();
                let client = glbd.connect();
                client.set_write_timeout(None).expect("SO_SNDTIMEO");
                assert!(
                    Payload::new(1, 100_000_000).send(&client).is_err(),
                    "{options:?}: nobody has read the answers"
                );
                wait_until("the connection is forgotten", || glbd.info().total == 0 && server.open() == 0);
            });
        }
    });
}

#[test]
fn a_server_that_waits_for_a_client_that_takes_nothing_is_not_idle() {
    let stage = Stage::start_with(Glbd::builder().args(["--server-idle-timeout", "1"]));
    let payload = Payload::new(1, 20_000_000);
    let (reader, writer) = reader_and_writer(&stage, true);
    thread::scope(|scope| {
        scope.spawn(|| payload.send(&writer).expect("the client reads at last"));
        thread::sleep(Duration::from_secs(3));
        payload.receive(&reader);
    });
}

/// A client and a server in the one or the other part, with little room for what is not read.
fn reader_and_writer(stage: &Stage, downloads: bool) -> (TcpStream, TcpStream) {
    let (client, server) = stage.pair();
    let (reader, writer) = if downloads { (client, server) } else { (server, client) };
    SockRef::from(&reader).set_recv_buffer_size(64 * 1024).expect("SO_RCVBUF");
    (reader, writer)
}
