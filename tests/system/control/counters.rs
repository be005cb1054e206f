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
