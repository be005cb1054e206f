//! Headers that glbd is sent, by proxies in the test's hands.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::{binary, read_exactly, version_1, version_2};
use crate::harness::{
    Daemon, Glbd, PATIENCE, Payload, Server, Stage, connect_from, connect_to, echoes, free_port, read_line,
    said_goodbye, wait_until, was_reset,
};
use crate::services::{Site, at};

const LISTED: [u8; 4] = [127, 0, 0, 1];
const NOT_LISTED: [u8; 4] = [127, 0, 0, 2];

/// A client and what it has connected to, which are nowhere near.
fn far_away() -> (SocketAddr, SocketAddr) {
    ("192.0.2.7:50000".parse().expect("an address"), "198.51.100.1:3306".parse().expect("an address"))
}

fn headers() -> [Vec<u8>; 3] {
    let (client, service) = far_away();
    let six = |text: &str| text.parse().expect("an address");
    [
        version_1(client, service),
        version_2(client, service, b"\x04\0\x02ab"),
        // With padding of 2997 bytes.
        version_2(six("[2001:db8::7]:5"), six("[2001:db8::1]:6"), &[&b"\x04\x0b\xb5"[..], &[7; 2997]].concat()),
    ]
}

/// A stage behind glbd, whose clients from 127.0.0.1 are proxies. It tells the destination who they are in version 1.
fn stage(options: &[&str]) -> Stage {
    Stage::start_with(Glbd::builder().args([&["--accept-proxy", "127.0.0.1,2001:db8::/32"], options].concat()))
}

fn connect(stage: &Stage, from: [u8; 4]) -> TcpStream {
    connect_from(from, stage.glbd.address()).expect("glbd accepts")
}

/// What the destination is told of a client with the addresses of one of [`headers`].
fn told(header: &[u8]) -> &'static [u8] {
    match header.len() {
        3052 => b"PROXY TCP6 2001:db8::7 2001:db8::1 5 6\r\n",
        _ => b"PROXY TCP4 192.0.2.7 198.51.100.1 50000 3306\r\n",
    }
}

#[test]
fn the_header_is_taken_off_and_what_it_says_is_passed_on() {
    for options in [&[][..], &["--send-proxy", "1"]] {
        let stage = stage(options);
        for header in headers() {
            let mut client = connect(&stage, LISTED);
            // In one segment with what follows.
            client.write_all(&[&header[..], b"hello\n"].concat()).expect("an open connection");
            let mut server = stage.accept();
            let first = if options.is_empty() { &b""[..] } else { told(&header) };
            read_exactly(&server, &[first, b"hello\n"].concat());
            server.write_all(b"good morning\n").expect("an open connection");
            assert_eq!(read_line(&client).expect("a line"), "good morning");
            client.write_all(b"more\n").expect("an open connection");
            assert_eq!(read_line(&server).expect("a line"), "more");
        }
    }
}

#[test]
fn a_header_may_come_byte_by_byte_and_the_server_may_speak_first() {
    let stage = stage(&["--send-proxy", "1"]);
    let [one, two, _] = headers();
    for header in [one, two] {
        let mut client = connect(&stage, LISTED);
        client.set_nodelay(true).expect("TCP_NODELAY");
        for byte in &header {
            client.write_all(&[*byte]).expect("an open connection");
            thread::sleep(Duration::from_millis(2));
        }
        let mut server = stage.accept();
        read_exactly(&server, told(&header));
        server.write_all(b"welcome\n").expect("an open connection");
        assert_eq!(read_line(&client).expect("a line"), "welcome");
        drop(server);
        assert!(said_goodbye(&client));
    }
}

#[test]
fn without_addresses_in_it_the_connections_own_are_the_clients() {
    let stage = stage(&["--send-proxy", "1"]);
    for header in [b"PROXY UNKNOWN\r\n".to_vec(), binary(0x20, 0, &[]), binary(0x21, 0x31, &[0; 216])] {
        let mut client = connect(&stage, LISTED);
        client.write_all(&header).expect("an open connection");
        let expected = version_1(client.local_addr().expect("an address"), stage.glbd.address());
        read_exactly(&stage.accept(), &expected);
    }
}

#[test]
fn whoever_is_not_listed_is_not_believed_and_what_it_sends_is_passed_on() {
    let stage = stage(&[]);
    for header in headers() {
        let mut client = connect(&stage, NOT_LISTED);
        client.write_all(&header).expect("an open connection");
        read_exactly(&stage.accept(), &header);
    }
    // It may as well say nothing.
    let client = connect(&stage, NOT_LISTED);
    stage.accept().write_all(b"welcome\n").expect("an open connection");
    assert_eq!(read_line(&client).expect("a line"), "welcome");
}

