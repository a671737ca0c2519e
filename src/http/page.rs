//! The frame of a page for people that a link in a mail leads to. No account, no cookie, no script.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::message::base64;

/// A page; `body` is HTML.
pub(super) fn page(status: StatusCode, title: &str, body: &str) -> Response {
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

/// Text as it may stand in a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
