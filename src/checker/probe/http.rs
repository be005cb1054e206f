//! Whether an HTTP server, such as clustercheck, says that a destination is fit.

mod answer;
mod request;
#[cfg(test)]
mod tests;

use tokio::io::AsyncWriteExt;

use super::dialer::Dialer;
use super::matcher::Matcher;
use super::quoted::quoted;
use super::stream::at_port;
use super::{Answer, Asking, Probe};
use crate::address::PeerAddress;
use crate::config::{HttpContent, HttpOptions, Pattern, Statuses};
use crate::pool::health::Verdict;
pub(in crate::checker) use answer::{HttpAnswer, read_answer};

/// As much of a body is looked through.
const MAX_SEARCHED: usize = 64 * 1024;

/// Asks for a page, and judges by the answer.
pub(super) struct Http {
    server: PeerAddress,
    request: Vec<u8>,
    expected: Expected,
    dialer: Dialer,
}

/// What to think of an answer.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    statuses: Statuses,
    wanted: Content,
    unwanted: Content,
    /// An answer to this request has no body.
    is_head: bool,
}

/// What an answer is searched for.
#[derive(Debug, Clone)]
struct Content {
    /// Names, and what their values contain; `None`: whatever they are.
    headers: Vec<(String, Option<Matcher>)>,
    body: Vec<Matcher>,
}

impl Http {
    /// Asks at the destination's host, and at its port unless there is another.
    pub(super) fn new(destination: PeerAddress, options: &HttpOptions, expected: Expected, dialer: Dialer) -> Http {
        let server = at_port(destination, options.port);
        Http { server, request: request::text(&options.request, server), expected, dialer }
    }
}

impl Probe for Http {
    fn is_waited_for(&self) -> bool {
        true
    }

    fn ask(&mut self, _fresh: bool) -> Asking<'_> {
        Box::pin(async {
            let mut stream = self.dialer.connect(self.server).await?;
            // Some answer without having read anything, and are gone by now.
            let asked = async {
                stream.write_all(&self.request).await?;
                stream.flush().await
            };
            let asked = asked.await;
            match read_answer(&mut stream, !self.expected.is_head, self.expected.searched()).await {
                Ok(answer) => Ok(self.expected.judge(&answer)),
                Err(error) => Err(asked.err().unwrap_or(error)),
            }
        })
    }
}

impl Expected {
    /// # Errors
    /// One line that says what is wrong with a regular expression, which the daemon has checked.
    pub(super) fn new(options: &HttpOptions) -> Result<Expected, String> {
        let (wanted, unwanted) = (Content::new(&options.expected)?, Content::new(&options.unexpected)?);
        let is_head = options.request.method == "HEAD";
        Ok(Expected { statuses: options.statuses.clone(), wanted, unwanted, is_head })
    }

    /// How much of a body there is a use for.
    fn searched(&self) -> usize {
        if self.wanted.body.is_empty() && self.unwanted.body.is_empty() { 0 } else { MAX_SEARCHED }
    }

    fn judge(&self, answer: &HttpAnswer) -> Answer {
        let reason = format!("HTTP status {}", answer.status);
        let verdict = self.statuses.verdict(answer.status);
        let fault = self.wanted.missing(answer).or_else(|| self.unwanted.found(answer));
        match fault.filter(|_| verdict > Verdict::Down) {
            Some(fault) => Answer::new(Verdict::Down, format!("{reason}, {fault}")),
            None if verdict == Verdict::Ready => Answer::new(verdict, ""),
            None => Answer::new(verdict, reason),
        }
    }
}

impl Content {
    /// # Errors
    /// The same.
    fn new(content: &HttpContent) -> Result<Content, String> {
        let mut headers = Vec::new();
        for header in &content.headers {
            let value = Some(&header.value).filter(|value| !value.is_empty());
            let value = value.map(|value| Matcher::new(&Pattern::Text(value.clone()))).transpose()?;
            headers.push((header.name.clone(), value));
        }
        let body = content.body.iter().map(Matcher::new).collect::<Result<_, _>>()?;
        Ok(Content { headers, body })
    }

    /// What of this an answer has, in words.
    fn found(&self, answer: &HttpAnswer) -> Option<String> {
        for (name, matcher) in &self.headers {
            let values = answer.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
            let mut values = values.filter(|(_, value)| matcher.as_ref().is_none_or(|it| it.is_in(value)));
            if let Some((_, value)) = values.next() {
                return Some(format!("unexpected header {name}: {}", quoted(value)));
            }
        }
        let found = self.body.iter().find(|matcher| matcher.is_in(&answer.body))?;
        Some(format!("not expected {}, got {}", found.wanted, quoted(&answer.body)))
    }

    /// What of this an answer does not have, in words.
    fn missing(&self, answer: &HttpAnswer) -> Option<String> {
        for (name, matcher) in &self.headers {
            let mut values = answer.headers.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).peekable();
            let Some((_, first)) = values.peek() else { return Some(format!("no header {name}")) };
            let Some(matcher) = matcher else { continue };
            let first = quoted(first);
            if !values.any(|(_, value)| matcher.is_in(value)) {
                return Some(format!("expected {} in {name}, got {first}", matcher.wanted));
            }
        }
        let missing = self.body.iter().find(|matcher| !matcher.is_in(&answer.body))?;
        Some(format!("expected {}, got {}", missing.wanted, quoted(&answer.body)))
    }
}
