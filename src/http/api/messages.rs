//! Timelines, conversations, messages, and mail that the CRM registers.
//!
//! Scope `messages:meta` sees the shapes, `messages:content` what is in them; registering takes the latter.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::api::contacts;
use crate::http::auth::Shown;
use crate::http::extract::{Ids, Input, ListParams, Listed, Params};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, ContactId, ConversationId, MessageId, UserId};
use crate::store::directory::{Principal, Scope, SentMail};
use crate::store::views::{self, Entry, Slice};
use crate::time::Timestamp;
use crate::wire::MeetingView;

/// A message; on a timeline with the role of that contact, elsewhere with the record owner's.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Message {
    id: Uuid,
    conversation_id: Uuid,
    contact_id: Uuid,
    user_id: Option<Uuid>,
    /// `outbound` or `inbound`.
    direction: String,
    /// `to`, `cc` or `from`.
    role: String,
    /// `mail`, `auto_reply`, `bounce`, `complaint` or `forwarded`.
    kind: String,
    /// Null without scope `messages:content`.
    subject: Option<String>,
    from: Author,
    to: Vec<Recipient>,
    cc: Vec<Recipient>,
    #[schema(format = DateTime)]
    sent_at: String,
    #[schema(format = DateTime)]
    received_at: String,
    message_id_header: String,
    in_reply_to: Option<String>,
    /// Null without scope `messages:content`; `new_text` alone where the quoted part is internal (flag
    /// `internal_history`) and the scope `review` is missing.
    text: Option<String>,
    /// Without quotes and signature. Null without scope `messages:content`.
    new_text: Option<String>,
    has_html: bool,
    /// `verified`, `unverified` or `unknown`.
    sender: String,
    #[schema(value_type = Vec<String>)]
    flags: Value,
    #[schema(value_type = Vec<Attachment>)]
    attachments: Value,
    /// What a calendar part says; null if there is none.
    meeting: Option<MeetingView>,
}

#[derive(Serialize, ToSchema)]
struct Author {
    name: Option<String>,
    email: String,
}

#[derive(Serialize, ToSchema)]
struct Recipient {
    name: Option<String>,
    email: String,
    contact_id: Option<Uuid>,
    user_id: Option<Uuid>,
}

/// One attachment of a message.
#[derive(ToSchema)]
#[expect(dead_code, reason = "describes JSON that the store keeps in this shape")]
pub(in crate::http) struct Attachment {
    n: u32,
    /// Null without scope `messages:content`.
    filename: Option<String>,
    content_type: String,
    size: u64,
    sha256: String,
    inline: bool,
    /// `stored` or `skipped`.
    status: String,
    /// Why it was skipped.
    why: Option<String>,
}

/// A thread.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Conversation {
    id: Uuid,
    contact_id: Uuid,
    user_id: Option<Uuid>,
    /// Null without scope `messages:content`.
    subject: Option<String>,
    /// Oldest first.
    messages: Vec<Message>,
    /// The `cursor` of further messages; null if these are all.
    next: Option<String>,
}

/// A mail that the CRM itself sent.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewMessage {
    message_id_header: String,
    contact_id: Uuid,
    user_id: Uuid,
    conversation_id: Option<Uuid>,
    subject: String,
    #[schema(format = DateTime)]
    sent_at: String,
    text: Option<String>,
    html: Option<String>,
}

/// What went with a mail that was taken back.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Undone {
    /// The message's.
    id: Uuid,
    /// The contact that it had made; null if there is none, or something else hangs on it.
    contact_id: Option<Uuid>,
    /// The conversation that it had begun; null if it stays.
    conversation_id: Option<Uuid>,
    /// The marks that it had set.
    marks: Vec<EndedMark>,
}

#[derive(Serialize, ToSchema)]
struct EndedMark {
    contact_id: Uuid,
    user_id: Uuid,
}

