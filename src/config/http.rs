//! Where the HTTP listener is, and what it may be asked.

use super::control::{ControlAddress, parse_control};

/// Where HTTP is spoken: a place as control sockets have it.
pub type HttpAddress = ControlAddress;

/// Reads `[HOST:]PORT` or `unix:PATH[,owner=USER][,group=GROUP][,mode=MODE]`.
pub(super) fn parse_http_address(text: &str) -> Result<HttpAddress, String> {
    match parse_control(text)? {
        HttpAddress { read_only: true, .. } => Err("'read-only' is for control sockets: see --http-admin".to_owned()),
        address => Ok(address),
    }
}

pub(super) fn parse_http_host(text: &str) -> Result<String, String> {
    let possible = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
    match (1..=253).contains(&text.len()) && possible {
        true => Ok(text.trim_end_matches('.').to_ascii_lowercase()),
        false => Err("not a host name without a port".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_on_the_loopback_interface_unless_a_host_is_stated() {
        for (text, meaning) in [
            ("9101", Ok("127.0.0.1:9101")),
            ("0.0.0.0:9101", Ok("0.0.0.0:9101")),
            ("[::1]:9101", Ok("[::1]:9101")),
            ("unix:/run/glbd/http,mode=660", Ok("unix:/run/glbd/http")),
            ("unix:", Err("the path is empty")),
            ("0", Err("'0' is not a port (1 to 65535)")),
            ("1,read-only", Err("'read-only' is for control sockets: see --http-admin")),
        ] {
            let read = parse_http_address(text).map(|address| address.to_string());
            assert_eq!(read, meaning.map(str::to_owned).map_err(str::to_owned), "{text}");
        }
        assert!(
            parse_http_host("a.example").is_ok() && parse_http_host("a:1").is_err() && parse_http_host("").is_err()
        );
    }
}
