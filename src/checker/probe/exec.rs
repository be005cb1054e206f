//! Programs that answer for a destination, in GLB's protocol: they read `poll` and answer a line, until they read `quit`.

mod script;
#[cfg(test)]
mod tests;

use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::{Answer, Asking, Probe};
use crate::address::PeerAddress;
use crate::pool::health::Verdict;
use script::Script;
pub(in crate::checker) use script::{are_any_ending, log_to, warn};
pub use script::{mark, take_mark};

/// The pause before a script is started again that never answered; it doubles up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// Most members that are heard of.
const MAX_MEMBERS: usize = 128;
/// The longest reason that is passed on, in characters.
const MAX_REASON: usize = 200;
/// How much of what makes no sense is repeated.
const QUOTED: usize = 60;

/// Asks by a script of its own.
pub(super) struct Exec {
    address: PeerAddress,
    command: String,
    script: Option<Script>,
    /// How long scripts last were kept from being started; zero once one has answered.
    pause: Duration,
    paused_until: Option<Instant>,
    /// Whether the script that was started last has ever answered as it should.
    has_answered: bool,
}

impl Exec {
    /// The destination's address stands behind the first word of `command`.
    pub(super) fn new(command: &str, address: PeerAddress) -> Exec {
        let (program, rest) = command.split_at(command.find(char::is_whitespace).unwrap_or(command.len()));
        let command = format!("{program} {address}{rest}");
        Exec { address, command, script: None, pause: Duration::ZERO, paused_until: None, has_answered: false }
    }

    async fn ask_once(&mut self) -> io::Result<Answer> {
        // One that is dropped in the middle of an answer is not asked again.
        let mut script = match self.script.take() {
            Some(script) => script,
            None => {
                self.has_answered = false;
                Script::start(&self.command, self.address)?
            }
        };
        match script.ask().await.and_then(|line| parse(&line)) {
            Ok(answer) => {
                (self.script, self.has_answered, self.pause) = (Some(script), true, Duration::ZERO);
                Ok(answer)
            }
            Err(error) => {
                self.failed();
                Err(error)
            }
        }
    }

    /// A script that answered is replaced at once, one that did not after a while.
    fn failed(&mut self) {
        if !self.has_answered {
            self.pause = (self.pause * 2).clamp(PAUSE.0, PAUSE.1);
            self.paused_until = Some(Instant::now() + self.pause);
        }
    }
}

impl Probe for Exec {
    fn ask(&mut self, _fresh: bool) -> Asking<'_> {
        Box::pin(async {
            let kept = self.script.is_some();
            match self.ask_once().await {
                // Some scripts end after each answer.
                Err(error) if kept && error.kind() == io::ErrorKind::UnexpectedEof => self.ask_once().await,
                result => result,
            }
        })
    }

    fn may_ask(&self) -> bool {
        self.paused_until.is_none_or(|until| until <= Instant::now())
    }

    fn give_up(&mut self) {
        self.failed();
    }
}

/// Reads `STATE [MEMBERS] [REASON]`. `-` stands for no members.
///
/// # Errors
/// `InvalidData` if there is no state.
pub(in crate::checker) fn parse(line: &[u8]) -> io::Result<Answer> {
    let text = String::from_utf8_lossy(line);
    let (state, mut rest) = split_word(&text);
    let mut answer = match state {
        "0" => Answer { absent: true, ..Answer::new(Verdict::Down, "the script says 0 (not found)") },
        "1" => Answer::new(Verdict::Down, "the script says 1 (not ready)"),
        "2" => Answer::new(Verdict::Avoid, "the script says 2 (avoid)"),
        "3" => Answer::new(Verdict::Ready, ""),
        _ => return Err(nonsense(&text)),
    };
    let mut members = Vec::new();
    loop {
        let (word, behind) = split_word(rest);
        match word {
            "-" => {
                rest = behind;
                break;
            }
            word if names_members(word) => members.extend(word.split(',').filter(|member| !member.is_empty())),
            _ => break,
        }
        rest = behind;
    }
    answer.members = members.into_iter().take(MAX_MEMBERS).map(str::to_owned).collect();
    if !rest.is_empty() {
        answer.reason = rest.chars().take(MAX_REASON).map(|c| if c.is_control() { '?' } else { c }).collect();
    }
    Ok(answer)
}

/// The first word, and what is behind it.
fn split_word(text: &str) -> (&str, &str) {
    let text = text.trim();
    let (word, rest) = text.split_at(text.find(char::is_whitespace).unwrap_or(text.len()));
    (word, rest.trim_start())
}

/// Whether a word is a list of addresses, rather than the first word of a reason: one of them has a port or is an IP
/// address, and no other looks like anything but a host.
fn names_members(word: &str) -> bool {
    let is_host = |it: &str| it.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._:[]".contains(&byte));
    let has_port =
        |it: &str| it.rsplit_once(':').is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
    let is_address = |it: &str| has_port(it) || it.parse::<IpAddr>().is_ok();
    // A list of members without addresses, as that of a cluster of one that does not know its own.
    let is_empty_list = word.bytes().all(|byte| byte == b',');
    is_empty_list && !word.is_empty() || word.split(',').all(is_host) && word.split(',').any(is_address)
}

fn nonsense(text: &str) -> io::Error {
    let quoted: String = text.trim().chars().take(QUOTED).map(|c| if c.is_control() { '?' } else { c }).collect();
    io::Error::new(io::ErrorKind::InvalidData, format!("the script answers '{quoted}', not a state from 0 to 3"))
}