#[test]
fn the_policy_sees_the_client_and_not_the_proxy() {
    let servers = ["a", "b", "c", "d"].map(Server::named);
    let glbd = Glbd::builder().args(["--source", "--accept-proxy", "127.0.0.0/8"]).destinations(&servers).start();
    let server_of = |number: u8| {
        let mut client = glbd.connect();
        let (_, service) = far_away();
        client.write_all(&version_1(([192, 0, 2, number], 5).into(), service)).expect("an open connection");
        read_line(&client).expect("a name")
    };
    let first: Vec<String> = (0..32).map(server_of).collect();
    let second: Vec<String> = (0..32).map(server_of).collect();
    assert_eq!(first, second);
    assert!(["a", "b", "c", "d"].iter().all(|name| first.iter().any(|it| it == name)), "{first:?}");
}

#[test]
fn the_log_names_the_client_and_how_it_came() {
    let stage = stage(&["--verbose"]);
    let mut client = connect(&stage, LISTED);
    client.write_all(&headers()[0]).expect("an open connection");
    let _server = stage.accept();
    let proxy = client.local_addr().expect("an address");
    stage.glbd.wait_for_log(&format!("client 192.0.2.7:50000: comes through {proxy}"));
    stage.glbd.wait_for_log("client 192.0.2.7:50000: passed on to ");
}

#[test]
fn what_is_no_header_is_reset_and_logged_and_no_destination_hears_of_it() {
    let server = Server::echo();
    for (bytes, ends, words) in [
        (
            b"GET / HTTP/1.0\r\n\r\n".to_vec(),
            false,
            "missing: the connection begins with something else; --accept-proxy",
        ),
        (b"PROXY TCP4 192.0.2.7\r\n".to_vec(), false, "malformed: not a line of version 1"),
        ([&b"PROXY UNKNOWN "[..], &[b'x'; 500]].concat(), false, "too long: version 1 has 107 bytes at most"),
        (binary(0x21, 0x11, &[0; 4081]), false, "too long: more than 4096 bytes"),
        (binary(0x21, 0x11, &[0; 11]), false, "malformed: too short for its addresses"),
        (binary(0x2f, 0x11, &[0; 12]), false, "malformed: with an unknown command"),
        (headers()[0][..20].to_vec(), true, "cut off: the connection ended within it"),
        (headers()[1][..20].to_vec(), true, "cut off: the connection ended within it"),
    ] {
        let glbd = Glbd::builder().args(["--accept-proxy", "127.0.0.1"]).destinations([&server]).start();
        let mut client = connect_from(LISTED, glbd.address()).expect("glbd accepts");
        let proxy = client.local_addr().expect("an address");
        // The reset may be there already.
        client.write_all(&bytes).ok();
        if ends {
            client.shutdown(Shutdown::Write).ok();
        }
        let outcome = client.read(&mut [0]);
        assert!(outcome.as_ref().is_err_and(was_reset), "{}: {outcome:?}", bytes.escape_ascii());
        glbd.wait_for_log(&format!("client {proxy} reset: PROXY header {words}"));
        assert_eq!(glbd.stats().bytes_in, 0);
    }
    assert_eq!(server.accepted(), 0);
}

/// At every byte; and nothing of it is believed or passed on.
#[test]
fn a_header_that_is_cut_is_reset_wherever_that_is() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--accept-proxy", "127.0.0.1"]).destinations([&server]).start();
    let start = glbd.descriptors();
    let [one, two, _] = headers();
    for header in [one, two, b"PROXY UNKNOWN\r\n".to_vec(), binary(0x20, 0, &[])] {
        for length in 1..header.len() {
            let mut client = glbd.connect();
            client.write_all(&header[..length]).expect("an open connection");
            client.shutdown(Shutdown::Write).expect("an open connection");
            let outcome = client.read(&mut [0]);
            assert!(outcome.as_ref().is_err_and(was_reset), "{length} of {}: {outcome:?}", header.escape_ascii());
        }
    }
    wait_until("nothing is left", || glbd.info().total == 0 && glbd.descriptors() == start);
    assert_eq!((server.accepted(), glbd.stats().bytes_in), (0, 0));
}

