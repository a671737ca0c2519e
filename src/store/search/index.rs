//! What an engine's index is asked: terms that all candidates have, and terms that none has.

use std::fmt::Write as _;

/// A question to the index. It finds every message that is looked for, and maybe others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::store) struct IndexQuery {
    /// At least one.
    pub(super) all: Vec<IndexTerm>,
    pub(super) none: Vec<IndexTerm>,
}

/// Letters and digits only: nothing in it can be read as syntax.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) enum IndexTerm {
    Exact(String),
    Prefix(String),
}

impl IndexQuery {
    /// As FTS5 reads it (<https://www.sqlite.org/fts5.html#full_text_query_syntax>): NOT binds before AND.
    pub(in crate::store) fn fts5(&self) -> String {
        let text = |term: &IndexTerm| match term {
            IndexTerm::Exact(term) => format!("\"{term}\""),
            IndexTerm::Prefix(term) => format!("\"{term}\" *"),
        };
        let [all, none] = [(&self.all, " AND "), (&self.none, " OR ")]
            .map(|(terms, word)| terms.iter().map(text).collect::<Vec<_>>().join(word));
        if none.is_empty() { all } else { format!("({all}) NOT ({none})") }
    }

    /// As PostgreSQL's `tsquery` is written.
    pub(in crate::store) fn tsquery(&self) -> String {
        let terms = self.all.iter().map(|term| ("", term)).chain(self.none.iter().map(|term| ("!", term)));
        let mut text = String::new();
        for (not, term) in terms {
            let and = if text.is_empty() { "" } else { " & " };
            let _written = match term {
                IndexTerm::Exact(term) => write!(text, "{and}{not}'{term}'"),
                IndexTerm::Prefix(term) => write!(text, "{and}{not}'{term}':*"),
            };
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_is_asked_in_its_own_words() {
        let exact = |term: &str| IndexTerm::Exact(term.to_owned());
        let mut query =
            IndexQuery { all: vec![exact("a"), IndexTerm::Prefix("b".to_owned())], none: Vec::new() };
        assert_eq!((query.fts5().as_str(), query.tsquery().as_str()), ("\"a\" AND \"b\" *", "'a' & 'b':*"));
        query.none = vec![exact("c"), exact("d")];
        assert_eq!(query.fts5(), "(\"a\" AND \"b\" *) NOT (\"c\" OR \"d\")");
        assert_eq!(query.tsquery(), "'a' & 'b':* & !'c' & !'d'");
    }
}
