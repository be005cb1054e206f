//! Who may ask for what: no page of another site may, and changes take a token.

use std::fs::OpenOptions;
use std::io::{self, Read};
use std::net::IpAddr;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use hyper::header::{AUTHORIZATION, HOST, HeaderName, ORIGIN};
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Uri};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Fewer characters could be guessed.
const SHORTEST_TOKEN: usize = 16;
/// More than any token has.
const LONGEST_TOKEN: u64 = 1024;

/// Whose token allows changes. Only its hash is kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token([u8; 32]);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token")
    }
}

impl Token {
    /// Reads the token from a file, which only its owner and group may read.
    ///
    /// # Errors
    /// Those of open(2) and read(2), with the path, and what is wrong with the file or the token.
    pub fn read(path: &Path) -> io::Result<Token> {
        Token::read_from(path)
            .map_err(|error| io::Error::new(error.kind(), format!("the token in {}: {error}", path.display())))
    }

    fn read_from(path: &Path) -> io::Result<Token> {
        // Opening a pipe would wait for someone who writes.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no ordinary file"));
        }
        let mode = metadata.permissions().mode();
        if mode & 0o007 != 0 {
            let reason = format!("everybody may read or write it (mode {:03o}); chmod 640", mode & 0o777);
            return Err(io::Error::other(reason));
        }
        let mut text = String::new();
        file.take(LONGEST_TOKEN).read_to_string(&mut text)?;
        Token::new(text.trim()).map_err(io::Error::other)
    }

    fn new(text: &str) -> Result<Token, String> {
        if text.len() < SHORTEST_TOKEN || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!("it takes {SHORTEST_TOKEN} or more letters, digits and signs, without blanks"));
        }
        Ok(Token(Sha256::digest(text).into()))
    }

    /// Returns true if this is the token. How long that takes depends on nothing but the length of `text`.
    fn is(&self, text: &[u8]) -> bool {
        let given: [u8; 32] = Sha256::digest(text).into();
        given.iter().zip(self.0).fold(0, |differs, (one, other)| differs | (one ^ other)) == 0
    }
}

/// Who may ask for what.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// What else than an address this machine may be called, in lower case.
    pub hosts: Vec<String>,
    /// Whose bearer may change things; `None`: nobody may.
    pub token: Option<Token>,
}

const FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
const FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

impl Access {
    /// Refuses a request that a page of another site has a browser send.
    ///
    /// # Errors
    /// Why.
    pub(super) fn check_site(&self, uri: &Uri, headers: &HeaderMap, is_local: bool) -> Result<(), String> {
        let text = |name: &HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
        if headers.get_all(HOST).iter().count() > 1 {
            return Err("more than one Host".to_owned());
        }
        // One in the first line counts whatever `Host` says (RFC 9112, section 3.2.2).
        let host = uri.authority().map(Authority::as_str).or_else(|| text(&HOST));
        // A name that is resolved to this machine for a moment makes its page one of this site.
        if let Some(host) = host.filter(|_| !is_local)
            && !self.knows_host(host)
        {
            let host: String = host.chars().filter(|it| it.is_ascii_graphic()).take(100).collect();
            return Err(format!("'{host}' is no name of this machine; --http-host allows further names"));
        }
        let is_own = |origin: &str| host.is_some_and(|host| origin.split_once("://").is_some_and(|(_, it)| it == host));
        let follows_link = text(&FETCH_MODE) == Some("navigate");
        let is_foreign = text(&ORIGIN).is_some_and(|origin| !is_own(origin))
            || text(&FETCH_SITE).is_some_and(|site| !["same-origin", "none"].contains(&site) && !follows_link);
        if is_foreign { Err("a page of another site may not ask for this".to_owned()) } else { Ok(()) }
    }

    fn knows_host(&self, host: &str) -> bool {
        let name = match host.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => host.rsplit_once(':').map_or(host, |(name, _)| name),
        };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name.parse::<IpAddr>().is_ok() || name == "localhost" || self.hosts.contains(&name)
    }

    /// Returns true if the request bears the token.
    pub(super) fn allows_changes(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
        self.token.as_ref().zip(given).is_some_and(|(token, given)| token.is(given))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(headers: &[(&'static str, &'static str)]) -> bool {
        let of = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), value.parse().expect("a header's value"))
        };
        let access = Access { hosts: vec!["db.example".to_owned()], token: None };
        access.check_site(&Uri::from_static("/"), &headers.iter().map(of).collect(), false).is_ok()
    }

    #[test]
    fn hosts_are_addresses_or_known_names() {
        for host in ["127.0.0.1:9101", "10.0.0.1", "[::1]:9101", "[::1]", "localhost:1", "DB.example.", "db.example:80"]
        {
            assert!(check(&[("host", host)]), "{host}");
        }
        for host in ["evil.example", "evil.example:9101", "127.0.0.1.evil.example", "", "localhost.evil", "[evil]:1"] {
            assert!(!check(&[("host", host)]), "{host}");
        }
    }

    #[test]
    fn pages_of_other_sites_may_only_be_left_by_a_link() {
        let host = ("host", "10.0.0.1:9101");
        assert!(check(&[host, ("origin", "http://10.0.0.1:9101"), ("sec-fetch-site", "same-origin")]));
        assert!(check(&[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "navigate")]));
        assert!(!check(&[host, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "no-cors")]));
        assert!(!check(&[host, ("origin", "http://10.0.0.1")]));
        assert!(!check(&[host, ("origin", "null")]));
    }

    #[test]
    fn a_token_is_long_and_compared_whole() {
        let token = Token::new("0123456789abcdef").expect("a token");
        assert!(token.is(b"0123456789abcdef") && !token.is(b"0123456789abcdeF") && !token.is(b""));
        assert!(Token::new("short").is_err() && Token::new("0123456789 abcdef").is_err());
    }
}
