//! How many clients are in, and on which worker: the limit on connections, and the evenness of their spread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::mailbox::Mailbox;

/// One worker's connections; padded, since workers count on each other's.
#[derive(Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

/// The limit on client connections, shared by all workers.
pub struct Admission {
    limit: usize,
    admitted: AtomicUsize,
    /// Clients that other processes still have, which this one has taken over from.
    elsewhere: AtomicUsize,
    /// Clients that are in and for which something is lacking, a descriptor for instance, to connect to a destination.
    short: AtomicUsize,
    /// Some worker has stopped accepting for want of room, and wants to be told of it.
    awaited: AtomicBool,
    loads: Box<[Load]>,
    workers: Box<[Mailbox]>,
}

impl Admission {
    pub(super) fn new(limit: usize, workers: Box<[Mailbox]>) -> Arc<Admission> {
        let loads = workers.iter().map(|_| Load::default()).collect();
        let none = || AtomicUsize::new(0);
        let (admitted, elsewhere, short, awaited) = (none(), none(), none(), AtomicBool::new(false));
        Arc::new(Admission { limit, admitted, elsewhere, short, awaited, loads, workers })
    }

    /// Most clients at a time.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// Lets one more client in. `None`: there is no room; every worker's mailbox is rung as soon as there is.
    pub(super) fn admit(self: &Arc<Self>) -> Option<Admitted> {
        if !self.take_room() {
            // Asked for before looking again, so that room made in between is not missed.
            self.awaited.store(true, Ordering::SeqCst);
            if !self.take_room() {
                return None;
            }
        }
        Some(Admitted { admission: Arc::clone(self), worker: None, short: false })
    }

    /// Whether some of those who are in lack what the next one would take from them.
    pub(super) fn is_anybody_short(&self) -> bool {
        self.short.load(Ordering::Relaxed) > 0
    }

    fn take_room(&self) -> bool {
        let limit = self.limit.saturating_sub(self.elsewhere.load(Ordering::SeqCst));
        let room = |admitted| (admitted < limit).then_some(admitted + 1);
        self.admitted.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).is_ok()
    }

    /// Says how many clients other processes have, which count as well.
    pub(super) fn set_elsewhere(&self, clients: usize) {
        self.elsewhere.store(clients, Ordering::SeqCst);
        self.tell_of_room();
    }

    fn give_room(&self) {
        self.admitted.fetch_sub(1, Ordering::SeqCst);
        self.tell_of_room();
    }

    fn tell_of_room(&self) {
        if self.awaited.load(Ordering::SeqCst) && self.awaited.swap(false, Ordering::SeqCst) {
            self.workers.iter().for_each(Mailbox::ring);
        }
    }

    /// The worker that should serve a client which `own` has accepted: itself, unless another has clearly less to do.
    /// A few connections are spread evenly; among many, an eighth more is not worth waking another thread for.
    fn worker_for(&self, own: usize) -> usize {
        let load = |worker: usize| self.loads[worker].0.load(Ordering::Relaxed);
        let own_load = load(own);
        if own_load == 0 {
            return own;
        }
        let least = (0..self.loads.len()).min_by_key(|worker| load(*worker)).unwrap_or(own);
        if own_load > load(least) + own_load / 8 { least } else { own }
    }
}

/// One client's place among the connections; given up when dropped.
pub struct Admitted {
    admission: Arc<Admission>,
    /// Half as long as an index, since every connection has one.
    worker: Option<u32>,
    short: bool,
}

impl Admitted {
    /// Decides which worker serves the client that `own` has accepted, and counts it there.
    pub(super) fn assign(&mut self, own: usize) -> usize {
        let worker = self.admission.worker_for(own);
        self.admission.loads[worker].0.fetch_add(1, Ordering::Relaxed);
        // There are no more than a thousand.
        self.worker = u32::try_from(worker).ok();
        worker
    }

    /// Says whether something is lacking for it to connect to a destination; as long as there is, nobody else is let in.
    pub(super) fn set_short(&mut self, short: bool) {
        match (std::mem::replace(&mut self.short, short), short) {
            (false, true) => drop(self.admission.short.fetch_add(1, Ordering::Relaxed)),
            (true, false) => drop(self.admission.short.fetch_sub(1, Ordering::Relaxed)),
            _ => {}
        }
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        if let Some(worker) = self.worker {
            self.admission.loads[worker as usize].0.fetch_sub(1, Ordering::Relaxed);
        }
        self.set_short(false);
        self.admission.give_room();
    }
}
