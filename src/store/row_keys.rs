//! What a row says of people, hidden where `store.seal_rows` is on: AES-256-GCM under the account's row key, bound to
//! account, column and row. What is looked up by equality (a folded address, a Message-ID) is sealed so that equal
//! texts look equal within the account, whatever the table: AES-256-GCM-SIV under a nonce that is a keyed hash of the
//! text.
//!
//! Promises that what is not sealed in a clear store comes back untouched, that nothing sealed opens in another place,
//! and that the empty text stays what it is: it says that there is nothing.

use std::sync::Arc;

use aws_lc_rs::aead::{AES_256_GCM, AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::hmac;
use tracing::warn;

use crate::id::AccountId;
use crate::keys::Secret;
use crate::store::StoreError;
use crate::store::seal::{SealError, compress_onto};

/// What hides and shows the rows of an account; in a clear store nothing is done.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct RowKeys(Option<Arc<Sealing>>);

/// Shows nothing in Debug: the library's keys do not either.
#[derive(Debug)]
struct Sealing {
    account: AccountId,
    rows: LessSafeKey,
    index: LessSafeKey,
    nonces: hmac::Key,
}

/// What a text that is looked up by equality means: only texts of one kind look equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Index {
    /// A folded address.
    Address,
    /// The digest of a message (R70).
    Digest,
    /// The domain of a signature (R13).
    Domain,
    /// The CRM's own id of a contact.
    ExternalId,
    /// A Message-ID, or what else leads to a conversation (R40).
    MessageId,
    /// An Idempotency-Key, or the hash of its request.
    Request,
    /// The local part of a sync address; of the operator's account, since nobody knows whose it is.
    SyncAddress,
}

impl Index {
    const fn word(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Digest => "digest",
            Self::Domain => "domain",
            Self::ExternalId => "external id",
            Self::MessageId => "message id",
            Self::Request => "request",
            Self::SyncAddress => "sync address",
        }
    }
}

impl RowKeys {
    /// Of a clear store.
    pub(in crate::store) const CLEAR: Self = Self(None);

    /// Of an account's row key.
    pub(in crate::store) fn new(account: AccountId, key: &Secret) -> Result<Self, SealError> {
        let master = hmac::Key::new(hmac::HMAC_SHA256, key.expose());
        let part = |purpose: &[u8]| hmac::sign(&master, purpose);
        let cipher = |purpose, algorithm| {
            UnboundKey::new(algorithm, part(purpose).as_ref())
                .map(LessSafeKey::new)
                .map_err(|_| SealError::Failed)
        };
        Ok(Self(Some(Arc::new(Sealing {
            account,
            rows: cipher(b"syncmx rows 1", &AES_256_GCM)?,
            index: cipher(b"syncmx index 1", &AES_256_GCM_SIV)?,
            nonces: hmac::Key::new(hmac::HMAC_SHA256, part(b"syncmx index nonces 1").as_ref()),
        }))))
    }

    /// Whether nothing is sealed.
    pub(in crate::store) const fn are_clear(&self) -> bool {
        self.0.is_none()
    }

    /// What a column is to hold. `column` is `table.column`, `row` what tells the row from the account's others.
    pub(in crate::store) fn hide(
        &self,
        column: &str,
        row: impl AsRef<[u8]>,
        text: impl Into<String>,
    ) -> Result<String, SealError> {
        let text = text.into();
        match &self.0 {
            Some(sealing) if !text.is_empty() => sealing.hide(column, row.as_ref(), text),
            _ => Ok(text),
        }
    }

    /// The same of what may be missing.
    pub(in crate::store) fn hide_some(
        &self,
        column: &str,
        row: impl AsRef<[u8]>,
        text: Option<impl Into<String>>,
    ) -> Result<Option<String>, SealError> {
        text.map(|text| self.hide(column, row, text)).transpose()
    }

