//! Limits of a destination: how many connections it gets, and who waits for room.

use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::is_served;
use crate::harness::client::connect_from;
use crate::harness::galera::query;
use crate::harness::mariadb::DatabaseServer;
use crate::harness::{
    Daemon, Glbd, PATIENCE, Server, connect_to, echoes, free_port, names_of, read_line, said_goodbye, wait_until,
    wait_until_within,
};
use crate::services::{Site, served};

/// A glbd with two workers, whose destinations take so many connections, in front of these.
fn start(most: usize, options: &[&str], servers: &[&Server]) -> Glbd {
    let most = format!("--destination-max-connections={most}");
    Glbd::builder().args(["--threads", "2", "--queue-timeout=60"]).arg(most).args(options).destinations(servers).start()
}

fn waits(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("O_NONBLOCK");
    let served = is_served(client);
    client.set_nonblocking(false).expect("O_NONBLOCK");
    !served
}

/// Clients that wait.
fn queue(glbd: &Glbd) -> usize {
    glbd.info().queued.expect("a line about the queue")
}

#[test]
fn no_server_ever_has_more_connections_than_it_may_and_all_clients_are_served() {
    const MOST: usize = 3;
    const CLIENTS: usize = 400;
    let servers = [Server::echo(), Server::echo()];
    for policy in [&[][..], &["--round"], &["--random"], &["--source"], &["--first"]] {
        let glbd = start(MOST, policy, &[&servers[0], &servers[1]]);
        let descriptors = glbd.descriptors();
        let (begun, most_open, over) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let rows = glbd.info().rows;
                    let most = rows.iter().map(|row| row.conns).max().expect("two rows");
                    most_open.fetch_max(most, Ordering::Relaxed);
                }
            });
            let clients: Vec<_> = (0..20u8)
                .map(|number| {
                    let (begun, glbd) = (&begun, &glbd);
                    scope.spawn(move || {
                        while begun.fetch_add(1, Ordering::Relaxed) < CLIENTS {
                            let client = connect_from([127, 0, 0, number + 1], glbd.address()).expect("glbd accepts");
                            assert!(echoes(&client), "{policy:?}");
                        }
                    })
                })
                .collect();
            clients.into_iter().for_each(|client| client.join().expect("every client is served"));
            over.store(true, Ordering::Relaxed);
        });
        assert_eq!(most_open.load(Ordering::Relaxed), MOST, "{policy:?}: they were full, and never fuller");
        wait_until("all counts are back", || glbd.info().total == 0 && queue(&glbd) == 0);
        wait_until("descriptors are back", || glbd.descriptors() == descriptors);
    }
}

#[test]
fn clients_are_served_in_the_order_in_which_they_came() {
    let server = Server::named("a");
    let glbd = start(1, &[], &[&server]);
    let first = glbd.connect();
    assert_eq!(read_line(&first).expect("a name"), "a");
    let mut clients = Vec::new();
    for waiting in 1..=8 {
        clients.push(glbd.connect());
        wait_until("it waits in the queue", || queue(&glbd) == waiting);
    }
    glbd.wait_for_log("service main: every destination has its most connections; clients wait in a queue");
    drop(first);
    while !clients.is_empty() {
        wait_until("the next one is served", || !waits(&clients[0]));
        assert!(clients[1..].iter().all(waits), "with {} left", clients.len());
        assert_eq!(glbd.info().total, 1);
        clients.remove(0);
    }
    wait_until("all have left", || glbd.info().total == 0 && queue(&glbd) == 0);
}

#[test]
fn a_client_that_leaves_the_queue_is_passed_over_and_none_is_forgotten() {
    let server = Server::named("a");
    let glbd = start(1, &[], &[&server]);
    let descriptors = glbd.descriptors();
    let first = glbd.connect();
    assert_eq!(read_line(&first).expect("a name"), "a");
    let [ends, resets, half_closes, stays] = [1, 2, 3, 4].map(|waiting| {
        let client = glbd.connect();
        wait_until("it waits in the queue", || queue(&glbd) == waiting);
        client
    });
    drop(ends);
    crate::harness::reset(resets);
    half_closes.shutdown(Shutdown::Write).expect("an open connection");
    wait_until("those that have left are gone", || queue(&glbd) == 1);
    drop(first);
    assert_eq!(read_line(&stays).expect("a name"), "a");
    drop((stays, half_closes));
    wait_until("all have left", || glbd.info().total == 0 && glbd.descriptors() == descriptors);
}

