//! The authentication plugins: what the client answers at each step.

use super::error::{Error, Result};
use super::password;

/// Asks a server that uses caching_sha2_password, or sha256_password, for its public key.
const CACHING_SHA2_KEY: u8 = 2;
const SHA256_KEY: u8 = 1;

/// The plugins that this client knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plugin {
    Native,
    CachingSha2,
    Sha256,
    Ed25519,
    ClearText,
}

impl Plugin {
    pub(super) fn named(name: &str) -> Option<Plugin> {
        match name {
            "mysql_native_password" => Some(Plugin::Native),
            "caching_sha2_password" => Some(Plugin::CachingSha2),
            "sha256_password" => Some(Plugin::Sha256),
            "client_ed25519" => Some(Plugin::Ed25519),
            "mysql_clear_password" => Some(Plugin::ClearText),
            _ => None,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Plugin::Native => "mysql_native_password",
            Plugin::CachingSha2 => "caching_sha2_password",
            Plugin::Sha256 => "sha256_password",
            Plugin::Ed25519 => "client_ed25519",
            Plugin::ClearText => "mysql_clear_password",
        }
    }
}

/// How well the connection protects what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Protection {
    None,
    /// Encrypted, but the server may be any.
    Encrypted,
    /// Encrypted, and the server has shown a certificate that is trusted.
    Verified,
}

/// One plugin's part of a login.
pub(super) struct Authentication<'a> {
    plugin: Plugin,
    password: &'a [u8],
    nonce: Vec<u8>,
    protection: Protection,
    /// Whether the server was asked for its public key, so that the next packet contains it.
    awaits_key: bool,
}

impl<'a> Authentication<'a> {
    pub(super) fn new(
        plugin: Plugin,
        password: &'a [u8],
        nonce: Vec<u8>,
        protection: Protection,
    ) -> Authentication<'a> {
        Authentication { plugin, password, nonce, protection, awaits_key: false }
    }

    /// The first reply to the server's challenge. Without a password it is empty.
    pub(super) fn reply(&mut self) -> Result<Vec<u8>> {
        match self.plugin {
            // Its signature is due even then.
            Plugin::Ed25519 => Ok(password::ed25519(self.password, self.challenge(32)?)),
            Plugin::ClearText if self.protection < Protection::Verified => Err(Error::Unsuited(
                "the account's authentication plugin 'mysql_clear_password' is supported with tls=verify-ca only"
                    .to_owned(),
            )),
            Plugin::ClearText => Ok(password::with_nul(self.password)),
            _ if self.password.is_empty() => Ok(Vec::new()),
            Plugin::Native => Ok(password::native(self.password, self.challenge(20)?)),
            Plugin::CachingSha2 => Ok(password::caching_sha2(self.password, self.challenge(20)?)),
            Plugin::Sha256 if self.protection > Protection::None => Ok(password::with_nul(self.password)),
            Plugin::Sha256 => {
                self.awaits_key = true;
                Ok(vec![SHA256_KEY])
            }
        }
    }

    /// The first bytes of the server's challenge; some plugins send a NUL behind it.
    fn challenge(&self, length: usize) -> Result<&[u8]> {
        let short = || Error::protocol(format!("a challenge of {} bytes", self.nonce.len()));
        self.nonce.get(..length).ok_or_else(short)
    }

    /// The reply to what else the server says during a login, where one is due.
    pub(super) fn more(&mut self, data: &[u8]) -> Result<Option<Vec<u8>>> {
        match (self.plugin, data) {
            (Plugin::CachingSha2 | Plugin::Sha256, key) if self.awaits_key => {
                self.awaits_key = false;
                password::encrypted(self.password, self.challenge(20)?, key).map(Some)
            }
            // The server knows the password's hash: all is done.
            (Plugin::CachingSha2, [3]) => Ok(None),
            // It needs the password itself.
            (Plugin::CachingSha2, [4]) if self.protection > Protection::None => {
                Ok(Some(password::with_nul(self.password)))
            }
            (Plugin::CachingSha2, [4]) => {
                self.awaits_key = true;
                Ok(Some(vec![CACHING_SHA2_KEY]))
            }
            _ => Err(Error::protocol(format!("a question that {} does not have", self.plugin.name()))),
        }
    }
}
