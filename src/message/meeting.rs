//! R55: what the first event of a `text/calendar` part says.
//!
//! Liberal and linear, and no more than [`MAX_LINES`] lines and [`MAX_OCTETS`] of a calendar are ever held. Zones are
//! taken from the calendar's own VTIMEZONE; where a zone is not described there, the time counts as UTC.
//! Recurrence is not expanded.

use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::Offset;

use super::fields::clean_line;
use super::{Meeting, Method, lines};
use crate::time::Timestamp;

/// Reads a calendar.
pub(super) fn read(calendar: &str) -> Option<Meeting> {
    let unfolded = unfold(calendar);
    let lines: Vec<Line<'_>> = lines::split(&unfolded).take(MAX_LINES).filter_map(Line::parse).collect();
    let begin = lines.iter().position(|line| line.is("BEGIN", "VEVENT"))?;
    let event = lines.get(begin + 1..)?;
    // To its end, or to the alarm inside it, which has a description and times of its own.
    let end = event.iter().position(|line| line.name == "BEGIN" || line.is("END", "VEVENT"));
    let event = event.get(..end.unwrap_or(event.len()))?;
    let value = |name: &str| event.iter().find(|line| line.name == name);
    let zones = Zone::all(&lines);
    let time = |name: &str| value(name).and_then(|line| timestamp(line, &zones));
    let method = lines.iter().take(begin).find(|line| line.name == "METHOD");
    Some(Meeting {
        method: method.and_then(|line| Method::of(line.value)).unwrap_or(Method::Publish),
        title: value("SUMMARY").map(|line| clean_line(&unescape(line.value))).unwrap_or_default(),
        start: time("DTSTART"),
        end: time("DTEND"),
        organiser: value("ORGANIZER").and_then(|line| address(line.value)),
        join_url: join_url(event),
    })
}

/// The start of a calendar, its folded lines made whole (RFC 5545 section 3.1).
fn unfold(calendar: &str) -> String {
    let start = calendar.get(..calendar.floor_char_boundary(MAX_OCTETS)).unwrap_or_default();
    let mut out = String::with_capacity(start.len());
    for (number, line) in lines::split(start).enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        match line.strip_prefix([' ', '\t']).filter(|_| number > 0) {
            Some(rest) => out.push_str(rest),
            None => {
                out.extend((number > 0).then_some('\n'));
                out.push_str(line);
            }
        }
    }
    out
}

impl Method {
    fn of(value: &str) -> Option<Self> {
        [
            Self::Add,
            Self::Cancel,
            Self::Counter,
            Self::DeclineCounter,
            Self::Publish,
            Self::Refresh,
            Self::Reply,
            Self::Request,
        ]
        .into_iter()
        .find(|method| method.as_str().eq_ignore_ascii_case(value.trim()))
    }
}

/// `NAME;PARAM=x:value`.
struct Line<'a> {
    name: String,
    params: &'a str,
    value: &'a str,
}

impl<'a> Line<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut quoted = false;
        let colon = line.bytes().position(|b| {
            quoted ^= b == b'"';
            b == b':' && !quoted
        })?;
        let (head, value) = (line.get(..colon)?, line.get(colon + 1..)?);
        let (name, params) = head.split_once(';').unwrap_or((head, ""));
        Some(Self { name: name.trim().to_ascii_uppercase(), params, value })
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.name == name && self.value.trim().eq_ignore_ascii_case(value)
    }

    fn param(&self, name: &str) -> Option<&'a str> {
        let mut all = self.params.split(';').filter_map(|param| param.split_once('='));
        all.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim_matches('"'))
    }
}

/// A VTIMEZONE: its offsets and when in the year each begins.
struct Zone<'a> {
    id: &'a str,
    rules: Vec<Rule>,
}

#[derive(Default)]
struct Rule {
    offset_seconds: i32,
    /// Month, which weekday of it, which one (negative: from the end).
    yearly: Option<(i8, Weekday, i8)>,
}

