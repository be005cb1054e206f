//! Every interleaving of workers and of the threads that wake them, by loom: `make loom`.
//!
//! The threads of these tests do what an event loop does, in its order: sleep in the poll, clear the wake-up, read
//! messages, look for room, and ask whether to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use loom::thread::{self, JoinHandle};

use super::accepting_workers::AcceptingWorkers;
use super::admission::{Admission, Admitted, Refusal};
use super::mailbox::{self, Inbox, MailboxSender};
use super::sync::Waker;
use super::sync::model::Poll;
use super::wake_once::WakeOnce;
use crate::config::LimitOptions;
use crate::service::{Reservation, ServiceLimits};

/// Runs all executions of `model` that have at most so many preemptions, or simply all.
fn explore(preemptions: impl Into<Option<usize>>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.into();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}

/// What one worker thread owns.
struct Worker {
    poll: Poll,
    inbox: Inbox<u32>,
}

/// The workers, and how to reach them.
fn workers<const N: usize>() -> ([Worker; N], Box<[MailboxSender<u32>]>, Box<[Arc<WakeOnce>]>) {
    let (mut mailboxes, mut wakers) = (Vec::new(), Vec::new());
    let workers = std::array::from_fn(|_| {
        let (waker, poll) = Waker::pair();
        let waker = WakeOnce::new(waker);
        let (mailbox, inbox) = mailbox::open(Arc::clone(&waker));
        mailboxes.push(mailbox);
        wakers.push(waker);
        Worker { poll, inbox }
    });
    (workers, mailboxes.into(), wakers.into())
}

impl Worker {
    fn sleep(&self) {
        self.poll.wait();
        self.inbox.on_wake();
    }

    /// Waits as an acceptor does: for the wake-up when there is no room, for a timer when a client is short.
    fn wait_for_place(&self, admission: &Arc<Admission>) -> Admitted {
        loop {
            match admission.admit() {
                Ok(admitted) => return admitted,
                Err(Refusal::Full) => self.sleep(),
                Err(Refusal::Short) => thread::yield_now(),
            }
        }
    }

    /// Waits as an acceptor of a service with limits does.
    fn wait_for_both(&self, admission: &Arc<Admission>, limits: &ServiceLimits) -> (Admitted, Reservation) {
        loop {
            if limits.look_for_room().is_ok() {
                match admission.admit().map(|admitted| (admitted, limits.reserve(Instant::now()))) {
                    Ok((admitted, Ok(reservation))) => return (admitted, reservation),
                    Ok((_, Err(_))) => {}
                    Err(refusal) => assert_eq!(refusal, Refusal::Full),
                }
            }
            self.sleep();
        }
    }

    /// Reads messages until there have been so many.
    fn read(&self, expected: usize) {
        let mut read = 0;
        while read < expected {
            self.sleep();
            while self.inbox.next().is_some() {
                read += 1;
            }
        }
    }
}

fn run<T: 'static>(thread: impl FnOnce() -> T + 'static) -> JoinHandle<T> {
    thread::spawn(thread)
}

fn join<T>(threads: impl IntoIterator<Item = JoinHandle<T>>) -> Vec<T> {
    threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
}

/// Counts the clients that are admitted at the same time, out of loom's sight: it orders nothing.
#[derive(Clone, Default)]
struct Crowd(Arc<AtomicUsize>);

impl Crowd {
    fn visit(&self, admitted: Admitted, limit: usize) {
        assert!(self.0.fetch_add(1, Ordering::Relaxed) < limit, "more clients than the limit");
        thread::yield_now();
        self.0.fetch_sub(1, Ordering::Relaxed);
        drop(admitted);
    }
}

#[test]
fn a_worker_that_waits_for_room_gets_it_when_a_client_leaves() {
    explore(None, || {
        let ([worker], _, wakers) = workers();
        let admission = Admission::new(1, wakers);
        let client = admission.admit().expect("room");
        let leaves = run(move || drop(client));
        let admitted = worker.wait_for_place(&admission);
        join([leaves]);
        assert_eq!(admission.admit().err(), Some(Refusal::Full));
        drop(admitted);
        assert!(admission.admit().is_ok());
    });
}

#[test]
fn workers_that_wait_for_the_same_place_all_get_it_and_never_at_once() {
    explore(3, || {
        let (workers, _, wakers) = workers::<2>();
        let admission = Admission::new(1, wakers);
        let crowd = Crowd::default();
        let client = admission.admit().expect("room");
        let threads = workers.map(|worker| {
            let (admission, crowd) = (Arc::clone(&admission), crowd.clone());
            run(move || crowd.visit(worker.wait_for_place(&admission), 1))
        });
        drop(client);
        join(threads);
        assert!(admission.admit().is_ok());
    });
}

#[test]
fn a_worker_that_waits_for_room_gets_it_when_clients_of_other_processes_leave() {
    explore(None, || {
        let ([worker], _, wakers) = workers();
        let admission = Admission::new(1, wakers);
        admission.set_elsewhere(1);
        let reports = run({
            let admission = Arc::clone(&admission);
            move || admission.set_elsewhere(0)
        });
        drop(worker.wait_for_place(&admission));
        join([reports]);
        admission.set_elsewhere(1);
        assert_eq!(admission.admit().err(), Some(Refusal::Full));
    });
}

#[test]
fn room_from_here_and_from_other_processes_is_all_taken() {
    explore(3, || {
        let ([worker], _, wakers) = workers();
        let admission = Admission::new(2, wakers);
        let client = admission.admit().expect("room");
        admission.set_elsewhere(1);
        let leaves = run(move || drop(client));
        let reports = run({
            let admission = Arc::clone(&admission);
            move || admission.set_elsewhere(0)
        });
        let admitted = [worker.wait_for_place(&admission), worker.wait_for_place(&admission)];
        join([leaves, reports]);
        assert_eq!(admission.admit().err(), Some(Refusal::Full));
        drop(admitted);
    });
}