    /// What a column holds. A text that bears no mark was never sealed.
    pub(in crate::store) fn show(
        &self,
        column: &str,
        row: impl AsRef<[u8]>,
        stored: String,
    ) -> Result<String, StoreError> {
        let Some(sealing) = &self.0 else { return Ok(stored) };
        let shown = if let Some(sealed) = stored.strip_prefix(ROW_MARK) {
            sealing.show(column, row.as_ref(), sealed)
        } else if let Some(sealed) = stored.strip_prefix(PACKED_MARK) {
            sealing.show_packed(column, row.as_ref(), sealed)
        } else {
            return Ok(stored);
        };
        shown.map_err(|error| damaged(column, &error))
    }

    /// The same of what may be missing.
    pub(in crate::store) fn show_some(
        &self,
        column: &str,
        row: impl AsRef<[u8]>,
        stored: Option<String>,
    ) -> Result<Option<String>, StoreError> {
        stored.map(|stored| self.show(column, row, stored)).transpose()
    }

    /// [`Self::show`] where something is erased: what does not open says nothing, and holds nothing up.
    pub(in crate::store) fn show_or_nothing(
        &self,
        column: &str,
        row: impl AsRef<[u8]>,
        stored: String,
    ) -> String {
        self.show(column, row, stored).unwrap_or_else(|error| {
            warn!(error = error.one_line(), "rows.left_unread");
            String::new()
        })
    }

    /// The same of what may be missing: what does not open is missing.
    pub(in crate::store) fn show_some_or_nothing(
        &self,
        column: &str,
        row: impl AsRef<[u8]>,
        stored: Option<String>,
    ) -> Option<String> {
        stored.map(|stored| self.show_or_nothing(column, row, stored)).filter(|shown| !shown.is_empty())
    }

    /// What a column that is looked up is to hold, and is looked up by.
    pub(in crate::store) fn index(&self, index: Index, text: impl Into<String>) -> Result<String, SealError> {
        let text = text.into();
        match &self.0 {
            Some(sealing) if !text.is_empty() => {
                let mut body = without_nul(text).into_bytes();
                // The length of an address says much of whose it is.
                body.resize(body.len().next_multiple_of(INDEX_STEP), 0);
                Ok(marked(INDEX_MARK, &sealing.index(index, body)?))
            }
            _ => Ok(text),
        }
    }

    /// What a column that is looked up holds.
    pub(in crate::store) fn show_index(&self, index: Index, stored: String) -> Result<String, StoreError> {
        let Some((sealing, sealed)) = self.0.as_ref().zip(stored.strip_prefix(INDEX_MARK)) else {
            return Ok(stored);
        };
        let shown =
            decoded(sealed).and_then(|sealed| sealing.show_index(index, &sealed)).and_then(|mut body| {
                body.truncate(body.iter().rposition(|octet| *octet != 0).map_or(0, |last| last + 1));
                String::from_utf8(body).map_err(|_| SealError::DoesNotUnpack)
            });
        shown.map_err(|error| damaged(index.word(), &error))
    }

    /// [`Self::index`] of 32 octets.
    pub(in crate::store) fn index_octets(&self, index: Index, octets: &[u8]) -> Result<Vec<u8>, SealError> {
        match &self.0 {
            Some(sealing) => sealing.index(index, octets.to_vec()),
            None => Ok(octets.to_vec()),
        }
    }

    /// [`Self::show_index`] of 32 octets.
    pub(in crate::store) fn show_octets(&self, index: Index, stored: Vec<u8>) -> Result<Vec<u8>, StoreError> {
        match &self.0 {
            Some(sealing) if stored.len() != INDEX_OCTETS => {
                sealing.show_index(index, &stored).map_err(|error| damaged(index.word(), &error))
            }
            _ => Ok(stored),
        }
    }
}

