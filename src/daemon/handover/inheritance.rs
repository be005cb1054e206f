//! What a new process gets from the one that it takes over from.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::fd::OwnedFd;
use std::time::Duration;

use socket2::Socket;

use super::{Channel, LeftAddress, Message, PORTION, PROTOCOL, PredecessorLink, Role, State};
use crate::sys;

/// Has the number of the descriptor that the conversation is held through.
pub(super) const ENVIRONMENT: &str = "GLBD_TAKE_OVER";
/// How long the old process may take to say something.
const PATIENCE: Duration = Duration::from_secs(30);
/// Longest reason, in characters.
const MAX_REASON: usize = 1000;

/// The process that this one is to take over from.
pub(in crate::daemon) struct Predecessor(Channel);

/// Everything that it hands over.
pub(in crate::daemon) struct Inheritance {
    pub state: State,
    pub listeners: Vec<Socket>,
    pub control: Vec<Socket>,
    pub http: Option<Socket>,
    pub fifo: Option<File>,
    pub janitor: Option<OwnedFd>,
    /// Those before it which still have connections.
    pub predecessors: Vec<PredecessorLink>,
}

impl Predecessor {
    /// The process that has started this one to be its successor, if one has.
    ///
    /// # Errors
    /// When there is no such process after all.
    pub(in crate::daemon) fn from_environment() -> Result<Option<Predecessor>, String> {
        let Some(number) = std::env::var_os(ENVIRONMENT) else { return Ok(None) };
        let told = |reason: String| format!("nobody to take over from, as {ENVIRONMENT} says: {reason}");
        let number = number.to_string_lossy().parse().map_err(|_| told("it is not a number".to_owned()))?;
        let channel = sys::take_inherited(number).map(Channel::from).map_err(|error| told(error.to_string()))?;
        // What this process starts is not meant.
        sys::forget_variable(ENVIRONMENT);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        let hello = Message::Hello { protocol: PROTOCOL, version, pid: std::process::id() };
        channel.send(&hello, &[]).map_err(|error| told(error.to_string()))?;
        Ok(Some(Predecessor(channel)))
    }

    /// Takes everything.
    ///
    /// # Errors
    /// When not all of it comes.
    pub(in crate::daemon) fn inherit(&self) -> io::Result<Inheritance> {
        let (mut listeners, mut control, mut predecessors) = (Vec::new(), Vec::new(), Vec::new());
        let (mut fifo, mut http, mut janitor, mut state) = (None, None, None, None);
        let state: State = loop {
            if let Some(state) = state {
                break state;
            }
            let (message, descriptors) = self.0.receive_within(PATIENCE)?.ok_or(io::ErrorKind::UnexpectedEof)?;
            let Message::Descriptors(roles) = message else { return Err(io::ErrorKind::InvalidData.into()) };
            for (role, descriptor) in roles.into_iter().zip(descriptors) {
                match role {
                    Role::Listener => listeners.push(Socket::from(descriptor)),
                    Role::Control => control.push(Socket::from(descriptor)),
                    Role::Fifo => fifo = Some(File::from(descriptor)),
                    Role::Http => http = Some(Socket::from(descriptor)),
                    Role::Janitor => janitor = Some(descriptor),
                    Role::Predecessor => predecessors.push(Channel::from(descriptor)),
                    Role::State => state = Some(read_state(File::from(descriptor))?),
                }
            }
        };
        let pids = state.predecessor_pids.iter().copied().chain(std::iter::repeat(None));
        let links = predecessors.into_iter().zip(&state.predecessors).zip(pids);
        let link = |((channel, (connections, orders)), pid): ((_, &(_, Vec<_>)), _)| {
            PredecessorLink::new(channel, pid, connections, orders)
        };
        let predecessors = links.map(link).collect();
        Ok(Inheritance { state, listeners, control, http, fifo, janitor, predecessors })
    }

    /// Says that this process cannot take over.
    pub(in crate::daemon) fn refuse(&self, reason: &str) {
        let reason = reason.chars().take(MAX_REASON).collect();
        // Should it be gone, it needs no reason.
        let _ = self.0.send(&Message::Failed(reason), &[]);
    }

    /// Says that this process could serve, and which addresses it leaves, and waits for its turn; the old one's end is that as well.
    ///
    /// # Errors
    /// When it does not come.
    pub(in crate::daemon) fn wait_for_go(&self, left: &[LeftAddress]) -> io::Result<()> {
        // That it cannot be said is the old one's end, too.
        let leaves = left.chunks(PORTION).map(|portion| Message::Leaves(portion.to_vec()));
        let _ = leaves.chain([Message::Ready]).try_for_each(|message| self.0.send(&message, &[]));
        match self.0.receive_within(PATIENCE)? {
            Some((Message::Go, _)) | None => Ok(()),
            Some(_) => Err(io::ErrorKind::InvalidData.into()),
        }
    }

    /// Says that this process serves, and returns what becomes of the old one.
    pub(in crate::daemon) fn step_down(self, state: &State) -> PredecessorLink {
        // Should it be gone, it has stepped down already.
        let _ = self.0.send(&Message::Serving, &[]);
        PredecessorLink::new(self.0, state.answers.then_some(state.pid), &state.connections, &[])
    }
}

fn read_state(mut file: File) -> io::Result<State> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(serde_json::from_slice(&text)?)
}
