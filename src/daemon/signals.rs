//! What the main thread waits for.

use std::collections::VecDeque;
use std::io;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator;

use crate::sys;

/// Signals, in the order in which they are heeded.
pub(super) struct Signals {
    signals: iterator::Signals,
    /// Those that came while something else was being waited for.
    queue: VecDeque<i32>,
}

impl Signals {
    /// Takes signals from now on, and keeps them until they are asked for. In the foreground, what was ignored at the
    /// start stays ignored, as nohup(1) and a shell's `&` mean it.
    ///
    /// # Errors
    /// When they cannot be taken.
    pub(super) fn register(in_background: bool) -> io::Result<Signals> {
        let heeded = |signal: &i32| in_background || !sys::is_signal_ignored(*signal);
        let optional = [SIGINT, SIGHUP].into_iter().filter(heeded);
        let signals = iterator::Signals::new(optional.chain([SIGTERM, SIGUSR1, SIGUSR2]))?;
        Ok(Signals { signals, queue: VecDeque::new() })
    }

    /// Waits for the next one. `None` when the wait was [ended](Signals::ender).
    pub(super) fn next(&mut self) -> Option<i32> {
        while self.queue.is_empty() && !self.signals.handle().is_closed() {
            self.queue.extend(self.signals.wait());
        }
        self.queue.pop_front()
    }

    /// Whether one has come that ends the daemon at once.
    pub(super) fn is_end_wanted(&mut self) -> bool {
        self.queue.extend(self.signals.pending());
        self.queue.iter().any(|signal| [SIGTERM, SIGINT].contains(signal))
    }

    /// Those that have come, without waiting.
    pub(super) fn rest(&mut self) -> Vec<i32> {
        self.queue.extend(self.signals.pending());
        self.queue.drain(..).collect()
    }

    /// Ends the wait, from another thread.
    pub(super) fn ender(&self) -> impl Fn() + Send + Clone + 'static {
        let handle = self.signals.handle();
        move || handle.close()
    }
}
