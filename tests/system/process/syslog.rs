//! Where the log goes: to syslog in the background.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{Daemon, Glbd, Launch, PATIENCE, Server, connect_to, free_port, read_line, wait_until};

/// The other end of /dev/log, for a daemon with a /dev of its own.
pub struct Syslog {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Syslog {
    pub fn open() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("log");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        // As everywhere, all users may log.
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("permissions");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).expect("permissions");
        fs::create_dir(directory.path().join("dev")).expect("a directory");
        Self { socket, directory }
    }

    /// Starts the daemon where /dev/log is this.
    pub fn start(&self, daemon: &Daemon, arguments: &[&str]) {
        let dev = self.directory.path().join("dev").display().to_string();
        let script = "mount -t tmpfs tmpfs \"$0\" && touch \"$0/null\" && mount --bind /dev/null \"$0/null\" && \
            ln -s \"$0/../log\" \"$0/log\" && mount --move \"$0\" /dev && exec \"$@\"";
        let script = script.replace("$0/../log", &self.directory.path().join("log").display().to_string());
        let launch = daemon.launch_by(&["unshare", "--mount", "--", "sh", "-c", &script, &dev], arguments);
        assert_eq!(
            launch,
            Launch { status: Some(0), stderr: String::new() },
            "unshare is from Debian's package util-linux"
        );
    }

    /// The next line: its priority, and what follows the time stamp.
    pub fn line(&self) -> (u32, String) {
        const TIME_STAMP: usize = "Jan  1 00:00:00 ".len();
        let mut buffer = [0; 4096];
        let count = self.socket.recv(&mut buffer).expect("a line");
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let (priority, rest) = text.strip_prefix('<').and_then(|it| it.split_once('>')).expect("a priority");
        (priority.parse().expect("a number"), rest[TIME_STAMP..].to_owned())
    }

    /// Reads on to a line that contains `text`.
    pub fn wait_for(&self, text: &str) -> (u32, String) {
        let mut lines = std::iter::repeat_with(|| self.line());
        lines.find(|(_, line)| line.contains(text)).expect("an endless log")
    }
}

/// The facility `daemon` with the severities.
const DAEMON_WARNING: u32 = 3 * 8 + 4;
const DAEMON_INFO: u32 = 3 * 8 + 6;
const DAEMON_DEBUG: u32 = 3 * 8 + 7;

#[test]
fn in_the_background_the_log_goes_to_syslog_under_the_facility_daemon() {
    let syslog = Syslog::open();
    let daemon = Daemon::new();
    syslog.start(&daemon, &["-t", "2", "127.0.0.1:1:0.5"]);
    let pid = daemon.pid();
    let serving =
        format!("glbd[{pid}]: glbd 2.0.0 serving on {}, 1 destination, 2 threads, least connected", daemon.address());
    assert_eq!(syslog.line(), (DAEMON_INFO, serving));
    assert_eq!(daemon.control("127.0.0.1:1:2"), "Ok\n");
    let changed = format!("glbd[{pid}]: destination 127.0.0.1:1 changed from weight 0.5 to 2, by 127.0.0.1:");
    let (priority, line) = syslog.line();
    assert_eq!((priority, &line[..changed.len()]), (DAEMON_INFO, changed.as_str()));
    assert_eq!(daemon.control("127.0.0.1:2\n127.0.0.1:2:-1"), "Ok\nOk\n");
    syslog.wait_for("destination 127.0.0.1:2 added with weight 1");
    syslog.wait_for("destination 127.0.0.1:2 removed");

    // Kept: one that leaves before it is let in costs no destination anything.
    let _client = connect_to(daemon.address()).expect("a daemon that accepts");
    let (priority, line) = syslog.wait_for("127.0.0.1:1 cannot be reached");
    assert_eq!(priority, DAEMON_WARNING, "{line}");

    daemon.signal(Signal::SIGTERM);
    let (priority, line) = syslog.wait_for("stopped");
    assert_eq!((priority, line), (DAEMON_INFO, format!("glbd[{pid}]: stopped")));
}

#[test]
fn the_facility_may_be_another_one() {
    for (facility, number) in [("local3", 19), ("user", 1)] {
        let (syslog, daemon) = (Syslog::open(), Daemon::new());
        syslog.start(&daemon, &["--log", &format!("syslog:{facility}")]);
        assert_eq!(syslog.line().0, number * 8 + 6, "{facility}");
    }
}

/// As in a container.
#[test]
fn where_there_is_no_syslog_the_log_goes_to_a_file_that_may_be_moved_away() {
    let daemon = Daemon::new();
    let (log, old) = (daemon.directory().join("log"), daemon.directory().join("log.1"));
    daemon.start(&["--user", "root", "--log", &log.display().to_string()]);
    let text = |path: &Path| fs::read_to_string(path).unwrap_or_default();
    wait_until("it is written", || text(&log).contains("INFO glbd 2.0.0 serving on "));
    assert_eq!(fs::metadata(&log).expect("the log").permissions().mode() & 0o777, 0o640);
    fs::rename(&log, &old).expect("the log");
    daemon.control("127.0.0.1:2");
    wait_until("it goes on in the old file", || text(&old).contains("127.0.0.1:2 added"));
    daemon.signal(Signal::SIGHUP);
    wait_until("there is a new one", || log.exists());
    daemon.control("127.0.0.1:3");
    wait_until("it goes on in the new file", || text(&log).contains("127.0.0.1:3 added"));
    assert!(!text(&old).contains("127.0.0.1:3 added"));
    // What cannot be opened changes nothing.
    fs::rename(&log, &old).and_then(|()| fs::create_dir(&log)).expect("a directory");
    daemon.signal(Signal::SIGHUP);
    wait_until("that is told", || text(&old).contains("; it goes on in the old file"));
    // A new process goes on in the same place.
    fs::remove_dir(&log).expect("it is empty");
    daemon.upgrade();
    wait_until("it is told", || text(&log).contains("taken over from process"));
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    assert!(text(&log).ends_with(" INFO stopped\n"), "{}", text(&log));
}

