//! Log lines as logfmt or JSON, wherever they go, and whatever is in them.

use std::fs::{self, File, Permissions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Map, Value};

use super::syslog::Syslog;
use crate::harness::{Daemon, Glbd, Server, connect_to, free_port, program, read_line, wait_until};
use crate::http::Web;
use crate::services::{Site, served};

type Fields = Map<String, Value>;

/// The lines of a log, all of which have to be JSON with text in known fields.
fn objects(log: &str) -> Vec<Fields> {
    let parse = |line: &str| -> Fields {
        assert!(!line.contains(char::is_control), "{line:?}");
        serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"))
    };
    let objects: Vec<Fields> = log.lines().map(parse).collect();
    for object in &objects {
        let known = ["time", "level", "kind", "client", "service", "destination", "pool", "msg"];
        assert!(object.iter().all(|(key, value)| known.contains(&key.as_str()) && value.is_string()), "{object:?}");
        for key in ["time", "level", "kind", "msg"] {
            assert!(object.contains_key(key), "{object:?}");
        }
        let time = object["time"].as_str().expect("text");
        assert!(time.len() == "2025-01-01T00:00:00.000Z".len() && time.ends_with('Z'), "{time}");
    }
    objects
}

fn find<'a>(objects: &'a [Fields], text: &str) -> &'a Fields {
    let has = |object: &&Fields| object["msg"].as_str().is_some_and(|msg| msg.contains(text));
    objects.iter().find(has).unwrap_or_else(|| panic!("no {text}: {objects:?}"))
}

#[test]
fn each_line_is_an_object_with_what_it_is_about() {
    let glbd = Glbd::builder().args(["--log-format", "json"]).start();
    let client = glbd.connect();
    glbd.wait_for_log("turned away");
    glbd.change("127.0.0.1:1:2");
    glbd.wait_for_log("added with weight 2");
    let log = objects(&glbd.log());
    let turned_away = find(&log, "no destination serves it");
    assert_eq!(turned_away["client"], client.local_addr().expect("an address").to_string());
    assert_eq!((&turned_away["level"], &turned_away["kind"]), (&"warn".into(), &"clients".into()));
    let serving = find(&log, "glbd 2.0.0 serving on");
    assert_eq!((&serving["level"], &serving["kind"]), (&"info".into(), &"process".into()));
    assert_eq!(find(&log, "added with weight 2")["kind"], "table");
}

#[test]
fn logfmt_quotes_what_needs_it() {
    let glbd = Glbd::builder().args(["--log-format", "logfmt"]).start();
    glbd.wait_for_log("there are no destinations");
    let log = glbd.log();
    let line = log.lines().find(|line| line.contains("there are no")).expect("a line");
    let (time, rest) = line.strip_prefix("time=").and_then(|line| line.split_once(' ')).expect("a time");
    assert!(time.ends_with('Z'), "{line}");
    let text = "there are no destinations: clients are turned away until one is added";
    assert_eq!(rest, format!("level=warn kind=process msg=\"{text}\""));
}

/// What scripts, nodes and clients say is text inside one field, never a line or a field of its own.
#[test]
fn nothing_that_others_say_forges_a_line() {
    const FORGED: &str =
        r#""}\r\n\t\033[31m\001\377\302\205\342\200\250{"level":"error","msg":"forged\\"} level=error msg=forged"#;
    let directory = tempfile::tempdir().expect("a directory");
    let script = directory.path().join("script");
    let answer = format!("printf '%b\\n' '0 {FORGED}'");
    let text = format!("#!/bin/sh\nprintf '{FORGED}\\n' >&2\nwhile read -r line; do {answer}; done\n");
    fs::write(&script, text).expect("a file");
    fs::set_permissions(&script, Permissions::from_mode(0o755)).expect("our own file");
    let hostile = b"\x10\x04#08004Not allowed \"}\n\r\x1b\xff\xfe{\"level\":\"error\"} level=error\n";
    let mut packet = vec![hostile.len() as u8 + 1, 0, 0, 0, 0xff];
    packet.extend(hostile);
    let node = Server::serving(move |mut stream| {
        let _ = stream.write_all(&packet);
    });
    for format in ["json", "logfmt"] {
        let watchdog = format!("exec:{}", script.display());
        let checked = ["--log-format", format, "-w", &watchdog, "-i", "0.1", "--timeout", "20"];
        let checked = Glbd::builder().args(checked).destinations([&node]).start();
        checked.wait_for_log("DOWN");
        checked.wait_for_log("script of destination");
        let asked = ["--log-format", format, "--greeting", "mysql"];
        let asked = Glbd::builder().args(asked).destinations([&node]).start();
        // Kept: one that leaves before it is let in costs no destination anything.
        let _client = asked.connect();
        asked.wait_for_log("refuses clients");
        for log in [checked.log(), asked.log()] {
            assert!(log.contains("level"), "{log}");
            match format {
                "json" => {
                    assert!(objects(&log).iter().all(|it| it["level"] != "error" || is_ours(&it["msg"])), "{log}")
                }
                _ => assert!(
                    log.lines().all(|line| {
                        !line.contains(char::is_control)
                            && line.matches(" level=").count() >= 1
                            && line.starts_with("time=")
                            && line.split(' ').nth(1) != Some("level=error")
                            || is_ours(&line.into())
                    }),
                    "{log}"
                ),
            }
        }
    }
}

