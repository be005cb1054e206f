//! init/keepalived/check-glbd, under each of the small shells and with each way to speak to the control port.

use std::fs;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::wait_until;
use crate::init_scripts::machine::{Machine, Outcome};

const SHELLS: [&[&str]; 2] = [&["/usr/bin/dash"], &["/usr/bin/busybox", "sh"]];

/// What may be all that is there to speak to the control port, and its name then.
const SPEAKERS: [(&str, &str); 5] =
    [("nc.openbsd", "nc"), ("nc.traditional", "nc"), ("ncat", "ncat"), ("busybox", "busybox"), ("bash", "bash")];

/// A machine with glbd and the script.
struct Site {
    machine: Machine,
}

impl Site {
    fn new() -> Self {
        let machine = Machine::boot(&[]);
        machine.copy("init/keepalived/check-glbd", "/srv");
        Self { machine }
    }

    fn start(&self, arguments: &[&str]) {
        let glbd = ["/usr/sbin/glbd", "--daemon", "--control", "127.0.0.1:8011"];
        self.machine.expect(&[&glbd, arguments].concat());
    }

    /// The answer of the control port.
    fn control(&self, command: &str) -> String {
        self.machine.expect(&["sh", "-c", &format!("echo {command} | nc 127.0.0.1 8011")])
    }

    fn run(&self, shell: &[&str], words: &[&str]) -> Outcome {
        self.machine.run(&[shell, &["/srv/check-glbd"], words].concat())
    }

    /// Runs the script where only this program can speak to the control port.
    fn run_with(&self, shell: &[&str], (program, name): (&str, &str), words: &[&str]) -> Outcome {
        let links = format!("ln -s /usr/bin/timeout /usr/bin/grep /usr/bin/cat . && ln -s /usr/bin/{program} {name}");
        let run = format!("cd $(mktemp -d) && {links} && PATH=$PWD && exec \"$@\"");
        self.run(&[&["/usr/bin/sh", "-c", &run, "run"], shell].concat(), words)
    }
}

/// Does this under each shell with each of the speakers, two at a time: more of them would wait for each other.
fn in_all_ways(act: impl Fn(&[&str], (&str, &str), &str) + Sync) {
    let ways = SHELLS.iter().flat_map(|shell| SPEAKERS.map(|speaker| (*shell, speaker)));
    let ways = Mutex::new(ways.collect::<Vec<_>>());
    let next = || ways.lock().expect("no thread panics with it").pop();
    let act_in_turn = || {
        while let Some((shell, speaker)) = next() {
            act(shell, speaker, &format!("{shell:?} {speaker:?}"));
        }
    };
    thread::scope(|scope| [(); 2].map(|()| drop(scope.spawn(act_in_turn))));
}

/// Repeats this up to ten times while it says that glbd does not answer: on a loaded machine the answer may take longer
/// than two seconds. keepalived repeats the script as well before it acts (`fall 2`).
fn answered(check: impl Fn() -> Outcome) -> Outcome {
    let in_time = |outcome: &Outcome| !outcome.text.contains(NO_ANSWER);
    (1..10).map(|_| check()).find(in_time).unwrap_or_else(&check)
}

fn assert_yes(outcome: &Outcome, what: &str) {
    assert_eq!((outcome.status, outcome.text.as_str()), (Some(0), ""), "{what}");
}

fn assert_no(outcome: &Outcome, reason: &str, what: &str) {
    let text = format!("check-glbd: {reason}\n");
    assert_eq!((outcome.status, &outcome.text), (Some(1), &text), "{what}");
}

const NO_ANSWER: &str = "glbd does not answer on port 8011 of 127.0.0.1";

#[test]
fn a_glbd_that_answers_passes_with_any_netcat_or_none() {
    let site = Site::new();
    site.start(&["8010", "127.0.0.2:8000"]);
    in_all_ways(|shell, speaker, what| {
        assert_yes(&answered(|| site.run_with(shell, speaker, &["127.0.0.1", "8011"])), what);
        assert_yes(&answered(|| site.run_with(shell, speaker, &["--fit", "127.0.0.1", "8011"])), what);
    });
}

