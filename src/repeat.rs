//! Doing something again and again, in a thread of its own.

use std::io;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::supervise;

/// A thread that does something from time to time, until this is dropped.
pub struct Repeating {
    _stop: Sender<()>,
}

/// Calls `step` after each `interval`, in a thread called `name`, for as long as it returns true and what this returns
/// is not dropped. The first time is after `first`.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(
    name: &str,
    first: Duration,
    interval: Duration,
    mut step: impl FnMut() -> bool + Send + 'static,
) -> io::Result<Repeating> {
    let (stop, stopped) = bounded::<()>(0);
    let rounds = move || {
        let mut pause = first;
        let mut goes_on = true;
        while goes_on && stopped.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
            // A step that panics is one that achieves nothing.
            supervise::returns(&mut || goes_on = step());
            pause = interval;
        }
    };
    supervise::spawn(name, rounds)?;
    Ok(Repeating { _stop: stop })
}
