//! The control sockets: opened, handed over, and changed by a reload.

use std::fmt::Display;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use nix::unistd::{Gid, Uid};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};

use crate::address::Endpoint;
use crate::config::{ControlAddress, ControlPlace, parse_control};
use crate::control::ControlListener;
use crate::process::Identity;
use crate::process::socket_file::{self, LONGEST_PATH, ResolvedAccess, SocketAccess};
use crate::resolve;

/// As that of the standard library's listeners.
const BACKLOG: i32 = 128;
/// Of a socket file that a service manager has made, whatever it is.
const UNKNOWN_ACCESS: SocketAccess = SocketAccess { owner: None, group: None, mode: 0o600 };

/// A control address, or one of its kind, whose names have been looked up.
#[derive(Debug, Clone)]
pub(super) struct ControlSpot {
    pub address: ControlAddress,
    at: At,
    purpose: Purpose,
}

/// What is spoken at an address.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// The control protocol.
    Control,
    /// HTTP.
    Http,
}

impl Purpose {
    /// The line that says why it cannot be spoken there.
    pub(super) fn trouble(self, address: &ControlAddress, error: impl Display) -> String {
        match self {
            Purpose::Control => format!("cannot open the control socket on {address}: {error}"),
            Purpose::Http => format!("cannot speak HTTP on {address}: {error}"),
        }
    }

    /// What its socket is called.
    fn socket(self) -> &'static str {
        match self {
            Purpose::Control => "control socket",
            Purpose::Http => "HTTP socket",
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum At {
    Tcp(SocketAddr),
    Unix(ResolvedAccess),
}

/// A control socket that listens.
pub(super) struct ControlDoor {
    pub address: ControlAddress,
    /// It is a service manager's.
    pub borrowed: bool,
    socket: Socket,
}

/// What another process has to know of a control socket, beside its descriptor.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HandedControl {
    /// As on the command line.
    address: String,
    borrowed: bool,
}

impl ControlSpot {
    /// Looks up the names in an address. Files are for the user that the daemon becomes, unless another is asked for.
    ///
    /// # Errors
    /// One line that says which of them there is not.
    pub(super) fn locate(address: &ControlAddress, identity: Option<&Identity>) -> Result<ControlSpot, String> {
        ControlSpot::locate_for(Purpose::Control, address, identity)
    }

    /// The same for this purpose.
    ///
    /// # Errors
    /// One line that says which of the names there is not.
    pub(super) fn locate_for(
        purpose: Purpose,
        address: &ControlAddress,
        identity: Option<&Identity>,
    ) -> Result<ControlSpot, String> {
        let told = |error: String| purpose.trouble(address, error);
        let at = match &address.place {
            ControlPlace::Tcp(endpoint) => {
                At::Tcp(resolve::resolve(endpoint).map_err(|error| told(error.to_string()))?)
            }
            ControlPlace::Unix(path, _) if path.as_os_str().len() > LONGEST_PATH => {
                return Err(told(format!("the path is longer than {LONGEST_PATH} bytes")));
            }
            ControlPlace::Unix(_, access) => {
                let access = access.resolve().map_err(told)?;
                At::Unix(identity.map_or(access, |identity| access.or_of(identity.numbers())))
            }
        };
        Ok(ControlSpot { address: address.clone(), at, purpose })
    }

    /// Has a file that is there already be this process's where nothing else is asked for.
    pub(super) fn or_own(self) -> ControlSpot {
        let at = match self.at {
            At::Unix(access) => At::Unix(access.or_of((Uid::effective().as_raw(), Gid::effective().as_raw()))),
            at => at,
        };
        ControlSpot { at, ..self }
    }

    /// Where it is, unless it is a path.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        match self.at {
            At::Tcp(address) => Some(address),
            At::Unix(_) => None,
        }
    }

    /// Listens there.
    ///
    /// # Errors
    /// One line that says why not.
    pub(super) fn open(&self) -> Result<ControlDoor, String> {
        let socket = match (&self.address.place, self.at) {
            (ControlPlace::Unix(path, _), At::Unix(access)) => socket_file::listen(path, access, BACKLOG),
            (_, At::Tcp(address)) => listen_at(address),
            // Each place was located as what it is.
            (ControlPlace::Tcp(_), At::Unix(_)) => Err(io::ErrorKind::InvalidInput.into()),
        };
        let socket = socket.map_err(|error| self.purpose.trouble(&self.address, error))?;
        Ok(ControlDoor { address: self.address.clone(), borrowed: false, socket })
    }

    /// Has the file of a socket that listens there be for whom it is to be now.
    ///
    /// # Errors
    /// One line that says why that cannot be.
    pub(super) fn set_access(&self) -> Result<(), String> {
        match (self.address.path(), self.at) {
            (Some(path), At::Unix(access)) => socket_file::set_access(path, access)
                .map_err(|error| format!("the {} {}: {error}", self.purpose.socket(), self.address)),
            _ => Ok(()),
        }
    }
}