/// Its time is not counted anew with each byte.
#[test]
fn a_header_that_comes_byte_by_byte_has_no_more_time_than_another() {
    let stage = stage(&[]);
    let mut client = connect(&stage, LISTED);
    let begun = Instant::now();
    let [header, ..] = headers();
    let was_sent = header.iter().take_while(|byte| {
        thread::sleep(Duration::from_millis(200));
        client.write_all(&[**byte]).is_ok() && begun.elapsed() < PATIENCE
    });
    assert!(was_sent.count() < header.len(), "it took longer than a header may");
    stage.glbd.wait_for_log(" reset: PROXY header late: not complete within 3 s");
}

#[test]
fn a_header_that_is_late_is_not_waited_for_and_the_log_is_not_flooded() {
    let stage = stage(&[]);
    let begun = Instant::now();
    let proxies: Vec<TcpStream> = (0..50).map(|_| connect(&stage, LISTED)).collect();
    for (number, mut proxy) in proxies.iter().enumerate() {
        // Some say nothing at all.
        proxy.write_all(&headers()[0][..number % 10]).expect("an open connection");
    }
    for mut proxy in &proxies {
        assert!(proxy.read(&mut [0]).is_err_and(|error| was_reset(&error)));
    }
    let waited = begun.elapsed();
    assert!(waited >= Duration::from_secs(3) && waited < PATIENCE, "{waited:?}");
    stage.glbd.wait_for_log(" reset: PROXY header late: not complete within 3 s");
    assert_eq!(stage.glbd.log().matches("PROXY header").count(), 1);
    // While they waited, nothing went round in circles.
    assert!(stage.glbd.cpu_time() < Duration::from_secs(1), "{:?}", stage.glbd.cpu_time());
    assert_eq!(stage.glbd.stats().open, 0);
}

#[test]
fn a_header_that_came_in_time_counts_although_glbd_was_stopped_meanwhile() {
    let stage = stage(&["--send-proxy", "1"]);
    let mut client = connect(&stage, LISTED);
    thread::sleep(Duration::from_millis(100));
    stage.glbd.signal(Signal::SIGSTOP);
    client.write_all(&headers()[0]).expect("an open connection");
    thread::sleep(Duration::from_millis(3500));
    stage.glbd.signal(Signal::SIGCONT);
    read_exactly(&stage.accept(), told(&headers()[0]));
}

#[test]
fn a_port_check_is_no_trouble() {
    let stage = stage(&[]);
    for _ in 0..10 {
        assert!(said_goodbye(&{
            let client = connect(&stage, LISTED);
            client.shutdown(Shutdown::Write).expect("an open connection");
            client
        }));
    }
    assert!(!stage.glbd.log().contains("PROXY header"), "{}", stage.glbd.log());
}

#[test]
fn a_client_may_end_right_behind_its_header_or_what_follows_it() {
    let stage = stage(&["--send-proxy", "1"]);
    let header = &headers()[0];
    // Without a word, it may be taken for a port check, or be passed on.
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--accept-proxy", "127.0.0.1"]).destinations([&server]).start();
    for stops in [false, true] {
        let mut client = glbd.connect();
        if stops {
            glbd.signal(Signal::SIGSTOP);
        }
        client.write_all(header).expect("an open connection");
        client.shutdown(Shutdown::Write).expect("an open connection");
        glbd.signal(Signal::SIGCONT);
        assert!(said_goodbye(&client));
    }

    let mut client = connect(&stage, LISTED);
    client.write_all(&[header, &b"hello\n"[..]].concat()).expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    let mut server = stage.accept();
    let mut bytes = Vec::new();
    server.read_to_end(&mut bytes).expect("an end");
    assert_eq!(bytes, [told(header), b"hello\n"].concat());
    server.write_all(b"goodbye\n").expect("a connection that is open in this direction");
    drop(server);
    assert_eq!(read_line(&client).expect("a line"), "goodbye");
    assert!(said_goodbye(&client));
}

#[test]
fn a_silent_proxy_keeps_no_other_waiting_where_they_connect_in_turn() {
    let stage = stage(&["--synchronous", "--threads", "1"]);
    let _silent = connect(&stage, LISTED);
    let begun = Instant::now();
    let mut client = connect(&stage, LISTED);
    client.write_all(&[&headers()[0][..], b"hello\n"].concat()).expect("an open connection");
    read_exactly(&stage.accept(), b"hello\n");
    assert!(begun.elapsed() < Duration::from_secs(3));
}

