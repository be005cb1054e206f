//! What has changed, when, why and by whom.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use crate::harness::{Daemon, Glbd, PATIENCE, Server, connect_to, free_port, wait_until};
use crate::services::Site;

/// The texts of the events of a kind.
fn texts(answer: &str) -> Vec<String> {
    answer.lines().map(|line| line.splitn(4, ' ').nth(3).expect("number, time, kind, text").to_owned()).collect()
}

fn json(answer: &str) -> Vec<Value> {
    answer.lines().map(|line| serde_json::from_str(line).expect("a JSON value a line")).collect()
}

/// The seconds that a destination has had a verdict, and how often, as `gethistory` counts the last day.
fn last_day(history: &Value, verdict: &str) -> (u64, f64) {
    let day = &history["last_day"][verdict];
    (day["count"].as_u64().expect("a count"), day["seconds"].as_f64().expect("seconds"))
}

#[test]
fn every_change_says_when_why_and_by_whom_whatever_is_logged() {
    let (mut one, two) = (Server::echo(), Server::echo());
    let options = ["--watchdog=tcp", "--interval=0.2", "--fall=1", "--single"];
    let glbd = Glbd::builder().args(options).destinations([&one, &two]).start();
    wait_until("both are READY", || glbd.watch().rows.iter().all(|row| row.state == "READY"));
    drop(glbd.connect());
    assert_eq!(glbd.control("loglevel error"), "Ok\n");
    let mut session = TcpStream::connect(glbd.control_address()).expect("the control port");
    let by = session.local_addr().expect("an address");
    session.write_all(format!("{two}:2\nquit\n").as_bytes()).expect("a command");
    let table = || texts(&glbd.control("getevents kind=table"));
    let changed = format!("destination {two} changed from weight 1 to 2, by {by}");
    wait_until("the change is an event", || table().contains(&changed));
    one.stop();
    let events = || texts(&glbd.control("getevents"));
    wait_until("the fall is an event", || events().iter().any(|it| it.contains(&format!("destination {one} DOWN: "))));
    let moved = texts(&glbd.control("getevents kind=writer"));
    assert!(
        moved.iter().any(|it| it.starts_with(&format!("single destination moved from {one} to {two}: "))),
        "{moved:?}"
    );
    assert!(!glbd.log().contains("changed from weight"), "the log is silent about it");
    let all = json(&glbd.control("getevents json"));
    let numbers: Vec<u64> = all.iter().map(|event| event["number"].as_u64().expect("a number")).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    let last = numbers[numbers.len() - 2];
    assert_eq!(glbd.control(&format!("getevents since={last}")).lines().count(), 1);
    assert_eq!(glbd.control("getevents limit=2 since=1h").lines().count(), 2);
    assert_eq!(glbd.control("getevents since=2000-01-01T00:00:00Z"), glbd.control("getevents"));
    assert_eq!(glbd.control("getevents since=2100-01-01T00:00:00Z"), "");
}

#[test]
fn what_is_not_understood_is_said() {
    let glbd = Glbd::start([Server::echo().address()]);
    for (line, reason) in [
        ("getevents since=soon", "'soon' is neither a time (2026-11-27T08:00:00Z), nor an age (90m), nor a number"),
        ("getevents kind=weather", "'weather' is not one of table, verdict, writer, configuration, process, clients"),
        ("getevents limit=-1", "'-1' is not a number"),
        ("getevents please", "expected getevents [since=TIME|AGE|NUMBER] [kind=KIND] [limit=N] [json]"),
        ("gethistory", "expected gethistory HOST:PORT [json]"),
        ("watch this", "expected watch [json]"),
    ] {
        assert_eq!(glbd.control(line), format!("Error: '{line}': {reason}\n"));
    }
    assert_eq!(glbd.control("gethistory 127.0.0.1:1"), "Error: 127.0.0.1:1: no such destination\n");
}

