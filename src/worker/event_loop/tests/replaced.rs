//! Services that others take the place of while clients are connected.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::services::{add, pair, talks};
use super::stage::{Destination, Stage, balancing, connect_to, listener, pool, service};
use super::{UPLOAD, upload_to_one_that_does_not_read_yet};
use crate::pool::{PolicyKind, Rotation};
use crate::worker::accept::Newcomer;
use crate::worker::admission::Admission;

/// Replaces the stage's first service by one with this rotation and these options.
fn replace(stage: &mut Stage, rotation: &Rotation, options: &[&str]) {
    let after = service(rotation, options);
    let before = std::mem::replace(&mut stage.served[0].0, Arc::clone(&after));
    stage.handle.replace(vec![(before, after)]);
    stage.turn();
}

/// Replaces the options of the stage's first service.
fn change_options(stage: &mut Stage, options: &[&str]) {
    let rotation = stage.table.clone();
    replace(stage, &rotation, options);
}

fn rotation_to(destination: &Destination) -> Rotation {
    let rotation = pool().rotation(balancing(PolicyKind::RoundRobin));
    add(&rotation, destination);
    rotation
}

/// A client of a service with these options, and the other end of its connection.
fn connected(options: &[&str]) -> (Stage, Destination, (TcpStream, TcpStream)) {
    let (mut stage, destination) = (Stage::with(options, false), Destination::new());
    stage.add(&destination);
    let pair = stage.pair(&destination);
    stage.turn_until_quiet();
    (stage, destination, pair)
}

#[test]
fn an_idle_timeout_that_becomes_shorter_closes_a_client_that_was_there_before() {
    let befores: [&[&str]; 3] = [&[], &["--client-idle-timeout", "3600"], &["--server-idle-timeout", "3600"]];
    for before in befores {
        let (mut stage, _destination, (mut client, _server)) = connected(before);
        change_options(&mut stage, &["--client-idle-timeout", "0.05"]);
        let table = stage.table.clone();
        stage.turn_until("it is closed", || table.connections() == 0);
        assert!(client.read(&mut [0]).is_err());
    }
}

/// The first look at the client is after half of its timeout.
#[test]
fn an_idle_timeout_that_becomes_longer_closes_nothing_at_the_old_time() {
    let (mut stage, _destination, (client, server)) = connected(&["--client-idle-timeout", "5"]);
    change_options(&mut stage, &["--client-idle-timeout", "3600"]);
    let begun = Instant::now();
    while stage.worker.time_to_wait().is_none_or(|wait| wait < Duration::from_secs(1000)) {
        assert!(begun.elapsed() < Duration::from_secs(10), "the old timer still holds");
        stage.turn();
    }
    assert!(talks(&mut stage, &client, &server));
}

#[test]
fn an_idle_timeout_that_is_taken_away_leaves_no_timer() {
    let (mut stage, _destination, (client, server)) = connected(&["--server-idle-timeout", "5"]);
    change_options(&mut stage, &[]);
    stage.turn_until_no_deadline_is_left();
    assert!(talks(&mut stage, &client, &server));
}

#[test]
fn a_timeout_for_half_closed_connections_counts_for_one_that_has_been_so_before() {
    let (mut stage, _destination, (client, mut server)) = connected(&["--half-close-timeout", "0"]);
    client.shutdown(Shutdown::Write).expect("an open connection");
    stage.turn_until_quiet();
    assert_eq!(server.read(&mut [0]).expect("a clean end"), 0);
    change_options(&mut stage, &["--half-close-timeout", "0.05"]);
    let table = stage.table.clone();
    stage.turn_until("it is closed", || table.connections() == 0);
}

#[test]
fn clients_of_other_services_keep_their_options() {
    let destination = Destination::new();
    let rotations = [(); 2].map(|()| rotation_to(&destination));
    let (mut stage, listeners) = Stage::start(&[], &[(&rotations[0], &[]), (&rotations[1], &[])], false);
    let _idle = stage.pair(&destination);
    let (client, server) = pair(&mut stage, &listeners[0], &destination);
    stage.turn_until_quiet();
    change_options(&mut stage, &["--client-idle-timeout", "0.05"]);
    stage.turn_until("the idle client is closed", || rotations[0].connections() == 0);
    assert_eq!(stage.worker.time_to_wait(), None);
    assert!(talks(&mut stage, &client, &server));
}

