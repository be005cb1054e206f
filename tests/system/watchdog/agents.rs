//! Agents beside the destinations, which say how these are, as HAProxy's `agent-check` has them.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::programs::haproxy;
use super::{state, wait_until_judged};
use crate::harness::{Builder, Glbd, PATIENCE, Server, connect_to, echoes, free_port, names_of, read_line, wait_until};

/// A named server, and an agent beside it, whose line a test writes.
struct Pair {
    server: Server,
    agent: Server,
    line: Arc<Mutex<String>>,
    asked: Arc<Mutex<Vec<String>>>,
}

/// So many servers, named 2, 3 and so on after their addresses, and the port of all agents.
fn pairs<const N: usize>() -> (u16, [Pair; N]) {
    let port = free_port();
    let pair = |index: usize| {
        let ip = [127, 0, 0, 2 + index as u8];
        let server = Server::named_at(&(2 + index).to_string(), SocketAddr::from((ip, free_port())));
        let (line, asked) = (Arc::new(Mutex::new("up".to_owned())), Arc::new(Mutex::new(Vec::new())));
        let (says, hears) = (Arc::clone(&line), Arc::clone(&asked));
        let agent = Server::at(SocketAddr::from((ip, port)), move |mut stream| {
            let line = says.lock().expect("no panic").clone();
            if line != "silent" {
                stream.write_all(format!("{line}\n").as_bytes()).ok();
                stream.shutdown(std::net::Shutdown::Write).ok();
            }
            let mut heard = String::new();
            stream.read_to_string(&mut heard).ok();
            hears.lock().expect("no panic").push(heard);
        });
        Pair { server, agent, line, asked }
    };
    (port, std::array::from_fn(pair))
}

impl Pair {
    fn say(&self, line: &str) {
        line.clone_into(&mut self.line.lock().expect("no panic"));
    }

    fn times_asked(&self) -> usize {
        self.agent.accepted()
    }
}

fn with_agents(port: u16) -> Builder {
    Glbd::builder().args(["-w", "tcp", "-i", "0.1", "--agent", &port.to_string()])
}

fn reason(glbd: &Glbd, pair: &Pair) -> String {
    glbd.watch().row(&pair.server).reason.clone()
}

fn weight_in_force(glbd: &Glbd, pair: &Pair) -> f64 {
    glbd.watch().row(&pair.server).weight_in_force
}

#[test]
fn its_words_are_verdicts_with_their_reasons_and_stay_until_it_says_otherwise() {
    let (port, [pair, other]) = pairs();
    let glbd = with_agents(port).destinations([&pair.server, &other.server]).start();
    wait_until_judged(&glbd, &pair.server, "READY");
    for (line, verdict, why) in [
        ("down", "DOWN", "agent: down"),
        ("ready", "DOWN", "agent: down"),
        ("up", "READY", ""),
        ("drain", "AVOID", "agent: drain"),
        ("up", "AVOID", "agent: drain"),
        ("ready", "READY", ""),
        ("stopped #for an upgrade", "DOWN", "agent: stopped: for an upgrade"),
        ("fail # disk \u{1b}[2J", "DOWN", "agent: fail: disk [2J"),
        ("up maint # rack 7", "DOWN", "agent: maint: rack 7"),
        ("ready,0%", "AVOID", "agent: 0%"),
        ("READY UP 100%", "READY", ""),
        ("nonsense 7 maxconn:x", "READY", ""),
    ] {
        pair.say(line);
        wait_until_judged(&glbd, &pair.server, verdict);
        wait_until(&format!("the reason is {why:?}"), || reason(&glbd, &pair) == why);
        // Its word stays.
        let before = pair.times_asked();
        wait_until("it was asked again", || pair.times_asked() > before + 2);
        assert_eq!((state(&glbd, &pair.server).as_str(), reason(&glbd, &pair).as_str()), (verdict, why), "{line}");
    }
    glbd.wait_for_log(&format!("destination {} DOWN: agent: stopped: for an upgrade", pair.server));
}