impl Sealing {
    fn hide(&self, column: &str, row: &[u8], text: String) -> Result<String, SealError> {
        let mut nonce = [0; NONCE_LEN];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| SealError::Failed)?;
        let text = without_nul(text);
        if text.len() < PACKED_FROM {
            let place = self.place(ROW_MARK, column, row);
            return Ok(marked(ROW_MARK, &encrypt(&self.rows, nonce, &place, text.into_bytes())?));
        }
        let place = self.place(PACKED_MARK, column, row);
        let packed = compress_onto((text.len() as u64).to_be_bytes().to_vec(), text.as_bytes())?;
        Ok(marked(PACKED_MARK, &encrypt(&self.rows, nonce, &place, packed)?))
    }

    fn show(&self, column: &str, row: &[u8], sealed: &str) -> Result<String, SealError> {
        let text = decrypt(&self.rows, &self.place(ROW_MARK, column, row), &decoded(sealed)?)?;
        String::from_utf8(text).map_err(|_| SealError::DoesNotUnpack)
    }

    fn show_packed(&self, column: &str, row: &[u8], sealed: &str) -> Result<String, SealError> {
        let packed = decrypt(&self.rows, &self.place(PACKED_MARK, column, row), &decoded(sealed)?)?;
        let (length, packed) = packed.split_first_chunk::<8>().ok_or(SealError::DoesNotUnpack)?;
        let length = usize::try_from(u64::from_be_bytes(*length)).map_err(|_| SealError::DoesNotUnpack)?;
        let text = zstd::bulk::decompress(packed, length).map_err(|_| SealError::DoesNotUnpack)?;
        String::from_utf8(text).map_err(|_| SealError::DoesNotUnpack)
    }

    fn index(&self, index: Index, body: Vec<u8>) -> Result<Vec<u8>, SealError> {
        let place = self.place(INDEX_MARK, index.word(), &[]);
        let mut context = hmac::Context::with_key(&self.nonces);
        context.update(&place);
        context.update(&body);
        let mut nonce = [0; NONCE_LEN];
        nonce.iter_mut().zip(context.sign().as_ref()).for_each(|(to, from)| *to = *from);
        encrypt(&self.index, nonce, &place, body)
    }

    fn show_index(&self, index: Index, sealed: &[u8]) -> Result<Vec<u8>, SealError> {
        decrypt(&self.index, &self.place(INDEX_MARK, index.word(), &[]), sealed)
    }

    /// Account, mark, column, row: no two places read the same, since marks have one length and no column holds a NUL.
    fn place(&self, mark: &str, column: &str, row: &[u8]) -> Vec<u8> {
        let mut place = Vec::with_capacity(17 + mark.len() + column.len() + row.len());
        place.extend_from_slice(self.account.uuid().as_bytes());
        place.extend_from_slice(mark.as_bytes());
        place.extend_from_slice(column.as_bytes());
        place.push(0);
        place.extend_from_slice(row);
        place
    }
}

/// Whether a text bears the mark of one that is bound to its row.
pub(in crate::store) fn is_sealed(text: &str) -> bool {
    text.starts_with(ROW_MARK) || text.starts_with(PACKED_MARK)
}

/// Who is where on a message: what tells their row from the others.
pub(in crate::store) fn position_of(message: uuid::Uuid, position: i64) -> [u8; 24] {
    let mut row = [0; 24];
    let octets = message.into_bytes().into_iter().chain(position.to_be_bytes());
    row.iter_mut().zip(octets).for_each(|(to, from)| *to = from);
    row
}

/// Nonce, ciphertext, tag.
fn encrypt(
    key: &LessSafeKey,
    nonce: [u8; NONCE_LEN],
    place: &[u8],
    body: Vec<u8>,
) -> Result<Vec<u8>, SealError> {
    let mut body = body;
    let tag = key
        .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut body)
        .map_err(|_| SealError::Failed)?;
    let mut sealed = Vec::with_capacity(NONCE_LEN + body.len() + tag.as_ref().len());
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&body);
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

fn decrypt(key: &LessSafeKey, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, SealError> {
    let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>().ok_or(SealError::DoesNotOpen)?;
    let mut body = body.to_vec();
    let length = key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut body)
        .map_err(|_| SealError::DoesNotOpen)?
        .len();
    body.truncate(length);
    Ok(body)
}

/// As a value would be written (`engine::value`): both kinds of store are to keep the same.
fn without_nul(text: String) -> String {
    if text.contains('\0') { text.replace('\0', "\u{fffd}") } else { text }
}

