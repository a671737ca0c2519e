//! How many requests a token may make: a bucket of [`BURST`] that refills at [`PER_SECOND`].
//!
//! Holds one small entry for each token that asked lately; tokens are made by administrators, so the map is bounded
//! by their number, and full buckets are dropped.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use crate::id::TokenId;

/// The buckets.
#[derive(Debug)]
pub(super) struct RateLimit {
    burst: f64,
    per_second: f64,
    buckets: Mutex<HashMap<TokenId, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    left: f64,
    filled_at: Instant,
}

impl Default for RateLimit {
    fn default() -> Self {
        Self::new(BURST, PER_SECOND)
    }
}

impl RateLimit {
    pub(super) fn new(burst: f64, per_second: f64) -> Self {
        Self { burst, per_second, buckets: Mutex::default() }
    }

    /// Takes one from the token's bucket, if it is not empty.
    pub(super) fn take(&self, token: TokenId, now: Instant) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        if buckets.len() >= SWEEP_AT {
            buckets.retain(|_, bucket| self.level(bucket, now) < self.burst);
        }
        let bucket = buckets.entry(token).or_insert(Bucket { left: self.burst, filled_at: now });
        bucket.left = self.level(bucket, now);
        bucket.filled_at = now;
        let has_one = bucket.left >= 1.0;
        if has_one {
            bucket.left -= 1.0;
        }
        has_one
    }

    fn level(&self, bucket: &Bucket, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(bucket.filled_at).as_secs_f64();
        seconds.mul_add(self.per_second, bucket.left).min(self.burst)
    }
}

/// Requests at once: an integration that catches up after a night is not slowed down.
const BURST: f64 = 2000.0;
/// Requests a second in the long run.
const PER_SECOND: f64 = 200.0;
const SWEEP_AT: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bucket_empties_refills_and_belongs_to_one_token() {
        let limit = RateLimit::new(3.0, 2.0);
        let (one, other, start) = (TokenId::generate(), TokenId::generate(), Instant::now());
        let taken = |token, now| (0..10).filter(|_| limit.take(token, now)).count();
        assert_eq!(taken(one, start), 3);
        assert_eq!(taken(other, start), 3);
        assert_eq!(taken(one, start + Duration::from_secs(1)), 2);
        assert_eq!(taken(one, start + Duration::from_secs(3600)), 3);
    }
}
