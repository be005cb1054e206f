//! Packets: a length of three bytes, a sequence number, and the contents.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_rustls::TlsConnector;

use super::error::{Error, Result, ServerError};
use crate::checker::maybe_tls::MaybeTls;
use rustls::pki_types::ServerName;

/// The longest packet that is read. More than the answer of a cluster with a hundred members takes.
pub(super) const MAX_PACKET: usize = 256 * 1024;
const HEADER: usize = 4;

/// A connection that packets are read from and written to.
pub(super) struct PacketStream<S> {
    stream: BufReader<MaybeTls<S>>,
    /// The number that the next packet bears, in either direction.
    sequence: u8,
}

impl<S: AsyncRead + AsyncWrite + Unpin> PacketStream<S> {
    pub(super) fn new(stream: S) -> PacketStream<S> {
        PacketStream { stream: BufReader::with_capacity(4096, MaybeTls::Plain(stream)), sequence: 0 }
    }

    pub(super) fn is_encrypted(&self) -> bool {
        matches!(self.stream.get_ref(), MaybeTls::Tls(_))
    }

    /// Puts TLS around the connection.
    ///
    /// # Errors
    /// When the handshake fails, and when the server has sent more than it should have by now: that came unencrypted,
    /// perhaps from somewhere else, and must not be taken for part of the encrypted conversation.
    pub(super) async fn upgrade(self, connector: &TlsConnector, name: ServerName<'static>) -> Result<PacketStream<S>> {
        if !self.stream.buffer().is_empty() {
            return Err(Error::protocol("data ahead of TLS"));
        }
        let stream = self.stream.into_inner().upgrade(connector, name).await?;
        Ok(PacketStream { stream: BufReader::with_capacity(4096, stream), sequence: self.sequence })
    }

    /// Reads one packet, which may be empty. Memory grows with what arrives, not with what is announced.
    ///
    /// # Errors
    /// Those of the connection, packets that are too long or out of order, and error packets.
    pub(super) async fn read(&mut self) -> Result<Vec<u8>> {
        let mut header = [0; HEADER];
        self.stream.read_exact(&mut header).await?;
        let [low, middle, high, sequence] = header;
        let length = usize::from(low) | usize::from(middle) << 8 | usize::from(high) << 16;
        if length > MAX_PACKET {
            return Err(Error::protocol(format!("a packet of {length} bytes")));
        }
        let mut packet = Vec::new();
        (&mut self.stream).take(length as u64).read_to_end(&mut packet).await?;
        if packet.len() < length {
            return Err(Error::Io(std::io::ErrorKind::UnexpectedEof.into()));
        }
        // Servers send some errors unasked, before they close a connection for instance.
        if let Some(error) = ServerError::parse(&packet) {
            return Err(Error::Server(error));
        }
        if sequence != self.sequence {
            return Err(Error::protocol(format!("packet {sequence} instead of {}", self.sequence)));
        }
        self.sequence = sequence.wrapping_add(1);
        Ok(packet)
    }

    /// Writes one packet.
    ///
    /// # Errors
    /// Those of the connection, and `InvalidInput` for contents that take several packets.
    pub(super) async fn write(&mut self, contents: &[u8]) -> Result<()> {
        let too_long = || Error::Io(std::io::ErrorKind::InvalidInput.into());
        let length = u32::try_from(contents.len()).ok().filter(|length| *length < 0x00ff_ffff).ok_or_else(too_long)?;
        let [low, middle, high, _] = length.to_le_bytes();
        let packet = [&[low, middle, high, self.sequence], contents].concat();
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&packet).await?;
        self.stream.flush().await?;
        Ok(())
    }

    /// Writes the first packet of a command, which starts the numbers over.
    ///
    /// # Errors
    /// Those of [`write`](PacketStream::write).
    pub(super) async fn command(&mut self, contents: &[u8]) -> Result<()> {
        self.sequence = 0;
        self.write(contents).await
    }
}
