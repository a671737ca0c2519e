//! An account that another copy has exported, written here: the same ids, content sealed with keys of our own, and rows
//! where ours are sealed.
//!
//! Promises that a row which is there already stays as it is, so that an import which was interrupted is finished by
//! running it again, even beside one that is still at work, and nothing is there twice; that what was erased here does
//! not come back (R60); and that mail is taken for the account once all else is there. Messages go through the same
//! rows as a filing.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value as JsonValue, json};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::address::EmailAddress;
use crate::filing::Reason;
use crate::id::AccountId;
use crate::message::Text;
use crate::store::audit::{self, Act, Actor, ChainCheck};
use crate::store::blobs::BlobName;
use crate::store::directory::{Change, DirectoryError, merge_settings};
use crate::store::engine::{self, Builder, Connection, Fault, Transaction, query, query_as, query_scalar};
use crate::store::line_seal;
use crate::store::lines::{
    AccountLine, AuditLine, ConfirmationLine, ContactLine, ContentFile, ConversationLine, DIRECTIONS,
    DailyFilingLine, DeliveryAddressLine, DeliveryLine, EventLine, HeldLine, Hex, Json, KINDS, Kind, Line,
    MarkLine, MessageLine, ROLES, RelayDigestLine, RelayJobLine, SENDERS, SignerLine, SyncAddressLine,
    ThreadIdLine, TombstoneLine, UserEmailLine, UserLine, WebhookDeliveryLine, WebhookLine, word,
};
use crate::store::queries::{self, Hash16, MESSAGES, TOMBSTONES};
use crate::store::row_keyring::RowKeySet;
use crate::store::row_keys::Index;
use crate::store::rows::{HeldRow, MessageRow, ParticipantRow, Rows};
use crate::store::seal::{KeyNumber, SealError};
use crate::store::statement::{Insert, insert, select};
use crate::store::submission::SealedCopy;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// Why lines were not taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// It is not a line of this kind, or not of this account.
    #[error("{0}")]
    Line(String),
    /// The database refuses these rows: they refer to what is not there.
    #[error("the database refuses these rows: {0}")]
    Refused(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How an account stands to an export.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is not here.
    Absent,
    /// An import of this export was begun and not finished.
    Begun,
    /// The same, and everything in the account was erased since.
    Emptied,
    /// This export is imported.
    Done,
    /// It is here, and did not come from this export.
    Foreign,
}

/// A line, with the content that it names.
#[derive(Clone, Debug)]
pub struct Incoming {
    /// The line.
    pub line: String,
    /// The message.
    pub content: Option<Bytes>,
}

/// What a line that was looked at says of things beside it.
#[derive(Debug, Default)]
pub struct Looked {
    /// The content that must be there: under which id.
    pub content: Option<(Uuid, ContentFile)>,
    /// A name that is looked for without an account, so that no other may have it.
    pub claim: Option<Claim>,
}

/// See [`Looked::claim`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// A reply token names its conversation alone.
    Conversation(Uuid),
    /// The local part of a sync address.
    LocalPart(String),
}

/// Looks at the lines of an export without writing anything.
#[derive(Debug)]
pub struct Inspector {
    account: AccountId,
    accounts: usize,
    chain: ChainCheck,
}

/// Writes the lines of an export.
#[derive(Debug)]
pub struct Importer {
    store: Store,
    account: AccountId,
    export: Uuid,
    /// Whether hashes of addresses and messages mean the same here.
    same_hash_key: bool,
}

/// How many of some lines were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// New here; of most kinds, offered.
    pub taken: u64,
    /// There already, or erased here.
    pub known: u64,
    /// Of no use here.
    pub left_out: u64,
}

impl Inspector {
    /// For an account's export.
    #[must_use]
    pub fn new(account: AccountId) -> Self {
        Self { account, accounts: 0, chain: ChainCheck::new(account) }
    }

