//! Hundreds of reloads while clients of every kind are at work, each of which adds, changes and removes something: nobody
//! notices who has nothing to do with what has changed, and nothing is left behind.

mod clients;
mod turns;

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::{PATIENCE, control, proc, wait_until, wait_until_within};
use crate::services::Site;
use clients::{Clients, KINDS};
use turns::Turns;

const RELOADS: usize = 500;
/// Reloads after which the memory is taken that the rest must not exceed by much.
const WARM: usize = 100;
/// What the allocator keeps of a busier moment; as much as 400 reloads leave that leave 2 kB each.
const MEMORY_ALLOWANCE: u64 = 800_000;
/// Another process takes over in the middle of so many reloads.
const RELOADS_AN_UPGRADE: usize = 25;

/// A daemon under load whose file changes all the time.
struct Load {
    site: Site,
    turns: Turns,
    clients: Clients,
    /// Of the reloads, in microseconds.
    longest: AtomicU64,
}

#[derive(Debug)]
struct Holdings {
    descriptors: usize,
    threads: Vec<String>,
}

impl Load {
    fn start() -> Self {
        let (site, turns) = (Site::new(), Turns::new());
        let load = Self { clients: Clients::new(&turns), site, turns, longest: AtomicU64::new(0) };
        load.write(&load.turns.base(&load.log_path()));
        load.site.start();
        load.write_and_reload(0);
        load
    }

    fn log_path(&self) -> String {
        self.site.daemon.directory().join("log").display().to_string()
    }

    /// Replaces the file as an editor does.
    fn write(&self, text: &str) {
        let new = format!("{}.new", self.site.file);
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.site.file)).expect("the file");
    }

    fn reload(&self) -> String {
        control::ask(self.site.daemon.control_address(), "reload").unwrap_or_else(|error| panic!("no answer: {error}"))
    }

    /// Has all clients come and go while `work` is done.
    fn while_clients_come_and_go(&self, work: impl FnOnce() + Send) {
        thread::scope(|scope| {
            let clients: Vec<_> = KINDS.iter().map(|kind| scope.spawn(|| self.clients.come_and_go(kind))).collect();
            let work = scope.spawn(work);
            wait_until_within(PATIENCE * 8, "all reloads are done", || {
                work.is_finished() || self.clients.has_errors() || clients.iter().any(|it| it.is_finished())
            });
            self.clients.end();
            let done = work.join();
            // A client that has noticed something says more than what came of it.
            self.clients.assert_that_none_has_noticed();
            done.expect("the reloads");
        });
    }

    /// Each turn's reloads, of files that are wrong in some turns as well.
    fn turn(&self, number: usize) {
        self.clients.wait_for_more();
        let log = self.log_path();
        if let Some((wrong, told)) = self.turns.wrong(number, &log) {
            self.write(&wrong);
            let answer = self.reload();
            assert!(answer.starts_with("Error: ") && answer.contains(told), "{told}: {answer}\n{wrong}");
        }
        self.write(&self.turns.text(number, &log));
        if number.is_multiple_of(10) {
            let read = || self.site.log().matches("read again, changes: ").count();
            let before = read();
            self.site.daemon.signal(Signal::SIGHUP);
            return wait_until("the log says that it was read", || read() > before);
        }
        let begun = Instant::now();
        let answer = self.reload();
        self.longest.fetch_max(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        for part in ["service t", "added with weight", "dropped", "have other", "has weight", "Ok\n"] {
            assert!(answer.contains(part), "turn {number}, {part}: {answer}");
        }
    }

    /// Back to what there was at first, without clients.
    fn settle(&self) {
        self.write(&self.turns.base(&self.log_path()));
        let answer = self.reload();
        assert!(answer.ends_with("Ok\n"), "{answer}");
        wait_until("all connections have ended", || {
            // One that waits for the end of the daemon, to remove what scripts may leave, stays.
            self.site.daemon.stats().open == 0 && self.site.daemon.processes().len() <= 2
        });
        let info = self.site.daemon.control("getinfo");
        assert_eq!(info.matches("total connections: 0 of").count(), 3, "{info}");
        let is_of_a_wrong_file =
            |line: &&str| [" not reloaded: ", " not upgraded: "].iter().any(|it| line.contains(it));
        for line in self.site.log().lines().filter(|line| !is_of_a_wrong_file(line)) {
            assert!(!["panicked", "defect", " ERROR "].iter().any(|it| line.contains(it)), "{line}");
        }
    }

    fn holdings(&self) -> Holdings {
        let pid = self.site.daemon.pid();
        Holdings { descriptors: proc::descriptors(pid), threads: proc::threads(pid) }
    }

    fn resident_bytes(&self) -> u64 {
        proc::resident_bytes(self.site.daemon.pid())
    }
}

/// Whoever uses what no reload touches, or what a reload drains, is neither refused nor cut off nor sent elsewhere.
#[test]
fn five_hundred_reloads_under_load_are_noticed_by_nobody_and_leave_nothing_behind() {
    let load = Load::start();
    // What is there from the first time on.
    (1..5).for_each(|turn| load.write_and_reload(turn));
    load.settle();
    let before = load.holdings();
    load.write_and_reload(0);
    let begun = Instant::now();
    load.while_clients_come_and_go(|| {
        (1..=WARM).for_each(|turn| load.turn(turn));
        let warm = load.resident_bytes();
        (WARM + 1..=RELOADS).for_each(|turn| load.turn(turn));
        let now = load.resident_bytes();
        assert!(now <= warm + MEMORY_ALLOWANCE, "{warm} bytes have become {now}");
        println!("memory: {warm} bytes after {WARM} reloads, {now} at the end");
    });
    println!(
        "{RELOADS} reloads in {:?}, {} us the longest\n{}",
        begun.elapsed(),
        load.longest.load(Ordering::Relaxed),
        load.clients.report()
    );
    load.settle();
    let until = Instant::now() + PATIENCE;
    let is_as_before = |now: &Holdings| now.descriptors <= before.descriptors && now.threads == before.threads;
    while !is_as_before(&load.holdings()) && Instant::now() < until {
        thread::sleep(Duration::from_millis(20));
    }
    assert!(is_as_before(&load.holdings()), "{before:?} have become {:?}", load.holdings());
}

#[test]
fn five_hundred_reloads_and_twenty_upgrades_under_load_are_noticed_by_nobody() {
    let load = Load::start();
    load.while_clients_come_and_go(|| {
        for turn in 1..=RELOADS {
            if turn % RELOADS_AN_UPGRADE == RELOADS_AN_UPGRADE / 2 {
                load.upgrade(turn);
            }
            load.turn(turn);
        }
    });
    println!("{}", load.clients.report());
    load.settle();
}

impl Load {
    fn write_and_reload(&self, turn: usize) {
        self.write(&self.turns.text(turn, &self.log_path()));
        let answer = self.reload();
        assert!(answer.ends_with("Ok\n"), "{answer}");
    }

    /// One that is refused, for what the file says, and one that brings what it says then.
    fn upgrade(&self, turn: usize) {
        let refused = || self.site.log().matches("not upgraded").count();
        let before = refused();
        self.write("[process]\nquality = 1\n");
        self.site.daemon.signal(Signal::SIGUSR2);
        wait_until("it is refused", || refused() > before);
        self.write(&self.turns.text(turn + 1, &self.log_path()));
        self.site.daemon.upgrade();
        // The control port is the new one's.
        wait_until_within(Duration::from_secs(20), "it answers", || {
            control::ask(self.site.daemon.control_address(), "version").is_ok_and(|answer| answer.starts_with("glbd"))
        });
    }
}
