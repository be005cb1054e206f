//! What a verdict means for clients, and what it takes to change it.

use std::io::Read;
use std::time::Duration;

use super::{asking, state, wait_until_judged};
use crate::harness::{echoes, names_of, read_line, said_goodbye, sites, wait_until, was_reset};

#[test]
fn an_unfit_destination_gets_no_client_though_it_accepts_not_even_as_the_last_one_left() {
    let (port, [fit, unfit]) = sites();
    unfit.say(503);
    let glbd = asking(port).destinations([&fit, &unfit]).start();
    let clients: Vec<_> = (0..6).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&clients), ["2"; 6]);
    fit.say(500);
    wait_until_judged(&glbd, &fit, "DOWN");
    assert!(said_goodbye(&glbd.connect()), "nobody is left, so the client is sent away");
    glbd.change(format!("{fit}:0"));
    unfit.say(200);
    wait_until_judged(&glbd, &unfit, "READY");
    assert_eq!(names_of(&[glbd.connect()]), ["3"]);
}

#[test]
fn connections_to_a_destination_that_goes_down_are_closed_at_once() {
    let (port, [falling, other]) = sites();
    let glbd = asking(port).destinations([&falling, &other]).start();
    let clients = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&clients), ["2", "3"]);
    falling.say(503);
    let error = (&clients[0]).read(&mut [0]).expect_err("it is closed");
    assert!(was_reset(&error), "{error}");
    assert!(echoes(&clients[1]), "the others go on");
    wait_until("nobody is left", || glbd.info().row(&falling).conns == 0 && falling.server.open() == 0);
}

#[test]
fn connections_to_a_destination_that_goes_down_are_kept_when_that_is_asked_for() {
    let (port, [falling, other]) = sites();
    let glbd = asking(port).arg("--keep-sessions").destinations([&falling, &other]).start();
    let clients = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&clients), ["2", "3"]);
    falling.say(503);
    wait_until_judged(&glbd, &falling, "DOWN");
    assert!(echoes(&clients[0]));
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["3", "3"]);
}

#[test]
fn it_takes_several_checks_in_a_row_to_go_and_to_come_back_but_only_one_at_first() {
    let (port, [site]) = sites();
    let glbd = asking(port).args(["-i", "1", "--fall", "4", "--rise", "3"]).destinations([&site]).start();
    wait_until_judged(&glbd, &site, "READY");
    assert_eq!(site.asked().len(), 1);
    for (status, verdict, checks) in [(503, "DOWN", 4), (200, "READY", 3)] {
        let before = site.asked().len();
        site.say(status);
        wait_until_judged(&glbd, &site, verdict);
        // There may be one more by now.
        let took = site.asked().len() - before;
        assert!((checks..=checks + 1).contains(&took), "{verdict} after {took} checks");
    }
    let told = |line: &str| glbd.log().matches(&format!("{line}\n")).count();
    wait_until("both returns to READY are told", || told(&format!("INFO destination {site} READY")) == 2);
    assert_eq!(told(&format!("WARN destination {site} DOWN: HTTP status 503")), 1);
}

#[test]
fn one_bad_check_changes_nothing() {
    let (port, [site]) = sites();
    let glbd = asking(port).destinations([&site]).start();
    let client = glbd.connect();
    read_line(&client).expect("a name");
    for _ in 0..5 {
        let before = site.asked().len();
        site.say(503);
        wait_until("it has been asked", || site.asked().len() > before);
        site.say(200);
        let before = site.asked().len();
        wait_until("it has been asked twice", || site.asked().len() > before + 2);
    }
    assert!(echoes(&client));
    assert!(!glbd.log().contains("DOWN"), "{}", glbd.log());
}

#[test]
fn while_it_is_in_doubt_a_destination_is_checked_more_often() {
    let (port, [site]) = sites();
    let glbd = asking(port).args(["-i", "2", "--fall", "4"]).destinations([&site]).start();
    // The first check would count at once.
    wait_until_judged(&glbd, &site, "READY");
    site.say(503);
    wait_until_judged(&glbd, &site, "DOWN");
    let asked = site.asked();
    let [.., first, _, _, last] = asked[..] else { panic!("{asked:?}") };
    assert!(last - first < Duration::from_secs(4), "three pauses took {:?}", last - first);
}

#[test]
fn the_writer_of_single_stays_while_it_works_and_does_not_jump_back() {
    let (port, [first, second]) = sites();
    let glbd = asking(port).arg("--single").destinations([&first, &second]).start();
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["2", "2"]);
    first.say(503);
    wait_until_judged(&glbd, &first, "DOWN");
    let held = glbd.connect();
    assert_eq!(read_line(&held).expect("a name"), "3");
    first.say(200);
    wait_until_judged(&glbd, &first, "READY");
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["3", "3"]);
    assert!(echoes(&held));
    // One of more weight is preferred all the same.
    glbd.change(format!("{first}:2"));
    assert_eq!(names_of(&[glbd.connect()]), ["2"]);
    assert!(echoes(&held));
}

#[test]
fn without_a_watchdog_everything_is_ready() {
    let (_, [site]) = sites();
    let glbd = crate::harness::Glbd::start([&site]);
    assert_eq!(state(&glbd, &site), "READY");
    assert!(glbd.watch().row(&site).by_hand);
}
