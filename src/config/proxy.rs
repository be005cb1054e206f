//! Options of the PROXY protocol headers that are sent to destinations.

use serde::{Deserialize, Serialize};

/// A version of the PROXY protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProxyVersion {
    /// A line of text.
    V1,
    /// Binary.
    V2,
}

/// What a header of version 2 says beside the addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyV2Option {
    /// A name for the connection: the one that a proxy has sent, or one of glbd's own.
    UniqueId,
    /// The host name that the client has asked for, where a proxy has sent it.
    Authority,
    /// The protocol that was negotiated over TLS, where a proxy has sent it.
    Alpn,
    /// What a proxy has sent about the client's TLS.
    Ssl,
    /// What a proxy has sent for applications.
    Custom,
    /// A checksum of the header.
    Crc32c,
}

pub(super) const OPTIONS: [(&str, ProxyV2Option); 6] = [
    ("unique-id", ProxyV2Option::UniqueId),
    ("authority", ProxyV2Option::Authority),
    ("alpn", ProxyV2Option::Alpn),
    ("ssl", ProxyV2Option::Ssl),
    ("custom", ProxyV2Option::Custom),
    ("crc32c", ProxyV2Option::Crc32c),
];

pub(super) fn parse_proxy_version(text: &str) -> Result<ProxyVersion, String> {
    match text {
        "1" => Ok(ProxyVersion::V1),
        "2" => Ok(ProxyVersion::V2),
        _ => Err("neither 1 nor 2".to_owned()),
    }
}

pub(super) fn parse_proxy_v2_option(text: &str) -> Result<ProxyV2Option, String> {
    let found = OPTIONS.iter().find(|(name, _)| *name == text);
    found.map(|(_, option)| *option).ok_or_else(|| {
        let names = OPTIONS.map(|(name, _)| name);
        format!("not one of {}", names.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Refused};
    use super::*;

    fn read(words: &[&str]) -> Result<Config, Refused> {
        Config::from_command_line(["glbd", "1"].iter().chain(words).map(|word| (*word).to_owned()))
    }

    fn refused(words: &[&str]) -> String {
        match read(words) {
            Err(Refused::Wrong(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_of_version_2_are_read_and_printed_as_a_file() {
        let words = ["--send-proxy=2", "--proxy-v2-options=unique-id,crc32c", "--proxy-v2-options=ssl"];
        let config = read(&words).expect("a command line");
        let expected = [ProxyV2Option::UniqueId, ProxyV2Option::Crc32c, ProxyV2Option::Ssl];
        assert_eq!(config.services[0].connections.proxy_v2_options, expected);
        let Err(Refused::Show(text)) = read(&[&words[..], &["--print-config"]].concat()) else {
            panic!("it is printed")
        };
        let (printed, _) = Config::from_text(&text, &[]).expect("a file without a fault");
        assert_eq!(printed.services, config.services, "{text}");
    }

    #[test]
    fn options_that_do_nothing_or_that_there_are_not_are_refused() {
        let told = "--proxy-v2-options needs version 2 of the header: give --send-proxy 2";
        assert_eq!(refused(&["--proxy-v2-options=crc32c"]), told);
        assert_eq!(refused(&["--send-proxy=1", "--proxy-v2-options=crc32c"]), told);
        let reason = refused(&["--send-proxy=2", "--proxy-v2-options=cert-cn"]);
        assert!(reason.contains("not one of unique-id, authority, alpn, ssl, custom, crc32c"), "{reason}");
    }

    #[test]
    fn a_file_that_says_them_of_version_1_is_told_where() {
        let text = "[pool.main]\n[service.main]\nlisten = 1\nsend-proxy = 1\nproxy-v2-options = ['ssl']\n";
        match Config::from_text(text, &[]) {
            Err(Refused::WrongFile(reasons)) => {
                let told =
                    "5:20: service.main.proxy-v2-options needs version 2 of the header: give service.main.send-proxy 2";
                assert_eq!(reasons, [told]);
            }
            other => panic!("{other:?}"),
        }
    }
}
