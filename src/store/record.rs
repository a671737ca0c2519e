//! The rows of a filed message: contact, conversation, message, people, Message-IDs, marks, count.

use uuid::Uuid;

use crate::filing::{Filing, FilingContact, Mark, Role, remembered_keys};
use crate::id::{ContactId, ConversationId, UserId};
use crate::message::{Attachment, Email, From as Author, Text};
use crate::store::batch::Outcome;
use crate::store::effects::{json, octets};
use crate::store::facts::{counted_user, day};
use crate::store::rows::{
    ContactRow, ConversationRow, DailyFilingRow, MarkRow, MergeRow, MessageRow, ParticipantRow, Rows,
    ThreadIdRow,
};
use crate::store::submission::Prepared;
use crate::wire::{AttachmentView, MeetingView, PersonView};

/// Everything on the record.
pub(in crate::store) fn filed(rows: &mut Rows, prepared: &Prepared, outcome: &Outcome<'_>, filing: &Filing) {
    let Some(message) = message(prepared, outcome, filing) else { return };
    rows.messages.push(message);
    contact(rows, prepared, outcome, filing);
    conversation(rows, prepared, outcome, filing);
    participants(rows, outcome, filing);
    thread_ids(rows, prepared, outcome, filing);
    marks(rows, prepared, outcome, filing);
    if let Some(user) = counted_user(outcome.arrival.mailbox, filing) {
        rows.daily_filings.push(DailyFilingRow {
            account_id: outcome.arrival.mailbox.account().uuid(),
            user_id: user.uuid(),
            day: day(prepared.received_at),
            filings: 1,
        });
    }
}

fn message(prepared: &Prepared, outcome: &Outcome<'_>, filing: &Filing) -> Option<MessageRow> {
    let email = &prepared.email;
    let copy = outcome.copy?;
    let (raw, blob) = copy.place.columns();
    let attachments = attachments(email, filing);
    Some(MessageRow {
        account_id: outcome.arrival.mailbox.account().uuid(),
        message_id: copy.id,
        conversation_id: filing.thread.id().uuid(),
        contact_id: filing.contact.id().uuid(),
        user_id: filing.user.map(UserId::uuid),
        direction: filing.direction.as_str(),
        kind: filing.kind.as_str(),
        sender: filing.sender.as_str(),
        subject: email.subject.clone(),
        sent_at: filing.sent_at.as_millis(),
        received_at: prepared.received_at.as_millis(),
        message_id_header: filing.message_id_header.clone(),
        in_reply_to: email.in_reply_to.first().cloned(),
        text: if is_all_new(email) { Text::default() } else { email.text.clone() },
        new_text: email.reply.new_text.clone(),
        has_html: email.has_html,
        flags: json(&filing.flags),
        attachments: json(&attachments),
        digest: email.digest.to_vec(),
        size_bytes: octets(prepared.size_bytes),
        content_key: Some(copy.content_key.clone()),
        raw,
        blob,
        meeting: email.meeting.as_ref().map(|meeting| json(&MeetingView::from(meeting))),
    })
}

/// Then the text is not stored twice: an empty one is read as the new text. White space at its end is left out.
fn is_all_new(email: &Email) -> bool {
    email.text.trim_end() == email.reply.new_text.as_str()
}

/// R56: each with whether the record takes it.
fn attachments(email: &Email, filing: &Filing) -> Vec<AttachmentView> {
    let view = |attachment: &Attachment| {
        let skipped = filing.skipped.iter().find(|skipped| skipped.n == attachment.n);
        match skipped {
            Some(skipped) => AttachmentView::from(attachment).skipped(skipped.why.clone()),
            None => AttachmentView::from(attachment),
        }
    };
    email.attachments.iter().map(view).collect()
}

fn contact(rows: &mut Rows, prepared: &Prepared, outcome: &Outcome<'_>, filing: &Filing) {
    if let FilingContact::Create { id, name, email } = &filing.contact {
        rows.contacts.push(ContactRow {
            account_id: outcome.arrival.mailbox.account().uuid(),
            contact_id: id.uuid(),
            name: name.clone(),
            name_key: name.to_lowercase(),
            email: email.as_str().to_owned(),
            email_key: email.key(),
            other_emails: "[]",
            created_by: "sync",
            created_at: prepared.received_at.as_millis(),
        });
    }
}

fn conversation(rows: &mut Rows, prepared: &Prepared, outcome: &Outcome<'_>, filing: &Filing) {
    rows.conversations.push(ConversationRow {
        account_id: outcome.arrival.mailbox.account().uuid(),
        conversation_id: filing.thread.id().uuid(),
        contact_id: filing.contact.id().uuid(),
        user_id: filing.user.map(UserId::uuid),
        subject: prepared.email.subject.clone(),
        created_at: prepared.received_at.as_millis(),
        last_at: filing.sent_at.as_millis(),
    });
}

