//! Where lines of the connection log go.

use std::fs::{File, Metadata};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::{Level, error, info};

use crate::log::{LogThrottle, open, write_when_there_is_room};

/// Where lines go.
pub(super) enum Place {
    /// To the log, among its own.
    Log,
    /// To the end of a file.
    File(LogFile),
}

/// A file that others may rename or remove at any time.
pub(super) struct LogFile {
    path: PathBuf,
    file: File,
    /// Lines that it has not taken.
    lost: usize,
    /// Since it could not be written or opened anew.
    trouble: Option<LogThrottle>,
}

impl Place {
    /// The log, or this file.
    ///
    /// # Errors
    /// Those of open(2), and that it is no ordinary file.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Place> {
        let Some(path) = path else { return Ok(Place::Log) };
        Ok(Place::File(LogFile { path: path.to_owned(), file: open(path)?, lost: 0, trouble: None }))
    }

    /// Writes lines, each with its end.
    pub(super) fn write(&mut self, lines: &str) {
        match self {
            Place::Log => lines.lines().for_each(|line| write_when_there_is_room(Level::Info, line.to_owned())),
            Place::File(file) => file.write(lines),
        }
    }

    /// Whether lines need a time in front of them.
    pub(super) fn stamps(&self) -> bool {
        matches!(self, Place::File(_))
    }
}

impl LogFile {
    fn write(&mut self, lines: &str) {
        if !self.is_at_its_place() {
            match open(&self.path) {
                Ok(file) => self.file = file,
                Err(error) => self.tell(&format!("cannot be opened anew: {error}; lines go to the old file")),
            }
        }
        // What was written last may be a part of a line.
        let line_break = if self.lost > 0 { "\n" } else { "" };
        match self.file.write_all(format!("{line_break}{lines}").as_bytes()) {
            Ok(()) if self.trouble.take().is_some() => {
                let (path, lost) = (self.path.display(), std::mem::take(&mut self.lost));
                info!("the connection log {path} can be written again; {lost} lines are missing");
            }
            Ok(()) => {}
            Err(error) => {
                self.lost += lines.lines().count();
                self.tell(&format!("cannot be written: {error}"));
            }
        }
    }

    /// Whether the path still names the file that is open.
    fn is_at_its_place(&self) -> bool {
        let which = |it: Metadata| (it.dev(), it.ino());
        let (now, open) = (self.path.symlink_metadata().map(which), self.file.metadata().map(which));
        matches!((now, open), (Ok(now), Ok(open)) if now == open)
    }

    fn tell(&mut self, what: &str) {
        let path = self.path.display();
        if let Some(unsaid) = self.trouble.get_or_insert_default().permit(Instant::now()) {
            error!("the connection log {path} {what}{unsaid}");
        }
    }
}
