//! Where log lines go: to stderr in the foreground, to syslog in the background.
//!
//! A thread of its own writes them, so that a syslogd that hangs, or a terminal that was stopped, cannot hold up the
//! data path. When more lines wait than fit, the newest are dropped and their number is told.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use log::{Level, LevelFilter, Log, Record};

use crate::supervise;
use crate::sys;

/// Most lines that wait to be written.
const MAX_WAITING: usize = 1024;

/// Where the lines go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Standard error, with a time stamp.
    Stderr,
    /// Standard error as systemd reads it: see sd-daemon(3).
    Journal,
    /// syslog(3), facility `daemon`.
    Syslog,
}

enum Message {
    Line(Level, String),
    Flush(Sender<()>),
}

struct Logger {
    destination: Destination,
    lines: Sender<Message>,
    dropped: AtomicUsize,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();

/// Starts logging; once in a process, after it has forked for the last time. `verbose` brings what is told about
/// single connections.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(destination: Destination, verbose: bool) -> std::io::Result<()> {
    let (sender, receiver) = bounded(MAX_WAITING);
    let logger = LOGGER.get_or_init(|| Logger { destination, lines: sender, dropped: AtomicUsize::new(0) });
    supervise::start("log", move || write_lines(destination, &receiver))?;
    // Fails only when a logger was set before, which is then this one.
    let _ = log::set_logger(logger);
    log::set_max_level(if verbose { LevelFilter::Debug } else { LevelFilter::Info });
    Ok(())
}

/// Waits until what was logged so far is written, at most half a second.
pub fn flush() {
    let Some(logger) = LOGGER.get() else { return };
    let (done, written) = bounded(1);
    if logger.lines.try_send(Message::Flush(done)).is_ok() {
        let _ = written.recv_timeout(Duration::from_millis(500));
    }
}

/// The program's last line. With no others waiting it is written from here: a daemon that was told to stop should not
/// have to wait for a thread of its own, since init scripts look right after that whether it is gone.
pub fn say_last(line: &str) {
    match LOGGER.get() {
        Some(logger) if logger.lines.is_empty() => write(logger.destination, Level::Info, line),
        _ => {
            log::info!("{line}");
            flush();
        }
    }
}

impl Log for Logger {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        // The libraries' own remarks are not for operators.
        metadata.target().starts_with("glbd")
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Message::Line(record.level(), record.args().to_string());
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        flush();
    }
}

fn write_lines(destination: Destination, messages: &Receiver<Message>) {
    if destination == Destination::Syslog {
        sys::open_syslog();
    }
    for message in messages {
        match message {
            Message::Line(level, line) => write(destination, level, &line),
            Message::Flush(done) => drop(done),
        }
        let dropped = LOGGER.get().map_or(0, |logger| logger.dropped.swap(0, Ordering::Relaxed));
        if dropped > 0 {
            write(
                destination,
                Level::Warn,
                &format!("{dropped} log lines were dropped: they came faster than they could be written"),
            );
        }
    }
}

impl Destination {
    /// Standard error, as whoever reads it wants it.
    pub fn stderr() -> Destination {
        let stream = io::stderr().as_fd().try_clone_to_owned().map(File::from).and_then(|file| file.metadata());
        let is_journal = |it: Metadata| std::env::var("JOURNAL_STREAM") == Ok(format!("{}:{}", it.dev(), it.ino()));
        if stream.is_ok_and(is_journal) { Destination::Journal } else { Destination::Stderr }
    }
}

fn write(destination: Destination, level: Level, line: &str) {
    match destination {
        // Nobody is left to tell when stderr is gone.
        Destination::Journal => drop(writeln!(io::stderr(), "<{}>{line}", priority(level))),
        Destination::Syslog => sys::syslog(priority(level), line),
        Destination::Stderr => {
            let time = humantime::format_rfc3339_millis(SystemTime::now());
            // Nobody is left to tell when stderr is gone.
            let _ = writeln!(io::stderr(), "{time} {level} {line}");
        }
    }
}

fn priority(level: Level) -> i32 {
    match level {
        Level::Error => libc::LOG_ERR,
        Level::Warn => libc::LOG_WARNING,
        Level::Info => libc::LOG_INFO,
        Level::Debug | Level::Trace => libc::LOG_DEBUG,
    }
}

/// Between two lines about the same trouble.
const SELDOM: Duration = Duration::from_secs(10);

/// Keeps a line that could come a thousand times a second down to one in a while, and counts the others.
#[derive(Default)]
pub struct Seldom {
    /// How many more may come without a pause.
    free: usize,
    last: Option<Instant>,
    unsaid: usize,
}

impl Seldom {
    /// One that lets so many lines pass before it begins.
    pub fn after(lines: usize) -> Seldom {
        Seldom { free: lines, ..Seldom::default() }
    }

    /// Whether to log now, and if so, what to put behind the line: how many times it was not logged since the last time.
    pub fn due(&mut self, now: Instant) -> Option<Unsaid> {
        if self.free > 0 {
            self.free -= 1;
            return Some(Unsaid(0));
        }
        if self.last.is_some_and(|last| now.duration_since(last) < SELDOM) {
            self.unsaid += 1;
            return None;
        }
        self.last = Some(now);
        Some(Unsaid(std::mem::take(&mut self.unsaid)))
    }
}

/// How many lines were kept back, to stand behind the next; nothing when there were none.
pub struct Unsaid(usize);

impl fmt::Display for Unsaid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            count => write!(f, " ({count} more since this was last told)"),
        }
    }
}