/// Every error that such a daemon logs by itself.
fn is_ours(text: &Value) -> bool {
    text.as_str().is_some_and(|text| text.contains("no destination is left that takes new clients"))
}

#[test]
fn a_defect_takes_one_line() {
    if !cfg!(debug_assertions) {
        return;
    }
    let web = Web::new();
    let wrapper = ["env", "GLBD_TEST_HTTP_PANIC=1"];
    let glbd = Glbd::builder().wrapped_by(wrapper).arg(web.option()).args(["--log-format", "json"]).start();
    wait_until("HTTP is spoken", || web.try_to_ask("GET", "/health", &[], "").is_ok());
    assert!(web.try_to_ask("GET", "/panic", &[], "").is_err());
    glbd.wait_for_log("glbd has a defect");
    let log = objects(&glbd.log());
    let defect = find(&log, "glbd has a defect");
    assert!(defect["msg"].as_str().is_some_and(|msg| msg.contains("\nasked for by /panic")), "{defect:?}");
    assert_eq!(defect["level"], "error");
}

#[test]
fn syslog_has_its_priorities_and_the_fields() {
    let (syslog, daemon) = (Syslog::open(), Daemon::new());
    syslog.start(&daemon, &["--log-format", "json"]);
    let (priority, line) = syslog.line();
    let (name, object) = line.split_once(": ").expect("a name");
    assert_eq!((priority, name), (30, format!("glbd[{}]", daemon.pid()).as_str()));
    find(&objects(object), "glbd 2.0.0 serving on");
    daemon.signal(Signal::SIGTERM);
    let (_, line) = syslog.wait_for("stopped");
    find(&objects(line.split_once(": ").expect("a name").1), "stopped");
}

#[test]
fn the_journal_has_its_priorities_and_the_fields() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("journal");
    let journal = File::create(&path).expect("a file");
    let of = journal.metadata().expect("a file");
    let words = program();
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command.args(["--log-format=logfmt", &format!("127.0.0.1:{}", free_port())]).stdin(Stdio::null());
    command.env("JOURNAL_STREAM", format!("{}:{}", of.dev(), of.ino())).stderr(journal).process_group(0);
    let mut glbd = command.spawn().expect("glbd starts");
    let log = || fs::read_to_string(&path).expect("the journal");
    wait_until("it serves", || log().contains("there are no destinations"));
    kill(Pid::from_raw(glbd.id() as i32), Signal::SIGTERM).expect("it runs");
    glbd.wait().expect("it ends");
    let log = log();
    let begins = |line: &str| ["<6>time=", "<4>time="].iter().any(|it| line.starts_with(it));
    assert!(log.lines().count() == 3 && log.lines().all(begins), "{log}");
    assert!(log.lines().nth(2).is_some_and(|line| line.ends_with(" level=info kind=process msg=stopped")), "{log}");
}

/// Each process writes what its own configuration says; lines that are there stay as they are.
#[test]
fn another_format_comes_with_a_reload_and_with_an_upgrade() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    site.write(&[("a", &[&server], "")], &[("s", port, "")]);
    site.start();
    let text = fs::read_to_string(&site.file).expect("the file");
    let say = |format: &str| {
        let text = text.replace("threads = 2", &format!("threads = 2\nlog-format = \"{format}\""));
        fs::write(&site.file, text).expect("the file");
    };
    let client = served(port);
    say("json");
    assert_eq!(site.daemon.control("reload"), "process: log-format is json\nOk\n");
    wait_until("the log goes on", || site.log().contains("log-format is json"));
    let log = site.log();
    let (before, after) = log.split_at(log.find('{').expect("JSON"));
    assert!(before.lines().all(|line| line.starts_with("20") && line.contains(" INFO ")), "{before}");
    assert_eq!(objects(after).len(), 2, "{after}");
    find(&objects(after), "read again, changes: 1");

    say("jsonl");
    assert!(site.daemon.control("reload").contains("process.log-format: 'jsonl'"), "{}", site.daemon.control("reload"));
    say("logfmt");
    site.daemon.upgrade();
    wait_until("the next process has begun", || site.log().contains("msg=\"taken over from process"));
    wait_until("the one before says so", || site.log().contains("has taken over; the open connections"));
    let log = site.log();
    for line in log[before.len()..].lines() {
        let is_of_next = line.starts_with("time=");
        assert!(is_of_next || line.starts_with('{'), "{log}");
        assert!(is_of_next || !line.contains("taken over from process"), "{log}");
    }
    drop(client);
}

/// A line with text is what it always was, with a file and in the foreground.
#[test]
fn text_is_what_is_written_unless_another_format_is_asked_for() {
    for arguments in [&[][..], &["--log-format=text"]] {
        let (server, glbd) = (Server::named("a"), Glbd::builder().args(arguments).start());
        glbd.change(&server);
        assert_eq!(read_line(&connect_to(glbd.address()).expect("it accepts")).expect("a name"), "a");
        glbd.wait_for_log(&format!(" INFO destination {server} added with weight 1, by 127.0.0.1:"));
        let stamped = |line: &str| line.len() > 25 && line.as_bytes()[10] == b'T' && &line[23..25] == "Z ";
        assert!(glbd.log().lines().all(stamped), "{}", glbd.log());
    }
}