/// Base64 (RFC 4648 section 4) behind a mark.
fn marked(mark: &str, octets: &[u8]) -> String {
    let mut text = String::with_capacity(mark.len() + octets.len().div_ceil(3) * 4);
    text.push_str(mark);
    let mut groups = octets.chunks_exact(3);
    for group in &mut groups {
        if let [a, b, c] = *group {
            text.extend([a >> 2, a << 4 | b >> 4, b << 2 | c >> 6, c].map(digit));
        }
    }
    match *groups.remainder() {
        [a] => text.extend([digit(a >> 2), digit(a << 4), '=', '=']),
        [a, b] => text.extend([digit(a >> 2), digit(a << 4 | b >> 4), digit(b << 2), '=']),
        _ => {}
    }
    text
}

/// Of the low six bits.
const fn digit(bits: u8) -> char {
    let bits = bits & 63;
    (match bits {
        0..=25 => b'A' + bits,
        26..=51 => b'a' + bits - 26,
        52..=61 => b'0' + bits - 52,
        62 => b'+',
        _ => b'/',
    }) as char
}

/// What [`marked`] wrote.
fn decoded(text: &str) -> Result<Vec<u8>, SealError> {
    let mut octets = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.trim_end_matches('=').as_bytes().chunks(4) {
        let mut bits = 0_u32;
        for digit in group {
            let value = match digit {
                b'A'..=b'Z' => digit - b'A',
                b'a'..=b'z' => digit - b'a' + 26,
                b'0'..=b'9' => digit - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return Err(SealError::DoesNotOpen),
            };
            bits = bits << 6 | u32::from(value);
        }
        let bits = bits << (6 * (4 - group.len()));
        octets.extend(bits.to_be_bytes().into_iter().skip(1).take(group.len() * 3 / 4));
    }
    Ok(octets)
}

/// One thing cannot be read; others can.
fn damaged(name: &str, error: &SealError) -> StoreError {
    StoreError::Damaged { name: name.to_owned(), detail: error.to_string() }
}

