//! How a probe reaches a server: with a PROXY header in front of everything else, and through TLS, where that is asked for.

use std::io;

use rustls::pki_types::{DnsName, ServerName};
use tokio::io::AsyncWriteExt;
use tokio_rustls::TlsConnector;

use super::stream::ByteStream;
use super::tcp::connect;
use crate::address::PeerAddress;
use crate::checker::maybe_tls::MaybeTls;
use crate::checker::option_file::Credentials;
use crate::config::{ProbeSpec, ProxyVersion};

/// Headers of a connection that no client is behind (`LOCAL`, and what version 1 has in its place).
const VERSION_1: &[u8] = b"PROXY UNKNOWN\r\n";
const VERSION_2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// A connection of a probe.
pub(super) type Stream = MaybeTls<Box<dyn ByteStream>>;

/// Connects as the pool's options say.
#[derive(Clone, Default)]
pub(super) struct Dialer {
    header: &'static [u8],
    tls: Option<(TlsConnector, Option<DnsName<'static>>)>,
}

impl Dialer {
    /// # Errors
    /// One line that says why there can be no TLS, which the daemon has checked.
    pub(super) fn new(
        spec: &ProbeSpec,
        credentials: &Credentials,
        send_proxy: Option<ProxyVersion>,
    ) -> Result<Dialer, String> {
        let header = match send_proxy {
            None => &b""[..],
            Some(ProxyVersion::V1) => VERSION_1,
            Some(ProxyVersion::V2) => VERSION_2,
        };
        let tls = match spec.tls() {
            None => None,
            Some(tls) => {
                let name = tls.sni.clone().map(DnsName::try_from).transpose().map_err(|error| error.to_string())?;
                Some((TlsConnector::from(credentials.tls_config(tls)?), name))
            }
        };
        Ok(Dialer { header, tls })
    }

    /// Whether a server that is connected to must answer something, be it to a handshake.
    pub(super) fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Connects without TLS, to a server whose protocol negotiates TLS itself, if at all.
    ///
    /// # Errors
    /// Those of connect(2).
    pub(super) async fn connect_plain(&self, server: PeerAddress) -> io::Result<Box<dyn ByteStream>> {
        let mut stream = connect(server).await?;
        if !self.header.is_empty() {
            stream.write_all(self.header).await?;
        }
        Ok(stream)
    }

    /// Connects to a server.
    ///
    /// # Errors
    /// Those of connect(2), and those of TLS.
    pub(super) async fn connect(&self, server: PeerAddress) -> io::Result<Stream> {
        let stream = MaybeTls::Plain(self.connect_plain(server).await?);
        let Some((connector, name)) = &self.tls else { return Ok(stream) };
        let name = name.clone().map_or_else(|| server.ip_or_local().into(), ServerName::DnsName);
        stream.upgrade(connector, name).await.map_err(|error| match error.raw_os_error() {
            Some(_) => error,
            None => io::Error::new(error.kind(), format!("TLS: {error}")),
        })
    }
}
