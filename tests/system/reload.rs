//! The configuration file read again: what it says comes into force at once or not at all, and nothing else is touched.

mod comes_back;
mod killed;
mod paths;
mod service_comes_back;
mod shortage;
mod under_load;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;

use nix::sys::signal::Signal;

use crate::harness::kernel::KernelsEnd;
use crate::harness::{Server, connect_to, echoes, free_port, glbd, proc, wait_until};
use crate::services::{Site, at, served};

/// A service on a pool of one server.
fn one() -> (Site, Server, u16) {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    site.write(&[("a", &[&server], "")], &[("s", port, "")]);
    site.start();
    (site, server, port)
}

fn reload(site: &Site) -> String {
    site.daemon.control("reload")
}

/// Lines of an answer in any order.
fn sorted(text: &str) -> Vec<&str> {
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    lines
}

#[test]
fn a_file_that_says_the_same_changes_nothing() {
    let (site, _server, port) = one();
    let session = served(port);
    let before = site.daemon.control("getinfo");
    assert_eq!(reload(&site), "Ok\n");
    assert_eq!(site.daemon.control("getinfo"), before);
    assert!(echoes(&session));
    site.daemon.signal(Signal::SIGHUP);
    wait_until("the log says so", || site.log().matches("read again, changes: 0").count() == 2);
}

#[test]
fn destinations_are_added_dropped_and_reweighted_and_those_of_hands_stay() {
    let (site, servers, port) = (Site::new(), [0; 4].map(|_| Server::echo()), free_port());
    let [first, second, third, by_hand] = servers.each_ref();
    site.write(&[("a", &[first, second], "")], &[("s", port, "")]);
    site.start();
    assert_eq!(site.daemon.control(&format!("{by_hand}:3")), "Ok\n");
    let sessions: Vec<_> = (0..6).map(|_| served(port)).collect();
    let on_first = first.accepted();
    assert!(on_first > 0);
    site.write(&[("a", &[second, third], "")], &[("s", port, "")]);
    let connections = if on_first == 1 { "1 connection".to_owned() } else { format!("{on_first} connections") };
    let told = format!(
        "pool a: destination {third} added with weight 1\n\
         pool a: destination {first} dropped: it takes no new clients and goes with the last of {connections}\nOk\n"
    );
    assert_eq!(reload(&site), told);
    drop((0..6).map(|_| served(port)).collect::<Vec<_>>());
    assert_eq!(first.accepted(), on_first, "it takes no new clients");
    assert!(third.accepted() > 0 && sessions.iter().all(echoes));
    let rows = || site.daemon.info().rows.len();
    assert_eq!(rows(), 4);
    drop(sessions);
    wait_until("it is gone with its last connection", || rows() == 3);
    // What a hand has removed stays away, as long as the file says of it what it said.
    assert_eq!(site.daemon.control(&format!("remove {second}")), "Ok\n");
    assert_eq!(reload(&site), "Ok\n");
    assert_eq!(rows(), 2);
    let text = fs::read_to_string(&site.file).expect("the file");
    fs::write(&site.file, text.replace(&format!("\"{third}\""), &format!("\"{third}:9\""))).expect("the file");
    assert_eq!(reload(&site), format!("pool a: destination {third} has weight 9\nOk\n"));
    assert_eq!(site.daemon.info().row(third).weight, 9.0);
    let text = fs::read_to_string(&site.file).expect("the file");
    fs::write(&site.file, text.replace(&format!("\"{second}\""), &format!("\"{second}:7\""))).expect("the file");
    assert_eq!(reload(&site), format!("pool a: destination {second} was removed by hand, and stays away\nOk\n"));
    assert_eq!(rows(), 2);
}