/// In front of what is bound to its row.
const ROW_MARK: &str = "~1~";
/// The same, packed before it was sealed: texts.
const PACKED_MARK: &str = "~3~";
/// Shorter texts gain nothing. Octets.
const PACKED_FROM: usize = 256;
/// In front of what is looked up.
const INDEX_MARK: &str = "~2~";
/// Texts that are looked up have a multiple of so many octets.
const INDEX_STEP: usize = 32;
/// SHA-256.
const INDEX_OCTETS: usize = 32;

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    fn keys(account: AccountId, octet: u8) -> RowKeys {
        RowKeys::new(account, &Secret::from_bytes([octet; 32])).unwrap()
    }

    #[test]
    fn a_sealed_value_opens_in_its_account_column_and_row_alone() {
        let (account, id) = (AccountId::generate(), Uuid::now_v7());
        let ours = keys(account, 1);
        let sealed = ours.hide("contacts.name", id, "Ana Gr\u{fc}n").unwrap();
        assert!(sealed.starts_with(ROW_MARK) && !sealed.contains("Ana"), "{sealed}");
        assert_eq!(ours.show("contacts.name", id, sealed.clone()).unwrap(), "Ana Gr\u{fc}n");
        assert_ne!(
            sealed,
            ours.hide("contacts.name", id, "Ana Gr\u{fc}n").unwrap(),
            "a fresh nonce each time"
        );
        let moved = [
            ours.show("contacts.name", Uuid::now_v7(), sealed.clone()),
            ours.show("contacts.email", id, sealed.clone()),
            keys(AccountId::generate(), 1).show("contacts.name", id, sealed.clone()),
            keys(account, 2).show("contacts.name", id, sealed.clone()),
            ours.show("contacts.name", id, format!("{sealed}AAAA")),
            ours.show("contacts.name", id, ROW_MARK.to_owned()),
        ];
        for wrong in moved {
            let error = wrong.unwrap_err();
            assert!(
                matches!(&error, StoreError::Damaged { name, .. } if name.starts_with("contacts.")),
                "{error}"
            );
        }
    }

    #[test]
    fn what_is_looked_up_is_equal_within_an_account_and_a_kind_alone() {
        let account = AccountId::generate();
        let ours = keys(account, 1);
        let address = |keys: &RowKeys| keys.index(Index::Address, "ana@patient.test").unwrap();
        assert_eq!(address(&ours), address(&keys(account, 1)));
        assert_eq!(ours.show_index(Index::Address, address(&ours)).unwrap(), "ana@patient.test");
        for other in [
            address(&keys(AccountId::generate(), 1)),
            address(&keys(account, 2)),
            ours.index(Index::MessageId, "ana@patient.test").unwrap(),
            ours.index(Index::Address, "ana@patient.tes").unwrap(),
        ] {
            assert_ne!(other, address(&ours));
            assert_eq!(other.len(), address(&ours).len(), "its length says nothing");
        }
        assert!(ours.show_index(Index::MessageId, address(&ours)).is_err());
        let digest = ours.index_octets(Index::Digest, &[7; 32]).unwrap();
        assert_eq!(digest, ours.index_octets(Index::Digest, &[7; 32]).unwrap());
        assert_eq!(ours.show_octets(Index::Digest, digest).unwrap(), [7; 32]);
        assert!(ours.show_octets(Index::Digest, vec![7; 60]).is_err());
    }

    #[test]
    fn a_clear_store_keeps_what_it_is_given() {
        let (clear, id) = (RowKeys::CLEAR, Uuid::nil());
        for text in ["", "Ana", "~1~AAAA", "~2~AAAA"] {
            assert_eq!(clear.hide("a.b", id, text).unwrap(), text);
            assert_eq!(clear.show("a.b", id, text.to_owned()).unwrap(), text);
            assert_eq!(clear.index(Index::Address, text).unwrap(), text);
            assert_eq!(clear.show_index(Index::Address, text.to_owned()).unwrap(), text);
        }
        assert_eq!(clear.show_octets(Index::Digest, vec![1; 32]).unwrap(), [1; 32]);
    }

    #[test]
    fn any_length_comes_back_and_nothing_stays_nothing() {
        let (ours, id) = (keys(AccountId::generate(), 1), Uuid::now_v7());
        assert_eq!(ours.hide("a.b", id, "").unwrap(), "");
        assert_eq!(ours.index(Index::Address, "").unwrap(), "");
        for length in 1..70 {
            let text = "\u{e9}".repeat(length);
            let sealed = ours.hide("a.b", id, text.as_str()).unwrap();
            assert_eq!(ours.show("a.b", id, sealed).unwrap(), text);
            let sealed = ours.index(Index::Address, text.as_str()).unwrap();
            assert_eq!(ours.show_index(Index::Address, sealed).unwrap(), text);
        }
        for length in [PACKED_FROM - 1, PACKED_FROM, 1 << 20] {
            let text = "Hormonwerte ".repeat(length / 12 + 1).get(..length).unwrap().to_owned();
            let sealed = ours.hide("a.b", id, text.as_str()).unwrap();
            assert_eq!(sealed.starts_with(PACKED_MARK), length >= PACKED_FROM);
            assert!(length < PACKED_FROM || sealed.len() < length, "{length}: {}", sealed.len());
            assert_eq!(ours.show("a.b", id, sealed.clone()).unwrap(), text);
            assert!(ours.show("a.b", Uuid::nil(), sealed.clone()).is_err());
            // A seal that says it is of the other kind.
            let other = if length < PACKED_FROM { PACKED_MARK } else { ROW_MARK };
            let forged = format!("{other}{}", sealed.get(ROW_MARK.len()..).unwrap());
            assert!(ours.show("a.b", id, forged).is_err());
        }
        let sealed = ours.hide("a.b", id, "a\0b").unwrap();
        assert_eq!(ours.show("a.b", id, sealed).unwrap(), "a\u{fffd}b");
        assert_eq!(ours.show("a.b", id, "as it was before".to_owned()).unwrap(), "as it was before");
    }
}
