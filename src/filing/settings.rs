//! The settings of an account (CONTRACT, "Account settings"), typed, with their defaults.

use serde::{Deserialize, Serialize};

/// The settings of one account. Serialises to the JSON of the API; unknown keys and bad values are refused there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// R20, R26, R27: domains of the practice; a subdomain counts.
    pub internal_domains: Vec<String>,
    /// R20, R26, R27: single addresses of the practice.
    pub internal_addresses: Vec<String>,
    /// R20: addresses and domains that never get a mail.
    pub never_log: Vec<String>,
    /// R24.
    pub unknown_to: UnknownTo,
    /// R52.
    pub daily_limit: u32,
    /// R49.
    pub forward_replies: ForwardReplies,
    /// R56.
    pub attachments: AttachmentPolicy,
    /// R11.
    pub trusted_arc_sealers: Vec<String>,
    /// R33.
    pub journal_sources: Vec<JournalSource>,
    /// R36, days.
    pub held_days: u32,
    /// R61, days; none for ever.
    pub content_days: Option<u32>,
    /// R3, days.
    pub trace_days: u32,
    /// R35, months; none for never.
    pub mark_idle_months: Option<u32>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            internal_domains: Vec::new(),
            internal_addresses: Vec::new(),
            never_log: Vec::new(),
            unknown_to: UnknownTo::Create,
            daily_limit: 500,
            forward_replies: ForwardReplies::Word(ForwardWord::Off),
            attachments: AttachmentPolicy::Preset(AttachmentPreset::Gmail),
            trusted_arc_sealers: vec!["google.com".to_owned(), "microsoft.com".to_owned()],
            journal_sources: Vec::new(),
            held_days: 30,
            content_days: None,
            trace_days: 90,
            mark_idle_months: None,
        }
    }
}

/// R24: what happens to mail of a user to nobody on file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum UnknownTo {
    /// The first eligible To address becomes a contact.
    Create,
    /// The mail is held.
    Hold,
}

/// R49.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum ForwardReplies {
    /// `off` or `user`.
    Word(ForwardWord),
    /// An address.
    Address(String),
}

/// The words of R49.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ForwardWord {
    /// No copies.
    Off,
    /// To the conversation's user.
    User,
}

/// R56.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AttachmentPolicy {
    /// `gmail` or `outlook`.
    Preset(AttachmentPreset),
    /// Own limits.
    Limits(AttachmentLimits),
}

/// The presets of R56.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachmentPreset {
    /// 25 MB a mail, any type but executables.
    Gmail,
    /// 3 MB each, eleven extensions.
    Outlook,
}

/// Own limits of R56.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttachmentLimits {
    /// Octets for all attachments of a mail.
    pub max_total: Option<u64>,
    /// Octets for each.
    pub max_each: Option<u64>,
    /// Extensions without dot, lower case; none for any.
    pub allow: Option<Vec<String>>,
}

/// A declared journal source (R33).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalSource {
    /// The domain whose journaling agent sends.
    pub domain: String,
    /// The networks it sends from, CIDR.
    pub networks: Vec<String>,
}
