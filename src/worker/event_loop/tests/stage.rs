//! One worker, its clients and its destinations, all in the hands of one test.

use std::io::{self, ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use mio::Events;
use socket2::{Domain, Socket, Type};

use crate::config::Config;
use crate::pool::health::ShutdownSessions;
use crate::pool::{Balancing, PolicyKind, Pool, PoolSettings, Rotation};
use crate::service::{Continued, Service, ServiceLimits};
use crate::stats::Stats;
use crate::sys;
use crate::worker::event_loop::{EVENTS, Worker};
use crate::worker::{Handle, Limits, ListenerGroup, Workers};

/// How long a test waits for what it expects before it fails.
pub const PATIENCE: Duration = Duration::from_secs(45);
/// How long a turn waits for events.
const WAIT: Duration = Duration::from_millis(5);

/// One worker, and what it needs.
pub struct Stage {
    pub worker: Worker,
    pub handle: Handle,
    pub table: Rotation,
    pub stats: Stats,
    /// Its services, and their sockets.
    pub served: Vec<(Arc<Service>, ListenerGroup)>,
    /// Another handle of the first one's listening socket.
    listener: TcpListener,
    events: Events,
}

impl Stage {
    pub fn new() -> Stage {
        Stage::with(&[], false)
    }

    /// With these options; with `held`, clients wait in the backlog.
    pub fn with(options: &[&str], held: bool) -> Stage {
        let table = pool().rotation(balancing(PolicyKind::LeastConnected));
        Stage::start(&[&table], &[(&table, options)], held).0
    }

    /// With a service for each of these rotations over these pools, which has these options. Returns the listening sockets
    /// of the second service and of those that follow it.
    pub fn start(pools: &[&Pool], services: &[(&Rotation, &[&str])], held: bool) -> (Stage, Vec<TcpListener>) {
        let (stats, limits) = (Stats::new(1), Limits { connections: 1000, pipes: 10 });
        let workers = Workers::new(1, limits, &stats).expect("descriptors");
        let handle = workers.handle().clone();
        pools.iter().for_each(|pool| handle.follow(pool));
        let (mut listeners, mut served) = (Vec::new(), Vec::new());
        for (rotation, options) in services {
            let ((listener, theirs), service) = (listener(), service(rotation, options));
            let group = handle.serve(&service, vec![theirs], held).expect("memory for a watch");
            listeners.push(listener);
            served.push((service, group));
        }
        let (table, listener) = (services[0].0.clone(), listeners.remove(0));
        let mut worker = workers.workers.into_iter().next().expect("one worker");
        worker.read_mail();
        let events = Events::with_capacity(EVENTS);
        (Stage { worker, handle, table, stats, served, listener, events }, listeners)
    }

    pub fn add(&self, destination: &Destination) {
        self.table.set(&destination.address.into(), destination.address.into(), 1.0).expect("there is room");
    }

    pub fn remove(&self, destination: &Destination) {
        self.table.remove(destination.address.into()).expect("it is there");
    }

    pub fn connect(&self) -> TcpStream {
        connect_to(&self.listener)
    }

    /// A client, and the other end of its connection.
    pub fn pair(&mut self, destination: &Destination) -> (TcpStream, TcpStream) {
        let client = self.connect();
        let server = self.accept_at(destination);
        (client, server)
    }

    /// The next connection that the worker makes to a destination.
    pub fn accept_at(&mut self, destination: &Destination) -> TcpStream {
        let mut accepted = None;
        self.turn_until("it connects to the destination", || {
            accepted = destination.accept();
            accepted.is_some()
        });
        accepted.expect("a connection")
    }

    pub fn turn(&mut self) {
        self.worker.turn(&mut self.events, Some(WAIT));
    }

    pub fn turn_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        let begun = Instant::now();
        while !condition() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain until {what}");
            self.turn();
        }
    }

    /// Turns until nothing has happened for several turns.
    pub fn turn_until_quiet(&mut self) {
        let mut quiet = 0;
        while quiet < 3 {
            self.turn();
            quiet = if self.events.is_empty() && self.worker.unfinished.is_empty() { quiet + 1 } else { 0 };
        }
    }

    /// Turns until nothing happens any more unless something comes from outside.
    pub fn turn_until_no_deadline_is_left(&mut self) {
        let begun = Instant::now();
        while self.worker.time_to_wait().is_some() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain until no deadline is left");
            self.turn();
        }
    }

    /// Turns until the client can read something, and reads it.
    pub fn read_at(&mut self, client: &TcpStream) -> io::Result<Vec<u8>> {
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
    pub fn take_events(&mut self) -> Events {
        let mut events = Events::with_capacity(EVENTS);
        let begun = Instant::now();
        while events.is_empty() {
            assert!(begun.elapsed() < PATIENCE, "waited in vain for an event");
            self.worker.poll.poll(&mut events, Some(WAIT)).expect("an event queue");
        }
        events
    }
}

