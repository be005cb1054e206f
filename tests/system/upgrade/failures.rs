//! A program that cannot take over: the old one goes on as if nothing had happened, and says why.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::daemon::{kill_all_with, processes_with};
use crate::harness::glbd::PROGRAM;
use crate::harness::{Glbd, Server, copy_program, echoes, wait_until, write_script};

/// A glbd that was started from a copy of the program.
struct Copied {
    glbd: Glbd,
    server: Server,
    directory: TempDir,
}

impl Copied {
    fn start() -> Self {
        let (directory, server) = (tempfile::tempdir().expect("a directory"), Server::echo());
        let copy = directory.path().join("glbd");
        copy_program(&copy);
        let exec = format!("exec '{}' \"$@\"", copy.display());
        let glbd = Glbd::builder().wrapped_by(["sh", "-c", &exec]).destinations([&server]).start();
        Self { glbd, server, directory }
    }

    fn program(&self) -> PathBuf {
        self.directory.path().join("glbd")
    }

    /// Has another file take the program's place.
    fn replace(&self, content: &str, mode: u32) {
        let new = self.directory.path().join("new");
        write_script(&new, content, mode);
        fs::rename(new, self.program()).expect("the same directory");
    }

    /// Asks for an upgrade that fails with this in the log, while clients are served before, meanwhile and after.
    fn fails_saying(&mut self, reason: &str) {
        let before = self.glbd.connect();
        assert!(echoes(&before));
        let failures = self.glbd.log().matches("not upgraded").count();
        self.glbd.signal(Signal::SIGUSR2);
        wait_until("the upgrade has failed", || {
            assert!(echoes(&before) && echoes(&self.glbd.connect()));
            self.glbd.log().matches("not upgraded").count() > failures
        });
        let log = self.glbd.log();
        let line = log.lines().rfind(|line| line.contains("not upgraded")).expect("such a line");
        assert!(line.contains(reason) && line.ends_with("this process goes on as before"), "{line}");
        assert!(echoes(&before) && echoes(&self.glbd.connect()));
        assert_eq!(self.glbd.control("127.0.0.1:1:0\n127.0.0.1:1:0.5\n127.0.0.1:1:-1").matches("Ok").count(), 2);
        assert_eq!(self.glbd.info().row(&self.server).weight, 1.0);
        assert!(self.glbd.exited().is_none());
    }

    /// Processes that have something of this in their command line, but for glbd itself.
    fn others(&self) -> usize {
        let pid = self.glbd.pid();
        let all = processes_with(&self.directory.path().display().to_string());
        all.into_iter().filter(|process| *process != pid).count()
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        kill_all_with(&self.directory.path().display().to_string());
    }
}

#[test]
fn one_that_exits_at_once_is_told_with_its_status() {
    let mut copied = Copied::start();
    copied.replace("#!/bin/sh\nexit 3\n", 0o755);
    copied.fails_saying("it ended with exit status: 3");
    copied.replace("#!/bin/sh\nkill -SEGV $$\n", 0o755);
    copied.fails_saying("it ended with signal: 11");
}

#[test]
fn one_that_hangs_is_killed_after_ten_seconds() {
    let mut copied = Copied::start();
    copied.replace("#!/bin/sh\nsleep 1000\n", 0o755);
    copied.fails_saying("it was not ready within 10 s");
    assert_eq!(copied.others(), 0);
}

#[test]
fn one_that_cannot_be_executed_is_told() {
    let mut copied = Copied::start();
    copied.replace("#!/bin/sh\n", 0o644);
    copied.fails_saying("Permission denied");
    copied.replace("not a program", 0o755);
    // As execvp(3) does, a shell tries it.
    copied.fails_saying("it ended with exit status: 127");
    fs::remove_file(copied.program()).expect("the file");
    copied.fails_saying("No such file or directory");
}

#[test]
fn one_that_is_no_glbd_gets_nothing() {
    let mut copied = Copied::start();
    // Says something else through the descriptor that it was given.
    copied.replace("#!/bin/bash\necho nonsense >&$GLBD_TAKE_OVER\nexec sleep 1000\n", 0o755);
    copied.fails_saying("it does not speak as a glbd does");
    assert_eq!(copied.others(), 0);
}

