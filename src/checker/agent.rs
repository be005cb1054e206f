//! Asks agents: programs beside the destinations, each of which says in a line how its destination is, in the words of
//! HAProxy's `agent-check`.

use std::io;
use std::rc::Rc;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::timeout;

use super::probe::{at_port, connect, quoted};
use super::protocol::{AgentHealth, AgentWord, Id, Report, cut};
use super::task::{PoolChecks, guarded};
use crate::address::PeerAddress;
use crate::config::{AgentOptions, AgentPlace, DESTINATION};
use crate::pool::AgentMode;

/// The longest line that is read.
const MAX_LINE: usize = 512;
/// More than any weight that makes sense.
const MAX_PERCENT: u16 = 25_600;

/// One destination's task: asks its agent whenever the daemon asks for it, until the daemon forgets the destination.
pub(super) async fn ask_when_asked(
    pool: Rc<PoolChecks>,
    options: AgentOptions,
    id: Id,
    address: PeerAddress,
    mut asked: UnboundedReceiver<()>,
) {
    while asked.recv().await.is_some() {
        let asking = timeout(pool.timeout, guarded(Box::pin(ask(address, &pool, &options))));
        let result = tokio::select! {
            biased;
            result = asking => result,
            // What is asked for meanwhile is what is under way.
            () = async { while asked.recv().await.is_some() {} } => return,
        };
        let word = match result {
            Ok(Some(Ok(word))) => Ok(word),
            Ok(Some(Err(error))) => Err(cut(&error.to_string())),
            Ok(None) => Err("the question has met a defect of glbd's".to_owned()),
            Err(_) => Err(format!("no answer within {} s", pool.timeout.as_secs_f64())),
        };
        // The receiver lives as long as the process.
        let _ = pool.common.reports.send(Report::Agent { id, address, word });
    }
}

/// Asks the agent of a destination once.
async fn ask(destination: PeerAddress, pool: &PoolChecks, options: &AgentOptions) -> io::Result<AgentWord> {
    let agent = match &options.place {
        AgentPlace::Beside(port) => at_port(destination, Some(*port)),
        AgentPlace::At(endpoint) => pool.address_of(endpoint).await,
    };
    let mut stream = connect(agent).await?;
    let send = replaced(&options.send, DESTINATION.as_bytes(), destination.to_string().as_bytes());
    // Some answer without having read anything, and are gone by now.
    let sent = stream.write_all(&send).await;
    match read_line(&mut stream).await {
        Ok(line) => parse(&line),
        Err(error) => Err(sent.err().unwrap_or(error)),
    }
}

/// A text with `by` in the place of each `word`.
fn replaced(text: &[u8], word: &[u8], by: &[u8]) -> Vec<u8> {
    let (mut done, mut rest) = (Vec::new(), text);
    while let Some(place) = rest.windows(word.len()).position(|it| it == word) {
        done.extend_from_slice(&rest[..place]);
        done.extend_from_slice(by);
        rest = &rest[place + word.len()..];
    }
    done.extend_from_slice(rest);
    done
}

/// Reads a line, or what there is until the connection ends.
async fn read_line<S: AsyncRead + Unpin>(stream: &mut S) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        if let Some(end) = line.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
            line.truncate(end);
            return Ok(line);
        }
        if line.len() >= MAX_LINE {
            let reason = format!("its line has more than {MAX_LINE} bytes: {}", quoted(&line));
            return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
        }
        if (&mut *stream).take((MAX_LINE - line.len()) as u64).read_buf(&mut line).await? == 0 {
            return Ok(line);
        }
    }
}

/// Reads words, separated by blanks, tabs and commas, and behind a `#` a reason. Words that are not known are passed over, as
/// HAProxy does.
///
/// # Errors
/// `InvalidData` if there is nothing at all.
pub(super) fn parse(line: &[u8]) -> io::Result<AgentWord> {
    let text = String::from_utf8_lossy(line);
    let (words, comment) = text.split_once('#').unwrap_or((&text, ""));
    let comment = comment.trim();
    let mut said = AgentWord { comment: cut(comment), ..AgentWord::default() };
    let mut is_empty = true;
    for word in words.split([' ', '\t', ',']).filter(|word| !word.is_empty()) {
        is_empty = false;
        let word = word.to_ascii_lowercase();
        match word.as_str() {
            "up" => said.health = Some(AgentHealth::Up),
            "down" | "stopped" | "fail" => {
                let words = if comment.is_empty() { word } else { format!("{word}: {comment}") };
                said.health = Some(AgentHealth::Down(cut(&words)));
            }
            "ready" => said.mode = Some(AgentMode::Ready),
            "drain" => said.mode = Some(AgentMode::Drain),
            "maint" => said.mode = Some(AgentMode::Maint),
            _ => {
                said.percent = percent(&word).or(said.percent);
                said.max_connections = max_connections(&word).or(said.max_connections);
            }
        }
    }
    if is_empty { Err(io::Error::new(io::ErrorKind::InvalidData, "it says nothing")) } else { Ok(said) }
}