    /// Looks at a line.
    ///
    /// # Errors
    /// What is wrong with it, in a few words.
    #[expect(clippy::cognitive_complexity, reason = "one arm a kind")]
    pub fn look(&mut self, kind: Kind, line: &str) -> Result<Looked, String> {
        match kind {
            Kind::Account => self.look_at_account(line)?,
            Kind::Audit => {
                let AuditLine { seq, at, actor, action, object, detail, hash, .. } = self.parse(line)?;
                if !(1..=SEQ_MAX).contains(&seq) {
                    return Err(format!("seq is {seq}: the trail could not go on"));
                }
                self.chain.follow((seq, at, actor, action, object, detail, hash.0));
            }
            Kind::Conversations => {
                let id = self.parse::<ConversationLine>(line)?.conversation_id;
                return Ok(Looked { claim: Some(Claim::Conversation(id)), content: None });
            }
            Kind::Held => {
                let held: HeldLine = self.parse(line)?;
                if reason(&held.reason).is_none() {
                    return Err(format!("reason is `{}`, which is none", held.reason));
                }
                let content = held.content.map(|content| (held.delivery_id, content));
                return Ok(Looked { content, claim: None });
            }
            Kind::Messages => {
                let message: MessageLine = self.parse(line)?;
                if !message.has_digest() {
                    return Err("digest has not got 32 octets".to_owned());
                }
                let content = message.content.map(|content| (message.message_id, content));
                return Ok(Looked { content, claim: None });
            }
            Kind::SyncAddresses => {
                let local_part = self.parse::<SyncAddressLine>(line)?.local_part;
                return Ok(Looked { claim: Some(Claim::LocalPart(local_part)), content: None });
            }
            Kind::Confirmations => self.check::<ConfirmationLine>(line)?,
            Kind::Contacts => self.check::<ContactLine>(line)?,
            Kind::DailyFilings => self.check::<DailyFilingLine>(line)?,
            Kind::Deliveries => self.check::<DeliveryLine>(line)?,
            Kind::DeliveryAddresses => self.check::<DeliveryAddressLine>(line)?,
            Kind::Events => check_event_id(self.parse::<EventLine>(line)?.event_id)?,
            Kind::Marks => self.check::<MarkLine>(line)?,
            Kind::RelayDigests => self.check::<RelayDigestLine>(line)?,
            Kind::RelayJobs => self.check::<RelayJobLine>(line)?,
            Kind::Signers => self.check::<SignerLine>(line)?,
            Kind::ThreadIds => self.check::<ThreadIdLine>(line)?,
            Kind::Tombstones => self.check::<TombstoneLine>(line)?,
            Kind::UserEmails => self.check::<UserEmailLine>(line)?,
            Kind::Users => self.check::<UserLine>(line)?,
            Kind::WebhookDeliveries => self.check::<WebhookDeliveryLine>(line)?,
            Kind::Webhooks => self.check::<WebhookLine>(line)?,
        }
        Ok(Looked::default())
    }

    /// Once all lines were looked at: what is wrong with the audit trail, as far as it comes.
    ///
    /// # Errors
    /// If the account itself is not among them.
    pub fn finish(self) -> Result<Vec<String>, String> {
        match self.accounts {
            1 => Ok(self.chain.finish()),
            n => Err(format!("there are {n} accounts in it, not one")),
        }
    }

    fn look_at_account(&mut self, line: &str) -> Result<(), String> {
        let account: AccountLine = self.parse(line)?;
        let settings =
            account.settings.value().and_then(JsonValue::as_object).ok_or("settings are no object")?;
        merge_settings(&serde_json::Map::new(), settings).map_err(|error| format!("settings: {error}"))?;
        self.accounts += 1;
        Ok(())
    }

    fn parse<L: Line>(&self, line: &str) -> Result<L, String> {
        parse(self.account, line)
    }

    fn check<L: Line>(&self, line: &str) -> Result<(), String> {
        self.parse::<L>(line).map(|_| ())
    }
}

fn parse<L: Line>(account: AccountId, line: &str) -> Result<L, String> {
    // The parser's own words quote no values but the key or word that it does not know.
    let parsed: L = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if parsed.account() != account.uuid() {
        return Err(format!("it belongs to account {}", parsed.account()));
    }
    for (column, said, words) in parsed.worded() {
        if word(words, said).is_none() {
            return Err(format!("{column} is none of {}", words.join(", ")));
        }
    }
    Ok(parsed)
}

/// The account's own events follow its last one, whatever that is: none may stand where there is no room behind it.
fn check_event_id(id: Uuid) -> Result<(), String> {
    let latest = Timestamp::now().plus_days(1).as_millis();
    let made_at = i64::try_from(id.as_u128() >> 80).unwrap_or(i64::MAX);
    if id.get_version_num() != 7 || made_at > latest {
        return Err(format!("event_id {id} is no UUIDv7 of a time before tomorrow"));
    }
    Ok(())
}

fn reason(text: &str) -> Option<&'static str> {
    Reason::ALL.iter().map(|reason| reason.as_str()).find(|word| *word == text)
}