#[test]
fn a_percentage_scales_the_weight_in_force() {
    let (port, [pair, other]) = pairs();
    let destinations = [pair.server.weighted(4.0), other.server.weighted(4.0)];
    let glbd = with_agents(port).args(["--agent-interval", "0.05"]).destinations(destinations).start();
    wait_until_judged(&glbd, &pair.server, "READY");
    for (line, weight) in [("50%", 2.0), ("52%", 2.08), ("ready", 2.08), ("100%", 4.0), ("200%", 8.0), ("25%", 1.0)] {
        pair.say(line);
        wait_until(line, || weight_in_force(&glbd, &pair) == weight);
    }
    let clients: Vec<_> = (0..10).map(|_| glbd.connect()).collect();
    assert_eq!(names_of(&clients).iter().filter(|name| *name == "2").count(), 2);
    // A hand's weight is one thing, and the agent's part of it another.
    glbd.change(pair.server.weighted(8.0));
    wait_until("a quarter of that", || weight_in_force(&glbd, &pair) == 2.0);
    assert_eq!(weight_in_force(&glbd, &other), 4.0);
}

#[test]
fn a_drained_one_keeps_its_sessions_and_one_that_is_down_loses_them_where_another_is_ready() {
    let (port, [pair, other]) = pairs();
    let glbd = with_agents(port).destinations([&pair.server, &other.server]).start();
    let sessions = [glbd.connect(), glbd.connect()];
    assert_eq!(names_of(&sessions), ["2", "3"]);
    pair.say("drain");
    wait_until_judged(&glbd, &pair.server, "AVOID");
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["3", "3"]);
    assert!(echoes(&sessions[0]));
    pair.say("down");
    wait_until_judged(&glbd, &pair.server, "DOWN");
    wait_until("its sessions are closed", || pair.server.open() == 0);
    assert!(echoes(&sessions[1]));
    // The checks may find it as they like.
    assert_eq!(names_of(&[glbd.connect(), glbd.connect()]), ["3", "3"]);
}

#[test]
fn the_checks_word_counts_where_that_is_worse() {
    let (port, [mut pair, other]) = pairs();
    let glbd = with_agents(port).destinations([&pair.server, &other.server]).start();
    wait_until_judged(&glbd, &pair.server, "READY");
    pair.server.stop();
    wait_until_judged(&glbd, &pair.server, "DOWN");
    assert_eq!(reason(&glbd, &pair), "Connection refused (os error 111)");
    pair.say("drain");
    let before = pair.times_asked();
    wait_until("it was asked", || pair.times_asked() > before + 2);
    assert_eq!(reason(&glbd, &pair), "Connection refused (os error 111)");
    pair.server.start();
    wait_until_judged(&glbd, &pair.server, "AVOID");
    assert_eq!(reason(&glbd, &pair), "agent: drain");
}

#[test]
fn its_silence_changes_nothing() {
    let (port, [mut pair, other]) = pairs();
    let glbd = with_agents(port).args(["--timeout", "0.2"]).destinations([&pair.server, &other.server]).start();
    wait_until_judged(&glbd, &pair.server, "READY");
    for line in ["silent", "", &"x".repeat(100_000)] {
        pair.say(line);
        let before = pair.times_asked();
        wait_until("it was asked", || pair.times_asked() > before + 2);
        assert_eq!(state(&glbd, &pair.server), "READY");
    }
    pair.say("down # and away");
    wait_until_judged(&glbd, &pair.server, "DOWN");
    pair.agent.stop();
    let since = Instant::now();
    wait_until("several questions were refused", || since.elapsed() > Duration::from_secs(1));
    assert_eq!(reason(&glbd, &pair), "agent: down: and away");
    pair.say("up");
    pair.agent.start();
    wait_until_judged(&glbd, &pair.server, "READY");
}

