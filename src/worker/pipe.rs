//! Pipes for splice(2), which moves bytes from socket to socket without copying them.
//!
//! A pipe costs two descriptors, and kernel memory while it is full, so a flow has one only while it carries bulk. They
//! are lent out from a pool that each worker keeps; the number of all is bounded.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use mio::net::TcpStream;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

/// What a pipe holds, in bytes, where every piece fills a page. Network cards deliver pieces of 1,448 bytes, of which
/// each takes the place of a page.
const PIPE_SIZE: usize = 1024 * 1024;
/// Pipes that a worker keeps for the next flow.
const MAX_IDLE: usize = 4;

/// A pipe, and how much is in it.
pub(super) struct Pipe {
    reading: OwnedFd,
    writing: OwnedFd,
    bytes: usize,
    _permit: Permit,
}

impl Pipe {
    fn new(permit: Permit) -> io::Result<Pipe> {
        let (reading, writing) = pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        // Refused to users who have many pipes already; then copying is as good.
        fcntl(&writing, FcntlArg::F_SETPIPE_SZ(PIPE_SIZE as i32))?;
        Ok(Pipe { reading, writing, bytes: 0, _permit: permit })
    }

    /// Whether everything that went in has come out.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Takes in up to so much of what a socket has to read; 0 at its end.
    ///
    /// # Errors
    /// `EAGAIN` when there is nothing to read (or the pipe is full), and those of recv(2).
    pub(super) fn fill_from(&mut self, source: &TcpStream, most: usize) -> io::Result<usize> {
        let count = splice(source.as_fd(), None, &self.writing, None, most, flags())?;
        self.bytes += count;
        Ok(count)
    }

    /// Lets a socket have what it takes.
    ///
    /// # Errors
    /// `EAGAIN` when it takes nothing now, and those of send(2).
    pub(super) fn empty_into(&mut self, sink: &TcpStream) -> io::Result<usize> {
        let count = splice(&self.reading, None, sink.as_fd(), None, self.bytes, flags())?;
        self.bytes = self.bytes.saturating_sub(count);
        Ok(count)
    }
}

fn flags() -> SpliceFFlags {
    SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK
}

/// How many pipes there may be, in all workers together.
#[derive(Clone)]
pub(super) struct PipeBudget(Arc<AtomicUsize>);

struct Permit(PipeBudget);

impl PipeBudget {
    pub(super) fn new(pipes: usize) -> PipeBudget {
        PipeBudget(Arc::new(AtomicUsize::new(pipes)))
    }

    fn permit(&self) -> Option<Permit> {
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.is_ok().then(|| Permit(self.clone()))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// One worker's pipes.
pub(super) struct PipePool {
    idle: Vec<Pipe>,
    budget: PipeBudget,
}

impl PipePool {
    pub(super) fn new(budget: PipeBudget) -> PipePool {
        PipePool { idle: Vec::new(), budget }
    }

    /// An empty pipe. `None`: there can be no more now.
    pub(super) fn lend(&mut self) -> Option<Pipe> {
        self.idle.pop().or_else(|| Pipe::new(self.budget.permit()?).ok())
    }

    /// Closes those that are not lent.
    pub(super) fn clear(&mut self) {
        self.idle.clear();
    }

    /// Takes a pipe back. One with something in it is of no use any more, and closed.
    pub(super) fn give_back(&mut self, pipe: Pipe) {
        if pipe.is_empty() && self.idle.len() < MAX_IDLE {
            self.idle.push(pipe);
        }
    }
}
