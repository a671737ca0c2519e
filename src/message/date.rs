//! Dates as people's programs write them: RFC 5322 in all its decay, ISO 8601, and the localised lines of
//! attribution and forward headers.
//!
//! A date that cannot be is none; a zone that is not understood counts as UTC. Nothing here asks the clock.

use jiff::civil::DateTime;
use jiff::tz::Offset;

use super::date_words::{
    BETWEEN_NUMBERS, HALVES, MONTH_MARKS, MONTHS, WEEKDAY_MARKS, half_of_day, named_zone,
};
use super::labels::is_direction_mark;
use super::params::without_comments;
use crate::time::Timestamp;

/// Reads the first date of a line.
pub(super) fn read(text: &str) -> Option<Timestamp> {
    let end = text.char_indices().nth(MAX_CHARS).map_or(text.len(), |(end, _)| end);
    let text = text.get(..end).unwrap_or_default().trim();
    if text.contains('T')
        && let Some(exact) = Timestamp::parse_rfc3339(text)
    {
        return Some(exact);
    }
    let mut found = Found::default();
    let flat = flattened(text);
    let words: Vec<&str> = flat.split(|c: char| c.is_whitespace() || matches!(c, ',' | '"')).collect();
    for word in words.into_iter().filter(|word| !word.is_empty()) {
        found.take(word);
    }
    found.timestamp()
}

/// Lower case, with the digits of ASCII, without comments; what East Asia writes between numbers made `/`, `:` and
/// blanks, and `23. 11. 2026` closed up.
fn flattened(text: &str) -> String {
    let mut lower: String =
        text.to_lowercase().chars().filter(|c| !is_direction_mark(*c)).map(ascii_digit).collect();
    // A zone in parentheses is no comment where phones print it.
    for zone in ["(gmt+", "(gmt-", "(utc+", "(utc-"] {
        if let Some(at) = lower.find(zone) {
            lower.replace_range(at..=at, " ");
        }
    }
    let mut flat = without_comments(&lower);
    for (word, sign) in BETWEEN_NUMBERS {
        if flat.contains(word) {
            flat = flat.replace(word, sign);
        }
    }
    for half in HALVES.iter().filter(|half| flat.contains(**half)).copied().collect::<Vec<_>>() {
        flat = flat.replace(half, &format!(" {half} "));
    }
    closed_up(&flat)
}

/// The digit that a digit of another script is.
fn ascii_digit(c: char) -> char {
    let zero = match c {
        '٠'..='٩' => '٠',
        '۰'..='۹' => '۰',
        '०'..='९' => '०',
        '๐'..='๙' => '๐',
        '０'..='９' => '０',
        _ => return c,
    };
    char::from_digit(u32::from(c) - u32::from(zero), 10).unwrap_or(c)
}

/// Without the blanks in `23. 11. 2026` and `2026. 11. 23.`; a time keeps its own.
fn closed_up(flat: &str) -> String {
    let mut out = String::with_capacity(flat.len());
    let mut rest = flat;
    while let Some((before, behind)) = rest.split_once(". ") {
        out.push_str(before);
        out.push('.');
        let number = behind.bytes().take_while(u8::is_ascii_digit).count();
        let is_time = behind.as_bytes().get(number) == Some(&b':');
        if number == 0 || is_time || !before.ends_with(|c: char| c.is_ascii_digit()) {
            out.push(' ');
        }
        rest = behind;
    }
    out.push_str(rest);
    out
}

/// What the words said.
#[derive(Default)]
struct Found {
    day: Option<i8>,
    month: Option<i8>,
    year: Option<i16>,
    /// Two small numbers with no word for the month: the first and second of `3/4/2016`.
    slashed: Option<(i8, i8)>,
    time: Option<(i8, i8, i8)>,
    half: Option<Half>,
    zone_seconds: Option<i32>,
    next_number: Number,
}

/// Half of a day of twelve hours.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Half {
    Afternoon,
    Morning,
}

/// What the word before a number says of it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Number {
    #[default]
    Free,
    Month,
    Weekday,
}

