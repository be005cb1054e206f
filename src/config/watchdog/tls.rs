//! TLS around a check.

use std::path::PathBuf;

use rustls::pki_types::{DnsName, ServerName};
use serde::{Deserialize, Serialize};

/// How to agree on TLS with a server that is checked over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOptions {
    /// The certificate must come from an authority in this file; `None`: any certificate is accepted.
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI), and that the certificate must be for if there is a `ca`.
    pub sni: Option<String>,
    /// The name or address that the certificate must be for in its place.
    pub verify_host: Option<String>,
    /// The certificate that is shown, with those that lead to its authority.
    pub cert: Option<PathBuf>,
    /// Its key; `None`: that is in the same file.
    pub key: Option<PathBuf>,
    /// The protocols that are offered inside TLS (ALPN), the preferred one first.
    pub alpn: Vec<String>,
}

impl TlsOptions {
    /// The files that it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.ca, &mut self.cert, &mut self.key].into_iter().flatten()
    }
}

/// The names of options.
pub(super) const NAMES: [&str; 7] = ["tls", "ca", "sni", "verify-host", "cert", "key", "alpn"];

/// Most protocols that are offered.
const MAX_PROTOCOLS: usize = 16;

/// Reads one of these options.
///
/// # Errors
/// One line that says what is wrong with it.
pub(super) fn set(tls: &mut Option<TlsOptions>, name: &str, value: &str) -> Result<(), String> {
    match (name, value) {
        ("tls", "yes") => drop(tls.get_or_insert_default()),
        ("tls", "no") if tls.as_ref().is_some_and(|it| *it != TlsOptions::default()) => {
            return Err("tls=no contradicts the other options of TLS".to_owned());
        }
        ("tls", "no") => *tls = None,
        ("tls", _) => return Err(format!("tls={value} is neither yes nor no")),
        ("ca" | "cert" | "key", "") => return Err(format!("{name} needs a path")),
        ("ca", path) => tls.get_or_insert_default().ca = Some(path.into()),
        ("cert", path) => tls.get_or_insert_default().cert = Some(path.into()),
        ("key", path) => tls.get_or_insert_default().key = Some(path.into()),
        ("alpn", list) => tls.get_or_insert_default().alpn = protocols(list)?,
        ("verify-host", host) if ServerName::try_from(host).is_ok() => {
            tls.get_or_insert_default().verify_host = Some(host.to_owned());
        }
        ("verify-host", _) => {
            return Err(format!("verify-host: '{value}' is neither the name of a host nor an address"));
        }
        // A certificate may have it as a DNS name. An IP address is none.
        (_, name) if DnsName::try_from(name).is_err() => {
            return Err(format!("sni: '{value}' is not the name of a host"));
        }
        (_, name) => tls.get_or_insert_default().sni = Some(name.to_owned()),
    }
    Ok(())
}

/// Reads the names of protocols, separated by commas.
fn protocols(list: &str) -> Result<Vec<String>, String> {
    let is_name = |name: &&str| (1..=255).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic());
    if let Some(wrong) = list.split(',').find(|name| !is_name(name)) {
        return Err(format!("alpn: '{wrong}' is not the name of a protocol, such as http/1.1"));
    }
    let names: Vec<String> = list.split(',').map(str::to_owned).collect();
    if names.len() > MAX_PROTOCOLS { Err(format!("alpn: more than {MAX_PROTOCOLS} protocols")) } else { Ok(names) }
}
