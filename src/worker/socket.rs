//! The stream sockets that a flow moves bytes between.
//!
//! A flow is generic over them, so that tests choose each result and each event, in orders that a kernel rarely brings
//! about. For the kernel's sockets the compiler makes the code that it would make without the trait.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use mio::net::TcpStream;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;
use socket2::SockRef;

/// What a pipe holds, in bytes, where every piece fills a page. Network cards deliver pieces of 1,448 bytes, of which
/// each takes the place of a page.
const PIPE_SIZE: usize = 1024 * 1024;

/// A connected stream socket that does not block: its calls fail with `WouldBlock` where they would have to wait.
pub(super) trait Socket: Sized {
    /// What bytes go through from one socket to another without being copied.
    type Pipe;

    /// Opens a pipe.
    ///
    /// # Errors
    /// When no descriptor is left, or no memory.
    fn open_pipe() -> io::Result<Self::Pipe>;

    /// Receives as much as there is, up to the buffer's length; 0 at the end.
    ///
    /// # Errors
    /// Those of recv(2).
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Sends as much as there is room for. With `more`, the kernel may keep the bytes back, because others or the end
    /// follow at once.
    ///
    /// # Errors
    /// Those of send(2).
    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize>;

    /// Moves up to `most` received bytes into a pipe; 0 at the end.
    ///
    /// # Errors
    /// `EAGAIN` when there is nothing to read (or the pipe is full), and those of recv(2).
    fn splice_into(&self, pipe: &Self::Pipe, most: usize) -> io::Result<usize>;

    /// Sends up to `most` bytes out of a pipe.
    ///
    /// # Errors
    /// `EAGAIN` when there is no room now, and those of send(2).
    fn splice_out_of(&self, pipe: &Self::Pipe, most: usize) -> io::Result<usize>;
}

/// The two ends of a pipe(2).
pub(super) struct KernelPipe {
    reading: OwnedFd,
    writing: OwnedFd,
}

impl Socket for TcpStream {
    type Pipe = KernelPipe;

    fn open_pipe() -> io::Result<KernelPipe> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Refused to users who have many pipes already; then copying is as good.
        fcntl(&writing, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE as i32))?;
        Ok(KernelPipe { reading, writing })
    }

    #[inline]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut stream = self;
        stream.read(buffer)
    }

    #[inline]
    fn send(&self, bytes: &[u8], more: bool) -> io::Result<usize> {
        let more = if more { libc::MSG_MORE } else { 0 };
        SockRef::from(self).send_with_flags(bytes, more | libc::MSG_NOSIGNAL)
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
