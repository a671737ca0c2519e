//! One message, start to end: scan, headers, body, attachments, what kind it is.

use super::scan::Tree;
use super::{
    Email, From, MAX_REFERENCES, Meeting, TooComplex, addresses, attachment, body, charset, date, digest,
    fields, forwarded, ids, kind, meeting, reply_text, report,
};
use crate::address::NamedAddress;
use crate::time::Timestamp;

/// Reads a message as it came from DATA (lines may end with LF alone).
///
/// # Errors
/// [`TooComplex`] if it breaks a structural limit (SMTP H1, M8, M9): nothing of it is read then.
pub fn parse(raw: &[u8]) -> Result<Email, TooComplex> {
    let tree = Tree::scan(raw)?;
    Ok(read(&tree))
}

/// The decoded octets of `Email.attachments[n]`, byte-exact; none if there is no such attachment.
#[must_use]
pub fn open_attachment(raw: &[u8], n: usize) -> Option<Vec<u8>> {
    let tree = Tree::scan(raw).ok()?;
    attachment::open(&tree, n).map(std::borrow::Cow::into_owned)
}

/// The HTML body, decoded to text and not sanitised; none if the message has none.
#[must_use]
pub fn html(raw: &[u8]) -> Option<String> {
    let tree = Tree::scan(raw).ok()?;
    let parts = body::shown(&tree).into_iter().filter(|(_, role)| *role == body::Role::Html);
    let pages: Vec<String> = parts.map(|(index, _)| body::html_text(&tree, index)).collect();
    (!pages.is_empty()).then(|| pages.join("\n"))
}

fn read(tree: &Tree<'_>) -> Email {
    let empty = fields::Fields::default();
    let top = tree.parts.first().map_or(&empty, |root| &root.fields);
    let mut problems = Vec::new();
    let from = addresses::author(top);
    note_repeats(top, &mut problems);
    let subject = top.readable("subject").unwrap_or_default();
    let date = read_date(top, &mut problems);
    let body = body::read(tree);
    let marks =
        body.html.as_ref().filter(|_| body.source == body::Source::Html).map_or(&[][..], |page| &page.marks);
    let reply = reply_text::split(&body.text, marks);
    let report = report::read(tree);
    let forwarded = if report.is_some() { None } else { forwarded::find(tree, &subject, &body.text) };
    if let From::Bad(why) = from {
        problems.push(why.to_owned());
    }
    Email {
        to: people(top, "to", &mut problems),
        cc: people(top, "cc", &mut problems),
        reply_to: people(top, "reply-to", &mut problems),
        message_id_header: top.last("message-id").and_then(ids::own),
        in_reply_to: ids::newest(top.last("in-reply-to").map(ids::all).unwrap_or_default(), MAX_REFERENCES),
        references: ids::newest(top.last("references").map(ids::all).unwrap_or_default(), MAX_REFERENCES),
        thread_index: top.plain("thread-index").filter(|index| !index.is_empty()),
        reply,
        has_html: body.has_html,
        attachments: attachment::list(tree),
        kind: kind::of(tree, report.as_ref(), &subject, forwarded.as_ref()),
        report: report.map(|(_, report)| report),
        meeting: find_meeting(tree),
        is_list: kind::is_list(top),
        is_bulk: kind::is_bulk(top),
        received_fields: top.all("received").count(),
        has_loop_header: top.has("x-syncmx-loop"),
        digest: digest::of(&from, date, &subject, &body.text),
        text: body.text,
        from,
        subject,
        date,
        forwarded,
        problems,
    }
}

/// SMTP M2: the last of a repeated field counts (DKIM covers it), and it is said.
fn note_repeats(top: &fields::Fields<'_>, problems: &mut Vec<String>) {
    for name in
        ["Subject", "Date", "To", "Cc", "Message-ID", "Reply-To", "Sender", "Content-Type", "MIME-Version"]
    {
        if top.all(name).count() > 1 {
            problems.push(format!("more than one {name} field"));
        }
    }
}

fn read_date(top: &fields::Fields<'_>, problems: &mut Vec<String>) -> Option<Timestamp> {
    let value = top.plain("date");
    let read = value.as_deref().and_then(date::read);
    match (&value, read) {
        (None, _) => problems.push("no Date field".to_owned()),
        (Some(_), None) => problems.push("a Date field that is no date".to_owned()),
        (Some(_), Some(_)) => {}
    }
    read
}

fn people(top: &fields::Fields<'_>, name: &str, problems: &mut Vec<String>) -> Vec<NamedAddress> {
    let list = top.last(name).map(addresses::list).unwrap_or_default();
    if list.unreadable > 0 {
        problems.push(format!("{} unreadable in {name}", list.unreadable));
    }
    if list.found.len() >= addresses::MAX_ADDRESSES {
        problems.push(format!("more than {} recipients in {name}", addresses::MAX_ADDRESSES));
    }
    list.found
}

/// R55: the first calendar part, attached or alternative.
fn find_meeting(tree: &Tree<'_>) -> Option<Meeting> {
    attachment::parts(tree).into_iter().find_map(|index| {
        let part = tree.parts.get(index)?;
        if !matches!(part.content_type.value.as_str(), "text/calendar" | "application/ics") {
            return None;
        }
        let octets = tree.decoded(index);
        meeting::read(&charset::decode(part.content_type.param("charset").or(Some("utf-8")), &octets))
    })
}
