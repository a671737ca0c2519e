//! Attribution lines: `On Mon, Jan 5, 2026 at 9:00 AM Ana Lee <ana@x.test> wrote:` in every language and order,
//! on one line or folded over several.
//!
//! Found from their end (a colon or a verb), so that each line is looked at a bounded number of times.

use super::labels;
use super::quoted_header::unquoted;

/// How many lines, ending with the line `end`, are an attribution; 0 if it is none.
pub(super) fn lines_ending_at(lines: &[&str], end: usize) -> usize {
    let Some(last) = lines.get(end).map(|line| unquoted(line)) else { return 0 };
    if last.len() > MAX_OCTETS || !looks_like_end(last) {
        return 0;
    }
    let mut joined = String::new();
    for count in 1..=MAX_LINES.min(end + 1) {
        let line = unquoted(lines[end + 1 - count]);
        if line.is_empty() || joined.len() + line.len() > MAX_OCTETS {
            break;
        }
        joined =
            if joined.is_empty() { line.to_lowercase() } else { format!("{} {joined}", line.to_lowercase()) };
        if is_whole(&joined) {
            return count;
        }
    }
    let is_quoted_next = lines.get(end + 1).is_some_and(|next| next.trim_start().starts_with('>'))
        || (lines.get(end + 1).is_some_and(|next| next.trim().is_empty())
            && lines.get(end + 2).is_some_and(|next| next.trim_start().starts_with('>')));
    let lower = last.to_lowercase();
    let has_name_and_verb = labels::has_verb(&lower) && (lower.contains('@') || is_quoted_next);
    usize::from(has_name_and_verb && last.split_whitespace().count() <= 12)
}

/// Ends with a colon, or with the verb itself.
fn looks_like_end(line: &str) -> bool {
    let line = line.trim_end_matches(['*', '_', ' ']);
    line.ends_with([':', '：', '﹕'])
        || line.ends_with("wrote")
        || line.ends_with("a écrit")
        || line.ends_with("schrieb")
        || line.ends_with("escribió")
        || line.ends_with("wrote -")
}

/// A date, somebody, and (unless an address says enough) a verb.
fn is_whole(lower: &str) -> bool {
    let has_date = digit_groups(lower) >= 2;
    let has_address = has_address(lower);
    let has_verb = labels::has_verb(lower);
    let ends_with_colon = lower.trim_end_matches(['*', '_', ' ']).ends_with([':', '：', '﹕']);
    has_date
        && ((has_verb && (has_address || labels::has_opener(lower)))
            || (has_address && ends_with_colon && has_time_or_year(lower) && !lower.starts_with("http")))
}

/// An address, or where one was.
fn has_address(lower: &str) -> bool {
    lower.contains('@') || lower.contains("<mailto") || lower.contains("[mailto")
}

fn has_time_or_year(lower: &str) -> bool {
    lower
        .split(|c: char| !c.is_ascii_digit())
        .any(|digits| digits.len() == 4 && (digits.starts_with("20") || digits.starts_with("19")))
}

/// Runs of digits.
fn digit_groups(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()).count()
}

/// No attribution is longer.
const MAX_OCTETS: usize = 600;
/// Folded lines of one attribution.
const MAX_LINES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: usize) {
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.iter().rposition(|line| !line.starts_with('>')).unwrap_or(0);
        assert_eq!(lines_ending_at(&lines, end), expected, "{text}");
    }

    #[test]
    fn attributions_of_many_clients_are_found() {
        check("On Mon, Jan 5, 2026 at 9:00 AM Ana Lee <ana@x.test> wrote:", 1);
        check("On Mon, Jan 5, 2026 at 9:00 AM Ana Lee\n<ana@x.test> wrote:", 2);
        check("Am 05.01.26 um 09:00 schrieb Ana Lee:", 1);
        check("Le lun. 5 janv. 2026 à 09:00, Ana Lee <ana@x.test> a écrit :", 1);
        check("El lun, 5 ene 2026 a las 9:00, Ana Lee (<ana@x.test>) escribió:", 1);
        check("Em seg., 5 de jan. de 2026 às 09:00, Ana <ana@x.test> escreveu:", 1);
        check("Il giorno lun 5 gen 2026 alle ore 09:00 Ana <ana@x.test> ha scritto:", 1);
        check("Op ma 5 jan 2026 om 09:00 schreef Ana <ana@x.test>:", 1);
        check("2026年1月5日(月) 9:00 Ana <ana@x.test>:", 1);
        check("Ana Lee <ana@x.test> wrote:", 1);
        check("Ana Lee wrote:\n> hi", 1);
    }

    #[test]
    fn sentences_are_no_attributions() {
        check("This is what he wrote:", 0);
        check("I have 2 questions and 3 wishes:", 0);
        check("On 5 January he wrote", 0);
        check("", 0);
    }
}
