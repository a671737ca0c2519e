//! `/accounts/{account}/contacts`. Scope `contacts`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::App;
use crate::http::api::purge::carry_out;
use crate::http::extract::{Ids, Input, Listed, Params, given, slice};
use crate::http::idempotency::Once;
use crate::http::problem::{Answer, Problem};
use crate::id::{AccountId, ContactId};
use crate::store::directory::{self, ContactChange, ContactFilter, CreatedBy, Principal, PurgeOf, Scope};

/// A person on the CRM's records.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct Contact {
    id: Uuid,
    name: String,
    /// The primary email: the only one that mail is matched by.
    email: String,
    other_emails: Vec<String>,
    external_id: Option<String>,
    #[schema(format = DateTime)]
    created_at: String,
    /// `api`, `import` or `sync`.
    created_by: &'static str,
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct NewContact {
    name: String,
    email: String,
    #[serde(default)]
    #[schema(required = false)]
    other_emails: Vec<String>,
    external_id: Option<String>,
}

/// What changes.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct ContactPatch {
    name: Option<String>,
    email: Option<String>,
    other_emails: Option<Vec<String>>,
    /// Null takes it away.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    external_id: Option<Option<String>>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct ContactParams {
    /// Part of the name or of an address.
    q: Option<String>,
    /// Exactly this primary email.
    email: Option<String>,
    /// At most so many items, 1 to 200; 50 if absent.
    #[param(value_type = Option<u32>, minimum = 1, maximum = 200)]
    limit: Option<String>,
    /// `next` of the part before.
    cursor: Option<String>,
}

impl From<directory::Contact> for Contact {
    fn from(contact: directory::Contact) -> Self {
        Self {
            id: contact.id.uuid(),
            name: contact.name,
            email: contact.email,
            other_emails: contact.other_emails,
            external_id: contact.external_id,
            created_at: contact.created_at.to_rfc3339(),
            created_by: contact.created_by.as_str(),
        }
    }
}

/// Makes a contact.
#[utoipa::path(post, path = "/accounts/{account}/contacts", tag = "contacts", params(("account" = Uuid, Path)),
    request_body = NewContact, responses((status = 201, description = "Made", body = Contact)))]
pub(in crate::http) async fn create_contact(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    once: Once,
    Input(new): Input<NewContact>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let new = directory::NewContact {
        name: new.name,
        email: new.email,
        other_emails: new.other_emails,
        external_id: new.external_id,
    };
    let mut change = app.store.change().await?;
    let contact = change.create_contact(account, &new, CreatedBy::Api).await?;
    once.answer(change, StatusCode::CREATED, &Contact::from(contact)).await
}

/// The contacts of an account.
#[utoipa::path(get, path = "/accounts/{account}/contacts", tag = "contacts",
    params(("account" = Uuid, Path), ContactParams),
    responses((status = 200, description = "Oldest first", body = Listed<Contact>)))]
pub(in crate::http) async fn list_contacts(
    State(app): State<App>,
    principal: Principal,
    Ids(account): Ids<AccountId>,
    Params(params): Params<ContactParams>,
) -> Answer<Json<Listed<Contact>>> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let slice = slice(params.limit.as_deref(), params.cursor.as_deref())?;
    let page =
        app.store.contacts(account, &ContactFilter { text: params.q, email: params.email }, slice).await?;
    Ok(Listed::json(page, Contact::from))
}

/// One contact.
#[utoipa::path(get, path = "/accounts/{account}/contacts/{contact}", tag = "contacts",
    params(("account" = Uuid, Path), ("contact" = Uuid, Path)),
    responses((status = 200, description = "Found", body = Contact)))]
pub(in crate::http) async fn read_contact(
    State(app): State<App>,
    principal: Principal,
    Ids((account, contact)): Ids<(AccountId, ContactId)>,
) -> Answer<Json<Contact>> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let found = app.store.contact(account, contact).await?.ok_or_else(|| Problem::not_found("contact"))?;
    Ok(Json(found.into()))
}

/// Of a contact that is not there, nothing can be listed: 404.
pub(super) async fn demand(app: &App, account: AccountId, contact: ContactId) -> Answer<()> {
    let found = app.store.has_contact(account, contact).await?;
    if found { Ok(()) } else { Err(Problem::not_found("contact")) }
}

/// Changes a contact.
#[utoipa::path(patch, path = "/accounts/{account}/contacts/{contact}", tag = "contacts",
    params(("account" = Uuid, Path), ("contact" = Uuid, Path)), request_body = ContactPatch,
    responses((status = 200, description = "Changed", body = Contact)))]
pub(in crate::http) async fn update_contact(
    State(app): State<App>,
    principal: Principal,
    Ids((account, contact)): Ids<(AccountId, ContactId)>,
    once: Once,
    Input(patch): Input<ContactPatch>,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    let wanted = ContactChange {
        name: patch.name,
        email: patch.email,
        other_emails: patch.other_emails,
        external_id: patch.external_id,
    };
    let mut change = app.store.change().await?;
    let contact = change.update_contact(account, contact, &wanted).await?;
    once.answer(change, StatusCode::OK, &Contact::from(contact)).await
}

/// Deletes a contact and erases what is on its record.
#[utoipa::path(delete, path = "/accounts/{account}/contacts/{contact}", tag = "contacts",
    params(("account" = Uuid, Path), ("contact" = Uuid, Path)),
    responses((status = 204, description = "Deleted")))]
pub(in crate::http) async fn delete_contact(
    State(app): State<App>,
    principal: Principal,
    Ids((account, contact)): Ids<(AccountId, ContactId)>,
    once: Once,
) -> Answer<Response> {
    app.enter(&principal, account, &[Scope::Contacts]).await?;
    // R63: a record that is larger than a request may take is gone a little later.
    let (change, ..) = carry_out(&app, &principal, account, PurgeOf::Contact(contact)).await?;
    once.answer_nothing(change).await
}