#[test]
fn services_come_and_go_and_those_that_stay_are_not_touched() {
    let (site, servers, ports) = (Site::new(), [0; 2].map(|_| Server::echo()), [0; 3].map(|_| free_port()));
    let [first, second] = servers.each_ref();
    site.write(&[("a", &[first], "")], &[("stays", ports[0], ""), ("goes", ports[1], "")]);
    site.start();
    let (stays, goes) = (served(ports[0]), served(ports[1]));
    site.write(
        &[("a", &[first], ""), ("b", &[second], "")],
        &[("stays", ports[0], "pool = \"a\""), ("comes", ports[2], "pool = \"b\"")],
    );
    let told = format!(
        "pool b added, destinations: 1\n\
         service comes added: it listens on 127.0.0.1:{}\n\
         service goes dropped: its connections go on to their end\nOk\n",
        ports[2]
    );
    assert_eq!(reload(&site), told);
    assert!(echoes(&stays) && echoes(&goes));
    drop(served(ports[2]));
    assert_eq!(second.accepted(), 1);
    wait_until("nobody is let in any more", || connect_to(at(ports[1])).is_err());
    // And back.
    site.write(&[("a", &[first], "")], &[("stays", ports[0], ""), ("goes", ports[1], "")]);
    assert!(reload(&site).ends_with("pool b dropped\nOk\n"));
    drop(served(ports[1]));
    wait_until("nobody is let in there", || connect_to(at(ports[2])).is_err());
    assert!(echoes(&stays) && echoes(&goes));
}

#[test]
fn a_service_that_listens_elsewhere_loses_nobody() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    site.write(&[("a", &[&server], "")], &[("s", ports[0], "")]);
    site.start();
    let session = served(ports[0]);
    site.write(&[("a", &[&server], "")], &[("s", ports[1], "")]);
    let [before, after] = ports;
    let told = format!("service s: it listens on 127.0.0.1:{after}, no longer on 127.0.0.1:{before}\nOk\n");
    assert_eq!(reload(&site), told);
    assert!(echoes(&session));
    drop(served(after));
    wait_until("nobody is let in where it was", || connect_to(at(before)).is_err());
    assert_eq!(site.daemon.control(&format!("127.0.0.1:{after}:1")), {
        format!("Error: 127.0.0.1:{after}: this daemon listens there itself\n")
    });
    assert_eq!(site.daemon.control(&format!("127.0.0.1:{before}:1")), "Ok\n");
}