/// A pool without a watchdog.
pub fn pool() -> Pool {
    Pool::new(PoolSettings { avoid_failed_for: Duration::from_secs(2), watched: false, ..PoolSettings::default() })
}

pub fn balancing(policy: PolicyKind) -> Balancing {
    Balancing { policy, top: false, shutdown_sessions: ShutdownSessions::Elsewhere }
}

/// A service with these options.
pub fn service(rotation: &Rotation, options: &[&str]) -> Arc<Service> {
    let words = ["glbd", "1"].iter().chain(options).map(|word| (*word).to_owned());
    let config = Config::from_command_line(words).expect("a command line").services.remove(0);
    let limits = ServiceLimits::new(&config.limits, None);
    Service::limited("test", rotation.clone(), config.connections, limits, Continued::default())
}

/// A listening socket: a handle of it for a test, which does not accept from it, and one for a worker.
pub fn listener() -> (TcpListener, mio::net::TcpListener) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    listener.set_nonblocking(true).expect("O_NONBLOCK");
    let own = mio::net::TcpListener::from_std(listener.try_clone().expect("a descriptor"));
    (listener, own)
}

pub fn connect_to(listener: &TcpListener) -> TcpStream {
    let client = TcpStream::connect(listener.local_addr().expect("an address")).expect("it listens");
    client.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
    client
}

/// A destination whose connections the test serves.
pub struct Destination {
    pub address: SocketAddr,
    listener: TcpListener,
    /// Connections that fill its backlog, so that it does not answer to others.
    _backlog: Vec<TcpStream>,
}

impl Destination {
    pub fn new() -> Destination {
        Destination::with_backlog(100)
    }

    /// One that neither accepts nor refuses.
    pub fn silent() -> Destination {
        let mut silent = Destination::with_backlog(0);
        while let Ok(stream) = TcpStream::connect_timeout(&silent.address, Duration::from_millis(300)) {
            silent._backlog.push(stream);
        }
        silent
    }

    pub fn with_backlog(backlog: i32) -> Destination {
        let socket = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("SO_RCVBUF");
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
        socket.listen(backlog).expect("a port of its own");
        let listener: TcpListener = socket.into();
        Destination { address: listener.local_addr().expect("an address"), listener, _backlog: Vec::new() }
    }

    pub fn accept(&self) -> Option<TcpStream> {
        let (server, _) = self.listener.accept().ok()?;
        server.set_nonblocking(false).expect("O_NONBLOCK");
        server.set_read_timeout(Some(PATIENCE)).expect("SO_RCVTIMEO");
        Some(server)
    }
}

/// Waits until the kernel of the other end has all that was sent, the end included.
pub fn wait_until_arrived(stream: &TcpStream) {
    let begun = Instant::now();
    while sys::unacknowledged_bytes(stream).expect("a socket") > 0 {
        assert!(begun.elapsed() < PATIENCE, "waited in vain for an acknowledgement");
        thread::sleep(Duration::from_millis(1));
    }
}
