//! `make soak`: everything at once for an hour. Clients of every kind compare each byte while destinations die, refuse,
//! stall and are judged unfit, the table changes, and the daemon is upgraded, stopped and loses its checker. At the end no
//! byte was wrong, no connection ended without a reason, and the daemon has what it began with.

mod clients;
mod destinations;
mod disturbances;
mod ledger;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::harness::watch::Watch;
use crate::harness::{Daemon, PATIENCE, Stats, control, free_port, proc, wait_until_within};
use destinations::Destination;
use ledger::Ledger;

const DESTINATIONS: usize = 6;
/// How much more memory a process may use at the end than after its first minutes: what the allocator keeps of a busier
/// moment.
const MEMORY_ALLOWANCE: u64 = 4 * 1024 * 1024;
/// Log lines that must not be there.
const UNWANTED: [&str; 11] = [
    "panicked",
    "has a defect",
    "turned away",
    "not upgraded",
    "cannot write",
    "cannot accept",
    "this machine cannot",
    "log lines",
    "does not count",
    "hangs",
    "nonsense",
];

/// A daemon, its destinations, and the record of what happens to them.
pub struct Soak {
    daemon: Daemon,
    destinations: Vec<Destination>,
    ledger: Arc<Ledger>,
    over: AtomicBool,
    numbers: AtomicUsize,
    traffic: Mutex<Traffic>,
}

/// What the daemon has counted itself.
#[derive(Debug, Default)]
struct Traffic {
    received: u64,
    sent: u64,
    created: u64,
    most_open: u64,
}

/// What a process holds while it has no connections.
#[derive(Debug, PartialEq)]
struct Holdings {
    descriptors: usize,
    threads: Vec<String>,
}

#[test]
#[ignore = "takes an hour, or as many minutes as GLBD_SOAK_MINUTES says"]
fn after_an_hour_of_everything_no_byte_was_wrong_and_nothing_is_left_behind() {
    let minutes = std::env::var("GLBD_SOAK_MINUTES").map_or(60.0, |it| it.parse().expect("a number of minutes"));
    let whole = Duration::from_secs_f64(minutes * 60.0);
    let soak = Soak::start();
    let at_first = soak.holdings();
    let of_checker = soak.checker_descriptors();
    println!("at first: {at_first:?}, {of_checker} descriptors of the checker, {}", soak.memory());

    soak.run_for(whole.mul_f64(0.4), true);
    assert_eq!(soak.holdings_like(&at_first), at_first, "after the upgrades");
    println!("after the upgrades: {}", soak.memory());

    // From here on, one process does all of it.
    soak.run_for(whole.mul_f64(0.1), false);
    let (pid, memory) = (soak.daemon.pid(), soak.resident_bytes());
    println!("one process, after its first minutes: {}", soak.memory());
    soak.run_for(whole.mul_f64(0.5), false);
    assert_eq!(soak.holdings_like(&at_first), at_first, "at the end");
    assert_eq!(soak.daemon.pid(), pid, "the same process");
    let of_checker_now = soak.checker_descriptors();
    println!("descriptors of the checker: {of_checker_now}");
    assert!(of_checker_now <= of_checker + DESTINATIONS, "the checker had {of_checker}, and has {of_checker_now}");
    println!("at the end: {}", soak.memory());
    soak.report(minutes);
    assert!(soak.resident_bytes() <= memory + MEMORY_ALLOWANCE, "{memory} bytes have become {}", soak.memory());
    soak.end();
}

impl Soak {
    fn start() -> Self {
        let (ledger, page_port) = (Arc::new(Ledger::default()), free_port());
        let destinations: Vec<_> =
            (0..DESTINATIONS).map(|number| Destination::start(number, page_port, &ledger)).collect();
        let daemon = Daemon::new();
        let [log, state] = ["log", "state"].map(|name| daemon.directory().join(name).display().to_string());
        let watchdog = format!("http:{page_port}");
        // A check may be late because the machine is busy.
        let options = ["--user", "root", "-t", "2", "-i", "0.5", "--timeout", "20", "-w", &watchdog, "--verbose"];
        let files = ["--log", &log, "--state", &state];
        let addresses: Vec<_> = destinations.iter().map(ToString::to_string).collect();
        let addresses: Vec<_> = addresses.iter().map(String::as_str).collect();
        daemon.start(&[&options, &files[..], &addresses].concat());
        let (over, numbers, traffic) = (AtomicBool::default(), AtomicUsize::default(), Mutex::default());
        let soak = Self { daemon, destinations, ledger, over, numbers, traffic };
        soak.settle();
        soak
    }

    /// Runs all clients and disturbances for so long, and waits until the daemon has nothing left to do. Ends early when
    /// something is wrong.
    fn run_for(&self, time: Duration, with_upgrades: bool) {
        self.over.store(false, Ordering::SeqCst);
        let until = Instant::now() + time;
        thread::scope(|scope| {
            let clients = clients::KINDS.iter().flat_map(|kind| (0..kind.clients).map(move |_| kind));
            let mut threads: Vec<_> = clients.map(|kind| scope.spawn(|| kind.come_and_go(self))).collect();
            threads.push(scope.spawn(|| disturbances::of_destinations(self)));
            threads.push(scope.spawn(|| disturbances::of_the_daemon(self, with_upgrades)));
            threads.push(scope.spawn(|| self.look_on()));
            while Instant::now() < until
                && self.ledger.errors().is_empty()
                && !threads.iter().any(|it| it.is_finished())
            {
                thread::sleep(Duration::from_millis(50));
            }
            self.over.store(true, Ordering::SeqCst);
        });
        let errors = self.ledger.errors();
        if !errors.is_empty() {
            let (log, deeds) = (self.log(), self.ledger.last_deeds());
            // Of single connections, what was logged about those that failed.
            let client = |line: &str| Some(line.split_once("client ")?.1.split_once(": ")?.0.to_owned());
            let concerns = |line: &&str| {
                !line.contains(" DEBUG ")
                    || client(line).is_some_and(|it| errors.iter().any(|error| error.contains(&it)))
            };
            let mut end: Vec<_> = log.lines().filter(concerns).collect();
            let end = end.split_off(end.len().saturating_sub(400)).join("\n");
            panic!("{} errors:\n{}\ndone last:\n{deeds}\nlogged last:\n{end}", errors.len(), errors.join("\n"));
        }
        self.settle();
    }

