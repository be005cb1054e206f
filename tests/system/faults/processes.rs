//! Processes that cannot be made, or take long, and processes that stand still.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};

use super::{Load, watched_sites};
use crate::harness::{Daemon, Fault, Glbd, Server, Site, proc, wait_until, write_script};

/// All calls that make a process.
const FORK: &str = "fork,vfork,clone,clone3";

/// Two destinations that are READY, and clients.
struct Watched {
    glbd: Glbd,
    sites: [Site; 2],
    load: Load,
}

impl Watched {
    fn start() -> Self {
        let (page_port, sites) = watched_sites();
        let watchdog = format!("http:{page_port}");
        let glbd = Glbd::builder().args(["-i", "0.1", "--timeout", "30", "-w", &watchdog]).destinations(&sites).start();
        let load = Load::on(glbd.address());
        let watched = Self { glbd, sites, load };
        watched.wait_until_all_are_ready();
        watched
    }

    fn wait_until_all_are_ready(&self) {
        wait_until("all are READY", || self.are_all_ready());
    }

    fn are_all_ready(&self) -> bool {
        self.glbd.watch().rows.iter().all(|row| row.state == "READY")
    }

    /// How often destinations were checked.
    fn checks(&self) -> usize {
        self.sites.iter().map(|site| site.asked().len()).sum()
    }

    fn wait_for_checks(&self) {
        let before = self.checks();
        wait_until("destinations are checked", || self.checks() > before + 4);
    }

    /// No verdict has changed since the start, no client was lost, and checks go on.
    fn end(self) {
        self.wait_for_checks();
        assert!(self.are_all_ready(), "{:?}", self.glbd.watch());
        for state in ["DOWN", "AVOID", "SPARE", "cannot be reached"] {
            assert!(!self.glbd.log().contains(state), "{}", self.glbd.log());
        }
        assert_eq!(proc::zombies(self.glbd.pid()), 0);
        self.load.end();
    }

    fn kill_checker(&self) {
        proc::children(self.glbd.pid(), "glbd-checker")
            .iter()
            .for_each(|it| kill(*it, Signal::SIGKILL).expect("it runs"));
    }
}

#[test]
fn verdicts_stay_when_no_process_can_be_made_for_the_checker() {
    let watched = Watched::start();
    let fault = Fault::inject(watched.glbd.pid(), &format!("{FORK}:error=EAGAIN"));
    watched.kill_checker();
    watched.glbd.wait_for_log(
        "WARN the checker process cannot be started: Resource temporarily unavailable (os error 11); verdicts stay as \
         they are",
    );
    watched.load.wait_for_more();
    assert!(watched.glbd.control("getwatch").starts_with("Watchdog: no checks at the moment, the checker"));
    assert!(watched.are_all_ready());
    fault.lift();
    watched.end();
}

#[test]
fn clients_are_served_as_before_while_a_process_for_the_checker_takes_seconds_to_make() {
    const DELAY: Duration = Duration::from_secs(3);
    let watched = Watched::start();
    let fault = Fault::inject(watched.glbd.pid(), &format!("{FORK}:delay_enter={}", DELAY.as_micros()));
    let begun = Instant::now();
    watched.kill_checker();
    wait_until("it is gone", || proc::children(watched.glbd.pid(), "glbd-checker").is_empty());
    let (mut served, mut since, mut longest) = (0, Instant::now(), Duration::ZERO);
    wait_until("the checker is there again", || {
        if watched.load.served() > served {
            (served, since) = (watched.load.served(), Instant::now());
        }
        longest = longest.max(since.elapsed());
        !proc::children(watched.glbd.pid(), "glbd-checker").is_empty()
    });
    assert!(begun.elapsed() >= DELAY, "the fork took {:?}", begun.elapsed());
    assert!(longest < DELAY / 2, "no client was served for {longest:?}");
    fault.lift();
    watched.end();
}

#[test]
fn a_destination_stays_as_it_is_when_the_checker_has_no_descriptor_to_ask_it() {
    let watched = Watched::start();
    let checker = proc::children(watched.glbd.pid(), "glbd-checker")[0];
    let fault = Fault::inject(checker, "socket:error=EMFILE");
    watched.glbd.wait_for_log("cannot be checked for lack of something here: Too many open files (os error 24)");
    fault.wait_for_hits(20);
    assert!(watched.are_all_ready(), "{:?}", watched.glbd.watch());
    fault.lift();
    watched.end();
}

