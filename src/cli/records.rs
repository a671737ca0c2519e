//! The zone records of the served domains: configuration → records. What `dns` prints and `check` looks for.
//!
//! Pure. A domain that never sends says so (SPF, DKIM, DMARC), so that nobody else can send under its name. With a
//! relay, the reply domains and the domain of `relay.from` send through the smarthost.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::config::{Config, Relay};
use crate::mta_sts::{self, Policy};

/// One record to publish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Absolute, with the final dot.
    pub(super) name: String,
    /// The type.
    pub(super) kind: Kind,
    /// As in a master file; a TXT value is the plain text.
    pub(super) value: String,
    /// What it is for.
    pub(super) comment: &'static str,
}

/// The record types in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    A,
    Aaaa,
    Cname,
    Mx,
    Txt,
}

impl Kind {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Cname => "CNAME",
            Self::Mx => "MX",
            Self::Txt => "TXT",
        }
    }
}

impl Record {
    fn new(name: &str, kind: Kind, value: impl Into<String>, comment: &'static str) -> Self {
        Self { name: absolute(name), kind, value: value.into(), comment }
    }

    /// The record as one line of a master file (RFC 1035 section 5).
    pub(super) fn line(&self) -> String {
        let value = if self.kind == Kind::Txt { quoted(&self.value) } else { self.value.clone() };
        format!("{} {TTL_SECONDS} IN {} {value}", self.name, self.kind.as_str())
    }
}

/// All that is to be published for a host with these addresses.
pub(super) fn all(config: &Config, addresses: &[IpAddr]) -> Vec<Record> {
    let mut records: Vec<Record> = addresses.iter().map(|ip| address(&host(config), *ip)).collect();
    for domain in domains(config) {
        records.extend(of_domain(config, &domain));
    }
    records
}

fn of_domain(config: &Config, domain: &str) -> Vec<Record> {
    let mut records = vec![mx(config, domain), spf(config, domain)];
    records.extend(dkim(config, domain));
    records.push(dmarc(config, domain));
    if let Some(policy) = Policy::of(config) {
        records.push(mta_sts(&policy, domain));
        records.push(mta_sts_host(config, domain));
        records.push(tls_report(domain));
    }
    records
}

/// Every served domain, once.
pub(super) fn domains(config: &Config) -> BTreeSet<String> {
    config.domains.sync.iter().chain(&config.domains.reply).cloned().collect()
}

/// Our own name, lower case.
pub(super) fn host(config: &Config) -> String {
    config.smtp.hostname.to_ascii_lowercase()
}

pub(super) fn address(host: &str, ip: IpAddr) -> Record {
    let kind = if ip.is_ipv4() { Kind::A } else { Kind::Aaaa };
    Record::new(host, kind, ip.to_string(), "this host")
}

pub(super) fn mx(config: &Config, domain: &str) -> Record {
    let value = format!("{MX_PREFERENCE} {}", absolute(&host(config)));
    Record::new(domain, Kind::Mx, value, "mail comes here (RFC 5321)")
}

pub(super) fn spf(config: &Config, domain: &str) -> Record {
    match &config.relay {
        Some(relay) if is_sending(config, domain) => {
            let value = format!("v=spf1 {} -all", smarthost_term(relay));
            Record::new(domain, Kind::Txt, value, "sends through the smarthost alone (RFC 7208)")
        }
        Some(_) | None => Record::new(domain, Kind::Txt, "v=spf1 -all", "never sends (RFC 7208)"),
    }
}

/// A domain that never sends revokes every key (RFC 6376 section 3.6.1). Where the smarthost signs, its operator names
/// the record.
pub(super) fn dkim(config: &Config, domain: &str) -> Option<Record> {
    (!is_sending(config, domain)).then(|| {
        let name = format!("*._domainkey.{domain}");
        Record::new(&name, Kind::Txt, "v=DKIM1; p=", "never signs (RFC 6376)")
    })
}

pub(super) fn dmarc(config: &Config, domain: &str) -> Record {
    // Relaxed where the smarthost may use a name below ours in MAIL FROM or d=.
    let mode = if is_sending(config, domain) { "r" } else { "s" };
    let value = format!("v=DMARC1; p=reject; sp=reject; adkim={mode}; aspf={mode}");
    Record::new(&format!("_dmarc.{domain}"), Kind::Txt, value, "what fails is no mail of ours (RFC 9989)")
}

pub(super) fn mta_sts(policy: &Policy, domain: &str) -> Record {
    let name = format!("_mta-sts.{domain}");
    Record::new(&name, Kind::Txt, policy.txt(), "there is a policy (RFC 8461); the id changes with it")
}

/// Whoever serves the web pages has the certificates; without such a host, this one.
fn mta_sts_host(config: &Config, domain: &str) -> Record {
    let web = web_host(&config.http.public_url).unwrap_or_else(|| host(config));
    let name = mta_sts::host(domain);
    Record::new(&name, Kind::Cname, absolute(&web), "serves the policy over HTTPS, with a certificate for it")
}

pub(super) fn tls_report(domain: &str) -> Record {
    let name = format!("_smtp._tls.{domain}");
    let value = format!("v=TLSRPTv1; rua=mailto:postmaster@{domain}");
    Record::new(&name, Kind::Txt, value, "senders report failing TLS (RFC 8460)")
}

/// Whether mail goes out in the name of this domain.
pub(super) fn is_sending(config: &Config, domain: &str) -> bool {
    config.relay.as_ref().is_some_and(|relay| {
        config.domains.reply.iter().any(|reply| reply == domain) || relay_domain(relay) == domain
    })
}

/// The domain of the notices' From.
pub(super) fn relay_domain(relay: &Relay) -> String {
    relay.from.rsplit_once('@').map_or("", |(_, domain)| domain).to_ascii_lowercase()
}