impl<'a> Zone<'a> {
    fn all(lines: &[Line<'a>]) -> Vec<Self> {
        let mut zones: Vec<Self> = Vec::new();
        // An event has rules of its own, and may stand before the zones.
        let mut is_inside = false;
        for line in lines {
            match line.name.as_str() {
                "BEGIN" if line.is("BEGIN", "VTIMEZONE") => is_inside = true,
                "END" if line.is("END", "VTIMEZONE") => is_inside = false,
                _ if !is_inside => {}
                "TZID" => zones.push(Self { id: line.value.trim(), rules: Vec::new() }),
                "BEGIN" if line.is("BEGIN", "STANDARD") || line.is("BEGIN", "DAYLIGHT") => {
                    if let Some(zone) = zones.last_mut() {
                        zone.rules.push(Rule::default());
                    }
                }
                "TZOFFSETTO" => {
                    if let Some(rule) = zones.last_mut().and_then(|zone| zone.rules.last_mut()) {
                        rule.offset_seconds = offset(line.value).unwrap_or(0);
                    }
                }
                "RRULE" => {
                    if let Some(rule) = zones.last_mut().and_then(|zone| zone.rules.last_mut()) {
                        rule.yearly = yearly(line.value);
                    }
                }
                _ => {}
            }
        }
        zones
    }

    /// The rule that began last before this local time.
    fn offset_at(&self, local: DateTime) -> i32 {
        let begun = |rule: &Rule| -> Option<Date> {
            let (month, weekday, nth) = rule.yearly?;
            let first = Date::new(local.year(), month, 1).ok()?;
            first.nth_weekday_of_month(nth, weekday).ok()
        };
        let latest =
            self.rules.iter().filter_map(|rule| begun(rule).map(|date| (date, rule))).collect::<Vec<_>>();
        let past = latest.iter().filter(|(date, _)| *date <= local.date()).max_by_key(|(date, _)| *date);
        // Early in the year the rule of the last autumn still holds.
        let current = past.or_else(|| latest.iter().max_by_key(|(date, _)| *date)).map(|(_, rule)| *rule);
        current.or_else(|| self.rules.first()).map_or(0, |rule| rule.offset_seconds)
    }
}

/// `FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU`.
fn yearly(rule: &str) -> Option<(i8, Weekday, i8)> {
    let value = |name: &str| {
        rule.split(';').find_map(|part| part.split_once('=').filter(|(n, _)| *n == name)).map(|(_, v)| v)
    };
    let month = value("BYMONTH")?.parse().ok()?;
    let day = value("BYDAY")?;
    let name = day.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
    let nth = day.strip_suffix(name)?.parse().ok().filter(|n: &i8| *n != 0)?;
    let weekday = match name {
        "MO" => Weekday::Monday,
        "TU" => Weekday::Tuesday,
        "WE" => Weekday::Wednesday,
        "TH" => Weekday::Thursday,
        "FR" => Weekday::Friday,
        "SA" => Weekday::Saturday,
        "SU" => Weekday::Sunday,
        _ => return None,
    };
    Some((month, weekday, nth))
}

/// `+0100`.
fn offset(value: &str) -> Option<i32> {
    let value = value.trim();
    let sign = if value.starts_with('-') { -1 } else { 1 };
    let digits = value.trim_start_matches(['+', '-']);
    let hours: i32 = digits.get(..2)?.parse().ok()?;
    let minutes: i32 = digits.get(2..4)?.parse().ok()?;
    (hours <= 18 && minutes < 60).then_some(sign * (hours * 3_600 + minutes * 60))
}

/// `20261122T024405Z`, `TZID=…:20261122T024405`, `VALUE=DATE:20261122`.
fn timestamp(line: &Line<'_>, zones: &[Zone<'_>]) -> Option<Timestamp> {
    let value = line.value.trim();
    let (date, time) = value.split_once('T').unwrap_or((value, "000000"));
    let number = |text: &str, at: usize, len: usize| {
        text.get(at..at + len).and_then(|digits| digits.parse::<i8>().ok())
    };
    let year = date.get(..4)?.parse().ok()?;
    let second = number(time, 4, 2).unwrap_or(0).min(59);
    let local = DateTime::new(
        year,
        number(date, 4, 2)?,
        number(date, 6, 2)?,
        number(time, 0, 2)?,
        number(time, 2, 2)?,
        second,
        0,
    )
    .ok()?;
    let zone = line.param("TZID").filter(|_| !value.ends_with('Z'));
    let offset =
        zone.and_then(|id| zones.iter().find(|zone| zone.id == id)).map_or(0, |zone| zone.offset_at(local));
    let instant = Offset::from_seconds(offset).ok()?.to_timestamp(local).ok()?;
    Some(Timestamp::from_millis(instant.as_millisecond()))
}

