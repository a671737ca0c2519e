//! What somebody looks for: `words all of which stand there, "a phrase", -not, begin* from:a@b.test to:a@b.test`.
//!
//! Promises that every text is a query or is refused for its length or emptiness: nothing a person writes is an error
//! of syntax. What reads as none of these is words.

use std::ops::Range;

use crate::address::EmailAddress;
use crate::id::AccountId;
use crate::keys::Keys;
use crate::store::search::words::{Kind, Word, Words};
use crate::store::search::{AccountMark, FROM, IndexQuery, IndexTerm, TO, WORD, hex};

/// What is looked for.
#[derive(Clone, Debug)]
pub struct SearchQuery {
    terms: Vec<Term>,
}

/// Why a text is no query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSearch {
    /// Nothing in it can be looked for.
    #[error("must hold a word to look for")]
    Empty,
    /// Longer than [`QUERY_MAX_CHARS`].
    #[error("at most {QUERY_MAX_CHARS} characters")]
    TooLong,
    /// More than [`QUERY_MAX_TERMS`].
    #[error("at most {QUERY_MAX_TERMS} words, phrases and addresses")]
    TooManyTerms,
}

#[derive(Clone, Debug)]
struct Term {
    is_excluded: bool,
    wanted: Wanted,
}

#[derive(Clone, Debug)]
enum Wanted {
    From(EmailAddress),
    Phrase(Phrase),
    To(EmailAddress),
}

/// Words that stand one behind the other; mostly one.
#[derive(Clone, Debug)]
struct Phrase {
    words: Words,
    /// Whether the last one is a beginning.
    is_prefix: bool,
}

/// Where in the new text of a message the words stand, in octets, in order and apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct Found(pub(super) Vec<Range<usize>>);

impl SearchQuery {
    /// Reads what somebody wrote.
    ///
    /// # Errors
    /// If it is too long, or holds nothing to look for.
    pub fn parse(text: &str) -> Result<Self, BadSearch> {
        if text.chars().count() > QUERY_MAX_CHARS {
            return Err(BadSearch::TooLong);
        }
        let mut terms = Vec::new();
        let mut rest = text.trim_start();
        while !rest.is_empty() {
            let (term, behind) = next_term(rest);
            rest = behind.trim_start();
            terms.extend(term);
        }
        if terms.len() > QUERY_MAX_TERMS {
            return Err(BadSearch::TooManyTerms);
        }
        if terms.iter().all(|term| term.is_excluded) {
            return Err(BadSearch::Empty);
        }
        Ok(Self { terms })
    }

    /// Whether who is on a message matters.
    pub(in crate::store) fn names_people(&self) -> bool {
        self.terms.iter().any(|term| !matches!(term.wanted, Wanted::Phrase(_)))
    }

    /// Where the words stand in a message; none if it is not one that is looked for.
    pub(in crate::store) fn find(&self, subject: &str, new_text: &str) -> Option<Found> {
        let (subject, text) = (Words::of_subject(subject), Words::of_text(new_text));
        let mut found = Vec::new();
        for term in &self.terms {
            let Wanted::Phrase(phrase) = &term.wanted else { continue };
            let before = found.len();
            found.extend(phrase.places(&text));
            let is_there = found.len() > before || phrase.places(&subject).next().is_some();
            if is_there == term.is_excluded {
                return None;
            }
        }
        found.sort_by_key(|range| (range.start, range.end));
        let mut apart: Vec<Range<usize>> = Vec::with_capacity(found.len());
        for range in found {
            match apart.last_mut() {
                // Characters side by side are one match, and so are phrases that overlap.
                Some(last) if range.start <= last.end => last.end = last.end.max(range.end),
                Some(_) | None => apart.push(range),
            }
        }
        Some(Found(apart))
    }

    /// Whether these are the people that are looked for: the author, and whoever else it went to.
    pub(in crate::store) fn is_between(&self, from: &str, to: &[&str]) -> bool {
        let is = |written: &str, wanted: &EmailAddress| {
            EmailAddress::parse(written).is_some_and(|address| address.key() == wanted.key())
        };
        self.terms.iter().all(|term| {
            let is_there = match &term.wanted {
                Wanted::From(wanted) => is(from, wanted),
                Wanted::Phrase(_) => return true,
                Wanted::To(wanted) => to.iter().any(|written| is(written, wanted)),
            };
            is_there != term.is_excluded
        })
    }

