//! The trace fields that we put on top of a stored mail, and the foreign ones that we take off it.
//!
//! Promises exactly Return-Path, Received and Authentication-Results, in lines of at most 998 octets, whatever the
//! wire said: every word that is not ours is reduced to characters that end or open nothing (SMTP.md S9, S10). Of the
//! mail itself only whole header fields are left out; every other octet stays.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;

use super::fields::Fields;
use super::results::authserv_id;
use super::{AuthResult, Dkim, Verdict};
use crate::id::DeliveryId;
use crate::smtp::{Envelope, ForwardPath};
use crate::time::Timestamp;

/// Return-Path, Received (RFC 5321 section 4.4) and Authentication-Results (RFC 8601), ready to stand before the mail.
#[must_use]
pub fn trace_fields(
    envelope: &Envelope,
    verdict: &Verdict,
    hostname: &str,
    trace: DeliveryId,
    now: Timestamp,
) -> Vec<u8> {
    let mut out = String::with_capacity(1024);
    // Writing to a String cannot fail.
    let _ = write_return_path(&mut out, envelope);
    let _ = write_received(&mut out, envelope, verdict, hostname, trace, now);
    let _ = write_results(&mut out, envelope, verdict, hostname);
    out.into_bytes()
}

/// The mail without fields that only we may add: Authentication-Results that claim our name (RFC 8601 section 5), and
/// Return-Path (RFC 5321 section 4.4).
#[must_use]
pub fn without_foreign_trace<'m>(raw: &'m [u8], hostname: &str) -> Cow<'m, [u8]> {
    let hostname = hostname.to_ascii_lowercase();
    let mut fields = Fields::of(raw);
    let mut kept: Option<Vec<u8>> = None;
    let mut seen_octets = 0;
    for field in fields.by_ref() {
        let is_foreign = field.is("Return-Path")
            || (field.is("Authentication-Results")
                && authserv_id(field.value).trim_end_matches('.') == hostname);
        if is_foreign && kept.is_none() {
            kept = Some(raw.get(..seen_octets).unwrap_or_default().to_vec());
        } else if !is_foreign && let Some(kept) = &mut kept {
            kept.extend_from_slice(field.whole);
        }
        seen_octets += field.whole.len();
    }
    match kept {
        Some(mut kept) => {
            kept.extend_from_slice(raw.get(seen_octets..).unwrap_or_default());
            Cow::Owned(kept)
        }
        None => Cow::Borrowed(raw),
    }
}

fn write_return_path(out: &mut String, envelope: &Envelope) -> std::fmt::Result {
    let path = envelope.reverse_path.as_ref().map_or("", |path| path.as_str());
    write!(out, "Return-Path: <{path}>\r\n")
}

fn write_received(
    out: &mut String,
    envelope: &Envelope,
    verdict: &Verdict,
    hostname: &str,
    trace: DeliveryId,
    now: Timestamp,
) -> std::fmt::Result {
    let client = &envelope.client;
    let helo = plain(&client.helo, b".-_:[]", MAX_WORD_OCTETS);
    write!(out, "Received: from {} (", if helo.is_empty() { "unknown" } else { &helo })?;
    if let Some(name) = &verdict.client_name {
        write!(out, "{} ", plain(name, b".-_", MAX_WORD_OCTETS))?;
    }
    match client.ip.to_canonical() {
        IpAddr::V4(ip) => write!(out, "[{ip}])\r\n")?,
        IpAddr::V6(ip) => write!(out, "[IPv6:{ip}])\r\n")?,
    }
    write!(out, "\tby {hostname} with {} id {trace}", protocol(envelope))?;
    if let [only] = envelope.recipients.as_slice()
        && let ForwardPath::Address(address) = &only.path
        && (address.as_str().is_ascii() || envelope.smtputf8)
    {
        write!(out, "\r\n\tfor <{address}>")?;
    }
    write!(out, ";\r\n\t{}\r\n", now.to_rfc5322())
}

/// RFC 3848 and RFC 6531 section 4.3.
const fn protocol(envelope: &Envelope) -> &'static str {
    match (envelope.client.is_esmtp, envelope.smtputf8, envelope.client.tls.is_some()) {
        (false, _, _) => "SMTP",
        (true, false, false) => "ESMTP",
        (true, false, true) => "ESMTPS",
        (true, true, false) => "UTF8SMTP",
        (true, true, true) => "UTF8SMTPS",
    }
}

