//! The rows of an account as an export writes them: one JSON object a line, one file a kind, columns under their own
//! names. What a line says is checked where it is read: a key too many, one too few, a word that no column takes.
//!
//! Promises that a line which was written is read back to the same row, on either engine. This is the one place that
//! knows which rows an account consists of; what is left out, and why, stands at [`Kind`]. Lines are clear: where rows
//! are sealed, they are opened and sealed on the way (`line_seal`).

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sqlx::{Database, Decode, Type};
use uuid::Uuid;

use crate::store::engine::{Fetched, Kind as ValueKind, Nullable, Value};
use crate::store::line_seal::{Cell, Field};
use crate::store::row_keys::is_sealed;
use crate::store::statement::{Insert, Row, Statement};

/// A row of an account.
pub(in crate::store) trait Line:
    Clone + Serialize + DeserializeOwned + Fetched + Sync
{
    /// Where it stands.
    const TABLE: &'static str;
    /// `SELECT … FROM table WHERE account_id = `.
    const SELECT: &'static str;
    /// The columns that, behind the account, name a row: in this order lines are written.
    const KEY: &'static str;

    /// The values of [`Self::KEY`].
    fn key(&self) -> Vec<Value>;

    /// Whose it is.
    fn account(&self) -> Uuid;

    /// Columns that take some words alone: name, what stands there, what may.
    fn worded(&self) -> Vec<(&'static str, &str, &'static [&'static str])> {
        Vec::new()
    }

    /// The columns that may be sealed, and the id that they are bound to; none where nothing stands.
    fn cells(&mut self) -> Vec<(&'static str, Option<Cell<'_>>)>;
}

/// Octets, in hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Hex(pub(in crate::store) Vec<u8>);

/// A column that holds JSON as text.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::store) enum Json {
    Clear(serde_json::Value),
    /// As it is stored; a line never says it.
    Sealed(String),
}

impl Json {
    /// As the column holds it.
    pub(in crate::store) fn into_text(self) -> String {
        match self {
            Self::Clear(value) => value.to_string(),
            Self::Sealed(text) => text,
        }
    }

    /// None where it is sealed.
    pub(in crate::store) const fn value(&self) -> Option<&serde_json::Value> {
        match self {
            Self::Clear(value) => Some(value),
            Self::Sealed(_) => None,
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.value().ok_or_else(|| serde::ser::Error::custom("it is sealed"))?.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        serde_json::Value::deserialize(deserializer).map(Self::Clear)
    }
}

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}", hex(&self.0)))
    }
}

impl<'de> Deserialize<'de> for Hex {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        unhex(&text).map(Self).ok_or_else(|| serde::de::Error::custom("not pairs of hexadecimal digits"))
    }
}

/// Lower-case hexadecimal digits.
pub(in crate::store) fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.chars().map(|c| c.to_digit(16)?.try_into().ok()).collect::<Option<_>>()?;
    let pairs = digits.chunks_exact(2);
    if !pairs.remainder().is_empty() {
        return None;
    }
    Some(pairs.map(|pair| pair.iter().fold(0, |octet, digit| octet << 4 | digit)).collect())
}

impl<DB: Database> Type<DB> for Hex
where
    Vec<u8>: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <Vec<u8> as Type<DB>>::type_info()
    }

    fn compatible(kind: &DB::TypeInfo) -> bool {
        <Vec<u8> as Type<DB>>::compatible(kind)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for Hex
where
    Vec<u8>: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        Vec::<u8>::decode(value).map(Self)
    }
}

impl<DB: Database> Type<DB> for Json
where
    String: Type<DB>,
{
    fn type_info() -> DB::TypeInfo {
        <String as Type<DB>>::type_info()
    }

    fn compatible(kind: &DB::TypeInfo) -> bool {
        <String as Type<DB>>::compatible(kind)
    }
}

