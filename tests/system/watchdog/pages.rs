//! `http` checks: what is asked for, and what the answer has to have.

use super::programs::{haproxy, nginx};
use crate::harness::{Builder, Glbd, wait_until};

fn asking(spec: &str) -> Builder {
    Glbd::builder().args(["-w", spec, "-i", "0.1", "--timeout", "10"])
}

/// Whether a check finds a server so, for this reason.
fn is_found(server: &impl ToString, spec: &str, verdict: &str, why: &str) {
    let glbd = asking(spec).destinations([server.to_string()]).start();
    wait_until("it is judged", || glbd.watch().row(server.to_string()).state != "UNKNOWN");
    let row = glbd.watch().row(server.to_string()).clone();
    assert_eq!(row.state, verdict, "{spec}: {}", row.reason);
    let told = glbd.watch().row(server.to_string()).reason.clone();
    assert!(told.starts_with(why) && told.is_empty() == why.is_empty(), "{spec}: {told}");
}

#[test]
fn nginx_is_asked_by_method_host_headers_and_body() {
    let server = nginx(
        "listen ADDRESS; client_body_in_single_buffer on;
        location /method { return 200 \"$request_method $server_protocol $http_host $http_x_check $http_user_agent\"; }
        location /post { if ($request_method != POST) { return 405; } if ($content_length != 7) { return 411; } return 204; }
        location /moved { return 301 /elsewhere; }
        location /full { return 503 \"no more\"; }",
    );
    let agent = concat!("glbd/", env!("CARGO_PKG_VERSION"));
    let address = server.address;
    for (spec, verdict, why) in [
        (format!("http:/method;expect=GET HTTP/1.1 {address}  {agent}"), "READY", ""),
        (format!("http:/method;version=1.0;expect=GET HTTP/1.0 {address}"), "READY", ""),
        ("http:/method;host=db.example;header=X-Check: a b;expect=GET HTTP/1.1 db.example a b".to_owned(), "READY", ""),
        ("http:/method;header=user-agent: me;expect-regex=^GET .* me$".to_owned(), "READY", ""),
        ("http:/method;method=HEAD;expect-header=Content-Type: text/".to_owned(), "READY", ""),
        (
            "http:/method;method=OPTIONS;expect=POST".to_owned(),
            "DOWN",
            "HTTP status 200, expected 'POST', got 'OPTIONS HTTP/1.1 127.0.0.1:",
        ),
        ("http:/method;expect-header=X-None".to_owned(), "DOWN", "HTTP status 200, no header X-None"),
        (
            "http:/method;expect-header=content-length: x".to_owned(),
            "DOWN",
            "HTTP status 200, expected 'x' in content-length, got '",
        ),
        (r"http:/post;method=POST;body={a\;b}\r\n;ready=200-299".to_owned(), "READY", ""),
        ("http:/post;method=POST;body={a};ready=200-299".to_owned(), "DOWN", "HTTP status 411"),
        ("http:/post;ready=200-299".to_owned(), "DOWN", "HTTP status 405"),
        ("http:/moved".to_owned(), "DOWN", "HTTP status 301"),
        ("http:/moved;ready=200-399".to_owned(), "READY", ""),
        ("http:/full;spare=500-599;expect=no more".to_owned(), "SPARE", "HTTP status 503"),
        (
            "http:/full;spare=500-599;expect=enough".to_owned(),
            "DOWN",
            "HTTP status 503, expected 'enough', got 'no more'",
        ),
    ] {
        is_found(&server, &spec, verdict, why);
    }
}

#[test]
fn a_page_is_asked_for_over_tls_by_a_name_and_the_certificate_is_looked_at_if_that_is_wanted() {
    let server = nginx("listen ADDRESS ssl; return 200 \"name=$ssl_server_name\";");
    let (ca, other) = (server.path("ca.pem"), server.path("other.pem"));
    for (spec, verdict, why) in [
        ("https:/;expect-regex=^name=$".to_owned(), "READY", ""),
        ("http:/;tls=yes".to_owned(), "READY", ""),
        (format!("https:/;ca={ca}"), "READY", ""),
        (format!("https:/;ca={ca};sni=server.example;expect=name=server.example"), "READY", ""),
        ("https:/;sni=elsewhere.example;expect=name=elsewhere.example".to_owned(), "READY", ""),
        (
            format!("https:/;ca={ca};sni=elsewhere.example"),
            "DOWN",
            "TLS: invalid peer certificate: certificate not valid for name",
        ),
        (format!("https:/;ca={other}"), "DOWN", "TLS: invalid peer certificate: "),
        ("http:/".to_owned(), "DOWN", "HTTP status 400"),
    ] {
        is_found(&server, &spec, verdict, why);
    }
    let plain = nginx("listen ADDRESS; return 200;");
    is_found(&plain, "https:/", "DOWN", "TLS: ");
}

#[test]
fn an_authority_that_is_of_no_use_is_told_at_the_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("ca.pem").display().to_string();
    for (contents, why) in [
        (None, format!("{file}: No such file or directory (os error 2)")),
        (Some("nothing"), format!("{file}: no certificate in PEM")),
        (Some(&*"x".repeat(50_000)), format!("{file}: longer than 40960 bytes")),
    ] {
        if let Some(contents) = contents {
            std::fs::write(&file, contents).expect("a file");
        }
        let outcome = crate::harness::glbd::run(&["--check", "-w", &format!("https:/;ca={file}"), "1", "127.0.0.1:2"]);
        let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(!outcome.status.success() && told.contains(&why), "{told}");
    }
}

/// What HAProxy finds fit itself by the same check.
#[test]
fn haproxy_in_front_of_the_same_page_comes_to_the_same_verdict() {
    let server =
        nginx("listen ADDRESS; location /a { return 200 \"state: up\"; } location /b { return 200 \"state: no\"; }");
    for (path, verdict) in [("a", "READY"), ("b", "DOWN")] {
        let section = format!(
            "listen l\n bind ADDRESS\n mode http\n option httpchk\n http-check send meth GET uri /{path} ver HTTP/1.1 hdr host x\n \
            http-check expect string up\n server s {server} check inter 100 rise 1 fall 1\n monitor-uri /state\n \
            monitor fail if {{ nbsrv lt 1 }}"
        );
        let other = haproxy(&section);
        is_found(
            &server,
            &format!("http:/{path};host=x;expect=up"),
            verdict,
            if verdict == "READY" { "" } else { "HTTP status 200" },
        );
        is_found(
            &other,
            "http:/state;ready=200;avoid=503",
            if verdict == "READY" { "READY" } else { "AVOID" },
            if verdict == "READY" { "" } else { "HTTP status 503" },
        );
    }
}
