//! All that needs the rights of the user who started the program.

use std::fs::File;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use log::Level;
use socket2::{SockRef, Socket};

use super::prepared::{Notice, Prepared};
use super::service_manager::Sockets;
use super::{control_trouble, listen_trouble};
use crate::checker;
use crate::config::{Config, ProbeSpec};
use crate::control;
use crate::process::{Identity, Leftovers};
use crate::service;

/// Where the control FIFO is unless the command line says otherwise.
const DEFAULT_FIFO: &str = "/tmp/glbd.fifo";

/// What was opened, and what is to be removed at the end.
pub(super) struct Opened {
    pub listeners: Vec<mio::net::TcpListener>,
    pub control: Option<TcpListener>,
    pub fifo: Option<File>,
    pub doors: Doors,
}

/// All ways in once more: to close them for good without waiting for the threads that use them, and to hand them over.
pub(super) struct Doors {
    /// They are a service manager's, who goes on listening.
    borrowed: bool,
    listeners: Vec<Socket>,
    control: Option<Socket>,
    fifo: Option<File>,
}

impl Doors {
    pub(super) fn of(
        listeners: &[mio::net::TcpListener],
        control: Option<&TcpListener>,
        fifo: Option<&File>,
        borrowed: bool,
    ) -> io::Result<Doors> {
        Ok(Doors {
            borrowed,
            listeners: listeners.iter().map(|it| SockRef::from(it).try_clone()).collect::<io::Result<_>>()?,
            control: control.map(|it| SockRef::from(it).try_clone()).transpose()?,
            fifo: fifo.map(File::try_clone).transpose()?,
        })
    }

    /// Nobody listens any more, so that the next daemon can at once.
    pub(super) fn close(self) {
        if self.borrowed {
            return;
        }
        for socket in self.listeners.into_iter().chain(self.control) {
            // It fails on one that does not listen.
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    pub(super) fn are_borrowed(&self) -> bool {
        self.borrowed
    }

    pub(super) fn listeners(&self) -> Vec<BorrowedFd<'_>> {
        self.listeners.iter().map(AsFd::as_fd).collect()
    }

    pub(super) fn control(&self) -> Option<BorrowedFd<'_>> {
        self.control.as_ref().map(AsFd::as_fd)
    }

    pub(super) fn fifo(&self) -> Option<BorrowedFd<'_>> {
        self.fifo.as_ref().map(AsFd::as_fd)
    }
}

impl Opened {
    /// What another process has opened, a listening socket for each worker.
    pub(super) fn inherited(
        listeners: &[Socket],
        control: Option<Socket>,
        fifo: Option<File>,
        borrowed: bool,
        config: &Config,
    ) -> io::Result<Opened> {
        let listeners = service::adopt(listeners, listeners.len(), &config.service.connections)?;
        let control = control.map(TcpListener::from);
        let doors = Doors::of(&listeners, control.as_ref(), fifo.as_ref(), borrowed)?;
        Ok(Opened { listeners, control, fifo, doors })
    }
}

/// Opens everything that no service manager has opened, and gives up the rights that were needed for it.
pub(super) fn open(
    config: &Config,
    sockets: Sockets,
    prepared: &mut Prepared,
    leftovers: &mut Leftovers,
) -> Result<Opened, String> {
    let borrowed = sockets.are_any();
    let listeners = match &sockets.listeners[..] {
        [] => service::listen(prepared.listening, config.threads, &config.service.connections),
        sockets => service::adopt(sockets, config.threads, &config.service.connections),
    };
    let listeners = listeners.map_err(|error| listen_trouble(config, &error))?;
    let control = match (sockets.control, &config.control, prepared.control) {
        (Some(socket), ..) => Some(socket.into()),
        (None, Some(name), Some(address)) => {
            Some(TcpListener::bind(address).map_err(|error| control_trouble(name, &error))?)
        }
        _ => None,
    };
    let fifo = open_fifo(config, leftovers, &mut prepared.notices)?;
    let doors = Doors::of(&listeners, control.as_ref(), fifo.as_ref(), borrowed);
    let doors = doors.map_err(|error| format!("cannot listen: {error}"))?;
    if let Some(path) = &config.pidfile {
        leftovers.write_pidfile(path)?;
    }
    if config.pool.watchdog.as_ref().is_some_and(|options| matches!(options.probe, ProbeSpec::Exec(_))) {
        leftovers.add_marked_processes(checker::mark());
    }
    let identity = prepared.identity.as_ref();
    leftovers.prepare_for(identity).map_err(|error| format!("cannot start the janitor: {error}"))?;
    identity.map_or(Ok(()), Identity::assume)?;
    Ok(Opened { listeners, control, fifo, doors })
}

/// Where the control FIFO is to be.
pub(super) fn fifo_path(config: &Config) -> &Path {
    config.fifo.as_deref().unwrap_or(Path::new(DEFAULT_FIFO))
}

fn open_fifo(config: &Config, leftovers: &mut Leftovers, notices: &mut Vec<Notice>) -> Result<Option<File>, String> {
    let path = fifo_path(config);
    control::remove_stale_fifo(path);
    match control::create_fifo(path) {
        Ok(fifo) => {
            leftovers.add(path.to_owned());
            Ok(Some(fifo))
        }
        // Nobody asked for it: another daemon that has it is no reason not to start.
        Err(error) if config.fifo.is_none() => {
            notices.push((Level::Warn, format!("there is no control FIFO {}: {error}", path.display())));
            Ok(None)
        }
        Err(error) => Err(format!("cannot make the FIFO {}: {error}", path.display())),
    }
}