impl Store {
    /// How an account stands to an export.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn standing(&self, account: AccountId, export: Uuid) -> Result<Standing, StoreError> {
        if self.account(account).await?.is_none() {
            return Ok(if account == AccountId::OPERATOR { Standing::Foreign } else { Standing::Absent });
        }
        let mut reader = self.reader().acquire().await?;
        let detail = last_import(&mut reader, account).await?;
        Ok(match (detail["export_id"].as_str(), detail["state"].as_str()) {
            (Some(id), _) if id != export.to_string() => Standing::Foreign,
            (Some(_), Some(DONE)) => Standing::Done,
            (Some(_), _) if was_emptied(&mut reader, account).await? => Standing::Emptied,
            (Some(_), _) => Standing::Begun,
            (None, _) => Standing::Foreign,
        })
    }

    /// Whether an account is here in part: its import was begun and not finished.
    pub(in crate::store) async fn is_importing(&self, account: AccountId) -> Result<bool, StoreError> {
        is_importing(&mut self.reader().acquire().await?, account).await
    }

    /// The first of these names that another account has.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn claimed_elsewhere(
        &self,
        account: AccountId,
        claims: &[Claim],
    ) -> Result<Option<Claim>, StoreError> {
        let parts: Vec<&str> = claims
            .iter()
            .filter_map(|claim| match claim {
                Claim::Conversation(_) => None,
                Claim::LocalPart(part) => Some(part.as_str()),
            })
            .collect();
        let ids: Vec<Uuid> = claims
            .iter()
            .filter_map(|claim| match claim {
                Claim::Conversation(id) => Some(*id),
                Claim::LocalPart(_) => None,
            })
            .collect();
        if !parts.is_empty() {
            let keys = self.operator_row_keys();
            let spelt = parts.into_iter().map(|part| self.sync_address_keys(part));
            let parts: Vec<String> = spelt.collect::<Result<Vec<_>, _>>()?.into_iter().flatten().collect();
            let mut sql = Builder::new("SELECT local_part FROM sync_addresses WHERE account_id <> ");
            sql.push_bind(account.uuid()).push(" AND local_part IN (").push_list(parts).push(")");
            let found: Option<(String,)> = sql.build().fetch_optional(self.reader()).await?;
            if let Some((part,)) = found {
                return Ok(Some(Claim::LocalPart(keys.show_index(Index::SyncAddress, part)?)));
            }
        }
        if !ids.is_empty() {
            let mut sql = Builder::new("SELECT conversation_id FROM conversations WHERE account_id <> ");
            sql.push_bind(account.uuid()).push(" AND conversation_id IN (").push_list(ids).push(")");
            let found: Option<(Uuid,)> = sql.build().fetch_optional(self.reader()).await?;
            if let Some((id,)) = found {
                return Ok(Some(Claim::Conversation(id)));
            }
        }
        Ok(None)
    }

    /// To write an export; `same_hash_key` says whether it comes from under the same address-hash key.
    #[must_use]
    pub fn importer(&self, account: AccountId, export: Uuid, same_hash_key: bool) -> Importer {
        Importer { store: self.clone(), account, export, same_hash_key }
    }
}

