//! Look-ups for operators (`check`): what the world's DNS says of our own names, in types of our own.
//!
//! Uses the same resolver, limits and DMARC reading as the checks of messages, so that both see the same world.

use std::net::IpAddr;

use super::dns::{Dns, Failure, Purpose};
use super::spf::{self, Identity};
use super::{AuthError, AuthResult, DmarcPolicy, align, dmarc, domain};
use crate::config;

/// Asks. Cheap to clone.
#[derive(Clone)]
pub struct Probe {
    dns: Dns,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The DNS has said that there is nothing.
    Nothing,
    /// Time-out, SERVFAIL, network.
    ForNow,
}

/// The DMARC policy that applies to a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Where it is published: the domain, or one above it.
    pub published_at: String,
    /// What it asks for here.
    pub policy: DmarcPolicy,
}

impl Probe {
    /// With the resolvers of `[dns]`.
    ///
    /// # Errors
    /// The system's configuration cannot be read.
    pub fn new(config: &config::Dns) -> Result<Self, AuthError> {
        let dns = Dns::new(config).map_err(|error| AuthError::Resolver(error.to_string()))?;
        Ok(Self { dns })
    }

    /// MX records by preference; an empty host is the null MX (RFC 7505).
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn mx(&self, name: &str) -> Result<Vec<(u16, String)>, NoAnswer> {
        self.dns.lookups().mx(name).await.map_err(no_answer)
    }

    /// A and AAAA records, through aliases.
    ///
    /// # Errors
    /// See [`NoAnswer`]; one family without records is no error.
    pub async fn addresses(&self, name: &str) -> Result<Vec<IpAddr>, NoAnswer> {
        let lookups = self.dns.lookups();
        let [v4, v6] = FAMILIES.map(|like| lookups.addresses_like(like, name));
        let (v4, v6) = tokio::join!(v4, v6);
        match (v4, v6) {
            (Ok(v4), Ok(v6)) => Ok([v4, v6].concat()),
            (Ok(found), Err(failure)) | (Err(failure), Ok(found)) if failure.is_void() => Ok(found),
            (Err(one), Err(other)) if one.is_void() && other.is_void() => Err(NoAnswer::Nothing),
            _ => Err(NoAnswer::ForNow),
        }
    }

    /// Where the name is an alias: of what.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn alias(&self, name: &str) -> Result<String, NoAnswer> {
        self.dns.lookups().alias(name).await.map_err(no_answer)
    }

    /// TXT records, each in one piece; octets that are no UTF-8 are replaced.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn texts(&self, name: &str) -> Result<Vec<String>, NoAnswer> {
        let texts = self.dns.lookups().txt(name, Purpose::Other).await.map_err(no_answer)?;
        Ok(texts.iter().map(|text| String::from_utf8_lossy(text).into_owned()).collect())
    }

    /// The names that the reverse zone gives an address.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn names_of(&self, ip: IpAddr) -> Result<Vec<String>, NoAnswer> {
        self.dns.lookups().ptr(ip).await.map_err(no_answer)
    }

    /// The DMARC policy of a domain, by the tree walk of RFC 9989.
    ///
    /// # Errors
    /// See [`NoAnswer`].
    pub async fn dmarc(&self, name: &str) -> Result<Applied, NoAnswer> {
        let name = domain::normalised(name).ok_or(NoAnswer::Nothing)?;
        let walk = dmarc::walk(&self.dns.lookups(), &name).await;
        match (walk.record(), walk.state) {
            (Some((published_at, record)), _) => Ok(Applied {
                published_at: published_at.to_owned(),
                policy: align::applied_policy(record, published_at, &name, align::Existence::Exists),
            }),
            (None, align::WalkState::Complete) => Err(NoAnswer::Nothing),
            (None, align::WalkState::Failed) => Err(NoAnswer::ForNow),
        }
    }

    /// What SPF says of mail in the name of `domain` from this address.
    pub async fn spf(&self, ip: IpAddr, domain: &str) -> AuthResult {
        let who = Identity { ip, local_part: "postmaster", domain, helo: domain };
        spf::check_host(&self.dns.lookups(), &who).await
    }
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").finish_non_exhaustive()
    }
}

const fn no_answer(failure: Failure) -> NoAnswer {
    if failure.is_void() { NoAnswer::Nothing } else { NoAnswer::ForNow }
}

/// One address of each, for its family alone.
const FAMILIES: [IpAddr; 2] =
    [IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED)];

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::zone::{Zone, ZoneServer};

    #[tokio::test]
    async fn answers_are_those_of_the_zone_and_failures_are_told_apart() {
        let mut zone = Zone::parse(
            "a.test. A 192.0.2.1\na.test. AAAA 2001:db8::1\nfour.test. A 192.0.2.4\nwww.test. CNAME a.test.\n\
             null.test. MX 0 .\n_dmarc.test. TXT \"v=DMARC1; p=none; sp=reject\"\n\
             a.test. TXT \"v=spf1 ip4:192.0.2.9 -all\"\n1.2.0.192.in-addr.arpa. PTR a.test.\n",
        )
        .unwrap();
        zone.servfail("broken.test").unwrap();
        let server = ZoneServer::start(zone).await.unwrap();
        let dns = config::Dns { servers: vec![server.addr()], timeout: Duration::from_secs(2) };
        let probe = Probe::new(&dns).unwrap();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        assert_eq!(probe.addresses("a.test").await, Ok(vec![ip("192.0.2.1"), ip("2001:db8::1")]));
        assert_eq!(probe.addresses("four.test").await, Ok(vec![ip("192.0.2.4")]));
        assert_eq!(probe.addresses("no.test").await, Err(NoAnswer::Nothing));
        assert_eq!(probe.addresses("broken.test").await, Err(NoAnswer::ForNow));
        assert_eq!(probe.alias("www.test").await.as_deref(), Ok("a.test"));
        assert_eq!(probe.alias("a.test").await, Err(NoAnswer::Nothing));
        assert_eq!(probe.mx("null.test").await, Ok(vec![(0, String::new())]));
        assert_eq!(probe.names_of(ip("192.0.2.1")).await, Ok(vec!["a.test".to_owned()]));
        let above = Applied { published_at: "test".to_owned(), policy: DmarcPolicy::Reject };
        assert_eq!(probe.dmarc("a.test").await, Ok(above));
        assert_eq!(probe.spf(ip("192.0.2.9"), "a.test").await, AuthResult::Pass);
        assert_eq!(probe.spf(ip("192.0.2.8"), "a.test").await, AuthResult::Fail);
    }
}