    /// Asks for everything that an operator asks for, and adds up the counters.
    fn look_on(&self) {
        while !self.is_over() {
            for question in ["getinfo", "getwatch"] {
                // An upgrade may end the conversation.
                let _ = control::ask(self.daemon.control_address(), question);
            }
            if let Ok(answer) = control::ask(self.daemon.control_address(), "getstat")
                && !answer.is_empty()
            {
                self.add_up(&Stats::parse(&answer));
            }
            self.pause(Duration::from_secs(1));
        }
    }

    fn add_up(&self, stats: &Stats) {
        let mut traffic = self.traffic.lock().expect("no panic");
        traffic.received += stats.bytes_in;
        traffic.sent += stats.bytes_out;
        traffic.created += stats.created;
        traffic.most_open = traffic.most_open.max(stats.open);
    }

    /// Gives all destinations the weight 1, and waits until all of them are READY and all connections have ended, also
    /// those of processes before this one, which end then.
    fn settle(&self) {
        let weights: Vec<_> = self.destinations.iter().map(|it| format!("{it}:1")).collect();
        let answers = self.daemon.control(&weights.join("\n"));
        assert_eq!(answers, "Ok\n".repeat(DESTINATIONS));
        wait_until_within(PATIENCE * 2, "all is over", || {
            let watch = Watch::parse(&self.daemon.control("getwatch"));
            let info = self.daemon.info();
            info.rows.iter().all(|row| row.conns == 0 && row.weight == 1.0)
                && info.total == 0
                && watch.rows.iter().all(|row| row.state == "READY")
                && self.daemon.processes() == [self.daemon.pid()]
        });
        let stats = self.daemon.stats();
        self.add_up(&stats);
        assert_eq!(stats.open, 0);
        assert_eq!(self.daemon.info().rows.len(), DESTINATIONS);
    }

    fn holdings(&self) -> Holdings {
        let pid = self.daemon.pid();
        Holdings { descriptors: proc::descriptors(pid), threads: proc::threads(pid) }
    }

    /// The descriptors of the checker, of which each check under way takes one.
    fn checker_descriptors(&self) -> usize {
        proc::children(self.daemon.pid(), "glbd-checker").iter().map(proc::descriptors).sum()
    }

    /// What the process holds, once it is the same as before, or when it has not become so.
    fn holdings_like(&self, before: &Holdings) -> Holdings {
        let until = Instant::now() + PATIENCE;
        while self.holdings() != *before && Instant::now() < until {
            thread::sleep(Duration::from_millis(20));
        }
        assert_eq!(proc::zombies(self.daemon.pid()), 0, "processes that were not waited for");
        self.holdings()
    }

    fn resident_bytes(&self) -> u64 {
        proc::resident_bytes(self.daemon.pid())
    }

    fn memory(&self) -> String {
        format!("{:.1} MB resident", self.resident_bytes() as f64 / 1e6)
    }

    fn report(&self, minutes: f64) {
        println!("{minutes} minutes\n{}", self.ledger);
        println!("as the daemon counts: {:?}", self.traffic.lock().expect("no panic"));
        let log: String =
            self.log().lines().filter(|line| !line.contains(" DEBUG ")).flat_map(|it| [it, "\n"]).collect();
        for text in [" READY", " AVOID: ", " DOWN: ", "sessions closed", "cannot be reached", "added with weight"] {
            println!("log lines with {text:?}: {}", log.matches(text).count());
        }
    }

    fn end(&self) {
        self.daemon.signal(Signal::SIGTERM);
        self.daemon.wait_until_gone();
        let log = self.log();
        let unwanted: Vec<_> = log.lines().filter(|line| UNWANTED.iter().any(|text| line.contains(text))).collect();
        assert!(unwanted.is_empty(), "{}", unwanted.join("\n"));
        let files = self.daemon.files();
        let left: Vec<_> = files.iter().filter(|name| *name != "state" && !name.starts_with("log")).collect();
        assert!(left.is_empty(), "files left: {left:?}");
    }

    fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    /// Waits so long, or until the soak is over.
    fn pause(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until && !self.is_over() {
            thread::sleep((until - Instant::now()).min(Duration::from_millis(50)));
        }
    }

    fn number(&self) -> usize {
        self.numbers.fetch_add(1, Ordering::SeqCst)
    }

    fn log_path(&self) -> PathBuf {
        self.daemon.directory().join("log")
    }

    /// All lines, those of rotated files too.
    fn log(&self) -> String {
        let files = self.daemon.files();
        let logs = files.iter().filter(|name| name.starts_with("log"));
        logs.map(|name| fs::read_to_string(self.daemon.directory().join(name)).expect("text")).collect()
    }
}
