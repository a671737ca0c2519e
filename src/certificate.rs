//! What an X.509 certificate (RFC 5280 section 4.1) says of itself, as far as `check`, `dns` and the SMTP front need
//! it: from when to when it is valid, whether it signed itself, which names it covers, and the fingerprint of its key.
//!
//! Reads its own certificates, so it is strict: what it does not understand is an error. Signatures are not looked at.

use std::fmt::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use jiff::civil::DateTime;
use rustls::client::verify_server_name;
use rustls::server::ParsedCertificate;
use rustls_pki_types::{CertificateDer, ServerName};

use crate::time::Timestamp;

/// One certificate.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    der: &'a CertificateDer<'a>,
    /// `notBefore`
    pub(crate) not_before: Timestamp,
    /// `notAfter`
    pub(crate) not_after: Timestamp,
    /// Issuer and subject are the same.
    pub(crate) is_self_signed: bool,
    /// `SubjectPublicKeyInfo`, with its tag and length.
    key_info: &'a [u8],
}

/// The certificate is none that can be read here.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the certificate is not as RFC 5280 says")]
pub(crate) struct Unreadable;

impl<'a> Facts<'a> {
    pub(crate) fn read(der: &'a CertificateDer<'a>) -> Result<Self, Unreadable> {
        let certificate = Element::one(der)?.within(SEQUENCE)?;
        let (signed, _) = Element::first(certificate)?;
        let mut rest = signed.within(SEQUENCE)?;
        let (mut next, mut behind) = Element::first(rest)?;
        if next.tag == VERSION {
            rest = behind;
            (next, behind) = Element::first(rest)?;
        }
        next.within(INTEGER)?;
        let (_algorithm, behind) = Element::first(behind)?;
        let (issuer, behind) = Element::first(behind)?;
        let (validity, behind) = Element::first(behind)?;
        let (subject, behind) = Element::first(behind)?;
        let (key_info, _) = Element::first(behind)?;
        let (from, behind) = Element::first(validity.within(SEQUENCE)?)?;
        let (to, _) = Element::first(behind)?;
        key_info.within(SEQUENCE)?;
        Ok(Self {
            der,
            not_before: from.time()?,
            not_after: to.time()?,
            is_self_signed: issuer.content == subject.content,
            key_info: key_info.whole,
        })
    }

    /// Whether it is for this host (RFC 6125: the DNS names of `subjectAltName`).
    pub(crate) fn covers(&self, host: &str) -> bool {
        let Ok(name) = ServerName::try_from(host.to_owned()) else { return false };
        ParsedCertificate::try_from(self.der).is_ok_and(|parsed| verify_server_name(&parsed, &name).is_ok())
    }

    /// The SHA-256 of its public key, as TLSA 3 1 1 has it (RFC 6698), in hexadecimal digits.
    pub(crate) fn key_fingerprint(&self) -> String {
        digest(&SHA256, self.key_info).as_ref().iter().fold(String::new(), |mut text, octet| {
            let _infallible = write!(text, "{octet:02x}");
            text
        })
    }
}

