//! placeholder
use std::net::IpAddr;
use std::sync::Arc;

use super::dns::Dns;
use super::{Spf, domain, spf};
use crate::config;

/// Checks messages. Cheap to clone; all clones share one resolver and cache.
#[derive(Clone)]
pub struct Authenticator {
    dns: Dns,
    hostname: Arc<str>,
}

/// Why authentication cannot work.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No resolver can be built from the settings, or from the system's.
    #[error("resolver cannot be set up: {0}")]
    Resolver(String),
    /// The DNS has no answer for now.
    #[error("look-up of {0} failed for now")]
    LookUp(String),
}

impl Authenticator {
    /// Uses the resolvers of `[dns]`; the system's where there are none.
    ///
    /// # Errors
    /// The system's configuration cannot be read.
    pub fn new(dns: &config::Dns, hostname: &str) -> Result<Self, AuthError> {
        let dns = Dns::new(dns).map_err(|error| AuthError::Resolver(error.to_string()))?;
        Ok(Self { dns, hostname: hostname.into() })
    }

    /// SPF alone: of the sender's domain, or of the HELO name where `mail_from` is empty.
    pub async fn check_spf(&self, client_ip: IpAddr, helo: &str, mail_from: &str) -> Spf {
        let sender = if mail_from.is_empty() { helo } else { mail_from };
        let (local_part, domain) = sender.rsplit_once('@').unwrap_or(("", sender));
        let local_part = if local_part.is_empty() { "postmaster" } else { local_part };
        let who = spf::Identity { ip: client_ip, local_part, domain, helo };
        let result = spf::check_host(&self.dns.lookups(), &who).await;
        Spf { result, domain: domain::normalised(domain) }
    }
}
