//! The FIFO of daemons that are not told where it is to be.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use tempfile::TempDir;

use crate::harness::daemon::{has_ended, kill_all_with, processes_with};
use crate::harness::{Glbd, copy_program, free_port, wait_until, with_mounted};

/// Daemons that share a /tmp of their own.
struct Site {
    directory: TempDir,
    /// Where one in the background listens.
    address: String,
}

impl Site {
    fn new() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        fs::set_permissions(directory.path(), Permissions::from_mode(0o1777)).expect("permissions");
        // The program itself may lie in the other /tmp.
        copy_program(&directory.path().join("glbd"));
        Self { directory, address: SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())).to_string() }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn start(&self) -> Glbd {
        let mut wrapper = with_mounted(&[(self.path(), "/tmp")]);
        // The harness asks for a FIFO in front of everything else.
        wrapper.extend(["sh", "-c", "shift 2; exec /tmp/glbd \"$@\""].map(str::to_owned));
        Glbd::builder().wrapped_by(wrapper).start()
    }

    fn start_in_background(&self) {
        let wrapper = with_mounted(&[(self.path(), "/tmp")]);
        let mut command = Command::new(&wrapper[0]);
        command.args(&wrapper[1..]).args(["/tmp/glbd", "--daemon", &self.address]).stdin(Stdio::null());
        assert!(command.status().expect("unshare, from Debian's package util-linux").success());
    }

    fn stop_in_background(&self, signal: Signal) {
        let processes = processes_with(&self.address);
        for pid in &processes {
            // Were there a janitor, it may have followed the daemon already.
            kill(*pid, signal).ok();
        }
        wait_until("the daemon is gone", || processes.iter().all(has_ended));
    }

    fn has_fifo(&self) -> bool {
        self.path().join("glbd.fifo").exists()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        kill_all_with(&self.address);
    }
}

#[test]
fn it_is_in_tmp_and_goes_with_the_daemon() {
    let site = Site::new();
    let mut glbd = site.start();
    assert!(site.has_fifo());
    assert!(!glbd.log().contains("FIFO"), "{}", glbd.log());
    glbd.signal(Signal::SIGTERM);
    glbd.wait_exit();
    assert!(!site.has_fifo());
}

#[test]
fn that_of_a_living_daemon_is_left_alone_which_the_log_tells() {
    let site = Site::new();
    let first = site.start();
    let mut second = site.start();
    second.wait_for_log("WARN there is no control FIFO /tmp/glbd.fifo");
    second.signal(Signal::SIGTERM);
    second.wait_exit();
    assert!(site.has_fifo());
    assert_eq!(first.control("version"), "glbd 2.0.0\n");
}

#[test]
fn that_of_a_killed_daemon_is_replaced() {
    let site = Site::new();
    drop(site.start());
    assert!(site.has_fifo());
    let glbd = site.start();
    assert!(!glbd.log().contains("FIFO"), "{}", glbd.log());
}

#[test]
fn in_the_background_it_goes_with_the_daemon_that_became_another_user() {
    let site = Site::new();
    site.start_in_background();
    assert!(site.has_fifo());
    site.stop_in_background(Signal::SIGTERM);
    assert!(!site.has_fifo());
}

#[test]
fn that_of_a_killed_daemon_that_had_become_another_user_is_replaced() {
    let site = Site::new();
    site.start_in_background();
    site.stop_in_background(Signal::SIGKILL);
    site.start_in_background();
    // Only a FIFO of its own is one that it takes away.
    site.stop_in_background(Signal::SIGTERM);
    assert!(!site.has_fifo());
}
