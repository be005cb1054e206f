//! Every netcat that Debian has, none of which half-closes or quits by itself, gets its answer and ends.

use std::io::{Read, Write};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::harness::{Glbd, Info, Stats};

/// The netcats, and the packages that they are in.
const NETCATS: [(&[&str], &str); 4] = [
    (&["nc.openbsd"], "netcat-openbsd"),
    (&["nc.traditional"], "netcat-traditional"),
    (&["ncat"], "ncat"),
    (&["busybox", "nc"], "busybox"),
];

/// What a user waits for an answer without becoming impatient.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Pipes `input` into a netcat, as `echo` and `printf` do, and returns what it prints and how long it took. Panics
/// unless it succeeds.
fn pipe_through((netcat, package): (&[&str], &str), glbd: &Glbd, input: &str) -> (String, Duration) {
    let control = glbd.control_address();
    let begun = Instant::now();
    let mut process = Command::new("timeout")
        .arg("60")
        .args(netcat)
        .args([control.ip().to_string(), control.port().to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("timeout, from Debian's package coreutils");
    let mut stdin = process.stdin.take().expect("a pipe");
    stdin.write_all(input.as_bytes()).expect("a running netcat");
    drop(stdin);
    let mut answer = String::new();
    process.stdout.take().expect("a pipe").read_to_string(&mut answer).expect("text");
    let status = process.wait().expect("its end");
    let took = begun.elapsed();
    assert_ne!(status.code(), Some(127), "{netcat:?} is missing: install Debian's package {package}");
    assert_eq!(status.code(), Some(0), "{netcat:?} with {input:?}, which answered {answer:?} after {took:?}");
    (answer, took)
}

/// Has every netcat send `input`, checks each answer, and that it comes at once, as it does at the first try unless the
/// machine is busy.
fn every_netcat_gets(input: &str, check: impl Fn(&Glbd, &str)) {
    for netcat in NETCATS {
        let mut tries = Vec::new();
        while tries.last().is_none_or(|took| *took >= AT_ONCE) {
            assert!(tries.len() < 30, "{netcat:?} took {tries:?} for {input:?}");
            let glbd = Glbd::start(["127.0.0.1:1:0.5", "127.0.0.1:2"]);
            let (answer, took) = pipe_through(netcat, &glbd, input);
            check(&glbd, &answer);
            tries.push(took);
        }
    }
}

#[test]
fn echo_getinfo_is_answered_in_full_and_ends() {
    every_netcat_gets("getinfo\n", |glbd, answer| assert_eq!(Info::parse(answer), glbd.info()));
}

#[test]
fn echo_getstats_is_answered_in_full_and_ends() {
    every_netcat_gets("getstats\n", |_, answer| assert_eq!(Stats::parse(answer).created, 0));
}

#[test]
fn printf_getinfo_is_answered_in_full_and_ends() {
    every_netcat_gets("getinfo", |glbd, answer| assert_eq!(Info::parse(answer), glbd.info()));
}

#[test]
fn a_change_is_answered_and_ends() {
    every_netcat_gets("127.0.0.1:2:-1\n", |glbd, answer| {
        assert_eq!(answer, "Ok\n");
        assert_eq!(glbd.info().rows.len(), 1);
    });
}

#[test]
fn a_change_that_is_refused_is_answered_and_ends() {
    every_netcat_gets("127.0.0.1:2:heavy\n", |_, answer| {
        assert_eq!(answer, "Error: '127.0.0.1:2:heavy': 'heavy' is not a weight (a finite number)\n");
    });
}

#[test]
fn several_commands_are_answered_and_end() {
    every_netcat_gets("127.0.0.1:3\ngetinfo\nversion\n", |glbd, answer| {
        let info = answer.strip_prefix("Ok\n").and_then(|it| it.strip_suffix("glbd 2.0.0\n")).expect("three answers");
        assert_eq!(Info::parse(info), glbd.info());
    });
}

#[test]
fn a_long_answer_is_complete() {
    for netcat in NETCATS {
        let glbd = Glbd::start((1..=2000).map(|port| format!("127.0.0.1:{port}")));
        let (answer, _) = pipe_through(netcat, &glbd, "getinfo\n");
        assert_eq!(Info::parse(&answer).rows.len(), 2000, "{netcat:?}");
    }
}
