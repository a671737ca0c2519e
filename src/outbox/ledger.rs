//! What a courier has taken up, and what it has to write down of it.

use std::sync::Arc;

use reqwest::StatusCode;
use uuid::Uuid;

use crate::id::{AttemptId, EventId};
use crate::outbox::OutEvent;
use crate::outbox::schedule::{Next, next_attempt};
use crate::outbox::webhook::{Attempt, Failed};
use crate::store::outbox::{AttemptRecord, KeptDelivery, Then};
use crate::time::Timestamp;

/// An event on its way.
pub(super) struct Item {
    pub(super) event: Arc<OutEvent>,
    pub(super) failed: u32,
    pub(super) begun_at: Option<Timestamp>,
    /// Whether it has a row of its own.
    pub(super) is_stored: bool,
    pub(super) stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Delivered, and not written down yet: the next of its conversation may go.
    Delivered,
    /// To be stored, and not written down yet: its conversation waits.
    Kept,
    Ready,
    Sending,
}

/// What has been done and is not handed to the settler yet.
#[derive(Default)]
pub(super) struct Unsettled {
    pub(super) gone: Vec<EventId>,
    pub(super) kept: Vec<KeptDelivery>,
    pub(super) attempts: Vec<AttemptRecord>,
    pub(super) then: Option<Then>,
}

/// What an attempt means for its event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// It failed for the last time.
    Dead,
    Delivered,
    /// It is tried again.
    Failed,
    /// The endpoint wants nothing any more (410).
    Gone,
}

impl Meaning {
    const fn outcome(self) -> &'static str {
        match self {
            Self::Dead => "dead",
            Self::Delivered => "delivered",
            Self::Failed | Self::Gone => "failed",
        }
    }
}

impl Unsettled {
    /// Notes what an attempt has come to. `was_down`: so many failed before that a success means more than itself.
    pub(super) fn note(&mut self, item: &mut Item, attempt: Attempt, was_down: bool) -> Meaning {
        item.begun_at.get_or_insert(attempt.at);
        let (meaning, next_at) = match attempt.outcome {
            Ok(_) => {
                item.stage = Stage::Delivered;
                if item.is_stored {
                    self.gone.push(item.event.id);
                }
                if was_down {
                    self.then.get_or_insert(Then::MakeDue);
                }
                (Meaning::Delivered, None)
            }
            Err(failed) => {
                let next_at = item.fail(failed);
                self.kept.push(item.kept(next_at));
                (self.meaning_of(failed, next_at), next_at)
            }
        };
        metrics::counter!("syncmx_webhook_attempts_total", "outcome" => meaning.outcome()).increment(1);
        metrics::histogram!("syncmx_webhook_call_seconds").record(attempt.took.as_secs_f64());
        self.attempts.push(record(&item.event, attempt, meaning.outcome(), next_at));
        meaning
    }

    fn meaning_of(&mut self, failed: Failed, next_at: Option<Timestamp>) -> Meaning {
        if failed == Failed::Status(StatusCode::GONE) {
            self.then = Some(Then::TurnOff);
            return Meaning::Gone;
        }
        if next_at.is_some() { Meaning::Failed } else { Meaning::Dead }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gone.is_empty() && self.kept.is_empty() && self.attempts.is_empty() && self.then.is_none()
    }
}

impl Item {
    /// When to try again; never, if it is given up.
    fn fail(&mut self, failed: Failed) -> Option<Timestamp> {
        self.stage = Stage::Kept;
        self.failed = self.failed.saturating_add(1);
        let now = Timestamp::now();
        if failed == Failed::Status(StatusCode::GONE) {
            // Due as soon as somebody turns the webhook on again.
            return Some(now);
        }
        match next_attempt(self.begun_at.unwrap_or(now), now, self.failed, chance()) {
            Next::At(at) => Some(at),
            Next::Never => None,
        }
    }

    /// As it is to be stored.
    pub(super) fn kept(&self, due_at: Option<Timestamp>) -> KeptDelivery {
        KeptDelivery {
            event: self.event.id,
            conversation: self.event.conversation,
            due_at,
            failed: self.failed,
            begun_at: self.begun_at,
        }
    }
}

fn record(
    event: &OutEvent,
    attempt: Attempt,
    outcome: &'static str,
    next_at: Option<Timestamp>,
) -> AttemptRecord {
    let status = attempt.outcome.map_or_else(Failed::status, Some);
    AttemptRecord {
        id: AttemptId::generate(),
        event: event.id,
        event_type: event.kind.clone(),
        at: attempt.at,
        outcome,
        status: status.map(|status| status.as_u16()),
        error: attempt.outcome.err().map(Failed::class),
        duration_ms: u64::try_from(attempt.took.as_millis()).unwrap_or(u64::MAX),
        next_at,
    }
}

/// Random enough to spread attempts: the last octets of an id.
fn chance() -> u16 {
    let [.., high, low] = *Uuid::now_v7().as_bytes();
    u16::from_be_bytes([high, low])
}
