//! `/confirm/{token}`: where the link of a confirmation mail leads (R12). Looking changes nothing, since mail
//! scanners follow links; the button does. No account, no cookie, no script: the token is the authority.

use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::http::api::held;
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

fn page(status: StatusCode, title: &str, body: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <meta name=\"viewport\" content=\"width=device-width\"></head><body><h1>{title}</h1>{body}</body></html>\n"
    );
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; form-action 'self'; frame-ancestors 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, fields, html).into_response()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
