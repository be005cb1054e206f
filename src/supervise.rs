//! Threads that carry no connections: a panic in one of them is a defect that is logged, and not the daemon's end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::error;

/// The pause before a thread that has panicked goes on, so that a defect that comes at once again does not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a thread that calls `body` until that returns. When it panics, it is called again after a pause.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(name: &str, mut body: impl FnMut() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.to_owned()).spawn(move || while !returns(&mut body) {})
}

/// Calls `step`. Returns false if it has panicked, which is logged, after a pause.
pub fn returns(step: &mut impl FnMut()) -> bool {
    // What it has left in disorder is its own, and made anew by the next call.
    let returned = catch_unwind(AssertUnwindSafe(step)).is_ok();
    if !returned {
        let thread = thread::current();
        error!("thread {} goes on after a defect", thread.name().unwrap_or("without a name"));
        thread::sleep(PAUSE);
    }
    returned
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_thread_that_panics_is_started_again() {
        let calls = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&calls);
        let body = move || assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "the first time goes wrong");
        start("tried", body).expect("a thread").join().expect("it returns in the end");
        assert_eq!(calls.load(Ordering::SeqCst), 2);
    }
}