#[test]
fn an_agent_is_sent_what_it_is_to_be_sent_and_is_asked_in_its_own_time() {
    let (port, [pair]) = pairs();
    let arguments = ["-w", "tcp", "-i", "60", "--agent-interval", "0.05", "--agent-send", r"how are you?\n"];
    let glbd =
        Glbd::builder().args(arguments).args(["--agent", &port.to_string()]).destinations([&pair.server]).start();
    wait_until("it was asked several times", || pair.asked.lock().expect("no panic").len() > 3);
    assert!(pair.asked.lock().expect("no panic").iter().all(|heard| heard == "how are you?\n"));
    pair.say("down");
    wait_until_judged(&glbd, &pair.server, "DOWN");
}

#[test]
fn without_another_check_destinations_are_checked_by_tcp() {
    let (port, [mut pair]) = pairs();
    let glbd = Glbd::builder().args(["-i", "0.1", "--agent", &port.to_string()]).destinations([&pair.server]).start();
    wait_until_judged(&glbd, &pair.server, "READY");
    pair.server.stop();
    wait_until_judged(&glbd, &pair.server, "DOWN");
    assert_eq!(reason(&glbd, &pair), "Connection refused (os error 111)");
}

#[test]
fn no_client_goes_to_one_whose_agent_says_down_at_the_start() {
    let (port, [pair, other]) = pairs();
    pair.say("down");
    let glbd = with_agents(port).args(["--timeout", "20"]).destinations([&pair.server, &other.server]).start();
    assert_eq!(names_of(&[(); 6].map(|()| glbd.connect())), ["3"; 6]);
}

#[test]
fn the_writer_of_single_moves_when_its_agent_says_so() {
    let (port, [pair, other]) = pairs();
    let glbd = with_agents(port).arg("--single").destinations([&pair.server, &other.server]).start();
    let session = glbd.connect();
    assert_eq!(read_line(&session).expect("a name"), "2");
    pair.say("maint");
    wait_until_judged(&glbd, &pair.server, "DOWN");
    assert_eq!(names_of(&[glbd.connect()]), ["3"]);
    assert!(!echoes(&session));
}

/// Whether a client that connects now is served, and not in a queue.
fn is_served_at_once(client: &std::net::TcpStream) -> bool {
    client.set_nonblocking(true).expect("O_NONBLOCK");
    let served = client.peek(&mut [0]).is_ok();
    client.set_nonblocking(false).expect("O_NONBLOCK");
    served
}

#[test]
fn its_maxconn_makes_room_for_clients_that_wait_and_takes_it_until_it_says_otherwise() {
    for options in [&["--destination-max-connections=2"][..], &[]] {
        let (port, [pair]) = pairs();
        pair.say("up maxconn:2");
        let glbd = with_agents(port).args(["--queue-timeout", "60"]).args(options).destinations([&pair.server]).start();
        wait_until_judged(&glbd, &pair.server, "READY");
        glbd.wait_for_log(&format!(
            "destination {}: its agent says that it may have at most 2 connections",
            pair.server
        ));
        let clients: Vec<_> = (0..7).map(|_| glbd.connect()).collect();
        let served = |clients: &[_]| clients.iter().filter(|it| is_served_at_once(it)).count();
        wait_until("two are served", || served(&clients) == 2);
        pair.say("maxconn:3");
        wait_until("three are served", || served(&clients) == 3);
        let queue = |told: &str| glbd.control("getinfo").ends_with(&format!("Queue: {told}\n"));
        assert!(queue("4 clients, each destination takes 3 connections"), "{}", glbd.control("getinfo"));
        // What it does not mention stays, also while it says nothing at all.
        for line in ["up", "silent", "75%"] {
            pair.say(line);
            let before = pair.times_asked();
            wait_until("it was asked again", || pair.times_asked() > before + 2);
            assert_eq!(served(&clients), 3, "{line}");
        }
        pair.say("maxconn:1");
        glbd.wait_for_log("at most 1 connection\n");
        // Which come first is not known: there are several threads.
        let (mut sessions, waiting): (Vec<_>, Vec<_>) = clients.into_iter().partition(is_served_at_once);
        assert!(sessions.iter().all(|client| read_line(client).is_ok() && echoes(client)), "sessions stay");
        sessions.truncate(1);
        wait_until("they have left", || pair.server.open() == 1);
        assert_eq!(served(&waiting), 0, "there is no room for another");
        pair.say("maxconn:0");
        wait_until("all are served", || served(&waiting) == 4);
        let unlimited = queue("0 clients, each destination takes any number of connections");
        assert_eq!(unlimited, !options.is_empty(), "{}", glbd.control("getinfo"));
        pair.say("maxconn:1");
        wait_until("there is a limit again", || glbd.log().matches("at most 1 connection\n").count() == 2);
        let waits = glbd.connect();
        drop(waiting);
        wait_until("one is left", || pair.server.open() == 1);
        assert!(!is_served_at_once(&waits));
        drop(sessions);
        assert_eq!(read_line(&waits).expect("a name"), "2");
    }
}

