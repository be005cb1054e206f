//! Single lines of HAProxy's, what they are in glbd by docs/from-haproxy.md, and what clients see of both.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::balancer::Opinion::{Down, Up};
use super::node::{Announced, Node};
use super::scene::{Scene, client, clients, counts, order, play, served_by, visit, waits};
use crate::harness::{connect_from, echoes, patient, read_line, said_goodbye, wait_until};

/// What a section says besides its name, `s`.
#[derive(Default)]
struct Section {
    /// Its lines in HAProxy's file.
    lines: &'static str,
    /// What stands behind each server there.
    servers: [&'static str; 3],
    /// The keys of the pool in glbd's file.
    pool: &'static str,
    /// The keys of the service.
    service: &'static str,
}

/// Three nodes, which expect to be told who their clients are at port 3307.
fn nodes() -> [Node; 3] {
    [1, 2, 3].map(|number: u8| {
        let ports = [(3306, Announced::No), (3307, Announced::Yes)];
        Node::new(&number.to_string(), [10, 0, 0, number], &ports)
    })
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 100], port))
}

/// Plays a scene by such a section; it listens at port 3306 and sends clients to this port of the nodes, unless it says
/// otherwise.
fn play_by(port: u16, section: &Section, scene: fn(&Scene, [Node; 3])) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let files = ["haproxy.cfg", "glbd.toml"].map(|name| directory.path().join(name));
    let timeouts = " timeout connect 5s\n timeout client 1h\n timeout server 1h\n timeout queue 1m\n";
    let bind = if section.lines.contains("bind ") { "" } else { " bind 10.0.0.100:3306\n" };
    let servers: String = (1..=3)
        .zip(section.servers)
        .map(|(number, options)| format!(" server s{number} 10.0.0.{number}:{port} {options}\n"))
        .collect();
    let haproxy = format!("defaults\n mode tcp\n{timeouts}listen s\n{bind}{}\n{servers}", section.lines);
    fs::write(&files[0], haproxy).expect("a file");
    let destinations = if section.pool.contains("destinations") {
        String::new()
    } else {
        format!("destinations = [\"10.0.0.1:{port}\", \"10.0.0.2:{port}\", \"10.0.0.3:{port}\"]\n")
    };
    let listen = if section.service.contains("listen") { "" } else { "listen = \"10.0.0.100:3306\"\n" };
    let glbd = format!("[pool.s]\n{destinations}{}\n[service.s]\n{listen}{}\n", section.pool, section.service);
    fs::write(&files[1], glbd).expect("a file");
    play(files, nodes, scene);
}

#[test]
fn balance_first_fills_one_server_after_the_other() {
    let section = Section {
        lines: " balance first",
        servers: ["maxconn 3"; 3],
        pool: "max-connections = 3",
        service: "policy = \"first\"",
    };
    play_by(3306, &section, |scene, nodes| {
        let mut held = clients(7, at(3306));
        scene.note("seven clients", order(&held));
        for (leaves, node) in [(1, 0), (3, 1)] {
            held.remove(leaves);
            scene.wait_for_connections("s", &nodes[node], 3306, 2);
            held.extend(clients(1, at(3306)));
            scene.note("one that comes goes where one has left", order(&held));
        }
    });
}

/// The limit is 1 with 3 clients, 2 with 4, 3 with 6 and 4 with 8.
#[test]
fn the_limit_of_a_server_follows_the_load_where_that_is_asked_for() {
    let section = Section {
        lines: " balance first\n fullconn 8",
        servers: ["minconn 1 maxconn 4"; 3],
        pool: "max-connections = 4\nmin-connections = 1\nfull-connections = 8",
        service: "policy = \"first\"",
    };
    play_by(3306, &section, |scene, nodes| {
        let mut held = clients(12, at(3306));
        scene.note("as they come", order(&held));
        let waits_on = client(13, at(3306));
        scene.note("the next one", waits(&waits_on));
        drop(waits_on);
        for name in ["2", "3"] {
            held.retain(|(server, _)| server != name);
        }
        held.truncate(2);
        for (node, count) in nodes.iter().zip([2, 0, 0]) {
            scene.wait_for_connections("s", node, 3306, count);
        }
        held.extend(clients(4, at(3306)));
        scene.note("when most have left", order(&held));
    });
}

