//! The OpenAPI 3.1 document: what the handlers say of themselves, and what holds for all of them.

use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr, ResponseBuilder, Server};
use utoipa::{OpenApi as _, ToSchema};

use crate::http::api::{conversations, held, messages, webhooks};
use crate::http::problem::Problem;

/// The document before any route.
pub(super) fn base() -> OpenApi {
    #[derive(utoipa::OpenApi)]
    #[openapi(components(schemas(Problem)))]
    struct Base;
    let mut document = Base::openapi();
    document.info = InfoBuilder::new()
        .title("syncmx")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some("Email filed onto CRM contact records. Errors are problem documents (RFC 9457)."))
        .build();
    if let Some(components) = &mut document.components {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("smx_…").build();
        components.add_security_scheme("token", SecurityScheme::Http(scheme));
    }
    document.security = Some(vec![SecurityRequirement::new::<_, [&str; 0], &str>("token", [])]);
    document
}

/// Adds what the router cannot know: actions behind a parameter.
pub(super) fn add_actions(document: &mut OpenApi) {
    #[derive(utoipa::OpenApi)]
    #[openapi(paths(
        conversations::revoke_reply_addresses,
        messages::conversation,
        messages::undo_message,
        held::read_held,
        held::discard_held,
        held::file_held,
        webhooks::read_webhook,
        webhooks::update_webhook,
        webhooks::delete_webhook,
        webhooks::test_webhook,
        webhooks::replay_webhook,
        webhooks::rotate_webhook_secret
    ))]
    struct Actions;
    document.merge(OpenApi::default().nest("/api/v1", Actions::openapi()));
}

/// The finished document as JSON.
pub(super) fn document(mut document: OpenApi, public_url: &str) -> String {
    document.servers = Some(vec![Server::new(public_url)]);
    for item in document.paths.paths.values_mut() {
        let reads = [&mut item.get].into_iter().flatten().map(|operation| (operation, READ_PROBLEMS));
        let writes = [&mut item.post, &mut item.put, &mut item.patch, &mut item.delete];
        let writes = writes.into_iter().flatten().map(|operation| (operation, WRITE_PROBLEMS));
        for (operation, problems) in reads.chain(writes) {
            add_problems(operation, problems);
        }
    }
    document.to_json().unwrap_or_default()
}

fn add_problems(operation: &mut Operation, problems: &[(&str, &str)]) {
    for (status, description) in problems {
        let schema = Ref::from_schema_name(Problem::name());
        let content = ContentBuilder::new().schema(Some(schema)).build();
        let response = ResponseBuilder::new()
            .description(*description)
            .content("application/problem+json", content)
            .build();
        operation.responses.responses.entry((*status).to_owned()).or_insert(RefOr::T(response));
    }
}

const READ_PROBLEMS: &[(&str, &str)] = &[
    ("400", "A parameter is malformed"),
    ("401", "No valid token"),
    ("403", "The token has not the scope"),
    ("404", "There is no such thing in the account of the token"),
    ("429", "The token makes too many requests"),
];
const WRITE_PROBLEMS: &[(&str, &str)] = &[
    ("400", "The body is not JSON, or a parameter is malformed"),
    ("401", "No valid token"),
    ("403", "The token has not the scope"),
    ("404", "There is no such thing in the account of the token"),
    ("409", "It contradicts what is on file, or the Idempotency-Key belongs to another request"),
    ("413", "The body is too large"),
    ("422", "A value cannot be taken; the detail names the field"),
    ("429", "The token makes too many requests"),
];
