//! Finding a destination that accepts: the first part of a connection's life.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use log::{debug, info, warn};
use mio::event::Event;
use mio::net::TcpStream;
use socket2::{Domain, SockRef, Socket, Type};

use super::idle::LastActive;
use super::{Connection, Ending, INTERESTS, Next, Stage};
use crate::process;
use crate::sys;
use crate::table::{DestinationId, Lease};
use crate::worker::source::Sign;
use crate::worker::{Key, Kit, SHORTAGE_PAUSE, Side};

/// What is only needed until there is a destination.
pub(super) struct Connecting {
    tried: Vec<DestinationId>,
    /// When to give up the attempt under way, or when to make the next one.
    pub deadline: Instant,
    /// Since when this machine has been short of something that a connect needs.
    short_since: Option<Instant>,
}

impl Connecting {
    pub(super) fn new(now: Instant) -> Connecting {
        Connecting { tried: Vec::new(), deadline: now, short_since: None }
    }
}

impl Connection {
    /// Tries destinations until one accepts or has to be waited for.
    pub(in crate::worker) fn connect(&mut self, kit: &mut Kit) -> Next {
        self.server = None;
        self.lease = None;
        // What the socket before has told says nothing of the next.
        self.down.forget_source();
        loop {
            let Stage::Connecting(connecting) = &mut self.stage else { return Next::Wait };
            let Some(mut lease) = kit.table.pick(self.client_address.ip(), &connecting.tried, kit.now) else {
                kit.nowhere_to_go(self.client_address);
                return Next::Close(Ending::Clean);
            };
            if lease.is_outdated() {
                lease.ask_watchdog();
                connecting.deadline = kit.now + kit.options.connect_timeout;
                self.lease = Some(lease);
                // Nothing is lacking as long as nothing is asked for.
                self.admitted.set_short(false);
                self.arm(kit);
                return Next::Wait;
            }
            if let Some(next) = self.connect_to(lease, kit) {
                return next;
            }
        }
    }

    /// Begins to connect to a destination. `None`: it could not even be begun, and others are to be tried.
    fn connect_to(&mut self, lease: Lease, kit: &mut Kit) -> Option<Next> {
        if let Some(next) = self.hear_ahead(kit) {
            return Some(next);
        }
        let Stage::Connecting(connecting) = &mut self.stage else { return Some(Next::Wait) };
        match open(lease.address(), self.up.holds_anything(), self.key, kit) {
            Ok(server) => {
                connecting.short_since = None;
                self.admitted.set_short(false);
                connecting.deadline = kit.now + kit.options.connect_timeout;
                (self.server, self.lease) = (Some(server), Some(lease));
            }
            Err(error) if sys::is_shortage(&error) => {
                let since = *connecting.short_since.get_or_insert(kit.now);
                kit.out_of_resources(&error);
                self.admitted.set_short(true);
                if kit.now.duration_since(since) > kit.options.connect_timeout {
                    return Some(Next::Close(Ending::Clean));
                }
                connecting.deadline = kit.now + SHORTAGE_PAUSE;
            }
            Err(error) => {
                connecting.tried.push(lease.id());
                give_back(lease, &error, kit);
                return None;
            }
        }
        self.arm(kit);
        Some(Next::Wait)
    }

    /// The watchdog was asked about a destination, and this is its answer.
    pub(in crate::worker) fn on_destination_checked(&mut self, id: DestinationId, fit: bool, kit: &mut Kit) -> Next {
        if self.server.is_some() || self.lease.as_ref().is_none_or(|lease| lease.id() != id) {
            return Next::Wait;
        }
        match self.lease.take() {
            Some(lease) if fit => self.connect_to(lease, kit).unwrap_or_else(|| self.connect(kit)),
            lease => self.pass_over(lease, kit),
        }
    }

    /// Goes on to the next destination, without a word against this one.
    pub(super) fn pass_over(&mut self, lease: Option<Lease>, kit: &mut Kit) -> Next {
        if let (Stage::Connecting(connecting), Some(lease)) = (&mut self.stage, lease) {
            connecting.tried.push(lease.id());
        }
        self.connect(kit)
    }

