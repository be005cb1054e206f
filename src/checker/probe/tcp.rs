//! Whether a destination accepts connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::TcpSocket;
use tokio::time::error::Elapsed;
use tokio::time::timeout;

use super::stream::{ByteStream, connect_unix};
use super::{Answer, Asking, Probe};
use crate::address::PeerAddress;
use crate::pool::health::Verdict;

/// How long a handshake may take. The pauses between the kernel's attempts double: a new one finds a host that is back
/// sooner.
const LATE: Duration = Duration::from_secs(3);

/// Connects, and takes that for an answer.
pub(super) struct Tcp {
    address: PeerAddress,
}

impl Tcp {
    pub(super) fn new(address: PeerAddress) -> Tcp {
        Tcp { address }
    }
}

impl Probe for Tcp {
    fn ask(&mut self, _fresh: bool) -> Asking<'_> {
        Box::pin(async {
            knock(self.address).await?;
            Ok(Answer::new(Verdict::Ready, ""))
        })
    }
}

/// Connects to a destination.
///
/// # Errors
/// Those of connect(2).
pub(super) async fn connect(address: PeerAddress) -> io::Result<Box<dyn ByteStream>> {
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
