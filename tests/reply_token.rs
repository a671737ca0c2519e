//! The reply-token vectors, for everybody who mints addresses elsewhere: made by an implementation of its own.
#![expect(clippy::unwrap_used, reason = "a vector that cannot be read has failed")]

use serde::Deserialize;
use syncmx::address::token::ReplyToken;
use syncmx::keys::{Secret, TokenKey};

#[derive(Deserialize)]
struct Vectors {
    keys: Vec<Key>,
    vectors: Vec<Vector>,
}

#[derive(Deserialize)]
struct Key {
    id: u8,
    key: String,
}

#[derive(Deserialize)]
struct Vector {
    story: String,
    local_part: String,
    valid: bool,
    key_id: Option<u8>,
    conversation_id: Option<String>,
    issue_day: Option<u16>,
}

#[test]
fn every_vector_verifies_or_is_refused_as_it_says_and_minting_gives_the_same_text() {
    let file: Vectors = serde_json::from_str(include_str!("../fixtures/reply-token-vectors.json")).unwrap();
    let keys: Vec<TokenKey> =
        file.keys.iter().map(|key| TokenKey { id: key.id, secret: secret(&key.key) }).collect();
    assert!(file.vectors.len() >= 8);
    for vector in &file.vectors {
        let local_part = vector.local_part.to_lowercase();
        let token = ReplyToken::text_of(&local_part).and_then(|text| ReplyToken::verify(&text, &keys));
        assert_eq!(token.is_some(), vector.valid, "{}", vector.story);
        let Some(token) = token else { continue };
        assert_eq!(Some(token.key_id), vector.key_id, "{}", vector.story);
        assert_eq!(Some(token.issue_day), vector.issue_day, "{}", vector.story);
        assert_eq!(Some(token.conversation.to_string()), vector.conversation_id, "{}", vector.story);
        let key = keys.iter().find(|key| key.id == token.key_id).unwrap();
        assert_eq!(
            ReplyToken::mint(token.conversation, token.issue_day, key),
            local_part,
            "{}",
            vector.story
        );
    }
}

fn secret(hex: &str) -> Secret {
    let octets = (0..32).map(|i| u8::from_str_radix(hex.get(2 * i..2 * i + 2).unwrap(), 16).unwrap());
    Secret::from_bytes(octets.collect::<Vec<u8>>().try_into().unwrap())
}
