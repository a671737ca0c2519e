//! A message as it came: raw, as sanitised HTML, attachment by attachment.
//!
//! What strangers wrote is never run or loaded by a reader's browser: HTML is cleaned and sandboxed, files are
//! downloads, and a declared type counts only if nothing can be done with it.

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, Response as HttpResponse, header};
use axum::response::Response;
use serde_json::Value;

use crate::http::App;
use crate::http::api::sanitize;
use crate::http::auth::Shown;
use crate::http::extract::Ids;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, MessageId};
use crate::message;
use crate::store::directory::{Principal, Scope};

/// The raw message, byte for byte.
#[utoipa::path(get, path = "/accounts/{account}/messages/{message}/raw", tag = "messages",
    params(("account" = Uuid, Path), ("message" = Uuid, Path)),
    responses((status = 200, description = "As received", body = Vec<u8>, content_type = "message/rfc822")))]
pub(in crate::http) async fn raw_message(
    State(app): State<App>,
    principal: Principal,
    Ids((account, message)): Ids<(AccountId, MessageId)>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::MessagesContent]).await?;
    let raw = whole(&app, &principal, account, message).await?;
    app.note_read(&principal, account, format!("messages/{message}/raw"), None).await?;
    Ok(file("message/rfc822", &disposition("message.eml"), raw))
}

/// The HTML of a message, without anything that runs or loads.
#[utoipa::path(get, path = "/accounts/{account}/messages/{message}/html", tag = "messages",
    params(("account" = Uuid, Path), ("message" = Uuid, Path)),
    responses((status = 200, description = "Sanitised", body = String, content_type = "text/html")))]
pub(in crate::http) async fn message_html(
    State(app): State<App>,
    principal: Principal,
    Ids((account, message)): Ids<(AccountId, MessageId)>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::MessagesContent]).await?;
    let raw = whole(&app, &principal, account, message).await?;
    let clean = on_a_thread(move || message::html(&raw).map(|html| sanitize::html(&html))).await?;
    let html = clean.ok_or_else(|| Problem::not_found("HTML part in this message"))?;
    app.note_read(&principal, account, format!("messages/{message}/html"), None).await?;
    Ok(respond("text/html; charset=utf-8", "inline", html.into_bytes()))
}

/// One attachment.
#[utoipa::path(get, path = "/accounts/{account}/messages/{message}/attachments/{n}", tag = "messages",
    params(("account" = Uuid, Path), ("message" = Uuid, Path), ("n" = u32, Path)),
    responses((status = 200, description = "Decoded", body = Vec<u8>, content_type = "application/octet-stream")))]
pub(in crate::http) async fn attachment(
    State(app): State<App>,
    principal: Principal,
    Ids((account, message, n)): Ids<(AccountId, MessageId, usize)>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Attachments]).await?;
    let found = app.store.message(account, message).await?.ok_or_else(|| Problem::not_found("message"))?;
    let list = found.attachments.as_array().cloned().unwrap_or_default();
    let entry = list.into_iter().find(|entry| entry["n"].as_u64() == u64::try_from(n).ok());
    let entry = entry.ok_or_else(|| Problem::not_found("attachment"))?;
    if entry["status"] == "skipped" {
        return Err(Problem::not_found("attachment: it was over the account's limits and is not kept"));
    }
    let raw = raw(&app, account, message).await?;
    let octets = on_a_thread(move || message::open_attachment(&raw, n)).await?;
    let octets = octets.ok_or_else(|| Problem::not_found("attachment"))?;
    app.note_read(&principal, account, format!("messages/{message}/attachments/{n}"), None).await?;
    let name = Shown::to(&principal).content(text(&entry["filename"]));
    Ok(file(harmless(&text(&entry["content_type"])), &disposition(&name.unwrap_or_default()), octets))
}

