//! UNIX sockets that clients connect to.

mod lost;

use std::fs;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::User;

use super::{as_stream, directory, unix};
use crate::harness::daemon::kill_all_with;
use crate::harness::glbd::run;
use crate::harness::{Daemon, Glbd, Launch, Server, echoes, wait_until};

/// How curl ends then.
const COULD_NOT_CONNECT: Option<i32> = Some(7);

/// A daemon whose service listens at a UNIX socket in its directory, as a file says.
struct Site {
    daemon: Daemon,
    file: String,
}

impl Site {
    fn new() -> Self {
        let daemon = Daemon::new();
        let file = daemon.directory().join("glbd.toml").display().to_string();
        Self { daemon, file }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.daemon.directory().join(name)
    }

    /// Has the service listen at these, and have these options.
    fn write(&self, server: &Server, listen: &[&str], more: &str) {
        let listen: Vec<String> = listen.iter().map(|name| unix(&self.path(name))).collect();
        let log = self.path("log");
        let text = format!(
            "[process]\nthreads = 2\nuser = \"root\"\nlog = \"{}\"\n[pool.a]\ndestinations = [\"{server}\"]\n\
             [service.s]\nlisten = {listen:?}\n{more}\n",
            log.display()
        );
        fs::write(&self.file, text).expect("a file");
    }

    fn start(&self) {
        self.daemon.start(&["--config", &self.file]);
    }

    fn reload(&self) -> String {
        self.daemon.control("reload")
    }

    fn connect(&self, name: &str) -> TcpStream {
        as_stream(UnixStream::connect(self.path(name)).expect("a daemon that accepts"))
    }

    fn is_there(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path(name)).is_ok()
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").permissions().mode() & 0o7777
}

