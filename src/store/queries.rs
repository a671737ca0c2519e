//! The statements that read facts, each for a list of keys: `w` is that list, and the account leads every key (R4).

use uuid::Uuid;

use crate::store::engine::Value;
use crate::store::statement::{Row, Statement};

pub(in crate::store) static ACCOUNTS: Statement = Statement::new(
    "WITH w(a) AS (VALUES",
    1,
    ") SELECT t.account_id, t.name, t.settings, t.key_floor, \
     (SELECT e.event_id FROM events e WHERE e.account_id = w.a ORDER BY e.event_id DESC LIMIT 1) \
     FROM w CROSS JOIN accounts t WHERE t.account_id = w.a",
);

/// Each with the account's key, which wraps it.
pub(in crate::store) static ROW_KEYS: Statement = Statement::new(
    "WITH w(a) AS (VALUES",
    1,
    ") SELECT t.account_id, a.key_number, a.wrapped_key, t.wrapped FROM w CROSS JOIN row_keys t CROSS JOIN accounts a \
     WHERE t.account_id = w.a AND a.account_id = w.a",
);

pub(in crate::store) static IDENTITIES: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.email_key, t.user_id, t.address, t.verified_at, u.sync_state \
     FROM w CROSS JOIN user_emails t CROSS JOIN users u \
     WHERE t.account_id = w.a AND t.email_key = w.k AND u.account_id = t.account_id AND u.user_id = t.user_id",
);

pub(in crate::store) static SIGNERS: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.email_key, t.domain FROM w CROSS JOIN remembered_signers t \
     WHERE t.account_id = w.a AND t.email_key = w.k",
);

pub(in crate::store) static CONTACTS_BY_EMAIL: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.contact_id, t.name, t.email, t.email_key, t.created_at, \
     m.user_id, m.state FROM w CROSS JOIN contacts t \
     LEFT JOIN sync_marks m ON m.account_id = t.account_id AND m.contact_id = t.contact_id \
     WHERE t.account_id = w.a AND t.email_key = w.k",
);

pub(in crate::store) static CONTACTS_BY_ID: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.contact_id, t.name, t.email, t.email_key, t.created_at, \
     m.user_id, m.state FROM w CROSS JOIN contacts t \
     LEFT JOIN sync_marks m ON m.account_id = t.account_id AND m.contact_id = t.contact_id \
     WHERE t.account_id = w.a AND t.contact_id = w.k",
);

pub(in crate::store) static THREADS: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.message_id_header, t.is_own, c.conversation_id, c.contact_id, c.user_id, c.merged_into, c.last_at \
     FROM w CROSS JOIN thread_ids t CROSS JOIN conversations c \
     WHERE t.account_id = w.a AND t.message_id_header = w.k \
     AND c.account_id = t.account_id AND c.conversation_id = t.conversation_id",
);

pub(in crate::store) static HELD: Statement = Statement::new(
    "WITH w(a, k, d) AS (VALUES",
    3,
    ") SELECT t.account_id, t.message_id_header, t.delivery_id, t.digest, t.user_id FROM w CROSS JOIN held t \
     WHERE t.account_id = w.a AND t.message_id_header = w.k AND t.digest = w.d",
);

/// The message itself, and one that has its Message-ID: there may be any number of those.
pub(in crate::store) static MESSAGES: Statement = Statement::new(
    "WITH w(a, k, d) AS (VALUES",
    3,
    ") SELECT t.account_id, t.message_id_header, t.message_id, t.digest, t.contact_id FROM w CROSS JOIN messages t \
     WHERE t.account_id = w.a AND t.message_id_header = w.k AND t.digest = w.d \
     UNION ALL \
     SELECT t.account_id, t.message_id_header, t.message_id, t.digest, t.contact_id FROM w CROSS JOIN messages t \
     WHERE t.account_id = w.a AND t.message_id_header = w.k AND t.digest <> w.d AND t.digest = \
     (SELECT o.digest FROM messages o WHERE o.account_id = w.a AND o.message_id_header = w.k ORDER BY o.digest LIMIT 1)",
);

pub(in crate::store) static TOMBSTONES: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.hash FROM w CROSS JOIN tombstones t WHERE t.account_id = w.a AND t.hash = w.k",
);

pub(in crate::store) static CONVERSATIONS: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.conversation_id, t.contact_id, t.user_id, t.merged_into, t.last_at \
     FROM w CROSS JOIN conversations t WHERE t.account_id = w.a AND t.conversation_id = w.k",
);

pub(in crate::store) static OWNERS: Statement = Statement::new(
    "WITH w(a, k, d) AS (VALUES",
    3,
    ") SELECT t.account_id, t.user_id, w.d, t.name, t.sync_state, f.filings FROM w CROSS JOIN users t \
     LEFT JOIN daily_filings f ON f.account_id = w.a AND f.user_id = w.k AND f.day = w.d \
     WHERE t.account_id = w.a AND t.user_id = w.k",
);

/// The verified addresses of users (R49).
pub(in crate::store) static STAFF_ADDRESSES: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.account_id, t.user_id, t.address, t.verified_at, t.email_key FROM w CROSS JOIN user_emails t \
     WHERE t.account_id = w.a AND t.user_id = w.k AND t.verified_at IS NOT NULL",
);

/// A row for each copy of a conversation since a time; bounded by the brake that counts them.
pub(in crate::store) static RELAYED: Statement = Statement::new(
    "WITH w(a, k, d) AS (VALUES",
    3,
    ") SELECT t.account_id, t.conversation_id FROM w CROSS JOIN relay_jobs t \
     WHERE t.account_id = w.a AND t.conversation_id = w.k AND t.created_at > w.d",
);

