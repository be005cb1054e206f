//! HTTP through a hot upgrade: no scrape fails, and counters go on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use super::Web;
use crate::harness::{Daemon, Server, echoes, wait_until};

fn speaks(web: &Web) -> bool {
    web.try_to_ask("GET", "/health", &[], "").is_ok_and(|it| it.status == 200)
}

#[test]
fn no_scrape_fails_while_another_process_takes_over() {
    let (server, web) = (Server::echo(), Web::new());
    let address = server.to_string();
    let daemon = Daemon::started(&["--user", "root", &web.option(), &address]);
    wait_until("HTTP is spoken", || speaks(&web));
    let client = daemon.connect();
    assert!(echoes(&client));
    let (ends, scrapes) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let scraper = scope.spawn(|| {
            while !ends.load(Ordering::SeqCst) {
                let answer = web.try_to_ask("GET", "/metrics", &[], "");
                assert!(answer.as_ref().is_ok_and(|it| it.status == 200), "{answer:?}");
                scrapes.fetch_add(1, Ordering::SeqCst);
            }
        });
        for _ in 0..3 {
            daemon.upgrade();
            let before = scrapes.load(Ordering::SeqCst);
            wait_until("it is scraped, or has failed", || {
                scrapes.load(Ordering::SeqCst) > before + 3 || scraper.is_finished()
            });
        }
        ends.store(true, Ordering::SeqCst);
    });
    let metrics = web.get("/metrics").body;
    assert!(metrics.contains("\nglbd_accepted_connections_total 1\n"), "{metrics}");
    assert!(metrics.contains("\nglbd_connections 1\n"), "the old process's are counted");
    assert!(echoes(&client));
}

#[test]
fn the_last_hour_and_the_writers_time_go_on() {
    for watchdog in [&["-w", "tcp"][..], &[]] {
        let (server, web) = (Server::echo(), Web::new());
        let (option, address) = (web.option(), server.to_string());
        let daemon = Daemon::started(&[watchdog, &["--user", "root", "--single", &option, &address]].concat());
        wait_until("HTTP is spoken", || speaks(&web));
        let samples = || web.json("/api/v1/samples")["destinations"][0]["samples"]["connections"].clone();
        wait_until("there is a sample", || samples() == serde_json::json!([0]));
        let client = daemon.connect();
        assert!(echoes(&client));
        let writer = || web.json("/api/v1/status")["services"][0]["writer_since"].clone();
        let before = writer();
        assert!(before.is_string(), "{before}");
        daemon.upgrade();
        // One that it had taken itself would have a connection.
        assert_eq!(samples(), serde_json::json!([0]));
        assert_eq!(writer(), before);
    }
}

#[test]
fn a_unix_socket_is_handed_over_and_removed_at_the_end() {
    let server = Server::echo();
    let daemon = Daemon::new();
    let socket = daemon.directory().join("http");
    let option = format!("--http=unix:{}", socket.display());
    daemon.start(&["--user", "root", &option, &server.to_string()]);
    let answers = || {
        let url = ["-sf", "--unix-socket", socket.to_str().expect("text"), "http://glbd/health"];
        std::process::Command::new("curl").args(url).output().expect("curl").status.success()
    };
    wait_until("it answers", answers);
    daemon.upgrade();
    assert!(answers());
    daemon.signal(nix::sys::signal::Signal::SIGTERM);
    daemon.wait_until_gone();
    assert!(!socket.exists());
}
