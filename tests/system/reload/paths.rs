//! Paths that are no text.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Output;

use crate::harness::{Server, echoes, free_port};
use crate::services::{Site, served};

const NO_TEXT: &[u8] = b"caf\xe9";

#[test]
fn a_path_that_is_no_text_is_refused_at_the_start_and_a_directory_only_where_it_matters() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    site.write(&[("a", &[&server], "")], &[("s", port, "")]);
    let directory = site.daemon.directory().join(OsStr::from_bytes(NO_TEXT));
    fs::create_dir(&directory).expect("a directory");
    fs::copy(&site.file, directory.join("glbd.toml")).expect("a copy");
    let refused = |output: Output, status: i32| {
        assert_eq!(output.status.code(), Some(status), "{output:?}");
        String::from_utf8(output.stderr).expect("text")
    };
    let mut command = site.daemon.command_by(&[], &["--config"]);
    let output = command.arg(directory.join("glbd.toml")).output().expect("glbd");
    let told = refused(output, 2);
    assert!(told.ends_with("/caf\u{fffd}/glbd.toml' is not UTF-8\n"), "{told}");
    let mut command = site.daemon.command_by(&[], &["--config", "glbd.toml"]);
    let told = refused(command.current_dir(&directory).output().expect("glbd"), 1);
    assert!(told.starts_with("glbd: the working directory '") && told.contains("is not UTF-8"), "{told}");
    // Whole paths need no directory, neither now nor later.
    let mut command = site.daemon.command_by(&[], &["--config", &site.file]);
    let status = command.current_dir(&directory).status().expect("glbd");
    assert!(status.success());
    let session = served(port);
    assert_eq!(site.daemon.control("reload"), "Ok\n");
    site.daemon.upgrade();
    assert_eq!(site.daemon.control("reload"), "Ok\n");
    assert!(echoes(&session));
    drop(served(port));
}
