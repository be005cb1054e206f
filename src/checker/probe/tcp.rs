//! Whether a destination accepts connections, and answers as it should.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::conversation::{Conversation, Progress};
use super::dialer::{Dialer, Stream};
use super::stream::{ByteStream, at_port, connect_unix};
use super::{Answer, Asking, Probe};
use crate::address::PeerAddress;
use crate::pool::health::Verdict;

/// How long a handshake may take. The pauses between the kernel's attempts double: a new one finds a host that is back
/// sooner.
const LATE: Duration = Duration::from_secs(3);
/// The part of a check's time within which a conversation must come to its end, so that there is time to say how far it came.
const TIME_TO_TALK: f64 = 0.95;
/// How long a server may take to close a connection that it was said goodbye on.
const GOODBYE: Duration = Duration::from_millis(200);

/// Connects, and says what there is to say.
pub(super) struct Tcp {
    server: PeerAddress,
    conversation: Conversation,
    dialer: Dialer,
    /// How long a check may take.
    patience: Duration,
}

impl Tcp {
    /// Asks at the destination's host, and at its port unless there is another.
    pub(super) fn new(
        destination: PeerAddress,
        port: Option<u16>,
        conversation: Conversation,
        dialer: Dialer,
        patience: Duration,
    ) -> Tcp {
        Tcp { server: at_port(destination, port), conversation, dialer, patience }
    }

    async fn talk(&self) -> io::Result<Answer> {
        let mut progress = Progress::default();
        let talking = async {
            let mut stream = self.dialer.connect(self.server).await?;
            let answer = self.conversation.hold(&mut stream, &mut progress).await?;
            Ok((answer, stream))
        };
        match timeout(self.patience.mul_f64(TIME_TO_TALK), talking).await {
            Ok(Ok((answer, stream))) => {
                tokio::task::spawn_local(say_goodbye(stream));
                Ok(answer)
            }
            Ok(Err(error)) => Err(error),
            Err(_) if self.conversation.is_satisfied_by(&progress) => Ok(Answer::new(Verdict::Ready, "")),
            Err(_) => progress.contradiction().ok_or_else(|| {
                let seconds = self.patience.as_secs_f64();
                let what = if progress.began { "got nothing" } else { "no answer" };
                io::Error::new(io::ErrorKind::TimedOut, progress.missing(&format!("{what} within {seconds} s")))
            }),
        }
    }
}

impl Probe for Tcp {
    fn ask(&mut self, _fresh: bool) -> Asking<'_> {
        Box::pin(async {
            if !self.conversation.is_empty() || self.dialer.has_tls() {
                return self.talk().await;
            }
            knock(self.server).await?;
            Ok(Answer::new(Verdict::Ready, ""))
        })
    }
}

/// Has a server see the end of a connection, and not a reset, which would cost it what it was sent last.
async fn say_goodbye(mut stream: Stream) {
    let farewell = async {
        let mut rest = [0; 1024];
        // Whatever it says, and however it ends.
        let _ = stream.shutdown().await;
        while stream.read(&mut rest).await.is_ok_and(|count| count > 0) {}
    };
    let _ = timeout(GOODBYE, farewell).await;
}

/// Connects to a server.
///
/// # Errors
/// Those of connect(2).
pub(in crate::checker) async fn connect(address: PeerAddress) -> io::Result<Box<dyn ByteStream>> {
    let connect = async {
        Ok(match address {
            PeerAddress::Inet(address) => Box::new(socket(address)?.connect(address).await?) as Box<dyn ByteStream>,
            PeerAddress::Unix(path) => Box::new(connect_unix(path).await?),
        })
    };
    timeout(LATE, connect).await.map_err(late)?
}

/// Finds out whether a destination accepts connections, without its server noticing: the handshake is not completed but
/// reset, where the kernel lets it be. MySQL counts clients that connect and say nothing, and in the end refuses all
/// connections from their host (`max_connect_errors`). A UNIX socket's server notices; MySQL counts none of its clients.
///
/// # Errors
/// Those of connect(2).
pub(super) async fn knock(address: PeerAddress) -> io::Result<()> {
    let Some(address) = address.inet() else { return connect(address).await.map(drop) };
    let socket = socket(address)?;
    // The acknowledgement that would complete it waits, and the reset is there first.
    SockRef::from(&socket).set_tcp_quickack(false)?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    timeout(LATE, socket.connect(address)).await.map_err(late)?.map(drop)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}

fn late(_: Elapsed) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {} s", LATE.as_secs()))
}
