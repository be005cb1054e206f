//! The process that is to take over from this one, as this one sees it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::inheritance::ENVIRONMENT;
use super::{Channel, LeftAddress, Message, PROTOCOL, PredecessorLink, Role, State};
use crate::sys;

/// How long the new process may take to be ready.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked whether there is any use in waiting.
const LOOK: Duration = Duration::from_millis(20);
/// How long it may take from closing its end to its own end.
const LAST_BREATH: Duration = Duration::from_secs(1);
const INTERRUPTED: &str = "a signal came that ends this process";
/// How much of what it complains of is repeated.
const COMPLAINT: usize = 300;

/// The process that is to take over, and the conversation with it.
pub(in crate::daemon) struct Successor {
    /// As it says itself.
    pid: u32,
    undecided: Undecided,
    channel: Channel,
    deadline: Instant,
}

/// The process that waits for its end, in a process group with all that it starts. They are killed when this is dropped.
struct Undecided(Child);

/// Everything that is handed over as a descriptor.
pub(in crate::daemon) struct Offer<'a> {
    pub listeners: Vec<BorrowedFd<'a>>,
    pub control: Vec<BorrowedFd<'a>>,
    pub fifo: Option<BorrowedFd<'a>>,
    pub http: Option<BorrowedFd<'a>>,
    pub janitor: Option<BorrowedFd<'a>>,
    pub predecessors: &'a [PredecessorLink],
}

impl Successor {
    /// Starts `program` with this process's arguments, in `directory` if they name a file there. In the background, its
    /// complaints are heard here.
    ///
    /// # Errors
    /// Why it cannot be started.
    pub(in crate::daemon) fn start(
        program: &Path,
        directory: Option<&Path>,
        in_background: bool,
    ) -> Result<Successor, String> {
        let told = |error: io::Error| format!("cannot start {}: {error}", program.display());
        let (channel, theirs) = Channel::pair().map_err(told)?;
        let mut command = Command::new(program);
        command.args(std::env::args_os().skip(1)).env(ENVIRONMENT, theirs.as_raw_fd().to_string()).process_group(0);
        if let Some(directory) = directory {
            command.current_dir(directory);
        }
        sys::inherit(&mut command, &theirs);
        sys::put_in_between(&mut command);
        if in_background {
            command.stderr(Stdio::piped());
        }
        let undecided = command.spawn().map(Undecided).map_err(told)?;
        Ok(Successor { pid: 0, undecided, channel, deadline: Instant::now() + PATIENCE })
    }

    /// Its process id.
    pub(in crate::daemon) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits until it has said that it is a glbd. `give_up` may have it wait no longer.
    ///
    /// # Errors
    /// Why that is in vain.
    pub(in crate::daemon) fn wait_for_hello(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), String> {
        match self.wait(give_up)? {
            Message::Hello { protocol: PROTOCOL, pid, .. } => {
                self.pid = pid;
                Ok(())
            }
            Message::Hello { version, .. } => Err(format!("glbd {version} cannot take over from this version")),
            _ => Err("it does not speak as a glbd does".to_owned()),
        }
    }

