//! What services and destinations have come to.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

use crate::harness::{Daemon, Glbd, Server, echoes, free_port, read_line, reset, wait_until};
use crate::services::{Site, served};

fn all(answer: &str) -> Value {
    serde_json::from_str(answer).expect("JSON")
}

/// How many connections have ended for this.
fn ended(of: &Value, cause: &str) -> u64 {
    let all = of["ended"].as_array().expect("a list");
    all.iter().find(|it| it["cause"] == cause).map_or(0, |it| it["count"].as_u64().expect("a count"))
}

/// How many times of this kind were measured.
fn measured(of: &Value, what: &str) -> u64 {
    let all = of["times"].as_array().expect("a list");
    all.iter().find(|it| it["what"] == what).map_or(0, |it| it["count"].as_u64().expect("a count"))
}

/// Sends this, ends, and reads all that comes back.
fn send(mut client: &TcpStream, bytes: &[u8]) {
    client.write_all(bytes).expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    let mut back = Vec::new();
    client.read_to_end(&mut back).expect("an answer");
    assert_eq!(back, bytes);
}

#[test]
fn connections_bytes_times_and_ends_are_counted_for_service_and_destination() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::builder().args(["--threads", "2", "--round"]).destinations(&servers).start();
    for length in 1..=10 {
        send(&glbd.connect(), &vec![b'x'; length * 1000]);
    }
    let now = || all(&glbd.control("getinfo json"));
    wait_until("all have ended", || now()["services"][0]["connections"]["now"] == 0);
    let now = now();
    let (service, pool) = (&now["services"][0], &now["pools"][0]);
    assert_eq!(service["connections"]["total"], 10);
    assert_eq!((service["bytes_in"].as_u64(), service["bytes_out"].as_u64()), (Some(55_000), Some(55_000)));
    assert_eq!((service["connects"]["tried"].as_u64(), ended(service, "client")), (Some(10), 10));
    for what in ["connect", "first_byte", "duration"] {
        assert_eq!(measured(service, what), 10, "{what}");
    }
    let destinations = pool["destinations"].as_array().expect("a list");
    let sum = |key: &str| destinations.iter().map(|it| it[key].as_u64().expect("a count")).sum::<u64>();
    assert_eq!((sum("bytes_in"), sum("bytes_out")), (55_000, 55_000));
    for destination in destinations {
        assert_eq!((destination["connections"]["total"].as_u64(), ended(destination, "client")), (Some(5), 5));
        assert_eq!(destination["connections"]["highest"], 1);
    }
    assert_eq!(pool["bytes_in"], 55_000);
    glbd.change(format!("{}:-1", servers[0]));
    let pool = &all(&glbd.control("getinfo json"))["pools"][0];
    assert_eq!(pool["bytes_in"], 55_000, "what one has come to that is gone is the pool's for ever");
}

#[test]
fn each_end_has_its_cause() {
    let (stays, ends) = (Server::echo(), Server::named_and_closing("bye"));
    let (site, ports) = (Site::new(), [free_port(), free_port(), free_port(), free_port()]);
    site.write(
        &[("stays", &[&stays], ""), ("ends", &[&ends], ""), ("none", &[], "")],
        &[
            ("stays", ports[0], "pool = 'stays'"),
            ("ends", ports[1], "pool = 'ends'"),
            ("idle", ports[2], "pool = 'stays'\nclient-idle-timeout = 0.2"),
            ("none", ports[3], "pool = 'none'"),
        ],
    );
    site.start();
    let count =
        |service: usize, cause: &str| ended(&all(&site.daemon.control("getinfo json"))["services"][service], cause);
    drop(served(ports[0]));
    wait_until("the client has ended it", || count(0, "client") == 1);
    reset(served(ports[0]));
    wait_until("the client has reset it", || count(0, "client-reset") == 1);
    let client = TcpStream::connect(("127.0.0.1", ports[1])).expect("glbd accepts");
    assert_eq!(read_line(&client).expect("a name"), "bye");
    assert_eq!((&client).read(&mut [0; 9]).expect("the server's end"), 0);
    drop(client);
    wait_until("the server has ended it", || count(1, "server") == 1);
    let _idle = served(ports[2]);
    wait_until("it was idle", || count(2, "idle") == 1);
    let _turned_away = TcpStream::connect(("127.0.0.1", ports[3])).expect("glbd accepts");
    wait_until("no destination has taken it", || count(3, "no-destination") == 1);
    let _closed = served(ports[0]);
    site.daemon.control(&format!("stays/{stays}:-1"));
    wait_until("its destination was removed", || count(0, "destination-closed") == 1);
}