/// The host of `smtp://user@host:port`, without brackets.
pub(super) fn smarthost(relay: &Relay) -> &str {
    let rest = relay.smarthost.split_once("://").map_or("", |(_, rest)| rest);
    let server = rest.rsplit('@').next().unwrap_or_default();
    server.rsplit_once(':').map_or(server, |(host, _)| host).trim_matches(['[', ']'])
}

fn smarthost_term(relay: &Relay) -> String {
    let host = smarthost(relay);
    match host.parse() {
        Ok(IpAddr::V4(ip)) => format!("ip4:{ip}"),
        Ok(IpAddr::V6(ip)) => format!("ip6:{ip}"),
        Err(_) => format!("a:{host}"),
    }
}

/// The name in an https URL; none for an address or for http, which serves no policy.
fn web_host(url: &str) -> Option<String> {
    let rest = url.strip_prefix("https://")?;
    let authority = rest.split('/').next()?.rsplit('@').next()?;
    let name = authority.rsplit_once(':').map_or(authority, |(name, _port)| name);
    (!authority.starts_with('[') && name.parse::<IpAddr>().is_err()).then(|| name.to_ascii_lowercase())
}

fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.').to_ascii_lowercase())
}

/// Character strings of at most 255 octets.
fn quoted(text: &str) -> String {
    let mut line = String::with_capacity(text.len() + 8);
    let (mut in_string, mut length) = (false, 0);
    for c in text.chars() {
        if in_string && length + c.len_utf8() > STRING_OCTETS {
            line.push_str("\" ");
            in_string = false;
        }
        if !in_string {
            line.push('"');
            (in_string, length) = (true, 0);
        }
        if matches!(c, '"' | '\\') {
            line.push('\\');
        }
        line.push(c);
        length += c.len_utf8();
    }
    line.push_str(if in_string { "\"" } else { "\"\"" });
    line
}

/// Of the only MX; a second host takes the same or a higher number.
const MX_PREFERENCE: u16 = 10;
pub(super) const TTL_SECONDS: u32 = 3600;
const STRING_OCTETS: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    fn config(settings: &[(&str, &str)]) -> Config {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, settings).unwrap()
    }

    #[track_caller]
    fn check(config: &Config, expected: &[&str]) {
        let lines: Vec<String> = all(config, &[]).iter().map(Record::line).collect();
        for line in expected {
            assert!(lines.iter().any(|found| found == line), "no `{line}` in {lines:#?}");
        }
    }

    #[test]
    fn a_domain_that_never_sends_says_so() {
        let lines = [
            "sync.example.test. 3600 IN MX 10 mx.example.test.",
            "sync.example.test. 3600 IN TXT \"v=spf1 -all\"",
            "*._domainkey.sync.example.test. 3600 IN TXT \"v=DKIM1; p=\"",
            "_dmarc.sync.example.test. 3600 IN TXT \"v=DMARC1; p=reject; sp=reject; adkim=s; aspf=s\"",
            "mta-sts.sync.example.test. 3600 IN CNAME mx.example.test.",
            "_smtp._tls.sync.example.test. 3600 IN TXT \"v=TLSRPTv1; rua=mailto:postmaster@sync.example.test\"",
        ];
        check(&config(&[]), &lines);
        check(&config(&[]), &["reply.example.test. 3600 IN TXT \"v=spf1 -all\""]);
    }

    #[test]
    fn with_a_relay_the_reply_domain_sends_through_the_smarthost() {
        let relay = |smarthost: &str| {
            let (smarthost, from) = (smarthost.to_owned(), "no-reply@reply.example.test".to_owned());
            Config { relay: Some(Relay { smarthost, from }), ..Config::default() }
        };
        for (smarthost, term) in [
            ("smtp://u@smart.provider.test:587", "a:smart.provider.test"),
            ("smtp://192.0.2.7:25", "ip4:192.0.2.7"),
            ("smtp://[2001:db8::7]:25", "ip6:2001:db8::7"),
        ] {
            let config = relay(smarthost);
            check(
                &config,
                &[
                    &format!("reply.example.test. 3600 IN TXT \"v=spf1 {term} -all\""),
                    "sync.example.test. 3600 IN TXT \"v=spf1 -all\"",
                    "_dmarc.reply.example.test. 3600 IN TXT \"v=DMARC1; p=reject; sp=reject; adkim=r; aspf=r\"",
                ],
            );
            let keys: Vec<String> =
                domains(&config).iter().filter_map(|name| dkim(&config, name)).map(|r| r.name).collect();
            assert_eq!(keys, ["*._domainkey.sync.example.test."]);
        }
    }

    #[test]
    fn the_policy_is_served_where_the_web_pages_are() {
        let host_of =
            |url| mta_sts_host(&config(&[("SYNCMX_HTTP__PUBLIC_URL", url)]), "sync.example.test").value;
        assert_eq!(host_of("https://CRM.example.test:8443/mail"), "crm.example.test.");
        for without_certificate in
            ["http://crm.example.test", "https://192.0.2.1", "https://[2001:db8::1]:443"]
        {
            assert_eq!(host_of(without_certificate), "mx.example.test.", "{without_certificate}");
        }
    }

    #[test]
    fn a_long_text_is_several_strings_of_255_octets_at_most() {
        assert_eq!(quoted(&"x".repeat(255)), format!("\"{}\"", "x".repeat(255)));
        assert_eq!(quoted(&"x".repeat(256)), format!("\"{}\" \"x\"", "x".repeat(255)));
        assert_eq!(quoted("a\"b\\"), "\"a\\\"b\\\\\"");
        assert_eq!(quoted(""), "\"\"");
    }
}
