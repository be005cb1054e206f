//! Checks that begin with a PROXY header.

use std::io::Read;
use std::time::Duration;

use super::programs::{haproxy, nginx};
use super::wait_until_judged;
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{Glbd, Server};

/// What the specification of the protocol calls LOCAL, and what version 1 has in its place.
const HEADERS: [(&str, &[u8]); 2] = [("1", b"PROXY UNKNOWN\r\n"), ("2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0")];

#[test]
fn the_header_comes_first_and_names_no_client() {
    for (version, header) in HEADERS {
        let (heard, hears) = std::sync::mpsc::channel();
        let heard = std::sync::Mutex::new(heard);
        let server = Server::serving(move |mut stream| {
            let mut bytes = vec![0; header.len() + 4];
            if stream.read_exact(&mut bytes).is_ok() {
                heard.lock().expect("no panic").send(bytes).ok();
            }
        });
        for (spec, first) in [(r"tcp:send=PING\r\n", "PING"), ("http:/", "GET ")] {
            let glbd =
                Glbd::builder().args(["-w", spec, "--check-send-proxy", version]).destinations([&server]).start();
            let bytes = hears.recv_timeout(Duration::from_secs(20)).expect("a check");
            assert_eq!(bytes, [header, first.as_bytes()].concat(), "version {version}");
            drop(glbd);
            while hears.try_recv().is_ok() {}
        }
    }
}

#[test]
fn nginx_and_haproxy_that_expect_a_header_are_ready_with_it_and_down_without() {
    let nginx = nginx("listen ADDRESS proxy_protocol; return 200 ok;");
    let haproxy = haproxy(
        "frontend f\n mode http\n bind ADDRESS accept-proxy\n http-request return status 200 content-type text/plain string ok",
    );
    for server in [nginx, haproxy] {
        for (version, _) in HEADERS {
            let arguments = ["-w", "http:/;expect=ok", "-i", "0.1", "--timeout", "5", "--check-send-proxy", version];
            let glbd = Glbd::builder().args(arguments).destinations([&server]).start();
            wait_until_judged(&glbd, &server, "READY");
        }
        let glbd = Glbd::builder()
            .args(["-w", "http:/;expect=ok", "-i", "0.1", "--timeout", "5"])
            .destinations([&server])
            .start();
        wait_until_judged(&glbd, &server, "DOWN");
    }
}

#[test]
fn tls_is_agreed_on_behind_the_header() {
    let server = nginx("listen ADDRESS ssl proxy_protocol; return 200 ok;");
    let arguments = ["-w", "https:/;expect=ok", "-i", "0.1", "--timeout", "5", "--check-send-proxy", "2"];
    let glbd = Glbd::builder().args(arguments).destinations([&server]).start();
    wait_until_judged(&glbd, &server, "READY");
}

#[test]
fn mariadb_takes_checks_with_the_header_as_it_takes_clients() {
    let server = DatabaseServer::start(&["--proxy-protocol-networks=127.0.0.1"]);
    // One that is killed in the middle of a login would be such an attempt.
    let mut running = Vec::new();
    for (version, _) in HEADERS {
        let arguments = ["-w", "mysql:require-galera=no,login=1", "-i", "0.1", "--timeout", "20"];
        let more = ["--send-proxy", version, "--check-send-proxy", version];
        let glbd = Glbd::builder().args(arguments).args(more).destinations([server.address()]).start();
        wait_until_judged(&glbd, &server.address(), "READY");
        running.push(glbd);
    }
    let aborted = server.query("SHOW GLOBAL STATUS LIKE 'Aborted_connects'");
    assert!(aborted.trim().ends_with('0'), "no check looks like an attempt that failed: {aborted}");
}
