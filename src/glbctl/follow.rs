//! `glbctl events --follow`: events as they happen, also beyond an upgrade or a restart of the daemon.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::thread;
use std::time::{Duration, Instant};

use socket2::Socket;

use super::client::{Client, Failure};
use super::model::{Event, MissedLine, Process, lines, value};
use super::text::Text;

/// How often to make sure that it is still this process that matters: an old one may go on for long after an upgrade.
const CHECK: Duration = Duration::from_secs(2);
/// How many events are remembered as shown.
const REMEMBERED: usize = 2000;
/// Longest line that is taken.
const LONGEST_LINE: usize = 1 << 20;

/// What has happened.
pub enum News<'l> {
    /// The line of JSON, and the event that it is.
    Event(&'l str, Event),
    /// So many events that there is nothing more to be had of.
    Missed(u64),
}

/// Calls `show` with everything that happens, from the event behind this number on.
///
/// # Errors
/// The daemon cannot be reached for as long as `patience`, or `show` says so.
pub fn follow(
    client: &Client,
    last: u64,
    patience: Duration,
    show: impl FnMut(News) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut follower = Follower { last, shown: VecDeque::new(), show };
    let mut before = None;
    loop {
        let begun = begin(client, patience)?;
        // Numbers begin anew when a daemon is started anew.
        follower.last = if begun.newest < follower.last { 0 } else { follower.last };
        let query = format!("getevents since={} json", follower.last);
        if let Ok(answer) = client.ask(&query, Instant::now() + patience) {
            // Another process may have used the same numbers for other events.
            if before.replace(begun.process.clone()).is_none_or(|before| before == begun.process) {
                follower.catch_up(&answer, begun.newest)?;
            }
            answer.lines().try_for_each(|line| follower.take(line))?;
        }
        let mut watched = Lines::new(begun.socket);
        let mut checked = Instant::now();
        while let Some(line) = watched.next(checked + CHECK) {
            if let Some(line) = line {
                follower.take(&line)?;
            }
            if checked.elapsed() >= CHECK {
                if process(client, Instant::now() + patience).as_ref() != Ok(&begun.process) {
                    break;
                }
                checked = Instant::now();
            }
        }
    }
}

struct Follower<S> {
    /// The number of the last event that was shown.
    last: u64,
    shown: VecDeque<(u64, String)>,
    show: S,
}

impl<S: FnMut(News) -> Result<(), Failure>> Follower<S> {
    /// Shows an event, unless it was shown before, or how many were missed.
    fn take(&mut self, line: &str) -> Result<(), Failure> {
        if let Ok(MissedLine { missed }) = value(line) {
            return (self.show)(News::Missed(missed));
        }
        let Ok(event) = value::<Event>(line) else { return Ok(()) };
        let key = (event.number, event.text.to_string());
        if event.number == 0 || self.shown.contains(&key) {
            return Ok(());
        }
        self.last = event.number;
        self.shown.push_back(key);
        self.shown.drain(..self.shown.len().saturating_sub(REMEMBERED));
        (self.show)(News::Event(line, event))
    }

    /// The daemon may have let this client go, which took nothing for too long. Says how many of the events up to the
    /// newest one are not among those that it has kept.
    fn catch_up(&mut self, kept: &str, newest: u64) -> Result<(), Failure> {
        let kept = kept.lines().filter(|line| value::<Event>(line).is_ok_and(|event| event.number <= newest)).count();
        match newest.saturating_sub(self.last).saturating_sub(kept as u64) {
            0 => Ok(()),
            missed => (self.show)(News::Missed(missed)),
        }
    }
}

struct Begun {
    socket: Socket,
    process: ProcessId,
    /// The number of the newest change before it was watched.
    newest: u64,
}

/// The number of a process, and when it was started: in a container, the next one has the same number.
type ProcessId = (u64, Text);

fn process(client: &Client, deadline: Instant) -> Result<ProcessId, Failure> {
    let process: Process = value(&client.ask("getstats json", deadline)?)?;
    Ok((process.pid, process.started))
}

/// Begins to watch a daemon, once there is one.
fn begin(client: &Client, patience: Duration) -> Result<Begun, Failure> {
    let deadline = Instant::now() + patience;
    loop {
        let begun = || {
            let process = process(client, deadline)?;
            let newest: Vec<Event> = lines(&client.ask("getevents limit=1 json", deadline)?)?;
            let socket = client.follow("watch json", deadline)?;
            Ok(Begun { socket, process, newest: newest.last().map_or(0, |event| event.number) })
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
