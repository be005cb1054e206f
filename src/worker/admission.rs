//! The limit on client connections, and their even spread over the workers.

use std::sync::Arc;

use super::sync::{AtomicUsize, Ordering};
use super::wake_once::WakeOnce;
use crate::service::{Place, Places, SharedRate};

/// One worker's connections; padded, since workers count on each other's.
#[derive(Default)]
#[repr(align(128))]
struct Load(AtomicUsize);

/// The limit on client connections, shared by all workers.
pub(super) struct Admission {
    limit: usize,
    /// Those of admitted clients.
    places: Places,
    /// How fast they come.
    rate: Arc<SharedRate>,
    /// Clients of the processes that this one has taken over from. They count for the limit as well.
    elsewhere: AtomicUsize,
    /// Admitted clients that wait for a descriptor or the like.
    short: AtomicUsize,
    loads: Box<[Load]>,
    workers: Box<[Arc<WakeOnce>]>,
}

/// Why a client is not admitted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The limit is reached. All workers are woken when there is room.
    Full,
    /// An admitted client waits for what the next one would take. It wakes no worker when that ends.
    Short,
}

impl Admission {
    pub(super) fn new(limit: usize, workers: Box<[Arc<WakeOnce>]>) -> Arc<Admission> {
        let loads = workers.iter().map(|_| Load::default()).collect();
        let zero = || AtomicUsize::new(0);
        let (places, rate) = (Places::default(), SharedRate::unlimited());
        Arc::new(Admission { limit, places, rate, elsewhere: zero(), short: zero(), loads, workers })
    }

    /// Most clients at a time.
    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// How fast clients are taken.
    pub(super) fn rate(&self) -> &Arc<SharedRate> {
        &self.rate
    }

    /// Admits one more client.
    pub(super) fn admit(self: &Arc<Self>) -> Result<Admitted, Refusal> {
        if self.short.load(Ordering::Relaxed) > 0 {
            return Err(Refusal::Short);
        }
        let limit = || self.limit.saturating_sub(self.elsewhere.load(Ordering::Relaxed));
        if !self.places.take_or_await(limit) {
            return Err(Refusal::Full);
        }
        Ok(Admitted { admission: Arc::clone(self), service_place: None, worker: None, short: false })
    }

    /// Returns true if as many clients are connected as may be.
    fn is_full(&self) -> bool {
        !self.places.has_room(self.limit.saturating_sub(self.elsewhere.load(Ordering::Relaxed)))
    }

    /// Sets how many clients other processes have, which count as well.
    pub(super) fn set_elsewhere(&self, clients: usize) {
        self.elsewhere.store(clients, Ordering::Relaxed);
        if self.places.on_room() {
            self.wake_workers();
        }
    }

    /// Wakes all workers, which then look for room.
    pub(super) fn wake_workers(&self) {
        self.workers.iter().for_each(|worker| worker.wake());
    }

    /// Returns the worker that should serve a client which `own` has accepted: itself, unless another has clearly less
    /// to do. A few connections are spread evenly; among many, an eighth more is not worth waking another thread for.
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

/// One client's place among the connections; given back on drop.
pub(super) struct Admitted {
    admission: Arc<Admission>,
    /// That among the connections of its service.
    service_place: Option<Place>,
    /// Half as long as an index, since every connection has one.
    worker: Option<u32>,
    short: bool,
}

impl Admitted {
    /// Holds its place in its service as well.
    pub(super) fn hold(&mut self, place: Place) {
        self.service_place = Some(place);
    }

    /// Returns true if no other client can be admitted while this one stays.
    pub(super) fn is_last(&self) -> bool {
        self.admission.is_full()
    }

    /// Decides which worker serves the client that `own` has accepted, and counts it there.
    pub(super) fn assign(&mut self, own: usize) -> usize {
        let worker = self.admission.worker_for(own);
        self.admission.loads[worker].0.fetch_add(1, Ordering::Relaxed);
        // There are no more than a thousand.
        self.worker = u32::try_from(worker).ok();
        worker
    }

    /// Sets whether this client waits for a descriptor or the like; no other one is admitted while it does.
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
        if self.admission.places.give() {
            self.admission.wake_workers();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_leaves_while_it_waits_for_a_descriptor_keeps_nobody_out_any_more() {
        let admission = Admission::new(10, Box::default());
        let mut waiting = admission.admit().unwrap_or_else(|_| unreachable!());
        waiting.set_short(true);
        assert_eq!(admission.admit().err(), Some(Refusal::Short));
        drop(waiting);
        assert_eq!(admission.admit().err(), None);
    }

    #[test]
    fn those_who_are_in_still_count_when_one_leaves_whose_place_is_waited_for() {
        let admission = Admission::new(2, Box::default());
        let (one, _other) = (admission.admit(), admission.admit());
        assert_eq!(admission.admit().err(), Some(Refusal::Full));
        drop(one);
        let _next = admission.admit();
        assert_eq!(admission.admit().err(), Some(Refusal::Full));
    }

    #[test]
    fn clients_of_the_processes_before_this_one_take_places_until_they_leave() {
        let admission = Admission::new(2, Box::default());
        admission.set_elsewhere(1);
        let _own = admission.admit();
        assert_eq!(admission.admit().err(), Some(Refusal::Full));
        admission.set_elsewhere(0);
        assert_eq!(admission.admit().err(), None);
    }
}
