//! A small client of MySQL's protocol, for servers that are not to be trusted.
//!
//! It logs in, asks questions with short answers, and says goodbye. Everything that a server sends is bounded: packets,
//! columns, rows, text, round trips of a login. Nothing that a server sends makes it panic; what breaks the protocol is an
//! [`Error`]. The client is generic over its stream, so that tests and fuzzers speak to it through memory.

mod auth;
mod error;
mod fields;
mod handshake;
mod login;
mod packet;
mod password;
mod session;
#[cfg(test)]
pub(super) mod tests;

pub use error::{Error, Result, ServerError};
pub use login::{Login, LoginTls, log_in};
pub use session::Session;
