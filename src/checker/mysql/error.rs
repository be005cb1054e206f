//! Why a server gave no answer.

use std::fmt;
use std::io;

use super::fields::Fields;

/// The longest message of a server that is kept.
const MAX_MESSAGE: usize = 512;

/// Why a login or a question came to nothing.
#[derive(Debug)]
pub enum Error {
    /// The connection failed or ended.
    Io(io::Error),
    /// The server sent an error packet.
    Server(ServerError),
    /// The server sent something that the protocol does not allow.
    Protocol(String),
    /// The server is as it should be, but this account or these settings do not suit it.
    Unsuited(String),
    /// No TLS connection was agreed on.
    Tls(String),
}

/// The contents of an error packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerError {
    /// The number by which MySQL and MariaDB document the error.
    pub code: u16,
    /// The server's own words.
    pub message: String,
}

/// A result of talking to a server.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(super) fn protocol(reason: impl Into<String>) -> Error {
        Error::Protocol(reason.into())
    }
}

impl ServerError {
    /// Parses an error packet. Before the login, some servers leave out the five characters of the SQL state.
    pub(super) fn parse(packet: &[u8]) -> Option<ServerError> {
        let mut fields = Fields::new(packet);
        if fields.u8()? != 0xff {
            return None;
        }
        let code = fields.u16()?;
        let text = match fields.rest() {
            [b'#', rest @ ..] => rest.get(5..).unwrap_or_default(),
            text => text,
        };
        let text = text.get(..MAX_MESSAGE).unwrap_or(text);
        let message = String::from_utf8_lossy(text).trim_end_matches('\0').to_owned();
        Some(ServerError { code, message })
    }
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message.trim().is_empty() {
            true => write!(f, "error {}", self.code),
            false => write!(f, "{} (error {})", self.message.trim(), self.code),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                f.write_str("the server closed the connection")
            }
            Error::Io(error) => error.fmt(f),
            Error::Server(error) => error.fmt(f),
            Error::Protocol(reason) => write!(f, "not an answer of MySQL: {reason}"),
            Error::Unsuited(reason) => f.write_str(reason),
            Error::Tls(reason) => write!(f, "TLS failed: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

/// Recognizes what rustls wraps into an error of the system.
impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(tls) => Error::Tls(tls.to_string()),
            None => Error::Io(error),
        }
    }
}
