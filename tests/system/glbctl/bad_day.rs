//! A bad day of a Galera cluster, and the questions that an operator has then: each is answered by one command, truly.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use serde_json::Value;

use super::ctl;
use crate::galera::Sysbench;
use crate::harness::galera::{Cluster, NODE_NAME, Node, query};
use crate::harness::{Daemon, connect_from, free_port, wait_until, wait_until_within};

/// How long state transfers and the cluster's own time-outs may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two checks, and so the most that glbd may be late with what it says.
const INTERVAL: f64 = 0.5;
const HOG: [u8; 4] = [127, 0, 0, 9];

/// A cluster behind glbd, with a port for writers and one for readers, and sysbench at both.
struct Day {
    _load: [Load; 2],
    cluster: Cluster,
    daemon: Daemon,
    writer: SocketAddr,
    reader: SocketAddr,
}

impl Day {
    fn begin() -> Day {
        let (cluster, daemon) = (Cluster::start(), Daemon::new());
        for user in ["hog", "batch", "glbd"] {
            cluster.nodes[0].query(&format!("CREATE USER {user}"));
        }
        for node in &cluster.nodes {
            node.query("SET GLOBAL max_connections = 1000");
        }
        let [writer, reader] = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], free_port())));
        let options = daemon.directory().join("check.cnf");
        fs::write(&options, "[client]\nuser = glbd\n").expect("an option file");
        let nodes = cluster.nodes.each_ref().map(|node| format!("\"{node}\"")).join(", ");
        let file = daemon.directory().join("glbd.toml");
        let text = format!(
            "[process]
            threads = 2
            user = \"root\"
            log = \"{}\"
            [pool.galera]
            destinations = [{nodes}]
            watchdog = \"galera:defaults-file={}\"
            interval = {INTERVAL}
            [service.writer]
            listen = \"{writer}\"
            policy = \"single\"
            greeting = \"mysql\"
            [service.reader]
            listen = \"{reader}\"
            avoid = \"writer\"
            greeting = \"mysql\"
            ",
            daemon.directory().join("log").display(),
            options.display(),
        );
        fs::write(&file, text).expect("a configuration file");
        daemon.start(&["--config", &file.display().to_string()]);
        wait_until("all nodes are fit", || daemon.control("getwatch").matches(" READY ").count() == 3);
        let sysbench = Arc::new(Sysbench::prepare_at(writer, daemon.directory(), &cluster));
        let load = [writer, reader].map(|address| Load::start(Arc::clone(&sysbench), address));
        Day { _load: load, cluster, daemon, writer, reader }
    }

    fn ctl(&self, command: &str) -> String {
        let answer = ctl(self.daemon.control_address(), command).text().to_owned();
        println!("$ glbctl {command}\n{answer}");
        answer
    }

    fn json(&self, command: &str) -> Vec<Value> {
        ctl(self.daemon.control_address(), &format!("{command} --json")).json()
    }

    fn is_writer(&self, node: usize) -> bool {
        self.json("status")[0]["services"][0]["writer"] == self.cluster.nodes[node].to_string()
    }

    fn wait_until_judged(&self, node: usize, verdict: &str) {
        wait_until_within(PATIENCE, &format!("node {} is {verdict}", node + 1), || {
            self.json("status")[0]["pools"][0]["destinations"][node]["verdict"] == verdict
        });
    }
}

