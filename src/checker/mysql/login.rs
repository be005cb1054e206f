//! The conversation that begins with a greeting and ends with a session, or with the reason why there is none.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;

use super::auth::{Authentication, Plugin, Protection};
use super::error::{Error, Result};
use super::handshake::{self, Greeting, Switch};
use super::packet::{MAX_PACKET, PacketStream};
use super::session::Session;

/// The most packets that a server may send between the client's first answer and its own last one.
const MAX_ROUND_TRIPS: usize = 8;
/// The longest name and password that are used.
const MAX_TEXT: usize = 1024;
/// The longest packet that is announced to the server.
const ANNOUNCED: u32 = MAX_PACKET as u32;

/// How to log in.
#[derive(Clone)]
pub struct Login {
    /// The account's name.
    pub user: String,
    /// Empty for an account without one.
    pub password: String,
    /// How to agree on TLS; `None` does without.
    pub tls: Option<LoginTls>,
}

/// How to agree on TLS.
#[derive(Clone)]
pub struct LoginTls {
    /// Certificates, and which of the server's are accepted.
    pub config: Arc<ClientConfig>,
    /// Whether a server that does not offer TLS is left.
    pub required: bool,
    /// Whether the server's certificate is checked.
    pub verified: bool,
    /// Whether the client has a certificate to show.
    pub has_certificate: bool,
}

/// Logs in on a connection that has just been made to `host`.
///
/// # Errors
/// The server's refusal, a failed connection, a broken protocol, or an account that cannot be used.
pub async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(stream: S, host: IpAddr, login: &Login) -> Result<Session<S>> {
    if login.user.len() > MAX_TEXT || login.password.len() > MAX_TEXT {
        return Err(Error::Unsuited(format!("user and password are longer than {MAX_TEXT} bytes")));
    }
    let mut packets = PacketStream::new(stream);
    let greeting = Greeting::parse(&packets.read().await?)?;
    let mut protection = Protection::None;
    match &login.tls {
        Some(tls) if greeting.offers_tls() => {
            let request = handshake::tls_request(handshake::capabilities(&greeting, true), ANNOUNCED);
            packets.write(&request).await?;
            packets = packets.upgrade(&TlsConnector::from(Arc::clone(&tls.config)), ServerName::from(host)).await?;
            protection = if tls.verified { Protection::Verified } else { Protection::Encrypted };
        }
        Some(tls) if tls.required => return Err(Error::Unsuited("the server does not offer TLS".to_owned())),
        _ => {}
    }
    authenticate(&mut packets, greeting, login, protection).await?;
    Ok(Session::new(packets))
}

async fn authenticate<S: AsyncRead + AsyncWrite + Unpin>(
    packets: &mut PacketStream<S>,
    greeting: Greeting,
    login: &Login,
    protection: Protection,
) -> Result<()> {
    let begin = |plugin, nonce| Authentication::new(plugin, login.password.as_bytes(), nonce, protection);
    let capabilities = handshake::capabilities(&greeting, packets.is_encrypted());
    // The account may have another plugin than the server's default, and the server then says which.
    let first = match Plugin::named(&greeting.plugin) {
        Some(plugin @ (Plugin::CachingSha2 | Plugin::Sha256)) => plugin,
        _ => Plugin::Native,
    };
    let mut authentication = begin(first, greeting.nonce);
    let reply = authentication.reply()?;
    packets.write(&handshake::response(capabilities, ANNOUNCED, &login.user, first.name(), &reply)?).await?;
    for _ in 0..MAX_ROUND_TRIPS {
        let packet = packets.read().await?;
        let reply = match packet.split_first() {
            Some((0, _)) => return Ok(()),
            Some((1, data)) => authentication.more(data)?,
            Some((0xfe, _)) => {
                let Switch { plugin, nonce } = Switch::parse(&packet);
                let plugin = Plugin::named(&plugin).ok_or_else(|| unsupported(&plugin))?;
                authentication = begin(plugin, nonce);
                Some(authentication.reply()?)
            }
            Some((first, _)) => return Err(Error::protocol(format!("packet type {first} during the login"))),
            None => return Err(Error::protocol("an empty packet during the login")),
        };
        if let Some(reply) = reply {
            packets.write(&reply).await?;
        }
    }
    Err(Error::protocol(format!("a login of more than {MAX_ROUND_TRIPS} steps")))
}

fn unsupported(plugin: &str) -> Error {
    Error::Unsuited(format!("the account's authentication plugin '{plugin}' is not supported"))
}
