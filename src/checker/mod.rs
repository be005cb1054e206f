//! The checker: a separate process, started from the same program, that checks the destinations of all pools.
//!
//! It holds the credentials and everything that reads what servers and scripts say, and no client's connection:
//! whatever a node answers, the worst that it can bring down is this process, which the daemon replaces. OpenBSD's
//! relayd separates its host check engine in the same way. See [`protocol`] for what the two say to each other.
//!
//! All checks are tasks of one thread: one that hangs costs the others nothing.

mod agent;
mod engine;
pub mod fuzz;
mod maybe_tls;
mod members;
pub mod mysql;
mod option_file;
mod probe;
pub mod protocol;
mod task;
pub mod tls;

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::getppid;

use crate::channel::Channel;
use crate::process;
use crate::sys;
pub use option_file::Credentials;
pub use probe::{Prober, mark, take_mark};

/// Set for the checker, to the daemon's process id. They talk through the checker's standard input.
const ENVIRONMENT: &str = "GLBD_CHECKER";
/// Most memory that the checker may use for data, in bytes. When it needs more, it ends and is replaced.
const MEMORY: u64 = 512 * 1024 * 1024;

/// Starts the checker: the program that this process runs, whatever lies on the disk by now.
///
/// It is killed when the thread that calls this ends.
///
/// # Errors
/// When no process, or no socket for the conversation, can be made.
pub fn start() -> io::Result<(Child, Channel)> {
    let (ours, theirs) = Channel::pair()?;
    let mut command = Command::new("/proc/self/exe");
    // Nothing here that needs fork(2): during a fork, the C library keeps all other threads from allocating memory, and a
    // fork that takes long would hold up the workers. Without, the standard library takes posix_spawn(3).
    command.arg0("glbd-checker").env(ENVIRONMENT, std::process::id().to_string()).process_group(0);
    command.stdin(OwnedFd::from(theirs));
    Ok((command.spawn()?, ours))
}

/// Is the checker, where this process was started to be it, and does not return then.
pub fn run_if_asked() {
    let Some(daemon) = std::env::var_os(ENVIRONMENT) else { return };
    sys::forget_variable(ENVIRONMENT);
    process::give_up_any_address();
    // An error has no place to go to: the daemon says how the process has ended.
    let ended = die_with_parent(&daemon).and_then(|()| run(sys::take_inherited(0)?.into()));
    let status = if ended.is_ok() { 0 } else { 1 };
    sys::exit_at_once(status);
}

/// Has this process die with the thread that has started it.
fn die_with_parent(parent: &OsStr) -> io::Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    // It may have died before that was asked for.
    let is_there = parent.to_str() == Some(getppid().to_string().as_str());
    if is_there { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
}

fn run(daemon: Channel) -> io::Result<()> {
    let _ = nix::sys::prctl::set_name(c"glbd-checker");
    // What stops or signals the daemon and all its processes must not stop this one before the daemon says so. Scripts
    // start with none blocked.
    let mut blocked = SigSet::all();
    blocked.remove(Signal::SIGCHLD);
    blocked.thread_block()?;
    crate::process::limit_data(MEMORY)?;
    engine::run(daemon)
}
