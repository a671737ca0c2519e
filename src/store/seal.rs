//! Sealing: zstd, then AES-256-GCM with a fresh key per message, wrapped by an account key, wrapped by a master key.
//! Associated data binds account and message, so that nothing sealed opens in another place.
//!
//! What is wrapped says by which key: behind it stands the account key's number (nothing for the first) or the master
//! key's id. An account has one key that seals and, while content keys are wrapped anew, older ones that open. Promises
//! that erasing the row that holds a content key makes every copy of its blob unreadable (R60).

use std::cell::RefCell;
use std::io::{Cursor, Seek as _, SeekFrom};

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use uuid::Uuid;
use zeroize::Zeroizing;
use zstd::bulk::Compressor;
use zstd::zstd_safe::compress_bound;

use crate::id::AccountId;
use crate::keys::{MasterKey, MasterKeys, Secret};

pub use crate::keys::MasterKeyId;

/// Why something could not be sealed or opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// Another key sealed it, it belongs elsewhere, or it was changed.
    #[error("sealed content does not open: wrong key, or changed")]
    DoesNotOpen,
    /// It opened, but does not unpack.
    #[error("sealed content does not unpack")]
    DoesNotUnpack,
    /// The system gave no random octets, or the cipher refused.
    #[error("sealing failed")]
    Failed,
    /// It names a key that we have not got.
    #[error("sealed content names a key that is not here")]
    OtherKey,
}

/// Holds the master keys; makes and opens account keys.
#[derive(Clone, Debug)]
pub struct Vault {
    masters: MasterKeys,
}

/// Numbers the keys of an account, from 1. It only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct KeyNumber(u32);

impl KeyNumber {
    /// Of the key that an account begins with.
    pub const FIRST: Self = Self(1);

    /// The one behind it; none after four thousand million.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }

    /// As the database has it.
    #[must_use]
    pub fn as_i64(self) -> i64 {
        i64::from(self.0)
    }

    /// As the database has it, read.
    #[must_use]
    pub fn from_i64(number: i64) -> Option<Self> {
        u32::try_from(number).ok().filter(|number| *number > 0).map(Self)
    }

    /// The account key that wrapped a content key; none where that is not a wrapping of ours.
    #[must_use]
    pub fn of(content_key: &[u8]) -> Option<Self> {
        match content_key.get(WRAPPED_LEN..)? {
            [] => Some(Self::FIRST),
            behind => Some(Self(u32::from_be_bytes(behind.try_into().ok()?))).filter(|number| number.0 > 1),
        }
    }

    /// What stands behind a content key.
    fn behind(self) -> Vec<u8> {
        if self == Self::FIRST { Vec::new() } else { self.0.to_be_bytes().to_vec() }
    }
}

/// An account's keys, unwrapped: the newest seals, all open. Shows nothing in Debug.
#[derive(Clone, Debug)]
pub struct AccountKeys {
    account: AccountId,
    current: Numbered,
    older: Vec<Numbered>,
}

#[derive(Clone, Debug)]
struct Numbered {
    number: KeyNumber,
    key: Secret,
}

/// A sealed message: the wrapped content key, which stays in the row, and the ciphertext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// The content key, wrapped by the account's key, and the number of that key.
    pub content_key: Vec<u8>,
    /// Nonce, ciphertext and tag.
    pub bytes: Vec<u8>,
}

impl Vault {
    /// With the master keys.
    #[must_use]
    pub const fn new(masters: MasterKeys) -> Self {
        Self { masters }
    }

    /// The master keys.
    #[must_use]
    pub const fn masters(&self) -> &MasterKeys {
        &self.masters
    }

    /// The id of the master key that wraps.
    #[must_use]
    pub fn master_id(&self) -> MasterKeyId {
        self.masters.current().id
    }

    /// The master key that wrapped an account's key; none where the wrapping does not say.
    #[must_use]
    pub fn wrapped_by(wrapped: &[u8]) -> Option<MasterKeyId> {
        MasterKeyId::read(wrapped.get(WRAPPED_LEN..)?)
    }

    /// A fresh first account key, wrapped, and the id of the master key behind it: what the accounts table keeps.
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn new_account_key(&self, account: AccountId) -> Result<Vec<u8>, SealError> {
        self.new_key_numbered(account, KeyNumber::FIRST)
    }

