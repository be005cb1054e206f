//! What a service manager such as systemd does for the daemon, and hears from it: sd_listen_fds(3) and sd_notify(3).

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use log::warn;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use sd_notify::NotifyState;
use socket2::Socket;

use crate::address::ListenAddress;
use crate::repeat::{self, Repeating};
use crate::sys;
use crate::table::Table;
use crate::table::health::Verdict;

/// The name by which the control socket is told from those for clients: `FileDescriptorName=` in its unit.
const CONTROL: &str = "control";
/// How long the service manager may take to hear what it is told, in milliseconds.
const BARRIER: u16 = 1000;
/// How often it is seen whether the status text is still right.
const STATUS: Duration = Duration::from_secs(5);

/// The sockets that it has opened.
#[derive(Default)]
pub(super) struct Sockets {
    pub listeners: Vec<Socket>,
    pub control: Option<Socket>,
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
                CONTROL => sockets.control = Some(socket),
                _ => sockets.listeners.push(socket),
            }
        }
        Ok(sockets)
    }

    pub(super) fn are_any(&self) -> bool {
        !self.listeners.is_empty() || self.control.is_some()
    }

    /// Where clients connect to, if that is decided by it.
    pub(super) fn listening(&self) -> Option<SocketAddr> {
        self.listeners.first().and_then(address)
    }
}

/// A socket's own address.
pub(super) fn address(socket: &Socket) -> Option<SocketAddr> {
    socket.local_addr().ok()?.as_socket()
}

/// This process serves.
pub(super) fn say_ready() {
    say(&[NotifyState::Ready]);
}

/// Another process is about to take over.
pub(super) fn say_reloading() {
    let now = NotifyState::monotonic_usec_now().ok();
    let states: Vec<NotifyState<'_>> = std::iter::once(NotifyState::Reloading).chain(now).collect();
    say(&states);
}

/// From now on, that other process is the daemon. Returns when this was heard: the service manager does not listen to a
/// process that has ended.
pub(super) fn say_successor(pid: u32) {
    say(&[NotifyState::MainPid(pid), NotifyState::Ready]);
    let heard = io::pipe().and_then(|(heard, unheard)| {
        sd_notify::notify_with_fds(&[NotifyState::Custom("BARRIER=1")], &[unheard.as_fd()])?;
        Ok(heard)
    });
    if let Ok(heard) = heard {
        let mut closed = [PollFd::new(heard.as_fd(), PollFlags::empty())];
        // After that, it goes on without a word.
        let _ = poll(&mut closed, PollTimeout::from(BARRIER));
    }
}

/// What the service does, for people.
pub(super) fn say_status(status: &str) {
    say(&[NotifyState::Status(status)]);
}

fn say(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot tell the service manager how far the daemon is: {error}");
    }
}

/// Keeps the status text up to date for as long as what this returns is not dropped. `None` where nobody reads it.
pub(super) fn show_status(listen: &ListenAddress, table: &Table) -> Option<Repeating> {
    std::env::var_os("NOTIFY_SOCKET")?;
    let (place, table, mut before) = (listen.to_string(), table.clone(), String::new());
    let show = move || {
        let destinations = table.snapshot();
        let is_fit = |verdict| verdict == Some(Verdict::Ready);
        let fit = destinations.iter().filter(|it| it.weight > 0.0 && is_fit(it.health.verdict)).count();
        let (count, connections) = (destinations.len(), table.connections());
        let status = format!("Serving on {place}: {fit} of {count} destinations fit, connections: {connections}");
        if status != before {
            // Whether it is heard was seen at the start.
            let _ = sd_notify::notify(&[NotifyState::Status(&status)]);
            before = status;
        }
        true
    };
    repeat::start("status", Duration::ZERO, STATUS, show)
        .inspect_err(|error| warn!("cannot show the status: {error}"))
        .ok()
}
