//! What is answered to a request.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT, ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue,
    REFERRER_POLICY, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use hyper::{Method, Request, Response, StatusCode};

use super::body::{Answer, EventStream};
use super::metrics::{self, Format};
use super::ready::Readiness;
use super::seats::{InUse, Seats};
use super::{Shared, admin, api, page};
use crate::log::events;

pub(super) const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const JSON: &str = "application/json";

/// A status, what kind of text it is, and the text.
pub(super) type Reply = (StatusCode, &'static str, Answer);

/// Answers with a reason, in JSON below `/api`.
pub(super) fn refuse(status: StatusCode, reason: &str) -> Reply {
    (status, JSON, (serde_json::json!({ "error": reason }).to_string() + "\n").into())
}

fn text(status: StatusCode, text: impl Into<Answer>) -> Reply {
    (status, TEXT, text.into())
}

/// Where changes are asked for.
const CHANGES: &str = "/api/v1/admin/";

/// Answers a request.
pub(super) async fn answer(
    shared: &Arc<Shared>,
    seats: &Seats,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
    in_use: InUse,
) -> Response<Answer> {
    let methods = if request.uri().path().starts_with(CHANGES) { "POST" } else { "GET, HEAD" };
    let (status, kind, answer) = reply(shared, seats, request, peer, in_use).await;
    let mut response = Response::new(answer);
    *response.status_mut() = status;
    let mut set = |name: HeaderName, value: &'static str| {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    };
    set(CONTENT_TYPE, kind);
    set(CACHE_CONTROL, "no-store");
    set(X_CONTENT_TYPE_OPTIONS, "nosniff");
    set(X_FRAME_OPTIONS, "DENY");
    set(REFERRER_POLICY, "no-referrer");
    set(HeaderName::from_static("cross-origin-resource-policy"), "same-origin");
    match status {
        StatusCode::METHOD_NOT_ALLOWED => set(ALLOW, methods),
        StatusCode::UNAUTHORIZED => set(WWW_AUTHENTICATE, "Bearer"),
        _ => {}
    }
    // What is left of a body that was refused is not to be taken for a request.
    if status == StatusCode::PAYLOAD_TOO_LARGE || shared.is_leaving.load(Ordering::SeqCst) {
        set(CONNECTION, "close");
    }
    let policy = if kind == page::KIND { page::policy() } else { "default-src 'none'; frame-ancestors 'none'" };
    if let Ok(policy) = HeaderValue::from_str(policy) {
        response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy);
    }
    response
}

async fn reply(
    shared: &Arc<Shared>,
    seats: &Seats,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
    in_use: InUse,
) -> Reply {
    let access = &shared.settings.access;
    if let Err(reason) = access.check_site(request.uri(), request.headers(), peer.is_none()) {
        return refuse(StatusCode::MISDIRECTED_REQUEST, &reason);
    }
    let path = request.uri().path().to_owned();
    if let Some(verb) = path.strip_prefix(CHANGES) {
        return admin::answer(shared, verb, request, peer).await;
    }
    if ![Method::GET, Method::HEAD].contains(request.method()) {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "this can only be read");
    }
    match path.as_str() {
        "/" => (StatusCode::OK, page::KIND, page::TEXT.into()),
        "/metrics" => {
            let accepted = request.headers().get_all(ACCEPT).iter().filter_map(|it| it.to_str().ok());
            let format = Format::chosen_by(accepted);
            (StatusCode::OK, format.kind(), metrics::render(&shared.settings.source.now(), format).into())
        }
        "/health" => text(StatusCode::OK, "serving\n"),
        "/ready" => ready(shared, None),
        "/events" => stream(shared, seats, &request, in_use),
        path => match (path.strip_prefix("/ready/"), path.strip_prefix("/api/v1/")) {
            (Some(service), _) => ready(shared, Some(service)),
            (_, Some(what)) => api::answer(shared, what, request.uri().query().unwrap_or_default(), peer).await,
            _ if is_test_of_panics(path) => panic!("asked for by {path}"),
            _ => refuse(StatusCode::NOT_FOUND, "there is nothing here"),
        },
    }
}

fn ready(shared: &Shared, service: Option<&str>) -> Reply {
    let takes_none = match () {
        () if shared.is_leaving.load(Ordering::SeqCst) => Some("this process takes no new clients"),
        () if shared.is_paused.load(Ordering::SeqCst) => Some("new clients wait until the process is resumed"),
        () => None,
    };
    match Readiness::of(&shared.settings.source.now(), service, takes_none) {
        Some(Readiness { is_ready: true, text: lines }) => text(StatusCode::OK, lines),
        Some(Readiness { text: lines, .. }) => text(StatusCode::SERVICE_UNAVAILABLE, lines),
        None => refuse(StatusCode::NOT_FOUND, "there is no such service"),
    }
}

fn stream(shared: &Arc<Shared>, seats: &Seats, request: &Request<Incoming>, in_use: InUse) -> Reply {
    if request.method() == Method::HEAD {
        return (StatusCode::OK, "text/event-stream", "".into());
    }
    let last = request.headers().get("last-event-id").and_then(|it| it.to_str().ok()?.parse::<u64>().ok());
    let next = last.map_or_else(events::next, |last| last.saturating_add(1).min(events::next()));
    match seats.stream() {
        Some(counted) => {
            let stream = EventStream::new(next, shared, counted, in_use);
            (StatusCode::OK, "text/event-stream", Answer::Events(Box::new(stream)))
        }
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "as many clients are sent events as may be"),
    }
}

/// What tests use to have the thread panic. There is no such thing in a release.
const TEST_OF_PANICS: &str = "GLBD_TEST_HTTP_PANIC";
static IS_TO_PANIC: AtomicBool = AtomicBool::new(false);

fn is_test_of_panics(path: &str) -> bool {
    let asked = cfg!(debug_assertions) && path.starts_with("/panic") && std::env::var_os(TEST_OF_PANICS).is_some();
    if asked && path == "/panic/thread" {
        IS_TO_PANIC.store(true, Ordering::SeqCst);
        return false;
    }
    asked
}

/// Panics in the thread itself, not only for one of its clients, if a test has asked for that.
pub(super) fn panic_if_tested() {
    assert!(!IS_TO_PANIC.swap(false, Ordering::SeqCst), "asked for by a test");
}
