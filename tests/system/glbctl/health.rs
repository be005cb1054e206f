//! `glbctl health`: a plugin for monitoring systems.

use nix::sys::signal::{Signal, kill};

use super::ctl;
use crate::harness::{Glbd, Server, free_port, wait_until};
use crate::services::served;

#[test]
fn the_status_is_that_of_a_monitoring_plugin() {
    let mut servers = [Server::echo(), Server::echo(), Server::echo()];
    let addresses: Vec<String> = servers.iter().map(ToString::to_string).collect();
    let options = ["-w", "tcp", "--interval=0.2", "--fall=1", "--rise=1"];
    let glbd = Glbd::builder().args(options).arg("--service-max-connections=1").destinations(&addresses).start();
    let control = glbd.control_address();
    let down = |count| {
        wait_until("it is seen", || glbd.watch().rows.iter().filter(|row| row.state == "DOWN").count() == count);
        ctl(control, "health --warning 1 --critical 2")
    };
    wait_until("all are READY", || glbd.watch().rows.iter().all(|row| row.state == "READY"));
    let fine = down(0);
    assert!(fine.text().starts_with("GLBD OK - 3 of 3 destinations fit, 0 connections | unfit=0;0;1;0;3 "), "{fine:?}");
    servers[0].stop();
    let warning = down(1);
    assert_eq!(warning.status, Some(1));
    let expected = format!("\n{} DOWN: Connection refused (os error 111)\n", addresses[0]);
    assert!(warning.stdout.starts_with("GLBD WARNING - 2 of 3 ") && warning.stdout.ends_with(&expected), "{warning:?}");
    servers[1].stop();
    assert_eq!(down(2).status, Some(2));
    assert_eq!(ctl(control, "health --warning 3 --critical 4").status, Some(0));
    // What was drained is meant to be away.
    ctl(control, &format!("drain {}", addresses[0])).text();
    assert_eq!(ctl(control, "health --critical 2").status, Some(1));
    servers[1].start();
    assert_eq!(down(1).status, Some(0));
    let json: serde_json::Value = serde_json::from_str(&ctl(control, "health --json").stdout).expect("JSON");
    assert_eq!(json["state"], "OK");
    {
        let _only = served(glbd.address().port());
        wait_until("it is full", || ctl(control, "health").stdout.contains("service main is full"));
        assert_eq!(ctl(control, "health").status, Some(2));
    }
    for address in &addresses {
        ctl(control, &format!("drain {address}")).text();
    }
    let unserved = ctl(control, "health");
    assert_eq!(unserved.status, Some(2));
    assert!(unserved.stdout.contains("service main has no destination"), "{unserved:?}");
}

#[test]
fn what_is_not_known_is_said() {
    let glbd = Glbd::start([Server::echo().address()]);
    assert_eq!(ctl(free_port(), "health").status, Some(2), "no daemon, no service");
    assert_eq!(ctl(glbd.control_address(), "health --pool nosuch").status, Some(3));
    assert_eq!(ctl(glbd.control_address(), "health --warning many").status, Some(3));
}

/// Nothing is wrong with a destination, and no client is served.
#[test]
fn a_paused_daemon_is_critical_until_it_is_resumed() {
    let glbd = Glbd::start([Server::echo().address()]);
    let control = glbd.control_address();
    let state = |word: &str| ctl(control, "status").text().contains(word);
    assert!(ctl(control, "health").text().starts_with("GLBD OK ") && state(" ready"));
    kill(glbd.pid(), Signal::SIGTTOU).expect("it runs");
    wait_until("it is paused", || state(" paused"));
    let paused = ctl(control, "health");
    assert_eq!(paused.status, Some(2), "{paused:?}");
    assert!(
        paused.stdout.starts_with("GLBD CRITICAL - 1 of 1 destinations fit, 0 connections, paused: new"),
        "{paused:?}"
    );
    assert!(!state(" ready"));
    kill(glbd.pid(), Signal::SIGTTIN).expect("it runs");
    wait_until("it is resumed", || state(" ready"));
    assert_eq!(ctl(control, "health").status, Some(0));
}
