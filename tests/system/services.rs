//! Several services and pools in one daemon.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, TcpStream};

use crate::harness::{Daemon, Server, connect_to, echoes, free_port, names_of, wait_until};

/// What a configuration file says: pools with their destinations and further lines, and services likewise.
pub struct Site {
    pub daemon: Daemon,
    pub file: String,
}

impl Site {
    pub fn new() -> Self {
        let daemon = Daemon::new();
        let file = daemon.directory().join("glbd.toml").display().to_string();
        Self { daemon, file }
    }

    /// Writes the file. Each pool has a name, destinations and more lines; each service a name, a port and more lines.
    pub fn write(&self, pools: &[(&str, &[&Server], &str)], services: &[(&str, u16, &str)]) {
        let log = self.daemon.directory().join("log");
        let mut text = format!("[process]\nthreads = 2\nuser = \"root\"\nlog = \"{}\"\n", log.display());
        for (name, destinations, more) in pools {
            let destinations: Vec<String> = destinations.iter().map(|it| format!("\"{it}\"")).collect();
            writeln!(text, "[pool.{name}]\ndestinations = [{}]\n{more}", destinations.join(", ")).expect("text");
        }
        for (name, port, more) in services {
            writeln!(text, "[service.{name}]\nlisten = \"127.0.0.1:{port}\"\n{more}").expect("text");
        }
        fs::write(&self.file, text).expect("a file");
    }

    pub fn start(&self) {
        self.daemon.start(&["--config", &self.file]);
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.daemon.directory().join("log")).expect("the log")
    }

    /// The rows of one service or pool in an answer, below this heading.
    pub fn rows(&self, command: &str, heading: &str) -> Vec<String> {
        let answer = self.daemon.control(command);
        let lines = answer.lines().skip_while(|line| *line != heading).skip(3);
        lines.take_while(|line| !line.starts_with("---")).map(str::to_owned).collect()
    }
}

pub fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// A client that is served.
pub fn served(port: u16) -> TcpStream {
    let client = connect_to(at(port)).expect("glbd accepts");
    assert!(echoes(&client));
    client
}

/// A writer and a reader over two nodes, and a queue beside them.
fn three() -> (Site, [Server; 3], [u16; 3]) {
    let (site, servers, ports) = (Site::new(), [0; 3].map(|_| Server::echo()), [0; 3].map(|_| free_port()));
    let [first, second, third] = servers.each_ref();
    let pools: [(&str, &[&Server], &str); 2] = [("nodes", &[first, second], ""), ("queue", &[third], "")];
    let services = [
        ("writer", ports[0], "pool = \"nodes\"\npolicy = \"single\""),
        ("reader", ports[1], "pool = \"nodes\""),
        ("queue", ports[2], "pool = \"queue\""),
    ];
    site.write(&pools, &services);
    site.start();
    (site, servers, ports)
}

#[test]
fn each_service_takes_destinations_from_its_pool_by_its_policy() {
    let (site, servers, [writer, reader, queue]) = three();
    let sessions: Vec<_> = (0..4).map(|_| served(writer)).collect();
    assert_eq!(servers.each_ref().map(Server::accepted), [4, 0, 0]);
    let readers: Vec<_> = (0..4).map(|_| served(reader)).collect();
    assert_eq!(servers.each_ref().map(Server::accepted), [4, 4, 0], "the reader sees the writer's connections");
    let _queue = served(queue);
    assert_eq!(servers.each_ref().map(Server::accepted), [4, 4, 1]);
    let log = site.log();
    for line in ["serving writer on 127.0.0.1:", "serving reader on 127.0.0.1:", "serving queue on 127.0.0.1:"] {
        assert!(log.contains(line), "{log}");
    }
    drop((sessions, readers));
}

