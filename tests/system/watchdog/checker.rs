//! The checker process: whatever becomes of it, no client notices.

use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{asking, state, wait_until_judged};
use crate::harness::{Glbd, Site, echoes, names_of, proc, read_line, sites, wait_until, wait_until_within};

/// Longer than the longest pause before a checker is started again.
const RESTART: Duration = Duration::from_secs(40);

/// The checkers of a glbd, those excepted that only wait to be reaped.
fn checkers(glbd: Pid) -> Vec<Pid> {
    proc::children(glbd, "glbd-checker")
}

/// The one checker of a glbd, once it is there.
pub fn checker(glbd: &Glbd) -> Pid {
    let mut found = Vec::new();
    wait_until_within(RESTART, "there is a checker", || {
        found = checkers(glbd.pid());
        found.len() == 1
    });
    found[0]
}

fn watching(sites: &[Site; 2], port: u16) -> Glbd {
    // It also says how long a checker may be silent.
    let glbd = asking(port).args(["--timeout", "5"]).destinations(sites).start();
    sites.iter().for_each(|site| wait_until_judged(&glbd, site, "READY"));
    glbd
}

/// Clients that come and go, and one that stays.
struct Clients {
    session: TcpStream,
    done: Arc<AtomicBool>,
    served: Arc<AtomicUsize>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Clients {
    fn of(glbd: &Glbd) -> Clients {
        let session = glbd.connect();
        read_line(&session).expect("a name");
        let (address, done, served) = (glbd.address(), Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stop, count) = (Arc::clone(&done), Arc::clone(&served));
        let thread = thread::spawn(move || {
            while !stop.load(Ordering::SeqCst) {
                let client = crate::harness::connect_to(address).expect("glbd accepts");
                read_line(&client).expect("a name");
                assert!(echoes(&client), "it is served");
                count.fetch_add(1, Ordering::SeqCst);
            }
        });
        Clients { session, done, served, thread: Some(thread) }
    }

    fn wait_for_more(&self) {
        let before = self.served.load(Ordering::SeqCst);
        wait_until("more clients are served", || self.served.load(Ordering::SeqCst) > before + 5);
    }

    /// None of them has noticed anything.
    fn check(mut self) {
        assert!(echoes(&self.session));
        self.done.store(true, Ordering::SeqCst);
        self.thread.take().expect("it runs").join().expect("all were served");
    }
}

#[test]
fn without_a_watchdog_there_is_none() {
    let (_, [site]) = sites();
    let glbd = Glbd::start([&site]);
    assert_eq!(names_of(&[glbd.connect()]), ["2"]);
    assert_eq!(checkers(glbd.pid()), []);
}

#[test]
fn clients_do_not_notice_that_it_is_killed_again_and_again() {
    let (port, sites) = sites();
    let glbd = watching(&sites, port);
    let descriptors = glbd.descriptors();
    let clients = Clients::of(&glbd);
    for round in 0..5 {
        let killed = checker(&glbd);
        kill(killed, Signal::SIGKILL).expect("it runs");
        wait_until_within(RESTART, "there is another one", || checkers(glbd.pid()).iter().any(|it| *it != killed));
        clients.wait_for_more();
        assert_eq!(sites.each_ref().map(|site| state(&glbd, site)), ["READY", "READY"], "round {round}");
    }
    clients.check();
    glbd.wait_for_log("the checker process has ended: signal: 9 (SIGKILL); verdicts stay as they are");
    assert!(!glbd.log().contains("DOWN"), "{}", glbd.log());
    // It goes on to check.
    sites[0].say(503);
    wait_until_within(RESTART, "that is noticed", || state(&glbd, &sites[0]) == "DOWN");
    wait_until("nothing is left of the earlier ones", || glbd.descriptors() <= descriptors + 2);
}

#[test]
fn one_that_hangs_is_replaced_and_getwatch_says_so() {
    let (port, sites) = sites();
    let glbd = watching(&sites, port);
    let clients = Clients::of(&glbd);
    let hung = checker(&glbd);
    kill(hung, Signal::SIGSTOP).expect("it runs");
    let mut note = String::new();
    wait_until_within(RESTART, "there is another one", || {
        let first = glbd.control("getwatch").lines().next().unwrap_or_default().to_owned();
        if first != "Watchdog:" {
            note = first;
        }
        checkers(glbd.pid()).iter().any(|it| *it != hung)
    });
    assert_eq!(sites.each_ref().map(|site| state(&glbd, site)), ["READY", "READY"]);
    clients.check();
    glbd.wait_for_log("the checker process hangs; verdicts stay as they are");
    assert_eq!(note, "Watchdog: no checks at the moment, the checker process hangs");
    assert_eq!(kill(hung, None), Err(nix::errno::Errno::ESRCH), "the one that hung is gone");
    wait_until("getwatch is as usual", || glbd.control("getwatch").starts_with("Watchdog:\n"));
    sites[1].say(503);
    wait_until_judged(&glbd, &sites[1], "DOWN");
}

#[test]
fn however_glbd_ends_it_ends_as_well() {
    let (port, sites) = sites::<2>();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGUSR1, Signal::SIGKILL] {
        // A script's shell starts background jobs with SIGINT ignored, and glbd ignores what was ignored when it started.
        let unignored = asking(port).wrapped_by(["env", "--default-signal=INT"]);
        let mut glbd = unignored.destinations(&sites).start();
        sites.iter().for_each(|site| wait_until_judged(&glbd, site, "READY"));
        let running = checker(&glbd);
        glbd.signal(signal);
        glbd.wait_exit();
        wait_until("it is gone", || kill(running, None) == Err(nix::errno::Errno::ESRCH));
        assert!(!glbd.log().contains("checker"), "an ordinary end is not told: {}", glbd.log());
    }
}

#[test]
fn signals_that_are_meant_for_the_daemon_do_not_end_it() {
    let (port, sites) = sites();
    let glbd = watching(&sites, port);
    let running = checker(&glbd);
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR1, Signal::SIGUSR2] {
        kill(running, signal).expect("it runs");
    }
    let asked = sites[0].asked().len();
    wait_until("it goes on to check", || sites[0].asked().len() > asked + 3);
    assert_eq!(checkers(glbd.pid()), [running]);
}

#[test]
fn while_there_is_none_clients_do_not_wait_for_a_check() {
    let (port, [site]) = sites();
    let glbd = asking(port).args(["-x", "0.01", "--connect-timeout", "60"]).destinations([&site]).start();
    wait_until_judged(&glbd, &site, "READY");
    // The pause until the next one doubles each time.
    for _ in 0..7 {
        let killed = checker(&glbd);
        kill(killed, Signal::SIGKILL).expect("it runs");
        wait_until("it has ended", || !checkers(glbd.pid()).contains(&killed));
    }
    wait_until("it is gone", || glbd.control("getwatch").contains("the checker process"));
    assert_eq!(read_line(&glbd.connect()).expect("a name"), "2");
    assert!(checkers(glbd.pid()).is_empty(), "there is one again: {}", glbd.log());
}
