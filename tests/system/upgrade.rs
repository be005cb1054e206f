//! SIGUSR2: another process takes over, and no client notices.

mod failures;
mod files;
mod health;
mod old_processes;
mod service_manager;
mod unnoticed;

use crate::harness::Daemon;

/// A daemon that runs as root, so that its successors may start the program wherever that lies.
fn daemon(arguments: &[&str]) -> Daemon {
    Daemon::started(&[&["--user", "root"], arguments].concat())
}
