//! What is asked, and what is thought of the answers.

use super::*;
use crate::config::{Config, HttpRequest, ProbeSpec};

fn options(spec: &str) -> HttpOptions {
    let line = ["glbd", "-w", spec, "1"].map(str::to_owned);
    let pool = Config::from_command_line(line).expect("a command line").pools.remove(0);
    match pool.watchdog.expect("a watchdog").probe {
        ProbeSpec::Http(options) => *options,
        other => panic!("{other:?}"),
    }
}

fn judged(spec: &str, status: u16, headers: &[(&str, &str)], body: &str) -> (Verdict, String) {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    let answer = HttpAnswer { status, headers, body: body.as_bytes().to_vec() };
    let Answer { verdict, reason, .. } = Expected::new(&options(spec)).expect("patterns").judge(&answer);
    (verdict, reason)
}

#[test]
fn a_status_means_what_the_options_say_and_is_the_reason() {
    for (status, verdict, reason) in [
        (200, Verdict::Ready, ""),
        (204, Verdict::Ready, ""),
        (429, Verdict::Spare, "HTTP status 429"),
        (503, Verdict::Avoid, "HTTP status 503"),
        (201, Verdict::Down, "HTTP status 201"),
        (500, Verdict::Down, "HTTP status 500"),
    ] {
        let spec = "http:/;ready=200,204;spare=429;avoid=503";
        assert_eq!(judged(spec, status, &[], ""), (verdict, reason.to_owned()));
    }
    assert_eq!(judged("http:/;ready=200-399", 301, &[], "").0, Verdict::Ready);
    assert_eq!(judged("http:/;ready=200-399", 404, &[], "").0, Verdict::Down);
}

#[test]
fn what_an_answer_lacks_is_the_reason_with_what_came_instead() {
    let headers = [("X-Role", "replica"), ("x-role", "master, writable"), ("Age", "0")];
    let spec =
        "http:/;ready=200-299;spare=503;expect=OK;expect-regex=^up;expect-header=x-role: master;expect-header=Age";
    assert_eq!(judged(spec, 200, &headers, "OK\nup"), (Verdict::Ready, String::new()));
    assert_eq!(judged(spec, 503, &headers, "OK\nup"), (Verdict::Spare, "HTTP status 503".to_owned()));
    assert_eq!(judged(spec, 404, &[], ""), (Verdict::Down, "HTTP status 404".to_owned()));
    for (headers, body, why) in [
        (&headers[..2], "OK\nup", "no header Age"),
        (&[("X-Role", "replica")][..], "OK\nup", "expected 'master' in x-role, got 'replica'"),
        (&headers[..], "maintenance\r\n", "expected 'OK', got 'maintenance\\r\\n'"),
        (&headers[..], "OK, not up", "expected a match of '^up', got 'OK, not up'"),
        (&headers[..], "", "expected 'OK', got ''"),
    ] {
        let expected = (Verdict::Down, format!("HTTP status 200, {why}"));
        assert_eq!(judged(spec, 200, headers, body), expected);
        assert_eq!(judged(spec, 503, headers, body).0, Verdict::Down, "also one that would be SPARE");
    }
}

#[test]
fn a_request_has_what_was_asked_for_and_what_it_needs() {
    let server = std::net::SocketAddr::from(([127, 0, 0, 1], 80)).into();
    let text = |spec: &str| String::from_utf8(request::text(&options(spec).request, server)).expect("text");
    let agent = concat!("User-Agent: glbd/", env!("CARGO_PKG_VERSION"), "\r\n");
    let close = "Connection: close\r\n\r\n";
    assert_eq!(text("http:/a?b"), format!("GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:80\r\n{agent}{close}"));
    let spec = "http:/;method=POST;version=1.0;host=a.example;header=user-agent: x;header=A: b c;body={}\\r\\n";
    let lines = "Host: a.example\r\nuser-agent: x\r\nA: b c\r\nContent-Length: 4\r\n";
    assert_eq!(text(spec), format!("POST / HTTP/1.0\r\n{lines}{close}{{}}\r\n"));
    assert!(text("http:/;method=PUT").contains("\r\nContent-Length: 0\r\n"));
    let HttpRequest { method, .. } = options("http:/;method=HEAD").request;
    assert_eq!(method, "HEAD");
}