impl Message {
    fn of_entry(entry: Entry, shown: Shown) -> Self {
        let message = entry.message;
        // R27a: colleagues' history below an answer to a contact.
        let is_withheld = message.has_internal_history() && shown != Shown::Review;
        let text = if is_withheld { message.new_text.clone() } else { message.text };
        Self {
            id: message.id.uuid(),
            conversation_id: message.conversation.uuid(),
            contact_id: message.contact.uuid(),
            user_id: message.user.map(UserId::uuid),
            direction: message.direction,
            role: entry.role,
            kind: message.kind,
            subject: shown.content(message.subject),
            from: Author { name: message.from.name, email: message.from.email },
            to: message.to.into_iter().map(Recipient::from).collect(),
            cc: message.cc.into_iter().map(Recipient::from).collect(),
            sent_at: message.sent_at.to_rfc3339(),
            received_at: message.received_at.to_rfc3339(),
            message_id_header: message.message_id_header,
            in_reply_to: message.in_reply_to,
            text: shown.content(text),
            new_text: shown.content(message.new_text),
            has_html: message.has_html,
            sender: message.sender,
            flags: message.flags,
            attachments: attachments(message.attachments, shown),
            meeting: message.meeting.map(|meeting| MeetingView {
                title: shown.content(meeting.title.unwrap_or_default()),
                join_url: meeting.join_url.and_then(|link| shown.content(link)),
                ..meeting
            }),
        }
    }

    fn show(message: views::Message, shown: Shown) -> Self {
        let role = message.owner_role().to_owned();
        Self::of_entry(Entry { message, role }, shown)
    }
}

impl From<views::Person> for Recipient {
    fn from(person: views::Person) -> Self {
        Self {
            name: person.name,
            email: person.email,
            contact_id: person.contact.map(ContactId::uuid),
            user_id: person.user.map(UserId::uuid),
        }
    }
}

/// The list as stored, with every field that the contract names.
fn attachments(mut list: Value, shown: Shown) -> Value {
    for attachment in list.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        attachment.entry("why").or_insert(Value::Null);
        if shown == Shown::Meta {
            attachment.insert("filename".to_owned(), Value::Null);
        }
    }
    list
}

/// The timeline of a contact.
#[utoipa::path(get, path = "/accounts/{account}/contacts/{contact}/timeline", tag = "messages",
    params(("account" = Uuid, Path), ("contact" = Uuid, Path), ListParams),
    responses((status = 200, description = "Newest first", body = Listed<Message>)))]
pub(in crate::http) async fn timeline(
    State(app): State<App>,
    principal: Principal,
    Ids((account, contact)): Ids<(AccountId, ContactId)>,
    Params(params): Params<ListParams>,
) -> Answer<Json<Listed<Message>>> {
    app.enter(&principal, account, READ).await?;
    let slice = params.slice()?;
    contacts::demand(&app, account, contact).await?;
    let shown = Shown::to(&principal);
    let page = app.store.timeline(account, contact, slice).await?;
    if shown != Shown::Meta {
        let ids = page.items.iter().map(|entry| entry.message.id).collect();
        note_messages(&app, &principal, account, format!("contacts/{contact}/timeline"), ids).await?;
    }
    Ok(Listed::json(page, |entry| Message::of_entry(entry, shown)))
}

/// One conversation with its messages, by its id or that of one merged into it.
#[utoipa::path(get, path = "/accounts/{account}/conversations/{conversation}", tag = "messages",
    params(("account" = Uuid, Path), ("conversation" = Uuid, Path), ListParams),
    responses((status = 200, description = "Found; at most 1000 messages at once", body = Conversation)))]
pub(in crate::http) async fn conversation(
    State(app): State<App>,
    principal: Principal,
    Ids((account, conversation)): Ids<(AccountId, ConversationId)>,
    Params(params): Params<ListParams>,
) -> Answer<Json<Conversation>> {
    app.enter(&principal, account, READ).await?;
    let asked = params.slice()?;
    let limit = if params.limit.is_some() { asked.limit } else { CONVERSATION_MESSAGES };
    let found = app.store.conversation(account, conversation, Slice { limit, ..asked }).await?;
    let found = found.ok_or_else(|| Problem::not_found("conversation"))?;
    let shown = Shown::to(&principal);
    if shown != Shown::Meta {
        let ids = found.messages.iter().map(|message| message.id).collect();
        note_messages(&app, &principal, account, format!("conversations/{}", found.id), ids).await?;
    }
    Ok(Json(Conversation {
        id: found.id.uuid(),
        contact_id: found.contact.uuid(),
        user_id: found.user.map(UserId::uuid),
        subject: shown.content(found.subject),
        messages: found.messages.into_iter().map(|message| Message::show(message, shown)).collect(),
        next: found.next.map(|key| key.to_string()),
    }))
}

