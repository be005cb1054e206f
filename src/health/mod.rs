//! Health: makes verdicts of what the checker process reports, and writes them into the pools.
//!
//! What the reports make of the destinations of a pool is pure code without input or output ([`monitor`] and what it
//! uses). One [thread](watchdog) carries out what the monitors of all pools decide. It asks the checker for each check, so
//! that a checker that dies or hangs changes no verdict: no report comes, and nothing is judged.

mod agent;
mod cluster;
pub mod fuzz;
mod hysteresis;
mod link;
mod members;
mod monitor;
mod pool_watch;
mod schedule;
mod tell;
mod watchdog;
mod watched;

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::thread::JoinHandle;

use crossbeam_channel::{Sender, bounded, unbounded};

use crate::checker::Credentials;
use crate::config::WatchdogOptions;
use crate::pool::{Event, Pool};
use crate::resolve::OwnAddresses;
use crate::supervise;
use watchdog::{Watchdog, Watches};

/// What is common to all pools that are watched.
pub struct Settings {
    /// `NAME=VALUE` in the environment of the checker's scripts.
    pub mark: String,
    /// Where this daemon listens: nothing that it may balance to.
    pub own_addresses: OwnAddresses,
    /// Whether sessions on destinations that fall are closed; a process that does not serve yet leaves that to the one that
    /// does, which may know better by now.
    pub closes_sessions: Arc<AtomicBool>,
}

/// A pool to watch, and how.
pub struct Watch {
    /// The destinations.
    pub pool: Pool,
    /// How they are watched.
    pub options: WatchdogOptions,
    /// Who the checker logs in as.
    pub credentials: Credentials,
    /// Called once every destination that the pool has at first has been judged, or a check's timeout is over.
    pub on_first_verdicts: OnFirstVerdicts,
}

/// Called once, by the thread that watches.
pub type OnFirstVerdicts = Box<dyn FnOnce() + Send>;

/// How the rest of the program reaches the thread that watches.
pub struct Handle {
    inputs: Sender<Input>,
    thread: JoinHandle<()>,
}

/// What the thread waits for.
enum Input {
    /// From a pool that is, or was, watched.
    Pool(Event),
    Watch(Box<Watch>),
    /// The number of a pool.
    Forget(u32),
    Stop,
}

/// Starts the thread that watches pools. There is no checker before the first [`Handle::watch`].
///
/// # Errors
/// When there is no thread.
pub fn start(settings: Settings) -> io::Result<Handle> {
    let (inputs, received) = unbounded();
    let events = inputs.clone();
    // It outlives a defect of the thread, which goes on watching the same pools.
    let mut watches = Watches::default();
    let thread = supervise::start("health", move || {
        let (heard, reports) = bounded(link::MAX_WAITING);
        Watchdog::new(&settings, &mut watches, events.clone(), heard).run(&received, &reports);
    })?;
    Ok(Handle { inputs, thread })
}

impl Handle {
    /// Watches a pool from now on. One that is being watched goes on with other options: verdicts, and what else is known
    /// of its destinations, stay, and all are checked again at once. An `on_first_verdicts` of before that was not called
    /// yet is called together with the new one.
    pub fn watch(&self, watch: Watch) {
        self.tell(Input::Watch(Box::new(watch)));
    }

    /// Stops watching a pool. Its verdicts stay as they are; clients that wait for a check are to be answered by
    /// [`Pool::ask_nobody`].
    pub fn forget(&self, pool: &Pool) {
        self.tell(Input::Forget(pool.number()));
    }

    /// Ends the checker, and all that it has started.
    pub fn stop(self) {
        self.tell(Input::Stop);
        // Its panics were logged.
        let _ = self.thread.join();
    }

    fn tell(&self, input: Input) {
        // It fails when the thread has ended, and needs to hear nothing more.
        let _ = self.inputs.send(input);
    }
}
