//! Destinations that are the daemon's own sockets, under whatever name.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;

use super::{UnixServer, as_stream, directory, unix};
use crate::harness::glbd::run;
use crate::harness::{Daemon, Glbd, Server, echoes, said_goodbye, wait_until};

#[test]
fn the_daemons_own_socket_is_no_destination_however_its_path_is_spelled() {
    let (daemon, server) = (Daemon::new(), Server::echo());
    let at = |name: &str| unix(&daemon.directory().join(name));
    symlink("glbd.sock", daemon.directory().join("link")).expect("a link");
    let spelled = [format!("{}//glbd.sock", unix(daemon.directory())), at("./glbd.sock"), at("link")];
    let file = daemon.directory().join("glbd.toml").display().to_string();
    let write = |destination: &str| {
        let log = daemon.directory().join("log").display().to_string();
        let text = format!(
            "[process]\nuser = \"root\"\nlog = \"{log}\"\n[pool.a]\ndestinations = [\"{server}\", \"{destination}\"]\n\
             [service.s]\nlisten = [\"{}\"]\n",
            at("glbd.sock")
        );
        fs::write(&file, text).expect("a file");
    };
    let told = |destination: &str| format!("destination {destination}: this daemon is to listen there itself\n");
    for destination in &spelled {
        write(destination);
        let checked = run(&["--check", "--config", &file]);
        assert_eq!(checked.status.code(), Some(1));
        assert!(String::from_utf8_lossy(&checked.stderr).ends_with(&told(destination)), "{destination}: {checked:?}");
    }
    write("127.0.0.1:1");
    daemon.start(&["--config", &file]);
    for destination in &spelled {
        write(destination);
        assert_eq!(daemon.control("reload"), format!("Error: {}", told(destination)));
        let by_hand = daemon.control(&format!("{destination}:1"));
        assert_eq!(by_hand, format!("Error: {destination}: this daemon listens there itself\n"));
    }
}

/// Each client would be the next one's, until there is room for none.
#[test]
fn a_path_that_comes_to_lead_to_the_daemons_own_socket_is_not_connected_to() {
    let directory = directory();
    let server = UnixServer::echo(directory.path().join("server"));
    let (path, link) = (directory.path().join("glbd.sock"), directory.path().join("link"));
    symlink(directory.path().join("server"), &link).expect("a link");
    let glbd = Glbd::builder().listen_also_on(unix(&path)).destinations([unix(&link)]).start();
    let connect = || as_stream(UnixStream::connect(&path).expect("glbd accepts"));
    assert!(echoes(&connect()));
    fs::remove_file(&link).expect("a link");
    symlink(&path, &link).expect("a link");
    assert!(said_goodbye(&connect()));
    glbd.wait_for_log("this daemon listens there itself");
    wait_until("there is no loop", || glbd.info().total == 0);
    fs::remove_file(&link).expect("a link");
    symlink(directory.path().join("server"), &link).expect("a link");
    wait_until("it is a destination again", || echoes(&connect()));
    drop(server);
}
