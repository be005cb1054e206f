//! Connections are spread over the worker threads.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::net::TcpStream;

use nix::sched::{CpuSet, sched_getaffinity};
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::harness::glbd::run;
use crate::harness::proc::times_woken;
use crate::harness::{Glbd, Server, echoes, free_port, read_line, wait_until};
use crate::services::{Site, served};

#[test]
fn a_few_long_lived_clients_do_not_all_land_on_one_thread() {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["--threads", "4"]).destinations([&server]).start();
    // The kernel alone spreads them by chance: in one round that may look even, in all of them it does not.
    for _ in 0..3 {
        let clients: Vec<_> = (0..40).map(|_| glbd.connect()).collect();
        let mut load: BTreeMap<String, usize> = BTreeMap::new();
        for client in &clients {
            *load.entry(worker_of(&glbd, client)).or_default() += 1;
        }
        assert_eq!(load.len(), 4, "workers with clients: {load:?}");
        let difference = load.values().max().zip(load.values().min()).map(|(most, least)| most - least);
        assert!(difference <= Some(2), "clients of the workers: {load:?}");
        drop(clients);
        wait_until("all have left", || glbd.info().total == 0);
    }
}

/// The processors that each worker may run on, in the order of the workers.
fn processors_of(pid: Pid) -> Vec<String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten() {
        let read = |file: &str| fs::read_to_string(thread.path().join(file)).unwrap_or_default();
        let (name, status) = (read("comm"), read("status"));
        if name.starts_with("worker-") {
            let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            found.push((name, line.expect("what it may use").trim().to_owned()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, processors)| processors).collect()
}

/// The first two processors that this process may use.
fn two_processors() -> [String; 2] {
    let allowed = sched_getaffinity(Pid::from_raw(0)).expect("a set");
    let mut numbers = (0..CpuSet::count()).filter(|number| allowed.is_set(*number).unwrap_or(false));
    let mut next = || numbers.next().expect("two processors, which this test needs").to_string();
    [next(), next()]
}

#[test]
fn workers_are_bound_to_the_processors_that_are_given_and_others_are_not() {
    let (server, [first, second]) = (Server::echo(), two_processors());
    for (options, expected) in [
        (vec![format!("--cpus={second},{first}")], vec![&second, &first]),
        (vec![format!("--cpus={second}")], vec![&second]),
        (vec![format!("--cpus={first},{second}"), "--threads=3".to_owned()], vec![&first, &second, &first]),
        (vec![format!("--cpus={first},{second}"), "--threads=1".to_owned()], vec![&first]),
    ] {
        let glbd = Glbd::builder().args(&options).destinations([&server]).start();
        wait_until("all workers run where they are to", || {
            processors_of(glbd.pid()).iter().eq(expected.iter().copied())
        });
        assert!((0..20).all(|_| echoes(&glbd.connect())), "{options:?}");
        let main = fs::read_to_string(format!("/proc/{}/status", glbd.pid())).expect("it runs");
        let own = fs::read_to_string("/proc/self/status").expect("this process");
        let allowed =
            |status: &str| status.lines().find(|line| line.starts_with("Cpus_allowed_list")).map(str::to_owned);
        assert_eq!(allowed(&main), allowed(&own), "the other threads are where they were");
    }
}

#[test]
fn a_processor_that_there_is_not_is_told_at_the_start() {
    for words in [&["--cpus=1023", "1"][..], &["--check", "--cpus=0,1023", "1"]] {
        let output = run(words);
        let told = "glbd: processor 1023: this machine has none, or this process may not use it\n";
        assert_eq!(
            (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned()),
            (Some(1), told.to_owned())
        );
    }
}

#[test]
fn another_list_takes_an_upgrade() {
    let (site, server, port) = (Site::new(), Server::echo(), free_port());
    let [first, second] = two_processors();
    let write = |line: &str| {
        site.write(&[("a", &[&server], "")], &[("s", port, "")]);
        let text = fs::read_to_string(&site.file).expect("the file");
        fs::write(&site.file, text.replacen("threads = 2", &format!("threads = 2\n{line}"), 1)).expect("a file");
    };
    write("");
    site.start();
    write(&format!("cpu-affinity = \"{second},{first}\""));
    let told = "process: another 'cpu-affinity' than before takes effect at an upgrade\nOk\n";
    assert_eq!(site.daemon.control("reload"), told);
    site.daemon.upgrade();
    wait_until("workers are bound", || processors_of(site.daemon.pid()) == [second.as_str(), &first]);
    drop(served(port));
    write("cpu-affinity = \"1023\"");
    site.daemon.signal(Signal::SIGUSR2);
    wait_until("the log says why", || site.log().contains("not upgraded: processor 1023: this machine has none"));
    drop(served(port));
}

/// The thread that serves this client: the one that works when the client talks.
fn worker_of(glbd: &Glbd, client: &TcpStream) -> String {
    // The other threads wake now and then on their own account.
    let times_woken = || times_woken(glbd.pid(), "worker");
    let before = times_woken();
    for _ in 0..20 {
        (&*client).write_all(b"ping\n").expect("an open connection");
        assert_eq!(read_line(client).expect("an echo"), "ping");
    }
    let after = times_woken();
    let woken = |thread: &String| after[thread] - before.get(thread).unwrap_or(&0);
    after.keys().max_by_key(|thread| woken(thread)).expect("threads").clone()
}
