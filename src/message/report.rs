//! Delivery status notifications (RFC 3464) and feedback reports (RFC 5965) in machine-readable form (R51).

use super::fields::{Fields, read_block};
use super::scan::Tree;
use super::{Kind, Report, ReportedRecipient, charset, ids};

/// The report that a message is, with its kind.
pub(super) fn read(tree: &Tree<'_>) -> Option<(Kind, Report)> {
    let outer = outer_parts(tree);
    let of_type =
        |wanted: &str| outer.iter().copied().find(|index| tree.parts[*index].content_type.value == wanted);
    let original_message_id = original_id(tree, &outer);
    if let Some(index) = of_type("message/feedback-report") {
        let recipients = complaint(&tree.decoded(index));
        return Some((Kind::Complaint, Report { recipients, original_message_id }));
    }
    let status = of_type("message/delivery-status").or_else(|| of_type("message/global-delivery-status"))?;
    let recipients = delivery_status(&tree.decoded(status));
    Some((Kind::Bounce, Report { recipients, original_message_id }))
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
fn original_id(tree: &Tree<'_>, outer: &[usize]) -> Option<String> {
    outer.iter().skip(1).find_map(|index| match tree.parts[*index].content_type.value.as_str() {
        "message/rfc822" | "message/global" => {
            let child = tree.children(*index).next();
            match child {
                Some(child) => tree.parts[child].fields.last("message-id").and_then(ids::own),
                None => id_in(&tree.decoded(*index)),
            }
        }
        "text/rfc822-headers" | "message/rfc822-headers" | "message/global-headers" | "text/rfc822" => {
            id_in(&tree.decoded(*index))
        }
        _ => None,
    })
}

fn id_in(octets: &[u8]) -> Option<String> {
    let (fields, _) = read_block(octets, 0, |_| false).ok()?;
    fields.last("message-id").and_then(ids::own)
}

/// RFC 3464 section 2.3: blocks of fields, one for each recipient behind the first.
fn delivery_status(octets: &[u8]) -> Vec<ReportedRecipient> {
    blocks(octets).iter().filter_map(reported).take(MAX_RECIPIENTS).collect()
}

fn blocks(octets: &[u8]) -> Vec<Fields<'_>> {
    let mut out = Vec::new();
    let mut at = 0;
    while at < octets.len() && out.len() <= MAX_RECIPIENTS {
        let Ok((fields, next)) = read_block(octets, at, |_| false) else { break };
        if fields.len() > 0 {
            out.push(fields);
        }
        at = next;
    }
    out
}

fn reported(fields: &Fields<'_>) -> Option<ReportedRecipient> {
    let address = ["final-recipient", "original-recipient"].iter().find_map(|name| typed(fields, name))?;
    let action = fields.plain("action").unwrap_or_default().to_lowercase();
    let action = action.split(|c: char| !c.is_ascii_alphabetic()).next().unwrap_or_default().to_owned();
    let status = fields.plain("status").and_then(|status| enhanced_code(&status));
    let reason = typed(fields, "diagnostic-code");
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
        .map(|to| ReportedRecipient {
            address: to.address.as_str().to_owned(),
            action: "complained".to_owned(),
            status: None,
            reason: kind.clone(),
        })
        .collect()
}

/// A report names no more.
const MAX_RECIPIENTS: usize = 1_000;
