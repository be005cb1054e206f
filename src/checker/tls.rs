//! Which certificates are shown, and which are accepted.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, DigitallySignedStruct, Error, InconsistentKeys, RootCertStore, SignatureScheme};

/// The most certificates that are read from one file.
const MAX_CERTIFICATES: usize = 1024;

/// A client's certificate and key, as PEM.
#[derive(Clone, Copy)]
pub struct Identity<'a> {
    /// The certificate, and those that lead to its authority.
    pub certificates: &'a str,
    /// The private key.
    pub key: &'a str,
}

/// Prepares TLS. With `authorities` (PEM), a server must show a certificate that leads to one of them, for whatever host;
/// without, any certificate will do.
///
/// # Errors
/// One line that says which of the texts is of no use.
pub fn config(authorities: Option<&str>, identity: Option<Identity<'_>>) -> Result<Arc<ClientConfig>, String> {
    config_for(authorities, identity, None, &[])
}

/// The same. With authorities, a server's certificate must be for this `host`, if there is one. Inside TLS, these
/// `protocols` are offered.
///
/// # Errors
/// The same; and one line that says that no certificate can be for this host.
pub fn config_for(
    authorities: Option<&str>,
    identity: Option<Identity<'_>>,
    host: Option<&str>,
    protocols: &[String],
) -> Result<Arc<ClientConfig>, String> {
    let host = host.map(|host| ServerName::try_from(host.to_owned())).transpose().map_err(|error| error.to_string())?;
    let provider = Arc::new(ring::default_provider());
    let roots = authorities.map(roots).transpose()?;
    let verifier = Arc::new(Verifier { roots, host, provider: Arc::clone(&provider) });
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match identity {
        Some(identity) => builder.with_client_cert_resolver(Arc::new(certified(identity, &provider)?)),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Ok(Arc::new(config))
}

fn certificates(pem: &str, what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates =
        CertificateDer::pem_slice_iter(pem.as_bytes()).take(MAX_CERTIFICATES).collect::<Result<Vec<_>, _>>();
    match certificates {
        Ok(certificates) if certificates.is_empty() => Err(format!("{what}: no certificate in PEM")),
        Ok(certificates) => Ok(certificates),
        Err(error) => Err(format!("{what}: {error}")),
    }
}

fn roots(pem: &str) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem, "ssl-ca")? {
        roots.add(certificate).map_err(|error| format!("ssl-ca: {error}"))?;
    }
    Ok(roots)
}

/// Of certificates of X.509's first version, which servers accept, it is not known here whether the key is theirs.
fn certified(identity: Identity<'_>, provider: &CryptoProvider) -> Result<SingleCertAndKey, String> {
    let chain = certificates(identity.certificates, "ssl-cert")?;
    // The error may quote what it does not understand, and that is secret.
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes())
        .map_err(|_| "ssl-key: no private key in PEM (without a passphrase)".to_owned())?;
    let key =
        provider.key_provider.load_private_key(key).map_err(|_| "ssl-key: not a key that can be used".to_owned())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("ssl-key: not the key of the certificate".to_owned())
        }
        _ => Ok(certified.into()),
    }
}

/// Checks a server's certificate against the authorities, and never against the address of the host.
#[derive(Debug)]
struct Verifier {
    /// `None`: any certificate is accepted.
    roots: Option<RootCertStore>,
    /// Which host it must be for; `None`: whichever.
    host: Option<ServerName<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// A signature says nothing where any certificate is accepted, and some certificates that servers have made for
    /// themselves are too old for it to be checked.
    fn unless_any(
        &self,
        check: impl FnOnce() -> Result<HandshakeSignatureValid, Error>,
    ) -> Result<HandshakeSignatureValid, Error> {
        if self.roots.is_none() { Ok(HandshakeSignatureValid::assertion()) } else { check() }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if let Some(roots) = &self.roots {
            let algorithms = self.provider.signature_verification_algorithms.all;
            let certificate = ParsedCertificate::try_from(certificate)?;
            verify_server_cert_signed_by_trust_anchor(&certificate, roots, intermediates, now, algorithms)?;
            if let Some(host) = &self.host {
                verify_server_name(&certificate, host)?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.unless_any(|| verify_tls12_signature(message, certificate, signature, algorithms))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        self.unless_any(|| verify_tls13_signature(message, certificate, signature, algorithms))
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