#[test]
fn events_and_histories_outlive_an_upgrade() {
    let (mut server, other) = (Server::echo(), Server::echo());
    let address = server.to_string();
    let daemon = Daemon::started(&["--watchdog=tcp", "--interval=0.2", "--fall=1", &address, &other.to_string()]);
    let history = || json(&daemon.control(&format!("gethistory {address} json"))).remove(0);
    wait_until("it is READY", || history()["verdict"] == "READY");
    server.stop();
    wait_until("it is DOWN", || history()["verdict"] == "DOWN");
    daemon.control(&format!("{other}:3"));
    let (before, events) = (history(), daemon.control("getevents"));
    daemon.upgrade();
    let after = history();
    for key in ["verdict", "down_count", "change_count"] {
        assert_eq!(after[key], before[key], "{key}");
    }
    let seconds = |history: &Value| history["seconds"]["DOWN"].as_f64().expect("seconds");
    assert!(seconds(&after) >= seconds(&before));
    let now = daemon.control("getevents");
    assert!(now.starts_with(&events), "{now}\n---\n{events}");
    let numbers: Vec<u64> =
        now.lines().map(|it| it.split(' ').next().and_then(|it| it.parse().ok()).expect("one")).collect();
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    server.start();
    wait_until("it is READY", || history()["verdict"] == "READY");
    assert_eq!(history()["down_count"], 1);
}

#[test]
fn a_history_says_how_often_and_how_long_and_why() {
    let mut server = Server::echo();
    let other = Server::echo();
    let options = ["--watchdog=tcp", "--interval=0.2", "--fall=1", "--rise=1"];
    let glbd = Glbd::builder().args(options).destinations([&server, &other]).start();
    let history = || json(&glbd.control(&format!("gethistory {server} json"))).remove(0);
    wait_until("it is READY", || history()["verdict"] == "READY");
    let mut histories = Vec::new();
    for falls in 1..=3 {
        server.stop();
        let address = server.to_string();
        let history = || json(&glbd.control(&format!("gethistory {address} json"))).remove(0);
        wait_until("it is DOWN", || history()["verdict"] == "DOWN");
        server.start();
        wait_until("it is READY", || history()["verdict"] == "READY");
        let now = history();
        assert_eq!((last_day(&now, "DOWN").0, now["down_count"].as_u64()), (falls, Some(falls)));
        histories.push(now);
    }
    let down: Vec<f64> = histories.iter().map(|it| last_day(it, "DOWN").1).collect();
    assert!(down.is_sorted() && down[0] > 0.0, "{down:?}");
    let text = glbd.control(&format!("gethistory {server}"));
    assert!(text.starts_with(&format!("History: {server}, READY\nIn the last 24 h: DOWN 3 times, ")), "{text}");
    assert_eq!(text.lines().filter(|line| line.contains("  DOWN for ")).count(), 3, "{text}");
    assert!(text.contains("Connection refused"), "{text}");
}

#[test]
fn a_watcher_gets_every_event_as_it_happens_until_it_hangs_up() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let start = glbd.descriptors();
    let watch = |command: &str| {
        let mut stream = connect_to(glbd.control_address()).expect("the control port");
        writeln!(stream, "{command}").expect("a command");
        BufReader::new(stream)
    };
    let mut watchers = [watch("watch"), watch("watch json")];
    // Whoever asks has been heard before what is asked for next, but not by when they are watched for.
    wait_until("both are heard", || {
        glbd.control(&format!("{server}:2\n{server}:1"));
        watchers.iter_mut().all(|it| {
            it.get_ref().set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
            it.fill_buf().is_ok()
        })
    });
    watchers.iter_mut().for_each(|it| it.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout"));
    glbd.control(&format!("{server}:7"));
    for (watcher, is_json) in watchers.iter_mut().zip([false, true]) {
        let mut line = String::new();
        while !line.contains("to 7") {
            line.clear();
            watcher.read_line(&mut line).expect("an event");
        }
        assert_eq!(serde_json::from_str::<Value>(&line).is_ok(), is_json, "{line}");
    }
    drop(watchers);
    // One that has only ended its own side goes on to be sent events: which it was, sending them shows.
    wait_until("nothing is left of them", || {
        glbd.control(&format!("{server}:2\n{server}:1"));
        glbd.descriptors() == start
    });
}

