//! Both directions of a connection, and what one of them finds that the other has to know.

use super::connection::{Ending, Next};
use super::flow::{Failure, Flow, Progress, Tools, Traffic};
use super::socket::Socket;
use super::source::Sign;
use super::stream::Stream;

/// One direction of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// Client to server.
    Up,
    /// Server to client.
    Down,
}

impl Direction {
    pub(super) const BOTH: [Direction; 2] = [Direction::Up, Direction::Down];

    /// Where its bytes come from, for the log.
    pub(super) fn source(self) -> &'static str {
        if self == Direction::Up { "client" } else { "destination" }
    }

    /// Where its bytes go, for the log.
    pub(super) fn sink(self) -> &'static str {
        if self == Direction::Up { "destination" } else { "client" }
    }
}

/// Both directions.
pub(super) struct Duplex<S: Socket = Stream> {
    pub up: Flow<S>,
    pub down: Flow<S>,
    /// One side was reset while the other may still have something to read.
    broken: bool,
}

impl<S: Socket> Duplex<S> {
    /// With `end_up_in_one`, the client's last bytes may wait for its end.
    pub(super) fn new(end_up_in_one: bool) -> Duplex<S> {
        Duplex { up: Flow::new(end_up_in_one), down: Flow::new(true), broken: false }
    }

    /// Moves what can be moved in one direction.
    ///
    /// # Errors
    /// [`Failure`]: nothing more will be moved in this direction.
    pub(super) fn pump(
        &mut self,
        direction: Direction,
        client: &S,
        server: &S,
        tools: &mut Tools<S>,
        traffic: &mut Traffic,
    ) -> Result<Progress, Failure> {
        let (flow, source, sink) = match direction {
            Direction::Up => (&mut self.up, client, server),
            Direction::Down => (&mut self.down, server, client),
        };
        if flow.is_done() {
            return Ok(Progress::Waiting);
        }
        flow.pump(source, sink, tools, traffic)
    }

    /// Notes that a source has ended and all before it was passed on. Returns true if its sink is to be half-closed, and
    /// false if the other direction is over as well, so that all will be closed anyway.
    pub(super) fn pass_on_end(&mut self, direction: Direction) -> bool {
        let (ended, reverse) = self.split(direction);
        ended.finish();
        !reverse.is_done()
    }

    /// Notes that the sink of a direction is broken. What that side sent before is read once more, and delivered as far as
    /// that goes at once. The failed write has taken the error off the socket, so that reading would find a clean end.
    pub(super) fn sink_failed(&mut self, direction: Direction) {
        self.broken = true;
        let (failed, reverse) = self.split(direction);
        failed.finish();
        reverse.hear(Sign::Uncertain);
    }

    /// What follows once both directions were pumped. With `again`, there is more to do in one of them.
    pub(super) fn next(&self, again: bool) -> Next {
        match (again, self.up.is_done() && self.down.is_done()) {
            (true, false) => Next::Again,
            // No further event may arrive to close this connection.
            _ if self.broken => Next::Close(Ending::Reset),
            (_, true) => Next::Close(Ending::Clean),
            (false, false) => Next::Wait,
        }
    }

    /// Returns true if a pump is due without an event, because the kernel was short of memory during the last one.
    pub(super) fn is_starved(&self) -> bool {
        self.up.is_starved() || self.down.is_starved()
    }

    /// Returns true if one direction last moved so much at a time that others should not wait for the next.
    pub(super) fn carries_bulk(&self) -> bool {
        self.up.is_bulk() || self.down.is_bulk()
    }

    /// Whether the client and whether the server has got everything, up to the other's end.
    pub(super) fn have_got_all(&self) -> (bool, bool) {
        (self.down.is_done(), self.up.is_done())
    }

    fn split(&mut self, direction: Direction) -> (&mut Flow<S>, &mut Flow<S>) {
        match direction {
            Direction::Up => (&mut self.up, &mut self.down),
            Direction::Down => (&mut self.down, &mut self.up),
        }
    }
}
