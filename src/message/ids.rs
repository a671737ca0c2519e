//! Message-IDs as they stand in Message-ID, In-Reply-To and References: without angle brackets, bounded.

use super::charset;
use super::fields::unfold;

/// Every id of a raw value, in order: those in angle brackets, or, where there are none, the words that look like
/// one. Commas between them are tolerated (Exchange and phones write them).
pub(super) fn all(value: &[u8]) -> Vec<String> {
    let flat = charset::without_nul(unfold(value));
    let mut found = Vec::new();
    let mut rest = flat.as_ref();
    while let Some((_, from_open)) = rest.split_once('<') {
        let Some((inner, behind)) = from_open.split_once('>') else { break };
        // `<a <b@c>`: the bracket that was never closed is noise.
        let inner = inner.rsplit('<').next().unwrap_or(inner);
        found.extend(clean(inner));
        rest = behind;
    }
    if found.is_empty() {
        let words = flat.split(|c: char| c.is_whitespace() || c == ',').filter(|word| word.contains('@'));
        found.extend(words.filter_map(|word| clean(word.trim_matches(['<', '>', '"', ';', '(', ')']))));
    }
    found
}

/// The Message-ID of a message: the first id, or the whole value if it is one word.
pub(super) fn own(value: &[u8]) -> Option<String> {
    all(value).into_iter().next().or_else(|| {
        let flat = charset::without_nul(unfold(value));
        let word = flat.trim().trim_matches(['<', '>']);
        (!word.contains(char::is_whitespace)).then(|| clean(word)).flatten()
    })
}

/// The newest `limit` of them.
pub(super) fn newest(mut ids: Vec<String>, limit: usize) -> Vec<String> {
    let surplus = ids.len().saturating_sub(limit);
    ids.drain(..surplus);
    ids
}

fn clean(id: &str) -> Option<String> {
    let mut id = id.to_owned();
    id.retain(|c| !c.is_whitespace() && !c.is_control());
    (1..=MAX_ID_OCTETS).contains(&id.len()).then_some(id)
}

/// A line of RFC 5322 holds no more; a longer id is no id that anybody can refer to.
pub(super) const MAX_ID_OCTETS: usize = 998;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_found_in_the_forms_that_programs_write() {
        assert_eq!(all(b" <a@x.test>,<b@x.test>\r\n\t<c@x.test>"), ["a@x.test", "b@x.test", "c@x.test"]);
        assert_eq!(all(b"a@x.test, b@x.test"), ["a@x.test", "b@x.test"]);
        assert_eq!(all(b"Your message of Monday <a@x.test> (\"hi\")"), ["a@x.test"]);
        assert_eq!(all(b"<split-\r\n over@x.test>"), ["split-over@x.test"]);
        assert_eq!(own(b" bare"), Some("bare".to_owned()));
        assert_eq!(own(b" <>"), None);
        assert_eq!(own(b"<a\0@x.test>"), Some("a@x.test".to_owned()));
    }

    #[test]
    fn m19_an_id_of_998_octets_is_taken_and_a_longer_one_is_not() {
        let id = |n: usize| format!("<{}@x.test>", "a".repeat(n - 7)).into_bytes();
        assert_eq!(own(&id(MAX_ID_OCTETS)).map(|id| id.len()), Some(MAX_ID_OCTETS));
        assert_eq!(own(&id(MAX_ID_OCTETS + 1)), None);
    }

    #[test]
    fn the_newest_references_are_kept() {
        let ids: Vec<String> = (0..5_000).map(|n| format!("{n}@x.test")).collect();
        let kept = newest(ids, 100);
        assert_eq!((kept.len(), kept[99].as_str()), (100, "4999@x.test"));
    }
}
