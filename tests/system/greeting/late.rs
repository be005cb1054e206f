//! Servers whose greeting does not come in time, and what happens to the clients meanwhile.

use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use super::packets::{assert_greeted_by, greeter, handshake, in_order, say};
use crate::harness::{Server, echoes, reset, said_goodbye, wait_until};

/// A server that accepts, and greets nobody before it is woken.
struct Stuck {
    server: Server,
    awake: Arc<(Mutex<bool>, Condvar)>,
}

impl Stuck {
    fn start() -> Self {
        let awake = Arc::new((Mutex::new(false), Condvar::new()));
        let server = Server::serving({
            let awake = Arc::clone(&awake);
            move |stream| {
                let (flag, changed) = &*awake;
                let guard = changed.wait_while(flag.lock().expect("the flag"), |awake| !*awake).expect("the flag");
                drop(guard);
                if say(stream, &handshake("stuck")) {
                    crate::harness::servers::echo(stream);
                }
            }
        });
        Self { server, awake }
    }

    fn wake(&self) {
        *self.awake.0.lock().expect("the flag") = true;
        self.awake.1.notify_all();
    }
}

impl Drop for Stuck {
    fn drop(&mut self) {
        self.wake();
    }
}

#[test]
fn a_server_that_accepts_and_says_nothing_is_passed_over_after_the_connect_timeout() {
    let (stuck, other) = (Stuck::start(), greeter("other"));
    let glbd = in_order([&stuck.server, &other]).args(["--connect-timeout", "1", "--interval", "60"]).start();
    let begun = Instant::now();
    let client = glbd.connect();
    assert_greeted_by("other", &client);
    assert!(begun.elapsed() >= Duration::from_secs(1), "passed over after {:?}", begun.elapsed());
    assert!(echoes(&client));
    assert_greeted_by("other", &glbd.connect());
    assert_eq!(stuck.server.accepted(), 1);
}

#[test]
fn a_greeting_that_is_late_delays_those_who_wait_and_nobody_who_comes_later() {
    let (stuck, other) = (Stuck::start(), greeter("other"));
    let glbd = in_order([&stuck.server, &other]).args(["--connect-timeout", "60", "--interval", "0.5"]).start();
    let waiting = glbd.connect();
    glbd.wait_for_log(&format!("destination {} is slow: no greeting within 0.5 s; others", stuck.server));
    assert_greeted_by("other", &glbd.connect());
    assert_eq!(glbd.info().row(&stuck.server).conns, 1);
    stuck.wake();
    assert_greeted_by("stuck", &waiting);
    glbd.wait_for_log(&format!("destination {} can be reached again", stuck.server));
    assert_greeted_by("stuck", &glbd.connect());
}

#[test]
fn a_client_that_waits_for_a_greeting_goes_on_to_another_server_when_this_one_is_removed() {
    let (stuck, other) = (Stuck::start(), greeter("other"));
    let glbd = in_order([&stuck.server, &other]).args(["--connect-timeout", "60", "--interval", "60"]).start();
    let clients: Vec<_> = (0..10).map(|_| glbd.connect()).collect();
    wait_until("all wait", || stuck.server.accepted() == 10);
    glbd.change(format!("{}:-1", stuck.server));
    for client in &clients {
        assert_greeted_by("other", client);
    }
}

#[test]
fn clients_that_give_up_while_they_wait_for_a_greeting_are_forgotten() {
    let stuck = Stuck::start();
    let glbd = in_order([&stuck.server]).args(["--connect-timeout", "60"]).start();
    let clients: Vec<_> = (0..5).map(|_| glbd.connect()).collect();
    wait_until("all wait", || stuck.server.accepted() == 5);
    clients.into_iter().for_each(reset);
    wait_until("all are forgotten", || glbd.info().total == 0);
}

#[test]
fn a_client_that_waits_for_a_greeting_is_served_by_a_daemon_that_drains() {
    let stuck = Stuck::start();
    let mut glbd = in_order([&stuck.server]).args(["--connect-timeout", "60"]).start();
    let client = glbd.connect();
    wait_until("it waits", || stuck.server.accepted() == 1);
    glbd.signal(Signal::SIGUSR1);
    stuck.wake();
    assert_greeted_by("stuck", &client);
    assert!(echoes(&client));
    drop(client);
    assert!(glbd.wait_exit().success());
}

/// In MySQL's protocol such a client could not even log in.
#[test]
fn a_client_that_ends_its_side_while_it_waits_for_a_greeting_is_taken_to_no_other_server() {
    let (stuck, other) = (Stuck::start(), greeter("other"));
    let glbd = in_order([&stuck.server, &other]).args(["--connect-timeout", "1", "--interval", "60"]).start();
    let client = glbd.connect();
    wait_until("it has been taken to the first", || stuck.server.accepted() == 1);
    client.shutdown(Shutdown::Write).expect("an open connection");
    assert!(said_goodbye(&client));
    assert_eq!(other.accepted(), 0);
    wait_until("nothing is left of it", || glbd.stats().open == 0);
}
