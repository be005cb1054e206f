//! `tcp` checks that say something: what servers answer is compared with what they should.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::programs::{Program, redis, redis_with_tls};
use super::{state, wait_until_judged};
use crate::harness::{Builder, Glbd, Server, connect_to, wait_until};

/// What HAProxy users say as `tcp-check send PING\r\n`, `expect string +PONG` and so on.
const MASTER: &str =
    r"tcp:send=PING\r\n;expect-line=+PONG;send=info replication\r\n;expect=role:master;send=QUIT\r\n;expect=+OK";

fn asking(spec: &str) -> Builder {
    Glbd::builder().args(["-w", spec, "-i", "0.1", "--timeout", "0.5"])
}

fn reason(glbd: &Glbd, destination: &impl ToString) -> String {
    glbd.watch().row(destination.to_string()).reason.clone()
}

/// Says a line to a Redis.
fn tell(server: &Program, line: &str) {
    let mut stream = connect_to(server.address).expect("it accepts");
    stream.write_all(format!("{line}\r\n").as_bytes()).expect("it reads");
    let mut answer = [0; 3];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"+OK", "{line}");
}

#[test]
fn clients_go_to_the_redis_that_is_the_master_and_follow_it() {
    let first = redis(&[]);
    let second = redis(&["--replicaof", "127.0.0.1", &first.address.port().to_string()]);
    let glbd = asking(MASTER).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &first, "READY");
    wait_until_judged(&glbd, &second, "DOWN");
    let told = reason(&glbd, &second);
    assert!(told.starts_with("expected 'role:master', got '$") && told.contains(r"role:slave\r\n"), "{told}");
    let through = |line: &str| {
        let mut client = glbd.connect();
        client.write_all(format!("{line}\r\n").as_bytes()).expect("it is open");
        let mut answer = [0; 3];
        client.read_exact(&mut answer).map(|()| answer)
    };
    assert_eq!(through("SET a b").expect("an answer"), *b"+OK", "a replica would refuse to write");
    tell(&second, "REPLICAOF NO ONE");
    tell(&first, &format!("REPLICAOF 127.0.0.1 {}", second.address.port()));
    wait_until_judged(&glbd, &second, "READY");
    wait_until_judged(&glbd, &first, "DOWN");
    assert_eq!(through("SET a c").expect("an answer"), *b"+OK");
}

#[test]
fn a_redis_that_wants_a_password_is_down_with_its_own_words_and_ready_with_the_password() {
    let server = redis(&["--requirepass", "secret"]);
    let glbd = asking(r"tcp:send=PING\r\n;expect=+PONG").destinations([&server]).start();
    wait_until_judged(&glbd, &server, "DOWN");
    assert_eq!(reason(&glbd, &server), r"expected '+PONG', got '-NOAUTH Authentication required.\r\n'");
    let spec = r"tcp:send=AUTH secret\r\n;expect=+OK;send-hex=50494e470d0a;expect-regex=^\+P[ON]+G\r$";
    let glbd = asking(spec).destinations([&server]).start();
    wait_until_judged(&glbd, &server, "READY");
}

#[test]
fn a_redis_behind_tls_is_asked_and_its_certificate_is_looked_at_if_that_is_wanted() {
    let server = redis_with_tls();
    let steps = r"send=PING\r\n;expect=+PONG";
    let (ca, other) = (server.path("ca.pem"), server.path("other.pem"));
    for (tls, verdict, why) in [
        ("tls=yes".to_owned(), "READY", ""),
        (format!("ca={ca}"), "READY", ""),
        (format!("ca={ca};sni=server.example"), "READY", ""),
        ("sni=elsewhere.example".to_owned(), "READY", ""),
        (
            format!("ca={ca};sni=elsewhere.example"),
            "DOWN",
            "TLS: invalid peer certificate: certificate not valid for name",
        ),
        (format!("ca={other}"), "DOWN", "TLS: invalid peer certificate: "),
    ] {
        let glbd = asking(&format!("tcp:;{tls};{steps}")).destinations([&server]).start();
        wait_until_judged(&glbd, &server, verdict);
        let told = reason(&glbd, &server);
        assert!(told.starts_with(why) && told.is_empty() == why.is_empty(), "{tls}: {told}");
    }
    // The handshake is enough where nothing is said; without TLS, nothing comes.
    let glbd = asking("tcp:;tls=yes").destinations([&server]).start();
    wait_until_judged(&glbd, &server, "READY");
    let glbd = asking(&format!("tcp:{steps}")).destinations([&server]).start();
    wait_until_judged(&glbd, &server, "DOWN");
}

