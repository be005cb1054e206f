//! A machine for one test: namespaces with their own processes, network and mounts, in which glbd is /usr/sbin/glbd.

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, PipeWriter, Read, Seek, Write, pipe};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use nix::unistd::geteuid;
use tempfile::TempDir;

use crate::harness::glbd::PROGRAM;
use crate::harness::{Info, PATIENCE, wait_until};

/// What the scripts and these tests run, and Debian's package of it.
const TOOLS: [(&str, &str); 12] = [
    ("busybox", "busybox"),
    ("dash", "dash"),
    ("ip", "iproute2"),
    ("killall", "psmisc"),
    ("nc", "netcat-openbsd"),
    ("nc.openbsd", "netcat-openbsd"),
    ("nc.traditional", "netcat-traditional"),
    ("ncat", "ncat"),
    ("netstat", "net-tools"),
    ("pidof", "sysvinit-utils"),
    ("pkill", "procps"),
    ("unshare", "util-linux"),
];

/// Runs as the machine's first process, and the machine ends with it: when its standard input does. It ignores SIGCHLD
/// so that the kernel reaps the daemons that are left to it.
const BOOT: &str = r#"
set -e
files=$1
program=$2
trap '' CHLD
ip link set lo up
mount --bind /usr/sbin /mnt
mount -t tmpfs tmpfs /usr/sbin
ln -s /mnt/* /usr/sbin/
rm -f /usr/sbin/glbd
touch /usr/sbin/glbd
mount --bind "$program" /usr/sbin/glbd
mount --bind "$files/hosts" /etc/hosts
mount --bind "$files/default" /etc/default
mount --bind "$files/init.d" /etc/init.d
mount --bind "$files/srv" /srv
mount --bind "$files/run" /run
# The repository may be below it, so this comes last.
mount --bind "$files/tmp" /tmp
echo booted
exec cat
"#;

/// The machine. Everything that runs on it ends when this is dropped.
pub struct Machine {
    /// The first process's parent, which lives in the same namespaces but for that of the processes.
    namespaces: Child,
    files: TempDir,
}

/// How a command ended.
#[derive(Debug)]
pub struct Outcome {
    pub status: Option<i32>,
    /// What it wrote to stdout and to stderr.
    pub text: String,
}

impl Machine {
    /// A machine that knows these hosts by name.
    pub fn boot(hosts: &[(&str, &str)]) -> Self {
        assert!(geteuid().is_root(), "only root may make namespaces");
        assert_tools_are_there();
        let files = tempfile::tempdir().expect("a temporary directory");
        for directory in ["default", "init.d", "srv", "run", "tmp"] {
            fs::create_dir(files.path().join(directory)).expect("a directory");
        }
        let lines: String = [("127.0.0.1", "localhost")]
            .iter()
            .chain(hosts)
            .map(|(address, name)| format!("{address} {name}\n"))
            .collect();
        fs::write(files.path().join("hosts"), lines).expect("the hosts");

        let mut namespaces = Command::new("unshare")
            .args(["--mount", "--pid", "--net", "--fork", "--mount-proc", "--"])
            .args(["bash", "-c", BOOT, "boot"])
            .args([files.path(), Path::new(PROGRAM)])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare, from Debian's package util-linux");
        let mut said = String::new();
        BufReader::new(namespaces.stdout.take().expect("a pipe")).read_line(&mut said).expect("a line");
        assert_eq!(said, "booted\n", "the machine's first process");
        Self { namespaces, files }
    }

    /// A process that lives in the machine's network.
    pub fn network(&self) -> u32 {
        self.namespaces.id()
    }

    /// Where the machine's directory /etc/default, /etc/init.d, /srv, /run or /tmp lies on this one.
    pub fn directory(&self, path: &str) -> PathBuf {
        let name = Path::new(path).file_name().expect("a name");
        self.files.path().join(name)
    }

    /// Puts a file of the repository into one of those directories.
    pub fn copy(&self, file: &str, directory: &str) {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let name = source.file_name().expect("a name");
        fs::copy(&source, self.directory(directory).join(name)).expect("a file of the repository");
    }

    /// A command to be run on the machine.
    pub fn command(&self, words: &[&str]) -> Command {
        let namespaces = format!("/proc/{}/ns", self.namespaces.id());
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount={namespaces}/mnt"))
            .arg(format!("--net={namespaces}/net"))
            .arg(format!("--pid={namespaces}/pid_for_children"))
            .args(["--wd=/", "--"])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, which must come within a minute.
    pub fn run(&self, words: &[&str]) -> Outcome {
        // Not a pipe: a daemon that kept it open would hold up the test.
        let mut output = tempfile::tempfile().expect("a temporary file");
        let status = self
            .command(&[&["timeout", "60"], words].concat())
            .stdout(duplicate(&output))
            .stderr(duplicate(&output))
            .status()
            .expect("nsenter, from Debian's package util-linux");
        let mut text = String::new();
        output.rewind().expect("a file");
        output.read_to_string(&mut text).expect("text");
        Outcome { status: status.code(), text }
    }

    /// Runs a command and panics unless it succeeds; returns what it wrote.
    pub fn expect(&self, words: &[&str]) -> String {
        let outcome = self.run(words);
        assert_eq!(outcome.status, Some(0), "{words:?}: {}", outcome.text);
        outcome.text
    }

    /// Starts a server that says `name` to everyone who connects, and then sends back what it gets.
    pub fn serve(&self, name: &str, host: &str, port: &str) -> Background {
        let service = format!("echo {name}; exec cat");
        let server = self.background(&["ncat", "--keep-open", "--listen", "--sh-exec", &service, host, port]);
        wait_until(&format!("{name} listens"), || self.listens(host, port));
        server
    }

    /// Starts a command that goes on until the machine ends.
    pub fn background(&self, words: &[&str]) -> Background {
        Background::start(self.command(words))
    }

    /// Whether a connection to this port is accepted.
    pub fn listens(&self, host: &str, port: &str) -> bool {
        let connect = format!(": </dev/tcp/{host}/{port}");
        self.run(&["bash", "-c", &connect]).status == Some(0)
    }

    /// The daemon's process ids, as pidof(8) finds them.
    pub fn daemons(&self) -> Vec<String> {
        let found = self.run(&["pidof", "glbd"]).text;
        found.split_whitespace().map(str::to_owned).collect()
    }

    /// What glbd's control port 8011 answers to getinfo.
    pub fn info(&self) -> Info {
        Info::parse(&self.expect(&["sh", "-c", "echo getinfo | nc 127.0.0.1 8011"]))
    }

    /// A client of glbd at port 8010; `None` if it is turned away.
    pub fn client(&self) -> Option<Client> {
        Client::connect(self)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        drop(self.namespaces.stdin.take());
        self.namespaces.wait().ok();
    }
}

/// A process on the machine. It ends with this, or with the machine.
pub struct Background {
    /// nsenter, whose only child is the process.
    nsenter: Child,
}

impl Background {
    /// Starts a [`Machine::command`]. Its standard output is for [`Background::lines`].
    pub fn start(mut command: Command) -> Self {
        let nsenter = command.stdout(Stdio::piped()).spawn().expect("nsenter, from Debian's package util-linux");
        Self { nsenter }
    }

    /// What it writes.
    pub fn lines(&mut self) -> Lines<BufReader<ChildStdout>> {
        BufReader::new(self.nsenter.stdout.take().expect("the first call")).lines()
    }

    /// Waits for its end, and returns its exit status.
    pub fn wait(&mut self) -> Option<i32> {
        wait_until("a process ends", || self.status().is_some());
        self.status().and_then(|status| status.code())
    }

    fn status(&mut self) -> Option<ExitStatus> {
        self.nsenter.try_wait().expect("a child of ours")
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // A killed nsenter would leave its child to others, a killed child ends nsenter. It may not have one yet.
        while self.status().is_none() {
            let parent = self.nsenter.id().to_string();
            Command::new("pkill").args(["-KILL", "--parent", &parent]).status().ok();
            thread::sleep(Duration::from_millis(5));
        }
    }
}

fn assert_tools_are_there() {
    let path = env::var_os("PATH").expect("PATH");
    for (tool, package) in TOOLS {
        let found = env::split_paths(&path).any(|directory| directory.join(tool).exists());
        assert!(found, "{tool} is missing: install Debian's package {package}");
    }
}

fn duplicate(file: &File) -> File {
    file.try_clone().expect("a descriptor")
}

/// A client on the machine, connected through glbd to a server of [`Machine::serve`].
pub struct Client {
    process: Background,
    input: PipeWriter,
    lines: Receiver<String>,
    server: String,
}

impl Client {
    fn connect(machine: &Machine) -> Option<Self> {
        let (reader, input) = pipe().expect("a pipe");
        let mut command = machine.command(&["busybox", "nc", "127.0.0.1", "8010"]);
        command.stdin(reader).stderr(Stdio::null());
        let mut process = Background::start(command);
        let output = process.lines();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.map_while(Result::ok) {
                // A test that is over listens no more.
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut client = Self { process, input, lines, server: String::new() };
        client.server = client.next_line()?;
        Some(client)
    }

    /// The name of the server it got.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// Whether a line still comes back from the server.
    pub fn is_served(&mut self) -> bool {
        // A connection that is closed may refuse the line, or take it and end.
        writeln!(self.input, "hello").is_ok() && self.next_line().as_deref() == Some("hello")
    }

    /// Waits until glbd closes the connection.
    pub fn wait_until_closed(&mut self) {
        assert_eq!(self.next_line(), None, "a line from {}", self.server);
        self.process.wait();
    }

    /// The next line from the server; `None` if the connection is closed instead.
    fn next_line(&self) -> Option<String> {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("neither a line nor an end in {PATIENCE:?}"),
        }
    }
}
