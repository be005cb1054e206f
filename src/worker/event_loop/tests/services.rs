//! One worker that serves several services.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use super::stage::{Destination, Stage, balancing, connect_to, pool};
use crate::pool::{PolicyKind, Rotation};

/// A client of the service behind `listener`, and the other end of its connection.
pub fn pair(stage: &mut Stage, listener: &TcpListener, destination: &Destination) -> (TcpStream, TcpStream) {
    let client = connect_to(listener);
    let server = stage.accept_at(destination);
    (client, server)
}

pub fn add(rotation: &Rotation, destination: &Destination) {
    rotation.set(&destination.address.into(), destination.address.into(), 1.0).expect("there is room");
}

/// Whether what one end says reaches the other.
pub fn talks(stage: &mut Stage, client: &TcpStream, mut server: &TcpStream) -> bool {
    server.write_all(b"word").is_ok() && stage.read_at(client).is_ok_and(|heard| heard == b"word")
}

#[test]
fn clients_of_two_services_go_to_the_destinations_of_their_own() {
    let (first, second) = (Destination::new(), Destination::new());
    let rotations = [(); 2].map(|()| pool().rotation(balancing(PolicyKind::RoundRobin)));
    add(&rotations[0], &first);
    add(&rotations[1], &second);
    let (mut stage, listeners) =
        Stage::start(&[&rotations[0], &rotations[1]], &[(&rotations[0], &[]), (&rotations[1], &[])], false);
    for _ in 0..3 {
        let (client, server) = stage.pair(&first);
        let (other, its_server) = pair(&mut stage, &listeners[0], &second);
        assert!(talks(&mut stage, &client, &server) && talks(&mut stage, &other, &its_server));
    }
    stage.turn_until("all are forgotten", || rotations.iter().all(|it| it.connections() == 0));
}

#[test]
fn a_destination_that_is_removed_from_one_pool_keeps_the_sessions_of_another() {
    let destination = Destination::new();
    let rotations = [(); 2].map(|()| pool().rotation(balancing(PolicyKind::RoundRobin)));
    rotations.iter().for_each(|rotation| add(rotation, &destination));
    let (mut stage, listeners) =
        Stage::start(&[&rotations[0], &rotations[1]], &[(&rotations[0], &[]), (&rotations[1], &[])], false);
    let (mut client, _server) = stage.pair(&destination);
    let (other, its_server) = pair(&mut stage, &listeners[0], &destination);
    stage.turn_until_quiet();
    rotations[0].remove(destination.address.into()).expect("it is there");
    stage.turn_until("its session is closed", || rotations[0].connections() == 0);
    assert!(client.read(&mut [0]).is_err());
    assert!(talks(&mut stage, &other, &its_server));
}

#[test]
fn a_writer_that_moves_leaves_the_sessions_that_a_reader_has_on_the_same_node() {
    let (first, second) = (Destination::new(), Destination::new());
    let writer = pool().rotation(balancing(PolicyKind::Single));
    let reader = writer.pool().rotation(balancing(PolicyKind::RoundRobin));
    add(&writer, &first);
    add(&writer, &second);
    let (mut stage, listeners) = Stage::start(&[&writer], &[(&writer, &[]), (&reader, &[])], false);
    let (mut write, _server) = stage.pair(&first);
    let (read, its_server) = pair(&mut stage, &listeners[0], &first);
    stage.turn_until_quiet();
    writer.switch_single(second.address.into(), Duration::ZERO, Instant::now(), Box::new(|_| {})).expect("it is there");
    stage.turn_until("the writer's session is closed", || writer.connections() == 1);
    assert!(write.read(&mut [0]).is_err());
    assert!(talks(&mut stage, &read, &its_server));
    let (client, server) = stage.pair(&second);
    assert!(talks(&mut stage, &client, &server));
}

