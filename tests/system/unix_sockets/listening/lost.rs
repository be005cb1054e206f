//! Files of listening sockets that others have replaced.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::super::UnixServer;
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