#[test]
fn weights_are_proportions() {
    let section = Section {
        lines: " balance roundrobin",
        servers: ["weight 10", "weight 20", "weight 30"],
        pool: "destinations = [\"10.0.0.1:3306:10\", \"10.0.0.2:3306:20\", \"10.0.0.3:3306:30\"]",
        service: "policy = \"round-robin\"",
    };
    play_by(3306, &section, |scene, _nodes| {
        scene.note("eighteen clients", counts(&clients(18, at(3306))));
    });
}

#[test]
fn all_backups_share_the_clients_where_that_is_asked_for() {
    let section = Section {
        lines: " option allbackups\n default-server inter 200ms rise 2 fall 2 check",
        servers: ["", "backup", "backup"],
        pool: "destinations = [\"10.0.0.1:3306\"]\nbackups = [\"10.0.0.2:3306\", \"10.0.0.3:3306\"]\nwatchdog = \"tcp\"\n\
               interval = 0.2\nfall = 2",
        service: "",
    };
    play_by(3306, &section, |scene, mut nodes| {
        nodes.iter().for_each(|node| scene.wait_for("s", node, 3306, Up));
        scene.note("while the first is up", counts(&clients(4, at(3306))));
        nodes[0].stop(3306);
        scene.wait_for("s", &nodes[0], 3306, Down);
        scene.note("while it is down", counts(&clients(4, at(3306))));
        nodes[0].start(3306);
        scene.wait_for("s", &nodes[0], 3306, Up);
        scene.note("when it is up again", counts(&clients(4, at(3306))));
    });
}

#[test]
fn new_connections_may_have_a_rate() {
    let section = Section { lines: " rate-limit sessions 5", service: "connection-rate = 5", ..Section::default() };
    play_by(3306, &section, |scene, _nodes| {
        let begun = Instant::now();
        scene.note("all are served", clients(12, at(3306)).iter().all(|(name, _)| name != "nobody"));
        scene.note("but not at once", begun.elapsed() > Duration::from_secs(1));
    });
}

#[test]
fn clients_above_the_limit_of_a_section_wait() {
    let section = Section { lines: " maxconn 4", service: "max-connections = 4", ..Section::default() };
    play_by(3306, &section, |scene, _nodes| {
        let mut held = clients(4, at(3306));
        let waiting = [5, 6].map(|number| client(number, at(3306)));
        held.pop();
        scene.note("one is served where one has left", served_by(&waiting[0]) != "nobody");
        scene.note("the other waits", waits(&waiting[1]));
        held.pop();
        scene.note("and is served then", served_by(&waiting[1]) != "nobody");
    });
}

#[test]
fn networks_are_accepted_or_rejected() {
    let section = Section {
        lines: " acl inner src 10.0.1.0/29\n acl outer src 10.0.1.0/24\n tcp-request connection accept if inner\n \
                tcp-request connection reject if outer",
        service: "allow = [\"0.0.0.0/0\", \"10.0.1.0/29\"]\ndeny = [\"10.0.1.0/24\"]",
        ..Section::default()
    };
    play_by(3306, &section, |scene, _nodes| {
        for ip in [[10, 0, 1, 1], [10, 0, 1, 7], [10, 0, 1, 8], [10, 0, 1, 200], [10, 0, 2, 1]] {
            scene.note(&format!("{ip:?} is served"), visit(ip, at(3306)).0 != "nobody");
        }
    });
}

#[test]
fn a_source_may_have_so_many_connections() {
    let section = Section {
        lines: " stick-table type ip size 1k store conn_cur\n tcp-request connection track-sc0 src\n \
                tcp-request connection reject if { src_conn_cur gt 2 }",
        service: "max-connections-per-source = 2",
        ..Section::default()
    };
    play_by(3306, &section, |scene, _nodes| {
        let mut of_one: Vec<_> = (0..3).map(|_| visit([10, 0, 1, 1], at(3306))).collect();
        scene.note("three of one source", of_one.iter().map(|(name, _)| name != "nobody").collect::<Vec<bool>>());
        scene.note("another one is served", visit([10, 0, 1, 2], at(3306)).0 != "nobody");
        of_one.remove(0);
        wait_until("one has left, and there is room again", || visit([10, 0, 1, 1], at(3306)).0 != "nobody");
    });
}

#[test]
fn servers_are_connected_to_from_a_chosen_address() {
    let section =
        Section { lines: " source 10.0.0.77", service: "connect-from = [\"10.0.0.77\"]", ..Section::default() };
    play_by(3306, &section, |scene, _nodes| {
        let client = patient(connect_from([10, 0, 1, 1], at(3306)).expect("the balancer accepts")).expect("timeouts");
        (&client).write_all(b"whence\n").expect("an open connection");
        scene.note("a server sees", read_line(&client).expect("an address"));
    });
}

