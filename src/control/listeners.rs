//! The control sockets that listen, which take turns.

use std::io::{self, ErrorKind};

use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use socket2::{Domain, Socket};

use super::stream::{ControlStream, Peer};

/// A control socket that is to be listened at.
pub struct ControlListener {
    /// Tells it from the others.
    pub name: String,
    /// Listening; `None`: one of this name is listened at already.
    pub socket: Option<Socket>,
    /// Nothing can be changed through it.
    pub read_only: bool,
}

/// A client that has come.
pub(super) struct Caller {
    pub stream: ControlStream,
    pub peer: Peer,
    pub read_only: bool,
}

#[derive(Default)]
pub(super) struct Listeners {
    all: Vec<Listener>,
    /// How many there have been.
    count: usize,
    /// Whose turn it is.
    next: usize,
}

struct Listener {
    name: String,
    read_only: bool,
    token: Token,
    kind: Kind,
    /// There may be a client.
    ready: bool,
}

enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Kind {
    fn of(socket: Socket) -> io::Result<Kind> {
        socket.set_nonblocking(true)?;
        match socket.domain()? {
            Domain::UNIX => Ok(Kind::Unix(UnixListener::from_std(socket.into()))),
            _ => Ok(Kind::Tcp(TcpListener::from_std(socket.into()))),
        }
    }

    fn source(&mut self) -> &mut dyn Source {
        match self {
            Kind::Tcp(listener) => listener,
            Kind::Unix(listener) => listener,
        }
    }

    fn accept(&self) -> io::Result<(ControlStream, Peer)> {
        match self {
            Kind::Tcp(listener) => {
                let (stream, peer) = listener.accept()?;
                Ok((ControlStream::Tcp(stream), Peer::Address(peer)))
            }
            Kind::Unix(listener) => {
                let (stream, _) = listener.accept()?;
                let peer = ControlStream::peer_of(&stream);
                Ok((ControlStream::Unix(stream), peer))
            }
        }
    }
}

impl Listeners {
    /// The tokens of listening sockets; those of conversations lie below.
    const FIRST_TOKEN: usize = usize::MAX / 2;

    /// Listens at these sockets and no others.
    ///
    /// # Errors
    /// When the kernel cannot watch one of them; all others are listened at.
    pub(super) fn set(&mut self, wanted: Vec<ControlListener>, registry: &Registry) -> io::Result<()> {
        let mut result = Ok(());
        let stays = |it: &Listener| wanted.iter().any(|new| new.name == it.name && new.socket.is_none());
        let (staying, leaving) = std::mem::take(&mut self.all).into_iter().partition(stays);
        self.all = staying;
        close_all(leaving, registry);
        for ControlListener { name, socket, read_only } in wanted {
            match socket {
                Some(socket) => {
                    if let Err(error) = self.add(name, socket, read_only, registry) {
                        result = Err(error);
                    }
                }
                None => self.all.iter_mut().filter(|it| it.name == name).for_each(|it| it.read_only = read_only),
            }
        }
        result
    }

    fn add(&mut self, name: String, socket: Socket, read_only: bool, registry: &Registry) -> io::Result<()> {
        let (token, mut kind) = (Token(Listeners::FIRST_TOKEN + self.count), Kind::of(socket)?);
        kind.source().register(registry, token, Interest::READABLE)?;
        self.count += 1;
        self.all.push(Listener { name, read_only, token, kind, ready: true });
        Ok(())
    }

    /// Closes all. Other processes may have the sockets as well.
    pub(super) fn close(&mut self, registry: &Registry) {
        close_all(std::mem::take(&mut self.all), registry);
    }

    /// Takes note of a client that waits. Returns false if the token is that of a conversation.
    pub(super) fn on_event(&mut self, token: Token) -> bool {
        self.all.iter_mut().filter(|it| it.token == token).for_each(|it| it.ready = true);
        token.0 >= Listeners::FIRST_TOKEN
    }

    /// Whether a client may wait at one.
    pub(super) fn are_ready(&self) -> bool {
        self.all.iter().any(|it| it.ready)
    }

    /// Takes the next client; `None`: there is none.
    ///
    /// # Errors
    /// Those of accept(2) that are not a single client's.
    pub(super) fn accept(&mut self) -> io::Result<Option<Caller>> {
        let count = self.all.len();
        for turn in 0..count {
            let index = (self.next + turn) % count;
            let listener = &mut self.all[index];
            while listener.ready {
                match listener.kind.accept() {
                    Ok((stream, peer)) => {
                        self.next = index + 1;
                        return Ok(Some(Caller { stream, peer, read_only: listener.read_only }));
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => listener.ready = false,
                    Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::ConnectionAborted) => {}
                    // The socket was shut down: the daemon is about to end.
                    Err(error) if error.raw_os_error() == Some(libc::EINVAL) => listener.ready = false,
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(None)
    }
}

/// While another process has a socket, the kernel would go on to tell of its clients.
fn close_all(listeners: Vec<Listener>, registry: &Registry) {
    for mut listener in listeners {
        let _ = listener.kind.source().deregister(registry);
    }
}