#[test]
fn the_header_is_none_of_the_clients_bytes() {
    let stage = stage(&[]);
    let mut client = connect(&stage, LISTED);
    client.write_all(&headers()[0]).expect("an open connection");
    let server = stage.accept();
    client.write_all(b"hello\n").expect("an open connection");
    read_exactly(&server, b"hello\n");
    drop(server);
    assert!(said_goodbye(&client));
    let stats = stage.glbd.stats();
    assert_eq!((stats.bytes_in, stats.received as usize), (6, 6 + headers()[0].len()));
}

/// With both protocols, and much more than a buffer holds.
#[test]
fn through_two_in_a_row_every_byte_arrives_and_the_last_one_knows_the_client() {
    for [between, last] in [["1", "2"], ["2", "1"]] {
        let stage = Stage::start_with(Glbd::builder().args(["--accept-proxy", "127.0.0.0/8", "--send-proxy", last]));
        let first = Glbd::builder().args(["--send-proxy", between]).destinations([stage.glbd.address()]).start();
        let client = first.connect();
        let (source, service) = (client.local_addr().expect("an address"), first.address());
        let server = stage.accept();
        let header = if last == "1" { version_1(source, service) } else { version_2(source, service, &[]) };
        read_exactly(&server, &header);
        let payload = Payload::new(7, 3_000_000);
        thread::scope(|scope| {
            scope.spawn(|| {
                payload.send(&client).expect("an open connection");
                client.shutdown(Shutdown::Write).expect("an open connection");
            });
            payload.receive_to_end(&server);
        });
        drop(server);
        assert!(said_goodbye(&client));
    }
}

#[test]
fn an_upgrade_goes_on_with_headers_that_have_begun_and_expects_them_of_new_clients() {
    let server = Server::serving(|mut stream| {
        let line = read_line(stream).unwrap_or_default();
        stream.write_all(format!("{line}\n").as_bytes()).ok();
        std::io::copy(&mut &*stream, &mut &*stream).ok();
    });
    let daemon =
        Daemon::started(&["--user", "root", "--accept-proxy", "127.0.0.0/8", "--send-proxy", "1", &server.to_string()]);
    let header = &headers()[0];
    let expected = str::from_utf8(told(header)).expect("text").trim_end_matches('\n');
    let mut long = daemon.connect();
    long.write_all(header).expect("an open connection");
    assert_eq!(read_line(&long).expect("a line"), expected);
    let mut begun = daemon.connect();
    begun.write_all(&header[..10]).expect("an open connection");
    thread::sleep(Duration::from_millis(100));
    daemon.upgrade();
    begun.write_all(&header[10..]).expect("an open connection");
    assert_eq!(read_line(&begun).expect("a line"), expected);
    let mut new = daemon.connect();
    new.write_all(header).expect("an open connection");
    assert_eq!(read_line(&new).expect("a line"), expected);
    assert!([&long, &begun, &new].into_iter().all(echoes));
}

#[test]
fn networks_that_there_are_not_are_refused() {
    for (networks, reason) in [("10.0.0.1/8", "the network is 10.0.0.0/8"), ("lan", "not a network, such as")] {
        let outcome = crate::harness::glbd::run(&["--accept-proxy", networks, "1"]);
        assert_eq!(outcome.status.code(), Some(2), "{outcome:?}");
        assert!(String::from_utf8_lossy(&outcome.stderr).contains(reason), "{outcome:?}");
    }
}

#[test]
fn proxies_that_a_file_comes_to_list_are_believed_from_then_on() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    site.write(&[("a", &[&server], "")], &[("s", port, "send-proxy = 1")]);
    site.start();
    let told_by = |client: &TcpStream| {
        let mut client = client;
        client.write_all(&headers()[0]).expect("an open connection");
        read_line(client).expect("a line")
    };
    let before = connect_to(at(port)).expect("glbd accepts");
    assert!(told_by(&before).starts_with("PROXY TCP4 127.0.0.1 127.0.0.1 "));
    site.write(&[("a", &[&server], "")], &[("s", port, "send-proxy = 1\naccept-proxy = [\"127.0.0.0/8\", \"::1\"]")]);
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    let after = connect_to(at(port)).expect("glbd accepts");
    assert_eq!(told_by(&after).trim_end().as_bytes(), told(&headers()[0]).trim_ascii_end());
    // Those that are connected are what they were.
    assert_eq!(read_line(&before).expect("a line").trim_end().as_bytes(), headers()[0].trim_ascii_end());
}