impl Found {
    fn take(&mut self, word: &str) {
        // Hebrew joins the preposition to the time: ב-14:05.
        let joined = word.split_once('-').filter(|(before, behind)| {
            behind.contains(':') && before.chars().all(|c| c.is_alphabetic() && !c.is_ascii())
        });
        let word = joined.map_or(word, |(_, behind)| behind);
        if self.take_time(word) || self.take_zone(word) || self.take_numeric_date(word) {
            return;
        }
        if let Some(half) = half_of_day(word, self.time.is_some()) {
            self.half = self.half.or(Some(half));
        } else if word.contains('-') && word.starts_with(|c: char| c.is_ascii_digit()) {
            // 22-nov-2026
            word.split('-').for_each(|piece| self.take_word(piece));
        } else {
            self.take_word(word);
        }
    }

    fn take_word(&mut self, word: &str) {
        let digits = word.get(..word.bytes().take_while(u8::is_ascii_digit).count()).unwrap_or_default();
        if digits.is_empty() {
            self.next_number = match word {
                _ if MONTH_MARKS.contains(&word) => Number::Month,
                _ if WEEKDAY_MARKS.contains(&word) => Number::Weekday,
                _ => Number::Free,
            };
            // Before the year the last counts: `mar. 24 nov.` begins with a day of the week.
            if self.month.is_none() || self.year.is_none() {
                self.month = month(word).or(self.month);
            }
            return;
        }
        match std::mem::take(&mut self.next_number) {
            Number::Free => {}
            Number::Month => {
                self.month = self.month.or_else(|| digits.parse().ok());
                return;
            }
            Number::Weekday => return,
        }
        match digits.len() {
            1 | 2 if self.day.is_none() => self.day = digits.parse().ok(),
            2 if self.year.is_none() => self.year = digits.parse().ok().map(century),
            3 if self.year.is_none() => self.year = digits.parse::<i16>().ok().map(|y| y + 1900),
            4 if self.year.is_none() => self.year = digits.parse().ok(),
            _ => {}
        }
    }

    /// `02:44:05`, `2:44pm`, `9.35`, `9h35`.
    fn take_time(&mut self, word: &str) -> bool {
        if self.time.is_some() || !word.starts_with(|c: char| c.is_ascii_digit()) {
            return false;
        }
        let core = word.trim_end_matches(|c: char| c.is_alphabetic() || c == '.');
        let separator = match core {
            _ if core.contains(':') => ':',
            _ if core.contains('h') => 'h',
            // 9.35 and 9.35.10 are times where a date has been read before them.
            _ if matches!(core.matches('.').count(), 1 | 2) && self.has_date() => '.',
            _ => return false,
        };
        let mut numbers =
            core.split(separator).map(|n| n.split('.').next().unwrap_or_default().parse::<i8>().ok());
        let (Some(Some(hour)), Some(minute)) = (numbers.next(), numbers.next()) else { return false };
        let second = numbers.next().flatten().unwrap_or(0).min(59);
        self.time = Some((hour, minute.unwrap_or(0), second));
        if let Some(half) = word.get(core.len()..).and_then(|half| half_of_day(half, true)) {
            self.half = Some(half);
        }
        true
    }

    fn has_date(&self) -> bool {
        self.year.is_some() || self.slashed.is_some()
    }

    fn take_zone(&mut self, word: &str) -> bool {
        // `GMT+8` may stand before the time: nothing else looks so.
        let is_plain = word.starts_with("gmt") || word.starts_with("utc");
        if self.zone_seconds.is_some() || (self.time.is_none() && !(is_plain && self.has_date())) {
            return false;
        }
        let word = word.trim_matches(['(', ')']);
        let digits = word.strip_prefix("gmt").or_else(|| word.strip_prefix("utc")).unwrap_or(word);
        let zone = if word.is_empty() { None } else { numeric_zone(digits).or_else(|| named_zone(word)) };
        self.zone_seconds = zone;
        zone.is_some()
    }

