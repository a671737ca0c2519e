//! The resources of the API, one file each: their JSON, their scopes, their handlers.

pub(super) mod accounts;
pub(super) mod audit;
pub(super) mod contacts;
pub(super) mod content;
pub(super) mod conversations;
pub(super) mod deliveries;
pub(super) mod event_stream;
pub(super) mod events;
pub(super) mod held;
pub(super) mod import;
pub(super) mod marks;
pub(super) mod messages;
pub(super) mod purge;
pub(super) mod relay_jobs;
pub(super) mod reply_addresses;
mod sanitize;
pub(super) mod search;
pub(super) mod tokens;
pub(super) mod users;
pub(super) mod webhooks;
