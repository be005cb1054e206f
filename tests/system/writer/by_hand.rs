//! The control command `writer`.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use nix::sys::signal::Signal;

use super::*;
use crate::harness::servers::echo;
use crate::harness::{KernelsEnd, free_port, names_of, said_goodbye, write_script};

/// A script that finds everything READY.
const READY: &str = "#!/bin/sh\nwhile read -r request; do echo 3; done\n";

#[test]
fn writer_moves_without_overlap() {
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("ready");
    write_script(&script, READY, 0o755);
    let overlaps = Arc::new(AtomicUsize::new(0));
    let addresses = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
    let servers = [(0, 1), (1, 0)].map(|(own, other)| {
        let overlaps = Arc::clone(&overlaps);
        Server::at(addresses[own], move |stream| {
            let elsewhere = KernelsEnd::established_towards(addresses[other]);
            // One that is still open was so when the others were counted. Otherwise they may be the next move's.
            if KernelsEnd::opposite(stream).is_some_and(|end| end.is_open()) {
                overlaps.fetch_add(elsewhere, Ordering::SeqCst);
            }
            echo(stream);
        })
    });
    let watchdog = format!("exec:{}", script.display());
    let glbd =
        Glbd::builder().args(["--single", "-t", "2", "-w", &watchdog, "-i", "0.1"]).destinations(&servers).start();
    wait_until_judged(&glbd, &servers[1], "READY");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Clients that come, say something and stay for a moment, if they may.
        for _ in 0..4 {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let client = glbd.connect();
                    while !over.load(Ordering::Relaxed) && echoes(&client) {
                        thread::sleep(Duration::from_millis(5));
                    }
                }
            });
        }
        for number in 1..=10 {
            let target = &servers[number % 2];
            wait_until("the other one has clients", || servers[(number + 1) % 2].open() >= 4);
            assert_eq!(glbd.control(&format!("writer {target} 0")), "Ok\n");
            assert_eq!(single_of(&glbd.info()), Some(target.to_string()));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(overlaps.load(Ordering::SeqCst), 0, "sessions on the former when the next one got its first");
    assert_eq!(glbd.log().matches("by hand; ").count(), 10, "one line each:\n{}", glbd.log());
}

#[test]
fn new_clients_wait_while_the_writer_moves() {
    let (port, [first, second]) = sites();
    let glbd = single(port).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &second, "READY");
    let (held, name) = session(&glbd);
    assert_eq!(name, "2");
    thread::scope(|scope| {
        let answer = later(&glbd, &format!("writer {second} 600"), scope);
        glbd.wait_for_log("by hand: new clients wait for 1 session to end");
        let accepted = (first.server.accepted(), second.server.accepted());
        let clients = [(); 3].map(|()| waiting_client(&glbd, scope));
        wait_until("they have come", || glbd.stats().open >= 1 && !clients.iter().any(|it| it.is_finished()));
        assert!(echoes(&held), "sessions on the former go on");
        assert_eq!((first.server.accepted(), second.server.accepted()), accepted);
        drop(held);
        assert_eq!(answer.join().expect("an answer"), "Ok\n", "it ends early");
        clients.into_iter().for_each(|client| assert_eq!(client.join().expect("a client"), "3"));
    });
}

#[test]
fn after_the_grace_the_sessions_are_closed() {
    let (port, [first, second]) = sites();
    let glbd = single(port).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &second, "READY");
    let (held, _) = session(&glbd);
    let begun = Instant::now();
    assert_eq!(glbd.control(&format!("writer {second} 0.5")), "Ok\n");
    assert!(begun.elapsed() >= Duration::from_millis(500));
    assert!(!said_goodbye(&held), "it was reset");
    assert_eq!(names_of(&[glbd.connect()]), ["3"]);
    glbd.wait_for_log(&format!("single destination moved from {first} to {second}: by hand; 1 session closed"));
}

#[test]
fn one_that_falls_meanwhile_cancels_the_move_and_sessions_stay() {
    let (port, [first, second]) = sites();
    let glbd = single(port).destinations([&first, &second]).start();
    wait_until_judged(&glbd, &second, "READY");
    let (held, _) = session(&glbd);
    thread::scope(|scope| {
        let answer = later(&glbd, &format!("writer {second} 600"), scope);
        glbd.wait_for_log("by hand: new clients wait");
        let client = waiting_client(&glbd, scope);
        second.say(503);
        let answer = answer.join().expect("an answer");
        assert_eq!(answer, format!("Error: {second}: cancelled: {second} is AVOID: HTTP status 503\n"));
        assert_eq!(client.join().expect("a client"), "2");
    });
    assert!(echoes(&held));
    assert_eq!(glbd.log().matches("the move by hand is cancelled").count(), 1);
}

#[test]
fn the_choice_of_a_hand_holds_until_it_falls() {
    let (port, [heavy, light]) = sites();
    let glbd = single(port).destinations([format!("{heavy}:2"), light.to_string()]).start();
    wait_until_judged(&glbd, &light, "READY");
    assert_eq!(glbd.control(&format!("writer {light}")), "Ok\n");
    heavy.say(503);
    wait_until_judged(&glbd, &heavy, "DOWN");
    heavy.say(200);
    wait_until_judged(&glbd, &heavy, "READY");
    assert_eq!(session(&glbd).1, "3", "a heavier one that returns does not move it");
    light.say(503);
    wait_until_judged(&glbd, &light, "DOWN");
    light.say(200);
    wait_until_judged(&glbd, &light, "READY");
    assert_eq!(session(&glbd).1, "2");
}