impl Change {
    /// R60: what an unfinished import would bring back is not erased piecemeal; the whole account may be.
    pub(in crate::store) async fn refuse_while_importing(
        &mut self,
        account: AccountId,
    ) -> Result<(), DirectoryError> {
        if is_importing(self.on(account).await?, account).await? {
            return Err(DirectoryError::Conflict(
                "the account's import is not finished and would bring it back: run `syncmx import` again first"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

/// Nothing is to come any more once everything in the account was erased.
async fn is_importing(connection: &mut Connection, account: AccountId) -> Result<bool, StoreError> {
    let last = last_of_account(connection, account).await?;
    Ok(last.is_some_and(|(action, detail)| {
        action == IMPORT && detail["export_id"].is_string() && detail["state"] != DONE
    }))
}

/// What the trail says of the last import, if there was one.
async fn last_import(connection: &mut Connection, account: AccountId) -> Result<JsonValue, StoreError> {
    let detail: Option<Option<String>> = query_scalar(
        // As the index has it, which finds it in a long trail.
        "SELECT detail FROM audit WHERE account_id = $1 AND object = 'account' AND action IN ('import', 'purge')
         AND action = $2 ORDER BY seq DESC LIMIT 1",
    )
    .bind(account.uuid())
    .bind(IMPORT)
    .fetch_optional(connection)
    .await?;
    Ok(detail.flatten().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default())
}

/// The last import of an account, or the last time that everything in it was erased.
async fn last_of_account(
    connection: &mut Connection,
    account: AccountId,
) -> Result<Option<(String, JsonValue)>, StoreError> {
    let last: Option<(String, Option<String>)> = query_as(
        "SELECT action, detail FROM audit WHERE account_id = $1 AND object = 'account' AND action IN ('import', 'purge')
         ORDER BY seq DESC LIMIT 1",
    )
    .bind(account.uuid())
    .fetch_optional(connection)
    .await?;
    let read = |detail: Option<String>| detail.and_then(|text| serde_json::from_str(&text).ok());
    Ok(last.map(|(action, detail)| (action, read(detail).unwrap_or_default())))
}

/// Whether everything in the account was erased after its import was begun. Not where the account is yet to be written:
/// its trail comes first, and tells of what was elsewhere.
async fn was_emptied(connection: &mut Connection, account: AccountId) -> Result<bool, StoreError> {
    let is_there: Option<Uuid> = query_scalar("SELECT account_id FROM accounts WHERE account_id = $1")
        .bind(account.uuid())
        .fetch_optional(&mut *connection)
        .await?;
    let last = last_of_account(connection, account).await?;
    Ok(is_there.is_some() && last.is_some_and(|(action, _)| action == "purge"))
}

impl Importer {
    /// Writes lines of a kind, all of them or none. Kinds are to come in their order, the trail and the account once.
    ///
    /// # Errors
    /// If a line is none of this kind, the database refuses the rows, or the store fails.
    pub async fn write(&self, kind: Kind, lines: Vec<Incoming>) -> Result<Taken, ImportError> {
        let mut tries = 1;
        loop {
            match self.try_to_write(kind, &lines).await {
                done @ Err(ImportError::Line(_) | ImportError::Store(StoreError::NoSuchAccount)) => {
                    return done;
                }
                // Somebody else may have had the account, or the database, for too long.
                Err(_) if tries < WRITE_TRIES => {
                    tries += 1;
                    tokio::time::sleep(WRITE_PAUSE).await;
                }
                done => return done,
            }
        }
    }

    /// The account is whole, and takes mail: written down, and told to other nodes.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish(&self, counts: JsonValue) -> Result<(), StoreError> {
        let mut transaction = self.begin().await?;
        let mut detail = json!({ "export_id": self.export, "state": DONE });
        if let (Some(detail), Some(counts)) = (detail.as_object_mut(), counts.as_object()) {
            detail.extend(counts.clone());
        }
        audit::append(&mut transaction, vec![self.act(detail)]).await?;
        transaction.announce_change().await?;
        transaction.commit().await?;
        self.store.forget_addresses();
        Ok(())
    }

    #[expect(clippy::cognitive_complexity, reason = "one arm a kind")]
    async fn try_to_write(&self, kind: Kind, lines: &[Incoming]) -> Result<Taken, ImportError> {
        match kind {
            Kind::Account => self.account(lines).await,
            Kind::Audit => self.plain::<AuditLine>(lines).await,
            Kind::Conversations => self.plain::<ConversationLine>(lines).await,
            Kind::Deliveries => self.deliveries(lines).await,
            Kind::DeliveryAddresses => self.hashed::<DeliveryAddressLine>(lines).await,
            Kind::Held => self.held(lines).await,
            Kind::Messages => self.messages(lines).await,
            Kind::RelayJobs => self.relay_jobs(lines).await,
            Kind::SyncAddresses => self.plain::<SyncAddressLine>(lines).await,
            Kind::Tombstones => self.hashed::<TombstoneLine>(lines).await,
            Kind::Webhooks => self.webhooks(lines).await,
            Kind::Confirmations => self.plain::<ConfirmationLine>(lines).await,
            Kind::Contacts => self.plain::<ContactLine>(lines).await,
            Kind::DailyFilings => self.plain::<DailyFilingLine>(lines).await,
            Kind::Events => self.plain::<EventLine>(lines).await,
            Kind::Marks => self.plain::<MarkLine>(lines).await,
            Kind::RelayDigests => self.plain::<RelayDigestLine>(lines).await,
            Kind::Signers => self.plain::<SignerLine>(lines).await,
            Kind::ThreadIds => self.plain::<ThreadIdLine>(lines).await,
            Kind::UserEmails => self.plain::<UserEmailLine>(lines).await,
            Kind::Users => self.plain::<UserLine>(lines).await,
            Kind::WebhookDeliveries => self.plain::<WebhookDeliveryLine>(lines).await,
        }
    }

    async fn plain<L: Line + Insert>(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        self.insert(self.parsed::<L>(lines)?).await
    }

    async fn insert<L: Line + Insert>(&self, mut rows: Vec<L>) -> Result<Taken, ImportError> {
        let taken = rows.len() as u64;
        let mut transaction = self.begin().await?;
        self.seal(&mut transaction, &mut rows).await?;
        insert(&mut transaction, rows).await.map_err(refused)?;
        commit(transaction).await?;
        Ok(Taken { taken, ..Taken::default() })
    }

    /// Lines as this store is to hold them. The keys are those of now: emptying an account makes another one.
    async fn seal<L: Line>(&self, connection: &mut Connection, rows: &mut [L]) -> Result<(), StoreError> {
        let keys = line_seal::keys_of::<L>(&self.row_keys(connection).await?, self.account)?;
        rows.iter_mut().try_for_each(|row| line_seal::seal(row, &keys))
    }

    async fn row_keys(&self, connection: &mut Connection) -> Result<RowKeySet, StoreError> {
        self.store.inner.rows.of_all(connection, [self.account, AccountId::OPERATOR]).await
    }

    /// Hashes under another key would never be found.
    async fn hashed<L: Line + Insert>(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        if self.same_hash_key {
            return self.plain::<L>(lines).await;
        }
        Ok(Taken { left_out: lines.len() as u64, ..Taken::default() })
    }

    /// The account with a key of our own; its trail goes on with this import.
    async fn account(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        let mut transaction = self.begin().await?;
        let mut accounts: Vec<AccountLine> = self.parsed(lines)?;
        self.seal(&mut transaction, &mut accounts).await?;
        for AccountLine { account_id, name, settings, created_at } in accounts {
            let key = self.store.vault().new_account_key(self.account).map_err(StoreError::from)?;
            query(
                "INSERT INTO accounts (account_id, name, settings, wrapped_key, created_at) VALUES ($1, $2, $3, $4, $5)",
            )
            .bind(account_id)
            .bind(name)
            .bind(settings)
            .bind(key.clone())
            .bind(created_at)
            .execute(&mut *transaction)
            .await
            .map_err(refused)?;
            let rows = self.store.inner.rows.clone();
            rows.give_key(&mut transaction, self.account, key, Timestamp::now()).await?;
        }
        query(
            "INSERT INTO audit_heads (account_id, seq, hash) SELECT account_id, seq, hash FROM audit
             WHERE account_id = $1 ORDER BY seq DESC LIMIT 1",
        )
        .bind(self.account.uuid())
        .execute(&mut *transaction)
        .await
        .map_err(refused)?;
        let begun = self.act(json!({ "export_id": self.export, "state": "begun" }));
        audit::append(&mut transaction, vec![begun]).await.map_err(refused)?;
        commit(transaction).await?;
        Ok(Taken { taken: 1, ..Taken::default() })
    }

    async fn messages(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        let mut messages: Vec<MessageLine> = self.parsed(lines)?;
        let offered = messages.len() as u64;
        let contents: HashMap<Uuid, &Bytes> = messages
            .iter()
            .zip(lines)
            .filter_map(|(message, line)| Some((message.message_id, line.content.as_ref()?)))
            .collect();
        let mut reader = self.store.reader().acquire().await.map_err(StoreError::from)?;
        self.keep_new(&mut reader, &mut messages).await?;
        drop(reader);
        // Sealed before the transaction, as for a filing: nobody waits for it.
        let mut copies = HashMap::new();
        for id in messages.iter().map(|message| message.message_id) {
            if let Some(raw) = contents.get(&id) {
                copies.insert(id, self.store.seal_copy(self.account, id, (*raw).clone()).await?);
            }
        }
        let mut transaction = self.begin().await?;
        self.keep_new(&mut transaction, &mut messages).await?;
        self.refuse_below_floor(&mut transaction, copies.values().map(|copy| &copy.content_key)).await?;
        let taken = messages.len() as u64;
        let mut rows = Rows::default();
        for message in messages {
            let copy = copies.remove(&message.message_id);
            add_message(&mut rows, message, copy.as_ref())?;
        }
        // Another import of the same was faster.
        let unused = copies.into_values().filter_map(|copy| copy.place.blob()).collect();
        let keys = self.row_keys(&mut transaction).await?;
        rows.write(&mut transaction, &keys).await.map_err(refused)?;
        commit(transaction).await?;
        self.store.inner.blobs.remove(unused).await;
        Ok(Taken { taken, known: offered - taken, left_out: 0 })
    }

    /// Takes away what is on file here by its id, or its Message-ID and digest (R70), and what was erased here (R60).
    async fn keep_new(
        &self,
        connection: &mut Connection,
        messages: &mut Vec<MessageLine>,
    ) -> Result<(), ImportError> {
        let account = self.account.uuid();
        let rows = self.row_keys(connection).await?.of(self.account)?;
        // As the store has them.
        let stored = |message: &MessageLine| -> Result<(String, Vec<u8>), StoreError> {
            let header = rows.index(Index::MessageId, message.message_id_header.as_str())?;
            Ok((header, rows.index_octets(Index::Digest, &message.digest.0)?))
        };
        let mut names = HashMap::with_capacity(messages.len());
        for message in messages.iter() {
            names.insert(message.message_id, stored(message)?);
        }
        let keys = names
            .values()
            .map(|(header, digest)| queries::Message(account, header.clone(), digest.clone()))
            .collect();
        type Found = (Uuid, String, Uuid, Vec<u8>, Uuid);
        let found: Vec<Found> = select(connection, &MESSAGES, keys).await.map_err(StoreError::from)?;
        let mut ids: HashSet<Uuid> = found.iter().map(|(_, _, id, ..)| *id).collect();
        let mut same: HashSet<(String, Vec<u8>)> =
            found.into_iter().map(|(_, header, _, digest, _)| (header, digest)).collect();
        let hash = |message: &MessageLine| {
            let keys = &self.store.inner.keys;
            keys.message_hash(self.account, &message.message_id_header, &message.digest.0).to_vec()
        };
        let hashes = messages.iter().map(|message| Hash16(account, hash(message))).collect();
        let erased: Vec<(Uuid, Vec<u8>)> =
            select(connection, &TOMBSTONES, hashes).await.map_err(StoreError::from)?;
        messages.retain(|message| {
            !erased.iter().any(|(_, erased)| *erased == hash(message))
                && ids.insert(message.message_id)
                && names.get(&message.message_id).is_some_and(|name| same.insert(name.clone()))
        });
        Ok(())
    }

    async fn held(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        let held: Vec<HeldLine> = self.parsed(lines)?;
        let mut counts = Taken::default();
        let mut rows = Vec::new();
        for (held, line) in held.into_iter().zip(lines) {
            let Some(raw) = &line.content else {
                counts.left_out += 1;
                continue;
            };
            let mut reader = self.store.reader().acquire().await.map_err(StoreError::from)?;
            if self.is_held_or_filed(&mut reader, held.delivery_id).await? {
                counts.known += 1;
                continue;
            }
            drop(reader);
            let copy = self.store.seal_copy(self.account, held.delivery_id, raw.clone()).await?;
            rows.push(held_row(held, &copy)?);
        }
        let mut transaction = self.begin().await?;
        self.refuse_below_floor(&mut transaction, rows.iter().map(|row| &row.content_key)).await?;
        let (mut new, mut unused) = (Rows::default(), Vec::new());
        for row in rows {
            if self.is_held_or_filed(&mut transaction, row.delivery_id).await? {
                counts.known += 1;
                unused.extend(row.blob.as_deref().and_then(BlobName::parse));
            } else {
                counts.taken += 1;
                new.held.push(row);
            }
        }
        let keys = self.row_keys(&mut transaction).await?;
        new.write(&mut transaction, &keys).await.map_err(refused)?;
        commit(transaction).await?;
        self.store.inner.blobs.remove(unused).await;
        Ok(counts)
    }

    async fn is_held_or_filed(
        &self,
        connection: &mut Connection,
        delivery: Uuid,
    ) -> Result<bool, ImportError> {
        let count: i64 = query_scalar(
            "SELECT (SELECT COUNT(*) FROM held WHERE account_id = $1 AND delivery_id = $2)
                  + (SELECT COUNT(*) FROM messages WHERE account_id = $1 AND message_id = $2)",
        )
        .bind(self.account.uuid())
        .bind(delivery)
        .fetch_one(connection)
        .await
        .map_err(StoreError::from)?;
        Ok(count > 0)
    }

    /// Where the old hashes of addresses mean nothing, those that a trace shows are hashed anew.
    async fn deliveries(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        let mut deliveries: Vec<DeliveryLine> = self.parsed(lines)?;
        let addresses = if self.same_hash_key { Vec::new() } else { self.addresses_of(&deliveries) };
        let taken = deliveries.len() as u64;
        let mut transaction = self.begin().await?;
        self.seal(&mut transaction, &mut deliveries).await?;
        insert(&mut transaction, deliveries).await.map_err(refused)?;
        insert(&mut transaction, addresses).await.map_err(refused)?;
        commit(transaction).await?;
        Ok(Taken { taken, ..Taken::default() })
    }

    fn addresses_of(&self, deliveries: &[DeliveryLine]) -> Vec<DeliveryAddressLine> {
        let of = |delivery: &DeliveryLine| {
            let shown = [
                ("from", delivery.mail_from.as_deref().and_then(EmailAddress::parse)),
                ("from", delivery.from_address.as_deref().and_then(EmailAddress::parse)),
                ("to", delivery.rcpt.as_deref().and_then(EmailAddress::parse)),
            ];
            let (account_id, delivery_id) = (delivery.account_id, delivery.delivery_id);
            let keys = self.store.inner.keys.clone();
            shown.into_iter().filter_map(move |(role, address)| {
                let address_hash = Hex(keys.address_hash(&address?).to_vec());
                Some(DeliveryAddressLine { account_id, address_hash, role: role.to_owned(), delivery_id })
            })
        };
        deliveries.iter().flat_map(of).collect()
    }

    /// What had not gone out yet is not sent by itself: the old copy may still send it.
    async fn relay_jobs(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        let mut jobs: Vec<RelayJobLine> = self.parsed(lines)?;
        for job in jobs.iter_mut().filter(|job| ["sending", "waiting"].contains(&job.state.as_str())) {
            "cancelled".clone_into(&mut job.state);
            job.settled_at = Some(Timestamp::now().as_millis());
            job.last_reply = Some("imported: it had not gone out where it comes from".to_owned());
        }
        self.insert(jobs).await
    }

    /// Their secrets stay where they were: each gets one that nobody knows, and is off.
    async fn webhooks(&self, lines: &[Incoming]) -> Result<Taken, ImportError> {
        let webhooks: Vec<WebhookLine> = self.parsed(lines)?;
        let taken = webhooks.len() as u64;
        let key = self.store.account_keys(self.account).await?;
        let mut sealed = Vec::with_capacity(webhooks.len());
        for webhook in &webhooks {
            let mut secret = Zeroizing::new([0; 32]);
            aws_lc_rs::rand::fill(secret.as_mut()).map_err(|_| StoreError::from(SealError::Failed))?;
            sealed.push(key.seal(webhook.webhook_id, secret.as_slice()).map_err(StoreError::from)?);
        }
        let mut transaction = self.begin().await?;
        self.refuse_below_floor(&mut transaction, sealed.iter().map(|sealed| &sealed.content_key)).await?;
        for (webhook, sealed) in webhooks.into_iter().zip(sealed) {
            query(
                "INSERT INTO webhooks (account_id, webhook_id, url, events, detail, state, off_because, secret_key, secret,
                 passed, leased_until, created_at) VALUES ($1, $2, $3, $4, $5, 'off', $6, $7, $8, $9, 0, $10)
                 ON CONFLICT DO NOTHING",
            )
            .bind(webhook.account_id)
            .bind(webhook.webhook_id)
            .bind(webhook.url)
            .bind(webhook.events)
            .bind(webhook.detail)
            .bind(WEBHOOK_OFF)
            .bind(sealed.content_key)
            .bind(sealed.bytes)
            .bind(webhook.passed)
            .bind(webhook.created_at)
            .execute(&mut *transaction)
            .await
            .map_err(refused)?;
        }
        commit(transaction).await?;
        Ok(Taken { taken, ..Taken::default() })
    }

    fn parsed<L: Line>(&self, lines: &[Incoming]) -> Result<Vec<L>, ImportError> {
        lines.iter().map(|incoming| parse(self.account, &incoming.line).map_err(ImportError::Line)).collect()
    }

    fn act(&self, detail: JsonValue) -> Act {
        Act {
            account: self.account,
            at: Timestamp::now(),
            actor: Actor::Operator.to_string(),
            action: IMPORT.to_owned(),
            object: "account".to_owned(),
            detail: Some(detail),
        }
    }

    /// What an account key has sealed that is gone, or is about to go, would never open: then it is sealed again.
    async fn refuse_below_floor<'k>(
        &self,
        connection: &mut Connection,
        mut content_keys: impl Iterator<Item = &'k Vec<u8>>,
    ) -> Result<(), ImportError> {
        let floor: Option<i64> = query_scalar("SELECT key_floor FROM accounts WHERE account_id = $1")
            .bind(self.account.uuid())
            .fetch_optional(connection)
            .await
            .map_err(StoreError::from)?;
        let floor = floor.unwrap_or_default();
        let is_sound = |key: &Vec<u8>| KeyNumber::of(key).is_some_and(|number| number.as_i64() >= floor);
        if content_keys.all(is_sound) {
            return Ok(());
        }
        self.store.forget_addresses();
        Err(ImportError::Refused("the account's key was rotated meanwhile".to_owned()))
    }

    async fn begin(&self) -> Result<Transaction, StoreError> {
        let mut transaction = self.store.begin().await?;
        transaction.lock_accounts(&[self.account]).await?;
        // R60: erased while this is at work.
        if was_emptied(&mut transaction, self.account).await? {
            return Err(StoreError::NoSuchAccount);
        }
        Ok(transaction)
    }
}

fn add_message(rows: &mut Rows, message: MessageLine, copy: Option<&SealedCopy>) -> Result<(), ImportError> {
    let (raw, blob) = copy.map(|copy| copy.place.columns()).unwrap_or_default();
    let account_id = message.account_id;
    for person in message.participants {
        rows.participants.push(ParticipantRow {
            account_id,
            message_id: message.message_id,
            position: person.position,
            role: known_word(ROLES, &person.role)?,
            name: person.name,
            email: person.email,
            contact_id: person.contact_id,
            user_id: person.user_id,
            sent_at: message.sent_at,
        });
    }
    rows.messages.push(MessageRow {
        account_id,
        message_id: message.message_id,
        conversation_id: message.conversation_id,
        contact_id: message.contact_id,
        user_id: message.user_id,
        direction: known_word(DIRECTIONS, &message.direction)?,
        kind: known_word(KINDS, &message.kind)?,
        sender: known_word(SENDERS, &message.sender)?,
        subject: message.subject,
        sent_at: message.sent_at,
        received_at: message.received_at,
        message_id_header: message.message_id_header,
        in_reply_to: message.in_reply_to,
        // Stored once where all of it is new.
        text: if message.text == message.new_text { Text::default() } else { message.text.into() },
        new_text: message.new_text.into(),
        has_html: message.has_html,
        flags: message.flags.into_text(),
        attachments: message.attachments.into_text(),
        digest: message.digest.0,
        size_bytes: message.size_bytes,
        content_key: copy.map(|copy| copy.content_key.clone()),
        raw,
        blob,
        meeting: message.meeting.map(Json::into_text),
    });
    Ok(())
}

fn held_row(held: HeldLine, copy: &SealedCopy) -> Result<HeldRow, ImportError> {
    let (raw, blob) = copy.place.columns();
    Ok(HeldRow {
        account_id: held.account_id,
        delivery_id: held.delivery_id,
        at: held.at,
        reason: reason(&held.reason).ok_or_else(|| ImportError::Line("its reason is none".to_owned()))?,
        why: held.why,
        user_id: held.user_id,
        contact_id: held.contact_id,
        expires_at: held.expires_at,
        headers: held.headers.into_text(),
        size_bytes: held.size_bytes,
        content_key: copy.content_key.clone(),
        raw,
        blob,
        message_id_header: held.message_id_header,
        digest: held.digest.0,
    })
}

fn known_word(words: &'static [&'static str], text: &str) -> Result<&'static str, ImportError> {
    word(words, text).ok_or_else(|| ImportError::Line(format!("`{text}` is none of {}", words.join(", "))))
}

async fn commit(transaction: Transaction) -> Result<(), ImportError> {
    transaction.commit().await.map_err(refused)
}

fn refused(error: sqlx::Error) -> ImportError {
    match engine::fault(&error) {
        Fault::Engine => ImportError::Store(error.into()),
        Fault::Rows => ImportError::Refused(error.to_string()),
    }
}

/// In the audit trail: of `account`.
const IMPORT: &str = "import";
const DONE: &str = "done";
const WEBHOOK_OFF: &str = "imported: its secret stayed behind; make a new one, then turn it on";
/// More rows than a trail ever has, far below where numbers end.
const SEQ_MAX: i64 = 1 << 53;
const WRITE_TRIES: u32 = 3;
const WRITE_PAUSE: Duration = Duration::from_secs(1);