    /// `2016-12-15`, `15.12.2016`, `12/15/2016`.
    fn take_numeric_date(&mut self, word: &str) -> bool {
        if self.has_date() || !word.starts_with(|c: char| c.is_ascii_digit()) {
            return false;
        }
        let Some(separator) = word.chars().find(|c| matches!(c, '-' | '.' | '/')) else { return false };
        let numbers: Vec<&str> = word.split(separator).filter(|n| !n.is_empty()).collect();
        let [a, b, c] = numbers.as_slice() else { return false };
        let (Ok(first), Ok(second), Ok(third)) = (a.parse::<i16>(), b.parse::<i8>(), c.parse::<i16>()) else {
            return false;
        };
        if a.len() == 4 {
            self.year = Some(first);
            self.month = Some(second);
            self.day = i8::try_from(third).ok();
            return true;
        }
        self.year = Some(if c.len() == 4 { third } else { century(third) });
        let Ok(first) = i8::try_from(first) else { return false };
        if separator == '/' {
            self.slashed = Some((first, second));
        } else {
            (self.day, self.month) = (Some(first), Some(second));
        }
        true
    }

    fn timestamp(self) -> Option<Timestamp> {
        let (day, month) = match (self.day, self.month, self.slashed) {
            (_, _, Some((first, second))) => self.order(first, second),
            (Some(day), Some(month), None) => (day, month),
            _ => return None,
        };
        let (hour, minute, second) = self.time.unwrap_or_default();
        let hour = match self.half {
            Some(Half::Afternoon) if hour < 12 => hour + 12,
            Some(Half::Morning) if hour == 12 => 0,
            Some(_) | None => hour,
        };
        let local = DateTime::new(common_era(self.year?), month, day, hour, minute, second, 0).ok()?;
        let offset = Offset::from_seconds(self.zone_seconds.unwrap_or(0)).ok()?;
        offset.to_timestamp(local).ok().map(|at| Timestamp::from_millis(at.as_millisecond()))
    }

    /// The day comes first, except where it cannot or where the clock has twelve hours.
    fn order(&self, first: i8, second: i8) -> (i8, i8) {
        let is_american = second > 12 || (first <= 12 && self.half.is_some());
        if is_american { (second, first) } else { (first, second) }
    }
}

fn century(two_digits: i16) -> i16 {
    match two_digits {
        0..=49 => two_digits + 2000,
        50..=99 => two_digits + 1900,
        other => other,
    }
}

/// A year that only Thailand counts is one of the Buddhist era.
const fn common_era(year: i16) -> i16 {
    if year >= 2_443 && year <= 2_700 { year - 543 } else { year }
}

