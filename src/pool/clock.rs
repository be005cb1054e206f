//! The present moment, which tests can move.

#[cfg(not(test))]
pub(super) fn now() -> std::time::Instant {
    std::time::Instant::now()
}

#[cfg(test)]
pub(super) use for_tests::{advance, now};

#[cfg(test)]
mod for_tests {
    use std::cell::Cell;
    use std::time::{Duration, Instant};

    thread_local! {
        static AHEAD: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }

    pub(in crate::pool) fn now() -> Instant {
        Instant::now() + AHEAD.get()
    }

    /// Lets time pass for the calling thread.
    pub(in crate::pool) fn advance(time: Duration) {
        AHEAD.set(AHEAD.get() + time);
    }
}
