//! The kernel's stream sockets, of TCP and UNIX ones alike.

use std::fmt;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use mio::event::Source;
use mio::net::TcpStream;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

use super::socket::Socket;

/// What a pipe holds, in bytes, where every piece fills a page. Network cards deliver pieces of 1,448 bytes, of which
/// each takes the place of a page.
const PIPE_SIZE: usize = 1024 * 1024;

/// A connected stream socket of the kernel's that does not block. What it has to do is the same for TCP and for UNIX
/// sockets, of which the latter know no reset: what is broken there ends as if it had been closed. (If something was
/// left unread, the kernel reports a reset by itself.)
pub(super) struct Stream(socket2::Socket);

impl Stream {
    /// Reads without taking.
    ///
    /// # Errors
    /// Those of recv(2).
    pub(super) fn peek(&self) -> io::Result<usize> {
        self.0.peek(&mut [MaybeUninit::uninit()])
    }

    /// Half-closes it.
    ///
    /// # Errors
    /// Those of shutdown(2).
    pub(super) fn end(&self) -> io::Result<()> {
        self.0.shutdown(Shutdown::Write)
    }

    /// Has closing it reset the connection. Where that cannot be, it is closed the ordinary way.
    pub(super) fn reset_on_close(&self) {
        let _ = self.0.set_linger(Some(Duration::ZERO));
    }

    /// The error that it has met, which it forgets.
    ///
    /// # Errors
    /// Those of getsockopt(2).
    pub(super) fn take_error(&self) -> io::Result<Option<io::Error>> {
        self.0.take_error()
    }

    /// Its own address. `None`: it is a UNIX socket.
    ///
    /// # Errors
    /// Those of getsockname(2).
    pub(super) fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        self.0.local_addr().map(|address| address.as_socket())
    }
}

impl From<socket2::Socket> for Stream {
    fn from(socket: socket2::Socket) -> Stream {
        Stream(socket)
    }
}

impl From<TcpStream> for Stream {
    fn from(stream: TcpStream) -> Stream {
        Stream(std::net::TcpStream::from(stream).into())
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Source for Stream {
    fn register(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).register(registry, token, interests)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, interests: Interest) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).reregister(registry, token, interests)
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        SourceFd(&self.0.as_raw_fd()).deregister(registry)
    }
}

/// The two ends of a pipe(2).
pub(super) struct KernelPipe {
    reading: OwnedFd,
    writing: OwnedFd,
}

impl Socket for Stream {
    type Pipe = KernelPipe;

    fn open_pipe() -> io::Result<KernelPipe> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Refused to users who have many pipes already; then copying is as good.
        fcntl(&writing, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE as i32))?;
        Ok(KernelPipe { reading, writing })
    }

    #[inline]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut socket = &self.0;
        socket.read(buffer)
    }

    #[inline]
    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let more = if more { libc::MSG_MORE } else { 0 };
        self.0.send_with_flags(bytes, more | libc::MSG_NOSIGNAL)
    }

    #[inline]
    fn splice_into(&self, pipe: &KernelPipe, most: usize) -> io::Result<usize> {
        Ok(splice(self.as_fd(), None, &pipe.writing, None, most, splice_flags())?)
    }

    #[inline]
    fn splice_out_of(&self, pipe: &KernelPipe, most: usize) -> io::Result<usize> {
        Ok(splice(&pipe.reading, None, self.as_fd(), None, most, splice_flags())?)
    }
}

fn splice_flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}
