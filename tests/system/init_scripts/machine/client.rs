//! A client of the glbd on a machine.

use std::io::{PipeWriter, Write, pipe};
use std::process::Stdio;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;

use super::{Background, Machine};
use crate::harness::PATIENCE;

/// A client on the machine, connected through glbd to a server of [`Machine::serve`].
pub struct Client {
    process: Background,
    input: PipeWriter,
    lines: Receiver<String>,
    server: String,
}

impl Client {
    pub(super) fn connect(machine: &Machine) -> Option<Self> {
        let (reader, input) = pipe().expect("a pipe");
        let mut command = machine.command(&["busybox", "nc", "127.0.0.1", "8010"]);
        command.stdin(reader).stderr(Stdio::null());
        let mut process = Background::start(command);
        let output = process.lines();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.map_while(Result::ok) {
                // A test that is over listens no more.
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut client = Self { process, input, lines, server: String::new() };
        client.server = client.next_line()?;
        Some(client)
    }

    /// The name of the server it got.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether a line still comes back from the server.
    pub fn is_served(&mut self) -> bool {
        // A connection that is closed may refuse the line, or take it and end.
        writeln!(self.input, "hello").is_ok() && self.next_line().as_deref() == Some("hello")
    }

    /// Waits until glbd closes the connection.
    pub fn wait_until_closed(&mut self) {
        assert_eq!(self.next_line(), None, "a line from {}", self.server);
        self.process.wait();
    }

    /// The next line from the server; `None` if the connection is closed instead.
    fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor an end in {PATIENCE:?}"),
        }
    }
}