    /// Something was found out about the destination's socket.
    pub(super) fn on_connect_event(&mut self, event: &Event, kit: &mut Kit) -> Next {
        let Some(server) = &self.server else { return Next::Wait };
        if event.is_error() || event.is_write_closed() {
            let error = server.take_error().and_then(|error| error.map_or(Ok(()), Err));
            match error {
                Err(error) if !has_answered(server, &error) => return self.next_destination(&error, kit),
                // All that remains is what it said; passing that on is what the client came for.
                Err(_) => {
                    self.broken = true;
                    self.up.finish();
                    self.down.hear(Sign::Uncertain);
                }
                Ok(()) => {}
            }
        }
        if !event.is_writable() {
            return Next::Wait;
        }
        if self.lease.as_ref().is_some_and(|lease| is_itself(server, lease.address())) {
            // Its TIME_WAIT would keep the real server from the port.
            let _ = SockRef::from(server).set_linger(Some(Duration::ZERO));
            let error = io::Error::new(ErrorKind::ConnectionRefused, "nobody listens there");
            return self.next_destination(&error, kit);
        }
        self.begin_to_relay(kit)
    }

    fn begin_to_relay(&mut self, kit: &mut Kit) -> Next {
        if let Some(lease) = &mut self.lease {
            debug!("client {}: passed on to {}", self.client_address, lease.address());
            if lease.connected() {
                info!("destination {} can be reached again", lease.address());
            }
        }
        self.stage = Stage::Relaying;
        self.armed = None;
        if kit.options.client_idle_timeout.is_some() || kit.options.server_idle_timeout.is_some() {
            self.last_active = Some(Box::new(LastActive::new(kit.now)));
            self.arm(kit);
        }
        self.relay(kit)
    }

    /// The attempt under way has failed.
    pub(super) fn next_destination(&mut self, error: &io::Error, kit: &mut Kit) -> Next {
        if let (Stage::Connecting(connecting), Some(lease)) = (&mut self.stage, self.lease.take()) {
            connecting.tried.push(lease.id());
            give_back(lease, error, kit);
        }
        self.connect(kit)
    }
}

/// Begins to connect to a destination, to which something can be `said` as soon as it accepts.
fn open(address: SocketAddr, said: bool, key: Key, kit: &Kit) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    if said {
        // What there is to say acknowledges the handshake as well, and finds the server awake. Where there is nothing,
        // the server may be the one to speak first, and is not to be kept from it. Without it, it only costs a packet.
        let _ = socket.set_tcp_quickack(false);
    }
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
        _ => {}
    }
    let mut server = TcpStream::from_std(socket.into());
    if kit.options.nodelay {
        server.set_nodelay(true)?;
    }
    if kit.options.keepalive {
        SockRef::from(&server).set_keepalive(true)?;
    }
    kit.registry.register(&mut server, key.token(Side::Server), INTERESTS)?;
    Ok(server)
}

/// TCP lets a socket connect to itself, when the kernel happens to choose a local destination's port for it.
fn is_itself(server: &TcpStream, destination: SocketAddr) -> bool {
    static CHOSEN_PORTS: LazyLock<RangeInclusive<u16>> = LazyLock::new(process::ephemeral_ports);
    CHOSEN_PORTS.contains(&destination.port()) && server.local_addr().ok() == Some(destination)
}

/// Whether a destination that has reset its connection had accepted it before, and said something.
fn has_answered(server: &TcpStream, error: &io::Error) -> bool {
    error.kind() != ErrorKind::ConnectionRefused && server.peek(&mut [0]).is_ok_and(|count| count > 0)
}

fn give_back(lease: Lease, error: &io::Error, kit: &Kit) {
    let address = lease.address();
    if lease.failed(kit.now) {
        warn!("destination {address} cannot be reached: {error}; others are preferred while there are any");
    }
}
