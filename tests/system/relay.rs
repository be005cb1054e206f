//! Bytes between client and server: all of them, in order, and nothing else.

use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use socket2::SockRef;

use crate::harness::{Glbd, PATIENCE, Payload, Server, Stage, read_line, wait_until};

#[test]
fn a_hundred_and_fifty_megabytes_each_way_at_once_arrive_unchanged() {
    send_both_ways(&Stage::start(), 150_000_000);
}

#[test]
fn bytes_arrive_unchanged_whether_all_are_spliced_or_all_are_copied() {
    for mode in ["GLBD_SPLICE=always", "GLBD_SPLICE=never"] {
        let stage = Stage::start_with(Glbd::builder().wrapped_by(["env", mode]));
        let start = stage.glbd.descriptors();
        send_both_ways(&stage, 20_000_000);
        wait_until("all descriptors are back", || stage.glbd.descriptors() == start);
    }
}

fn send_both_ways(stage: &Stage, length: usize) {
    let (client, server) = &stage.pair();
    let (up, down) = (&Payload::new(1, length), &Payload::new(2, length));
    thread::scope(|scope| {
        scope.spawn(|| up.receive_to_end(server));
        scope.spawn(|| down.receive_to_end(client));
        scope.spawn(|| send_and_end(up, client));
        scope.spawn(|| send_and_end(down, server));
    });
    let stats = stage.glbd.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out), (length as u64, length as u64));
}

fn send_and_end(payload: &Payload, stream: &TcpStream) {
    payload.send(stream).expect("the other end reads");
    stream.shutdown(Shutdown::Write).expect("an open connection");
}

#[test]
fn forty_connections_of_bursts_and_trickles_arrive_unchanged() {
    let servers = [Server::echo(), Server::echo(), Server::echo()];
    let glbd = Glbd::start(&servers);
    thread::scope(|scope| {
        for number in 0..40 {
            let (client, payload) = (glbd.connect(), Payload::new(number, 2_000_000));
            // Or the kernel would gather the trickles.
            client.set_nodelay(true).expect("TCP_NODELAY");
            let reader = client.try_clone().expect("a descriptor");
            let echoed = payload.clone();
            scope.spawn(move || echoed.receive_to_end(&reader));
            scope.spawn(move || {
                payload.send_in_pieces(&client, burst_or_trickle).expect("the server reads");
                client.shutdown(Shutdown::Write).expect("an open connection");
            });
        }
    });
}

/// Within each 100 kB the first 500 bytes go in small pieces with pauses, the rest at once.
fn burst_or_trickle(position: usize) -> usize {
    let into_round = position % 100_000;
    if into_round < 500 {
        thread::sleep(Duration::from_millis(1));
        1 + into_round % 50
    } else {
        100_000 - into_round
    }
}

#[test]
fn two_hundred_clients_that_connect_send_and_close_lose_no_byte() {
    let (collector, received) = mpsc::channel();
    let server = Server::serving(move |mut stream| {
        let mut bytes = Vec::new();
        let end = stream.read_to_end(&mut bytes).map(|_| bytes);
        collector.send(end.map_err(|error| error.to_string())).expect("the test waits");
    });
    let glbd = Glbd::start([&server]);
    let payload = |number: usize| Payload::new(number as u64, 1 + number * 397);
    thread::scope(|scope| {
        for first in 0..8 {
            let glbd = &glbd;
            scope.spawn(move || {
                for number in (first..200).step_by(8) {
                    payload(number).send(&glbd.connect()).expect("an open connection");
                }
            });
        }
    });
    let expected: BTreeSet<_> = (0..200).map(|number| Ok(payload(number).to_vec())).collect();
    let arrived: BTreeSet<_> = (0..200).map(|_| received.recv_timeout(PATIENCE).expect("200 connections")).collect();
    assert!(arrived == expected, "some of what was sent did not arrive whole");
}

#[test]
fn a_client_that_half_closes_still_gets_its_answer() {
    let stage = Stage::start();
    let (client, server) = stage.pair();
    half_close_and_listen(&client, &server);
}

#[test]
fn a_server_that_half_closes_still_hears_its_client() {
    let stage = Stage::start();
    let (client, server) = stage.pair();
    half_close_and_listen(&server, &client);
}

/// `ender` says something and half-closes; `other` sees the end, and goes on to talk for a while.
fn half_close_and_listen(mut ender: &TcpStream, mut other: &TcpStream) {
    ender.write_all(b"that is all\n").expect("an open connection");
    ender.shutdown(Shutdown::Write).expect("an open connection");
    let mut heard = String::new();
    other.read_to_string(&mut heard).expect("a clean end");
    assert_eq!(heard, "that is all\n");
    for number in 0..10 {
        writeln!(other, "answer {number}").expect("a connection open one way");
        assert_eq!(read_line(ender).expect("the answer"), format!("answer {number}"));
    }
    let long = Payload::new(3, 3_000_000);
    thread::scope(|scope| {
        scope.spawn(|| send_and_end(&long, other));
        long.receive_to_end(ender);
    });
}

#[test]
fn data_and_end_in_one_segment_both_arrive() {
    let stage = Stage::start();
    for round in 0..100 {
        let (client, server) = stage.pair();
        let (from, to) = if round % 2 == 0 { (&client, &server) } else { (&server, &client) };
        say_in_one_segment(from, b"short");
        let mut heard = String::new();
        (&*to).read_to_string(&mut heard).expect("a clean end");
        assert_eq!(heard, "short");
        say_in_one_segment(to, b"answer");
        let mut heard = String::new();
        (&*from).read_to_string(&mut heard).expect("a clean end");
        assert_eq!(heard, "answer");
    }
}

