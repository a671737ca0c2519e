//! The key file (`[keys] file`): master key, address-hash key and reply-token keys; made on first start, mode 0600.
//!
//! Promises that no key shows in Debug output or errors, and that an existing file is never overwritten.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::hmac;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::address::EmailAddress;
use crate::id::AccountId;

/// 32 secret octets.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret([u8; 32]);

impl Secret {
    /// The octets.
    #[must_use]
    pub const fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// From given octets (tests, vectors, the key file).
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    fn generate() -> Result<Self, KeyFileError> {
        let mut bytes = [0; 32];
        aws_lc_rs::rand::fill(&mut bytes).map_err(|_| KeyFileError::NoRandomness)?;
        Ok(Self(bytes))
    }
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// A key for reply tokens (CONTRACT, "Addresses").
#[derive(Clone, Debug)]
pub struct TokenKey {
    /// The first octet of a token names its key.
    pub id: u8,
    /// The HMAC key.
    pub secret: Secret,
}

/// Everything in the key file.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Wraps the accounts' keys.
    pub master: Secret,
    /// Keys the hashes of addresses in traces of discarded mail and in logs (R5, R65).
    address_hash: Secret,
    /// Reply-token keys; the last one mints, all verify.
    pub reply_tokens: Vec<TokenKey>,
}

/// Why the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file is there but cannot be understood.
    #[error("key file {path} is malformed: {detail}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Without key material.
        detail: String,
    },
    /// The system gave no random octets.
    #[error("the system's random generator failed")]
    NoRandomness,
    /// Others can read the file.
    #[error("key file {path} must not be readable by others (mode {mode:o}, want 600)")]
    Readable {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The file cannot be read or written.
    #[error("cannot use key file {path}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyFile {
    master: String,
    address_hash: String,
    reply_token: Vec<TokenKeyEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenKeyEntry {
    id: u8,
    key: String,
}

impl Keys {
    /// Reads the key file, or makes one with fresh keys where there is none.
    ///
    /// # Errors
    /// If the file is malformed, readable by others, or cannot be read or written.
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
        match fs::read_to_string(path) {
            Ok(text) => {
                let mode = fs::metadata(path).map_err(unusable)?.permissions().mode() & 0o777;
                if mode & 0o077 != 0 {
                    return Err(KeyFileError::Readable { path: path.to_owned(), mode });
                }
                Self::parse(&text).map_err(|detail| KeyFileError::Malformed { path: path.to_owned(), detail })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let keys = Self::generate()?;
                keys.write_new(path).map_err(unusable)?;
                Ok(keys)
            }
            Err(error) => Err(unusable(error)),
        }
    }

    /// Fresh keys that are not written anywhere (dry runs, tests).
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn generate() -> Result<Self, KeyFileError> {
        Ok(Self {
            master: Secret::generate()?,
            address_hash: Secret::generate()?,
            reply_tokens: vec![TokenKey { id: 1, secret: Secret::generate()? }],
        })
    }

    /// The keyed hash of an address: 16 octets of HMAC-SHA-256 over its folded form. Finds an exact address,
    /// lists none (R5).
    #[must_use]
    pub fn address_hash(&self, address: &EmailAddress) -> [u8; 16] {
        self.hash(&[address.key().as_bytes()])
    }

    /// The keyed hash of a message, by which a retry of an erased one is known (R60): over account, Message-ID and
    /// digest (R71: another digest is another message). The leading NUL stands in no address.
    #[must_use]
    pub fn message_hash(&self, account: AccountId, message_id: &str, digest: &[u8]) -> [u8; 16] {
        self.hash(&[b"\0message\0", account.uuid().as_bytes(), digest, message_id.as_bytes()])
    }

    fn hash(&self, parts: &[&[u8]]) -> [u8; 16] {
        let mut context =
            hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.address_hash.expose()));
        parts.iter().for_each(|part| context.update(part));
        let mut hash = [0; 16];
        hash.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        hash
    }

    fn parse(text: &str) -> Result<Self, String> {
        // The parser's own message may quote the line, and with it a key.
        let file: KeyFile = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let reply_tokens = file
            .reply_token
            .iter()
            .map(|entry| Ok(TokenKey { id: entry.id, secret: read_hex(&entry.key, "reply_token")? }))
            .collect::<Result<Vec<_>, String>>()?;
        let mut ids: Vec<u8> = reply_tokens.iter().map(|key| key.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err("two reply_token keys have the same id".to_owned());
        }
        if reply_tokens.is_empty() {
            return Err("no reply_token key".to_owned());
        }
        Ok(Self {
            master: read_hex(&file.master, "master")?,
            address_hash: read_hex(&file.address_hash, "address_hash")?,
            reply_tokens,
        })
    }

    fn write_new(&self, path: &Path) -> std::io::Result<()> {
        let file = KeyFile {
            master: write_hex(&self.master),
            address_hash: write_hex(&self.address_hash),
            reply_token: self
                .reply_tokens
                .iter()
                .map(|key| TokenKeyEntry { id: key.id, key: write_hex(&key.secret) })
                .collect(),
        };
        let text = toml::to_string(&file).map_err(std::io::Error::other)?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // The data folder: nobody else looks in.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut handle = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        handle.write_all(HEADER.as_bytes())?;
        handle.write_all(text.as_bytes())?;
        handle.sync_all()
    }
}

const HEADER: &str = "# syncmx keys. Whoever has this file can read all stored mail; without it nobody can. Back it up apart.\n";

fn read_hex(text: &str, name: &str) -> Result<Secret, String> {
    let wrong = || format!("{name} must be 64 hexadecimal digits");
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(Secret(bytes))
}

fn write_hex(secret: &Secret) -> String {
    secret.expose().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_with_mode_0600_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/keys.toml");
        let made = Keys::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Keys::load_or_create(&path).unwrap();
        assert_eq!(made.master.expose(), read.master.expose());
        assert_eq!(made.reply_tokens[0].secret.expose(), read.reply_tokens[0].secret.expose());
    }

    #[test]
    fn two_reply_keys_of_one_id_are_refused() {
        let secret = "00".repeat(32);
        let key = format!("[[reply_token]]\nid = 1\nkey = \"{secret}\"\n");
        let text = format!("master = \"{secret}\"\naddress_hash = \"{secret}\"\n{key}{key}");
        assert!(Keys::parse(&text).unwrap_err().contains("same id"));
    }

    #[test]
    fn a_malformed_file_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        fs::write(&path, "master = \"5ec12e7\"\naddress_hash = \"\"\nreply_token = []\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let error = Keys::load_or_create(&path).unwrap_err().to_string();
        assert!(!error.contains("5ec12e7"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::load_or_create(&path), Err(KeyFileError::Readable { .. })));
    }
}
