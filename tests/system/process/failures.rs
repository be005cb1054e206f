//! A daemon that cannot start: the command says why, and nothing is left behind.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control::name_server::NameServer;
use crate::harness::glbd::PROGRAM;
use crate::harness::{Daemon, Glbd, Launch, glbd, wait_until};

/// Whether everything that may hinder a next start is as it was before.
#[track_caller]
fn assert_nothing_left(daemon: &Daemon, files: &[String]) {
    assert_eq!(daemon.processes(), []);
    assert_eq!(daemon.files(), files);
}

/// Starts in vain; the reason must be there at once, in one line that contains `named`, and nothing else.
#[track_caller]
fn fails(daemon: &Daemon, arguments: &[&str], named: &str) {
    let files = daemon.files();
    let Launch { status, stderr } = daemon.launch(arguments);
    assert_eq!(status, Some(1), "{arguments:?}: {stderr}");
    assert!(stderr.starts_with("glbd: ") && stderr.contains(named), "{arguments:?}: {stderr:?}");
    assert_eq!(stderr.lines().count(), 1, "{arguments:?}: {stderr}");
    assert_nothing_left(daemon, &files);
}

#[test]
fn a_listening_port_in_use_is_told() {
    let daemon = Daemon::new();
    let _other = TcpListener::bind(daemon.address()).expect("a free port");
    for _ in 0..20 {
        fails(&daemon, &[], &format!("cannot listen on {}: Address already in use", daemon.address()));
    }
}

#[test]
fn a_listening_port_of_another_glbd_is_in_use_too() {
    let other = Daemon::started(&[]);
    let daemon = Daemon::new();
    let (fifo, pidfile) = (daemon.fifo().display().to_string(), daemon.pidfile().display().to_string());
    let taken = other.address().to_string();
    let output = glbd::run(&["--daemon", "--fifo", &fifo, "--pidfile", &pidfile, &taken]);
    let said = String::from_utf8(output.stderr).expect("text");
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains(&taken) && said.contains("in use"), "{said}");
    assert_nothing_left(&daemon, &[]);
    assert_eq!(other.control("version"), "glbd 2.0.0\n");
}

#[test]
fn a_control_port_in_use_is_told() {
    let daemon = Daemon::new();
    let _other = TcpListener::bind(daemon.control_address()).expect("a free port");
    for _ in 0..5 {
        fails(&daemon, &[], &daemon.control_address().to_string());
    }
    TcpListener::bind(daemon.address()).expect("the listening port is free again");
}

#[test]
fn a_fifo_that_is_there_is_told_and_left_alone() {
    let daemon = Daemon::new();
    fs::write(daemon.fifo(), "precious").expect("a file");
    fails(&daemon, &[], &daemon.fifo().display().to_string());
    assert_eq!(fs::read_to_string(daemon.fifo()).expect("the file"), "precious");
    assert_eq!(daemon.files(), ["glbd.fifo"]);
    TcpListener::bind(daemon.address()).expect("the listening port is free again");
}

#[test]
fn a_fifo_that_a_killed_daemon_has_left_is_replaced_and_that_of_a_living_one_is_not() {
    let daemon = Daemon::started(&[]);
    daemon.signal(Signal::SIGKILL);
    daemon.wait_until_gone();
    let other = Daemon::new();
    let fifo = daemon.fifo().display().to_string();
    other.start(&["--fifo", &fifo]);
    fs::write(&fifo, "127.0.0.1:1:1\n").expect("a FIFO");
    wait_until("it is obeyed", || other.info().rows.len() == 1);
    fails(&Daemon::new(), &["--fifo", &fifo], &fifo);
}

#[test]
fn users_and_groups_that_there_are_not_are_told() {
    let daemon = Daemon::new();
    fails(&daemon, &["--user", "no-such-user"], "no-such-user");
    fails(&daemon, &["--user", "daemon:no-such-group"], "no-such-group");
}

#[test]
fn a_pid_file_that_cannot_be_written_is_told() {
    let daemon = Daemon::new();
    fails(&daemon, &["--pidfile", "/nonexistent/glbd.pid"], "/nonexistent/glbd.pid");
    fails(&daemon, &["--pidfile", "/proc/glbd.pid"], "/proc/glbd.pid");
    let directory = daemon.directory().join("a directory");
    fs::create_dir(&directory).expect("a directory");
    fails(&daemon, &["--pidfile", directory.to_str().expect("text")], "a directory");
}

