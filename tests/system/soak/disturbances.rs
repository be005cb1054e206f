//! What is done meanwhile: to destinations, which ends connections, and to the daemon, which must end none.

use std::fs;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use super::Soak;
use super::destinations::Destination;
use super::ledger::Harm;
use crate::harness::watch::Watch;
use crate::harness::{control, free_port, proc, wait_until, wait_until_within};

/// The checker is started again more and more slowly.
const PATIENCE: Duration = Duration::from_secs(90);

/// What is done to a destination; it is as before when this returns, but perhaps not READY yet.
type Deed = fn(&Soak, &Destination);

/// Does something to one destination after the other.
pub fn of_destinations(soak: &Soak) {
    let deeds: [(&str, Deed); 6] = [
        ("dies", dies),
        ("refuses", refuses),
        ("stalls", stalls),
        ("is unfit", is_unfit),
        ("is removed", is_removed),
        ("is silent to the watchdog", is_silent_to_the_watchdog),
    ];
    while !soak.is_over() {
        let destination = &soak.destinations[fastrand::usize(..soak.destinations.len())];
        let (name, deed) = deeds[fastrand::usize(..deeds.len())];
        soak.ledger.note(name, destination.number);
        deed(soak, destination);
        wait_until_ready(soak, destination);
        soak.ledger.note("all is well again", destination.number);
        soak.pause(Duration::from_millis(fastrand::u64(500..4000)));
    }
}

fn wait_until_ready(soak: &Soak, destination: &Destination) {
    let judged = |watch: &Watch| watch.row(destination).state == "READY";
    wait_until_within(PATIENCE, "the destination is READY", || judged(&Watch::parse(&soak.daemon.control("getwatch"))));
}

fn dies(soak: &Soak, destination: &Destination) {
    let harm = soak.ledger.harm(destination.number, Harm::Killed);
    destination.site(|site| site.server.stop());
    soak.pause(Duration::from_millis(fastrand::u64(100..5000)));
    destination.site(|site| site.server.start());
    drop(harm);
    soak.ledger.count("a destination died and came back");
}

fn refuses(soak: &Soak, destination: &Destination) {
    // Connections that the kernel has accepted for it end with its listening socket.
    let harm = soak.ledger.harm(destination.number, Harm::Killed);
    destination.site(|site| site.server.stop_listening());
    drop(harm);
    soak.pause(Duration::from_millis(fastrand::u64(100..5000)));
    destination.site(|site| site.server.start());
    soak.ledger.count("a destination refused for a while");
}

fn stalls(soak: &Soak, destination: &Destination) {
    destination.stall(true);
    soak.pause(Duration::from_millis(fastrand::u64(1000..8000)));
    destination.stall(false);
    soak.ledger.count("a destination neither read nor wrote");
}

fn is_unfit(soak: &Soak, destination: &Destination) {
    let _harm = soak.ledger.harm(destination.number, Harm::Cut);
    destination.site(|site| site.say(503));
    soak.pause(Duration::from_millis(fastrand::u64(100..6000)));
    destination.site(|site| site.say(200));
    // Until then its sessions may be closed.
    wait_until_ready(soak, destination);
    soak.ledger.count("a destination was unfit for a while");
}

fn is_removed(soak: &Soak, destination: &Destination) {
    let _harm = soak.ledger.harm(destination.number, Harm::Cut);
    change(soak, &format!("{destination}:-1"));
    soak.pause(Duration::from_millis(fastrand::u64(0..3000)));
    change(soak, &format!("{destination}:1"));
    soak.ledger.count("a destination was removed and added");
}

fn is_silent_to_the_watchdog(soak: &Soak, destination: &Destination) {
    destination.site(|site| site.hang(true));
    soak.pause(Duration::from_millis(fastrand::u64(1000..5000)));
    destination.site(|site| site.hang(false));
    soak.ledger.count("a destination left a check unanswered");
}

/// Does something to the daemon that no client may notice.
pub fn of_the_daemon(soak: &Soak, with_upgrades: bool) {
    let deeds: [fn(&Soak); 8] = [
        reweighs,
        reweighs_through_the_fifo,
        drains,
        adds_one_that_refuses,
        rotates_the_log,
        kills_the_checker,
        stops_the_checker,
        stops_the_daemon,
    ];
    while !soak.is_over() {
        if with_upgrades && fastrand::u8(..4) == 0 {
            soak.daemon.upgrade();
            soak.ledger.count("another process took over");
        }
        deeds[fastrand::usize(..deeds.len())](soak);
        soak.pause(Duration::from_millis(fastrand::u64(100..2000)));
    }
}

