//! Who is connected to what, and putting an end to it.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::client::connect_from;
use crate::harness::{Daemon, Glbd, Server, connect_to, echoes, free_port, wait_until};
use crate::services::{Site, at, served};

pub fn lines(answer: &str) -> Vec<Value> {
    answer.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{answer}"))).collect()
}

pub fn text<'v>(of: &'v Value, key: &str) -> &'v str {
    of[key].as_str().unwrap_or_else(|| panic!("no {key} in {of}"))
}

/// Connections of this many clients, from 127.0.0.1, 127.0.0.2 and so on, which have said something.
fn clients(glbd: &Glbd, count: u8) -> Vec<TcpStream> {
    let client = |number| {
        let client = connect_from([127, 0, 0, number], glbd.address()).expect("glbd accepts");
        assert!(echoes(&client));
        client
    };
    (1..=count).map(client).collect()
}

/// Whether its connection is over.
pub fn is_over(client: &TcpStream) -> bool {
    client.set_nonblocking(true).expect("O_NONBLOCK");
    !matches!(client.peek(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
}

#[test]
fn each_connection_is_shown_with_both_of_its_ends_and_what_it_has_carried() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations([&server]).start();
    let clients = clients(&glbd, 3);
    let shown = lines(&glbd.control("getconns json"));
    assert_eq!(shown.len(), 3);
    for client in &clients {
        let own = client.local_addr().expect("an address").to_string();
        let it = shown.iter().find(|it| text(it, "client") == own).expect("its line");
        assert_eq!((text(it, "service"), text(it, "state")), ("main", "connected"));
        assert_eq!(text(it, "destination"), server.to_string());
        assert!(text(it, "local").starts_with("127.0.0.1:"));
        assert_eq!((it["bytes_in"].as_u64(), it["bytes_out"].as_u64()), (Some(13), Some(13)));
        assert!(text(it, "id").starts_with(&format!("{}.", glbd.pid())));
    }
    let table = glbd.control("getconns");
    assert!(table.starts_with("id service client local destination state age idle bytes_in bytes_out\n"), "{table}");
    assert!(table.ends_with("Connections: 3\n"), "{table}");
}

#[test]
fn filters_order_and_a_limit_say_which() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::builder().args(["--threads", "2", "--round"]).destinations(&servers).start();
    let clients = clients(&glbd, 4);
    (0..9).for_each(|_| assert!(echoes(&clients[2])));
    let count = |query: &str| lines(&glbd.control(&format!("getconns {query} json"))).len();
    assert_eq!((count(""), count("main")), (4, 4));
    assert_eq!(count("dest=127.0.0.1"), 0, "it is at glbd's own port");
    for command in ["getconns nosuch", "getclients nosuch json", "getconns nosuch client=127.0.0.2"] {
        assert_eq!(glbd.control(command), "Error: there is no service 'nosuch'; there are main\n");
    }
    assert_eq!((count("client=127.0.0.2"), count("client=127.0.0.0/30"), count("client=10.0.0.0/8")), (1, 3, 0));
    assert_eq!((count(&format!("dest={}", servers[0])), count("dest=127.0.0.1:1")), (2, 0));
    assert_eq!((count("older=0"), count("older=3600"), count("idle=3600"), count("limit=3")), (4, 0, 0, 3));
    let first = lines(&glbd.control("getconns sort=bytes limit=1 json")).remove(0);
    assert!(text(&first, "client").starts_with("127.0.0.3:"));
    let first = lines(&glbd.control("getconns sort=age limit=1 json")).remove(0);
    assert!(text(&first, "client").starts_with("127.0.0.1:"));
}

#[test]
fn the_client_that_hogs_is_the_first() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations([&server]).start();
    let _few = clients(&glbd, 3);
    let hog = |_| connect_from([127, 0, 0, 9], glbd.address()).expect("glbd accepts");
    let hogs: Vec<TcpStream> = (0..20).map(hog).collect();
    assert!(hogs.iter().all(echoes));
    let shown = lines(&glbd.control("getclients json"));
    assert_eq!((text(&shown[0], "client"), shown[0]["connections"].as_u64()), ("127.0.0.9", Some(20)));
    assert_eq!((shown.len(), shown[0]["bytes_in"].as_u64()), (4, Some(20 * 13)));
    let table = glbd.control("getclients");
    assert!(table.starts_with("client connections bytes_in bytes_out oldest idle\n127.0.0.9 20 260 260 "), "{table}");
    assert!(table.ends_with("Clients: 4, connections: 23\n"), "{table}");
}

