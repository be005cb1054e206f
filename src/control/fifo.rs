//! The control FIFO: commands without answers.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, Instant};

use log::warn;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, mkfifo};

use super::COMMANDS_A_TURN;
use super::command::is_text;
use super::executor::Reply;
use super::lines::{Lines, MAX_LINE};
use crate::log::LogThrottle;

/// A writer that ends no line is taken to have finished it after so long.
const SILENCE: Duration = Duration::from_millis(200);

/// Lines about commands that failed, before they become seldom.
const MAX_COMPLAINTS: usize = 20;

/// Makes a FIFO that only its owner can write to, and opens it.
///
/// # Errors
/// `EEXIST` when anything is there already, or was put in its place before it could be opened, and the others of
/// mkfifo(3) and open(2).
pub fn create_fifo(path: &Path) -> io::Result<File> {
    mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR)?;
    // Opened for writing as well, so that it does not read as ended whenever the last writer closes it.
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
    let Ok(file) = opened else {
        let _ = fs::remove_file(path);
        return opened;
    };
    let found = file.metadata()?;
    match found.file_type().is_fifo() && found.uid() == Uid::effective().as_raw() {
        true => Ok(file),
        false => Err(io::Error::from_raw_os_error(libc::EEXIST)),
    }
}

/// Removes a FIFO that an earlier daemon was killed too fast to remove: one that nobody reads, and that is this user's,
/// or anybody's when this is root, who may have become another user then.
pub fn remove_stale_fifo(path: &Path) {
    let user = Uid::effective();
    let may_be_ours = |owner| user.is_root() || owner == user.as_raw();
    let ours = fs::symlink_metadata(path).is_ok_and(|it| it.file_type().is_fifo() && may_be_ours(it.uid()));
    if !ours {
        return;
    }
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let nobody_reads = |error: io::Error| error.raw_os_error() == Some(libc::ENXIO);
    if OpenOptions::new().write(true).custom_flags(flags).open(path).is_err_and(nobody_reads) {
        // When it cannot be removed, making the new one says why.
        let _ = fs::remove_file(path);
    }
}

/// What comes through the FIFO.
pub(super) struct Fifo {
    file: File,
    lines: Lines,
    readable: bool,
    /// Only the line that was begun is read to its end.
    finishing: bool,
    /// A command's name is being resolved; the next one waits for it.
    resolving: bool,
    last_active: Instant,
    trouble: LogThrottle,
}

impl Fifo {
    pub(super) fn new(file: File, registry: &Registry, token: Token) -> io::Result<Fifo> {
        registry.register(&mut SourceFd(&file.as_raw_fd()), token, Interest::READABLE)?;
        let lines = Lines::default();
        Ok(Fifo {
            file,
            lines,
            readable: false,
            finishing: false,
            resolving: false,
            last_active: Instant::now(),
            trouble: LogThrottle::after(MAX_COMPLAINTS),
        })
    }

    pub(super) fn is_readable(&mut self) {
        self.readable = true;
    }

    /// When [`go_on`](Fifo::go_on) is to be called without an event.
    pub(super) fn deadline(&self) -> Option<Instant> {
        (!self.lines.is_empty() && !self.resolving).then(|| self.last_active + SILENCE)
    }

    /// Whether nothing of what came is waiting to be obeyed.
    pub(super) fn is_quiet(&self) -> bool {
        self.lines.is_empty() && !self.resolving
    }

    /// Whether to leave what comes to others, but for the rest of a line that was begun.
    pub(super) fn only_finish(&mut self, finish: bool) {
        self.finishing = finish;
    }

    /// Closes it. What comes is kept by the kernel for other processes that have it, whom this one is not to hear of.
    pub(super) fn close(self, registry: &Registry) {
        let _ = registry.deregister(&mut SourceFd(&self.file.as_raw_fd()));
    }

    /// Reads and obeys as much as can be. `execute` carries out a line. True when there is more to do, once others had
    /// their turn.
    pub(super) fn go_on(&mut self, now: Instant, mut execute: impl FnMut(&str) -> Reply) -> bool {
        for _ in 0..COMMANDS_A_TURN {
            if self.resolving {
                return false;
            }
            self.read();
            match self.lines.next() {
                Ok(Some(line)) => self.obey(&line, &mut execute),
                Ok(None) => {
                    self.take_unended_line(now, &mut execute);
                    return false;
                }
                Err(_) => {
                    self.tell(&format!("Error: a line is longer than {MAX_LINE} bytes and is ignored"));
                    self.lines.skip_line();
                }
            }
        }
        true
    }

    fn take_unended_line(&mut self, now: Instant, execute: &mut impl FnMut(&str) -> Reply) {
        if self.deadline().is_some_and(|deadline| deadline <= now)
            && let Some(line) = self.lines.rest()
        {
            self.obey(&line, execute);
        }
    }

    fn obey(&mut self, line: &str, execute: &mut impl FnMut(&str) -> Reply) {
        let reply = if is_text(line) { execute(line) } else { Reply::Text("Error: not a text\n".to_owned()) };
        match reply {
            Reply::Later => self.resolving = true,
            Reply::Text(answer) => self.tell(&answer),
            // The next command does not wait for sessions to end.
            Reply::Switching | Reply::Prompt | Reply::Quit | Reply::Watch(_) => {}
        }
    }

    /// Reports how a command has ended that the next one did not wait for.
    pub(super) fn report(&mut self, answer: &str) {
        self.tell(answer);
    }

    /// The answer to the command that waited for a name to be resolved.
    pub(super) fn answer_late(&mut self, answer: &str) {
        self.resolving = false;
        self.tell(answer);
    }

    fn read(&mut self) {
        let mut buffer = [0; MAX_LINE];
        while self.readable && !self.lines.is_full() {
            let most = match self.finishing {
                // A line's end is found by looking for it byte by byte, since what is behind it belongs to others.
                true if self.lines.is_empty() || self.lines.has_line() => break,
                true => 1,
                false => MAX_LINE,
            };
            match self.file.read(&mut buffer[..most]) {
                Ok(count) if count > 0 => {
                    self.lines.feed(&buffer[..count]);
                    self.last_active = Instant::now();
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => self.readable = false,
            }
        }
    }

    /// Nobody reads answers, but what went wrong belongs in the log.
    fn tell(&mut self, answer: &str) {
        if answer.starts_with("Error")
            && let Some(suppressed) = self.trouble.permit(Instant::now())
        {
            warn!("control FIFO: {}{suppressed}", answer.trim_end());
        }
    }
}
