//! The pid file.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::{Signal, kill};
use nix::sys::stat::{Mode, SFlag, mknod, stat};
use nix::unistd::mkfifo;

use crate::harness::{Daemon, Glbd, Launch};

#[test]
fn it_holds_the_process_id_in_one_line() {
    let daemon = Daemon::started(&[]);
    let text = fs::read_to_string(daemon.pidfile()).expect("the pid file");
    assert_eq!(text, format!("{}\n", daemon.pid()));
    let name = fs::read_to_string(daemon.proc("comm")).expect("the daemon runs");
    assert_eq!(name, "glbd\n");
    // It is the daemon, not its janitor, whom a signal to it stops.
    daemon.signal(Signal::SIGTERM);
    daemon.wait_until_gone();
}

#[test]
fn everybody_may_read_it() {
    let daemon = Daemon::started(&[]);
    let mode = fs::metadata(daemon.pidfile()).expect("the pid file").permissions().mode();
    assert_eq!(mode & 0o777, 0o644);
}

#[test]
fn it_is_written_in_the_foreground_too() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("glbd.pid");
    let mut glbd = Glbd::builder().args(["--pidfile", &path.display().to_string()]).start();
    assert_eq!(fs::read_to_string(&path).expect("the pid file"), format!("{}\n", glbd.pid()));
    glbd.signal(Signal::SIGTERM);
    glbd.wait_exit();
    assert!(!path.exists());
}

#[test]
fn one_that_a_dead_daemon_has_left_is_replaced() {
    for text in ["", "1\n", "2147483647\n", "4194304000000\n"] {
        let daemon = Daemon::new();
        fs::write(daemon.pidfile(), text).expect("a file");
        daemon.start(&[]);
        assert_eq!(fs::read_to_string(daemon.pidfile()).expect("the pid file"), format!("{}\n", daemon.pid()));
    }
}

#[test]
fn what_is_no_pid_file_is_left_alone() {
    let daemon = Daemon::new();
    let path = daemon.directory().join("notes");
    fs::write(&path, "to be kept\n").expect("a file");
    let Launch { status, stderr } = daemon.launch(&["--pidfile", &path.display().to_string()]);
    assert_eq!((status, stderr.contains("no pid file")), (Some(1), true), "{stderr}");
    assert_eq!(fs::read_to_string(path).expect("the file"), "to be kept\n");
}

#[test]
fn that_of_a_living_daemon_is_left_alone() {
    let living = Daemon::started(&[]);
    let daemon = Daemon::new();
    let path = living.pidfile().display().to_string();
    let Launch { status, stderr } = daemon.launch(&["--pidfile", &path]);
    assert_eq!(status, Some(1));
    assert!(stderr.contains(&path) && stderr.contains(&living.pid().to_string()), "{stderr}");
    assert_eq!((daemon.processes(), daemon.files()), (vec![], vec![]));
    assert_eq!(living.control("version"), "glbd 2.0.0\n");
}

#[test]
fn what_is_no_file_is_left_alone() {
    let daemon = Daemon::new();
    let device = daemon.directory().join("device");
    let null = stat("/dev/null").expect("/dev/null").st_rdev;
    mknod(&device, SFlag::S_IFCHR, Mode::S_IRWXU, null).expect("a device, which takes root");
    let fifo = daemon.directory().join("fifo");
    mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
    for path in [device, fifo] {
        let Launch { status, stderr } = daemon.launch(&["--pidfile", path.to_str().expect("text")]);
        assert_eq!(status, Some(1), "{stderr}");
        assert!(stderr.contains(path.to_str().expect("text")) && stderr.lines().count() == 1, "{stderr}");
    }
    assert_eq!((daemon.processes(), daemon.files()), (vec![], vec!["device".to_owned(), "fifo".to_owned()]));
}

/// A daemon with many rights must not write where somebody else's link leads.
#[test]
fn no_link_is_followed() {
    let daemon = Daemon::new();
    let (victim, link) = (daemon.directory().join("victim"), daemon.directory().join("link"));
    for text in ["", "1\n"] {
        fs::write(&victim, text).expect("a file");
        let links: [fn(&Path, &Path) -> io::Result<()>; 2] = [|to, at| symlink(to, at), |to, at| fs::hard_link(to, at)];
        for make in links {
            make(&victim, &link).expect("a link");
            let Launch { status, stderr } = daemon.launch(&["--pidfile", link.to_str().expect("text")]);
            assert_eq!(status, Some(1), "{stderr}");
            assert!(stderr.contains("no ordinary file"), "{stderr}");
            assert_eq!(fs::read_to_string(&victim).expect("the file"), text);
            fs::remove_file(&link).expect("a link");
        }
    }
}

#[test]
fn its_mode_does_not_depend_on_the_mask_of_who_starts_it() {
    for mask in ["0", "077"] {
        let (daemon, command) = (Daemon::new(), format!("umask {mask}; exec \"$0\" \"$@\""));
        assert_eq!(daemon.launch_by(&["sh", "-c", &command], &[]).status, Some(0));
        let mode = fs::metadata(daemon.pidfile()).expect("the pid file").permissions().mode();
        assert_eq!(mode & 0o7777, 0o644, "umask {mask}");
    }
}

/// Another daemon's, say, that was started with the same settings once these had been removed.
#[test]
fn what_others_have_put_in_the_place_of_its_files_stays() {
    for user in ["root", "daemon"] {
        let daemon = Daemon::started(&["--user", user]);
        let pid = daemon.pid();
        for file in [daemon.pidfile(), daemon.fifo()] {
            fs::remove_file(&file).expect("it is there");
            fs::write(&file, "another one's").expect("a file");
        }
        kill(pid, Signal::SIGTERM).expect("it runs");
        daemon.wait_until_gone();
        assert_eq!(daemon.files(), ["glbd.fifo", "glbd.pid"], "as {user}");
    }
}