impl<'r, DB: Database> Decode<'r, DB> for Json
where
    String: Decode<'r, DB>,
{
    fn decode(value: DB::ValueRef<'r>) -> Result<Self, sqlx::error::BoxDynError> {
        let text = String::decode(value)?;
        // No JSON begins as a seal does.
        if is_sealed(&text) { Ok(Self::Sealed(text)) } else { Ok(Self::Clear(serde_json::from_str(&text)?)) }
    }
}

impl From<Hex> for Value {
    fn from(Hex(octets): Hex) -> Self {
        octets.into()
    }
}

impl From<Json> for Value {
    fn from(json: Json) -> Self {
        json.into_text().into()
    }
}

impl Nullable for Json {
    const KIND: ValueKind = ValueKind::Text;
}

macro_rules! cells {
    ($line:ident, $($field:ident),*) => { vec![$((stringify!($field), $line.$field.cell())),*] };
}

/// A line whose fields are the columns of a table behind `account_id`. A row that is there already stays as it is.
macro_rules! line {
    ($(#[$doc:meta])* $name:ident of $table:literal by ($($key:ident),+) $(where $worded:ident in $words:expr;)* {
        $($field:ident: $type:ty,)+
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
        #[serde(deny_unknown_fields)]
        pub(in crate::store) struct $name {
            pub(in crate::store) account_id: Uuid,
            $(pub(in crate::store) $field: $type,)+
        }

        impl Line for $name {
            const TABLE: &'static str = $table;
            const SELECT: &'static str = concat!(
                "SELECT account_id", $(", ", stringify!($field),)+ " FROM ", $table, " WHERE account_id = "
            );
            const KEY: &'static str = line!(@list $($key),+);

            fn key(&self) -> Vec<Value> {
                vec![$(self.$key.clone().into()),+]
            }

            fn account(&self) -> Uuid {
                self.account_id
            }

            fn worded(&self) -> Vec<(&'static str, &str, &'static [&'static str])> {
                vec![$((stringify!($worded), self.$worded.as_str(), $words)),*]
            }

            fn cells(&mut self) -> Vec<(&'static str, Option<Cell<'_>>)> {
                cells!(self, $($field),+)
            }
        }

        impl Row for $name {
            fn bind(self, values: &mut Vec<Value>) {
                values.push(self.account_id.into());
                $(values.push(self.$field.into());)+
            }
        }

        impl Insert for $name {
            fn statement() -> &'static Statement {
                static STATEMENT: Statement = Statement::new(
                    concat!("INSERT INTO ", $table, " (account_id", $(", ", stringify!($field),)+ ") VALUES"),
                    1 + [$(stringify!($field)),+].len(),
                    " ON CONFLICT DO NOTHING",
                );
                &STATEMENT
            }
        }
    };
    (@list $first:ident $(, $rest:ident)*) => { concat!(stringify!($first) $(, ", ", stringify!($rest))*) };
}

/// The account itself; its key is made where it is imported.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct AccountLine {
    pub(in crate::store) account_id: Uuid,
    pub(in crate::store) name: String,
    pub(in crate::store) settings: Json,
    pub(in crate::store) created_at: i64,
}

impl Line for AccountLine {
    const TABLE: &'static str = "accounts";
    const SELECT: &'static str =
        "SELECT account_id, name, settings, created_at FROM accounts WHERE account_id = ";
    const KEY: &'static str = "account_id";

    fn key(&self) -> Vec<Value> {
        vec![self.account_id.into()]
    }

    fn account(&self) -> Uuid {
        self.account_id
    }

    fn cells(&mut self) -> Vec<(&'static str, Option<Cell<'_>>)> {
        cells!(self, account_id, name, settings)
    }
}

line! {
    /// R64: the trail goes on where it is imported, since its hashes hold nothing of the place.
    AuditLine of "audit" by (seq) {
        seq: i64,
        at: i64,
        actor: String,
        action: String,
        object: String,
        detail: Option<String>,
        hash: Hex,
    }
}

line! {
    UserLine of "users" by (user_id) where sync_state in ON_OFF; {
        user_id: Uuid,
        name: String,
        role: String,
        sync_state: String,
        sync_local: String,
        created_at: i64,
    }
}

