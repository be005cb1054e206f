//! System calls that fail: strace(1) attaches to a running process and has the kernel answer with an error of its choice.

use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::net::wait_until;

/// A fault in a process, until this is dropped.
pub struct Fault {
    strace: Child,
    directory: TempDir,
}

impl Fault {
    /// Makes system calls of `process`, of all its threads and of what it starts, fail: `socket:error=EMFILE`. Anything that
    /// strace's option `inject` takes can stand there.
    pub fn inject(process: impl Display, fault: &str) -> Self {
        Self::start(process, fault, &[])
    }

    /// [`Fault::inject`] for calls that concern this file only, by its name or by a descriptor.
    pub fn inject_at(path: &Path, process: impl Display, fault: &str) -> Self {
        Self::start(process, fault, &["-P", path.to_str().expect("text")])
    }

    fn start(process: impl Display, fault: &str, filter: &[&str]) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let calls = fault.split(':').next().expect("names of system calls");
        let mut command = Command::new("strace");
        command.args(["-f", "-q", "-e", &format!("trace={calls}"), "-e", &format!("inject={fault}")]).args(filter);
        command.args(["-p", &process.to_string(), "-o"]).arg(directory.path().join("calls"));
        let stderr = fs::File::create(directory.path().join("stderr")).expect("a file");
        let strace = command.stdin(Stdio::null()).stderr(stderr).spawn().expect("strace, from Debian's package strace");
        let mut fault = Self { strace, directory };
        let tracer = fault.strace.id();
        wait_until("all threads are traced", || {
            if let Some(status) = fault.strace.try_wait().expect("a child of this process") {
                panic!("strace cannot attach, {status}: {}", fault.read("stderr"));
            }
            is_traced_by(tracer, &process)
        });
        fault
    }

    /// How often it was injected.
    pub fn hits(&self) -> usize {
        let calls = self.read("calls");
        calls.matches("(INJECTED)").count() + calls.matches("(DELAYED)").count()
    }

    /// Waits until it was injected so often.
    pub fn wait_for_hits(&self, hits: usize) {
        wait_until("the fault has struck", || self.hits() >= hits);
    }

    /// Ends it.
    pub fn lift(self) {}

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.path(name)).unwrap_or_default()).into_owned()
    }
}

impl Drop for Fault {
    fn drop(&mut self) {
        // It lets go of the process before it ends.
        kill(Pid::from_raw(self.strace.id() as i32), Signal::SIGTERM).ok();
        self.strace.wait().ok();
    }
}

fn is_traced_by(tracer: u32, process: &impl Display) -> bool {
    let tasks = fs::read_dir(format!("/proc/{process}/task")).expect("the process runs").flatten();
    let expected = format!("TracerPid:\t{tracer}\n");
    tasks
        .map(|task| fs::read_to_string(task.path().join("status")).unwrap_or_default())
        .all(|it| it.contains(&expected))
}