/// One element of the Distinguished Encoding Rules (X.690): tag, length, content.
#[derive(Clone, Copy, Debug)]
struct Element<'a> {
    tag: u8,
    content: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Element<'a> {
    /// The element at the front, and what comes behind it.
    fn first(octets: &'a [u8]) -> Result<(Self, &'a [u8]), Unreadable> {
        let (&[tag, short], behind) = octets.split_first_chunk::<2>().ok_or(Unreadable)?;
        let (length, header) = match short {
            0..=0x7f => (usize::from(short), 2),
            0x81..=0x83 => {
                let count = usize::from(short & 0x7f);
                let digits = behind.get(..count).ok_or(Unreadable)?;
                (digits.iter().fold(0, |sum, octet| sum << 8 | usize::from(*octet)), 2 + count)
            }
            _ => return Err(Unreadable),
        };
        let (whole, rest) = octets.split_at_checked(header + length).ok_or(Unreadable)?;
        let content = whole.get(header..).ok_or(Unreadable)?;
        Ok((Self { tag, content, whole }, rest))
    }

    /// The only element.
    fn one(octets: &'a [u8]) -> Result<Self, Unreadable> {
        let (element, rest) = Self::first(octets)?;
        if rest.is_empty() { Ok(element) } else { Err(Unreadable) }
    }

    fn within(self, tag: u8) -> Result<&'a [u8], Unreadable> {
        if self.tag == tag { Ok(self.content) } else { Err(Unreadable) }
    }

    /// Section 4.1.2.5: `UTCTime` until 2049, `GeneralizedTime` from then on.
    fn time(self) -> Result<Timestamp, Unreadable> {
        let text = std::str::from_utf8(self.content).map_err(|_| Unreadable)?;
        let text = match self.tag {
            UTC_TIME if text.as_bytes().first().is_some_and(|digit| *digit < b'5') => format!("20{text}"),
            UTC_TIME => format!("19{text}"),
            GENERALIZED_TIME => text.to_owned(),
            _ => return Err(Unreadable),
        };
        let civil = DateTime::strptime("%Y%m%d%H%M%SZ", &text).map_err(|_| Unreadable)?;
        let zoned = civil.to_zoned(jiff::tz::TimeZone::UTC).map_err(|_| Unreadable)?;
        Ok(Timestamp::from_millis(zoned.timestamp().as_millisecond()))
    }
}

const INTEGER: u8 = 0x02;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, explicit.
const VERSION: u8 = 0xa0;

#[cfg(test)]
mod tests {
    use super::*;

    fn made(names: &[&str], from: (i32, u8, u8), to: (i32, u8, u8)) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = rcgen::CertificateParams::new(names).unwrap();
        params.not_before = rcgen::date_time_ymd(from.0, from.1, from.2);
        params.not_after = rcgen::date_time_ymd(to.0, to.1, to.2);
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn dates_names_and_issuer_are_read() {
        let der = made(&["mx.example.test", "*.wild.test"], (2026, 1, 2), (2051, 3, 4));
        let facts = Facts::read(&der).unwrap();
        assert_eq!(facts.not_before.to_rfc3339(), "2026-01-02T00:00:00.000Z");
        assert_eq!(facts.not_after.to_rfc3339(), "2051-03-04T00:00:00.000Z");
        assert!(facts.is_self_signed);
        for (host, covered) in [
            ("mx.example.test", true),
            ("MX.example.test", true),
            ("a.wild.test", true),
            ("a.b.wild.test", false),
            ("example.test", false),
            ("", false),
        ] {
            assert_eq!(facts.covers(host), covered, "{host}");
        }
        assert_eq!(facts.key_fingerprint().len(), 64);
    }

    #[test]
    fn the_certificate_for_trying_things_out_is_its_own_issuer() {
        use rustls_pki_types::pem::PemObject;
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev/fullchain.pem");
        let der = CertificateDer::from_pem_file(path).unwrap();
        let facts = Facts::read(&der).unwrap();
        assert!(facts.is_self_signed && facts.covers("localhost"));
    }

    #[test]
    fn an_issuer_of_another_name_is_no_self() {
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let mut ca = rcgen::CertificateParams::new(Vec::new()).unwrap();
        ca.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
        let key = rcgen::KeyPair::generate().unwrap();
        let issuer = rcgen::Issuer::new(ca, ca_key);
        let leaf = rcgen::CertificateParams::new(vec!["mx.example.test".to_owned()]).unwrap();
        let der = leaf.signed_by(&key, &issuer).unwrap().der().clone();
        assert!(!Facts::read(&der).unwrap().is_self_signed);
    }

    #[test]
    fn no_cut_of_it_is_read_and_none_panics() {
        let whole = made(&["mx.example.test"], (2026, 1, 2), (2027, 1, 2)).to_vec();
        for cut in 0..whole.len() {
            let der = CertificateDer::from(whole[..cut].to_vec());
            assert_eq!(Facts::read(&der).err(), Some(Unreadable), "{cut}");
        }
        for position in 0..whole.len() {
            let mut changed = whole.clone();
            changed[position] ^= 0xff;
            let _any = Facts::read(&CertificateDer::from(changed)).map(|facts| facts.covers("a.test"));
        }
    }
}
