//! R27a: whose history a message quotes. A patient is answered, and below the answer stands what colleagues wrote to
//! each other: that is not for everybody who reads the record.
//!
//! Read are the lines that clients put above a quote: header blocks (`From: …`) and attributions (`On … <a@b> wrote:`).
//! A quote that names nobody by address says nothing, and is taken for the ordinary case.

use crate::address::EmailAddress;
use crate::message::Email;

/// The addresses above the quoted parts of a message, in order, each once.
#[must_use]
pub fn quoted_addresses(email: &Email) -> Vec<EmailAddress> {
    let mut found: Vec<EmailAddress> = Vec::new();
    let Some(quoted) = &email.reply.quoted else { return found };
    let lines: Vec<&str> = quoted.lines().take(MAX_LINES).map(bare).collect();
    let is_worth_reading = |line: &str| line.len() <= MAX_LINE_OCTETS && line.contains('@');
    for (at, line) in lines.iter().enumerate().filter(|(_, line)| is_worth_reading(line)) {
        let below = lines.get(at + 1).copied().unwrap_or_default();
        if !is_header(line) && !is_attribution(line, below) {
            continue;
        }
        for address in addresses(line) {
            if found.len() >= MAX_ADDRESSES {
                return found;
            }
            if !found.contains(&address) {
                found.push(address);
            }
        }
    }
    found
}

/// A line without the marks of quoting and emphasis before it.
fn bare(line: &str) -> &str {
    line.trim_start_matches(|c: char| c == '>' || c == '*' || c == '|' || c.is_whitespace()).trim_end()
}

/// `From: …`, `Von: …`, `宛先：…`: a short label before the first address.
fn is_header(line: &str) -> bool {
    let Some((label, rest)) = line.split_once([':', '：']) else { return false };
    let label = label.trim_end_matches(['*', ' ', '\u{a0}']);
    rest.contains('@')
        && !label.is_empty()
        && label.chars().count() <= MAX_LABEL_CHARS
        && label.chars().all(|c| c.is_alphabetic() || c.is_whitespace() || c == '-')
}

/// `On Monday, Lena <lena@praxis.test> wrote:`, the end perhaps on the next line.
fn is_attribution(line: &str, below: &str) -> bool {
    let ends = |line: &str| line.ends_with([':', '：']);
    ends(line) || (ends(below) && below.chars().count() <= MAX_ATTRIBUTION_END_CHARS && !below.contains('@'))
}

fn addresses(line: &str) -> impl Iterator<Item = EmailAddress> {
    line.split(|c: char| c.is_whitespace() || "<>()[]\",;'".contains(c))
        .filter(|word| word.contains('@'))
        .map(|word| word.trim_start_matches("mailto:").trim_matches([':', '.', '*']))
        .filter_map(EmailAddress::parse)
}

/// RFC 5322 section 2.1.1 allows 998: a longer line is none that a client put above a quote.
const MAX_LINE_OCTETS: usize = 1000;
/// Quoted lines that are read.
const MAX_LINES: usize = 5_000;
const MAX_ADDRESSES: usize = 100;
/// The longest label of a header line in the languages that clients speak.
const MAX_LABEL_CHARS: usize = 20;
/// `schrieb:`, `a écrit :`, `wrote:` and the like.
const MAX_ATTRIBUTION_END_CHARS: usize = 40;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message;

    #[track_caller]
    fn check(quoted: &str, expected: &[&str]) {
        let mut email = message::parse(b"From: a@b.test\r\n\r\nx\r\n").unwrap();
        email.reply.quoted = Some(quoted.to_owned());
        let found: Vec<String> =
            quoted_addresses(&email).iter().map(|address| address.as_str().to_owned()).collect();
        assert_eq!(found, expected, "{quoted}");
    }

    #[test]
    fn r27a_addresses_above_quotes_are_read_and_those_in_the_text_are_not() {
        check(
            "On Monday, Tom <tom@praxis.test> wrote:\n> Call ana@patient.test please",
            &["tom@praxis.test"],
        );
        check("Am 1.2. schrieb Tom\n<tom@praxis.test>:\n> Hallo", &["tom@praxis.test"]);
        check("Am 1.2. hat Tom <tom@praxis.test>\nfolgendes geschrieben:", &["tom@praxis.test"]);
        check(
            "> *From:* Tom <tom@praxis.test>\n> Sent: Monday\n> To: lena@praxis.test; ana@patient.test\n> Hello",
            &["tom@praxis.test", "lena@praxis.test", "ana@patient.test"],
        );
        check("Von: Tom [mailto:tom@praxis.test]\nGesendet: heute", &["tom@praxis.test"]);
        check("From: Tom\nTo: Lena\nwrite to ana@patient.test.", &[]);
        check("", &[]);
    }
}
