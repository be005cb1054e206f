//! What an HTTP server is asked for.

use std::net::SocketAddr;

use crate::address::PeerAddress;
use crate::config::HttpRequest;

/// Methods whose requests have a body, though it may be empty.
const WITH_BODY: [&str; 3] = ["POST", "PUT", "PATCH"];

/// The text of a request.
pub(super) fn text(request: &HttpRequest, server: PeerAddress) -> Vec<u8> {
    let HttpRequest { method, path, version, headers, body } = request;
    let agent = concat!("glbd/", env!("CARGO_PKG_VERSION"));
    let chosen = |name: &str| headers.iter().any(|(other, _)| other.eq_ignore_ascii_case(name));
    let mut text = format!("{method} {path} HTTP/{version}\r\n");
    // The number of an interface means nothing elsewhere.
    let host = |server: SocketAddr| SocketAddr::new(server.ip(), server.port()).to_string();
    let host = server.inet().map_or_else(|| "localhost".to_owned(), host);
    let ours = [("Host", host), ("User-Agent", agent.to_owned())];
    for (name, value) in ours.iter().filter(|(name, _)| !chosen(name)) {
        text += &format!("{name}: {value}\r\n");
    }
    for (name, value) in headers {
        text += &format!("{name}: {value}\r\n");
    }
    if !body.is_empty() || WITH_BODY.contains(&method.as_str()) {
        text += &format!("Content-Length: {}\r\n", body.len());
    }
    text += "Connection: close\r\n\r\n";
    [text.as_bytes(), body].concat()
}
