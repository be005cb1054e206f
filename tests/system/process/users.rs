//! Whose rights the daemon has.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;
use nix::unistd::{Group, User, getegid, geteuid};

use super::proc::Proc;
use crate::harness::{Daemon, Glbd, Launch, Server, connect_to, copy_program, glbd, read_line};

fn uid(name: &str) -> String {
    User::from_name(name).expect("the users").expect("a user of every Debian").uid.to_string()
}

fn gid(name: &str) -> String {
    Group::from_name(name).expect("the groups").expect("a group of every Debian").gid.to_string()
}

/// Real, effective, saved and file system's ids, and further groups.
fn assert_identity(process: &Proc, uid: &str, gid: &str) {
    assert_eq!(process.status("Uid:"), [uid; 4]);
    assert_eq!(process.status("Gid:"), [gid; 4]);
    assert_eq!(process.status("Groups:"), [gid]);
    assert_eq!(process.status("CapEff:"), ["0000000000000000"]);
}

#[test]
fn root_becomes_the_user_daemon_in_the_background() {
    let server = Server::named("a");
    let daemon = Daemon::started(&[&server.to_string()]);
    assert_identity(&Proc(daemon.pid()), &uid("daemon"), &gid("daemon"));
    let client = connect_to(daemon.address()).expect("a daemon that accepts");
    assert_eq!(read_line(&client).expect("a name"), "a");
}

#[test]
fn root_becomes_the_user_and_group_that_are_asked_for() {
    for (option, group) in
        [("--user=nobody", "nogroup"), ("--user=nobody:daemon", "daemon"), ("--user=daemon:tty", "tty")]
    {
        let user = option.split(['=', ':']).nth(1).expect("a user");
        let daemon = Daemon::started(&[option]);
        let process = Proc(daemon.pid());
        assert_eq!(process.status("Uid:"), [uid(user).as_str(); 4], "{option}");
        assert_eq!(process.status("Gid:"), [gid(group).as_str(); 4], "{option}");
        assert!(!process.status("Groups:").contains(&"0".to_owned()), "{option} keeps root's groups");
    }
}

#[test]
fn what_the_user_may_not_write_is_said_with_the_users_name() {
    let only_roots = tempfile::tempdir().expect("a directory");
    let state = only_roots.path().join("state").display().to_string();
    let Launch { status, stderr } = Daemon::new().launch(&["--state", &state]);
    let reason = "Permission denied (os error 13)";
    assert_eq!(status, Some(1));
    assert_eq!(stderr, format!("glbd: cannot write the state to {state} as user 'daemon': {reason}\n"));
}

#[test]
fn in_the_foreground_the_user_changes_only_when_asked_for() {
    let glbd = Glbd::start([""; 0]);
    assert_eq!(Proc(glbd.pid()).status("Uid:")[1], geteuid().to_string());
    assert_eq!(Proc(glbd.pid()).status("Gid:")[1], getegid().to_string());
    let glbd = Glbd::builder().args(["--user", "nobody"]).start();
    assert_identity(&Proc(glbd.pid()), &uid("nobody"), &gid("nogroup"));
}

#[test]
fn root_stays_root_when_asked_to() {
    let daemon = Daemon::started(&["--user", "root"]);
    assert_eq!(Proc(daemon.pid()).status("Uid:"), ["0"; 4]);
}

#[test]
fn ports_below_1024_are_opened_before_the_user_changes() {
    let server = Server::named("a");
    let daemon = Daemon::new();
    // Nobody else is on an address like this.
    let [high, low] = daemon.address().port().to_be_bytes();
    let privileged = format!("127.80.{high}.{low}:80");
    let output = glbd::run(&[
        "--daemon",
        "--fifo",
        &daemon.fifo().display().to_string(),
        "--pidfile",
        &daemon.pidfile().display().to_string(),
        &privileged,
        &server.to_string(),
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_identity(&Proc(daemon.pid()), &uid("daemon"), &gid("daemon"));
    let client = connect_to(privileged.parse().expect("an address")).expect("a daemon that accepts");
    assert_eq!(read_line(&client).expect("a name"), "a");
}

/// Runs glbd as `nobody`, who may write to the daemon's directory here.
fn launch_as_nobody(daemon: &Daemon, arguments: &[&str]) -> Launch {
    let everybody = fs::Permissions::from_mode(0o777);
    fs::set_permissions(daemon.directory(), everybody).expect("its permissions");
    // The program may lie where only root gets.
    let copy = daemon.directory().join("program");
    copy_program(&copy);
    let script = format!("exec '{}' \"$@\"", copy.display());
    let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--", "sh", "-c", &script];
    daemon.launch_by(&nobody, arguments)
}

#[test]
fn who_is_not_root_stays_who_he_is() {
    let daemon = Daemon::new();
    assert_eq!(launch_as_nobody(&daemon, &[]), Launch { status: Some(0), stderr: String::new() });
    assert_eq!(Proc(daemon.pid()).status("Uid:"), [uid("nobody").as_str(); 4]);
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
    assert_eq!(daemon.files(), ["program"]);
}

#[test]
fn who_is_not_root_cannot_become_another() {
    let daemon = Daemon::new();
    let Launch { status, stderr } = launch_as_nobody(&daemon, &["--user", "daemon"]);
    assert_eq!((status, stderr.as_str()), (Some(1), "glbd: only root can change to user 'daemon'\n"));
    assert_eq!(daemon.processes(), []);
    assert_eq!(daemon.files(), ["program"]);
}
