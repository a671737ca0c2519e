//! Full-text search: which terms a message is found by, and what somebody who searches may write.
//!
//! Both engines answer the same: words are cut, folded and paired here; an engine sees opaque terms and knows no
//! language. The index names candidates, [`SearchQuery`] decides on them by their text. Every term bears letters of its
//! account, so that no account's search walks another's part of the index (R4).
//!
//! A message waits to be indexed from its filing on, a second or so (`waiting`).

mod fold;
mod index;
mod query;
mod snippet;
mod waiting;
mod words;

use std::collections::HashSet;

use uuid::Uuid;

use crate::address::EmailAddress;
use crate::filing::Role;
use crate::id::AccountId;
use crate::keys::Keys;
use crate::store::search::words::Words;
use crate::store::statement::row;
use crate::time::Timestamp;

pub(in crate::store) use index::{IndexQuery, IndexTerm};
pub(in crate::store) use query::Found;
pub use query::{BadSearch, QUERY_MAX_CHARS, QUERY_MAX_TERMS, SearchQuery};
pub use snippet::SnippetPart;
pub use waiting::{Piece, WAITING_MAX};
pub(in crate::store) use words::TEXT_MAX_CHARS;

/// The terms of a text, each once, without the account's letters.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Terms(String);

row! {
    /// By which terms a message is found.
    SearchDocumentRow into "search_filing" {
        account_id: Uuid,
        message_id: Uuid,
        place: i64,
        words: String,
        people: String,
    }
}

impl Terms {
    /// Of a message's subject and new text.
    pub(in crate::store) fn of(subject: &str, new_text: &str) -> Self {
        let (subject, new_text) = (Words::of_subject(subject), Words::of_text(new_text));
        let mut known = HashSet::new();
        let mut terms = String::new();
        for term in subject.terms().chain(new_text.terms()).filter(|term| known.insert(*term)) {
            terms.push_str(term);
            terms.push(' ');
        }
        Self(terms)
    }

    fn within(&self, mark: &AccountMark) -> String {
        // Terms are short: half as much again holds most texts.
        let mut all = String::with_capacity(self.0.len() * 2);
        for term in self.0.split_terminator(' ') {
            if !all.is_empty() {
                all.push(' ');
            }
            mark.push_term(&mut all, WORD, term);
        }
        all
    }
}

/// What a message is found by.
pub(in crate::store) fn document<'a>(
    keys: &Keys,
    account: AccountId,
    message: Uuid,
    sent_at: Timestamp,
    terms: &Terms,
    people: impl Iterator<Item = (Role, &'a EmailAddress)>,
) -> SearchDocumentRow {
    let mark = AccountMark::of(account);
    let mut hashes = String::new();
    for (role, address) in people {
        let kind = match role {
            Role::About => continue,
            Role::From => FROM,
            Role::Cc | Role::To => TO,
        };
        hashes.push(' ');
        mark.push_term(&mut hashes, kind, &hex(keys, address));
    }
    SearchDocumentRow {
        account_id: account.uuid(),
        message_id: message,
        place: place_of(sent_at),
        words: terms.within(&mark),
        people: hashes,
    }
}

/// A role as participants have it.
pub(in crate::store) fn role_of(stored: &str) -> Option<Role> {
    [Role::Cc, Role::From, Role::To].into_iter().find(|role| role.as_str() == stored)
}

/// R63: what is to be taken out of a document's people, so that this address finds it no more.
pub(in crate::store) fn people_terms(keys: &Keys, account: AccountId, address: &EmailAddress) -> [String; 2] {
    let mark = AccountMark::of(account);
    [FROM, TO].map(|kind| {
        let mut term = " ".to_owned();
        mark.push_term(&mut term, kind, &hex(keys, address));
        term
    })
}

/// Letters that begin every term of an account. Another account may have the same ones: answers are bound to the
/// account's id besides.
#[derive(Clone, Copy, Debug)]
struct AccountMark([u8; MARK_OCTETS]);

impl AccountMark {
    fn of(account: AccountId) -> Self {
        // The end of a UUIDv7 is random.
        let mut rest = account.uuid().as_u64_pair().1;
        Self([(); MARK_OCTETS].map(|()| {
            let digit = usize::try_from(rest % 32).unwrap_or_default();
            rest /= 32;
            DIGITS.get(digit).copied().unwrap_or(b'0')
        }))
    }

    fn push_term(&self, to: &mut String, kind: char, term: &str) {
        to.extend(self.0.iter().copied().map(char::from));
        to.push(kind);
        to.push_str(term);
    }
}

fn hex(keys: &Keys, address: &EmailAddress) -> String {
    use std::fmt::Write as _;
    keys.address_hash(address).iter().fold(String::with_capacity(32), |mut hex, octet| {
        let _written = write!(hex, "{octet:02x}");
        hex
    })
}

/// Where in the order of answers a message of this time is put, before others of the same second are looked at.
fn place_of(sent_at: Timestamp) -> i64 {
    let second = sent_at.as_millis().div_euclid(1000);
    second.clamp(-SECONDS_MAX, SECONDS_MAX - 1) << PLACE_BITS
}

/// Kinds of terms.
const FROM: char = 'f';
const TO: char = 't';
const WORD: char = 'w';
/// 25 bits: a million accounts share them with hardly anybody.
const MARK_OCTETS: usize = 5;
const DIGITS: &[u8; 32] = b"0123456789abcdefghijklmnopqrstuv";
/// Messages of one second: more than there can be. The migration says 2^29.
const PLACE_BITS: u32 = 29;
/// From 1698 to 2242.
const SECONDS_MAX: i64 = 1 << 33;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_keeps_the_order_of_times_and_stays_within_a_number() {
        let places: Vec<i64> = [i64::MIN, -5_000, -1, 0, 999, 1_000, 1_795_315_445_000, i64::MAX]
            .map(|millis| place_of(Timestamp::from_millis(millis)))
            .to_vec();
        assert!(places.is_sorted(), "{places:?}");
        assert_eq!(places[3], places[4], "of the same second");
        assert!(places[4] + (1 << PLACE_BITS) <= places[5]);
        assert_eq!(place_of(Timestamp::from_millis(i64::MIN)), -(1 << 62));
        assert!(place_of(Timestamp::from_millis(i64::MAX)).checked_add(1 << PLACE_BITS).is_some());
    }

    #[test]
    fn terms_stand_once_and_bear_the_letters_of_their_account() {
        let (one, other) = (AccountId::generate(), AccountId::generate());
        let terms = Terms::of("Knee pain", "The knee, the KNEE");
        assert_eq!(terms.0, "knee pain the ");
        let [one, other] = [one, other].map(|account| terms.within(&AccountMark::of(account)));
        assert_eq!(
            one.split(' ').map(|term| term.get(MARK_OCTETS..).unwrap()).collect::<Vec<_>>(),
            ["wknee", "wpain", "wthe"]
        );
        assert_ne!(one, other);
        assert_eq!(Terms::default().within(&AccountMark::of(AccountId::generate())), "");
    }
}
