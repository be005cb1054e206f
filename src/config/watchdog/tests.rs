//! What is read as a probe, and what is not.

use super::*;
use crate::verdict::Verdict;
use proptest::prelude::*;

/// The plainest check of a page.
fn page(port: Option<u16>, path: &str) -> HttpOptions {
    let (method, path, version) = ("GET".to_owned(), path.to_owned(), "1.1".to_owned());
    let request = HttpRequest { method, path, version, headers: Vec::new(), body: Vec::new() };
    let (tls, statuses) = (None, Statuses::default());
    let (expected, unexpected) = (HttpContent::default(), HttpContent::default());
    HttpOptions { port, tls, request, statuses, expected, unexpected }
}

#[test]
fn probes_are_read_in_every_form() {
    let http = |port, path: &str| ProbeSpec::Http(Box::new(page(port, path)));
    let listed = |path: &str, lists: [&[u16]; 3]| {
        let ranges = |list: &[u16]| list.iter().map(|it| StatusRange { first: *it, last: *it }).collect();
        let [ready, spare, avoid] = lists.map(ranges);
        ProbeSpec::Http(Box::new(HttpOptions { statuses: Statuses { ready, spare, avoid }, ..page(Some(9200), path) }))
    };
    let plain = GaleraOptions::default();
    let chosen = GaleraOptions {
        defaults_file: Some(PathBuf::from("/a=b")),
        donor: Verdict::Down,
        read_only_is_fit: true,
        port: Some(33062),
        tls: Some(TlsMode::VerifyCa),
        max_recv_queue: Some(100),
        require_galera: false,
        login: 1,
    };
    let all = "galera:defaults-file=/a=b,donor=down,read-only=ok,port=33062,tls=verify-ca,max-recv-queue=100,\
        require-galera=no,login=1";
    for (text, spec) in [
        ("exec:mysql.sh -utest -ptestpass", ProbeSpec::Exec("mysql.sh -utest -ptestpass".to_owned())),
        ("exec:a:b", ProbeSpec::Exec("a:b".to_owned())),
        ("tcp", ProbeSpec::Tcp(TcpOptions::default())),
        ("tcp:", ProbeSpec::Tcp(TcpOptions::default())),
        ("http", http(None, "/")),
        ("http:9200", http(Some(9200), "/")),
        ("http:/a/b?c", http(None, "/a/b?c")),
        ("http:9200/a:1", http(Some(9200), "/a:1")),
        ("http:9200/;spare=503", listed("/", [&[200], &[503], &[]])),
        ("http:9200/a;b=1;avoid=404,410;ready=200,204", listed("/a;b=1", [&[200, 204], &[], &[404, 410]])),
        ("http:9200;spare=503", listed("/", [&[200], &[503], &[]])),
        ("galera", ProbeSpec::Galera(plain.clone())),
        ("mysql:", ProbeSpec::Galera(plain)),
        (all, ProbeSpec::Galera(chosen)),
    ] {
        assert_eq!(ProbeSpec::parse(text), Ok(spec), "{text}");
    }
}

#[test]
fn what_is_no_probe_is_told() {
    for text in [
        "",
        "exec",
        "exec: ",
        "tcp:0",
        "tcp:1;",
        "tcp:a",
        "tcp:expected=1",
        "tcp:send=",
        "tcp:send=\\xg",
        "tcp:expect-hex=1",
        "tcp:expect-regex=(",
        "tcp:tls=maybe",
        "tcp:sni=10.0.0.1",
        "tcp:ca=",
        "tcp:cert=",
        "tcp:key=",
        "tcp:alpn=",
        "tcp:alpn=h2,",
        "tcp:verify-host=",
        "tcp:verify-host=a b",
        "tcp:cert=/a;tls=no",
        "http:;alpn=h2",
        "http:;alpn=http/1.1,h2",
        "http:;expect-not=",
        "http:;expect-not-regex=(",
        "http:;expect-not-header=: a",
        "http:9200/;method=",
        "http:9200/;version=2",
        "http:9200/;header=X",
        "http:9200/;header=Connection: close",
        "http:9200/;header=X: a\\r\\nY: b",
        "http:9200/;ready=300-200",
        "http:9200/;ready=200-299;spare=204",
        "http:9200/;method=GET;method=HEAD",
        "http:9200/;expect=",
        "http:9200/;tls=no;ca=/a;tls=no",
        "http:0",
        "http:+1",
        "http:a",
        "http:1/a b",
        "http:1/\r\n",
        "ping",
        "galera:donor=maybe",
        "galera:donor",
        "galera:defaults-file=",
        "galera:password=secret",
        "http://HOST/",
        "http:9200/;spare=",
        "http:9200/;spare=99",
        "http:9200/;spare=200",
        "http:9200/;spare=503;avoid=503",
        "galera:port=0",
        "galera:port=+1",
        "galera:tls=on",
        "galera:read-only=no",
        "galera:max-recv-queue=-1",
        "galera:require-galera=1",
        "galera:login=0",
        "galera:login=5000000000",
    ] {
        assert!(ProbeSpec::parse(text).is_err(), "{text}");
    }
}

