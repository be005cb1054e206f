//! The daemon under test in the background, as `glbd --daemon` leaves it.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::client::connect_to;
use super::control::{self, Info, Stats};
use super::glbd::program;
use super::kernel::listens;
use super::net::{PATIENCE, free_port, wait_until};

/// A place for one daemon: its ports, and its directory, which only the user who runs the test may enter. All processes
/// that were started in it are killed when this is dropped.
pub struct Daemon {
    directory: TempDir,
    address: SocketAddr,
    control: SocketAddr,
    /// What was started and may not have ended.
    started: Mutex<Vec<Pid>>,
}

/// How the command ended that was to start a daemon.
#[derive(Debug, PartialEq)]
pub struct Launch {
    pub status: Option<i32>,
    /// What was on stderr in the moment in which the command had ended.
    pub stderr: String,
}

impl Daemon {
    /// The place only; nothing runs there.
    pub fn new() -> Self {
        let free_address = || SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let directory = tempfile::tempdir().expect("a temporary directory");
        Self { directory, address: free_address(), control: free_address(), started: Mutex::default() }
    }

    /// A running daemon with these destinations or further options.
    pub fn started(arguments: &[&str]) -> Self {
        let daemon = Self::new();
        daemon.start(arguments);
        daemon
    }

    /// Starts it; panics unless the command says so by its status and nothing else.
    pub fn start(&self, arguments: &[&str]) {
        let launch = self.launch(arguments);
        assert_eq!(launch, Launch { status: Some(0), stderr: String::new() }, "{arguments:?}");
    }

    /// Runs the command that starts it, with FIFO, pid file and control port, until the command ends.
    pub fn launch(&self, arguments: &[&str]) -> Launch {
        self.launch_by(&[], arguments)
    }

    /// [`Daemon::launch`] by another command, to which glbd's own command line is appended.
    pub fn launch_by(&self, wrapper: &[&str], arguments: &[&str]) -> Launch {
        let stderr = self.path("stderr");
        let mut command = self.command_by(wrapper, arguments);
        command.stdout(Stdio::null()).stderr(File::create(&stderr).expect("a file"));
        let status = run_to_its_end(&mut command);
        let launch = Launch { status, stderr: fs::read_to_string(&stderr).expect("text") };
        fs::remove_file(stderr).expect("a file");
        self.started_processes().extend(self.processes());
        launch
    }

    /// The command that starts it.
    pub fn command_by(&self, wrapper: &[&str], arguments: &[&str]) -> Command {
        let (fifo, pidfile) = (self.fifo().display().to_string(), self.pidfile().display().to_string());
        let (control, address) = (self.control.to_string(), self.address.to_string());
        let program = program();
        let program: Vec<&str> = program.iter().map(String::as_str).collect();
        let own = ["--daemon", "--fifo", &fifo, "--pidfile", &pidfile, "--control", &control];
        // Where a file says the rest, it says that as well.
        let address: &[&str] = if arguments.contains(&"--config") { &[] } else { &[&address] };
        let words = [wrapper, &program, &own, address, arguments].concat();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).stdin(Stdio::null());
        command
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control port is.
    pub fn control_address(&self) -> SocketAddr {
        self.control
    }

    /// The answer of its control port.
    pub fn control(&self, commands: &str) -> String {
        control::ask(self.control, commands).unwrap_or_else(|error| panic!("no answer to {commands:?}: {error}"))
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    pub fn fifo(&self) -> PathBuf {
        self.path("glbd.fifo")
    }

    pub fn pidfile(&self) -> PathBuf {
        self.path("glbd.pid")
    }

    /// The process id in the pid file.
    pub fn pid(&self) -> Pid {
        let text = fs::read_to_string(self.pidfile()).expect("the pid file");
        // While it is written anew, something of the one before may stand behind it.
        Pid::from_raw(text.lines().next().and_then(|line| line.parse().ok()).expect("a process id"))
    }

    /// Has another process take over. Returns when that serves and the old one has closed its listening sockets.
    pub fn upgrade(&self) {
        let old = self.pid();
        self.signal(Signal::SIGUSR2);
        wait_until("another process has taken over", || self.pid() != old && !listens(old));
        self.started_processes().push(self.pid());
    }

    /// The table.
    pub fn info(&self) -> Info {
        Info::parse(&self.control("getinfo"))
    }

    /// The counters since the last call.
    pub fn stats(&self) -> Stats {
        Stats::parse(&self.control("getstat"))
    }

    /// A new client.
    pub fn connect(&self) -> TcpStream {
        connect_to(self.address).expect("a daemon that accepts")
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("glbd runs");
    }

    /// A file of the daemon in /proc.
    pub fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.pid()))
    }

    fn started_processes(&self) -> MutexGuard<'_, Vec<Pid>> {
        self.started.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// All processes that were started here and have not ended.
    pub fn processes(&self) -> Vec<Pid> {
        processes_with(&self.directory().display().to_string())
    }

    /// Waits until no process is left, and everything that they had open is closed.
    pub fn wait_until_gone(&self) {
        let mut started = self.started_processes();
        wait_until("no process is left", || self.processes().is_empty() && started.iter().all(has_ended));
        started.clear();
    }

    /// The names of the files in its directory.
    pub fn files(&self) -> Vec<String> {
        let names = fs::read_dir(self.directory()).expect("the directory");
        let mut names: Vec<_> =
            names.map(|entry| entry.expect("an entry").file_name().into_string().expect("a plain name")).collect();
        names.sort();
        names
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        kill_all_with(&self.directory().display().to_string());
    }
}

/// All processes that have not ended and whose command line has this in it.
pub fn processes_with(text: &str) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").expect("/proc");
    let all = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    // One that has ended, and nobody has asked how, has no command line any more.
    let command = |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    all.filter(|pid| command(pid).contains(text)).map(Pid::from_raw).collect()
}

/// Whether a process has ended, and all of its threads: only then are its descriptors closed.
pub fn has_ended(pid: &Pid) -> bool {
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat.contains(") Z ") && threads() <= 1,
        Err(_) => true,
    }
}

/// Kills them, and waits until they are gone.
pub fn kill_all_with(text: &str) {
    while let processes = processes_with(text)
        && !processes.is_empty()
    {
        for pid in processes {
            // It may have ended by itself.
            kill(pid, Signal::SIGKILL).ok();
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs a command, and notices its end as soon as can be; returns its status.
fn run_to_its_end(command: &mut Command) -> Option<i32> {
    let mut process = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = process.try_wait().expect("a child of this process") {
            return status.code();
        }
        if Instant::now() > deadline {
            process.kill().ok();
            panic!("{command:?} has not returned after {PATIENCE:?}");
        }
        thread::sleep(Duration::from_micros(100));
    }
}