/// Says a command whose answer must be `Ok`. One that an upgrade leaves unanswered is said again, to the next process.
fn change(soak: &Soak, command: &str) {
    let mut answer = String::new();
    wait_until("a command is answered", || {
        answer = control::ask(soak.daemon.control_address(), command).unwrap_or_default();
        !answer.is_empty()
    });
    if answer != "Ok\n" {
        soak.ledger.error(format!("the answer to {command:?} is {answer:?}"));
    }
}

fn any(soak: &Soak) -> &Destination {
    &soak.destinations[fastrand::usize(..soak.destinations.len())]
}

fn reweighs(soak: &Soak) {
    for _ in 0..fastrand::usize(1..20) {
        // One that is being removed is not there to be changed.
        let weight = f64::from(fastrand::u32(1..80)) / 8.0;
        let answer = control::ask(soak.daemon.control_address(), &format!("weight {}:{weight}", any(soak)));
        soak.ledger.count(if answer.is_ok_and(|it| it == "Ok\n") { "a weight was changed" } else { "... not changed" });
    }
}

fn reweighs_through_the_fifo(soak: &Soak) {
    let weight = f64::from(fastrand::u32(1..80)) / 8.0;
    fs::write(soak.daemon.fifo(), format!("weight {}:{weight}\n", any(soak))).expect("a FIFO");
    soak.ledger.count("a weight was changed through the FIFO");
}

fn drains(soak: &Soak) {
    let destination = any(soak);
    let is_there = |answer: std::io::Result<String>| answer.is_ok_and(|it| it == "Ok\n");
    let control = soak.daemon.control_address();
    if is_there(control::ask(control, &format!("weight {destination}:0"))) {
        soak.pause(Duration::from_millis(fastrand::u64(100..4000)));
        // It may have been removed and added meanwhile.
        wait_until("it has its weight back", || is_there(control::ask(control, &format!("weight {destination}:1"))));
        soak.ledger.count("a destination was drained for a while");
    }
}

fn adds_one_that_refuses(soak: &Soak) {
    let address = format!("127.0.0.99:{}", free_port());
    for weight in ["1", "0", "-1"] {
        let command = format!("{address}:{weight}");
        match fastrand::bool() {
            true => change(soak, &command),
            false => change_through_the_fifo(soak, &command, &address, weight),
        }
        soak.pause(Duration::from_millis(fastrand::u64(0..1000)));
    }
    soak.ledger.count("one that refuses was added and removed");
}

fn change_through_the_fifo(soak: &Soak, command: &str, address: &str, weight: &str) {
    fs::write(soak.daemon.fifo(), format!("{command}\n")).expect("a FIFO");
    wait_until("it is obeyed", || {
        let found = soak.daemon.info().rows.into_iter().find(|row| row.address == address);
        found.map_or(-1.0, |row| row.weight).to_string() == weight
    });
}

fn rotates_the_log(soak: &Soak) {
    let log = soak.log_path();
    let rotated = log.with_extension(soak.number().to_string());
    fs::rename(&log, rotated).expect("the log");
    soak.daemon.signal(Signal::SIGHUP);
    wait_until("the log is opened anew", || log.exists());
    soak.ledger.count("the log was rotated");
}

fn kills_the_checker(soak: &Soak) {
    for checker in proc::children(soak.daemon.pid(), "glbd-checker") {
        // It may have ended by itself.
        let _ = kill(checker, Signal::SIGKILL);
        soak.ledger.count("the checker was killed");
    }
}

fn stops_the_checker(soak: &Soak) {
    for checker in proc::children(soak.daemon.pid(), "glbd-checker") {
        let _ = kill(checker, Signal::SIGSTOP);
        soak.pause(Duration::from_millis(fastrand::u64(500..4000)));
        let _ = kill(checker, Signal::SIGCONT);
        soak.ledger.count("the checker was stopped for a while");
    }
}

fn stops_the_daemon(soak: &Soak) {
    soak.daemon.signal(Signal::SIGSTOP);
    soak.pause(Duration::from_millis(fastrand::u64(100..2500)));
    soak.daemon.signal(Signal::SIGCONT);
    soak.ledger.count("the daemon was stopped for a while");
}
