//! Where log lines go: to stderr in the foreground, to syslog in the background, or where `--log` says.
//!
//! A thread of its own writes them, so that a syslogd that hangs, or a terminal that was stopped, cannot hold up the
//! data path. When more lines wait than fit, the newest are dropped and their number is told.

pub mod events;
pub mod format;
mod throttle;
mod trouble;

use std::borrow::Cow;
use std::fmt::Display;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use log::kv::{Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Record};
use parking_lot::Mutex;

use crate::supervise;
use crate::sys;
use events::EventKind;
use format::Fields;
pub use format::LogFormat;
pub use throttle::{LogThrottle, Suppressed};
pub use trouble::{Lasting, Trouble};

/// Most lines that wait to be written.
const MAX_WAITING: usize = 1024;

/// Between two looks whether there is room for more.
const ROOM_PAUSE: Duration = Duration::from_millis(2);

/// Where the lines go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// Standard error, with a time stamp.
    Stderr,
    /// Standard error as systemd reads it: see sd-daemon(3).
    Journal,
    /// syslog(3), under this facility (`libc::LOG_DAEMON` for instance).
    Syslog(i32),
    /// A file, with a time stamp, to the end of which lines are added.
    File(PathBuf),
}

/// A line that is to be written.
struct Line {
    level: Level,
    at: SystemTime,
    kind: EventKind,
    text: String,
    /// What it is about, in the formats that have fields.
    fields: Vec<(String, String)>,
}

enum Message {
    Line(Line),
    /// The file is to be opened anew.
    Reopen,
    Flush(Sender<()>),
}

struct Logger {
    lines: Sender<Message>,
    dropped: AtomicUsize,
    writer: Arc<Mutex<Writer>>,
}

static LOGGER: OnceLock<Logger> = OnceLock::new();
/// The least of the levels that are written.
static LEVEL: AtomicUsize = AtomicUsize::new(LevelFilter::Info as usize);
/// The [`LogFormat`] that is written.
static FORMAT: AtomicU8 = AtomicU8::new(LogFormat::Text as u8);

/// What is logged unless somebody says otherwise.
pub fn level(verbose: bool) -> LevelFilter {
    if verbose { LevelFilter::Debug } else { LevelFilter::Info }
}

/// Starts logging; once in a process, after it has forked for the last time. `verbose` brings what is told about
/// single connections.
///
/// # Errors
/// When the thread cannot be started, or the file cannot be opened.
pub fn start(destination: Destination, verbose: bool) -> std::io::Result<()> {
    let (sender, receiver) = bounded(MAX_WAITING);
    let writer = Arc::new(Mutex::new(Writer::open(destination)?));
    let logger = Logger { lines: sender, dropped: AtomicUsize::new(0), writer: Arc::clone(&writer) };
    let logger = LOGGER.get_or_init(|| logger);
    supervise::start("log", move || write_lines(&writer, &receiver))?;
    // Fails only when a logger was set before, which is then this one.
    let _ = log::set_logger(logger);
    set_level(level(verbose));
    Ok(())
}

/// Has lines of this level written, and of those that matter more. What has changed is [kept](events) all the same.
pub fn set_level(level: LevelFilter) {
    LEVEL.store(level as usize, Ordering::Relaxed);
    log::set_max_level(level.max(LevelFilter::Info));
}

/// Has the lines that are written from now on look like this.
pub fn set_format(format: LogFormat) {
    FORMAT.store(format as u8, Ordering::Relaxed);
}

fn format() -> LogFormat {
    let number = FORMAT.load(Ordering::Relaxed);
    LogFormat::ALL.into_iter().find(|(it, _)| *it as u8 == number).map_or(LogFormat::Text, |(it, _)| it)
}

/// Has a line written that is one of many, without leaving out others for it: waits while half of the lines wait that may.
pub fn write_when_there_is_room(level: Level, line: String) {
    let Some(logger) = LOGGER.get() else { return };
    if level as usize > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    while logger.lines.len() >= MAX_WAITING / 2 {
        std::thread::sleep(ROOM_PAUSE);
    }
    let _ = logger.lines.try_send(Message::Line(Line { kind: EventKind::Clients, ..Line::new(level, line) }));
}

/// Opens the log file again, in case it was renamed or removed.
pub fn reopen() {
    if let Some(logger) = LOGGER.get() {
        // Lines that wait come before it, whatever their number.
        let _ = logger.lines.send_timeout(Message::Reopen, Duration::from_millis(500));
    }
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
        Some(logger) if logger.lines.is_empty() => logger.writer.lock().write(&Line::new(Level::Info, line)),
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
        if events::keeps(record.level()) {
            events::record(record);
        }
        if record.level() as usize > LEVEL.load(Ordering::Relaxed) {
            return;
        }
        let line = Message::Line(Line::of(record));
        if let Err(TrySendError::Full(_)) = self.lines.try_send(line) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn flush(&self) {
        flush();
    }
}

