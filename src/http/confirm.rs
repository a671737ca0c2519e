//! `/confirm/{token}`: where the link of a confirmation mail leads (R12). Looking changes nothing, since mail
//! scanners follow links; the button does. No account, no cookie, no script: the token is the authority.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;

use crate::http::App;
use crate::http::api::held;
use crate::http::page::{escape, page};
use crate::http::problem::Problem;
use crate::store::Confirmation;

/// Asks.
pub(super) async fn show(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Problem> {
    Ok(match app.store.confirmation(&token).await? {
        Some(confirmation) => {
            let question = format!(
                "<p>Is <strong>{}</strong> an address of {} at {}?</p>\
                 <form method=\"post\"><button type=\"submit\">Yes, confirm it</button></form>",
                escape(confirmation.address.as_str()),
                escape(&confirmation.user_name),
                escape(&confirmation.account_name),
            );
            page(StatusCode::OK, "Confirm an address", &question)
        }
        None => over(),
    })
}

/// Confirms, once; what was held for want of it is filed.
pub(super) async fn confirm(State(app): State<App>, Path(token): Path<String>) -> Result<Response, Problem> {
    let Some(confirmation) = app.store.confirm(&token).await? else { return Ok(over()) };
    let Confirmation { account, user, address, .. } = &confirmation;
    held::release(&app, *account, *user, address, "a confirmation link").await;
    Ok(page(StatusCode::OK, "Confirmed", "<p>The address is confirmed. You can close this page.</p>"))
}

/// Forged, used and over look the same.
fn over() -> Response {
    let said = "<p>This link is used, too old, or none of ours. Ask for a new one.</p>";
    page(StatusCode::NOT_FOUND, "Nothing to confirm", said)
}
