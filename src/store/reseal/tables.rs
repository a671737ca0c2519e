//! Every column that says something of people, table by table; and, for the test, every other one.
//!
//! Whoever adds a column writes here what becomes of it where rows are sealed.

use crate::store::row_keys::Index;

/// Columns of one table.
#[derive(Debug)]
pub(in crate::store) struct Table {
    pub(in crate::store) name: &'static str,
    pub(in crate::store) whose: Whose,
    /// A UUID column by which the rows of an account come in groups of bounded size.
    pub(in crate::store) page: &'static str,
    /// What tells the rows of a group apart beside the columns that are looked up.
    pub(in crate::store) position: Option<&'static str>,
    /// Whether its texts may be large: then a group is bounded by `size_bytes`, too.
    pub(in crate::store) has_texts: bool,
    /// What a value is bound to.
    pub(in crate::store) bound: Bound,
    pub(in crate::store) columns: &'static [(&'static str, Said)],
}

/// Whose key seals a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Whose {
    Account,
    /// What is read across accounts, or before the account is known.
    Operator,
}

/// What a sealed value is bound to beside account and column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Bound {
    /// The column by which the rows come in groups.
    Id,
    /// This column, which is looked up, as it is stored.
    Key(&'static str),
    /// That id and the position.
    Position,
}

/// How a column says what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) enum Said {
    /// A text that is sealed.
    Hidden,
    /// A text that is looked up, and tells rows apart.
    Key(Index),
    /// A text that is looked up.
    Looked(Index),
    /// Octets that are looked up.
    Octets(Index),
    /// The folded name: nothing where rows are sealed.
    NameKey,
}

impl Said {
    /// By which a column's type is known when it is read.
    pub(in crate::store) const fn prefix(self) -> &'static str {
        match self {
            Self::Octets(_) => "octets",
            Self::Hidden | Self::Key(_) | Self::Looked(_) | Self::NameKey => "text",
        }
    }
}

const fn of_account(
    name: &'static str,
    page: &'static str,
    columns: &'static [(&'static str, Said)],
) -> Table {
    Table { name, whose: Whose::Account, page, position: None, has_texts: false, bound: Bound::Id, columns }
}

const fn of_operator(
    name: &'static str,
    page: &'static str,
    columns: &'static [(&'static str, Said)],
) -> Table {
    Table { name, whose: Whose::Operator, page, position: None, has_texts: false, bound: Bound::Id, columns }
}

