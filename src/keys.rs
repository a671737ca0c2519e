//! The key file (`[keys] file`): master key, address-hash key and reply-token keys; made on first start, mode 0600.
//!
//! Promises that no key shows in Debug output or errors, and that an existing file is never overwritten but by a whole
//! new one ([`rotate`], [`revoke`]), of which reply-token keys alone are taken up by a running server.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{constant_time, hmac};
use serde::{Deserialize, Serialize};
use uuid::Uuid;
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
    /// Reply-token keys; the last one mints, all verify. Shared by all clones: they are taken up for all.
    reply_tokens: Arc<RwLock<Arc<[TokenKey]>>>,
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
    /// The key mints: without it no address could be made.
    #[error("key {0} makes the reply addresses now: rotate first")]
    Issuing(u8),
    /// There is no such key.
    #[error("there is no reply-token key {0}")]
    NoSuchKey(u8),
    /// Another master key or address-hash key: a running server cannot change these.
    #[error("the master key or the address-hash key is another one: only reply-token keys are taken up")]
    OtherKeys,
    /// All 256 ids are in use.
    #[error("there are 256 reply-token keys: revoke one first")]
    TooMany,
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
        match Self::load(path) {
            Err(KeyFileError::Unusable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let keys = Self::generate()?;
                keys.write_new(path)
                    .map_err(|source| KeyFileError::Unusable { path: path.to_owned(), source })?;
                Ok(keys)
            }
            loaded => loaded,
        }
    }

    /// Reads the key file.
    ///
    /// # Errors
    /// If there is none, or it is malformed, readable by others, or cannot be read.
    pub fn load(path: &Path) -> Result<Self, KeyFileError> {
        let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(unusable)?;
        let mode = fs::metadata(path).map_err(unusable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Readable { path: path.to_owned(), mode });
        }
        Self::parse(&text).map_err(|detail| KeyFileError::Malformed { path: path.to_owned(), detail })
    }

    /// The reply-token keys of now; the last one mints, all verify.
    #[must_use]
    pub fn reply_tokens(&self) -> Arc<[TokenKey]> {
        self.reply_tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up the reply-token keys of another reading of the file; says whether they differ.
    ///
    /// # Errors
    /// [`KeyFileError::OtherKeys`]: then nothing changes.
    pub fn take_up(&self, fresh: &Self) -> Result<bool, KeyFileError> {
        let is_same = |ours: &Secret, theirs: &Secret| {
            constant_time::verify_slices_are_equal(ours.expose(), theirs.expose()).is_ok()
        };
        if !is_same(&self.master, &fresh.master) || !is_same(&self.address_hash, &fresh.address_hash) {
            return Err(KeyFileError::OtherKeys);
        }
        let (old, new) = (self.reply_tokens(), fresh.reply_tokens());
        let pairs = || old.iter().zip(new.iter());
        if old.len() == new.len()
            && pairs().all(|(old, new)| old.id == new.id && is_same(&old.secret, &new.secret))
        {
            return Ok(false);
        }
        *self.reply_tokens.write().unwrap_or_else(PoisonError::into_inner) = new;
        Ok(true)
    }

    /// Fresh keys that are not written anywhere (dry runs, tests).
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn generate() -> Result<Self, KeyFileError> {
        Ok(Self {
            master: Secret::generate()?,
            address_hash: Secret::generate()?,
            reply_tokens: shared(vec![TokenKey { id: 1, secret: Secret::generate()? }]),
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

    /// What a confirmation link proves its origin with (R12).
    #[must_use]
    pub fn confirmation_tag(&self, id: Uuid, account: Uuid, user: Uuid, email_key: &str) -> [u8; 16] {
        let parts = [id.as_bytes().as_slice(), account.as_bytes(), user.as_bytes(), email_key.as_bytes()];
        self.tag(b"syncmx confirmation 1\0", &parts)
    }

    /// The value of our loop header for an account's mail: tells the operator whose it is, and nobody else.
    #[must_use]
    pub fn loop_mark(&self, account: Uuid) -> String {
        let tag = self.tag(b"syncmx loop 1\0", &[account.as_bytes()]);
        tag.iter().map(|octet| format!("{octet:02x}")).collect()
    }

    /// Names the address-hash key without telling anything of it: hashes of another copy mean the same here if these
    /// are the same.
    #[must_use]
    pub fn address_hash_id(&self) -> String {
        hex(self.tag(b"syncmx name of the address-hash key 1\0", &[]).get(..KEY_NAME_LEN).unwrap_or_default())
    }

    /// Names each reply-token key without telling anything of it.
    #[must_use]
    pub fn reply_token_ids(&self) -> Vec<(u8, String)> {
        let name = |key: &TokenKey| {
            // Longer than what a token's own tag is made of.
            let text = b"syncmx name of a reply-token key 1\0";
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.secret.expose()), text);
            (key.id, hex(tag.as_ref().get(..KEY_NAME_LEN).unwrap_or_default()))
        };
        self.reply_tokens().iter().map(name).collect()
    }

    /// 16 octets of HMAC-SHA-256 over a purpose and what follows it: no tag serves two purposes.
    fn tag(&self, purpose: &[u8], parts: &[&[u8]]) -> [u8; 16] {
        let mut context =
            hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, self.address_hash.expose()));
        context.update(purpose);
        parts.iter().for_each(|part| context.update(part));
        let mut tag = [0; 16];
        tag.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        tag
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
            reply_tokens: shared(reply_tokens),
        })
    }

    fn text(&self) -> std::io::Result<String> {
        let file = KeyFile {
            master: write_hex(&self.master),
            address_hash: write_hex(&self.address_hash),
            reply_token: self
                .reply_tokens()
                .iter()
                .map(|key| TokenKeyEntry { id: key.id, key: write_hex(&key.secret) })
                .collect(),
        };
        Ok(format!("{HEADER}{}", toml::to_string(&file).map_err(std::io::Error::other)?))
    }

    fn write_new(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // The data folder: nobody else looks in.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // Under its name it is whole and on disk, or not there: half a key file would end every later start. Somebody
        // else may have made one meanwhile: that one stays.
        self.fresh_file(path)?.persist_noclobber(path).map_err(|error| error.error)?;
        fs::File::open(folder_of(path))?.sync_all()
    }

    /// A whole new file in place of the old one: whoever reads meanwhile reads either.
    fn replace(&self, path: &Path) -> std::io::Result<()> {
        self.fresh_file(path)?.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder_of(path))?.sync_all()
    }

    /// On disk beside `path`, with mode 0600.
    fn fresh_file(&self, path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
        let mut fresh = tempfile::NamedTempFile::new_in(folder_of(path))?;
        fresh.write_all(self.text()?.as_bytes())?;
        fresh.as_file().sync_all()?;
        Ok(fresh)
    }
}

