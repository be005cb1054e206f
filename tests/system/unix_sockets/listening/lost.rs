//! Files of listening sockets that others have replaced.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use nix::sys::signal::Signal;

use super::super::{UnixServer, unix};
use super::{Site, mode};
use crate::harness::{Server, echoes, wait_until};

#[test]
fn a_file_that_another_process_has_put_in_the_place_of_one_keeps_its_mode_and_its_owner() {
    let (site, server) = (Site::new(), Server::echo());
    site.write(&server, &["a"], "");
    site.start();
    let session = site.connect("a");
    fs::remove_file(site.path("a")).expect("a file");
    let _other = UnixServer::echo(site.path("a"));
    fs::set_permissions(site.path("a"), Permissions::from_mode(0o600)).expect("a file");
    let is_as_it_was = || {
        let owner = fs::metadata(site.path("a")).expect("a file").uid();
        mode(&site.path("a")) == 0o600 && owner == 0
    };
    let told = || {
        let log = fs::read_to_string(site.path("log")).expect("the log");
        log.matches("/a, which is left alone; clients do not reach it").count()
    };
    site.write(&server, &["a"], "socket-mode = \"0660\"\nsocket-owner = \"nobody\"");
    assert!(site.reload().ends_with("Ok\n"));
    assert!(is_as_it_was() && told() == 1);
    // The next process knows which files are the daemon's.
    for count in [2, 3] {
        site.daemon.upgrade();
        assert!(is_as_it_was());
        wait_until("the new process says so", || told() == count);
    }
    assert!(echoes(&session) && echoes(&site.connect("a")));
}

/// As programs do that tidy up temporary directories.
#[test]
fn a_file_that_was_removed_is_made_again_by_a_reload_and_by_an_upgrade() {
    let (site, server) = (Site::new(), Server::echo());
    site.write(&server, &["a", "b"], "socket-mode = \"0600\"");
    site.start();
    let sessions = [site.connect("a"), site.connect("b")];
    let told = format!("service s: {} was gone; it is made again\nOk\n", unix(&site.path("a")));
    fs::remove_file(site.path("a")).expect("a file");
    assert_eq!(site.reload(), told);
    assert!(echoes(&site.connect("a")));
    assert_eq!(site.reload(), "Ok\n");
    fs::remove_file(site.path("a")).expect("a file");
    site.write(&server, &["a", "b"], "socket-mode = \"0640\"");
    assert!(site.reload().ends_with("connections have other options\nOk\n"));
    assert_eq!((mode(&site.path("a")), mode(&site.path("b"))), (0o640, 0o640));
    for _ in 0..2 {
        fs::remove_file(site.path("a")).expect("a file");
        site.daemon.upgrade();
        assert!(echoes(&site.connect("a")) && echoes(&site.connect("b")));
    }
    assert!(sessions.iter().all(echoes));
    site.daemon.signal(Signal::SIGTERM);
    wait_until("all are gone", || !site.is_there("a") && !site.is_there("b"));
}

#[test]
fn a_file_that_cannot_be_made_again_stands_in_the_way_of_no_reload_and_no_upgrade() {
    let (site, server) = (Site::new(), Server::echo());
    fs::create_dir(site.path("d")).expect("a directory");
    site.write(&server, &["a", "d/b"], "");
    site.start();
    let session = site.connect("d/b");
    fs::remove_dir_all(site.path("d")).expect("a directory");
    let log = || fs::read_to_string(site.path("log")).expect("the log");
    site.write(&server, &["a", "d/b"], "socket-mode = \"0600\"");
    assert!(site.reload().ends_with("connections have other options\nOk\n"));
    let told = format!("service s: cannot listen on {}: No such file", unix(&site.path("d/b")));
    wait_until("the log says why", || log().contains(&told));
    assert_eq!(mode(&site.path("a")), 0o600);
    site.daemon.upgrade();
    wait_until("the new process says so", || log().contains("/d/b is gone; clients do not reach it"));
    assert!(echoes(&session) && echoes(&site.connect("a")));
    fs::create_dir(site.path("d")).expect("a directory");
    assert!(site.reload().ends_with("was gone; it is made again\nOk\n"));
    assert!(echoes(&site.connect("d/b")));
}