    /// What the index can say about it.
    pub(in crate::store) fn index(&self, account: AccountId, keys: &Keys) -> IndexQuery {
        let mark = AccountMark::of(account);
        let term = |kind, term: &str| {
            let mut marked = String::new();
            mark.push_term(&mut marked, kind, term);
            marked
        };
        let mut query = IndexQuery::default();
        for Term { is_excluded, wanted } in &self.terms {
            let terms = match wanted {
                Wanted::From(address) => vec![IndexTerm::Exact(term(FROM, &hex(keys, address)))],
                Wanted::Phrase(phrase) => phrase.index(|word| term(WORD, word)),
                Wanted::To(address) => vec![IndexTerm::Exact(term(TO, &hex(keys, address)))],
            };
            if !is_excluded {
                query
                    .all
                    .extend(terms.into_iter().filter(|term| !query.all.contains(term)).collect::<Vec<_>>());
            } else if terms.len() == 1 {
                // Of a phrase the index does not know whether its words stand together.
                query.none.extend(terms);
            }
        }
        query
    }
}

impl Phrase {
    fn places(&self, text: &Words) -> impl Iterator<Item = Range<usize>> {
        let wanted = self.words.list();
        text.list()
            .windows(wanted.len().max(1))
            .filter(|window| self.is_at(text, window))
            .filter_map(|window| Some(window.first()?.source.start..window.last()?.source.end))
    }

    fn is_at(&self, text: &Words, window: &[Word]) -> bool {
        let wanted = self.words.list();
        let last = wanted.len().saturating_sub(1);
        wanted.iter().zip(window).enumerate().all(|(n, (wanted, there))| {
            let (wanted, there) = (self.words.text(wanted), text.text(there));
            wanted == there || n == last && self.is_prefix && there.starts_with(wanted)
        })
    }

    /// Terms that every text has in which it stands; one alone if they say it all.
    fn index(&self, term: impl Fn(&str) -> String) -> Vec<IndexTerm> {
        let words = self.words.list();
        let last = words.len().saturating_sub(1);
        let terms = words.iter().zip(self.words.terms()).enumerate().filter_map(|(n, (word, text))| {
            let text = term(text);
            match word.kind {
                Kind::Run if n == last && self.is_prefix => Some(IndexTerm::Prefix(text)),
                // It ends the pair before.
                Kind::Character if self.ends_a_pair(n) => None,
                // Alone, it begins a pair or stands alone in the text too.
                Kind::Character if !self.begins_a_pair(n) => Some(IndexTerm::Prefix(text)),
                Kind::Character | Kind::Run => Some(IndexTerm::Exact(text)),
            }
        });
        terms.collect()
    }

    fn begins_a_pair(&self, n: usize) -> bool {
        self.words.list().get(n + 1).is_some_and(|next| next.kind == Kind::Character)
    }

    /// Whether the character stands behind another one, and before none.
    fn ends_a_pair(&self, n: usize) -> bool {
        let before = n.checked_sub(1).and_then(|before| self.words.list().get(before));
        before.is_some_and(|word| word.kind == Kind::Character) && !self.begins_a_pair(n)
    }
}

