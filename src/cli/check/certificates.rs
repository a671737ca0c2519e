//! The certificates that STARTTLS presents: readable, fitting, for the right names, in their time.

use crate::certificate::Facts;
use crate::cli::check::report::Line;
use crate::cli::{one_line, records};
use crate::config::{Config, MtaStsMode};
use crate::smtp::tls::Surveyed;
use crate::time::Timestamp;

pub(super) fn check(config: &Config, pairs: &[Surveyed]) -> Vec<Line> {
    let mut lines: Vec<Line> = pairs.iter().map(|pair| one(config, pair, Timestamp::now())).collect();
    if !pairs.iter().any(|pair| pair.name.is_none()) {
        let said = "none is configured: a self-signed one is made on first start";
        lines.insert(0, Line::warn("certificate", "", said, GET_ONE));
    }
    lines
}

fn one(config: &Config, pair: &Surveyed, now: Timestamp) -> Line {
    let path = pair.path.display().to_string();
    let red = |said: String, mend: &str| Line::red("certificate", &path, said, mend);
    let facts = match &pair.leaf {
        Err(error) => return red(one_line(error), "put certificate and key there that go together, as PEM"),
        Ok(leaf) => match Facts::read(leaf) {
            Err(error) => return red(error.to_string(), "get another one"),
            Ok(facts) => facts,
        },
    };
    let (from, to) = (facts.not_before.to_rfc3339(), facts.not_after.to_rfc3339());
    let name = pair.name.clone().unwrap_or_else(|| records::host(config));
    if !facts.covers(&name) {
        return red(format!("is not for {name}"), "get one whose names hold the name of the MX record");
    }
    if now < facts.not_before {
        return red(format!("is not valid before {from}"), "look at the clock, or get another one");
    }
    if now >= facts.not_after {
        return red(format!("has ended at {to}"), "renew it; syncmx takes it up within 5 seconds");
    }
    if facts.is_self_signed {
        let said = format!("is for {name} until {to}, self-signed");
        return match config.tls.mta_sts {
            MtaStsMode::Enforce => red(said + ", and tls.mta_sts = \"enforce\" keeps senders away", GET_ONE),
            MtaStsMode::None | MtaStsMode::Off | MtaStsMode::Testing => {
                Line::warn("certificate", &path, said, GET_ONE)
            }
        };
    }
    if now.plus_days(SOON_DAYS) >= facts.not_after {
        let said = format!("is for {name} and ends soon, at {to}");
        return Line::warn("certificate", &path, said, "renew it; syncmx takes it up within 5 seconds");
    }
    Line::ok("certificate", &path, format!("is for {name} until {to}"))
}

const GET_ONE: &str = "get one from an authority, and set tls.certificate and tls.key";
/// An automatic renewal should have come long before.
const SOON_DAYS: i64 = 14;

#[cfg(test)]
mod tests {
    use rustls_pki_types::CertificateDer;

    use super::*;

    /// From 2026-01-01 to 2026-04-01.
    fn pair(host: &str, is_self_signed: bool) -> Surveyed {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2026, 1, 1);
        params.not_after = rcgen::date_time_ymd(2026, 4, 1);
        let der: CertificateDer<'static> = if is_self_signed {
            params.self_signed(&key).unwrap().der().clone()
        } else {
            let mut authority = rcgen::CertificateParams::new(Vec::new()).unwrap();
            authority.distinguished_name.push(rcgen::DnType::CommonName, "an authority");
            let issuer = rcgen::Issuer::new(authority, rcgen::KeyPair::generate().unwrap());
            params.signed_by(&key, &issuer).unwrap().der().clone()
        };
        Surveyed { name: None, path: "chain.pem".into(), leaf: Ok(der) }
    }

    #[track_caller]
    fn check(host: &str, is_self_signed: bool, mode: MtaStsMode, day: &str, expected: &str) {
        let mut config = Config::default();
        config.tls.mta_sts = mode;
        let now = Timestamp::parse_rfc3339(&format!("{day}T00:00:00Z")).unwrap();
        assert_eq!(one(&config, &pair(host, is_self_signed), now).state(), expected);
    }

    #[test]
    fn names_and_dates_are_looked_at() {
        use MtaStsMode::{Enforce, Testing};
        let host = "mx.example.test";
        check(host, false, Testing, "2026-02-01", "ok");
        check(host, false, Testing, "2026-03-17", "ok");
        check(host, false, Testing, "2026-03-18", "warn");
        check(host, false, Testing, "2026-04-01", "red");
        check(host, false, Testing, "2025-12-31", "red");
        check("mx.other.test", false, Testing, "2026-02-01", "red");
        check(host, true, Testing, "2026-02-01", "warn");
        check(host, true, Enforce, "2026-02-01", "red");
    }
}