line! {
    UserEmailLine of "user_emails" by (user_id, email_key) {
        email_key: String,
        user_id: Uuid,
        address: String,
        verified_at: Option<i64>,
    }
}

line! {
    SignerLine of "remembered_signers" by (user_id, email_key, domain) {
        email_key: String,
        domain: String,
        user_id: Uuid,
        address: String,
        at: i64,
    }
}

line! {
    ConfirmationLine of "forwarding_confirmations" by (user_id) {
        user_id: Uuid,
        code: Option<String>,
        link: Option<String>,
        at: i64,
    }
}

line! {
    DailyFilingLine of "daily_filings" by (user_id, day) {
        user_id: Uuid,
        day: i64,
        filings: i64,
    }
}

line! {
    ContactLine of "contacts" by (contact_id) where created_by in &["api", "import", "sync"]; {
        contact_id: Uuid,
        name: String,
        name_key: String,
        email: String,
        email_key: String,
        other_emails: Json,
        external_id: Option<String>,
        created_by: String,
        created_at: i64,
    }
}

line! {
    MarkLine of "sync_marks" by (contact_id, user_id) where state in ON_OFF; {
        contact_id: Uuid,
        user_id: Uuid,
        state: String,
        since: i64,
        because: String,
        last_mail_at: Option<i64>,
    }
}

line! {
    ConversationLine of "conversations" by (conversation_id) {
        conversation_id: Uuid,
        contact_id: Uuid,
        user_id: Option<Uuid>,
        subject: String,
        created_at: i64,
        last_at: i64,
        merged_into: Option<Uuid>,
        reply_revoked_at: Option<i64>,
    }
}

/// The content of a message, beside the lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentFile {
    /// Its octets.
    pub size: u64,
    /// SHA-256 of its octets, hexadecimal.
    pub sha256: String,
}

/// A message on a record, with who is on it.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct MessageLine {
    pub(in crate::store) account_id: Uuid,
    pub(in crate::store) message_id: Uuid,
    pub(in crate::store) conversation_id: Uuid,
    pub(in crate::store) contact_id: Uuid,
    pub(in crate::store) user_id: Option<Uuid>,
    pub(in crate::store) direction: String,
    pub(in crate::store) kind: String,
    pub(in crate::store) sender: String,
    pub(in crate::store) subject: String,
    pub(in crate::store) sent_at: i64,
    pub(in crate::store) received_at: i64,
    pub(in crate::store) message_id_header: String,
    pub(in crate::store) in_reply_to: Option<String>,
    pub(in crate::store) text: String,
    pub(in crate::store) new_text: String,
    pub(in crate::store) has_html: bool,
    pub(in crate::store) flags: Json,
    pub(in crate::store) attachments: Json,
    pub(in crate::store) digest: Hex,
    pub(in crate::store) size_bytes: i64,
    pub(in crate::store) meeting: Option<Json>,
    #[sqlx(skip)]
    pub(in crate::store) participants: Vec<Participant>,
    /// None for mail that the CRM registered, and for what could not be read.
    #[sqlx(skip)]
    pub(in crate::store) content: Option<ContentFile>,
}

/// Somebody on a message, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct Participant {
    pub(in crate::store) position: i64,
    pub(in crate::store) role: String,
    pub(in crate::store) name: Option<String>,
    pub(in crate::store) email: String,
    pub(in crate::store) contact_id: Option<Uuid>,
    pub(in crate::store) user_id: Option<Uuid>,
}

impl MessageLine {
    /// R70: a digest has so many octets.
    pub(in crate::store) const fn has_digest(&self) -> bool {
        self.digest.0.len() == DIGEST_OCTETS
    }
}

impl Line for MessageLine {
    const TABLE: &'static str = "messages";
    const SELECT: &'static str = "SELECT account_id, message_id, conversation_id, contact_id, user_id, direction, kind, sender, subject,
         sent_at, received_at, message_id_header, in_reply_to, text, new_text, has_html, flags, attachments, digest,
         size_bytes, meeting FROM messages WHERE account_id = ";
    const KEY: &'static str = "message_id";

