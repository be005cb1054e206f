//! One client of a control socket.
//!
//! Most are a netcat with one command, which neither half-closes nor ends by itself: so the daemon ends the
//! conversation, as soon as everything that came is answered and the client has half-closed or fallen silent.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use super::COMMANDS_A_TURN;
use super::command::{is_text, looks_like_http};
use super::executor::Reply;
use super::lines::{Lines, MAX_LINE, TooLong};
use super::listeners::Caller;
use super::stream::{ControlStream, Peer};
use crate::log::events;

/// How long a client may take over its first command.
const FIRST_COMMAND: Duration = Duration::from_secs(30);
/// How long a client that has said something may be silent.
const SILENCE: Duration = Duration::from_millis(200);
/// The same for one at a prompt.
const SILENCE_AT_PROMPT: Duration = Duration::from_secs(600);
/// How long a line may take to come whole, but for a person's at a prompt.
const LINE: Duration = Duration::from_secs(5);
/// How long a client may take no part of an answer that waits for it.
const STALL: Duration = Duration::from_secs(5);
/// How long to wait, once everything is answered, for the client to close.
const LINGER: Duration = Duration::from_secs(1);
/// No further command is obeyed while more than this waits to be sent.
const MAX_UNSENT: usize = 64 * 1024;
/// Most commands in one conversation: enough to fill a table, and an end to a flood.
const MAX_COMMANDS: usize = 20_000;
/// Reads before other clients get their turn.
const READS_A_TURN: usize = 16;
const PROMPT: &str = "> ";

/// What is to become of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing until the next event, answer or deadline.
    Wait,
    /// There is more to do, once others had their turn.
    Again,
    /// It is over.
    Close,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// No complete line has come.
    Opened,
    /// Commands come, and the conversation ends when they cease.
    Commands,
    /// Commands come from a person.
    AtPrompt,
    /// The answer comes later: a name is being resolved, or the single destination moved. `bool`: at a prompt.
    Waiting(bool),
    /// Events are sent as they happen, from this one on, in JSON or not.
    Watching { next: u64, json: bool },
    /// Nothing more is obeyed; what is left of the answers is sent, and the client's end awaited.
    Ending,
}

/// A client, its commands and its answers.
pub(super) struct Conversation {
    stream: ControlStream,
    pub peer: Peer,
    /// It may change nothing.
    pub read_only: bool,
    pub generation: u64,
    stage: Stage,
    lines: Lines,
    readable: bool,
    half_closed: bool,
    unsent: Vec<u8>,
    /// Commands obeyed so far.
    commands: usize,
    /// Whether the sending side has been shut down.
    shut: bool,
    /// When something last came or went: by a clock that is read then, since a command before it may have waited for a
    /// slow disk, and that wait is not the client's silence.
    last_active: Instant,
    /// When the conversation began, or a command last came whole.
    last_command: Instant,
    /// When the line began to come that is not whole yet.
    line_begun: Instant,
    /// When something last went, or began to wait to be sent.
    last_sent: Instant,
}

impl Conversation {
    pub(super) fn new(Caller { stream, peer, read_only }: Caller, generation: u64) -> Conversation {
        let now = Instant::now();
        Conversation {
            stream,
            peer,
            read_only,
            generation,
            stage: Stage::Opened,
            lines: Lines::default(),
            readable: true,
            half_closed: false,
            unsent: Vec::new(),
            commands: 0,
            shut: false,
            last_active: now,
            last_command: now,
            line_begun: now,
            last_sent: now,
        }
    }

    pub(super) fn is_readable(&mut self) {
        self.readable = true;
    }

    /// Since when it has said nothing whole, nor taken anything of an answer that waits for it, if that is a while ago:
    /// then it can be closed when there are too many. `None` while its command is being carried out.
    pub(super) fn idle_since(&self, now: Instant) -> Option<Instant> {
        let since = if self.unsent.is_empty() { self.last_command } else { self.last_command.max(self.last_sent) };
        let is_idle = now.saturating_duration_since(since) >= SILENCE && !matches!(self.stage, Stage::Waiting(_));
        is_idle.then_some(since)
    }

    /// When [`on_deadline`](Conversation::on_deadline) is to be called.
    pub(super) fn deadline(&self) -> Option<Instant> {
        if !self.unsent.is_empty() {
            return Some(self.last_sent + STALL);
        }
        let patience = match self.stage {
            Stage::Opened if self.lines.is_empty() => FIRST_COMMAND,
            Stage::Opened | Stage::Commands if self.lines.is_empty() => SILENCE,
            Stage::Opened | Stage::Commands => return Some((self.last_active + SILENCE).min(self.line_begun + LINE)),
            Stage::AtPrompt => SILENCE_AT_PROMPT,
            Stage::Waiting(_) | Stage::Watching { .. } => return None,
            Stage::Ending => LINGER,
        };
        Some(self.last_active + patience)
    }

    /// Reads, obeys and answers as much as can be. `execute` carries out a line.
    pub(super) fn go_on(&mut self, mut execute: impl FnMut(&str) -> Reply) -> Next {
        for _ in 0..COMMANDS_A_TURN {
            if self.read().is_err() {
                return Next::Close;
            }
            if self.unsent.len() >= MAX_UNSENT {
                match self.send() {
                    Ok(()) if self.unsent.len() < MAX_UNSENT => {}
                    Ok(()) => return Next::Wait,
                    Err(_) => return Next::Close,
                }
            }
            let line = match self.next_line() {
                Ok(Some(line)) => line,
                Ok(None) => return self.after_commands(&mut execute),
                Err(_) => return Next::Close,
            };
            if self.obey(&line, &mut execute) == Next::Close {
                return Next::Close;
            }
        }
        match self.send() {
            Ok(()) => Next::Again,
            Err(_) => Next::Close,
        }
    }

