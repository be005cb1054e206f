//! Waiting for the first packet of a destination that has accepted the connection, and what follows from it.
//!
//! Until the packet is accepted, nothing goes in either direction: a client that a destination refuses can still be
//! served by another one, and does not notice.

use std::io::{self, ErrorKind};

use log::{debug, warn};

use super::{Connection, Ending, Next, Stage};
use crate::counters::Cause;
use crate::worker::Kit;
use crate::worker::duplex::Direction;
use crate::worker::first_packet;
use crate::worker::flow::{Failure, FirstPacket, Traffic};

impl Connection {
    /// Reads the destination's first packet, as far as it has come.
    pub(super) fn read_greeting(&mut self, kit: &mut Kit) -> Next {
        let Some(server) = &self.server else { return Next::Wait };
        let mut traffic = Traffic::default();
        let first = self.flows.down.pass_first_packet(server, &self.client, &mut kit.tools, &mut traffic);
        self.account(Direction::Down, &traffic, kit);
        match first {
            Ok(FirstPacket::Awaited) => Next::Wait,
            Ok(FirstPacket::PassedOn) => self.begin_to_relay(kit),
            Ok(FirstPacket::Error(packet)) => {
                let reason = first_packet::describe(&packet);
                if let Stage::Connecting(connecting) = &mut self.stage {
                    connecting.last_error = Some(packet);
                }
                self.on_refusal(&reason, kit)
            }
            Ok(FirstPacket::Missing) => self.on_refusal("connection ended before a greeting", kit),
            Err(Failure::Source(error)) if was_connected(&error) => {
                self.on_refusal("connection reset before a greeting", kit)
            }
            Err(Failure::Source(error)) => self.next_destination(&error, kit),
            Err(Failure::Sink(error)) => {
                debug!("client {}: cannot send to the client: {error}", self.client_address);
                self.record.ends_for(Cause::ClientReset);
                Next::Close(Ending::Reset)
            }
        }
    }

    /// Gives the lease back to a destination that refused the client, and goes on to the next one.
    fn on_refusal(&mut self, reason: &str, kit: &mut Kit) -> Next {
        let Some(lease) = self.lease.take() else { return self.connect(kit) };
        let (address, id, retries) = (lease.address(), lease.id(), lease.retries());
        debug!("client {}: refused by {address}: {reason}", self.client_address);
        self.record.turned_down();
        if lease.refused(kit.now, reason) {
            let (label, follows) = (self.service.rotation.pool().label(), what_follows(retries));
            let (pool, it) = (label.pool(), label.of(address));
            warn!(destination:% = address, pool; "destination {it} refuses clients: {reason}; {follows}");
        }
        self.go_on(id, retries, kit)
    }

    /// Has later clients prefer other destinations, because this one's greeting is late. This client still waits.
    pub(super) fn suspect_destination(&mut self, kit: &Kit) {
        let Some(lease) = &mut self.lease else { return };
        if lease.suspect(kit.now) {
            let (address, seconds) = (lease.address(), self.service.options.suspect_after.as_secs_f64());
            let follows = what_follows(lease.retries());
            let label = self.service.rotation.pool().label();
            let (pool, it) = (label.pool(), label.of(address));
            warn!(
                destination:% = address, pool;
                "destination {it} is slow: no greeting within {seconds} s; {follows}"
            );
        }
    }
}

impl Connection {
    /// Has later clients prefer other destinations, when this one refuses its client only now.
    pub(super) fn watch_login(&mut self, traffic: &Traffic, kit: &Kit) {
        self.login_reads -= 1;
        let said = kit.tools.last_read(traffic);
        let Some(lease) = self.lease.as_mut().filter(|_| first_packet::is_full(said)) else { return };
        self.login_reads = 0;
        let reason = first_packet::describe(said);
        if lease.refused_late(kit.now, &reason) {
            let follows = what_follows(lease.retries());
            let (address, label) = (lease.address(), self.service.rotation.pool().label());
            let (pool, it) = (label.pool(), label.of(address));
            warn!(destination:% = address, pool; "destination {it} refuses clients: {reason}; {follows}");
        }
    }
}

/// Returns true if the error shows that the destination had accepted the connection.
fn was_connected(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

/// Says what a destination's failure means for the clients.
pub(super) fn what_follows(retries: bool) -> &'static str {
    if retries { "it is tried again" } else { "others are preferred while there are any" }
}