#[test]
fn what_cannot_be_done_is_refused_and_changes_nothing() {
    let (port, [first, down]) = sites();
    down.say(503);
    let glbd = single(port).destinations([&first, &down]).start();
    wait_until_judged(&glbd, &down, "DOWN");
    let (held, _) = session(&glbd);
    let only = "only a READY destination can be the single one";
    for (command, answer) in [
        (format!("writer {down}"), format!("Error: {down}: it is DOWN: HTTP status 503; {only}\n")),
        ("writer 127.0.0.1:1".to_owned(), "Error: 127.0.0.1:1: no such destination\n".to_owned()),
        ("writer nowhere.invalid:1".to_owned(), "Error: nowhere.invalid:1: no such destination\n".to_owned()),
        (
            format!("writer {first} 3601"),
            format!("Error: 'writer {first} 3601': '3601' is not a grace (0 to 3600 seconds)\n"),
        ),
        ("writer".to_owned(), "Error: 'writer': expected writer HOST:PORT [GRACE]\n".to_owned()),
    ] {
        assert_eq!(glbd.control(&command), answer);
    }
    glbd.change(format!("{down}:0"));
    assert_eq!(glbd.control(&format!("writer {down}")), format!("Error: {down}: it is drained; {only}\n"));
    assert!(echoes(&held));
    assert_eq!(single_of(&glbd.info()), Some(first.to_string()));
    assert!(glbd.control("help").contains("\nwriter HOST:PORT "));

    let many = Glbd::start([&first.server]);
    let answer = format!("Error: {first}: there is no single destination to move: glbd runs without --single\n");
    assert_eq!(many.control(&format!("writer {first}")), answer);
}

#[test]
fn it_comes_through_the_fifo_and_by_name_and_without_a_watchdog() {
    let servers = ["a", "b"].map(Server::named);
    let named = format!("localhost:{}:0.5", servers[1].address().port());
    let glbd = Glbd::builder().arg("--single").destinations([servers[0].to_string(), named]).start();
    let (held, name) = session(&glbd);
    assert_eq!(name, "a");
    let command = format!("writer localhost:{} 0\ngetinfo\n", servers[1].address().port());
    fs::write(glbd.fifo(), command).expect("a FIFO");
    assert!(!said_goodbye(&held));
    assert_eq!(session(&glbd).1, "b");
    fs::write(glbd.fifo(), "writer 127.0.0.1:1\n").expect("a FIFO");
    glbd.wait_for_log("control FIFO: Error: 127.0.0.1:1: no such destination");
    // The next commands in the same conversation are obeyed when the move has ended.
    let answers = glbd.control(&format!("writer {}\nversion", servers[0]));
    assert_eq!(answers, "Ok\nglbd 2.0.0\n");
    assert_eq!(session(&glbd).1, "a");
}

#[test]
fn a_second_command_replaces_the_first_and_the_former_cancels_it() {
    let (port, [first, second, third]) = sites();
    let glbd = single(port).destinations([&first, &second, &third]).start();
    wait_until_judged(&glbd, &second, "READY");
    wait_until_judged(&glbd, &third, "READY");
    let (held, _) = session(&glbd);
    thread::scope(|scope| {
        let one = later(&glbd, &format!("writer {second} 600"), scope);
        glbd.wait_for_log("by hand: new clients wait");
        let other = later(&glbd, &format!("writer {third} 600"), scope);
        assert_eq!(one.join().expect("an answer"), format!("Error: {second}: cancelled: {third} was chosen by hand\n"));
        assert_eq!(glbd.control(&format!("writer {first}")), "Ok\n");
        assert_eq!(
            other.join().expect("an answer"),
            format!("Error: {third}: cancelled: {first} was chosen by hand\n")
        );
    });
    assert!(echoes(&held));
    assert_eq!(session(&glbd).1, "2");
}

#[test]
fn a_stop_in_the_middle_of_a_move_is_an_error_and_the_former_stays_the_writer() {
    for signal in [Signal::SIGTERM, Signal::SIGUSR1] {
        let (port, [first, second]) = sites();
        let directory = tempfile::tempdir().expect("a directory");
        let state = directory.path().join("state").display().to_string();
        let start = || single(port).args(["--state", &state]).destinations([&first, &second]).start();
        let mut glbd = start();
        wait_until_judged(&glbd, &second, "READY");
        let (held, _) = session(&glbd);
        thread::scope(|scope| {
            let answer = later(&glbd, &format!("writer {second} 600"), scope);
            glbd.wait_for_log("by hand: new clients wait");
            glbd.signal(signal);
            let told = format!("Error: {second}: cancelled: a signal came that ends this process\n");
            assert_eq!(answer.join().expect("an answer"), told, "{signal}");
        });
        assert!(signal == Signal::SIGTERM || echoes(&held), "the open ones go on to their end");
        drop(held);
        assert!(glbd.wait_exit().success());
        assert!(!glbd.log().contains("single destination moved"), "{}", glbd.log());
        let glbd = start();
        wait_until("there is a writer", || single_of(&glbd.info()).is_some());
        assert_eq!(single_of(&glbd.info()), Some(first.to_string()));
    }
}
