//! Whether a destination accepts connections.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpSocket, TcpStream};

use super::{Answer, Asking, Probe};
use crate::table::health::Verdict;

/// Connects, and takes that for an answer.
pub(super) struct Tcp {
    address: SocketAddr,
}

impl Tcp {
    pub(super) fn new(address: SocketAddr) -> Tcp {
        Tcp { address }
    }
}

impl Probe for Tcp {
    fn ask(&mut self) -> Asking<'_> {
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
pub(super) async fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    socket(address)?.connect(address).await
}

/// Finds out whether a destination accepts connections, without its server noticing: the handshake is not completed but
/// reset, where the kernel lets it be. MySQL counts clients that connect and say nothing, and in the end refuses all
/// connections from their host (`max_connect_errors`).
///
/// # Errors
/// Those of connect(2).
pub(super) async fn knock(address: SocketAddr) -> io::Result<()> {
    let socket = socket(address)?;
    // The acknowledgement that would complete it waits, and the reset is there first.
    SockRef::from(&socket).set_tcp_quickack(false)?;
    SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.connect(address).await.map(drop)
}

fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
    if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }
}
