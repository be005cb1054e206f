//! `glbctl events`, also as they happen.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

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