/// A server that does this with each client, and then waits until it is gone.
fn saying(service: impl Fn(&mut &TcpStream) + Send + Sync + 'static) -> Server {
    Server::serving(move |mut stream| {
        service(&mut stream);
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    })
}

#[test]
fn what_a_server_says_instead_is_the_reason() {
    let banner = |text: &'static [u8]| saying(move |stream| _ = stream.write_all(text));
    let closing = |text: &'static [u8]| Server::serving(move |mut stream| _ = stream.write_all(text));
    let endless = saying(|stream| while stream.write_all(&[b'x'; 4096]).is_ok() {});
    let dripping = saying(|stream| {
        while stream.write_all(b".").is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    let cases = [
        // SMTP and POP3 speak first.
        (banner(b"220 mail ESMTP\r\n"), "tcp:expect-line=220 ", "READY", ""),
        (banner(b"+OK POP3 ready\r\n"), "tcp:expect-line=+OK", "READY", ""),
        (
            banner(b"554 go away\r\n"),
            "tcp:expect-line=220 ",
            "DOWN",
            r"expected a line that begins with '220 ', got '554 go away\r\n'",
        ),
        // Not at the beginning of a line.
        (
            banner(b"x220 \r\n"),
            "tcp:expect-line=220 ",
            "DOWN",
            r"expected a line that begins with '220 ', got 'x220 \r\n'",
        ),
        // RabbitMQ answers a header that it does not understand with its own.
        (banner(b"AMQP\0\0\x09\x01"), "tcp:expect-hex=414d515000000901", "READY", ""),
        (
            banner(b"AMQP\0\x01\0\0"),
            "tcp:expect-hex=414d515000000901",
            "DOWN",
            r"expected 'AMQP\x00\x00\t\x01', got 'AMQP\x00\x01\x00\x00'",
        ),
        (
            closing(b"-ERR max number of clients reached\r\n"),
            r"tcp:send=PING\r\n;expect=+PONG",
            "DOWN",
            r"expected '+PONG', got '-ERR max number of clients reached\r\n'",
        ),
        (closing(b""), "tcp:expect=+PONG", "DOWN", "expected '+PONG', and the connection was closed"),
        (banner(b""), "tcp:expect=+PONG", "DOWN", "expected '+PONG', got nothing within 0.5 s"),
        (banner(b"\x1b[2J\xff\r\n"), "tcp:expect=+PONG", "DOWN", r"expected '+PONG', got '\x1b[2J\xff\r\n'"),
        (endless, "tcp:expect=+PONG", "DOWN", "expected '+PONG', not in the first 16384 bytes: 'xxx"),
        (dripping, "tcp:expect=+PONG", "DOWN", "expected '+PONG', got '..."),
    ];
    for (server, spec, verdict, why) in &cases {
        let glbd = asking(spec).destinations([server]).start();
        wait_until_judged(&glbd, server, verdict);
        let told = reason(&glbd, server);
        assert!(told.starts_with(why) && told.is_empty() == why.is_empty(), "{spec}: {told}");
    }
}

/// Answers come in pieces, of which the first may look like a whole one.
#[test]
fn an_end_of_a_line_is_expected_where_a_line_ends_and_not_where_a_piece_does() {
    let dripping = |pieces: &'static [&'static str], closes: bool| {
        Server::serving(move |mut stream| {
            for piece in pieces {
                if stream.write_all(piece.as_bytes()).is_err() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(50));
            }
            if !closes {
                std::io::copy(&mut stream, &mut std::io::sink()).ok();
            }
        })
    };
    for (pieces, closes, regex, verdict) in [
        (&["slaves=1", "0\r\n"][..], false, r"^slaves=1\r?$", "DOWN"),
        (&["slaves=1", "0\r\n"], true, r"^slaves=1\r?$", "DOWN"),
        (&["slaves=1", "\r", "\n"], false, r"^slaves=1\r?$", "READY"),
        (&["O", "K", "AY"], false, "^OK$", "DOWN"),
        (&["O", "K"], true, "^OK$", "READY"),
        // It is all that comes in time.
        (&["O", "K"], false, "^OK$", "READY"),
        (&["+PO", "NG"], false, r"^\+PONG", "READY"),
    ] {
        let server = dripping(pieces, closes);
        let glbd = asking(&format!("tcp:expect-regex={regex}")).destinations([&server]).start();
        wait_until_judged(&glbd, &server, verdict);
    }
}

