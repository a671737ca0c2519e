//! SPF (RFC 7208): may this client send for this domain?
//!
//! Complete but for explanations, which are checked and never fetched: nobody is shown a stranger's text. Promises at
//! most ten terms that look up and two that find nothing, and that what is no domain name asks the DNS nothing.

mod expand;
mod record;

use std::borrow::Cow;
use std::net::IpAddr;
use std::pin::Pin;

use record::{Mechanism, Prefixes, Record};

use super::dns::{Failure, Lookups, Purpose};
use super::{AuthResult, domain};

/// Whose right to send is checked (RFC 7208 section 4.1). The local part is `postmaster` where there is none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Identity<'a> {
    /// The client; an IPv4-mapped address counts as IPv4.
    pub ip: IpAddr,
    /// Of the sender.
    pub local_part: &'a str,
    /// Of the sender, as received.
    pub domain: &'a str,
    /// The HELO argument, for `%{h}`.
    pub helo: &'a str,
}

/// Evaluates the domain's record. The domain must be a name of at least two labels: anything else, such as an address
/// literal, is none (section 4.3).
pub(super) async fn check_host(lookups: &Lookups<'_>, who: &Identity<'_>) -> AuthResult {
    let Some(domain) = domain::normalised(who.domain).filter(|domain| domain.contains('.')) else {
        return AuthResult::None;
    };
    let who = Identity { ip: who.ip.to_canonical(), ..*who };
    let mut check = Check { lookups, who: &who, terms: 0, voids: 0, client_name: None };
    check.domain(&domain).await.unwrap_or_else(|stop| stop.0)
}

struct Check<'a> {
    lookups: &'a Lookups<'a>,
    who: &'a Identity<'a>,
    /// Terms that made look-ups, over all records (section 4.6.4).
    terms: usize,
    /// Look-ups of terms that found nothing (section 4.6.4).
    voids: usize,
    /// `%{p}`, once it was asked for.
    client_name: Option<String>,
}

/// Evaluation ends here with this result.
struct Stop(AuthResult);

const PERM_ERROR: Stop = Stop(AuthResult::PermError);
const MAX_TERMS: usize = 10;
const MAX_VOIDS: usize = 2;
/// Names of one `mx` or `ptr` (section 4.6.4).
const MAX_HOSTS: usize = 10;

type Boxed<'f> = Pin<Box<dyn Future<Output = Result<AuthResult, Stop>> + Send + 'f>>;

