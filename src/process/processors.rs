//! Which processors threads run on.

use std::io;

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

/// Has the calling thread run on this processor only.
///
/// # Errors
/// `EINVAL` when the machine has no such processor, or the process may not use it.
pub fn bind_thread_to(processor: usize) -> io::Result<()> {
    let mut only = CpuSet::new();
    only.set(processor)?;
    Ok(sched_setaffinity(THIS_THREAD, &only)?)
}

const THIS_THREAD: Pid = Pid::from_raw(0);

/// Looks whether threads can be bound to all of these. The calling thread is where it was afterwards.
///
/// # Errors
/// One line that names the first to which none can be.
pub fn check(processors: &[usize]) -> Result<(), String> {
    let Ok(before) = sched_getaffinity(THIS_THREAD) else { return Ok(()) };
    let tried = processors.iter().try_for_each(|processor| {
        bind_thread_to(*processor).map_err(|error| match error.raw_os_error() {
            Some(libc::EINVAL) => {
                format!("processor {processor}: this machine has none, or this process may not use it")
            }
            _ => format!("processor {processor}: {error}"),
        })
    });
    // It was there until just now.
    let _ = sched_setaffinity(THIS_THREAD, &before);
    tried
}