    /// The same for a key that follows others.
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn new_key_numbered(&self, account: AccountId, number: KeyNumber) -> Result<Vec<u8>, SealError> {
        // With one that file and source no longer hold, it would be lost at the next start.
        let master = self.masters.wrapping().ok_or(SealError::Failed)?;
        wrap(&master, account, number, fresh_key()?.as_slice())
    }

    /// Unwraps an account's keys, each with its number; at least one.
    ///
    /// # Errors
    /// [`SealError::OtherKey`] if a master key wrapped one that is not here; or if it is another account's.
    pub fn open_account_keys(
        &self,
        account: AccountId,
        wrapped: &[(KeyNumber, Vec<u8>)],
    ) -> Result<AccountKeys, SealError> {
        let mut keys = wrapped
            .iter()
            .map(|(number, wrapped)| {
                let key = self.open_one(account, *number, wrapped)?;
                let bytes: [u8; 32] = key.as_slice().try_into().map_err(|_| SealError::DoesNotOpen)?;
                Ok(Numbered { number: *number, key: Secret::from_bytes(bytes) })
            })
            .collect::<Result<Vec<_>, SealError>>()?;
        keys.sort_by_key(|key| key.number);
        let current = keys.pop().ok_or(SealError::DoesNotOpen)?;
        Ok(AccountKeys { account, current, older: keys })
    }

    /// An account's key wrapped by the master key that wraps now; none if it is already.
    ///
    /// # Errors
    /// As for [`Self::open_account_keys`].
    pub fn rewrap(
        &self,
        account: AccountId,
        number: KeyNumber,
        wrapped: &[u8],
    ) -> Result<Option<Vec<u8>>, SealError> {
        let current = self.masters.current();
        if Self::wrapped_by(wrapped) == Some(current.id) {
            return Ok(None);
        }
        let key = self.open_one(account, number, wrapped)?;
        wrap(&current, account, number, key.as_slice()).map(Some)
    }

    fn open_one(
        &self,
        account: AccountId,
        number: KeyNumber,
        wrapped: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let key = wrapped.get(..WRAPPED_LEN).ok_or(SealError::DoesNotOpen)?;
        let open =
            |master: &MasterKey| decrypt(master.secret.expose(), account_binding(account, number), key);
        match Self::wrapped_by(wrapped) {
            Some(id) => open(&self.masters.find(id).ok_or(SealError::OtherKey)?),
            // From before ids were written.
            None => self.masters.all().iter().find_map(|master| open(master).ok()).ok_or(SealError::OtherKey),
        }
    }
}

fn wrap(master: &MasterKey, account: AccountId, number: KeyNumber, key: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut wrapped = encrypt(master.secret.expose(), account_binding(account, number), key)?;
    wrapped.extend_from_slice(&master.id.octets());
    Ok(wrapped)
}

impl AccountKeys {
    /// Of the key that seals.
    #[must_use]
    pub const fn number(&self) -> KeyNumber {
        self.current.number
    }

    /// Whether the key is here that a content key was wrapped by.
    #[must_use]
    pub fn can_open(&self, content_key: &[u8]) -> bool {
        KeyNumber::of(content_key).is_some_and(|number| self.find(number).is_some())
    }

    /// Compresses and seals the content of `id` (a message's or a held delivery's UUID).
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn seal(&self, id: Uuid, content: &[u8]) -> Result<Sealed, SealError> {
        // One buffer from compression to tag: a large mail is not held three times.
        let mut sealed = vec![0; NONCE_LEN];
        sealed.extend_from_slice(&(content.len() as u64).to_be_bytes());
        let packed = compress_onto(sealed, content)?;
        let key = fresh_key()?;
        Ok(Sealed {
            content_key: self.wrap(id, key.as_slice())?,
            bytes: encrypt_in_place(&key, self.binding(id), packed)?,
        })
    }