/// Each has its own: the client of one is dropped when it is idle, that of the other stays.
#[test]
fn connections_are_treated_as_their_service_says() {
    let destination = Destination::new();
    let rotation = pool().rotation(balancing(PolicyKind::RoundRobin));
    add(&rotation, &destination);
    let other = rotation.pool().rotation(balancing(PolicyKind::RoundRobin));
    let idle = ["--client-idle-timeout", "0.05"];
    let (mut stage, listeners) = Stage::start(&[&rotation], &[(&rotation, &idle), (&other, &[])], false);
    let (mut client, _server) = stage.pair(&destination);
    let (patient, its_server) = pair(&mut stage, &listeners[0], &destination);
    stage.turn_until("the idle one is closed", || rotation.connections() == 1);
    assert!(client.read(&mut [0]).is_err());
    assert!(talks(&mut stage, &patient, &its_server));
}

#[test]
fn a_service_whose_backlog_is_full_keeps_no_other_waiting() {
    let (crowded, quiet) = (Destination::with_backlog(1000), Destination::new());
    let rotations = [(); 2].map(|()| pool().rotation(balancing(PolicyKind::RoundRobin)));
    add(&rotations[0], &crowded);
    add(&rotations[1], &quiet);
    let (mut stage, listeners) =
        Stage::start(&[&rotations[0], &rotations[1]], &[(&rotations[0], &[]), (&rotations[1], &[])], false);
    // More than are let in by one turn.
    let crowd: Vec<TcpStream> = (0..100).map(|_| stage.connect()).collect();
    let _client = connect_to(&listeners[0]);
    stage.turn();
    assert!(rotations[0].connections() < crowd.len(), "one turn let all of the crowd in");
    assert_eq!(rotations[1].connections(), 1);
}

#[test]
fn a_service_with_many_clients_to_refuse_keeps_no_other_waiting() {
    let quiet = Destination::new();
    let rotations = [(); 2].map(|()| pool().rotation(balancing(PolicyKind::RoundRobin)));
    add(&rotations[1], &quiet);
    let services: [(&Rotation, &[&str]); 2] = [(&rotations[0], &["--deny=127.0.0.0/8"]), (&rotations[1], &[])];
    let (mut stage, listeners) = Stage::start(&[&rotations[0], &rotations[1]], &services, false);
    // More than are refused by one turn.
    let crowd: Vec<TcpStream> = (0..100).map(|_| stage.connect()).collect();
    crowd.iter().for_each(|client| client.set_nonblocking(true).expect("O_NONBLOCK"));
    // A reset is reported once, and is an end after that.
    let is_over = |client: &TcpStream| !client.peek(&mut [0]).is_err_and(|it| it.kind() == ErrorKind::WouldBlock);
    let _client = connect_to(&listeners[0]);
    stage.turn();
    assert!(!crowd.iter().all(is_over), "one turn refused all of the crowd");
    assert_eq!(rotations[1].connections(), 1);
    stage.turn_until("all are refused", || crowd.iter().all(is_over));
}

#[test]
fn a_service_at_its_limit_keeps_no_other_waiting_and_goes_on_when_a_client_leaves() {
    let destination = Destination::new();
    let rotation = pool().rotation(balancing(PolicyKind::RoundRobin));
    add(&rotation, &destination);
    let other = rotation.pool().rotation(balancing(PolicyKind::RoundRobin));
    let services: [(&Rotation, &[&str]); 2] = [(&rotation, &["--service-max-connections=1"]), (&other, &[])];
    let (mut stage, listeners) = Stage::start(&[&rotation], &services, false);
    let first = stage.pair(&destination);
    let _waits = stage.connect();
    stage.turn_until_quiet();
    assert_eq!(stage.worker.time_to_wait(), None, "it sleeps until something happens");
    let (client, server) = pair(&mut stage, &listeners[0], &destination);
    assert!(talks(&mut stage, &client, &server));
    drop(first);
    stage.accept_at(&destination);
}
