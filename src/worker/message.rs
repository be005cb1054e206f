//! What a worker is told by other threads.

use crossbeam_channel::Sender;

use super::accept::Newcomer;
use crate::pool::Event;

/// What a worker is told by other threads.
pub(super) enum Message {
    /// Serve this client, which another worker has accepted.
    Serve(Newcomer),
    /// Something happened to the pool.
    Pool(Event),
    /// Begin to accept, if that was put off.
    Accept,
    /// Accept the clients that wait in the backlog and no others, and end with the last connection.
    Drain,
    /// Accept no more clients, since another process does, and end with the last connection.
    HandOver,
    /// Accept no more clients, and cut all connections. The sender is dropped when the end of the process would do so.
    Stop(Sender<()>),
}
