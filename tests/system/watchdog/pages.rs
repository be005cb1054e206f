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
fn a_certificate_is_shown_to_a_server_that_asks_for_one() {
    let server = nginx(
        "listen ADDRESS ssl; ssl_client_certificate ca.pem; ssl_verify_client on; return 200 \"$ssl_client_s_dn\";",
    );
    let [cert, key, other, o_key, both] =
        ["server.pem", "server.key", "other.pem", "o.key", "both.pem"].map(|name| server.path(name));
    let text = [&cert, &key].map(|file| std::fs::read_to_string(file).expect("a file")).concat();
    std::fs::write(&both, text).expect("a file");
    for (spec, verdict, why) in [
        (format!("https:/;cert={cert};key={key};expect=CN=server"), "READY", ""),
        (format!("http:/;cert={both};expect=CN=server"), "READY", ""),
        ("https:/".to_owned(), "DOWN", "HTTP status 400"),
        (format!("https:/;cert={other};key={o_key}"), "DOWN", "HTTP status 400"),
        (format!(r"tcp:;cert={both};send=GET / HTTP/1.0\r\n\r\n;expect=CN=server"), "READY", ""),
    ] {
        is_found(&server, &spec, verdict, why);
    }
}

#[test]
fn a_certificate_must_be_for_a_name_that_is_not_asked_for_if_that_is_wanted() {
    let server = nginx("listen ADDRESS ssl; return 200 \"name=$ssl_server_name\";");
    let ca = server.path("ca.pem");
    for (options, verdict, why) in [
        ("verify-host=server.example;expect-regex=^name=$", "READY", ""),
        ("verify-host=server.example;sni=elsewhere.example;expect=name=elsewhere.example", "READY", ""),
        ("verify-host=elsewhere.example", "DOWN", "TLS: invalid peer certificate: certificate not valid for name"),
        (
            "verify-host=elsewhere.example;sni=server.example",
            "DOWN",
            "TLS: invalid peer certificate: certificate not valid for name",
        ),
        ("verify-host=127.0.0.1", "DOWN", "TLS: invalid peer certificate: certificate not valid for name"),
    ] {
        is_found(&server, &format!("https:/;ca={ca};{options}"), verdict, why);
    }
}

#[test]
fn a_protocol_is_offered_inside_tls() {
    let server = nginx("listen ADDRESS ssl http2; return 200 \"alpn=$ssl_alpn_protocol\";");
    let settings = r"send=PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n;send-hex=000000040000000000;expect-hex=0400000000";
    for (spec, verdict, why) in [
        ("https:/;alpn=http/1.1;expect-regex=^alpn=http/1.1$".to_owned(), "READY", ""),
        ("https:/;expect-regex=^alpn=$".to_owned(), "READY", ""),
        (format!("tcp:;alpn=h2,http/1.1;{settings}"), "READY", ""),
        (format!("tcp:;alpn=http/1.1;{settings}"), "DOWN", "expected "),
        ("tcp:alpn=gopher".to_owned(), "DOWN", "TLS: "),
    ] {
        is_found(&server, &spec, verdict, why);
    }
}

/// What HAProxy thinks of the same server by `check-ssl` and what belongs to it.
#[test]
fn haproxy_comes_to_the_same_over_tls() {
    let server = nginx(
        "listen ADDRESS ssl http2; ssl_client_certificate ca.pem; ssl_verify_client on; \
        location / { return 200 \"$ssl_client_s_dn $ssl_alpn_protocol\"; }",
    );
    let [ca, cert, key, both] = ["ca.pem", "server.pem", "server.key", "both.pem"].map(|name| server.path(name));
    let text = [&cert, &key].map(|file| std::fs::read_to_string(file).expect("a file")).concat();
    std::fs::write(&both, text).expect("a file");
    for (theirs, ours, is_fit) in [
        (format!("crt {both}"), format!("cert={both}"), true),
        (String::new(), String::new(), false),
        (format!("crt {both} verifyhost server.example"), format!("cert={both};verify-host=server.example"), true),
        (format!("crt {both} verifyhost elsewhere"), format!("cert={both};verify-host=elsewhere"), false),
        (format!("crt {both} check-alpn http/1.1"), format!("cert={both};alpn=http/1.1"), true),
    ] {
        let section = format!(
            "listen l\n bind ADDRESS\n mode http\n option httpchk GET /\n timeout check 10s\n server s {server} check inter 500 rise 1 fall 1 \
            check-ssl verify required ca-file {ca} {theirs}\n monitor-uri /state\n monitor fail if {{ nbsrv lt 1 }}"
        );
        let other = haproxy(&section);
        let spec = if ours.is_empty() { format!("https:/;ca={ca}") } else { format!("https:/;ca={ca};{ours}") };
        let why = if is_fit {
            ""
        } else if ours.is_empty() {
            "HTTP status 400"
        } else {
            "TLS: "
        };
        is_found(&server, &spec, if is_fit { "READY" } else { "DOWN" }, why);
        let (verdict, why) = if is_fit { ("READY", "") } else { ("AVOID", "HTTP status 503") };
        is_found(&other, "http:/state;ready=200;avoid=503", verdict, why);
    }
}