#[test]
fn the_file_has_the_owner_the_group_and_the_mode_that_are_asked_for() {
    let (site, server) = (Site::new(), Server::echo());
    let nobody = User::from_name("nobody").expect("a database").expect("Debian has it");
    site.write(&server, &["a"], "");
    site.start();
    assert_eq!(mode(&site.path("a")), 0o666);
    site.write(&server, &["a", "b"], "socket-mode = \"0660\"\nsocket-owner = \"nobody\"\nsocket-group = \"daemon\"");
    let answer = site.reload();
    assert!(answer.ends_with("Ok\n"), "{answer}");
    for name in ["a", "b"] {
        let found = fs::metadata(site.path(name)).expect("a file");
        assert!(found.file_type().is_socket());
        assert_eq!((found.uid(), mode(&site.path(name))), (nobody.uid.as_raw(), 0o660), "{name}");
        assert_eq!(found.gid(), 1, "Debian's group daemon");
        assert!(echoes(&site.connect(name)));
    }
    // Who may not write to it may not connect.
    fs::set_permissions(site.daemon.directory(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let connect = |user: &str| {
        let mut command = Command::new("setpriv");
        command.args([
            "--reuid",
            user,
            "--regid",
            "nogroup",
            "--clear-groups",
            "curl",
            "--max-time",
            "5",
            "--unix-socket",
        ]);
        let output = command.arg(site.path("a")).arg("http://glbd/").output();
        output.expect("setpriv and curl, from Debian's packages util-linux and curl").status.code()
    };
    // It is echoed what it asks for, which is no answer.
    assert_ne!(connect("nobody"), COULD_NOT_CONNECT);
    assert_eq!(connect("www-data"), COULD_NOT_CONNECT);
    // A user that there is not is a mistake, and nothing changes.
    site.write(&server, &["a", "b", "c"], "socket-owner = \"no-such\"");
    assert_eq!(
        site.reload(),
        format!("Error: cannot listen on {}: there is no user 'no-such'\n", unix(&site.path("c")))
    );
    assert!(!site.is_there("c") && mode(&site.path("a")) == 0o660);
}

#[test]
fn a_daemon_that_gives_up_its_rights_gives_the_file_to_its_user_and_it_is_gone_at_the_end() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    fs::set_permissions(daemon.directory(), fs::Permissions::from_mode(0o755)).expect("a mode");
    let path = daemon.directory().join("glbd.sock");
    let also = format!("{},{}", daemon.address(), unix(&path));
    let fifo = daemon.directory().join("other.fifo").display().to_string();
    let pidfile = daemon.pidfile().display().to_string();
    let launched = run(&[
        "--daemon",
        "--fifo",
        &fifo,
        "--pidfile",
        &pidfile,
        "--user",
        "nobody",
        "--socket-mode",
        "0600",
        &also,
        &server.to_string(),
    ]);
    assert!(launched.status.success(), "{launched:?}");
    let nobody = User::from_name("nobody").expect("a database").expect("Debian has it");
    let found = fs::metadata(&path).expect("a file");
    assert_eq!((found.uid(), mode(&path)), (nobody.uid.as_raw(), 0o600));
    assert!(echoes(&as_stream(UnixStream::connect(&path).expect("glbd accepts"))));
    daemon.signal(Signal::SIGTERM);
    wait_until("the file is gone", || fs::symlink_metadata(&path).is_err());
}

#[test]
fn what_lies_at_the_path_is_replaced_only_if_it_is_a_socket_at_which_no_process_listens() {
    let (site, server) = (Site::new(), Server::echo());
    fs::write(site.path("file"), "precious").expect("a file");
    let _taken = UnixListener::bind(site.path("taken")).expect("a path");
    for name in ["file", "taken"] {
        site.write(&server, &["a", name], "");
        let told = format!("glbd: cannot listen on {}: Address already in use (os error 98)\n", unix(&site.path(name)));
        assert_eq!(site.daemon.launch(&["--config", &site.file]), Launch { status: Some(1), stderr: told });
        assert!(!site.is_there("a"), "nothing is left behind");
    }
    assert_eq!(fs::read_to_string(site.path("file")).expect("a file"), "precious");
    UnixStream::connect(site.path("taken")).expect("it is as it was");
    drop(UnixListener::bind(site.path("stale")).expect("a path"));
    site.write(&server, &["stale"], "");
    site.start();
    assert!(echoes(&site.connect("stale")));
    // A second one does not take it away, and leaves it there when it ends.
    let second =
        run(&["--fifo", &site.path("fifo2").display().to_string(), &unix(&site.path("stale")), &server.to_string()]);
    assert!(String::from_utf8_lossy(&second.stderr).contains("Address already in use"), "{second:?}");
    assert!(echoes(&site.connect("stale")));
}

#[test]
fn the_file_is_gone_with_the_daemon_and_one_that_was_killed_is_no_obstacle() {
    let (site, server) = (Site::new(), Server::echo());
    site.write(&server, &["a"], "");
    site.start();
    site.daemon.signal(Signal::SIGTERM);
    site.daemon.wait_until_gone();
    assert!(!site.is_there("a"));
    site.start();
    site.daemon.signal(Signal::SIGKILL);
    wait_until("it is dead", || UnixStream::connect(site.path("a")).is_err());
    assert!(site.is_there("a"));
    site.start();
    let session = site.connect("a");
    assert!(echoes(&session));
    // Draining gives it up at once; the connection goes on.
    site.daemon.signal(Signal::SIGUSR1);
    wait_until("it is gone", || !site.is_there("a"));
    assert!(echoes(&session));
    drop(session);
    site.daemon.wait_until_gone();
}

/// A service at the sockets `a` and `b`, with a client at each; and the number of the first one's file.
fn at_two_sockets() -> (Site, Server, [TcpStream; 2], u64) {
    let (site, server) = (Site::new(), Server::echo());
    site.write(&server, &["a", "b"], "");
    site.start();
    let sessions = [site.connect("a"), site.connect("b")];
    assert!(sessions.iter().all(echoes));
    let before = fs::metadata(site.path("a")).expect("a file").ino();
    (site, server, sessions, before)
}

#[test]
fn a_reload_adds_and_removes_sockets_and_nobody_else_notices() {
    let (site, server, sessions, before) = at_two_sockets();
    site.write(&server, &["a", "c"], "");
    let [b, c] = ["b", "c"].map(|name| unix(&site.path(name)));
    assert_eq!(site.reload(), format!("service s: it listens on {c}, no longer on {b}\nOk\n"));
    assert!(!site.is_there("b"));
    assert!(sessions.iter().all(echoes));
    assert!(echoes(&site.connect("a")) && echoes(&site.connect("c")));
    assert_eq!(fs::metadata(site.path("a")).expect("a file").ino(), before);
    // One that cannot be listened at changes nothing, and leaves nothing.
    site.write(&server, &["a", "d", "missing/e"], "");
    let answer = site.reload();
    assert!(answer.contains("missing/e: No such file or directory"), "{answer}");
    assert!(!site.is_there("d") && echoes(&site.connect("c")));
    site.daemon.signal(Signal::SIGTERM);
    site.daemon.wait_until_gone();
    assert!(!site.is_there("a") && !site.is_there("c"));
}

#[test]
fn an_upgrade_keeps_the_socket_and_its_clients_and_follows_the_file() {
    let (site, server, sessions, before) = at_two_sockets();
    for _ in 0..2 {
        site.daemon.upgrade();
        assert!(sessions.iter().all(echoes) && echoes(&site.connect("a")));
    }
    assert_eq!(fs::metadata(site.path("a")).expect("a file").ino(), before);
    site.write(&server, &["a", "c"], "socket-mode = \"0600\"");
    site.daemon.upgrade();
    wait_until("what is left is gone", || !site.is_there("b"));
    assert!(echoes(&site.connect("a")) && echoes(&site.connect("c")));
    assert_eq!((mode(&site.path("a")), mode(&site.path("c"))), (0o600, 0o600));
    assert!(sessions.iter().all(echoes));
    // A process that cannot take over takes nothing away.
    site.write(&server, &["a", "d", "missing/e"], "");
    site.daemon.signal(Signal::SIGUSR2);
    wait_until("it was tried", || fs::read_to_string(site.path("log")).is_ok_and(|log| log.contains("not upgraded")));
    assert!(echoes(&site.connect("a")) && echoes(&site.connect("c")) && !site.is_there("d"));
    site.daemon.signal(Signal::SIGTERM);
    wait_until("all are gone", || !site.is_there("a") && !site.is_there("c"));
}

#[test]
fn no_client_is_refused_while_processes_take_over() {
    let (site, server) = (Site::new(), Server::echo());
    site.write(&server, &["a"], "");
    site.start();
    let over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let mut count = 0;
                    while !over.load(std::sync::atomic::Ordering::Relaxed) {
                        assert!(echoes(&site.connect("a")));
                        count += 1;
                    }
                    count
                })
            })
            .collect();
        (0..5).for_each(|_| site.daemon.upgrade());
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(clients.into_iter().all(|it| it.join().expect("no client is refused") > 0));
    });
}

