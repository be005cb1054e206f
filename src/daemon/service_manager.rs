//! What a service manager such as systemd does for the daemon, and hears from it: sd_listen_fds(3) and sd_notify(3).

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crossbeam_channel::bounded;
use log::warn;
use sd_notify::NotifyState;
use socket2::Socket;

use super::listening::{Door, ListenPlace, address};
use crate::address::PeerAddress;
use crate::config::{Name, ServiceConfig};
use crate::pool::health::Verdict;
use crate::process::Leftovers;
use crate::repeat::{self, Repeating};
use crate::service::{self, Inventory};
use crate::supervise;
use crate::sys;

/// The names by which control sockets are told from those for clients: `FileDescriptorName=` in their units.
const CONTROL: &str = "control";
const READ_ONLY_CONTROL: &str = "control-read-only";
/// Says where it listens.
const SOCKET: &str = "NOTIFY_SOCKET";
/// How long it may take to hear what it is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often it is told the status text, and how long after the start for the first time.
const STATUS: Duration = Duration::from_secs(5);
const FIRST_STATUS: Duration = Duration::from_millis(300);

/// The sockets that it has opened.
#[derive(Default)]
pub(super) struct Sockets {
    /// For clients, each with the name that it has.
    pub listeners: Vec<(String, Socket)>,
    /// And whether they are read-only.
    pub control: Vec<(Socket, bool)>,
}

impl Sockets {
    /// Those that are meant for this process; mostly there are none.
    ///
    /// # Errors
    /// When what it says of them makes no sense.
    pub(super) fn take() -> io::Result<Sockets> {
        let mut sockets = Sockets::default();
        for (number, name) in sd_notify::listen_fds_with_names()? {
            let socket = Socket::from(sys::take_inherited(number)?);
            match name.as_str() {
                CONTROL | READ_ONLY_CONTROL => sockets.control.push((socket, name == READ_ONLY_CONTROL)),
                _ => sockets.listeners.push((name, socket)),
            }
        }
        Ok(sockets)
    }

    pub(super) fn are_any(&self) -> bool {
        !self.listeners.is_empty() || !self.control.is_empty()
    }

    /// The sockets of each service: of that which is called as they are, or of the only one.
    ///
    /// # Errors
    /// One line that names a socket which is no service's, or for no TCP clients.
    pub(super) fn by_service(&mut self, services: &[ServiceConfig]) -> Result<Vec<Door>, String> {
        let mut doors: Vec<Door> = Vec::new();
        for (name, socket) in self.listeners.drain(..) {
            let service = match services {
                [only] => Some(only),
                several => several.iter().find(|it| *it.name == *name),
            };
            let service = service.ok_or_else(|| {
                format!("the service manager's socket '{name}': no service is called that (FileDescriptorName=)")
            })?;
            let at = place(&socket).ok_or_else(|| {
                format!("the service manager's socket '{name}' is not for TCP or UNIX stream connections")
            })?;
            // With ReusePort=yes, several may share an address.
            match doors.iter_mut().find(|door| door.service == service.name && door.place.at == at) {
                Some(door) => door.sockets.push(socket),
                None => doors.push(Door {
                    service: Name::clone(&service.name),
                    place: ListenPlace { listen: at.into(), at },
                    interface: None,
                    borrowed: true,
                    sockets: vec![socket],
                    group: None,
                    made: Leftovers::default(),
                }),
            }
        }
        Ok(doors)
    }
}

/// Where clients connect to a socket.
fn place(socket: &Socket) -> Option<PeerAddress> {
    match service::path_of(socket).ok()? {
        Some(path) => Some(PeerAddress::Unix(path)),
        None => address(socket).map(PeerAddress::from),
    }
}

/// This process serves.
pub(super) fn say_ready() {
    say(Message::from([NotifyState::Ready]));
}

/// Another process is about to take over.
pub(super) fn say_reloading() {
    let now = NotifyState::monotonic_usec_now().ok();
    say(std::iter::once(NotifyState::Reloading).chain(now).collect());
}

/// What the service does, for people.
pub(super) fn say_status(status: &str) {
    say(Message::from([NotifyState::Status(status)]));
}

/// From now on, that other process is the daemon. Returns when this was heard: the service manager does not listen to a
/// process that has ended.
pub(super) fn say_successor(pid: u32) {
    say(Message::from([NotifyState::MainPid(pid), NotifyState::Ready]));
    within_reason(|| {
        let (heard, unheard) = io::pipe()?;
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[unheard.as_fd()])?;
        drop(unheard);
        // Closed by the service manager, or by the kernel where there is none.
        io::copy(&mut &heard, &mut io::sink()).map(drop)
    });
}

/// Lines of a message, which can be sent by another thread.
struct Message(String);

impl<'a> FromIterator<NotifyState<'a>> for Message {
    fn from_iter<T: IntoIterator<Item = NotifyState<'a>>>(states: T) -> Message {
        Message(states.into_iter().map(|state| format!("{state}\n")).collect())
    }
}

impl<'a, const N: usize> From<[NotifyState<'a>; N]> for Message {
    fn from(states: [NotifyState<'a>; N]) -> Message {
        states.into_iter().collect()
    }
}

fn say(Message(text): Message) {
    within_reason(move || sd_notify::notify(&[NotifyState::Custom(text.trim_end())]));
}

/// Does something in a thread of its own, and waits for it for a moment only: a service manager that hangs must not hold up
/// the daemon.
fn within_reason(talk: impl FnOnce() -> io::Result<()> + Send + 'static) {
    if std::env::var_os(SOCKET).is_none() {
        return;
    }
    let (said, heard) = bounded(1);
    let talking = supervise::spawn("notify", move || said.send(talk()));
    let late = || io::Error::from(io::ErrorKind::TimedOut);
    let told = talking.and_then(|_| heard.recv_timeout(PATIENCE).map_err(|_| late())?);
    if let Err(error) = told {
        warn!("cannot tell the service manager how far the daemon is: {error}");
    }
}

/// Tells the status text again and again for as long as what this returns is not dropped. `None` where nobody reads it.
pub(super) fn show_status(inventory: &Inventory, paused: &Arc<AtomicBool>) -> Option<Repeating> {
    std::env::var_os(SOCKET)?;
    let (inventory, paused) = (inventory.clone(), Arc::clone(paused));
    let show = move || {
        let setup = inventory.now();
        let places: Vec<String> = setup.services.iter().map(|it| it.config.listen.to_string()).collect();
        let destinations: Vec<_> = setup.pools.iter().flat_map(|it| it.pool.snapshot()).collect();
        let is_fit = |verdict| verdict == Some(Verdict::Ready);
        let fit = destinations.iter().filter(|it| it.weight > 0.0 && is_fit(it.health.verdict)).count();
        let (place, count, connections) = (places.join(", "), destinations.len(), setup.connections());
        let doing = if paused.load(Ordering::Relaxed) { "Paused" } else { "Serving" };
        let status = format!("{doing} on {place}: {fit} of {count} destinations fit, connections: {connections}");
        // Also when nothing has changed: a process that has just taken over is not listened to at once. And whether it
        // is heard was seen at the start.
        let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
        true
    };
    repeat::start("status", FIRST_STATUS, STATUS, show)
        .inspect_err(|error| warn!("cannot show the status: {error}"))
        .ok()
}
