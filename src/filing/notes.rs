//! What a filing brings with it, beside whose record it goes on: each rule that left something on the message says so.

use crate::filing::{Arrival, Filing, FilingContact, Trace};
use crate::id::ContactId;

/// R25, R43, R55–R57, R71: said once the message is known to be filed.
pub(super) fn say(arrival: &Arrival<'_>, filing: &Filing, trace: &mut Trace) {
    let email = arrival.email;
    let owner = match &filing.contact {
        FilingContact::Create { id, .. } | FilingContact::Existing(id) => *id,
    };
    let mut others: Vec<ContactId> =
        filing.participants.iter().filter_map(|person| person.contact).filter(|id| *id != owner).collect();
    others.sort_unstable();
    others.dedup();
    match others.len() {
        0 => {}
        1 => trace.say("R25", "one more contact in To or Cc sees it on the timeline"),
        count => trace.say("R25", format!("{count} more contacts in To or Cc see it on their timelines")),
    }
    if email.message_id_header.is_none() {
        trace.say(
            "R43",
            "it has no Message-ID: one is derived from its content, so that a retry is recognised",
        );
    }
    if let Some(meeting) = &email.meeting {
        trace.say("R55", format!("it carries a meeting ({}), which is shown", meeting.method.as_str()));
    }
    for skipped in filing.skipped.iter().take(MAX_FILES) {
        trace.say("R56", format!("attachment {} is listed and not kept: {}", skipped.n, skipped.why));
    }
    let odd = email.attachments.iter().filter_map(|file| Some((file.n, file.mismatch.as_ref()?)));
    for (n, why) in odd.take(MAX_FILES) {
        trace.say("R57", format!("attachment {n} is flagged: {why}"));
    }
    if email.protection.is_encrypted {
        trace.say("R57", "a part of it is encrypted: kept whole and flagged");
    }
    if !arrival.verdict.uncovered.added.is_empty() {
        trace.say("R11", "fields were added after it was signed: its sender counts as unverified");
    }
    if filing.flags.contains(&"message_id_reused") {
        trace.say(
            "R71",
            "another message has the same Message-ID and other content: this is a message of its own",
        );
    }
}

/// Files of one message that are named; the others are on the message.
const MAX_FILES: usize = 10;
