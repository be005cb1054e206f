//! A machine for one test: namespaces with their own processes, network and mounts, in which glbd is /usr/sbin/glbd.

mod client;
mod systemd;

use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Lines, Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::thread;
use std::time::Duration;

pub use client::Client;
use nix::unistd::geteuid;
use tempfile::TempDir;

use super::copy::BOOT_FROM_COPY;
use crate::harness::glbd::PROGRAM;
use crate::harness::{Info, wait_until};

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
    /// The machine ends when this one's standard input does.
    lifeline: Child,
    /// The first process's parent, which lives in the same namespaces but for that of the processes.
    namespaces: u32,
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
        Self::boot_by(BOOT, hosts)
    }

    /// A machine on which packages can be installed, and which is without glbd until one is. Only its directories /srv,
    /// /run and /tmp lie on this one as well.
    pub fn boot_from_copy() -> Self {
        Self::boot_by(BOOT_FROM_COPY, &[])
    }

    fn boot_by(script: &str, hosts: &[(&str, &str)]) -> Self {
        let files = files_of_machine(&TOOLS);
        let lines: String = [("127.0.0.1", "localhost")]
            .iter()
            .chain(hosts)
            .map(|(address, name)| format!("{address} {name}\n"))
            .collect();
        fs::write(files.path().join("hosts"), lines).expect("the hosts");

        let options = ["--mount", "--pid", "--net", "--fork", "--mount-proc"];
        let (lifeline, mut said) = start(&options, script, files.path());
        let booted = said.next().expect("a line").expect("text");
        assert_eq!(booted, "booted", "the machine's first process");
        Self { namespaces: lifeline.id(), lifeline, files }
    }

    /// A process that lives in the machine's network.
    pub fn network(&self) -> u32 {
        self.namespaces
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
        let namespaces = format!("/proc/{}/ns", self.namespaces);
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--mount={namespaces}/mnt"))
            .arg(format!("--net={namespaces}/net"))
            .arg(format!("--pid={namespaces}/pid_for_children"))
            .arg(format!("--cgroup={namespaces}/cgroup"))
            .args(["--wdns=/", "--"])
            .args(words)
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, which must come within three minutes.
    pub fn run(&self, words: &[&str]) -> Outcome {
        // Not a pipe: a daemon that kept it open would hold up the test.
        let mut output = tempfile::tempfile().expect("a temporary file");
        let status = self
            .command(&[&["timeout", "180"], words].concat())
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
        drop(self.lifeline.stdin.take());
        self.lifeline.wait().ok();
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

/// The directories that tests reach from outside.
fn files_of_machine(tools: &[(&str, &str)]) -> TempDir {
    assert!(geteuid().is_root(), "only root may make namespaces");
    assert_tools_are_there(tools);
    let files = tempfile::tempdir().expect("a temporary directory");
    for directory in ["default", "init.d", "srv", "run", "tmp"] {
        fs::create_dir(files.path().join(directory)).expect("a directory");
    }
    files
}

/// Runs a script by unshare(1) with these options; what it says comes line by line.
fn start(options: &[&str], script: &str, files: &Path) -> (Child, Lines<BufReader<ChildStdout>>) {
    let mut lifeline = Command::new("unshare")
        .args(options)
        .args(["--", "bash", "-c", script, "boot"])
        .args([files, Path::new(PROGRAM)])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("unshare, from Debian's package util-linux");
    let said = BufReader::new(lifeline.stdout.take().expect("a pipe")).lines();
    (lifeline, said)
}

fn assert_tools_are_there(tools: &[(&str, &str)]) {
    let path = env::var_os("PATH").expect("PATH");
    for (tool, package) in tools {
        let found = env::split_paths(&path).any(|directory| directory.join(tool).exists());
        assert!(found, "{tool} is missing: install Debian's package {package}");
    }
}

fn duplicate(file: &File) -> File {
    file.try_clone().expect("a descriptor")
}
