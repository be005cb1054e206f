//! One process that was started for one destination, with all that it has started in turn.

use std::io;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use nix::sys::signal::{Signal, killpg};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::address::PeerAddress;
use crate::checker::protocol::{Report, cut};
use crate::log::LogThrottle;
use crate::sys;

/// The environment variable by which the scripts, and all that they start, are known.
const MARK: &str = "GLBD_WATCHDOG";
/// Longest answer, and most that is thrown away of what nobody asked for.
const MAX_ANSWER: u64 = 64 * 1024;
/// How long a script may take to end by itself when it is told to.
const COURTESY: Duration = Duration::from_millis(500);
/// How long it may take from the end of its output to its own end, until that is told without its status.
const LAST_BREATH: Duration = Duration::from_millis(100);
/// Of what it complains of, so many lines are logged before only one in a while is.
const COMPLAINTS: usize = 5;
const LONGEST_COMPLAINT: usize = 200;

/// Scripts that were told to end and have not yet.
static ENDING: AtomicUsize = AtomicUsize::new(0);

static MARKED: OnceLock<String> = OnceLock::new();

/// Where warnings go.
static LOG: OnceLock<Sender<Report>> = OnceLock::new();

/// Has warnings go there. To be called before there are any.
pub(in crate::checker) fn log_to(log: Sender<Report>) {
    // It is only set before when it is too late.
    let _ = LOG.set(log);
}

/// Passes a line on to the daemon's log.
pub(in crate::checker) fn warn(text: &str) {
    if let Some(log) = LOG.get() {
        // The receiver lives as long as the process.
        let _ = log.send(Report::Log(cut(text)));
    }
}

/// `NAME=VALUE` in the environment of this daemon's scripts, and of no other's.
pub fn mark() -> &'static str {
    MARKED.get_or_init(|| format!("{MARK}={}-{:016x}", std::process::id(), fastrand::u64(..)))
}

/// Has this process's scripts bear the mark of another's, which it has taken over from. To be called before there are any.
pub fn take_mark(mark: &str) {
    // It is only set before when it is too late.
    let _ = MARKED.set(mark.to_owned());
}

/// Whether any script has been told to end and has not yet.
pub fn are_any_ending() -> bool {
    ENDING.load(Ordering::SeqCst) > 0
}

/// A running script. When it is dropped, it is told to end, and killed if it does not.
pub(super) struct Script {
    running: Option<Running>,
}

struct Running {
    child: Child,
    group: Pid,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    complaints: Option<JoinHandle<()>>,
}

impl Script {
    /// Starts `command` by the shell.
    ///
    /// # Errors
    /// When there is no process or descriptor left for it.
    pub(super) fn start(command: &str, address: PeerAddress) -> io::Result<Script> {
        let (name, value) = mark().split_once('=').unwrap_or((MARK, ""));
        let mut shell = Command::new("/bin/sh");
        shell.arg("-c").arg(command).env(name, value).process_group(0);
        shell.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        sys::die_with_parent(shell.as_std_mut());
        sys::give_usual_limits(shell.as_std_mut());
        let mut child = shell.spawn()?;
        let missing = || io::Error::other("the script has ended at once");
        let group = Pid::from_raw(child.id().and_then(|id| i32::try_from(id).ok()).ok_or_else(missing)?);
        let input = child.stdin.take().ok_or_else(missing)?;
        let output = BufReader::new(child.stdout.take().ok_or_else(missing)?);
        let complaints = child.stderr.take().map(|stderr| tokio::spawn(log_complaints(stderr, address)));
        Ok(Script { running: Some(Running { child, group, input, output, complaints }) })
    }

    /// Polls it once, and returns the line that it answers.
    ///
    /// # Errors
    /// `UnexpectedEof` when it has ended, `InvalidData` when it says more than an answer can be.
    pub(super) async fn ask(&mut self) -> io::Result<Vec<u8>> {
        let Some(running) = &mut self.running else { return Err(io::ErrorKind::UnexpectedEof.into()) };
        running.forget_what_was_said().await?;
        if running.input.write_all(b"poll\n").await.is_err() {
            return Err(running.ended().await);
        }
        let mut line = Vec::new();
        (&mut running.output).take(MAX_ANSWER).read_until(b'\n', &mut line).await?;
        match line.last() {
            None => Err(running.ended().await),
            Some(b'\n') => Ok(line),
            Some(_) if line.len() as u64 >= MAX_ANSWER => Err(too_much()),
            // Its last words, without a line's end.
            Some(_) => Ok(line),
        }
    }
}

