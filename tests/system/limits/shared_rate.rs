//! How fast all services together take new clients.

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::fifty_are_served_at_twenty_a_second;
use crate::harness::{Glbd, Server, connect_from, connect_to, echoes, free_port, read_line};
use crate::services::{Site, at};

#[test]
fn clients_above_the_rate_wait_in_the_backlog() {
    let server = Server::named_and_closing("a");
    let glbd = Glbd::builder().args(["--threads", "2", "--process-connection-rate=20"]).destinations([&server]).start();
    fifty_are_served_at_twenty_a_second(&glbd);
    glbd.wait_for_log("all services together take no more than 20 connections a second; new clients wait");
}

/// Those that are reset for a limit of their own take nothing from it.
#[test]
fn clients_that_are_refused_do_not_count() {
    let server = Server::named("a");
    let options = ["--process-connection-rate=5", "--deny=127.0.0.2", "--threads=2"];
    let glbd = Glbd::builder().args(options).destinations([&server]).start();
    let begun = Instant::now();
    for _ in 0..100 {
        let client = connect_from(IpAddr::from([127, 0, 0, 2]), glbd.address());
        assert!(!client.is_ok_and(|client| read_line(&client).is_ok()));
    }
    assert!((0..5).all(|_| read_line(&glbd.connect()).is_ok_and(|name| name == "a")));
    let took = begun.elapsed();
    // At five a second they alone would take twenty.
    assert!(took < Duration::from_secs(15), "{took:?}");
}

#[test]
fn two_services_share_the_rate_and_a_reload_changes_it() {
    let (site, server, ports) = (Site::new(), Server::echo(), [free_port(), free_port()]);
    let write = |rate: &str| {
        site.write(&[("a", &[&server], "")], &[("s", ports[0], ""), ("t", ports[1], "")]);
        let text = fs::read_to_string(&site.file).expect("the file");
        fs::write(&site.file, text.replacen("[process]", &format!("[process]\n{rate}"), 1)).expect("a file");
    };
    let time_for = |count: usize| {
        let begun = Instant::now();
        let clients: Vec<_> = (0..count).map(|n| connect_to(at(ports[n % 2])).expect("glbd accepts")).collect();
        assert!(clients.iter().all(echoes));
        begun.elapsed()
    };
    write("connection-rate = 20");
    site.start();
    let took = time_for(50);
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(20), "{took:?}");
    write("connection-rate = 1000000");
    let told = "process: new connections a second are limited to 1000000\nOk\n";
    assert_eq!(site.daemon.control("reload"), told);
    write("");
    assert_eq!(site.daemon.control("reload"), "process: new connections a second are not limited\nOk\n");
    assert_eq!(site.daemon.control("reload"), "Ok\n");
    time_for(100);
    write("connection-rate = 20");
    assert!(site.daemon.control("reload").starts_with("process: new connections a second are limited to 20\n"));
    site.daemon.upgrade();
    let took = time_for(50);
    assert!(took >= Duration::from_millis(1400) && took < Duration::from_secs(20), "{took:?}");
}