#[test]
fn a_client_that_has_waited_for_too_long_or_finds_too_many_is_turned_away_and_the_log_says_so() {
    let server = Server::named("a");
    let options = ["--destination-max-connections=1", "--max-queue=1", "--queue-timeout=0.5"];
    let glbd = Glbd::builder().args(options).destinations([&server]).start();
    let first = glbd.connect();
    assert_eq!(read_line(&first).expect("a name"), "a");
    let waits = glbd.connect();
    wait_until("it waits in the queue", || queue(&glbd) == 1);
    assert!(said_goodbye(&glbd.connect()), "the queue is full");
    glbd.wait_for_log("every destination has its most connections, and the queue is full");
    assert!(said_goodbye(&waits), "it has waited for long enough");
    assert_eq!((queue(&glbd), server.accepted()), (0, 1));
    drop(first);
    wait_until("there is room again", || read_line(&glbd.connect()).is_ok());
}

#[test]
fn a_server_that_fails_while_clients_wait_leaves_them_to_the_others_and_one_that_comes_takes_them() {
    let (mut one, other, more) = (Server::named("one"), Server::named("other"), Server::named("more"));
    let options = ["--watchdog=tcp", "--interval=0.2", "--fall=1", "--shutdown-sessions=always"];
    let glbd = start(1, &options, &[&one, &other]);
    wait_until("both are READY", || glbd.watch().rows.iter().all(|row| row.state == "READY"));
    let mut first = vec![glbd.connect(), glbd.connect()];
    let mut names = names_of(&first);
    names.sort_unstable();
    assert_eq!(names, ["one", "other"]);
    let clients: Vec<TcpStream> = (0..3).map(|_| glbd.connect()).collect();
    wait_until("they wait", || queue(&glbd) == 3);
    one.stop();
    wait_until("it is DOWN", || glbd.watch().rows.iter().any(|row| row.state == "DOWN"));
    assert!(clients.iter().all(waits), "nobody is sent there");
    glbd.change(more.weighted(1.0));
    let newly_served = |count: usize| {
        wait_until_within(PATIENCE, "one more is served", || clients.iter().filter(|it| !waits(it)).count() == count);
    };
    newly_served(1);
    glbd.change(format!("{other}:-1"));
    assert_eq!(queue(&glbd), 2);
    one.start();
    newly_served(2);
    first.clear();
    glbd.change(other.weighted(1.0));
    newly_served(3);
    assert_eq!(queue(&glbd), 0);
}

#[test]
fn nobody_goes_to_a_backup_because_the_others_are_full_and_everybody_when_they_have_failed() {
    let (mut primary, backup) = (Server::named("primary"), Server::named("backup"));
    let options = ["--watchdog=tcp", "--interval=0.2", "--fall=1", "--rise=1"];
    let backups = format!("--backups={backup}");
    let more = [&options[..], &[&backups, "--shutdown-backup-sessions"]].concat();
    let glbd = start(1, &more, &[&primary]);
    let first = glbd.connect();
    assert_eq!(read_line(&first).expect("a name"), "primary");
    let second = glbd.connect();
    wait_until("it waits in the queue", || queue(&glbd) == 1);
    assert_eq!(backup.accepted(), 0);
    primary.stop();
    drop(first);
    assert_eq!(read_line(&second).expect("a name"), "backup");
    wait_until("it is DOWN", || glbd.watch().rows.iter().any(|row| row.state == "DOWN"));
    primary.start();
    glbd.wait_for_log("1 session closed, since destination");
    assert!(read_line(&second).is_err() || said_goodbye(&second));
    wait_until("the primary serves", || read_line(&glbd.connect()).is_ok_and(|name| name == "primary"));
}

#[test]
fn a_reload_changes_how_many_connections_a_destination_gets_and_keeps_the_queue() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let write = |pool: &str, service: &str| site.write(&[("p", &[&server], pool)], &[("s", port, service)]);
    write("max-connections = 1", "queue-timeout = 60");
    site.start();
    let _first = served(port);
    let address = crate::services::at(port);
    let clients: Vec<TcpStream> = (0..3).map(|_| connect_to(address).expect("glbd accepts")).collect();
    let waiting = || site.daemon.info().queued.expect("a line about the queue");
    wait_until("they wait", || waiting() == 3);
    write("max-connections = 1", "queue-timeout = 60\nretries = 9");
    assert_eq!(site.daemon.control("reload"), "service s: connections have other options\nOk\n");
    assert_eq!(waiting(), 3, "who waits goes on to wait");
    write("max-connections = 2", "queue-timeout = 60\nretries = 9");
    assert_eq!(site.daemon.control("reload"), "pool p: destinations have other limits\nOk\n");
    wait_until("one more is served", || waiting() == 2);
    write("", "retries = 9");
    site.daemon.control("reload");
    assert!(clients.iter().all(echoes), "without a limit all are served");
    assert_eq!(site.daemon.info().queued, None, "there is no queue");
}