#[test]
fn a_section_may_have_several_addresses_and_ranges_at_an_interface() {
    let section = Section {
        lines: " bind 10.0.0.100:3306-3308,10.0.0.101:4000 interface lo\n balance roundrobin",
        service: "listen = [\"10.0.0.100:3306-3308\", \"10.0.0.101:4000\"]\ninterface = \"lo\"\npolicy = \"round-robin\"",
        ..Section::default()
    };
    play_by(3306, &section, |scene, _nodes| {
        let addresses = [at(3306), at(3307), at(3308), SocketAddr::from(([10, 0, 0, 101], 4000))];
        let held: Vec<_> = addresses.iter().chain(&addresses[..2]).flat_map(|address| clients(1, *address)).collect();
        scene.note("clients of all addresses have their turns together", counts(&held));
        scene.note("nothing else listens", connect_from([10, 0, 1, 1], at(3309)).is_err());
    });
}

#[test]
fn headers_are_expected_of_some_and_passed_on() {
    let section = Section {
        lines: " tcp-request connection expect-proxy layer4 if { src 10.0.1.0/28 }",
        servers: ["send-proxy"; 3],
        service: "accept-proxy = [\"10.0.1.0/28\"]\nsend-proxy = 1",
        ..Section::default()
    };
    play_by(3307, &section, |scene, _nodes| {
        let mut proxy = patient(connect_from([10, 0, 1, 1], at(3306)).expect("it accepts")).expect("timeouts");
        proxy.write_all(b"PROXY TCP4 192.0.2.7 192.0.2.100 1234 99\r\nwho\n").expect("an open connection");
        let answer = served_by(&proxy);
        scene.note("what a proxy says is passed on", answer.split_once(' ').map(|(_, told)| told.to_owned()));
        for (who, said) in
            [("one that says nothing", ""), ("one that lies", "PROXY TCP4 192.0.2.7 192.0.2.100 1234 99\r\n")]
        {
            let mut other = patient(connect_from([10, 0, 1, 100], at(3306)).expect("it accepts")).expect("timeouts");
            writeln!(other, "{said}who").expect("an open connection");
            let told = format!("v1 {} {}", other.local_addr().expect("an address"), at(3306));
            scene.note(who, served_by(&other).ends_with(&told));
        }
        scene.note("who must and does not is not served", visit([10, 0, 1, 2], at(3306)).0);
    });
}

#[test]
fn servers_are_drained_disabled_reweighted_and_rid_of_sessions_at_run_time() {
    let section = Section {
        lines: " balance roundrobin",
        servers: ["weight 10"; 3],
        pool: "destinations = [\"10.0.0.1:3306:10\", \"10.0.0.2:3306:10\", \"10.0.0.3:3306:10\"]",
        service: "policy = \"round-robin\"",
    };
    play_by(3306, &section, |scene, _nodes| {
        let mut held = clients(3, at(3306));
        held.sort_by(|one, other| one.0.cmp(&other.0));
        let all_echo = |held: &[(String, _)]| held.iter().all(|(_, client)| echoes(client));
        for [haproxy, glbd] in [
            ["set server s/s1 state drain", "10.0.0.1:3306:0"],
            ["set server s/s1 state ready", "10.0.0.1:3306:10"],
            ["set server s/s2 state maint", "10.0.0.2:3306:0"],
            ["set server s/s2 state ready", "10.0.0.2:3306:10"],
            ["disable server s/s3", "10.0.0.3:3306:0"],
            ["enable server s/s3", "10.0.0.3:3306:10"],
            ["set server s/s1 weight 40", "10.0.0.1:3306:40"],
            ["set weight s/s1 10", "10.0.0.1:3306:10"],
        ] {
            scene.balancer.obey(haproxy, glbd);
            scene.note(haproxy, counts(&clients(12, at(3306))));
            scene.note("who is there stays", all_echo(&held));
        }
        scene.balancer.obey("shutdown sessions server s/s3", "10.0.0.3:3306:-1\n10.0.0.3:3306:10");
        let (_, lost) = held.pop().expect("a client of the third");
        said_goodbye(&lost);
        scene.note("the others stay", all_echo(&held));
        scene.note("it takes new ones", counts(&clients(12, at(3306))));
    });
}
