//! One client's connection, from the first connect to the last byte.

mod accept_proxy;
mod connect;
mod connecting;
mod described;
mod farewell;
mod greeting;
mod idle;
mod queue;
mod record;
mod relay;
mod replaced;
mod send_proxy;
mod turn_away;
mod upstream;
mod waiting;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::debug;
use mio::Interest;
use mio::event::Event;

use super::accept::Newcomer;
use super::admission::Admitted;
use super::duplex::Duplex;
use super::hops::HopLimit;
use super::source::Sign;
use super::stream::Stream;
use super::{Attempt, Key, Kit, Side};
use crate::address::PeerAddress;
use crate::connection_log::{self, Style};
use crate::counters::Cause;
use crate::pool::{DestinationId, Lease, RotationId};
use crate::service::Service;
use accept_proxy::AwaitedHeader;
use connecting::Connecting;
use farewell::Farewell;
use idle::LastActive;
use record::Record;
use turn_away::TurnedAway;

/// What there is to hear of a connection's sockets, all of it from the beginning.
const INTERESTS: Interest = Interest::READABLE.add(Interest::WRITABLE).add(Interest::PRIORITY);

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Nothing until the next event or deadline.
    Wait,
    /// There is more to do, once others had their turn.
    Again,
    /// It is to look for a destination.
    Connect,
    /// It is over.
    Close(Ending),
}

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// Both sides have ended; all is delivered.
    Clean,
    /// Something broke or was taken away, which a clean end would hide: both sides are reset.
    Reset,
    /// It is brought to an end from here: a side that has got all up to the other's end keeps that, and is reset
    /// otherwise.
    Cut,
}

/// A client's connection and, once there is one, the destination's.
pub(super) struct Connection {
    /// Dropped before the sockets, so that a client which comes again when it sees the end finds its place free.
    admitted: Admitted,
    key: Key,
    service: Arc<Service>,
    client: Stream,
    client_address: PeerAddress,
    /// Whether events of the client's socket are reported.
    is_client_watched: bool,
    server: Option<Stream>,
    /// Which of this connection's sockets to destinations that is.
    attempt: Attempt,
    lease: Option<Lease>,
    stage: Stage,
    flows: Duplex,
    /// Waits among the unfinished ones for its turn.
    unfinished: bool,
    /// How many more reads of the destination may be part of the client's login, which is watched.
    login_reads: u8,
    /// The earliest deadline that a timer was set for.
    armed: Option<Instant>,
    /// Only with idle timeouts.
    last_active: Option<Box<LastActive>>,
    record: Record,
}

enum Stage {
    /// The client is a proxy, which is to say first who its own client is.
    AwaitingHeader(Box<AwaitedHeader>),
    Connecting(Box<Connecting>),
    Relaying,
    /// All that the client said is sent, and not all of it acknowledged.
    Farewell(Box<Farewell>),
    /// No destination serves the client, which is given the last one's error.
    TurnedAway(Box<TurnedAway>),
}

impl Connection {
    /// Takes over an accepted client.
    pub(super) fn new(key: Key, newcomer: Newcomer, kit: &Kit) -> Connection {
        let Newcomer { service, client, address: client_address, admitted, reservation } = newcomer;
        let hop_limit = HopLimit::of(&client, client_address);
        let stage = match reservation {
            Some(reservation) => Stage::AwaitingHeader(Box::new(AwaitedHeader::new(kit.now, hop_limit, reservation))),
            None => Stage::Connecting(Box::new(Connecting::new(kit.now, hop_limit))),
        };
        // What is kept back for the end is unsent until then, and nothing that is unsent is ever reset.
        let mut flows = Duplex::new(!service.options.reset_on_close);
        // It may have spoken before it was let in.
        flows.up.hear(Sign::Readable);
        let record = Record::new(&service, kit);
        Connection {
            key,
            service,
            client,
            client_address,
            is_client_watched: false,
            server: None,
            attempt: Attempt::default(),
            lease: None,
            stage,
            flows,
            unfinished: false,
            login_reads: 0,
            armed: None,
            last_active: None,
            admitted,
            record,
        }
    }

