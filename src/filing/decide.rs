//! The rules, in order.

use crate::filing::{Arrival, Decision, Facts, Reason, Trace};

/// Decides what becomes of one message for one mailbox.
#[must_use]
pub fn decide(_arrival: &Arrival<'_>, _facts: &Facts) -> (Decision, Trace) {
    (Decision::Discarded(Reason::NotMarked), Trace::default())
}
