//! `/api/v1/`: what the control port answers in JSON.

use std::net::SocketAddr;
use std::time::Duration;

use hyper::StatusCode;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Shared;
use super::routes::{JSON, Reply, refuse};

/// How long the control thread may take to answer: a writer's sessions may have a minute to end.
const PATIENCE: Duration = Duration::from_secs(90);
/// More than any parameter needs.
const LONGEST_VALUE: usize = 300;
/// What the API is, for programs.
const DESCRIPTION: &str = include_str!("../../docs/openapi.json");

/// Answers a query.
pub(super) async fn answer(shared: &Shared, what: &str, query: &str, peer: Option<SocketAddr>) -> Reply {
    let command = match what {
        "status" => {
            let status = serde_json::to_string(&shared.settings.source.now());
            // Plain data always can be written.
            return (StatusCode::OK, JSON, status.unwrap_or_default().into());
        }
        "samples" => return (StatusCode::OK, JSON, shared.samples.lock().json().into()),
        "openapi.json" => return (StatusCode::OK, JSON, DESCRIPTION.into()),
        "events" => command("getevents", query, &["since", "kind", "limit"], &[]),
        "connections" => {
            command("getconns", query, &["client", "dest", "older", "idle", "sort", "limit"], &["service"])
        }
        "clients" => command("getclients", query, &["client", "dest", "sort", "limit"], &["service"]),
        _ => match what.strip_prefix("history/").map(decoded) {
            Some(Ok(destination)) => Ok(format!("gethistory {destination} json")),
            Some(Err(reason)) => Err(reason),
            None => return refuse(StatusCode::NOT_FOUND, "there is nothing here"),
        },
    };
    let command = match command {
        Ok(command) => command,
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
    };
    match ask(shared, command, peer).await {
        Err(reply) => reply,
        Ok(answer) => match answer.strip_prefix("Error: ") {
            Some(reason) => refuse(StatusCode::BAD_REQUEST, reason.trim()),
            None if what.starts_with("history/") => (StatusCode::OK, JSON, answer.into()),
            // A line is an object.
            None => {
                let all = answer.lines().collect::<Vec<_>>().join(",\n");
                (StatusCode::OK, JSON, format!("[{all}]\n").into())
            }
        },
    }
}

/// Asks the control thread.
///
/// # Errors
/// What to answer when it does not.
pub(super) async fn ask(shared: &Shared, command: String, peer: Option<SocketAddr>) -> Result<String, Reply> {
    let (send, answer) = oneshot::channel();
    let done = Box::new(move |answer| drop(send.send(answer)));
    shared.settings.commands.give(command, peer, done);
    match timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        _ => Err(refuse(StatusCode::GATEWAY_TIMEOUT, "the control thread has not answered")),
    }
}

/// The command that asks what a query does: `NAME=VALUE` of these names, and the values alone of others.
pub(super) fn command(verb: &str, query: &str, named: &[&str], alone: &[&str]) -> Result<String, String> {
    let mut command = verb.to_owned();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let value = decoded(value)?;
        match name {
            _ if named.contains(&name) => command += &format!(" {name}={value}"),
            _ if alone.contains(&name) => command += &format!(" {value}"),
            _ => return Err(format!("no such parameter: there are {}", [alone, named].concat().join(", "))),
        }
    }
    Ok(command + " json")
}

/// A word of a command, from a URL. It is one word, whatever it stands for.
pub(super) fn decoded(text: &str) -> Result<String, String> {
    let mut bytes = Vec::with_capacity(text.len().min(LONGEST_VALUE));
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..2).filter(|_| *first == b'%').and_then(|it| std::str::from_utf8(it).ok());
        match digits.filter(|it| it.bytes().all(|it| it.is_ascii_hexdigit())) {
            Some(digits) => {
                bytes.push(u8::from_str_radix(digits, 16).unwrap_or_default());
                rest = &tail[2..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    word(&String::from_utf8_lossy(&bytes)).map(str::to_owned)
}

/// Returns `text` if it is one word of a command.
///
/// # Errors
/// When it is not.
pub(super) fn word(text: &str) -> Result<&str, String> {
    match (1..=LONGEST_VALUE).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        true => Ok(text),
        false => Err(format!("a value takes 1 to {LONGEST_VALUE} letters, digits and signs, without blanks")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_query_becomes_one_command() {
        let of = |query| command("getconns", query, &["client", "limit"], &["service"]);
        assert_eq!(of(""), Ok("getconns json".to_owned()));
        assert_eq!(of("client=10.0.0.0%2F8&service=a"), Ok("getconns client=10.0.0.0/8 a json".to_owned()));
        for wrong in ["client=1%0Aquit", "client=a%20b", "client=", "more=1", "limit=%C3%A4"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn nothing_becomes_more_than_a_word(text in "\\PC{0,40}") {
            if let Ok(word) = decoded(&text) {
                prop_assert_eq!(word.split_whitespace().count(), 1);
            }
        }
    }
}