    /// Has the events of the client's socket reported.
    ///
    /// # Errors
    /// Those of epoll_ctl(2): the kernel has no memory for it, or the user has too many watches.
    pub(super) fn watch_client(&mut self, kit: &Kit) -> io::Result<()> {
        if !self.is_client_watched {
            let watched = kit.registry.register(&mut self.client, self.key.token(Side::Client), INTERESTS);
            if watched.is_err() {
                // Where mio checks for mistakes, it takes the socket for registered by now.
                let _ = kit.registry.deregister(&mut self.client);
            }
            watched?;
            self.is_client_watched = true;
        }
        Ok(())
    }

    /// Tells this connection from an earlier one in the same place.
    pub(super) fn key(&self) -> Key {
        self.key
    }

    /// Whether others that connect in turn are to wait for this one.
    pub(super) fn connects_in_turn(&self) -> bool {
        self.service.options.synchronous
    }

    /// Whether a destination is still being looked for.
    pub(super) fn is_connecting(&self) -> bool {
        matches!(self.stage, Stage::Connecting(_))
    }

    /// Whether others that connect in turn wait for it.
    pub(super) fn has_the_turn(&self) -> bool {
        self.is_connecting() && !self.is_in(connecting::Phase::Room)
    }

    /// Whether a timer set for this moment still means anything.
    pub(super) fn is_armed_for(&self, deadline: Instant) -> bool {
        self.armed == Some(deadline)
    }

    /// Something was found out about one of the sockets.
    pub(super) fn on_event(&mut self, side: Side, event: &Event, kit: &mut Kit) -> Next {
        let (source, sink) = match side {
            Side::Client => (&mut self.flows.up, &mut self.flows.down),
            // Its socket was closed while this event was under way.
            Side::Server(attempt) if attempt != self.attempt => return Next::Wait,
            Side::Server(_) => (&mut self.flows.down, &mut self.flows.up),
        };
        if let Some(sign) = Sign::of(event) {
            source.hear(sign);
            kit.stats().readable.add(1);
        }
        if event.is_writable() {
            sink.sink_is_writable();
            kit.stats().writable.add(1);
        }
        match (&self.stage, side) {
            (Stage::Connecting(_), Side::Server(_)) => self.on_connect_event(event, kit),
            (Stage::AwaitingHeader(_) | Stage::Connecting(_) | Stage::TurnedAway(_), Side::Client)
                if event.is_error() =>
            {
                Next::Close(Ending::Reset)
            }
            (Stage::AwaitingHeader(_), _) => self.read_header(kit),
            (Stage::Connecting(_), Side::Client) => self.on_event_of_waiting_client(),
            (Stage::TurnedAway(_), _) => self.see_off(kit),
            // Small messages first; its turn comes with those of the others that are unfinished.
            (Stage::Relaying | Stage::Farewell(_), _)
                if (self.unfinished || self.flows.carries_bulk()) && !event.is_error() =>
            {
                Next::Again
            }
            (Stage::Relaying | Stage::Farewell(_), _) => match self.relay(kit) {
                Next::Close(ending) => Next::Close(ending),
                _ if event.is_error() && self.has_failed(side) => Next::Close(Ending::Reset),
                next => next,
            },
        }
    }

    /// The pool says that a destination's connections are to be closed: all, or those of one rotation. A client that was
    /// only waiting for it goes on to another.
    pub(super) fn on_destination_closed(
        &mut self,
        id: DestinationId,
        whose: Option<RotationId>,
        kit: &mut Kit,
    ) -> Next {
        let concerns = |lease: &Lease| lease.id() == id && whose.is_none_or(|whose| whose == lease.rotation());
        if !self.lease.as_ref().is_some_and(concerns) {
            Next::Wait
        } else if self.is_connecting() {
            self.connect(kit)
        } else {
            debug!("client {}: closed with all of its destination", self.client_address);
            self.record.ends_for(Cause::DestinationClosed);
            Next::Close(Ending::Cut)
        }
    }

    /// A person puts an end to it.
    pub(super) fn kick(&mut self, _kit: &mut Kit) -> Next {
        debug!("client {}: closed by hand", self.client_address);
        self.record.ends_for(Cause::Kicked);
        Next::Close(Ending::Cut)
    }

    /// The daemon stops.
    pub(super) fn stop(&mut self, _kit: &mut Kit) -> Next {
        self.record.ends_for(Cause::Stopped);
        Next::Close(Ending::Cut)
    }

