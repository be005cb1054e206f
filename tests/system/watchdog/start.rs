//! Clients that come before anybody knows how the destinations are.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::{asking, state, wait_until_judged};
use crate::harness::{Site, names_of, read_line, said_goodbye, sites, wait_until};

/// Whether nothing comes for a moment.
fn waits(mut client: &TcpStream) -> bool {
    client.set_read_timeout(Some(Duration::from_millis(200))).expect("a socket");
    let waits = client.read(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
    client.set_read_timeout(Some(crate::harness::PATIENCE)).expect("a socket");
    waits
}

/// Two sites, the second of which does not say yet how it is.
fn undecided() -> (u16, [Site; 2]) {
    let (port, sites) = sites();
    sites[1].hang(true);
    (port, sites)
}

#[test]
fn nobody_is_let_in_before_every_destination_has_been_judged() {
    let (port, [first, second]) = undecided();
    second.say(503);
    let glbd = asking(port).args(["--timeout", "60"]).destinations([&first, &second]).start();
    let clients: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
    wait_until_judged(&glbd, &first, "READY");
    assert!(waits(&clients[0]), "it waits in the backlog");
    assert_eq!(state(&glbd, &second), "UNKNOWN");
    assert_eq!(glbd.info().total, 0);
    second.hang(false);
    assert_eq!(names_of(&clients), ["2"; 4]);
    assert_eq!(state(&glbd, &second), "DOWN");
}

#[test]
fn a_destination_that_does_not_answer_in_time_holds_nobody_up_for_longer() {
    let (port, [first, second]) = undecided();
    let glbd = asking(port).args(["--timeout", "5"]).destinations([&first, &second]).start();
    let clients: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&clients), ["2"; 4]);
    wait_until_judged(&glbd, &second, "DOWN");
    assert_eq!(glbd.watch().row(&second).reason, "no answer within 5 s");
}

#[test]
fn a_destination_that_is_added_is_not_used_before_it_has_been_judged() {
    let (port, [first, second]) = undecided();
    let glbd = asking(port).args(["--timeout", "60"]).destinations([&first]).start();
    wait_until_judged(&glbd, &first, "READY");
    glbd.change(&second);
    wait_until("it is asked", || !second.asked().is_empty());
    assert_eq!(names_of(&[(); 4].map(|()| glbd.connect())), ["2"; 4]);
    assert_eq!(state(&glbd, &second), "UNKNOWN");
    second.hang(false);
    wait_until_judged(&glbd, &second, "READY");
    let mut names = names_of(&[glbd.connect(), glbd.connect()]);
    names.sort();
    assert_eq!(names, ["2", "3"]);
}

#[test]
fn with_no_destinations_nobody_is_held_up() {
    let glbd = asking(1).start();
    assert!(said_goodbye(&glbd.connect()));
}

#[test]
fn the_last_undecided_destination_that_is_removed_holds_nobody_up_any_more() {
    let (port, [first, second]) = undecided();
    let glbd = asking(port).args(["--timeout", "60"]).destinations([&first, &second]).start();
    let client = glbd.connect();
    assert!(waits(&client));
    glbd.change(format!("{second}:-1"));
    assert_eq!(read_line(&client).expect("a name"), "2");
}

#[test]
fn a_stop_does_not_wait_for_checks() {
    let (port, [first, second]) = undecided();
    for signal in [Signal::SIGTERM, Signal::SIGUSR1] {
        let mut glbd = asking(port).args(["--timeout", "60"]).destinations([&first, &second]).start();
        wait_until("it is being asked", || !second.asked().is_empty());
        glbd.signal(signal);
        assert!(glbd.wait_exit().success());
    }
}
