//! HAProxy or glbd, with its file of a pair.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::harness::control::ask;
use crate::harness::{Daemon, connect_to, wait_until};

/// Where HAProxy answers questions: each has a network of its own.
const STATS: ([u8; 4], u16) = ([127, 0, 0, 1], 9999);

/// A running program.
pub enum Balancer {
    /// Killed when this is dropped.
    HaProxy(Child, TempDir),
    Glbd(Box<Daemon>),
}

/// What a balancer thinks of a server.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub enum Opinion {
    Up,
    Down,
    /// On the way from one to the other, or neither.
    Between,
}

impl Balancer {
    /// HAProxy, with this file, and a port where it answers questions.
    pub fn haproxy(file: &Path) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let more = directory.path().join("stats.cfg");
        let address = SocketAddr::from(STATS);
        fs::write(&more, format!("global\n stats socket ipv4@{address} level admin\n")).expect("a file");
        let said = fs::File::create(directory.path().join("stderr")).expect("a file");
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(file).arg("-f").arg(more);
        let process = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said).spawn();
        let process = process.expect("haproxy, from Debian's package haproxy");
        wait_until("HAProxy answers", || connect_to(address).is_ok());
        Self::HaProxy(process, directory)
    }

    /// glbd, with this file. Only its own files are elsewhere, which root may write.
    pub fn glbd(file: &Path) -> Self {
        let daemon = Daemon::new();
        let log = daemon.directory().join("log").display().to_string();
        daemon.start(&["--config", &file.display().to_string(), "--log", &log, "--user", "root"]);
        Self::Glbd(Box::new(daemon))
    }

    pub fn name(&self) -> &'static str {
        match self {
            Self::HaProxy(..) => "HAProxy",
            Self::Glbd(_) => "glbd",
        }
    }

    /// What it thinks of the server at this address in this section, whose pool has the same name.
    pub fn opinion(&self, section: &str, server: SocketAddr) -> Opinion {
        match self {
            Self::HaProxy(..) => opinion_of_haproxy(section, server),
            Self::Glbd(daemon) => opinion_of_glbd(&daemon.control("getwatch"), section, server),
        }
    }

    /// Connections with the server at this address in this section.
    pub fn connections(&self, section: &str, server: SocketAddr) -> usize {
        let count = match self {
            Self::HaProxy(..) => ask_haproxy(section, "addr", &server.to_string(), "scur"),
            Self::Glbd(daemon) => {
                let answer = daemon.control("getinfo");
                let row = row_of(&answer, &["Router:", &format!("Router: {section}, pool {section}")], server);
                row.split_whitespace().last().expect("a number").to_owned()
            }
        };
        count.parse().expect("a number")
    }

    /// Has it obey a command at its port: HAProxy the one, glbd the other.
    pub fn obey(&self, haproxy: &str, glbd: &str) {
        let said = match self {
            Self::HaProxy(..) => ask(STATS.into(), haproxy).expect("HAProxy answers"),
            Self::Glbd(daemon) => daemon.control(glbd),
        };
        assert!(said.lines().all(|line| ["", "Ok"].contains(&line)), "{}: {said}", self.name());
    }

    /// Clients that wait for room at the servers of this section.
    pub fn queued(&self, section: &str) -> usize {
        let queued = match self {
            Self::HaProxy(..) => ask_haproxy(section, "svname", "BACKEND", "qcur"),
            Self::Glbd(daemon) => {
                let answer = daemon.control("getinfo");
                let heading = format!("Router: {section}, pool {section}");
                let mut lines = answer.lines().skip_while(|line| *line != heading);
                let queue = lines.find_map(|line| line.strip_prefix("Queue: ")).expect("a line about the queue");
                queue.split(' ').next().expect("a number").to_owned()
            }
        };
        queued.parse().expect("a number")
    }
}

/// A column of HAProxy's statistics, from the row of this section that has this value in another column.
fn ask_haproxy(section: &str, key: &str, value: &str, wanted: &str) -> String {
    let answer = ask(STATS.into(), "show stat").expect("HAProxy answers");
    let mut rows = answer.lines().map(|line| line.split(',').collect::<Vec<&str>>());
    let heading = rows.next().expect("a heading");
    let column = |name: &str| heading.iter().position(|it| it.trim_start_matches("# ") == name).expect("a column");
    let (key, wanted) = (column(key), column(wanted));
    let row = rows.find(|row| row[0] == section && row.get(key) == Some(&value));
    row.unwrap_or_else(|| panic!("no {value} in {section}: {answer}"))[wanted].to_owned()
}

fn opinion_of_haproxy(section: &str, server: SocketAddr) -> Opinion {
    match ask_haproxy(section, "addr", &server.to_string(), "status").as_str() {
        "UP" => Opinion::Up,
        "DOWN" => Opinion::Down,
        _ => Opinion::Between,
    }
}

fn opinion_of_glbd(answer: &str, section: &str, server: SocketAddr) -> Opinion {
    let row = row_of(answer, &["Watchdog:", &format!("Watchdog: {section}")], server);
    match row.split_whitespace().find(|word| ["READY", "DOWN"].contains(word)) {
        Some("READY") => Opinion::Up,
        Some("DOWN") => Opinion::Down,
        _ => Opinion::Between,
    }
}

/// The row of a server in an answer of glbd's, below one of these headings.
fn row_of<'a>(answer: &'a str, headings: &[&str], server: SocketAddr) -> &'a str {
    let mut lines = answer.lines().skip_while(|line| !headings.contains(line));
    let beginning = format!("{server} : ");
    let row = lines.find(|line| line.trim_start().starts_with(&beginning));
    row.unwrap_or_else(|| panic!("no {server} below {headings:?}: {answer}"))
}

impl Drop for Balancer {
    fn drop(&mut self) {
        let said = match self {
            Self::HaProxy(process, directory) => {
                process.kill().ok();
                process.wait().ok();
                directory.path().join("stderr")
            }
            Self::Glbd(daemon) => daemon.directory().join("log"),
        };
        if std::thread::panicking() {
            eprintln!("--- {} said:\n{}---", self.name(), fs::read_to_string(said).unwrap_or_default());
        }
    }
}
