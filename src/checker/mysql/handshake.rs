//! The server's greeting, and the client's answer to it.

use super::error::{Error, Result};
use super::fields::Fields;

/// What client and server can do; MySQL's names without their prefix.
pub(super) mod capability {
    pub const LONG_PASSWORD: u32 = 1;
    pub const PROTOCOL_41: u32 = 1 << 9;
    pub const SSL: u32 = 1 << 11;
    pub const SECURE_CONNECTION: u32 = 1 << 15;
    pub const PLUGIN_AUTH: u32 = 1 << 19;
}
use capability::{LONG_PASSWORD, PLUGIN_AUTH, PROTOCOL_41, SECURE_CONNECTION, SSL};

/// utf8_general_ci, which every server knows.
const COLLATION: u8 = 33;
/// The longest challenge that is taken. MySQL's has 20 bytes, and client_ed25519's has 32.
const MAX_NONCE: usize = 64;

/// The first packet of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Greeting {
    pub capabilities: u32,
    /// The challenge of the server's default plugin.
    pub nonce: Vec<u8>,
    /// The server's default plugin; empty where the server does not know plugins.
    pub plugin: String,
}

impl Greeting {
    pub(super) fn parse(packet: &[u8]) -> Result<Greeting> {
        match packet.first() {
            Some(10) => {}
            Some(version) => return Err(Error::protocol(format!("protocol version {version} in its greeting"))),
            None => return Err(Error::protocol("an empty greeting")),
        }
        let greeting = Greeting::fields(Fields::new(packet)).ok_or_else(|| Error::protocol("a greeting cut short"))?;
        match greeting.capabilities & (PROTOCOL_41 | SECURE_CONNECTION) {
            both if both == PROTOCOL_41 | SECURE_CONNECTION => Ok(greeting),
            _ => Err(Error::protocol("the greeting of a server older than MySQL 4.1")),
        }
    }

    fn fields(mut fields: Fields<'_>) -> Option<Greeting> {
        let _protocol = fields.u8()?;
        let _version = fields.until_nul()?;
        let _connection = fields.bytes(4)?;
        let mut nonce = fields.bytes(8)?.to_vec();
        let _filler = fields.u8()?;
        let low = fields.u16()?;
        if fields.is_empty() {
            return Some(Greeting { capabilities: u32::from(low), nonce, plugin: String::new() });
        }
        let _collation_and_status = fields.bytes(3)?;
        let capabilities = u32::from(low) | u32::from(fields.u16()?) << 16;
        let length = usize::from(fields.u8()?);
        let _reserved = fields.bytes(10)?;
        // It ends in a NUL that belongs to no challenge. Plugins take as many bytes as they need.
        let second = fields.bytes(length.saturating_sub(8).max(13)).unwrap_or_default();
        nonce.extend_from_slice(second);
        let plugin = if capabilities & PLUGIN_AUTH == 0 { &[][..] } else { fields.until_nul_or_end() };
        Some(Greeting { capabilities, nonce, plugin: name(plugin) })
    }

    pub(super) fn offers_tls(&self) -> bool {
        self.capabilities & SSL != 0
    }
}

/// A request to go on with another plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Switch {
    pub plugin: String,
    pub nonce: Vec<u8>,
}

impl Switch {
    /// Parses the packet, which starts with 0xfe. Alone, that byte asks for the hash of MySQL 4.0.
    pub(super) fn parse(packet: &[u8]) -> Switch {
        let mut fields = Fields::new(packet.get(1..).unwrap_or_default());
        if fields.is_empty() {
            return Switch { plugin: "mysql_old_password".to_owned(), nonce: Vec::new() };
        }
        let plugin = name(fields.until_nul_or_end());
        let nonce = fields.rest();
        Switch { plugin, nonce: nonce.get(..MAX_NONCE).unwrap_or(nonce).to_vec() }
    }
}

/// A plugin's name, as far as it can be shown.
fn name(bytes: &[u8]) -> String {
    let bytes = bytes.get(..64).unwrap_or(bytes);
    String::from_utf8_lossy(bytes).chars().map(|c| if c.is_ascii_graphic() { c } else { '?' }).collect()
}

/// The capabilities that this client uses, of those that the server has.
pub(super) fn capabilities(greeting: &Greeting, encrypted: bool) -> u32 {
    let tls = if encrypted { SSL } else { 0 };
    LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | tls | greeting.capabilities & PLUGIN_AUTH
}

/// What is sent ahead of TLS, and stands at the beginning of the answer that follows it.
pub(super) fn tls_request(capabilities: u32, max_packet: u32) -> Vec<u8> {
    let mut request = Vec::new();
    request.extend(capabilities.to_le_bytes());
    request.extend(max_packet.to_le_bytes());
    request.push(COLLATION);
    request.extend([0; 23]);
    request
}

/// The client's answer to a greeting.
pub(super) fn response(capabilities: u32, max_packet: u32, user: &str, plugin: &str, reply: &[u8]) -> Result<Vec<u8>> {
    let length = u8::try_from(reply.len()).map_err(|_| Error::Unsuited("the password is too long".to_owned()))?;
    if user.contains('\0') {
        return Err(Error::Unsuited("the user's name contains a NUL".to_owned()));
    }
    let mut response = tls_request(capabilities, max_packet);
    response.extend(user.bytes());
    response.extend([0, length]);
    response.extend(reply);
    if capabilities & PLUGIN_AUTH != 0 {
        response.extend(plugin.bytes());
        response.push(0);
    }
    Ok(response)
}
