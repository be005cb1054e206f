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
fn connections_to_a_destination_that_goes_down_are_closed_where_another_is_ready() {
    let (port, [falling, other]) = sites();
    let glbd = asking(port).destinations([&falling, &other]).start();
    let clients = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&clients), ["2", "3"]);
    falling.say(503);
    let error = (&clients[0]).read(&mut [0]).expect_err("it is closed");
    assert!(was_reset(&error), "{error}");
    assert!(echoes(&clients[1]), "the others go on");
    wait_until("nobody is left", || glbd.info().row(&falling).conns == 0 && falling.server.open() == 0);
    let down = format!(
        "destination {falling} DOWN: HTTP status 503; it keeps its 1 session until another destination is READY"
    );
    glbd.wait_for_log(&format!("{down}; destinations left: 1"));
    glbd.wait_for_log(&format!("destination {falling} is still DOWN, and another one READY: 1 session closed"));
}

#[test]
fn connections_to_a_destination_that_goes_down_are_kept_when_that_is_asked_for() {
    let (port, [falling, other]) = sites();
    let glbd = asking(port).arg("--keep-sessions").destinations([&falling, &other]).start();
    let clients = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&clients), ["2", "3"]);
    falling.say(503);
    wait_until_judged(&glbd, &falling, "DOWN");
    glbd.wait_for_log("it keeps its 1 session; destinations left: 1");
    assert!(echoes(&clients[0]));
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["3", "3"]);
}

#[test]
fn the_first_check_is_enough_at_first() {
    let (port, [site, refusing]) = sites();
    refusing.say(503);
    let options = ["-i", "3600", "--fall", "4", "--rise", "3"];
    let glbd = asking(port).args(options).destinations([&site, &refusing]).start();
    wait_until_judged(&glbd, &site, "READY");
    wait_until_judged(&glbd, &refusing, "DOWN");
}

#[test]
fn it_takes_several_checks_in_a_row_to_go_and_to_come_back() {
    let (port, [site]) = sites();
    let glbd = asking(port).args(["-i", "1", "--fall", "4", "--rise", "3"]).destinations([&site]).start();
    wait_until_judged(&glbd, &site, "READY");
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
    assert_eq!(told(&format!("WARN destination {site} AVOID: HTTP status 503")), 1, "its own word counts at once");
    let fallen = "it has no sessions; destinations left: 0";
    assert_eq!(told(&format!("WARN destination {site} DOWN: HTTP status 503; {fallen}")), 1);
}

#[test]
fn one_bad_check_costs_no_session() {
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
    let glbd = asking(port).args(["-i", "6", "--fall", "4"]).destinations([&site]).start();
    // The first check would count at once.
    wait_until_judged(&glbd, &site, "READY");
    site.say(503);
    wait_until_judged(&glbd, &site, "DOWN");
    let asked = site.asked();
    let [.., first, _, _, last] = asked[..] else { panic!("{asked:?}") };
    assert!(last - first < Duration::from_secs(12), "three pauses took {:?}", last - first);
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
    // One of more weight is preferred all the same, and no session stays on the other.
    glbd.change(format!("{first}:2"));
    assert_eq!(names_of(&[glbd.connect()]), ["2"]);
    assert!(!said_goodbye(&held));
}

#[test]
fn without_a_watchdog_everything_is_ready() {
    let (_, [site]) = sites();
    let glbd = crate::harness::Glbd::start([&site]);
    assert_eq!(state(&glbd, &site), "READY");
    assert!(glbd.watch().row(&site).by_hand);
}

#[test]
fn a_destination_that_says_that_it_is_not_fit_gets_no_client_from_that_moment_on() {
    let (port, [first, second]) = sites();
    let glbd = asking(port).args(["-i", "0.2", "--fall", "1000"]).destinations([&first, &second]).start();
    let session = glbd.connect();
    assert_eq!(read_line(&session).expect("a name"), "2");
    first.say(503);
    wait_until_judged(&glbd, &first, "AVOID");
    assert_eq!(glbd.watch().row(&first).reason, "HTTP status 503");
    assert_eq!(names_of(&[(); 4].map(|()| glbd.connect())), ["3"; 4]);
    assert!(echoes(&session), "its sessions stay until it has said so often enough");
}

#[test]
fn while_all_are_down_no_session_is_closed() {
    let (port, [first, second]) = sites();
    let glbd = asking(port).destinations([&first, &second]).start();
    let sessions = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&sessions), ["2", "3"]);
    [&first, &second].iter().for_each(|site| site.say(503));
    [&first, &second].iter().for_each(|site| wait_until_judged(&glbd, site, "DOWN"));
    glbd.wait_for_log("ERROR no destination is left that takes new clients");
    assert!(sessions.iter().all(echoes), "there is nowhere better to go");
    for site in [&first, &second] {
        let stays = "it keeps its 1 session until another destination is READY";
        glbd.wait_for_log(&format!("destination {site} DOWN: HTTP status 503; {stays}"));
    }
    second.say(200);
    wait_until_judged(&glbd, &second, "READY");
    wait_until("the other's are closed now", || first.server.open() == 0);
    assert!(echoes(&sessions[1]));
    glbd.wait_for_log(&format!("destination {first} is still DOWN, and another one READY: 1 session closed"));
}