fn write_lines(writer: &Mutex<Writer>, messages: &Receiver<Message>) {
    loop {
        let message = match trouble::next_end() {
            Some(end) => messages.recv_deadline(end),
            None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let message = match message {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => {
                trouble::end_those_that_are_over(Instant::now());
                continue;
            }
            Err(RecvTimeoutError::Disconnected) => return,
        };
        match message {
            Message::Line(line) => writer.lock().write(&line),
            Message::Reopen => writer.lock().reopen(),
            Message::Flush(done) => drop(done),
        }
        let dropped = LOGGER.get().map_or(0, |logger| logger.dropped.swap(0, Ordering::Relaxed));
        if dropped > 0 {
            let text = format!("{dropped} log lines were dropped: they came faster than they could be written");
            writer.lock().write(&Line::new(Level::Warn, text));
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

/// Where lines go, open.
struct Writer {
    destination: Destination,
    /// Where that is one.
    file: Option<File>,
    /// Lines that the file has not taken.
    lost: usize,
}

impl Writer {
    fn open(destination: Destination) -> io::Result<Writer> {
        let file = match &destination {
            Destination::File(path) => Some(open(path)?),
            Destination::Syslog(facility) => {
                sys::open_syslog(*facility);
                None
            }
            Destination::Stderr | Destination::Journal => None,
        };
        Ok(Writer { destination, file, lost: 0 })
    }

    /// When the file cannot be opened anew, lines go on to the one that is open.
    fn reopen(&mut self) {
        let Destination::File(path) = &self.destination else { return };
        match open(path) {
            Ok(file) => self.file = Some(file),
            Err(error) => {
                let line = format!("cannot open the log {}: {error}; it goes on in the old file", path.display());
                self.write(&Line::new(Level::Error, line));
            }
        }
    }

    fn write(&mut self, line: &Line) {
        match (&self.destination, &mut self.file) {
            // Nobody is left to tell when stderr is gone.
            (Destination::Journal, _) => {
                drop(io::stderr().write_all(format!("<{}>{}\n", priority(line.level), line.message()).as_bytes()))
            }
            (Destination::Syslog(_), _) => sys::syslog(priority(line.level), &line.message()),
            (Destination::File(_), Some(file)) => self.lost = append(file, line, self.lost),
            // Nor here.
            (Destination::Stderr | Destination::File(_), _) => drop(io::stderr().write_all(line.stamped().as_bytes())),
        }
    }
}

impl Line {
    /// A line of the log about itself, or the daemon's last.
    fn new(level: Level, text: impl Into<String>) -> Line {
        Line { level, at: SystemTime::now(), kind: EventKind::Process, text: text.into(), fields: Vec::new() }
    }

    fn of(record: &Record) -> Line {
        let mut about = About(Vec::new());
        // Text has no place for them.
        if format() != LogFormat::Text {
            // The visitor returns no error.
            let _ = record.key_values().visit(&mut about);
        }
        let kind = EventKind::of(record.target());
        Line { kind, fields: about.0, ..Line::new(record.level(), record.args().to_string()) }
    }

    /// The line as whoever records its time and level reads it.
    fn message(&self) -> Cow<'_, str> {
        self.object().map_or(Cow::Borrowed(self.text.as_str()), Cow::Owned)
    }

    /// The line with its end, with time and level.
    fn stamped(&self) -> String {
        let Line { level, text, .. } = self;
        self.object().map_or_else(|| format!("{} {level} {text}\n", self.time()), |object| object + "\n")
    }

    fn time(&self) -> impl Display + use<> {
        humantime::format_rfc3339_millis(self.at)
    }

    /// In a format that has fields: all of them.
    fn object(&self) -> Option<String> {
        let begun = match format() {
            LogFormat::Text => return None,
            LogFormat::Logfmt => Fields::logfmt(),
            LogFormat::Json => Fields::json(),
        };
        let level = self.level.as_str().to_ascii_lowercase();
        let begun = begun.text("time", self.time()).text("level", level).text("kind", self.kind);
        let about = |line: Fields, (key, value): &(String, String)| line.text(key, value);
        Some(self.fields.iter().fold(begun, about).text("msg", &self.text).finish())
    }
}

/// Collects what a line is about.
struct About(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for About {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), log::kv::Error> {
        let value = value.to_string();
        // Where there is only one pool, for instance, its name is left out.
        if !value.is_empty() {
            self.0.push((key.to_string(), value));
        }
        Ok(())
    }
}

/// Adds a line, and before it how many there was no room for. Returns how many these are now.
fn append(file: &mut File, line: &Line, lost: usize) -> usize {
    let mut text = String::new();
    if lost > 0 {
        let missing = format!("{lost} log lines are missing: they could not be written");
        text = Line::new(Level::Warn, missing).stamped();
    }
    text += &line.stamped();
    if file.write_all(text.as_bytes()).is_ok() { 0 } else { lost + 1 }
}

/// Opens a file to the end of which lines are added, and makes it if need be.
///
/// # Errors
/// Those of open(2), with the path; and that it is no ordinary file.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(0o640).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let opened = options.open(path).and_then(|file| Ok((file.metadata()?, file)));
    match opened {
        Ok((found, file)) if found.is_file() => Ok(file),
        Ok(_) => Err(io::Error::other(format!("{}: it is no ordinary file", path.display()))),
        Err(error) => Err(io::Error::new(error.kind(), format!("{}: {error}", path.display()))),
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
