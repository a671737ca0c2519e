//! Bounce and complaint notices that Amazon SES sends as JSON through SNS, in the text of a mail.
//!
//! Nearly every mail is asked whether it is one, and a value of JSON takes many times the memory of its octets: no more
//! than [`MAX_NOTICE_OCTETS`] are ever read.

use serde_json::Value;

use super::{Kind, Report, ReportedRecipient};

/// The notice in this text, if there is one.
pub(super) fn read(text: &str) -> Option<(Kind, Report)> {
    let start =
        text.find('{').filter(|at| text.get(..*at).is_some_and(|before| before.len() < MAX_BEFORE))?;
    let text = text.get(start..)?;
    let outer = parse(text.get(..text.floor_char_boundary(MAX_NOTICE_OCTETS))?)?;
    let notice = match outer.get("Message").and_then(Value::as_str) {
        Some(inner) => parse(inner)?,
        None => outer,
    };
    let kind = notice.get("notificationType").or_else(|| notice.get("eventType"))?.as_str()?;
    let (kind, body, list) = match kind {
        "Bounce" => (Kind::Bounce, "bounce", "bouncedRecipients"),
        "Complaint" => (Kind::Complaint, "complaint", "complainedRecipients"),
        _ => return None,
    };
    let recipients =
        notice.get(body)?.get(list)?.as_array()?.iter().filter_map(|entry| recipient(kind, entry));
    let common = notice.get("mail").and_then(|mail| mail.get("commonHeaders"));
    let id = common.and_then(|headers| headers.get("messageId")).and_then(Value::as_str);
    Some((
        kind,
        Report {
            recipients: recipients.take(MAX_RECIPIENTS).collect(),
            original_message_id: id.and_then(|id| super::ids::own(id.as_bytes())),
        },
    ))
}

fn parse(text: &str) -> Option<Value> {
    // Text may follow behind the object.
    let first = |text: &str| serde_json::Deserializer::from_str(text).into_iter::<Value>().next()?.ok();
    // Long lines are wrapped on the way, in the middle of words.
    first(text).or_else(|| first(&text.replace("\n ", "").replace('\n', "")))
}

fn recipient(kind: Kind, entry: &Value) -> Option<ReportedRecipient> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).map(|text| text.replace('\0', ""));
    let default = if kind == Kind::Complaint { "complained" } else { "failed" };
    Some(ReportedRecipient {
        address: text("emailAddress")?,
        action: text("action").unwrap_or_else(|| default.to_owned()),
        status: text("status"),
        reason: text("diagnosticCode"),
    })
}

/// The object stands first.
const MAX_BEFORE: usize = 200;
/// SES names fifty recipients at most, with a few hundred octets for each, and the header of the message.
const MAX_NOTICE_OCTETS: usize = 256 * 1024;
const MAX_RECIPIENTS: usize = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r51_a_notice_in_json_is_a_report() {
        let text = r#"{"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":"ana@x.test",
            "status":"5.1.1","action":"failed"}]},"mail":{"commonHeaders":{"messageId":"<1@acme.test>"}}}
            -- and a footer"#;
        let (kind, report) = read(text).expect("a report");
        assert_eq!((kind, report.original_message_id.as_deref()), (Kind::Bounce, Some("1@acme.test")));
        assert_eq!(report.recipients[0].address, "ana@x.test");
        assert!(read("{ not json").is_none() && read(&"{".repeat(100_000)).is_none());
    }

    #[test]
    fn m10_a_notice_is_read_up_to_its_limit_and_not_beyond() {
        let notice = |octets: usize| {
            let start = r#"{"notificationType":"Bounce","bounce":{"bouncedRecipients":[{"emailAddress":"a@x.test"}]},"x":""#;
            let text = format!("{start}{}\"}}", "y".repeat(octets - start.len() - 2));
            assert_eq!(text.len(), octets);
            read(&format!("Hello\n{text}\n-- and a footer"))
        };
        assert!(notice(MAX_NOTICE_OCTETS).is_some());
        assert!(notice(MAX_NOTICE_OCTETS + 1).is_none());
    }
}
