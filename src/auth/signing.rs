//! DKIM signatures on what we send (RFC 6376, RFC 8463), and the keys for them.
//!
//! Promises relaxed/relaxed over the whole body, From signed once more than it is there (nobody can add a second
//! one), and that a key file is made once, with mode 0600, and never overwritten. Keys show nothing in Debug.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use mail_auth::common::crypto::{Ed25519Key, RsaKey, Sha256, SigningKey};
use mail_auth::common::headers::HeaderWriter;
use mail_auth::dkim::{Canonicalization, DkimSigner, Done};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;

use crate::message::base64;

/// Signs for one domain and selector.
pub struct Signer(Key);

enum Key {
    Ed25519(DkimSigner<Ed25519Key, Done>),
    Rsa(DkimSigner<RsaKey<Sha256>, Done>),
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer(…)")
    }
}

/// The algorithm of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// `ed25519-sha256`: short records, not read by every receiver.
    Ed25519,
    /// `rsa-sha256`, 2048 bits: read by all.
    Rsa,
}

/// Why nothing can be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The file holds no key of ours.
    #[error("{path} holds no RSA or Ed25519 key in PKCS #8 PEM: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Without key material.
        detail: String,
    },
    /// The library refused.
    #[error("a DKIM key could not be made or used: {0}")]
    Refused(String),
    /// The file cannot be read or written.
    #[error("cannot use {path}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Signer {
    /// With the key in a file.
    ///
    /// # Errors
    /// If the file cannot be read, or holds no key that can be used.
    pub fn load(path: &Path, domain: &str, selector: &str) -> Result<Self, SigningError> {
        let pem = read(path)?;
        let malformed = |detail: String| SigningError::Malformed { path: path.to_owned(), detail };
        let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| malformed(error.to_string()))?;
        if let Ok(key) = Ed25519Key::from_pkcs8_maybe_unchecked_der(der.secret_der()) {
            return Ok(Self(Key::Ed25519(signer(key, domain, selector))));
        }
        let key = RsaKey::<Sha256>::from_key_der(der).map_err(|error| malformed(error.to_string()))?;
        Ok(Self(Key::Rsa(signer(key, domain, selector))))
    }

    /// The message with its signature on top.
    ///
    /// # Errors
    /// If the library refuses.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        let signature = match &self.0 {
            Key::Ed25519(signer) => signer.sign(message),
            Key::Rsa(signer) => signer.sign(message),
        };
        let field = signature.map_err(|error| SigningError::Refused(error.to_string()))?.to_header();
        let mut signed = Vec::with_capacity(field.len() + message.len());
        signed.extend_from_slice(field.as_bytes());
        signed.extend_from_slice(message);
        Ok(signed)
    }
}

fn signer<K: SigningKey>(key: K, domain: &str, selector: &str) -> DkimSigner<K, Done> {
    DkimSigner::from_key(key)
        .domain(domain)
        .selector(selector)
        .headers(SIGNED_FIELDS)
        .header_canonicalization(Canonicalization::Relaxed)
        .body_canonicalization(Canonicalization::Relaxed)
}

/// Makes a key in a new file, mode 0600.
///
/// # Errors
/// If the file is there already, or cannot be written.
pub fn make_key(path: &Path, algorithm: Algorithm) -> Result<(), SigningError> {
    let refused = |_| SigningError::Refused("the system's random generator failed".to_owned());
    let der = match algorithm {
        Algorithm::Ed25519 => {
            let pair = Ed25519KeyPair::generate().map_err(refused)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(refused)?
        }
        Algorithm::Rsa => {
            let pair = RsaKeyPair::generate(KeySize::Rsa2048).map_err(refused)?;
            AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(refused)?
        }
    };
    let lines: Vec<String> = der.as_ref().chunks(PEM_OCTETS).map(base64).collect();
    let pem = format!("-----BEGIN PRIVATE KEY-----\n{}\n-----END PRIVATE KEY-----\n", lines.join("\n"));
    let unusable = |source| SigningError::Unusable { path: path.to_owned(), source };
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(unusable)?;
    file.write_all(pem.as_bytes()).and_then(|()| file.sync_all()).map_err(unusable)
}

/// The text of the TXT record that belongs to the key in a file.
///
/// # Errors
/// If the file cannot be read, or holds no key that can be used.
pub fn key_record(path: &Path) -> Result<String, SigningError> {
    let pem = read(path)?;
    let malformed = |detail: String| SigningError::Malformed { path: path.to_owned(), detail };
    let der = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| malformed(error.to_string()))?;
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_der()) {
        return Ok(format!("v=DKIM1; k=ed25519; p={}", base64(pair.public_key().as_ref())));
    }
    let pair = RsaKeyPair::from_pkcs8(der.secret_der()).map_err(|error| malformed(error.to_string()))?;
    let public: PublicKeyX509Der<'_> =
        pair.public_key().as_der().map_err(|error| malformed(error.to_string()))?;
    Ok(format!("v=DKIM1; k=rsa; p={}", base64(public.as_ref())))
}

fn read(path: &Path) -> Result<Vec<u8>, SigningError> {
    std::fs::read(path).map_err(|source| SigningError::Unusable { path: path.to_owned(), source })
}

/// From twice: once more than it is there (RFC 6376 section 8.15).
const SIGNED_FIELDS: [&str; 12] = [
    "From",
    "From",
    "Reply-To",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "In-Reply-To",
    "References",
    "MIME-Version",
    "Content-Type",
    "Content-Transfer-Encoding",
];
/// 48 octets are 64 digits (RFC 7468 section 2).
const PEM_OCTETS: usize = 48;

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_with_mode_0600_and_its_record_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        for (algorithm, start) in [
            (Algorithm::Ed25519, "v=DKIM1; k=ed25519; p="),
            (Algorithm::Rsa, "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A"),
        ] {
            let path = folder.path().join(format!("{algorithm:?}.pem"));
            make_key(&path, algorithm).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let record = key_record(&path).unwrap();
            assert!(record.starts_with(start), "{record}");
            assert!(matches!(make_key(&path, algorithm), Err(SigningError::Unusable { .. })), "kept");
            assert_eq!(key_record(&path).unwrap(), record);
        }
    }

    #[test]
    fn from_is_signed_once_more_than_it_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        make_key(&path, Algorithm::Ed25519).unwrap();
        let raw = b"From: r-1@reply.test\r\nTo: ana@patient.test\r\n\r\nHello\r\n";
        let signed = Signer::load(&path, "reply.test", "s1").unwrap().sign(raw).unwrap();
        assert!(signed.ends_with(raw));
        let field = String::from_utf8_lossy(&signed[..signed.len() - raw.len()]).replace("\r\n\t", "");
        let names = field.split("h=").nth(1).unwrap().split(';').next().unwrap();
        assert_eq!(names.split(':').filter(|name| name.trim() == "From").count(), 2, "{field}");
        assert!(
            field.contains("d=reply.test") && field.contains("s=s1") && !field.contains(" l="),
            "{field}"
        );
    }

    #[test]
    fn a_file_without_a_key_is_named_and_not_shown() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key.pem");
        std::fs::write(&path, "secret words").unwrap();
        let error = Signer::load(&path, "reply.test", "s1").unwrap_err().to_string();
        assert!(error.contains("key.pem") && !error.contains("secret words"), "{error}");
    }
}
