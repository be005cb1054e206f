//! Several control addresses, some of which are socket files, and some of which only answer.

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use nix::unistd::{Group, User};

use super::http::ATTACK;
use crate::harness::control::{ask, ask_at};
use crate::harness::daemon::has_ended;
use crate::harness::glbd::PROGRAM;
use crate::harness::{Daemon, Glbd, Info, PATIENCE, Server, copy_program, echoes, free_port, wait_until};
use crate::services::Site;

/// A directory that others may enter, and a socket file in it.
fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("a directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("our own directory");
    let path = directory.path().join("control");
    (directory, path)
}

fn at(path: &Path, options: &str) -> String {
    format!("--control=unix:{}{options}", path.display())
}

fn get(path: &Path, commands: &str) -> String {
    ask_at(path, commands).unwrap_or_else(|error| panic!("no answer to {commands:?}: {error}"))
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("a file").mode() & 0o7777
}

#[test]
fn each_of_several_addresses_answers_and_says_in_the_log_who_has_changed_what() {
    let (_directory, path) = place();
    let second = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let glbd = Glbd::builder().args([at(&path, ""), format!("--control={second}")]).start();
    assert_eq!(get(&path, "127.0.0.1:1:2"), "Ok\n");
    assert_eq!(ask(second, "127.0.0.1:2:3").expect("an answer"), "Ok\n");
    assert_eq!(glbd.control("127.0.0.1:3:4"), "Ok\n");
    for answer in [get(&path, "getinfo"), ask(second, "getinfo").expect("an answer"), glbd.control("getinfo")] {
        assert_eq!(Info::parse(&answer).rows.len(), 3);
    }
    let own = format!("uid {}, process {}", nix::unistd::geteuid(), std::process::id());
    glbd.wait_for_log(&format!("destination 127.0.0.1:1 added with weight 2, by {own}"));
    // None of them may be balanced to.
    assert!(glbd.control(&format!("{second}:1")).contains("listens there itself"));
}

#[test]
fn a_file_is_its_owners_unless_another_mode_is_asked_for() {
    let (_directory, path) = place();
    let user = User::from_name("nobody").expect("the users").expect("a user of every Debian");
    let group = Group::from_name("tty").expect("the groups").expect("a group of every Debian");
    for (options, expected) in [
        ("", (0, 0, 0o600)),
        (",mode=0666", (0, 0, 0o666)),
        (",owner=nobody,mode=600", (user.uid.as_raw(), 0, 0o600)),
        (",group=tty,mode=0660", (0, group.gid.as_raw(), 0o660)),
    ] {
        let _glbd = Glbd::builder().arg(at(&path, options)).start();
        let found = fs::metadata(&path).expect("a file");
        assert!(found.file_type().is_socket());
        assert_eq!((found.uid(), found.gid(), mode(&path)), expected, "{options}");
        let by = |user: &str, group: &str| {
            let mut socat = Command::new("setpriv");
            socat.args([&format!("--reuid={user}"), &format!("--regid={group}"), "--clear-groups", "--"]);
            socat.args(["socat", "-t5", "-", &format!("UNIX-CONNECT:{}", path.display())]);
            run(&mut socat, "version\n").1 == "glbd 2.0.0\n"
        };
        assert!(by("root", "root"), "{options}");
        assert_eq!(by("nobody", "nogroup"), options.contains("0666") || options.contains("nobody"), "{options}");
        assert_eq!(by("nobody", "tty"), !options.is_empty(), "{options}");
    }
}

/// Runs a command with this input, and returns its status and its output.
fn run(command: &mut Command, input: &str) -> (Option<i32>, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    // It may have ended without having read.
    process.stdin.take().expect("a pipe").write_all(input.as_bytes()).ok();
    let mut output = String::new();
    process.stdout.take().expect("a pipe").read_to_string(&mut output).expect("text");
    (process.wait().expect("its end").code(), output)
}

