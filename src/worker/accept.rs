//! Taking clients from a listening socket, as far as there is room for them.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Instant;

use mio::Registry;

use super::SHORTAGE_PAUSE;
use super::admission::{Admission, Admitted, Refusal};
use super::listener_group::ListenerGroup;
use super::proxy_protocol::canonical;
use super::stream::Stream;
use super::troubles::Troubles;
use crate::address::PeerAddress;
use crate::config::ConnectionOptions;
use crate::counters::{LimitReached, Shard};
use crate::log::Lasting;
use crate::service::{Listener, MustWait, Permit, Reservation, Service, SharedToken};

/// A client that was accepted.
pub(super) struct Newcomer {
    pub service: Arc<Service>,
    pub client: Stream,
    pub address: PeerAddress,
    pub admitted: Admitted,
    /// The client is a proxy, which is to say first who its own client is: that one's room in the service.
    pub reservation: Option<Reservation>,
}

/// Room for a client that is yet to be accepted, in the process and in the service. Given back on drop.
struct Room {
    admitted: Admitted,
    reservation: Reservation,
    /// That of the rate of all services; `None` if the client came before the socket was given up.
    token: Option<SharedToken>,
}

/// The outcome of one look into a backlog.
pub(super) enum Accepted {
    /// A client that is to be served.
    Client(Newcomer),
    /// A client was refused, and its connection reset. There may be others behind it.
    Refused,
    /// There is no client, or no room for one.
    Nothing,
}

/// A listening socket of a service, and why nothing is being accepted from it when that is so.
pub(super) struct Acceptor {
    group: ListenerGroup,
    service: Arc<Service>,
    /// Its worker's part of the service's counters.
    counters: Arc<Shard>,
    listener: Listener,
    admission: Arc<Admission>,
    /// There may be somebody in the backlog.
    ready: bool,
    /// Nobody is to be let in yet.
    held: bool,
    /// The socket is about to be closed: who waits there is taken above the rates and the limits of the service.
    given_up: bool,
    /// There was no room in the process or in the service; the mailbox is rung when there is.
    full: Option<Lasting>,
    /// There are no descriptors, or the like, here or for those who are in, or clients come faster than the service takes
    /// them; then it is tried again.
    retry_at: Option<Instant>,
    troubles: Arc<Troubles>,
}

impl Acceptor {
    /// Takes over a socket that this worker watches already: there may have been an event of it.
    pub(super) fn new(
        group: ListenerGroup,
        service: Arc<Service>,
        worker: usize,
        listener: Listener,
        (admission, troubles): (&Arc<Admission>, &Arc<Troubles>),
        held: bool,
    ) -> Acceptor {
        let counters = service.counters.shard(worker);
        let (admission, troubles) = (Arc::clone(admission), Arc::clone(troubles));
        let (ready, given_up, full, retry_at) = (true, false, None, None);
        Acceptor { group, service, counters, listener, admission, ready, held, given_up, full, retry_at, troubles }
    }

    /// The sockets that this one came with.
    pub(super) fn group(&self) -> ListenerGroup {
        self.group
    }

    /// Its clients are those of the service that has replaced its own, if one has.
    pub(super) fn follow_replacement(&mut self) {
        if let Some(replacement) = self.service.replacement() {
            self.service = Arc::clone(replacement);
            // Its limits are others.
            (self.full, self.retry_at) = (None, None);
        }
    }

    /// Looks into the backlog once more, whatever spoke against that, since the socket is about to be closed. Clients that
    /// were to wait there for room in the service are taken all the same: the kernel would reset them.
    pub(super) fn give_up(&mut self) {
        (self.ready, self.held, self.given_up) = (true, false, true);
        (self.full, self.retry_at) = (None, None);
    }

