//! `/api/v1/admin/`: changes, for those who have the token.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, StatusCode};
use serde_json::Value;
use tokio::time::{sleep, timeout};

use super::Shared;
use super::api::{ask, word};
use super::routes::{JSON, Reply, refuse};

/// More than any request needs.
const MOST_BYTES: usize = 4096;
/// How long a request's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// How long each client that guesses tokens waits.
const GUESS_PAUSE: Duration = Duration::from_millis(500);
/// Most clients that wait so; others are answered at once, that nothing was looked at.
const MOST_GUESSES: u32 = 8;

static GUESSES: AtomicU32 = AtomicU32::new(0);

/// Carries out a request to change something.
pub(super) async fn answer(shared: &Shared, verb: &str, request: Request<Incoming>, peer: Option<SocketAddr>) -> Reply {
    if request.method() != Method::POST {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "changes take a POST");
    }
    if shared.settings.access.token.is_none() {
        return refuse(StatusCode::FORBIDDEN, "changes are not allowed: glbd runs without --http-admin");
    }
    if GUESSES.load(Ordering::SeqCst) >= MOST_GUESSES {
        return refuse(StatusCode::TOO_MANY_REQUESTS, "there were too many wrong tokens");
    }
    if !shared.settings.access.allows_changes(request.headers()) {
        GUESSES.fetch_add(1, Ordering::SeqCst);
        let guess = Guess;
        sleep(GUESS_PAUSE).await;
        drop(guess);
        return refuse(StatusCode::UNAUTHORIZED, "this takes the token: Authorization: Bearer TOKEN");
    }
    let body = match timeout(BODY_TIMEOUT, Limited::new(request.into_body(), MOST_BYTES).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => return refuse(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large"),
        Err(_) => return refuse(StatusCode::REQUEST_TIMEOUT, "the request has not come"),
    };
    let body: Value =
        if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap_or(Value::Bool(false)) };
    let command = match command(verb, &body) {
        Ok(Some(command)) => command,
        Ok(None) => return refuse(StatusCode::NOT_FOUND, "there is nothing here"),
        Err(reason) => return refuse(StatusCode::BAD_REQUEST, &reason),
    };
    match ask(shared, command, peer).await {
        Err(reply) => reply,
        Ok(answer) => match answer.trim().rsplit('\n').find_map(|line| line.strip_prefix("Error: ")) {
            Some(reason) => refuse(StatusCode::CONFLICT, reason),
            None => (StatusCode::OK, JSON, (serde_json::json!({ "answer": answer.trim() }).to_string() + "\n").into()),
        },
    }
}

/// A client that has guessed and waits.
struct Guess;

impl Drop for Guess {
    fn drop(&mut self) {
        GUESSES.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The command that says the same, if there is such a thing.
///
/// # Errors
/// What is wrong with the request.
pub(super) fn command(verb: &str, body: &Value) -> Result<Option<String>, String> {
    let text = |name: &str| match &body[name] {
        Value::Null => Err(format!("'{name}' is missing")),
        Value::String(text) => word(text).map(str::to_owned).map_err(|reason| format!("'{name}': {reason}")),
        Value::Number(number) => Ok(number.to_string()),
        _ => Err(format!("'{name}' is neither a string nor a number")),
    };
    if !body.is_object() {
        return Err("the body is not an object in JSON".to_owned());
    }
    let destination = || text("destination");
    Ok(Some(match verb {
        "drain" => format!("drain {}", destination()?),
        "enable" => format!("enable {}", destination()?),
        "weight" => format!("weight {}:{}", destination()?, text("weight")?),
        "writer" if body.get("grace").is_some() => format!("writer {} {}", destination()?, text("grace")?),
        "writer" => format!("writer {}", destination()?),
        "kick" => {
            let by =
                [("id", ""), ("client", "client="), ("destination", "dest="), ("idle", "idle="), ("older", "older=")];
            let given: Vec<_> = by.iter().filter(|(name, _)| body.get(*name).is_some()).collect();
            let [(name, prefix)] = given[..] else {
                return Err("it takes one of id, client, destination, idle and older".to_owned());
            };
            let pace = if body.get("pace").is_some() { format!(" pace={}", text("pace")?) } else { String::new() };
            format!("kick {prefix}{}{pace}", text(name)?)
        }
        _ => return Ok(None),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_become_commands() {
        let of = |verb, body| command(verb, &body);
        assert_eq!(of("drain", json!({"destination": "a/10.0.0.1:1"})), Ok(Some("drain a/10.0.0.1:1".to_owned())));
        let weight = json!({"destination": "10.0.0.1:1", "weight": 2.5});
        assert_eq!(of("weight", weight), Ok(Some("weight 10.0.0.1:1:2.5".to_owned())));
        assert_eq!(of("kick", json!({"client": "10.0.0.0/8"})), Ok(Some("kick client=10.0.0.0/8".to_owned())));
        assert_eq!(of("stop", json!({})), Ok(None));
        for (verb, body) in [
            ("drain", json!({})),
            ("drain", json!({"destination": "a\nquit"})),
            ("drain", json!({"destination": ["a"]})),
            ("drain", json!("a")),
            ("kick", json!({})),
            ("kick", json!({"id": "1", "client": "a"})),
        ] {
            assert!(of(verb, body.clone()).is_err(), "{verb} {body}");
        }
    }
}
