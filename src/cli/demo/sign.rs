//! DKIM signatures (RFC 6376, RFC 8463) with the public test keys of `fixtures/demo/keys`.
//!
//! Promises a field that covers From and the whole body, relaxed/relaxed. Only for names under `.test`: anybody has
//! these keys.

use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner, Done};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use serde::Deserialize;

/// Signs mail for one domain.
pub struct Signer(Key);

enum Key {
    Ed25519(DkimSigner<Ed25519Key, Done>),
    Rsa(DkimSigner<RsaKey<Sha256>, Done>),
}

/// The algorithm, and with it the test key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// `ed25519-sha256`.
    Ed25519,
    /// `rsa-sha256` with 2048 bits.
    Rsa,
}

/// Why a mail could not be signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    /// The key file is broken.
    #[error("test key cannot be read: {0}")]
    Key(String),
    /// Without any header field there is nothing to sign.
    #[error("mail cannot be signed: {0}")]
    Mail(String),
}

impl Signer {
    /// A signer for `d=domain; s=selector`.
    ///
    /// # Errors
    /// If the compiled-in test key cannot be read.
    pub fn new(domain: &str, selector: &str, algorithm: Algorithm) -> Result<Self, SignError> {
        Ok(Self(match algorithm {
            Algorithm::Ed25519 => {
                let der = PrivatePkcs8KeyDer::from_pem_slice(ED25519_PEM.as_bytes()).map_err(key_error)?;
                let key = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_pkcs8_der())
                    .map_err(|error| SignError::Key(error.to_string()))?;
                Key::Ed25519(
                    DkimSigner::from_key(key).domain(domain).selector(selector).headers(FIELDS).relaxed(),
                )
            }
            Algorithm::Rsa => {
                let der = PrivateKeyDer::from_pem_slice(RSA_PEM.as_bytes()).map_err(key_error)?;
                let key =
                    RsaKey::<Sha256>::from_key_der(der).map_err(|error| SignError::Key(error.to_string()))?;
                Key::Rsa(
                    DkimSigner::from_key(key).domain(domain).selector(selector).headers(FIELDS).relaxed(),
                )
            }
        }))
    }

    /// The mail with a DKIM-Signature field on top.
    ///
    /// # Errors
    /// If the mail has no header field.
    pub fn sign(&self, raw: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = match &self.0 {
            Key::Ed25519(signer) => signer.sign(raw),
            Key::Rsa(signer) => signer.sign(raw),
        };
        let field = signature.map_err(|error| SignError::Mail(error.to_string()))?.to_header();
        let mut signed = Vec::with_capacity(field.len() + raw.len());
        signed.extend_from_slice(field.as_bytes());
        signed.extend_from_slice(raw);
        Ok(signed)
    }
}

/// The content of the TXT record at `selector._domainkey.domain` that belongs to the test key.
#[must_use]
pub const fn key_record(algorithm: Algorithm) -> &'static str {
    match algorithm {
        Algorithm::Ed25519 => ED25519_RECORD,
        Algorithm::Rsa => RSA_RECORD,
    }
}

trait Relaxed {
    fn relaxed(self) -> Self;
}

impl<T: mail_auth::common::crypto::SigningKey> Relaxed for DkimSigner<T, Done> {
    fn relaxed(self) -> Self {
        self.header_canonicalization(Canonicalization::Relaxed)
            .body_canonicalization(Canonicalization::Relaxed)
    }
}

#[expect(clippy::needless_pass_by_value, reason = "used as a function for map_err")]
fn key_error(error: rustls_pki_types::pem::Error) -> SignError {
    SignError::Key(error.to_string())
}

/// The fields that large hosts sign.
const FIELDS: [&str; 10] = [
    "From",
    "To",
    "Cc",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
];
const RSA_PEM: &str = include_str!("../../../fixtures/demo/keys/demo-rsa.pem");
const ED25519_PEM: &str = include_str!("../../../fixtures/demo/keys/demo-ed25519.pem");
const RSA_RECORD: &str = concat!(
    "v=DKIM1; k=rsa; p=",
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvwybenDFdoX3oHrP0gPaGMpTp7z0rPuCkyf5NukpoQsCMkf+OQ8OUK",
    "RyYk7W/hW57GtrFKv2zz75cu6gUS44tr6ltezlLJg9HjYuCo/ptv43n9evZAe/VdMqsmcKTxmOZuwi2c/wl34r+QkXzvCo3kgX",
    "XVRB1SJbJ+tS6SXeaGzOQKn3eOaq8+TW3KnVJJ4uJsXIoEBjV92DV5Is8qfbDTXeJk0w6dmKmcEdDFfEn7TLVwlIEw3KdfCplm",
    "plGInFNzYdD5CgJzBiaEoAcEB8KWEHlxwrDaW4mooaaleAK/zTczviLR1tkD1ZAvxIl8yHtFEV8lnBwz8rCtcG97omkwIDAQAB",
);
const ED25519_RECORD: &str = "v=DKIM1; k=ed25519; p=BFhFzstXolgwQilKbs1pjPHX7OwU2Rh5wqev+0CAQmc=";

#[cfg(test)]
mod tests {
    use mail_auth::common::parse::TxtRecordParser;
    use mail_auth::common::verify::DomainKey;

    use super::*;

    #[test]
    fn the_field_stands_on_top_and_covers_from_and_the_whole_body() {
        let raw = b"From: a@praxis.test\r\nTo: b@post.test\r\nSubject: x\r\n\r\nHello\r\n";
        for (algorithm, name) in [(Algorithm::Rsa, "a=rsa-sha256"), (Algorithm::Ed25519, "a=ed25519-sha256")]
        {
            let signed = Signer::new("praxis.test", "s1", algorithm).unwrap().sign(raw).unwrap();
            assert!(signed.ends_with(raw));
            let field = String::from_utf8(signed[..signed.len() - raw.len()].to_vec()).unwrap();
            assert!(field.starts_with("DKIM-Signature: ") && field.ends_with("\r\n"), "{field}");
            assert!(field.contains(name) && field.contains("d=praxis.test"), "{field}");
            assert!(field.contains(":From:") && !field.contains(" l="), "{field}");
        }
    }

    #[test]
    fn the_key_records_can_be_read() {
        for algorithm in [Algorithm::Rsa, Algorithm::Ed25519] {
            DomainKey::parse(key_record(algorithm).as_bytes()).unwrap();
        }
    }
}
