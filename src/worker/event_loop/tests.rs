//! A worker that is driven by hand over real sockets, so that what happens between two of its turns is certain.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

use socket2::{Domain, SockRef, Socket, Type};

use super::*;
use crate::config::Config;
use crate::stats::Stats;
use crate::sys;
use crate::table::health::ShutdownSessions;
use crate::table::{Balancing, PolicyKind, Table};
use crate::worker::{Handle, Limits, Workers};

/// How long a test waits for what it expects before it fails.
const PATIENCE: Duration = Duration::from_secs(45);
/// How long a turn waits for events.
const WAIT: Duration = Duration::from_millis(5);

/// One worker, and what it needs.
struct Stage {
    worker: Worker,
    handle: Handle,
    table: Table,
    stats: Stats,
    /// Another handle of its listening socket.
    listener: TcpListener,
    events: Events,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(&[], false)
    }

    /// With these options; with `held`, clients wait in the backlog.
    fn with(options: &[&str], held: bool) -> Stage {
        let words = ["glbd", "1"].iter().chain(options).map(|word| (*word).to_owned());
        let options = Config::from_command_line(words).expect("a command line").connections;
        let table = Table::new(Balancing {
            policy: PolicyKind::LeastConnected,
            top: false,
            avoid_failed_for: Duration::from_secs(2),
            watched: false,
            recheck_after: None,
            shutdown_sessions: ShutdownSessions::Elsewhere,
        });
        let stats = Stats::new(1);
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("O_NONBLOCK");
        let own = mio::net::TcpListener::from_std(listener.try_clone().expect("a descriptor"));
        let limits = Limits { connections: 1000, pipes: 10 };
        let workers = Workers::new(vec![own], limits, &table, &stats, &options, held).expect("descriptors");
        let worker = workers.workers.into_iter().next().expect("one listener, one worker");
        Stage { worker, handle: workers.handle, table, stats, listener, events: Events::with_capacity(EVENTS) }
    }

    fn add(&self, destination: &Destination) {
        self.table.set(&destination.address.into(), destination.address, 1.0).expect("there is room");
    }

    fn remove(&self, destination: &Destination) {
        self.table.remove(destination.address).expect("it is there");
    }

    fn connect(&self) -> TcpStream {
        let client = TcpStream::connect(self.listener.local_addr().expect("an address")).expect("it listens");
        client.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        client
    }

    /// A client, and the other end of its connection.
    fn pair(&mut self, destination: &Destination) -> (TcpStream, TcpStream) {
        let client = self.connect();
        let server = self.accept_at(destination);
        (client, server)
    }

    /// The next connection that the worker makes to a destination.
    fn accept_at(&mut self, destination: &Destination) -> TcpStream {
        let mut accepted = None;
        self.turn_until("it connects to the destination", || {
            accepted = destination.accept();
            accepted.is_some()
        });
        accepted.expect("a connection")
    }

    fn turn(&mut self) {
        self.worker.turn(&mut self.events, Some(WAIT));
    }

    fn turn_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
            self.turn();
        }
    }

    /// Turns until nothing has happened for several turns.
    fn turn_until_quiet(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            self.turn();
            quiet = if self.events.is_empty() && self.worker.unfinished.is_empty() { quiet + 1 } else { 0 };
        }
    }

    /// Turns until the client can read something, and reads it.
    fn read_at(&mut self, client: &TcpStream) -> io::Result<Vec<u8>> {
        self.turn_until("the client can read", || {
            client.set_nonblocking(true).expect("O_NONBLOCK");
            !client.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
        });
        client.set_nonblocking(false).expect("O_NONBLOCK");
        let mut bytes = vec![0; 1000];
        let count = (&*client).read(&mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }

    /// Waits for what the kernel reports next, and keeps it back.
    fn take_events(&mut self) -> Events {
        let mut events = Events::with_capacity(EVENTS);
        let begun = Instant::now();
        while events.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for an event");
            self.worker.poll.poll(&mut events, Some(WAIT)).expect("an event queue");
        }
        events
    }
}

/// A destination whose connections the test serves.
struct Destination {
    address: SocketAddr,
    listener: TcpListener,
    /// Connections that fill its backlog, so that it does not answer to others.
    _backlog: Vec<TcpStream>,
}

impl Destination {
    fn new() -> Destination {
        Destination::with_backlog(100)
    }

    /// One that neither accepts nor refuses.
    fn silent() -> Destination {
        let mut silent = Destination::with_backlog(0);
        while let Ok(stream) = TcpStream::connect_timeout(&silent.address, Duration::from_millis(300)) {
            silent._backlog.push(stream);
        }
        silent
    }

    fn with_backlog(backlog: i32) -> Destination {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        socket.listen(backlog).expect("a port of its own");
        let listener: TcpListener = socket.into();
        Destination { address: listener.local_addr().expect("an address"), listener, _backlog: Vec::new() }
    }

    fn accept(&self) -> Option<TcpStream> {
        let (server, _) = self.listener.accept().ok()?;
        server.set_nonblocking(false).expect("O_NONBLOCK");
        server.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        Some(server)
    }
}

/// Waits until the kernel of the other end has all that was sent, the end included.
fn wait_until_arrived(stream: &TcpStream) {
    let begun = Instant::now();
    while sys::unacknowledged_bytes(stream).expect("a socket") > 0 {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for an acknowledgement");
        thread::sleep(Duration::from_millis(1));
    }
}

