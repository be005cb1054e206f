//! Calls that make connections.

use super::Load;
use crate::harness::{Fault, Glbd, Server, wait_until};

/// What an operator reads when clients wait for this machine.
const MACHINE: &str = "this machine cannot make a connection";

struct Scene {
    glbd: Glbd,
    _servers: [Server; 2],
    load: Load,
    descriptors: usize,
}

impl Scene {
    fn start() -> Self {
        let servers = [Server::echo(), Server::echo()];
        let glbd = Glbd::builder().args(["-t", "1", "--connect-timeout", "40"]).destinations(&servers).start();
        let descriptors = glbd.descriptors();
        let load = Load::on(glbd.address());
        Self { glbd, _servers: servers, load, descriptors }
    }

    /// Injects a fault until the log has this line, and a while longer.
    fn suffer(&self, fault: &str, line: &str) {
        let before = self.glbd.log().matches(line).count();
        let fault = Fault::inject(self.glbd.pid(), fault);
        wait_until(&format!("the log says {line:?}"), || self.glbd.log().matches(line).count() > before);
        fault.wait_for_hits(5);
        fault.lift();
    }

    /// How many lines of the log say this. That there is no such call is what strace leaves to one in whose midst it lets
    /// go of the process.
    fn count(&self, words: &str) -> usize {
        let log = self.glbd.log();
        log.lines()
            .filter(|line| line.contains(words) && !line.contains("Function not implemented (os error 38)"))
            .count()
    }

    /// All clients were served, now that the fault is over, no destination was blamed, and the descriptors are back.
    fn end(self) {
        self.load.wait_for_more();
        assert_eq!(self.count("cannot be reached"), 0, "{}", self.glbd.log());
        let Self { glbd, load, descriptors, .. } = self;
        load.end();
        wait_until("all is back", || glbd.info().total == 0 && glbd.descriptors() == descriptors);
    }
}

/// Clients wait in the backlog.
fn cannot_accept(error: &str, words: &str) {
    let scene = Scene::start();
    scene.suffer(&format!("accept4:error={error}"), &format!("WARN cannot accept: {words}"));
    assert_eq!(scene.count("WARN cannot accept"), 1, "one line, however many clients: {}", scene.glbd.log());
    scene.end();
}

#[test]
fn no_client_is_lost_when_accept_says_that_the_process_has_too_many_files() {
    cannot_accept("EMFILE", "Too many open files (os error 24); new clients wait in the backlog");
}

#[test]
fn no_client_is_lost_when_accept_says_that_the_system_has_too_many_files() {
    cannot_accept("ENFILE", "Too many open files in system (os error 23); new clients wait in the backlog");
}

#[test]
fn no_client_is_lost_when_accept_finds_no_buffers() {
    cannot_accept("ENOBUFS", "No buffer space available (os error 105); new clients wait in the backlog");
}

#[test]
fn no_client_is_lost_when_accept_finds_no_memory() {
    cannot_accept("ENOMEM", "Cannot allocate memory (os error 12); new clients wait in the backlog");
}

#[test]
fn no_client_is_lost_when_a_firewall_forbids_to_accept_for_a_while() {
    cannot_accept("EPERM", "Operation not permitted (os error 1); new clients wait in the backlog");
}

/// Clients that are in wait, and no further ones are let in.
fn cannot_connect(fault: &str, words: &str) {
    let scene = Scene::start();
    scene.suffer(fault, &format!("WARN {MACHINE}: {words}"));
    assert_eq!(scene.count(MACHINE), 1, "{}", scene.glbd.log());
    scene.end();
}

#[test]
fn no_client_is_lost_when_there_is_no_socket_for_the_process() {
    cannot_connect("socket:error=EMFILE", "Too many open files (os error 24)");
}

#[test]
fn no_client_is_lost_when_there_is_no_socket_in_the_system() {
    cannot_connect("socket:error=ENFILE", "Too many open files in system (os error 23)");
}

#[test]
fn no_client_is_lost_when_there_is_no_buffer_for_a_socket() {
    cannot_connect("socket:error=ENOBUFS", "No buffer space available (os error 105)");
}

#[test]
fn no_client_is_lost_when_there_is_no_memory_for_a_socket() {
    cannot_connect("socket:error=ENOMEM", "Cannot allocate memory (os error 12)");
}

#[test]
fn no_client_is_lost_when_connect_finds_no_buffers() {
    cannot_connect("connect:error=ENOBUFS", "No buffer space available (os error 105)");
}

#[test]
fn no_client_is_lost_when_there_is_no_local_port() {
    // Every second call is for a datagram, by which glbd finds out that it is ports that are lacking.
    cannot_connect("connect:error=EADDRNOTAVAIL:when=1+2", "Cannot assign requested address (os error 99)");
}

#[test]
fn no_client_is_lost_when_a_connection_to_a_destination_cannot_be_watched() {
    // Those of clients are every first one.
    cannot_connect("epoll_ctl:error=ENOSPC:when=2+2", "No space left on device (os error 28)");
}

#[test]
fn no_client_is_lost_when_its_connection_cannot_be_watched_for_lack_of_memory() {
    cannot_connect("epoll_ctl:error=ENOMEM", "Cannot allocate memory (os error 12)");
}

#[test]
fn no_client_is_lost_when_all_watches_are_taken() {
    cannot_connect("epoll_ctl:error=ENOSPC", "No space left on device (os error 28)");
}

#[test]
fn a_client_goes_on_to_another_destination_when_a_firewall_forbids_one() {
    let scene = Scene::start();
    scene.suffer(
        "connect:error=EPERM:when=1+2",
        "cannot be reached: Operation not permitted (os error 1); others are preferred while there are any",
    );
    scene.load.wait_for_more();
    scene.glbd.wait_for_log("can be reached again");
    let Scene { glbd, load, descriptors, .. } = scene;
    load.end();
    wait_until("all is back", || glbd.info().total == 0 && glbd.descriptors() == descriptors);
}

/// accept(2) passes such errors on from a connection that broke before it was accepted; it says nothing of the next one.
#[test]
fn an_error_that_concerns_one_client_in_the_backlog_keeps_no_other_one_waiting() {
    let scene = Scene::start();
    for error in ["ECONNABORTED", "EPROTO", "ENETDOWN", "EHOSTUNREACH", "EINTR"] {
        let fault = Fault::inject(scene.glbd.pid(), &format!("accept4:error={error}:when=1+2"));
        fault.wait_for_hits(5);
        fault.lift();
    }
    assert_eq!(scene.count("cannot accept"), 0, "{}", scene.glbd.log());
    scene.end();
}