#[test]
fn a_page_must_not_contain_what_is_not_expected() {
    let server = nginx("listen ADDRESS; add_header X-State \"in maintenance\"; return 200 \"ok: error 7\";");
    for (options, verdict, why) in [
        ("expect-not=failure;expect-not-header=X-Other;expect-not-header=X-State: up", "READY", ""),
        ("expect=ok;expect-not=error", "DOWN", "HTTP status 200, not expected 'error', got 'ok: error 7'"),
        ("expect-not-regex=error [0-9]$", "DOWN", "HTTP status 200, not expected a match of 'error [0-9]$'"),
        ("expect-not-header=x-state", "DOWN", "HTTP status 200, unexpected header x-state: 'in maintenance'"),
        ("expect-not-header=X-State: maint", "DOWN", "HTTP status 200, unexpected header X-State: "),
    ] {
        is_found(&server, &format!("http:/;{options}"), verdict, why);
    }
    // The same as HAProxy finds.
    for (theirs, ours, is_fit) in [
        ("! string error", "expect-not=error", false),
        ("! string failure", "expect-not=failure", true),
        ("! rstring error.[0-9]", "expect-not-regex=error.[0-9]", false),
        ("! hdr name x-state value -m sub maint", "expect-not-header=x-state: maint", false),
        ("! hdr name x-other value -m sub maint", "expect-not-header=x-other: maint", true),
    ] {
        let other = haproxy(&format!(
            "listen l\n bind ADDRESS\n mode http\n option httpchk GET /\n timeout check 10s\n http-check expect {theirs}\n server s {server} \
            check inter 500 rise 1 fall 1\n monitor-uri /state\n monitor fail if {{ nbsrv lt 1 }}"
        ));
        let why = if is_fit { "" } else { "HTTP status 200, " };
        is_found(&server, &format!("http:/;{ours}"), if is_fit { "READY" } else { "DOWN" }, why);
        let (verdict, why) = if is_fit { ("READY", "") } else { ("AVOID", "HTTP status 503") };
        is_found(&other, "http:/state;ready=200;avoid=503", verdict, why);
    }
}

#[test]
fn a_certificate_that_is_of_no_use_is_told_at_the_start() {
    use std::os::unix::fs::PermissionsExt;
    let server = nginx("listen ADDRESS ssl; return 200;");
    let [cert, key, o_key, none] = ["server.pem", "server.key", "o.key", "none"].map(|name| server.path(name));
    let (open, long) = (server.path("open.key"), server.path("long.pem"));
    std::fs::copy(&key, &open).expect("a file");
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o666)).expect("a file of ours");
    std::fs::write(&long, "x".repeat(41_000)).expect("a file");
    for (options, why) in [
        (format!("cert={none}"), format!("{none}: No such file or directory (os error 2)")),
        (format!("cert={cert};key={none}"), format!("{none}: No such file or directory (os error 2)")),
        (format!("cert={cert}"), format!("{cert}: no private key in PEM (without a passphrase)")),
        (format!("cert={key}"), format!("{key}: no certificate in PEM")),
        (format!("cert={cert};key={o_key}"), format!("{o_key}: not the key of the certificate")),
        (format!("cert={cert};key={open}"), format!("{open}: every user may write to it (chmod o-w)")),
        (format!("cert={cert};key={long}"), format!("{long}: longer than 40960 bytes")),
        (format!("key={key}"), "key without cert: there is no certificate to show".to_owned()),
        ("verify-host=a.example".to_owned(), "verify-host without ca: any certificate is accepted".to_owned()),
    ] {
        let spec = format!("https:/;{options}");
        let outcome = crate::harness::glbd::run(&["--check", "-w", &spec, "1", "127.0.0.1:2"]);
        let told = String::from_utf8_lossy(&outcome.stderr).into_owned();
        assert!(!outcome.status.success() && told.contains(&why), "{options}: {told}");
        assert!(!told.contains("PRIVATE KEY"), "{told}");
    }
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
            http-check expect string up\n server s {server} check inter 500 rise 1 fall 1\n monitor-uri /state\n \
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
