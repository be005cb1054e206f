//! scripts/demo, which is what `make run` shows.

use std::fs;

use super::machine::{Background, Machine};
use crate::harness::Info;

/// Without a terminal, as under a build server.
const DEMO: [&str; 5] = ["env", "--default-signal=INT", "sh", "/srv/demo", "/usr/sbin/glbd"];

fn site() -> Machine {
    let machine = Machine::boot(&[]);
    machine.copy("scripts/demo", "/srv");
    machine
}

/// Starts the demo and returns what it says until it waits for Ctrl-C.
fn start(machine: &Machine) -> (Background, String) {
    let mut demo = Background::start(machine.command(&DEMO));
    let mut said = String::new();
    for line in demo.lines() {
        said.extend([line.expect("text").as_str(), "\n"]);
        if said.contains("Ctrl-C") {
            return (demo, said);
        }
    }
    panic!("the demo ended after:\n{said}");
}

fn assert_nothing_left(machine: &Machine) {
    let processes = machine.run(&["pgrep", "-l", "glbd|busy|^sh$"]);
    assert_eq!(processes.text, "");
    let files = fs::read_dir(machine.directory("/tmp")).expect("/tmp");
    assert_eq!(files.count(), 0, "files in /tmp");
}

#[test]
fn the_demo_shows_three_servers_behind_glbd() {
    let machine = site();
    let (_demo, said) = start(&machine);
    let answers = |port| said.matches(&format!("answered by the server on port {port}\n")).count();
    let answers = [8021, 8022, 8023].map(answers);
    assert!(answers.iter().all(|count| *count > 0), "{said}");
    assert_eq!(answers.iter().sum::<usize>(), 8, "{said}");
    for shown in ["Router:", "Destinations: 3", "conns: 8 / 0", "echo getinfo | nc 127.0.0.1 8011"] {
        assert!(said.contains(shown), "{shown:?} in:\n{said}");
    }
    let drained = machine.expect(&["sh", "-c", "echo 127.0.0.1:8021:0 | nc 127.0.0.1 8011"]);
    assert_eq!(drained, "Ok\n", "what the demo tells to type next");
    assert_eq!(Info::parse(&machine.expect(&["sh", "-c", "echo getinfo | nc 127.0.0.1 8011"])).rows[0].weight, 0.0);
}

#[test]
fn ctrl_c_and_sigterm_end_the_demo_without_a_trace() {
    for (signal, status) in [("INT", 0), ("TERM", 143)] {
        let machine = site();
        let (mut demo, _) = start(&machine);
        machine.expect(&["pkill", &format!("-{signal}"), "--oldest", "--full", "/srv/demo"]);
        assert_eq!(demo.wait(), Some(status), "{signal}");
        assert_nothing_left(&machine);
    }
}

#[test]
fn the_demo_names_a_port_that_is_in_use() {
    for port in ["8010", "8011", "8022"] {
        let machine = site();
        let _other = machine.serve("other", "127.0.0.1", port);
        let outcome = machine.run(&DEMO);
        assert_eq!(outcome.status, Some(1), "{}", outcome.text);
        assert!(outcome.text.contains(&format!("port {port} is in use")), "{}", outcome.text);
        assert_nothing_left(&machine);
    }
}
