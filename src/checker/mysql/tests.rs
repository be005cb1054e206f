//! Conversations with servers that answer as real ones do, and as they should not.

mod encrypted;
mod parts;

use std::future::Future;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use rsa::pkcs8::DecodePrivateKey;
use rsa::{Oaep, RsaPrivateKey};
use sha1::Sha1;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf, duplex};

use super::packet::MAX_PACKET;
use super::*;

const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
pub(in crate::checker) const NATIVE: &str = "mysql_native_password";
const CACHING_SHA2: &str = "caching_sha2_password";
const NONCE: [u8; 20] = *b"abcdefghijklmnopqrst";
pub(in crate::checker) const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
pub(in crate::checker) const END: &[u8] = &[0xfe, 0, 0, 2, 0];

/// A server whose answers stand from the start. It remembers what it is sent.
#[derive(Default)]
struct Replay {
    answers: Vec<u8>,
    position: usize,
    sent: Sent,
}

type Sent = Arc<Mutex<Vec<u8>>>;

impl AsyncRead for Replay {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let left = self.answers.get(self.position..).unwrap_or_default();
        let count = left.len().min(buffer.remaining());
        buffer.put_slice(&left[..count]);
        self.position += count;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Replay {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.sent.lock().expect("no panic").extend(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What a future comes to that never waits.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("nothing here needs to wait"),
    }
}

pub(in crate::checker) fn packet(sequence: u8, contents: &[u8]) -> Vec<u8> {
    let [low, middle, high, _] = u32::try_from(contents.len()).expect("a packet").to_le_bytes();
    [&[low, middle, high, sequence], contents].concat()
}

/// What a client sends in its next packet.
pub(in crate::checker) async fn read_packet(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let mut header = [0; 4];
    stream.read_exact(&mut header).await?;
    let mut contents = vec![0; usize::from(header[0]) | usize::from(header[1]) << 8];
    stream.read_exact(&mut contents).await?;
    Ok(contents)
}

fn greeting(plugin: &str) -> Vec<u8> {
    greeting_with(plugin, 0)
}

pub(in crate::checker) fn greeting_with(plugin: &str, capabilities: u32) -> Vec<u8> {
    let [a, b, c, d] = (0x0008_8201_u32 | capabilities).to_le_bytes();
    let (first, second) = NONCE.split_at(8);
    [
        b"\x0a10.11.0-MariaDB\0\x01\0\0\0".as_slice(),
        first,
        &[0, a, b, 33, 2, 0, c, d, 21],
        &[0; 10],
        second,
        &[0],
        plugin.as_bytes(),
        &[0],
    ]
    .concat()
}

fn switch(plugin: &str, nonce: &[u8]) -> Vec<u8> {
    [&[0xfe], plugin.as_bytes(), &[0], nonce].concat()
}

pub(in crate::checker) fn refusal(code: u16, message: &str) -> Vec<u8> {
    [&[0xff], code.to_le_bytes().as_slice(), b"#HY000", message.as_bytes()].concat()
}

fn login(password: &str) -> Login {
    Login { user: "monitor".to_owned(), password: password.to_owned(), tls: None }
}

/// A login, whose packets after the greeting are numbered as they must be.
fn log_in_with(password: &str, greeting: &[u8], rest: &[&[u8]]) -> Result<Session<Replay>> {
    log_in_and_listen(password, greeting, rest).0
}

/// The same, with what is sent to the server.
fn log_in_and_listen(password: &str, greeting: &[u8], rest: &[&[u8]]) -> (Result<Session<Replay>>, Sent) {
    let numbered = rest.iter().zip((2..).step_by(2)).flat_map(|(contents, sequence)| packet(sequence, contents));
    let answers = packet(0, greeting).into_iter().chain(numbered).collect();
    let sent = Sent::default();
    let replay = Replay { answers, position: 0, sent: Arc::clone(&sent) };
    (at_once(log_in(replay, HOST, &login(password))), sent)
}

fn error(result: Result<Session<Replay>>) -> String {
    result.err().expect("no session").to_string()
}

/// A session in which the server answers a question with these packets.
fn answered_with(contents: &[&[u8]]) -> Result<Vec<(String, String)>> {
    let numbered: Vec<u8> =
        contents.iter().zip(1..).flat_map(|(contents, sequence)| packet(sequence, contents)).collect();
    let answers = [packet(0, &greeting(NATIVE)), packet(2, OK), numbered].concat();
    let mut session = at_once(log_in(Replay { answers, ..Replay::default() }, HOST, &login("secret")))?;
    at_once(session.query("SHOW"))
}

#[test]
fn a_native_password_is_answered_with_its_hash() {
    let session = log_in_with("secret", &greeting(NATIVE), &[OK]).expect("a session");
    assert!(!session.is_encrypted());
    let session = log_in_with("secret", &greeting("client_ed25519"), &[&switch(NATIVE, &NONCE), OK]);
    assert!(session.is_ok());
    // A server older than plugins.
    let old = [b"\x0a5.1\0\0\0\0\0abcdefgh\0\x01\x82".as_slice(), &[33, 2, 0], &[0; 13], b"ijklmnopqrst\0"].concat();
    assert!(log_in_with("secret", &old, &[OK]).is_ok());
}

#[test]
fn an_ed25519_account_can_log_in() {
    let session = log_in_with("secret", &greeting(NATIVE), &[&switch("client_ed25519", &[7; 32]), OK]);
    assert!(session.is_ok());
    let short = log_in_with("secret", &greeting(NATIVE), &[&switch("client_ed25519", &[7; 31]), OK]);
    assert_eq!(error(short), "not an answer of MySQL: a challenge of 31 bytes");
}

/// MariaDB sends no NUL behind it.
#[test]
fn a_challenge_may_end_in_a_nul() {
    let mut nonce = [7; 32];
    nonce[31] = 0;
    assert!(log_in_with("secret", &greeting(NATIVE), &[&switch("client_ed25519", &nonce), OK]).is_ok());
}

#[test]
fn an_account_whose_plugin_is_not_known_is_told_by_its_name() {
    for (packet, plugin) in [
        (switch("parsec", &[7; 32]), "parsec"),
        (switch("dialog", b"Password: "), "dialog"),
        (switch("auth_gssapi_client", b""), "auth_gssapi_client"),
        (switch("\u{1b}[2J", b""), "?[2J"),
        (vec![0xfe], "mysql_old_password"),
    ] {
        let expected = format!("the account's authentication plugin '{plugin}' is not supported");
        assert_eq!(error(log_in_with("secret", &greeting(NATIVE), &[&packet])), expected);
    }
    let clear = error(log_in_with("secret", &greeting(NATIVE), &[&switch("mysql_clear_password", b"")]));
    assert!(clear.contains("with tls=verify-ca only"), "{clear}");
}

#[test]
fn caching_sha2_without_tls_is_fast_or_encrypts_the_password() {
    assert!(log_in_with("secret", &greeting(CACHING_SHA2), &[&[1, 3]]).is_err(), "the end is missing");
    let answers = [packet(0, &greeting(CACHING_SHA2)), packet(2, &[1, 3]), packet(3, OK)].concat();
    assert!(at_once(log_in(Replay { answers, ..Replay::default() }, HOST, &login("secret"))).is_ok());
    let key = [b"\x01", include_bytes!("tests/public.pem").as_slice()].concat();
    let server = RsaPrivateKey::from_pkcs8_pem(include_str!("tests/server.key")).expect("a key");
    let longest = "x".repeat(256 - 42 - 1);
    for password in ["s", "secret", &longest] {
        let (session, sent) = log_in_and_listen(password, &greeting(CACHING_SHA2), &[&[1, 4], &key, OK]);
        let sent = sent.lock().expect("no panic").clone();
        assert!(session.is_ok());
        let encrypted = &sent[sent.len() - 256..];
        let masked = server.decrypt(Oaep::new::<Sha1>(), encrypted).expect("what was encrypted for it");
        let clear: Vec<u8> = masked.iter().zip(NONCE.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
        assert_eq!(clear, [password.as_bytes(), &[0]].concat());
    }
}

#[test]
fn a_password_that_the_servers_key_cannot_take_is_told() {
    let key = [b"\x01", include_bytes!("tests/public.pem").as_slice()].concat();
    let result = log_in_with(&"x".repeat(230), &greeting(CACHING_SHA2), &[&[1, 4], &key, OK]);
    let expected =
        "the password of 230 bytes is too long for the server's RSA key of 2048 bits, which takes 213 (use TLS)";
    assert_eq!(error(result), expected);
}

#[test]
fn keys_and_challenges_that_are_none_are_no_login() {
    for key in [&b"\x01"[..], b"\x01not PEM", b"\x01-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"] {
        let result = log_in_with("secret", &greeting(CACHING_SHA2), &[&[1, 4], key]);
        assert_eq!(error(result), "not an answer of MySQL: a public key that is not RSA in PEM");
    }
    for plugin in [CACHING_SHA2, NATIVE, "client_ed25519"] {
        let result = log_in_with("secret", &greeting(NATIVE), &[&switch(plugin, b"")]);
        assert_eq!(error(result), "not an answer of MySQL: a challenge of 0 bytes");
    }
}

#[test]
fn an_account_without_a_password_logs_in_with_nothing() {
    for plugin in [NATIVE, CACHING_SHA2, "sha256_password"] {
        assert!(log_in_with("", &greeting(plugin), &[OK]).is_ok(), "{plugin}");
    }
}

#[test]
fn a_refusal_in_the_place_of_the_greeting_has_its_number() {
    for text in ["#08004Too many connections", "Too many connections"] {
        let contents = [b"\xff\x10\x04", text.as_bytes()].concat();
        match log_in_with("secret", &contents, &[]) {
            Err(Error::Server(error)) => {
                assert_eq!((error.code, error.message.as_str()), (1040, "Too many connections"))
            }
            result => panic!("{}", error(result)),
        }
    }
    assert_eq!(error(log_in_with("secret", &greeting(NATIVE), &[&refusal(1045, "no")])), "no (error 1045)");
}

#[test]
fn a_login_has_an_end() {
    let again = switch(NATIVE, &NONCE);
    let result = log_in_with("secret", &greeting(NATIVE), &[again.as_slice(); 20]);
    assert_eq!(error(result), "not an answer of MySQL: a login of more than 8 steps");
}

#[test]
fn what_does_not_greet_as_mysql_is_told() {
    for (answers, reason) in [
        (b"SSH-2.0-OpenSSH_9.2\r\n".to_vec(), "a packet of 4739923 bytes"),
        (packet(0, b""), "an empty greeting"),
        (packet(0, b"\x09old\0"), "protocol version 9 in its greeting"),
        (packet(0, b"\x0a10.11"), "a greeting cut short"),
        (packet(3, &greeting(NATIVE)), "packet 3 instead of 0"),
    ] {
        let result = at_once(log_in(Replay { answers, ..Replay::default() }, HOST, &login("secret")));
        assert_eq!(error(result), format!("not an answer of MySQL: {reason}"));
    }
    assert_eq!(error(at_once(log_in(Replay::default(), HOST, &login("")))), "the server closed the connection");
}

#[test]
fn rows_are_read_by_their_first_two_columns() {
    let rows: [&[u8]; 6] = [&[2], b"first", b"second", END, b"\x01a\x01b", END];
    assert_eq!(answered_with(&rows).expect("rows"), [("a".to_owned(), "b".to_owned())]);
    let null: [&[u8]; 6] = [&[2], b"first", b"second", END, b"\x01a\xfb", END];
    assert_eq!(answered_with(&null).expect("rows"), [("a".to_owned(), String::new())]);
    let one: [&[u8]; 5] = [&[1], b"first", END, b"\x01a", END];
    assert_eq!(answered_with(&one).expect("rows"), [("a".to_owned(), String::new())]);
    assert!(answered_with(&[OK]).expect("no rows").is_empty());
    // What begins like the end and is longer is a row, whose text has a length of eight bytes.
    let long: [&[u8]; 5] = [&[1], b"first", END, &[0xfe, 0, 0, 0, 0, 0, 0, 0, 0], END];
    assert_eq!(answered_with(&long).expect("rows"), [(String::new(), String::new())]);
}

#[test]
fn answers_without_sense_or_end_are_errors() {
    let many = vec![b"\x01a\x01b".as_slice(); 65];
    let head: [&[u8]; 4] = [&[2], b"first", b"second", END];
    let far: [(&[&[u8]], &str); 9] = [
        (&[&[0xfe, 0, 0, 0, 0, 0, 1, 0, 0]], "1099511627776 columns"),
        (&[&[0xfe, 0, 0, 0, 0, 0, 0, 0, 0x40]], "4611686018427387904 columns"),
        (&[&[0xfc, 65, 0]], "65 columns"),
        (&[&[0xfb]], "no number of columns"),
        (&[b""], "an empty packet instead of the columns"),
        (&[&[1], b"first", b"\x01a"], "no end of the columns"),
        (&[&[1], b"first", END, b""], "a row cut short"),
        (&[&[1], b"first", END, &[0xfd, 255, 255, 255, b'a']], "a row cut short"),
        (&[&head[..], &many].concat(), "more rows than were asked for"),
    ];
    for (contents, reason) in far {
        let error = answered_with(contents).expect_err("no answer").to_string();
        assert_eq!(error, format!("not an answer of MySQL: {reason}"));
    }
    let refused = answered_with(&[&refusal(1820, "You must SET PASSWORD")]).expect_err("no answer");
    assert_eq!(refused.to_string(), "You must SET PASSWORD (error 1820)");
    let late: [&[u8]; 4] = [&[1], b"first", END, &refusal(1317, "interrupted")];
    assert_eq!(answered_with(&late).expect_err("no answer").to_string(), "interrupted (error 1317)");
}

#[test]
fn rows_have_so_much_text_in_all_and_no_more() {
    let [low, middle, high, _] = (MAX_PACKET as u32 / 2 - 4).to_le_bytes();
    let half = [&[0xfd, low, middle, high], vec![b'a'; MAX_PACKET / 2 - 4].as_slice()].concat();
    let most: [&[u8]; 6] = [&[1], b"first", END, &half, &half, END];
    assert_eq!(answered_with(&most).expect("rows").len(), 2);
    for more in [b"\x00".as_slice(), &half] {
        let beyond: [&[u8]; 7] = [&[1], b"first", END, &half, &half, more, END];
        let error = answered_with(&beyond).expect_err("no answer").to_string();
        assert_eq!(error, "not an answer of MySQL: more rows than were asked for");
    }
}

#[test]
fn a_session_that_is_dropped_says_goodbye_unless_it_waits_for_an_answer() {
    let goodbye = packet(0, &[1]);
    let (session, sent) = log_in_and_listen("secret", &greeting(NATIVE), &[OK]);
    let mut session = session.expect("a session");
    assert!(at_once(session.query("SHOW")).is_err(), "the server has closed the connection");
    drop(session);
    assert!(!sent.lock().expect("no panic").ends_with(&goodbye));
    let (session, sent) = log_in_and_listen("secret", &greeting(NATIVE), &[OK]);
    drop(session.expect("a session"));
    assert!(sent.lock().expect("no panic").ends_with(&goodbye));
}

#[test]
fn a_session_that_quits_has_ended_once_the_server_has_closed_it() {
    let (ours, mut theirs) = duplex(4096);
    let login = login("secret");
    let mut begun = pin!(log_in(ours, HOST, &login));
    let context = &mut Context::from_waker(Waker::noop());
    assert!(begun.as_mut().poll(context).is_pending());
    at_once(theirs.write_all(&[packet(0, &greeting(NATIVE)), packet(2, OK)].concat())).expect("a client");
    let Poll::Ready(Ok(session)) = begun.as_mut().poll(context) else { panic!("no session") };
    at_once(read_packet(&mut theirs)).expect("a login");
    let mut quit = pin!(session.quit());
    assert!(quit.as_mut().poll(context).is_pending());
    assert_eq!(at_once(read_packet(&mut theirs)).expect("a goodbye"), [1]);
    assert!(quit.as_mut().poll(context).is_pending());
    drop(theirs);
    assert!(quit.as_mut().poll(context).is_ready());
}

proptest! {
    #[test]
    fn no_server_makes_it_panic(answers: Vec<u8>, tail: Vec<u8>, sequences in prop::collection::vec(0_u8..8, 0..6)) {
        let _ = at_once(log_in(Replay { answers: answers.clone(), ..Replay::default() }, HOST, &login("secret")));
        let _ = log_in_with("secret", &greeting(CACHING_SHA2), &[&answers, &tail]);
        let _ = answered_with(&[&answers, &tail, END]);
        let numbered = sequences.iter().flat_map(|it| packet(*it, &tail)).collect();
        let _ = at_once(log_in(Replay { answers: numbered, ..Replay::default() }, HOST, &login("secret")));
    }
}
