//! Where lines of the connection log go.

use std::fs::{File, Metadata};
use std::io::{self, Seek, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use log::{Level, error, info, warn};

use crate::log::{LogThrottle, flush, open, write_when_there_is_room};

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
    /// Since it could not be written.
    unwritten: Option<LogThrottle>,
    /// Since another one could not be made in its place.
    misplaced: Option<LogThrottle>,
}

impl Place {
    /// The log, or this file.
    ///
    /// # Errors
    /// Those of open(2), and that it is no ordinary file.
    pub(super) fn open(path: Option<&Path>) -> io::Result<Place> {
        let Some(path) = path else { return Ok(Place::Log) };
        Ok(Place::File(LogFile { path: path.to_owned(), file: open(path)?, lost: 0, unwritten: None, misplaced: None }))
    }

    /// Writes lines, each with its end.
    pub(super) fn write(&mut self, lines: &str) {
        match self {
            Place::Log => lines.lines().for_each(|line| write_when_there_is_room(Level::Info, line.to_owned())),
            Place::File(file) => file.write(lines),
        }
    }

    /// Says how many lines are missing, if nothing has said so yet: the process is about to end.
    pub(super) fn say_lost(&mut self) {
        let Place::File(file) = self else { return };
        let (path, lost) = (file.path.display(), std::mem::take(&mut file.lost));
        if lost > 0 {
            warn!("the connection log {path} could not be written to the end; {lost} lines are missing");
            // The process does not wait for the log.
            flush();
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
                Ok(file) => {
                    self.file = file;
                    if self.misplaced.take().is_some() {
                        info!("the connection log {} could be made anew", self.path.display());
                    }
                }
                Err(error) => {
                    if let Some(unsaid) = self.misplaced.get_or_insert_default().permit(Instant::now()) {
                        error!("the connection log cannot be made anew: {error}; lines go to the old file{unsaid}");
                    }
                }
            }
        }
        match self.append(lines.as_bytes()) {
            Ok(()) if self.unwritten.take().is_some() => {
                let (path, lost) = (self.path.display(), std::mem::take(&mut self.lost));
                info!("the connection log {path} can be written again; {lost} lines are missing");
            }
            Ok(()) => {}
            Err((error, written)) => {
                self.lost += lines[written..].lines().count();
                let path = self.path.display();
                if let Some(unsaid) = self.unwritten.get_or_insert_default().permit(Instant::now()) {
                    error!("the connection log {path} cannot be written: {error}{unsaid}");
                }
            }
        }
    }

    /// Adds lines, or as many whole ones as there is room for. Returns the error then, and where the rest begins.
    fn append(&mut self, lines: &[u8]) -> Result<(), (io::Error, usize)> {
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => return Err((io::ErrorKind::WriteZero.into(), self.take_back(lines, written))),
                Ok(count) => written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err((error, self.take_back(lines, written))),
            }
        }
        Ok(())
    }

    /// Takes a part of a line off the end of the file again, unless another process has written behind it. Returns where
    /// the line begins.
    fn take_back(&mut self, lines: &[u8], written: usize) -> usize {
        let whole = lines[..written].iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let length = self.file.metadata().map(|it| it.len());
        if let (Ok(end), Ok(length)) = (self.file.stream_position(), length)
            && end == length
        {
            // Should it not be possible, a torn line stays.
            let _ = self.file.set_len(end.saturating_sub((written - whole) as u64));
        }
        whole
    }

    /// Whether the path still names the file that is open.
    fn is_at_its_place(&self) -> bool {
        let which = |it: Metadata| (it.dev(), it.ino());
        let (now, open) = (self.path.symlink_metadata().map(which), self.file.metadata().map(which));
        matches!((now, open), (Ok(now), Ok(open)) if now == open)
    }
}