    /// Waits until it could serve. Returns where it does not listen any more.
    ///
    /// # Errors
    /// Why that is in vain.
    pub(in crate::daemon) fn wait_until_ready(
        &mut self,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<Vec<LeftAddress>, String> {
        let mut left = Vec::new();
        loop {
            match self.wait(give_up)? {
                Message::Leaves(more) => left.extend(more),
                Message::Ready => return Ok(left),
                _ => return Err("it does not speak as a glbd does".to_owned()),
            }
        }
    }

    /// Waits for something else.
    ///
    /// # Errors
    /// When that takes too long, or is given up.
    pub(in crate::daemon) fn wait_until(
        &mut self,
        what: &str,
        mut condition: impl FnMut() -> bool,
        give_up: &mut dyn FnMut() -> bool,
    ) -> Result<(), String> {
        while !condition() {
            if give_up() {
                return Err(INTERRUPTED.to_owned());
            }
            if Instant::now() > self.deadline {
                return Err(format!("{what} took more than {} s", PATIENCE.as_secs()));
            }
            std::thread::sleep(LOOK / 10);
        }
        Ok(())
    }

    /// Sends it everything.
    ///
    /// # Errors
    /// When that cannot be sent.
    pub(in crate::daemon) fn hand_over(&self, state: &State, offer: &Offer<'_>) -> io::Result<()> {
        let file = File::from(memfd_create(c"glbd-state", MFdFlags::MFD_CLOEXEC)?);
        (&file).write_all(&serde_json::to_vec(state)?)?;
        let listeners = offer.listeners.iter().map(|descriptor| (Role::Listener, *descriptor));
        let predecessors = offer.predecessors.iter().map(|link| (Role::Predecessor, link.as_fd()));
        let control = offer.control.iter().map(|descriptor| (Role::Control, *descriptor));
        let fifo = offer.fifo.map(|descriptor| (Role::Fifo, descriptor));
        let http = offer.http.map(|descriptor| (Role::Http, descriptor));
        let janitor = offer.janitor.map(|descriptor| (Role::Janitor, descriptor));
        let last = (Role::State, file.as_fd());
        let single = control.into_iter().chain(fifo).chain(http).chain(janitor).chain([last]);
        let all: Vec<_> = listeners.chain(predecessors).chain(single).collect();
        for part in all.chunks(sys::MAX_DESCRIPTORS) {
            let (roles, descriptors): (Vec<Role>, Vec<BorrowedFd<'_>>) = part.iter().copied().unzip();
            self.channel.send(&Message::Descriptors(roles), &descriptors)?;
        }
        Ok(())
    }

    /// Has it serve from now on, and waits until it does.
    ///
    /// # Errors
    /// Why that is in vain.
    pub(in crate::daemon) fn let_serve(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<(), String> {
        if self.channel.send(&Message::Go, &[]).is_err() {
            return Err(self.undecided.how_it_ended());
        }
        // It has what it needs. Of the time for its start, hardly any may be left.
        self.deadline = Instant::now() + PATIENCE;
        match self.wait(give_up)? {
            Message::Serving => Ok(()),
            _ => Err("it does not speak as a glbd does".to_owned()),
        }
    }

    /// Lets go of it: from now on it is nobody's child. There is no way back.
    pub(super) fn let_go(self) -> Channel {
        let Undecided(child) = &mut *ManuallyDrop::new(self.undecided);
        // That is only the one that waits for its end.
        let _ = child.kill();
        let _ = child.wait();
        self.channel
    }

    fn wait(&mut self, give_up: &mut dyn FnMut() -> bool) -> Result<Message, String> {
        loop {
            if give_up() {
                return Err(INTERRUPTED.to_owned());
            }
            match self.channel.receive_within(LOOK) {
                Ok(Some((Message::Failed(reason), _))) => return Err(reason),
                Ok(Some((message, _))) => return Ok(message),
                Ok(None) => return Err(self.undecided.how_it_ended()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(format!("it does not speak as a glbd does: {error}")),
            }
            if Instant::now() > self.deadline {
                return Err(format!("it was not ready within {} s", PATIENCE.as_secs()));
            }
        }
    }
}

impl Undecided {
    /// It closed its end of the conversation, which it does not do while it lives.
    fn how_it_ended(&mut self) -> String {
        let since = Instant::now();
        let status = loop {
            match self.0.try_wait() {
                Ok(Some(status)) => break status.to_string(),
                Ok(None) if since.elapsed() < LAST_BREATH => std::thread::sleep(LOOK),
                _ => break "no status".to_owned(),
            }
        };
        let complaint = self.complaint();
        let colon = if complaint.is_empty() { "" } else { ": " };
        format!("it ended with {status}{colon}{complaint}")
    }

    /// The first of what it wrote to stderr, if that is heard here.
    fn complaint(&mut self) -> String {
        let Some(stderr) = &mut self.0.stderr else { return String::new() };
        let mut text = [0; COMPLAINT];
        // Others may hold the other end open for long.
        let set = fcntl(&*stderr, FcntlArg::F_SETFL(OFlag::O_NONBLOCK));
        let length = set.map_or(Ok(0), |_| stderr.read(&mut text)).unwrap_or(0);
        String::from_utf8_lossy(&text[..length]).trim().replace(char::is_control, " ")
    }
}

impl Drop for Undecided {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.0.id()) {
            // They may have ended by themselves.
            let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _ = self.0.wait();
    }
}
