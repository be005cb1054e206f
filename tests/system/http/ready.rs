//! `/health` and `/ready`, which load balancers in front of this one ask.

use std::process::Command;

use nix::sys::signal::Signal;

use super::Web;
use crate::harness::{Daemon, Glbd, Server, echoes, free_port, wait_until};
use crate::services::{Site, served};

#[test]
fn a_service_is_ready_while_a_destination_takes_clients() {
    let mut server = Server::echo();
    let options = ["--watchdog", "tcp", "--interval", "0.1", "--fall", "1", "--rise", "1"];
    let (_glbd, web) = Web::of(&options, &[&server]);
    wait_until("it is ready", || web.get("/ready").status == 200);
    assert_eq!(web.get("/ready/main").body, "main: ready\n");
    server.stop();
    wait_until("it is not", || web.get("/ready/main").status == 503);
    assert_eq!(web.get("/ready").body, "main: no destination takes clients\n");
    assert_eq!(web.get("/health").status, 200, "the process serves all the same");
    server.start();
    wait_until("it is again", || web.get("/ready").status == 200);
    assert_eq!(web.json_of(404, "/ready/other")["error"], "there is no such service");
}

#[test]
fn a_drained_destination_takes_no_clients() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&[], &[&server]);
    assert_eq!(web.get("/ready").status, 200);
    assert_eq!(glbd.control(&format!("drain {server}")), "Ok\n");
    assert_eq!(web.get("/ready").status, 503);
    assert_eq!(glbd.control(&format!("enable {server}")), "Ok\n");
    assert_eq!(web.get("/ready").status, 200);
}

#[test]
fn a_full_service_is_not_ready_and_others_are() {
    let (site, server, ports, web) = (Site::new(), Server::echo(), [free_port(), free_port()], Web::new());
    site.write(&[("p", &[&server], "")], &[("a", ports[0], "max-connections = 1"), ("b", ports[1], "")]);
    site.daemon.start(&["--config", &site.file, &web.option()]);
    wait_until("it is ready", || web.try_to_ask("GET", "/ready", &[], "").is_ok_and(|it| it.status == 200));
    let client = served(ports[0]);
    wait_until("it is full", || web.get("/ready/a").status == 503);
    let all = web.get("/ready");
    assert_eq!((all.status, &*all.body), (503, "a: it has as many clients as it may have\nb: ready\n"));
    assert_eq!(web.get("/ready/b").status, 200);
    drop(client);
    wait_until("there is room", || web.get("/ready").status == 200);
}

#[test]
fn a_full_process_is_not_ready() {
    let server = Server::echo();
    let (glbd, web) = Web::of(&["--max_conn", "1"], &[&server]);
    let client = glbd.connect();
    assert!(echoes(&client));
    assert_eq!(web.get("/ready").body, "main: the process has as many connections as it may have\n");
}

/// keepalived is to move on to a machine that serves: here clients would wait.
#[test]
fn a_paused_process_is_not_ready_until_it_is_resumed() {
    let (server, web) = (Server::echo(), Web::new());
    let daemon = Daemon::started(&["--user", "root", &web.option(), &server.to_string()]);
    wait_until("it is ready", || web.try_to_ask("GET", "/ready", &[], "").is_ok_and(|it| it.status == 200));
    daemon.signal(Signal::SIGTTOU);
    wait_until("it is paused", || web.get("/ready").status == 503);
    for path in ["/ready", "/ready/main"] {
        let answer = web.get(path);
        assert_eq!((answer.status, &*answer.body), (503, "main: new clients wait until the process is resumed\n"));
    }
    let says = |paused: bool| {
        let status: serde_json::Value = serde_json::from_str(&web.get("/api/v1/status").body).expect("JSON");
        let metric = format!("\nglbd_paused {}\n", u8::from(paused));
        status["process"]["paused"] == paused && web.get("/metrics").body.contains(&metric)
    };
    assert!(says(true));
    assert_eq!(web.get("/health").status, 200, "it need not be restarted");
    assert_eq!(web.json_of(404, "/ready/other")["error"], "there is no such service");
    // The next process is paused as well, from its first answer on.
    daemon.upgrade();
    for _ in 0..50 {
        assert_eq!(web.get("/ready").status, 503);
    }
    assert!(says(true));
    daemon.signal(Signal::SIGTTIN);
    wait_until("it is resumed", || web.get("/ready").status == 200);
    assert_eq!(web.get("/ready/main").body, "main: ready\n");
    assert!(says(false));
    assert!(echoes(&daemon.connect()));
}

#[test]
fn curl_asks_with_get_and_head_also_through_a_unix_socket() {
    let (server, directory) = (Server::echo(), tempfile::tempdir().expect("a directory"));
    let socket = directory.path().join("http").display().to_string();
    let start = || Glbd::builder().arg(format!("--http=unix:{socket}")).destinations([&server]).start();
    let curl = |arguments: &[&str]| {
        let common = ["--silent", "--show-error", "--fail", "--unix-socket", &socket];
        let output = Command::new("curl").args(common).args(arguments).output().expect("curl, from Debian's package");
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let glbd = start();
    wait_until("the socket is there", || std::path::Path::new(&socket).exists());
    assert_eq!(curl(&["http://any.name/ready"]), "main: ready\n");
    let head = curl(&["--head", "http://glbd/metrics"]).to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-length: "), "{head}");
    // One that was killed has left its socket behind, which the next replaces.
    drop(glbd);
    let _glbd = start();
    wait_until("it answers again", || {
        Command::new("curl")
            .args(["-sf", "--unix-socket", &socket, "http://glbd/health"])
            .output()
            .is_ok_and(|it| it.status.success())
    });
}
