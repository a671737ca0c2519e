//! The demo's mails: their index, and how a file becomes a mail of today.
//!
//! Promises that a filled mail holds no placeholder, and that the same file filled for the same moment gives the
//! same octets (the duplicate of the demo rests on that). The files are compiled in.

use std::collections::BTreeMap;
use std::net::IpAddr;

use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp, Zoned};
use serde::Deserialize;

use super::sign::Algorithm;

/// One mail of the index.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fixture {
    /// Its place in the order of sending, from 1.
    pub number: u32,
    /// The file's name under `fixtures/demo`.
    pub file: String,
    /// What it shows, in one sentence.
    pub story: String,
    /// From → to, as people.
    pub shown: String,
    /// The reverse-path.
    pub mail_from: String,
    /// The recipient; may be a placeholder.
    pub rcpt: String,
    /// The loopback address that it is sent from.
    pub client: IpAddr,
    /// The EHLO name.
    pub helo: String,
    /// Who signs it; none for an unsigned mail.
    pub dkim: Option<Dkim>,
    /// What must become of it.
    pub expect: Expected,
}

/// A DKIM signature to make.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dkim {
    /// `d=`.
    pub domain: String,
    /// `s=`.
    pub selector: String,
    /// `a=`, and with it the key.
    pub algorithm: Algorithm,
}

/// What must become of a mail.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// Code and enhanced code of the reply that decides.
    pub answer: String,
    /// `outcome` of the delivery.
    pub outcome: String,
    /// `reason` of the delivery.
    pub reason: String,
    /// The contact on whose record it is afterwards; none for nobody's.
    pub record: Option<String>,
}

/// What stands for the placeholders.
#[derive(Clone, Debug)]
pub struct Filling {
    /// `sync:lena` → the address.
    pub addresses: BTreeMap<String, String>,
    /// The moment that dates count back from.
    pub now: Timestamp,
}

/// Why a fixture cannot be used. Only a mistake in `fixtures/demo` leads here.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// `index.toml` is broken.
    #[error("index of the demo mails: {0}")]
    Index(#[from] toml::de::Error),
    /// The index names a file that is not compiled in.
    #[error("no demo mail `{0}`")]
    NoFile(String),
    /// A placeholder that nothing stands for.
    #[error("placeholder {{{0}}} cannot be filled")]
    Placeholder(String),
}

/// The index, in the order of sending.
///
/// # Errors
/// If the compiled-in index is broken.
pub fn index() -> Result<Vec<Fixture>, FixtureError> {
    #[derive(Deserialize)]
    struct Index {
        mail: Vec<Fixture>,
    }
    Ok(toml::from_str::<Index>(INDEX)?.mail)
}

/// The file of that name, as it stands in the repository.
///
/// # Errors
/// If no such file is compiled in.
pub fn template(file: &str) -> Result<&'static str, FixtureError> {
    let found = FILES.iter().find(|(name, _)| *name == file);
    found.map(|(_, text)| *text).ok_or_else(|| FixtureError::NoFile(file.to_owned()))
}

impl Filling {
    /// The text with every placeholder replaced. Other braces stay.
    ///
    /// # Errors
    /// If a placeholder has no meaning, or an address is unknown.
    pub fn fill(&self, text: &str) -> Result<String, FixtureError> {
        let mut filled = String::with_capacity(text.len() + 256);
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('{') {
            filled.push_str(before);
            match after.split_once('}') {
                Some((name, behind)) if is_placeholder(name) => {
                    let value = self.value(name);
                    filled.push_str(&value.ok_or_else(|| FixtureError::Placeholder(name.to_owned()))?);
                    rest = behind;
                }
                _ => {
                    filled.push('{');
                    rest = after;
                }
            }
        }
        filled.push_str(rest);
        Ok(filled)
    }

    fn value(&self, name: &str) -> Option<String> {
        if name.contains(':') {
            return self.addresses.get(name).cloned();
        }
        let (style, ago) = name.split_once('-')?;
        let moment = self.now.checked_sub(duration(ago)?).ok()?;
        let local = moment.to_zoned(TimeZone::fixed(Offset::constant(1)));
        Some(match style {
            "date" => local.strftime("%a, %d %b %Y %H:%M:%S %z").to_string(),
            "sent" => local.strftime("%A, %B %-d, %Y %-I:%M %p").to_string(),
            "am" => german(&local, "{day}, {n}. {month} {year} um {time}", &DAYS_SHORT, &MONTHS_SHORT),
            "gesendet" => german(&local, "{day}, {n}. {month} {year} {time}", &DAYS, &MONTHS),
            "el" => german(&local, "{day}, {n} {month} {year} a las {time}", &DIAS, &MESES),
            _ => return None,
        })
    }
}

fn is_placeholder(name: &str) -> bool {
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric());
    name.split_once([':', '-']).is_some_and(|(kind, rest)| is_word(kind) && is_word(rest))
}

/// `40m`, `3h`, `2d`.
fn duration(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let number: i64 = number.parse().ok().filter(|number| (0..10_000).contains(number))?;
    match unit {
        "m" => Some(SignedDuration::from_mins(number)),
        "h" => Some(SignedDuration::from_hours(number)),
        "d" => Some(SignedDuration::from_hours(24 * number)),
        _ => None,
    }
}

