//! What a worker is told by other threads.

use crossbeam_channel::Sender;

use super::Key;
use super::accept::{Acceptor, Newcomer};
use super::listener_group::ListenerGroup;
use crate::pool::Event;
use crate::sessions::{SessionId, SurveyPart};

/// What a worker is told by other threads.
pub(super) enum Message {
    /// Serve this client, which another worker has accepted.
    Serve(Newcomer),
    /// Something happened to a pool.
    Pool(Event),
    /// There may be room on a destination for this connection, whose client waits for it.
    Room(Key),
    /// Accept clients from this socket, too, whose events are reported already.
    Listen(Acceptor),
    /// Begin to accept the clients of a group that was held.
    Accept(ListenerGroup),
    /// Accept the clients that wait in the backlogs of a group, and close its sockets.
    Retire(ListenerGroup),
    /// Services have been replaced: acceptors and connections go over to those that have taken their place.
    Replaced,
    /// Describe connections.
    Survey(SurveyPart),
    /// Close these connections.
    Kick(Vec<SessionId>),
    /// Drop this: everything that was said before has been heard.
    Settle(Sender<()>),
    /// Accept no clients for now, or accept them again.
    Pause(bool),
    /// Accept the clients that wait in the backlogs and no others, and end with the last connection.
    Drain,
    /// Accept no more clients, since another process does, and end with the last connection.
    HandOver,
    /// Accept no more clients, and cut all connections. The sender is dropped when the end of the process would do so.
    Stop(Sender<()>),
}
