//! Clients that connect to a UNIX socket of the daemon's.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::programs::Program;
use super::{UnixServer, as_stream, directory, unix};
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{
    Builder, Glbd, Payload, Server, connect_to, echoes, names_of, read_line, said_goodbye, wait_until,
};

const BULK: usize = 10_000_000;

/// A glbd that listens at a UNIX socket as well.
struct Site {
    glbd: Glbd,
    path: PathBuf,
    _directory: TempDir,
}

impl Site {
    fn start(builder: Builder) -> Self {
        let directory = directory();
        let path = directory.path().join("glbd.sock");
        Self { glbd: builder.listen_also_on(unix(&path)).start(), path, _directory: directory }
    }

    fn connect(&self) -> TcpStream {
        as_stream(UnixStream::connect(&self.path).expect("glbd accepts"))
    }
}

#[test]
fn ends_go_through_to_and_from_a_client_at_a_unix_socket_one_way_at_a_time() {
    let server = Server::serving(|mut stream| {
        let mut request = String::new();
        if stream.read_to_string(&mut request).is_ok() {
            stream.write_all(format!("{request} was heard\n").as_bytes()).ok();
        }
    });
    let site = Site::start(Glbd::builder().destinations([&server]));
    let mut client = site.connect();
    client.write_all(b"a request").expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    assert_eq!(read_line(&client).expect("an answer"), "a request was heard");
    assert!(said_goodbye(&client));
    wait_until("nothing is left", || site.glbd.info().total == 0);
}

#[test]
fn above_the_limit_clients_wait_in_the_sockets_backlog_and_are_served_when_there_is_room() {
    let server = Server::echo();
    for options in [["--service-max-connections", "2"], ["--max_conn", "2"]] {
        let site = Site::start(Glbd::builder().args(["-t", "3"]).args(options).destinations([&server]));
        let mut first = vec![site.connect(), site.connect()];
        assert!(first.iter().all(echoes));
        let waiting: Vec<_> = (0..5).map(|_| site.connect()).collect();
        waiting.iter().for_each(|mut it| it.write_all(b"still there?\n").expect("room in the kernel"));
        site.glbd.wait_for_log("new clients wait in the backlog");
        for next in &waiting {
            drop(first.remove(0));
            assert_eq!(read_line(next).expect("it is served"), "still there?");
            first.push(next.try_clone().expect("a descriptor"));
            next.shutdown(Shutdown::Write).expect("an open connection");
        }
    }
}

#[test]
fn with_source_they_go_where_clients_of_127_0_0_1_go() {
    let servers = ["a", "b", "c"].map(Server::named);
    let site = Site::start(Glbd::builder().arg("--source").destinations(&servers));
    let expected = read_line(&site.glbd.connect()).expect("a name");
    assert!((0..10).all(|_| read_line(&site.connect()).is_ok_and(|name| name == expected)));
}

/// Both connect to the daemon by its socket, and say who their client is.
#[test]
fn nginx_and_haproxy_in_front_reach_it_by_its_socket_and_name_their_clients() {
    let server = Server::echo();
    let site =
        Site::start(Glbd::builder().args(["--accept-proxy", "127.0.0.1", "--send-proxy", "1"]).destinations([&server]));
    let path = site.path.display();
    let fronts = [
        Program::haproxy(&format!("listen l\n bind unix@DIR/socket\n bind ADDRESS\n server s unix@{path} send-proxy")),
        Program::haproxy(&format!(
            "listen l\n bind unix@DIR/socket\n bind ADDRESS\n server s unix@{path} send-proxy-v2"
        )),
        Program::nginx_stream(&format!(
            "listen unix:DIR/socket; listen ADDRESS; proxy_protocol on; proxy_pass unix:{path};"
        )),
    ];
    for front in fronts {
        let mut client = connect_to(front.address()).expect("it listens");
        client.write_all(b"hello\n").expect("an open connection");
        let (from, to) = (client.local_addr().expect("an address"), front.address());
        let expected = format!("PROXY TCP4 127.0.0.1 127.0.0.1 {} {}\r", from.port(), to.port());
        assert_eq!(read_line(&client).expect("a line"), expected);
        assert_eq!(read_line(&client).expect("a line"), "hello");
    }
}

#[test]
fn an_interface_means_nothing_to_a_unix_socket() {
    let server = Server::echo();
    let site = Site::start(Glbd::builder().args(["--interface", "lo"]).destinations([&server]));
    assert!(echoes(&site.connect()));
    assert!(echoes(&site.glbd.connect()));
}