fn address(value: &str) -> Option<String> {
    let value = value.trim();
    let bare = value
        .get(..7)
        .filter(|scheme| scheme.eq_ignore_ascii_case("mailto:"))
        .map_or(value, |scheme| value.strip_prefix(scheme).unwrap_or(value));
    crate::address::EmailAddress::parse(bare).map(|address| address.as_str().to_owned())
}

fn join_url(event: &[Line<'_>]) -> Option<String> {
    let places = [
        "X-GOOGLE-CONFERENCE",
        "X-MICROSOFT-SKYPETEAMSMEETINGURL",
        "URL",
        "LOCATION",
        "DESCRIPTION",
        "X-ALT-DESC",
    ];
    places.iter().find_map(|place| {
        let line = event.iter().find(|line| line.name == *place)?;
        meeting_link(&unescape(line.value))
    })
}

/// The first link to a meeting service.
pub(super) fn meeting_link(text: &str) -> Option<String> {
    let links = text.split("https://").skip(1);
    links
        .map(|rest| {
            rest.split(|c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | ')' | ','))
                .next()
                .unwrap_or_default()
        })
        .find(|link| {
            let host = link.split(['/', '?', '#']).next().unwrap_or_default().to_ascii_lowercase();
            SERVICES.iter().any(|service| {
                host == *service || host.strip_suffix(service).is_some_and(|sub| sub.ends_with('.'))
            })
        })
        .map(|link| format!("https://{link}"))
}

/// RFC 5545 section 3.3.11.
fn unescape(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n' | 'N') => out.push('\n'),
                Some(other) => out.push(other),
                None => {}
            },
            '\0' => {}
            c => out.push(c),
        }
    }
    out
}

/// Zones with all their history have some hundreds.
const MAX_LINES: usize = 20_000;
/// Some calendars hold pictures.
const MAX_OCTETS: usize = 8 * 1024 * 1024;
const SERVICES: [&str; 6] =
    ["zoom.us", "meet.google.com", "teams.microsoft.com", "teams.live.com", "zoomgov.com", "webex.com"];

#[cfg(test)]
mod tests {
    use super::*;

    const CALENDAR: &str = "BEGIN:VCALENDAR\r\nMETHOD:REQUEST\r\nBEGIN:VTIMEZONE\r\nTZID:Europe/Berlin\r\n\
        BEGIN:DAYLIGHT\r\nTZOFFSETFROM:+0100\r\nTZOFFSETTO:+0200\r\nDTSTART:19700329T020000\r\nRRULE:FREQ=YEARLY;BYMONTH=3;BYDAY=-1SU\r\nEND:DAYLIGHT\r\n\
        BEGIN:STANDARD\r\nTZOFFSETFROM:+0200\r\nTZOFFSETTO:+0100\r\nDTSTART:19701025T030000\r\nRRULE:FREQ=YEARLY;BYMONTH=10;BYDAY=-1SU\r\nEND:STANDARD\r\n\
        END:VTIMEZONE\r\nBEGIN:VEVENT\r\nSUMMARY:Check-up\\, yearly\r\nORGANIZER;CN=\"Praxis: Lee\":MAILTO:jo@acme.test\r\n\
        DTSTART;TZID=Europe/Berlin:20260715T093000\r\nDTEND;TZID=Europe/Berlin:20261215T100000\r\n\
        DESCRIPTION:Join: https://us02web.zoo\r\n m.us/j/123?pwd=x\\nBye\r\nEND:VEVENT\r\nEND:VCALENDAR\r\n";