fn reset(stream: TcpStream) {
    SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("SO_LINGER");
}

#[test]
fn an_answer_that_has_come_when_its_destination_is_removed_reaches_the_client_with_a_clean_end() {
    let (mut stage, destination) = (Stage::new(), Destination::new());
    stage.add(&destination);
    let (mut client, mut server) = stage.pair(&destination);
    stage.turn_until_quiet();
    // The mailbox rings before anything comes of the destination.
    stage.remove(&destination);
    server.write_all(b"all of it").expect("an open connection");
    server.shutdown(Shutdown::Write).expect("an open connection");
    wait_until_arrived(&server);
    stage.turn_until_quiet();
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard, b"all of it");
}

#[test]
fn a_destination_that_has_got_all_of_an_upload_keeps_it_when_it_is_removed() {
    const LENGTH: usize = 200_000;
    let (mut stage, destination) = (Stage::new(), Destination::new());
    stage.add(&destination);
    let (mut client, mut server) = stage.pair(&destination);
    client.write_all(&vec![7; LENGTH]).expect("an open connection");
    client.shutdown(Shutdown::Write).expect("an open connection");
    // The destination reads nothing: it is on its way in the kernel.
    let stats = stage.stats.clone();
    stage.turn_until("all is passed on", || stats.totals().sent as usize == LENGTH);
    wait_until_arrived(&client);
    stage.turn_until_quiet();
    stage.remove(&destination);
    stage.turn_until_quiet();
    assert!(client.read(&mut [0]).is_err(), "a client that has got no answer is reset");
    let mut heard = Vec::new();
    server.read_to_end(&mut heard).expect("a clean end");
    assert_eq!(heard.len(), LENGTH);
}

#[test]
fn a_late_event_of_one_attempt_does_not_count_for_the_next() {
    let (mut stage, first) = (Stage::new(), Destination::new());
    let (silent, last) = (Destination::silent(), Destination::new());
    stage.add(&first);
    let client = stage.connect();
    let stats = stage.stats.clone();
    stage.turn_until("the first attempt has begun", || stats.totals().connections == 1);
    let accepted = stage.take_events();
    stage.add(&silent);
    stage.remove(&first);
    stage.worker.read_mail();
    stage.worker.dispatch(&accepted);
    // It still waits for an answer, and can go elsewhere.
    stage.add(&last);
    stage.remove(&silent);
    stage.turn_until_quiet();
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

#[test]
fn a_late_event_of_a_client_that_has_gone_does_not_count_for_the_next_one_in_its_place() {
    let (mut stage, silent) = (Stage::new(), Destination::silent());
    stage.add(&silent);
    let gone = stage.connect();
    stage.turn_until_quiet();
    reset(gone);
    let its_reset = stage.take_events();
    let keys: Vec<Key> = stage.worker.connections.iter().map(|(_, connection)| connection.key()).collect();
    keys.into_iter().for_each(|key| stage.worker.with(key, |_, _| Next::Close(Ending::Clean)));
    let client = stage.connect();
    stage.turn_until_quiet();
    stage.worker.dispatch(&its_reset);
    let last = Destination::new();
    stage.add(&last);
    stage.remove(&silent);
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

/// It takes the place of the one before, whose turn must not seem to be its own.
#[test]
fn with_one_connect_at_a_time_a_client_that_comes_as_another_leaves_has_its_turn() {
    let (mut stage, silent) = (Stage::with(&["--synchronous"], false), Destination::silent());
    stage.add(&silent);
    let gone = stage.connect();
    stage.turn_until_quiet();
    reset(gone);
    let client = stage.connect();
    stage.turn_until_quiet();
    let last = Destination::new();
    stage.add(&last);
    stage.remove(&silent);
    stage.accept_at(&last).write_all(b"hello").expect("an open connection");
    assert_eq!(stage.read_at(&client).expect("a greeting"), b"hello");
}

#[test]
fn clients_that_wait_to_be_let_in_are_served_by_a_daemon_that_drains() {
    let (mut stage, destination) = (Stage::with(&[], true), Destination::new());
    stage.add(&destination);
    // More than are accepted in one turn.
    let clients: Vec<TcpStream> = (0..ACCEPTS + 10).map(|_| stage.connect()).collect();
    stage.turn_until_quiet();
    stage.handle.drain();
    stage.turn_until_quiet();
    for _ in &clients {
        stage.accept_at(&destination).write_all(b"hello").expect("an open connection");
    }
    for client in &clients {
        assert_eq!(stage.read_at(client).expect("a greeting"), b"hello");
    }
}

/// The other process has the socket as well, so that the kernel goes on to report its clients.
#[test]
fn clients_of_a_socket_that_was_handed_over_do_not_wake_the_worker() {
    let (mut stage, destination) = (Stage::new(), Destination::new());
    stage.add(&destination);
    let _pair = stage.pair(&destination);
    stage.turn_until_quiet();
    stage.handle.hand_over();
    stage.turn_until_quiet();
    let _next = stage.connect();
    // The kernel reports what there is before it reports what comes later.
    stage.handle.hand_over();
    let events = stage.take_events();
    assert_eq!(events.iter().map(|event| event.token()).collect::<Vec<_>>(), [MAIL]);
}