fn write_results(
    out: &mut String,
    envelope: &Envelope,
    verdict: &Verdict,
    hostname: &str,
) -> std::fmt::Result {
    write!(out, "Authentication-Results: {hostname}")?;
    write!(out, ";\r\n\tspf={}", verdict.spf.result.as_str())?;
    if let Some(domain) = &verdict.spf.domain {
        let property = if envelope.reverse_path.is_some() { "mailfrom" } else { "helo" };
        write!(out, " smtp.{property}={}", token(domain))?;
    }
    if envelope.reverse_path.is_some()
        && let Some(domain) = &verdict.spf_helo.domain
    {
        write!(out, ";\r\n\tspf={} smtp.helo={}", verdict.spf_helo.result.as_str(), token(domain))?;
    }
    for dkim in &verdict.dkim {
        write_dkim(out, dkim)?;
    }
    if verdict.dkim.is_empty() {
        write!(out, ";\r\n\tdkim=none")?;
    }
    write!(out, ";\r\n\tdmarc={}", verdict.dmarc.result.as_str())?;
    if verdict.dmarc.result != AuthResult::None {
        write!(out, " policy.dmarc={}", verdict.dmarc.policy.as_str())?;
    }
    write!(out, ";\r\n\tarc={}", verdict.arc.result.as_str())?;
    if let Some(sealer) = verdict.arc.last_sealer.as_ref().filter(|_| verdict.arc.result == AuthResult::Pass)
    {
        write!(out, " policy.sealer={}", token(sealer))?;
    }
    let ip = envelope.client.ip.to_canonical();
    write!(out, ";\r\n\tiprev={} policy.iprev=\"{ip}\"\r\n", verdict.iprev.as_str())
}

fn write_dkim(out: &mut String, dkim: &Dkim) -> std::fmt::Result {
    write!(out, ";\r\n\tdkim={}", dkim.result.as_str())?;
    if let Some(why) = &dkim.why {
        write!(out, " reason=\"{}\"", plain(why, b" .,-=", MAX_WORD_OCTETS))?;
    }
    if !dkim.domain.is_empty() {
        write!(out, "\r\n\theader.d={}\r\n\theader.s={}", token(&dkim.domain), token(&dkim.selector))?;
    }
    Ok(())
}

/// Longer than any name.
const MAX_WORD_OCTETS: usize = 255;

/// A pvalue that is a token: never empty.
fn token(text: &str) -> String {
    let token = plain(text, b".-_", MAX_WORD_OCTETS);
    if token.is_empty() { "_".to_owned() } else { token }
}

