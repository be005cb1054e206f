//! The PROXY header that a proxy sends first (`--accept-proxy`): the address in it is the client's from then on.
//!
//! No destination is looked for before it has come, since the choice may depend on the client's address, and so do the
//! limits of the service. Clients from other networks are never believed: what looks like a header of theirs is passed on
//! like all that they say.
//!
//! A connection whose header is awaited takes room in the service, which bounds how many there are. Where room is short, it
//! is not given up to one that says nothing for longer than a lost packet takes to be sent again.

use std::time::{Duration, Instant};

use log::debug;

use super::connecting::Connecting;
use super::{Connection, Ending, Next, Stage};
use crate::counters::Cause;
use crate::service::{Permit, Reservation};
use crate::worker::duplex::Direction;
use crate::worker::flow::{ProxyHeader, Traffic};
use crate::worker::hops::HopLimit;
use crate::worker::proxy_protocol::{Addresses, Tlvs};
use crate::worker::{Kit, SHORTAGE_PAUSE};

/// How long a proxy may take to send the header: enough for a lost packet or two, which are sent again.
const HEADER_DEADLINE: Duration = Duration::from_secs(3);
/// The same while others wait for the room that it takes. Also how often it is seen whether they do.
const HEADER_DEADLINE_IF_FULL: Duration = Duration::from_millis(500);

/// What is known of a connection before its header has come.
pub(super) struct AwaitedHeader {
    deadline: Instant,
    /// When the time is over if others wait then.
    deadline_if_full: Instant,
    /// That of the proxy's packets.
    hop_limit: Option<HopLimit>,
    /// The client's room in the service.
    reservation: Reservation,
}

impl AwaitedHeader {
    pub(super) fn new(now: Instant, hop_limit: Option<HopLimit>, reservation: Reservation) -> AwaitedHeader {
        let (deadline, deadline_if_full) = (now + HEADER_DEADLINE, now + HEADER_DEADLINE_IF_FULL);
        AwaitedHeader { deadline, deadline_if_full, hop_limit, reservation }
    }

    /// When to see whether its time is over.
    pub(super) fn next_look(&self) -> Instant {
        self.deadline.min(self.deadline_if_full)
    }

    /// Returns how long the header was waited for, if that is over.
    fn waited(&mut self, now: Instant, is_full: bool) -> Option<Duration> {
        if self.deadline <= now {
            return Some(HEADER_DEADLINE);
        }
        if is_full && self.deadline_if_full <= now {
            return Some(HEADER_DEADLINE_IF_FULL);
        }
        if self.deadline_if_full <= now {
            self.deadline_if_full = now + HEADER_DEADLINE_IF_FULL;
        }
        None
    }
}

impl Connection {
    /// Returns true if the client has still to say whom it connects for.
    pub(in crate::worker) fn awaits_header(&self) -> bool {
        matches!(self.stage, Stage::AwaitingHeader(_))
    }

    /// Reads the header as far as it has come.
    pub(in crate::worker) fn read_header(&mut self, kit: &mut Kit) -> Next {
        if let Err(error) = self.watch_client(kit) {
            kit.out_of_resources(&error);
            self.arm_for(kit.now + SHORTAGE_PAUSE, kit);
        }
        let mut traffic = Traffic::default();
        let header = self.flows.up.receive_proxy_header(&self.client, &mut kit.tools, &mut traffic);
        kit.stats().received.add(traffic.received as u64);
        kit.stats().receive_calls.add(traffic.receive_calls as u64);
        if traffic.shortage.is_some() {
            // It is still there to be read, which no event reports again.
            self.arm_for(kit.now + SHORTAGE_PAUSE, kit);
        }
        match header {
            Ok(ProxyHeader::Awaited) => {
                self.arm(kit);
                Next::Wait
            }
            Ok(ProxyHeader::Taken { addresses, tlvs, behind }) => {
                kit.stats().from_clients.add(behind as u64);
                self.record.heard(behind as u64, kit.now);
                self.on_header(addresses, tlvs, kit)
            }
            Ok(ProxyHeader::Invalid(fault)) => self.refuse_header(fault, kit),
            Ok(ProxyHeader::Cut) => self.refuse_header("cut off: the connection ended within it", kit),
            // A port check.
            Ok(ProxyHeader::Missing) => Next::Close(Ending::Clean),
            Err(error) => self.source_failed(Direction::Up, &error),
        }
    }

    /// Looks once more for the header, whose time may be over.
    pub(super) fn on_header_timer(&mut self, kit: &mut Kit) -> Next {
        let is_full = self.service.limits.is_full() || self.admitted.is_last();
        let Stage::AwaitingHeader(awaited) = &mut self.stage else { return Next::Wait };
        let waited = awaited.waited(kit.now, is_full);
        match (self.read_header(kit), waited) {
            (Next::Wait, Some(waited)) => {
                let others = if waited < HEADER_DEADLINE { ", and others wait for its place" } else { "" };
                let fault = format!("late: not complete within {} s{others}", waited.as_secs_f64());
                self.refuse_header(&fault, kit)
            }
            (next, _) => next,
        }
    }

    /// Goes on to a destination, on behalf of the client that the header names, if it names one, and if the service admits
    /// that client.
    fn on_header(&mut self, addresses: Option<Addresses>, tlvs: Tlvs, kit: &Kit) -> Next {
        let Stage::AwaitingHeader(awaited) = &mut self.stage else { return Next::Wait };
        let reservation = std::mem::take(&mut awaited.reservation);
        let mut connecting = Connecting::new(kit.now, awaited.hop_limit);
        connecting.received = tlvs;
        if let Some(Addresses { source, destination }) = addresses {
            debug!("client {source}: comes through {}", self.client_address);
            self.client_address = source.into();
            connecting.connected_to = Some(destination);
        }
        match self.service.limits.admit(reservation, self.client_address.ip_or_local(), kit.now) {
            Ok(Permit { place, is_source_limited }) => {
                if !is_source_limited {
                    kit.unlimited_source(&self.service.name, self.client_address);
                }
                self.admitted.hold(place);
            }
            Err(refused) => {
                self.record.limited(refused.counts_as());
                kit.refused(&self.service.name, self.client_address, refused);
                self.record.ends_for(Cause::Denied);
                return Next::Close(Ending::Reset);
            }
        }
        self.stage = Stage::Connecting(Box::new(connecting));
        Next::Connect
    }

    fn refuse_header(&mut self, fault: &str, kit: &Kit) -> Next {
        kit.without_header(self.client_address, fault);
        self.record.ends_for(Cause::Header);
        Next::Close(Ending::Reset)
    }
}