#[test]
fn programs_that_speak_to_socket_files_get_their_answer_and_end() {
    let (_directory, path) = place();
    let _glbd = Glbd::builder().arg(at(&path, "")).start();
    let (file, address) = (path.display().to_string(), format!("UNIX-CONNECT:{}", path.display()));
    for (words, package) in [
        (&["nc.openbsd", "-U", &file][..], "netcat-openbsd"),
        (&["ncat", "-U", &file], "ncat"),
        (&["socat", "-", &address], "socat"),
        (&["socat", "-t60", "-", &address], "socat"),
    ] {
        for (input, expected) in [("version\n", "glbd 2.0.0\n"), ("version\nversion", "glbd 2.0.0\nglbd 2.0.0\n")] {
            let mut command = Command::new("timeout");
            let (status, answer) = run(command.arg(PATIENCE.as_secs().to_string()).args(words), input);
            assert_ne!(status, Some(127), "{words:?} is missing: install Debian's package {package}");
            assert_eq!((status, answer.as_str()), (Some(0), expected), "{words:?}");
        }
    }
}

#[test]
fn what_speaks_http_is_hung_up_on_there_as_well() {
    let (_directory, path) = place();
    let glbd = Glbd::builder().arg(at(&path, "")).destinations(["127.0.0.1:1"]).start();
    for options in [&[][..], &["--data-binary", ATTACK], &["--request", "getinfo"]] {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--http0.9", "--max-time", "60", "--unix-socket", &path.display().to_string()]);
        let (status, answer) = run(curl.args(options).arg("http://localhost/"), "");
        assert!(status.is_some_and(|status| status != 0) && answer.is_empty(), "{options:?}: {status:?}, {answer}");
    }
    assert_eq!(glbd.info().rows[0].address, "127.0.0.1:1");
}

#[test]
fn a_read_only_address_answers_and_changes_nothing() {
    let (_directory, path) = place();
    let port = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let server = Server::echo();
    let arguments = [at(&path, ",read-only"), format!("--control={port},read-only")];
    let glbd = Glbd::builder().args(arguments).destinations([&server]).start();
    let refused = "Error: nothing can be changed here: this control address is read-only\n";
    for query in [&|commands: &str| get(&path, commands), &|commands: &str| ask(port, commands).expect("an answer")]
        as [&dyn Fn(&str) -> String; 2]
    {
        for change in [
            "127.0.0.1:9:1",
            "127.0.0.1",
            &format!("{server}:0"),
            &format!("{server}:-1"),
            &format!("drain {server}"),
            &format!("weight {server} 5"),
            &format!("enable {server}"),
            &format!("writer {server}"),
            "no-such-name.example:1:1",
            "reload",
            "RELOAD",
            "loglevel debug",
        ] {
            assert_eq!(query(change), refused, "{change}");
        }
        assert_eq!(query("getinfo"), glbd.control("getinfo"));
        assert_eq!(query("getwatch"), glbd.control("getwatch"));
        assert_eq!(query("version"), "glbd 2.0.0\n");
        assert!(query("getinfo json").starts_with('{') && query("getevents").lines().count() > 0);
        assert!(query(&format!("gethistory {server}")).contains(&server.to_string()));
        assert!(query("getwach").contains("did you mean getwatch?"));
        let help = query("help");
        for asks in ["getclients", "wait-empty", "connlog  "] {
            assert!(help.contains(asks), "{help}");
        }
        assert_eq!(query("connlog"), "main off\n");
        assert_eq!(query("connlog main text"), refused);
        assert_eq!(query(&format!("wait-empty {server} 0")), "Ok\n");
        assert!(!help.contains("FORM") && !help.contains("getconfig"), "{help}");
        assert!(help.contains("getinfo ") && !help.contains("drain") && !help.contains("reload"), "{help}");
        // At a prompt as well.
        let conversation = query(&format!("prompt\ndrain {server}\nversion\nquit"));
        assert_eq!(conversation, format!("> {refused}> glbd 2.0.0\n> "));
    }
    assert_eq!(glbd.info().row(&server).weight, 1.0);
}

