//! One line of the printed table, and how much is to be done.

use std::time::Duration;

/// Prints a row, then fails the test if it did not pass.
#[track_caller]
pub(crate) fn report(id: &str, fault: &str, measured: &str, passed: bool) {
    let verdict = if passed { "pass" } else { "**fail**" };
    println!("| {id} | {fault} | {measured} | {verdict} |");
    assert!(passed, "{id}: {fault}: {measured}");
}

/// How fast something is to be: judged in full form alone, which is made with a release build; an ordinary run says
/// nothing, since it shares its machine with others.
#[track_caller]
pub(crate) fn goal(id: &str, what: &str, measured: &str, is_reached: bool) {
    if is_full() {
        report(id, what, measured, is_reached);
    }
}

/// `SYNCMX_FAULTS=full`: the counts that are asked of a release; else a part that every run can afford.
pub(crate) fn is_full() -> bool {
    std::env::var("SYNCMX_FAULTS").is_ok_and(|wanted| wanted == "full")
}

pub(crate) fn scaled<T>(full: T, short: T) -> T {
    if is_full() { full } else { short }
}

/// Different in each run, and said where it matters.
pub(crate) fn random_below(limit: u64) -> u64 {
    // The random half of a UUIDv7.
    uuid::Uuid::now_v7().as_u64_pair().1.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29) % limit.max(1)
}

pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}
