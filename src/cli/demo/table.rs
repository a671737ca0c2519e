//! What became of each mail, as one aligned table of at most 120 columns.
//!
//! Widths are counted in terminal columns, so that names of any script stay aligned.

use std::fmt::Write;

use super::run::Played;

/// The table, with a line of sums below it. A row that is not as expected is marked and explained.
#[must_use]
pub fn table(played: &[Played]) -> String {
    let rows: Vec<[String; 6]> = played.iter().map(row).collect();
    let mut out = String::new();
    line(&mut out, &HEADINGS.map(str::to_owned));
    let rule: usize = WIDTHS.iter().sum::<usize>() + GAP.len() * (WIDTHS.len() - 1);
    out.push_str(&"─".repeat(rule));
    out.push('\n');
    for row in &rows {
        line(&mut out, row);
    }
    out.push('\n');
    out.push_str(&sums(played));
    out
}

fn row(played: &Played) -> [String; 6] {
    let became = &played.became;
    let stem = played.fixture.file.trim_end_matches(".eml");
    let story = stem.split_once('-').map_or(stem, |(_, story)| story).replace('-', " ");
    let again = if played.became.outcome == "duplicate" { ", again" } else { "" };
    let is_marked = if played.is_as_expected() { "" } else { "!" };
    [
        format!("{is_marked}{:02} {story}{again}", played.fixture.number),
        played.fixture.shown.clone(),
        became.answer.clone(),
        became.outcome.clone(),
        became.reason.clone(),
        became.record.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn line(out: &mut String, cells: &[String; 6]) {
    let mut text = String::new();
    for (at, (cell, width)) in cells.iter().zip(WIDTHS).enumerate() {
        if at > 0 {
            text.push_str(GAP);
        }
        let cell = fitted(cell, width);
        text.push_str(&cell);
        text.push_str(&" ".repeat(width.saturating_sub(columns(&cell))));
    }
    out.push_str(text.trim_end());
    out.push('\n');
}

fn sums(played: &[Played]) -> String {
    let mut counted: Vec<(&str, usize)> = Vec::new();
    for mail in played {
        match counted.iter_mut().find(|(outcome, _)| *outcome == mail.became.outcome) {
            Some((_, count)) => *count += 1,
            None => counted.push((&mail.became.outcome, 1)),
        }
    }
    let parts: Vec<String> = counted.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect();
    let unexpected: Vec<&Played> = played.iter().filter(|mail| !mail.is_as_expected()).collect();
    let verdict = if unexpected.is_empty() { "each as expected" } else { "NOT all as expected" };
    let mut text = format!("{} mails: {}; {verdict}.\n", played.len(), parts.join(", "));
    for mail in unexpected {
        let expected = &mail.fixture.expect;
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "! {:02} expected {}, {} {}, on the record of {}; was answered: {}",
            mail.fixture.number,
            expected.answer,
            expected.outcome,
            expected.reason,
            expected.record.as_deref().unwrap_or("nobody"),
            mail.answer.text
        );
    }
    text
}

/// The text, cut with an ellipsis if it is wider than `width` columns; control characters are left out.
fn fitted(text: &str, width: usize) -> String {
    let clean: String = text.chars().filter(|c| !c.is_control()).collect();
    if columns(&clean) <= width {
        return clean;
    }
    let mut cut = String::new();
    for c in clean.chars() {
        if columns(&cut) + width_of(c) + 1 > width {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}

fn columns(text: &str) -> usize {
    text.chars().map(width_of).sum()
}

/// Terminal columns of a character: the common wide and combining ranges of Unicode's East Asian Width.
const fn width_of(c: char) -> usize {
    match c {
        '\u{300}'..='\u{36f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{20d0}'..='\u{20ff}'
        | '\u{fe00}'..='\u{fe0f}' => 0,
        '\u{1100}'..='\u{115f}'
        | '\u{2e80}'..='\u{303e}'
        | '\u{3041}'..='\u{a4cf}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{f900}'..='\u{faff}'
        | '\u{fe30}'..='\u{fe6f}'
        | '\u{ff00}'..='\u{ff60}'
        | '\u{ffe0}'..='\u{ffe6}'
        | '\u{1f300}'..='\u{1faff}'
        | '\u{20000}'..='\u{3fffd}' => 2,
        _ => 1,
    }
}

const HEADINGS: [&str; 6] = ["mail", "from → to", "answer", "outcome", "reason", "on whose record"];
/// Together with the gaps 120 columns.
const WIDTHS: [usize; 6] = [26, 31, 10, 9, 18, 21];
const GAP: &str = " ";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::demo::fixture::{self, Expected};
    use crate::cli::demo::mailer::SmtpReply;

    fn played(number: usize, became: Expected) -> Played {
        let fixture = fixture::index().unwrap().remove(number - 1);
        let text = format!("{} Message accepted [trace 0190]", became.answer);
        Played {
            fixture,
            answer: SmtpReply { code: 250, text },
            became,
            delivery: Some(serde_json::json!({})),
        }
    }

    #[test]
    fn wide_and_combining_characters_are_counted_in_columns() {
        assert_eq!(columns("María"), 5);
        assert_eq!(columns("Mari\u{301}a"), 5);
        assert_eq!(columns("東京"), 4);
        assert_eq!(fitted("東京都", 5), "東京…");
        assert_eq!(fitted("a\u{1b}[31mb", 10), "a[31mb");
    }

    #[test]
    fn every_line_fits_120_columns_and_cells_stand_below_their_headings() {
        let index = fixture::index().unwrap();
        let all: Vec<Played> = (1..=index.len()).map(|n| played(n, index[n - 1].expect.clone())).collect();
        let text = table(&all);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), index.len() + 4);
        assert!(lines.iter().all(|line| columns(line) <= 120), "{text}");
        let at = |line: &str, word: &str| columns(line.split(word).next().unwrap());
        assert_eq!(at(lines[0], "answer"), at(lines[2], "250"));
        assert!(lines.last().unwrap().ends_with("each as expected."), "{text}");
    }

    #[test]
    fn a_mail_that_fares_otherwise_is_marked_and_said() {
        let other = Expected {
            answer: "451 4.3.0".to_owned(),
            outcome: "deferred".to_owned(),
            reason: "store_unavailable".to_owned(),
            record: None,
        };
        let text = table(&[played(1, other)]);
        assert!(text.contains("!01 bcc from gmail"), "{text}");
        assert!(text.contains("NOT all as expected"), "{text}");
        assert!(
            text.contains("! 01 expected 250 2.0.0, filed filed, on the record of Anna Bergmann"),
            "{text}"
        );
    }
}
