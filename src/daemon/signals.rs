//! What the main thread waits for.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGTTIN, SIGTTOU, SIGUSR1, SIGUSR2, SIGXFSZ};

use crate::process;
use crate::sys;

/// Those that are heeded. Of several that have come, the first here is heeded first.
const HEEDED: [i32; 7] = [SIGTTOU, SIGTTIN, SIGHUP, SIGINT, SIGUSR1, SIGUSR2, SIGTERM];

/// Stands for no signal: somebody in this process has asked for something.
pub(super) const REQUEST: i32 = 0;

/// Signals, in the order in which they are heeded.
pub(super) struct Signals {
    arrivals: Arc<Arrivals>,
    /// Those that came while something else was being waited for.
    queue: VecDeque<i32>,
}

/// The signals that have arrived, and an eventfd that wakes the main thread. Writing to an eventfd needs no kernel memory,
/// unlike a pipe or a socket, so a signal is handled on a machine that has none left.
struct Arrivals {
    signals: [AtomicBool; HEEDED.len()],
    /// Somebody in this process has asked for something.
    requested: AtomicBool,
    /// The wait was ended.
    ended: AtomicBool,
    bell: EventFd,
}

impl Arrivals {
    /// Called by signal handlers too: it only stores, and writes to a descriptor.
    fn note(&self, flag: &AtomicBool) {
        flag.store(true, Ordering::SeqCst);
        // It fails only if the counter would overflow; the reader is due to wake then anyway.
        let _ = self.bell.write(1);
    }

    fn take(&self) -> impl Iterator<Item = i32> {
        let has_come = |(flag, _): &(&AtomicBool, i32)| flag.swap(false, Ordering::SeqCst);
        self.signals.iter().zip(HEEDED).chain([(&self.requested, REQUEST)]).filter(has_come).map(|(_, signal)| signal)
    }
}

impl Signals {
    /// Takes signals from now on, and keeps them until they are asked for. In the foreground, what was ignored at the
    /// start stays ignored, as nohup(1) and a shell's `&` mean it. At a terminal, the kernel sends SIGTTOU and SIGTTIN to
    /// what uses it from the background, which they are to stop: taken for orders, they would come again and again.
    ///
    /// # Errors
    /// When they cannot be taken.
    pub(super) fn register(in_background: bool) -> io::Result<Signals> {
        let bell = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        let arrivals = Arc::new(Arrivals {
            signals: Default::default(),
            requested: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            bell,
        });
        let at_terminal = process::has_terminal();
        for (index, signal) in HEEDED.into_iter().enumerate() {
            let may_stay_ignored = [SIGINT, SIGHUP].contains(&signal) && !in_background;
            if may_stay_ignored && sys::is_signal_ignored(signal) {
                continue;
            }
            if at_terminal && [SIGTTOU, SIGTTIN].contains(&signal) {
                continue;
            }
            let arrivals = Arc::clone(&arrivals);
            sys::on_signal(signal, move || arrivals.note(&arrivals.signals[index]))?;
        }
        // That a log has the length that a limit allows it is an error of write(2), and not the end of all.
        sys::on_signal(SIGXFSZ, || {})?;
        Ok(Signals { arrivals, queue: VecDeque::new() })
    }

    /// Waits for the next one. `None` when the wait was [ended](Signals::ender).
    pub(super) fn next(&mut self) -> Option<i32> {
        loop {
            self.queue.extend(self.arrivals.take());
            if !self.queue.is_empty() || self.arrivals.ended.load(Ordering::SeqCst) {
                return self.queue.pop_front();
            }
            match self.arrivals.bell.read() {
                Ok(_) | Err(Errno::EINTR) => {}
                // No other error is possible. To stop is what one can do about it.
                Err(_) => return Some(SIGTERM),
            }
        }
    }

    /// Whether one has come that ends the daemon at once.
    pub(super) fn is_end_wanted(&mut self) -> bool {
        self.queue.extend(self.arrivals.take());
        self.queue.iter().any(|signal| [SIGTERM, SIGINT].contains(signal))
    }

    /// Those that have come, without waiting.
    pub(super) fn rest(&mut self) -> Vec<i32> {
        self.queue.extend(self.arrivals.take());
        self.queue.drain(..).collect()
    }

    /// Has the wait end with a [`REQUEST`], from another thread.
    pub(super) fn requester(&self) -> impl Fn() + Send + Clone + 'static {
        let arrivals = Arc::clone(&self.arrivals);
        move || arrivals.note(&arrivals.requested)
    }

    /// Ends the wait, from another thread.
    pub(super) fn ender(&self) -> impl Fn() + Send + Clone + 'static {
        let arrivals = Arc::clone(&self.arrivals);
        move || arrivals.note(&arrivals.ended)
    }
}
