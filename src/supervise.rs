//! Threads: how all of them are started, and that a panic in one which carries no connections is logged and not the
//! daemon's end.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread::{self, Builder, JoinHandle, Scope, ScopedJoinHandle};
use std::time::Duration;

use log::error;

use crate::sys;

/// The pause before a thread that has panicked goes on, so that a defect that comes at once again does not fill the log.
const PAUSE: Duration = Duration::from_secs(1);

/// Starts a thread.
///
/// # Errors
/// When the thread cannot be started, for want of memory for example.
pub fn spawn<T: Send + 'static>(name: &str, body: impl FnOnce() -> T + Send + 'static) -> io::Result<JoinHandle<T>> {
    builder(name)?.spawn(body)
}

/// Starts a thread that ends within `scope`.
///
/// # Errors
/// The same as those of [`spawn`].
pub fn spawn_scoped<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    body: impl FnOnce() -> T + Send + 'scope,
) -> io::Result<ScopedJoinHandle<'scope, T>> {
    builder(name)?.spawn_scoped(scope, body)
}

/// A thread maps memory for its signals once it runs, and aborts the whole process if it gets none: the standard library
/// knows no other way. Its stack may be one that glibc has kept of an earlier thread, so that starting it needs no memory
/// and does not fail before.
#[expect(clippy::disallowed_methods, reason = "the only place that may")]
fn builder(name: &str) -> io::Result<Builder> {
    sys::try_to_map_memory()?;
    Ok(Builder::new().name(name.to_owned()))
}

/// Starts a thread that calls `body` until that returns. When it panics, it is called again after a pause.
///
/// # Errors
/// When the thread cannot be started.
pub fn start(name: &str, mut body: impl FnMut() + Send + 'static) -> io::Result<JoinHandle<()>> {
    spawn(name, move || while !returns(&mut body) {})
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
