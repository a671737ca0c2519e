//! Reply tokens: `r-<token>`, 31 octets in lower-case Crockford base32 without padding (CONTRACT, "Addresses").
//!
//! key id (1) · conversation UUID (16) · issue day since 2020-01-01 (2, big endian) · the first 12 octets of
//! HMAC-SHA-256(key, the first 19 octets). Minted anywhere that holds a key; verified without the store, in
//! constant time over the tag.

use aws_lc_rs::{constant_time, hmac};
use uuid::Uuid;

use crate::id::ConversationId;
use crate::keys::TokenKey;
use crate::time::Timestamp;

/// A token whose tag has been verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyToken {
    /// The conversation it names.
    pub conversation: ConversationId,
    /// Days since 2020-01-01, UTC.
    pub issue_day: u16,
    /// The key that made it.
    pub key_id: u8,
}

/// The text behind `r-` in a local part, lower case, not yet verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenText(String);

impl ReplyToken {
    /// The text of a token, if the local part (lower case) has the shape of a reply address.
    #[must_use]
    pub fn text_of(local_part: &str) -> Option<TokenText> {
        local_part.strip_prefix("r-").map(|text| TokenText(text.to_owned()))
    }

    /// Verifies a token with the key that it names. None if it was forged, damaged or made with another key.
    #[must_use]
    pub fn verify(text: &TokenText, keys: &[TokenKey]) -> Option<Self> {
        let bytes = decode(&text.0)?;
        let (signed, tag) = bytes.split_at_checked(SIGNED_OCTETS)?;
        let [key_id, rest @ ..] = signed else { return None };
        let key = keys.iter().find(|key| key.id == *key_id)?;
        constant_time::verify_slices_are_equal(&sign(key, signed), tag).ok()?;
        let (uuid, day) = rest.split_at_checked(16)?;
        Some(Self {
            conversation: ConversationId::from_uuid(Uuid::from_slice(uuid).ok()?),
            issue_day: u16::from_be_bytes(day.try_into().ok()?),
            key_id: *key_id,
        })
    }

    /// The local part `r-<token>` for a conversation, issued on `issue_day`.
    #[must_use]
    pub fn mint(conversation: ConversationId, issue_day: u16, key: &TokenKey) -> String {
        let mut bytes = Vec::with_capacity(TOKEN_OCTETS);
        bytes.push(key.id);
        bytes.extend_from_slice(conversation.uuid().as_bytes());
        bytes.extend_from_slice(&issue_day.to_be_bytes());
        let tag = sign(key, &bytes);
        bytes.extend_from_slice(&tag);
        format!("r-{}", encode(&bytes))
    }

    /// The issue day of a point in time, clamped to what two octets hold.
    #[must_use]
    pub fn day_of(now: Timestamp) -> u16 {
        let days = now.as_millis().saturating_sub(DAY_ZERO_MILLIS).div_euclid(86_400_000);
        u16::try_from(days.max(0)).unwrap_or(u16::MAX)
    }
}

/// The digit of the low five bits, lower-case Crockford base32.
#[must_use]
pub(crate) fn digit(bits: u64) -> char {
    let index = usize::try_from(bits & 31).unwrap_or_default();
    ALPHABET.get(index).copied().map_or('0', char::from)
}

/// Octets in lower-case Crockford base32 without padding, most significant bits first.
#[must_use]
pub(crate) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity((bytes.len() * 8).div_ceil(5));
    let (mut buffer, mut bits) = (0_u64, 0_u32);
    for byte in bytes {
        buffer = (buffer << 8) | u64::from(*byte);
        bits += 8;
        while bits >= 5 {
            bits -= 5;
            text.push(digit(buffer >> bits));
        }
        buffer &= (1 << bits) - 1;
    }
    if bits > 0 {
        text.push(digit(buffer << (5 - bits)));
    }
    text
}

const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
const SIGNED_OCTETS: usize = 19;
const TAG_OCTETS: usize = 12;
const TOKEN_OCTETS: usize = SIGNED_OCTETS + TAG_OCTETS;
const TOKEN_DIGITS: usize = (TOKEN_OCTETS * 8).div_ceil(5);
/// 2020-01-01T00:00:00Z.
const DAY_ZERO_MILLIS: i64 = 1_577_836_800_000;

fn sign(key: &TokenKey, signed: &[u8]) -> [u8; TAG_OCTETS] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key.secret.expose());
    let full = hmac::sign(&key, signed);
    let mut tag = [0; TAG_OCTETS];
    tag.iter_mut().zip(full.as_ref()).for_each(|(to, from)| *to = *from);
    tag
}

/// Exactly one spelling is accepted for each token: no `i`, `l`, `o` for `1` and `0`, spare bits zero.
fn decode(text: &str) -> Option<Vec<u8>> {
    if text.len() != TOKEN_DIGITS {
        return None;
    }
    let mut bytes = Vec::with_capacity(TOKEN_OCTETS);
    let (mut buffer, mut bits) = (0_u64, 0_u32);
    for digit in text.bytes() {
        let value = ALPHABET.iter().position(|c| *c == digit)?;
        buffer = (buffer << 5) | u64::try_from(value).ok()?;
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((buffer >> bits) & 0xff).ok()?);
            buffer &= (1 << bits) - 1;
        }
    }
    (buffer == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Secret;

    fn key(id: u8) -> TokenKey {
        TokenKey { id, secret: Secret::from_bytes([id; 32]) }
    }

    fn conversation() -> ConversationId {
        "0192f0c1-2345-7abc-8def-0123456789ab".parse().unwrap()
    }

    #[track_caller]
    fn verify(local_part: &str, keys: &[TokenKey]) -> Option<ReplyToken> {
        ReplyToken::verify(&ReplyToken::text_of(local_part)?, keys)
    }

    #[test]
    fn a_minted_token_verifies_with_its_key_among_several() {
        let minted = ReplyToken::mint(conversation(), 2517, &key(2));
        assert_eq!(minted.len(), 2 + 50);
        let token = verify(&minted, &[key(1), key(2)]).unwrap();
        assert_eq!(token, ReplyToken { conversation: conversation(), issue_day: 2517, key_id: 2 });
        assert_eq!(verify(&minted, &[key(1)]), None);
    }

    #[test]
    fn any_changed_truncated_or_lengthened_token_is_refused() {
        let minted = ReplyToken::mint(conversation(), 2517, &key(1));
        for position in 2..minted.len() {
            let mut changed: Vec<char> = minted.chars().collect();
            changed[position] = if changed[position] == '7' { '8' } else { '7' };
            assert_eq!(verify(&changed.iter().collect::<String>(), &[key(1)]), None, "position {position}");
        }
        let cut: String = minted.chars().take(minted.len() - 1).collect();
        assert_eq!(verify(&cut, &[key(1)]), None);
        assert_eq!(verify(&format!("{minted}0"), &[key(1)]), None);
        assert_eq!(verify("r-", &[key(1)]), None);
    }

    #[test]
    fn the_issue_day_counts_from_2020_and_stays_in_range() {
        assert_eq!(ReplyToken::day_of(Timestamp::from_millis(DAY_ZERO_MILLIS)), 0);
        assert_eq!(ReplyToken::day_of(Timestamp::from_millis(DAY_ZERO_MILLIS + 86_400_000)), 1);
        assert_eq!(ReplyToken::day_of(Timestamp::from_millis(i64::MIN)), 0);
        assert_eq!(ReplyToken::day_of(Timestamp::from_millis(i64::MAX)), u16::MAX);
    }
}
