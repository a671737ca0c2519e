//! Tables of the README that repeat the code say what the code says.
#![expect(clippy::unwrap_used, reason = "a README that cannot be read has failed")]

use std::path::Path;

use aws_lc_rs::hmac;
use syncmx::config::Config;
use syncmx::filing::Reason;

#[test]
fn the_reasons_table_lists_every_reason_once() {
    let listed = table("<!-- reasons:");
    let known: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(listed, known);
}

#[test]
fn every_setting_of_the_table_is_known_to_the_configuration() {
    let keys = table("<!-- settings:");
    assert!(keys.len() > 20);
    for key in keys {
        let (section, name) = key.rsplit_once('.').unwrap();
        let text = format!("[{section}]\n{name} = {{ never = 1 }}\n");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("syncmx.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::load(Some(&path), []).unwrap_err().to_string();
        assert!(!error.contains("unknown field"), "{key}: {error}");
    }
}

#[test]
fn the_webhook_example_is_signed_as_it_says() {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let example = readme.split("<!-- webhook:").nth(1).unwrap();
    let field = |name: &str| {
        let line = example.lines().find(|line| line.starts_with(name)).unwrap();
        line.split_once(": ").unwrap().1.to_owned()
    };
    let body = example.lines().find(|line| line.starts_with('{')).unwrap();
    let secret = example.split("whsec_").nth(1).unwrap().split('`').next().unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &unbase64(secret));
    let signed = format!("{}.{}.{body}", field("webhook-id"), field("webhook-timestamp"));
    let signature = field("webhook-signature");
    let tag = unbase64(signature.strip_prefix("v1,").unwrap());
    hmac::verify(&key, signed.as_bytes(), &tag).unwrap();
}

fn unbase64(text: &str) -> Vec<u8> {
    let digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bits: Vec<usize> =
        text.trim_end_matches('=').chars().map(|digit| digits.find(digit).unwrap()).collect();
    let octets = bits.chunks(4).flat_map(|group| {
        let value = (0..4).fold(0, |value, n| value << 6 | group.get(n).copied().unwrap_or(0));
        [value >> 16, value >> 8, value]
            .map(|octet| u8::try_from(octet & 255).unwrap())
            .into_iter()
            .take(group.len() - 1)
    });
    octets.collect()
}

/// The first code span of each row of the table behind a marker.
fn table(marker: &str) -> Vec<String> {
    let readme = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md")).unwrap();
    let behind = readme.split(marker).nth(1).unwrap();
    behind
        .lines()
        .skip(3)
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.split('`').nth(1).unwrap().to_owned())
        .collect()
}
