//! What threads reach a worker through: atomic variables, a channel and the waker of its poll.
//!
//! Under `--cfg glbd_loom`, tests have loom's atomic variables and models of the other two in their place. Loom runs
//! every interleaving of a test's threads, and has every load return every value that the memory model permits.
//! `std::sync::Arc` stays what it is: nothing relies on the order of its counts.

#[cfg(all(test, glbd_loom))]
pub(super) mod model;

#[cfg(not(all(test, glbd_loom)))]
pub(super) use {
    crossbeam_channel::{Receiver, Sender, unbounded},
    mio::Waker,
    std::sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

#[cfg(all(test, glbd_loom))]
pub(super) use {
    loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    model::{Receiver, Sender, Waker, unbounded},
};