    fn key(&self) -> Vec<Value> {
        vec![self.message_id.into()]
    }

    fn account(&self) -> Uuid {
        self.account_id
    }

    fn worded(&self) -> Vec<(&'static str, &str, &'static [&'static str])> {
        let own = [
            ("direction", self.direction.as_str(), DIRECTIONS),
            ("kind", self.kind.as_str(), KINDS),
            ("sender", self.sender.as_str(), SENDERS),
        ];
        let roles = self.participants.iter().map(|person| ("role", person.role.as_str(), ROLES));
        own.into_iter().chain(roles).collect()
    }

    fn cells(&mut self) -> Vec<(&'static str, Option<Cell<'_>>)> {
        cells!(
            self,
            message_id,
            subject,
            text,
            new_text,
            attachments,
            meeting,
            message_id_header,
            in_reply_to,
            digest
        )
    }
}

line! {
    /// R40, R41.
    ThreadIdLine of "thread_ids" by (conversation_id, message_id_header) {
        message_id_header: String,
        conversation_id: Uuid,
        is_own: bool,
    }
}

/// R36.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct HeldLine {
    pub(in crate::store) account_id: Uuid,
    pub(in crate::store) delivery_id: Uuid,
    pub(in crate::store) at: i64,
    pub(in crate::store) reason: String,
    pub(in crate::store) why: String,
    pub(in crate::store) user_id: Option<Uuid>,
    pub(in crate::store) contact_id: Option<Uuid>,
    pub(in crate::store) expires_at: i64,
    pub(in crate::store) headers: Json,
    pub(in crate::store) size_bytes: i64,
    pub(in crate::store) message_id_header: String,
    pub(in crate::store) digest: Hex,
    /// None where it could not be read: then there is nothing to import.
    #[sqlx(skip)]
    pub(in crate::store) content: Option<ContentFile>,
}

impl Line for HeldLine {
    const TABLE: &'static str = "held";
    const SELECT: &'static str = "SELECT account_id, delivery_id, at, reason, why, user_id, contact_id, expires_at, headers, size_bytes,
         message_id_header, digest FROM held WHERE account_id = ";
    const KEY: &'static str = "delivery_id";

    fn key(&self) -> Vec<Value> {
        vec![self.delivery_id.into()]
    }

    fn account(&self) -> Uuid {
        self.account_id
    }

    fn cells(&mut self) -> Vec<(&'static str, Option<Cell<'_>>)> {
        cells!(self, delivery_id, why, headers, message_id_header, digest)
    }
}

line! {
    /// R3.
    DeliveryLine of "deliveries" by (delivery_id) {
        delivery_id: Uuid,
        at: i64,
        peer: String,
        helo: String,
        tls: Option<String>,
        mail_from: Option<String>,
        rcpt: Option<String>,
        message_id_header: Option<String>,
        from_address: Option<String>,
        size_bytes: i64,
        auth: Option<Json>,
        outcome: String,
        reason: String,
        smtp: String,
        user_id: Option<Uuid>,
        contact_id: Option<Uuid>,
        message_id: Option<Uuid>,
        steps: Json,
    }
}

line! {
    /// R5: hashes under the key of where they come from.
    DeliveryAddressLine of "delivery_addresses" by (address_hash, role, delivery_id) where role in &["from", "to"]; {
        address_hash: Hex,
        role: String,
        delivery_id: Uuid,
    }
}

/// An event that the CRM may still pull. Not by macro: a column is called `type`.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct EventLine {
    account_id: Uuid,
    pub(in crate::store) event_id: Uuid,
    #[serde(rename = "type")]
    #[sqlx(rename = "type")]
    type_name: String,
    at: i64,
    conversation_id: Option<Uuid>,
    delivery_id: Option<Uuid>,
    data: Json,
}

