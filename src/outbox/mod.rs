//! Events out: what was committed reaches the world at least once, whatever dies in between.
//!
//! The pattern is always the same: claim with a lease (in the store), send (no transaction is open meanwhile), settle
//! (in the store, only while the lease is still ours). Who is killed between sending and settling leaves a lease
//! that ends, and the next one sends the same thing with the same id again.
//!
//! Webhooks: `worker` watches for events and gives each webhook that has work a `courier`, which sends in order within
//! a conversation and hands what became of it to the `settler`. `webhook` makes one HTTP request, `signature` signs it,
//! `guard` decides which addresses may be called, `schedule` when to try again.

pub mod compose;
mod copy;
mod courier;
mod guard;
mod ledger;
mod notice;
pub mod relay;
pub mod schedule;
mod settler;
mod signature;
pub mod smarthost;
mod webhook;
mod worker;

use serde_json::Value;

pub use signature::WebhookSecret;
pub use webhook::{BadUrl, EndpointUrl};
pub use worker::Worker;

use crate::id::{ConversationId, EventId};
use crate::time::Timestamp;

/// An event as it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct OutEvent {
    /// Its id: the same for everybody and on every attempt.
    pub id: EventId,
    /// Such as `message.filed`.
    pub kind: String,
    /// When it happened.
    pub at: Timestamp,
    /// The conversation whose order it keeps.
    pub conversation: Option<ConversationId>,
    /// Ids and headers.
    pub data: Value,
}

/// Every type of event there is (CONTRACT, "Webhooks").
pub const EVENT_TYPES: &[&str] = &[
    "contact.created",
    "contact.sync_off",
    "contact.sync_on",
    "message.bounced",
    "message.complained",
    "message.filed",
    "message.held",
    "message.undone",
    "purge.done",
    "relay.failed",
    "reply.received",
    "user.forwarding_confirmation",
];

/// The event of `…/webhooks/{w}:test`, which goes to that webhook alone.
pub const TEST_EVENT: &str = "webhook.test";
