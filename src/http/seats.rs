//! The connections that there are: so many at most, of which an idle one makes room for a new one.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use slab::Slab;
use tokio::task::AbortHandle;

/// Most clients that are sent events.
const MOST_STREAMS: usize = 16;

/// A connection.
struct Seat {
    /// Tells it from a later one with the same key.
    number: u64,
    task: Option<AbortHandle>,
    /// Since its last answer.
    since: Instant,
    /// Whether a request is under way.
    is_busy: bool,
}

/// The connections that there are.
#[derive(Clone)]
pub(super) struct Seats {
    seats: Rc<RefCell<Slab<Seat>>>,
    /// How many clients are sent events.
    streams: Rc<Cell<usize>>,
    next: Rc<Cell<u64>>,
    most: usize,
}

impl Seats {
    pub(super) fn new(most: usize) -> Seats {
        Seats { seats: Rc::default(), streams: Rc::default(), next: Rc::default(), most }
    }

    /// Takes a seat, one that is not in use if need be. Returns `None` if all are in use.
    pub(super) fn take(&self) -> Option<Taken> {
        if self.seats.borrow().len() >= self.most {
            let longest = {
                let seats = self.seats.borrow();
                let idle = seats.iter().filter(|(_, seat)| !seat.is_busy && seat.task.is_some());
                idle.min_by_key(|(_, seat)| seat.since).map(|(key, _)| key)?
            };
            let seat = self.seats.borrow_mut().try_remove(longest);
            seat.and_then(|seat| seat.task).into_iter().for_each(|task| task.abort());
        }
        let number = self.next.replace(self.next.get() + 1);
        let key = self.seats.borrow_mut().insert(Seat { number, task: None, since: Instant::now(), is_busy: false });
        Some(Taken { seats: self.clone(), key, number })
    }

    /// How many connections there are.
    pub(super) fn len(&self) -> usize {
        self.seats.borrow().len()
    }

    /// Counts one more client that is sent events, until what this returns is dropped; `None` if there are too many.
    pub(super) fn stream(&self) -> Option<StreamSeat> {
        let count = self.streams.get();
        (count < MOST_STREAMS).then(|| {
            self.streams.set(count + 1);
            StreamSeat(Rc::clone(&self.streams))
        })
    }
}

/// Counts a client that is sent events until this is dropped.
pub(super) struct StreamSeat(Rc<Cell<usize>>);

impl Drop for StreamSeat {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

/// A seat that is taken until this is dropped.
pub(super) struct Taken {
    seats: Seats,
    key: usize,
    number: u64,
}

impl Taken {
    /// It is taken by this task.
    pub(super) fn belongs_to(&self, task: AbortHandle) {
        self.change(|seat| seat.task = Some(task));
    }

    /// Counts as in use until what this returns is dropped.
    pub(super) fn use_it(self: &Rc<Self>) -> InUse {
        self.change(|seat| seat.is_busy = true);
        InUse(Rc::clone(self))
    }

    pub(super) fn seats(&self) -> &Seats {
        &self.seats
    }

    fn change(&self, change: impl FnOnce(&mut Seat)) {
        if let Some(seat) = self.seats.seats.borrow_mut().get_mut(self.key).filter(|it| it.number == self.number) {
            change(seat);
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut seats = self.seats.seats.borrow_mut();
        // It may have been given to another connection.
        if seats.get(self.key).is_some_and(|it| it.number == self.number) {
            seats.remove(self.key);
        }
    }
}

/// A seat that is in use until this is dropped.
pub(super) struct InUse(Rc<Taken>);

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.change(|seat| (seat.is_busy, seat.since) = (false, Instant::now()));
    }
}