#[test]
fn a_watcher_that_takes_nothing_is_let_go_and_disturbs_nobody() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let start = glbd.descriptors();
    let watch = || {
        let watcher = connect_to(glbd.control_address()).expect("the control port");
        writeln!(&watcher, "watch").expect("a command");
        watcher
    };
    let (stalled, reading) = (watch(), watch());
    let before = glbd.resident_bytes();
    let commands = format!("{server}:2\n{server}:1\n").repeat(2000);
    thread::scope(|scope| {
        // It hears of everything up to the end.
        let heard = scope.spawn(|| {
            let mut lines = BufReader::new(&reading).lines().map(|line| line.expect("a line"));
            assert!(lines.any(|line| line.contains("127.0.0.1:9 added")), "the last one");
        });
        wait_until("the one that stalls is let go", || {
            assert!(!glbd.control(&commands).contains("Error"));
            let grown = glbd.resident_bytes().saturating_sub(before);
            assert!(grown < 20_000_000, "{grown} bytes more");
            glbd.descriptors() <= start + 1
        });
        wait_until("the other one hears of it", || {
            glbd.control("127.0.0.1:9\n127.0.0.1:9:-1");
            heard.is_finished()
        });
        heard.join().expect("no panic");
    });
    drop(stalled);
}

#[test]
fn a_watcher_that_is_too_slow_is_told_how_many_events_it_has_missed() {
    let server = Server::echo();
    let directory = tempfile::tempdir().expect("a directory");
    // The kernel keeps less for it than for a port.
    let socket = directory.path().join("control");
    let control = format!("unix:{}", socket.display());
    let glbd = Glbd::builder().args(["--control", &control]).destinations([&server]).start();
    let watch = |command: &str| {
        let mut stream = UnixStream::connect(&socket).expect("glbd listens");
        writeln!(stream, "{command}").expect("a command");
        stream.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let mut watcher = BufReader::new(stream);
        wait_until("it is heard", || {
            glbd.control(&format!("{server}:2\n{server}:1"));
            watcher.fill_buf().is_ok()
        });
        watcher.get_ref().set_read_timeout(Some(PATIENCE)).expect("a timeout");
        watcher
    };
    let watchers = [watch("watch"), watch("watch json")];
    glbd.control(&format!("{server}:2\n{server}:1\n").repeat(4000));
    let reading: Vec<_> = watchers.into_iter().map(|it| thread::spawn(move || until_the_last(it))).collect();
    wait_until("they hear of the last one", || {
        glbd.control("127.0.0.1:9\n127.0.0.1:9:-1");
        reading.iter().all(thread::JoinHandle::is_finished)
    });
    let lines: Vec<Vec<String>> = reading.into_iter().map(|it| it.join().expect("no panic")).collect();
    assert!(lines[0].iter().any(|line| line.starts_with('(') && line.ends_with(" events were missed)")));
    let (mut next, mut missed) = (None, 0);
    for line in json(&lines[1].join("\n")) {
        match (line["missed"].as_u64(), line["number"].as_u64()) {
            (Some(count), None) => {
                missed += count;
                next = next.map(|next| next + count);
            }
            (None, Some(number)) => {
                assert_eq!(next.unwrap_or(number), number);
                next = Some(number + 1);
            }
            _ => panic!("{line}"),
        }
    }
    assert!(missed > 0);
}

/// What a watcher is sent until 127.0.0.1:9 is added.
fn until_the_last(watcher: impl BufRead) -> Vec<String> {
    let mut lines = Vec::new();
    for line in watcher.lines().map(|line| line.expect("a line")) {
        let is_last = line.contains("127.0.0.1:9 added");
        lines.push(line);
        if is_last {
            break;
        }
    }
    lines
}

#[test]
fn what_a_reload_has_changed_is_an_event() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    site.write(&[("p", &[&server], "")], &[("s", port, "")]);
    site.start();
    site.write(&[("p", &[&server], "")], &[("s", port, "retries = 9")]);
    site.daemon.control("reload");
    let events = texts(&site.daemon.control("getevents kind=configuration"));
    assert!(
        events.iter().any(|it| it.starts_with("the configuration file is read again, by 127.0.0.1:")),
        "{events:?}"
    );
    assert!(events.iter().any(|it| it == "service s: connections have other options"), "{events:?}");
}

#[test]
fn what_happens_often_does_not_push_out_what_has_happened_once() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["-w", "tcp"]).destinations([&server]).start();
    wait_until("it is judged", || glbd.control("getevents kind=verdict").contains("READY"));
    let changes: Vec<String> = (1..=1100).map(|weight| format!("weight {server}:{weight}")).collect();
    glbd.control(&changes.join("\n"));
    let events = glbd.control("getevents");
    assert_eq!(events.lines().count(), 1000);
    assert!(events.contains("from weight 1099 to 1100") && !events.contains("from weight 1 to 2,"), "{events}");
    assert!(events.contains(&format!("verdict destination {server} READY")), "{events}");
}
