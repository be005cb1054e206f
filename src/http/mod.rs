//! HTTP: metrics, health, the API, events and the page, in one thread that carries no connections.
//!
//! All that is answered comes from [`status`](crate::status), the log's events, and the control thread, which is asked as an
//! operator would ask it. Everything that a client can make grow has a bound, see [`server`].

mod access;
mod admin;
mod api;
mod body;
pub mod fuzz;
mod listener;
mod metrics;
mod page;
mod patient;
mod ready;
mod routes;
mod samples;
mod seats;
mod server;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::control::Commands;
use crate::status::Source;
use crate::supervise;
pub use access::{Access, Token};
pub use listener::Listener;
pub use samples::Samples;

/// What the thread works with.
pub struct Settings {
    /// Where clients connect.
    pub listener: Listener,
    /// Who may ask for what.
    pub access: Access,
    /// What there is to report.
    pub source: Source,
    /// How commands are given.
    pub commands: Commands,
    /// Most connections at a time; one on which nothing is under way makes room for a new one.
    pub max_connections: usize,
}

/// What outlives a panic of the thread.
struct Shared {
    settings: Settings,
    samples: Mutex<Samples>,
    /// Another process has everything, or the daemon is about to end.
    is_leaving: AtomicBool,
    /// New clients wait in the backlog.
    is_paused: AtomicBool,
    ends: watch::Sender<bool>,
}

/// How the rest of the program reaches the thread. It ends when this is dropped.
pub struct Handle(Arc<Shared>);

/// Starts the thread, which goes on with these samples, and where new clients of the services may wait by now.
///
/// # Errors
/// When it cannot be started.
pub fn start(settings: Settings, is_paused: bool, samples: Samples) -> io::Result<Handle> {
    let shared = Arc::new(Shared {
        settings,
        samples: Mutex::new(samples),
        is_leaving: AtomicBool::new(false),
        is_paused: AtomicBool::new(is_paused),
        ends: watch::Sender::new(false),
    });
    let served = Arc::clone(&shared);
    supervise::start("http", move || server::run(&served))?;
    Ok(Handle(shared))
}

impl Handle {
    /// Where clients connect.
    pub fn listener(&self) -> &Listener {
        &self.0.settings.listener
    }

    /// Who may ask for what.
    pub fn access(&self) -> &Access {
        &self.0.settings.access
    }

    /// What destinations were like in the last hour.
    pub fn samples(&self) -> Samples {
        self.0.samples.lock().clone()
    }

    /// New clients of the services wait in the backlog, or are served again.
    pub fn pause(&self, pause: bool) {
        self.0.is_paused.store(pause, Ordering::SeqCst);
    }

    /// Takes no new clients, and says to those that are left that this process is not ready.
    pub fn leave(self) {
        self.0.is_leaving.store(true, Ordering::SeqCst);
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.ends.send_replace(true);
    }
}