#[test]
fn getstats_at_a_read_only_address_begins_no_new_count() {
    let (_directory, path) = place();
    let server = Server::echo();
    let glbd = Glbd::builder().arg(at(&path, ",read-only")).destinations([&server]).start();
    assert!(echoes(&glbd.connect()));
    let seen = |text: &str| crate::harness::Stats::parse(text);
    for _ in 0..3 {
        assert_eq!(seen(&get(&path, "getstats")).created, 1);
    }
    assert_eq!(glbd.stats().created, 1, "nothing was taken from those who may change");
    assert_eq!(seen(&get(&path, "getstats")).created, 0, "it counts since they have asked");
}

#[test]
fn silent_clients_of_a_socket_file_make_room_for_others() {
    let (_directory, path) = place();
    let glbd = Glbd::builder().arg(at(&path, "")).start();
    let silent: Vec<_> = (0..100).map(|_| UnixStream::connect(&path).expect("room in the backlog")).collect();
    assert_eq!(get(&path, "version"), "glbd 2.0.0\n");
    assert_eq!(glbd.control("version"), "glbd 2.0.0\n");
    drop(silent);
    wait_until("all are let go of", || glbd.descriptors() < 50);
}

#[test]
fn a_stale_file_is_replaced_and_one_of_a_daemon_that_serves_is_not() {
    let (directory, path) = place();
    let first = Glbd::builder().arg(at(&path, "")).start();
    first.signal(Signal::SIGSTOP);
    let refused = |option: &str| {
        let fifo = directory.path().join("fifo").display().to_string();
        let words = ["--fifo", &fifo, option, &free_port().to_string()];
        let output = Command::new(PROGRAM).args(words).stdin(Stdio::null()).output().expect("glbd starts");
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let told = format!(
        "glbd: cannot open the control socket on unix:{}: Address already in use (os error 98)\n",
        path.display()
    );
    assert_eq!(refused(&at(&path, "")), told, "also while the other one hangs");
    first.signal(Signal::SIGCONT);
    assert_eq!(get(&path, "version"), "glbd 2.0.0\n");
    // Killed.
    drop(first);
    assert!(path.exists());
    let second = Glbd::builder().arg(at(&path, "")).start();
    assert_eq!(get(&path, "version"), "glbd 2.0.0\n");
    drop(second);
    fs::remove_file(&path).expect("a stale file");
    fs::write(&path, "precious").expect("a file");
    assert_eq!(refused(&at(&path, "")), told);
    assert_eq!(fs::read_to_string(&path).expect("a file"), "precious");
    assert!(refused(&at(&path, ",owner=no-such-user")).contains("there is no user 'no-such-user'"));
    // Of several, those that were opened go again.
    let other = directory.path().join("other");
    let fifo = directory.path().join("fifo").display().to_string();
    let words = ["--fifo", &fifo, &at(&other, ""), &at(&path, ""), &free_port().to_string()];
    let output = Command::new(PROGRAM).args(words).stdin(Stdio::null()).output().expect("glbd starts");
    assert_eq!((output.status.code(), other.exists()), (Some(1), false));
}

#[test]
fn another_daemons_file_in_its_place_is_not_removed_at_the_end() {
    let (_directory, path) = place();
    let mut glbd = Glbd::builder().arg(at(&path, "")).start();
    fs::remove_file(&path).expect("a socket");
    let _other = UnixListener::bind(&path).expect("a socket");
    glbd.signal(Signal::SIGTERM);
    assert!(glbd.wait_exit().success());
    UnixStream::connect(&path).expect("the other one's is there");
}

/// Starts a daemon that becomes another user, who may not remove what lies in its directory.
fn for_another_user(arguments: &[&str]) -> (Daemon, PathBuf) {
    let daemon = Daemon::new();
    fs::set_permissions(daemon.directory(), fs::Permissions::from_mode(0o755)).expect("our own directory");
    let (copy, path) = (daemon.directory().join("program"), daemon.directory().join("control"));
    copy_program(&copy);
    let exec = format!("exec '{}' \"$@\"", copy.display());
    let launch = daemon.launch_by(&["sh", "-c", &exec], &[&[at(&path, "").as_str()], arguments].concat());
    assert_eq!(launch.status, Some(0), "{}", launch.stderr);
    (daemon, path)
}

#[test]
fn the_file_is_the_users_that_the_daemon_becomes_and_goes_however_it_ends() {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let (daemon, path) = for_another_user(&[]);
        let user = User::from_name("daemon").expect("the users").expect("a user of every Debian");
        let found = fs::metadata(&path).expect("a file");
        assert_eq!((found.uid(), found.gid(), mode(&path)), (user.uid.as_raw(), user.gid.as_raw(), 0o600));
        assert_eq!(get(&path, "version"), "glbd 2.0.0\n");
        daemon.signal(signal);
        wait_until("everything is tidied up", || daemon.files() == ["program"]);
    }
}