#[test]
fn one_that_dies_when_it_is_to_serve_leaves_the_old_one_serving() {
    let mut copied = Copied::start();
    let hello = r#"{"Hello":{"protocol":4,"version":"9.9.9","pid":1}}"#;
    let takes = "read -r -t 2 <&$GLBD_TAKE_OVER";
    for after_ready in ["", takes] {
        // It reads nothing, so that it says Ready before everything is handed over.
        let say = |message: &str| format!("echo '{message}' >&$GLBD_TAKE_OVER\n");
        let script = format!("#!/bin/bash\n{}{}sleep 0.2\n{after_ready}\nexit 7\n", say(hello), say("\"Ready\""));
        copied.replace(&script, 0o755);
        copied.fails_saying("it ended with exit status: 7");
    }
    assert_eq!(copied.others(), 0);
}

#[test]
fn a_glbd_of_another_kind_is_told() {
    let mut copied = Copied::start();
    let hello = r#"{"Hello":{"protocol":99,"version":"9.9.9","pid":1}}"#;
    copied.replace(&format!("#!/bin/bash\necho '{hello}' >&$GLBD_TAKE_OVER\nsleep 1000\n"), 0o755);
    copied.fails_saying("glbd 9.9.9 cannot take over from this version");
}

#[test]
fn a_glbd_that_cannot_start_says_why() {
    let mut copied = Copied::start();
    // As if the new version did not know an option any more.
    let script = format!("#!/bin/sh\nexec '{PROGRAM}' --no-such-option\n");
    copied.replace(&script, 0o755);
    copied.fails_saying("it ended with exit status: 2");
    let script = format!("#!/bin/sh\nulimit -n 12\nexec '{PROGRAM}' \"$@\"\n");
    copied.replace(&script, 0o755);
    copied.fails_saying("open files leaves no room for connections");
}

#[test]
fn after_failures_the_right_program_takes_over() {
    let mut copied = Copied::start();
    for _ in 0..3 {
        copied.replace("#!/bin/sh\nexit 1\n", 0o755);
        copied.fails_saying("it ended with exit status: 1");
    }
    let new = copied.directory.path().join("new");
    copy_program(&new);
    fs::rename(new, copied.program()).expect("the same directory");
    let client = copied.glbd.connect();
    assert!(echoes(&client));
    copied.glbd.signal(Signal::SIGUSR2);
    copied.glbd.wait_for_log("taken over from process");
    assert!(echoes(&client) && echoes(&copied.glbd.connect()));
    drop(client);
    copied.glbd.wait_exit();
    assert_eq!(copied.others(), 1);
    assert_eq!(copied.glbd.control("version"), "glbd 2.0.0\n");
}

#[test]
fn sigterm_stops_at_once_while_a_successor_hangs() {
    let mut copied = Copied::start();
    copied.replace("#!/bin/sh\nsleep 1000\n", 0o755);
    copied.glbd.signal(Signal::SIGUSR2);
    copied.glbd.wait_for_log("upgrading");
    wait_until("the successor runs", || copied.others() > 0);
    let since = std::time::Instant::now();
    copied.glbd.signal(Signal::SIGTERM);
    assert!(copied.glbd.wait_exit().success());
    assert!(since.elapsed() < Duration::from_secs(3), "it took {:?}", since.elapsed());
    assert_eq!(copied.others(), 0);
}

#[test]
fn who_drains_is_not_upgraded() {
    let mut copied = Copied::start();
    let client = copied.glbd.connect();
    assert!(echoes(&client));
    copied.glbd.signal(Signal::SIGUSR1);
    copied.glbd.wait_for_log("no new connections");
    copied.glbd.signal(Signal::SIGUSR2);
    copied.glbd.wait_for_log("not upgraded: this process accepts nobody any more");
    assert!(echoes(&client));
    drop(client);
    assert!(copied.glbd.wait_exit().success());
}

#[test]
fn nobody_is_taken_over_from_that_is_not_there() {
    let path = Path::new(PROGRAM);
    for number in ["", "x", "-1", "999"] {
        let output = std::process::Command::new(path).arg("8010").env("GLBD_TAKE_OVER", number).output().expect("glbd");
        assert_eq!(output.status.code(), Some(1), "{number}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.starts_with("glbd: nobody to take over from") && said.lines().count() == 1, "{said}");
    }
}
