//! Servers that refuse clients.

use std::io::Read;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::packets::{
    assert_greeted_by, assert_hears, error, full, greeter, handshake, in_order, packet, read_packet, say,
};
use crate::harness::{Glbd, Payload, Server, echoes, wait_until};

#[test]
fn a_client_refused_by_a_full_server_is_served_by_the_next() {
    let (full, other) = (full("Too many connections"), greeter("other"));
    let glbd = in_order([&full, &other]).start();
    let clients: Vec<_> = (0..10).map(|_| glbd.connect()).collect();
    for client in &clients {
        assert_greeted_by("other", client);
        assert!(echoes(client));
    }
    assert_eq!(glbd.info().row(&other).conns, 10);
    assert_eq!(glbd.info().row(&full).conns, 0);
    glbd.wait_for_log(&format!("destination {full} refuses clients: error 1040: Too many connections; others"));
}

#[test]
fn a_client_of_a_server_that_ends_or_resets_without_a_word_is_served_by_the_next() {
    let ending = Server::serving(|_| {});
    let resetting = Server::serving(|stream| {
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    });
    let in_the_middle = Server::serving(|stream| {
        say(stream, b"\x30\0\0");
    });
    let other = greeter("other");
    let glbd = in_order([&ending, &resetting, &in_the_middle, &other]).start();
    for _ in 0..10 {
        assert_greeted_by("other", &glbd.connect());
    }
    for silent in [&ending, &resetting, &in_the_middle] {
        glbd.wait_for_log(&format!("destination {silent} refuses clients: connection "));
    }
}

#[test]
fn a_server_that_is_down_is_not_said_to_refuse_clients() {
    let (mut down, other) = (greeter("down"), greeter("other"));
    let glbd = in_order([&down, &other]).start();
    down.stop_listening();
    assert_greeted_by("other", &glbd.connect());
    glbd.wait_for_log(&format!("destination {down} cannot be reached: Connection refused"));
}

#[test]
fn when_all_refuse_the_client_gets_the_last_error_in_full() {
    let message = "x".repeat(3000);
    let (first, long) = (full("first"), full(&message));
    let last = Server::serving({
        let refusal = error(1129, &message);
        move |stream| {
            // In pieces, and with a reset behind it.
            stream.set_nodelay(true).expect("TCP_NODELAY");
            assert!(refusal.chunks(700).all(|piece| say(stream, piece)));
            SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
        }
    });
    // A daemon for each client: destinations that have failed come in another order.
    let glbd = in_order([&first, &long]).start();
    assert_hears(&error(1040, &message), &glbd.connect());
    let glbd = in_order([&first, &last]).start();
    assert_hears(&error(1129, &message), &glbd.connect());
    // The same for a client that has sent something before.
    let glbd = in_order([&first, &last]).start();
    let client = glbd.connect();
    Payload::new(1, 20_000).send(&client).expect("an open connection");
    assert_hears(&error(1129, &message), &client);
    drop(client);
    wait_until("all have gone", || glbd.info().total == 0);
}

#[test]
fn the_last_error_in_full_is_given_although_the_last_server_was_down() {
    let (full, mut down) = (full("Too many connections"), greeter("down"));
    down.stop();
    let glbd = in_order([&full, &down]).start();
    assert_hears(&error(1040, "Too many connections"), &glbd.connect());
}

#[test]
fn what_the_client_said_first_reaches_the_second_destination_and_not_the_first() {
    let heard = Arc::new(AtomicUsize::new(0));
    let full = Server::serving({
        let heard = Arc::clone(&heard);
        move |mut stream| {
            say(stream, &error(1040, "Too many connections"));
            stream.shutdown(Shutdown::Write).ok();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).ok();
            heard.fetch_add(bytes.len(), Ordering::SeqCst);
        }
    });
    let other = greeter("other");
    for splice in ["bulk", "always", "never"] {
        let glbd = in_order([&full, &other]).wrapped_by(["env", &format!("GLBD_SPLICE={splice}")]).start();
        let (client, payload) = (glbd.connect(), Payload::new(1, 300_000));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                payload.send(&client).expect("an open connection");
                client.shutdown(Shutdown::Write).expect("an open connection");
            });
            assert_greeted_by("other", &client);
            payload.receive_to_end(&client);
        });
        wait_until("the connection is over", || glbd.info().total == 0);
    }
    wait_until("the first server is through", || full.open() == 0);
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}

#[test]
fn an_error_in_single_bytes_is_not_seen_by_the_client() {
    let full = Server::serving(|stream| {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        error(1040, "Too many connections").chunks(1).all(|byte| {
            // A slow server: each byte is to be a segment of its own.
            std::thread::sleep(Duration::from_millis(2));
            say(stream, byte)
        });
    });
    let other = greeter("other");
    let glbd = in_order([&full, &other]).start();
    assert_greeted_by("other", &glbd.connect());
}

/// A server that dies while it greets has not served anybody.
#[test]
fn a_greeting_that_breaks_off_is_not_seen_by_the_client() {
    for (count, hard) in [(1, false), (5, false), (20, false), (20, true)] {
        let dying = Server::serving(move |stream| {
            say(stream, &handshake("dying")[..count]);
            if hard {
                SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
            }
        });
        let other = greeter("other");
        let glbd = in_order([&dying, &other]).start();
        assert_greeted_by("other", &glbd.connect());
        glbd.wait_for_log(&format!("destination {dying} refuses clients: connection "));
    }
}

#[test]
fn of_an_error_that_is_too_long_the_client_gets_one_that_is_shorter() {
    let verbose = full(&"no ".repeat(20_000));
    let glbd = in_order([&verbose]).start();
    let client = glbd.connect();
    let packet = read_packet(&client).expect("a packet");
    assert_eq!(packet, [&[0xfc, 0x0f, 0, 0][..], &error(1040, &"no ".repeat(20_000))[4..4096]].concat());
    assert_eq!((&client).read(&mut [0]).expect("a clean end"), 0);
}

#[test]
fn an_error_of_more_than_four_kilobytes_does_not_fill_the_memory() {
    let endless = Server::serving(|stream| {
        let mut begin = packet(&vec![0xff; 0xff_ffff]);
        begin.truncate(100_000);
        while say(stream, &begin) {}
    });
    let other = greeter("other");
    let glbd = in_order([&endless, &other]).start();
    for _ in 0..10 {
        assert_greeted_by("other", &glbd.connect());
    }
}

#[test]
fn what_a_server_says_cannot_forge_a_log_line() {
    let (forging, other) = (full("no\n2026-01-01T00:00:00Z INFO destination 1.2.3.4:5 READY\x1b[2J"), greeter("other"));
    let glbd = in_order([&forging, &other]).start();
    assert_greeted_by("other", &glbd.connect());
    glbd.wait_for_log(
        "refuses clients: error 1040: no 2026-01-01T00:00:00Z INFO destination 1.2.3.4:5 READY [2J; others",
    );
}

#[test]
fn without_a_greeting_to_inspect_an_error_is_passed_on() {
    let (full, other) = (full("Too many connections"), greeter("other"));
    let glbd = Glbd::builder().arg("--single").destinations([full.weighted(2.0), other.weighted(1.0)]).start();
    assert_hears(&error(1040, "Too many connections"), &glbd.connect());
}
