//! Destinations that answer checks in all sorts of ways.

use std::io::Write;
use std::net::{Shutdown, TcpStream};

use super::wait_until_judged;
use crate::harness::{Glbd, Server, SilentDestination};

fn watching(what: &str, destination: &impl ToString) -> Glbd {
    Glbd::builder().args(["-w", what, "-i", "0.1"]).destinations([destination.to_string()]).start()
}

#[test]
fn a_port_is_ready_while_it_accepts() {
    let mut server = Server::named("a");
    let glbd = watching("tcp", &server);
    wait_until_judged(&glbd, &server, "READY");
    server.stop();
    wait_until_judged(&glbd, &server, "DOWN");
    assert_eq!(glbd.watch().row(&server).reason, "Connection refused (os error 111)");
    server.start();
    wait_until_judged(&glbd, &server, "READY");
    assert_eq!(server.accepted(), 0, "the server has not noticed");
}

#[test]
fn a_host_that_is_silent_is_down_after_the_timeout() {
    let silent = SilentDestination::start();
    let glbd = watching("tcp", &silent);
    wait_until_judged(&glbd, &silent, "DOWN");
    assert_eq!(glbd.watch().row(&silent).reason, "no answer within 1 s");
}

/// A web server that answers this to everybody, without having read anything.
fn answering(answer: Vec<u8>) -> Server {
    Server::serving(move |mut stream: &TcpStream| {
        // One that has heard enough may be gone.
        stream.write_all(&answer).ok();
        stream.shutdown(Shutdown::Write).ok();
        std::io::copy(&mut stream, &mut std::io::sink()).ok();
    })
}

#[test]
fn only_status_200_is_fit() {
    for (answer, state, reason) in [
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nsynced\r\n".to_vec(), "READY", ""),
        (b"HTTP/1.0 200\r\n\r\n".to_vec(), "READY", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n".to_vec(), "DOWN", "HTTP status 503"),
        (b"HTTP/1.1 301 Moved\r\n\r\n".to_vec(), "DOWN", "HTTP status 301"),
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "DOWN", "its answer is not HTTP: "),
        (b"HTTP/1.1 2".to_vec(), "DOWN", "its answer is not HTTP, or is cut short"),
        (Vec::new(), "DOWN", "its answer is not HTTP, or is cut short"),
        (vec![b'x'; 1_000_000], "DOWN", "its answer is not HTTP: "),
        ([b"HTTP/1.1 200 OK\r\nX: ".to_vec(), vec![b'x'; 1_000_000]].concat(), "DOWN", "its answer's head is too long"),
    ] {
        let server = answering(answer.clone());
        let glbd = watching("http", &server);
        wait_until_judged(&glbd, &server, state);
        let said = glbd.watch().row(&server).reason.clone();
        assert!(said.starts_with(reason), "{said} for {:?}", String::from_utf8_lossy(&answer[..answer.len().min(40)]));
    }
}
