//! Programs that answer for a destination, in GLB's protocol: they read `poll` and answer a line, until they read `quit`.

mod script;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::{Answer, Asking, Probe};
use crate::table::health::Verdict;
use script::Script;
pub use script::{are_any_ending, mark, take_mark};

/// The pause before a script is started again that never answered; it doubles up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Most members that are heard of.
const MAX_MEMBERS: usize = 128;
/// How much of what makes no sense is repeated.
const QUOTED: usize = 60;

/// Asks by a script of its own.
pub(super) struct Exec {
    address: SocketAddr,
    command: String,
    script: Option<Script>,
    /// How long scripts last were kept from being started; zero once one has answered.
    pause: Duration,
    /// Until when, and why.
    paused: Option<(Instant, String)>,
}

impl Exec {
    /// The destination's address stands behind the first word of `command`.
    pub(super) fn new(command: &str, address: SocketAddr) -> Exec {
        let (program, rest) = command.split_at(command.find(char::is_whitespace).unwrap_or(command.len()));
        let command = format!("{program} {address}{rest}");
        Exec { address, command, script: None, pause: Duration::ZERO, paused: None }
    }

    async fn ask_once(&mut self) -> io::Result<Answer> {
        // One that is dropped in the middle of an answer is not asked again.
        let mut script = match self.script.take() {
            Some(script) => script,
            None => self.start()?,
        };
        match script.ask().await.and_then(|line| parse(&line)) {
            Ok(answer) => {
                script.has_answered = true;
                (self.script, self.pause) = (Some(script), Duration::ZERO);
                Ok(answer)
            }
            Err(error) => {
                self.failed(script.has_answered, &error.to_string());
                Err(error)
            }
        }
    }

    fn start(&mut self) -> io::Result<Script> {
        if let Some((until, why)) = &self.paused {
            let left = until.saturating_duration_since(Instant::now());
            if !left.is_zero() {
                let seconds = left.as_secs_f64().ceil();
                return Err(io::Error::other(format!("{why}; the script is started again in {seconds} s")));
            }
        }
        self.paused = None;
        Script::start(&self.command, self.address)
    }

    /// A script that answered is replaced at once, one that did not after a while.
    fn failed(&mut self, had_answered: bool, why: &str) {
        if !had_answered {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
            self.paused = Some((Instant::now() + self.pause, why.to_owned()));
        }
    }
}

impl Probe for Exec {
    fn ask(&mut self) -> Asking<'_> {
        Box::pin(async {
            let kept = self.script.is_some();
            match self.ask_once().await {
                // Some scripts end after each answer.
                Err(error) if kept && error.kind() == io::ErrorKind::UnexpectedEof => self.ask_once().await,
                result => result,
            }
        })
    }

    fn give_up(&mut self) {
        self.failed(false, "it did not answer in time");
    }
}

/// Reads `STATE [MEMBERS]`.
fn parse(line: &[u8]) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(line);
    let mut words = text.split_whitespace();
    let mut answer = match words.next() {
        Some("0") => Answer { absent: true, ..Answer::new(Verdict::Down, "the script says 0 (not found)") },
        Some("1") => Answer::new(Verdict::Down, "the script says 1 (not ready)"),
        Some("2") => Answer::new(Verdict::Avoid, "the script says 2 (avoid)"),
        Some("3") => Answer::new(Verdict::Ready, ""),
        _ => return Err(nonsense(&text)),
    };
    let members = words.flat_map(|word| word.split(',')).filter(|member| !member.is_empty());
    answer.members = members.take(MAX_MEMBERS).map(str::to_owned).collect();
    Ok(answer)
}

fn nonsense(text: &str) -> io::Error {
    let quoted: String = text.trim().chars().take(QUOTED).map(|c| if c.is_control() { '?' } else { c }).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("the script answers '{quoted}', not a state from 0 to 3"))
}
