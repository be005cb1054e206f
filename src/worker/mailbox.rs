//! How a worker is reached by other threads.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, unbounded};
use mio::net::TcpStream;
use mio::{Registry, Token, Waker};

use super::admission::Admitted;
use crate::table::Event;

/// What a worker is told.
pub(super) enum Message {
    /// Serve this client, which another worker has accepted.
    Serve(TcpStream, SocketAddr, Admitted),
    /// Something happened to the table.
    Table(Event),
    /// Begin to accept, if that was put off.
    Accept,
    /// Take in who waits to be accepted, accept nobody else, and end when the last connection has.
    Drain,
    /// Accept nobody any more, since another process does, and end when the last connection has.
    HandOver,
    /// Accept nobody any more, and cut all connections. The sender is dropped when the end of the process would do so.
    Stop(Sender<()>),
}

/// The way in; cheap to clone.
#[derive(Clone)]
pub struct Mailbox {
    messages: Sender<Message>,
    bell: Arc<Bell>,
}

struct Bell {
    waker: Waker,
    /// Rung and not yet heard: ringing again would cost a system call and change nothing.
    rung: AtomicBool,
}

/// The worker's end.
pub(super) struct Letters {
    messages: Receiver<Message>,
    bell: Arc<Bell>,
}

/// A mailbox that wakes the poll behind `registry` with `token`.
///
/// # Errors
/// When there is no descriptor left for the waker.
pub(super) fn open(registry: &Registry, token: Token) -> std::io::Result<(Mailbox, Letters)> {
    let (sender, receiver) = unbounded();
    let bell = Arc::new(Bell { waker: Waker::new(registry, token)?, rung: AtomicBool::new(false) });
    Ok((Mailbox { messages: sender, bell: Arc::clone(&bell) }, Letters { messages: receiver, bell }))
}

impl Mailbox {
    pub(super) fn send(&self, message: Message) {
        // A worker that has ended needs to hear nothing more.
        if self.messages.send(message).is_ok() {
            self.ring();
        }
    }

    /// Has the worker look around, without any message.
    pub(super) fn ring(&self) {
        if !self.bell.rung.swap(true, Ordering::SeqCst) {
            // Fails only when the counter behind it is full, and then the worker will wake.
            let _ = self.bell.waker.wake();
        }
    }
}

impl Letters {
    /// To be called when the bell was heard, before looking at what has come.
    pub(super) fn heard(&self) {
        self.bell.rung.store(false, Ordering::SeqCst);
    }

    pub(super) fn next(&self) -> Option<Message> {
        self.messages.try_recv().ok()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }
}
