//! What SPF, DKIM, DMARC, ARC and reverse DNS say about a message: envelope + raw bytes → [`Verdict`].
//!
//! The only module that knows mail-auth and hickory-resolver; their types stay inside. A verdict states facts;
//! what follows from them is decided in `filing` (R11, R13, R14).

mod align;
mod answers;
mod arc;
mod asking;
mod content;
mod coverage;
mod dkim;
mod dmarc;
mod dns;
mod domain;
mod fields;
mod header;
mod iprev;
mod probe;
mod results;
mod signature;
pub mod signing;
mod spf;
mod tags;
mod verify;

pub use align::registrable_domain;
pub(crate) use dns::MAX_WALL;
pub use header::{trace_fields, without_foreign_trace};
pub use probe::{Applied, NoAnswer, Probe};
pub use verify::{AuthError, Authenticator};

use crate::address::EmailAddress;

/// All that authentication found out about one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// SPF of the reverse-path domain, or of the HELO name where the reverse-path is null (RFC 7208 section 2.4).
    pub spf: Spf,
    /// SPF of the HELO name.
    pub spf_helo: Spf,
    /// One entry for each signature that was looked at, in header order.
    pub dkim: Vec<Dkim>,
    /// DMARC of the From domain (RFC 9989).
    pub dmarc: Dmarc,
    /// The ARC chain (RFC 8617).
    pub arc: Arc,
    /// Reverse DNS of the client, confirmed forward (RFC 8601 section 3).
    pub iprev: AuthResult,
    /// The client's name in the reverse DNS, where `iprev` is a pass.
    pub client_name: Option<String>,
    /// R11: whether SPF or DKIM passed for a domain aligned with the From domain.
    pub alignment: Alignment,
    /// What the proof of `alignment` leaves open.
    pub uncovered: Uncovered,
    /// R28: likewise of the original that was forwarded as an attachment, by its own signatures; none without one.
    pub original: Option<Alignment>,
    /// RFC 7505: whether the domain of the reverse-path says that it takes no mail.
    pub takes_no_mail: bool,
}

/// SMTP.md M2, M3: fields that people and programs act on, and that no aligned signature covers. Empty where the
/// client itself is proven to send for the From domain (SPF): then nobody stood in between.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uncovered {
    /// Not signed at all: anybody who passed the message on may have written them.
    pub unsigned: Vec<&'static str>,
    /// Signed less often than they stand there: some of them were added.
    pub added: Vec<&'static str>,
}

/// The result words of RFC 8601 section 2.7 that we use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthResult {
    /// Checked and failed.
    Fail,
    /// Checked, no statement (SPF `?`, a DKIM signature that proves nothing).
    Neutral,
    /// Nothing to check.
    None,
    /// Checked and proven.
    Pass,
    /// The publisher's records cannot be used.
    PermError,
    /// SPF `~`.
    SoftFail,
    /// A look-up failed for now.
    TempError,
}

/// An SPF check of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spf {
    /// The result.
    pub result: AuthResult,
    /// The domain that was checked; none where there was none to check.
    pub domain: Option<String>,
}

/// One DKIM signature (RFC 6376).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dkim {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// Pass only if the signature counts by R11: From signed, whole body, RSA ≥ 1024 bits, not SHA-1.
    pub result: AuthResult,
    /// In a few words, why it is not a pass.
    pub why: Option<String>,
    /// The header fields that the signature covers, lower case, in the order of `h=`.
    pub signed_fields: Vec<String>,
}

/// What DMARC says of the From domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dmarc {
    /// `None` where no policy is published.
    pub result: AuthResult,
    /// The policy that applies to this From domain (`sp`, `np` and `t` already weighed).
    pub policy: DmarcPolicy,
}

/// A DMARC policy (RFC 9989 section 4.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DmarcPolicy {
    /// `p=none`, or no record.
    None,
    /// `p=quarantine`.
    Quarantine,
    /// `p=reject`.
    Reject,
}

/// What the ARC chain says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arc {
    /// `None` without a chain, `Pass` for a valid one, `Fail` for any other; `TempError` if a key could not be fetched.
    pub result: AuthResult,
    /// `d=` of the last ARC-Seal of a valid chain, or of one of which a key could not be fetched.
    pub last_sealer: Option<String>,
    /// Whether the last sealer's ARC-Authentication-Results state `dmarc=pass`.
    pub attests_dmarc_pass: bool,
}

/// R11, the part that needs no account setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Alignment {
    /// SPF or DKIM passed for this domain, which aligns with the From domain.
    Aligned {
        /// Which method proved it.
        by: AlignedBy,
        /// The domain it passed for.
        domain: String,
    },
    /// Every look-up was answered and nothing aligned passed.
    NotAligned,
    /// Nothing aligned passed, but a look-up that might have made it pass failed for now (R14).
    Unknown,
}

/// The method that proved alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AlignedBy {
    /// A DKIM signature.
    Dkim,
    /// SPF of the reverse-path, or of HELO for a null reverse-path.
    Spf,
}

impl AuthResult {
    /// The word of RFC 8601 section 2.7.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fail => "fail",
            Self::Neutral => "neutral",
            Self::None => "none",
            Self::Pass => "pass",
            Self::PermError => "permerror",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
        }
    }
}

impl DmarcPolicy {
    /// The word as published.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }
}

impl Verdict {
    /// The verdict on a message of which nothing could be, or was to be, looked up.
    #[must_use]
    pub const fn unchecked() -> Self {
        Self {
            spf: Spf { result: AuthResult::None, domain: None },
            spf_helo: Spf { result: AuthResult::None, domain: None },
            dkim: Vec::new(),
            dmarc: Dmarc { result: AuthResult::None, policy: DmarcPolicy::None },
            arc: Arc { result: AuthResult::None, last_sealer: None, attests_dmarc_pass: false },
            iprev: AuthResult::None,
            client_name: None,
            alignment: Alignment::NotAligned,
            uncovered: Uncovered { unsigned: Vec::new(), added: Vec::new() },
            original: None,
            takes_no_mail: false,
        }
    }
}

/// The original of a message that was forwarded as an attachment (R28).
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// Its octets.
    pub raw: &'a [u8],
    /// Its one From address.
    pub from: &'a EmailAddress,
}

/// What authentication needs to know of the SMTP session and the message, beside its bytes.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// The client's address.
    pub client_ip: std::net::IpAddr,
    /// The EHLO or HELO argument as received.
    pub helo: &'a str,
    /// The reverse-path; none for the null reverse-path.
    pub mail_from: Option<&'a EmailAddress>,
    /// The one From address (R10); none if the message has none that is clean: then nothing aligns.
    pub from: Option<&'a EmailAddress>,
    /// The attached original, if it was forwarded as one (R28).
    pub original: Option<Original<'a>>,
}

#[cfg(test)]
mod tests;
