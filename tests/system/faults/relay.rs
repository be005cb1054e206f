//! Calls that move bytes.

use std::net::{Shutdown, TcpStream};
use std::thread;

use crate::harness::{Fault, Glbd, Payload, Server, wait_until};

/// Enough for splicing to begin, and to be under way when the fault comes.
const BULK: usize = 60_000_000;

/// Bulk goes both ways, and a fault strikes several times meanwhile.
fn bulk_arrives_in_spite_of(fault: &str) {
    let server = Server::echo();
    let glbd = Glbd::builder().args(["-t", "1"]).destinations([&server]).start();
    let descriptors = glbd.descriptors();
    let fault = Fault::inject(glbd.pid(), fault);
    let send_and_receive = |client: &TcpStream, length: usize| {
        let payload = Payload::new(1, length);
        thread::scope(|scope| {
            scope.spawn(|| {
                payload.send(client).expect("the client's bytes");
                client.shutdown(Shutdown::Write).expect("an open connection");
            });
            payload.receive_to_end(client);
        });
    };
    send_and_receive(&glbd.connect(), BULK);
    fault.wait_for_hits(1);
    fault.lift();
    send_and_receive(&glbd.connect(), 100_000);
    wait_until("all is back", || glbd.info().total == 0 && glbd.descriptors() == descriptors);
}

#[test]
fn bulk_is_copied_when_there_are_no_descriptors_for_a_pipe() {
    bulk_arrives_in_spite_of("pipe2:error=EMFILE");
}

#[test]
fn bulk_is_copied_when_the_system_has_too_many_files_for_a_pipe() {
    bulk_arrives_in_spite_of("pipe2:error=ENFILE");
}

#[test]
fn bulk_is_copied_when_the_user_has_too_much_in_pipes() {
    bulk_arrives_in_spite_of("fcntl:error=EPERM");
}

#[test]
fn bulk_arrives_when_splicing_finds_no_memory() {
    bulk_arrives_in_spite_of("splice:error=ENOMEM:when=3+5");
}

#[test]
fn bulk_arrives_when_sending_finds_no_buffers() {
    bulk_arrives_in_spite_of("sendto:error=ENOBUFS:when=2+3");
}

#[test]
fn bulk_arrives_when_receiving_finds_no_memory() {
    bulk_arrives_in_spite_of("recvfrom:error=ENOMEM:when=2+3");
}