#[test]
fn two_services_swap_their_addresses_after_an_upgrade_as_well() {
    for upgrades in [0, 1, 2] {
        let (site, servers, ports) = (Site::new(), [0; 2].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
        let [first, second] = servers.each_ref();
        let pools: [(&str, &[&Server], &str); 2] = [("a", &[first], ""), ("b", &[second], "")];
        site.write(&pools, &[("s", ports[0], "pool = \"a\""), ("t", ports[1], "pool = \"b\"")]);
        site.start();
        (0..upgrades).for_each(|_| site.daemon.upgrade());
        drop(served(ports[0]));
        site.write(&pools, &[("s", ports[1], "pool = \"a\""), ("t", ports[0], "pool = \"b\"")]);
        let answer = reload(&site);
        assert!(answer.ends_with("Ok\n"), "{answer}");
        drop((served(ports[0]), served(ports[1])));
        assert_eq!(servers.each_ref().map(Server::accepted), [2, 1], "each goes where the file says");
    }
}

#[test]
fn a_file_that_is_wrong_in_any_way_changes_nothing() {
    let (site, server, port, taken) = (Site::new(), Server::echo(), free_port(), Server::echo());
    site.write(&[("a", &[&server], "")], &[("s", port, "")]);
    site.start();
    let session = served(port);
    let right = fs::read_to_string(&site.file).expect("the file");
    let info = || site.daemon.control("getinfo");
    let before = info();
    let more = "\n[pool.b]\ndestinations = [\"127.0.0.1:1\"]\n[service.t]\npool = \"b\"\n";
    for (text, told) in [
        (format!("{right}quality = 1"), ": service.s.quality: no such key"),
        (right.replace("[pool.a]", "[pool.a"), ":5:"),
        (format!("{right}pool = \"a\"{more}listen = {}", taken.address().port()), "cannot listen on *:"),
        (format!("{right}pool = \"a\"{more}listen = \"203.0.113.7:1\""), "cannot listen on 203.0.113.7:1: "),
        (format!("{right}pool = \"a\"{more}listen = \"127.0.0.1:1\""), "this daemon is to listen there itself"),
        (right.replace("[pool.a]", "[pool.a]\nwatchdog = \"galera:defaults-file=/none\""), "/none: No such file"),
        (String::new(), "there is no pool"),
    ] {
        fs::write(&site.file, text).expect("the file");
        let answer = reload(&site);
        assert!(answer.starts_with("Error: ") && answer.contains(told), "{told}: {answer}");
        wait_until("the last client is gone, and all is as before", || info() == before);
        wait_until("the log says so", || site.log().contains("nothing has changed"));
        assert!(echoes(&session));
        drop(served(port));
    }
    fs::remove_file(&site.file).expect("the file");
    assert!(reload(&site).contains("No such file or directory (os error 2)"));
    fs::write(&site.file, right).expect("the file");
    assert_eq!(reload(&site), "Ok\n");
}

#[test]
fn what_takes_an_upgrade_or_a_restart_is_said_to() {
    let (site, _server, _port) = one();
    let right = fs::read_to_string(&site.file).expect("the file");
    fs::write(&site.file, right.replace("threads = 2", "threads = 3").replace("\"root\"", "\"daemon\""))
        .expect("a file");
    let told = "process: another 'threads' than before takes effect at an upgrade\n\
                process: another 'user' than before takes effect at a restart\nOk\n";
    assert_eq!((reload(&site), reload(&site)), (told.to_owned(), told.to_owned()), "each time");
}

#[test]
fn the_configuration_in_force_is_shown_as_a_file_that_says_the_same() {
    let (site, server, port) = one();
    let printed = |file: &str| {
        let output = glbd::run(&["--config", file, "--print-config"]);
        String::from_utf8(output.stdout).expect("text")
    };
    let config = || site.daemon.control("getconfig");
    // The control address, pid file and FIFO are the command line's here.
    let without_places = |text: String| {
        let lines = text
            .lines()
            .filter(|it| !["control =", "pidfile =", "fifo =", "daemon ="].iter().any(|key| it.starts_with(key)));
        lines.map(|line| format!("{line}\n")).collect::<String>()
    };
    assert_eq!(without_places(config()), without_places(printed(&site.file)));
    site.write(&[("a", &[&server], "")], &[("s", port, "retries = 7"), ("t", free_port(), "")]);
    let right = fs::read_to_string(&site.file).expect("the file");
    fs::write(&site.file, right.replace("threads = 2", "threads = 3")).expect("a file");
    assert!(reload(&site).ends_with("Ok\n"));
    let now = without_places(config());
    assert_eq!(
        now,
        without_places(printed(&site.file)).replace("threads = 3", "threads = 2"),
        "as far as it is in force"
    );
    assert!(now.contains("retries = 7\n") && now.contains("\n[service.t]\n"), "{now}");
    fs::write(&site.file, "nonsense").expect("a file");
    assert!(reload(&site).starts_with("Error: "));
    assert_eq!(without_places(config()), now, "what is wrong changes nothing");
    let again = site.daemon.directory().join("again.toml");
    fs::write(&again, config()).expect("a file");
    assert!(glbd::run(&["--check", "--config", &again.display().to_string()]).status.success());
}

#[test]
fn options_apply_to_new_connections_and_timeouts_to_those_that_there_are() {
    let (site, server, port) = one();
    let session = served(port);
    site.write(&[("a", &[&server], "")], &[("s", port, "client-idle-timeout = 0.5")]);
    assert_eq!(reload(&site), "service s: connections have other options\nOk\n");
    wait_until("one that is idle is closed", || {
        let mut byte = [0];
        session.peek(&mut byte).is_ok_and(|count| count == 0)
    });
}

#[test]
fn another_policy_sends_new_clients_elsewhere_and_cuts_nobody_off() {
    let (site, servers, port) = (Site::new(), [0; 2].map(|_| Server::echo()), free_port());
    let [first, second] = servers.each_ref();
    site.write(&[("a", &[first, second], "")], &[("s", port, "policy = \"single\"")]);
    site.start();
    let sessions: Vec<_> = (0..4).map(|_| served(port)).collect();
    site.write(&[("a", &[first, second], "")], &[("s", port, "policy = \"least-connected\"")]);
    assert_eq!(reload(&site), "service s: new clients are balanced by least connected\nOk\n");
    let more: Vec<_> = (0..4).map(|_| served(port)).collect();
    assert_eq!(servers.each_ref().map(Server::accepted), [4, 4]);
    assert!(sessions.iter().chain(&more).all(echoes));
}

#[test]
fn checks_begin_change_and_end_without_a_client_noticing() {
    let (site, servers, port) = (Site::new(), [0; 2].map(|_| Server::echo()), free_port());
    let [first, second] = servers.each_ref();
    let write = |more: &str| site.write(&[("a", &[first, second], more)], &[("s", port, "")]);
    // How late a destination may be depends on the interval.
    let is_told = |answer: &str| {
        let told = "pool a: destinations are checked otherwise\n";
        assert!(answer.starts_with(told) && answer.ends_with("Ok\n"), "{answer}");
    };
    write("");
    site.start();
    let session = served(port);
    write("watchdog = \"tcp\"\ninterval = 0.2");
    is_told(&reload(&site));
    drop(served(port));
    let verdicts = || site.daemon.control("getwatch").matches(" READY ").count();
    // The kernel need not tell a server of a client that resets its connection at once; what the check took is shown.
    let unmeasured = || site.daemon.control("getwatch").matches(" 0.00000 ").count();
    wait_until("they are checked", || unmeasured() == 0 && verdicts() == 2);
    write("watchdog = \"http:/none\"\ninterval = 0.2\nfall = 1");
    is_told(&reload(&site));
    wait_until("an echo is no answer", || verdicts() == 0);
    write("");
    is_told(&reload(&site));
    drop(served(port));
    assert!(echoes(&session));
}

#[test]
fn a_new_service_lets_nobody_in_before_its_pool_has_been_checked() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    site.write(&[("a", &[&server], "")], &[("s", ports[0], "")]);
    site.start();
    let watched = "watchdog = \"tcp\"\ninterval = 0.2";
    site.write(
        &[("a", &[&server], ""), ("b", &[&server], watched)],
        &[("s", ports[0], "pool = \"a\""), ("t", ports[1], "pool = \"b\"")],
    );
    assert!(reload(&site).ends_with("Ok\n"));
    // Not refused for want of a verdict.
    drop(served(ports[1]));
}

