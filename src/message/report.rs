//! Delivery status notifications (RFC 3464) and feedback reports (RFC 5965) in machine-readable form (R51).

use super::fields::{Fields, read_block};
use super::scan::Tree;
use super::{Kind, Report, ReportedRecipient, charset, ids, plain_bounce, ses_report};
use crate::address::{EmailAddress, NamedAddress};

/// The report that a message is, with its kind.
pub(super) fn read(tree: &Tree<'_>, subject: &str, text: &str) -> Option<(Kind, Report)> {
    let outer = outer_parts(tree);
    let of_type =
        |wanted: &str| outer.iter().copied().find(|index| tree.parts[*index].content_type.value == wanted);
    if let Some(index) = of_type("message/feedback-report") {
        let mut recipients = complaint(&tree.decoded(index));
        if recipients.is_empty() {
            let to =
                returned_fields(tree, |fields| fields.last("to").map(|to| super::addresses::list(to).found));
            recipients.extend(to.unwrap_or_default().into_iter().take(1).map(|to| complained(&to, None)));
        }
        return Some((Kind::Complaint, Report { recipients, original_message_id: original_id(tree) }));
    }
    let status = of_type("message/delivery-status").or_else(|| of_type("message/global-delivery-status"));
    let recipients = status.map(|status| delivery_status(&tree.decoded(status))).unwrap_or_default();
    if !recipients.is_empty() {
        return Some((Kind::Bounce, Report { recipients, original_message_id: original_id(tree) }));
    }
    if let Some(found) = ses_report::read(text) {
        return Some(found);
    }
    if let Some(report) = plain_bounce::read(tree, subject, text) {
        return Some((Kind::Bounce, report));
    }
    status.map(|_| (Kind::Bounce, Report { recipients, original_message_id: original_id(tree) }))
}

/// The parts that belong to the report itself, not to the message it returns.
fn outer_parts(tree: &Tree<'_>) -> Vec<usize> {
    let mut out = Vec::new();
    let mut is_inside = vec![false; tree.parts.len()];
    for (index, part) in tree.parts.iter().enumerate() {
        let inside = part.parent.is_some_and(|parent| {
            is_inside[parent] || tree.parts[parent].shape == super::scan::Shape::Message
        });
        is_inside[index] = inside;
        if !inside {
            out.push(index);
        }
    }
    out
}

/// The Message-ID of what came back: of the returned message, or of its headers.
pub(super) fn original_id(tree: &Tree<'_>) -> Option<String> {
    returned_fields(tree, |fields| fields.last("message-id").and_then(ids::own))
}

/// Asks the header of the returned message, in whichever part it stands.
pub(super) fn returned_fields<T>(tree: &Tree<'_>, ask: impl Fn(&Fields<'_>) -> Option<T>) -> Option<T> {
    let ask_text = |index: usize| {
        let octets = tree.decoded(index);
        let start = octets.len() - octets.trim_ascii_start().len();
        let (fields, _) = read_block(&octets, start, |_| false).ok()?;
        ask(&fields)
    };
    outer_parts(tree).into_iter().skip(1).find_map(|index| {
        match tree.parts[index].content_type.value.as_str() {
            "message/rfc822" | "message/global" => {
                let child = tree.children(index).next();
                child.and_then(|child| ask(&tree.parts[child].fields)).or_else(|| ask_text(index))
            }
            "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers" | "text/rfc822" => {
                ask_text(index)
            }
            _ => None,
        }
    })
}

/// RFC 3464 section 2.3: blocks of fields, one for each recipient behind the first. Each is let go before the next.
fn delivery_status(octets: &[u8]) -> Vec<ReportedRecipient> {
    let mut out = Vec::new();
    let (mut at, mut blocks) = (0, 0);
    while at < octets.len() && blocks <= MAX_RECIPIENTS && out.len() < MAX_RECIPIENTS {
        let Ok((fields, next)) = read_block(octets, at, |_| false) else { break };
        blocks += usize::from(fields.len() > 0);
        out.extend(reported(&fields));
        at = next;
    }
    out
}

fn reported(fields: &Fields<'_>) -> Option<ReportedRecipient> {
    let named: Vec<String> =
        ["final-recipient", "original-recipient"].iter().filter_map(|name| typed(fields, name)).collect();
    // A pipe or an X.400 name is no address; then the original recipient is.
    let address =
        named.iter().find(|name| EmailAddress::parse(name).is_some()).or_else(|| named.first())?.clone();
    let address = plain_bounce::addresses_in(&address).into_iter().next().unwrap_or(address);
    let action = fields.plain("action").unwrap_or_default().to_lowercase();
    let action = action.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_owned();
    let status = fields.plain("status").and_then(|status| enhanced_code(&status));
    let reason = typed(fields, "diagnostic-code");
    // `5.0.0` says nothing; the server's own words may.
    let is_vague = status.as_ref().is_none_or(|status| status.ends_with(".0.0"));
    let status = reason.as_deref().filter(|_| is_vague).and_then(enhanced_code).or(status);
    Some(ReportedRecipient {
        address,
        action: if action.is_empty() { "failed".to_owned() } else { action },
        status,
        reason,
    })
}

/// `rfc822; ana@x.test` → `ana@x.test`.
fn typed(fields: &Fields<'_>, name: &str) -> Option<String> {
    let value = fields.readable(name)?;
    let bare = value.split_once(';').map_or(value.as_str(), |(_, bare)| bare);
    let bare = bare.trim().trim_matches(['<', '>']).trim();
    (!bare.is_empty()).then(|| charset::without_nul(bare.into()).into_owned())
}

/// The first `class.subject.detail` of a text (RFC 3463).
pub(super) fn enhanced_code(text: &str) -> Option<String> {
    text.split(|c: char| !(c.is_ascii_digit() || c == '.')).find_map(|word| {
        let numbers: Vec<&str> = word.trim_matches('.').split('.').collect();
        let is_code = matches!(numbers.as_slice(), [class, subject, detail]
            if matches!(*class, "2" | "4" | "5") && (1..=3).contains(&subject.len()) && (1..=3).contains(&detail.len()));
        is_code.then(|| numbers.join("."))
    })
}

/// RFC 5965: whose mail was complained about.
fn complaint(octets: &[u8]) -> Vec<ReportedRecipient> {
    let Ok((fields, _)) = read_block(octets, 0, |_| false) else { return Vec::new() };
    let kind = fields.plain("feedback-type").map(|kind| kind.to_lowercase());
    let recipients = ["original-rcpt-to", "removal-recipient"].iter().flat_map(|name| fields.all(name));
    recipients
        .filter_map(|value| super::addresses::list(value).found.into_iter().next())
        .take(MAX_RECIPIENTS)
        .map(|to| complained(&to, kind.clone()))
        .collect()
}

fn complained(to: &NamedAddress, reason: Option<String>) -> ReportedRecipient {
    let address = to.address.as_str().to_owned();
    ReportedRecipient { address, action: "complained".to_owned(), status: None, reason }
}

/// A report names no more.
const MAX_RECIPIENTS: usize = 1_000;
