//! Attribution lines: `On Mon, Jan 5, 2026 at 9:00 AM Ana Lee <ana@x.test> wrote:` in every language and order,
//! on one line or folded over several.
//!
//! Found from their end (a colon or a verb), so that each line is looked at a bounded number of times.

use super::quoted_header::unquoted;
use super::{addresses, labels};
use crate::address::{EmailAddress, NamedAddress};

/// Looks for attributions in one text, a bounded number of times.
pub(super) struct Finder {
    /// Lines that may still be looked at closely.
    left: usize,
}

impl Finder {
    pub(super) const fn new() -> Self {
        Self { left: MAX_LOOKS }
    }

    /// How many lines, ending with the line `end`, are an attribution; 0 if it is none.
    pub(super) fn lines_ending_at(&mut self, lines: &[&str], end: usize) -> usize {
        let Some(line) = lines.get(end).filter(|line| looks_like_end(line.trim_end())) else { return 0 };
        let last = unquoted(line);
        if last.len() > MAX_OCTETS || !looks_like_end(last) || self.left == 0 {
            return 0;
        }
        self.left -= 1;
        lines_ending_at(lines, end, last)
    }

    /// The octet at which an attribution begins that shares its line with text before it.
    pub(super) fn start_within(&mut self, line: &str) -> Option<usize> {
        if line.len() < MIN_OCTETS || line.len() > MAX_OCTETS || !looks_like_end(line) || self.left == 0 {
            return None;
        }
        self.left -= 1;
        start_within(line)
    }
}

fn lines_ending_at(lines: &[&str], end: usize, last: &str) -> usize {
    let mut joined = String::new();
    for count in 1..=MAX_LINES.min(end + 1) {
        let line = unquoted(lines[end + 1 - count]);
        if line.is_empty() && !is_cut(&joined) {
            break;
        }
        if joined.len() + line.len() > MAX_OCTETS {
            break;
        }
        joined = format!("{} {joined}", line.to_lowercase()).trim().to_owned();
        if is_whole(&joined) {
            return count + lines_above(lines, end + 1 - count, &joined);
        }
    }
    let lower = last.to_lowercase();
    let has_name_and_verb = labels::has_verb(&lower) && (has_address(&lower) || is_quote_next(lines, end));
    usize::from(has_name_and_verb && !is_cut(&lower) && last.split_whitespace().count() <= MAX_NAME_WORDS)
}

fn start_within(line: &str) -> Option<usize> {
    let starts = line.char_indices().filter(|(at, c)| {
        let before = line.get(..*at).and_then(|before| before.chars().next_back());
        c.is_uppercase() && before.is_some_and(char::is_whitespace)
    });
    let candidates: Vec<usize> = starts.map(|(at, _)| at).collect();
    candidates.into_iter().rev().take(MAX_CANDIDATES).find(|at| {
        let lower = line.get(*at..).unwrap_or_default().to_lowercase();
        labels::has_strong_opener(&lower) && labels::has_verb(&lower) && is_whole(&lower)
    })
}

/// The person whom an attribution names.
pub(super) fn author(joined: &str) -> Option<NamedAddress> {
    let flat = joined.replace("[mailto:", "<").replace("<mailto:", "<").replace("(<", "<").replace(">)", ">");
    let at = flat.find('@')?;
    let is_part = |c: char| {
        !c.is_whitespace() && !matches!(c, '<' | '>' | '(' | ')' | '[' | ']' | ',' | ';' | ':' | '"')
    };
    let before = flat.get(..at)?;
    let start = before.trim_end_matches(is_part).len();
    let behind = flat.get(at..)?;
    let end = at + behind.len() - behind.trim_start_matches(is_part).len();
    let address = EmailAddress::parse(flat.get(start..end)?.trim_end_matches('.'))?;
    let words =
        flat.get(..start)?.trim_end_matches(|c: char| c.is_whitespace() || matches!(c, '<' | '(' | '['));
    Some(NamedAddress { name: name_before(words), address })
}