    /// From now on clients are let in.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    pub(super) fn listener_is_ready(&mut self) {
        self.ready = true;
    }

    /// There may be room again.
    pub(super) fn look_for_room(&mut self) {
        self.full = None;
    }

    /// Whether asking again at once may bring another client.
    pub(super) fn may_have_more(&self) -> bool {
        self.ready && !self.held && self.full.is_none() && self.retry_at.is_none()
    }

    /// Most clients that wait at a time: the kernel takes one more than it is asked for.
    pub(super) fn backlog(&self) -> u32 {
        self.service.options.backlog.unsigned_abs() + 1
    }

    /// When to ask again after a shortage.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        self.retry_at
    }

    /// Closes the socket; those still in its backlog are reset by the kernel, unless another process has the socket as
    /// well.
    pub(super) fn close(mut self, registry: &Registry) {
        // The kernel does so only when nobody has the socket any more.
        let _ = registry.deregister(self.listener.source());
    }

    /// Takes the next client from the backlog, if there is room for it.
    pub(super) fn accept(&mut self, now: Instant) -> Accepted {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        while self.may_have_more() {
            let Some(room) = self.make_room(now) else { break };
            match self.listener.accept() {
                Ok((client, address)) => {
                    let address = address.inet().map_or(address, |address| canonical(address).into());
                    return self.admit(client.into(), address, room, now);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.ready = false,
                Err(error) if concerns_one_client(&error) => {}
                // The socket was shut down: the daemon is about to end.
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.ready = false,
                Err(error) => {
                    self.retry_at = Some(now + SHORTAGE_PAUSE);
                    self.troubles.cannot_accept(&format!("cannot accept: {error}"), now);
                }
            }
        }
        Accepted::Nothing
    }

    /// Makes room for one client in the process and in the service, or records why there is none.
    fn make_room(&mut self, now: Instant) -> Option<Room> {
        if self.given_up {
            let reservation = self.service.limits.reserve_above();
            return Some(Room { admitted: self.admit_to_process(now)?, reservation, token: None });
        }
        if let Err(wait) = self.service.limits.look_for_room() {
            self.wait_for_service(wait, now);
            return None;
        }
        // First, since to put it back wakes nobody.
        let token = match self.admission.rate().take(now) {
            Ok(token) => token,
            Err((at, per_second)) => {
                self.retry_at = Some(at);
                self.counters.limited(LimitReached::ProcessRateWait);
                self.troubles.all_too_fast(per_second, now);
                return None;
            }
        };
        let admitted = self.admit_to_process(now)?;
        let reserved = self.service.limits.reserve(now);
        let room = |reservation| Room { admitted, reservation, token: Some(token) };
        reserved.map(room).map_err(|wait| self.wait_for_service(wait, now)).ok()
    }

    /// Takes a place among all clients of the process, or records why there is none.
    fn admit_to_process(&mut self, now: Instant) -> Option<Admitted> {
        match self.admission.admit() {
            Ok(admitted) => return Some(admitted),
            Err(Refusal::Full) => {
                self.counters.limited(LimitReached::ProcessConnectionsWait);
                self.full = Some(self.troubles.full(self.admission.limit(), now));
            }
            Err(Refusal::Short) => self.retry_at = Some(now + SHORTAGE_PAUSE),
        }
        None
    }

    fn wait_for_service(&mut self, wait: MustWait, now: Instant) {
        let service = &self.service.name;
        match wait {
            MustWait::UntilWoken(limit) => {
                self.counters.limited(LimitReached::ConnectionsWait);
                self.full = Some(self.troubles.service_is_full(service, limit, now));
            }
            MustWait::Until(at, limit) => {
                self.counters.limited(LimitReached::RateWait);
                self.retry_at = Some(at);
                self.troubles.too_fast(service, limit, now);
            }
        }
    }

    /// Decides about an accepted client.
    fn admit(
        &self,
        client: Stream,
        address: PeerAddress,
        Room { mut admitted, reservation, token }: Room,
        now: Instant,
    ) -> Accepted {
        let service = &self.service;
        let outcome = if expects_header(&service.options, address) {
            service.limits.take_room(reservation, now).map(Some)
        } else {
            service.limits.admit(reservation, address.ip_or_local(), now).map(|Permit { place, is_source_limited }| {
                if !is_source_limited {
                    self.troubles.unlimited_source(&service.name, address, now);
                }
                admitted.hold(place);
                None
            })
        };
        match outcome {
            Ok(reservation) => {
                token.into_iter().for_each(SharedToken::use_up);
                Accepted::Client(Newcomer { service: Arc::clone(service), client, address, admitted, reservation })
            }
            Err(refused) => {
                self.counters.limited(refused.counts_as());
                self.troubles.refused(&service.name, address, refused, now);
                // It leaves no TIME_WAIT.
                client.reset_on_close();
                Accepted::Refused
            }
        }
    }
}

/// Returns true if this client is a proxy.
fn expects_header(options: &ConnectionOptions, client: PeerAddress) -> bool {
    let ip = client.ip_or_local();
    options.accept_proxy.iter().any(|network| network.contains(&ip))
}

/// Errors that accept(2) passes on from a connection that broke before it was accepted.
fn concerns_one_client(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::EINTR
                | libc::ECONNABORTED
                | libc::EPROTO
                | libc::ENETDOWN
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::EHOSTUNREACH
                | libc::ENONET
                | libc::ENOPROTOOPT
        )
    )
}
