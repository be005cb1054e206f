//! SIGTTOU and SIGTTIN: no new clients for a while.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::daemon::processes_with;
use crate::harness::glbd::PROGRAM;
use crate::harness::{Daemon, Server, connect_to, echoes, free_port, proc, wait_until};
use crate::services::{Site, at, served};

/// A daemon with a log.
fn start(server: &Server) -> Daemon {
    let daemon = Daemon::new();
    let log = format!("--log={}", daemon.directory().join("log").display());
    daemon.start(&["--user=root", &log, &server.to_string()]);
    daemon
}

fn signal(daemon: &Daemon, signal: Signal, line: &str) {
    let log = || fs::read_to_string(daemon.directory().join("log")).expect("the log");
    let before = log().matches(line).count();
    daemon.signal(signal);
    wait_until(&format!("the log says {line:?}"), || log().matches(line).count() > before);
}

fn pause(daemon: &Daemon) {
    signal(daemon, Signal::SIGTTOU, "INFO paused: new clients wait in the backlog until SIGTTIN comes");
}

fn resume(daemon: &Daemon) {
    signal(daemon, Signal::SIGTTIN, "INFO resumed: new clients are served again");
}

/// A client that has said something, and is not answered.
fn waits(client: &TcpStream) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a socket");
    let is_silent = client.peek(&mut [0]).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    client.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a socket");
    is_silent
}

#[test]
fn clients_wait_and_those_that_are_connected_do_not() {
    let server = Server::echo();
    let daemon = start(&server);
    let before = daemon.connect();
    assert!(echoes(&before));
    pause(&daemon);
    let mut waiting: Vec<TcpStream> = (0..50).map(|_| daemon.connect()).collect();
    waiting.iter_mut().for_each(|client| client.write_all(b"x").expect("room"));
    assert!(waits(&waiting[0]) && waits(&waiting[49]));
    assert!(echoes(&before));
    assert_eq!((server.accepted(), daemon.info().total), (1, 1));
    // Twice is as once.
    daemon.signal(Signal::SIGTTOU);
    assert_eq!(daemon.control("version"), "glbd 2.0.0\n");
    resume(&daemon);
    assert!(waiting.iter().all(|client| client.peek(&mut [0]).is_ok_and(|count| count == 1)));
    assert!(echoes(&daemon.connect()));
}

#[test]
fn a_pause_uses_no_processor_time_whoever_waits() {
    let server = Server::named_and_closing("a");
    let daemon = Daemon::new();
    let log = format!("--log={}", daemon.directory().join("log").display());
    // Workers wait for a token when it begins.
    daemon.start(&["--user=root", &log, "--connection-rate=1", &server.to_string()]);
    let _clients: Vec<TcpStream> = (0..10).map(|_| daemon.connect()).collect();
    wait_until("one is served", || server.accepted() > 0);
    pause(&daemon);
    let (before, begun) = (proc::cpu_time(daemon.pid()), std::time::Instant::now());
    std::thread::sleep(Duration::from_secs(2));
    let used = proc::cpu_time(daemon.pid()) - before;
    assert!(used < begun.elapsed() / 10, "{used:?}");
    resume(&daemon);
    let served = server.accepted();
    wait_until("the others are served", || server.accepted() > served);
}

#[test]
fn an_upgrade_and_a_reload_go_on_with_it() {
    let (site, servers, ports) = (Site::new(), [Server::echo(), Server::echo()], [free_port(), free_port()]);
    let [first, second] = servers.each_ref();
    site.write(&[("a", &[first], "")], &[("s", ports[0], "")]);
    site.start();
    pause(&site.daemon);
    site.write(&[("a", &[first, second], "")], &[("s", ports[0], ""), ("t", ports[1], "")]);
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    let waiting = ports.map(|port| connect_to(at(port)).expect("room in the backlog"));
    waiting.iter().for_each(|mut client| client.write_all(b"x").expect("room"));
    assert!(waiting.iter().all(waits));
    site.daemon.upgrade();
    wait_until("the new process says so", || site.log().matches("INFO paused: new clients wait").count() == 2);
    assert!(waiting.iter().all(waits));
    assert_eq!(first.accepted() + second.accepted(), 0);
    resume(&site.daemon);
    assert!(waiting.iter().all(|client| client.peek(&mut [0]).is_ok_and(|count| count == 1)));
    drop(ports.map(served));
}

#[test]
fn a_daemon_that_drains_serves_those_who_wait() {
    let server = Server::echo();
    let daemon = start(&server);
    let before = daemon.connect();
    assert!(echoes(&before));
    pause(&daemon);
    let waiting: Vec<TcpStream> = (0..5).map(|_| daemon.connect()).collect();
    daemon.signal(Signal::SIGUSR1);
    assert!(waiting.iter().all(echoes));
    drop((waiting, before));
    daemon.wait_until_gone();
}

#[test]
fn a_daemon_that_is_paused_stops_as_any_other() {
    let daemon = start(&Server::echo());
    pause(&daemon);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    assert_eq!(daemon.files(), ["log"]);
}

/// A shell sends them to what it runs in the background, where they are not meant for the service.
#[test]
fn at_a_terminal_they_mean_what_they_mean_to_any_program() {
    let directory = tempfile::tempdir().expect("a directory");
    let fifo = directory.path().join("fifo");
    let (fifo, port) = (fifo.display().to_string(), free_port());
    // With job control, as at a prompt.
    let job = format!("{PROGRAM} --fifo {fifo} 127.0.0.1:{port} & while kill -0 $!; do sleep 0.1; done");
    let command = format!("bash -c 'set -m; {job}'");
    let mut terminal = Command::new("script")
        .args(["--quiet", "--command", &command, "/dev/null"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("script, from Debian's package bsdutils");
    wait_until("it serves", || Path::new(&fifo).exists() && connect_to(at(port)).is_ok());
    // The terminal's program has the command line of the other in its own.
    let is_it = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name == "glbd\n");
    let pid = processes_with(&fifo).into_iter().find(is_it).expect("it runs");
    for signal in [Signal::SIGTTOU, Signal::SIGTTIN] {
        kill(pid, signal).expect("it runs");
        wait_until("it is stopped", || proc::is_stopped(pid));
        kill(pid, Signal::SIGCONT).expect("it runs");
        wait_until("it runs again", || !proc::is_stopped(pid));
    }
    kill(pid, Signal::SIGTERM).expect("it runs");
    terminal.wait().expect("a child of this process");
}