#[test]
fn destinations_that_are_down_together_and_come_back_together_lose_no_session() {
    let (port, [first, second]) = sites();
    let glbd = asking(port).args(["-i", "0.4"]).destinations([&first, &second]).start();
    let sessions = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&sessions), ["2", "3"]);
    for _ in 0..5 {
        for (status, verdict) in [(503, "DOWN"), (200, "READY")] {
            [&first, &second].iter().for_each(|site| site.say(status));
            [&first, &second].iter().for_each(|site| wait_until_judged(&glbd, site, verdict));
        }
        assert!(sessions.iter().all(echoes), "there was nowhere better to go:\n{}", glbd.log());
    }
}

#[test]
fn a_drained_destination_is_no_reason_to_close_the_sessions_of_another() {
    let (port, [falling, drained]) = sites();
    let glbd = asking(port).destinations([&falling, &drained]).start();
    let session = glbd.connect();
    assert_eq!(read_line(&session).expect("a name"), "2");
    glbd.change(format!("{drained}:0"));
    falling.say(503);
    wait_until_judged(&glbd, &falling, "DOWN");
    assert!(echoes(&session));
}

#[test]
fn sessions_are_closed_wherever_the_others_are_when_that_is_asked_for() {
    let (port, [only]) = sites();
    let glbd = asking(port).args(["--shutdown-sessions", "always"]).destinations([&only]).start();
    let session = glbd.connect();
    assert_eq!(read_line(&session).expect("a name"), "2");
    only.say(503);
    wait_until("it is closed", || only.server.open() == 0);
    assert!(!echoes(&session));
    glbd.wait_for_log("DOWN: HTTP status 503; 1 session closed; destinations left: 0");
}

#[test]
fn a_check_that_is_not_answered_is_not_made_a_second_time() {
    let (port, [site]) = sites();
    let glbd = asking(port).args(["--timeout", "0.2"]).destinations([&site]).start();
    wait_until_judged(&glbd, &site, "READY");
    site.hang(true);
    wait_until_judged(&glbd, &site, "DOWN");
    let asked = site.asked().len();
    let told = glbd.watch().row(&site).reason.clone();
    assert_eq!(told, "no answer within 0.2 s");
    // Several more checks would have been made in this time.
    let since = std::time::Instant::now();
    wait_until("a second is over", || since.elapsed() > Duration::from_secs(1));
    assert_eq!(site.asked().len(), asked, "the one that hangs is waited for");
    site.hang(false);
    wait_until_judged(&glbd, &site, "READY");
}

#[test]
fn a_server_that_answers_later_than_a_check_may_take_is_ready_all_the_same() {
    let (port, [slow]) = sites();
    slow.delay(Duration::from_millis(600));
    let glbd = asking(port).args(["-i", "20", "--timeout", "0.2"]).destinations([&slow]).start();
    wait_until_judged(&glbd, &slow, "READY");
}

#[test]
fn sessions_on_a_destination_that_is_down_are_closed_though_it_has_answered_well_in_between() {
    let (port, [falling, other]) = sites();
    let glbd = asking(port).args(["--rise", "1000"]).destinations([&falling]).start();
    let session = glbd.connect();
    assert_eq!(read_line(&session).expect("a name"), "2");
    for status in [503, 200, 503] {
        let before = falling.asked().len();
        falling.say(status);
        wait_until("it has said so", || falling.asked().len() > before + 5);
    }
    assert_eq!(state(&glbd, &falling), "DOWN");
    assert!(echoes(&session), "there is nowhere better to go");
    // Its first check is enough.
    glbd.change(&other);
    wait_until("its sessions are closed", || falling.server.open() == 0);
    assert!(!echoes(&session));
}

#[test]
fn that_no_destination_is_fit_from_the_start_is_told_once_and_not_before_all_are_judged() {
    let (port, [first, second]) = sites();
    [&first, &second].iter().for_each(|site| site.say(503));
    let glbd = asking(port).destinations([&first, &second]).start();
    [&first, &second].iter().for_each(|site| wait_until_judged(&glbd, site, "DOWN"));
    let told = "ERROR no destination is left that takes new clients";
    glbd.wait_for_log(told);
    second.say(200);
    wait_until_judged(&glbd, &second, "READY");
    assert_eq!(glbd.log().matches(told).count(), 1, "{}", glbd.log());
    drop(glbd);
    let glbd = asking(port).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &first, "DOWN");
    wait_until_judged(&glbd, &second, "READY");
    assert!(!glbd.log().contains(told), "{}", glbd.log());
}
