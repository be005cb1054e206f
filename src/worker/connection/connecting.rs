//! What a connection knows while it looks for a destination.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::pool::{DestinationId, Lease, Ticket, Tried};
use crate::worker::hops::HopLimit;
use crate::worker::proxy_protocol::Tlvs;

/// What is only needed until there is a destination.
pub(super) struct Connecting {
    pub phase: Phase,
    /// When the phase ends by itself.
    pub until: Instant,
    /// When the destination counts as late.
    pub suspect_at: Option<Instant>,
    pub tried: Tried,
    /// That of the client's packets.
    pub hop_limit: Option<HopLimit>,
    /// How many destinations were tried in vain, also those that have gone since.
    pub attempts: usize,
    /// Since when this machine has been short of something that a connect needs.
    pub short_since: Option<Instant>,
    /// Since when the backlogs of UNIX sockets have been full.
    pub crowded_since: Option<Instant>,
    /// Since when the single destination, which is not passed over, has been tried.
    pub tried_since: Option<(DestinationId, Instant)>,
    /// Since when the table has been moving the single destination.
    pub settling_since: Option<Instant>,
    /// Its place in the queue for room on a destination.
    pub ticket: Option<Ticket>,
    /// Since when it has had one.
    pub queued_since: Option<Instant>,
    /// Since when no destination that is fit has been left.
    pub none_since: Option<Instant>,
    /// The last error packet with which a destination refused this client.
    pub last_error: Option<Box<[u8]>>,
    /// What the client has connected to, where a proxy has said so.
    pub connected_to: Option<SocketAddr>,
    /// What a proxy has said of the client beside its address.
    pub received: Tlvs,
    /// What destinations are told that the connection is called.
    pub unique_id: Option<Box<[u8]>>,
    /// What the leased destination is still to be sent of the PROXY header.
    pub header: Option<Box<[u8]>>,
}

/// What a client waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its first attempt.
    Queued,
    /// The next attempt, after a pause.
    Paused,
    /// The table, which is moving the single destination, or has none that is fit.
    Settling,
    /// Room on a destination, all of which are full.
    Room,
    /// The watchdog, which was asked about the leased destination.
    Checking,
    /// The leased destination, to accept the connection.
    Opening,
    /// The leased destination, to send its first packet.
    Greeting,
}

impl Connecting {
    pub(super) fn new(now: Instant, hop_limit: Option<HopLimit>) -> Connecting {
        Connecting {
            phase: Phase::Queued,
            until: now,
            suspect_at: None,
            tried: Tried::default(),
            hop_limit,
            attempts: 0,
            short_since: None,
            crowded_since: None,
            tried_since: None,
            settling_since: None,
            ticket: None,
            queued_since: None,
            none_since: None,
            last_error: None,
            connected_to: None,
            received: Tlvs::default(),
            unique_id: None,
            header: None,
        }
    }

    pub(super) fn deadline(&self) -> Instant {
        self.suspect_at.map_or(self.until, |at| at.min(self.until))
    }

    /// Begins to wait for something else, at most until this moment.
    pub(super) fn enter(&mut self, phase: Phase, until: Instant) {
        (self.phase, self.until, self.suspect_at) = (phase, until, None);
    }

    /// When to give up a destination that is leased now, and may take so long to accept.
    pub(super) fn end_of_attempt(&mut self, lease: &Lease, now: Instant, timeout: Duration) -> Instant {
        if !lease.retries() {
            return now + timeout;
        }
        let since = match self.tried_since {
            Some((id, since)) if id == lease.id() => since,
            _ => now,
        };
        self.tried_since = Some((lease.id(), since));
        since + timeout
    }
}