#[test]
fn one_agent_at_an_address_of_its_own_is_asked_about_each_destination() {
    let (port, [pair, other]) = pairs();
    let (asked, hears) = (Arc::new(Mutex::new(Vec::new())), free_port());
    let (list, down) = (Arc::clone(&asked), format!("how is {}?", other.server));
    let _agent = Server::at(SocketAddr::from(([127, 0, 0, 9], hears)), move |mut stream| {
        let question = read_line(stream).unwrap_or_default();
        let line = if question == down { "drain # by another" } else { "up" };
        stream.write_all(line.as_bytes()).ok();
        list.lock().expect("no panic").push(question);
    });
    for place in [format!("127.0.0.9:{hears}"), format!("localhost:{hears}")] {
        let arguments = ["-w", "tcp", "-i", "0.1", "--agent-send", r"how is {destination}?\n", "--agent", &place];
        let glbd = Glbd::builder().args(arguments).destinations([&pair.server, &other.server]).start();
        if place.starts_with("localhost") {
            // Nothing listens at that name's address. The silence of an agent changes nothing.
            wait_until_judged(&glbd, &other.server, "READY");
            continue;
        }
        wait_until_judged(&glbd, &other.server, "AVOID");
        assert_eq!(reason(&glbd, &other), "agent: drain: by another");
        assert_eq!(state(&glbd, &pair.server), "READY");
    }
    assert_eq!((pair.times_asked(), other.times_asked()), (0, 0), "nobody is asked at port {port}");
    let asked = asked.lock().expect("no panic");
    assert!([&pair, &other].iter().all(|it| asked.contains(&format!("how is {}?", it.server))), "{asked:?}");
}

#[test]
fn an_agent_is_asked_by_name() {
    let (_, [pair]) = pairs();
    let port = free_port();
    let _agent = Server::at(SocketAddr::from(([127, 0, 0, 1], port)), |mut stream| {
        stream.write_all(b"drain\n").ok();
    });
    let place = format!("localhost:{port}");
    let glbd = Glbd::builder().args(["-w", "tcp", "-i", "0.1", "--agent", &place]).destinations([&pair.server]).start();
    wait_until_judged(&glbd, &pair.server, "AVOID");
    assert_eq!(reason(&glbd, &pair), "agent: drain");
}

