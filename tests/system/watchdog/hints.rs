//! Checks that clients bring about.

use std::time::Duration;

use super::{asking, state, wait_until_judged};
use crate::harness::{Glbd, Server, names_of, said_goodbye, sites};

#[test]
fn a_client_that_is_refused_has_the_destination_checked_at_once() {
    let mut servers = ["a", "b"].map(Server::named);
    let glbd = Glbd::builder().args(["-w", "tcp", "-i", "600", "--fall", "1"]).destinations(&servers).start();
    wait_until_judged(&glbd, &servers[0], "READY");
    servers[0].stop();
    assert_eq!(state(&glbd, &servers[0]), "READY", "nobody has noticed");
    assert_eq!(names_of(&[glbd.connect()]), ["b"], "the client is served all the same");
    wait_until_judged(&glbd, &servers[0], "DOWN");
}

#[test]
fn an_old_verdict_is_checked_again_when_a_client_comes() {
    let (port, [first, second]) = sites();
    let glbd = asking(port).args(["-i", "600", "-x", "0.05"]).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &second, "READY");
    first.say(503);
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(names_of(&[(); 3].map(|()| glbd.connect())), ["3"; 3]);
    assert!(first.asked().len() > 1, "it was asked for the client's sake");
}

#[test]
fn when_a_check_for_a_clients_sake_finds_nobody_fit_the_client_is_sent_away() {
    let (port, [only]) = sites();
    let glbd = asking(port).args(["-i", "600", "-x", "0.05"]).destinations([&only]).start();
    wait_until_judged(&glbd, &only, "READY");
    only.say(503);
    std::thread::sleep(Duration::from_millis(60));
    assert!(said_goodbye(&glbd.connect()));
}

#[test]
fn a_check_for_a_clients_sake_that_hangs_passes_the_client_on() {
    let (port, [first, second]) = sites();
    let arguments = ["-i", "600", "--timeout", "2", "-x", "0.05"];
    let glbd = asking(port).args(arguments).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &second, "READY");
    first.hang(true);
    std::thread::sleep(Duration::from_millis(60));
    let clients = [glbd.connect()];
    assert_eq!(names_of(&clients), ["3"]);
    assert_eq!(glbd.info().total, 1);
}