/// A pool's further lines for a check that answers once there is a file `go` in the site's directory.
fn checked_when_told(site: &Site) -> String {
    let (directory, script) = (site.daemon.directory(), site.daemon.directory().join("check"));
    let go = directory.join("go");
    let text = format!(
        "#!/bin/sh\nwhile read -r request; do until [ -e '{}' ]; do sleep 0.02; done; echo 3; done\n",
        go.display()
    );
    fs::write(&script, text).expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("our own file");
    format!("watchdog = \"exec:{}\"\ninterval = 0.2\ntimeout = 30", script.display())
}

/// Connects, and says something that is to come back.
fn asking(port: u16) -> TcpStream {
    let mut client = connect_to(at(port)).expect("the kernel accepts");
    client.write_all(b"?").expect("sent");
    client
}

fn is_answered(mut client: TcpStream) {
    let mut byte = [0];
    client.read_exact(&mut byte).expect("an answer");
    assert_eq!(byte, *b"?");
}

/// Whichever way a service comes to a pool that has not been checked yet, its clients wait for that and none is refused.
#[test]
fn clients_wait_for_the_first_check_of_a_pool_however_a_service_comes_to_it() {
    let (site, servers, ports) = (Site::new(), [0; 2].map(|_| Server::echo()), [0; 4].map(|_| free_port()));
    let [first, second] = servers.each_ref();
    let watched = checked_when_told(&site);
    let b = "pool = \"b\"";
    site.write(&[("a", &[first], "")], &[("s", ports[0], ""), ("t", ports[1], "")]);
    site.start();
    let session = served(ports[0]);
    let pools: [(&str, &[&Server], &str); 2] = [("a", &[first], ""), ("b", &[second], &watched)];
    // The service goes from one pool to a new one.
    site.write(&pools, &[("s", ports[0], b), ("t", ports[1], "pool = \"a\"")]);
    assert!(reload(&site).ends_with("Ok\n"));
    let moved = asking(ports[0]);
    // Another is added to a pool that is new itself, one moves to it, and one listens elsewhere.
    site.write(&pools, &[("s", ports[3], b), ("t", ports[1], "pool = \"a\""), ("u", ports[2], b)]);
    assert!(reload(&site).ends_with("Ok\n"));
    let (added, elsewhere) = (asking(ports[2]), asking(ports[3]));
    drop(served(ports[1]));
    assert_eq!(second.accepted(), 0);
    assert!(!site.log().contains("turned away"), "{}", site.log());
    fs::write(site.daemon.directory().join("go"), "").expect("a file");
    [moved, added, elsewhere].into_iter().for_each(is_answered);
    assert!(echoes(&session) && !site.log().contains("turned away"));
}