    /// Whether it is sent events as they happen.
    pub(super) fn watches(&self) -> bool {
        matches!(self.stage, Stage::Watching { .. })
    }

    /// Sends what has happened, as far as the client takes it: what does not fit is missed, and it is told so.
    fn send_events(&mut self) {
        let Stage::Watching { next, json } = self.stage else { return };
        if self.unsent.len() >= MAX_UNSENT {
            return;
        }
        let (found, missed) = events::from(next);
        if missed > 0 {
            self.answer(&super::events::missed_line(missed, json));
        }
        for event in &found {
            self.answer(&super::events::line(event, json));
        }
        if let Some(last) = found.last() {
            self.stage = Stage::Watching { next: last.number + 1, json };
        }
    }

    /// Everything that can be obeyed now has been.
    fn after_commands(&mut self, execute: &mut impl FnMut(&str) -> Reply) -> Next {
        if self.half_closed && self.takes_commands() {
            return self.end(execute);
        }
        self.send_events();
        self.finish_sending()
    }

    fn finish_sending(&mut self) -> Next {
        if self.send().is_err() || (self.stage == Stage::Ending && self.half_closed && self.unsent.is_empty()) {
            return Next::Close;
        }
        if self.stage == Stage::Ending && self.unsent.is_empty() && !self.shut {
            self.shut = true;
            // One that has gone already needs no end.
            let _ = self.stream.shutdown(Shutdown::Write);
        }
        if self.has_more_to_read() { Next::Again } else { Next::Wait }
    }

    fn takes_commands(&self) -> bool {
        matches!(self.stage, Stage::Opened | Stage::Commands | Stage::AtPrompt)
    }

    fn next_line(&mut self) -> Result<Option<String>, TooLong> {
        if self.takes_commands() { self.lines.next() } else { Ok(None) }
    }

    /// The client has sent its last: what it left without a line's end is a command as well.
    fn end(&mut self, execute: &mut impl FnMut(&str) -> Reply) -> Next {
        if let Some(line) = self.lines.rest()
            && self.obey(&line, execute) == Next::Close
        {
            return Next::Close;
        }
        if !matches!(self.stage, Stage::Waiting(_) | Stage::Watching { .. }) {
            self.begin_to_end();
        }
        self.finish_sending()
    }

    fn begin_to_end(&mut self) {
        self.stage = Stage::Ending;
        self.lines.clear();
    }

    /// Its deadline is over.
    pub(super) fn on_deadline(&mut self, mut execute: impl FnMut(&str) -> Reply) -> Next {
        match self.stage {
            // A command that was cut off could be another one.
            Stage::Opened | Stage::Commands if self.unsent.is_empty() && self.last_active.elapsed() < SILENCE => {
                self.answer(&format!("Error: a line took longer than {} s\n", LINE.as_secs()));
                self.begin_to_end();
                self.finish_sending()
            }
            Stage::Opened | Stage::Commands if self.unsent.is_empty() => self.end(&mut execute),
            _ => Next::Close,
        }
    }

    fn obey(&mut self, line: &str, execute: &mut impl FnMut(&str) -> Reply) -> Next {
        if looks_like_http(line) || !is_text(line) {
            return Next::Close;
        }
        if self.stage == Stage::Opened {
            self.stage = Stage::Commands;
        }
        self.line_begun = Instant::now();
        if !line.is_empty() {
            self.last_command = self.line_begun;
        }
        self.commands += 1;
        if self.commands > MAX_COMMANDS {
            self.answer("Error: too many commands in one conversation\n");
            self.begin_to_end();
            return Next::Wait;
        }
        match execute(line) {
            Reply::Text(text) => self.answer(&text),
            Reply::Later | Reply::Switching => self.stage = Stage::Waiting(self.stage == Stage::AtPrompt),
            Reply::Quit => self.begin_to_end(),
            Reply::Watch(json) => self.stage = Stage::Watching { next: events::next(), json },
            Reply::Prompt => {
                self.stage = Stage::AtPrompt;
                self.answer("");
            }
        }
        Next::Wait
    }

    /// Sends the answer that was waited for.
    pub(super) fn answer_late(&mut self, text: &str) {
        let Stage::Waiting(at_prompt) = self.stage else { return };
        self.stage = if at_prompt { Stage::AtPrompt } else { Stage::Commands };
        self.last_active = Instant::now();
        self.answer(text);
    }

    fn answer(&mut self, text: &str) {
        if self.unsent.is_empty() {
            self.last_sent = Instant::now();
        }
        self.unsent.extend_from_slice(text.as_bytes());
        if self.stage == Stage::AtPrompt {
            self.unsent.extend_from_slice(PROMPT.as_bytes());
        }
    }

    /// Reads until nothing is left, there is enough to do, or others should have their turn.
    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; MAX_LINE];
        for _ in 0..READS_A_TURN {
            if !self.has_more_to_read() {
                break;
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.half_closed = true,
                // What comes after the end is read only to see the client close.
                Ok(_) if self.stage == Stage::Ending => {}
                Ok(count) => {
                    self.last_active = Instant::now();
                    if self.lines.is_empty() {
                        self.line_begun = self.last_active;
                    }
                    self.lines.feed(&buffer[..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.readable = false,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn has_more_to_read(&self) -> bool {
        self.readable && !self.half_closed && !self.lines.is_full()
    }

    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.stream.write(&self.unsent) {
                Ok(count) => {
                    self.unsent.drain(..count);
                    self.last_sent = Instant::now();
                    self.last_active = self.last_sent;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
