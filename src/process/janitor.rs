//! A process that stays behind with the rights of the one who started the daemon, to tidy up after it.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{self, Pid, Uid};

use super::leftovers::{remove_all, write_pid};
use super::own_file::OwnFile;
use crate::sys::{self, Fork};

/// How long the janitor may take to answer or to end.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long it may take to begin, on a machine that has other work to do.
const LONGEST_START: Duration = Duration::from_secs(5);
/// What the janitor answers when it has done as it was told, and when not.
const DONE: &[u8; 5] = b"done\n";
const REFUSED: &[u8; 5] = b"nope\n";
/// Asks it to remove its files at once.
const FILES: &str = "files";

/// A pid file that only the janitor may write.
pub(super) struct Pidfile {
    pub file: File,
    /// Who runs the daemon.
    pub user: Uid,
}

/// The daemon's end of a conversation with the janitor. It is over when no process holds this end any more, however
/// that comes about, and then the janitor does its work.
pub(super) struct Janitor(UnixStream);

impl From<OwnedFd> for Janitor {
    fn from(descriptor: OwnedFd) -> Janitor {
        Janitor(descriptor.into())
    }
}

impl AsFd for Janitor {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Janitor {
    /// Starts it: it is to remove `files`, one of which may be the `pidfile`, and to end the processes with `mark`.
    pub(super) fn start(files: &[OwnFile], pidfile: Option<Pidfile>, mark: Option<&str>) -> io::Result<Janitor> {
        let (ours, its) = UnixStream::pair()?;
        match sys::fork()? {
            Fork::Parent(_) => {
                // Until the janitor has renamed itself, a search for processes called glbd, such as the init script's, finds
                // it as well.
                drop(its);
                ours.set_read_timeout(Some(LONGEST_START))?;
                let _ = (&ours).read_exact(&mut [0; DONE.len()]);
                Ok(Janitor(ours))
            }
            Fork::Child => wait_and_tidy_up(&its, files, pidfile, mark),
        }
    }

    /// Has the pid file name another process.
    pub(super) fn rewrite_pidfile(&mut self, pid: u32) -> io::Result<()> {
        self.ask(&pid.to_string())
    }

    /// Removes its files now. It stays, to end the marked processes later.
    pub(super) fn remove_files(&mut self) -> io::Result<()> {
        self.ask(FILES)
    }

    fn ask(&mut self, line: &str) -> io::Result<()> {
        self.0.set_read_timeout(Some(PATIENCE))?;
        writeln!(self.0, "{line}")?;
        let mut answer = [0; DONE.len()];
        self.0.read_exact(&mut answer)?;
        if answer == *DONE { Ok(()) } else { Err(io::Error::other("the janitor does not do it")) }
    }

    /// Has it do its work, and waits for that.
    pub(super) fn finish(mut self) {
        let _ = self.0.shutdown(Shutdown::Write);
        // It has nothing to do but to remove a few files, and to end a few processes.
        let _ = self.0.set_read_timeout(None);
        let _ = self.0.read(&mut [0]);
    }
}

/// The janitor's whole life.
fn wait_and_tidy_up(daemon: &UnixStream, files: &[OwnFile], pidfile: Option<Pidfile>, mark: Option<&str>) -> ! {
    // What stops the daemon from a terminal, or by its name, must not stop the one who tidies up after it.
    let _ = SigSet::all().thread_block();
    let _ = nix::sys::prctl::set_name(c"glbd-janitor");
    let _ = (&*daemon).write_all(DONE);
    let _ = unistd::setsid();
    let _ = std::env::set_current_dir("/");
    let _ = unistd::dup2_stdin(daemon);
    let kept = pidfile.as_ref().map(|it| unistd::dup2_stdout(&it.file));
    sys::close_descriptors_from(if kept.is_some() { 2 } else { 1 });
    // Nothing that was opened before may be closed again by its owner: the numbers may be others' by now.
    let user = std::mem::ManuallyDrop::new(pidfile).as_ref().map(|it| it.user);
    if !serve(user, files) {
        remove_all(files);
    }
    if let Some(mark) = mark {
        end_marked(mark);
    }
    sys::exit_at_once(0)
}

/// Writes the process ids into the pid file that the daemon sends, until no process can send one any more. Only those of
/// the daemon's user: init scripts believe what is in the file, as root. Removes the files when it is asked to; returns
/// whether it was.
fn serve(user: Option<Uid>, files: &[OwnFile]) -> bool {
    let pidfile = user.and_then(|_| sys::take_inherited(1).ok()).map(File::from);
    let Ok(daemon) = sys::take_inherited(0).map(UnixStream::from) else { return false };
    let mut are_removed = false;
    // Each comes at once, and the next one only when it is answered.
    let mut line = [0; 32];
    while let Ok(length @ 1..) = (&daemon).read(&mut line) {
        let text = str::from_utf8(&line[..length]).map_or("", str::trim_end);
        let pid = text.parse().ok();
        let done = match (pid, &pidfile) {
            _ if text == FILES => {
                // By the second time, they may be another daemon's.
                if !are_removed {
                    remove_all(files);
                }
                are_removed = true;
                true
            }
            (Some(pid), Some(file)) if !are_removed && is_of(pid, user) => write_pid(file, pid).is_ok(),
            (_, pidfile) => pidfile.is_none(),
        };
        let _ = (&daemon).write_all(if done { DONE } else { REFUSED });
    }
    // The daemon waits for this to be closed, at the end.
    std::mem::forget(daemon);
    are_removed
}

fn is_of(pid: u32, user: Option<Uid>) -> bool {
    let owner = fs::metadata(format!("/proc/{pid}")).ok().map(|it| Uid::from_raw(it.uid()));
    owner.is_some() && owner == user
}

/// Lets processes with this mark end by themselves, for a moment, and kills those that do not, and what they may have
/// started in the meantime.
fn end_marked(mark: &str) {
    const ROUND: Duration = Duration::from_millis(20);
    const ROUNDS_OF_GRACE: usize = 10;
    const ROUNDS: usize = 200;
    for round in 0..ROUNDS {
        let processes = marked_processes(mark);
        if processes.is_empty() {
            return;
        }
        if round >= ROUNDS_OF_GRACE {
            for pid in processes {
                // It may have ended just now.
                let _ = kill(pid, Signal::SIGKILL);
            }
        }
        thread::sleep(ROUND);
    }
}

fn marked_processes(mark: &str) -> Vec<Pid> {
    let has_mark = |pid: &i32| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    };
    let names = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.file_name());
    names.filter_map(|name| name.to_str()?.parse().ok()).filter(has_mark).map(Pid::from_raw).collect()
}