/// The same for a daemon that has just been started.
#[test]
fn a_service_that_listens_elsewhere_before_the_first_check_has_its_clients_wait() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    let watched = checked_when_told(&site);
    site.write(&[("a", &[&server], &watched)], &[("s", ports[0], "")]);
    site.start();
    let before = asking(ports[0]);
    site.write(&[("a", &[&server], &watched)], &[("s", ports[1], "")]);
    assert!(reload(&site).ends_with("Ok\n"));
    let after = asking(ports[1]);
    fs::write(site.daemon.directory().join("go"), "").expect("a file");
    [before, after].into_iter().for_each(is_answered);
}

/// It would pass its clients back to itself.
#[test]
fn nothing_listens_where_a_destination_is_whoever_has_brought_that() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 3].map(|_| free_port()));
    let (destination, by_hand) = (at(ports[1]), at(ports[2]));
    site.write(&[("a", &[&server], "")], &[("s", ports[0], "")]);
    let one = fs::read_to_string(&site.file).expect("the file");
    let listed = one.replace("destinations = [", &format!("destinations = [\"{destination}\", "));
    fs::write(&site.file, &listed).expect("the file");
    site.start();
    assert_eq!(
        site.daemon.control(&format!("{by_hand}:0")),
        "Error: ".to_owned() + &format!("{by_hand}: no such destination\n")
    );
    assert_eq!(site.daemon.control(&format!("{by_hand}:1")), "Ok\n");
    for at in [destination, by_hand] {
        let more = format!("[service.t]\nlisten = \"{at}\"\n");
        fs::write(&site.file, listed.clone() + &more).expect("the file");
        let told = format!("Error: destination {at} of pool a: this daemon is to listen there itself\n");
        assert_eq!(reload(&site), told);
        assert!(connect_to(at).is_err());
    }
    // One that goes at the same time is none.
    fs::write(&site.file, one + &format!("[service.t]\nlisten = \"{destination}\"\n")).expect("the file");
    let answer = reload(&site);
    assert!(answer.ends_with("Ok\n"), "{answer}");
}