/// The name stands last before the address: in quotes, or behind the date and what follows it.
fn name_before(words: &str) -> Option<String> {
    let words = words.trim();
    if let Some(inner) = words.strip_suffix(['"', '”', '“', '»', '\'']) {
        let start = inner.rfind(['"', '“', '„', '«', '”', '\'']);
        return start
            .and_then(|at| inner.get(at..))
            .and_then(|name| addresses::display_name(name.trim_matches(['"', '“', '„', '«', '”', '\''])));
    }
    let behind_comma = words.rsplit([',', ':', ';']).next().unwrap_or_default();
    let kept: Vec<&str> = behind_comma
        .split_whitespace()
        .rev()
        .take_while(|word| !word.contains(|c: char| c.is_ascii_digit()) && !is_glue(word))
        .collect();
    addresses::display_name(&kept.into_iter().rev().collect::<Vec<_>>().join(" "))
}

/// Words of the sentence around the name.
fn is_glue(word: &str) -> bool {
    let lower = word.to_lowercase();
    labels::has_verb(&lower) || GLUE.contains(&lower.as_str())
}

/// Lines above that begin the same attribution: they end in the middle, or open it with a date.
fn lines_above(lines: &[&str], first: usize, joined: &str) -> usize {
    if labels::has_strong_opener(joined) && !joined.starts_with("at ") {
        return 0;
    }
    (1..=2)
        .take_while(|count| first >= *count && !unquoted(lines[first - count]).is_empty())
        .find(|count| {
            let lower = unquoted(lines[first - count]).to_lowercase();
            labels::has_strong_opener(&lower)
                && digit_groups(&lower) > 0
                && lower.len() <= MAX_OPENING
                && !lower.ends_with('.')
        })
        .unwrap_or(0)
}

fn is_quote_next(lines: &[&str], end: usize) -> bool {
    let next = lines.iter().skip(end + 1).take(2).find(|line| !line.trim().is_empty());
    next.is_some_and(|line| line.trim_start().starts_with('>'))
}

/// Whether what has been joined so far begins inside an address.
fn is_cut(joined: &str) -> bool {
    let close = joined.find(['>', ']']);
    let open = joined.find(['<', '[']);
    close.is_some_and(|close| open.is_none_or(|open| close < open))
        || joined.starts_with("mailto:")
        || joined.starts_with('<')
}

/// Ends with a colon, or with the verb itself.
fn looks_like_end(line: &str) -> bool {
    match line.as_bytes().last() {
        None | Some(b'.' | b',' | b'!' | b'?' | b')' | b'0'..=b'9') => false,
        // Nothing around it to take off: no colon either.
        Some(last) if last.is_ascii_alphabetic() => BARE_VERBS.iter().any(|verb| line.ends_with(verb)),
        Some(_) => {
            let line = bare(line);
            line.ends_with([':', '：', '﹕']) || BARE_VERBS.iter().any(|verb| line.ends_with(verb))
        }
    }
}

/// Without the dashes, asterisks and marks that some clients set around the line.
fn bare(line: &str) -> &str {
    line.trim_matches(|c: char| {
        c.is_whitespace() || matches!(c, '*' | '_' | '-' | '–' | '\u{feff}' | '\u{200e}')
    })
}

/// A date, somebody, and (unless an address says enough) a verb.
fn is_whole(joined: &str) -> bool {
    let lower = bare(joined);
    if is_cut(lower) || digit_groups(lower) < 2 || lower.starts_with("http") {
        return false;
    }
    let ends_with_colon = lower.ends_with([':', '：', '﹕']);
    let is_between_dashes = joined.starts_with("--") && joined.ends_with("--");
    if labels::has_verb(lower) {
        // `Ana kirjoitti 5.1.2026 klo 9.00:`: the name first, no address, but date and time.
        let names_time =
            ends_with_colon && digit_groups(lower) >= 4 && lower.split_whitespace().count() <= MAX_NAME_WORDS;
        return has_address(lower) || labels::has_opener(lower) || is_between_dashes || names_time;
    }
    has_address(lower) && ends_with_colon && has_year(lower)
}

