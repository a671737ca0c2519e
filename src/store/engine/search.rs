//! Full-text search: each engine has an index of its own over the same terms.

use crate::id::AccountId;
use crate::store::engine::{Builder, Engine};
use crate::store::search::IndexQuery;

/// From which rows, and under which conditions, the candidates `d` of an account and their messages `m` are read.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Matching {
    /// What is ordered by, and compared with a cursor: SQLite walks its index backwards along it.
    pub(in crate::store) place: &'static str,
    before_account: &'static str,
    before_query: &'static str,
    behind: &'static str,
}

impl Matching {
    pub(in crate::store) const fn of(engine: Engine) -> Self {
        match engine {
            Engine::Postgres => Self {
                place: "d.place",
                before_account:
                    " FROM search_documents d CROSS JOIN messages m WHERE m.account_id = d.account_id
                    AND m.message_id = d.message_id AND d.account_id = ",
                // As the index has it, word by word.
                before_query: " AND search_vector(d.words, d.people) @@ CAST(",
                behind: " AS tsquery)",
            },
            Engine::Sqlite => Self {
                place: "t.rowid",
                // The joins in this order: from the index to what it names.
                before_account: " FROM search_terms t CROSS JOIN search_documents d CROSS JOIN messages m
                    WHERE d.place = t.rowid AND m.account_id = d.account_id AND m.message_id = d.message_id
                    AND d.account_id = ",
                before_query: " AND t.search_terms MATCH ",
                behind: "",
            },
        }
    }

    /// `FROM … WHERE …`.
    pub(in crate::store) fn push(
        self,
        sql: &mut Builder,
        account: AccountId,
        query: &IndexQuery,
        engine: Engine,
    ) {
        let text = match engine {
            Engine::Postgres => query.tsquery(),
            Engine::Sqlite => query.fts5(),
        };
        sql.push(self.before_account).push_bind(account.uuid());
        sql.push(self.before_query).push_bind(text).push(self.behind);
    }
}

/// PostgreSQL's own function for it (GIN fast update technique).
pub(super) const SORT_TERMS_IN: &str = "SELECT gin_clean_pending_list('search_documents_by_terms')";
