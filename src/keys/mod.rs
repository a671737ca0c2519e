//! The keys: master keys, the address-hash key and the reply-token keys. They stand in the key file (`[keys] file`),
//! made on first start with mode 0600; master keys may come from a variable or a command.
//!
//! Promises that no key shows in Debug output or errors, that an existing file is never overwritten but by a whole new
//! one, and that a running server takes up master and reply-token keys alone.

mod file;
mod master;
mod source;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::{constant_time, hmac};
use uuid::Uuid;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::address::EmailAddress;
use crate::config;
use crate::id::AccountId;
use crate::keys::file::{KeysFile, Master};
use crate::wire::hex;

pub use file::{prepare_master, remove_master, revoke, revoke_master, rotate, rotate_master};
pub use master::{MASTER_ID_LEN, MasterKey, MasterKeyId, MasterKeys, Origin};
pub use source::COMMAND_LIMIT;

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

/// Every key of a process.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Wrap the accounts' keys.
    pub master: MasterKeys,
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
    /// There is no master key anywhere.
    #[error(
        "key file {path} holds no master key, and neither keys.master_env nor keys.master_command is set"
    )]
    NoMaster {
        /// The file.
        path: PathBuf,
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
    /// There is no such master key in the file.
    #[error("there is no master key {0} in the key file")]
    NoSuchMaster(MasterKeyId),
    /// Another address-hash key, or without the master key that this process wraps with: a running server cannot
    /// change to these.
    #[error(
        "the address-hash key is another one, or the master key in use is missing: a restart takes these up"
    )]
    OtherKeys,
    /// The variable or command does not give master keys.
    #[error("{setting}: {detail}")]
    Source {
        /// Which.
        setting: &'static str,
        /// Why, without key material.
        detail: String,
    },
    /// All 256 ids are in use.
    #[error("there are 256 reply-token keys: revoke one first")]
    TooMany,
    /// No more master keys can be held.
    #[error("there are 16 master keys: revoke one first")]
    TooManyMasters,
    /// The file cannot be read or written.
    #[error("cannot use key file {path}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The key wraps the accounts' keys now.
    #[error("master key {0} wraps the accounts' keys now: rotate first")]
    Wrapping(MasterKeyId),
}

impl Keys {
    /// Reads the key file, or makes one with fresh keys where there is none; then the variable or the command that
    /// holds the master keys, if one is set.
    ///
    /// # Errors
    /// If the file is malformed, readable by others, or cannot be read or written, or there is no master key.
    pub fn open(settings: &config::KeyFile) -> Result<Self, KeyFileError> {
        let master = if settings.has_source() { Master::Elsewhere } else { Master::Inside };
        let file = KeysFile::read_or_create(&settings.file, master)?;
        let master = MasterKeys::open(&file, settings)?;
        let KeysFile { address_hash, reply_tokens, .. } = file;
        Ok(Self { master, address_hash, reply_tokens: shared(reply_tokens) })
    }

    /// The same where the file holds all keys.
    ///
    /// # Errors
    /// As for [`Self::open`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyFileError> {
        Self::open(&config::KeyFile { file: path.to_owned(), ..config::KeyFile::default() })
    }

    /// The reply-token keys of now; the last one mints, all verify.
    #[must_use]
    pub fn reply_tokens(&self) -> Arc<[TokenKey]> {
        self.reply_tokens.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes up the reply-token keys and the master keys of the file; says whether they differ. A variable or a
    /// command is not asked again.
    ///
    /// # Errors
    /// If the file cannot be read, or [`KeyFileError::OtherKeys`]: then nothing changes.
    pub fn take_up(&self, path: &Path) -> Result<bool, KeyFileError> {
        let fresh = KeysFile::read(path)?;
        let is_same = |ours: &Secret, theirs: &Secret| {
            constant_time::verify_slices_are_equal(ours.expose(), theirs.expose()).is_ok()
        };
        if !is_same(&self.address_hash, &fresh.address_hash) {
            return Err(KeyFileError::OtherKeys);
        }
        let has_other_masters = self.master.take_up(&fresh)?;
        let (old, new) = (self.reply_tokens(), fresh.reply_tokens);
        let pairs = || old.iter().zip(new.iter());
        if old.len() == new.len()
            && pairs().all(|(old, new)| old.id == new.id && is_same(&old.secret, &new.secret))
        {
            return Ok(has_other_masters);
        }
        *self.reply_tokens.write().unwrap_or_else(PoisonError::into_inner) = new.into();
        Ok(true)
    }

    /// Fresh keys that are not written anywhere (dry runs, tests).
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn generate() -> Result<Self, KeyFileError> {
        Ok(Self {
            master: MasterKeys::alone(Secret::generate()?),
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

    /// The keyed hash of the local part of a sync address, which stays of it when its user is erased (R62). The leading
    /// NUL stands in no address.
    #[must_use]
    pub fn sync_address_hash(&self, local_part: &str) -> [u8; 16] {
        self.hash(&[b"\0sync address\0", local_part.as_bytes()])
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

    /// What a link that takes a mail back proves its origin with (R70a).
    #[must_use]
    pub fn undo_tag(&self, account: Uuid, message: Uuid, user: Uuid) -> [u8; 16] {
        let parts = [account.as_bytes().as_slice(), message.as_bytes(), user.as_bytes()];
        self.tag(b"syncmx undo 1\0", &parts)
    }

    /// The value of our loop header for an account's mail: tells the operator whose it is, and nobody else.
    #[must_use]
    pub fn loop_mark(&self, account: Uuid) -> String {
        let tag = self.tag(b"syncmx loop 1\0", &[account.as_bytes()]);
        hex(&tag)
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
}

/// The reply-token keys of a key file; the last one mints, all verify.
///
/// # Errors
/// If it is malformed, readable by others, or cannot be read.
pub fn reply_tokens(path: &Path) -> Result<Vec<TokenKey>, KeyFileError> {
    Ok(KeysFile::read(path)?.reply_tokens)
}

fn shared(reply_tokens: Vec<TokenKey>) -> Arc<RwLock<Arc<[TokenKey]>>> {
    Arc::new(RwLock::new(reply_tokens.into()))
}

/// Octets of a key's name.
const KEY_NAME_LEN: usize = 4;
