//! What operators read about clients that are not served, from all workers together.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use log::warn;

use crate::address::PeerAddress;
use crate::counted::Counted;
use crate::log::{Lasting, Trouble};
use crate::service::{ClientRefused, Limit};

/// What can go wrong with clients in any worker.
pub(super) struct Troubles {
    nowhere: Arc<Trouble>,
    room: Arc<Trouble>,
    queue: Arc<Trouble>,
    loops: Arc<Trouble>,
    headers: Arc<Trouble>,
    shortage: Arc<Trouble>,
    memory: Arc<Trouble>,
    backlog: Arc<Trouble>,
    denied: Arc<Trouble>,
    over_limit: Arc<Trouble>,
    unlimited: Arc<Trouble>,
}

impl Troubles {
    pub(super) fn new() -> Arc<Troubles> {
        Arc::new(Troubles {
            nowhere: Trouble::new(module_path!(), "clients are turned away because no destination serves them"),
            room: Trouble::new(module_path!(), "clients wait in a queue because all destinations are full"),
            queue: Trouble::new(module_path!(), "clients are turned away because all destinations are full"),
            loops: Trouble::new(module_path!(), "clients are turned away because they have come through a loop"),
            headers: Trouble::new(module_path!(), "connections are reset because of their PROXY header"),
            shortage: Trouble::new(module_path!(), "this machine lacks something for connections"),
            memory: Trouble::new(module_path!(), "this machine lacks memory to send or receive"),
            backlog: Trouble::new(module_path!(), "new clients wait in the backlog"),
            denied: Trouble::new(module_path!(), "clients are reset because their addresses are not allowed"),
            over_limit: Trouble::new(module_path!(), "clients are reset because a limit is reached"),
            unlimited: Trouble::new(module_path!(), "sources are not limited because there are too many"),
        })
    }

    /// Logs that a client was turned away because no destination is left for it.
    pub(super) fn nowhere_to_go(&self, client: PeerAddress, now: Instant) {
        if let Some(suppressed) = self.nowhere.occurs(now) {
            warn!(client:%; "client {client} turned away: no destination serves it{suppressed}");
        }
    }

    /// Logs that a client waits because every destination that it may have is full.
    pub(super) fn no_room(&self, service: &str, now: Instant) {
        if let Some(suppressed) = self.room.occurs(now) {
            warn!(service; "service {service}: every destination has its most connections; clients wait in a queue{suppressed}");
        }
    }

    /// Logs that a client was turned away because too many wait already.
    pub(super) fn queue_is_full(&self, service: &str, client: PeerAddress, now: Instant) {
        if let Some(suppressed) = self.queue.occurs(now) {
            let why = "every destination has its most connections, and the queue is full";
            warn!(client:%, service; "client {client} turned away: service {service}: {why}{suppressed}");
        }
    }

    /// Logs that a client was turned away because it has waited for too long.
    pub(super) fn waited_in_vain(&self, service: &str, client: PeerAddress, now: Instant) {
        if let Some(suppressed) = self.queue.occurs(now) {
            let why = "it has waited in the queue for as long as it may";
            warn!(client:%, service; "client {client} turned away: service {service}: {why}{suppressed}");
        }
    }

    /// Logs that a client was turned away because its connection has come through this daemon again and again.
    pub(super) fn in_a_loop(&self, client: PeerAddress, now: Instant) {
        if let Some(suppressed) = self.loops.occurs(now) {
            let why = "it has come through a loop: a destination passes clients back to this daemon";
            warn!(client:%; "client {client} turned away: {why}{suppressed}");
        }
    }

    /// Logs that a connection was reset because of its PROXY header.
    pub(super) fn without_header(&self, client: PeerAddress, fault: &str, now: Instant) {
        if let Some(suppressed) = self.headers.occurs(now) {
            warn!(
                client:%;
                "client {client} reset: PROXY header {fault}; --accept-proxy expects one from its network{suppressed}"
            );
        }
    }

    /// Logs that this machine lacks something that a connection needs.
    pub(super) fn out_of_resources(&self, error: &io::Error, now: Instant) {
        if let Some(suppressed) = self.shortage.occurs(now) {
            warn!("this machine cannot make a connection: {error}; see to its limits{suppressed}");
        }
    }

    /// Logs that this machine lacks memory to send or to receive.
    pub(super) fn out_of_memory(&self, error: &io::Error, now: Instant) {
        if let Some(suppressed) = self.memory.occurs(now) {
            warn!("this machine cannot send or receive: {error}; connections wait{suppressed}");
        }
    }

    /// Logs that no more clients are accepted, for this reason.
    pub(super) fn cannot_accept(&self, reason: &str, now: Instant) {
        if let Some(suppressed) = self.backlog.occurs(now) {
            warn!("{reason}; new clients wait in the backlog{suppressed}");
        }
    }

    /// Logs that the limit of connections is reached, which lasts until the result is dropped.
    pub(super) fn full(&self, limit: usize, now: Instant) -> Lasting {
        self.cannot_accept(&format!("the limit of {} is reached", Counted(limit, "connection")), now);
        self.backlog.lasts()
    }

    /// Logs that the limit of a service's connections is reached, which lasts until the result is dropped.
    pub(super) fn service_is_full(&self, service: &str, limit: Limit, now: Instant) -> Lasting {
        self.too_fast(service, limit, now);
        self.backlog.lasts()
    }

    /// Logs that a service takes no more clients now.
    pub(super) fn too_fast(&self, service: &str, limit: Limit, now: Instant) {
        self.cannot_accept(&format!("service {service} takes no more than {limit}"), now);
    }

    /// Logs that all services together take no more clients now.
    pub(super) fn all_too_fast(&self, per_second: u32, now: Instant) {
        let connections = Counted(per_second as usize, "connection");
        self.cannot_accept(&format!("all services together take no more than {connections} a second"), now);
    }

    /// Logs that a client was reset as soon as its address was known.
    pub(super) fn refused(&self, service: &str, client: PeerAddress, refused: ClientRefused, now: Instant) {
        match refused {
            ClientRefused::Denied => {
                if let Some(suppressed) = self.denied.occurs(now) {
                    warn!(client:%, service; "client {client} reset: service {service} does not allow its address{suppressed}");
                }
            }
            ClientRefused::Over(limit) => {
                if let Some(suppressed) = self.over_limit.occurs(now) {
                    warn!(client:%, service; "client {client} reset: service {service} takes no more than {limit}{suppressed}");
                }
            }
        }
    }

    /// Logs that a client was served whose source is not limited, since the table of sources has no place for it.
    pub(super) fn unlimited_source(&self, service: &str, client: PeerAddress, now: Instant) {
        if let Some(suppressed) = self.unlimited.occurs(now) {
            warn!(client:%, service; "client {client} is served without a limit: service {service} has too many sources{suppressed}");
        }
    }
}