/// A sysbench that is started again whenever it has lost a connection.
struct Load {
    done: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Load {
    fn start(sysbench: Arc<Sysbench>, address: SocketAddr) -> Load {
        let done = Arc::new(AtomicBool::new(false));
        let is_done = Arc::clone(&done);
        let thread = thread::spawn(move || {
            while !is_done.load(Ordering::Relaxed) {
                sysbench.start_as("sbtest", address, &["--threads=4", "--time=3", "--rate=40", "run"]).outcome();
                // Nothing serves it at times, and then it ends at once.
                thread::sleep(Duration::from_millis(200));
            }
        });
        Load { done, thread: Some(thread) }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.done.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}

/// A connection on which this user has logged in, without a password.
fn login(user: &str, source: [u8; 4], address: SocketAddr) -> std::io::Result<TcpStream> {
    let mut stream = connect_from(source, address)?;
    let packet = |stream: &mut TcpStream| {
        let mut head = [0; 4];
        stream.read_exact(&mut head)?;
        let mut payload = vec![0; u32::from_le_bytes([head[0], head[1], head[2], 0]) as usize];
        stream.read_exact(&mut payload).map(|()| payload)
    };
    packet(&mut stream)?;
    // CLIENT_PROTOCOL_41, CLIENT_SECURE_CONNECTION and CLIENT_PLUGIN_AUTH; packets of up to 16 MB; UTF-8.
    let mut answer = [&0x0008_8200u32.to_le_bytes()[..], &[0, 0, 0, 1], &[33], &[0; 23]].concat();
    answer.extend_from_slice(format!("{user}\0\0mysql_native_password\0").as_bytes());
    let length = (answer.len() as u32).to_le_bytes();
    stream.write_all(&[&length[..3], &[1], &answer].concat())?;
    match packet(&mut stream)?.first() {
        Some(0) => Ok(stream),
        _ => Err(std::io::Error::other("it is not let in")),
    }
}

/// The hog, as often as it gets in.
fn hog(address: SocketAddr, count: usize) -> Vec<TcpStream> {
    let mut found = Vec::new();
    wait_until_within(PATIENCE, "the hog has what it wants", || {
        found.extend((found.len()..count).map_while(|_| login("hog", HOG, address).ok()));
        found.len() == count
    });
    found
}

/// What the test knows of the day, beside what glbd says.
struct Truth {
    /// When node 2 was killed for the first time, and when it served again.
    first_outage: [SystemTime; 2],
    /// When it was killed for the second time, while it was the writer.
    second_outage: SystemTime,
    hogs: Vec<TcpStream>,
    /// What fills node 1.
    _batch: Vec<TcpStream>,
}

/// Node 2 falls and returns; node 1, the writer, is filled by a batch job, so that node 2 becomes the writer; node 3 is
/// desynced; and node 2 falls again. All the while, sysbench works, and a client hogs.
fn happens_to(day: &mut Day) -> Truth {
    let mut hogs = hog(day.reader, 150);
    let killed = SystemTime::now();
    day.cluster.nodes[1].kill();
    day.wait_until_judged(1, "DOWN");
    day.cluster.nodes[1].start();
    day.wait_until_judged(1, "READY");
    let first_outage = [killed, SystemTime::now()];
    day.cluster.wait_until_whole();

    let full = &day.cluster.nodes[0];
    let batch = (0..10).map(|_| login("batch", [127, 0, 0, 1], full.address()).expect("it is let in")).collect();
    full.query("SET GLOBAL max_connections = 10");
    day.wait_until_judged(0, "AVOID");
    day.cluster.nodes[2].query("SET GLOBAL wsrep_desync = ON");
    day.wait_until_judged(2, "SPARE");
    wait_until("the writer has moved to node 2", || day.is_writer(1));

    let second_outage = SystemTime::now();
    day.cluster.nodes[1].kill();
    day.wait_until_judged(1, "DOWN");
    wait_until("the writer has moved to node 3", || day.is_writer(2));
    hogs.extend(hog(day.reader, 200));
    Truth { first_outage, second_outage, hogs, _batch: batch }
}

/// The rows of a table, by their first cells.
fn rows(text: &str) -> BTreeMap<String, Vec<String>> {
    let cells = |line: &str| line.split("  ").map(str::trim).filter(|it| !it.is_empty()).map(str::to_owned).collect();
    let mut rows = BTreeMap::new();
    for row in text.lines().map(cells).filter(|row: &Vec<String>| !row.is_empty()) {
        // There may be more tables behind the first one.
        rows.entry(row[0].clone()).or_insert(row);
    }
    rows
}

/// A time in an answer.
fn time(value: &Value) -> SystemTime {
    humantime::parse_rfc3339(value.as_str().expect("a time")).expect("a time")
}

fn seconds_between(early: SystemTime, late: SystemTime) -> f64 {
    late.duration_since(early).map_or_else(|error| -error.duration().as_secs_f64(), |it| it.as_secs_f64())
}

/// glbd says so within a second of what the test knows. It can be late by a check, and by what a busy machine adds.
fn assert_near(found: f64, known: f64, what: &str) {
    assert!((found - known).abs() < 1.0 + INTERVAL, "{what}: glbd says {found} s, and it was {known} s");
}

/// What the node itself knows of clients that came through glbd: from where, in PROCESSLIST.
fn hosts_of(node: &Node) -> BTreeSet<String> {
    let list = "SELECT host FROM information_schema.processlist WHERE user IN ('sbtest', 'hog')";
    node.query(list).lines().map(str::to_owned).collect()
}

/// Who is connected to which node?
fn connections_are_those_of_processlist(day: &Day) {
    let node = &day.cluster.nodes[2];
    // sysbench's come and go: there is a moment in which both have the same.
    wait_until("glbctl conns and PROCESSLIST agree", || {
        let conns = day.json(&format!("conns --dest {node}"));
        let local = |it: &Value| it["local"].as_str().unwrap_or_default().to_owned();
        let is_there = |it: &&Value| it["state"] == "connected";
        hosts_of(node) == conns.iter().filter(is_there).map(local).collect()
    });
    let text = day.ctl(&format!("conns --dest {node} --client 127.0.0.9"));
    let found = text.lines().filter(|line| line.contains("127.0.0.9:") && line.contains(&node.to_string())).count();
    assert_eq!(found, hog_at(node), "{text}");
    assert_eq!(day.ctl(&format!("conns --dest {}", day.cluster.nodes[1])), "no connections\n");
}

fn hog_at(node: &Node) -> usize {
    node.query("SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'hog'").parse().expect("a number")
}

/// Which client hogs?
fn the_hog_comes_first(day: &Day) {
    let node = &day.cluster.nodes[2];
    let text = day.ctl("clients --limit 1");
    let row = &rows(&text)["127.0.0.9"];
    assert_eq!(row[1], hog_at(node).to_string(), "{text}");
    assert_eq!(row.last(), Some(&format!("{node} {}", hog_at(node))), "{text}");
}

/// How often did node 2 fail today, why, and for how long was it out?
fn outages_are_told(day: &Day, truth: &Truth) {
    let node = day.cluster.nodes[1].to_string();
    let known = [seconds_between(truth.first_outage[0], truth.first_outage[1]), seconds_since(truth.second_outage)];
    let history = day.json(&format!("history {node}")).remove(0);
    assert_eq!((history["down_count"].as_u64(), history["last_day"]["DOWN"]["count"].as_u64()), (Some(2), Some(2)));
    let outages = history["changes"].as_array().expect("changes").iter().filter(|it| it["verdict"] == "DOWN");
    let outages: Vec<f64> = outages.map(|it| it["seconds"].as_f64().expect("seconds")).collect();
    assert_eq!(outages.len(), 2, "{history}");
    assert_near(outages[0], known[0], "the first outage");
    assert_near(outages[1], known[1], "the second outage");
    let sum = history["last_day"]["DOWN"]["seconds"].as_f64().expect("seconds");
    assert!((sum - outages[0] - outages[1]).abs() < 0.1, "{history}");
    let text = day.ctl(&format!("history {node}"));
    assert!(text.contains(&format!("{node} is DOWN: Connection refused")), "{text}");
    assert_eq!(
        text.lines().filter(|line| line.contains("Z  DOWN ") && line.contains("Connection")).count(),
        2,
        "{text}"
    );
    // All nodes in one look.
    let text = day.ctl("history");
    let rows = rows(&text);
    let of = |place: usize| rows[&day.cluster.nodes[place].to_string()].clone();
    assert_eq!((of(1)[1].as_str(), of(1)[3].as_str()), ("DOWN", "2"), "{text}");
    assert_eq!((of(0)[1].as_str(), of(2)[1].as_str()), ("AVOID", "SPARE"), "{text}");
    assert!(of(0).concat().contains("Too many connections") && of(2).concat().contains("Donor/Desynced"), "{text}");
}

fn seconds_since(time: SystemTime) -> f64 {
    seconds_between(time, SystemTime::now())
}

/// How long do connects take?
fn connect_times_are_told(day: &Day) {
    let text = day.ctl("stats");
    let row = &rows(&text)["service reader"];
    assert!(row.iter().rev().take(2).all(|it| it.ends_with("us") || it.ends_with("ms") || it.ends_with('s')), "{text}");
    let status = day.json("stats").remove(0);
    for service in status["services"].as_array().expect("services") {
        let times = service["times"].as_array().expect("times").iter().find(|it| it["what"] == "connect");
        let times = times.expect("connect times");
        let [p50, p99, sum] = ["p50", "p99", "sum"].map(|key| times[key].as_f64().expect("seconds"));
        let count = times["count"].as_f64().expect("a count");
        let [failed, tried] = [&["refused", "timed_out", "turned_down", "failed"][..], &["tried"]]
            .map(|keys| keys.iter().map(|key| service["connects"][key].as_f64().expect("a count")).sum::<f64>());
        // Some are under way.
        assert!((count + failed - tried).abs() <= 20.0, "each was timed, or has failed: {service}");
        assert!(0.0 < p50 && p50 <= p99 && p50 < 2.0 * sum / count + 1.0, "{service}");
    }
    assert!(text.contains("BY CLIENT"), "{text}");
}

/// Who is the writer, since when?
fn the_writer_is_told(day: &Day, truth: &Truth) {
    assert_eq!(query(day.writer, NODE_NAME).as_deref(), Ok(day.cluster.nodes[2].name()));
    let status = day.json("status").remove(0);
    assert_eq!(status["services"][0]["writer"], day.cluster.nodes[2].to_string());
    let late = seconds_between(truth.second_outage, time(&status["services"][0]["writer_since"]));
    assert_near(late, 0.0, "the writer has moved when node 2 fell");
    let text = day.ctl("status");
    let row = &rows(&text)["writer"];
    assert_eq!(row[row.len() - 2], day.cluster.nodes[2].to_string(), "{text}");
    let since = humantime::format_rfc3339_seconds(time(&status["services"][0]["writer_since"])).to_string();
    assert!(row[row.len() - 1].starts_with(&since), "{text}");
}

/// What changed, and who changed it?
fn changes_are_told_with_their_author(day: &Day) {
    let [first, second, third] = day.cluster.nodes.each_ref().map(ToString::to_string);
    let events = day.json("events --since 24h");
    let texts: Vec<&str> = events.iter().filter_map(|it| it["text"].as_str()).collect();
    let find = |words: &[&str]| texts.iter().position(|text| words.iter().all(|word| text.contains(word)));
    let weight = find(&[&second, "from weight 1 to 0.5", "by 127.0.0.1"]);
    let moves = [
        find(&["single destination moved from", &first]),
        find(&["single destination moved from", &format!("{second} to {third}"), "is DOWN: Connection refused"]),
    ];
    assert!(weight.is_some() && moves[0] > weight && moves[1] > moves[0], "{texts:#?}");
    let falls = texts.iter().filter(|text| text.starts_with(&format!("destination {second} DOWN"))).count();
    assert_eq!(falls, 2, "{texts:#?}");
    let text = day.ctl("events --since 24h");
    assert!(text.contains("from weight 1 to 0.5") && text.contains(", by 127.0.0.1:"), "{text}");
}

#[test]
fn each_question_is_answered_by_one_command() {
    let mut day = Day::begin();
    // Somebody does something.
    day.ctl(&format!("weight {} 0.5", day.cluster.nodes[1]));
    let truth = happens_to(&mut day);
    let hogs = hog_at(&day.cluster.nodes[2]);
    assert!((200..truth.hogs.len()).contains(&hogs), "those at node 2 are gone: {hogs}");
    connections_are_those_of_processlist(&day);
    the_hog_comes_first(&day);
    outages_are_told(&day, &truth);
    connect_times_are_told(&day);
    the_writer_is_told(&day, &truth);
    changes_are_told_with_their_author(&day);
}
