//! What the watchdog has found out is known to the successor as well.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::daemon;
use crate::harness::watch::Watch;
use crate::harness::{Daemon, Server, echoes, names_of, sites, wait_until, write_script};

fn states(daemon: &Daemon) -> Vec<String> {
    Watch::parse(&daemon.control("getwatch")).rows.into_iter().map(|row| row.state).collect()
}

#[test]
fn verdicts_hold_before_the_first_answer() {
    let (port, [first, second]) = sites();
    second.say(503);
    let watchdog = format!("http:{port}");
    let arguments = ["-w", &watchdog, "-i", "0.1", "--timeout", "60", &first.to_string(), &second.to_string()];
    let daemon = daemon(&arguments);
    wait_until("both are judged", || states(&daemon) == ["READY", "DOWN"]);
    // From now on nobody answers.
    [&first, &second].iter().for_each(|site| site.hang(true));
    for _ in 0..2 {
        daemon.upgrade();
        assert_eq!(states(&daemon), ["READY", "DOWN"]);
        assert_eq!(names_of(&[(); 4].map(|()| daemon.connect())), ["2"; 4]);
    }
}

#[test]
fn it_still_takes_several_answers_in_a_row_to_change_a_verdict() {
    let (port, [site]) = sites();
    let watchdog = format!("http:{port}");
    let daemon = daemon(&["-w", &watchdog, "-i", "0.1", "--timeout", "30", "--fall", "1000", &site.to_string()]);
    wait_until("it is judged", || states(&daemon) == ["READY"]);
    site.say(503);
    daemon.upgrade();
    let asked = site.asked().len();
    wait_until("it is asked by the successor", || site.asked().len() > asked + 5);
    assert_eq!(states(&daemon), ["AVOID"]);
}

#[test]
fn a_destination_that_falls_after_an_upgrade_loses_the_connections_of_old_processes_too() {
    let (port, [first, second]) = sites();
    let watchdog = format!("http:{port}");
    let daemon =
        daemon(&["--round", "-w", &watchdog, "-i", "0.1", "--timeout", "30", &first.to_string(), &second.to_string()]);
    let clients = [(); 4].map(|()| daemon.connect());
    names_of(&clients);
    daemon.upgrade();
    assert!(clients.iter().all(echoes));
    first.say(503);
    wait_until("its connections are closed", || first.server.open() == 0);
    assert_eq!(clients.iter().filter(|client| echoes(client)).count(), 2);
    assert_eq!(second.server.open(), 2);
}

#[test]
fn clients_that_wait_for_the_first_verdict_go_on_waiting() {
    let (port, [site]) = sites();
    site.hang(true);
    let watchdog = format!("http:{port}");
    let daemon = daemon(&["-w", &watchdog, "-i", "0.1", "--timeout", "60", &site.to_string()]);
    let client = daemon.connect();
    daemon.upgrade();
    site.hang(false);
    assert_eq!(names_of(&[client]), ["2"]);
}

#[test]
fn clients_for_whom_a_destination_is_being_checked_are_served_all_the_same() {
    let (port, [site]) = sites();
    let watchdog = format!("http:{port}");
    let arguments = ["-w", &watchdog, "-i", "0.1", "-x", "0.001", "--connect-timeout", "60", "--timeout", "60"];
    let daemon = daemon(&[&arguments[..], &[&site.to_string()]].concat());
    wait_until("it is judged", || states(&daemon) == ["READY"]);
    site.hang(true);
    let client = daemon.connect();
    wait_until("it waits for the check", || daemon.info().total == 1);
    daemon.upgrade();
    assert_eq!(names_of(&[client]), ["2"]);
}

/// Answers as a destination does that is fit.
const READY: &str = "#!/bin/sh\nwhile read -r request; do [ \"$request\" = poll ] && echo 3; done\n";

#[test]
fn scripts_are_the_successors_and_none_is_left_in_the_end() {
    let server = Server::echo();
    let daemon = Daemon::new();
    let script: PathBuf = daemon.directory().join("script");
    write_script(&script, READY, 0o755);
    let watchdog = format!("exec:{}", script.display());
    daemon.start(&["--user=root", "-w", &watchdog, "-i", "0.1", &server.to_string()]);
    let name = script.display().to_string();
    // A shell that runs another, and glbd itself, have its name in their command lines as well.
    let scripts = || {
        let is_script = |pid: &nix::unistd::Pid| {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.starts_with(b"/bin/sh\0/") || command.starts_with(b"/bin/sh\0-c\0")
        };
        crate::harness::daemon::processes_with(&name).into_iter().filter(is_script).collect::<Vec<_>>()
    };
    wait_until("it runs", || !scripts().is_empty());
    wait_until("it is judged", || states(&daemon) == ["READY"]);
    let (first, client) = (scripts(), daemon.connect());
    assert!(echoes(&client));
    daemon.upgrade();
    wait_until("the old process's script is gone", || scripts().iter().all(|pid| !first.contains(pid)));
    wait_until("the successor has its own", || !scripts().is_empty());
    assert_eq!(states(&daemon), ["READY"]);
    assert!(echoes(&client));
    daemon.signal(Signal::SIGKILL);
    wait_until("no script is left", || scripts().is_empty());
}

#[test]
fn sessions_on_a_destination_that_is_down_are_closed_by_the_successor() {
    let (port, [falling, other]) = sites();
    let daemon = daemon(&["-w", &format!("http:{port}"), "-i", "0.1", "--timeout", "60", &falling.to_string()]);
    let session = daemon.connect();
    assert_eq!(names_of(std::slice::from_ref(&session)), ["2"]);
    falling.say(503);
    wait_until("it is DOWN", || states(&daemon) == ["DOWN"]);
    daemon.upgrade();
    assert!(echoes(&session), "there is nowhere better to go");
    assert_eq!(daemon.control(&other.to_string()), "Ok\n");
    wait_until("its sessions are closed", || falling.server.open() == 0);
    assert!(!echoes(&session));
}
