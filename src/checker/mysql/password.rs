//! What the plugins make of a password.

use curve25519_dalek::{EdwardsPoint, Scalar};
use rsa::pkcs8::DecodePublicKey;
use rsa::rand_core::OsRng;
use rsa::traits::PublicKeyParts;
use rsa::{Oaep, RsaPublicKey};
use sha1::{Digest, Sha1};
use sha2::{Sha256, Sha512};

use super::error::{Error, Result};

/// What the padding of RSA takes of a key's length: two SHA-1 hashes and two bytes.
const PADDING: usize = 2 * 20 + 2;

/// mysql_native_password: `SHA1(password) XOR SHA1(nonce + SHA1(SHA1(password)))`.
pub(super) fn native(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = Sha1::digest(password);
    let key = Sha1::new().chain_update(nonce).chain_update(Sha1::digest(once)).finalize();
    xor(&once, &key)
}

/// caching_sha2_password: `SHA256(password) XOR SHA256(SHA256(SHA256(password)) + nonce)`.
pub(super) fn caching_sha2(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let once = Sha256::digest(password);
    let key = Sha256::new().chain_update(Sha256::digest(once)).chain_update(nonce).finalize();
    xor(&once, &key)
}

/// client_ed25519: signs the nonce. It is Ed25519 with the password, whatever its length, in the place of the seed.
pub(super) fn ed25519(password: &[u8], nonce: &[u8]) -> Vec<u8> {
    let hash: [u8; 64] = Sha512::digest(password).into();
    let (secret, prefix) = hash.split_at(32);
    let mut clamped = [0; 32];
    clamped.copy_from_slice(secret);
    let secret = Scalar::from_bytes_mod_order(curve25519_dalek::scalar::clamp_integer(clamped));
    let public = EdwardsPoint::mul_base(&secret).compress();
    let once = scalar(Sha512::new().chain_update(prefix).chain_update(nonce));
    let commitment = EdwardsPoint::mul_base(&once).compress();
    let challenge = Sha512::new().chain_update(commitment.as_bytes()).chain_update(public.as_bytes());
    let proof = once + scalar(challenge.chain_update(nonce)) * secret;
    [commitment.to_bytes(), proof.to_bytes()].concat()
}

fn scalar(hash: Sha512) -> Scalar {
    Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
}

/// Encrypts a password, and the NUL behind it, with the key that a server has sent as PEM.
pub(super) fn encrypted(password: &[u8], nonce: &[u8], key: &[u8]) -> Result<Vec<u8>> {
    if nonce.is_empty() {
        return Err(Error::protocol("an empty challenge"));
    }
    let key = std::str::from_utf8(key).ok().and_then(|pem| RsaPublicKey::from_public_key_pem(pem.trim()).ok());
    let key = key.ok_or_else(|| Error::protocol("a public key that is not RSA in PEM"))?;
    let room = key.size().saturating_sub(PADDING + 1);
    if password.len() > room {
        let (length, bits) = (password.len(), key.size().saturating_mul(8));
        return Err(Error::Unsuited(format!(
            "the password of {length} bytes is too long for the server's RSA key of {bits} bits, which takes {room} (use \
            TLS)"
        )));
    }
    let text = with_nul(password);
    let masked: Vec<u8> = text.iter().zip(nonce.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
    key.encrypt(&mut OsRng, Oaep::new::<Sha1>(), &masked)
        .map_err(|error| Error::protocol(format!("an RSA key: {error}")))
}

pub(super) fn with_nul(password: &[u8]) -> Vec<u8> {
    [password, &[0]].concat()
}

fn xor(a: &[u8], b: &[u8]) -> Vec<u8> {
    a.iter().zip(b).map(|(a, b)| a ^ b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Figures of Python's hashlib and of MariaDB's own test of the plugin.
    #[test]
    fn hashes_are_those_of_other_implementations() {
        let nonce: Vec<u8> = (1..=20).collect();
        assert_eq!(hex(&native(b"secret", &nonce)), "b32bb3a583e1340c0a1108d58b1be49781ad8c2f");
        assert_eq!(
            hex(&caching_sha2(b"secret", &nonce)),
            "746ebe205d56a0707acb3e796e834e0dd7b1d61743b26bd5202c7a623230c7c9"
        );
        let ed25519 = ed25519(b"secret", &[b'A'; 32]);
        assert_eq!(
            hex(&ed25519),
            "986da22ec3d8311bac835119669b4cc0c89f0c45935d51ee96be1bb898e304e4d10daad0803928db63a820968311dc2a7106651d723a35403949853618793e05"
        );
    }

    #[test]
    fn a_key_that_is_none_is_refused() {
        for key in
            ["", "-----BEGIN PUBLIC KEY-----", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "\u{0}"]
        {
            assert!(matches!(encrypted(b"secret", &[1; 20], key.as_bytes()), Err(Error::Protocol(_))), "{key}");
        }
    }

    proptest! {
        #[test]
        fn no_challenge_makes_it_panic(password: Vec<u8>, nonce: Vec<u8>, key: Vec<u8>) {
            let _ = (native(&password, &nonce), caching_sha2(&password, &nonce), ed25519(&password, &nonce));
            let _ = encrypted(&password, &nonce, &key);
        }
    }
}
