//! TLS around a check.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How to agree on TLS with a server that is checked over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsOptions {
    /// The certificate must come from an authority in this file; `None`: any certificate is accepted.
    pub ca: Option<PathBuf>,
    /// The name that is asked for (SNI), and that the certificate must be for if there is a `ca`.
    pub sni: Option<String>,
}

/// The names of options.
pub(super) const NAMES: [&str; 3] = ["tls", "ca", "sni"];

/// Reads one of these options.
///
/// # Errors
/// One line that says what is wrong with it.
pub(super) fn set(tls: &mut Option<TlsOptions>, name: &str, value: &str) -> Result<(), String> {
    match (name, value) {
        ("tls", "yes") => drop(tls.get_or_insert_default()),
        ("tls", "no") if tls.as_ref().is_some_and(|it| *it != TlsOptions::default()) => {
            return Err("tls=no contradicts ca and sni".to_owned());
        }
        ("tls", "no") => *tls = None,
        ("tls", _) => return Err(format!("tls={value} is neither yes nor no")),
        ("ca", "") => return Err("ca needs a path".to_owned()),
        ("ca", path) => tls.get_or_insert_default().ca = Some(path.into()),
        (_, name) if !is_host_name(name) => return Err(format!("sni: '{value}' is not the name of a host")),
        (_, name) => tls.get_or_insert_default().sni = Some(name.to_owned()),
    }
    Ok(())
}

/// Whether a certificate may have it as a DNS name. An IP address is none.
fn is_host_name(text: &str) -> bool {
    rustls::pki_types::DnsName::try_from(text).is_ok()
}
