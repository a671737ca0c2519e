//! A text cut into words.
//!
//! Promises bounded work: the first [`WORDS_MAX`] words, of each the first [`WORD_MAX_OCTETS`]. What is behind them is
//! filed and shown as ever, and not found.

use std::ops::Range;

use crate::store::search::fold::{Class, push_folded};

/// The words of a text, in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Words {
    folded: String,
    list: Vec<Word>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Word {
    folded: Range<usize>,
    /// Where in the text it stands, in octets.
    pub(super) source: Range<usize>,
    pub(super) kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One character of a script without spaces.
    Character,
    /// A run of letters and digits.
    Run,
}

impl Words {
    /// Of a subject.
    pub(super) fn of_subject(text: &str) -> Self {
        Self::of(text, SUBJECT_WORDS_MAX)
    }

    /// Of a text.
    pub(super) fn of_text(text: &str) -> Self {
        Self::of(text, WORDS_MAX)
    }

    fn of(text: &str, max: usize) -> Self {
        let mut words = Self::default();
        let mut open: Option<Open> = None;
        for (at, c) in text.char_indices().take(TEXT_MAX_CHARS) {
            let class = Class::of(c);
            if !matches!(class, Class::Letter | Class::Silent) {
                words.close(open.take());
            }
            if open.is_none() && words.list.len() >= max {
                break;
            }
            let end = at + c.len_utf8();
            match class {
                Class::Between => {}
                Class::Letter => {
                    let word = open.get_or_insert(Open {
                        folded: words.folded.len(),
                        source: at..end,
                        is_full: false,
                    });
                    word.source.end = end;
                    words.push_letter(word, c);
                }
                Class::Silent => {
                    if let Some(word) = &mut open {
                        word.source.end = end;
                    }
                }
                Class::Unspaced => {
                    let start = words.folded.len();
                    push_folded(&mut words.folded, c);
                    let folded = start..words.folded.len();
                    words.list.push(Word { folded, source: at..end, kind: Kind::Character });
                }
            }
        }
        words.close(open);
        words
    }

    fn push_letter(&mut self, word: &mut Open, c: char) {
        if word.is_full {
            return;
        }
        let before = self.folded.len();
        push_folded(&mut self.folded, c);
        if self.folded.len() - word.folded > WORD_MAX_OCTETS {
            self.folded.truncate(before);
            word.is_full = true;
        }
    }

    fn close(&mut self, open: Option<Open>) {
        if let Some(Open { folded, source, .. }) = open.filter(|word| word.folded < self.folded.len()) {
            self.list.push(Word { folded: folded..self.folded.len(), source, kind: Kind::Run });
        }
    }

    pub(super) fn list(&self) -> &[Word] {
        &self.list
    }

    /// As it is compared.
    pub(super) fn text(&self, word: &Word) -> &str {
        self.folded.get(word.folded.clone()).unwrap_or_default()
    }

    /// What they are indexed by: a run as it is; a character with its right neighbour, the last one alone.
    pub(super) fn terms(&self) -> impl Iterator<Item = &str> {
        let next = self.list.iter().skip(1).map(Some).chain([None]);
        self.list.iter().zip(next).map(|(word, next)| self.pair(word, next))
    }

    /// The term that begins with this word.
    fn pair(&self, word: &Word, next: Option<&Word>) -> &str {
        let end = match (word.kind, next) {
            // What was folded one after the other stands one after the other.
            (Kind::Character, Some(Word { folded, kind: Kind::Character, .. })) => folded.end,
            (Kind::Character | Kind::Run, _) => word.folded.end,
        };
        self.folded.get(word.folded.start..end).unwrap_or_default()
    }
}

/// A run that goes on.
#[derive(Debug)]
struct Open {
    folded: usize,
    source: Range<usize>,
    is_full: bool,
}

/// Of a text.
pub(in crate::store) const WORDS_MAX: usize = 10_000;
/// Together with [`WORDS_MAX`] and [`WORD_MAX_OCTETS`] it keeps all terms of a message below 1 MiB, which is what a
/// tsvector of PostgreSQL holds.
const SUBJECT_WORDS_MAX: usize = 1_000;
/// Of a folded word: longer ones are found by their beginning.
pub(in crate::store) const WORD_MAX_OCTETS: usize = 60;
/// Characters that are looked at, between words too.
pub(in crate::store) const TEXT_MAX_CHARS: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, words: &[&str], terms: &[&str]) {
        let cut = Words::of_text(text);
        assert_eq!(cut.list().iter().map(|word| cut.text(word)).collect::<Vec<_>>(), words, "{text}");
        assert_eq!(cut.terms().collect::<Vec<_>>(), terms, "{text}");
    }

    #[test]
    fn words_are_runs_of_letters_and_characters_of_unspaced_scripts_stand_in_pairs() {
        check("", &[], &[]);
        check(" -- !? ", &[], &[]);
        check("Don't, 3.5mg!", &["don", "t", "3", "5mg"], &["don", "t", "3", "5mg"]);
        check("Ma\u{ad}ßnahme", &["massnahme"], &["massnahme"]);
        check("\u{301}a", &["a"], &["a"]);
        check("हिन्दी में", &["हिन्दी", "में"], &["हिन्दी", "में"]);
        check("日本語 ok", &["日", "本", "語", "ok"], &["日本", "本語", "語", "ok"]);
        check("iPhone手机", &["iphone", "手", "机"], &["iphone", "手机", "机"]);
        check("ปวดหัว", &["ป", "ว", "ด", "ห", "ั", "ว"], &["ปว", "วด", "ดห", "หั", "ัว", "ว"]);
    }

    #[test]
    fn a_word_knows_where_it_stands() {
        let text = "«Größe» 日本";
        let words = Words::of_text(text);
        let sources: Vec<&str> =
            words.list().iter().map(|word| text.get(word.source.clone()).unwrap()).collect();
        assert_eq!(sources, ["Größe", "日", "本"]);
    }

    #[test]
    fn long_words_and_long_texts_are_cut_at_their_limits() {
        let at = "é".repeat(WORD_MAX_OCTETS);
        let words = Words::of_text(&format!("{at}x next"));
        assert_eq!(words.text(&words.list()[0]), "e".repeat(WORD_MAX_OCTETS));
        assert_eq!(words.text(&words.list()[1]), "next");
        for at_or_over in [WORDS_MAX, WORDS_MAX + 1] {
            assert_eq!(Words::of_text(&"word ".repeat(at_or_over)).list().len(), WORDS_MAX);
        }
        assert_eq!(Words::of_text(&format!("{}x", ".".repeat(TEXT_MAX_CHARS - 1))).list().len(), 1);
        assert_eq!(Words::of_text(&format!("{}x", ".".repeat(TEXT_MAX_CHARS))).list().len(), 0);
    }
}