    #[test]
    fn r55_title_times_organiser_and_link_are_read() {
        let meeting = read(CALENDAR).expect("an event");
        assert_eq!((meeting.method, meeting.title.as_str()), (Method::Request, "Check-up, yearly"));
        assert_eq!(meeting.start.map(Timestamp::to_rfc3339).as_deref(), Some("2026-07-15T07:30:00.000Z"));
        assert_eq!(meeting.end.map(Timestamp::to_rfc3339).as_deref(), Some("2026-12-15T09:00:00.000Z"));
        assert_eq!(meeting.organiser.as_deref(), Some("jo@acme.test"));
        assert_eq!(meeting.join_url.as_deref(), Some("https://us02web.zoom.us/j/123?pwd=x"));
    }

    #[test]
    fn r55_an_answer_and_a_cancellation_say_so() {
        let method =
            |text: &str| read(&format!("BEGIN:VCALENDAR\n{text}BEGIN:VEVENT\nSUMMARY:x\n")).map(|m| m.method);
        assert_eq!(method("METHOD:reply\n"), Some(Method::Reply));
        assert_eq!(method("METHOD:CANCEL\r\n"), Some(Method::Cancel));
        assert_eq!(method("METHOD:odd\n"), Some(Method::Publish));
        assert_eq!(method(""), Some(Method::Publish));
    }

    #[test]
    fn what_is_no_event_is_no_meeting_and_big_ones_are_read() {
        assert_eq!(read("BEGIN:VCALENDAR\nEND:VCALENDAR"), None);
        let big = format!("BEGIN:VEVENT\nSUMMARY:x\nDESCRIPTION:{}\n", "y".repeat(5 << 20));
        assert_eq!(read(&big).map(|meeting| meeting.title), Some("x".to_owned()));
        assert_eq!(
            meeting_link("https://evilzoom.us/j https://meet.google.com/abc)"),
            Some("https://meet.google.com/abc".to_owned())
        );
    }

    #[test]
    fn m10_an_event_is_looked_for_up_to_the_limits_and_not_beyond() {
        let event = "BEGIN:VEVENT\r\nSUMMARY:x\r\n";
        let behind = |lines: usize| read(&format!("{}{event}", "X:y\r\n".repeat(lines))).map(|m| m.title);
        assert_eq!(behind(MAX_LINES - 2).as_deref(), Some("x"));
        assert_eq!(behind(MAX_LINES - 1).as_deref(), Some(""));
        assert_eq!(behind(MAX_LINES), None);
        let within = |octets: usize| {
            let line = format!("X:{}\n", "y".repeat(octets - "X:\n".len() - event.trim_end().len()));
            read(&format!("{line}{event}")).map(|m| m.title)
        };
        assert_eq!(within(MAX_OCTETS).as_deref(), Some("x"));
        assert_eq!(within(MAX_OCTETS + 1).as_deref(), Some(""));
    }

    #[test]
    fn r55_a_zone_may_stand_below_its_event() {
        let (head, rest) = CALENDAR.split_once("BEGIN:VTIMEZONE").unwrap();
        let (zone, rest) = rest.split_once("BEGIN:VEVENT").unwrap();
        let (event, end) = rest.split_once("END:VCALENDAR").unwrap();
        let turned = format!("{head}BEGIN:VEVENT{event}BEGIN:VTIMEZONE{zone}END:VCALENDAR{end}");
        assert_eq!(read(&turned), read(CALENDAR));
        assert!(unfold(&"A:\r\n".repeat(MAX_OCTETS)).len() <= MAX_OCTETS);
    }
}