/// The first term of a text that does not begin with white space, if it holds a word, and what is behind it.
fn next_term(text: &str) -> (Option<Term>, &str) {
    let (is_excluded, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (wanted, behind) = match text.strip_prefix(QUOTES) {
        Some(quoted) => {
            let (inside, behind) = quoted.split_once(QUOTES).unwrap_or((quoted, ""));
            (phrase(inside, false), behind)
        }
        None => {
            let (word, behind) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
            (address(word).or_else(|| phrase(word, word.ends_with('*'))), behind)
        }
    };
    (wanted.map(|wanted| Term { is_excluded, wanted }), behind)
}

fn address(word: &str) -> Option<Wanted> {
    let (field, address) = word.split_once(':')?;
    let address = EmailAddress::parse(address.trim_matches(['<', '>']))?;
    match field.to_ascii_lowercase().as_str() {
        "from" => Some(Wanted::From(address)),
        "to" => Some(Wanted::To(address)),
        _ => None,
    }
}

fn phrase(text: &str, has_star: bool) -> Option<Wanted> {
    let words = Words::of_text(text);
    let last = words.list().last()?;
    // One letter begins so many words that it says nothing.
    let is_prefix =
        has_star && last.kind == Kind::Run && words.text(last).chars().count() >= PREFIX_MIN_CHARS;
    Some(Wanted::Phrase(Phrase { words, is_prefix }))
}

/// Straight ones, and those that telephones write.
const QUOTES: [char; 4] = ['"', '\u{201c}', '\u{201d}', '\u{201e}'];
/// Of a query.
pub const QUERY_MAX_CHARS: usize = 256;
/// Words, phrases and addresses of a query.
pub const QUERY_MAX_TERMS: usize = 16;
const PREFIX_MIN_CHARS: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(query: &str, finds: &[&str], leaves: &[&str]) {
        let query = SearchQuery::parse(query).unwrap();
        for text in finds {
            assert!(query.find("", text).is_some(), "{query:?} finds {text}");
            assert!(query.find(text, "").is_some(), "{query:?} finds {text} in a subject");
        }
        for text in leaves {
            assert!(query.find("", text).is_none(), "{query:?} leaves {text}");
        }
    }

    #[test]
    fn all_words_must_stand_there_in_any_order_and_spelling() {
        check("knee Pain", &["pain in the KNEE", "knee-pain"], &["knee", "painful knee"]);
        check("fruhstuck", &["Frühstück?"], &["Frühstücke"]);
        check("FRÜHSTÜCK", &["fruhstuck"], &[]);
        check("\"knee pain\"", &["my knee pain!", "knee, pain"], &["pain knee", "knee and pain"]);
        check("\u{201e}knee pain\u{201c} left", &["left knee pain"], &["left pain knee"]);
        check("don't", &["I don't"], &["t don"]);
        check("knee -pain", &["knee"], &["knee pain"]);
        check("knee -\"left pain\"", &["knee pain left"], &["knee, left pain"]);
        check("physio*", &["physiotherapy", "physio"], &["phys"]);
        check("a*", &["a"], &["ab"]);
        check("日本", &["在日本語", "日本"], &["日曜 本", "本日"]);
        check("語", &["日本語", "語学"], &["日本"]);
        check("หัว", &["ปวดหัว"], &["ปวด"]);
        check("from: x", &["from x"], &["x"]);
        check("from:nobody", &["from nobody"], &["nobody"]);
    }

    #[test]
    fn addresses_are_compared_whole() {
        let query = SearchQuery::parse("from:<Ana@Patient.test> -to:bo@practice.test").unwrap();
        assert!(query.names_people());
        assert!(query.is_between("ana@patient.test", &["x@practice.test"]));
        assert!(!query.is_between("ana@patient.test", &["x@practice.test", "Bo@practice.test"]));
        assert!(!query.is_between("a@patient.test", &[]));
        assert!(!query.is_between("", &[]));
    }

    #[test]
    fn whatever_is_written_is_a_query_or_too_much_or_nothing() {
        for empty in ["", " ", "\"\"", "-", "--", "*", "\"", "-knee", "-\"knee", "!? ()", "AND -or"] {
            let parsed = SearchQuery::parse(empty).map(|_| ());
            assert_eq!(parsed, if empty == "AND -or" { Ok(()) } else { Err(BadSearch::Empty) }, "{empty}");
        }
        let at = "a ".repeat(QUERY_MAX_TERMS);
        assert!(SearchQuery::parse(&at).is_ok());
        assert_eq!(SearchQuery::parse(&format!("{at}a")).unwrap_err(), BadSearch::TooManyTerms);
        assert!(SearchQuery::parse(&"é".repeat(QUERY_MAX_CHARS)).is_ok());
        assert_eq!(SearchQuery::parse(&"é".repeat(QUERY_MAX_CHARS + 1)).unwrap_err(), BadSearch::TooLong);
    }

    #[test]
    fn the_index_is_asked_for_what_every_candidate_has() {
        let keys = Keys::generate().unwrap();
        let account = AccountId::generate();
        let ask = |query: &str| {
            let index = SearchQuery::parse(query).unwrap().index(account, &keys);
            let bare = |term: &IndexTerm| match term {
                IndexTerm::Exact(term) => term.chars().skip(5).collect(),
                IndexTerm::Prefix(term) => term.chars().skip(5).chain(['*']).collect::<String>(),
            };
            [index.all, index.none].map(|terms| terms.iter().map(bare).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(ask("Knee knee physio*"), ["wknee wphysio*", ""]);
        assert_eq!(ask("\"left knee\" -pain -\"no one\" -be*"), ["wleft wknee", "wpain wbe*"]);
        assert_eq!(ask("日本語"), ["w日本 w本語", ""]);
        assert_eq!(ask("日"), ["w日*", ""]);
        assert_eq!(ask("手机x"), ["w手机 wx", ""]);
        assert_eq!(ask("x手 -机"), ["wx w手*", "w机*"]);
        let [all, _] = ask("from:ana@patient.test");
        assert!(all.len() == 33 && all.starts_with('f'), "{all}");
    }

    #[test]
    fn places_in_the_text_are_in_order_and_apart() {
        let query = SearchQuery::parse("語学 \"日本語\" ok").unwrap();
        let text = "ok 日本語学, OK";
        let Found(places) = query.find("", text).unwrap();
        assert_eq!(
            places.iter().map(|place| text.get(place.clone()).unwrap()).collect::<Vec<_>>(),
            ["ok", "日本語学", "OK"]
        );
    }
}