#[test]
fn a_log_that_cannot_be_is_told() {
    for (log, status, reason) in [
        ("/no/such/directory/log", 1, "cannot start the log: /no/such/directory/log: No such file"),
        ("/dev/null", 1, "cannot start the log: /dev/null: it is no ordinary file"),
        ("sylog", 2, "neither stderr nor syslog[:FACILITY], nor a path"),
        ("syslog:local8", 2, "there is no facility 'local8'"),
        ("stderr", 2, "--log stderr: in the background there is none"),
    ] {
        let Launch { status: ended, stderr } = Daemon::new().launch(&["--log", log]);
        assert_eq!(ended, Some(status), "{stderr}");
        assert!(stderr.contains(reason), "{stderr}");
    }
}

#[test]
fn what_is_logged_can_be_changed_at_run_time() {
    let (server, glbd) = (Server::named("a"), Glbd::start([""; 0]));
    assert_eq!(glbd.control("loglevel"), "Error: 'loglevel': expected loglevel error|warn|info|debug\n");
    assert_eq!(glbd.control("loglevel all"), "Error: 'loglevel all': expected loglevel error|warn|info|debug\n");
    assert_eq!(glbd.control("LogLevel Warn"), "Ok\n");
    glbd.change(&server);
    assert_eq!(glbd.control("loglevel debug"), "Ok\n");
    glbd.wait_for_log("log level debug, by 127.0.0.1:");
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");
    glbd.wait_for_log("DEBUG ");
    assert!(!glbd.log().contains("added with weight"), "{}", glbd.log());
}

#[test]
fn who_has_changed_something_is_told() {
    let glbd = Glbd::start([""; 0]);
    fs::write(glbd.fifo(), "127.0.0.1:1:1\n").expect("a FIFO");
    glbd.wait_for_log("destination 127.0.0.1:1 added with weight 1, through the FIFO");
    let stream = connect_to(glbd.control_address()).expect("the control port accepts");
    let own = stream.local_addr().expect("an address");
    (&stream).write_all(b"127.0.0.1:1:0\n127.0.0.1:1:-1\n").expect("an open conversation");
    glbd.wait_for_log(&format!("destination 127.0.0.1:1 changed from weight 1 to 0, by {own}"));
    glbd.wait_for_log(&format!("destination 127.0.0.1:1 removed with 0 connections, by {own}"));
}

#[test]
fn a_control_port_that_others_reach_is_told() {
    for (host, is_told) in [("127.0.0.1", false), ("0.0.0.0", true), ("[::]", true), ("[::1]", false)] {
        let control = format!("{host}:{}", free_port());
        let glbd = Glbd::builder().args(["--control", &control]).start();
        glbd.wait_for_log("there are no destinations");
        let told = glbd.log().contains("is open to other machines: who reaches it may change everything");
        assert_eq!(told, is_told, "{host}: {}", glbd.log());
    }
}

#[test]
fn single_connections_are_told_when_asked_for() {
    let server = Server::named("a");
    let (syslog, daemon) = (Syslog::open(), Daemon::new());
    syslog.start(&daemon, &["--verbose", &server.to_string()]);
    let client = connect_to(daemon.address()).expect("a daemon that accepts");
    let (priority, _) = syslog.wait_for(&format!("client {}", client.local_addr().expect("an address")));
    assert_eq!(priority, DAEMON_DEBUG);
}

#[test]
fn a_syslog_that_hangs_holds_up_neither_clients_nor_the_end() {
    let server = Server::named("a");
    let (syslog, daemon) = (Syslog::open(), Daemon::new());
    // Nobody reads what is logged, and the kernel keeps a few lines only.
    syslog.start(&daemon, &["--verbose", &server.to_string()]);
    for _ in 0..200 {
        let client = connect_to(daemon.address()).expect("a daemon that accepts");
        assert_eq!(read_line(&client).expect("a name"), "a");
        assert_eq!(daemon.control("127.0.0.1:1\n127.0.0.1:1:-1"), "Ok\nOk\n");
    }
    let begun = Instant::now();
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    assert!(begun.elapsed() < Duration::from_secs(5), "it took {:?}", begun.elapsed());
}

#[test]
fn a_machine_without_syslog_is_served_as_well() {
    let (nowhere, daemon) = (Syslog::open(), Daemon::new());
    fs::remove_file(nowhere.directory.path().join("log")).expect("the socket");
    nowhere.start(&daemon, &[]);
    assert_eq!(daemon.control("127.0.0.1:1"), "Ok\n");
    daemon.signal(Signal::SIGTERM);
    wait_until("it is gone", || daemon.processes().is_empty());
}