    /// Opens what [`Self::seal`] sealed for the same account and id.
    ///
    /// # Errors
    /// If it was sealed for something else, or changed.
    pub fn open(&self, id: Uuid, content_key: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.unwrap(id, content_key)?;
        let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| SealError::DoesNotOpen)?;
        let packed = decrypt(key, self.binding(id), sealed)?;
        let (length, packed) = packed.split_first_chunk::<8>().ok_or(SealError::DoesNotUnpack)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| SealError::DoesNotUnpack)?;
        if length == 0 {
            return Ok(Vec::new());
        }
        zstd::bulk::decompress(packed, length).map_err(|_| SealError::DoesNotUnpack)
    }

    /// A content key wrapped by the key that seals now; none if it is already. What it opens stays as it is.
    ///
    /// # Errors
    /// [`SealError::OtherKey`] if the key is not here that wrapped it; or if it belongs to something else.
    pub fn rewrap(&self, id: Uuid, content_key: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        if KeyNumber::of(content_key) == Some(self.current.number) {
            return Ok(None);
        }
        let key = self.unwrap(id, content_key)?;
        self.wrap(id, key.as_slice()).map(Some)
    }

    /// A fresh key for what is sealed row by row, wrapped: a rotation wraps it anew and leaves the rows alone.
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn new_row_key(&self) -> Result<Vec<u8>, SealError> {
        self.wrap(ROW_KEY, fresh_key()?.as_slice())
    }

    /// Unwraps it.
    ///
    /// # Errors
    /// As for [`Self::rewrap`].
    pub fn open_row_key(&self, wrapped: &[u8]) -> Result<Secret, SealError> {
        let key = self.unwrap(ROW_KEY, wrapped)?;
        key.as_slice().try_into().map(Secret::from_bytes).map_err(|_| SealError::DoesNotOpen)
    }

    /// The same wrapping by the key that seals now; none if it is already.
    ///
    /// # Errors
    /// As for [`Self::rewrap`].
    pub fn rewrap_row_key(&self, wrapped: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        self.rewrap(ROW_KEY, wrapped)
    }

    /// The row key, wrapped by the key that seals of an account whose keys before it are gone.
    ///
    /// # Errors
    /// If the system gives no random octets.
    pub fn wrap_row_key(&self, key: &Secret) -> Result<Vec<u8>, SealError> {
        self.wrap(ROW_KEY, key.expose())
    }

    fn wrap(&self, id: Uuid, key: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut wrapped = encrypt(self.current.key.expose(), self.binding(id), key)?;
        wrapped.extend_from_slice(&self.current.number.behind());
        Ok(wrapped)
    }

    fn unwrap(&self, id: Uuid, wrapped: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let number = KeyNumber::of(wrapped).ok_or(SealError::DoesNotOpen)?;
        let wrapped = wrapped.get(..WRAPPED_LEN).ok_or(SealError::DoesNotOpen)?;
        decrypt(self.find(number).ok_or(SealError::OtherKey)?.expose(), self.binding(id), wrapped)
    }

    fn find(&self, number: KeyNumber) -> Option<&Secret> {
        let mut keys = std::iter::once(&self.current).chain(&self.older);
        keys.find(|key| key.number == number).map(|key| &key.key)
    }

    fn binding(&self, id: Uuid) -> [u8; 32] {
        let mut binding = [0; 32];
        let bytes = self.account.uuid().into_bytes().into_iter().chain(id.into_bytes());
        binding.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        binding
    }
}

/// The place of an account's row key: no message has this id.
const ROW_KEY: Uuid = Uuid::from_bytes(*b"syncmx row key 1");

/// Setting up a compressor costs as much as packing a small mail: each thread keeps one for those. A large mail gets
/// its own, since one that is kept never shrinks.
pub(in crate::store) fn compress_onto(mut front: Vec<u8>, content: &[u8]) -> Result<Vec<u8>, SealError> {
    front.reserve_exact(compress_bound(content.len()));
    let mut packed = Cursor::new(front);
    packed.seek(SeekFrom::End(0)).map_err(|_| SealError::Failed)?;
    let mut compress_with = |compressor: &mut Compressor<'_>| {
        compressor.compress_to_buffer(content, &mut packed).map(|_| ()).map_err(|_| SealError::Failed)
    };
    if content.len() > MAX_KEPT_CONTENT {
        compress_with(&mut compressor()?)?;
    } else {
        COMPRESSOR.with_borrow_mut(|kept| match kept {
            Some(compressor) => compress_with(compressor),
            None => compress_with(kept.insert(compressor()?)),
        })?;
    }
    Ok(packed.into_inner())
}

fn compressor() -> Result<Compressor<'static>, SealError> {
    Compressor::new(ZSTD_LEVEL).map_err(|_| SealError::Failed)
}

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
}