/// R25.
fn participants(rows: &mut Rows, outcome: &Outcome<'_>, filing: &Filing) {
    let account_id = outcome.arrival.mailbox.account().uuid();
    let message_id = outcome.arrival.fresh.message.uuid();
    rows.participants.extend(filing.participants.iter().zip(0_i64..).map(|(person, position)| {
        ParticipantRow {
            account_id,
            message_id,
            position,
            role: person.role.as_str(),
            name: person.name.clone(),
            email: person.address.as_str().to_owned(),
            contact_id: person.contact.map(ContactId::uuid),
            user_id: person.user.map(UserId::uuid),
            sent_at: filing.sent_at.as_millis(),
        }
    }));
}

/// R25: the timeline of somebody whose reply address a message has come to that is on another record already (R70).
pub(in crate::store) fn seen_too(rows: &mut Rows, outcome: &Outcome<'_>) {
    let (Some((contact, sent_at)), Some(message)) = (outcome.seen_by, outcome.message()) else { return };
    let on_file = outcome.facts.contacts.iter().find(|known| known.id == contact);
    let email = on_file.and_then(|known| known.email.as_ref()).map(|email| email.as_str().to_owned());
    let account = outcome.arrival.mailbox.account().uuid();
    let about = about(account, message.uuid(), contact.uuid(), sent_at.as_millis());
    rows.participants.push(ParticipantRow { email: email.unwrap_or_default(), ..about });
}

/// Somebody on whose timeline a message is though no field names them.
pub(in crate::store) fn about(account: Uuid, message: Uuid, contact: Uuid, sent_at: i64) -> ParticipantRow {
    let [.., a, b, c, d] = *contact.as_bytes();
    ParticipantRow {
        account_id: account,
        message_id: message,
        // Behind all who are named on it, and at the same place at each retry.
        position: BEHIND_ALL + i64::from(u32::from_be_bytes([a, b, c, d])),
        role: Role::About.as_str(),
        name: None,
        email: String::new(),
        contact_id: Some(contact),
        user_id: None,
        sent_at,
    }
}

/// R41: its own id, and each that it refers to.
fn thread_ids(rows: &mut Rows, prepared: &Prepared, outcome: &Outcome<'_>, filing: &Filing) {
    let account_id = outcome.arrival.mailbox.account().uuid();
    let conversation_id = filing.thread.id().uuid();
    let own = std::iter::once((filing.message_id_header.clone(), true));
    let contact = match &filing.contact {
        FilingContact::Create { email, .. } => Some(email),
        FilingContact::Existing(id) => outcome
            .facts
            .contacts
            .iter()
            .find(|contact| contact.id == *id)
            .and_then(|contact| contact.email.as_ref()),
    };
    let remembered = remembered_keys(&prepared.email, contact)
        .into_iter()
        .filter(|id| may_remember(outcome, filing.thread.id(), id))
        .map(|id| (id, false));
    rows.thread_ids.extend(own.chain(remembered).map(|(message_id_header, is_own)| ThreadIdRow {
        account_id,
        message_id_header,
        conversation_id,
        is_own,
    }));
    rows.merges.extend(filing.merges.iter().map(|merged| MergeRow {
        account_id,
        merged: merged.uuid(),
        into: conversation_id,
    }));
}

/// Each conversation of an id is read for each message that refers to it.
fn may_remember(outcome: &Outcome<'_>, conversation: ConversationId, id: &str) -> bool {
    let known = || outcome.facts.references.iter().filter(|known| known.key.text() == id);
    known().count() < MAX_CONVERSATIONS_OF_AN_ID || known().any(|known| known.conversation.id == conversation)
}

/// Those that the filing sets (R29), and the one by which it came, which is now known to be live (R35).
fn marks(rows: &mut Rows, prepared: &Prepared, outcome: &Outcome<'_>, filing: &Filing) {
    let at = prepared.received_at.as_millis();
    let row = |user: UserId, contact: ContactId, state| MarkRow {
        account_id: outcome.arrival.mailbox.account().uuid(),
        contact_id: contact.uuid(),
        user_id: user.uuid(),
        state,
        since: at,
        because: outcome.arrival.fresh.message.to_string(),
        last_mail_at: at,
    };
    rows.marks.extend(filing.marks.iter().map(|(user, contact)| row(*user, *contact, "on")));
    let is_its_own =
        |mark: &&Mark| Some(mark.user) == filing.user && mark.contact == filing.contact.id() && mark.on;
    rows.marks
        .extend(outcome.facts.marks.iter().filter(is_its_own).map(|mark| row(mark.user, mark.contact, "on")));
}

/// The author as JSON shows it.
pub(in crate::store) fn author(email: &Email) -> Option<PersonView> {
    match &email.from {
        Author::Bad(_) => None,
        Author::One(author) => Some(PersonView::from(author)),
    }
}

/// No message names so many people.
const BEHIND_ALL: i64 = 1 << 32;

/// A mailing may have one reference for all of its contacts. Beyond this many conversations only a message's own id is
/// remembered.
const MAX_CONVERSATIONS_OF_AN_ID: usize = 64;
