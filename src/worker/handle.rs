//! How the rest of the program reaches the workers.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Sender, bounded};
use mio::{Interest, Registry};

use super::accept::Acceptor;
use super::admission::Admission;
use super::listener_group::ListenerGroup;
use super::mailbox::MailboxSender;
use super::message::Message;
use super::troubles::Troubles;
use crate::pool::{Event, Pool};
use crate::service::{Listener, Service};
use crate::sessions::{SessionControl, SessionId, SurveyPart};

/// How the rest of the program reaches the workers, before and after they are started. Cheap to clone.
#[derive(Clone)]
pub struct Handle(Arc<Shared>);

struct Shared {
    workers: Box<[Entrance]>,
    admission: Arc<Admission>,
    troubles: Arc<Troubles>,
    /// How many groups of listening sockets there have been.
    groups: AtomicUsize,
}

/// How one worker is reached.
pub(super) struct Entrance {
    pub mailbox: MailboxSender<Message>,
    /// Its event queue's.
    pub registry: Arc<Registry>,
}

/// A listening socket, and the worker that is to serve it.
type Watched<'h> = ((usize, &'h Entrance), Listener);

impl Handle {
    pub(super) fn new(workers: Box<[Entrance]>, admission: Arc<Admission>, troubles: Arc<Troubles>) -> Handle {
        Handle(Arc::new(Shared { workers, admission, troubles, groups: AtomicUsize::new(0) }))
    }

    /// Serves the clients of these listening sockets, which are dealt out to the workers. With `held`, none is accepted
    /// before [`Handle::accept`]. A service may have any number of such groups.
    ///
    /// After [`Handle::drain`], [`Handle::hand_over`] or [`Handle::stop`], the workers close the sockets at once.
    ///
    /// # Errors
    /// Those of epoll_ctl(2): the kernel lacks memory, or the user has too many watches. None of the sockets is served
    /// then, and all are closed.
    pub fn serve(
        &self,
        service: &Arc<Service>,
        listeners: Vec<impl Into<Listener>>,
        held: bool,
    ) -> io::Result<ListenerGroup> {
        let admission = Arc::clone(&self.0.admission);
        service.limits.wake_by(move || admission.wake_workers());
        let group = ListenerGroup::new(self.0.groups.fetch_add(1, Ordering::Relaxed));
        for ((index, worker), listener) in self.watch(listeners.into_iter().map(Into::into).collect(), group)? {
            let (admission, troubles) = (&self.0.admission, &self.0.troubles);
            let acceptor = Acceptor::new(group, Arc::clone(service), index, listener, (admission, troubles), held);
            worker.mailbox.send(Message::Listen(acceptor));
        }
        Ok(group)
    }

    /// Adds each listening socket to the event queue of a worker, which ignores its events until it gets the acceptor.
    fn watch(&self, listeners: Vec<Listener>, group: ListenerGroup) -> io::Result<Vec<Watched<'_>>> {
        let mut watched: Vec<Watched<'_>> = Vec::new();
        for ((index, worker), mut listener) in self.0.workers.iter().enumerate().cycle().zip(listeners) {
            if let Err(error) = worker.registry.register(listener.source(), group.token(), Interest::READABLE) {
                for ((_, worker), mut listener) in watched {
                    // Closing it is not enough if there is another handle of the socket.
                    let _ = worker.registry.deregister(listener.source());
                }
                return Err(error);
            }
            watched.push(((index, worker), listener));
        }
        Ok(watched)
    }

    /// Begins to accept the clients of a group that was held.
    pub fn accept(&self, group: ListenerGroup) {
        self.send_to_all(|| Message::Accept(group));
    }

    /// Accepts the clients that wait in the backlogs of a group, and closes its sockets. Connections go on.
    pub fn retire(&self, group: ListenerGroup) {
        self.send_to_all(|| Message::Retire(group));
    }

    /// Has the second of each pair take the place of the first: groups of listening sockets and connections are the
    /// second's from now on, and a group that was held still is. Neither may have been replaced before.
    ///
    /// New connections have its options. So have existing ones, where an option counts after the connection was made: the
    /// timeouts above all, as if a side that has been idle for longer than half its new timeout had been idle for half
    /// of it. Options that were set on a socket stay as they were: TCP_NODELAY, keepalive probes, TCP_USER_TIMEOUT; on
    /// listening sockets as well, which new connections inherit from.
    ///
    /// A connection stays on its destination, and counts for the rotation that has picked it. A client without a
    /// destination gets one of the second's rotation; an attempt that is under way may still succeed.
    pub fn replace(&self, changes: Vec<(Arc<Service>, Arc<Service>)>) {
        for (before, after) in changes {
            before.replace_with(after);
        }
        self.send_to_all(|| Message::Replaced);
    }

    /// Waits until the workers do what they were told before this, though no longer than `patience`.
    pub fn settle(&self, patience: Duration) {
        self.send_and_wait(Message::Settle, patience);
    }

    /// Tells the workers what happens to a pool that a service picks from. To be called once for each pool.
    pub fn follow(&self, pool: &Pool) {
        for worker in &self.0.workers {
            let mailbox = worker.mailbox.clone();
            pool.subscribe(Box::new(move |event| {
                if matches!(event, Event::Closed(..) | Event::Checked(..) | Event::Settled) {
                    mailbox.send(Message::Pool(event));
                }
            }));
        }
    }

    /// Accepts no clients for now, who wait in the backlogs; or accepts them again.
    pub fn pause(&self, paused: bool) {
        self.send_to_all(|| Message::Pause(paused));
    }

    /// Accepts the clients that wait in the backlogs of all services and no others. The workers end with their last
    /// connection.
    pub fn drain(&self) {
        self.send_to_all(|| Message::Drain);
    }

    /// Takes so many new connections a second from now on, for all services together; `None`: as many as come.
    pub fn set_connection_rate(&self, per_second: Option<u32>) {
        self.0.admission.rate().set(per_second);
    }

    /// Says how many clients other processes have, which count for the limit as well.
    pub fn set_elsewhere(&self, clients: usize) {
        self.0.admission.set_elsewhere(clients);
    }

    /// Leaves the listening sockets, and the clients that wait there, to another process. The workers end with their last
    /// connection.
    pub fn hand_over(&self) {
        self.send_to_all(|| Message::HandOver);
    }

    /// Cuts all connections, and waits until the end of the process would do so as well, though no longer than `patience`.
    pub fn stop(&self, patience: Duration) {
        self.send_and_wait(Message::Stop, patience);
    }

    /// Sends a message that holds one end of a channel, and waits until all workers have let go of it.
    fn send_and_wait(&self, message: impl Fn(Sender<()>) -> Message, patience: Duration) {
        let (sender, done) = bounded(0);
        self.send_to_all(|| message(sender.clone()));
        drop(sender);
        // Nothing is sent: it ends when there are no senders left.
        let _ = done.recv_timeout(patience);
    }

    fn send_to_all(&self, message: impl Fn() -> Message) {
        self.0.workers.iter().for_each(|worker| worker.mailbox.send(message()));
    }
}

impl SessionControl for Handle {
    fn find(&self, survey: SurveyPart) {
        self.send_to_all(|| Message::Survey(survey.split()));
    }

    fn close(&self, ids: &[SessionId]) {
        for (index, worker) in self.0.workers.iter().enumerate() {
            let own: Vec<SessionId> = ids.iter().filter(|id| id.worker as usize == index).copied().collect();
            if !own.is_empty() {
                worker.mailbox.send(Message::Kick(own));
            }
        }
    }
}