#[test]
fn a_daemon_that_drains_leaves_its_place_at_once() {
    let server = Server::echo();
    let (daemon, path) = for_another_user(&[&server.to_string()]);
    let (client, old) = (daemon.connect(), daemon.pid());
    assert!(echoes(&client));
    daemon.signal(Signal::SIGUSR1);
    wait_until("its files are gone", || daemon.files() == ["program"]);
    let next = Glbd::builder().arg(at(&path, "")).start();
    assert_eq!(get(&path, "version"), "glbd 2.0.0\n");
    drop(client);
    wait_until("the old process has ended", || has_ended(&old));
    assert_eq!(get(&path, "version"), "glbd 2.0.0\n", "the other one's file is there");
    drop(next);
}

#[test]
fn an_upgrade_keeps_the_files_and_what_they_are_for() {
    let server = Server::echo();
    let (daemon, path) = for_another_user(&[&server.to_string()]);
    let before = fs::metadata(&path).expect("a file").ino();
    for _ in 0..3 {
        daemon.upgrade();
        assert_eq!(get(&path, &format!("weight {server} 2")), "Ok\n");
        assert_eq!(fs::metadata(&path).expect("a file").ino(), before);
        assert_eq!(mode(&path), 0o600);
    }
    daemon.signal(Signal::SIGKILL);
    wait_until("everything is tidied up", || daemon.files() == ["program"]);
}

/// A site whose file has these control addresses, beside the port that the site itself is asked through.
fn site_with(control: &str) -> (Site, Server, u16) {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    write(&site, &server, port, control);
    (site, server, port)
}

fn write(site: &Site, server: &Server, port: u16, control: &str) {
    site.write(&[("a", &[server], "")], &[("s", port, "")]);
    let text = fs::read_to_string(&site.file).expect("the file");
    let own = site.daemon.control_address();
    let control = [format!("\"{own}\""), control.to_owned()].join(", ");
    fs::write(&site.file, text.replacen("[process]", &format!("[process]\ncontrol = [{control}]"), 1)).expect("a file");
}