/// `+0100`, `+01:00`, `+1`, `-05`. More than 18 hours is no zone.
fn numeric_zone(word: &str) -> Option<i32> {
    let sign = match word.chars().next()? {
        '+' => 1,
        '-' | '−' => -1,
        _ => return None,
    };
    let digits: String = word.chars().skip(1).filter(char::is_ascii_digit).collect();
    let number: i32 = digits.parse().ok()?;
    let (hours, minutes) = if digits.len() <= 2 { (number, 0) } else { (number / 100, number % 100) };
    (hours <= 18 && minutes < 60 && digits.len() <= 4).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// By the first letters, as many as are known, of the month in the languages of our users.
fn month(word: &str) -> Option<i8> {
    let word = word.trim_matches('.');
    let longest =
        |stems: &&[&str]| stems.iter().filter(|stem| word.starts_with(**stem)).map(|s| s.len()).max();
    let stems = MONTHS.iter().enumerate().filter_map(|(at, stems)| Some((longest(stems)?, at)));
    // Of two months that begin alike the first.
    let (_, at) = stems.max_by_key(|(length, at)| (*length, std::cmp::Reverse(*at)))?;
    i8::try_from(at + 1).ok()
}

/// No date is longer.
const MAX_CHARS: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(read(text).map(Timestamp::to_rfc3339).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn header_dates_are_read_in_their_bent_forms() {
        let expected = Some("2026-11-22T02:44:05.000Z");
        check("Sun, 22 Nov 2026 02:44:05 +0000", expected);
        check("Sun, 22 Nov 2026 03:44:05 +0100 (CET)", expected);
        check("22 Nov 26 02:44:05 GMT", expected);
        check("Sat, 21 Nov 2026 21:44:05 EST", expected);
        check("Sun Nov 22 02:44:05 2026", expected);
        check("Sun, 22 Nov 2026 02:44:05 nonsense", expected);
        check("2026-11-22T02:44:05Z", expected);
        check("2026-11-22 02:44:05", expected);
        check("22-Nov-2026 02:44:05 UT", expected);
        check("22 Nov 2026 02:44:05 GMT+00:00", expected);
    }

    #[test]
    fn m20_impossible_dates_are_none_and_odd_ones_are_read() {
        check("", None);
        check("yesterday", None);
        check("Sun, 32 Nov 2026 02:44:05 +0000", None);
        check("Sun, 22 Nov 2026 25:44:05 +0000", None);
        check("Sun, 22 Nov 2026 02:44:60 +0000", Some("2026-11-22T02:44:59.000Z"));
        check("Sun, 22 Nov 2026 02:44:05 +9999", Some("2026-11-22T02:44:05.000Z"));
        check("Sun, 22 Nov 1900 02:44:05 +0000", Some("1900-11-22T02:44:05.000Z"));
        // Our clock ends some hours before the year 9999 does.
        assert!(read("Fri, 1 Jan 9999 12:00:00 +0000").is_some());
    }

    #[test]
    fn dates_of_people_are_read_in_their_languages() {
        check("jeudi 15 décembre 2016 09:35", Some("2016-12-15T09:35:00.000Z"));
        check("Donnerstag, 15. Dezember 2016 um 09:35", Some("2016-12-15T09:35:00.000Z"));
        check("Thursday, December 15, 2016 9:35 PM", Some("2016-12-15T21:35:00.000Z"));
        check("15.12.2016 9.35", Some("2016-12-15T09:35:00.000Z"));
        check("12/15/2016 9:35 AM", Some("2016-12-15T09:35:00.000Z"));
        check("15/12/2016 09:35", Some("2016-12-15T09:35:00.000Z"));
        check("2016年12月15日 9:35", Some("2016-12-15T09:35:00.000Z"));
        check("jueves, 15 de diciembre de 2016 9:35", Some("2016-12-15T09:35:00.000Z"));
        check("to 15. marraskuuta 2016 klo 9.35.10", Some("2016-11-15T09:35:10.000Z"));
        check("2016년 12월 15일 (목) 오후 9:35", Some("2016-12-15T21:35:00.000Z"));
        check("2016년 12월 15일 목요일, 09시 35분 10초 +0900", Some("2016-12-15T00:35:10.000Z"));
        check("2016年12月15日 週四 下午9:35", Some("2016-12-15T21:35:00.000Z"));
        check("2016年12月15日 GMT+8 09:35:10", Some("2016-12-15T01:35:10.000Z"));
        check("15. 12. 2016 9:35", Some("2016-12-15T09:35:00.000Z"));
        check("2016. 12. 15. 9:35", Some("2016-12-15T09:35:00.000Z"));
        check("15.12.2016 09:35 (GMT+01:00)", Some("2016-12-15T08:35:00.000Z"));
        check("الخميس، ١٥ ديسمبر ٢٠١٦ في ٩:٣٥ م", Some("2016-12-15T21:35:00.000Z"));
        check("15 ธันวาคม 2559 เวลา 09:35:10 GMT+7", Some("2016-12-15T02:35:10.000Z"));
        check("Th 5, 15 thg 12, 2016 lúc 09:35", Some("2016-12-15T09:35:00.000Z"));
        check("Thứ Năm, 15 Tháng Mười Hai 2016 9:35 CH", Some("2016-12-15T21:35:00.000Z"));
        check("mar. 13 déc. 2016 à 09:35", Some("2016-12-13T09:35:00.000Z"));
        check("יום ב׳, 12 בדצמ׳ 2016 ב-9:35", Some("2016-12-12T09:35:00.000Z"));
        check("Sa, 10. Dez. 2016 12:35", Some("2016-12-10T12:35:00.000Z"));
    }
}
