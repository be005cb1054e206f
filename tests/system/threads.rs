//! Connections are spread over the worker threads.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;

use crate::harness::proc::times_woken;
use crate::harness::{Glbd, Server, read_line, wait_until};

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
