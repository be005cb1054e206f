//! The daemon as a process: going to the background, users, limits, and the files that must be gone when it is.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeReader, PipeWriter, Read, Write};
use std::mem::ManuallyDrop;
use std::ops::RangeInclusive;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, lchown};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::unistd::{self, Gid, Group, Pid, Uid, User};

use crate::sys::{self, Fork};

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
        let null = OpenOptions::new().read(true).write(true).open("/dev/null")?;
        unistd::dup2_stdin(&null)?;
        unistd::dup2_stdout(&null)?;
        unistd::dup2_stderr(&null)?;
        self.0.write_all(&[0])
    }
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

    /// Whether the process runs as this user already.
    pub fn is_current(&self) -> bool {
        self.user.uid == Uid::effective() && self.group == Gid::effective()
    }

    /// Becomes this user, for good.
    ///
    /// # Errors
    /// When the process is not root.
    pub fn assume(&self) -> Result<(), String> {
        let name = std::ffi::CString::new(self.user.name.as_str()).unwrap_or_default();
        let steps = unistd::initgroups(&name, self.group)
            .and_then(|()| unistd::setgid(self.group))
            .and_then(|()| unistd::setuid(self.user.uid));
        steps.map_err(|error| format!("cannot change to user '{}': {error}", self.user.name))
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
    let _ = thread::Builder::new().spawn(exit);
}

/// Files that are removed when this is dropped, or [removed](Leftovers::remove) on time.
#[derive(Default)]
pub struct Leftovers {
    files: Vec<PathBuf>,
    /// `NAME=VALUE` in the environment of processes that are to end with this one.
    mark: Option<String>,
    janitor: Option<Janitor>,
}

impl Leftovers {
    /// Makes the pid file, and has it removed at the end.
    ///
    /// # Errors
    /// One line that names the file, when it cannot be written, is no ordinary file, or holds the id of a glbd that is
    /// alive.
    pub fn write_pidfile(&mut self, path: &Path) -> Result<(), String> {
        let told = |error: String| format!("pid file {}: {error}", path.display());
        if fs::metadata(path).is_ok_and(|it| !it.is_file()) {
            return Err(told("there is something that is no ordinary file".to_owned()));
        }
        match noted_process(path) {
            Err(()) => return Err(told("there is a file that is no pid file".to_owned())),
            Ok(Some(pid)) if is_glbd(pid) => return Err(told(format!("glbd is running already, as process {pid}"))),
            Ok(_) => {}
        }
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(true).mode(0o644).open(path);
        let mut file = file.map_err(|error| told(error.to_string()))?;
        self.add(path.to_owned());
        writeln!(file, "{}", std::process::id()).map_err(|error| told(error.to_string()))
    }

    /// Has a file removed at the end.
    pub fn add(&mut self, path: PathBuf) {
        self.files.push(path);
    }

    /// Has every process ended at the end that has `mark`, `NAME=VALUE`, in its environment.
    pub fn add_marked_processes(&mut self, mark: &str) {
        self.mark = Some(mark.to_owned());
    }

    /// Prepares for running as `identity`, where that is another user, who may not be able to remove the files. A FIFO
    /// in a place like /tmp is given to that user, who then can. For all others, which root goes on to own, a process
    /// stays behind that removes them when this one is gone, however it goes; and ends the marked processes.
    ///
    /// # Errors
    /// When no process can be made.
    pub fn prepare_for(&mut self, identity: Option<&Identity>) -> io::Result<()> {
        let out_of_reach = |file: &&PathBuf| identity.is_some_and(|identity| !give_away(file, identity));
        let for_janitor: Vec<PathBuf> = self.files.iter().filter(out_of_reach).cloned().collect();
        if !for_janitor.is_empty() || self.mark.is_some() {
            self.files.retain(|file| !for_janitor.contains(file));
            self.janitor = Some(Janitor::start(&for_janitor, self.mark.as_deref())?);
        }
        Ok(())
    }

    /// Removes the files now.
    pub fn remove(&mut self) {
        remove_all(&std::mem::take(&mut self.files));
        if let Some(janitor) = self.janitor.take() {
            janitor.finish();
        }
    }
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes `identity` the owner of a FIFO which only its owner can remove. Not of a pid file: init scripts believe what is
/// in it, as root.
fn give_away(file: &Path, identity: &Identity) -> bool {
    let mode = |path: &Path| fs::symlink_metadata(path).map_or(0, |it| it.mode());
    let is_fifo = fs::symlink_metadata(file).is_ok_and(|it| it.file_type().is_fifo());
    let anybody_may_write = file.parent().is_some_and(|directory| mode(directory) & 0o002 != 0);
    let anybody_may_enter = file.ancestors().skip(1).all(|directory| mode(directory) & 0o001 != 0);
    is_fifo && anybody_may_write && anybody_may_enter && lchown(file, Some(identity.user.uid.as_raw()), None).is_ok()
}

/// The process id in a pid file, if there is one; an error when there is something else, which is not ours to overwrite.
fn noted_process(path: &Path) -> Result<Option<u32>, ()> {
    let mut text = String::new();
    // What cannot be read cannot be written either, which then says why.
    let Ok(file) = File::open(path) else { return Ok(None) };
    file.take(32).read_to_string(&mut text).map_err(drop)?;
    let number = text.trim();
    if number.bytes().all(|byte| byte.is_ascii_digit()) { Ok(number.parse().ok()) } else { Err(()) }
}

/// Whether this is another glbd that is alive; one that has ended may wait long to be reaped.
fn is_glbd(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let alive = stat.split_once(" (glbd) ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']));
    alive && pid != std::process::id()
}

fn remove_all(files: &[PathBuf]) {
    for file in files {
        // One that is gone already needs nothing more.
        let _ = fs::remove_file(file);
    }
}

struct Janitor {
    /// Its end of the pipe reads as closed once this one is, which the kernel sees to.
    alive: PipeWriter,
    pid: i32,
}

impl Janitor {
    fn start(files: &[PathBuf], mark: Option<&str>) -> io::Result<Janitor> {
        let (ended, alive) = io::pipe()?;
        match sys::fork()? {
            Fork::Parent(pid) => Ok(Janitor { alive, pid }),
            Fork::Child => wait_and_tidy_up(&ended, files, mark),
        }
    }

    fn finish(self) {
        drop(self.alive);
        // It has nothing to do but to remove a few files, and to end a few processes.
        let _ = nix::sys::wait::waitpid(Pid::from_raw(self.pid), None);
    }
}

/// The janitor's whole life.
fn wait_and_tidy_up(ended: &PipeReader, files: &[PathBuf], mark: Option<&str>) -> ! {
    // What stops the daemon from a terminal, or by its name, must not stop the one who tidies up after it.
    let _ = SigSet::all().thread_block();
    let _ = nix::sys::prctl::set_name(c"glbd-janitor");
    let _ = unistd::setsid();
    let _ = std::env::set_current_dir("/");
    let _ = unistd::dup2_stdin(ended);
    sys::close_descriptors_from(1);
    let _ = io::stdin().read(&mut [0]);
    remove_all(files);
    if let Some(mark) = mark {
        end_marked(mark);
    }
    sys::exit_at_once(0)
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
