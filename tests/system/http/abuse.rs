//! Clients that mean no good, and defects: neither reaches those who are served.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::Web;
use crate::harness::{Server, connect_to, echoes, wait_until};

#[test]
fn a_thousand_connections_that_say_nothing_keep_nobody_away() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&[], &[&server]);
    let idle: Vec<TcpStream> = (0..1000).map(|_| connect_to(web.0).expect("it accepts")).collect();
    let begun = Instant::now();
    assert_eq!(web.get("/ready").status, 200);
    assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for those to be timed out");
    assert!(echoes(&glbd.connect()));
    let open = std::fs::read_dir(format!("/proc/{}/fd", glbd.pid())).expect("its descriptors").count();
    assert!(open < 200, "{open} descriptors are open");
    drop(idle);
}

#[test]
fn who_has_said_all_and_listens_still_is_answered() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    for path in ["/health", "/api/v1/clients", "/api/v1/status", "/nothing", "/metrics"].repeat(20) {
        let mut client = connect_to(web.0).expect("it accepts");
        client.write_all(format!("GET {path} HTTP/1.0\r\n\r\n").as_bytes()).expect("it reads");
        client.shutdown(Shutdown::Write).expect("half a close");
        let mut answer = String::new();
        client.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.0 "), "{path}: {answer}");
    }
}

#[test]
fn a_head_that_comes_slowly_or_is_huge_is_refused() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    let mut slow = connect_to(web.0).expect("it accepts");
    let mut huge = connect_to(web.0).expect("it accepts");
    let begun = Instant::now();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n").expect("it reads");
    // It may be refused before all of it is sent.
    let _ =
        huge.write_all(format!("GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {}\r\n\r\n", "x".repeat(100_000)).as_bytes());
    let mut answer = Vec::new();
    let _ = huge.read_to_end(&mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));
    let many: String = (0..200).map(|number| format!("X-{number}: y\r\n")).collect();
    let many = web.try_to_ask("GET", "/health", &[many.trim_end()], "");
    assert!(many.as_ref().map_or(true, |it| it.status == 431), "{many:?}");
    slow.set_read_timeout(Some(Duration::from_millis(100))).expect("a timeout");
    wait_until("the slow one is let go", || {
        // It goes on, a byte now and then.
        let _ = slow.write_all(b"X");
        matches!(slow.read(&mut [0; 100]), Ok(0))
            || slow.take_error().is_ok_and(|it| it.is_some())
            || slow.write_all(b"y").is_err()
    });
    assert!(begun.elapsed() < Duration::from_secs(30), "{:?}", begun.elapsed());
    assert_eq!(web.get("/health").status, 200);
}

#[test]
fn only_so_many_are_sent_events() {
    let server = Server::echo();
    let (_glbd, web) = Web::of(&[], &[&server]);
    let watch = |address: SocketAddr| {
        let mut stream = connect_to(address).expect("it accepts");
        write!(stream, "GET /events HTTP/1.1\r\nHost: {address}\r\n\r\n").expect("it reads");
        let mut begin = [0; 12];
        stream.read_exact(&mut begin).expect("an answer");
        (stream, String::from_utf8_lossy(&begin).into_owned())
    };
    let watching: Vec<_> = (0..17).map(|_| watch(web.0)).collect();
    let refused: Vec<_> = watching.iter().map(|(_, begin)| begin.ends_with("503")).collect();
    assert_eq!(refused.iter().filter(|it| **it).count(), 1, "{watching:?}");
    drop(watching);
    // Those that are gone are noticed when they would be sent something.
    wait_until("there is room again", || watch(web.0).1.ends_with("200"));
}

/// What waits for one that takes nothing is bounded, and it is closed after 15 s of that. All others get their events and
/// answers meanwhile.
#[test]
fn a_reader_of_events_that_stalls_is_closed_and_the_others_are_served() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&[], &[&server]);
    let client = glbd.connect();
    assert!(echoes(&client));
    let start = glbd.descriptors();
    let watch = || {
        let mut stream = connect_to(web.0).expect("it accepts");
        write!(stream, "GET /events HTTP/1.1\r\nHost: {}\r\n\r\n", web.0).expect("it reads");
        let mut begin = [0; 15];
        stream.read_exact(&mut begin).expect("an answer");
        assert_eq!(&begin, b"HTTP/1.1 200 OK");
        stream
    };
    let (stalled, reading) = (watch(), watch());
    let before = glbd.resident_bytes();
    let long = format!("unix:/{}", "x".repeat(90));
    let commands = format!("{long}:2\n{long}:1\n").repeat(200);
    thread::scope(|scope| {
        // It hears of everything up to the end.
        let heard = scope.spawn(|| {
            let (mut lines, mut events) = (BufReader::new(&reading).lines(), 0);
            while !lines.next().expect("an open stream").expect("a line").contains("127.0.0.1:9 added") {
                events += 1;
            }
            events
        });
        wait_until("the one that stalls is let go", || {
            assert!(!glbd.control(&commands).contains("Error"));
            assert_eq!(web.get("/health").status, 200);
            assert!(echoes(&client) && echoes(&glbd.connect()));
            let grown = glbd.resident_bytes().saturating_sub(before);
            assert!(grown < 20_000_000, "{grown} bytes more");
            glbd.descriptors() <= start + 1
        });
        glbd.change("127.0.0.1:9");
        assert!(heard.join().expect("no panic") > 100);
    });
    drop(stalled);
}

#[test]
fn what_is_no_http_is_no_command_either() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&[], &[&server]);
    for text in
        ["getinfo\n", "127.0.0.1:2:1\r\n", "\0\0\0\0", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"]
    {
        let mut stream = connect_to(web.0).expect("it accepts");
        stream.write_all(text.as_bytes()).expect("it reads");
        stream.shutdown(std::net::Shutdown::Write).expect("a half-close");
        let _ = stream.read_to_end(&mut Vec::new());
    }
    assert_eq!(glbd.info().rows.len(), 1);
    assert_eq!(web.get("/health").status, 200);
}

#[test]
fn a_defect_of_the_http_thread_is_logged_and_no_client_notices() {
    if !cfg!(debug_assertions) {
        return;
    }
    let server = Server::echo();
    let web = Web::new();
    let wrapper = ["env", "GLBD_TEST_HTTP_PANIC=1"];
    let glbd = crate::harness::Glbd::builder().wrapped_by(wrapper).arg(web.option()).destinations([&server]).start();
    let client = glbd.connect();
    assert!(echoes(&client));
    wait_until("HTTP is spoken", || web.try_to_ask("GET", "/health", &[], "").is_ok());
    // In a conversation: the others go on.
    assert!(web.try_to_ask("GET", "/panic", &[], "").is_err());
    assert_eq!(web.get("/health").status, 200);
    wait_until("it is logged", || glbd.log().contains("glbd has a defect"));
    // In the thread itself, which is started again.
    web.get("/panic/thread");
    wait_until("the thread goes on", || {
        let _ = web.try_to_ask("GET", "/health", &[], "");
        glbd.log().contains("thread http goes on after a defect")
    });
    wait_until("HTTP is spoken again", || web.try_to_ask("GET", "/health", &[], "").is_ok_and(|it| it.status == 200));
    assert!(echoes(&client));
    assert!(echoes(&glbd.connect()));
}
