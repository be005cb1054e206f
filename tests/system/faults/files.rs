//! Calls that keep the state file and the log.

use std::fs;
use std::path::Path;

use super::Load;
use crate::harness::{Daemon, Fault, Glbd, Server, wait_until};

/// What is before, while and after the state file cannot be written, by a call that fails in this way. Where it is the
/// directory that cannot be synced, the file `is_replaced` all the same.
fn cannot_keep(call: &str, file: &str, reason: &str, is_replaced: bool) {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    let server = Server::echo();
    let glbd = Glbd::builder().arg("--state").arg(path("state").display()).destinations([&server]).start();
    glbd.change("127.0.0.1:1:0.5");
    let (text, descriptors) = (|| fs::read_to_string(path("state")).expect("the state"), glbd.descriptors());
    let before = text();
    let load = Load::on(glbd.address());

    let fault = Fault::inject_at(&path(file), glbd.pid(), call);
    let answer = glbd.control("127.0.0.1:2:0.5");
    let cause = format!("cannot write {}: {reason}", path("state").display());
    assert_eq!(answer, format!("Error: 127.0.0.1:2: done, but a restart will undo it: {cause}\n"));
    glbd.wait_for_log(&format!("WARN {cause}; a restart will undo what was changed"));
    glbd.control("127.0.0.1:3:0.5");
    assert_eq!(glbd.info().rows.len(), 4, "the changes are in force");
    assert_eq!(glbd.log().matches("cannot write").count(), 1, "one line for both: {}", glbd.log());
    assert_eq!(text() == before, !is_replaced, "{}", text());
    assert_eq!(files(directory.path()), ["state"], "no half a file is left");
    assert!(fault.hits() >= 2);
    load.wait_for_more();
    fault.lift();

    glbd.change("127.0.0.1:4:0.5");
    assert!((1..=4).all(|port| text().contains(&format!("127.0.0.1:{port}:0.5"))), "all are kept: {}", text());
    load.end();
    wait_until("all is back", || glbd.info().total == 0 && glbd.descriptors() == descriptors);
}

fn files(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_change_is_in_force_and_told_not_to_last_when_there_is_no_room_for_a_new_state_file() {
    cannot_keep("openat:error=ENOSPC", "state.new", "No space left on device (os error 28)", false);
}

#[test]
fn a_change_is_in_force_and_told_not_to_last_when_the_disk_is_full() {
    cannot_keep("write:error=ENOSPC", "state.new", "No space left on device (os error 28)", false);
}

#[test]
fn a_change_is_in_force_and_told_not_to_last_when_the_disk_does_not_take_the_state_file() {
    cannot_keep("fsync:error=EIO", "state.new", "Input/output error (os error 5)", false);
}

#[test]
fn a_change_is_in_force_and_told_not_to_last_when_the_state_file_cannot_be_replaced() {
    cannot_keep("rename:error=EIO", "state.new", "Input/output error (os error 5)", false);
}

#[test]
fn a_change_is_in_force_and_told_not_to_last_when_the_disk_does_not_take_the_directory() {
    cannot_keep("fsync:error=EIO", ".", "Input/output error (os error 5)", true);
}

#[test]
fn lines_for_which_the_log_s_disk_has_no_room_are_counted_in_the_log_and_cost_no_client() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    let log = daemon.directory().join("log");
    let text = || fs::read_to_string(&log).expect("the log");
    daemon.start(&["--user", "root", "--log", log.to_str().expect("text"), &server.to_string()]);
    let load = Load::on(daemon.address());
    wait_until("its first line is there", || text().contains("serving on"));
    let fault = Fault::inject_at(&log, daemon.pid(), "write:error=ENOSPC");
    let before = text();
    (1..=3).for_each(|weight| drop(daemon.control(&server.weighted(f64::from(weight) / 2.0))));
    fault.wait_for_hits(3);
    load.wait_for_more();
    assert_eq!(text(), before);
    fault.lift();
    daemon.control(&server.weighted(7.0));
    wait_until("the log goes on", || text().contains("changed from weight 1.5 to 7"));
    assert!(text().contains("WARN 3 log lines are missing: they could not be written"), "{}", text());
    load.end();
}
