//! What answers at the control address may be no daemon, or a broken one: glbctl ends in time, and shows nothing that a
//! terminal would obey.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use super::ctl;
use crate::harness::Server;

/// What `status`, `events` and such are answered by a daemon that says this.
fn saying(answer: impl AsRef<[u8]> + Send + Sync + 'static) -> Server {
    Server::serving(move |mut stream: &TcpStream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(answer.as_ref());
    })
}

#[test]
fn a_daemon_that_says_nothing_or_too_slowly_is_given_up_in_time() {
    let silent = Server::serving(|mut stream| _ = stream.read_to_end(&mut Vec::new()));
    let slow = Server::serving(|mut stream| {
        while stream.write_all(b"{").is_ok() {
            thread::sleep(Duration::from_millis(50));
        }
    });
    let endless = Server::serving(|mut stream| while stream.write_all(&[b' '; 65536]).is_ok() {});
    for (server, name) in [(silent, "silent"), (slow, "slow"), (endless, "endless")] {
        for command in ["status", "drain 10.0.0.1:1", "events --follow", "stats --json"] {
            let begun = Instant::now();
            let outcome = ctl(&server, &format!("{command} --timeout 0.5"));
            assert_eq!(outcome.status, Some(3), "{name}, {command}: {outcome:?}");
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}, {command}");
        }
        assert_eq!(ctl(&server, "health --timeout 0.5").status, Some(2), "{name}");
    }
}

#[test]
fn a_socket_file_nobody_accepts_at_is_given_up_in_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("control");
    let _listener = UnixListener::bind(&path).expect("a socket");
    // Fills its backlog: the next one who connects would wait for ever.
    let clients: Vec<UnixStream> = (0..5000)
        .map_while(|_| {
            let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None).ok()?;
            socket.set_nonblocking(true).ok()?;
            socket.connect(&socket2::SockAddr::unix(&path).ok()?).ok()?;
            Some(UnixStream::from(socket))
        })
        .collect();
    assert!((1..5000).contains(&clients.len()), "{}", clients.len());
    let outcome = ctl(format!("unix:{}", path.display()), "status --timeout 0.5");
    assert!(outcome.refusal(3).ends_with("the daemon has not answered in time\n"), "{outcome:?}");
}

#[test]
fn what_is_no_answer_is_not_taken_for_one() {
    for answer in [
        b"".to_vec(),
        b"{}".to_vec(),
        b"{}\n".to_vec(),
        b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        b"\xff\xfe\nglbd 2.0.0\n".to_vec(),
        b"[1,2\nglbd 2.0.0\n".to_vec(),
        [b"[".repeat(100_000), b"\nglbd 2.0.0\n".to_vec()].concat(),
        b"{\"services\": 7}\nglbd 2.0.0\n".to_vec(),
        b"{\"process\": {\"pid\": -1}}\nglbd 2.0.0\n".to_vec(),
        b"Ok".to_vec(),
        b"maybe\nglbd 2.0.0\n".to_vec(),
    ] {
        let server = saying(answer.clone());
        for command in ["status", "drain 10.0.0.1:1"] {
            let outcome = ctl(&server, command);
            let shown: String = String::from_utf8_lossy(&answer).chars().take(60).collect();
            assert!(outcome.status == Some(3) && outcome.stdout.is_empty(), "{command}: {shown:?}: {outcome:?}");
        }
    }
}

#[test]
fn a_daemon_of_another_version_may_leave_things_out_and_say_more() {
    let server = saying(
        "{\"news\": 1, \"services\": [{\"name\": \"s\", \"weather\": null}], \"pools\": [{\"name\": \"p\", \
         \"destinations\": [{\"address\": \"10.0.0.1:1\", \"verdict\": \"SUNNY\"}]}]}\nglbd 9.0.0\n",
    );
    let outcome = ctl(&server, "status");
    assert!(outcome.text().contains("10.0.0.1:1   SUNNY"), "{outcome:?}");
}

#[test]
fn nothing_that_a_daemon_says_reaches_the_terminal_as_a_command() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\u{0}\r";
    let text = serde_json::to_string(evil).expect("JSON");
    // Some of it stands in JSON as it is.
    let raw = text.replace("\\u001b", "\\u001b\u{9b}");
    let status = format!(
        "{{\"process\":{{\"version\":{raw}}},\"services\":[{{\"name\":{raw},\"pool\":{raw},\"listen\":{raw}}}],\
         \"pools\":[{{\"name\":{raw},\"checks_note\":{raw},\"destinations\":[{{\"address\":{raw},\"weight\":1,\"verdict\":{raw},\
         \"reason\":{raw}}}],\"unresolved\":[{{\"name\":{raw},\"reason\":{raw}}}]}}]}}\nglbd 2.0.0\n"
    );
    let events = format!("{{\"number\":1,\"time\":{raw},\"kind\":{raw},\"text\":{raw}}}\nglbd 2.0.0\n");
    let errors = format!("Error: {evil}\nglbd 2.0.0\n");
    let is_clean = |text: &str| text.chars().all(|c| c == '\n' || !c.is_control() && c != '\u{202e}');
    for (answer, commands) in [
        (status, &["status", "destinations", "stats", "health", "status --json", "health --json"][..]),
        (events, &["events", "events --json"]),
        (errors, &["status", "drain 10.0.0.1:1", "reload", "conns", "health"]),
    ] {
        let server = saying(answer);
        for command in commands {
            let outcome = ctl(&server, command);
            assert!(is_clean(&outcome.stdout) && is_clean(&outcome.stderr), "{command}: {outcome:?}");
            assert!(!outcome.stdout.is_empty() || !outcome.stderr.is_empty(), "{command}: {outcome:?}");
        }
    }
}
