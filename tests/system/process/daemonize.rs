//! Going to the background: when the command returns, and what the daemon has kept of where it came from.

use std::io::{self, Read};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpid, getsid};

use super::proc::Proc;
use crate::harness::{Daemon, Server, connect_to, control, read_line, wait_until};

#[test]
fn the_command_returns_0_once_all_sockets_accept() {
    let server = Server::named("a");
    for _ in 0..20 {
        let daemon = Daemon::new();
        daemon.start(&["-t", "2", &server.to_string()]);
        let client = TcpStream::connect(daemon.address()).expect("a daemon that accepts");
        let answer = control::ask(daemon.control_address(), "version").expect("a daemon that answers");
        assert_eq!(answer, "glbd 2.0.0\n");
        assert_eq!(read_line(&client).expect("a name"), "a");
        assert!(daemon.fifo().exists() && daemon.pidfile().exists());
    }
}

#[test]
fn every_spelling_goes_to_the_background() {
    for option in ["-d", "--daemon", "--dae", "-bd"] {
        let daemon = Daemon::new();
        daemon.start(&[option]);
        assert_eq!(daemon.control("version"), "glbd 2.0.0\n", "{option}");
    }
}

/// The process that tidies up after the daemon. It takes a moment until it has let go of everything but the pid file, and
/// what tells it of the daemon's end.
fn janitor(daemon: &Daemon) -> Proc {
    let pid = daemon.pid();
    let others = || daemon.processes().into_iter().filter(|it| *it != pid).collect::<Vec<Pid>>();
    wait_until("there is a janitor, who only waits for the daemon's end", || {
        others().len() == 1 && Proc(others()[0]).descriptors().len() == 2
    });
    Proc(others()[0])
}

#[test]
fn the_daemon_is_in_a_session_of_its_own_without_a_terminal() {
    let daemon = Daemon::started(&[]);
    let process = Proc(daemon.pid());
    // Who leads a session could get a terminal again.
    assert_ne!(process.session(), daemon.pid());
    assert_ne!(process.parent(), getpid());
    let ours = getsid(None).expect("a session");
    for process in [process, janitor(&daemon)] {
        assert_ne!(process.session(), ours);
        assert!(!process.has_terminal());
    }
}

#[test]
fn the_daemon_outlives_the_terminal_that_it_was_started_from() {
    let daemon = Daemon::new();
    let command = daemon.command_by(&[], &[]);
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let line: String = words.map(|word| format!("'{}' ", word.to_str().expect("text"))).collect();
    let status = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .expect("script, from Debian's package bsdutils");
    assert_eq!(status.code(), Some(0));
    assert_eq!(daemon.control("version"), "glbd 2.0.0\n");
    assert!(!Proc(daemon.pid()).has_terminal());
}

#[test]
fn the_daemon_is_in_the_root_directory() {
    let daemon = Daemon::started(&[]);
    for process in [Proc(daemon.pid()), janitor(&daemon)] {
        assert_eq!(process.working_directory().to_str(), Some("/"));
    }
}

#[test]
fn paths_are_those_of_the_directory_where_the_command_ran() {
    let daemon = Daemon::new();
    let mut command = daemon.command_by(&[], &["--fifo", "a fifo", "--pidfile=./a pid"]);
    let status = command.current_dir(daemon.directory()).status().expect("glbd starts");
    assert_eq!(status.code(), Some(0));
    assert_eq!(daemon.files(), ["a fifo", "a pid"]);
    for pid in daemon.processes() {
        // The janitor may have followed the daemon already.
        kill(pid, Signal::SIGTERM).ok();
    }
    daemon.wait_until_gone();
    assert_eq!(daemon.files(), [""; 0]);
}

#[test]
fn standard_input_output_and_errors_are_dev_null() {
    let daemon = Daemon::started(&[]);
    let expected = [0, 1, 2].map(|number| (number, "/dev/null".to_owned()));
    assert_eq!(Proc(daemon.pid()).descriptors()[..3], expected);
}

#[test]
fn pipes_to_the_command_end_when_it_returns() {
    let daemon = Daemon::new();
    let (mut stdout, writer) = io::pipe().expect("a pipe");
    let (mut stderr, error_writer) = io::pipe().expect("a pipe");
    let mut command = daemon.command_by(&[], &[]);
    let status = command.stdout(writer).stderr(error_writer).status().expect("glbd starts");
    assert_eq!(status.code(), Some(0));
    // The command holds this process's ends of the pipes.
    drop(command);
    let reader = thread::spawn(move || {
        let mut text = String::new();
        stdout.read_to_string(&mut text).and_then(|_| stderr.read_to_string(&mut text)).expect("text");
        text
    });
    wait_until("nobody holds the pipes", || reader.is_finished());
    assert_eq!(reader.join().expect("the reader"), "");
}

#[test]
fn descriptors_are_not_inherited() {
    let daemon = Daemon::new();
    let inherit = ["sh", "-c", "exec 3</etc/passwd 7</etc/group 9<>/dev/full; exec \"$0\" \"$@\""];
    assert_eq!(daemon.launch_by(&inherit, &[]).status, Some(0));
    let files = [daemon.fifo(), daemon.pidfile()].map(|file| file.display().to_string());
    let is_its_own = |target: &str| {
        target == "/dev/null"
            || files.iter().any(|file| target == file)
            || ["socket:", "pipe:", "anon_inode:"].iter().any(|kind| target.starts_with(kind))
    };
    for process in [Proc(daemon.pid()), janitor(&daemon)] {
        for (number, target) in process.descriptors() {
            assert!(is_its_own(&target), "{number} is {target}");
        }
    }
}

#[test]
fn a_daemon_that_was_started_without_standard_descriptors_serves() {
    let server = Server::named("a");
    let daemon = Daemon::new();
    let close = ["sh", "-c", "exec \"$0\" \"$@\" <&- >&- 2>&-"];
    assert_eq!(daemon.launch_by(&close, &[&server.to_string()]).status, Some(0));
    let client = connect_to(daemon.address()).expect("a daemon that accepts");
    assert_eq!(read_line(&client).expect("a name"), "a");
}