impl Check<'_> {
    /// `check_host()` for one domain; calls itself for `include` and `redirect`.
    fn domain<'f>(&'f mut self, domain: &'f str) -> Boxed<'f> {
        Box::pin(async move {
            let Some(text) = self.record(domain).await? else { return Ok(AuthResult::None) };
            let record = Record::parse(&text).map_err(|_| PERM_ERROR)?;
            for directive in &record.directives {
                if self.matches(&directive.mechanism, domain).await? {
                    return Ok(directive.result);
                }
            }
            let Some(spec) = record.redirect else { return Ok(AuthResult::Neutral) };
            self.count_term()?;
            let target = self.target(Some(spec), domain).await?;
            let result = self.domain(&target).await?;
            if result == AuthResult::None { Err(PERM_ERROR) } else { Ok(result) }
        })
    }

    /// The one SPF record of a domain (section 4.5). Two are a permerror: taking the first lets a stale one decide.
    async fn record(&self, domain: &str) -> Result<Option<String>, Stop> {
        let texts = match self.lookups.txt(domain, Purpose::Other).await {
            Ok(texts) => texts,
            Err(Failure::NoDomain | Failure::NoRecord) => return Ok(None),
            Err(failure) => return Err(stop(failure)),
        };
        let mut records = texts.into_iter().filter(|text| record::is_spf(text));
        match (records.next(), records.next()) {
            (None, _) => Ok(None),
            (Some(one), None) if one.is_ascii() => Ok(String::from_utf8(one).ok()),
            (Some(_), _) => Err(PERM_ERROR),
        }
    }

    async fn matches(&mut self, mechanism: &Mechanism<'_>, domain: &str) -> Result<bool, Stop> {
        match mechanism {
            Mechanism::All => Ok(true),
            Mechanism::Ip(network, prefix) => Ok(is_in(self.who.ip, *network, *prefix)),
            Mechanism::A(spec, prefixes) => {
                self.count_term()?;
                let target = self.target(*spec, domain).await?;
                let found = self.lookups.addresses_like(self.who.ip, &target).await;
                let found = self.or_void(found)?;
                Ok(self.is_among(&found, *prefixes))
            }
            Mechanism::Exists(spec) => {
                self.count_term()?;
                let target = self.target(Some(spec), domain).await?;
                // Section 5.7: A, whatever the client's family.
                let found = self.lookups.ipv4(&target).await;
                Ok(!self.or_void(found)?.is_empty())
            }
            Mechanism::Include(spec) => {
                self.count_term()?;
                let target = self.target(Some(spec), domain).await?;
                self.includes(&target).await
            }
            Mechanism::Mx(spec, prefixes) => {
                self.count_term()?;
                let target = self.target(*spec, domain).await?;
                self.matches_mx(&target, *prefixes).await
            }
            Mechanism::Ptr(spec) => {
                self.count_term()?;
                let target = self.target(*spec, domain).await?;
                let found = self.lookups.ptr(self.who.ip).await;
                let names = self.or_void(found).unwrap_or_default();
                let below: Vec<String> = names
                    .into_iter()
                    .take(MAX_HOSTS)
                    .filter(|n| domain::is_at_or_below(n, &target))
                    .collect();
                Ok(self.confirmed(&below).await.is_some())
            }
        }
    }

    /// Section 5.2: only a pass of the other record is a match.
    async fn includes(&mut self, target: &str) -> Result<bool, Stop> {
        match self.domain(target).await? {
            AuthResult::Pass => Ok(true),
            AuthResult::Fail | AuthResult::Neutral | AuthResult::SoftFail => Ok(false),
            AuthResult::None | AuthResult::PermError => Err(PERM_ERROR),
            AuthResult::TempError => Err(Stop(AuthResult::TempError)),
        }
    }

    async fn matches_mx(&mut self, target: &str, prefixes: Prefixes) -> Result<bool, Stop> {
        let found = self.lookups.mx(target).await;
        let hosts = self.or_void(found)?;
        if hosts.len() > MAX_HOSTS {
            return Err(PERM_ERROR);
        }
        for (_, host) in hosts {
            let found = self.lookups.addresses_like(self.who.ip, &host).await;
            let found = self.or_void(found)?;
            if self.is_among(&found, prefixes) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The first of these names whose addresses hold the client's (section 5.5). A failure only passes a name over.
    async fn confirmed(&self, names: &[String]) -> Option<String> {
        for name in names {
            if let Ok(found) = self.lookups.addresses_like(self.who.ip, name).await
                && found.contains(&self.who.ip)
            {
                return Some(name.clone());
            }
        }
        None
    }

    async fn target<'t>(&mut self, spec: Option<&str>, domain: &'t str) -> Result<Cow<'t, str>, Stop> {
        let Some(spec) = spec else { return Ok(Cow::Borrowed(domain)) };
        if expand::wants_client_name(spec) && self.client_name.is_none() {
            self.client_name = Some(self.find_client_name(domain).await);
        }
        let client_name = self.client_name.as_deref().unwrap_or(UNKNOWN);
        Ok(Cow::Owned(expand::expand(spec, self.who, domain, client_name).to_ascii_lowercase()))
    }

    /// `%{p}` (section 7.3): the domain itself, else a name below it, else any that is confirmed.
    async fn find_client_name(&self, domain: &str) -> String {
        let mut names = self.lookups.ptr(self.who.ip).await.unwrap_or_default();
        names.truncate(MAX_HOSTS);
        names.sort_by_key(|name| (name != domain, !domain::is_at_or_below(name, domain)));
        self.confirmed(&names).await.unwrap_or_else(|| UNKNOWN.to_owned())
    }

    fn is_among(&self, found: &[IpAddr], prefixes: Prefixes) -> bool {
        let prefix = if self.who.ip.is_ipv4() { prefixes.ipv4 } else { prefixes.ipv6 };
        found.iter().any(|address| is_in(self.who.ip, *address, prefix))
    }

    const fn count_term(&mut self) -> Result<(), Stop> {
        self.terms += 1;
        if self.terms > MAX_TERMS { Err(PERM_ERROR) } else { Ok(()) }
    }

    /// What was found; nothing counts as void, and too many voids are a permerror.
    fn or_void<T>(&mut self, found: Result<Vec<T>, Failure>) -> Result<Vec<T>, Stop> {
        match found {
            Ok(found) => Ok(found),
            Err(failure) if failure.is_void() => {
                self.voids += 1;
                if self.voids > MAX_VOIDS { Err(PERM_ERROR) } else { Ok(Vec::new()) }
            }
            Err(failure) => Err(stop(failure)),
        }
    }
}

const UNKNOWN: &str = "unknown";

const fn stop(failure: Failure) -> Stop {
    match failure {
        // The record keeps within its own limits; it is other look-ups of this message that used up the budget.
        Failure::OverBudget | Failure::Temporary => Stop(AuthResult::TempError),
        Failure::NoDomain | Failure::NoRecord => PERM_ERROR,
    }
}

fn is_in(ip: IpAddr, network: IpAddr, prefix: u8) -> bool {
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) => {
            let shift = 32_u32.saturating_sub(prefix.into());
            (ip.to_bits() ^ network.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) => {
            let shift = 128_u32.saturating_sub(prefix.into());
            (ip.to_bits() ^ network.to_bits()).checked_shr(shift).unwrap_or(0) == 0
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}
