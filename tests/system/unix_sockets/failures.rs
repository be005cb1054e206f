//! UNIX sockets that nothing can be connected to: clients go on to others, and the log says why.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::{UnixServer, directory, unix};
use crate::harness::glbd::run;
use crate::harness::{Glbd, Server, connect_to, echoes, names_of, read_line, wait_until};

#[test]
fn a_socket_that_cannot_be_connected_to_is_passed_over_and_its_reason_is_logged() {
    let directory = directory();
    let path = |name: &str| directory.path().join(name);
    File::create(path("file")).expect("a file");
    drop(UnixListener::bind(path("stale")).expect("a path"));
    let _datagrams = UnixDatagram::bind(path("datagrams")).expect("a path");
    for (name, reason) in [
        ("missing", "No such file or directory (os error 2)"),
        ("file", "Connection refused (os error 111)"),
        ("stale", "Connection refused (os error 111)"),
        ("datagrams", "Protocol wrong type for socket (os error 91)"),
        ("file/below", "Not a directory (os error 20)"),
    ] {
        let other = Server::named("other");
        let glbd = Glbd::builder().arg("--round").destinations([unix(&path(name)), other.to_string()]).start();
        let clients: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
        assert_eq!(names_of(&clients), ["other"; 4]);
        glbd.wait_for_log(&format!("destination {} cannot be reached: {reason}", unix(&path(name))));
    }
}

#[test]
fn a_socket_that_the_daemons_user_may_not_use_is_passed_over() {
    let directory = directory();
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("a mode");
    let path = directory.path().join("server");
    let server = UnixServer::named(&path, "unix");
    let other = Server::named("other");
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("a mode");
    let fifo = directory.path().join("fifo").display().to_string();
    let glbd = Glbd::builder()
        .args(["--user", "nobody", "--round", "--fifo", &fifo])
        .destinations([server.to_string(), other.to_string()])
        .start();
    let clients: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&clients), ["other"; 4]);
    glbd.wait_for_log(&format!("destination {server} cannot be reached: Permission denied (os error 13)"));
    fs::set_permissions(&path, Permissions::from_mode(0o666)).expect("a mode");
    wait_until("it is tried again", || read_line(&glbd.connect()).is_ok_and(|name| name == "unix"));
    glbd.wait_for_log(&format!("destination {server} can be reached again"));
}

#[test]
fn a_server_that_starts_again_at_its_path_gets_clients_again() {
    let directory = directory();
    let path = directory.path().join("server");
    let server = UnixServer::echo(&path);
    let glbd = Glbd::start([&server]);
    assert!(echoes(&glbd.connect()));
    drop(server);
    fs::remove_file(&path).expect("a socket");
    wait_until("no client is served", || !echoes(&glbd.connect()));
    let _server = UnixServer::echo(&path);
    wait_until("clients are served", || echoes(&glbd.connect()));
}

/// A listening socket whose backlog is full until it accepts.
fn crowded(path: &std::path::Path) -> (Socket, Vec<UnixStream>) {
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).expect("a socket");
    listener.bind(&SockAddr::unix(path).expect("a path")).expect("a path");
    listener.listen(0).expect("listen");
    // One more than the backlog says.
    (listener, vec![UnixStream::connect(path).expect("room for one")])
}

#[test]
fn while_a_backlog_is_full_clients_wait_for_it_and_are_served_once_there_is_room() {
    let directory = directory();
    let path = directory.path().join("server");
    let (listener, _queue) = crowded(&path);
    let glbd = Glbd::start([unix(&path)]);
    let before = glbd.descriptors();
    let clients: Vec<_> = (0..20).map(|_| glbd.connect()).collect();
    wait_until("all of them are let in", || glbd.descriptors() >= before + 20);
    assert!(!glbd.log().contains("cannot be reached"), "{}", glbd.log());
    thread::spawn(move || {
        while let Ok((socket, _)) = listener.accept() {
            thread::spawn(move || crate::harness::servers::echo(&std::net::TcpStream::from(socket)));
        }
    });
    assert!(clients.iter().all(echoes));
    assert!(!glbd.log().contains("cannot be reached"), "{}", glbd.log());
    assert_eq!(glbd.info().row(unix(&path)).conns, 20);
}

#[test]
fn a_backlog_that_stays_full_for_the_connect_timeout_is_a_failed_connect() {
    let directory = directory();
    let path = directory.path().join("server");
    let (_listener, _queue) = crowded(&path);
    let other = Server::named("other");
    let glbd = Glbd::builder()
        .args(["--single", "--connect-timeout", "0.5"])
        .destinations([format!("{}:2", unix(&path)), other.to_string()])
        .start();
    let since = Instant::now();
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "other");
    assert!(since.elapsed() >= Duration::from_millis(500), "{:?}", since.elapsed());
    glbd.wait_for_log("cannot be reached: its backlog has been full for 0.5 s");
}

#[test]
fn what_is_no_path_is_refused_wherever_it_is_said() {
    let long = format!("unix:/{}", "p".repeat(107));
    for (text, reason) in [
        ("unix:run/server", "the path of a UNIX socket must be absolute, or '@' and a name"),
        ("unix:./server", "the path of a UNIX socket must be absolute, or '@' and a name"),
        ("unix@/run/server", "a UNIX socket is unix:/run/server"),
        ("unix:/run/$(id)", "the path of a UNIX socket has only letters, digits and /._-+=@% in it"),
        (long.as_str(), "the path of a UNIX socket has at most 107 bytes"),
        ("unix:/run/server:many", "'many' is not a weight (a finite number)"),
    ] {
        let output = run(&["8010", text]);
        assert!(!output.status.success(), "{text}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(text) && said.contains(reason), "{text}: {said}");
    }
    let glbd = Glbd::start([""; 0]);
    for (line, answer) in [
        (
            "unix:run/server:1",
            "Error: 'unix:run/server:1': the path of a UNIX socket must be absolute, or '@' and a name\n",
        ),
        ("unix:/run/a b:1", "Error: 'unix:/run/a b:1': 'b:1' is not a weight (a finite number)\n"),
        (
            "unix:/run/a,b:1",
            "Error: 'unix:/run/a,b:1': the path of a UNIX socket has only letters, digits and /._-+=@% in it\n",
        ),
    ] {
        assert_eq!(glbd.control(line), answer);
    }
    assert_eq!(glbd.info().rows, []);
    drop(connect_to(glbd.address()));
}
