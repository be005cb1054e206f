//! Greetings that arrive, in whatever order the rest comes.

use std::io::Write;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use socket2::SockRef;

use super::packets::{assert_greeted_by, assert_hears, greeter, handshake, in_order, read_packet, say};
use crate::harness::servers::echo;
use crate::harness::{Payload, Server, begin_to_connect_to, echoes, wait_until, was_reset};

#[test]
fn a_greeting_in_single_bytes_arrives_unharmed() {
    let slow = Server::serving(|stream| {
        stream.set_nodelay(true).expect("TCP_NODELAY");
        for byte in handshake("slow").chunks(1) {
            // A slow server: each byte is to be a segment of its own.
            std::thread::sleep(Duration::from_millis(2));
            say(stream, byte);
        }
        echo(stream);
    });
    let glbd = in_order([&slow]).start();
    let clients: Vec<_> = (0..5).map(|_| glbd.connect()).collect();
    for client in &clients {
        assert_greeted_by("slow", client);
        assert!(echoes(client));
    }
}

#[test]
fn a_greeting_with_its_end_or_much_data_behind_it_arrives_with_all_of_it() {
    let ending = Server::serving(|stream| {
        say(stream, &handshake("ending"));
    });
    let talking = Server::serving(|stream| {
        let payload = Payload::new(2, 3_000_000).to_vec();
        say(stream, &[&handshake("talking")[..], &payload].concat());
    });
    for splice in ["bulk", "always", "never"] {
        let by = ["env", &format!("GLBD_SPLICE={splice}")];
        let glbd = in_order([&ending]).wrapped_by(by).start();
        assert_hears(&handshake("ending"), &glbd.connect());
        let glbd = in_order([&talking]).wrapped_by(by).start();
        let client = glbd.connect();
        assert_greeted_by("talking", &client);
        Payload::new(2, 3_000_000).receive_to_end(&client);
        // Its own direction would stay open.
        drop(client);
        wait_until("the connection is over", || glbd.info().total == 0);
    }
}

#[test]
fn a_greeting_with_a_reset_right_behind_it_arrives_before_the_reset() {
    let resetting = Server::serving(|stream| {
        say(stream, &handshake("resetting"));
        SockRef::from(stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
    });
    let glbd = in_order([&resetting]).start();
    for _ in 0..10 {
        let client = begin_to_connect_to(glbd.address());
        assert_greeted_by("resetting", &client);
        let over = read_packet(&client).expect_err("the end");
        assert!(was_reset(&over), "{over}");
    }
}

#[test]
fn a_client_that_closes_its_side_gets_the_greeting_all_the_same() {
    let greeter = greeter("greeter");
    let is_due = Arc::new(AtomicBool::new(true));
    let may_greet = Arc::clone(&is_due);
    let slow_greeter = Server::serving(move |stream| {
        wait_until("the client has closed its side", || may_greet.load(Ordering::SeqCst));
        if say(stream, &handshake("slow")) {
            echo(stream);
        }
    });
    for arguments in [[""; 0].as_slice(), &["--synchronous"], &["--client-idle-timeout", "60"]] {
        let glbd = in_order([&greeter]).args(arguments).start();
        // One that had ended before it was let in would not be served.
        is_due.store(false, Ordering::SeqCst);
        let slow = in_order([&slow_greeter]).args(arguments).start();
        // The connection of the round before may still be among those that are open.
        let accepted = slow_greeter.accepted();
        let client = slow.connect();
        wait_until("it is let in", || slow_greeter.accepted() > accepted);
        client.shutdown(Shutdown::Write).expect("an open connection");
        is_due.store(true, Ordering::SeqCst);
        assert_hears(&handshake("slow"), &client);
        let client = glbd.connect();
        (&client).write_all(b"and this\n").expect("an open connection");
        client.shutdown(Shutdown::Write).expect("an open connection");
        assert_hears(&[&handshake("greeter")[..], b"and this\n"].concat(), &client);
    }
}

#[test]
fn urgent_data_before_and_behind_the_greeting_does_no_harm() {
    let length = handshake("urgent").len();
    for place in [0, 3, length - 1, length] {
        let urgent = Server::serving(move |stream| {
            stream.set_nodelay(true).expect("TCP_NODELAY");
            let greeting = handshake("urgent");
            let (begin, rest) = greeting.split_at(place);
            say(stream, begin);
            // What is urgent goes out of band, and is not passed on. A second byte would bring the first one back.
            SockRef::from(stream).send_out_of_band(b"!").expect("an open connection");
            say(stream, rest);
            echo(stream);
        });
        let glbd = in_order([&urgent]).start();
        let client = glbd.connect();
        SockRef::from(&client).send_out_of_band(b"!").expect("an open connection");
        assert_greeted_by("urgent", &client);
        assert!(echoes(&client));
    }
}
