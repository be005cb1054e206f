//! The daemon as a process: going to the background, users, limits, and the files that must be gone when it is.

mod janitor;
mod leftovers;
mod own_file;
pub mod processors;
pub mod socket_file;

use std::collections::HashSet;
use std::fs::OpenOptions;
use std::io::{self, PipeWriter, Read, Write};
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use caps::errors::CapsError;
use caps::{CapSet, Capability};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::stat::{Mode, umask};
use nix::unistd::{self, Gid, Group, Uid, User};

use crate::supervise;
use crate::sys::{self, Fork};
pub use leftovers::{Handed, Leftovers};

/// The right to bind sockets to addresses that this machine does not have.
const ANY_ADDRESS: Capability = Capability::CAP_NET_RAW;

/// What the process that the user started waits for: [`Readiness::announce`], or the daemon's end. Dropping it says
/// nothing: a daemon that fails may still have to tidy up and to say why.
pub struct Readiness(ManuallyDrop<PipeWriter>);

/// Goes on in a new process, in a session of its own. The one that called never returns: it exits with 0 once the
/// daemon has announced that it is ready, and with 1 when it ended before. Until then the daemon still has stderr to
/// say why.
///
/// # Errors
/// When no process can be made.
pub fn daemonize() -> io::Result<Readiness> {
    sys::close_descriptors_from(3);
    let (mut ready, announce) = io::pipe()?;
    if let Fork::Parent(_) = sys::fork()? {
        drop(announce);
        let announced = ready.read_exact(&mut [0]).is_ok();
        sys::exit_at_once(if announced { 0 } else { 1 });
    }
    drop(ready);
    unistd::setsid()?;
    // A process that leads no session can never get a controlling terminal.
    if let Fork::Parent(_) = sys::fork()? {
        sys::exit_at_once(0);
    }
    std::env::set_current_dir("/")?;
    Ok(Readiness(ManuallyDrop::new(announce)))
}

impl Readiness {
    /// Lets go of the terminal and has the process that the user started exit with 0.
    ///
    /// # Errors
    /// When /dev/null cannot be opened, and when that process is gone: whoever interrupted it does not expect a daemon.
    pub fn announce(mut self) -> io::Result<()> {
        let_go_of_terminal()?;
        self.0.write_all(&[0])
    }
}

/// Has files that are made from now on be for their owner to write, and readable by others where that is wanted: whatever
/// the one who started the daemon is used to.
pub fn take_usual_mask() {
    umask(Mode::S_IWGRP | Mode::S_IWOTH);
}

/// Returns true if a terminal controls this process: one in the foreground of a shell has one, a daemon and a service have
/// none.
pub fn has_terminal() -> bool {
    OpenOptions::new().read(true).custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK).open("/dev/tty").is_ok()
}

/// Puts /dev/null in the place of standard input, output and errors.
///
/// # Errors
/// When it cannot be opened.
pub fn let_go_of_terminal() -> io::Result<()> {
    let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    unistd::dup2_stdin(&null)?;
    unistd::dup2_stdout(&null)?;
    unistd::dup2_stderr(&null)?;
    Ok(())
}

/// Where the program lies that this process was started from, as it was named: whatever lies there later is its successor.
///
/// # Errors
/// When neither that name nor the kernel leads to a file.
pub fn program() -> io::Result<PathBuf> {
    let name = std::env::args_os().next().unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = match Path::new(&name) {
        named if named.components().count() > 1 => Some(std::path::absolute(named)?),
        named => std::env::split_paths(&path).map(|directory| directory.join(named)).find(|file| file.is_file()),
    };
    found.filter(|file| file.is_file()).map_or_else(std::env::current_exe, Ok)
}

/// A user and a group to run as.
pub struct Identity {
    user: User,
    group: Gid,
}

impl Identity {
    /// Looks up `NAME` or `NAME:GROUP`.
    ///
    /// # Errors
    /// One line that names the user or group that there is not.
    pub fn look_up(spec: &str) -> Result<Identity, String> {
        let (name, group) = spec.split_once(':').map_or((spec, None), |(name, group)| (name, Some(group)));
        let user = User::from_name(name).map_err(|error| format!("user '{name}': {error}"))?;
        let user = user.ok_or_else(|| format!("there is no user '{name}'"))?;
        let group = match group {
            None => user.gid,
            Some(name) => {
                let group = Group::from_name(name).map_err(|error| format!("group '{name}': {error}"))?;
                group.ok_or_else(|| format!("there is no group '{name}'"))?.gid
            }
        };
        Ok(Identity { user, group })
    }

