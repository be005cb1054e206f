//! `--wait`: the command returns when it is so, and says when it cannot become so.

use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::{bare, ctl};
use crate::harness::{Glbd, Server, echoes, wait_until};

/// Begins a command of glbctl's.
fn begin(glbd: &Glbd, arguments: &str) -> Child {
    let mut command = bare();
    command.args(["-c", &glbd.control_address().to_string()]).args(arguments.split(' '));
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("glbctl starts")
}

/// The status and stderr of one that ends.
fn end(child: Child) -> (Option<i32>, String) {
    let output = child.wait_with_output().expect("glbctl");
    (output.status.code(), String::from_utf8(output.stderr).expect("text"))
}

#[test]
fn a_drained_destination_is_waited_for_until_its_last_connection_ends() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::start(&servers);
    let clients: Vec<_> = (0..4).map(|_| glbd.connect()).collect();
    assert!(clients.iter().all(echoes));
    let mut waiting = begin(&glbd, &format!("drain {} --wait", servers[0]));
    wait_until("it is drained", || glbd.info().row(&servers[0]).weight == 0.0);
    thread::sleep(Duration::from_millis(300));
    assert!(waiting.try_wait().expect("glbctl").is_none(), "two clients are there");
    drop(clients);
    assert_eq!(end(waiting), (Some(0), String::new()));
    assert_eq!(glbd.info().row(&servers[0]).conns, 0);
}

#[test]
fn waiting_ends_with_a_status_of_its_own_when_there_is_no_time_left() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    let client = glbd.connect();
    assert!(echoes(&client));
    let begun = Instant::now();
    let late = ctl(glbd.control_address(), &format!("drain {server} --wait --timeout 0.5"));
    assert_eq!(late.refusal(3), format!("not in time: {server} has 1 connection\n"));
    assert!(begun.elapsed() >= Duration::from_millis(300));
    assert_eq!(glbd.info().row(&server).weight, 0.0, "it stays drained");
}

#[test]
fn what_somebody_else_does_meanwhile_ends_the_waiting() {
    let server = Server::echo();
    for (then, status) in [("enable", 1), ("remove", 0)] {
        let glbd = Glbd::start([&server]);
        let client = glbd.connect();
        assert!(echoes(&client));
        let waiting = begin(&glbd, &format!("drain {server} --wait"));
        wait_until("it is drained", || glbd.info().row(&server).weight == 0.0);
        ctl(glbd.control_address(), &format!("{then} {server}")).text();
        let (ended, said) = end(waiting);
        assert_eq!(ended, Some(status), "{then}: {said}");
    }
}

#[test]
fn one_that_is_enabled_is_waited_for_until_it_is_fit() {
    let (mut server, other) = (Server::echo(), Server::echo());
    let glbd =
        Glbd::builder().args(["-w", "tcp", "--interval=0.2", "--fall=1"]).destinations([&server, &other]).start();
    wait_until("both are READY", || glbd.watch().rows.iter().all(|row| row.state == "READY"));
    let name = server.to_string();
    ctl(glbd.control_address(), &format!("drain {name} --wait")).text();
    server.stop();
    wait_until("it is DOWN", || glbd.watch().rows.iter().any(|row| row.state == "DOWN"));
    let late = ctl(glbd.control_address(), &format!("enable {name} --wait --timeout 1"));
    assert!(late.refusal(3).starts_with(&format!("not in time: {name} is DOWN: ")), "{late:?}");
    let waiting = begin(&glbd, &format!("enable {name} --wait"));
    server.start();
    assert_eq!(end(waiting), (Some(0), String::new()));
    assert!(glbd.watch().rows.iter().all(|row| row.state == "READY"));
    ctl(glbd.control_address(), &format!("remove {name} --wait")).text();
    assert_eq!(glbd.info().rows.len(), 1);
}

#[test]
fn the_writer_is_moved_when_the_command_returns() {
    let servers = [Server::echo(), Server::echo()];
    let glbd = Glbd::builder().args(["--single", "-w", "tcp"]).destinations(&servers).start();
    wait_until("there is a writer", || glbd.info().row(&servers[0]).is_single);
    let client = glbd.connect();
    assert!(echoes(&client));
    ctl(glbd.control_address(), &format!("writer {} --grace 0.2", servers[1])).text();
    let info = glbd.info();
    assert!(info.row(&servers[1]).is_single && info.row(&servers[0]).conns == 0, "{info:?}");
}
