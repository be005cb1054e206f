//! Files and users: what the new process may not do by itself is done for it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};

use super::daemon;
use crate::harness::glbd::PROGRAM;
use crate::harness::{Daemon, Launch, Server, connect_to, copy_program, echoes, wait_until};

/// Starts a daemon that becomes another user, from a copy of the program that this user may start.
fn started_for_another_user(daemon: &Daemon, arguments: &[&str]) {
    fs::set_permissions(daemon.directory(), Permissions::from_mode(0o755)).expect("our own directory");
    let copy = daemon.directory().join("program");
    copy_program(&copy);
    let exec = format!("exec '{}' \"$@\"", copy.display());
    let launch = daemon.launch_by(&["sh", "-c", &exec], arguments);
    assert_eq!(launch.status, Some(0), "{}", launch.stderr);
}

fn user(daemon: &Daemon) -> String {
    let status = fs::read_to_string(daemon.proc("status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("Uid:")).expect("its user");
    line.split_whitespace().next().expect("a number").to_owned()
}

#[test]
fn the_pid_file_that_only_root_may_write_follows_and_goes_in_the_end() {
    let server = Server::echo();
    let daemon = Daemon::new();
    started_for_another_user(&daemon, &[&server.to_string()]);
    let before = user(&daemon);
    assert_ne!(before, "0");
    for _ in 0..3 {
        daemon.upgrade();
        assert_eq!(user(&daemon), before);
        assert!(echoes(&daemon.connect()));
        assert_eq!(fs::metadata(daemon.pidfile()).expect("the pid file").permissions().mode() & 0o777, 0o644);
    }
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    assert_eq!(daemon.files(), ["program"]);
}

#[test]
fn what_is_killed_after_an_upgrade_leaves_no_file() {
    let daemon = Daemon::new();
    started_for_another_user(&daemon, &[]);
    daemon.upgrade();
    daemon.signal(Signal::SIGKILL);
    wait_until("everything is tidied up", || daemon.files() == ["program"]);
    daemon.wait_until_gone();
}

#[test]
fn an_old_process_that_ends_late_takes_no_file_of_a_new_daemon_with_it() {
    let server = Server::echo();
    let daemon = Daemon::new();
    started_for_another_user(&daemon, &[&server.to_string()]);
    let (old, client) = (daemon.pid(), daemon.connect());
    assert!(echoes(&client));
    daemon.upgrade();
    daemon.signal(Signal::SIGKILL);
    wait_until("everything is tidied up", || daemon.files() == ["program"]);
    started_for_another_user(&daemon, &[&server.to_string()]);
    drop(client);
    wait_until("the old process has ended", || !daemon.processes().contains(&old));
    assert_eq!(daemon.files(), ["glbd.fifo", "glbd.pid", "program"]);
    assert!(echoes(&daemon.connect()));
}

#[test]
fn privileged_ports_are_kept() {
    let server = Server::echo();
    let daemon = Daemon::new();
    let [high, low] = daemon.address().port().to_be_bytes();
    let privileged = format!("127.81.{high}.{low}:81");
    fs::set_permissions(daemon.directory(), Permissions::from_mode(0o755)).expect("our own directory");
    let copy = daemon.directory().join("program");
    copy_program(&copy);
    let (fifo, pidfile) = (daemon.fifo().display().to_string(), daemon.pidfile().display().to_string());
    let arguments = ["--daemon", "--fifo", &fifo, "--pidfile", &pidfile, &privileged, &server.to_string()];
    assert!(Command::new(copy).args(arguments).status().expect("glbd starts").success());
    for _ in 0..2 {
        daemon.upgrade();
        assert_ne!(user(&daemon), "0");
        assert!(echoes(&connect_to(privileged.parse().expect("an address")).expect("a daemon that accepts")));
    }
}

#[test]
fn relative_paths_mean_what_they_meant_at_the_start() {
    let daemon = Daemon::new();
    let mut command =
        daemon.command_by(&[], &["--user=root", "--fifo", "a fifo", "--pidfile=glbd.pid", "--state=state"]);
    let status = command.current_dir(daemon.directory()).status().expect("glbd starts");
    assert_eq!(status.code(), Some(0));
    daemon.upgrade();
    daemon.upgrade();
    assert_eq!(daemon.control("127.0.0.1:1"), "Ok\n");
    assert_eq!(daemon.files(), ["a fifo", "glbd.pid", "state"]);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    assert_eq!(daemon.files(), ["state"]);
}

#[test]
fn the_program_is_the_one_that_lies_there_now() {
    let daemon = Daemon::new();
    let link = daemon.directory().join("current");
    let versions = ["one", "two"].map(|name| daemon.directory().join(name));
    for version in &versions {
        copy_program(version);
    }
    std::os::unix::fs::symlink(&versions[0], &link).expect("a link");
    let exec = format!("exec '{}' \"$@\"", link.display());
    assert_eq!(daemon.launch_by(&["sh", "-c", &exec], &["--user=root"]).status, Some(0));
    let program = || fs::read_link(daemon.proc("exe")).expect("it runs");
    assert_eq!(program(), versions[0]);
    fs::remove_file(&link).and_then(|()| std::os::unix::fs::symlink(&versions[1], &link)).expect("another link");
    daemon.upgrade();
    assert_eq!(program(), versions[1]);
}

#[test]
fn changes_after_an_upgrade_are_kept_for_the_next_start() {
    let daemon = Daemon::new();
    let state = format!("--state={}", daemon.directory().join("state").display());
    let arguments = ["--user=root", &state, "127.0.0.1:1"];
    daemon.start(&arguments);
    assert_eq!(daemon.control("127.0.0.1:2:0.5"), "Ok\n");
    daemon.upgrade();
    assert_eq!(daemon.control("127.0.0.1:1:0"), "Ok\n");
    let before = daemon.info();
    kill(daemon.pid(), Signal::SIGKILL).expect("it runs");
    daemon.wait_until_gone();
    fs::remove_file(daemon.fifo()).and_then(|()| fs::remove_file(daemon.pidfile())).expect("what it left");
    daemon.start(&arguments);
    assert_eq!(daemon.info(), before);
}

#[test]
fn a_working_directory_that_is_gone_matters_to_relative_paths_only() {
    let daemon = Daemon::new();
    let script = "cd \"$(mktemp -d)\" && rmdir \"$PWD\" && exec \"$0\" \"$@\"";
    let Launch { status, stderr } = daemon.launch_by(&["sh", "-c", script], &["--user=root", "--state=relative"]);
    assert_eq!(status, Some(1));
    assert!(stderr.starts_with("glbd: the working directory: "), "{stderr}");
    assert_eq!(daemon.launch_by(&["sh", "-c", script], &["--user=root"]).status, Some(0));
    daemon.upgrade();
}

#[test]
fn paths_are_looked_up_where_the_shell_would() {
    let daemon = Daemon::new();
    let directory = Path::new(PROGRAM).parent().expect("a directory").display().to_string();
    let script = format!("PATH='{directory}':$PATH; exec glbd \"$@\"");
    assert_eq!(daemon.launch_by(&["sh", "-c", &script], &["--user=root"]).status, Some(0));
    daemon.upgrade();
    assert_eq!(fs::read_link(daemon.proc("exe")).expect("it runs"), Path::new(PROGRAM));
}

#[test]
fn standard_descriptors_are_dev_null_in_a_successor_too() {
    let daemon = daemon(&[]);
    daemon.upgrade();
    for number in 0..=2 {
        let target = || fs::read_link(daemon.proc(&format!("fd/{number}"))).expect("it runs");
        wait_until("it has let go of the old process", || target() == Path::new("/dev/null"));
    }
}
