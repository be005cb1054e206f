//! `glbctl events`, also as they happen.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{bare, ctl};
use crate::harness::{Daemon, Glbd, Server, wait_until};

/// A glbctl that goes on, and what it has said.
struct Following {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Following {
    fn begin(control: impl ToString, arguments: &[&str]) -> Self {
        let mut command = bare();
        command.args(["-c", &control.to_string(), "events", "--follow"]).args(arguments).stdout(Stdio::piped());
        let mut child = command.spawn().expect("glbctl starts");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (output, said) = (child.stdout.take().expect("a pipe"), Arc::clone(&lines));
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                said.lock().expect("lines").push(line);
            }
        });
        Self { child, lines }
    }

    fn count(&self, text: &str) -> usize {
        self.lines.lock().expect("lines").iter().filter(|line| line.contains(text)).count()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().expect("glbctl");
        self.child.wait().expect("glbctl");
    }
}

#[test]
fn events_are_shown_by_time_kind_and_number() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let control = glbd.control_address();
    ctl(control, &format!("weight {server} 2")).text();
    let all = ctl(control, "events").text().to_owned();
    assert!(all.contains("serving on") && all.contains("changed from weight 1 to 2"), "{all}");
    let table = ctl(control, "events --since 1h --kind table").text().to_owned();
    assert!(!table.contains("serving on") && table.contains("changed from weight 1 to 2"), "{table}");
    assert_eq!(ctl(control, "events --limit 1 --json").json().len(), 1);
    assert_eq!(ctl(control, "events --since 2100-01-01T00:00:00Z").text(), "");
    assert!(ctl(control, "events --since soon").refusal(1).contains("'soon'"));
}

#[test]
fn events_are_followed_over_an_upgrade() {
    let server = Server::echo();
    let daemon = Daemon::started(&[&server.to_string()]);
    let control = daemon.control_address();
    let (text, json) = (Following::begin(control, &[]), Following::begin(control, &["--json", "--kind", "table"]));
    wait_until("what was is shown", || text.count("serving on") == 1);
    ctl(control, &format!("weight {server} 2")).text();
    wait_until("a change is shown", || [&text, &json].iter().all(|it| it.count("weight 1 to 2") == 1));
    daemon.upgrade();
    ctl(control, &format!("weight {server} 3")).text();
    wait_until("one of the next process is shown", || [&text, &json].iter().all(|it| it.count("weight 2 to 3") == 1));
    ctl(control, &format!("weight {server} 4")).text();
    wait_until("and the next", || [&text, &json].iter().all(|it| it.count("weight 3 to 4") == 1));
    assert_eq!((text.count("weight 1 to 2"), json.count("serving on")), (1, 0));
    let lines = json.lines.lock().expect("lines").clone();
    assert!(lines.iter().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok()), "{lines:?}");
}

#[test]
fn following_ends_when_the_daemon_has_been_away_for_long() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let control = glbd.control_address();
    let mut following = Following::begin(control, &["--timeout", "1"]);
    wait_until("it follows", || following.count("serving on") == 1);
    drop(glbd);
    let status = following.child.wait().expect("glbctl");
    assert_eq!(status.code(), Some(3));
}

/// Has events followed by a glbctl that is stopped meanwhile. Returns the numbers of the first and of the last event that it
/// shows, how many of those from the one to the other it shows, and how many it says that it has missed.
fn stopped(is_given_up: bool) -> (u64, u64, u64, u64) {
    let server = Server::echo();
    let directory = tempfile::tempdir().expect("a directory");
    // The kernel keeps less for it than for a port.
    let control = format!("unix:{}", directory.path().join("control").display());
    let glbd = Glbd::builder().args(["--control", &control]).destinations([&server]).start();
    let before = glbd.descriptors();
    let following = [Following::begin(&control, &["--json"]), Following::begin(&control, &[])];
    // The first may be among what was before, the second among what was meanwhile.
    for weight in 2..=4 {
        glbd.control(&format!("{server}:{weight}"));
        let shown = format!("from weight {} to {weight}", weight - 1);
        wait_until("they follow", || following.iter().all(|it| it.count(&shown) > 0));
    }
    let signal = |signal| {
        let pids = following.iter().map(|it| Pid::from_raw(it.child.id().cast_signed()));
        pids.for_each(|pid| kill(pid, signal).expect("it runs"));
    };
    signal(Signal::SIGSTOP);
    glbd.control(&format!("{server}:2\n{server}:1\n").repeat(4000));
    wait_until("their conversations are over", || !is_given_up || glbd.descriptors() == before);
    signal(Signal::SIGCONT);
    wait_until("they go on", || {
        glbd.control("127.0.0.1:9\n127.0.0.1:9:-1");
        following.iter().all(|it| it.count("127.0.0.1:9 added") > 0)
    });
    assert!(following[1].count(" events were missed)") > 0);
    let lines = following[0].lines.lock().expect("lines").clone();
    let lines: Vec<serde_json::Value> =
        lines.iter().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"))).collect();
    let numbers: Vec<u64> = lines.iter().filter_map(|it| it["number"].as_u64()).collect();
    let missed = lines.iter().filter_map(|it| it["missed"].as_u64()).sum();
    (numbers[0], numbers[numbers.len() - 1], numbers.len() as u64, missed)
}

#[test]
fn following_says_how_many_events_were_missed() {
    let (first, last, shown, missed) = stopped(false);
    assert!(missed > 0);
    assert_eq!(shown + missed, last - first + 1);
}

#[test]
fn following_says_how_many_events_were_missed_also_after_the_daemon_has_given_it_up() {
    let (first, last, shown, missed) = stopped(true);
    assert!(missed > 0);
    assert_eq!(shown + missed, last - first + 1);
}
