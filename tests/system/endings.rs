//! How connections end: resets, and readers that stall on the way.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

use crate::harness::{Glbd, Payload, Stage, begin_to_connect_to, read_line, reset, said_goodbye, wait_until};

#[test]
fn a_reset_by_the_client_reaches_the_server_as_a_reset() {
    let stage = Stage::start();
    for _ in 0..20 {
        let (client, server) = stage.pair();
        exchange(&client, &server);
        reset(client);
        assert!(!said_goodbye(&server), "the server saw a clean end");
    }
}

#[test]
fn a_reset_by_the_server_reaches_the_client_as_a_reset() {
    let stage = Stage::start();
    for _ in 0..20 {
        let (client, server) = stage.pair();
        exchange(&client, &server);
        reset(server);
        assert!(!said_goodbye(&client), "the client saw a clean end");
    }
}

#[test]
fn a_reset_reaches_a_client_that_has_half_closed() {
    let stage = Stage::start();
    let (client, server) = stage.pair();
    exchange(&client, &server);
    client.shutdown(Shutdown::Write).expect("an open connection");
    assert!(said_goodbye(&server));
    reset(server);
    assert!(!said_goodbye(&client), "the client saw a clean end");
}

/// Whether the reset comes before the daemon has seen that the destination accepts is a matter of chance.
#[test]
fn an_answer_reaches_the_client_even_when_a_reset_comes_right_behind_it() {
    const ANSWER: &[u8] = b"too many connections";
    let stage = &Stage::start();
    thread::scope(|scope| {
        scope.spawn(|| {
            for _ in 0..200 {
                let mut server = stage.accept();
                server.write_all(ANSWER).expect("an open connection");
                reset(server);
            }
        });
        for number in 0..200 {
            let mut heard = Vec::new();
            let end = begin_to_connect_to(stage.glbd.address()).read_to_end(&mut heard).map_err(|error| error.kind());
            assert_eq!((heard.as_slice(), end), (ANSWER, Err(ErrorKind::ConnectionReset)), "client {number}");
        }
    });
}

#[test]
fn a_clean_end_reaches_the_other_side_as_a_clean_end() {
    let stage = Stage::start();
    let (client, server) = stage.pair();
    exchange(&client, &server);
    drop(client);
    assert!(said_goodbye(&server), "the server saw a reset");
    let (client, server) = stage.pair();
    exchange(&client, &server);
    drop(server);
    assert!(said_goodbye(&client), "the client saw a reset");
}

#[test]
fn a_clean_end_reaches_a_server_that_has_half_closed_as_a_clean_end() {
    let stage = Stage::start();
    let (client, server) = stage.pair();
    exchange(&client, &server);
    server.shutdown(Shutdown::Write).expect("an open connection");
    assert!(said_goodbye(&client));
    drop(client);
    assert!(said_goodbye(&server), "the server saw a reset");
}

#[test]
fn a_client_that_leaves_in_the_middle_of_a_download_stops_the_server() {
    let stage = Stage::start();
    let (client, mut server) = stage.pair();
    let bytes = vec![1; 64 * 1024];
    server.write_all(&bytes).expect("an open connection");
    (&client).read_exact(&mut [0; 1000]).expect("the download begins");
    drop(client);
    wait_until("the server cannot send any more", || match server.write(&bytes) {
        Ok(_) => false,
        Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe),
    });
    wait_until("the connection is forgotten", || stage.glbd.info().total == 0);
}

/// Once neither side reads, nobody's event would bring the connection to its end after the reset's own.
#[test]
fn a_client_that_resets_while_both_sides_are_stuck_frees_its_server() {
    let stage = Stage::start();
    let (client, server) = stage.pair();
    exchange(&client, &server);
    for stream in [&client, &server] {
        fill(stream);
    }
    // What was under way has filled the daemon's buffers; now it stands still.
    wait_until("nothing moves", || !fill(&client) && !fill(&server));
    reset(client);
    wait_until("the connection is forgotten", || stage.glbd.info().total == 0);
    wait_until("the server cannot send any more", || {
        (&server).write(&[0]).is_err_and(|error| error.kind() != ErrorKind::WouldBlock)
    });
}

/// Sends until no more is taken; false when nothing was.
fn fill(mut stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).expect("O_NONBLOCK");
    let mut taken = false;
    while stream.write(&[7; 64 * 1024]).is_ok() {
        taken = true;
    }
    thread::sleep(Duration::from_millis(100));
    taken
}

/// Shows that the connection stands.
fn exchange(mut client: &TcpStream, mut server: &TcpStream) {
    client.write_all(b"ping\n").expect("an open connection");
    assert_eq!(read_line(server).expect("a line"), "ping");
    server.write_all(b"pong\n").expect("an open connection");
    assert_eq!(read_line(client).expect("a line"), "pong");
}

#[test]
fn twenty_stalled_readers_cost_little_memory_and_no_processor_time() {
    const LENGTH: usize = 16_000_000;
    let stage = Stage::start();
    // What the daemon needs for its first bulk connection is not the price of a stalled one.
    let (client, server) = stage.pair();
    let payload = &Payload::new(1, LENGTH);
    thread::scope(|scope| {
        scope.spawn(|| payload.send(&server).expect("the client reads"));
        payload.receive(&client);
    });

    let before = stage.glbd.resident_bytes();
    let sent = &AtomicUsize::new(0);
    thread::scope(|scope| {
        let readers: Vec<TcpStream> = (0..20)
            .map(|number| {
                let (client, server) = stage.pair();
                let (reader, writer) = if number % 2 == 0 { (client, server) } else { (server, client) };
                // What the kernel holds at the test's ends is not what this is about.
                SockRef::from(&reader).set_recv_buffer_size(64 * 1024).expect("SO_RCVBUF");
                SockRef::from(&writer).set_send_buffer_size(64 * 1024).expect("SO_SNDBUF");
                // The reader may be stalled for longer than the others are patient.
                writer.set_write_timeout(None).expect("SO_SNDTIMEO");
                scope.spawn(move || {
                    payload.send(&writer).expect("the reader reads on");
                    writer.shutdown(Shutdown::Write).expect("an open connection");
                    sent.fetch_add(1, Ordering::SeqCst);
                    // Kept open: a close would be a second event that the daemon has to see.
                    said_goodbye(&writer);
                });
                reader
            })
            .collect();
        wait_until_nothing_moves(&stage.glbd);
        // The kernel may have grown the buffers of a few so far that they hold everything.
        let swallowed = sent.load(Ordering::SeqCst);
        assert!(swallowed < 5, "{swallowed} of 20 went where nobody reads");

        wait_until("two seconds go by in which it uses no processor time to speak of", || {
            let used = stage.glbd.cpu_time();
            thread::sleep(Duration::from_secs(2));
            stage.glbd.cpu_time() - used < Duration::from_millis(100)
        });
        let grown = stage.glbd.resident_bytes().saturating_sub(before);
        assert!(grown < 20_000_000, "{grown} bytes for 20 stalled readers");

        for reader in readers {
            scope.spawn(move || payload.receive_to_end(&reader));
        }
    });
}

/// Waits until the daemon has sent nothing for half a second.
fn wait_until_nothing_moves(glbd: &Glbd) {
    wait_until("all readers are stalled", || {
        glbd.stats();
        thread::sleep(Duration::from_millis(500));
        glbd.stats().sent == 0
    });
}
