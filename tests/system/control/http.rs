//! Whatever speaks HTTP cannot steer the daemon: a web page may have a browser send any text to this machine's ports,
//! but only behind a line of HTTP.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::process::Command;
use std::thread;
use std::time::Duration;

use super::conversation::call;
use crate::harness::Glbd;

/// Removes the destination that is there, and adds another, if it is obeyed.
pub const ATTACK: &str = "127.0.0.1:1:-1\r\n127.0.0.1:2:1\r\n";

/// A glbd with one destination, the victim of [`ATTACK`].
pub fn victim() -> Glbd {
    Glbd::start(["127.0.0.1:1"])
}

/// Whether nothing of [`ATTACK`] was obeyed.
pub fn is_unharmed(glbd: &Glbd) -> bool {
    let info = glbd.info();
    info.rows.len() == 1 && info.rows[0].address == "127.0.0.1:1"
}

#[test]
fn the_attack_works_where_it_is_obeyed() {
    let glbd = victim();
    assert_eq!(glbd.control(ATTACK), "Ok\nOk\n");
    assert!(!is_unharmed(&glbd));
}

/// Sends the pieces with a pause between them, and returns what is answered until glbd closes.
fn send(glbd: &Glbd, pieces: &[&str], pause: Duration) -> String {
    let mut stream = call(glbd);
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            thread::sleep(pause);
        }
        // It may be closed before everything is said.
        stream.write_all(piece.as_bytes()).ok();
    }
    stream.shutdown(Shutdown::Write).ok();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok();
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn requests_are_closed_unanswered_and_not_obeyed() {
    let glbd = victim();
    let host = format!("Host: {}\r\n", glbd.control_address());
    let body = format!("Content-Length: {}\r\n\r\n{ATTACK}", ATTACK.len());
    for first in [
        "GET / HTTP/1.1",
        "GET /getinfo HTTP/1.1",
        "POST / HTTP/1.1",
        "POST / HTTP/1.0",
        "PUT /127.0.0.1:1:-1 HTTP/1.1",
        "HEAD / HTTP/1.1",
        "OPTIONS / HTTP/1.1",
        "OPTIONS * HTTP/1.1",
        "DELETE / HTTP/1.1",
        "PATCH / HTTP/1.1",
        "TRACE / HTTP/1.1",
        "CONNECT 127.0.0.1:1 HTTP/1.1",
        "PRI * HTTP/2.0",
        "getinfo / HTTP/1.1",
        "GETSTATS / HTTP/1.1",
        "help / HTTP/1.1",
        "prompt / HTTP/1.1",
        "ANYTHING /\tHTTP/1.1",
        "get / http/1.1",
        "GET /",
        "GET / HTTP/1.1 ",
    ] {
        for end in ["\r\n", "\n"] {
            let request = format!("{first}{end}{host}{body}");
            assert_eq!(send(&glbd, &[&request], Duration::ZERO), "", "{first}");
            assert!(is_unharmed(&glbd), "{first} was obeyed");
        }
    }
}

#[test]
fn a_request_whose_body_comes_by_itself_is_not_obeyed() {
    let glbd = victim();
    let head = format!("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n", ATTACK.len());
    for pause in [Duration::from_millis(20), Duration::from_millis(400)] {
        assert_eq!(send(&glbd, &[&head, ATTACK], pause), "");
        // Blank lines in front of a request are to be ignored, so a browser might as well send them.
        assert_eq!(send(&glbd, &["\r\n", &head, ATTACK], Duration::from_millis(20)), "");
    }
    assert!(is_unharmed(&glbd));
}

#[test]
fn a_request_in_pieces_is_not_obeyed() {
    let glbd = victim();
    let head = "POST / HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for cut in [1, 2, 4, 5, 6, 10, 15] {
        for pause in [Duration::from_millis(20), Duration::from_millis(400)] {
            send(&glbd, &[&head[..cut], &head[cut..], ATTACK], pause);
            assert!(is_unharmed(&glbd), "cut at {cut} and sent with pauses of {pause:?}");
        }
    }
}

#[test]
fn a_request_with_an_endless_address_is_not_obeyed() {
    let glbd = victim();
    for length in [4000, 5000, 100_000] {
        let request = format!("GET /{} HTTP/1.1\r\n\r\n{ATTACK}", "x".repeat(length));
        assert_eq!(send(&glbd, &[&request], Duration::ZERO), "", "{length}");
    }
    assert!(is_unharmed(&glbd));
}

#[test]
fn a_request_at_the_end_of_a_conversation_ends_it() {
    let glbd = victim();
    let request = format!("version\nPOST / HTTP/1.1\r\n\r\n{ATTACK}");
    send(&glbd, &[&request], Duration::ZERO);
    send(&glbd, &["prompt\n", &request], Duration::ZERO);
    assert!(is_unharmed(&glbd));
}

#[test]
fn curl_gets_no_answer_and_is_not_obeyed() {
    let glbd = victim();
    let url = format!("http://{}/", glbd.control_address());
    for options in [
        [""; 0].as_slice(),
        &["--head"],
        &["--request", "getinfo"],
        &["--request", "GETSTATS"],
        &["--data-binary", ATTACK],
        &["--data-binary", ATTACK, "--header", "Expect: 100-continue"],
        &["--data-binary", ATTACK, "--request", "PUT"],
        &["--data-binary", ATTACK, "--http1.0"],
        &["--data-binary", ATTACK, "--http2-prior-knowledge"],
        &["--form", "127.0.0.1:1:-1=127.0.0.1:2:1"],
        &["--request-target", "getinfo"],
        &["--request-target", "127.0.0.1:2:1"],
        &["--header", "127.0.0.1:2:1"],
        &["--user-agent", "127.0.0.1:2:1"],
    ] {
        // So that it would show any answer, were there one.
        let output = Command::new("curl")
            .args(["--silent", "--show-error", "--http0.9", "--max-time", "60"])
            .args(options)
            .arg(&url)
            .output()
            .expect("curl, from Debian's package curl");
        assert!(!output.status.success(), "{options:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "", "{options:?}");
        assert!(is_unharmed(&glbd), "{options:?}");
    }
}