/// A corked socket holds the bytes back until the end, and sends them with its FIN.
fn say_in_one_segment(mut stream: &TcpStream, bytes: &[u8]) {
    SockRef::from(stream).set_tcp_cork(true).expect("TCP_CORK");
    stream.write_all(bytes).expect("an open connection");
    stream.shutdown(Shutdown::Write).expect("an open connection");
}

/// Reading stops short at urgent data; what follows it must not wait for more to come.
#[test]
fn what_follows_urgent_data_arrives_as_well() {
    let stage = Stage::start();
    let (client, mut server) = stage.pair();
    for round in 0..20 {
        let mut sender: &TcpStream = &client;
        sender.write_all(b"before").expect("an open connection");
        SockRef::from(&client).send_out_of_band(b"!").expect("an open connection");
        sender.write_all(b"after").expect("an open connection");
        let mut received = [0; 11];
        server.read_exact(&mut received).unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(&received, b"beforeafter");
    }
}

/// Splicing takes urgent data for the end, when that is behind it.
#[test]
fn an_end_behind_urgent_data_does_not_hide_what_is_between() {
    for mode in ["GLBD_SPLICE=always", "GLBD_SPLICE=never"] {
        let stage = Stage::start_with(Glbd::builder().wrapped_by(["env", mode]));
        for round in 0..20 {
            let (client, mut server) = stage.pair();
            (&client).write_all(b"before").expect("an open connection");
            SockRef::from(&client).send_out_of_band(b"!").expect("an open connection");
            say_in_one_segment(&client, b"after");
            let mut received = Vec::new();
            server.read_to_end(&mut received).unwrap_or_else(|error| panic!("{mode}, round {round}: {error}"));
            assert_eq!(received, b"beforeafter", "{mode}, round {round}");
        }
    }
}

/// Something of it is taken from the client's socket before there is a connection to pass it on through.
#[test]
fn all_that_a_client_says_before_it_is_let_in_arrives() {
    let server = Server::echo();
    let glbd = Glbd::start([&server]);
    for length in [0, 1, 4095, 4096, 4097, 20_000] {
        glbd.signal(Signal::SIGSTOP);
        let (client, payload) = (glbd.connect(), Payload::new(length as u64, length));
        send_and_end(&payload, &client);
        glbd.signal(Signal::SIGCONT);
        payload.receive_to_end(&client);
    }
    let said: u64 = 1 + 4095 + 4096 + 4097 + 20_000;
    let stats = glbd.stats();
    assert_eq!((stats.bytes_in, stats.bytes_out), (said, said));
}

/// The second write of a server that has not set TCP_NODELAY waits until the first one is acknowledged, which takes 40 ms
/// where acknowledgements are delayed. Each of several answers would take that long.
#[test]
fn an_answer_in_small_writes_is_not_late_because_the_client_spoke_first() {
    let stage = Stage::start();
    let answer_takes = || {
        stage.glbd.signal(Signal::SIGSTOP);
        let mut client = stage.glbd.connect();
        client.write_all(b"question").expect("room");
        stage.glbd.signal(Signal::SIGCONT);
        let mut server = stage.accept();
        server.read_exact(&mut [0; 8]).expect("the question");
        let asked = Instant::now();
        for _ in 0..2 {
            server.write_all(b"answer").expect("room");
        }
        client.read_exact(&mut [0; 12]).expect("both parts");
        asked.elapsed()
    };
    let quickest = (0..10).map(|_| answer_takes()).min().expect("ten");
    assert!(quickest < Duration::from_millis(30), "{quickest:?}");
}

#[test]
fn small_messages_pass_while_bulk_streams_run() {
    const STREAMS: u64 = 8;
    let received = Arc::new(AtomicU64::new(0));
    let bulk = Server::serving({
        let received = Arc::clone(&received);
        move |stream| count_until_end(stream, &received)
    });
    let talk = Server::echo();
    let glbd = Glbd::builder()
        // The ends of the bulk streams go before the daemon, which therefore always has something to read from them
        // and always room to write it to: it has to turn to the others of its own accord.
        .wrapped_by(["nice", "-n", "19"])
        .args(["--threads", "1", "--single"])
        .destinations([&bulk])
        .start();
    let stop = &AtomicBool::new(false);
    thread::scope(|scope| {
        // However the talk ends, the bulk must, or the scope would wait for ever.
        let _stop_at_the_end = StopOnDrop(stop);
        for _ in 0..STREAMS {
            let client = glbd.connect();
            scope.spawn(move || keep_sending(&client, stop));
        }
        wait_until("the bulk streams run", || received.load(Ordering::Relaxed) > 20_000_000);
        glbd.change(talk.weighted(2.0));
        let mut client = glbd.connect();
        glbd.stats();
        for number in 0..50 {
            writeln!(client, "message {number}").expect("an open connection");
            assert_eq!(read_line(&client).expect("an echo"), format!("message {number}"));
        }
        let stats = glbd.stats();
        let bytes_a_turn = stats.received / stats.polls;
        assert!(bytes_a_turn < 700_000, "{bytes_a_turn} bytes of the bulk streams before others had their turn");
    });
}

struct StopOnDrop<'a>(&'a AtomicBool);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn keep_sending(mut stream: &TcpStream, stop: &AtomicBool) {
    let bytes = vec![7; 256 * 1024];
    while !stop.load(Ordering::Relaxed) {
        stream.write_all(&bytes).expect("the server reads");
    }
    stream.shutdown(Shutdown::Write).expect("an open connection");
}

fn count_until_end(mut stream: &TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => count.fetch_add(read as u64, Ordering::Relaxed),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => panic!("the bulk stream broke: {error}"),
        };
    }
}
