//! From decisions to the one reply of the transaction (R72), and what each decision alone would be answered.

use crate::filing::{Decision, Reason};
use crate::id::DeliveryId;
use crate::smtp::Reply;
use crate::smtp::reply;

/// R72: one deferred → that deferral for all; all refused → the first refusal; otherwise accepted. The reply names
/// the delivery that decided it.
#[must_use]
pub fn answer(decided: &[(DeliveryId, Decision)]) -> Reply {
    let deferred = decided.iter().find(|(_, decision)| matches!(decision, Decision::Deferred(_)));
    let kept = decided.iter().find(|(_, decision)| !matches!(decision, Decision::Rejected(_)));
    match deferred.or(kept).or(decided.first()) {
        Some((delivery, decision)) => answer_one(decision).with_trace(*delivery),
        None => reply::STORE_UNAVAILABLE,
    }
}

fn answer_one(decision: &Decision) -> Reply {
    match decision {
        Decision::Deferred(reason) => deferral(*reason),
        Decision::Discarded(_) | Decision::Duplicate(_) | Decision::Filed(_) | Decision::Held(_) => {
            reply::MESSAGE_ACCEPTED
        }
        Decision::Rejected(reason) => refusal(*reason),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other deferrals are for our own trouble")]
fn deferral(reason: Reason) -> Reply {
    match reason {
        Reason::DailyLimit => reply::DAILY_LIMIT,
        Reason::LookupFailed => reply::LOOKUP_FAILED,
        _ => reply::STORE_UNAVAILABLE,
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "all other refusals are of the sender")]
fn refusal(reason: Reason) -> Reply {
    match reason {
        Reason::AddressOff => reply::ADDRESS_OFF,
        Reason::BadFrom => reply::BAD_FROM,
        Reason::DmarcReject => reply::DMARC_REJECT,
        Reason::Loop => reply::LOOP,
        Reason::Malware => reply::MALWARE,
        Reason::RelayDenied => reply::RELAY_DENIED,
        Reason::TooLarge => reply::TOO_LARGE,
        Reason::UnknownAddress => reply::UNKNOWN_ADDRESS,
        Reason::BadSyntax => reply::BAD_SYNTAX,
        _ => reply::SENDER_NOT_ALLOWED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::MessageId;

    #[track_caller]
    fn check(decisions: &[Decision], expected: &Reply, by: usize) {
        let decided: Vec<_> =
            decisions.iter().map(|decision| (DeliveryId::generate(), decision.clone())).collect();
        assert_eq!(answer(&decided), expected.clone().with_trace(decided[by].0));
    }

    #[test]
    fn r72_one_deferred_defers_all_and_only_all_refused_refuses() {
        let filed = Decision::Duplicate(MessageId::generate());
        let deferred = Decision::Deferred(Reason::LookupFailed);
        let refused = Decision::Rejected(Reason::SenderNotAllowed);
        check(&[filed.clone(), deferred, refused.clone()], &reply::LOOKUP_FAILED, 1);
        check(&[refused.clone(), filed], &reply::MESSAGE_ACCEPTED, 1);
        check(&[refused.clone(), Decision::Rejected(Reason::AddressOff)], &reply::SENDER_NOT_ALLOWED, 0);
        check(&[refused, Decision::Discarded(Reason::NotMarked)], &reply::MESSAGE_ACCEPTED, 1);
    }
}