fn percent(word: &str) -> Option<u16> {
    let digits = word.strip_suffix('%').filter(|digits| !digits.is_empty())?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    // One that is too long for a number is the largest.
    are_digits.then(|| digits.parse().map_or(MAX_PERCENT, |percent: u16| percent.min(MAX_PERCENT)))
}

/// Reads `maxconn:N`. One that is too long for a number is the largest.
fn max_connections(word: &str) -> Option<u32> {
    let digits = word.strip_prefix("maxconn:").filter(|digits| !digits.is_empty())?;
    let are_digits = digits.bytes().all(|byte| byte.is_ascii_digit());
    are_digits.then(|| digits.parse().unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn said(line: &str) -> AgentWord {
        parse(line.as_bytes()).expect("it says something")
    }

    #[test]
    fn words_are_understood_in_any_order_and_case_and_others_are_passed_over() {
        let nothing = AgentWord::default();
        let down = |words: &str| Some(AgentHealth::Down(words.to_owned()));
        for (line, expected) in [
            ("up", AgentWord { health: Some(AgentHealth::Up), ..nothing.clone() }),
            ("  UP\t", AgentWord { health: Some(AgentHealth::Up), ..nothing.clone() }),
            ("fail", AgentWord { health: down("fail"), ..nothing.clone() }),
            ("75%", AgentWord { percent: Some(75), ..nothing.clone() }),
            ("99999999999%", AgentWord { percent: Some(MAX_PERCENT), ..nothing.clone() }),
            ("drain 0%", AgentWord { mode: Some(AgentMode::Drain), percent: Some(0), ..nothing.clone() }),
            ("maxconn:20", AgentWord { max_connections: Some(20), ..nothing.clone() }),
            ("MaxConn:0,7%", AgentWord { max_connections: Some(0), percent: Some(7), ..nothing.clone() }),
            ("maxconn:99999999999", AgentWord { max_connections: Some(u32::MAX), ..nothing.clone() }),
            ("maxconn: 20 maxconn:-1 maxconn:+1 maxconn:1k hello 5 % -1% +1%", nothing.clone()),
            (
                "ready,up,50%\t",
                AgentWord {
                    health: Some(AgentHealth::Up),
                    mode: Some(AgentMode::Ready),
                    percent: Some(50),
                    ..nothing.clone()
                },
            ),
            (
                "down 7% # disk: 99% full, up soon",
                AgentWord {
                    health: down("down: disk: 99% full, up soon"),
                    percent: Some(7),
                    comment: "disk: 99% full, up soon".to_owned(),
                    ..nothing.clone()
                },
            ),
            ("maint#", AgentWord { mode: Some(AgentMode::Maint), ..nothing.clone() }),
        ] {
            assert_eq!(said(line), expected, "{line}");
        }
        for line in ["", "  ,", "# only a comment"] {
            assert!(parse(line.as_bytes()).is_err(), "{line}");
        }
    }

    #[test]
    fn a_word_is_replaced_wherever_it_stands() {
        for (text, expected) in [("", ""), ("ab", "ab"), ("{d}", "1"), ("{{d}}{d} x{d", "{1}1 x{d"), ("{d}", "1")] {
            assert_eq!(replaced(text.as_bytes(), b"{d}", b"1"), expected.as_bytes(), "{text}");
        }
    }

    /// What is read of a connection that ends.
    fn line(bytes: &[u8]) -> Result<Vec<u8>, String> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(read_line(&mut &*bytes)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_line_ends_where_it_does_and_is_not_endless() {
        for (bytes, expected) in [("up\ndown", "up"), ("up\r\n", "up"), ("up", "up"), ("", ""), ("\nup", "")] {
            assert_eq!(line(bytes.as_bytes()), Ok(expected.into()), "{bytes:?}");
        }
        assert!(line(&[b'x'; MAX_LINE]).is_err_and(|error| error.starts_with("its line has more than 512 bytes")));
        let longest = [&[b'x'; MAX_LINE - 1][..], b"\n"].concat();
        assert_eq!(line(&longest).map(|line| line.len()), Ok(MAX_LINE - 1));
    }

    proptest! {
        #[test]
        fn whatever_an_agent_says_is_within_bounds(bytes: Vec<u8>, text in "(up|down|maxconn:|[0-9]{1,9}|%|#|,| |\\PC){0,20}") {
            for line in [&bytes[..], text.as_bytes()] {
                let Ok(word) = parse(line) else { continue };
                prop_assert!(word.percent.is_none_or(|percent| percent <= MAX_PERCENT));
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into();
                let report = Report::Agent { id: Id { pool: 0, serial: 0 }, address, word: Ok(word) };
                prop_assert!(report.is_within_bounds());
            }
        }
    }
}