impl Line for EventLine {
    const TABLE: &'static str = "events";
    const SELECT: &'static str = "SELECT account_id, event_id, type, at, conversation_id, delivery_id, data FROM events WHERE account_id = ";
    const KEY: &'static str = "event_id";

    fn key(&self) -> Vec<Value> {
        vec![self.event_id.into()]
    }

    fn account(&self) -> Uuid {
        self.account_id
    }

    fn cells(&mut self) -> Vec<(&'static str, Option<Cell<'_>>)> {
        cells!(self, event_id, data)
    }
}

impl Row for EventLine {
    fn bind(self, values: &mut Vec<Value>) {
        values.extend([
            self.account_id.into(),
            self.event_id.into(),
            self.type_name.into(),
            self.at.into(),
            self.conversation_id.into(),
            self.delivery_id.into(),
            self.data.into(),
        ]);
    }
}

impl Insert for EventLine {
    fn statement() -> &'static Statement {
        static STATEMENT: Statement = Statement::new(
            "INSERT INTO events (account_id, event_id, type, at, conversation_id, delivery_id, data) VALUES",
            7,
            " ON CONFLICT DO NOTHING",
        );
        &STATEMENT
    }
}

/// A webhook without its secret.
#[derive(Clone, Debug, Serialize, Deserialize, sqlx::FromRow)]
#[serde(deny_unknown_fields)]
pub(in crate::store) struct WebhookLine {
    pub(in crate::store) account_id: Uuid,
    pub(in crate::store) webhook_id: Uuid,
    pub(in crate::store) url: String,
    pub(in crate::store) events: Json,
    pub(in crate::store) detail: String,
    pub(in crate::store) state: String,
    pub(in crate::store) off_because: Option<String>,
    pub(in crate::store) passed: Uuid,
    pub(in crate::store) created_at: i64,
}

impl Line for WebhookLine {
    const TABLE: &'static str = "webhooks";
    const SELECT: &'static str =
        "SELECT account_id, webhook_id, url, events, detail, state, off_because, passed, created_at
         FROM webhooks WHERE account_id = ";
    const KEY: &'static str = "webhook_id";

    fn key(&self) -> Vec<Value> {
        vec![self.webhook_id.into()]
    }

    fn account(&self) -> Uuid {
        self.account_id
    }

    fn worded(&self) -> Vec<(&'static str, &str, &'static [&'static str])> {
        vec![("detail", &self.detail, &["content", "headers", "meta"]), ("state", &self.state, ON_OFF)]
    }

    fn cells(&mut self) -> Vec<(&'static str, Option<Cell<'_>>)> {
        Vec::new()
    }
}

line! {
    WebhookDeliveryLine of "webhook_deliveries" by (webhook_id, event_id) where state in &["dead", "waiting"]; {
        webhook_id: Uuid,
        event_id: Uuid,
        conversation_id: Option<Uuid>,
        state: String,
        failed: i64,
        begun_at: Option<i64>,
        due_at: i64,
    }
}

line! {
    /// That a message has gone on once (R46, R49).
    RelayJobLine of "relay_jobs" by (job_id) where kind in &["confirmation", "contact", "digest", "staff"];
    where state in &["cancelled", "failed", "sending", "sent", "waiting"]; {
        job_id: Uuid,
        kind: String,
        conversation_id: Option<Uuid>,
        user_id: Option<Uuid>,
        email_key: Option<String>,
        state: String,
        attempts: i64,
        next_at: i64,
        created_at: i64,
        message_id: Option<Uuid>,
        settled_at: Option<i64>,
        last_reply: Option<String>,
    }
}

line! {
    RelayDigestLine of "relay_digests" by (user_id, day) {
        user_id: Uuid,
        day: i64,
        at: i64,
    }
}

line! {
    /// R60: hashes under the key of where they come from.
    TombstoneLine of "tombstones" by (hash) {
        hash: Hex,
        erased_at: i64,
    }
}

line! {
    /// R62: retired ones too, which are refused for ever. The last kind: mail is taken once all else is there.
    SyncAddressLine of "sync_addresses" by (local_part) where state in &["active", "retired"]; {
        local_part: String,
        user_id: Uuid,
        state: String,
        created_at: i64,
    }
}

/// The word of a column, as the rows of filing hold it.
pub(in crate::store) fn word(words: &'static [&'static str], text: &str) -> Option<&'static str> {
    words.iter().copied().find(|word| *word == text)
}

