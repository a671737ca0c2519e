//! `/accounts/{account}/contacts:import`: a stream of CSV or NDJSON, read line by line. Scope `contacts`.
//!
//! With an `Idempotency-Key` the same stream, sent again, is read through, recognised by its hash and answered
//! again. Without one a repeated import is harmless too: it updates what it made.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use http_body_util::BodyExt;
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::audit::Write;
use crate::http::extract::Ids;
use crate::http::idempotency::{Hash, Once, key_of, recall};
use crate::http::problem::{Answer, Problem};
use crate::id::AccountId;
use crate::store::directory::import::{Format, Import};
use crate::store::directory::{self, FailedLine, ImportReport, Principal, Remembered, Scope};

/// What an import did.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Imported {
    created: u64,
    updated: u64,
    failed: Vec<Failed>,
}

#[derive(Serialize, ToSchema)]
struct Failed {
    /// From 1.
    line: u64,
    detail: String,
}

impl From<ImportReport> for Imported {
    fn from(report: ImportReport) -> Self {
        let failed = |line: FailedLine| Failed { line: line.line, detail: line.detail };
        Self {
            created: report.created,
            updated: report.updated,
            failed: report.failed.into_iter().map(failed).collect(),
        }
    }
}

/// Makes and updates contacts from CSV (with a header line) or NDJSON.
#[utoipa::path(post, path = "/accounts/{account}/contacts:import", tag = "contacts",
    params(("account" = Uuid, Path)),
    request_body(content((String = "text/csv"), (String = "application/x-ndjson"))),
    responses((status = 200, description = "Read to its end", body = Imported)))]
pub(in crate::http) async fn import_contacts(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    request: Request,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let (parts, body) = request.into_parts();
    let mut hash = Hash::of(&parts, &principal);
    let key = key_of(&parts.headers)?;
    let asked = |hash: [u8; 32], key: String| directory::Request {
        account: principal.account,
        key,
        about: account,
        hash,
    };
    let mut stream = Stream { body, read: 0 };
    if let Some(key) = &key {
        // The hash is known at the end only; a key that has an answer is read through without importing.
        let probe = app.store.recall(&asked([0; 32], key.clone())).await?;
        if probe != Remembered::Unknown {
            while let Some(octets) = stream.next().await? {
                hash.update(&octets);
            }
            let answer = recall(&app, &asked(hash.finish(), key.clone())).await?;
            return answer.ok_or_else(|| Problem::conflict("the Idempotency-Key ran out during the request"));
        }
    }
    let first = stream.next().await?.unwrap_or_default();
    // Before the first contact: an import that breaks off has changed something too.
    let act = Write::of(&parts, &principal).and_then(|write| write.act(""));
    app.store.note(act.into_iter().collect()).await?;
    let mut import = Import::new(account, format(&parts.headers, &first));
    let mut next = Some(first);
    while let Some(octets) = next {
        hash.update(&octets);
        import.feed(&app.store, &octets).await?;
        next = stream.next().await?;
    }
    let mut change = app.store.change().await?;
    let report = import.finish(&mut change).await?;
    let once = Once::new(key.map(|key| asked(hash.finish(), key)));
    once.answer(change, StatusCode::OK, &Imported::from(report)).await
}

/// A body that is bounded as a whole and timed piece by piece.
struct Stream {
    body: Body,
    read: usize,
}

impl Stream {
    async fn next(&mut self) -> Answer<Option<Bytes>> {
        loop {
            let frame = tokio::time::timeout(PIECE_TIMEOUT, self.body.frame()).await;
            let frame = frame.map_err(|_| Problem::bad_request("the body stopped coming"))?;
            let Some(frame) = frame else { return Ok(None) };
            let frame = frame.map_err(|_| Problem::bad_request("the body could not be read"))?;
            let Ok(octets) = frame.into_data() else { continue };
            self.read = self.read.saturating_add(octets.len());
            if self.read > IMPORT_MAX_OCTETS {
                return Err(Problem::too_large(IMPORT_MAX_OCTETS));
            }
            return Ok(Some(octets));
        }
    }
}

/// By the declared type; where it says nothing, by the first octet.
fn format(headers: &HeaderMap, first: &[u8]) -> Format {
    let declared =
        headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if declared.contains("csv") {
        Format::Csv
    } else if declared.contains("ndjson") || declared.contains("jsonl") || first.first() == Some(&b'{') {
        Format::Ndjson
    } else {
        Format::Csv
    }
}

/// Some millions of contacts.
const IMPORT_MAX_OCTETS: usize = 512 * 1024 * 1024;
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);
