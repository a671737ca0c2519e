//! The events of a decision, written in its transaction: ids and headers, never the text.

use serde::Serialize;

use crate::address::Mailbox;
use crate::filing::{Direction, Filing, FilingContact, Held};
use crate::id::{ContactId, ConversationId, DeliveryId, EventId, MessageId, UserId};
use crate::message::{Email, Kind, ReportedRecipient};
use crate::store::batch::Outcome;
use crate::store::effects::json;
use crate::store::record;
use crate::store::rows::{EventRow, Rows};
use crate::wire::{MeetingView, PersonView};

/// `contact.created`, `contact.sync_on`, `message.filed`, then `reply.received`, `message.bounced` or
/// `message.complained`.
pub(in crate::store) fn filed(rows: &mut Rows, outcome: &Outcome<'_>, filing: &Filing) {
    let message_id = outcome.arrival.fresh.message;
    if let FilingContact::Create { id, name, email } = &filing.contact {
        let data =
            ContactCreated { contact_id: *id, name, email: email.as_str(), created_by: "sync", message_id };
        push(rows, outcome, "contact.created", None, &data);
    }
    for (user_id, contact_id) in &filing.marks {
        let is_known =
            outcome.facts.marks.iter().any(|mark| mark.user == *user_id && mark.contact == *contact_id);
        if !is_known {
            let data = SyncOn { contact_id: *contact_id, user_id: *user_id, because: message_id };
            push(rows, outcome, "contact.sync_on", None, &data);
        }
    }
    let data = MessageFiled::of(outcome, filing);
    let conversation = Some(filing.thread.id());
    push(rows, outcome, "message.filed", conversation, &data);
    let is_answer = filing.direction == Direction::Inbound
        && filing.kind == Kind::Mail
        && matches!(outcome.arrival.mailbox, Mailbox::Reply(_));
    if is_answer {
        push(rows, outcome, "reply.received", conversation, &data);
    }
    let reported = match filing.kind {
        Kind::Bounce => "message.bounced",
        Kind::Complaint => "message.complained",
        Kind::AutoReply | Kind::Forwarded | Kind::Mail => return,
    };
    push(rows, outcome, reported, conversation, &Reported::of(outcome, filing));
}

/// `message.held`.
pub(in crate::store) fn held(rows: &mut Rows, outcome: &Outcome<'_>, held: &Held) {
    let email = outcome.arrival.email;
    let data = MessageHeld {
        delivery_id: outcome.delivery,
        reason: held.reason.as_str(),
        why: &held.why,
        user_id: held.user,
        contact_id: held.contact,
        from: record::author(email),
        to: people(&email.to),
        subject: &email.subject,
        expires_at: held.expires_at.to_rfc3339(),
    };
    push(rows, outcome, HELD, None, &data);
}

/// `user.forwarding_confirmation` (R34).
pub(in crate::store) fn forwarding_confirmation(
    rows: &mut Rows,
    outcome: &Outcome<'_>,
    user_id: UserId,
    code: Option<&str>,
    link: Option<&str>,
) {
    let at = outcome.arrival.received_at.to_rfc3339();
    push(rows, outcome, "user.forwarding_confirmation", None, &ConfirmationAsked { user_id, code, link, at });
}

fn push(
    rows: &mut Rows,
    outcome: &Outcome<'_>,
    type_name: &'static str,
    conversation: Option<ConversationId>,
    data: &impl Serialize,
) {
    rows.events.push(EventRow {
        account_id: outcome.arrival.mailbox.account().uuid(),
        // Made while the account is ours, so that ids follow the order of commits (`Rows::events_after`).
        event_id: EventId::generate().uuid(),
        type_name,
        at: outcome.arrival.received_at.as_millis(),
        conversation_id: conversation.map(ConversationId::uuid),
        delivery_id: (type_name == HELD).then(|| outcome.delivery.uuid()),
        data: json(data),
    });
}

const HELD: &str = "message.held";