    /// A deadline that a timer was set for is over.
    pub(super) fn on_timer(&mut self, kit: &mut Kit) -> Next {
        self.armed = None;
        if self.awaits_header() {
            return self.on_header_timer(kit);
        }
        if self.has_idled(kit.now) {
            debug!("client {}: closed after having been idle", self.client_address);
            self.record.ends_for(Cause::Idle);
            return Next::Close(Ending::Reset);
        }
        if self.deadline(kit).is_none_or(|deadline| deadline > kit.now) {
            self.arm(kit);
            return if self.is_starved() { self.relay(kit) } else { Next::Wait };
        }
        match &self.stage {
            Stage::Connecting(_) => self.on_connect_timer(kit),
            Stage::Relaying | Stage::Farewell(_) => self.relay(kit),
            Stage::TurnedAway(_) => Next::Close(Ending::Clean),
            Stage::AwaitingHeader(_) => Next::Wait,
        }
    }

    fn deadline(&self, kit: &Kit) -> Option<Instant> {
        match &self.stage {
            Stage::AwaitingHeader(awaited) => Some(awaited.next_look()),
            Stage::Connecting(connecting) => Some(connecting.deadline()),
            Stage::Relaying => self.last_active.as_ref()?.next_look(&self.service.options, kit.now),
            Stage::Farewell(farewell) => Some(farewell.next_look()),
            Stage::TurnedAway(turned_away) => Some(turned_away.deadline),
        }
    }

    /// Sets a timer for the deadline, unless there is one that comes no later: on hearing that one, it is seen how much
    /// time is left.
    fn arm(&mut self, kit: &mut Kit) {
        if let Some(deadline) = self.deadline(kit) {
            self.arm_for(deadline, kit);
        }
    }

    fn arm_for(&mut self, deadline: Instant, kit: &mut Kit) {
        if self.armed.is_none_or(|armed| armed > deadline) {
            self.armed = Some(deadline);
            kit.timers.arm(deadline, self.key);
        }
    }

    /// Returns true, and logs why, if the kernel has reported an error of a socket that no call has met.
    fn has_failed(&mut self, side: Side) -> bool {
        let (stream, name) = match side {
            Side::Client => (Some(&self.client), "client"),
            Side::Server(_) => (self.server.as_ref(), "destination"),
        };
        let error = stream.and_then(|stream| stream.take_error().unwrap_or_else(Some));
        if let Some(error) = &error {
            debug!("client {}: the {name}'s side has failed: {error}", self.client_address);
            self.record.ends_for(if side == Side::Client { Cause::ClientReset } else { Cause::ServerReset });
        }
        error.is_some()
    }

    /// Returns true if bytes wait for the kernel to have memory again, which no event reports.
    fn is_starved(&self) -> bool {
        matches!(self.stage, Stage::Relaying | Stage::Farewell(_)) && self.flows.is_starved()
    }

    /// Closes both sides.
    pub(super) fn close(self, ending: Ending, worker: usize, now: Instant) {
        let unknown = match self.stage {
            Stage::AwaitingHeader(_) | Stage::Connecting(_) => Cause::LeftEarly,
            Stage::TurnedAway(_) => Cause::NoDestination,
            Stage::Relaying | Stage::Farewell(_) => Cause::Client,
        };
        let cause = self.record.ended(unknown, now);
        let style = self.service.connection_log.get();
        if style != Style::Off {
            connection_log::add(self.ended(style, cause, worker, now));
        }
        self.prepare_to_close(ending);
    }

    /// Sees to it that both sides end like this when they are closed, by whomever.
    pub(super) fn prepare_to_close(&self, ending: Ending) {
        let (reset_client, reset_server) = match ending {
            Ending::Clean => (false, self.avoids_time_wait() && self.all_is_acknowledged()),
            Ending::Reset => (true, true),
            Ending::Cut => {
                let (client_has_all, server_has_all) = self.flows.have_got_all();
                (!client_has_all, !server_has_all)
            }
        };
        for (stream, reset) in [(Some(&self.client), reset_client), (self.server.as_ref(), reset_server)] {
            if let (Some(stream), true) = (stream, reset) {
                stream.reset_on_close();
            }
        }
    }
}
