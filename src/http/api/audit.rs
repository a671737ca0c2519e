//! `/accounts/{account}/audit`: who read, changed, exported or erased what, when (R64). Scope `audit`.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::http::App;
use crate::http::extract::{Ids, Listed, Params, slice, time};
use crate::http::problem::Answer;
use crate::id::AccountId;
use crate::store::audit::AuditRow;
use crate::store::directory::{Principal, Scope};
use crate::store::views::AuditFilter;

/// A row of the audit trail.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct AuditItem {
    /// From 1, without gaps.
    seq: i64,
    #[schema(format = DateTime)]
    at: String,
    /// `token:<id>`, `user:<id>` (by a link that they were sent), `operator` or `system`.
    actor: String,
    /// `read`, `create`, `change`, `delete`, `purge`, …
    action: String,
    /// A path below the account.
    object: String,
    /// Ids and counts.
    #[schema(value_type = Option<Object>)]
    detail: Option<Value>,
    /// SHA-256 over the hash of the row before and this row.
    hash: String,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct AuditParams {
    /// `token:<id>`, `user:<id>` (by a link that they were sent), `operator` or `system`.
    actor: Option<String>,
    /// At or after.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Before.
    #[param(format = DateTime)]
    until: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

impl From<AuditRow> for AuditItem {
    fn from(row: AuditRow) -> Self {
        Self {
            seq: row.seq,
            at: row.act.at.to_rfc3339(),
            actor: row.act.actor,
            action: row.act.action,
            object: row.act.object,
            detail: row.act.detail,
            hash: row.hash,
        }
    }
}

/// The audit trail of an account.
#[utoipa::path(get, path = "/accounts/{account}/audit", tag = "audit",
    params(("account" = Uuid, Path), AuditParams),
    responses((status = 200, description = "Newest first", body = Listed<AuditItem>)))]
pub(in crate::http) async fn list_audit(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<AuditParams>,
) -> Answer<Json<Listed<AuditItem>>> {
    app.enter_to_look(&principal, account, &[Scope::Audit]).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    let filter = AuditFilter {
        since: time("since", params.since.as_deref())?,
        until: time("until", params.until.as_deref())?,
        actor: params.actor,
    };
    Ok(Listed::json(app.store.audit(account, &filter, slice).await?, AuditItem::from))
}