/// A node may be in two pools, and be judged in each by another check: a line about it says which pool is meant.
#[test]
fn the_log_names_the_pool_of_a_destination_where_there_are_several() {
    let (site, mut server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    let checks = "watchdog = 'tcp'\ninterval = 0.1\nfall = 1\nrise = 1";
    let service =
        |name, port| (name, port, if name == "a" { "pool = \"a\"\npolicy = \"single\"" } else { "pool = \"b\"" });
    let in_json = |text: &str| text.replace("threads = 2", "threads = 2\nlog-format = \"json\"");
    site.write(
        &[("a", &[&server], checks), ("b", &[&server], checks)],
        &[service("a", ports[0]), service("b", ports[1])],
    );
    fs::write(&site.file, in_json(&fs::read_to_string(&site.file).expect("the file"))).expect("the file");
    site.start();
    let address = server.to_string();
    let says = |pool: &str, what: &str| {
        let log = site.log();
        let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.into_iter().any(|it| {
            it["pool"] == pool
                && it["destination"] == *address
                && it["msg"].as_str().is_some_and(|msg| msg.contains(&what.replace("IT", &format!("{pool}/{address}"))))
        })
    };
    wait_until("both are judged", || ["a", "b"].iter().all(|pool| says(pool, "destination IT READY")));
    assert!(says("a", "single destination is IT"), "{}", site.log());
    assert_eq!(site.daemon.control(&format!("b/{address}:3")), "Ok\n");
    wait_until("a change by hand is told", || says("b", "destination IT changed from weight 1 to 3, by 127.0.0.1:"));
    server.stop();
    wait_until("both are judged", || ["a", "b"].iter().all(|pool| says(pool, "destination IT DOWN")));
    assert!(!site.log().contains(&format!("destination {address}")), "{}", site.log());
    assert_eq!(site.daemon.control("getevents kind=verdict").matches(&format!("a/{address} DOWN")).count(), 1);

    // With one pool left, it needs no name.
    site.write(&[("b", &[&server], checks)], &[service("b", ports[1])]);
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    server.start();
    wait_until("it is judged", || site.log().contains(&format!("INFO destination {address} READY")));
    // And as soon as there is another, it does again.
    site.write(
        &[("a", &[&server], checks), ("b", &[&server], checks)],
        &[service("a", ports[0]), service("b", ports[1])],
    );
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    server.stop();
    wait_until("both are judged", || {
        ["a", "b"].iter().all(|pool| site.log().contains(&format!("WARN destination {pool}/{address} DOWN")))
    });
}

#[test]
fn the_control_port_shows_each_service_and_pool_under_its_name() {
    let (site, [first, second, third], [writer, _, queue]) = three();
    let _sessions = [served(writer), served(queue)];
    let rows = site.rows("getinfo", "Router: writer, pool nodes");
    assert_eq!(
        rows,
        [
            format!("{first:>21} :    1.000   0.500  single     1"),
            format!("{second:>21} :    1.000   0.000    N/A      0")
        ]
    );
    assert_eq!(site.rows("getinfo", "Router: reader, pool nodes").len(), 2);
    assert_eq!(
        site.rows("getinfo", "Router: queue, pool queue"),
        [format!("{third:>21} :    1.000   0.500    N/A      1")]
    );
    assert_eq!(site.rows("getwatch", "Watchdog: nodes").len(), 2);
    assert_eq!(site.rows("getwatch", "Watchdog: queue").len(), 1);
    let stats = site.daemon.control("getstats");
    assert!(stats.contains(" conns: 2 / 2 "), "{stats}");
}

#[test]
fn a_change_says_its_pool_where_that_is_not_clear() {
    let (site, servers, _) = three();
    let (first, third) = (&servers[0], &servers[2]);
    let says = |line: &str, answer: &str| assert_eq!(site.daemon.control(line), format!("{answer}\n"), "{line}");
    let count = |pool: &str| site.rows("getwatch", &format!("Watchdog: {pool}")).len();
    says(&format!("{first}:0"), "Ok");
    says(&format!("nodes/{first}:2"), "Ok");
    says("127.0.0.1:1:1", "Error: 127.0.0.1:1: say which pool, as in nodes/127.0.0.1:1; there are nodes, queue");
    says(
        &format!("nosuch/{first}"),
        &format!("Error: nosuch/{first}: there is no pool 'nosuch'; there are nodes, queue"),
    );
    says("add queue/127.0.0.1:1:1", "Ok");
    says("127.0.0.1:1:0", "Ok");
    assert_eq!([count("nodes"), count("queue")], [2, 2]);
    says("add nodes/127.0.0.1:1", "Ok");
    says(
        "drain 127.0.0.1:1",
        "Error: 127.0.0.1:1: it is in several pools, nodes, queue: say which, as in nodes/127.0.0.1:1",
    );
    says("remove queue/127.0.0.1:1", "Ok");
    says("weight nodes/127.0.0.1:1 3", "Ok");
    says("remove 127.0.0.1:1", "Ok");
    says("10.0.0.4", "Error: '10.0.0.4': expected HOST:PORT[:WEIGHT]");
    says(&format!("enable queue/{third}"), "Ok");
    says("weight queue/127.0.0.1:1 3", "Error: queue/127.0.0.1:1: no such destination");
    assert_eq!([count("nodes"), count("queue")], [2, 1]);
}

#[test]
fn a_writer_is_moved_by_the_name_of_its_service_or_of_its_pool_or_by_none() {
    let (site, servers, [writer, reader, _]) = three();
    let (first, second) = (&servers[0], &servers[1]);
    let (_session, reading) = (served(writer), [served(reader), served(reader)]);
    let moves = |line: &str| assert_eq!(site.daemon.control(line), "Ok\n", "{line}");
    let single = || {
        let rows = site.rows("getinfo", "Router: writer, pool nodes");
        rows.iter().find(|row| row.contains("single")).expect("one is").split_whitespace().next().map(str::to_owned)
    };
    assert_eq!(single(), Some(first.to_string()));
    moves(&format!("writer writer/{second} 0"));
    assert_eq!(single(), Some(second.to_string()));
    moves(&format!("writer nodes/{first} 0"));
    moves(&format!("writer {second} 0"));
    assert_eq!(single(), Some(second.to_string()));
    assert!(reading.iter().all(echoes), "no reader is cut off");
    let answer = site.daemon.control(&format!("writer reader/{first}"));
    assert!(answer.starts_with(&format!("Error: reader/{first}: there is no single destination to move")), "{answer}");
    let answer = site.daemon.control(&format!("writer nosuch/{first}"));
    let told = format!("Error: nosuch/{first}: there is no service 'nosuch'; there are writer, reader, queue\n");
    assert_eq!(answer, told);
}

#[test]
fn services_and_their_connections_go_on_through_upgrades() {
    let (site, servers, ports) = three();
    let sessions = ports.map(served);
    assert_eq!(site.daemon.control(&format!("nodes/{}:0", servers[1])), "Ok\n");
    for _ in 0..3 {
        site.daemon.upgrade();
        assert!(sessions.iter().all(echoes));
        drop(ports.map(served));
    }
    wait_until("the old processes' connections count", || {
        let rows = site.rows("getinfo", "Router: queue, pool queue");
        rows.iter().any(|row| row.ends_with(" 1"))
    });
    // What is closed in the new process is closed in the old ones, and nothing else.
    assert_eq!(site.daemon.control(&format!("remove queue/{}", servers[2])), "Ok\n");
    wait_until("it is cut off", || !echoes(&sessions[2]));
    assert!(sessions[..2].iter().all(echoes));
}

/// The sessions of the writer are closed in older processes as well; those of readers on the same node are not.
#[test]
fn a_writer_that_moves_after_an_upgrade_cuts_off_no_reader_of_an_older_process() {
    let (site, servers, [writer, reader, _]) = three();
    let second = &servers[1];
    let session = served(writer);
    let readers: Vec<_> = (0..4).map(|_| served(reader)).collect();
    site.daemon.upgrade();
    assert_eq!(site.daemon.control(&format!("writer {second} 0")), "Ok\n");
    wait_until("the former writer's session is closed", || !echoes(&session));
    assert!(readers.iter().all(echoes));
    assert!(echoes(&served(writer)));
}

#[test]
fn what_was_changed_by_hand_is_there_after_a_restart_for_each_pool() {
    let (site, servers, _) = three();
    let (first, third) = (&servers[0], &servers[2]);
    let state = site.daemon.directory().join("state").display().to_string();
    site.daemon.signal(nix::sys::signal::Signal::SIGTERM);
    site.daemon.wait_until_gone();
    let start = || site.daemon.start(&["--config", &site.file, "--state", &state]);
    start();
    for line in [format!("nodes/{first}:0"), format!("queue/{third}:7"), "queue/127.0.0.1:1:3".to_owned()] {
        assert_eq!(site.daemon.control(&line), "Ok\n");
    }
    let before = site.daemon.control("getinfo");
    site.daemon.signal(nix::sys::signal::Signal::SIGKILL);
    site.daemon.wait_until_gone();
    start();
    assert_eq!(site.daemon.control("getinfo"), before);
}

#[test]
fn each_service_says_which_part_of_its_clients_goes_where() {
    let (site, servers, ports) = (Site::new(), [0; 3].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
    let [first, second, third] = servers.each_ref();
    let services = [
        ("writer", ports[0], "pool = \"nodes\"\npolicy = \"single\""),
        ("reader", ports[1], "pool = \"nodes\"\navoid = \"writer\""),
    ];
    site.write(&[("nodes", &[first, second, third], "")], &services);
    site.start();
    let shares = || {
        let status: serde_json::Value = serde_json::from_str(&site.daemon.control("getinfo json")).expect("JSON");
        [0, 1, 2].map(|place| status["pools"][0]["destinations"][place]["shares"].to_string())
    };
    assert_eq!(shares(), [r#"{"writer":1.0}"#, r#"{"reader":0.5}"#, r#"{"reader":0.5}"#]);
    assert_eq!(site.daemon.control(&format!("drain {first}")), "Ok\n");
    assert_eq!(shares(), ["{}", r#"{"writer":1.0}"#, r#"{"reader":1.0}"#]);
}

#[test]
fn a_reader_with_a_single_destination_leaves_the_writers_with_a_watchdog_as_without() {
    for checks in ["", "watchdog = 'tcp'\ninterval = 0.1"] {
        let (site, servers, ports) = (Site::new(), ["a", "b"].map(Server::named), [0; 2].map(|_| free_port()));
        let [first, second] = servers.each_ref();
        let services = [
            ("writer", ports[0], "pool = 'nodes'\npolicy = 'single'"),
            ("reader", ports[1], "pool = 'nodes'\npolicy = 'single'\navoid = 'writer'"),
        ];
        site.write(&[("nodes", &[first, second], checks)], &services);
        site.start();
        let clients = || ports.map(|port| connect_to(at(port)).expect("glbd accepts"));
        let [writer, reader] = clients();
        assert_eq!(names_of(&[writer, reader.try_clone().expect("a descriptor")]), ["a", "b"], "{checks}");
        assert_eq!(site.daemon.control(&format!("writer writer/{second} 0")), "Ok\n");
        assert_eq!(names_of(&clients()), ["b", "a"], "{checks}");
        // Without a watchdog, nothing but a hand closes the sessions of a single destination.
        wait_until("the reader's session is closed, or stays", || echoes(&reader) == checks.is_empty());
        let refused = site.daemon.control(&format!("writer reader/{second} 0"));
        let why = "it is the single destination of service writer, which this one avoids";
        assert_eq!(refused, format!("Error: reader/{second}: {why}\n"));
    }
}

/// A node in two pools has connections of both, also in a process that was there before an upgrade.
#[test]
fn connections_are_found_and_closed_by_their_pool_and_destination() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    let pools: [(&str, &[&Server], &str); 2] = [("a", &[&server], ""), ("b", &[&server], "")];
    site.write(&pools, &[("x", ports[0], "pool = \"a\""), ("y", ports[1], "pool = \"b\"")]);
    site.start();
    let count = |dest: &str| site.daemon.control(&format!("getconns dest={dest} json")).lines().count();
    let before = ports.map(served);
    for upgraded in [false, true] {
        if upgraded {
            site.daemon.upgrade();
        }
        let more = ports.map(served);
        wait_until("both are found", || count(&server.to_string()) == 4);
        assert_eq!([count(&format!("a/{server}")), count(&format!("b/{server}")), count("a/127.0.0.1:1")], [2, 2, 0]);
        let clients = site.daemon.control(&format!("getclients dest=b/{server}"));
        assert!(clients.ends_with("Clients: 1, connections: 2\n"), "{clients}");
        for command in ["getconns", "getclients", "kick"] {
            let answer = site.daemon.control(&format!("{command} dest=nosuch/{server}"));
            assert_eq!(answer, "Error: there is no pool 'nosuch'; there are a, b\n", "{command}");
            let answer = site.daemon.control(&format!("{command} dest={server}:1"));
            assert!(answer.contains(&format!("'{server}:1': expected [POOL/]HOST:PORT")), "{answer}");
        }
        drop(more);
        wait_until("they are gone", || count(&server.to_string()) == 2);
    }
    assert_eq!(site.daemon.control(&format!("kick dest=b/{server}")), "1 connection closed\nOk\n");
    wait_until("it is closed", || !echoes(&before[1]));
    assert!(echoes(&before[0]));
    assert_eq!(site.daemon.control(&format!("kick dest={server}")), "1 connection closed\nOk\n");
}

/// It is asked for by nobody, and its connections are there.
#[test]
fn connections_of_a_service_that_was_dropped_can_be_asked_for_until_they_end() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    let pools: [(&str, &[&Server], &str); 2] = [("a", &[&server], ""), ("b", &[&server], "")];
    site.write(&pools, &[("x", ports[0], "pool = \"a\""), ("y", ports[1], "pool = \"b\"")]);
    site.start();
    let session = served(ports[1]);
    site.write(&pools[..1], &[("x", ports[0], "pool = \"a\"")]);
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    let asked = || {
        ["getconns y json", "getclients y json", &format!("getconns dest=b/{server} json")]
            .map(|it| site.daemon.control(it))
    };
    assert_eq!(asked().map(|answer| answer.matches("{").count() > 0), [true; 3], "{:?}", asked());
    assert!(echoes(&session));
    drop(session);
    let unknown = "Error: there is no service 'y'; there are x\n";
    wait_until("it is forgotten", || asked()[..2] == [unknown, unknown]);
    wait_until("its pool is as well", || asked()[2] == "Error: there is no pool 'b'; there are a\n");
}

/// Two services with one pool have the same destinations, and each a single one of its own.
#[test]
fn a_line_about_a_single_destination_names_its_service_where_there_are_several() {
    let (site, servers, ports) = (Site::new(), [0; 2].map(|_| Server::echo()), [0; 2].map(|_| free_port()));
    let [first, second] = servers.each_ref();
    let checks = "watchdog = 'tcp'\ninterval = 0.1\nfall = 1\nrise = 1";
    let single = "pool = \"p\"\npolicy = \"single\"";
    site.write(&[("p", &[first, second], checks)], &[("x", ports[0], single), ("y", ports[1], single)]);
    let text = fs::read_to_string(&site.file).expect("the file");
    fs::write(&site.file, text.replace("threads = 2", "threads = 2\nlog-format = \"json\"")).expect("the file");
    site.start();
    let says = |service: &str, what: &str| {
        let text = site.log();
        let mut lines = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
        lines.any(|it| {
            let msg = it["msg"].as_str().unwrap_or_default();
            it["service"] == service && msg.starts_with(&format!("service {service}: {what}"))
        })
    };
    let _sessions = ports.map(served);
    for service in ["x", "y"] {
        wait_until("it is told", || says(service, &format!("single destination is {first}")));
    }
    assert_eq!(site.daemon.control(&format!("writer y/{second} 0")), "Ok\n");
    wait_until("it is told", || says("y", &format!("single destination moves from {first} to {second} by hand")));
    let moved = format!("single destination moved from {first} to {second}: by hand; 1 session closed");
    wait_until("it is told", || says("y", &moved));
    assert!(!says("x", "single destination move"));
    assert_eq!(site.daemon.control(&format!("drain {first}")), "Ok\n");
    wait_until("it is told", || says("x", &format!("single destination moved from {first} to {second}: ")));
    let history = site.daemon.control(&format!("gethistory {second}"));
    assert!(history.contains(&second.to_string()) && !history.contains('/'), "there is one pool: {history}");
    assert_eq!(site.daemon.control("connlog x text"), "Ok\n");
    wait_until("it is told", || says("x", "connection log text"));

    // One that is left needs no name.
    site.write(&[("p", &[first, second], checks)], &[("x", ports[0], single)]);
    assert!(site.daemon.control("reload").ends_with("Ok\n"));
    assert_eq!(site.daemon.control(&format!("enable {first}")), "Ok\n");
    wait_until("it is fit", || site.daemon.control(&format!("writer {first} 0")) == "Ok\n");
    wait_until("it is told", || {
        site.log().contains("INFO single destination mov") || site.log().contains("\"single destination mov")
    });
}
