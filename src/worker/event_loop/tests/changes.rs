//! Services that come and go while clients are connected.

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::services::{add, pair, talks};
use super::stage::{Destination, PATIENCE, Stage, balancing, connect_to, listener, pool, service};
use crate::pool::{PolicyKind, Rotation};
use crate::stats::Stats;
use crate::worker::{Handle, Limits, Workers};

/// A rotation of a pool of its own over one destination.
fn rotation_to(destination: &Destination) -> Rotation {
    let rotation = pool().rotation(balancing(PolicyKind::RoundRobin));
    add(&rotation, destination);
    rotation
}

/// A worker whose only service has this destination.
fn stage_with(destination: &Destination) -> Stage {
    let stage = Stage::new();
    stage.add(destination);
    stage
}

/// Tells a socket from all others of the machine. Its port may be another's once it is closed.
fn identity(socket: &impl AsRawFd) -> PathBuf {
    fs::read_link(format!("/proc/self/fd/{}", socket.as_raw_fd())).expect("a descriptor")
}

/// Whether this process has a descriptor of the socket.
fn is_open(identity: &Path) -> bool {
    let descriptors = fs::read_dir("/proc/self/fd").expect("descriptors");
    descriptors.filter_map(|it| fs::read_link(it.ok()?.path()).ok()).any(|it| it == identity)
}

/// How many sockets the worker's event queue watches.
fn watches(stage: &Stage) -> usize {
    let info = format!("/proc/self/fdinfo/{}", stage.worker.poll.as_raw_fd());
    fs::read_to_string(info).expect("an event queue").lines().filter(|line| line.starts_with("tfd:")).count()
}

#[test]
fn a_service_that_is_added_while_clients_are_connected_serves_beside_the_others() {
    let (first, second) = (Destination::new(), Destination::new());
    let mut stage = stage_with(&first);
    let (client, server) = stage.pair(&first);
    let rotation = rotation_to(&second);
    let (ours, theirs) = listener();
    // It comes before there is anything to accept it with.
    let early = connect_to(&ours);
    stage.handle.follow(&rotation);
    stage.handle.serve(&service(&rotation, &[]), vec![theirs], false).expect("memory for a watch");
    let its_server = stage.accept_at(&second);
    assert!(talks(&mut stage, &early, &its_server));
    let (other, its_server) = pair(&mut stage, &ours, &second);
    assert!(talks(&mut stage, &other, &its_server) && talks(&mut stage, &client, &server));
    rotation.remove(second.address.into()).expect("it is there");
    stage.turn_until("its sessions are closed", || rotation.connections() == 0);
    assert!(talks(&mut stage, &client, &server));
    let (client, server) = stage.pair(&first);
    assert!(talks(&mut stage, &client, &server));
}

#[test]
fn a_service_that_is_held_keeps_its_clients_waiting_and_those_of_no_other() {
    let (first, second) = (Destination::new(), Destination::new());
    let mut stage = stage_with(&first);
    let (ours, theirs) = listener();
    let rotation = rotation_to(&second);
    let group = stage.handle.serve(&service(&rotation, &[]), vec![theirs], true).expect("memory for a watch");
    let waiting = connect_to(&ours);
    let (client, server) = stage.pair(&first);
    assert!(talks(&mut stage, &client, &server));
    assert_eq!(rotation.connections(), 0);
    stage.handle.accept(group);
    let server = stage.accept_at(&second);
    assert!(talks(&mut stage, &waiting, &server));
}

#[test]
fn a_service_that_is_retired_serves_the_clients_in_its_backlog_and_closes_its_socket() {
    let (destination, other) = (Destination::new(), Destination::new());
    let mut stage = stage_with(&other);
    let (ours, theirs) = listener();
    let socket = identity(&ours);
    let rotation = rotation_to(&destination);
    let group = stage.handle.serve(&service(&rotation, &[]), vec![theirs], false).expect("memory for a watch");
    let (client, server) = pair(&mut stage, &ours, &destination);
    let waiting: Vec<TcpStream> = (0..super::ACCEPTS + 10).map(|_| connect_to(&ours)).collect();
    drop(ours);
    stage.handle.retire(group);
    for client in &waiting {
        stage.accept_at(&destination).write_all(b"hello").expect("an open connection");
        assert_eq!(stage.read_at(client).expect("a greeting"), b"hello");
    }
    assert!(!is_open(&socket));
    assert!(talks(&mut stage, &client, &server));
    let (client, server) = stage.pair(&other);
    assert!(talks(&mut stage, &client, &server));
}

#[test]
fn a_service_that_moves_to_another_port_is_served_at_the_new_one_only() {
    let destination = Destination::new();
    let mut stage = stage_with(&destination);
    let (service, before) = stage.served.remove(0);
    let (ours, theirs) = listener();
    stage.handle.serve(&service, vec![theirs], false).expect("memory for a watch");
    let (client, server) = pair(&mut stage, &ours, &destination);
    let (old, its_server) = stage.pair(&destination);
    let watched = watches(&stage);
    stage.handle.retire(before);
    stage.turn_until_quiet();
    assert_eq!(watches(&stage), watched - 1);
    assert!(talks(&mut stage, &client, &server) && talks(&mut stage, &old, &its_server));
    let (client, server) = pair(&mut stage, &ours, &destination);
    assert!(talks(&mut stage, &client, &server));
}