impl Running {
    /// What it has said since its last answer would be taken for the next one.
    async fn forget_what_was_said(&mut self) -> io::Result<()> {
        let mut forgotten = 0;
        while let Ok(said) = timeout(Duration::ZERO, self.output.fill_buf()).await {
            let count = said?.len();
            self.output.consume(count);
            forgotten += count as u64;
            match count {
                0 => return Err(self.ended().await),
                _ if forgotten > MAX_ANSWER => return Err(too_much()),
                _ => {}
            }
        }
        Ok(())
    }

    /// The error that says how it ended. It is left for [`end`] to reap: until then nobody else gets its number.
    async fn ended(&mut self) -> io::Error {
        let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        let since = Instant::now();
        let how = loop {
            match waitid(Id::Pid(self.group), flags) {
                Ok(WaitStatus::Exited(_, status)) => break format!("the script ended with status {status}"),
                Ok(WaitStatus::Signaled(_, signal, _)) => break format!("the script was ended by {signal}"),
                Ok(_) if since.elapsed() < LAST_BREATH => sleep(Duration::from_millis(2)).await,
                _ => break "the script closed its output".to_owned(),
            }
        };
        io::Error::new(io::ErrorKind::UnexpectedEof, how)
    }
}

fn too_much() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the script says more than {MAX_ANSWER} bytes at once"))
}

impl Drop for Script {
    fn drop(&mut self) {
        let Some(running) = self.running.take() else { return };
        ENDING.fetch_add(1, Ordering::SeqCst);
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(end(running))),
            Err(_) => {
                kill(running.group);
                ENDING.fetch_sub(1, Ordering::SeqCst);
            }
        }
    }
}

/// Tells a script to end, kills what is left of it and of all that it has started, and reaps it.
async fn end(running: Running) {
    let Running { mut child, group, mut input, mut output, complaints } = running;
    let by_itself = async {
        // One that reads nothing any more is told by the end of its input, or not at all.
        let _ = input.write_all(b"quit\n").await;
        drop(input);
        let mut rest = [0; 4096];
        while output.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    };
    let _ = timeout(COURTESY, by_itself).await;
    kill(group);
    // It is dead.
    let _ = child.wait().await;
    if let Some(mut complaints) = complaints {
        // What has left its group may keep stderr open for as long as it likes.
        if timeout(LAST_BREATH, &mut complaints).await.is_err() {
            complaints.abort();
        }
    }
    ENDING.fetch_sub(1, Ordering::SeqCst);
}

fn kill(group: Pid) {
    // Nobody may be left.
    let _ = killpg(group, Signal::SIGKILL);
}

/// Passes on what a script writes to stderr, as far as it is worth reading, until it closes that.
async fn log_complaints(mut stderr: ChildStderr, address: PeerAddress) {
    let mut seldom = LogThrottle::after(COMPLAINTS);
    let mut line = String::new();
    let mut buffer = [0; 1024];
    while let Ok(count) = stderr.read(&mut buffer).await {
        for byte in buffer.iter().take(count) {
            match byte {
                b'\n' => log_complaint(&mut line, address, &mut seldom),
                _ if line.len() >= LONGEST_COMPLAINT => {}
                b' '..=b'~' => line.push(char::from(*byte)),
                _ => line.push('?'),
            }
        }
        if count == 0 {
            break;
        }
    }
    log_complaint(&mut line, address, &mut seldom);
}

fn log_complaint(line: &mut String, address: PeerAddress, seldom: &mut LogThrottle) {
    if line.is_empty() {
        return;
    }
    if let Some(suppressed) = seldom.permit(Instant::now()) {
        warn(&format!("script of destination {address}: {line}{suppressed}"));
    }
    line.clear();
}
