//! The page: one file, of which browsers are told the hashes of its script and its styles, so that nothing else is run.

use std::sync::OnceLock;

use base64ct::{Base64, Encoding};
use sha2::{Digest, Sha256};

/// The page.
pub(super) const TEXT: &str = include_str!("page.html");
pub(super) const KIND: &str = "text/html; charset=utf-8";

/// What the page may do: run what stands in it, and talk to where it came from.
pub(super) fn policy() -> &'static str {
    static POLICY: OnceLock<String> = OnceLock::new();
    POLICY.get_or_init(|| {
        let hash = |name| format!("'sha256-{}'", Base64::encode_string(&Sha256::digest(part(name))));
        format!(
            "default-src 'none'; script-src {}; style-src {}; connect-src 'self'; img-src data:; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'none'",
            hash("script"),
            hash("style")
        )
    })
}

/// What stands between `<NAME>` and `</NAME>`.
fn part(name: &str) -> &'static str {
    let rest = TEXT.split_once(&format!("<{name}>")).map_or("", |(_, rest)| rest);
    rest.split_once(&format!("</{name}>")).map_or("", |(part, _)| part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_brings_along_all_that_it_needs() {
        for name in ["script", "style"] {
            assert!(part(name).len() > 100, "{name}");
            assert_eq!(TEXT.matches(&format!("<{name}")).count(), 1, "{name}");
        }
        let addresses = TEXT.replace("http://www.w3.org/2000/svg", "");
        for foreign in ["http:", "https:", "src=", "@import", "url("] {
            assert!(!addresses.contains(foreign), "{foreign}");
        }
    }
}