/// Which of these messages have gone on, and from the conversations of which contacts.
pub(in crate::store) static RELAYED_MESSAGES: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT w.a, w.k, c.contact_id FROM w CROSS JOIN relay_jobs t CROSS JOIN conversations c \
     WHERE t.account_id = w.a AND t.job_id = w.k AND t.message_id IS NULL \
     AND c.account_id = t.account_id AND c.conversation_id = t.conversation_id \
     UNION ALL SELECT w.a, w.k, c.contact_id FROM w CROSS JOIN relay_jobs t CROSS JOIN conversations c \
     WHERE t.account_id = w.a AND t.message_id = w.k \
     AND c.account_id = t.account_id AND c.conversation_id = t.conversation_id",
);

/// The blobs of these (account, id) of messages and held deliveries. One statement: a held message that is filed
/// meanwhile moves from one table to the other.
pub(in crate::store) static BLOBS_IN_USE: Statement = Statement::new(
    "WITH w(a, k) AS (VALUES",
    2,
    ") SELECT t.blob FROM w CROSS JOIN messages t WHERE t.account_id = w.a AND t.message_id = w.k \
     AND t.blob IS NOT NULL UNION ALL SELECT t.blob FROM w CROSS JOIN held t \
     WHERE t.account_id = w.a AND t.delivery_id = w.k AND t.blob IS NOT NULL",
);

/// Every query of the filing path, to look at its plan.
#[cfg(test)]
static ALL: [(&str, &Statement); 16] = [
    ("row keys", &ROW_KEYS),
    ("relayed messages", &RELAYED_MESSAGES),
    ("staff addresses", &STAFF_ADDRESSES),
    ("relayed", &RELAYED),
    ("tombstones", &TOMBSTONES),
    ("held", &HELD),
    ("accounts", &ACCOUNTS),
    ("identities", &IDENTITIES),
    ("signers", &SIGNERS),
    ("contacts by email", &CONTACTS_BY_EMAIL),
    ("contacts by id", &CONTACTS_BY_ID),
    ("threads", &THREADS),
    ("messages", &MESSAGES),
    ("conversations", &CONVERSATIONS),
    ("owners", &OWNERS),
    ("blobs in use", &BLOBS_IN_USE),
];

/// An account.
pub(in crate::store) struct One(pub(in crate::store) Uuid);

/// An account and an id.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::store) struct Two(pub(in crate::store) Uuid, pub(in crate::store) Uuid);

/// An account and a folded address or Message-ID.
#[derive(Clone)]
pub(in crate::store) struct Text(pub(in crate::store) Uuid, pub(in crate::store) String);

/// An account, a Message-ID and a digest (R70).
#[derive(Clone)]
pub(in crate::store) struct Message(
    pub(in crate::store) Uuid,
    pub(in crate::store) String,
    pub(in crate::store) Vec<u8>,
);

/// An account and a hash.
pub(in crate::store) struct Hash16(pub(in crate::store) Uuid, pub(in crate::store) Vec<u8>);

/// Account, user, day; or account, conversation, time.
#[derive(PartialEq, Eq, Hash)]
pub(in crate::store) struct OfDay(
    pub(in crate::store) Uuid,
    pub(in crate::store) Uuid,
    pub(in crate::store) i64,
);

impl Row for One {
    fn bind(self, values: &mut Vec<Value>) {
        values.push(self.0.into());
    }
}

impl Row for Two {
    fn bind(self, values: &mut Vec<Value>) {
        values.push(self.0.into());
        values.push(self.1.into());
    }
}

impl Row for Text {
    fn bind(self, values: &mut Vec<Value>) {
        values.push(self.0.into());
        values.push(self.1.into());
    }
}

impl Row for Message {
    fn bind(self, values: &mut Vec<Value>) {
        values.push(self.0.into());
        values.push(self.1.into());
        values.push(self.2.into());
    }
}

impl Row for Hash16 {
    fn bind(self, values: &mut Vec<Value>) {
        values.push(self.0.into());
        values.push(self.1.into());
    }
}

impl Row for OfDay {
    fn bind(self, values: &mut Vec<Value>) {
        values.push(self.0.into());
        values.push(self.1.into());
        values.push(self.2.into());
    }
}

#[cfg(test)]
mod tests {
    use sqlx::{AssertSqlSafe, Connection as _, SqliteConnection};

    use super::*;
    use crate::store::engine::{Engine, migrations::migrator};
    use crate::store::mailbox::{REPLY_CONVERSATION, SYNC_ADDRESS};

    #[tokio::test]
    async fn every_query_of_the_filing_path_goes_through_an_index() {
        let mut connection = SqliteConnection::connect("sqlite::memory:").await.unwrap();
        migrator(Engine::Sqlite).run(&mut connection).await.unwrap();
        let texts = ALL.iter().map(|(name, statement)| (*name, statement.for_one_row()));
        let mailboxes = [("sync address", SYNC_ADDRESS), ("reply conversation", REPLY_CONVERSATION)];
        for (name, text) in texts.chain(mailboxes.map(|(name, text)| (name, text.into()))) {
            let plan: Vec<(i64, i64, i64, String)> =
                sqlx::query_as(AssertSqlSafe(format!("EXPLAIN QUERY PLAN {text}")))
                    .fetch_all(&mut connection)
                    .await
                    .unwrap();
            let lines: Vec<&str> = plan.iter().map(|(.., detail)| detail.as_str()).collect();
            let scans = |line: &&&str| {
                line.starts_with("SCAN") && !["w", "chain", "CONSTANT"].iter().any(|list| line.contains(list))
            };
            assert!(lines.iter().find(scans).is_none(), "{name}: {lines:#?}");
            assert!(lines.iter().any(|line| line.contains("SEARCH")), "{name}: {lines:#?}");
        }
    }
}
