//! The stream sockets that a flow moves bytes between.
//!
//! A flow is generic over them, so that tests choose each result and each event, in orders that a kernel rarely brings
//! about. For the kernel's sockets the compiler makes the code that it would make without the trait.

use std::io;

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
