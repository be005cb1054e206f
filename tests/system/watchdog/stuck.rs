//! Checks that do not come back, and what else may take long.

use std::fs;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::checker::checker;
use super::crowd::mute;
use super::{state, wait_until_judged};
use crate::control::name_server::NameServer;
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{Glbd, Server, names_of, wait_until, wait_until_within, write_script};

fn option_file(directory: &TempDir) -> String {
    let file = directory.path().join("monitor.cnf");
    fs::write(&file, "[client]\nuser=root\n").expect("a file");
    file.display().to_string()
}

#[test]
fn a_server_that_accepts_and_says_nothing_has_one_check_and_none_once_glbd_has_ended() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = mute();
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let before = server.accepted();
        let watchdog = format!("galera:defaults-file={},login=1", option_file(&directory));
        // The first check decides, and is asked for again and again after that.
        let options = ["-w", &watchdog, "-i", "0.05", "--timeout", "0.05", "-v"];
        let mut glbd = Glbd::builder().args(options).destinations([&server]).start();
        let checks = || glbd.log().matches("the check says nothing: no answer within 0.05 s").count();
        wait_until("there have been many checks", || checks() >= 20);
        assert_eq!(server.accepted() - before, 1, "connections for {} checks", checks());
        glbd.signal(signal);
        glbd.wait_exit();
        wait_until("it is gone", || server.open() == 0);
    }
}

/// A way to a server on which as many logins are cut short as this says.
fn with_broken_logins(server: SocketAddr, broken: &Arc<AtomicUsize>) -> Server {
    let broken = Arc::clone(broken);
    Server::serving(move |client| {
        let server = TcpStream::connect(server).expect("a server");
        let (mut from_server, mut to_client) = (server.try_clone().expect("a socket"), client);
        if broken.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            let mut greeting = [0; 1024];
            let count = from_server.read(&mut greeting).expect("a greeting");
            let said = to_client.write_all(&greeting[..count]).and_then(|()| to_client.read(&mut greeting));
            said.expect("somebody who logs in");
            return;
        }
        thread::scope(|scope| {
            scope.spawn(|| {
                // Whoever ends first ends the other.
                let _ = io::copy(&mut from_server, &mut to_client);
                let _ = client.shutdown(Shutdown::Both);
            });
            let _ = io::copy(&mut &*client, &mut &server);
            let _ = server.shutdown(Shutdown::Both);
        });
    })
}

#[test]
fn one_login_that_fails_counts_as_one_check() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("monitor.cnf");
    fs::write(&file, "[client]\nuser=glbd\n").expect("a file");
    let server = DatabaseServer::start(&[]);
    server.query("CREATE USER glbd");
    let broken = Arc::new(AtomicUsize::new(0));
    let way = with_broken_logins(server.address(), &broken);
    let watchdog = format!("galera:defaults-file={}", file.display());
    let glbd =
        Glbd::builder().args(["-w", &watchdog, "-i", "0.5", "--timeout", "10", "-v"]).destinations([&way]).start();
    wait_until_judged(&glbd, &way, "READY");
    let before = way.accepted();
    broken.store(1, Ordering::SeqCst);
    // That may be found out by a check, which counts as well.
    server.query("KILL USER glbd");
    wait_until("it has logged in again", || way.accepted() > before + 1);
    wait_until_judged(&glbd, &way, "READY");
    assert!(!glbd.log().contains(&format!("destination {way} DOWN")), "--fall is 3:\n{}", glbd.log());
}

#[test]
fn a_real_server_that_is_stopped_for_a_while_has_no_login_cut_short() {
    let directory = tempfile::tempdir().expect("a directory");
    let server = DatabaseServer::start(&[]);
    let watchdog = format!("galera:defaults-file={},login=1", option_file(&directory));
    let glbd = Glbd::builder()
        .args(["-w", &watchdog, "-i", "0.1", "--timeout", "0.5", "-v"])
        .destinations([server.address()])
        .start();
    wait_until_judged(&glbd, &server, "READY");
    let aborted = || {
        server.query(
            "SELECT variable_value FROM information_schema.global_status WHERE variable_name IN
        ('ABORTED_CONNECTS', 'ABORTED_CONNECTS_PREAUTH')",
        )
    };
    let before = aborted();
    server.signal(Signal::SIGSTOP);
    wait_until_judged(&glbd, &server, "DOWN");
    let checks = || glbd.log().matches("the check says nothing").count();
    wait_until("it has been asked often", || checks() >= 10);
    server.signal(Signal::SIGCONT);
    wait_until_judged(&glbd, &server, "READY");
    assert_eq!(aborted(), before);
}

#[test]
fn a_node_is_checked_while_the_names_of_its_members_do_not_resolve() {
    let directory = tempfile::tempdir().expect("a directory");
    let (names, script) = (NameServer::start(), directory.path().join("script"));
    let answer = |text: String| fs::write(directory.path().join("answer"), text).expect("a file");
    let members = (1..=40).map(|number| format!("member{number}.example:3306")).collect::<Vec<_>>().join(",");
    answer(format!("3 {members}\n"));
    let text =
        format!("#!/bin/sh\nwhile read -r request; do cat '{}'; done\n", directory.path().join("answer").display());
    write_script(&script, &text, 0o755);
    let servers = ["a", "b"].map(Server::named);
    let watchdog = format!("exec:{}", script.display());
    let glbd = Glbd::builder()
        .wrapped_by(names.wrapper())
        // Were names waited for, then for as long as for a check, and a check would come a minute later.
        .args(["-D", "-w", &watchdog, "-i", "0.1", "--timeout", "10"])
        .destinations(&servers)
        .start();
    servers.iter().for_each(|server| wait_until_judged(&glbd, server, "READY"));
    wait_until("names are being resolved", || names.asked() > 0);
    answer("1 it is being shut down\n".to_owned());
    // The name server has answered nothing yet, and it takes a resolver longer to give up.
    let are_down = || servers.iter().all(|server| state(&glbd, server) == "DOWN");
    wait_until_within(Duration::from_secs(20), "both are DOWN", are_down);
    answer(format!("3 {members}\n"));
    servers.iter().for_each(|server| wait_until_judged(&glbd, server, "READY"));
    assert_eq!(names_of(&[glbd.connect()]).len(), 1);
    // Once they resolve, they are destinations: all of them are 127.0.0.1:3306.
    names.answer();
    wait_until("they are found", || glbd.info().rows.iter().any(|row| row.address == "127.0.0.1:3306"));
}

#[test]
fn a_check_that_fails_after_its_time_is_over_is_answered_too() {
    let directory = tempfile::tempdir().expect("a directory");
    // It sends no greeting, and closes the connection after the check's timeout.
    let server = Server::serving(|_| std::thread::sleep(Duration::from_millis(700)));
    let watchdog = format!("galera:defaults-file={}", option_file(&directory));
    let options = ["-w", &watchdog, "-i", "0.1", "--timeout", "0.3"];
    let glbd = Glbd::builder().args(options).destinations([&server]).start();
    let first = checker(&glbd);
    wait_until("it is checked again and again", || server.accepted() >= 12);
    assert_eq!(checker(&glbd), first, "{}", glbd.log());
    assert!(!glbd.log().contains("hangs"), "{}", glbd.log());
}