#[test]
fn an_abstract_name_can_be_listened_at() {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("glbd-test-listening-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).expect("a short name");
    let server = Server::echo();
    let glbd = Glbd::builder().listen_also_on(format!("unix:@{name}")).destinations([&server]).start();
    assert!(echoes(&as_stream(UnixStream::connect_addr(&address).expect("glbd accepts"))));
    drop(glbd);
    let gone = UnixStream::connect_addr(&address).expect_err("nobody listens");
    assert_eq!(gone.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn what_makes_no_sense_of_the_files_of_sockets_is_told() {
    for (words, told) in [
        (
            &["--socket-mode", "0660", "8010"][..],
            "--socket-mode is for the files of UNIX sockets: the service listens at no unix:PATH",
        ),
        (
            &["--socket-owner", "root", "unix:@name"],
            "--socket-owner is for the files of UNIX sockets: the service listens at no unix:PATH",
        ),
        (&["--socket-mode", "999", "unix:/run/a"], "not a mode, such as 0660"),
        (&["unix:/run/a,unix:/run/a"], "unix:/run/a is given twice"),
        (&["unix:/run/a", "10.0.0.1"], "lacks a port, and the service listens at none: write '10.0.0.1:PORT'"),
    ] {
        let output = run(&[&["--check"], words].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(told), "{words:?}: {said}");
    }
    let printed = run(&["--print-config", "--socket-mode", "0660", "unix:/run/a,8010", "10.0.0.1"]).stdout;
    let printed = String::from_utf8_lossy(&printed);
    assert!(
        printed.contains("listen = [\"unix:/run/a\", \"8010\"]") && printed.contains("socket-mode = \"0660\""),
        "{printed}"
    );
}

/// `ListenStream=` of a path: the file is the service manager's.
#[test]
fn a_service_managers_socket_is_served_and_its_file_stays() {
    let (directory, server) = (directory(), Server::echo());
    let path = directory.path().join("glbd.sock");
    let fifo = directory.path().join("fifo").display().to_string();
    let mut activated = Command::new("systemd-socket-activate")
        .arg("--listen")
        .arg(&path)
        .arg(crate::harness::glbd::PROGRAM)
        .args(["--fifo", &fifo, "8010", &server.to_string()])
        .spawn()
        .expect("systemd-socket-activate, from Debian's package systemd");
    wait_until("it listens", || UnixStream::connect(&path).is_ok());
    let client = as_stream(UnixStream::connect(&path).expect("it listens"));
    assert!(echoes(&client));
    let pid = nix::unistd::Pid::from_raw(i32::try_from(activated.id()).expect("a process id"));
    kill(pid, Signal::SIGTERM).expect("it runs");
    activated.wait().expect("its end");
    assert!(path.exists());
    kill_all_with(&fifo);
}