/// Workers have their clients pick again in whatever order they come to it.
#[test]
fn clients_are_served_in_the_order_in_which_they_came_after_their_pool_or_the_writer_has_changed() {
    for is_moved_by_hand in [false, true] {
        let (site, servers, ports) = (Site::new(), ["a", "b", "c"].map(Server::named), [0; 3].map(|_| free_port()));
        let [first, second, other] = servers.each_ref();
        let write = |pool: &str| {
            let service = format!("pool = '{pool}'\npolicy = 'single'\nqueue-timeout = 60");
            let pools: [(&str, &[&Server], &str); 2] =
                [("p", &[first, second], "max-connections = 1"), ("q", &[other], "max-connections = 1")];
            site.write(
                &pools,
                &[("s", ports[0], &service), ("t", ports[1], "pool = 'q'"), ("u", ports[2], "pool = 'p'")],
            );
        };
        write("p");
        site.start();
        let connect = |port| connect_to(crate::services::at(port)).expect("glbd accepts");
        let waiting = || {
            let status: serde_json::Value = serde_json::from_str(&site.daemon.control("getinfo json")).expect("JSON");
            status["services"][0]["queue"].as_u64().expect("a number")
        };
        let holders = [ports[0], ports[1]].map(connect);
        assert_eq!(names_of(&holders), ["a", "c"]);
        let [holder, other_holder] = holders;
        let mut clients = Vec::new();
        for number in 1..=8 {
            clients.push(connect(ports[0]));
            wait_until("it waits in the queue", || waiting() == number);
        }
        let mut served = if is_moved_by_hand {
            assert_eq!(site.daemon.control(&format!("writer s/{second} 0")), "Ok\n");
            drop(other_holder);
            holder
        } else {
            write("q");
            assert!(site.daemon.control("reload").ends_with("Ok\n"));
            wait_until("all have queued again", || waiting() == 8);
            drop(holder);
            other_holder
        };
        for (number, client) in clients.into_iter().enumerate() {
            drop(served);
            assert!(read_line(&client).is_ok(), "it is the turn of {number}");
            served = client;
        }
    }
}

/// What people set the limit for: a server refuses one client more than it takes.
#[test]
fn clients_of_a_mariadb_server_wait_rather_than_be_refused_by_it() {
    let server = DatabaseServer::start(&["--max-connections=10"]);
    let options = ["--greeting=mysql", "--destination-max-connections=8", "--queue-timeout=60", "--threads=2"];
    let glbd = Glbd::builder().args(options).destinations([server.address()]).start();
    let query = |_| query(glbd.address(), "SELECT SLEEP(0.05), CONNECTION_ID()");
    let wrong = thread::scope(|scope| {
        let clients: Vec<_> = (0..60).map(|number| scope.spawn(move || query(number))).collect();
        let answers = clients.into_iter().map(|client| client.join().expect("no panic"));
        answers.filter_map(Result::err).collect::<Vec<String>>()
    });
    assert_eq!(wrong, [""; 0]);
    assert_eq!(
        server.query("SHOW STATUS LIKE 'Connection_errors_max_connections'").split_whitespace().last(),
        Some("0")
    );
}

#[test]
fn a_queue_outlives_upgrades_and_no_process_passes_the_limit_of_all() {
    let server = Server::echo();
    let daemon =
        Daemon::started(&["-t", "2", "--destination-max-connections=2", "--queue-timeout=60", &server.to_string()]);
    let mut first = vec![daemon.connect(), daemon.connect()];
    assert!(first.iter().all(echoes));
    let waiting = || daemon.info().queued.expect("a line about the queue");
    let old = daemon.connect();
    wait_until("it waits in the old process", || waiting() == 1);
    daemon.upgrade();
    let new = daemon.connect();
    wait_until("it waits in the new process", || waiting() == 1);
    assert_eq!(server.open(), 2);
    first.pop();
    assert!(echoes(&old), "the old process gives its room to its own");
    assert_eq!((waiting(), server.open()), (1, 2));
    drop(first);
    assert!(echoes(&new), "what the old process does not need is the new one's");
    assert_eq!(server.open(), 2);
}
