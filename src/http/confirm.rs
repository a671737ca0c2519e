//! `/confirm/{token}`: where the link of a confirmation mail leads (R12). Looking changes nothing, since mail
//! scanners follow links; the button does. No account, no cookie, no script: the token is the authority.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::http::App;
use crate::http::api::held;
use crate::http::problem::Problem;
use crate::message::base64;
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
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{body}</main></body></html>\n"
    );
    let fields = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY.as_str()),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, fields, html).into_response()
}

/// The page's one style sheet: readable at any width, in light and dark, however long the address.
const STYLE: &str = "\
:root{color-scheme:light dark;--ground:#f4f5f7;--card:#fff;--text:#1c2330;--press:#1f5fbf}\
@media(prefers-color-scheme:dark){:root{--ground:#14171c;--card:#1e232b;--text:#e6e9ee;--press:#2f6fd0}}\
body{margin:0;background:var(--ground);color:var(--text);font:17px/1.5 system-ui,sans-serif}\
main{box-sizing:border-box;max-width:32rem;margin:12vh auto 0;padding:1.5rem 2rem 2rem;background:var(--card);\
border-radius:.75rem;box-shadow:0 1px 4px #0003}\
h1{font-size:1.5rem;margin:0 0 .5rem}\
strong{overflow-wrap:anywhere}\
button{font:inherit;font-weight:600;padding:.7rem 1.4rem;border:0;border-radius:.5rem;background:var(--press);color:#fff;cursor:pointer}\
button:focus-visible{outline:3px solid var(--text);outline-offset:2px}\
@media(max-width:34rem){main{margin:0;min-height:100vh;border-radius:0;padding:1.25rem}button{width:100%}}";

/// Nothing but the style sheet above may act on the page, and nothing may frame it.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    let digest = base64(digest(&SHA256, STYLE.as_bytes()).as_ref());
    format!(
        "default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
});

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
