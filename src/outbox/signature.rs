//! Standard Webhooks signatures (<https://www.standardwebhooks.com>): `v1,` and the base64 of HMAC-SHA-256 over
//! `id.timestamp.body`, one for each live secret, with a space between. Pure.

use std::fmt;

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

/// What a webhook and its receiver share: 24 to 64 octets, shown once as `whsec_` and base64. Shows nothing in Debug.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret(Zeroizing<Vec<u8>>);

impl WebhookSecret {
    /// From its octets.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Its octets.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// As its receiver configures it.
    #[must_use]
    pub fn text(&self) -> String {
        format!("whsec_{}", base64(&self.0))
    }

    fn sign(&self, id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        context.update(format!("{id}.{timestamp_seconds}.").as_bytes());
        context.update(body);
        format!("v1,{}", base64(context.sign().as_ref()))
    }
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookSecret(…)")
    }
}

/// The value of `webhook-signature`.
pub(super) fn header(secrets: &[WebhookSecret], id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    let signatures: Vec<String> =
        secrets.iter().map(|secret| secret.sign(id, timestamp_seconds, body)).collect();
    signatures.join(" ")
}

/// RFC 4648 section 4, with padding.
fn base64(octets: &[u8]) -> String {
    let mut text = String::with_capacity(octets.len().div_ceil(3) * 4);
    for group in octets.chunks(3) {
        let value = group
            .iter()
            .enumerate()
            .fold(0_u32, |value, (n, octet)| value | u32::from(*octet) << (16 - 8 * n));
        for n in 0..4 {
            let index = usize::try_from((value >> (18 - 6 * n)) & 63).unwrap_or_default();
            let digit = if n <= group.len() { ALPHABET.get(index) } else { None };
            text.push(digit.copied().map_or('=', char::from));
        }
    }
    text
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648_section_10() {
        for (octets, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(octets.as_bytes()), text);
        }
        assert_eq!(base64(&[0xfb, 0xef, 0xff]), "++//");
    }

    /// Computed with Python's hmac module.
    #[test]
    fn each_live_secret_signs_id_time_and_body() {
        let (new, old) = (WebhookSecret::from_bytes(vec![1; 32]), WebhookSecret::from_bytes(vec![2; 32]));
        let signed = header(&[new.clone(), old], "msg_1", 1_614_265_330, b"{\"a\":1}");
        let parts: Vec<&str> = signed.split(' ').collect();
        assert_eq!(
            parts,
            [
                "v1,U9klnhqo06x9cFnW13lb7mIqf94id0QpQi6lnCDoFrY=",
                "v1,g3/c43B0K8Hv6izx27WR9WPN4Outld6wX0I7R6g//jw=",
            ]
        );
        assert_eq!(new.text(), "whsec_AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=");
        assert_eq!(format!("{new:?}"), "WebhookSecret(…)");
    }
}