#[test]
fn clients_of_a_unix_socket_and_of_a_port_are_served_side_by_side_by_all_workers() {
    let (directory, server) = (directory(), Server::echo());
    let path = directory.path().join("glbd.sock");
    let glbd = Glbd::builder().args(["-t", "4"]).listen_also_on(unix(&path)).destinations([&server]).start();
    glbd.wait_for_log(&format!("serving on {}, {}, 1 destination, 4 threads", glbd.address(), unix(&path)));
    let connect = || as_stream(UnixStream::connect(&path).expect("glbd accepts"));
    thread::scope(|scope| {
        for seed in 0..8 {
            scope.spawn(move || {
                let (client, payload) = (connect(), Payload::new(seed, BULK));
                thread::scope(|scope| {
                    scope.spawn(|| payload.send(&client).expect("an open connection"));
                    payload.receive(&client);
                });
                client.shutdown(std::net::Shutdown::Write).expect("an open connection");
                assert!(said_goodbye(&client));
            });
        }
    });
    assert!(echoes(&glbd.connect()));
    let clients: Vec<_> = (0..200).map(|_| connect()).collect();
    assert!(clients.iter().all(echoes));
    assert_eq!(glbd.info().total, 200);
    drop(clients);
    wait_until("all of them have left", || glbd.info().total == 0);
}

#[test]
fn from_a_unix_socket_to_a_unix_socket_goes_a_connection_as_well() {
    let directory = directory();
    let server = UnixServer::named(directory.path().join("server"), "there");
    let path = directory.path().join("glbd.sock");
    let glbd = Glbd::builder().listen_also_on(unix(&path)).destinations([&server]).start();
    let client = as_stream(UnixStream::connect(&path).expect("glbd accepts"));
    assert_eq!(names_of(std::slice::from_ref(&client)), ["there"]);
    assert!(echoes(&client));
    assert_eq!(
        glbd.control(&format!("{}:1", unix(&path))),
        format!("Error: {}: this daemon listens there itself\n", unix(&path))
    );
}

/// They have no address, and count as 127.0.0.1.
#[test]
fn clients_of_a_unix_socket_are_limited_as_those_of_127_0_0_1() {
    let directory = directory();
    let path = directory.path().join("glbd.sock");
    let connect = || as_stream(UnixStream::connect(&path).expect("glbd listens"));
    for (options, is_served) in
        [(["--allow", "127.0.0.1"], true), (["--allow", "10.0.0.0/8"], false), (["--deny", "127.0.0.0/8"], false)]
    {
        let server = Server::echo();
        let glbd = Glbd::builder().args(options).listen_also_on(unix(&path)).destinations([&server]).start();
        assert_eq!(echoes(&connect()), is_served, "{options:?}");
        if !is_served {
            glbd.wait_for_log(&format!("client {} reset: service main does not allow its address", unix(&path)));
        }
    }
    let server = Server::echo();
    let glbd = Glbd::builder()
        .args(["--max-connections-per-source", "2"])
        .listen_also_on(unix(&path))
        .destinations([&server])
        .start();
    let first = [connect(), glbd.connect()];
    assert!(first.iter().all(echoes));
    assert!(!echoes(&connect()));
    // It may be reset in the moment in which it has connected.
    assert!(!glbd.try_connect().is_ok_and(|client| echoes(&client)));
    drop(first);
    wait_until("there is room", || echoes(&connect()));
}

#[test]
fn clients_of_a_unix_socket_are_listed_and_kicked_by_the_name_that_they_are_shown_with() {
    let (server, directory) = (Server::echo(), directory());
    let site = Site::start(Glbd::builder().destinations([&server]));
    let other = directory.path().join("other.sock");
    let glbd = &site.glbd;
    let [by_socket, also_by_socket, by_port] = [site.connect(), site.connect(), glbd.connect()];
    assert!([&by_socket, &also_by_socket, &by_port].into_iter().all(echoes));
    let shown = glbd.control("getclients");
    let rows: Vec<&str> = shown.lines().map(|line| line.split(' ').next().expect("a name")).collect();
    let name = unix(&site.path);
    assert_eq!(rows, ["client", &name, "127.0.0.1", "Clients:"], "{shown}");
    let count = |client: &str| glbd.control(&format!("getconns client={client} json")).lines().count();
    assert_eq!((count(&name), count("127.0.0.1"), count(&unix(&other))), (2, 1, 0));
    assert_eq!(glbd.control(&format!("kick client={}", unix(&other))), "0 connections closed\nOk\n");
    assert_eq!(glbd.control(&format!("kick client={name}")), "2 connections closed\nOk\n");
    assert!(said_goodbye(&by_socket) && said_goodbye(&also_by_socket));
    assert!(echoes(&by_port));
    let by_socket = site.connect();
    assert!(echoes(&by_socket));
    assert_eq!(glbd.control("kick client=127.0.0.1"), "1 connection closed\nOk\n");
    assert!(echoes(&by_socket), "it is another client");
}

