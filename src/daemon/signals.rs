//! What the main thread waits for.

use std::io;
use std::thread::{self, JoinHandle};

use log::{error, info};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::{Handle, Signals};

use super::{Doors, Running};
use crate::process::Leftovers;
use crate::sys;

/// Takes signals from now on, and keeps them until [`wait_for_the_end`]. In the foreground, what was ignored at the start
/// stays ignored, as nohup(1) and a shell's `&` mean it.
///
/// # Errors
/// When they cannot be taken.
pub(super) fn register(in_background: bool) -> io::Result<Signals> {
    let heeded = |signal: &i32| in_background || !sys::is_signal_ignored(*signal);
    let optional = [SIGINT, SIGHUP].into_iter().filter(heeded);
    Signals::new(optional.chain([SIGTERM, SIGUSR1]))
}

/// Returns when the daemon is to end, and no longer listens: at once on SIGTERM and SIGINT, and after SIGUSR1 when the
/// last connection has ended.
pub(super) fn wait_for_the_end(mut signals: Signals, in_background: bool, running: Running, leftovers: &mut Leftovers) {
    let Running { workers, threads, control, mut doors, .. } = running;
    let mut threads = Some(threads);
    let handle = signals.handle();
    for signal in signals.forever() {
        match signal {
            SIGUSR1 => {
                let Some(threads) = threads.take() else { continue };
                info!("stopping: no new connections, the open ones go on to their end");
                doors = None;
                workers.drain();
                // So that another daemon can take over everything at once.
                control.close();
                leftovers.remove();
                end_with(threads, handle.clone());
            }
            // The terminal that it was started from is gone, which is what being in the background is for.
            SIGHUP if in_background => {}
            _ => break,
        }
    }
    doors.into_iter().for_each(Doors::close);
}

/// Ends the wait for signals when all these threads have ended.
fn end_with(threads: Vec<JoinHandle<()>>, signals: Handle) {
    let join = move || {
        threads.into_iter().for_each(|thread| drop(thread.join()));
        signals.close();
    };
    if let Err(error) = thread::Builder::new().name("drain".into()).spawn(join) {
        error!("cannot wait for the connections to end: {error}; SIGTERM stops at once");
    }
}
