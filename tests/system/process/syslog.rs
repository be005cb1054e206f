//! Where the log goes: to syslog in the background.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{Daemon, Launch, PATIENCE, Server, connect_to, read_line, wait_until};

/// The other end of /dev/log, for a daemon with a /dev of its own.
struct Syslog {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Syslog {
    fn open() -> Self {
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
    fn start(&self, daemon: &Daemon, arguments: &[&str]) {
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
    fn line(&self) -> (u32, String) {
        const TIME_STAMP: usize = "Jan  1 00:00:00 ".len();
        let mut buffer = [0; 4096];
        let count = self.socket.recv(&mut buffer).expect("a line");
        let text = String::from_utf8_lossy(&buffer[..count]).into_owned();
        let (priority, rest) = text.strip_prefix('<').and_then(|it| it.split_once('>')).expect("a priority");
        (priority.parse().expect("a number"), rest[TIME_STAMP..].to_owned())
    }

    /// Reads on to a line that contains `text`.
    fn wait_for(&self, text: &str) -> (u32, String) {
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
        format!("glbd[{pid}]: glbd 2.0.0 serving on {}, 1 destinations, 2 threads, least connected", daemon.address());
    assert_eq!(syslog.line(), (DAEMON_INFO, serving));
    assert_eq!(daemon.control("127.0.0.1:1:2"), "Ok\n");
    let changed = format!("glbd[{pid}]: destination 127.0.0.1:1 changed from weight 0.5 to 2");
    assert_eq!(syslog.line(), (DAEMON_INFO, changed));
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