/// A thread that packs larger ones is not left with what that takes.
const MAX_KEPT_CONTENT: usize = 256 * 1024;
/// Level 1: mail is mostly base64 and small; a higher level costs more than it saves.
const ZSTD_LEVEL: i32 = 1;

/// Nonce, key and tag.
const WRAPPED_LEN: usize = NONCE_LEN + 32 + 16;

/// The first key of an account is bound as it was before keys had numbers.
fn account_binding(account: AccountId, number: KeyNumber) -> [u8; 32] {
    let mut binding = *b"syncmx account key..............";
    if number != KeyNumber::FIRST {
        let text = b"syncmx acct ".iter().copied().chain(number.0.to_be_bytes());
        binding.iter_mut().zip(text).for_each(|(to, from)| *to = from);
    }
    binding.iter_mut().skip(16).zip(account.uuid().into_bytes()).for_each(|(to, from)| *to = from);
    binding
}

fn fresh_key() -> Result<Zeroizing<[u8; 32]>, SealError> {
    let mut key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(key.as_mut()).map_err(|_| SealError::Failed)?;
    Ok(key)
}

/// Nonce, ciphertext, tag.
fn encrypt(key: &[u8; 32], binding: [u8; 32], content: &[u8]) -> Result<Vec<u8>, SealError> {
    let mut sealed = Vec::with_capacity(NONCE_LEN + content.len() + AES_256_GCM.tag_len());
    sealed.resize(NONCE_LEN, 0);
    sealed.extend_from_slice(content);
    encrypt_in_place(key, binding, sealed)
}

/// The same, of content that stands behind [`NONCE_LEN`] octets.
fn encrypt_in_place(key: &[u8; 32], binding: [u8; 32], mut sealed: Vec<u8>) -> Result<Vec<u8>, SealError> {
    let mut nonce = [0; NONCE_LEN];
    aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Failed)?;
    let (front, body) = sealed.split_first_chunk_mut::<NONCE_LEN>().ok_or(SealError::Failed)?;
    *front = nonce;
    let tag = cipher(key)?
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(binding), body)
        .map_err(|_| SealError::Failed)?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn decrypt(key: &[u8; 32], binding: [u8; 32], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::DoesNotOpen)?;
    let mut body = Zeroizing::new(body.to_vec());
    let length = cipher(key)?
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(binding), body.as_mut_slice())
        .map_err(|_| SealError::DoesNotOpen)?
        .len();
    body.truncate(length);
    Ok(body)
}