    /// The user's name.
    pub fn name(&self) -> &str {
        &self.user.name
    }

    /// The numbers of the user and of the group.
    pub fn numbers(&self) -> (u32, u32) {
        (self.user.uid.as_raw(), self.group.as_raw())
    }

    /// Whether the process runs as this user already.
    pub fn is_current(&self) -> bool {
        self.user.uid == Uid::effective() && self.group == Gid::effective()
    }

    /// Has this user own a socket, as it owns those that it opens itself: the kernel lets sockets of one owner share a port.
    ///
    /// # Errors
    /// Those of fchown(2).
    pub fn give(&self, socket: impl AsFd) -> io::Result<()> {
        Ok(unistd::fchown(socket, Some(self.user.uid), None)?)
    }

    /// Becomes this user, for good. The right to use any address goes with the others, or is kept, by programs that take over
    /// as well.
    ///
    /// # Errors
    /// When the process is not root.
    pub fn assume(&self, keeps_any_address: bool) -> Result<(), String> {
        let told = |error: CapsError| format!("cannot keep CAP_NET_RAW: {error}");
        if keeps_any_address {
            caps::securebits::set_keepcaps(true).map_err(told)?;
        }
        self.change()?;
        if keeps_any_address {
            let only = HashSet::from([ANY_ADDRESS]);
            let sets = [CapSet::Effective, CapSet::Permitted, CapSet::Inheritable, CapSet::Ambient];
            sets.into_iter().try_for_each(|set| caps::set(None, set, &only)).map_err(told)?;
        }
        Ok(())
    }

    fn change(&self) -> Result<(), String> {
        let name = std::ffi::CString::new(self.user.name.as_str()).unwrap_or_default();
        let steps = unistd::initgroups(&name, self.group)
            .and_then(|()| unistd::setgid(self.group))
            .and_then(|()| unistd::setuid(self.user.uid));
        steps.map_err(|error| format!("cannot change to user '{}': {error}", self.user.name))
    }
}

/// Gives up the right to use any address, which this process was started with for another's sake.
pub fn give_up_any_address() {
    for set in [CapSet::Ambient, CapSet::Inheritable, CapSet::Effective, CapSet::Permitted] {
        // What it does not have, it need not give up.
        let _ = caps::drop(None, set, ANY_ADDRESS);
    }
}

/// Whether this is root.
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Raises the limit of open files: to `wanted` where that is allowed, else as far as it goes. Returns the limit then in
/// force.
///
/// # Errors
/// When the limit cannot be read.
pub fn raise_descriptor_limit(wanted: u64) -> io::Result<usize> {
    let (mut soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if wanted > hard && setrlimit(Resource::RLIMIT_NOFILE, wanted, wanted).is_ok() {
        soft = wanted;
    } else if soft < hard && setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() {
        soft = hard;
    }
    Ok(usize::try_from(soft).unwrap_or(usize::MAX))
}

/// Limits how much memory the process may use for data: what asks for more gets none, which ends the process.
///
/// # Errors
/// Those of setrlimit(2); none is expected.
pub fn limit_data(bytes: u64) -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_DATA)?;
    Ok(setrlimit(Resource::RLIMIT_DATA, bytes.min(hard), hard)?)
}

/// The ports that the kernel chooses from for a connection's own end; all, where that cannot be found out.
pub fn ephemeral_ports() -> RangeInclusive<u16> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ports = text.split_whitespace().map(str::parse);
    match (ports.next(), ports.next()) {
        (Some(Ok(first)), Some(Ok(last))) => first..=last,
        _ => 0..=u16::MAX,
    }
}

/// Ends the process with status 0 after so long, should it still be there.
pub fn exit_within(time: Duration) {
    let exit = move || {
        thread::sleep(time);
        sys::exit_at_once(0);
    };
    // Without a thread to see to it, what hangs will be killed by whoever waits for it.
    let _ = supervise::spawn("exit", exit);
}