/// How many clients HAProxy lets a server have whose agent says the same. `maxconn:0` is any number there as well, but for
/// those that wait already.
#[test]
fn haproxy_goes_by_the_same_maxconn() {
    let (port, [pair]) = pairs();
    pair.say("up maxconn:2");
    let address = pair.server.address();
    let haproxy = haproxy(&format!(
        "listen l\n bind ADDRESS\n timeout queue 60s\n server s {address} maxconn 5 check inter 100 agent-check \
        agent-port {port} agent-addr {} agent-inter 100",
        address.ip()
    ));
    let before = pair.times_asked();
    wait_until("it was asked", || pair.times_asked() > before + 2);
    let limited = with_agents(port).args(["--queue-timeout", "60", "--destination-max-connections", "5"]);
    let glbd = limited.destinations([&pair.server]).start();
    wait_until_judged(&glbd, &pair.server, "READY");
    let connect = |to: SocketAddr| (0..9).map(|_| connect_to(to).expect("it accepts")).collect::<Vec<_>>();
    let clients = [connect(haproxy.address), connect(glbd.address())];
    for (line, count) in [("up", 2), ("maxconn:4", 4), ("maxconn:x", 4), ("MAXCONN:7", 7), ("maxconn:20", 9)] {
        pair.say(line);
        let before = pair.times_asked();
        wait_until("both have asked", || pair.times_asked() > before + 6);
        for (clients, who) in clients.iter().zip(["HAProxy", "glbd"]) {
            let served = || clients.iter().filter(|it| is_served_at_once(it)).count();
            wait_until(&format!("{who} serves {count} by {line}"), || served() == count);
        }
    }
}

/// The states that HAProxy shows of a server whose agent says the same.
#[test]
fn haproxy_comes_to_the_same_for_each_line() {
    let (port, [pair]) = pairs();
    let address = pair.server.address();
    let section = format!(
        "listen l\n bind ADDRESS\n server s {address} weight 100 check inter 100 agent-check agent-port {port} \
        agent-addr {} agent-inter 100\nfrontend stats\n mode http\n bind 127.0.0.1:STATS\n stats enable\n stats uri /",
        address.ip()
    );
    let stats = free_port();
    let _haproxy = haproxy(&section.replace("STATS", &stats.to_string()));
    let glbd = with_agents(port).destinations([pair.server.weighted(100.0)]).start();
    wait_until_judged(&glbd, &pair.server, "READY");
    let shown = || {
        let mut stream = connect_to(SocketAddr::from(([127, 0, 0, 1], stats))).expect("it accepts");
        stream.write_all(b"GET /;csv HTTP/1.0\r\n\r\n").expect("it reads");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("a page");
        let row = page.lines().find(|line| line.starts_with("l,s,")).expect("a row of the server").to_owned();
        let columns: Vec<&str> = row.split(',').collect();
        (columns[17].to_owned(), columns[18].parse::<f64>().expect("a weight"))
    };
    for (line, state, why, theirs, weight) in [
        ("up 50%", "READY", "", "UP", 50.0),
        ("drain", "AVOID", "agent: drain", "DRAIN", 0.0),
        ("ready 75%", "READY", "", "UP", 75.0),
        ("down #x", "DOWN", "agent: down: x", "DOWN (agent)", 75.0),
        ("UP\t100%", "READY", "", "UP", 100.0),
        ("maint", "DOWN", "agent: maint", "MAINT", 100.0),
        ("ready,stopped", "DOWN", "agent: stopped", "DOWN (agent)", 100.0),
        ("up # drain", "READY", "", "UP", 100.0),
        ("0%", "AVOID", "agent: 0%", "UP", 0.0),
        ("bogus 30% words", "READY", "", "UP", 30.0),
    ] {
        pair.say(line);
        wait_until_judged(&glbd, &pair.server, state);
        wait_until(why, || reason(&glbd, &pair) == why);
        let since = Instant::now();
        let agrees =
            |(status, shown): &(String, f64)| status.starts_with(theirs) && (*shown == weight || state != "READY");
        while !agrees(&shown()) {
            assert!(since.elapsed() < PATIENCE, "{line}: HAProxy shows {:?}", shown());
            std::thread::sleep(Duration::from_millis(10));
        }
        if state == "READY" {
            wait_until("so does glbd", || weight_in_force(&glbd, &pair) == weight);
        }
    }
}