/// Opening a pipe waits for its writer, and a daemon that waits for that would hear no signal.
#[test]
fn a_file_that_is_a_pipe_is_not_read_again() {
    let (site, _server, port) = one();
    fs::remove_file(&site.file).expect("the file");
    nix::unistd::mkfifo(site.file.as_str(), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let told = format!("Error: {}: it is no ordinary file, and cannot be read again\n", site.file);
    assert_eq!(reload(&site), told);
    drop(served(port));
    site.daemon.signal(Signal::SIGTERM);
    site.daemon.wait_until_gone();
}

/// The upgrade waits for the FIFO to be quiet, and the FIFO for the answer to its last line.
#[test]
fn a_pipe_in_place_of_a_certificate_holds_up_nothing() {
    let (site, server, port) = one();
    let certificate = site.daemon.directory().join("ca.pem");
    nix::unistd::mkfifo(&certificate, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
    let check = format!("watchdog = \"https:/;ca={}\"", certificate.display());
    site.write(&[("a", &[&server], &check)], &[("s", port, "")]);
    let answer = reload(&site);
    assert!(answer.starts_with("Error: ") && answer.contains("not a regular file"), "{answer}");
    drop(served(port));
    site.daemon.signal(Signal::SIGTERM);
    site.daemon.wait_until_gone();
}

/// What was opened in vain is closed before the answer.
#[test]
fn an_address_of_a_reload_that_was_refused_can_be_listened_at_by_the_next() {
    let (site, server, port) = one();
    let (taken, more) = (Server::echo(), [free_port(), free_port()]);
    for _ in 0..20 {
        let wrong = [("s", port, ""), ("t", more[0], ""), ("u", taken.address().port(), "")];
        site.write(&[("a", &[&server], "")], &wrong);
        let answer = reload(&site);
        assert!(answer.contains("Address already in use"), "{answer}");
        site.write(&[("a", &[&server], "")], &[("s", port, ""), ("t", more[0], ""), ("v", more[1], "")]);
        let answer = reload(&site);
        assert!(answer.ends_with("Ok\n"), "{answer}");
        site.write(&[("a", &[&server], "")], &[("s", port, "")]);
        let answer = reload(&site);
        assert!(answer.ends_with("Ok\n"), "{answer}");
    }
}

#[test]
fn a_reload_through_the_fifo_does_not_hold_up_an_upgrade() {
    let (site, _server, port) = one();
    let session = served(port);
    let before = site.daemon.pid();
    site.daemon.signal(Signal::SIGUSR2);
    wait_until("it has taken over, or has given up", || {
        fs::write(site.daemon.fifo(), "reload\n").expect("the FIFO");
        site.daemon.pid() != before || site.log().contains("not upgraded")
    });
    assert!(!site.log().contains("not upgraded"), "{}", site.log());
    assert!(echoes(&session));
}

/// A service that leaves its pool or is dropped while its writer is moved by hand: the move ends at once, and nobody is cut
/// off for it or goes on waiting.
#[test]
fn a_move_by_hand_ends_with_its_service() {
    let (site, servers, ports) = (Site::new(), [0; 3].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
    let [first, second, third] = servers.each_ref();
    let pools: [(&str, &[&Server], &str); 2] = [("a", &[first, second], ""), ("b", &[third], "")];
    let writer = |of: &str| format!("pool = \"{of}\"\npolicy = \"single\"");
    let (in_a, in_b) = (writer("a"), writer("b"));
    let both = [("w", ports[0], &*in_a), ("v", ports[1], &*in_b)];
    let turns = [
        (
            vec![("w", ports[0], &*in_b), ("v", ports[1], &*in_a)],
            "its service takes destinations from another pool now",
        ),
        (vec![("v", ports[1], &*in_a), ("u", free_port(), &*in_b)], "its service was dropped"),
    ];
    for (turn, (services, reason)) in turns.into_iter().enumerate() {
        site.write(&pools, &both);
        if site.daemon.pidfile().exists() {
            assert!(reload(&site).ends_with("Ok\n"));
        } else {
            site.start();
        }
        let session = served(ports[0]);
        let row = |row: &String| row.contains("single").then(|| row.split_whitespace().next().map(str::to_owned))?;
        let current = site.rows("getinfo", "Router: w, pool a").iter().find_map(row).expect("one is single");
        let next = if current == first.to_string() { second } else { first };
        std::thread::scope(|scope| {
            let answer = scope.spawn(|| site.daemon.control(&format!("writer w/{next} 60")));
            wait_until("it has begun", || site.log().matches("by hand: new clients wait").count() == turn + 1);
            let waiting = asking(ports[0]);
            site.write(&pools, &services);
            assert!(reload(&site).ends_with("Ok\n"));
            is_answered(waiting);
            let answer = answer.join().expect("an answer");
            assert_eq!(answer, format!("Error: w/{next}: cancelled: {reason}\n"));
        });
        assert!(echoes(&session));
    }
}

#[test]
fn backups_wait_until_no_other_one_is_ready() {
    let (site, servers, port) = (Site::new(), [0; 3].map(|_| Server::echo()), free_port());
    let [first, second, backup] = servers.each_ref();
    let checks = "watchdog = \"tcp\"\ninterval = 0.2\nrise = 1\nfall = 1";
    let write =
        |backups: &str| site.write(&[("a", &[first, second], &format!("{backups}\n{checks}"))], &[("s", port, "")]);
    write(&format!("backups = [\"{backup}\"]"));
    site.start();
    let rows = |conns: usize| site.daemon.info().rows.iter().filter(|row| row.conns == conns).count();
    let sessions: Vec<_> = (0..4).map(|_| served(port)).collect();
    assert_eq!((rows(2), rows(0)), (2, 1));
    drop(sessions);
    let watch = site.daemon.control("getwatch");
    let line = watch.lines().find(|line| line.contains(&backup.to_string())).expect("a line");
    assert!(line.contains(" READY ") && line.contains("   0.000  backup (since "), "{line}");
    for server in [first, second] {
        assert_eq!(site.daemon.control(&format!("{server}:0")), "Ok\n");
    }
    drop(served(port));
    let row = site.daemon.control("getwatch").lines().any(|line| line.contains("   1.000  backup (since "));
    assert!(row, "it is in force");
    // One that is no backup any more shares the load.
    assert_eq!(site.daemon.control(&format!("enable {first}")), "Ok\n");
    write("");
    assert!(reload(&site).contains("pool a: other destinations are backups\n"));
    let text = fs::read_to_string(&site.file).expect("the file");
    let text = text.replace(&format!("\"{second}\""), &format!("\"{second}\", \"{backup}\""));
    fs::write(&site.file, text).expect("the file");
    assert!(reload(&site).contains(&format!("pool a: destination {backup} added")));
    wait_until("it has been checked", || site.daemon.control("getwatch").matches(" READY ").count() == 3);
    let _sessions: Vec<_> = (0..4).map(|_| served(port)).collect();
    wait_until("both share the load", || rows(2) == 2);
}

#[test]
fn a_daemon_without_a_file_says_that_there_is_none() {
    let server = Server::echo();
    let glbd = crate::harness::Glbd::builder().destinations(&[&server]).start();
    assert_eq!(glbd.control("reload"), "Error: there is no configuration file: glbd runs without --config\n");
}

#[test]
fn an_upgrade_after_reloads_goes_on_with_what_there_is() {
    let (site, servers, ports) = (Site::new(), [0; 2].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
    let [first, second] = servers.each_ref();
    site.write(&[("a", &[first], "")], &[("s", ports[0], "")]);
    site.start();
    let session = served(ports[0]);
    site.write(&[("b", &[second], "")], &[("t", ports[1], "")]);
    assert!(reload(&site).ends_with("Ok\n"));
    site.daemon.upgrade();
    assert!(echoes(&session));
    drop(served(ports[1]));
    assert_eq!(sorted(&reload(&site)), ["Ok"]);
    let info = site.daemon.info();
    assert_eq!((info.rows.len(), info.rows[0].address.clone()), (1, second.to_string()));
}

/// What a service is called, and which one has an address, may change in an upgrade as well as in a reload.
#[test]
fn an_upgrade_hands_each_address_to_the_service_that_has_it_now() {
    let (site, servers, ports) = (Site::new(), [0; 2].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
    let [first, second] = servers.each_ref();
    let pools: [(&str, &[&Server], &str); 2] = [("a", &[first], ""), ("b", &[second], "")];
    let (of_a, of_b) = ("pool = \"a\"", "pool = \"b\"");
    site.write(&pools, &[("s", ports[0], of_a), ("t", ports[1], of_b)]);
    site.start();
    let session = served(ports[0]);
    site.write(&pools, &[("s", ports[1], of_a), ("renamed", ports[0], of_b)]);
    site.daemon.upgrade();
    drop(served(ports[1]));
    assert_eq!(servers.each_ref().map(Server::accepted), [2, 0]);
    drop(served(ports[0]));
    assert_eq!(servers.each_ref().map(Server::accepted), [2, 1]);
    assert!(echoes(&session));
}

/// The workers close sockets in their own time, which must not keep the next reload from their address.
#[test]
fn a_service_that_was_dropped_can_be_added_again_at_once() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    let one = || site.write(&[("a", &[&server], "")], &[("s", ports[0], "")]);
    let two = || site.write(&[("a", &[&server], "")], &[("s", ports[0], ""), ("t", ports[1], "")]);
    one();
    site.start();
    for _ in 0..300 {
        two();
        let answer = reload(&site);
        assert!(answer.ends_with("Ok\n"), "{answer}");
        one();
        assert!(reload(&site).ends_with("Ok\n"));
        assert!(connect_to(at(ports[1])).is_err(), "what is answered is in force");
    }
}

#[test]
fn a_hundred_reloads_leave_nothing_behind() {
    let (site, servers, ports) = (Site::new(), [0; 3].map(|_| Server::echo()), [0; 3].map(|_| free_port()));
    let [first, second, third] = servers.each_ref();
    let small = || site.write(&[("a", &[first, second], "")], &[("s", ports[0], "")]);
    let large = || {
        site.write(
            &[("a", &[first], ""), ("b", &[second, third], "watchdog = \"tcp\"")],
            &[
                ("s", ports[0], "pool = \"a\"\npolicy = \"single\""),
                ("t", ports[1], "pool = \"b\""),
                ("u", ports[2], "pool = \"b\"\nclient-idle-timeout = 9"),
            ],
        );
    };
    small();
    site.start();
    let session = served(ports[0]);
    let descriptors = || fs::read_dir(site.daemon.proc("fd")).expect("a process").count();
    let threads = || fs::read_dir(site.daemon.proc("task")).expect("a process").count();
    let turn = || {
        large();
        let answer = reload(&site);
        assert!(answer.ends_with("Ok\n"), "{answer}");
        drop((served(ports[0]), served(ports[1]), served(ports[2])));
        small();
        assert!(reload(&site).ends_with("Ok\n"));
        assert!(echoes(&session));
    };
    turn();
    let mut before = (descriptors(), threads());
    wait_until("what is closed late is closed", || {
        let now = (descriptors(), threads());
        std::mem::replace(&mut before, now) == now
    });
    (0..50).for_each(|_| turn());
    wait_until("all is back", || descriptors() <= before.0 && threads() <= before.1);
}

/// What the file no longer says is the system's choice again, also on sockets that listen all along.
#[test]
fn keepalive_options_that_go_away_are_forgotten() {
    let (site, server, port) = one();
    let seconds_left =
        |client: &TcpStream| KernelsEnd::opposite(client).filter(|it| it.timer == 2).map(|it| it.seconds_left);
    let probed_within = |seconds: f64| {
        let client = served(port);
        wait_until("a timer runs", || seconds_left(&client).is_some());
        seconds_left(&client).is_some_and(|left| left <= seconds)
    };
    assert!(!probed_within(100.0), "the system's settings are longer");
    site.write(&[("a", &[&server], "")], &[("s", port, "keepalive-time = 50\nkeepalive-count = 2")]);
    assert!(reload(&site).ends_with("Ok\n"));
    assert!(probed_within(50.0));
    site.write(&[("a", &[&server], "")], &[("s", port, "")]);
    assert!(reload(&site).ends_with("Ok\n"));
    assert!(!probed_within(100.0));
    // The same where another process goes on with the sockets.
    site.write(&[("a", &[&server], "")], &[("s", port, "keepalive-time = 50")]);
    site.daemon.upgrade();
    assert!(probed_within(50.0));
    site.write(&[("a", &[&server], "")], &[("s", port, "")]);
    site.daemon.upgrade();
    assert!(!probed_within(100.0));
}

/// A service is replaced by another one when its options change, and what replaces what is known for as long as anybody
/// has the first of them.
#[test]
fn services_that_are_replaced_leave_no_memory_behind() {
    const WARM: usize = 200;
    let (site, server, port) = one();
    let session = served(port);
    let turn = |number: usize| {
        site.write(&[("a", &[&server], "")], &[("s", port, &format!("client-idle-timeout = {}", 60 + number % 2))]);
        assert!(reload(&site).ends_with("Ok\n"));
    };
    (0..WARM).for_each(turn);
    let before = proc::resident_bytes(site.daemon.pid());
    (WARM..5 * WARM).for_each(turn);
    let now = proc::resident_bytes(site.daemon.pid());
    assert!(now < before + 300_000, "{before} bytes have become {now}");
    assert!(echoes(&session));
}

#[test]
fn more_is_logged_where_the_file_comes_to_say_so() {
    let (site, _server, port) = one();
    drop(served(port));
    assert!(!site.log().contains(" DEBUG "), "{}", site.log());
    let text = fs::read_to_string(&site.file).expect("the file");
    fs::write(&site.file, text.replace("threads = 2", "threads = 2\nverbose = true")).expect("the file");
    assert_eq!(reload(&site), "process: verbose is true\nOk\n");
    drop(served(port));
    wait_until("a connection is told of", || site.log().contains(" DEBUG client "));
}