#[test]
fn failed_connects_are_counted_where_they_have_failed_and_why() {
    let (mut dead, alive) = (Server::echo(), Server::echo());
    dead.stop_listening();
    let glbd =
        Glbd::builder().arg("--first").arg("--destination-max-connections=9").destinations([&dead, &alive]).start();
    let clients: Vec<TcpStream> = (0..3).map(|_| glbd.connect()).collect();
    assert!(clients.iter().all(echoes));
    let now = all(&glbd.control("getinfo json"));
    let (service, destinations) = (&now["services"][0], &now["pools"][0]["destinations"]);
    let refused = destinations[0]["connects"]["refused"].as_u64().expect("a count");
    assert!((1..=3).contains(&refused), "it is avoided for a while");
    assert_eq!(destinations[0]["connects"]["tried"].as_u64(), Some(refused));
    assert_eq!(service["connects"]["redispatched"].as_u64(), Some(refused));
    assert_eq!(destinations[1]["connections"]["total"], 3);
    assert_eq!(service["connects"]["tried"].as_u64(), Some(3 + refused));
}

#[test]
fn counts_are_exact_after_ten_upgrades_those_of_older_processes_included() {
    const ROUNDS: usize = 10;
    let servers = [Server::echo(), Server::echo()];
    let daemon = Daemon::started(&["-t", "2", "--round", &servers[0].to_string(), &servers[1].to_string()]);
    let line = "still there?\n".len();
    let mut long: Vec<TcpStream> = Vec::new();
    let (mut connections, mut bytes) = (0, 0);
    for round in 1..=ROUNDS {
        long.push(daemon.connect());
        (0..7).for_each(|_| send(&daemon.connect(), &[b'x'; 100]));
        daemon.upgrade();
        // Each is another process's.
        assert!(long.iter().all(echoes));
        (connections, bytes) = (connections + 8, bytes + 700 + round * line);
    }
    let now = || all(&daemon.control("getinfo json"));
    wait_until("everything is counted", || now()["services"][0]["bytes_out"].as_u64() == Some(bytes as u64));
    let check = |now: &Value, bytes: usize, ended_by_clients: usize| {
        let service = &now["services"][0];
        assert_eq!(service["connections"]["total"].as_u64(), Some(connections));
        assert_eq!(
            (service["bytes_in"].as_u64(), ended(service, "client")),
            (Some(bytes as u64), ended_by_clients as u64)
        );
        assert_eq!(measured(service, "connect"), connections);
        let destinations = now["pools"][0]["destinations"].as_array().expect("a list");
        let sum = |of: &dyn Fn(&Value) -> u64| destinations.iter().map(of).sum::<u64>();
        assert_eq!(sum(&|it| it["bytes_in"].as_u64().expect("a count")), bytes as u64);
        assert_eq!(sum(&|it| it["connections"]["total"].as_u64().expect("a count")), connections);
        assert_eq!(sum(&|it| ended(it, "client")), ended_by_clients as u64);
    };
    wait_until("all ends are counted", || ended(&now()["services"][0], "client") == 70);
    check(&now(), bytes, 70);
    drop(long);
    wait_until("all have ended", || ended(&now()["services"][0], "client") == 80);
    check(&now(), bytes, 80);
}

/// How often this limit was reached, with this effect.
fn limited(of: &Value, limit: &str, effect: &str) -> u64 {
    let all = of["limited"].as_array().expect("a list");
    let found = all.iter().find(|it| it["limit"] == limit && it["effect"] == effect);
    found.map_or(0, |it| it["count"].as_u64().expect("a count"))
}

/// How many checks have come to this.
fn checks(of: &Value, result: &str) -> u64 {
    let all = of["checks"].as_array().expect("a list");
    all.iter().find(|it| it["result"] == result).map_or(0, |it| it["count"].as_u64().expect("a count"))
}

#[test]
fn clients_that_are_refused_or_wait_are_counted_by_limit() {
    let server = Server::echo();
    let (site, ports) = (Site::new(), [free_port(), free_port(), free_port(), free_port(), free_port()]);
    site.write(
        &[("one", &[&server], "")],
        &[
            ("denied", ports[0], "deny = ['127.0.0.0/8']"),
            ("full", ports[1], "max-connections = 1\nover-limit = 'reset'"),
            ("fast", ports[2], "connection-rate = 1\nover-limit = 'reset'"),
            ("source", ports[3], "max-connections-per-source = 1"),
            ("waits", ports[4], "max-connections = 1"),
        ],
    );
    site.start();
    let now = || all(&site.daemon.control("getinfo json"));
    let count = |service: usize, limit: &str, effect: &str| limited(&now()["services"][service], limit, effect);
    // A reset may come before connect() has returned.
    let refused = |port: u16| TcpStream::connect(("127.0.0.1", port)).is_ok_and(|client| echoes(&client));
    assert!(!refused(ports[0]) && !refused(ports[0]));
    wait_until("both count", || count(0, "denied", "reset") == 2);
    let _one = served(ports[1]);
    assert!(!refused(ports[1]));
    wait_until("it counts", || count(1, "connections", "reset") == 1);
    let _first = served(ports[2]);
    wait_until("one comes too fast", || !refused(ports[2]));
    wait_until("it counts", || count(2, "rate", "reset") >= 1);
    let _own = served(ports[3]);
    assert!(!refused(ports[3]));
    wait_until("it counts", || count(3, "source-connections", "reset") == 1);
    let _there = served(ports[4]);
    let waiting = TcpStream::connect(("127.0.0.1", ports[4])).expect("the backlog has room");
    wait_until("it has to wait", || count(4, "connections", "wait") >= 1);
    drop(waiting);
    assert_eq!(now()["services"][0]["connections"]["total"], 0, "who is refused is no connection");
    // An upgrade keeps them, and a reload.
    site.daemon.upgrade();
    assert_eq!((count(0, "denied", "reset"), count(3, "source-connections", "reset")), (2, 1));
    site.daemon.control("reload");
    assert_eq!(count(0, "denied", "reset"), 2);
    assert!(!refused(ports[0]));
    wait_until("it goes on", || count(0, "denied", "reset") == 3);
}

