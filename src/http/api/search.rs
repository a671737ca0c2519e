//! `/accounts/{account}/search`: messages by what stands in them. Scope `messages:content`: who may look for a word
//! learns where it stands.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tracing::warn;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::extract::{Ids, Listed, Params, id, slice};
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, ContactId, ConversationId, MessageId, UserId};
use crate::store::directory::{Principal, Scope};
use crate::store::search::{SearchQuery, SnippetPart};
use crate::store::views::{self, SearchFilter};

/// What to look for.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct SearchParams {
    /// Words that all stand in the subject or the new text, in any case and with or without accents; `"a phrase"`,
    /// `-without`, `begin*`, `from:` and `to:` an exact address. At most 256 characters, 16 words.
    #[param(required, value_type = String)]
    q: Option<String>,
    /// On the timeline of this contact.
    #[param(value_type = Option<Uuid>)]
    contact: Option<String>,
    /// In this conversation.
    #[param(value_type = Option<Uuid>)]
    conversation: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct FoundMessages {
    #[serde(flatten)]
    found: Listed<Hit>,
    /// Whether messages that were filed before the search are not looked through yet: those of a search through the
    /// whole account while much mail comes in. Later they are found.
    incomplete: bool,
}

/// A message that was found.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Hit {
    /// The message's.
    id: Uuid,
    conversation_id: Uuid,
    contact_id: Uuid,
    user_id: Option<Uuid>,
    /// `outbound` or `inbound`.
    direction: String,
    /// `mail`, `auto_reply`, `bounce`, `complaint` or `forwarded`.
    kind: String,
    subject: String,
    from: HitAuthor,
    #[schema(format = DateTime)]
    sent_at: String,
    /// A piece of the new text on one line, cut where matches begin and end.
    snippet: Vec<SnippetPiece>,
}

#[derive(Serialize, ToSchema)]
struct HitAuthor {
    name: Option<String>,
    email: String,
}

#[derive(Serialize, ToSchema)]
struct SnippetPiece {
    /// Plain text.
    text: String,
    /// Whether it is what was looked for.
    #[serde(rename = "match")]
    is_match: bool,
}

impl From<views::Hit> for Hit {
    fn from(hit: views::Hit) -> Self {
        Self {
            id: hit.message.uuid(),
            conversation_id: hit.conversation.uuid(),
            contact_id: hit.contact.uuid(),
            user_id: hit.user.map(UserId::uuid),
            direction: hit.direction,
            kind: hit.kind,
            subject: hit.subject,
            from: HitAuthor { name: hit.from.name, email: hit.from.email },
            sent_at: hit.sent_at.to_rfc3339(),
            snippet: hit.snippet.into_iter().map(SnippetPiece::from).collect(),
        }
    }
}

impl From<SnippetPart> for SnippetPiece {
    fn from(part: SnippetPart) -> Self {
        Self { text: part.text, is_match: part.is_match }
    }
}

/// Messages by what stands in them. A part may be short, or empty, and still have a `next`.
#[utoipa::path(get, path = "/accounts/{account}/search", tag = "messages",
    params(("account" = Uuid, Path), SearchParams),
    responses((status = 200, description = "Newest first", body = FoundMessages)))]
pub(in crate::http) async fn search(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<SearchParams>,
) -> Answer<Json<FoundMessages>> {
    app.enter(&principal, account, &[Scope::MessagesContent]).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    let filter = SearchFilter {
        contact: id::<ContactId>("contact", params.contact.as_deref())?,
        conversation: id::<ConversationId>("conversation", params.conversation.as_deref())?,
    };
    let query = SearchQuery::parse(params.q.as_deref().unwrap_or_default())
        .map_err(|bad| Problem::invalid("q", &bad.to_string()))?;
    // A record is searched as it is.
    let incomplete = filter == SearchFilter::default() && !is_indexed(&app, account).await;
    let page = app.store.search(account, &query, filter, slice).await?;
    // R64: which messages are shown; not what was looked for, which is content itself.
    if !page.items.is_empty() {
        let messages: Vec<MessageId> = page.items.iter().map(|hit| hit.message).collect();
        let detail = Some(json!({ "messages": messages }));
        app.note_read(&principal, account, "search".to_owned(), detail).await?;
    }
    let Json(found) = Listed::json(page, Hit::from);
    Ok(Json(FoundMessages { found, incomplete }))
}

/// So that what was filed just now is found. Where that cannot be, what is indexed already is; says whether that is
/// all.
async fn is_indexed(app: &App, account: AccountId) -> bool {
    match tokio::time::timeout(INDEX_WAIT, app.store.index_newest(account)).await {
        Ok(Ok(is_all)) => return is_all,
        Ok(Err(error)) => warn!(error = &error as &dyn std::error::Error, "search.waits"),
        Err(_) => warn!("search.waits"),
    }
    false
}

/// For the store's writer to have a moment.
const INDEX_WAIT: Duration = Duration::from_secs(5);
