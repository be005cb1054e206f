//! The PROXY header that a proxy sends first (`--accept-proxy`): the address in it is the client's from then on.
//!
//! No destination is looked for before it has come, since the choice may depend on the client's address. Clients from
//! other networks are never believed: what looks like a header of theirs is passed on like all that they say.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use log::debug;

use super::connecting::Connecting;
use super::{Connection, Ending, Next, Stage};
use crate::config::ConnectionOptions;
use crate::worker::duplex::Direction;
use crate::worker::flow::{ProxyHeader, Traffic};
use crate::worker::hops::HopLimit;
use crate::worker::proxy_protocol::Addresses;
use crate::worker::{Kit, SHORTAGE_PAUSE};

/// How long a proxy may take to send the header: enough for a lost packet or two, which are sent again.
const HEADER_DEADLINE: Duration = Duration::from_secs(3);

/// What is known of a connection before its header has come.
pub(super) struct AwaitedHeader {
    pub deadline: Instant,
    /// That of the proxy's packets.
    hop_limit: Option<HopLimit>,
}

impl AwaitedHeader {
    pub(super) fn new(now: Instant, hop_limit: Option<HopLimit>) -> AwaitedHeader {
        AwaitedHeader { deadline: now + HEADER_DEADLINE, hop_limit }
    }
}

/// Returns true if this client is a proxy.
pub(super) fn expects_header(options: &ConnectionOptions, client: SocketAddr) -> bool {
    options.accept_proxy.iter().any(|network| network.contains(&client.ip()))
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
        kit.stats().received.add(traffic.received);
        kit.stats().receive_calls.add(traffic.receive_calls);
        if traffic.shortage.is_some() {
            // It is still there to be read, which no event reports again.
            self.arm_for(kit.now + SHORTAGE_PAUSE, kit);
        }
        match header {
            Ok(ProxyHeader::Awaited) => {
                self.arm(kit);
                Next::Wait
            }
            Ok(ProxyHeader::Taken { addresses, behind }) => {
                kit.stats().from_clients.add(behind);
                self.on_header(addresses, kit)
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
        let next = self.read_header(kit);
        match &self.stage {
            Stage::AwaitingHeader(awaited) if next == Next::Wait && awaited.deadline <= kit.now => {
                self.refuse_header("late: not complete within 3 s", kit)
            }
            _ => next,
        }
    }

    /// Goes on to a destination, on behalf of the client that the header names, if it names one.
    fn on_header(&mut self, addresses: Option<Addresses>, kit: &Kit) -> Next {
        let Stage::AwaitingHeader(awaited) = &self.stage else { return Next::Wait };
        let mut connecting = Connecting::new(kit.now, awaited.hop_limit);
        if let Some(Addresses { source, destination }) = addresses {
            debug!("client {source}: comes through {}", self.client_address);
            self.client_address = source;
            connecting.connected_to = Some(destination);
        }
        self.stage = Stage::Connecting(Box::new(connecting));
        Next::Connect
    }

    fn refuse_header(&self, fault: &str, kit: &Kit) -> Next {
        kit.without_header(self.client_address, fault);
        Next::Close(Ending::Reset)
    }
}
