//! Moving bytes both ways: the second part of a connection's life.

use std::io;

use log::debug;

use super::{Connection, Ending, Next};
use crate::counters::Cause;
use crate::worker::duplex::Direction;
use crate::worker::flow::{Failure, Progress, Traffic};
use crate::worker::stream::Stream;
use crate::worker::{Kit, SHORTAGE_PAUSE};

impl Connection {
    /// Counts this connection among the unfinished ones; false when it was already.
    pub(in crate::worker) fn join_unfinished(&mut self) -> bool {
        !std::mem::replace(&mut self.unfinished, true)
    }

    /// Goes on where it had to stop to let others have their turn.
    pub(in crate::worker) fn resume(&mut self, kit: &mut Kit) -> Next {
        self.unfinished = false;
        self.relay(kit)
    }

    /// Moves bytes both ways, as far as they go.
    pub(super) fn relay(&mut self, kit: &mut Kit) -> Next {
        let mut again = false;
        for direction in Direction::BOTH {
            match self.pump(direction, kit) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::Unfinished) => again = true,
                // Passing on the end first would bring about the TIME_WAIT that is to be avoided, and waiting for the
                // destination's own end would not avoid it.
                Ok(Progress::Ended) if direction == Direction::Up && self.avoids_time_wait() => {
                    if self.all_is_acknowledged() {
                        return Next::Close(Ending::Clean);
                    }
                    if !self.waits_for_acknowledgement(kit) {
                        self.pass_on_end(direction, kit);
                    }
                }
                Ok(Progress::Ended) => self.pass_on_end(direction, kit),
                Err(Failure::Source(error)) => return self.source_failed(direction, &error),
                Err(Failure::Sink(error)) => {
                    debug!("client {}: cannot send to the {}: {error}", self.client_address, direction.sink());
                    let is_server = direction == Direction::Up;
                    self.record.ends_for(if is_server { Cause::ServerReset } else { Cause::ClientReset });
                    self.flows.sink_failed(direction);
                    again = true;
                }
            }
        }
        self.flows.next(again)
    }

    fn pump(&mut self, direction: Direction, kit: &mut Kit) -> Result<Progress, Failure> {
        let Some(server) = &self.server else { return Ok(Progress::Waiting) };
        let mut traffic = Traffic::default();
        let progress = self.flows.pump(direction, &self.client, server, &mut kit.tools, &mut traffic);
        self.account(direction, &traffic, kit);
        if let Some(error) = traffic.shortage {
            kit.out_of_memory(&io::Error::from_raw_os_error(error));
            self.arm_for(kit.now + SHORTAGE_PAUSE, kit);
        }
        if self.login_reads > 0 && direction == Direction::Down && traffic.received > 0 {
            self.watch_login(&traffic, kit);
        }
        progress
    }

    pub(super) fn source_failed(&mut self, direction: Direction, error: &io::Error) -> Next {
        debug!("client {}: cannot receive from the {}: {error}", self.client_address, direction.source());
        let is_client = direction == Direction::Up;
        self.record.ends_for(if is_client { Cause::ClientReset } else { Cause::ServerReset });
        Next::Close(Ending::Reset)
    }

    /// Receives a little of what the client says before there is a destination to pass it on to.
    ///
    /// # Errors
    /// Those of recv(2), when the client has reset its connection.
    pub(super) fn hear_ahead(&mut self, kit: &mut Kit) -> io::Result<()> {
        let mut traffic = Traffic::default();
        let result = self.flows.up.receive_ahead(&self.client, &mut kit.tools, &mut traffic);
        self.account(Direction::Up, &traffic, kit);
        result
    }

    pub(super) fn account(&mut self, direction: Direction, traffic: &Traffic, kit: &Kit) {
        // An event mostly concerns one direction, and both are looked at.
        if traffic.is_nothing() {
            return;
        }
        self.record.add(direction, traffic, kit.now);
        let stats = kit.stats();
        match direction {
            Direction::Up => stats.from_clients.add(traffic.received as u64),
            Direction::Down => stats.to_clients.add(traffic.sent as u64),
        }
        stats.received.add(traffic.received as u64);
        stats.receive_calls.add(traffic.receive_calls as u64);
        stats.sent.add(traffic.sent as u64);
        stats.send_calls.add(traffic.send_calls as u64);
        if let Some(active) = &mut self.last_active {
            let (from, to) = match direction {
                Direction::Up => (&mut active.client, &mut active.server),
                Direction::Down => (&mut active.server, &mut active.client),
            };
            if traffic.received > 0 {
                from.was_active(kit.now);
            }
            if traffic.sent > 0 {
                to.was_active(kit.now);
            }
        }
    }

    /// Half-closes the sink, unless the other direction has ended as well and all will be closed anyway.
    fn pass_on_end(&mut self, direction: Direction, kit: &mut Kit) {
        self.record.ends_for(if direction == Direction::Up { Cause::Client } else { Cause::Server });
        if !self.flows.pass_on_end(direction) {
            return;
        }
        let sink = match direction {
            Direction::Up => self.server.as_ref(),
            Direction::Down => Some(&self.client),
        };
        // It fails only when the sink was reset, which an event will tell.
        let _ = sink.map(Stream::end);
        if let Some(active) = &mut self.last_active {
            active.is_half_closed = true;
            self.arm(kit);
        }
    }
}
