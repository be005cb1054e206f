//! The PROXY header that a destination is sent in front of everything else (`--send-proxy`).
//!
//! It goes with the first of what the client says, in one segment. Where the greeting is inspected, of which nothing may
//! go before, it goes alone: the destination may wait for it before it greets.

use std::io;

use log::debug;

use super::upstream::acknowledge_at_once;
use super::{Connection, Next, Stage};
use crate::config::ProxyV2Option;
use crate::worker::Kit;
use crate::worker::duplex::Direction;
use crate::worker::flow::Traffic;
use crate::worker::proxy_protocol::{Addresses, Extras, Tlv, UNIQUE_ID, encode, encode_unknown};
use crate::worker::source::Sign;

impl Connection {
    /// Returns the header of this connection, if destinations are sent one.
    ///
    /// # Errors
    /// Those of getsockname(2); none is expected.
    pub(super) fn proxy_header(&mut self, kit: &mut Kit) -> io::Result<Option<Box<[u8]>>> {
        let Some(version) = self.service.options.send_proxy else { return Ok(None) };
        let Stage::Connecting(connecting) = &mut self.stage else { return Ok(None) };
        let destination = match connecting.connected_to {
            None => self.client.local_address()?,
            known => known,
        };
        let options = &self.service.options.proxy_v2_options;
        if options.contains(&ProxyV2Option::UniqueId) && connecting.unique_id.is_none() {
            let received = connecting.received.unique_id().map(Box::from);
            let unique_id: Box<[u8]> = received.unwrap_or_else(|| kit.unique_ids.next().into_bytes().into());
            debug!("client {}: has the unique id {}", self.client_address, unique_id.escape_ascii());
            connecting.unique_id = Some(unique_id);
        }
        let unique_id = connecting.unique_id.as_deref().map(|value| Tlv { kind: UNIQUE_ID, value });
        let tlvs = unique_id.into_iter().chain(connecting.received.passed_on(options)).collect();
        let extras = Extras { tlvs, has_checksum: options.contains(&ProxyV2Option::Crc32c) };
        Ok(Some(match (self.client_address.inet(), destination) {
            (Some(source), Some(destination)) => encode(version, Addresses { source, destination }, &extras),
            _ => encode_unknown(version, &extras),
        }))
    }

    /// Puts what is left of the header in front of what the client has said by now.
    ///
    /// # Errors
    /// Those of recv(2), when the client has reset its connection.
    pub(super) fn put_header_first(&mut self, kit: &mut Kit) -> io::Result<()> {
        let Stage::Connecting(connecting) = &mut self.stage else { return Ok(()) };
        let Some(header) = connecting.header.take() else { return Ok(()) };
        self.hear_ahead(kit)?;
        self.flows.up.put_first(&header);
        Ok(())
    }

    /// Sends what the destination has not taken yet of the header, and reads its greeting as far as it has come.
    pub(super) fn await_greeting(&mut self, kit: &mut Kit) -> Next {
        match self.send_header(kit) {
            Ok(()) => self.read_greeting(kit),
            Err(error) => {
                self.end_attempt();
                let outcome = self.wait_for_memory(&error, kit);
                self.conclude(outcome, kit)
            }
        }
    }

    /// Sends the header as far as the destination takes it. Reading reports that a destination has reset its connection:
    /// it may have said why.
    ///
    /// # Errors
    /// The kernel was short of memory.
    fn send_header(&mut self, kit: &mut Kit) -> io::Result<()> {
        let (Stage::Connecting(connecting), Some(server)) = (&mut self.stage, &self.server) else { return Ok(()) };
        let Some(header) = connecting.header.take() else { return Ok(()) };
        let mut traffic = Traffic::default();
        match self.flows.up.say_first(server, &header, &mut traffic) {
            Ok(sent) if sent < header.len() => connecting.header = Some(header[sent..].into()),
            Ok(_) => acknowledge_at_once(server),
            // The failed call has taken the error off the socket.
            Err(_) => self.flows.down.hear(Sign::Uncertain),
        }
        self.account(Direction::Up, &traffic, kit);
        traffic.shortage.map_or(Ok(()), |error| Err(io::Error::from_raw_os_error(error)))
    }
}
