//! What threads reach a worker through: atomic variables, a channel and the waker of its poll.

pub(super) use crossbeam_channel::{Receiver, Sender, unbounded};
pub(super) use mio::Waker;
pub(super) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
