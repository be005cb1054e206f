//! The entry point for a fuzzer (`fuzz/`) of what HTTP clients say, as far as hyper has not read it.

use hyper::header::{HOST, HeaderValue, ORIGIN};
use hyper::{HeaderMap, Uri};

use super::access::Access;
use super::metrics::Format;
use super::{admin, api};

/// Lines: a query, the body of a change, `Host` and `Accept`.
pub fn http_request(bytes: &[u8]) {
    let mut lines = bytes.splitn(4, |byte| *byte == b'\n');
    let mut next = || lines.next().unwrap_or_default();
    let query = String::from_utf8_lossy(next()).into_owned();
    if let Ok(command) = api::command("getconns", &query, &["client", "dest"], &["service"]) {
        assert!(!command.contains(char::is_control), "{command:?}");
    }
    if let Ok(word) = api::decoded(&query) {
        assert_eq!(word.split_whitespace().count(), 1, "{word:?}");
    }
    let body = serde_json::from_slice(next()).unwrap_or_default();
    for verb in ["drain", "enable", "weight", "writer", "kick"] {
        if let Ok(Some(command)) = admin::command(verb, &body) {
            assert!(!command.contains(char::is_control), "{command:?}");
        }
    }
    let mut headers = HeaderMap::new();
    let host = next();
    for name in [HOST, ORIGIN] {
        HeaderValue::from_bytes(host).into_iter().for_each(|value| drop(headers.insert(name.clone(), value)));
        let _ = Access::default().check_site(&Uri::from_static("/"), &headers, false);
    }
    let _ = Format::chosen_by([&*String::from_utf8_lossy(next())].into_iter());
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_a_fuzzer_has_found_is_taken() {
        crate::checker::fuzz::tests::replay("http_request", super::http_request);
    }
}
