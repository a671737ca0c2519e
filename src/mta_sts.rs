//! The MTA-STS policy of the served domains (RFC 8461): what it says, under which id, for which hosts it is served.
//!
//! One policy for all domains: they share the MX. Promises that the id changes with every change of the text, so that
//! senders fetch it anew, and that `serve`, `dns` and `check` speak of the same policy.

use aws_lc_rs::digest::{SHA256, digest};

use crate::config::{Config, MtaStsMode};

/// A policy that is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    text: String,
    hosts: Vec<String>,
}

impl Policy {
    /// The policy of a configuration; none where `tls.mta_sts` is off.
    #[must_use]
    pub fn of(config: &Config) -> Option<Self> {
        let mode = config.tls.mta_sts;
        let max_age_seconds = match mode {
            MtaStsMode::Enforce => ENFORCED_SECONDS,
            MtaStsMode::None | MtaStsMode::Testing => TRIED_SECONDS,
            MtaStsMode::Off => return None,
        };
        let mx = config.smtp.hostname.to_ascii_lowercase();
        // RFC 8461 section 3.2: lines end with CRLF or LF.
        let text = format!(
            "version: STSv1\r\nmode: {}\r\nmx: {mx}\r\nmax_age: {max_age_seconds}\r\n",
            mode.as_str()
        );
        let domains = config.domains.sync.iter().chain(&config.domains.reply);
        let mut hosts: Vec<String> = domains.map(|domain| host(domain)).collect();
        hosts.sort();
        hosts.dedup();
        Some(Self { text, hosts })
    }

    /// The policy as it is served.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// 32 letters and digits at most (section 3.1): the start of the text's SHA-256.
    #[must_use]
    pub fn id(&self) -> String {
        let sum = digest(&SHA256, self.text.as_bytes());
        sum.as_ref().iter().take(ID_OCTETS).map(|octet| format!("{octet:02x}")).collect()
    }

    /// What `_mta-sts.<domain>` says.
    #[must_use]
    pub fn txt(&self) -> String {
        format!("v=STSv1; id={};", self.id())
    }

    /// Whether a Host field, with or without port, names a host that this policy is for.
    #[must_use]
    pub fn is_for(&self, host_field: &str) -> bool {
        let name = host_field.rsplit_once(':').map_or(host_field, |(name, _port)| name);
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.hosts.contains(&name)
    }
}

/// Where the policy of a domain is fetched from.
#[must_use]
pub fn host(domain: &str) -> String {
    format!("mta-sts.{domain}")
}

/// The path at that host (section 3.3).
pub const PATH: &str = "/.well-known/mta-sts.txt";

/// A week: senders that have it insist on TLS so long, even if the policy can no longer be fetched.
const ENFORCED_SECONDS: u32 = 604_800;
/// A day, while it may change.
const TRIED_SECONDS: u32 = 86_400;
const ID_OCTETS: usize = 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(settings: &[(&str, &str)]) -> Option<Policy> {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Policy::of(&Config::load(None, settings).unwrap())
    }

    #[test]
    fn the_id_changes_with_the_policy_and_with_nothing_else() {
        let testing = policy(&[]).unwrap();
        assert_eq!(
            testing.text(),
            "version: STSv1\r\nmode: testing\r\nmx: mx.example.test\r\nmax_age: 86400\r\n"
        );
        assert!(testing.id().len() <= 32 && testing.id().bytes().all(|b| b.is_ascii_alphanumeric()));
        assert_eq!(policy(&[("SYNCMX_HTTP__LISTEN", "127.0.0.1:1")]).unwrap().id(), testing.id());
        for other in [("SYNCMX_TLS__MTA_STS", "enforce"), ("SYNCMX_SMTP__HOSTNAME", "mx2.example.test")] {
            assert_ne!(policy(&[other]).unwrap().id(), testing.id(), "{other:?}");
        }
        assert_eq!(policy(&[("SYNCMX_TLS__MTA_STS", "off")]), None);
    }

    #[test]
    fn it_is_for_the_mta_sts_hosts_of_served_domains_alone() {
        let policy = policy(&[]).unwrap();
        for ours in ["mta-sts.sync.example.test", "MTA-STS.reply.example.test.:8443"] {
            assert!(policy.is_for(ours), "{ours}");
        }
        for other in ["sync.example.test", "mta-sts.example.test", "", "[::1]:80"] {
            assert!(!policy.is_for(other), "{other}");
        }
    }
}