fn listen_at(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // What lingers in TIME_WAIT does not keep a new daemon from the port.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

impl ControlDoor {
    /// One that a service manager has opened. `None` if it is of no kind that can be listened at.
    pub(super) fn borrowed(socket: Socket, read_only: bool) -> Option<ControlDoor> {
        Some(ControlDoor { address: address_of(&socket, read_only)?, borrowed: true, socket })
    }

    /// What the older process of this daemon has handed over: how, if it has told.
    pub(super) fn handed(sockets: Vec<Socket>, told: &[HandedControl], borrowed: bool) -> Vec<ControlDoor> {
        let take = |(index, socket): (usize, Socket)| match told.get(index) {
            Some(told) => {
                let read_only = told.address.ends_with("read-only");
                let address = parse_control(&told.address).ok().or_else(|| address_of(&socket, read_only))?;
                Some(ControlDoor { address, borrowed: told.borrowed, socket })
            }
            None => Some(ControlDoor { address: address_of(&socket, false)?, borrowed, socket }),
        };
        sockets.into_iter().enumerate().filter_map(take).collect()
    }

    pub(super) fn to_hand_over(&self) -> HandedControl {
        HandedControl { address: self.address.spec(), borrowed: self.borrowed }
    }

    /// Where it is, unless it is a path.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        self.socket.local_addr().ok()?.as_socket()
    }

    /// The file, where one was made for it.
    pub(super) fn own_file(&self) -> Option<&Path> {
        self.address.path().filter(|_| !self.borrowed)
    }

    /// The same for the control thread.
    ///
    /// # Errors
    /// When there are no descriptors left.
    pub(super) fn listener(&self) -> io::Result<ControlListener> {
        Ok(ControlListener { socket: Some(self.socket.try_clone()?), ..self.known_listener() })
    }

    /// The same where the control thread listens to it already.
    pub(super) fn known_listener(&self) -> ControlListener {
        ControlListener { name: self.address.to_string(), socket: None, read_only: self.address.read_only }
    }

    pub(super) fn into_socket(self) -> Socket {
        self.socket
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// No process listens to it any more, but for a service manager.
    pub(super) fn close(self) {
        if !self.borrowed {
            let _ = self.socket.shutdown(Shutdown::Both);
        }
    }
}

/// What a socket says of itself.
fn address_of(socket: &Socket, read_only: bool) -> Option<ControlAddress> {
    let local = socket.local_addr().ok()?;
    let place = match (local.as_socket(), local.as_pathname()) {
        (Some(address), _) => ControlPlace::Tcp(Endpoint::from(address)),
        (None, Some(path)) => ControlPlace::Unix(path.to_owned(), UNKNOWN_ACCESS),
        (None, None) if local.is_unix() => ControlPlace::Unix("(without a name)".into(), UNKNOWN_ACCESS),
        (None, None) => return None,
    };
    Some(ControlAddress { place, read_only })
}

/// The control sockets that there are to be: those that are open already and wanted still, and, not open yet, the others.
/// Those of a service manager stand in the place of all others.
///
/// # Errors
/// One line that says why one cannot be.
pub(super) fn sort(
    wanted: &[ControlAddress],
    open: Vec<ControlDoor>,
    identity: Option<&Identity>,
) -> Result<Sorted, String> {
    if open.iter().any(|door| door.borrowed) {
        return Ok(Sorted { kept: open, ..Sorted::default() });
    }
    let mut sorted = Sorted::default();
    let mut open = open;
    for address in wanted {
        let spot = ControlSpot::locate(address, identity)?;
        match open.iter().position(|door| door.address.is_at_place_of(address)) {
            Some(index) => {
                let door = open.remove(index);
                sorted.changed.extend((door.address != *address).then(|| spot.or_own()));
                sorted.kept.push(ControlDoor { address: address.clone(), ..door });
            }
            None => sorted.missing.push(spot),
        }
    }
    sorted.unwanted = open;
    Ok(sorted)
}

/// See [`sort`].
#[derive(Default)]
pub(super) struct Sorted {
    pub kept: Vec<ControlDoor>,
    /// Those of them that are to be for others than before.
    pub changed: Vec<ControlSpot>,
    pub missing: Vec<ControlSpot>,
    pub unwanted: Vec<ControlDoor>,
}

impl Sorted {
    /// Those that are wanted, as far as they are no paths; and whether they are read-only.
    pub(super) fn addresses(&self) -> impl Iterator<Item = (SocketAddr, bool)> {
        let kept = self.kept.iter().filter_map(|it| Some((it.socket_address()?, it.address.read_only)));
        kept.chain(self.missing.iter().filter_map(|it| Some((it.socket_address()?, it.address.read_only))))
    }
}
