//! What the main thread waits for.

use std::io;
use std::thread::{self, JoinHandle};

use crossbeam_channel::{Receiver, Sender, unbounded};
use log::error;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals;

use crate::sys;

/// Something that the main thread acts on.
pub(super) enum Event {
    /// Stop at once.
    Stop,
    /// Stop when the open connections have ended.
    Drain,
    /// They have.
    Drained,
}

/// Takes signals from now on, and keeps them until somebody [listens](Events::listen). In the foreground, what was
/// ignored at the start stays ignored, as nohup(1) and a shell's `&` mean it.
///
/// # Errors
/// One line that says why they cannot be taken.
pub(super) fn register(in_background: bool) -> Result<Signals, String> {
    let heeded = |signal: &i32| in_background || !sys::is_signal_ignored(*signal);
    let optional = [SIGINT, SIGHUP].into_iter().filter(heeded);
    Signals::new(optional.chain([SIGTERM, SIGUSR1])).map_err(told)
}

fn told(error: io::Error) -> String {
    format!("cannot listen to signals: {error}")
}

/// Where they come from.
pub(super) struct Events {
    sender: Sender<Event>,
    pub receiver: Receiver<Event>,
}

impl Events {
    /// Turns signals into events from now on.
    ///
    /// # Errors
    /// One line that says what could not be had.
    pub(super) fn listen(mut signals: Signals, in_background: bool) -> Result<Events, String> {
        let (sender, receiver) = unbounded();
        let events = Events { sender: sender.clone(), receiver };
        let listen = move || {
            for signal in signals.forever() {
                let event = match signal {
                    SIGUSR1 => Event::Drain,
                    // The terminal is gone; without one there is nothing that it could mean yet.
                    SIGHUP if in_background => continue,
                    _ => Event::Stop,
                };
                // The receiver lives as long as the program.
                let _ = sender.send(event);
            }
        };
        let started = thread::Builder::new().name("signals".into()).spawn(listen);
        started.map(|_| events).map_err(told)
    }

    /// Has the end of all these threads reported.
    pub(super) fn report_end_of(&self, threads: Vec<JoinHandle<()>>) {
        let sender = self.sender.clone();
        let join = move || {
            threads.into_iter().for_each(|thread| drop(thread.join()));
            let _ = sender.send(Event::Drained);
        };
        if let Err(error) = thread::Builder::new().name("drain".into()).spawn(join) {
            error!("cannot wait for the connections to end: {error}");
            let _ = self.sender.send(Event::Stop);
        }
    }
}