/// A file cannot be watched. Another handle of the first socket would go on to report its clients.
#[test]
fn where_one_socket_cannot_be_watched_none_is_served_and_nothing_is_left() {
    let destination = Destination::new();
    let mut stage = stage_with(&destination);
    let (client, server) = stage.pair(&destination);
    stage.turn_until_quiet();
    let watched = watches(&stage);
    let (ours, theirs) = listener();
    let unwatchable = OwnedFd::from(File::open("/proc/self/exe").expect("a file"));
    let unwatchable = mio::net::TcpListener::from_std(unwatchable.into());
    let rotation = rotation_to(&destination);
    let failed = stage.handle.serve(&service(&rotation, &[]), vec![theirs, unwatchable], false);
    assert!(failed.is_err());
    assert_eq!(watches(&stage), watched);
    let socket = identity(&ours);
    drop(ours);
    assert!(!is_open(&socket));
    assert!(talks(&mut stage, &client, &server));
}

#[test]
fn services_that_came_and_went_leave_no_descriptor() {
    let destination = Destination::with_backlog(1000);
    let mut stage = stage_with(&destination);
    stage.turn_until_quiet();
    let watched = watches(&stage);
    let mut sockets = Vec::new();
    for _ in 0..200 {
        let rotation = rotation_to(&destination);
        let (ours, theirs) = listener();
        sockets.push(identity(&ours));
        stage.handle.follow(&rotation);
        let group = stage.handle.serve(&service(&rotation, &[]), vec![theirs], false).expect("memory for a watch");
        drop(pair(&mut stage, &ours, &destination));
        stage.handle.retire(group);
        stage.turn_until("the session has ended", || rotation.connections() == 0);
    }
    stage.turn_until_quiet();
    assert_eq!(watches(&stage), watched);
    assert!(stage.worker.connections.is_empty());
    assert!(!sockets.iter().any(|it| is_open(it)));
}

#[test]
fn a_pool_that_the_workers_follow_is_freed_with_its_last_service() {
    let (destination, witness) = (Destination::new(), Arc::new(()));
    let mut stage = stage_with(&destination);
    let rotation = rotation_to(&destination);
    let owned = Arc::clone(&witness);
    rotation.subscribe(Box::new(move |_| assert!(Arc::strong_count(&owned) > 0)));
    stage.handle.follow(&rotation);
    let (ours, theirs) = listener();
    let group = stage.handle.serve(&service(&rotation, &[]), vec![theirs], false).expect("memory for a watch");
    drop(rotation);
    let (client, server) = pair(&mut stage, &ours, &destination);
    stage.handle.retire(group);
    stage.turn_until_quiet();
    assert!(talks(&mut stage, &client, &server));
    assert_eq!(Arc::strong_count(&witness), 2);
    drop((client, server));
    stage.turn_until("the pool is gone", || Arc::strong_count(&witness) == 1);
}

/// Two workers, as threads.
fn start_two() -> (Handle, Vec<std::thread::JoinHandle<()>>) {
    let workers = Workers::new(2, Limits { connections: 1000, pipes: 10 }, &Stats::new(2)).expect("descriptors");
    workers.start(&[]).expect("threads")
}

fn wait_until_closed(socket: &Path) {
    let begun = Instant::now();
    while is_open(socket) {
        assert!(begun.elapsed() < PATIENCE, "waited in vain until it is closed");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn workers_that_were_given_services_later_end_when_they_have_drained() {
    let (handle, threads) = start_two();
    let destination = Destination::new();
    let rotation = rotation_to(&destination);
    let mut clients = Vec::new();
    // Fewer sockets than workers, and more.
    for count in [1, 3] {
        let (ours, theirs): (Vec<_>, Vec<_>) = (0..count).map(|_| listener()).unzip();
        handle.serve(&service(&rotation, &[]), theirs, false).expect("memory for a watch");
        clients.extend(ours.iter().map(connect_to));
    }
    handle.drain();
    let begun = Instant::now();
    let mut servers = Vec::new();
    while servers.len() < clients.len() {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for the clients that were in the backlogs");
        servers.extend(destination.accept());
    }
    drop((clients, servers));
    threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
    assert_eq!(rotation.connections(), 0);
}

#[test]
fn a_service_that_is_added_too_late_is_closed() {
    for end in [Handle::drain, Handle::hand_over] {
        let (handle, threads) = start_two();
        let destination = Destination::new();
        let rotation = rotation_to(&destination);
        let (ours, theirs) = listener();
        handle.serve(&service(&rotation, &[]), vec![theirs], false).expect("memory for a watch");
        let client = connect_to(&ours);
        while rotation.connections() == 0 {
            std::thread::yield_now();
        }
        end(&handle);
        let serve_late = || {
            let (ours, theirs) = listener();
            handle.serve(&service(&rotation, &[]), vec![theirs], false).expect("memory for a watch");
            let socket = identity(&ours);
            drop(ours);
            wait_until_closed(&socket);
        };
        // Once while a connection keeps the workers, and once when they have ended.
        serve_late();
        drop((client, destination));
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        serve_late();
    }
}