#[test]
fn steps_are_taken_in_their_order_and_each_looks_at_what_came_since_the_last_one_that_sent() {
    let server = Server::serving(|mut stream| {
        let mut word = [0; 4];
        for (expected, answer) in [(b"ONE\n", "one two\n"), (b"TWO\n", "three\n")] {
            if stream.read_exact(&mut word).is_err()
                || word != *expected
                || stream.write_all(answer.as_bytes()).is_err()
            {
                return;
            }
        }
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    });
    let both = r"send=ONE\n;expect=two;expect=one;send=TWO\n";
    for (spec, verdict) in [
        (format!("tcp:{both};expect=three"), "READY"),
        (format!("tcp:{both};expect=one"), "DOWN"),
        (r"tcp:send=TWO\n;expect=three".to_owned(), "DOWN"),
        (r"tcp:send=ON;send=E\n;expect=one".to_owned(), "READY"),
    ] {
        let glbd = asking(&spec).destinations([&server]).start();
        wait_until_judged(&glbd, &server, verdict);
        drop(glbd);
    }
}

#[test]
fn what_was_sent_last_arrives_and_the_connection_ends_cleanly() {
    let (heard, hears) = std::sync::mpsc::channel();
    let heard = std::sync::Mutex::new(heard);
    let server = Server::serving(move |mut stream| {
        // More than the check reads.
        stream.write_all(&[&b"hello"[..], &[b'x'; 1000]].concat()).ok();
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all).map_err(|error| error.to_string());
        heard.lock().expect("no panic").send((all, ended)).ok();
    });
    let _glbd = asking(r"tcp:expect=hello;send=QUIT\n").destinations([&server]).start();
    let first = hears.recv_timeout(Duration::from_secs(20)).expect("a check");
    assert_eq!(first, (b"QUIT\n".to_vec(), Ok(5)));
}

#[test]
fn a_server_that_answers_otherwise_than_it_should_gets_no_clients_at_once_and_a_silent_one_after_a_while() {
    let says = std::sync::Arc::new(std::sync::Mutex::new("yes"));
    let said = std::sync::Arc::clone(&says);
    let server = saying(move |stream| _ = stream.write_all(said.lock().expect("no panic").as_bytes()));
    let glbd = asking("tcp:expect=yes").args(["--fall", "1000"]).destinations([&server]).start();
    wait_until_judged(&glbd, &server, "READY");
    *says.lock().expect("no panic") = "no";
    wait_until_judged(&glbd, &server, "AVOID");
    *says.lock().expect("no panic") = "yes";
    wait_until_judged(&glbd, &server, "READY");
    *says.lock().expect("no panic") = "";
    let (before, since) = (server.accepted(), Instant::now());
    wait_until("it has been silent twice", || server.accepted() >= before + 3);
    assert_eq!(state(&glbd, &server), "READY", "after {:?}", since.elapsed());
}

#[test]
fn another_port_is_asked_without_the_server_noticing_where_nothing_is_said() {
    let (server, other) = (Server::named("a"), Server::named("b"));
    let glbd = asking(&format!("tcp:{}", other.address().port())).destinations([&server]).start();
    wait_until_judged(&glbd, &server, "READY");
    drop(other);
    wait_until_judged(&glbd, &server, "DOWN");
    assert_eq!(server.accepted(), 0);
}
