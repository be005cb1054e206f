//! A daemon that is killed while it reads its file again: the next start finds whole files.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};

use crate::harness::{Server, control, free_port, wait_until};
use crate::services::{Site, served};

const KILLS: u64 = 20;
/// Destinations that a hand changes.
const BY_HAND: u16 = 5;

/// What a hand has done to each, the last thing that was answered first, and what was asked for after that.
type Deeds = BTreeMap<u16, Vec<u32>>;

struct Killed {
    site: Site,
    server: Server,
    ports: [u16; 2],
    state: String,
}

impl Killed {
    fn start(&self) {
        self.site.daemon.start(&["--config", &self.site.file, "--state", &self.state]);
    }

    /// The file of a turn: its destination's weight, and another service in every second one.
    fn write(&self, turn: u32) {
        let log = self.site.daemon.directory().join("log").display().to_string();
        let (server, [port, other]) = (&self.server, self.ports);
        let more = match turn.is_multiple_of(2) {
            true => format!(
                "[pool.b]\ndestinations = [\"127.0.0.1:9\"]\nwatchdog = \"tcp\"\n\
                 [service.t]\nlisten = \"127.0.0.1:{other}\"\npool = \"b\"\n"
            ),
            false => String::new(),
        };
        let text = format!(
            "[process]\nthreads = 2\nuser = \"root\"\nlog = \"{log}\"\n\
             [pool.a]\ndestinations = [\"{server}:{}\"]\n\
             [service.s]\nlisten = \"127.0.0.1:{port}\"\npool = \"a\"\n{more}",
            turn + 1
        );
        let new = format!("{}.new", self.site.file);
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.site.file)).expect("the file");
    }

    /// The weights of all destinations of the first service, by their ports.
    fn weights(&self) -> BTreeMap<u16, u32> {
        let answer = self.site.daemon.control("getinfo");
        let table = answer.lines().skip(3).take_while(|line| !line.starts_with("---"));
        let row = |line: &str| {
            let (address, rest) = line.split_once(" : ").expect("a row");
            let port = address.rsplit(':').next().expect("a port").parse().expect("a port");
            (port, rest.split_whitespace().next().expect("a weight").parse::<f64>().expect("a weight") as u32)
        };
        table.map(row).collect()
    }

    /// Reads files and obeys a hand until it is killed. Returns the turn of the last file, whatever became of it.
    fn work(&self, first_turn: u32, deeds: &mut Deeds, reloads: &AtomicU32, is_over: &AtomicBool) -> u32 {
        let mut turn = first_turn;
        while !is_over.load(Ordering::SeqCst) {
            turn += 1;
            let (number, weight) = (1 + (turn % u32::from(BY_HAND)) as u16, 1 + turn);
            // 0 stands for nothing.
            deeds.entry(number).or_insert_with(|| vec![0]).push(weight);
            match control::ask(self.site.daemon.control_address(), &format!("a/127.0.0.1:{number}:{weight}")) {
                Ok(answer) if answer == "Ok\n" => deeds.insert(number, vec![weight]),
                _ => break,
            };
            self.write(turn);
            match control::ask(self.site.daemon.control_address(), "reload") {
                Ok(answer) if answer.ends_with("Ok\n") => reloads.fetch_add(1, Ordering::SeqCst),
                _ => break,
            };
        }
        turn
    }
}

#[test]
fn a_daemon_that_is_killed_in_a_reload_starts_with_the_file_and_with_all_that_was_answered() {
    let (site, server, ports) = (Site::new(), Server::echo(), [0; 2].map(|_| free_port()));
    let state = site.daemon.directory().join("state").display().to_string();
    let killed = Killed { site, server, ports, state };
    let (mut turn, mut deeds) = (0, Deeds::new());
    killed.write(turn);
    for round in 0..KILLS {
        killed.start();
        let (pid, reloads, is_over) = (killed.site.daemon.pid(), AtomicU32::new(0), AtomicBool::new(false));
        turn = thread::scope(|scope| {
            let work = scope.spawn(|| killed.work(turn, &mut deeds, &reloads, &is_over));
            wait_until("files are read", || reloads.load(Ordering::SeqCst) > 1);
            // At any moment of one.
            thread::sleep(Duration::from_micros(round * 1_300));
            kill(pid, Signal::SIGKILL).expect("it runs");
            is_over.store(true, Ordering::SeqCst);
            work.join().expect("no panic")
        });
        killed.site.daemon.wait_until_gone();
        killed.start();
        let weights = killed.weights();
        let server = killed.server.address().port();
        assert_eq!(weights.get(&server), Some(&(turn_of(&killed.site.file))), "the file's");
        for (number, weight) in &deeds {
            let now = weights.get(number).copied().unwrap_or_default();
            assert!(weight.contains(&now), "round {round}, destination {number}: {now}, and not one of {weight:?}");
        }
        deeds.iter_mut().for_each(|(number, weight)| *weight = vec![weights.get(number).copied().unwrap_or_default()]);
        drop(served(ports[0]));
        assert!(!killed.site.log().contains("damaged"), "{}", killed.site.log());
        killed.site.daemon.signal(Signal::SIGTERM);
        killed.site.daemon.wait_until_gone();
    }
    wait_until("nothing else is left", || {
        let files = killed.site.daemon.files();
        files.iter().all(|name| ["glbd.toml", "glbd.toml.new", "log", "state", "state.new"].contains(&name.as_str()))
    });
}

/// The weight that a file gives its destination.
fn turn_of(file: &str) -> u32 {
    let text = fs::read_to_string(file).expect("the file");
    let line = text.lines().find(|line| line.starts_with("destinations")).expect("a line");
    line.trim_end_matches("\"]").rsplit(':').next().expect("a weight").parse().expect("a weight")
}
