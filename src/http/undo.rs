//! `/undo/{token}`: where the link of a digest leads (R70a). Looking changes nothing, since mail scanners follow
//! links; the button does. No account, no cookie, no script: the token is the authority.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use tracing::info;

use crate::http::App;
use crate::http::page::{escape, page};
use crate::http::problem::Problem;
use crate::store::Undoable;
use crate::store::audit::Actor;
use crate::store::directory::{DirectoryError, undo_ends};
use crate::time::Timestamp;

/// Asks.
pub(super) async fn show(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Problem> {
    let Some((mail, account_name)) = app.store.undoable(&token, Timestamp::now()).await? else {
        return Ok(over());
    };
    let (mail_of, preposition) = if mail.is_outbound { ("Your mail", "to") } else { ("The mail", "from") };
    let question = format!(
        "<p>{mail_of} {preposition} <strong>{}</strong> of <strong>{}</strong> is on the record at {}.</p>\
         <p>Take it back, and it is erased there with all that it alone brought about. What is in your own mailbox \
         stays. This cannot be undone; it is offered until {}.</p>\
         <form method=\"post\"><button type=\"submit\">Take it back</button></form>",
        escape(&mail.contact_name),
        in_one_line(mail.received_at),
        escape(&account_name),
        in_one_line(undo_ends(mail.received_at)),
    );
    Ok(page(StatusCode::OK, "Take a mail back", &question))
}

/// Takes it back, once.
pub(super) async fn undo(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Problem> {
    let Some((mail, _)) = app.store.undoable(&token, Timestamp::now()).await? else { return Ok(over()) };
    match take_back(&app, &mail).await {
        // Somebody was faster.
        Err(DirectoryError::NotFound(_)) => return Ok(over()),
        Err(DirectoryError::Conflict(_)) => return Ok(not_now()),
        done => done?,
    }
    info!(account.id = %mail.account, message.id = %mail.message, user.id = %mail.user, "undo.by_link");
    Ok(page(
        StatusCode::OK,
        "Taken back",
        "<p>The mail is erased from the record. You can close this page.</p>",
    ))
}

async fn take_back(app: &App, mail: &Undoable) -> Result<(), DirectoryError> {
    let actor = Actor::User(mail.user).to_string();
    app.store.make_way_for_undo(mail.account, mail.message, &actor).await?;
    let mut change = app.store.change().await?;
    change.undo_message(mail.account, mail.message, &actor).await?;
    Ok(change.commit().await?)
}

fn in_one_line(at: Timestamp) -> String {
    at.to_words().replace(' ', "&nbsp;")
}

fn not_now() -> Response {
    let said = "<p>The account is being moved. Open the link again when that is done.</p>";
    page(StatusCode::CONFLICT, "Not now", said)
}

/// Forged, used and over look the same.
fn over() -> Response {
    let said =
        "<p>The mail is off the record already, its 30 days are over, or this link is none of ours.</p>";
    page(StatusCode::NOT_FOUND, "Nothing to take back", said)
}
