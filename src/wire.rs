//! JSON shapes that store, API and command line share, so that a trace reads the same wherever it is shown.
//!
//! The names are those of CONTRACT ("HTTP API"); nothing here decides.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::address::{EmailAddress, NamedAddress};
use crate::auth::{AuthResult, Verdict};
use crate::filing::Step;
use crate::message::{Attachment, Meeting};
use crate::time::Timestamp;

/// What authentication found: `auth` of a delivery and of `inspect --json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuthView {
    /// The result word for the reverse-path (or HELO) domain.
    pub spf: Cow<'static, str>,
    /// One entry for each signature that was looked at.
    pub dkim: Vec<DkimView>,
    /// DMARC of the From domain.
    pub dmarc: DmarcView,
    /// The result word for the ARC chain.
    pub arc: Cow<'static, str>,
    /// The result word for reverse DNS.
    pub iprev: Cow<'static, str>,
}

/// One DKIM signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DkimView {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// The result word.
    pub result: Cow<'static, str>,
}

/// What DMARC says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DmarcView {
    /// The result word.
    pub result: Cow<'static, str>,
    /// The policy that applies.
    pub policy: Cow<'static, str>,
}

/// One step of a trace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StepView {
    /// The rule, or the part of the program, that spoke.
    pub rule: Cow<'static, str>,
    /// What it said.
    pub said: Cow<'static, str>,
    /// Microseconds it took.
    pub took_us: u64,
}

/// One attachment of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AttachmentView {
    /// Its number, from 0.
    pub n: usize,
    /// The cleaned file name.
    pub filename: String,
    /// The type that the content proves, else the declared one.
    pub content_type: String,
    /// Octets after decoding.
    pub size: u64,
    /// SHA-256 of the decoded octets, hexadecimal.
    pub sha256: String,
    /// Whether it is shown inside the text.
    pub inline: bool,
    /// `stored` or `skipped` (R56).
    pub status: Cow<'static, str>,
    /// Why it was skipped; of one that is stored, what is odd about it (R57).
    pub why: Option<String>,
}

/// R55: what a calendar part says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MeetingView {
    /// `REQUEST`, `REPLY`, `CANCEL`, … (RFC 5546).
    pub method: Cow<'static, str>,
    /// The title; null without scope `messages:content`.
    pub title: Option<String>,
    /// When it begins.
    #[schema(format = DateTime)]
    pub start: Option<String>,
    /// When it ends.
    #[schema(format = DateTime)]
    pub end: Option<String>,
    /// The organiser's address.
    pub organiser: Option<String>,
    /// A link to Zoom, Meet, Teams or the like; null without scope `messages:content`.
    pub join_url: Option<String>,
}

/// Somebody in a header field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PersonView {
    /// The display name, if there is one.
    pub name: Option<String>,
    /// The address.
    pub email: String,
}

impl From<&Verdict> for AuthView {
    fn from(verdict: &Verdict) -> Self {
        let dkim = verdict.dkim.iter().map(|signature| DkimView {
            domain: signature.domain.clone(),
            selector: signature.selector.clone(),
            result: word(signature.result),
        });
        Self {
            spf: word(verdict.spf.result),
            dkim: dkim.collect(),
            dmarc: DmarcView {
                result: word(verdict.dmarc.result),
                policy: Cow::Borrowed(verdict.dmarc.policy.as_str()),
            },
            arc: word(verdict.arc.result),
            iprev: word(verdict.iprev),
        }
    }
}

impl AuthView {
    /// R5: the results alone, not whose.
    #[must_use]
    pub fn without_names(mut self) -> Self {
        for signature in &mut self.dkim {
            signature.domain.clear();
            signature.selector.clear();
        }
        self
    }
}

impl From<&Step> for StepView {
    fn from(step: &Step) -> Self {
        Self { rule: Cow::Borrowed(step.rule), said: step.said.clone(), took_us: step.took_us }
    }
}

impl From<&Attachment> for AttachmentView {
    fn from(attachment: &Attachment) -> Self {
        Self {
            n: attachment.n,
            filename: attachment.filename.clone(),
            content_type: attachment.content_type.clone(),
            size: attachment.size,
            sha256: hex(&attachment.sha256),
            inline: attachment.inline,
            status: Cow::Borrowed("stored"),
            why: attachment.mismatch.clone(),
        }
    }
}

impl AttachmentView {
    /// R56: listed, but not taken on the record.
    #[must_use]
    pub fn skipped(self, why: String) -> Self {
        Self { status: Cow::Borrowed("skipped"), why: Some(why), ..self }
    }
}

impl From<&Meeting> for MeetingView {
    fn from(meeting: &Meeting) -> Self {
        Self {
            method: Cow::Borrowed(meeting.method.as_str()),
            title: Some(meeting.title.clone()),
            start: meeting.start.map(Timestamp::to_rfc3339),
            end: meeting.end.map(Timestamp::to_rfc3339),
            organiser: meeting.organiser.clone(),
            join_url: meeting.join_url.clone(),
        }
    }
}

impl From<&NamedAddress> for PersonView {
    fn from(person: &NamedAddress) -> Self {
        Self { name: person.name.clone(), email: person.address.as_str().to_owned() }
    }
}

impl From<&EmailAddress> for PersonView {
    fn from(address: &EmailAddress) -> Self {
        Self { name: None, email: address.as_str().to_owned() }
    }
}

fn word(result: AuthResult) -> Cow<'static, str> {
    Cow::Borrowed(result.as_str())
}

/// Lower-case hexadecimal digits.
pub(crate) fn hex(octets: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    octets.iter().flat_map(|octet| [digit(octet >> 4), digit(octet & 15)]).collect()
}

/// Takes subjects, file names and what stands in the body out of an event's data, at any depth: for readers without
/// `messages:content`.
pub(crate) fn hide_content(value: &mut Value) {
    hide(value, &[HEADERS, BODY]);
}

/// Takes out what stands in the body, and leaves the headers: for webhooks without `include_content`.
pub(crate) fn hide_body(value: &mut Value) {
    hide(value, &[BODY]);
}

fn hide(value: &mut Value, names: &[&[&str]]) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if names.iter().any(|names| names.contains(&name.as_str())) {
                    *field = Value::Null;
                } else {
                    hide(field, names);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(item, names)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// As events call them.
const HEADERS: &[&str] = &["subject", "filename"];
/// Text, and of a meeting (R55) what its calendar part says.
const BODY: &[&str] = &["text", "new_text", "title", "join_url"];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Dkim;

    #[test]
    fn auth_has_the_shape_of_the_contract() {
        let mut verdict = Verdict::unchecked();
        verdict.spf.result = AuthResult::Pass;
        verdict.dkim.push(Dkim {
            domain: "praxis.test".to_owned(),
            selector: "s1".to_owned(),
            result: AuthResult::Pass,
            why: None,
            signed_fields: vec!["from".to_owned()],
        });
        let json = serde_json::to_string(&AuthView::from(&verdict)).unwrap();
        assert_eq!(
            json,
            r#"{"spf":"pass","dkim":[{"domain":"praxis.test","selector":"s1","result":"pass"}],"dmarc":{"result":"none","policy":"none"},"arc":"none","iprev":"none"}"#
        );
        assert_eq!(serde_json::from_str::<AuthView>(&json).unwrap(), AuthView::from(&verdict));
    }

    #[test]
    fn digits_are_lower_case_hexadecimal() {
        assert_eq!(hex(&[0, 0x1f, 0xab]), "001fab");
    }
}