/// Letters, digits and the allowed characters; `_` for each other.
fn plain(text: &str, allowed: &[u8], max_octets: usize) -> String {
    let safe = |c: char| match u8::try_from(c) {
        Ok(b) if b.is_ascii_alphanumeric() || allowed.contains(&b) => c,
        _ => '_',
    };
    let mut plain = String::with_capacity(text.len().min(max_octets));
    plain.extend(text.chars().take(max_octets).map(safe));
    plain
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::results::Results;
    use super::*;
    use crate::address::{EmailAddress, Mailbox};
    use crate::auth::{Arc, Spf};
    use crate::smtp::{Client, Recipient};

    const HOST: &str = "mx.example.test";

    fn envelope(helo: &str, sender: &str, recipients: &[&str]) -> Envelope {
        let recipient = |text: &&str| Recipient {
            path: ForwardPath::Address(EmailAddress::parse(text).unwrap()),
            mailbox: Mailbox::Postmaster,
        };
        Envelope {
            client: Client {
                ip: [192, 0, 2, 1].into(),
                helo: helo.to_owned(),
                is_esmtp: true,
                tls: Some("TLSv1.3".to_owned()),
            },
            reverse_path: EmailAddress::parse(sender),
            recipients: recipients.iter().map(recipient).collect(),
            smtputf8: false,
            requiretls: false,
            defect: None,
            received_octets: 0,
        }
    }

    fn verdict(word: &str) -> Verdict {
        let spf = Spf { result: AuthResult::Fail, domain: Some(word.to_owned()) };
        Verdict {
            spf: spf.clone(),
            spf_helo: spf,
            dkim: vec![Dkim {
                domain: word.to_owned(),
                selector: word.to_owned(),
                result: AuthResult::Fail,
                why: Some(word.to_owned()),
                signed_fields: Vec::new(),
            }],
            arc: Arc {
                result: AuthResult::Pass,
                last_sealer: Some(word.to_owned()),
                attests_dmarc_pass: false,
            },
            client_name: Some(word.to_owned()),
            ..Verdict::unchecked()
        }
    }

    fn text(envelope: &Envelope, verdict: &Verdict) -> String {
        let trace = DeliveryId::from_uuid(uuid::Uuid::nil());
        let now = Timestamp::from_millis(1_795_315_445_120);
        String::from_utf8(trace_fields(envelope, verdict, HOST, trace, now)).unwrap()
    }

    /// Our own three fields and nothing else, our own results and nothing else.
    fn check_nothing_broke_out(text: &str) {
        let raw = format!("{text}Subject: x\r\n\r\nbody");
        let mut fields = Fields::of(raw.as_bytes());
        let found: Vec<_> = fields.by_ref().collect();
        let names: Vec<&[u8]> = found.iter().map(|field| field.name).collect();
        let expected: [&[u8]; 4] = [b"Return-Path", b"Received", b"Authentication-Results", b"Subject"];
        assert_eq!(names, expected, "{text}");
        assert_eq!(fields.rest(), b"body");
        let results = Results::parse(found[2].value);
        assert_eq!(results.authserv_id, HOST);
        let methods: Vec<(&str, &str)> =
            results.methods.iter().map(|method| (method.name.as_str(), method.result.as_str())).collect();
        let spf = ("spf", "fail");
        let expected = [spf, spf, ("dkim", "fail"), ("dmarc", "none"), ("arc", "pass"), ("iprev", "none")];
        assert_eq!(methods, expected, "{text}");
        assert!(text.is_ascii() && text.lines().all(|line| line.len() <= 998), "{text}");
    }

    #[test]
    fn e2_received_names_client_protocol_trace_and_the_only_recipient() {
        let one = text(&envelope("mail.x.test", "ana@x.test", &["a@sync.test"]), &verdict("x.test"));
        let expected = "Return-Path: <ana@x.test>\r\n\
            Received: from mail.x.test (x.test [192.0.2.1])\r\n\
            \tby mx.example.test with ESMTPS id 00000000-0000-0000-0000-000000000000\r\n\
            \tfor <a@sync.test>;\r\n\tSun, 22 Nov 2026 02:44:05 +0000\r\n";
        assert!(one.starts_with(expected), "{one}");
        check_nothing_broke_out(&one);
        let two = envelope("mail.x.test", "ana@x.test", &["a@sync.test", "b@sync.test"]);
        assert!(!text(&two, &verdict("x.test")).contains("for <"));
    }

    #[test]
    fn s9_s10_nothing_from_the_wire_breaks_out_of_its_place() {
        for word in [
            "a; dmarc=pass",
            "example.net(.example.com",
            "x\r\nSubject: y",
            "x\0y",
            "\"quoted\\",
            ")",
            "x\r\n\r\nbody",
            &"long".repeat(500),
            "ü\u{202e}",
            "",
        ] {
            let envelope = envelope(word, "\"a; dmarc=pass\"@x.test", &["\"b> for <c\"@sync.test"]);
            check_nothing_broke_out(&text(&envelope, &verdict(word)));
        }
    }

    #[track_caller]
    fn check_stripped(raw: &str, expected: &str) {
        assert_eq!(without_foreign_trace(raw.as_bytes(), HOST), expected.as_bytes(), "{raw}");
    }

    #[test]
    fn e4_results_that_claim_our_name_are_taken_off() {
        for claim in [
            "Authentication-Results: mx.example.test; spf=pass\r\n",
            "AUTHENTICATION-RESULTS:MX.Example.Test;\r\n spf=pass\r\n",
            "Authentication-Results :\r\n\t(hi) \"mx.example.test\" 1; none\r\n",
            "Authentication-Results: mx.example.test.\r\n",
            "Authentication-Results: (a(b)\\)) mx.example.test(x); none\r\n",
            "Return-Path: <a@b.test>\r\n",
            "return-path:\r\n <a@b.test>\r\n",
        ] {
            check_stripped(
                &format!("A: 1\r\n{claim}B: 2\r\n\r\n{claim}"),
                &format!("A: 1\r\nB: 2\r\n\r\n{claim}"),
            );
        }
        let others = "Authentication-Results: mx.other.test; spf=pass\r\nX: (mx.example.test)\r\n\r\n";
        assert!(matches!(without_foreign_trace(others.as_bytes(), HOST), Cow::Borrowed(_)));
    }

    proptest! {
        #[test]
        fn e1_every_other_octet_stays(parts in proptest::collection::vec(0..6_usize, 0..12), body in "[ -~\r\n]{0,40}") {
            let pieces = [
                "Subject: x\r\n",
                "To: a\r\n  b\r\n",
                "stray line\r\n",
                "Authentication-Results: other.test; spf=pass\r\n",
                "Return-Path: <x>\r\n",
                "Authentication-Results:\r\n mx.example.test; spf=pass\r\n",
            ];
            let block = |keep: fn(usize) -> bool| -> String {
                parts.iter().filter(|n| keep(**n)).map(|n| pieces[*n]).collect()
            };
            let raw = format!("{}\r\n{body}", block(|_| true));
            let expected = format!("{}\r\n{body}", block(|n| n < 4));
            let stripped = without_foreign_trace(raw.as_bytes(), HOST);
            prop_assert_eq!(stripped.as_ref(), expected.as_bytes());
        }
    }
}