#[test]
fn a_destination_stays_as_it_is_when_no_process_can_be_made_for_its_script() {
    let (directory, server) = (tempfile::tempdir().expect("a directory"), Server::echo());
    let script = directory.path().join("script");
    write_script(&script, "#!/bin/sh\nwhile read line; do echo 3; done\n", 0o755);
    let watchdog = format!("exec:{}", script.display());
    let glbd = Glbd::builder().args(["-i", "0.1", "--timeout", "30", "-w", &watchdog]).destinations([&server]).start();
    let is_ready = || glbd.watch().row(&server).state == "READY";
    wait_until("it is READY", is_ready);
    let load = Load::on(glbd.address());
    let checker = proc::children(glbd.pid(), "glbd-checker")[0];
    let fault = Fault::inject(checker, &format!("{FORK}:error=EAGAIN"));
    // The new destination's script is the one that cannot be started.
    glbd.change("127.0.0.1:1:1");
    glbd.wait_for_log("cannot be checked for lack of something here: Resource temporarily unavailable (os error 11)");
    assert!(is_ready());
    fault.lift();
    wait_until("the new destination is checked", || glbd.watch().row("127.0.0.1:1").state == "READY");
    glbd.control("127.0.0.1:1:-1");
    load.end();
}

fn upgradable() -> (Daemon, Server, Load) {
    let server = Server::echo();
    let daemon = Daemon::new();
    let log = daemon.directory().join("log").display().to_string();
    daemon.start(&["--user", "root", "-t", "2", "--log", &log, &server.to_string()]);
    let load = Load::on(daemon.address());
    (daemon, server, load)
}

#[test]
fn a_daemon_that_no_process_can_be_made_for_is_not_upgraded_and_goes_on() {
    let (daemon, _server, load) = upgradable();
    let pid = daemon.pid();
    let fault = Fault::inject(pid, &format!("{FORK}:error=EAGAIN"));
    daemon.signal(Signal::SIGUSR2);
    let log = || std::fs::read_to_string(daemon.directory().join("log")).expect("the log");
    wait_until("the log says why", || {
        log().contains("Resource temporarily unavailable (os error 11); this process goes")
    });
    assert!(log().contains("ERROR not upgraded: cannot start "), "{}", log());
    load.wait_for_more();
    assert_eq!(daemon.pid(), pid);
    fault.lift();
    daemon.upgrade();
    load.end();
}

#[test]
fn an_upgrade_for_which_it_takes_long_to_make_a_process_costs_no_client() {
    let (daemon, _server, load) = upgradable();
    let fault = Fault::inject(daemon.pid(), &format!("{FORK}:delay_enter=500000"));
    daemon.upgrade();
    fault.wait_for_hits(1);
    fault.lift();
    load.end();
}

#[test]
fn a_daemon_that_is_stopped_for_seconds_goes_on_where_it_was() {
    let watched = Watched::start();
    let glbd = &watched.glbd;
    glbd.signal(Signal::SIGSTOP);
    let begun = Instant::now();
    // Checks that were asked for before are answered meanwhile, and lie there late.
    wait_until("it has stood still for a while", || begun.elapsed() > Duration::from_secs(3));
    let served = watched.load.served();
    assert!(watched.load.complaints().is_empty());
    glbd.signal(Signal::SIGCONT);
    wait_until("clients are served", || watched.load.served() > served + 20);
    assert!(!glbd.log().contains("checker process"), "no checker is replaced: {}", glbd.log());
    watched.end();
}

#[test]
fn a_checker_that_is_stopped_for_seconds_changes_no_verdict() {
    let watched = Watched::start();
    let checker = proc::children(watched.glbd.pid(), "glbd-checker")[0];
    kill(checker, Signal::SIGSTOP).expect("it runs");
    let begun = Instant::now();
    wait_until("it has stood still for a while", || {
        assert!(watched.are_all_ready(), "{:?}", watched.glbd.watch());
        begun.elapsed() > Duration::from_secs(3)
    });
    watched.load.wait_for_more();
    kill(checker, Signal::SIGCONT).expect("it runs");
    assert!(!watched.glbd.log().contains("checker process"), "it is not replaced: {}", watched.glbd.log());
    watched.end();
}

/// Handlers of signals once wrote to a socket, and a signal that found no memory for that was lost.
#[test]
fn a_signal_is_heeded_when_the_kernel_has_no_memory_for_messages() {
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1] {
        let server = Server::echo();
        let mut glbd = Glbd::builder().destinations([&server]).start();
        let fault = Fault::inject(glbd.pid(), "sendto,sendmsg,recvfrom,recvmsg:error=ENOBUFS");
        glbd.signal(signal);
        assert!(glbd.wait_exit().success(), "{signal}");
        fault.lift();
    }
}
