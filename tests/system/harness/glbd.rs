//! The daemon under test: a real glbd process in the foreground.

use std::env;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::Once;
use std::thread;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::client::connect_to;
use super::control::{self, Info, Stats};
use super::log::Log;
use super::net::{free_port, wait_until};
use super::proc;
use super::watch::Watch;

/// The program under test.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_glbd");

/// The environment variable that puts a command before the program under test, which it must exec(3): `valgrind --quiet`.
pub const RUNNER: &str = "GLBD_TEST_RUNNER";

/// The command that starts the program under test, to which glbd's own command line is appended.
pub fn program() -> Vec<String> {
    let runner = env::var(RUNNER).unwrap_or_default();
    runner.split_whitespace().chain([PROGRAM]).map(str::to_owned).collect()
}

/// Runs glbd to its end, for command lines with which it does not go on to serve.
pub fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).stdin(Stdio::null()).output().expect("glbd starts")
}

/// How a glbd is to be started.
pub struct Builder {
    /// `None` is for all interfaces.
    ip: Option<IpAddr>,
    port: Option<u16>,
    /// Further addresses, each with a comma before it.
    further: String,
    control: bool,
    wrapper: Vec<String>,
    arguments: Vec<String>,
    destinations: Vec<String>,
}

impl Builder {
    /// Adds one argument.
    pub fn arg(self, argument: impl ToString) -> Self {
        self.args([argument])
    }

    /// Adds arguments, in front of the listening address.
    pub fn args(mut self, arguments: impl IntoIterator<Item: ToString>) -> Self {
        self.arguments.extend(arguments.into_iter().map(|argument| argument.to_string()));
        self
    }

    /// Adds destinations: strings as on the command line, or servers.
    pub fn destinations(mut self, destinations: impl IntoIterator<Item: ToString>) -> Self {
        self.destinations.extend(destinations.into_iter().map(|destination| destination.to_string()));
        self
    }

    /// Listens on this address rather than on 127.0.0.1.
    pub fn listen_on(mut self, ip: impl Into<IpAddr>) -> Self {
        self.ip = Some(ip.into());
        self
    }

    /// Listens on this port.
    pub fn listen_on_port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Listens at this address, or range of ports, as well.
    pub fn listen_also_on(mut self, address: impl ToString) -> Self {
        self.further += &format!(",{}", address.to_string());
        self
    }

    /// Listens on all interfaces: glbd is told a port only.
    pub fn listen_everywhere(mut self) -> Self {
        self.ip = None;
        self
    }

    /// Whether the control port is opened; it is unless this says no.
    pub fn control(mut self, wanted: bool) -> Self {
        self.control = wanted;
        self
    }

    /// Starts glbd by this command, to which glbd's own command line is appended. The command must exec(3) glbd, or
    /// signals would not reach it: `["sh", "-c", "ulimit -n 64; exec \"$0\" \"$@\""]`.
    pub fn wrapped_by(mut self, command: impl IntoIterator<Item: ToString>) -> Self {
        self.wrapper = command.into_iter().map(|word| word.to_string()).collect();
        self
    }

    /// Starts glbd and returns when all its sockets accept.
    pub fn start(self) -> Glbd {
        raise_descriptor_limit();
        let directory = tempfile::tempdir().expect("a temporary directory");
        let port = self.port.unwrap_or_else(free_port);
        let control = self.control.then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, free_port())));
        let mut words = self.wrapper;
        words.extend(program());
        words.extend(["--fifo".to_owned(), directory.path().join("glbd.fifo").display().to_string()]);
        words.extend(control.into_iter().flat_map(|control| ["--control".to_owned(), control.to_string()]));
        words.extend(self.arguments);
        let first = self.ip.map_or(port.to_string(), |ip| SocketAddr::new(ip, port).to_string());
        words.push(first + &self.further);
        words.extend(self.destinations);

        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut process = command.spawn().expect("glbd starts");
        let log = Log::follow(process.stderr.take().expect("a pipe"));
        let address = SocketAddr::new(self.ip.unwrap_or(Ipv4Addr::LOCALHOST.into()), port);
        let mut glbd = Glbd { process, address, control, log, directory };
        glbd.wait_until_serving();
        glbd
    }
}

