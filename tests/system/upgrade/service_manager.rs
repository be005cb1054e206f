//! What a service manager hears, and the sockets that it opens.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::harness::daemon::{kill_all_with, processes_with};
use crate::harness::glbd::PROGRAM;
use crate::harness::{PATIENCE, Server, connect_to, control, echoes, free_port, wait_until};

/// A glbd in the foreground, and the socket that it tells how far it is.
struct Managed {
    process: Child,
    directory: TempDir,
    socket: UnixDatagram,
    port: u16,
}

impl Managed {
    fn start(destination: &str) -> Self {
        let (directory, port) = (tempfile::tempdir().expect("a directory"), free_port());
        let socket = UnixDatagram::bind(directory.path().join("notify")).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let path = |name: &str| directory.path().join(name).display().to_string();
        let process = Command::new(PROGRAM)
            .args(["--fifo", &path("fifo"), "--pidfile", &path("pid"), &format!("127.0.0.1:{port}"), destination])
            .env("NOTIFY_SOCKET", path("notify"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("glbd starts");
        Self { process, directory, socket, port }
    }

    /// The next messages that have one of these in them, in whatever order they come.
    fn hear<const N: usize>(&self, wanted: [&str; N]) -> [String; N] {
        let (mut heard, mut buffer) = ([(); N].map(|()| None), [0; 4096]);
        while heard.iter().any(Option::is_none) {
            let length = self.socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted:?}: {error}"));
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            for (wanted, heard) in wanted.iter().zip(&mut heard) {
                if heard.is_none() && text.contains(wanted) {
                    *heard = Some(text.clone());
                }
            }
        }
        heard.map(|text| text.expect("all were heard"))
    }

    fn pid(&self) -> String {
        fs::read_to_string(self.directory.path().join("pid")).expect("the pid file").trim().to_owned()
    }
}

impl Drop for Managed {
    fn drop(&mut self) {
        kill_all_with(&self.directory.path().display().to_string());
        self.process.wait().ok();
    }
}

#[test]
fn it_hears_when_the_daemon_serves_and_who_takes_over() {
    let server = Server::echo();
    let managed = Managed::start(&server.to_string());
    let [_, status] = managed.hear(["READY=1", "STATUS="]);
    let client = connect_to(([127, 0, 0, 1], managed.port).into()).expect("a daemon that accepts");
    assert!(echoes(&client));
    let place = format!("127.0.0.1:{}", managed.port);
    assert!(status.starts_with(&format!("STATUS=Serving on {place}: 1 of 1 destinations fit, ")), "{status}");
    for _ in 0..2 {
        let old = managed.pid();
        kill(Pid::from_raw(old.parse().expect("a process id")), Signal::SIGUSR2).expect("it runs");
        let [reloading, ready, status] = managed.hear(["RELOADING=1", "MAINPID=", "STATUS="]);
        assert!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
        assert!(ready.contains("READY=1"), "{ready}");
        wait_until("the pid file follows", || managed.pid() != old);
        assert!(ready.contains(&format!("MAINPID={}\n", managed.pid())), "{ready}");
        assert!(status.trim_end().ends_with(", connections: 1"), "{status}");
        assert!(echoes(&client));
    }
}

#[test]
fn one_that_does_not_listen_holds_nothing_up() {
    let server = Server::echo();
    let managed = Managed::start(&server.to_string());
    managed.hear(["READY=1"]);
    let sender = UnixDatagram::unbound().expect("a socket");
    sender.set_nonblocking(true).expect("a socket");
    while sender.send_to(b"STATUS=full\n", managed.directory.path().join("notify")).is_ok() {}
    let old = managed.pid();
    kill(Pid::from_raw(old.parse().expect("a process id")), Signal::SIGUSR2).expect("it runs");
    wait_until("another process has taken over", || managed.pid() != old);
    kill(Pid::from_raw(managed.pid().parse().expect("a process id")), Signal::SIGTERM).expect("it runs");
    wait_until("all have ended", || processes_with(&managed.directory.path().display().to_string()).is_empty());
}

#[test]
fn sockets_that_it_has_opened_are_served() {
    let server = Server::echo();
    let directory = tempfile::tempdir().expect("a directory");
    let [port, second_port, control_port] = [free_port(), free_port(), free_port()];
    let path = |name: &str| directory.path().join(name).display().to_string();
    let listen = |port: u16| format!("--listen=127.0.0.1:{port}");
    let mut activated = Command::new("systemd-socket-activate")
        .args([&listen(port), &listen(second_port), &listen(control_port)])
        .args(["--fdname=clients:clients:control", PROGRAM])
        // The port is the socket's.
        .args(["-t", "4", "--fifo", &path("fifo"), "--pidfile", &path("pid"), "127.0.0.1:1", &server.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-socket-activate, from Debian's package systemd");
    let [clients, second, control_address] =
        [port, second_port, control_port].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    // It starts with the first client, who waits for it.
    wait_until("somebody listens", || connect_to(clients).is_ok_and(|client| echoes(&client)));
    for _ in 0..20 {
        assert!(echoes(&connect_to(clients).expect("a daemon that accepts")));
        assert!(echoes(&connect_to(second).expect("a daemon that accepts")));
    }
    let ask = |command: &str| control::ask(control_address, command).expect("a control port");
    assert_eq!(ask("version"), "glbd 2.0.0\n");
    // It knows that these are its own.
    let knows_its_own = || {
        for own in [clients, second, control_address] {
            assert!(ask(&format!("{own}:1")).contains("listens there itself"), "{own}");
        }
        // What the command line would have it listen on is not: it does not.
        assert_eq!(ask("127.0.0.1:1:1\n127.0.0.1:1:-1"), "Ok\nOk\n");
    };
    knows_its_own();
    let pid = fs::read_to_string(path("pid")).expect("the pid file");
    kill(Pid::from_raw(pid.trim().parse().expect("a process id")), Signal::SIGUSR2).expect("it runs");
    wait_until("another process has taken over", || fs::read_to_string(path("pid")).is_ok_and(|now| now != pid));
    for listening in [clients, second] {
        assert!(echoes(&connect_to(listening).expect("a daemon that accepts")));
    }
    knows_its_own();
    assert_eq!(ask("version"), "glbd 2.0.0\n");
    kill_all_with(&directory.path().display().to_string());
    activated.wait().expect("a child of this process");
    assert_eq!(processes_with(&directory.path().display().to_string()), []);
}

#[test]
fn sockets_and_the_background_exclude_each_other() {
    let script = format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec '{PROGRAM}' --daemon 8010 3</dev/null");
    let output = Command::new("sh").args(["-c", &script]).output().expect("a shell");
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("leave out --daemon"), "{said}");
}

#[test]
fn what_is_no_listening_socket_is_refused() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name).display().to_string();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
    let local = UnixDatagram::bind(path("socket")).expect("a socket");
    let none = fs::File::open("/dev/null").expect("a file");
    for (what, descriptor) in
        [("a file", none.into()), ("a client", OwnedFd::from(client)), ("no stream", local.into())]
    {
        let fifo = path("fifo");
        let script =
            format!("export LISTEN_PID=$$ LISTEN_FDS=1; exec '{PROGRAM}' --fifo '{fifo}' 8010 3<&0 </dev/null");
        // Killed rather than waited for if it serves.
        let mut command = Command::new("timeout");
        command.args(["--signal=KILL", &PATIENCE.as_secs().to_string(), "sh", "-c", &script]);
        let output = command.stdin(descriptor).output().expect("a shell");
        assert_eq!(output.status.code(), Some(1), "{what}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("glbd: ") && said.lines().count() == 1, "{what}: {said}");
    }
}