/// One message.
#[utoipa::path(get, path = "/accounts/{account}/messages/{message}", tag = "messages",
    params(("account" = Uuid, Path), ("message" = Uuid, Path)),
    responses((status = 200, description = "Found", body = Message)))]
pub(in crate::http) async fn read_message(
    State(app): State<App>,
    principal: Principal,
    Ids((account, message)): Ids<(AccountId, MessageId)>,
) -> Answer<Json<Message>> {
    app.enter(&principal, account, READ).await?;
    let message = app.store.message(account, message).await?.ok_or_else(|| Problem::not_found("message"))?;
    let shown = Shown::to(&principal);
    if shown != Shown::Meta {
        app.note_read(&principal, account, format!("messages/{}", message.id), None).await?;
    }
    Ok(Json(Message::show(message, shown)))
}

/// R64: which messages a list shows the content of. An empty one shows none.
async fn note_messages(
    app: &App,
    principal: &Principal,
    account: AccountId,
    object: String,
    messages: Vec<MessageId>,
) -> Answer<()> {
    if messages.is_empty() {
        return Ok(());
    }
    app.note_read(principal, account, object, Some(json!({ "messages": messages }))).await
}

/// `POST …/messages/{message}:<action>`: tells the action apart from the id.
pub(in crate::http) async fn act_on_message(
    State(app): State<App>,
    principal: Principal,
    Ids((account, asked)): Ids<(AccountId, String)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, UNDO).await?;
    let (message, action) = asked.split_once(':').ok_or_else(|| Problem::not_found("action"))?;
    let message = message.parse().map_err(|_| Problem::not_found("message"))?;
    match action {
        "undo" => undo_message(&app, &principal, account, message, once).await,
        _ => Err(Problem::not_found("action")),
    }
}

/// Takes a filed mail back from the record, within 30 days of its receipt. Scope `purge` or `review`.
#[utoipa::path(post, path = "/accounts/{account}/messages/{message}:undo", tag = "messages",
    params(("account" = Uuid, Path), ("message" = Uuid, Path)),
    responses((status = 200, description = "Taken back", body = Undone)))]
pub(in crate::http) async fn undo_message(
    app: &App,
    principal: &Principal,
    account: AccountId,
    message: MessageId,
    once: Once,
) -> Answer<Response> {
    let actor = principal.actor().to_string();
    app.store.make_way_for_undo(account, message, &actor).await?;
    let mut change = app.store.change().await?;
    let undone = change.undo_message(account, message, &actor).await?;
    let shown = Undone {
        id: undone.message.uuid(),
        contact_id: undone.contact.map(ContactId::uuid),
        conversation_id: undone.conversation.map(ConversationId::uuid),
        marks: undone
            .marks
            .into_iter()
            .map(|(contact, user)| EndedMark { contact_id: contact.uuid(), user_id: user.uuid() })
            .collect(),
    };
    once.noted().answer(change, StatusCode::OK, &shown).await
}

/// Registers a mail that the CRM itself sent; the same Message-ID again changes nothing.
#[utoipa::path(post, path = "/accounts/{account}/messages", tag = "messages", params(("account" = Uuid, Path)),
    request_body = NewMessage, responses((status = 201, description = "On the record", body = Message)))]
pub(in crate::http) async fn register_message(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    once: Once,
    Input(new): Input<NewMessage>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::MessagesContent]).await?;
    let sent_at = Timestamp::parse_rfc3339(&new.sent_at)
        .ok_or_else(|| Problem::invalid("sent_at", "must be a time such as 2026-11-22T02:44:05Z"))?;
    let mail = SentMail {
        message_id_header: new.message_id_header,
        contact: ContactId::from_uuid(new.contact_id),
        user: UserId::from_uuid(new.user_id),
        conversation: new.conversation_id.map(ConversationId::from_uuid),
        subject: new.subject,
        sent_at,
        text: new.text,
        html: new.html,
    };
    let mut change = app.store.change().await?;
    let message = change.register_sent_mail(account, &mail).await?;
    once.answer(change, StatusCode::CREATED, &Message::show(message, Shown::Content)).await
}

/// Staff who may decide what goes on a record, or erase.
const UNDO: &[Scope] = &[Scope::Purge, Scope::Review];
const READ: &[Scope] = &[Scope::MessagesMeta, Scope::MessagesContent];
/// Messages of a conversation that come without being asked for by `limit`.
const CONVERSATION_MESSAGES: u32 = 1000;