#[derive(Serialize)]
struct ConfirmationAsked<'a> {
    user_id: UserId,
    code: Option<&'a str>,
    link: Option<&'a str>,
    at: String,
}

#[derive(Serialize)]
struct ContactCreated<'a> {
    contact_id: ContactId,
    name: &'a str,
    email: &'a str,
    created_by: &'static str,
    message_id: MessageId,
}

#[derive(Serialize)]
struct SyncOn {
    contact_id: ContactId,
    user_id: UserId,
    because: MessageId,
}

#[derive(Serialize)]
struct MessageFiled<'a> {
    message_id: MessageId,
    conversation_id: ConversationId,
    contact_id: ContactId,
    user_id: Option<UserId>,
    direction: &'static str,
    kind: &'static str,
    sender: &'static str,
    subject: &'a str,
    from: Option<PersonView>,
    to: Vec<PersonView>,
    cc: Vec<PersonView>,
    sent_at: String,
    received_at: String,
    message_id_header: &'a str,
    in_reply_to: Option<&'a str>,
    flags: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    meeting: Option<MeetingView>,
}

impl<'a> MessageFiled<'a> {
    fn of(outcome: &'a Outcome<'_>, filing: &'a Filing) -> Self {
        let email: &Email = outcome.arrival.email;
        Self {
            message_id: outcome.arrival.fresh.message,
            conversation_id: filing.thread.id(),
            contact_id: filing.contact.id(),
            user_id: filing.user,
            direction: filing.direction.as_str(),
            kind: filing.kind.as_str(),
            sender: filing.sender.as_str(),
            subject: &email.subject,
            from: record::author(email),
            to: people(&email.to),
            cc: people(&email.cc),
            sent_at: filing.sent_at.to_rfc3339(),
            received_at: outcome.arrival.received_at.to_rfc3339(),
            message_id_header: &filing.message_id_header,
            in_reply_to: email.in_reply_to.first().map(String::as_str),
            flags: &filing.flags,
            meeting: email.meeting.as_ref().map(MeetingView::from),
        }
    }
}

/// R51: which message came back or was complained of, and what is said of each recipient.
#[derive(Serialize)]
struct Reported<'a> {
    /// The report itself.
    message_id: MessageId,
    conversation_id: ConversationId,
    contact_id: ContactId,
    user_id: Option<UserId>,
    original_message_id_header: Option<&'a str>,
    recipients: Vec<ReportedView<'a>>,
}

#[derive(Serialize)]
struct ReportedView<'a> {
    /// Called as in people, so that an erasure finds it (R60).
    email: &'a str,
    action: &'a str,
    status: Option<&'a str>,
}

impl<'a> Reported<'a> {
    fn of(outcome: &'a Outcome<'_>, filing: &Filing) -> Self {
        let report = outcome.arrival.email.report.as_ref();
        let recipients = report.map(|report| report.recipients.as_slice()).unwrap_or_default();
        let view = |recipient: &'a ReportedRecipient| ReportedView {
            email: &recipient.address,
            action: &recipient.action,
            status: recipient.status.as_deref(),
        };
        Self {
            message_id: outcome.arrival.fresh.message,
            conversation_id: filing.thread.id(),
            contact_id: filing.contact.id(),
            user_id: filing.user,
            original_message_id_header: report.and_then(|report| report.original_message_id.as_deref()),
            recipients: recipients.iter().take(MAX_PEOPLE).map(view).collect(),
        }
    }
}

#[derive(Serialize)]
struct MessageHeld<'a> {
    delivery_id: DeliveryId,
    reason: &'static str,
    why: &'a str,
    user_id: Option<UserId>,
    contact_id: Option<ContactId>,
    from: Option<PersonView>,
    to: Vec<PersonView>,
    subject: &'a str,
    expires_at: String,
}

fn people(people: &[crate::address::NamedAddress]) -> Vec<PersonView> {
    people.iter().take(MAX_PEOPLE).map(PersonView::from).collect()
}

/// People in one event; the message has them all.
const MAX_PEOPLE: usize = 100;