#[test]
fn a_client_that_is_short_of_resources_and_leaves_keeps_no_other_out() {
    explore(3, || {
        let ([worker], _, wakers) = workers();
        let admission = Admission::new(2, wakers);
        let mut clients = [false, true].map(|leaves_short| (admission.admit().expect("room"), leaves_short));
        clients[0].0.set_short(true);
        assert_eq!(admission.admit().err(), Some(Refusal::Short));
        let threads = clients.map(|(mut client, leaves_short)| {
            run(move || {
                client.set_short(true);
                client.set_short(true);
                client.set_short(leaves_short);
            })
        });
        drop(worker.wait_for_place(&admission));
        join(threads);
        let admitted = [admission.admit(), admission.admit()];
        assert!(admitted.iter().all(Result::is_ok), "a client that has left still counts as short or as admitted");
    });
}

/// A service of so many connections, whose clients wake the workers when they leave.
fn service_of(connections: usize, admission: &Arc<Admission>) -> Arc<ServiceLimits> {
    let options = LimitOptions { max_connections: Some(connections), ..LimitOptions::default() };
    let limits = ServiceLimits::new(&options, None);
    let admission = Arc::clone(admission);
    limits.wake_by(move || admission.wake_workers());
    Arc::new(limits)
}

#[test]
fn a_worker_that_waits_for_a_place_in_a_service_gets_it_when_a_client_leaves() {
    explore(None, || {
        let ([worker], _, wakers) = workers();
        let admission = Admission::new(2, wakers);
        let limits = service_of(1, &admission);
        let client = limits.reserve(Instant::now());
        let leaves = run(move || drop(client));
        drop(worker.wait_for_both(&admission, &limits));
        join([leaves]);
        assert!(limits.reserve(Instant::now()).is_ok());
    });
}

/// What one worker takes and gives back, since the other place is lacking, may be what another waits for. They must not
/// wake each other without end.
#[test]
fn workers_that_wait_for_places_in_the_process_and_in_a_service_all_get_both() {
    explore(2, || {
        let (workers, _, wakers) = workers::<2>();
        let admission = Admission::new(2, wakers);
        let limits = service_of(1, &admission);
        let crowd = Crowd::default();
        let client = (admission.admit().expect("room"), limits.reserve(Instant::now()).ok());
        let threads = workers.map(|worker| {
            let (admission, limits, crowd) = (Arc::clone(&admission), Arc::clone(&limits), crowd.clone());
            run(move || {
                let (admitted, reservation) = worker.wait_for_both(&admission, &limits);
                crowd.visit(admitted, 1);
                drop(reservation);
            })
        });
        drop(client);
        join(threads);
        assert!(admission.admit().is_ok() && limits.reserve(Instant::now()).is_ok());
    });
}

#[test]
fn a_worker_that_waits_for_a_place_in_a_service_sees_that_another_one_with_more_replaces_it() {
    explore(3, || {
        let ([worker], mailboxes, wakers) = workers();
        let admission = Admission::new(9, wakers);
        let before = service_of(1, &admission);
        let _client = before.reserve(Instant::now()).ok();
        let options = LimitOptions { max_connections: Some(2), ..LimitOptions::default() };
        let after = ServiceLimits::new(&options, Some(&before));
        let replaces = run(move || mailboxes[0].send(0));
        let mut replaced = false;
        while (if replaced { &after } else { &*before }).reserve(Instant::now()).is_err() {
            worker.sleep();
            replaced |= worker.inbox.next().is_some();
        }
        join([replaces]);
    });
}

#[test]
fn a_message_never_stays_unread_while_its_worker_sleeps() {
    explore(3, || {
        let ([worker], mailboxes, _) = workers();
        let threads = [1, 2].map(|messages: u32| {
            let mailbox = mailboxes[0].clone();
            run(move || (0..messages).for_each(|message| mailbox.send(message)))
        });
        worker.read(3);
        join(threads);
    });
}

#[test]
fn a_message_and_room_that_come_together_are_both_seen() {
    explore(3, || {
        let ([worker], mailboxes, wakers) = workers();
        let admission = Admission::new(1, wakers);
        let client = admission.admit().expect("room");
        assert_eq!(admission.admit().err(), Some(Refusal::Full));
        let leaves = run(move || drop(client));
        let sends = run(move || mailboxes[0].send(0));
        let (mut admitted, mut message) = (None, None);
        while admitted.is_none() || message.is_none() {
            worker.sleep();
            message = message.or_else(|| worker.inbox.next());
            admitted = admitted.or_else(|| admission.admit().ok());
        }
        join([leaves, sends]);
    });
}

#[test]
fn no_worker_ends_before_all_clients_have_been_handed_over_and_then_all_end() {
    explore(3, || {
        let (workers, mailboxes, wakers) = workers::<3>();
        let accepting = AcceptingWorkers::new(wakers);
        let mut index = 0;
        let threads = workers.map(|worker| {
            let (accepting, mailboxes, own) = (Arc::clone(&accepting), mailboxes.clone(), index);
            index += 1;
            run(move || {
                // The last worker hands over none and leaves at once, and gets a client from each of the others.
                if own < 2 {
                    mailboxes[2].send(0);
                }
                accepting.leave();
                let mut served = 0;
                while !accepting.have_left(&worker.inbox) {
                    worker.sleep();
                    while worker.inbox.next().is_some() {
                        served += 1;
                    }
                }
                served
            })
        });
        assert_eq!(join(threads), [0, 0, 2]);
    });
}
