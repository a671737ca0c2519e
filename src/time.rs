//! Points in time: Unix milliseconds in UTC inside, RFC 3339 outside, RFC 5322 in our own header fields.
//!
//! Promises that any `i64` can be shown: what lies outside years 1 to 9999 is clamped, never a panic.

use std::time::{SystemTime, UNIX_EPOCH};

/// A point in time in Unix milliseconds, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// From Unix milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    /// Unix milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// The system clock. Not for the pure modules: there the time is an argument.
    #[must_use]
    pub fn now() -> Self {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// This time and `days` of 24 hours, saturating.
    #[must_use]
    pub const fn plus_days(self, days: i64) -> Self {
        Self(self.0.saturating_add(days.saturating_mul(DAY_MILLIS)))
    }

    /// RFC 3339 in UTC with milliseconds: `2026-11-22T02:44:05.120Z`.
    #[must_use]
    pub fn to_rfc3339(self) -> String {
        format!("{:.3}", self.civil())
    }

    /// The date-time of RFC 5322 section 3.3 with a numeric zone: `Sun, 22 Nov 2026 02:44:05 +0000`.
    #[must_use]
    pub fn to_rfc5322(self) -> String {
        self.civil().strftime("%a, %d %b %Y %H:%M:%S +0000").to_string()
    }

    /// As people read it: `22 Nov 2026, 02:44 UTC`.
    #[must_use]
    pub fn to_words(self) -> String {
        self.civil().strftime("%-d %b %Y, %H:%M UTC").to_string()
    }

    /// Reads RFC 3339, as the API takes it.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        text.parse::<jiff::Timestamp>().ok().map(|parsed| Self(parsed.as_millisecond()))
    }

    fn civil(self) -> jiff::Timestamp {
        jiff::Timestamp::from_millisecond(self.0.clamp(YEAR_1_MILLIS, YEAR_9999_MILLIS)).unwrap_or_default()
    }
}

const DAY_MILLIS: i64 = 86_400_000;
const YEAR_1_MILLIS: i64 = -62_135_596_800_000;
const YEAR_9999_MILLIS: i64 = 253_402_200_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_of_milliseconds_can_be_shown() {
        assert_eq!(Timestamp::from_millis(0).to_rfc3339(), "1970-01-01T00:00:00.000Z");
        assert_eq!(Timestamp::from_millis(1_795_315_445_120).to_rfc3339(), "2026-11-22T02:44:05.120Z");
        assert_eq!(Timestamp::from_millis(1_795_315_445_120).to_rfc5322(), "Sun, 22 Nov 2026 02:44:05 +0000");
        for extreme in [i64::MIN, i64::MAX] {
            assert!(!Timestamp::from_millis(extreme).to_rfc3339().is_empty());
            assert!(!Timestamp::from_millis(extreme).to_rfc5322().is_empty());
        }
    }

    #[test]
    fn rfc3339_is_read_with_and_without_a_zone_offset() {
        assert_eq!(
            Timestamp::parse_rfc3339("2026-11-22T02:44:05.120Z").map(Timestamp::as_millis),
            Some(1_795_315_445_120)
        );
        assert_eq!(
            Timestamp::parse_rfc3339("2026-11-22T03:44:05.120+01:00").map(Timestamp::as_millis),
            Some(1_795_315_445_120)
        );
        assert_eq!(Timestamp::parse_rfc3339("yesterday"), None);
    }
}