#[test]
fn new_clients_go_where_the_new_service_says_and_the_others_stay_where_they_are() {
    let (mut stage, _first, (client, server)) = connected(&[]);
    let second = Destination::new();
    let rotation = rotation_to(&second);
    replace(&mut stage, &rotation, &["--client-idle-timeout", "0.05"]);
    let old = stage.table.clone();
    assert_eq!((old.connections(), rotation.connections()), (1, 0));
    let (mut other, its_server) = stage.pair(&second);
    assert!(talks(&mut stage, &other, &its_server) && talks(&mut stage, &client, &server));
    stage.turn_until("both are closed after having been idle", || old.connections() + rotation.connections() == 0);
    assert!(other.read(&mut [0]).is_err());
}

#[test]
fn a_client_that_waits_for_a_destination_goes_on_to_one_of_the_new_service() {
    let (mut stage, silent, last) = (Stage::new(), Destination::silent(), Destination::new());
    stage.add(&silent);
    let client = stage.connect();
    let stats = stage.stats.clone();
    stage.turn_until("it is let in", || stats.totals().connections == 1);
    replace(&mut stage, &rotation_to(&last), &[]);
    stage.remove(&silent);
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

#[test]
fn a_client_that_waits_for_the_single_destination_to_move_waits_no_longer() {
    let destinations = [(); 3].map(|()| Destination::new());
    let writer = pool().rotation(balancing(PolicyKind::Single));
    destinations[..2].iter().for_each(|it| add(&writer, it));
    let (mut stage, _) = Stage::start(&[&writer], &[(&writer, &[])], false);
    let _session = stage.pair(&destinations[0]);
    stage.turn_until_quiet();
    let grace = Duration::from_secs(600);
    writer.switch_single(destinations[1].address.into(), grace, Instant::now(), Box::new(|_| {})).expect("it is there");
    let client = stage.connect();
    let stats = stage.stats.clone();
    stage.turn_until("it is let in", || stats.totals().connections == 2);
    replace(&mut stage, &rotation_to(&destinations[2]), &[]);
    stage.accept_at(&destinations[2]).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

/// The worker that has accepted it reads of it later than the one that serves it.
#[test]
fn a_client_that_is_handed_over_late_is_one_of_the_new_service() {
    let (mut stage, last) = (Stage::new(), Destination::new());
    let before = Arc::clone(&stage.served[0].0);
    // A second time before the worker looks.
    change_options(&mut stage, &[]);
    let after = service(&rotation_to(&last), &[]);
    stage.handle.replace(vec![(Arc::clone(&stage.served[0].0), after)]);
    stage.turn_until_quiet();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let client = connect_to(&listener);
    let (accepted, address) = listener.accept().expect("a client");
    accepted.set_nonblocking(true).expect("O_NONBLOCK");
    let admitted = Admission::new(1, Box::default()).admit().expect("room");
    let accepted = mio::net::TcpStream::from_std(accepted);
    stage.worker.serve(Newcomer {
        service: before,
        client: accepted.into(),
        address: address.into(),
        admitted,
        reservation: None,
    });
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

#[test]
fn clients_that_are_held_are_let_in_as_those_of_the_new_service() {
    let (mut stage, last) = (Stage::new(), Destination::new());
    let (ours, theirs) = listener();
    let before = service(&stage.table, &[]);
    let group = stage.handle.serve(&before, vec![theirs], true).expect("memory for a watch");
    let client = connect_to(&ours);
    let rotation = rotation_to(&last);
    stage.handle.replace(vec![(before, service(&rotation, &[]))]);
    stage.turn_until_quiet();
    assert_eq!(rotation.connections(), 0);
    stage.handle.accept(group);
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

#[test]
fn without_linger_any_more_a_destination_that_was_to_be_reset_gets_the_ordinary_end() {
    let (mut stage, mut server) = upload_to_one_that_does_not_read_yet();
    change_options(&mut stage, &[]);
    stage.turn_until_no_deadline_is_left();
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard.len(), UPLOAD);
}

#[test]
fn a_service_that_was_replaced_is_freed_with_its_rotation_unless_a_connection_uses_that() {
    let (mut stage, _first, (client, server)) = connected(&[]);
    let before = Arc::downgrade(&stage.served[0].0);
    replace(&mut stage, &rotation_to(&Destination::new()), &[]);
    assert_eq!(before.strong_count(), 0);
    assert!(talks(&mut stage, &client, &server));
}