#[test]
fn the_header_says_that_nothing_is_known_of_a_client_of_a_unix_socket() {
    let directory = directory();
    let path = directory.path().join("glbd.sock");
    for (version, expected) in
        [("1", &b"PROXY UNKNOWN\r\nhello\n"[..]), ("2", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0hello\n")]
    {
        let server = Server::echo();
        let glbd =
            Glbd::builder().args(["--send-proxy", version]).listen_also_on(unix(&path)).destinations([&server]).start();
        let mut client = as_stream(UnixStream::connect(&path).expect("glbd accepts"));
        client.write_all(b"hello\n").expect("an open connection");
        let mut said = vec![0; expected.len()];
        client.read_exact(&mut said).expect("the server's echo");
        assert_eq!(said, expected, "version {version}");
        drop(glbd);
    }
}

/// As HAProxy does. What the daemon adds is the same as for others, a name of the connection and a checksum.
#[test]
fn the_header_of_a_client_of_a_unix_socket_has_the_extras_that_are_asked_for() {
    let directory = directory();
    let path = directory.path().join("glbd.sock");
    let (server, checking) = (Server::echo(), Server::echo());
    let options = ["--send-proxy=2", "--proxy-v2-options=unique-id,crc32c"];
    // Another one checks the checksum, and takes the header off.
    let next = Glbd::builder().args(["--accept-proxy=127.0.0.1"]).destinations([&checking]).start();
    for (destination, is_checked) in [(server.to_string(), false), (next.address().to_string(), true)] {
        let glbd = Glbd::builder().args(options).listen_also_on(unix(&path)).destinations([destination]).start();
        let mut client = as_stream(UnixStream::connect(&path).expect("glbd accepts"));
        client.write_all(b"hello\n").expect("an open connection");
        if is_checked {
            assert_eq!(read_line(&client).expect("a line"), "hello");
        } else {
            let mut said = [0; 16 + 7 + 35 + 6];
            client.read_exact(&mut said).expect("the server's echo");
            assert_eq!(&said[..16], b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\x2a");
            assert_eq!((&said[16..19], &said[23..26]), (&b"\x03\0\x04"[..], &b"\x05\0\x20"[..]));
            assert!(said[26..58].iter().all(u8::is_ascii_hexdigit) && said[58..] == *b"hello\n", "{said:?}");
        }
        drop(glbd);
    }
}

#[test]
fn a_header_from_a_unix_socket_is_believed_where_one_from_127_0_0_1_is() {
    let directory = directory();
    let path = directory.path().join("glbd.sock");
    let server = Server::echo();
    let glbd = Glbd::builder()
        .args(["--accept-proxy", "127.0.0.1", "--send-proxy", "1"])
        .listen_also_on(unix(&path))
        .destinations([&server])
        .start();
    let mut client = as_stream(UnixStream::connect(&path).expect("glbd accepts"));
    let header = "PROXY TCP4 192.0.2.7 192.0.2.8 7 8\r\n";
    client.write_all(format!("{header}hello\n").as_bytes()).expect("an open connection");
    assert_eq!(read_line(&client).expect("a line"), header.trim_end_matches('\n'));
    assert_eq!(read_line(&client).expect("a line"), "hello");
    // HAProxy's and nginx' own checks, and clients that have no address themselves.
    let mut client = as_stream(UnixStream::connect(&path).expect("glbd accepts"));
    client.write_all(b"PROXY UNKNOWN\r\nhello\n").expect("an open connection");
    assert_eq!(read_line(&client).expect("a line"), "PROXY UNKNOWN\r");
    drop(glbd);
}

#[test]
fn programs_reach_a_database_and_a_web_server_by_the_daemons_socket() {
    let directory = directory();
    let path = directory.path().join("glbd.sock");
    let server = DatabaseServer::start(&["--proxy-protocol-networks=127.0.0.1"]);
    for options in [&[][..], &["--send-proxy", "1"], &["--send-proxy", "2"]] {
        let _glbd = Glbd::builder()
            .args(options)
            .args(["--greeting", "mysql"])
            .listen_also_on(unix(&path))
            .destinations([&server])
            .start();
        let asked = Command::new("mariadb")
            .args(["--no-defaults", "--user=root", "--batch", "--skip-column-names", "--execute=SELECT 6 * 7"])
            .arg(format!("--socket={}", path.display()))
            .output()
            .expect("mariadb, from Debian's package mariadb-client");
        assert_eq!(String::from_utf8_lossy(&asked.stdout), "42\n", "{options:?}: {asked:?}");
    }
    let page = Server::serving(|mut stream| {
        let mut request = [0; 1024];
        if stream.read(&mut request).is_ok_and(|count| count > 0) {
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes").ok();
        }
    });
    let _glbd = Glbd::builder().listen_also_on(unix(&path)).destinations([&page]).start();
    let asked = Command::new("curl").args(["-sS", "--unix-socket"]).arg(&path).arg("http://glbd/").output();
    let asked = asked.expect("curl, from Debian's package curl");
    assert_eq!(String::from_utf8_lossy(&asked.stdout), "yes", "{asked:?}");
}

#[test]
fn a_client_that_is_cut_off_sees_an_end_since_its_socket_knows_no_reset() {
    let directory = directory();
    let path = directory.path().join("glbd.sock");
    let server = Server::echo();
    let glbd = Glbd::builder().listen_also_on(unix(&path)).destinations([&server]).start();
    let client = as_stream(UnixStream::connect(&path).expect("glbd accepts"));
    assert!(echoes(&client));
    glbd.change(server.weighted(-1.0));
    assert!(said_goodbye(&client));
    wait_until("nothing is left", || glbd.stats().open == 0);
    // A client that leaves something unread resets its server.
    let connected = connect_to(glbd.address()).map(|client| said_goodbye(&client));
    assert!(connected.is_ok_and(|clean| clean), "nothing serves it");
}
