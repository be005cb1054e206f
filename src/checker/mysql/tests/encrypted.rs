//! Logins over TLS, with a server whose certificate names another host.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::checker::tls::{Identity, config};

const AUTHORITY: &str = include_str!("ca.pem");
const OTHER_AUTHORITY: &str = include_str!("other.pem");
const CLIENT: Identity<'_> = Identity { certificates: include_str!("client.pem"), key: include_str!("client.key") };
const TLS: u32 = 1 << 11;

fn certificate(pem: &str) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate")
}

fn server_config(asks_for_certificate: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate(AUTHORITY)).expect("an authority");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build();
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("TLS");
    let builder = match asks_for_certificate {
        true => builder.with_client_cert_verifier(verifier.expect("a verifier")),
        false => builder.with_no_client_auth(),
    };
    let key = PrivateKeyDer::from_pem_slice(include_bytes!("server.key")).expect("a key");
    Arc::new(builder.with_single_cert(vec![certificate(include_str!("server.pem"))], key).expect("a certificate"))
}

/// Wants TLS, and the password itself. Returns the password as it was sent.
async fn serve(mut stream: DuplexStream, config: Arc<ServerConfig>) -> Vec<u8> {
    stream.write_all(&packet(0, &greeting_with(CACHING_SHA2, TLS))).await.expect("a client");
    stream.read_exact(&mut [0; 36]).await.expect("a request for TLS");
    let Ok(mut stream) = TlsAcceptor::from(config).accept(stream).await else { return Vec::new() };
    let _ = read_packet(&mut stream).await;
    stream.write_all(&packet(3, &[1, 4])).await.expect("a client");
    let password = read_packet(&mut stream).await.expect("a packet");
    stream.write_all(&packet(5, OK)).await.expect("a client");
    // The client's goodbye.
    let _ = stream.read(&mut [0; 5]).await;
    password
}

/// A login with an authority and a certificate; the error, or the password that the server received.
fn log_in_over_tls(authority: Option<&str>, identity: Option<Identity<'_>>, asks: bool) -> Result<Vec<u8>> {
    let tls = LoginTls {
        config: config(authority, identity).expect("TLS"),
        required: true,
        verified: authority.is_some(),
        has_certificate: identity.is_some(),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    runtime.block_on(async {
        let (ours, theirs) = duplex(64 * 1024);
        let server = tokio::spawn(serve(theirs, server_config(asks)));
        let session = log_in(ours, HOST, &Login { tls: Some(tls), ..login("secret") }).await?;
        assert!(session.is_encrypted());
        drop(session);
        Ok(server.await.expect("no panic"))
    })
}

#[test]
fn over_tls_caching_sha2_sends_the_password_itself() {
    assert_eq!(log_in_over_tls(None, None, false).expect("a login"), b"secret\0");
}

#[test]
fn a_certificate_must_come_from_the_authority_but_may_name_any_host() {
    assert_eq!(log_in_over_tls(Some(AUTHORITY), None, false).expect("a login"), b"secret\0");
    match log_in_over_tls(Some(OTHER_AUTHORITY), None, false) {
        Err(Error::Tls(reason)) => assert!(reason.contains("UnknownIssuer"), "{reason}"),
        result => panic!("{result:?}"),
    }
}

#[test]
fn a_clients_certificate_is_shown_when_the_server_asks_for_it() {
    assert_eq!(log_in_over_tls(None, Some(CLIENT), true).expect("a login"), b"secret\0");
    assert!(log_in_over_tls(None, None, true).is_err());
}

#[test]
fn a_server_without_tls_is_left_where_tls_is_required() {
    let tls =
        LoginTls { config: config(None, None).expect("TLS"), required: true, verified: false, has_certificate: false };
    let answers = packet(0, &greeting(NATIVE));
    let result = at_once(log_in(Replay { answers, ..Replay::default() }, HOST, &Login { tls: Some(tls), ..login("") }));
    assert_eq!(error(result), "the server does not offer TLS");
}

#[test]
fn what_comes_ahead_of_tls_is_not_taken_for_part_of_it() {
    let tls =
        LoginTls { config: config(None, None).expect("TLS"), required: true, verified: false, has_certificate: false };
    let answers = [packet(0, &greeting_with(NATIVE, TLS)), packet(2, OK)].concat();
    let result = at_once(log_in(Replay { answers, ..Replay::default() }, HOST, &Login { tls: Some(tls), ..login("") }));
    assert_eq!(error(result), "not an answer of MySQL: data ahead of TLS");
}