#[test]
fn what_is_kicked_is_closed_and_nothing_else() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::builder().args(["--threads", "2", "--round"]).destinations(&servers).start();
    let mut clients = clients(&glbd, 6);
    let id = {
        let shown = lines(&glbd.control("getconns client=127.0.0.1 json"));
        text(&shown[0], "id").to_owned()
    };
    assert_eq!(glbd.control(&format!("kick {id}")), "1 connection closed\nOk\n");
    let first = clients.remove(0);
    wait_until("it is closed", || is_over(&first));
    assert!(clients.iter().all(echoes));
    for command in [format!("kick {id}"), format!("kick {id} pace=5"), format!("kick {id} client=127.0.0.2/31")] {
        let answer = glbd.control(&command);
        assert_eq!(answer, format!("Error: {id}: no such connection\n"), "it is another one's place");
    }
    assert_eq!(glbd.control("kick client=127.0.1.0/24"), "0 connections closed\nOk\n");
    assert_eq!(glbd.control("kick client=127.0.0.2/31"), "2 connections closed\nOk\n");
    wait_until("they are closed", || clients[..2].iter().all(is_over));
    let rest = clients.split_off(2);
    assert!(rest.iter().all(echoes));
    let on_second = lines(&glbd.control(&format!("getconns dest={} json", servers[1]))).len();
    let answer = glbd.control(&format!("kick dest={}", servers[1]));
    assert!(answer.starts_with(&format!("{on_second} connection")), "{answer}");
    wait_until("only the other's are left", || glbd.info().row(&servers[1]).conns == 0);
    assert_eq!(glbd.info().total, rest.len() - on_second);
    glbd.wait_for_log("2 connections closed by hand, by 127.0.0.1:");
    let ended = glbd.control("getinfo json");
    let ended: Value = serde_json::from_str(&ended).expect("JSON");
    let kicked = ended["services"][0]["ended"].as_array().expect("a list").iter().find(|it| it["cause"] == "kicked");
    assert_eq!(kicked.expect("a cause")["count"].as_u64(), Some(3 + on_second as u64));
}

#[test]
fn connections_are_closed_at_a_pace() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--threads", "2"]).destinations([&server]).start();
    let clients = clients(&glbd, 10);
    let begun = Instant::now();
    let answer = glbd.control(&format!("kick dest={server} pace=10"));
    assert_eq!(answer, "10 connections being closed, 10 a second\nOk\n");
    wait_until("all are closed", || clients.iter().all(is_over));
    assert!(begun.elapsed() >= Duration::from_millis(850), "{:?}", begun.elapsed());
}

#[test]
fn clients_that_have_no_destination_yet_are_shown_and_kicked_as_well() {
    let server = Server::echo();
    let options = ["--destination-max-connections=1", "--queue-timeout=60"];
    let glbd = Glbd::builder().args(options).destinations([&server]).start();
    let _first = clients(&glbd, 1);
    let waits = glbd.connect();
    let own = waits.local_addr().expect("an address");
    let shown = || lines(&glbd.control(&format!("getconns client={} json", own.ip())));
    wait_until("it waits", || shown().iter().any(|it| it["state"] == "queued"));
    let queued = shown().into_iter().find(|it| it["state"] == "queued").expect("a client");
    assert_eq!((text(&queued, "client"), &queued["destination"]), (&*own.to_string(), &Value::Null));
    assert_eq!(glbd.control(&format!("kick {}", text(&queued, "id"))), "1 connection closed\nOk\n");
    wait_until("it is closed", || is_over(&waits));
    assert_eq!(glbd.info().queued, Some(0));
}

#[test]
fn what_is_not_understood_is_said_and_nothing_is_closed() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let client = clients(&glbd, 1);
    let usage = "expected kick ID|client=NETWORK|client=unix:PATH|dest=[POOL/]HOST:PORT|idle=SECS|older=SECS [pace=N]";
    for (line, reason) in [
        ("kick", usage),
        ("kick pace=3", usage),
        (
            "kick client=everybody",
            "'everybody' is neither an address, nor a network, such as 10.0.0.0/8, nor unix:PATH",
        ),
        ("kick dest=db1:3306", "'db1:3306' is a name: say the address that getinfo shows"),
        ("kick idle=long", "'long' is not a number of seconds"),
        ("kick client=::1 pace=0", "'0' is not a pace (connections a second, 0.001 to 1000000)"),
        ("kick 7", "'7' is not the number of a connection, as getconns shows it"),
        ("kick 1.0-1", "'1.0-1' is not the number of a connection, as getconns shows it"),
        ("getconns sort=name", "'name' is not one of bytes, age, idle"),
        ("getclients limit=few", "'few' is not a number"),
    ] {
        assert_eq!(glbd.control(line), format!("Error: '{line}': {reason}\n"));
    }
    assert!(client.iter().all(echoes));
}

#[test]
fn with_several_services_each_connection_says_its_own() {
    let (site, servers, ports) = (Site::new(), [Server::echo(), Server::echo()], [free_port(), free_port()]);
    // A service may be called as the word is that asks for JSON.
    site.write(
        &[("one", &[&servers[0]], ""), ("other", &[&servers[1]], "")],
        &[("json", ports[0], "pool = 'one'"), ("b", ports[1], "pool = 'other'")],
    );
    site.start();
    let _clients = [served(ports[0]), served(ports[1]), served(ports[1])];
    let count = |service: &str| lines(&site.daemon.control(&format!("getconns {service} json"))).len();
    assert_eq!((count("json"), count("b"), count("")), (1, 2, 3));
    site.daemon.control("kick older=0");
    wait_until("all are closed", || count("") == 0);
    assert!(echoes(&connect_to(at(ports[0])).expect("glbd accepts")), "new ones are served");
}

#[test]
fn thousands_of_connections_are_listed_while_others_are_served() {
    const COUNT: usize = 3000;
    let server = Server::echo();
    let daemon = Daemon::started(&["-t", "2", &server.to_string()]);
    let clients: Vec<TcpStream> = (0..COUNT).map(|_| daemon.connect()).collect();
    assert!(clients.iter().all(echoes));
    std::thread::scope(|scope| {
        let listing =
            scope.spawn(|| (0..20).map(|_| lines(&daemon.control("getconns json")).len()).collect::<Vec<_>>());
        while !listing.is_finished() {
            assert!(echoes(&clients[0]));
        }
        assert_eq!(listing.join().expect("no panic"), [COUNT; 20]);
    });
}
