//! Turning a client away when no destination serves it.

use std::time::{Duration, Instant};

use log::debug;

use super::{Connection, Ending, Next, Stage};
use crate::counters::Cause;
use crate::worker::Kit;
use crate::worker::duplex::Direction;
use crate::worker::flow::Traffic;

/// How long a client that is turned away may take to read why. Closing the socket while it holds bytes of the client
/// would reset the connection, and the client might lose the error.
const FAREWELL: Duration = Duration::from_secs(2);

/// Most bytes that are discarded of a client at once.
const MOST_DISCARDED: usize = 1024 * 1024;

/// What is needed to turn a client away.
pub(super) struct TurnedAway {
    /// When the connection is closed even if the client has not closed it.
    pub deadline: Instant,
    /// The error and the end were sent.
    all_sent: bool,
}

impl Connection {
    /// Ends the client's connection, after the last error packet that a destination sent, if there was one.
    pub(super) fn turn_away(&mut self, kit: &mut Kit) -> Next {
        kit.nowhere_to_go(self.client_address);
        self.record.ends_for(Cause::NoDestination);
        self.dismiss(kit)
    }

    /// The same, once the log says why.
    pub(super) fn dismiss(&mut self, kit: &mut Kit) -> Next {
        let Stage::Connecting(connecting) = &mut self.stage else { return Next::Close(Ending::Clean) };
        let Some(error) = connecting.last_error.take() else { return Next::Close(Ending::Clean) };
        let mut traffic = Traffic::default();
        let said = self.flows.down.say(&self.client, &error, &mut traffic);
        self.account(Direction::Down, &traffic, kit);
        if said.is_err() {
            return Next::Close(Ending::Reset);
        }
        self.admitted.set_short(false);
        let deadline = kit.now + FAREWELL;
        self.stage = Stage::TurnedAway(Box::new(TurnedAway { deadline, all_sent: false }));
        self.arm(kit);
        self.see_off(kit)
    }

    /// Sends what is left of the error, then the end, and discards what the client says until it has ended as well.
    pub(super) fn see_off(&mut self, kit: &mut Kit) -> Next {
        let Stage::TurnedAway(turned_away) = &mut self.stage else { return Next::Wait };
        let mut traffic = Traffic::default();
        if !turned_away.all_sent {
            match self.flows.down.flush(&self.client, &mut traffic) {
                Ok(false) => return Next::Wait,
                Ok(true) => {}
                Err(_) => return Next::Close(Ending::Reset),
            }
            turned_away.all_sent = true;
            self.flows.down.finish();
            if self.flows.up.is_silent() {
                return Next::Close(Ending::Clean);
            }
            // It fails only when the client has reset the connection, which an event reports.
            let _ = self.client.end();
        }
        match self.flows.up.discard(&self.client, MOST_DISCARDED, &mut kit.tools, &mut traffic) {
            Ok(false) if traffic.received < MOST_DISCARDED => Next::Wait,
            Ok(_) => Next::Close(Ending::Clean),
            Err(error) => {
                debug!("client {}: cannot receive from the client: {error}", self.client_address);
                Next::Close(Ending::Reset)
            }
        }
    }
}