/// Adds a key that makes reply addresses from now on; those before it still verify. Returns its id.
///
/// # Errors
/// If the file cannot be read or replaced, or holds 256 keys.
pub fn rotate(path: &Path) -> Result<u8, KeyFileError> {
    change(path, |keys| {
        let newest = keys.last().map_or(0, |key| key.id);
        let id = (1..=u8::MAX)
            .map(|step| newest.wrapping_add(step))
            .find(|id| keys.iter().all(|key| key.id != *id))
            .ok_or(KeyFileError::TooMany)?;
        keys.push(TokenKey { id, secret: Secret::generate()? });
        Ok(id)
    })
}

/// Takes a retired key away: what it made is refused from now on.
///
/// # Errors
/// If the file cannot be read or replaced, has no such key, or the key makes the addresses of now.
pub fn revoke(path: &Path, id: u8) -> Result<(), KeyFileError> {
    change(path, |keys| {
        let place = keys.iter().position(|key| key.id == id).ok_or(KeyFileError::NoSuchKey(id))?;
        if place + 1 == keys.len() {
            return Err(KeyFileError::Issuing(id));
        }
        keys.remove(place);
        Ok(())
    })
}

/// Reads, changes and replaces the file, one process at a time.
fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut Vec<TokenKey>) -> Result<T, KeyFileError>,
) -> Result<T, KeyFileError> {
    let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
    // The file itself is another one afterwards; its folder stays. The lock ends with the handle.
    let lock = fs::File::open(folder_of(path)).map_err(unusable)?;
    lock.lock().map_err(unusable)?;
    let keys = Keys::load(path)?;
    let mut reply_tokens = keys.reply_tokens().to_vec();
    let done = change(&mut reply_tokens)?;
    Keys { reply_tokens: shared(reply_tokens), ..keys }.replace(path).map_err(unusable)?;
    Ok(done)
}

fn shared(reply_tokens: Vec<TokenKey>) -> Arc<RwLock<Arc<[TokenKey]>>> {
    Arc::new(RwLock::new(reply_tokens.into()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    hex(secret.expose())
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// Octets of a key's name.
const KEY_NAME_LEN: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_made_once_with_mode_0600_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/keys.toml");
        let made = Keys::load_or_create(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        assert!(made.write_new(&path).is_err(), "a file that is there is never replaced");
        let read = Keys::load_or_create(&path).unwrap();
        assert_eq!(made.master.expose(), read.master.expose());
        assert_eq!(made.reply_tokens()[0].secret.expose(), read.reply_tokens()[0].secret.expose());
    }

    fn ids(keys: &Keys) -> Vec<u8> {
        keys.reply_tokens().iter().map(|key| key.id).collect()
    }

    #[test]
    fn a_rotated_file_keeps_its_mode_and_its_other_keys_and_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let running = Keys::load_or_create(&path).unwrap();
        assert_eq!(rotate(&path).unwrap(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().starts_with(HEADER));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let fresh = Keys::load(&path).unwrap();
        assert_eq!(fresh.master.expose(), running.master.expose());
        assert_eq!((ids(&fresh), ids(&running)), (vec![1, 2], vec![1]));
        assert!(running.take_up(&fresh).unwrap());
        assert_eq!(ids(&running), [1, 2]);
        assert!(!running.take_up(&fresh).unwrap(), "there is nothing new");
        assert!(matches!(running.take_up(&Keys::generate().unwrap()), Err(KeyFileError::OtherKeys)));
        assert_eq!(ids(&running), [1, 2]);
    }

    #[test]
    fn a_retired_key_is_revoked_and_the_issuing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        Keys::load_or_create(&path).unwrap();
        assert!(matches!(revoke(&path, 1), Err(KeyFileError::Issuing(1))));
        rotate(&path).unwrap();
        assert!(matches!(revoke(&path, 3), Err(KeyFileError::NoSuchKey(3))));
        assert!(matches!(revoke(&path, 2), Err(KeyFileError::Issuing(2))));
        revoke(&path, 1).unwrap();
        assert_eq!(ids(&Keys::load(&path).unwrap()), [2]);
        assert_eq!(rotate(&path).unwrap(), 3, "an id is not used again before its turn");
    }

    #[test]
    fn ids_go_round_and_end_at_256_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        Keys::load_or_create(&path).unwrap();
        for expected in (2..=255).chain([0]) {
            assert_eq!(rotate(&path).unwrap(), expected);
        }
        assert!(matches!(rotate(&path), Err(KeyFileError::TooMany)));
        revoke(&path, 7).unwrap();
        assert_eq!(rotate(&path).unwrap(), 7);
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