const ON_OFF: &[&str] = &["off", "on"];
pub(in crate::store) const DIRECTIONS: &[&str] = &["inbound", "outbound"];
pub(in crate::store) const KINDS: &[&str] = &["auto_reply", "bounce", "complaint", "forwarded", "mail"];
pub(in crate::store) const SENDERS: &[&str] = &["unknown", "unverified", "verified"];
pub(in crate::store) const ROLES: &[&str] = &["about", "cc", "from", "to"];
const DIGEST_OCTETS: usize = 32;

macro_rules! kinds {
    ($($kind:ident = $name:literal,)+) => {
        /// The kinds of rows that an account consists of, in the order in which they are imported: parents before
        /// children, and sync addresses last.
        ///
        /// Left out: API tokens, webhook secrets and what an `Idempotency-Key` was answered (secrets, or worth
        /// nothing elsewhere), attempts of webhooks, links to confirm an address (a key of the old copy proves them),
        /// purges under way (an account is not exported while one runs).
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind {
            $(#[doc = concat!("`", $name, "`")] $kind,)+
        }

        impl Kind {
            /// All of them, in order.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)+];

            /// The name of its file, without `.ndjson`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)+ }
            }
        }
    };
}

kinds! {
    Audit = "audit",
    Account = "account",
    Users = "users",
    UserEmails = "user_emails",
    Signers = "remembered_signers",
    Confirmations = "forwarding_confirmations",
    DailyFilings = "daily_filings",
    Contacts = "contacts",
    Marks = "sync_marks",
    Conversations = "conversations",
    Messages = "messages",
    ThreadIds = "thread_ids",
    Held = "held",
    Deliveries = "deliveries",
    DeliveryAddresses = "delivery_addresses",
    Events = "events",
    Webhooks = "webhooks",
    WebhookDeliveries = "webhook_deliveries",
    RelayJobs = "relay_jobs",
    RelayDigests = "relay_digests",
    Tombstones = "tombstones",
    SyncAddresses = "sync_addresses",
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filing::{Direction, Role, Sender};
    use crate::message::Kind as MessageKind;

    #[test]
    fn words_are_those_of_the_rules() {
        let words = |words: Vec<&'static str>| words;
        assert_eq!(words(Direction::ALL.iter().map(|word| word.as_str()).collect()), DIRECTIONS);
        assert_eq!(words(Sender::ALL.iter().map(|word| word.as_str()).collect()), SENDERS);
        assert_eq!(words(Role::ALL.iter().map(|word| word.as_str()).collect()), ROLES);
        for kind in [
            MessageKind::AutoReply,
            MessageKind::Bounce,
            MessageKind::Complaint,
            MessageKind::Forwarded,
            MessageKind::Mail,
        ] {
            assert!(KINDS.contains(&kind.as_str()));
        }
    }

    #[test]
    fn octets_are_read_back_from_their_digits() {
        for octets in [&[][..], &[0], &[0x1f, 0xab, 0xff]] {
            assert_eq!(unhex(&hex(octets)).unwrap(), octets);
        }
        for bad in ["0", "zz", "0x", "é"] {
            assert_eq!(unhex(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_line_with_a_key_too_many_or_too_few_is_refused() {
        let id = Uuid::now_v7();
        let line = format!(r#"{{"account_id":"{id}","hash":"00ff","erased_at":1}}"#);
        let read: TombstoneLine = serde_json::from_str(&line).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), line);
        for bad in
            [line.replace("\"erased_at\":1", "\"erased_at\":1,\"x\":1"), line.replace(",\"erased_at\":1", "")]
        {
            assert!(serde_json::from_str::<TombstoneLine>(&bad).is_err(), "{bad}");
        }
    }

    async fn schema() -> sqlx::SqliteConnection {
        use sqlx::Connection as _;
        let mut connection = sqlx::SqliteConnection::connect("sqlite::memory:").await.unwrap();
        sqlx::migrate!("src/store/migrations/common").run(&mut connection).await.unwrap();
        connection
    }

    #[tokio::test]
    async fn every_table_of_the_schema_is_exported_or_left_out_on_purpose() {
        let tables: Vec<(String,)> = sqlx::query_as(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name",
        )
        .fetch_all(&mut schema().await)
        .await
        .unwrap();
        for (table,) in tables {
            let is_exported = Kind::ALL.iter().any(|kind| kind.name() == table);
            assert!(is_exported != LEFT_OUT.contains(&table.as_str()), "{table}");
        }
    }

    /// Tables that are not exported under their own name.
    const LEFT_OUT: [&str; 13] = [
        "_sqlx_migrations",
        "accounts",    // In account.ndjson.
        "audit_heads", // Follows from the trail.
        "clock_mark",  // Of this store, not of an account.
        "email_confirmations",
        "erased_blobs",
        "idempotency_keys",
        "participants", // In messages.ndjson.
        "purges",
        "retired_account_keys",
        "row_keys",
        "tokens",
        "webhook_attempts",
    ];

    async fn check<L: Line>(table: &str, left_out: &[&str]) {
        let columns: Vec<(String,)> =
            sqlx::query_as(sqlx::AssertSqlSafe(format!("SELECT name FROM pragma_table_info('{table}')")))
                .fetch_all(&mut schema().await)
                .await
                .unwrap();
        assert!(!columns.is_empty(), "{table}");
        let read: Vec<&str> = L::SELECT
            .split_once(" FROM ")
            .unwrap()
            .0
            .split([' ', ',', '\n'])
            .filter(|word| !word.is_empty() && *word != "SELECT")
            .collect();
        for (column,) in columns {
            let is_read = read.contains(&column.as_str());
            assert!(is_read != left_out.contains(&column.as_str()), "{table}.{column}");
        }
    }

    #[tokio::test]
    async fn every_column_of_an_exported_table_is_in_its_lines_or_left_out_on_purpose() {
        let sealed = ["content_key", "raw", "blob"];
        check::<AccountLine>("accounts", &["wrapped_key", "key_number", "key_floor"]).await;
        check::<AuditLine>("audit", &[]).await;
        check::<ConfirmationLine>("forwarding_confirmations", &[]).await;
        check::<ContactLine>("contacts", &[]).await;
        check::<ConversationLine>("conversations", &[]).await;
        check::<DailyFilingLine>("daily_filings", &[]).await;
        check::<DeliveryAddressLine>("delivery_addresses", &[]).await;
        check::<DeliveryLine>("deliveries", &[]).await;
        check::<EventLine>("events", &[]).await;
        check::<HeldLine>("held", &sealed).await;
        check::<MarkLine>("sync_marks", &[]).await;
        check::<MessageLine>("messages", &sealed).await;
        check::<RelayDigestLine>("relay_digests", &[]).await;
        check::<RelayJobLine>("relay_jobs", &[]).await;
        check::<SignerLine>("remembered_signers", &[]).await;
        check::<SyncAddressLine>("sync_addresses", &[]).await;
        check::<ThreadIdLine>("thread_ids", &[]).await;
        check::<TombstoneLine>("tombstones", &[]).await;
        check::<UserEmailLine>("user_emails", &[]).await;
        check::<UserLine>("users", &[]).await;
        check::<WebhookDeliveryLine>("webhook_deliveries", &[]).await;
        let secret = ["secret_key", "secret", "old_secret_key", "old_secret", "old_secret_until"];
        check::<WebhookLine>("webhooks", &[&secret[..], &["leased_by", "leased_until"]].concat()).await;
    }
}
