//! Destinations by name: nobody is kept waiting by a name server but those who gave the name.

use std::fs;
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use super::conversation::{call, rest, say};
use super::name_server::NameServer;
use crate::harness::{Glbd, Server, read_line, wait_until};

fn start_with(names: &NameServer, destinations: &[String]) -> Glbd {
    Glbd::builder().wrapped_by(names.wrapper()).args(["-t", "2"]).destinations(destinations).start()
}

/// A conversation that has asked for this destination, whose name is being resolved.
fn ask_for(glbd: &Glbd, names: &NameServer, destination: &str) -> TcpStream {
    let before = names.asked();
    let stream = call(glbd);
    say(&stream, &format!("{destination}\n"));
    wait_until("the name server is asked", || names.asked() > before);
    stream
}

#[test]
fn a_name_that_takes_long_holds_up_nobody_else_and_is_answered_in_the_end() {
    let names = NameServer::start();
    let server = Server::named("a");
    let glbd = start_with(&names, &[server.to_string()]);
    let waiting = ask_for(&glbd, &names, "slow.example:1:2");
    // Longer than the quiet that ends a conversation with nothing to answer.
    for _ in 0..10 {
        thread::sleep(Duration::from_millis(50));
        assert_eq!(glbd.info().rows.len(), 1);
        assert_eq!(read_line(&glbd.connect()).expect("a name"), "a");
    }
    glbd.change("127.0.0.1:2");
    names.answer();
    assert_eq!(rest(&waiting), "Ok\n");
    assert_eq!(glbd.info().row("127.0.0.1:1").weight, 2.0);
}

#[test]
fn what_follows_a_name_is_obeyed_after_it() {
    let names = NameServer::start();
    let glbd = start_with(&names, &[]);
    let waiting =
        ask_for(&glbd, &names, "slow.example:1:2\nslow.example:1:3\nversion\nnowhere.example:1\n127.0.0.1:1:-1");
    assert_eq!(glbd.info().rows.len(), 0);
    names.answer();
    let said = rest(&waiting);
    let (before, error) = said.split_once("Error: ").expect("an error");
    assert_eq!(before, "Ok\nOk\nglbd 2.0.0\n");
    assert!(error.starts_with("nowhere.example:1: ") && error.ends_with("\nOk\n"), "{error}");
    assert_eq!(glbd.info().rows.len(), 0);
}

#[test]
fn a_name_that_does_not_resolve_is_an_error_that_names_it() {
    let names = NameServer::start();
    names.answer();
    let glbd = start_with(&names, &[]);
    for weight in ["", ":2", ":0", ":-1"] {
        let answer = glbd.control(&format!("nowhere.example:3306{weight}"));
        assert!(answer.starts_with("Error: nowhere.example:3306: "), "{answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
    }
    assert_eq!(glbd.info().rows.len(), 0);
}

#[test]
fn a_destination_whose_name_resolves_no_more_can_still_be_changed_and_removed() {
    let names = NameServer::start();
    names.answer();
    let glbd = start_with(&names, &["db1.example:1".to_owned()]);
    drop(names);
    glbd.change("db1.example:1:3");
    assert_eq!(glbd.info().row("127.0.0.1:1").weight, 3.0);
    glbd.change("DB1.example:1:0");
    glbd.change("db1.example:1:-1");
    assert_eq!(glbd.info().rows.len(), 0);
}

#[test]
fn many_names_that_take_long_hold_up_nobody_else() {
    let names = NameServer::start();
    let glbd = start_with(&names, &[]);
    let before = threads(&glbd);
    let waiting: Vec<TcpStream> = (0..10).map(|n| ask_for(&glbd, &names, &format!("slow{n}.example:1"))).collect();
    wait_until("all are being resolved", || threads(&glbd) == before + 10);
    // A flood of them is refused rather than kept.
    let flood: Vec<TcpStream> = (0..40).map(|_| call(&glbd)).collect();
    flood.iter().for_each(|stream| say(stream, "slow.example:2\n"));
    for _ in 0..10 {
        glbd.change("127.0.0.1:3");
        assert_eq!(glbd.info().rows.len(), 1);
        assert!(threads(&glbd) < before + 30, "{} threads", threads(&glbd));
    }
    names.answer();
    waiting.iter().for_each(|stream| assert_eq!(rest(stream), "Ok\n"));
    let answers: Vec<String> = flood.iter().map(rest).collect();
    let refused = |answer: &&String| answer.starts_with("Error: slow.example:2: too many names");
    assert!(answers.iter().all(|answer| answer == "Ok\n" || refused(&answer)), "{answers:?}");
    assert!(answers.iter().filter(refused).count() >= 20, "{answers:?}");
    glbd.change("slow.example:4");
    wait_until("no look-up is left", || threads(&glbd) == before);
}

fn threads(glbd: &Glbd) -> usize {
    fs::read_dir(format!("/proc/{}/task", glbd.pid())).expect("glbd runs").count()
}

#[test]
fn a_client_that_leaves_while_its_name_is_resolved_harms_nobody() {
    let names = NameServer::start();
    let glbd = start_with(&names, &[]);
    let descriptors = glbd.descriptors();
    for n in 0..5 {
        drop(ask_for(&glbd, &names, &format!("slow{n}.example:{}", n + 1)));
    }
    names.answer();
    wait_until("all look-ups have ended", || glbd.descriptors() == descriptors);
    glbd.change("127.0.0.1:9");
}