/// A running glbd. It is killed when this is dropped.
pub struct Glbd {
    process: Child,
    address: SocketAddr,
    control: Option<SocketAddr>,
    log: Log,
    directory: TempDir,
}

impl Glbd {
    /// A glbd on free ports of 127.0.0.1, with a control port and a FIFO of its own.
    pub fn builder() -> Builder {
        Builder {
            ip: Some(Ipv4Addr::LOCALHOST.into()),
            port: None,
            further: String::new(),
            control: true,
            wrapper: Vec::new(),
            arguments: Vec::new(),
            destinations: Vec::new(),
        }
    }

    /// A glbd with these destinations and nothing else out of the ordinary.
    pub fn start(destinations: impl IntoIterator<Item: ToString>) -> Self {
        Self::builder().destinations(destinations).start()
    }

    fn wait_until_serving(&mut self) {
        wait_until("glbd serves or gives up", || self.log.contains("serving on") || self.exited().is_some());
        if let Some(status) = self.exited() {
            panic!("glbd did not start: {status}");
        }
    }

    /// Where clients connect to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the control port is.
    pub fn control_address(&self) -> SocketAddr {
        self.control.expect("a glbd with a control port")
    }

    /// The control FIFO.
    pub fn fifo(&self) -> PathBuf {
        self.directory().join("glbd.fifo")
    }

    /// A directory for files of the test, removed with the daemon.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A new client.
    pub fn connect(&self) -> TcpStream {
        self.try_connect().expect("glbd accepts")
    }

    /// A new client, where glbd may close the connection before it is used: that may look like a failure to connect.
    pub fn try_connect(&self) -> io::Result<TcpStream> {
        connect_to(self.address)
    }

    /// The answer to one command, or to several separated by newlines.
    pub fn control(&self, commands: &str) -> String {
        control::ask(self.control_address(), commands)
            .unwrap_or_else(|error| panic!("no answer to {commands:?}: {error}"))
    }

    /// Changes the table: panics unless glbd says `Ok`.
    pub fn change(&self, destination: impl ToString) {
        let destination = destination.to_string();
        assert_eq!(self.control(&destination), "Ok\n", "answer to {destination:?}");
    }

    /// The table.
    pub fn info(&self) -> Info {
        Info::parse(&self.control("getinfo"))
    }

    /// What the watchdog says.
    pub fn watch(&self) -> Watch {
        Watch::parse(&self.control("getwatch"))
    }

    /// The counters since the last call.
    pub fn stats(&self) -> Stats {
        Stats::parse(&self.control("getstat"))
    }

    /// The process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.process.id() as i32)
    }

    /// Sends a signal; SIGSTOP has stopped all threads when this returns.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("glbd runs");
        if signal == Signal::SIGSTOP {
            wait_until("glbd is stopped", || proc::is_stopped(self.pid()));
        }
    }

    /// Waits for the end of the process.
    pub fn wait_exit(&mut self) -> ExitStatus {
        wait_until("glbd ends", || self.exited().is_some());
        self.exited().expect("it ended")
    }

    /// How the process ended; `None` while it runs.
    pub fn exited(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().expect("a child of this process")
    }

    /// Everything written to stderr so far.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// Waits until stderr has a line that contains `text`.
    pub fn wait_for_log(&self, text: &str) {
        wait_until(&format!("the log says {text:?}"), || self.log.contains(text));
    }

    /// Open file descriptors.
    pub fn descriptors(&self) -> usize {
        proc::descriptors(self.pid())
    }

    /// The names of its threads.
    pub fn threads(&self) -> Vec<String> {
        proc::threads(self.pid())
    }

    /// Memory in use, in bytes.
    pub fn resident_bytes(&self) -> u64 {
        proc::resident_bytes(self.pid())
    }

    /// Processor time that all threads used since the start.
    pub fn cpu_time(&self) -> Duration {
        proc::cpu_time(self.pid())
    }
}

impl Drop for Glbd {
    fn drop(&mut self) {
        // It may have ended by itself.
        self.process.kill().ok();
        self.process.wait().ok();
        self.log.end();
        if thread::panicking() {
            eprintln!("--- glbd said:\n{}---", self.log());
        }
    }
}

/// Tests run in parallel and hold many connections each: the usual soft limit of 1024 is not enough for all of them.
fn raise_descriptor_limit() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).expect("the limit");
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).expect("a soft limit below the hard one");
    });
}
