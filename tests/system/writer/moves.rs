//! Moves that the watchdog and changes of the table bring about, and what moves nothing.

use super::*;
use crate::harness::{names_of, said_goodbye};

#[test]
fn a_refused_connect_does_not_move_the_writer() {
    let (port, [mut first, second]) = sites();
    let glbd = single(port).destinations([&first, &second]).start();
    let (held, name) = session(&glbd);
    assert_eq!(name, "2");
    // Its page still says that it is fit.
    first.server.stop_listening();
    thread::scope(|scope| {
        let client = waiting_client(&glbd, scope);
        wait_until("a connect was refused", || glbd.watch().row(&first).reason.contains("refuses clients"));
        assert!(echoes(&held));
        first.server.start();
        assert_eq!(client.join().expect("a client"), "2");
    });
    assert_eq!(second.server.accepted(), 0);
    assert_eq!(single_of(&glbd.info()), Some(first.to_string()));
}

#[test]
fn a_client_of_a_writer_that_keeps_refusing_is_turned_away_after_the_connect_timeout() {
    let (port, [mut first, second]) = sites();
    let glbd = single(port).args(["--connect-timeout", "1"]).destinations([&first, &second]).start();
    assert_eq!(session(&glbd).1, "2");
    // Its page still says that it is fit.
    first.server.stop_listening();
    assert!(said_goodbye(&glbd.connect()));
    assert_eq!(second.server.accepted(), 0);
    // With a pause before each but the first.
    let reason = glbd.watch().row(&first).reason.clone();
    let count =
        reason.split_once(" in a row)").and_then(|(before, _)| before.rsplit('(').next()?.parse::<usize>().ok());
    assert!(count.is_some_and(|count| count <= 12), "{reason}");
}

#[test]
fn when_the_writer_falls_its_sessions_are_closed_before_the_next_serves() {
    let (port, [first, second]) = sites();
    let glbd = single(port).destinations([&first, &second]).start();
    let (held, name) = session(&glbd);
    assert_eq!(name, "2");
    first.say(503);
    assert!(!said_goodbye(&held), "it is reset");
    wait_until("the next one serves", || single_of(&glbd.info()) == Some(second.to_string()));
    assert_eq!(names_of(&[glbd.connect()]), ["3"]);
    let moved = format!(
        "single destination moved from {first} to {second}: {first} is AVOID: HTTP status 503; 1 session closed"
    );
    glbd.wait_for_log(&moved);
}

#[test]
fn when_the_writer_is_drained_its_sessions_are_closed_before_the_next_serves() {
    let (port, [first, second]) = sites();
    let glbd = single(port).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &second, "READY");
    let held: Vec<TcpStream> = (0..5).map(|_| session(&glbd).0).collect();
    glbd.change(format!("{first}:0"));
    assert_eq!(names_of(&[glbd.connect()]), ["3"]);
    assert_eq!(left_on(&first), 0, "none of the former is left when the next serves");
    assert!(held.iter().all(|client| !said_goodbye(client)));
    glbd.wait_for_log(&format!(
        "single destination moved from {first} to {second}: {first} is drained; 5 sessions closed"
    ));
}

#[test]
fn a_heavier_node_that_returns_takes_over_and_no_session_stays_on_the_other() {
    let (port, [heavy, light]) = sites();
    heavy.say(503);
    let glbd = single(port).destinations([format!("{heavy}:2"), light.to_string()]).start();
    let (held, name) = session(&glbd);
    assert_eq!(name, "3");
    heavy.say(200);
    assert!(!said_goodbye(&held));
    assert_eq!(names_of(&[glbd.connect()]), ["2"]);
    assert_eq!(left_on(&light), 0);
    glbd.wait_for_log(&format!("{heavy} has more weight; 1 session closed"));
}

#[test]
fn an_equal_node_that_returns_changes_nothing() {
    let (port, [first, second]) = sites();
    first.say(503);
    let glbd = single(port).destinations([&first, &second]).start();
    let (held, name) = session(&glbd);
    assert_eq!(name, "3");
    first.say(200);
    wait_until_judged(&glbd, &first, "READY");
    assert!(echoes(&held));
    assert_eq!(names_of(&[glbd.connect()]), ["3"]);
}

#[test]
fn with_keep_sessions_the_former_keeps_its_sessions() {
    let (port, [first, second]) = sites();
    let glbd = single(port).arg("--keep-sessions").destinations([&first, &second]).start();
    let (held, name) = session(&glbd);
    assert_eq!(name, "2");
    glbd.change(format!("{first}:0"));
    assert_eq!(names_of(&[glbd.connect()]), ["3"]);
    assert!(echoes(&held));
    glbd.wait_for_log(&format!("{first} is drained; 1 session kept"));
}

#[test]
fn while_there_is_nowhere_to_go_the_writer_keeps_its_sessions_when_it_is_drained() {
    let (port, [only]) = sites();
    let glbd = single(port).destinations([&only]).start();
    let (held, _) = session(&glbd);
    glbd.change(format!("{only}:0"));
    assert!(said_goodbye(&glbd.connect()), "new clients are turned away");
    assert!(echoes(&held));
    assert_eq!(single_of(&glbd.info()), Some(only.to_string()));
}

#[test]
fn several_daemons_with_the_same_list_agree() {
    let (port, [slow, first, second]) = sites();
    slow.delay(Duration::from_millis(300));
    let lists = [(); 3].map(|()| single(port).destinations([&slow, &first, &second]).start());
    for glbd in &lists {
        assert_eq!(session(glbd).1, "2", "the first of the list, though the others answered before it");
    }
}

#[test]
fn the_single_destination_is_marked_in_getinfo() {
    let servers = ["a", "b"].map(Server::named);
    let glbd = Glbd::builder().arg("--single").destinations(&servers).start();
    assert_eq!(single_of(&glbd.info()), None, "no client has come");
    let _held = session(&glbd);
    assert_eq!(single_of(&glbd.info()), Some(servers[0].to_string()));
    let line = glbd.control("getinfo").lines().nth(3).expect("a row").to_owned();
    assert!(line.ends_with(" :    1.000   0.500  single     1"), "{line}");
}