#[test]
fn its_own_address_as_a_destination_is_told() {
    let daemon = Daemon::new();
    let own = daemon.address().to_string();
    fails(&daemon, &[&own], &own);
}

#[test]
fn a_wrong_command_line_is_told_before_anything_is_done() {
    let daemon = Daemon::new();
    for (words, named) in
        [(["--threads", "0"], "--threads"), (["--bogus", "1"], "--bogus"), (["127.0.0.1:1", "a:b"], "a:b")]
    {
        let Launch { status, stderr } = daemon.launch(&words);
        assert_eq!(status, Some(2), "{stderr}");
        assert!(stderr.starts_with("glbd: ") && stderr.contains(named) && stderr.lines().count() == 1, "{stderr}");
        assert_nothing_left(&daemon, &[]);
    }
}

#[test]
fn a_limit_that_leaves_no_room_is_told() {
    let daemon = Daemon::new();
    let limited = ["sh", "-c", "ulimit -n 16; exec \"$0\" \"$@\""];
    let Launch { status, stderr } = daemon.launch_by(&limited, &["-t", "2"]);
    assert_eq!(status, Some(1), "{stderr}");
    assert!(stderr.contains("16 open files") && stderr.lines().count() == 1, "{stderr}");
    assert_nothing_left(&daemon, &[]);
}

#[test]
fn whoever_interrupts_the_command_gets_no_daemon_later() {
    let names = NameServer::start();
    let daemon = Daemon::new();
    let wrapper = [names.wrapper(), vec!["env".to_owned(), "--default-signal=INT".to_owned()]].concat();
    let wrapper: Vec<&str> = wrapper.iter().map(String::as_str).collect();
    let mut command = daemon.command_by(&wrapper, &["slow.example:1"]).spawn().expect("glbd starts");
    wait_until("the name server is asked", || names.asked() > 0);
    kill(Pid::from_raw(command.id() as i32), Signal::SIGINT).expect("the command waits");
    assert!(!command.wait().expect("a child of this process").success());
    names.answer();
    daemon.wait_until_gone();
    assert_eq!(daemon.files(), [""; 0]);
}

#[test]
fn of_two_that_start_at_once_on_one_port_one_serves_and_one_says_why_not() {
    for _ in 0..30 {
        let place = Daemon::new();
        let start = |fifo: &str| {
            let mut command = Command::new(PROGRAM);
            let fifo = place.directory().join(fifo);
            command.args(["-t", "2", "--fifo"]).arg(fifo).arg(place.address().to_string());
            command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn().expect("glbd starts")
        };
        let mut both = [start("one"), start("other")];
        let ended = |glbd: &mut Child| glbd.try_wait().expect("a child of this process");
        wait_until("one gives up", || both.iter_mut().any(|glbd| ended(glbd).is_some()));
        let served = TcpStream::connect(place.address());
        both.iter_mut().for_each(|glbd| drop(glbd.kill()));
        let said = both.map(|glbd| String::from_utf8(glbd.wait_with_output().expect("its end").stderr).expect("text"));
        served.unwrap_or_else(|error| panic!("none serves: {error}\n{}", said.concat()));
        let gave_up = said.iter().filter(|said| said.contains("Address already in use")).count();
        assert_eq!(gave_up, 1, "{said:?}");
    }
}

#[test]
fn in_the_foreground_nothing_is_left_behind_either() {
    let other = Glbd::start([""; 0]);
    let place = Daemon::new();
    let (fifo, pidfile) = (place.fifo().display().to_string(), place.pidfile().display().to_string());
    let (own, taken) = (place.address().to_string(), other.control_address().to_string());
    for words in [["-c", &taken, &own], ["-v", "-r", &taken]] {
        let output = glbd::run(&[["--fifo", &fifo, "--pidfile", &pidfile].as_slice(), &words].concat());
        let said = String::from_utf8(output.stderr).expect("text");
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&taken) && said.lines().count() == 1, "{said}");
        assert_nothing_left(&place, &[]);
    }
}
