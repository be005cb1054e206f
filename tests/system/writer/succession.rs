//! The single destination across upgrades and restarts.

use std::fs;

use nix::sys::signal::Signal;

use super::*;
use crate::harness::control::ask;
use crate::harness::{Daemon, names_of, said_goodbye};

/// A daemon with one writer, as root, so that its successors may start the program wherever that lies.
fn daemon(port: u16, destinations: &[String]) -> Daemon {
    let watchdog = format!("http:{port}");
    let options = ["--user", "root", "--single", "-w", &watchdog, "-i", "0.1", "--timeout", "30"];
    let destinations: Vec<&str> = destinations.iter().map(String::as_str).collect();
    Daemon::started(&[&options[..], &destinations].concat())
}

#[test]
fn a_move_that_is_under_way_goes_on_after_an_upgrade() {
    let (port, [first, second]) = sites();
    let daemon = daemon(port, &[first.to_string(), second.to_string()]);
    wait_until("both are judged", || daemon.control("getwatch").matches(" READY ").count() == 2);
    let held = daemon.connect();
    assert_eq!(names_of(&[held.try_clone().expect("a descriptor")]), ["2"]);
    thread::scope(|scope| {
        let (control, command) = (daemon.control_address(), format!("writer {second} 600"));
        // Its conversation does not outlive the upgrade.
        scope.spawn(move || ask(control, &command).ok());
        wait_until("it has begun", || {
            let client = daemon.connect();
            client.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
            read_line(&client).is_err()
        });
        let before = daemon.connect();
        daemon.upgrade();
        let after = daemon.connect();
        assert!(echoes(&held), "its grace is not over");
        assert_eq!(second.server.accepted(), 0);
        drop(held);
        assert_eq!(names_of(&[before, after]), ["3", "3"], "those that wait in the old process are served as well");
    });
    assert_eq!(single_of(&daemon.info()), Some(second.to_string()));
}

#[test]
fn a_stop_in_the_middle_of_a_move_is_an_error_also_where_old_processes_have_the_sessions() {
    let (port, [first, second]) = sites();
    let daemon = daemon(port, &[first.to_string(), second.to_string()]);
    wait_until("both are judged", || daemon.control("getwatch").matches(" READY ").count() == 2);
    let held = daemon.connect();
    assert_eq!(read_line(&held).expect("a name"), "2");
    daemon.upgrade();
    thread::scope(|scope| {
        let answer = scope.spawn(|| daemon.control(&format!("writer {second} 600")));
        wait_until("it has begun", || daemon.control("getevents kind=writer").contains("by hand: new clients wait"));
        daemon.signal(Signal::SIGTERM);
        let told = format!("Error: {second}: cancelled: a signal came that ends this process\n");
        assert_eq!(answer.join().expect("an answer"), told);
    });
    daemon.wait_until_gone();
}

#[test]
fn sessions_of_old_processes_are_closed_when_the_writer_moves() {
    let (port, [first, second]) = sites();
    let daemon = daemon(port, &[first.to_string(), second.to_string()]);
    wait_until("both are judged", || daemon.control("getwatch").matches(" READY ").count() == 2);
    let oldest = daemon.connect();
    assert_eq!(read_line(&oldest).expect("a name"), "2");
    daemon.upgrade();
    let older = daemon.connect();
    assert_eq!(read_line(&older).expect("a name"), "2");
    daemon.upgrade();
    assert_eq!(daemon.control(&format!("writer {second} 0")), "Ok\n");
    assert_eq!(left_on(&first), 0, "they have ended when it is answered");
    assert!(!said_goodbye(&oldest) && !said_goodbye(&older));
    assert_eq!(names_of(&[daemon.connect()]), ["3"]);
}

#[test]
fn the_choice_of_a_hand_is_there_after_an_upgrade_and_after_a_restart() {
    let (port, [heavy, light]) = sites();
    let directory = tempfile::tempdir().expect("a directory");
    let state = directory.path().join("state");
    let start = || {
        let destinations = [format!("{heavy}:2"), light.to_string()];
        single(port).args(["--state", &state.display().to_string()]).destinations(destinations).start()
    };
    let glbd = start();
    wait_until_judged(&glbd, &light, "READY");
    assert_eq!(glbd.control(&format!("writer {light}")), "Ok\n");
    drop(glbd);
    let glbd = start();
    assert_eq!(session(&glbd).1, "3");
    // It is forgotten when it falls, in the file as well.
    light.say(503);
    wait_until("the other one serves", || single_of(&glbd.info()) == Some(heavy.to_string()));
    wait_until("the choice is gone", || !fs::read_to_string(&state).expect("the state").contains("writer"));
    light.say(200);
    drop(glbd);
    assert_eq!(session(&start()).1, "2");

    let daemon = daemon(port, &[format!("{heavy}:2"), light.to_string()]);
    wait_until("both are judged", || daemon.control("getwatch").matches(" READY ").count() == 2);
    assert_eq!(daemon.control(&format!("writer {light}")), "Ok\n");
    for _ in 0..2 {
        daemon.upgrade();
        assert_eq!(names_of(&[daemon.connect()]), ["3"]);
    }
}
