//! All checks of one message, side by side, into one [`Verdict`].
//!
//! Promises that a verdict always comes, within the time that [`Lookups`](super::dns::Lookups) allow: what is not known
//! by then is a temperror.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::content::Content;
use super::dmarc::Candidate;
use super::dns::{Dns, Lookups, MAX_WALL};
use super::{
    AlignedBy, Alignment, Arc as ArcChain, AuthResult, Dkim, Dmarc, DmarcPolicy, Original, Spf, Subject,
    Uncovered, Verdict, arc, coverage, dkim, dmarc, domain, iprev, spf,
};
use crate::address::EmailAddress;
use crate::config;
use crate::time::Timestamp;

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
}

impl Authenticator {
    /// Uses the resolvers of `[dns]`; the system's where there are none. `hostname` is our own name.
    ///
    /// # Errors
    /// The system's configuration cannot be read.
    pub fn new(dns: &config::Dns, hostname: &str) -> Result<Self, AuthError> {
        let dns = Dns::new(dns).map_err(|error| AuthError::Resolver(error.to_string()))?;
        Ok(Self { dns, hostname: hostname.into() })
    }

    /// Our own name, for the trace fields.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// Checks a message as received. At most 30 look-ups and 20 s (SMTP.md M10), those for its original included.
    pub async fn verify(&self, subject: Subject<'_>, raw: &[u8]) -> Verdict {
        self.verify_while(Instant::now() + MAX_WALL, CancellationToken::new(), subject, raw).await
    }

    /// The same for a message that has this time left. Once `hurry` is cancelled, what the DNS has not said yet is a
    /// temperror.
    pub(crate) async fn verify_while(
        &self,
        deadline: Instant,
        hurry: CancellationToken,
        subject: Subject<'_>,
        raw: &[u8],
    ) -> Verdict {
        let lookups = self.dns.lookups_while(deadline, hurry);
        let content = Content::of(raw).ok();
        let from = subject.from.and_then(|from| domain::normalised(from.domain()));
        let now = u64::try_from(Timestamp::now().as_millis() / 1000).unwrap_or(0);

        let walk = async {
            match &from {
                Some(domain) => Some(dmarc::walk(&lookups, domain).await),
                None => None,
            }
        };
        let (takes_no_mail, (spf, spf_helo), (dkim, arc), (iprev, client_name), walk) = tokio::join!(
            has_null_mx(&lookups, subject.mail_from),
            check_both_spf(&lookups, &subject),
            check_signatures(&lookups, content.as_ref(), from.as_deref(), now),
            iprev::check(&lookups, subject.client_ip),
            walk,
        );
        let (dmarc, alignment) = match &walk {
            Some(walk) => dmarc::evaluate(&lookups, walk, &candidates(&dkim, &spf)).await,
            None => (Dmarc { result: AuthResult::None, policy: DmarcPolicy::None }, Alignment::NotAligned),
        };
        let original = match subject.original {
            Some(original) => Some(check_original(&lookups, original, now).await),
            None => None,
        };
        let uncovered = match (&content, &from) {
            (Some(content), Some(from)) => coverage::uncovered(content, &alignment, &dkim, &spf, from),
            _ => Uncovered::default(),
        };
        Verdict {
            spf,
            spf_helo,
            dkim,
            dmarc,
            arc,
            iprev,
            client_name,
            alignment,
            uncovered,
            original,
            takes_no_mail,
        }
    }

    /// SPF alone: of the sender's domain, or of the HELO name where `mail_from` is empty.
    pub async fn check_spf(&self, client_ip: IpAddr, helo: &str, mail_from: &str) -> Spf {
        let lookups = self.dns.lookups();
        if mail_from.is_empty() {
            return check_spf(&lookups, client_ip, helo, "", helo).await;
        }
        let (local_part, domain) = mail_from.rsplit_once('@').unwrap_or(("", mail_from));
        check_spf(&lookups, client_ip, helo, local_part, domain).await
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("hostname", &self.hostname).finish_non_exhaustive()
    }
}

/// Whether the sender's domain says that it takes no mail (RFC 7505): then nobody writes from it, either. A look-up
/// that fails for now proves nothing.
async fn has_null_mx(lookups: &Lookups<'_>, sender: Option<&EmailAddress>) -> bool {
    let Some(domain) = sender.and_then(|sender| domain::normalised(sender.domain())) else { return false };
    lookups.mx(&domain).await.is_ok_and(|hosts| matches!(hosts.as_slice(), [(_, host)] if host.is_empty()))
}

/// R28: whether a signature of the original's own still holds and is aligned with its From. What SPF said when it came
/// in is gone; a signature that has expired since counts no more.
async fn check_original(lookups: &Lookups<'_>, original: Original<'_>, now: u64) -> Alignment {
    let (Ok(content), Some(from)) = (Content::of(original.raw), domain::normalised(original.from.domain()))
    else {
        return Alignment::NotAligned;
    };
    let dkim = dkim::verify(lookups, &content, now).await;
    let candidates = signers(&dkim);
    if candidates.is_empty() {
        return Alignment::NotAligned;
    }
    let walk = dmarc::walk(lookups, &from).await;
    dmarc::evaluate(lookups, &walk, &candidates).await.1
}

/// MAIL FROM, or HELO in its place where the reverse-path is null; and HELO.
async fn check_both_spf(lookups: &Lookups<'_>, subject: &Subject<'_>) -> (Spf, Spf) {
    let helo = check_spf(lookups, subject.client_ip, subject.helo, "", subject.helo);
    match subject.mail_from {
        None => {
            let helo = helo.await;
            (helo.clone(), helo)
        }
        Some(sender) => {
            let (local_part, domain) = (sender.local_part(), sender.domain());
            tokio::join!(check_spf(lookups, subject.client_ip, subject.helo, local_part, domain), helo)
        }
    }
}

async fn check_spf(lookups: &Lookups<'_>, ip: IpAddr, helo: &str, local_part: &str, domain: &str) -> Spf {
    let local_part = if local_part.is_empty() { "postmaster" } else { local_part };
    let result = spf::check_host(lookups, &spf::Identity { ip, local_part, domain, helo }).await;
    Spf { result, domain: domain::normalised(domain) }
}

/// A header block over the limits has no signature that counts.
async fn check_signatures(
    lookups: &Lookups<'_>,
    content: Option<&Content<'_>>,
    from: Option<&str>,
    now: u64,
) -> (Vec<Dkim>, ArcChain) {
    match content {
        Some(content) => {
            tokio::join!(dkim::verify(lookups, content, now), arc::verify(lookups, content, from, now))
        }
        None => {
            (Vec::new(), ArcChain { result: AuthResult::None, last_sealer: None, attests_dmarc_pass: false })
        }
    }
}

/// Signatures first: they outlive forwarding.
fn candidates<'a>(dkim: &'a [Dkim], spf: &'a Spf) -> Vec<Candidate<'a>> {
    let sender = spf.domain.iter().map(|domain| Candidate { by: AlignedBy::Spf, domain, result: spf.result });
    signers(dkim).into_iter().chain(sender.filter(may_count)).collect()
}

fn signers(dkim: &[Dkim]) -> Vec<Candidate<'_>> {
    dkim.iter()
        .map(|dkim| Candidate { by: AlignedBy::Dkim, domain: &dkim.domain, result: dkim.result })
        .filter(may_count)
        .collect()
}

const fn may_count(candidate: &Candidate<'_>) -> bool {
    matches!(candidate.result, AuthResult::Pass | AuthResult::TempError)
}
