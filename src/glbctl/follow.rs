//! `glbctl events --follow`: events as they happen, also beyond an upgrade or a restart of the daemon.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::client::{Client, Failure};
use super::model::{Event, Process, lines, value};

/// How often to make sure that it is still this process that matters: an old one may go on for long after an upgrade.
const CHECK: Duration = Duration::from_secs(2);
/// How many events are remembered as shown.
const REMEMBERED: usize = 2000;
/// Longest line that is taken.
const LONGEST_LINE: usize = 1 << 20;

/// Calls `show` with each line of JSON, and the event that it is, from the event behind this number on.
///
/// # Errors
/// The daemon cannot be reached for as long as `patience`, or `show` says so.
pub fn follow(
    client: &Client,
    mut last: u64,
    patience: Duration,
    mut show: impl FnMut(&str, &Event) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut shown: VecDeque<(u64, String)> = VecDeque::new();
    let mut fresh = |line: &str, last: &mut u64| -> Result<(), Failure> {
        let Ok(event) = value::<Event>(line) else { return Ok(()) };
        let key = (event.number, event.text.to_string());
        if event.number == 0 || shown.contains(&key) {
            return Ok(());
        }
        *last = event.number;
        shown.push_back(key);
        shown.drain(..shown.len().saturating_sub(REMEMBERED));
        show(line, &event)
    };
    loop {
        let begun = begin(client, patience)?;
        // Numbers begin anew when a daemon is started anew.
        last = if begun.newest < last { 0 } else { last };
        let query = format!("getevents since={last} json");
        if let Ok(answer) = client.ask(&query, Instant::now() + patience) {
            answer.lines().try_for_each(|line| fresh(line, &mut last))?;
        }
        let mut watched = Lines::new(begun.socket);
        let mut checked = Instant::now();
        while let Some(line) = watched.next(checked + CHECK) {
            if let Some(line) = line {
                fresh(&line, &mut last)?;
            }
            if checked.elapsed() >= CHECK {
                if process(client, patience).map(|process| process.pid) != Ok(begun.pid) {
                    break;
                }
                checked = Instant::now();
            }
        }
    }
}

struct Begun {
    socket: Socket,
    pid: u64,
    /// The number of the newest change.
    newest: u64,
}

fn process(client: &Client, patience: Duration) -> Result<Process, Failure> {
    value(&client.ask("getstats json", Instant::now() + patience)?)
}

/// Begins to watch a daemon, once there is one.
fn begin(client: &Client, patience: Duration) -> Result<Begun, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let begun = || {
            let pid = value::<Process>(&client.ask("getstats json", deadline)?)?.pid;
            let socket = client.follow("watch json", deadline)?;
            let newest: Vec<Event> = lines(&client.ask("getevents limit=1 json", deadline)?)?;
            Ok(Begun { socket, pid, newest: newest.last().map_or(0, |event| event.number) })
        };
        match begun() {
            Err(Failure::Unreachable(_)) if Instant::now() + CHECK / 10 < deadline => thread::sleep(CHECK / 10),
            other => return other,
        }
    }
}

/// The lines that come over a socket.
struct Lines {
    socket: Socket,
    unread: Vec<u8>,
}

impl Lines {
    fn new(socket: Socket) -> Lines {
        Lines { socket, unread: Vec::new() }
    }

    /// The next line, or none by the deadline. `None` at the end.
    fn next(&mut self, deadline: Instant) -> Option<Option<String>> {
        let mut buffer = [0; 16 * 1024];
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                return Some(Some(String::from_utf8_lossy(&line).trim_end().to_owned()));
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.socket.set_read_timeout(Some(left)).ok()?;
            match (&self.socket).read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.unread.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Some(None),
                Err(_) => return None,
            }
            if self.unread.len() > LONGEST_LINE {
                return None;
            }
        }
    }
}
