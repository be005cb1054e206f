//! What is said to a server, and what it has to answer, step by step.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::matcher::Matcher;
use super::quoted::quoted;
use super::{Answer, Verdict};
use crate::config::Step;

/// The longest answer that is looked through, from one step that sends something to the next.
const MAX_ANSWER: usize = 16 * 1024;

/// The steps, ready to be gone through.
#[derive(Debug, Clone)]
pub(in crate::checker) struct Conversation(Vec<Prepared>);

#[derive(Debug, Clone)]
enum Prepared {
    Send(Vec<u8>),
    Expect(Matcher),
}

/// How far a conversation has come.
#[derive(Debug, Default)]
pub(in crate::checker) struct Progress {
    /// Whether a server was there to talk to.
    pub began: bool,
    /// What is being waited for, in words.
    wanted: String,
    /// The number of the step that is being taken.
    step: usize,
    /// What has come since something was last sent.
    heard: Vec<u8>,
}

impl Conversation {
    /// # Errors
    /// One line that says what is wrong with a regular expression, which the daemon has checked.
    pub(in crate::checker) fn new(steps: &[Step]) -> Result<Conversation, String> {
        let prepared = |step: &Step| match step {
            Step::Send(bytes) => Ok(Prepared::Send(bytes.clone())),
            Step::Expect(pattern) => Matcher::new(pattern).map(Prepared::Expect),
        };
        steps.iter().map(prepared).collect::<Result<_, _>>().map(Conversation)
    }

    /// Whether nothing is said.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if a server that says no more has said all that is expected, and nothing is left to be sent.
    pub(super) fn is_satisfied_by(&self, progress: &Progress) -> bool {
        let is_there = |step: &Prepared| matches!(step, Prepared::Expect(matcher) if matcher.is_in(&progress.heard));
        progress.began && self.0.get(progress.step..).is_some_and(|steps| steps.iter().all(is_there))
    }

    /// Goes through all steps. What has come is looked through again by each `expect` until something is sent.
    ///
    /// # Errors
    /// Those of the connection, where the server has not answered anything.
    pub(in crate::checker) async fn hold<S: AsyncRead + AsyncWrite + Unpin>(
        &self,
        stream: &mut S,
        progress: &mut Progress,
    ) -> io::Result<Answer> {
        progress.began = true;
        let (mut sent, mut was_sent) = (Ok(()), false);
        for (number, step) in self.0.iter().enumerate() {
            progress.step = number;
            match step {
                Prepared::Send(bytes) => {
                    if !was_sent {
                        progress.heard.clear();
                    }
                    // Some servers say why they refuse a client, and are gone before they have heard anything.
                    if sent.is_ok() {
                        sent = stream.write_all(bytes).await;
                    }
                    if sent.is_ok() {
                        sent = stream.flush().await;
                    }
                    was_sent = true;
                }
                Prepared::Expect(matcher) => {
                    was_sent = false;
                    progress.wanted.clone_from(&matcher.wanted);
                    if let Some(answer) = expect(matcher, stream, progress, &mut sent).await? {
                        return Ok(answer);
                    }
                }
            }
        }
        sent.map(|()| Answer::new(Verdict::Ready, ""))
    }
}

/// Reads until a step's answer is there. Otherwise, returns what to think of that.
async fn expect<S: AsyncRead + Unpin>(
    matcher: &Matcher,
    stream: &mut S,
    progress: &mut Progress,
    sent: &mut io::Result<()>,
) -> io::Result<Option<Answer>> {
    while !matcher.is_in_part(&progress.heard) {
        if progress.heard.len() >= MAX_ANSWER {
            let (wanted, heard) = (&matcher.wanted, quoted(&progress.heard));
            let reason = format!("expected {wanted}, not in the first {MAX_ANSWER} bytes: {heard}");
            return Ok(Some(Answer::new(Verdict::Down, reason)));
        }
        let mut limited = (&mut *stream).take((MAX_ANSWER - progress.heard.len()) as u64);
        let ended = match limited.read_buf(&mut progress.heard).await {
            Ok(0) => io::Error::new(io::ErrorKind::UnexpectedEof, progress.missing("and the connection was closed")),
            Ok(_) => continue,
            Err(error) => error,
        };
        return match progress.contradiction() {
            // This is the whole of it.
            _ if matcher.is_in(&progress.heard) => Ok(None),
            Some(answer) => Ok(Some(answer)),
            None => Err(std::mem::replace(sent, Ok(())).err().unwrap_or(ended)),
        };
    }
    Ok(None)
}

impl Progress {
    /// What to think of a server that has answered, but not as it should, and says no more.
    pub(in crate::checker) fn contradiction(&self) -> Option<Answer> {
        let heard = Some(quoted(&self.heard)).filter(|_| !self.heard.is_empty())?;
        Some(Answer::new(Verdict::Down, format!("expected {}, got {heard}", self.wanted)))
    }

    /// That nothing has come, and why.
    pub(in crate::checker) fn missing(&self, why: &str) -> String {
        match &*self.wanted {
            "" => why.to_owned(),
            wanted => format!("expected {wanted}, {why}"),
        }
    }
}