/// An address, or where one was.
fn has_address(lower: &str) -> bool {
    lower.contains('@') || lower.contains("<mailto") || lower.contains("[mailto")
}

fn has_year(lower: &str) -> bool {
    let mut runs = lower.split(|c: char| !c.is_ascii_digit());
    runs.any(|digits| digits.len() == 4 && (digits.starts_with("20") || digits.starts_with("19")))
}

/// Runs of digits.
fn digit_groups(text: &str) -> usize {
    text.split(|c: char| !c.is_ascii_digit()).filter(|run| !run.is_empty()).count()
}

/// Verbs that may end a line without a colon.
const BARE_VERBS: [&str; 8] =
    ["wrote", "schrieb", "a écrit", "escribió", "escreveu", "ha scritto", "schreef", "napisał"];
/// Words between date and name in attributions: de, pl, cs, ru, uk, fr, en and others.
const GLUE: &[&str] = &[
    "heeft",
    "hat",
    "ha",
    "user",
    "um",
    "uhr",
    "użytkownik",
    "uživatel",
    "odesílatel",
    "používateľ",
    "пользователь",
    "користувач",
    "le",
    "at",
    "am",
    "pm",
    "o",
    "às",
    "alle",
    "ore",
    "klo",
    "kl",
    "à",
    "las",
    "on",
    "г.",
    "via",
    "a",
];
/// Where an attribution may begin within a line: capital letters looked at, from the last.
const MAX_CANDIDATES: usize = 40;
/// A name and a verb have no more words.
const MAX_NAME_WORDS: usize = 12;
/// A line that holds only the date of an attribution is no longer.
const MAX_OPENING: usize = 80;
/// No attribution is longer.
const MAX_OCTETS: usize = 600;
/// No attribution is shorter.
const MIN_OCTETS: usize = 16;
/// Lines of one text that are looked at closely: real mail has a few dozen that end like an attribution.
const MAX_LOOKS: usize = 2_000;
/// Folded lines of one attribution.
const MAX_LINES: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: usize) {
        let lines: Vec<&str> = text.lines().collect();
        let end = lines.iter().rposition(|line| !line.starts_with('>')).unwrap_or(0);
        assert_eq!(Finder::new().lines_ending_at(&lines, end), expected, "{text}");
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
        check("---- On Tue, 22 Dec 2015 14:17:36 +0530 Ana Lee wrote ----", 1);
        let folded = ["On 5 Jan 2026 at 9:00 Ana", "", "<", "mailto:Ana <ana@x.test>", "> wrote:"];
        assert_eq!(Finder::new().lines_ending_at(&folded, 4), 5);
        check("On Nov 21, 2014,\nat 10:18,\nAna <ana1@x.test> wrote:", 3);
        check(" On Mar 8, 2012 9:59 AM, \"Ana\" <\nr+7f1b094c@x.test> wrote:", 2);
    }

    #[test]
    fn the_author_and_a_start_within_a_line_are_found() {
        let name =
            |text: &str| author(text).map(|a| (a.name.unwrap_or_default(), a.address.as_str().to_owned()));
        let ana = Some(("Ana Lee".to_owned(), "ana@x.test".to_owned()));
        assert_eq!(name("On 28/10/2021 12:46, \"Ana Lee\" <ana@x.test> wrote:"), ana);
        assert_eq!(name("Am 28.10.2021 um 12:46 schrieb Ana Lee <ana@x.test>:"), ana);
        assert_eq!(name("El 28 oct 2021 a las 12:46, Ana Lee (<ana@x.test>) escribió:"), ana);
        assert_eq!(
            Finder::new().start_within("reply--- On Wed, Apr 4, 2012 at 3:59 PM, a@x.test wrote:"),
            Some(9)
        );
        assert_eq!(Finder::new().start_within("On Wed, Apr 4, 2012 at 3:59 PM, a@x.test wrote:"), None);
    }

    #[test]
    fn sentences_are_no_attributions() {
        check("This is what he wrote:", 0);
        check("I have 2 questions and 3 wishes:", 0);
        check("On 5 January he wrote", 0);
        check("", 0);
    }
}
