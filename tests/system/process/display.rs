//! What is seen in the foreground: configuration and table on a terminal, a log otherwise.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::pty::{grantpt, posix_openpt, ptsname_r, unlockpt};

use crate::harness::{Glbd, Info, wait_until};

/// A pseudo-terminal, and what has been written on it.
struct Terminal {
    path: String,
    text: Arc<Mutex<String>>,
    /// Kept open, so that the terminal is not hung up.
    _user: File,
}

impl Terminal {
    fn open() -> Self {
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let screen = posix_openpt(flags).expect("a pseudo-terminal");
        grantpt(&screen).expect("a pseudo-terminal");
        unlockpt(&screen).expect("a pseudo-terminal");
        let path = ptsname_r(&screen).expect("its name");
        let user = OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOCTTY.bits()).open(&path);
        let text = Arc::new(Mutex::new(String::new()));
        let written = Arc::clone(&text);
        // It ends with the last who has the terminal open, which may be after the test.
        thread::spawn(move || {
            for line in BufReader::new(screen).lines().map_while(Result::ok) {
                written.lock().expect("text").extend([line.trim_end_matches('\r'), "\n"]);
            }
        });
        Self { path, text, _user: user.expect("the terminal") }
    }

    /// A command that runs the one appended to it with its output here.
    fn wrapper(&self) -> [&str; 4] {
        ["sh", "-c", "terminal=$0; exec \"$@\" >\"$terminal\"", &self.path]
    }

    fn text(&self) -> String {
        self.text.lock().expect("text").clone()
    }

    /// The tables that have been shown completely.
    fn tables(&self) -> Vec<Info> {
        let text = self.text();
        let tables = text.split_inclusive(" max\n").filter(|part| part.ends_with(" max\n"));
        tables.map(|part| Info::parse(&part[part.find("Router:").expect("a table")..])).collect()
    }
}

#[test]
fn a_terminal_is_shown_the_configuration_and_the_table_every_five_seconds() {
    let terminal = Terminal::open();
    let glbd = Glbd::builder()
        .wrapped_by(terminal.wrapper())
        .args(["-t", "3", "-m", "77", "--random", "--top"])
        .destinations(["127.0.0.1:1:0.5"])
        .start();
    wait_until("the table is shown", || terminal.tables().len() == 1);
    let begun = Instant::now();
    let text = terminal.text();
    let (configuration, _) = text.split_once("Router:").expect("a table");
    for shown in [
        "glbd 2.0.0",
        &glbd.address().to_string(),
        &glbd.control_address().to_string(),
        &glbd.fifo().display().to_string(),
        "andom",
        "Threads: 3",
        "77",
    ] {
        let blanks_aside = configuration.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(blanks_aside.contains(shown), "{shown:?} in:\n{configuration}");
    }
    assert_eq!(terminal.tables()[0], glbd.info());

    glbd.change("127.0.0.1:2");
    wait_until("the table is shown again", || terminal.tables().len() == 2);
    let pause = begun.elapsed();
    assert!(pause > Duration::from_secs(4), "again after {pause:?} only");
    assert_eq!(terminal.tables()[1], glbd.info());
    assert!(pause < Duration::from_secs(15), "again after {pause:?}");
}

#[test]
fn a_terminal_is_shown_the_watchdogs_table_where_there_is_one() {
    let terminal = Terminal::open();
    let glbd = Glbd::builder().wrapped_by(terminal.wrapper()).args(["-w", "tcp"]).destinations(["127.0.0.1:1"]).start();
    wait_until("the watchdog's table is shown, with the reason", || {
        let shown = glbd.control("getwatch");
        shown.contains("Connection refused (os error 111) (since ") && terminal.text().contains(&shown)
    });
}

#[test]
fn the_log_goes_to_stderr_on_a_terminal_too() {
    let terminal = Terminal::open();
    let glbd = Glbd::builder().wrapped_by(terminal.wrapper()).start();
    glbd.wait_for_log("INFO glbd 2.0.0 serving on ");
    assert!(!terminal.text().contains("INFO"));
}

#[test]
fn without_a_terminal_there_is_a_log_and_nothing_else() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let output = directory.path().join("output");
    let redirect = format!("exec \"$0\" \"$@\" >'{}'", output.display());
    let glbd = Glbd::builder().wrapped_by(["sh", "-c", &redirect]).args(["-t", "2"]).start();
    glbd.change("127.0.0.1:1:0.5");
    glbd.change("127.0.0.1:1:-1");
    glbd.wait_for_log("removed");
    assert_eq!(fs::read_to_string(&output).expect("a file"), "");

    let log = glbd.log();
    let mut lines = log.lines().map(|line| line.split_once(' ').expect("a time and what was then"));
    let serving = format!("INFO glbd 2.0.0 serving on {}, 0 destinations, 2 threads, least connected", glbd.address());
    let (time, first) = lines.next().expect("a line");
    assert_eq!(first, serving);
    assert!(time.len() == "2026-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    let none = "WARN there are no destinations: clients are turned away until one is added";
    assert_eq!(lines.next().expect("a line").1, none);
    for told in ["added with weight 0.5", "removed with 0 connections"] {
        let told = format!("INFO destination 127.0.0.1:1 {told}, by 127.0.0.1:");
        let (_, line) = lines.next().expect("a line");
        assert!(line.starts_with(&told), "{line}");
    }
    assert!(lines.next().is_none(), "{log}");
}
