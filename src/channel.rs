//! The socket between two processes of glbd, one message at a time.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use serde::Serialize;
use serde::de::DeserializeOwned;
use socket2::SockRef;

use crate::sys;

/// Longest message, in bytes.
const MAX_MESSAGE: usize = 64 * 1024;

/// How long the other end may leave everything unread before sending fails.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads a message.
///
/// # Errors
/// `InvalidData` for what is none.
pub fn parse<M: DeserializeOwned>(text: &[u8]) -> io::Result<M> {
    Ok(serde_json::from_slice(text)?)
}

/// One end of a socket that keeps messages apart.
#[derive(Debug)]
pub struct Channel(OwnedFd);

impl From<OwnedFd> for Channel {
    fn from(descriptor: OwnedFd) -> Channel {
        Channel(descriptor)
    }
}

impl From<Channel> for OwnedFd {
    fn from(channel: Channel) -> OwnedFd {
        channel.0
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Channel {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Channel {
    /// The two ends of a new one.
    ///
    /// # Errors
    /// Those of socketpair(2).
    pub fn pair() -> io::Result<(Channel, Channel)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, other) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        for end in [&one, &other] {
            SockRef::from(end).set_write_timeout(Some(PATIENCE))?;
        }
        Ok((Channel(one), Channel(other)))
    }

    /// The same end once more.
    ///
    /// # Errors
    /// When there is no descriptor left.
    pub fn try_clone(&self) -> io::Result<Channel> {
        self.0.try_clone().map(Channel)
    }

    /// From now on, sending and receiving fail with `WouldBlock` rather than wait.
    ///
    /// # Errors
    /// Those of fcntl(2); none is expected.
    pub fn never_wait(&self) -> io::Result<()> {
        SockRef::from(&self.0).set_nonblocking(true)
    }

    /// Ends the conversation, on this end and all that are the same.
    pub fn close(&self) {
        // It fails only when the other end is gone.
        let _ = SockRef::from(&self.0).shutdown(std::net::Shutdown::Both);
    }

    /// Sends a message, and with it up to [`sys::MAX_DESCRIPTORS`] descriptors.
    ///
    /// # Errors
    /// Those of sendmsg(2); `WouldBlock` when the other end has left everything unread for a second.
    pub fn send<M: Serialize>(&self, message: &M, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let text = serde_json::to_vec(message)?;
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let rights = if numbers.is_empty() { &[] } else { &rights[..] };
        sendmsg::<()>(self.as_raw_fd(), &[IoSlice::new(&text)], rights, MsgFlags::MSG_NOSIGNAL, None)?;
        Ok(())
    }

    /// The next message and the descriptors that came with it; `None` when the other end is closed. `WouldBlock` when
    /// there is none within this time.
    ///
    /// # Errors
    /// Those of recvmsg(2), and `InvalidData` for what is no message.
    pub fn receive_within<M: DeserializeOwned>(&self, time: Duration) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        SockRef::from(&self.0).set_read_timeout(Some(time))?;
        self.receive()
    }

    /// The same, waiting as long as it takes, or not at all after [`never_wait`](Channel::never_wait).
    ///
    /// # Errors
    /// Those of recvmsg(2), and `InvalidData` for what is no message.
    pub fn receive<M: DeserializeOwned>(&self) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
        let mut buffer = vec![0; MAX_MESSAGE];
        let (length, descriptors) = loop {
            match sys::receive(&self.0, &mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Told once, before what the other end has sent, when it has left something unread.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                received => break received?,
            }
        };
        match &buffer[..length] {
            [] => Ok(None),
            text => Ok(Some((parse(text)?, descriptors))),
        }
    }
}
