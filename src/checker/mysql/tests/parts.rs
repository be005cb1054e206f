//! Parts of a login: what is read from a greeting, and what each plugin answers.

use super::super::auth::{Authentication, Plugin, Protection};
use super::super::handshake::capability::{LONG_PASSWORD, PLUGIN_AUTH, PROTOCOL_41, SECURE_CONNECTION, SSL};
use super::super::handshake::{Greeting, capabilities, response, tls_request};
use super::*;

/// What the greeting of [`greeting_with`] always has.
const ALWAYS: u32 = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | PLUGIN_AUTH;

/// A greeting with these capabilities only.
fn greeting_of(capabilities: u32) -> Vec<u8> {
    let mut greeting = greeting_with(NATIVE, 0);
    let end = greeting.windows(8).position(|it| it == &NONCE[..8]).expect("a nonce") + 9;
    let [a, b, c, d] = capabilities.to_le_bytes();
    greeting[end..end + 2].copy_from_slice(&[a, b]);
    greeting[end + 5..end + 7].copy_from_slice(&[c, d]);
    greeting
}

#[test]
fn a_greeting_is_as_long_as_it_is_in_all_versions() {
    assert_eq!(greeting_of(ALWAYS), greeting_with(NATIVE, 0));
    let whole = greeting_with(NATIVE, 0);
    let cut = whole.len() - NATIVE.len() - 1;
    let parsed = Greeting::parse(&whole[..cut]).expect("a greeting without a plugin's name");
    assert_eq!((parsed.plugin.as_str(), parsed.nonce.get(..20)), ("", Some(&NONCE[..])));
}

proptest! {
    #[test]
    fn a_server_is_spoken_to_if_it_knows_the_protocol_of_today(set: u32) {
        let known = set & (PROTOCOL_41 | SECURE_CONNECTION) == PROTOCOL_41 | SECURE_CONNECTION;
        let parsed = Greeting::parse(&greeting_of(set));
        prop_assert_eq!(parsed.is_ok(), known);
        for set in [set | PROTOCOL_41 | SECURE_CONNECTION, (set | PROTOCOL_41) & !SECURE_CONNECTION] {
            let Ok(greeting) = Greeting::parse(&greeting_of(set)) else {
                prop_assert!(set & SECURE_CONNECTION == 0);
                continue;
            };
            prop_assert_eq!(greeting.capabilities, set);
            prop_assert_eq!(greeting.offers_tls(), set & SSL > 0);
            prop_assert_eq!(&greeting.nonce[..20], &NONCE[..]);
            prop_assert_eq!(greeting.plugin.as_str(), if set & PLUGIN_AUTH > 0 { NATIVE } else { "" });
            let used = LONG_PASSWORD | PROTOCOL_41 | SECURE_CONNECTION | (set & PLUGIN_AUTH);
            prop_assert_eq!(capabilities(&greeting, false), used);
            prop_assert_eq!(capabilities(&greeting, true), used | SSL);
        }
    }
}

#[test]
fn an_answer_names_the_plugin_to_servers_that_know_plugins() {
    for (capabilities, plugin) in [(ALWAYS, b"client_ed25519\0".as_slice()), (ALWAYS & !PLUGIN_AUTH, b"")] {
        let answer = response(capabilities, 1000, "monitor", "client_ed25519", &[7; 20]).expect("an answer");
        let expected = [&tls_request(capabilities, 1000), b"monitor\0\x14".as_slice(), &[7; 20], plugin].concat();
        assert_eq!(answer, expected);
    }
}

#[test]
fn every_plugin_is_known_by_its_name() {
    for plugin in [Plugin::Native, Plugin::CachingSha2, Plugin::Sha256, Plugin::Ed25519, Plugin::ClearText] {
        assert_eq!(Plugin::named(plugin.name()), Some(plugin));
    }
    assert_eq!(Plugin::named("mysql_old_password"), None);
}

#[test]
fn a_password_is_sent_as_it_is_over_tls_only_and_by_clear_text_only_to_a_server_that_is_known() {
    const CLEAR: &[u8] = b"secret\0";
    let reply = |plugin, password: &'static str, protection| {
        Authentication::new(plugin, password.as_bytes(), NONCE.to_vec(), protection).reply().ok()
    };
    for (protection, sha256, clear_text) in [
        (Protection::None, &[1][..], None),
        (Protection::Encrypted, CLEAR, None),
        (Protection::Verified, CLEAR, Some(CLEAR)),
    ] {
        assert_eq!(reply(Plugin::Sha256, "secret", protection).as_deref(), Some(sha256), "{protection:?}");
        assert_eq!(reply(Plugin::ClearText, "secret", protection).as_deref(), clear_text, "{protection:?}");
        let more = Authentication::new(Plugin::CachingSha2, b"secret", NONCE.to_vec(), protection).more(&[4]);
        let clear = if protection > Protection::None { CLEAR } else { &[2] };
        assert_eq!(more.ok().flatten().as_deref(), Some(clear), "{protection:?}");
        for plugin in [Plugin::Native, Plugin::CachingSha2, Plugin::Sha256] {
            assert_eq!(reply(plugin, "", protection), Some(Vec::new()), "without a password there is nothing to send");
        }
    }
}