/// A date in the words that mail programs of other languages use in attributions.
fn german(local: &Zoned, form: &str, days: &[&str; 7], months: &[&str; 12]) -> String {
    let word = |words: &[&str], at: i8| {
        usize::try_from(at).ok().and_then(|at| words.get(at).copied()).unwrap_or_default().to_owned()
    };
    form.replace("{day}", &word(days, local.weekday().to_monday_zero_offset()))
        .replace("{n}", &local.day().to_string())
        .replace("{month}", &word(months, local.month() - 1))
        .replace("{year}", &local.year().to_string())
        .replace("{time}", &local.strftime("%H:%M").to_string())
}

const DAYS: [&str; 7] = ["Montag", "Dienstag", "Mittwoch", "Donnerstag", "Freitag", "Samstag", "Sonntag"];
const DAYS_SHORT: [&str; 7] = ["Mo.", "Di.", "Mi.", "Do.", "Fr.", "Sa.", "So."];
const DIAS: [&str; 7] = ["lun", "mar", "mié", "jue", "vie", "sáb", "dom"];
const MONTHS: [&str; 12] = [
    "Januar",
    "Februar",
    "März",
    "April",
    "Mai",
    "Juni",
    "Juli",
    "August",
    "September",
    "Oktober",
    "November",
    "Dezember",
];
const MONTHS_SHORT: [&str; 12] =
    ["Jan.", "Feb.", "März", "Apr.", "Mai", "Juni", "Juli", "Aug.", "Sept.", "Okt.", "Nov.", "Dez."];
const MESES: [&str; 12] =
    ["ene", "feb", "mar", "abr", "may", "jun", "jul", "ago", "sept", "oct", "nov", "dic"];

const INDEX: &str = include_str!("../../../fixtures/demo/index.toml");

macro_rules! files {
    ($($name:literal,)+) => {
        &[$(($name, include_str!(concat!("../../../fixtures/demo/", $name))),)+]
    };
}

const FILES: &[(&str, &str)] = files![
    "01-bcc-from-gmail.eml",
    "02-cc-copy-german.eml",
    "03-reply-all-from-patient.eml",
    "04-answer-quoted-gmail.eml",
    "05-answer-quoted-outlook.eml",
    "06-pdf-attached.eml",
    "07-inline-image-spanish.eml",
    "08-spanish-auto-forwarded.eml",
    "09-forwarded-to-contact.eml",
    "10-unknown-becomes-contact.eml",
    "11-alternate-address.eml",
    "12-marked-auto-forwarded.eml",
    "13-unmarked-auto-forwarded.eml",
    "14-internal-only.eml",
    "15-contact-only-in-cc.eml",
    "17-forged-staff.eml",
    "18-forged-patient.eml",
    "19-phishing-of-a-bank.eml",
    "20-unknown-address.eml",
    "21-foreign-domain.eml",
    "22-sent-auto-forwarded.eml",
    "23-forwarded-by-hand-to-us.eml",
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn filling() -> Filling {
        let addresses = [("sync:lena", "lena-x@sync.test")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Filling { addresses: addresses.into(), now: "2026-03-04T11:05:06Z".parse().unwrap() }
    }

    #[track_caller]
    fn check(text: &str, expected: &str) {
        assert_eq!(filling().fill(text).unwrap(), expected);
    }

    #[test]
    fn placeholders_become_addresses_and_dates_and_other_braces_stay() {
        check("Cc: <{sync:lena}>", "Cc: <lena-x@sync.test>");
        check("{date-1d}", "Tue, 03 Mar 2026 12:05:06 +0100");
        check("{sent-2h}", "Wednesday, March 4, 2026 10:05 AM");
        check("Am {am-1d} Uhr", "Am Di., 3. März 2026 um 12:05 Uhr");
        check("{gesendet-5m}", "Mittwoch, 4. März 2026 12:00");
        check("{el-7d}", "mié, 25 feb 2026 a las 12:05");
        check("p {margin:0cm; color: x} {} {", "p {margin:0cm; color: x} {} {");
        for broken in ["{auto:lena}", "{date-9x}", "{when-1d}"] {
            assert!(filling().fill(broken).is_err(), "{broken}");
        }
    }

    #[test]
    fn the_index_the_folder_and_the_program_hold_the_same_files() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/demo");
        let in_folder: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name.ends_with(".eml"))
            .collect();
        let compiled: BTreeSet<String> = FILES.iter().map(|(name, _)| (*name).to_owned()).collect();
        let index = index().unwrap();
        let indexed: BTreeSet<String> = index.iter().map(|mail| mail.file.clone()).collect();
        assert_eq!(in_folder, compiled);
        assert_eq!(in_folder, indexed);
        let numbers: Vec<u32> = index.iter().map(|mail| mail.number).collect();
        assert_eq!(numbers, (1..=u32::try_from(index.len()).unwrap()).collect::<Vec<_>>());
    }

    #[test]
    fn the_mails_have_crlf_lines_and_message_ids_of_their_own() {
        let mut ids = BTreeSet::new();
        for (name, text) in FILES {
            assert_eq!(text.matches('\n').count(), text.matches("\r\n").count(), "{name}");
            let id = text
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("message-id: ").map(str::to_owned))
                .unwrap();
            assert!(ids.insert(id.clone()), "{name} repeats {id}");
            assert!(text.lines().all(|line| line.len() <= 998), "{name}");
        }
    }

    #[test]
    fn the_readme_has_a_line_for_each_mail() {
        let readme = include_str!("../../../fixtures/demo/README.md");
        for mail in index().unwrap() {
            assert!(readme.contains(&format!("| `{}`", mail.file)), "{}", mail.file);
            assert!(readme.contains(&mail.story), "{}", mail.story);
        }
    }
}