/// What is sealed, and how.
pub(in crate::store) const TABLES: &[Table] = &[
    of_operator("accounts", "account_id", &[("name", Said::Hidden), ("settings", Said::Hidden)]),
    of_operator("tokens", "token_id", &[("name", Said::Hidden)]),
    of_operator("sync_addresses", "user_id", &[("local_part", Said::Key(Index::SyncAddress))]),
    of_account("users", "user_id", &[("name", Said::Hidden), ("sync_local", Said::Hidden)]),
    Table {
        bound: Bound::Key("email_key"),
        ..of_account(
            "user_emails",
            "user_id",
            &[("email_key", Said::Key(Index::Address)), ("address", Said::Hidden)],
        )
    },
    Table {
        bound: Bound::Key("email_key"),
        ..of_account(
            "remembered_signers",
            "user_id",
            &[
                ("email_key", Said::Key(Index::Address)),
                ("domain", Said::Key(Index::Domain)),
                ("address", Said::Hidden),
            ],
        )
    },
    of_account(
        "contacts",
        "contact_id",
        &[
            ("name", Said::Hidden),
            ("name_key", Said::NameKey),
            ("email", Said::Hidden),
            ("email_key", Said::Looked(Index::Address)),
            ("other_emails", Said::Hidden),
            ("external_id", Said::Looked(Index::ExternalId)),
        ],
    ),
    of_account("conversations", "conversation_id", &[("subject", Said::Hidden)]),
    Table {
        has_texts: true,
        ..of_account(
            "messages",
            "message_id",
            &[
                ("subject", Said::Hidden),
                ("text", Said::Hidden),
                ("new_text", Said::Hidden),
                ("attachments", Said::Hidden),
                ("meeting", Said::Hidden),
                ("message_id_header", Said::Looked(Index::MessageId)),
                ("in_reply_to", Said::Looked(Index::MessageId)),
                ("digest", Said::Octets(Index::Digest)),
            ],
        )
    },
    Table {
        position: Some("position"),
        bound: Bound::Position,
        ..of_account("participants", "message_id", &[("name", Said::Hidden), ("email", Said::Hidden)])
    },
    of_account("thread_ids", "conversation_id", &[("message_id_header", Said::Key(Index::MessageId))]),
    of_account(
        "held",
        "delivery_id",
        &[
            ("why", Said::Hidden),
            ("headers", Said::Hidden),
            ("message_id_header", Said::Looked(Index::MessageId)),
            ("digest", Said::Octets(Index::Digest)),
        ],
    ),
    of_account(
        "deliveries",
        "delivery_id",
        &[
            ("peer", Said::Hidden),
            ("helo", Said::Hidden),
            ("mail_from", Said::Hidden),
            ("rcpt", Said::Hidden),
            ("from_address", Said::Hidden),
            ("message_id_header", Said::Looked(Index::MessageId)),
            ("auth", Said::Hidden),
            ("smtp", Said::Hidden),
            ("steps", Said::Hidden),
        ],
    ),
    of_account("events", "event_id", &[("data", Said::Hidden)]),
    of_account(
        "relay_jobs",
        "job_id",
        &[("email_key", Said::Looked(Index::Address)), ("last_reply", Said::Hidden)],
    ),
    of_account("purges", "purge_id", &[("texts", Said::Hidden)]),
    of_account("email_confirmations", "confirmation_id", &[("email_key", Said::Looked(Index::Address))]),
    of_account("forwarding_confirmations", "user_id", &[("code", Said::Hidden), ("link", Said::Hidden)]),
    Table {
        bound: Bound::Key("key"),
        ..of_account(
            "idempotency_keys",
            "account_id",
            &[
                ("key", Said::Key(Index::Request)),
                ("request_hash", Said::Octets(Index::Request)),
                ("response", Said::Hidden),
            ],
        )
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sqlx::{Connection as _, SqliteConnection};

    use super::*;

    /// Texts and octets that stay as they are: words of ours, ids, what is keyed or sealed already.
    const STAY: &[(&str, &[&str])] = &[
        ("accounts", &["wrapped_key"]),
        ("audit", &["action", "actor", "detail", "hash", "object"]),
        ("audit_heads", &["hash"]),
        ("contacts", &["created_by"]),
        ("deliveries", &["outcome", "reason", "tls"]),
        ("delivery_addresses", &["address_hash", "role"]),
        ("erased_blobs", &["blob"]),
        ("events", &["type"]),
        ("held", &["blob", "content_key", "raw", "reason"]),
        ("messages", &["blob", "content_key", "direction", "flags", "kind", "raw", "sender"]),
        ("participants", &["role"]),
        ("purges", &["actor", "kind"]),
        ("relay_jobs", &["kind", "state"]),
        ("retired_account_keys", &["wrapped_key"]),
        ("row_keys", &["wrapped"]),
        ("sync_addresses", &["state"]),
        ("sync_marks", &["because", "state"]),
        ("tokens", &["scopes", "token_hash"]),
        ("tombstones", &["hash"]),
        ("users", &["role", "sync_state"]),
        ("webhook_attempts", &["error", "event_type", "outcome"]),
        ("webhook_deliveries", &["state"]),
        (
            "webhooks",
            &[
                "detail",
                "events",
                "off_because",
                "old_secret",
                "old_secret_key",
                "secret",
                "secret_key",
                "state",
                "url",
            ],
        ),
    ];

    #[tokio::test]
    async fn every_text_in_the_schema_is_sealed_or_named_here_as_one_that_stays() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!("src/store/migrations/common").run(&mut connection).await.unwrap();
        let columns: Vec<(String, String)> = sqlx::query_as(
            "SELECT t.name, c.name FROM sqlite_master t JOIN pragma_table_info(t.name) c
             WHERE t.type = 'table' AND t.name <> '_sqlx_migrations' AND c.type IN ('TEXT', 'BYTEA')",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let columns: BTreeSet<(String, String)> = columns.into_iter().collect();
        let sealed = TABLES.iter().flat_map(|table| table.columns.iter().map(|(c, _)| (table.name, *c)));
        let stay = STAY.iter().flat_map(|(table, columns)| columns.iter().map(|column| (*table, *column)));
        let known: BTreeSet<(String, String)> =
            sealed.chain(stay).map(|(table, column)| (table.to_owned(), column.to_owned())).collect();
        assert_eq!(columns, known);
    }
}