/// Starts the site's daemon with nothing about control on its command line.
fn start(site: &Site) {
    let (fifo, pidfile) = (site.daemon.fifo().display().to_string(), site.daemon.pidfile().display().to_string());
    let file = site.file.clone();
    let words = ["--daemon", "--fifo", &fifo, "--pidfile", &pidfile, "--config", &file];
    let output = Command::new(PROGRAM).args(words).stdin(Stdio::null()).output().expect("glbd starts");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_reload_opens_changes_and_closes_control_addresses() {
    let (site, server, port) = site_with("");
    start(&site);
    let reload = || site.daemon.control("reload");
    let path = site.daemon.directory().join("control");
    let unix = format!("unix:{}", path.display());
    let second = SocketAddr::from(([127, 0, 0, 1], free_port()));
    write(&site, &server, port, &format!("\"{unix}\", {{address = \"{second}\", read-only = true}}"));
    assert_eq!(reload(), format!("control {unix} opened\ncontrol {second}, read-only, opened\nOk\n"));
    assert_eq!(mode(&path), 0o600);
    assert_eq!(get(&path, &format!("weight {server} 2")), "Ok\n");
    assert!(ask(second, &format!("weight {server} 3")).expect("an answer").starts_with("Error: nothing can be"));
    assert!(site.daemon.control(&format!("{second}:1")).contains("listens there itself"));
    assert_eq!(reload(), "Ok\n");
    // Both change roles. A conversation that was begun goes on as it was.
    let changed = format!("{{address = \"{unix}\", mode = \"0666\", read-only = true}}, \"{second}\"");
    write(&site, &server, port, &changed);
    assert_eq!(
        reload(),
        format!("control {unix}, read-only, has other options\ncontrol {second} has other options\nOk\n")
    );
    assert_eq!(mode(&path), 0o666);
    assert!(get(&path, &format!("weight {server} 3")).starts_with("Error: nothing can be"));
    assert_eq!(ask(second, &format!("weight {server} 4")).expect("an answer"), "Ok\n");
    write(&site, &server, port, "");
    // One that is closed answers to the last.
    assert_eq!(
        ask(second, "reload").expect("an answer"),
        format!("control {unix} closed\ncontrol {second} closed\nOk\n")
    );
    assert!(!path.exists());
    wait_until("nobody listens", || std::net::TcpStream::connect(second).is_err());
    assert_eq!(
        site.daemon.control(&format!("{second}:1\n{second}:-1")),
        "Ok\nOk\n",
        "it is nothing of its own any more"
    );
    assert_eq!(site.daemon.info().row(&server).weight, 4.0);
}

#[test]
fn a_control_address_that_cannot_be_opened_refuses_the_reload_and_leaves_nothing() {
    let (site, server, port) = site_with("");
    start(&site);
    let (first, taken) = (site.daemon.directory().join("first"), site.daemon.directory().join("taken"));
    let _listener = UnixListener::bind(&taken).expect("a socket");
    let both = format!("\"unix:{}\", \"unix:{}\"", first.display(), taken.display());
    write(&site, &server, port, &both);
    let before = site.daemon.files();
    let told = format!("Error: cannot open the control socket on unix:{}: Address already in", taken.display());
    let answer = site.daemon.control("reload");
    assert!(answer.starts_with(&told), "{answer}");
    assert_eq!(site.daemon.files(), before);
    let own = site.daemon.control_address().port();
    write(&site, &server, port, &format!("\"0.0.0.0:{own}\""));
    let answer = site.daemon.control("reload");
    assert!(
        answer.ends_with("; this daemon has the port at another address, which takes a restart to change\n"),
        "{answer}"
    );
    // What is wrong elsewhere in the file takes a socket that was opened back as well.
    write(&site, &server, port, &format!("\"unix:{}\"", first.display()));
    let text = fs::read_to_string(&site.file).expect("the file");
    fs::write(&site.file, text.replace(&format!(":{port}"), ":1@")).expect("the file");
    assert!(site.daemon.control("reload").starts_with("Error: "));
    let (other, own) = (free_port(), site.daemon.address());
    let _somebody = std::net::TcpListener::bind(("127.0.0.1", other)).expect("a port");
    fs::write(&site.file, text.replace(&port.to_string(), &other.to_string())).expect("the file");
    assert!(site.daemon.control("reload").contains("cannot listen on"), "{own}");
    assert!(!first.exists());
    assert_eq!(site.daemon.control("version"), "glbd 2.0.0\n");
}

#[test]
fn an_upgrade_follows_the_file() {
    let (site, server, port) = site_with("");
    let (goes, comes) = (site.daemon.directory().join("goes"), site.daemon.directory().join("comes"));
    let second = SocketAddr::from(([127, 0, 0, 1], free_port()));
    write(&site, &server, port, &format!("\"unix:{}\", \"{second}\"", goes.display()));
    start(&site);
    assert_eq!(get(&goes, "version"), "glbd 2.0.0\n");
    write(&site, &server, port, &format!("\"{second},read-only\", \"unix:{},mode=0660\"", comes.display()));
    site.daemon.upgrade();
    assert_eq!(get(&comes, "version"), "glbd 2.0.0\n");
    assert!(ask(second, "reload").expect("an answer").starts_with("Error: nothing can be"));
    wait_until("the other file is gone", || !goes.exists());
    assert_eq!(mode(&comes), 0o660);
    // One that cannot take place leaves everything as it was.
    let taken = site.daemon.directory().join("taken");
    let _listener = UnixListener::bind(&taken).expect("a socket");
    write(&site, &server, port, &format!("\"unix:{}\", \"unix:{}\"", goes.display(), taken.display()));
    let old = site.daemon.pid();
    site.daemon.signal(Signal::SIGUSR2);
    wait_until("the log says why", || site.log().contains("not upgraded: cannot open the control socket on unix:"));
    assert_eq!((site.daemon.pid(), goes.exists()), (old, false));
    assert_eq!(get(&comes, "version"), "glbd 2.0.0\n");
    site.daemon.signal(Signal::SIGTERM);
    site.daemon.wait_until_gone();
    assert!(!comes.exists());
}

#[test]
fn sockets_of_a_service_manager_may_be_files_and_read_only() {
    let (directory, path) = place();
    let [port, read_only] = [free_port(), free_port()];
    let words = [format!("--listen=127.0.0.1:{port}"), format!("--listen={}", path.display())];
    let file = |name: &str| directory.path().join(name).display().to_string();
    let mut activated = Command::new("systemd-socket-activate")
        .args(words)
        .arg(format!("--listen=127.0.0.1:{read_only}"))
        .args(["--fdname=clients:control:control-read-only", PROGRAM])
        .args(["--fifo", &file("fifo"), "--pidfile", &file("pid"), "1"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("systemd-socket-activate, from Debian's package systemd");
    let read_only = SocketAddr::from(([127, 0, 0, 1], read_only));
    // It starts with the first client, who waits for it.
    wait_until("somebody listens", || match ask_at(&path, "version") {
        Ok(answer) => answer == "glbd 2.0.0\n",
        Err(error) => {
            assert!([ErrorKind::NotFound, ErrorKind::ConnectionRefused].contains(&error.kind()), "{error}");
            false
        }
    });
    let works = || {
        assert_eq!(get(&path, "127.0.0.1:1:2"), "Ok\n");
        assert!(ask(read_only, "127.0.0.1:1:2").expect("an answer").starts_with("Error: nothing can be"));
    };
    works();
    let pid = fs::read_to_string(file("pid")).expect("the pid file");
    let signal = |pid: &str, signal| {
        let pid = nix::unistd::Pid::from_raw(pid.trim().parse().expect("a process id"));
        nix::sys::signal::kill(pid, signal).expect("it runs");
    };
    signal(&pid, Signal::SIGUSR2);
    wait_until("another process has taken over", || fs::read_to_string(file("pid")).is_ok_and(|now| now != pid));
    works();
    signal(&fs::read_to_string(file("pid")).expect("the pid file"), Signal::SIGTERM);
    wait_until("it has ended", || !Path::new(&file("pid")).exists());
    assert!(path.exists(), "it is the service manager's");
    activated.kill().ok();
    activated.wait().expect("a child of this process");
}