#[test]
fn checks_are_counted_by_result_and_their_time_is_measured() {
    let (up, mut fails) = (Server::echo(), Server::echo());
    fails.stop_listening();
    let options = ["--watchdog=tcp", "--interval=0.1", &up.to_string(), &fails.to_string()];
    let daemon = Daemon::started(&options);
    let now = || all(&daemon.control("getinfo json"))["pools"][0]["destinations"].clone();
    wait_until("some have been made", || checks(&now()[0], "ready") >= 3 && checks(&now()[1], "failed") >= 3);
    let before = now();
    assert_eq!((checks(&before[0], "failed"), checks(&before[1], "ready")), (0, 0));
    let (ready, failed) = (checks(&before[0], "ready"), checks(&before[1], "failed"));
    assert!(measured(&before[0], "check") >= ready && measured(&before[1], "check") >= failed);
    for _ in 0..2 {
        daemon.upgrade();
        let after = now();
        assert!(checks(&after[0], "ready") >= ready && checks(&after[1], "failed") >= failed, "{after}");
        assert_eq!(measured(&after[0], "check"), checks(&after[0], "ready"));
    }
    wait_until("they go on", || checks(&now()[0], "ready") > ready + 3);
    // One that is removed and comes back begins anew, like all its counters.
    daemon.control(&format!("{fails}:-1"));
    daemon.control(&format!("{fails}:1"));
    assert!(checks(&now()[1], "failed") < failed.max(3));
}

#[test]
fn a_check_without_an_answer_in_time_counts_as_timed_out() {
    let silent = Server::serving(|_| std::thread::sleep(std::time::Duration::from_secs(60)));
    let options = ["--watchdog=http:/", "--interval=0.2", "--timeout=0.2"].map(str::to_owned).into_iter();
    let glbd = Glbd::builder().args(options).destinations([&silent]).start();
    let now = || all(&glbd.control("getinfo json"))["pools"][0]["destinations"][0].clone();
    wait_until("they have timed out", || checks(&now(), "timed-out") >= 2);
    assert_eq!((checks(&now(), "failed"), checks(&now(), "ready")), (0, 0));
}

#[test]
fn what_an_old_process_ends_at_its_stop_is_counted_in_the_one_that_has_taken_over() {
    let server = Server::echo();
    let daemon = Daemon::started(&["--drain-timeout", "6", &server.to_string()]);
    let clients: Vec<TcpStream> = (0..3).map(|_| daemon.connect()).collect();
    assert!(clients.iter().all(echoes));
    daemon.upgrade();
    let now = || all(&daemon.control("getinfo json"));
    assert_eq!(now()["services"][0]["connections"]["now"], 3, "those of older processes are there as well");
    let _own = daemon.connect();
    wait_until("its own counts", || now()["services"][0]["connections"]["now"] == 4);
    assert_eq!(now()["services"][0]["connections"]["highest"], 4);
    wait_until("they are ended", || ended(&now()["services"][0], "stopped") == 3);
    assert_eq!(ended(&now()["pools"][0]["destinations"][0], "stopped"), 3);
    wait_until("they are gone", || now()["services"][0]["connections"]["now"] == 1);
    assert_eq!(now()["services"][0]["connections"]["highest"], 4);
}

#[test]
fn of_a_process_that_is_killed_what_it_has_reported_counts() {
    let server = Server::echo();
    let daemon = Daemon::started(&[&server.to_string()]);
    let client = daemon.connect();
    assert!(echoes(&client));
    let old = daemon.pid();
    daemon.upgrade();
    let now = || all(&daemon.control("getinfo json"))["services"][0].clone();
    assert!(echoes(&client));
    let bytes = 2 * "still there?\n".len() as u64;
    wait_until("it is reported", || now()["bytes_in"].as_u64() == Some(bytes));
    nix::sys::signal::kill(old, nix::sys::signal::Signal::SIGKILL).expect("it runs");
    wait_until("its connection is gone", || now()["connections"]["now"] == 0);
    assert_eq!((now()["connections"]["total"].as_u64(), now()["bytes_in"].as_u64()), (Some(1), Some(bytes)));
    assert!(now()["ended"].as_array().is_some_and(Vec::is_empty), "nobody has said how it ended");
}