fn cipher(key: &[u8; 32]) -> Result<LessSafeKey, SealError> {
    UnboundKey::new(&AES_256_GCM, key).map(LessSafeKey::new).map_err(|_| SealError::Failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vault(octet: u8) -> Vault {
        Vault::new(MasterKeys::alone(Secret::from_bytes([octet; 32])))
    }

    fn account_keys(vault: &Vault, account: AccountId) -> AccountKeys {
        let wrapped = vault.new_account_key(account).unwrap();
        vault.open_account_keys(account, &[(KeyNumber::FIRST, wrapped)]).unwrap()
    }

    fn open_first(vault: &Vault, account: AccountId, wrapped: &[u8]) -> Result<AccountKeys, SealError> {
        vault.open_account_keys(account, &[(KeyNumber::FIRST, wrapped.to_vec())])
    }

    #[test]
    fn content_opens_only_for_its_account_and_id() {
        let (vault, account, id) = (vault(1), AccountId::generate(), Uuid::now_v7());
        let key = account_keys(&vault, account);
        for content in [&b""[..], b"x", &[7; 100_000], &[7; MAX_KEPT_CONTENT + 1]] {
            let sealed = key.seal(id, content).unwrap();
            assert_eq!(key.open(id, &sealed.content_key, &sealed.bytes).unwrap(), content);
            assert_eq!(
                key.open(Uuid::now_v7(), &sealed.content_key, &sealed.bytes),
                Err(SealError::DoesNotOpen)
            );
            let other = account_keys(&vault, AccountId::generate());
            assert_eq!(other.open(id, &sealed.content_key, &sealed.bytes), Err(SealError::DoesNotOpen));
        }
    }

    #[test]
    fn another_master_key_or_a_flipped_bit_does_not_open() {
        let (account, id) = (AccountId::generate(), Uuid::now_v7());
        let wrapped = vault(1).new_account_key(account).unwrap();
        assert!(matches!(open_first(&vault(2), account, &wrapped), Err(SealError::OtherKey)));
        assert_eq!(Vault::wrapped_by(&wrapped), Some(vault(1).master_id()));
        assert_ne!(vault(1).master_id(), vault(2).master_id());
        // As wrapped before the id was written behind it.
        let without_id = wrapped.get(..WRAPPED_LEN).unwrap();
        assert_eq!(Vault::wrapped_by(without_id), None);
        open_first(&vault(1), account, without_id).unwrap();
        assert!(matches!(open_first(&vault(2), account, without_id), Err(SealError::OtherKey)));
        let key = open_first(&vault(1), account, &wrapped).unwrap();
        let sealed = key.seal(id, b"a mail").unwrap();
        for position in 0..sealed.bytes.len() {
            let mut changed = sealed.bytes.clone();
            changed[position] ^= 1;
            assert!(key.open(id, &sealed.content_key, &changed).is_err(), "octet {position}");
        }
        assert!(key.open(id, &sealed.content_key, &[]).is_err());
    }

    #[test]
    fn an_account_key_opens_only_for_its_account_and_number() {
        let (vault, account) = (vault(1), AccountId::generate());
        let second = KeyNumber::FIRST.next().unwrap();
        let wrapped = vault.new_key_numbered(account, second).unwrap();
        vault.open_account_keys(account, &[(second, wrapped.clone())]).unwrap();
        let elsewhere =
            [(AccountId::generate(), second), (account, KeyNumber::FIRST), (account, KeyNumber(3))];
        for (account, number) in elsewhere {
            let opened = vault.open_account_keys(account, &[(number, wrapped.clone())]);
            assert!(matches!(opened, Err(SealError::DoesNotOpen)), "{account} {number:?}");
            assert!(vault.rewrap(account, number, &wrapped[..WRAPPED_LEN]).is_err());
        }
        assert!(matches!(vault.open_account_keys(account, &[]), Err(SealError::DoesNotOpen)));
    }

    #[test]
    fn a_content_key_is_wrapped_anew_and_the_content_stays() {
        let (vault, account, id) = (vault(1), AccountId::generate(), Uuid::now_v7());
        let first = (KeyNumber::FIRST, vault.new_account_key(account).unwrap());
        let second = (KeyNumber(2), vault.new_key_numbered(account, KeyNumber(2)).unwrap());
        let before = vault.open_account_keys(account, std::slice::from_ref(&first)).unwrap();
        let sealed = before.seal(id, b"a mail").unwrap();
        let row_key = before.new_row_key().unwrap();
        // While it goes on, whichever order the database has them in.
        let during = vault.open_account_keys(account, &[second.clone(), first]).unwrap();
        assert_eq!(during.number(), KeyNumber(2));
        assert_eq!(during.open(id, &sealed.content_key, &sealed.bytes).unwrap(), b"a mail");
        let rewrapped = during.rewrap(id, &sealed.content_key).unwrap().unwrap();
        assert_eq!(KeyNumber::of(&rewrapped), Some(KeyNumber(2)));
        assert_eq!(during.rewrap(id, &rewrapped), Ok(None));
        assert_eq!(during.rewrap(Uuid::now_v7(), &sealed.content_key), Err(SealError::DoesNotOpen));
        let new_row_key = during.rewrap_row_key(&row_key).unwrap().unwrap();
        // And afterwards.
        let after = vault.open_account_keys(account, &[second]).unwrap();
        assert_eq!(after.open(id, &rewrapped, &sealed.bytes).unwrap(), b"a mail");
        assert!(!after.can_open(&sealed.content_key));
        assert_eq!(after.open(id, &sealed.content_key, &sealed.bytes), Err(SealError::OtherKey));
        assert_eq!(
            after.open_row_key(&new_row_key).unwrap().expose(),
            before.open_row_key(&row_key).unwrap().expose()
        );
        // One that was not told yet.
        assert!(!before.can_open(&rewrapped));
        assert_eq!(before.rewrap(id, &rewrapped), Err(SealError::OtherKey));
        for wrong in [&b""[..], &[0; WRAPPED_LEN - 1], &[0; WRAPPED_LEN + 3], &[0; WRAPPED_LEN + 4]] {
            assert_eq!(KeyNumber::of(wrong), None);
        }
    }
}