#[test]
fn a_glbd_that_is_not_there_does_not_pass() {
    let site = Site::new();
    in_all_ways(|shell, speaker, what| {
        assert_no(&site.run_with(shell, speaker, &["127.0.0.1", "8011"]), NO_ANSWER, what);
        assert_no(&site.run_with(shell, speaker, &["--fit", "127.0.0.1", "8011"]), NO_ANSWER, what);
    });
}

#[test]
fn a_glbd_that_hangs_does_not_pass_and_costs_little_more_than_two_seconds() {
    let site = Site::new();
    site.start(&["8010", "127.0.0.2:8000"]);
    for pid in site.machine.daemons() {
        site.machine.expect(&["kill", "-STOP", &pid]);
    }
    in_all_ways(|shell, speaker, what| {
        let begun = Instant::now();
        let outcome = site.run_with(shell, speaker, &["127.0.0.1", "8011"]);
        let took = begun.elapsed();
        assert_no(&outcome, NO_ANSWER, what);
        // Two seconds, and what a loaded machine needs to start a few programs.
        assert!(took < Duration::from_secs(10), "{what} took {took:?}");
    });
}

#[test]
fn fit_passes_while_a_destination_may_get_new_clients() {
    let unfit = "glbd has no destination that is fit for new clients";
    for shell in SHELLS {
        let site = Site::new();
        let file = |name| site.machine.directory("/srv").join(name);
        let say = |state| {
            // The script may be reading.
            fs::write(file("new"), state).and_then(|()| fs::rename(file("new"), file("state"))).expect("a file");
        };
        fs::write(file("watch"), "#!/bin/sh\nwhile read -r request; do cat /srv/state; done\n").expect("a script");
        site.machine.expect(&["chmod", "755", "/srv/watch"]);
        say("3\n");
        let quick = ["--fall", "1", "--rise", "1"];
        site.start(&[&["--watchdog", "exec:/srv/watch"], &quick[..], &["8010", "127.0.0.2:8000:0.5"]].concat());
        let fit = || answered(|| site.run(shell, &["--fit", "127.0.0.1", "8011"]));
        let answers = || answered(|| site.run(shell, &["127.0.0.1", "8011"]));

        for (state, verdict) in [("2\n", "AVOID"), ("3\n", "READY"), ("1\n", "DOWN"), ("3\n", "READY")] {
            say(state);
            wait_until(verdict, || site.control("getwatch").contains(verdict));
            match verdict {
                "READY" => assert_yes(&fit(), verdict),
                _ => assert_no(&fit(), unfit, verdict),
            }
            assert_yes(&answers(), verdict);
        }
        assert_eq!(site.control("127.0.0.2:8000:0"), "Ok\n");
        assert_no(&fit(), unfit, "drained");
        assert_eq!(site.control("127.0.0.2:8000:-1"), "Ok\n");
        assert_no(&fit(), unfit, "without a destination");
        assert_yes(&answers(), "without a destination");
    }
}

#[test]
fn wrong_arguments_are_answered_with_the_usage() {
    let site = Site::new();
    for shell in SHELLS {
        let wrong: [&[&str]; 4] = [&[], &["8011"], &["--fit", "127.0.0.1"], &["--fit", "127.0.0.1", "8011", "now"]];
        for words in wrong {
            let Outcome { status, text } = site.run(shell, words);
            assert_eq!(status, Some(2), "{shell:?} {words:?}: {text}");
            assert!(text.starts_with("Usage: "), "{text}");
        }
    }
}

#[test]
fn fit_passes_while_there_is_room_for_another_client() {
    for shell in SHELLS {
        let site = Site::new();
        let _server = site.machine.serve("one", "127.0.0.2", "8000");
        site.start(&["--max_conn", "1", "8010", "127.0.0.2:8000"]);
        let fit = || answered(|| site.run(shell, &["--fit", "127.0.0.1", "8011"]));
        assert_yes(&fit(), "without clients");
        let client = site.machine.client().expect("a server");
        assert_no(&fit(), "glbd is full: new clients wait in the backlog", "with as many as it takes");
        assert_yes(&answered(|| site.run(shell, &["127.0.0.1", "8011"])), "it answers");
        drop(client);
        wait_until("it is gone", || site.control("getinfo").contains("total connections: 0 of 1 max"));
        assert_yes(&fit(), "again");
    }
}
