//! The daemon's log.

use std::io::{BufRead, BufReader};
use std::process::ChildStderr;
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// What the daemon writes to stderr, read as it comes so that the pipe never fills.
pub struct Log {
    text: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Log {
    /// Starts to read.
    pub fn follow(stderr: ChildStderr) -> Self {
        let text = Arc::new(Mutex::new(String::new()));
        let reader = thread::spawn({
            let text = Arc::clone(&text);
            move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    text.lock().expect("the log").extend([&line, "\n"]);
                }
            }
        });
        Self { text, reader }
    }

    /// Everything written so far.
    pub fn text(&self) -> String {
        self.text.lock().expect("the log").clone()
    }

    /// Whether it was written already.
    pub fn contains(&self, text: &str) -> bool {
        self.text().contains(text)
    }

    /// Gives the reader time for the rest after the daemon's end. A process that the daemon left behind may hold the
    /// pipe open, hence not for ever.
    pub fn end(&self) {
        let deadline = Instant::now() + Duration::from_secs(1);
        while !self.reader.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}