/// R27a: whoever may not read the quoted part cannot have it in another form either.
async fn whole(app: &App, principal: &Principal, account: AccountId, message: MessageId) -> Answer<Vec<u8>> {
    let found =
        app.store.message(account, message).await?.ok_or_else(|| Problem::not_found("raw message"))?;
    if found.has_internal_history() && Shown::to(principal) != Shown::Review {
        return Err(Problem::forbidden("review, which internal history needs"));
    }
    raw(app, account, message).await
}

async fn raw(app: &App, account: AccountId, message: MessageId) -> Answer<Vec<u8>> {
    let raw = app.store.raw_message(account, message).await?;
    raw.ok_or_else(|| Problem::not_found("raw message"))
}

/// Parsing a large message takes long enough to hold up a worker.
async fn on_a_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| {
        Problem::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, "the message could not be read")
    })
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

pub(super) fn file(content_type: &str, disposition: &str, octets: Vec<u8>) -> Response {
    respond(content_type, disposition, octets)
}

fn respond(content_type: &str, disposition: &str, octets: Vec<u8>) -> Response {
    let mut response = HttpResponse::new(Body::from(octets));
    let headers = response.headers_mut();
    let dynamic = [(header::CONTENT_TYPE, content_type), (header::CONTENT_DISPOSITION, disposition)];
    for (name, value) in dynamic {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    for (name, value) in GUARDS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// `attachment` with the name in ASCII, and in full where that is not all of it (RFC 6266, RFC 8187).
pub(super) fn disposition(filename: &str) -> String {
    let keep = |c: char| if c.is_ascii_graphic() && !"\"\\%;".contains(c) || c == ' ' { c } else { '_' };
    let plain: String = filename.chars().map(keep).collect();
    match filename {
        "" => "attachment".to_owned(),
        _ if plain == filename => format!("attachment; filename=\"{plain}\""),
        _ => format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent(filename)),
    }
}

/// RFC 8187 section 3.2.1: what is no attr-char is percent-coded.
fn percent(text: &str) -> String {
    let octet = |octet: u8| match octet {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(octet).to_string(),
        b'!' | b'#' | b'$' | b'&' | b'+' | b'-' | b'.' | b'^' | b'_' | b'`' | b'|' | b'~' => {
            char::from(octet).to_string()
        }
        _ => format!("%{octet:02X}"),
    };
    text.bytes().map(octet).collect()
}

/// A declared type that no browser runs; anything else is octets.
fn harmless(declared: &str) -> &'static str {
    let declared = declared.to_ascii_lowercase();
    HARMLESS.iter().find(|kind| **kind == declared).copied().unwrap_or("application/octet-stream")
}

const GUARDS: [(&str, &str); 4] = [
    ("content-security-policy", "sandbox; default-src 'none'"),
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "private, no-store"),
];
const HARMLESS: &[&str] = &[
    "application/msword",
    "application/pdf",
    "application/vnd.ms-excel",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    "application/zip",
    "audio/mpeg",
    "image/gif",
    "image/heic",
    "image/jpeg",
    "image/png",
    "image/tiff",
    "image/webp",
    "message/rfc822",
    "text/calendar",
    "text/csv",
    "text/plain",
    "video/mp4",
    "video/mpeg",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_is_given_in_ascii_and_in_full() {
        assert_eq!(disposition("a b.pdf"), "attachment; filename=\"a b.pdf\"");
        assert_eq!(
            disposition("Gr\u{fc}\u{df}e \"1\".pdf"),
            "attachment; filename=\"Gr__e _1_.pdf\"; filename*=UTF-8''Gr%C3%BC%C3%9Fe%20%221%22.pdf"
        );
        assert_eq!(
            disposition("a\r\nSet-Cookie: x"),
            "attachment; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a%0D%0ASet-Cookie%3A%20x"
        );
        assert_eq!(disposition(""), "attachment");
    }

    #[test]
    fn a_type_that_a_browser_runs_is_only_octets() {
        for active in
            ["text/html", "image/svg+xml", "application/xhtml+xml", "text/javascript", "text/xml", ""]
        {
            assert_eq!(harmless(active), "application/octet-stream", "{active}");
        }
        assert_eq!(harmless("Application/PDF"), "application/pdf");
    }
}