#[test]
fn errors_say_what_there_is() {
    for (text, error) in [
        (
            "http://HOST/",
            "http: '//HOST/' names a host, but the page is asked for at each destination's (http:[PORT][/PATH])",
        ),
        ("galera:tls=on", "galera: tls=on is not one of off, prefer, require and verify-ca"),
        ("galera:login=0", "galera: login=0 is not a number of checks (1 or more)"),
        ("galera:max-recv-queue=few", "galera: max-recv-queue=few is not a number"),
        ("galera:port=0", "galera: '0' is not a port (1 to 65535)"),
    ] {
        assert_eq!(ProbeSpec::parse(text), Err(error.to_owned()));
    }
}

#[test]
fn conversations_and_requests_are_read_with_all_that_belongs_to_them() {
    let send = |bytes: &[u8]| Step::Send(bytes.to_vec());
    let expect = |text: &str| Step::Expect(Pattern::Text(text.as_bytes().to_vec()));
    let tls = |ca: Option<&str>, sni: Option<&str>| {
        let (ca, sni) = (ca.map(Into::into), sni.map(str::to_owned));
        TlsOptions { ca, sni, ..TlsOptions::default() }
    };
    for (text, port, encrypted, steps) in [
        ("tcp:6380", Some(6380), None, vec![]),
        ("tcp:send=PING\\r\\n;expect=+PONG", None, None, vec![send(b"PING\r\n"), expect("+PONG")]),
        ("tcp:25;expect=220;send=a\\;b", Some(25), None, vec![expect("220"), send(b"a;b")]),
        ("tcp:;tls=yes;send-hex=00ff", None, Some(tls(None, None)), vec![send(b"\0\xff")]),
        ("tcp:;sni=a.example;ca=/ca.pem", None, Some(tls(Some("/ca.pem"), Some("a.example"))), vec![]),
        (
            "tcp:cert=/c.pem;key=/k.pem;alpn=h2,http/1.1;verify-host=10.0.0.1",
            None,
            Some(TlsOptions {
                cert: Some("/c.pem".into()),
                key: Some("/k.pem".into()),
                alpn: vec!["h2".to_owned(), "http/1.1".to_owned()],
                verify_host: Some("10.0.0.1".to_owned()),
                ..TlsOptions::default()
            }),
            vec![],
        ),
        ("tcp:expect-line=role:", None, None, vec![Step::Expect(Pattern::Line(b"role:".to_vec()))]),
        ("tcp:expect-regex=a\\;b|c", None, None, vec![Step::Expect(Pattern::Regex("a;b|c".to_owned()))]),
    ] {
        assert_eq!(ProbeSpec::parse(text), Ok(ProbeSpec::Tcp(TcpOptions { port, tls: encrypted, steps })), "{text}");
    }
    let text = "https:8443/a;b=1;method=POST;version=1.0;host=a.example;header=X-Y: a;header=Accept: */*;body={}\\n;\
        ready=200-204,301;expect=OK;expect-regex=^up;expect-header=X-State: up;expect-header=Age;expect-not=no;\
        expect-not-regex=^down;expect-not-header=X-Old;ca=/ca";
    let mut options = page(Some(8443), "/a;b=1");
    options.tls = Some(tls(Some("/ca"), None));
    let headers = [("Host", "a.example"), ("X-Y", "a"), ("Accept", "*/*")];
    options.request.method = "POST".to_owned();
    options.request.version = "1.0".to_owned();
    options.request.headers = headers.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    options.request.body = b"{}\n".to_vec();
    options.statuses.ready = vec![StatusRange { first: 200, last: 204 }, StatusRange { first: 301, last: 301 }];
    options.expected.body = vec![Pattern::Text(b"OK".to_vec()), Pattern::Regex("^up".to_owned())];
    let header = |name: &str, value: &[u8]| HeaderPattern { name: name.to_owned(), value: value.to_vec() };
    options.expected.headers = vec![header("X-State", b"up"), header("Age", b"")];
    options.unexpected.body = vec![Pattern::Text(b"no".to_vec()), Pattern::Regex("^down".to_owned())];
    options.unexpected.headers = vec![header("X-Old", b"")];
    assert_eq!(ProbeSpec::parse(text), Ok(ProbeSpec::Http(Box::new(options))));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(backend in "(exec|tcp|http|galera|)", text in "\\PC{0,40}") {
        let _ = ProbeSpec::parse(&format!("{backend}:{text}"));
        let _ = ProbeSpec::parse(&format!("{backend}:;send={text}"));
        let _ = ProbeSpec::parse(&format!("{backend}:;header={text};expect-regex={text}"));
    }
}
