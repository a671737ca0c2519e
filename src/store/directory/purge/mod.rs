//! Purges (R60, R62, R63): erasing by message, contact, user or account.
//!
//! A purge is a row that is worked off piece by piece, each a transaction of bounded size, so that filing goes on
//! meanwhile; after a crash the server takes it up where it was. Promises that it ends, that it says so once
//! (`purge.done`, and the audit trail), and that another account is never touched.

mod contact;
mod elsewhere;
mod named;
mod plan;
mod select;
mod standing;
mod whole;
mod work;

use serde_json::{Value, json};
use uuid::Uuid;

pub(super) use work::note_blobs;

use crate::id::{AccountId, ContactId, MessageId, UserId};
use crate::store::StoreError;
use crate::store::audit::Act;
use crate::store::directory::erase::{Erased, Extent};
use crate::store::directory::{Change, DirectoryError, Log};
use crate::store::engine::{Connection, query, query_as};
use crate::store::row_keys::RowKeys;
use crate::store::statement::{insert, row};
use crate::store::views::id_floor;
use crate::time::Timestamp;

/// What is to be erased.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PurgeOf {
    /// Everything in the account but the account itself, its tokens, its audit trail and the hashes of what was
    /// erased. Its key is destroyed.
    All,
    /// A contact and everything on its record (R63).
    Contact(ContactId),
    /// One message.
    Message(MessageId),
    /// What a user's own addresses brought in (R62).
    Mine(UserId),
    /// A user: what is on record for them, their identities, their name. What remains is their id, and a keyed hash of
    /// each sync address, which is refused for ever.
    User(UserId),
}

impl PurgeOf {
    const fn kind(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Contact(_) => "contact",
            Self::Message(_) => "message",
            Self::Mine(_) => "mine",
            Self::User(_) => "user",
        }
    }

    const fn subject(self, account: AccountId) -> Uuid {
        match self {
            Self::All => account.uuid(),
            Self::Contact(id) => id.uuid(),
            Self::Message(id) => id.uuid(),
            Self::Mine(id) | Self::User(id) => id.uuid(),
        }
    }

    fn read(kind: &str, subject: Uuid) -> Option<Self> {
        Some(match kind {
            "all" => Self::All,
            "contact" => Self::Contact(ContactId::from_uuid(subject)),
            "message" => Self::Message(MessageId::from_uuid(subject)),
            "mine" => Self::Mine(UserId::from_uuid(subject)),
            "user" => Self::User(UserId::from_uuid(subject)),
            _ => return None,
        })
    }

    /// As the audit trail names it.
    fn object(self) -> String {
        match self {
            Self::All => "account".to_owned(),
            Self::Contact(id) => format!("contacts/{id}"),
            Self::Message(id) => format!("messages/{id}"),
            Self::Mine(id) | Self::User(id) => format!("users/{id}"),
        }
    }

    /// As the event names it.
    fn named(self) -> Value {
        match self {
            Self::All => json!({ "because": "purge", "all": true }),
            Self::Contact(id) => json!({ "because": "purge", "contact_id": id }),
            Self::Message(id) => json!({ "because": "purge", "message_id": id }),
            Self::Mine(id) => json!({ "because": "disconnect", "user_id": id }),
            Self::User(id) => json!({ "because": "purge", "user_id": id }),
        }
    }
}

/// A purge that has begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PurgeId {
    account: AccountId,
    id: Uuid,
}

/// How far a purge has come.
#[derive(Debug)]
#[must_use = "what is ready is not on disk before commit"]
pub enum PurgeStep {
    /// The last piece, to be committed, and what was erased in all.
    Last(Change, Erased),
    /// More is left than the time allowed; the server goes on.
    More(Erased),
}

/// A row of `purges`.
struct Job {
    id: Uuid,
    account: AccountId,
    of: PurgeOf,
    passed: Uuid,
    actor: String,
    erased: Erased,
    begun_at: Timestamp,
    stage: Stage,
    /// The addresses of a contact or user, folded: those on file, and those that stand on messages.
    texts: Vec<String>,
    /// What has a smaller id names them nowhere.
    floor: Uuid,
    /// Mail of theirs came while they were taken out elsewhere: once more, for what is as young as the purge.
    is_late: bool,
}

/// How far the end of a contact or user has come: they are taken out of what stays, part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// What is theirs: messages and held mail.
    Theirs,
    /// As what they stand on the messages of others.
    Names,
    /// They are taken out of those messages and their traces.
    Messages,
    /// They are taken out of events.
    Events,
    /// They are taken out of traces and held mail, and of what came meanwhile: the end.
    Hashes,
    /// Behind [`Self::Theirs`]: traces of theirs, of what was refused or discarded.
    Traces,
}

impl Stage {
    /// By their numbers in the store.
    const ALL: [Self; 6] =
        [Self::Theirs, Self::Names, Self::Messages, Self::Events, Self::Hashes, Self::Traces];

    /// The word of the store.
    fn number(self) -> i64 {
        Self::ALL.iter().zip(0..).find(|(stage, _)| **stage == self).map_or(0, |(_, number)| number)
    }

    fn read(number: i64) -> Self {
        Self::ALL.into_iter().zip(0..).find(|(_, n)| *n == number).map_or(Self::Theirs, |(stage, _)| stage)
    }
}

row! {
    /// A purge that begins.
    PurgeRow into "purges", then "ON CONFLICT (account_id, kind, subject_id) DO NOTHING" {
        account_id: Uuid,
        purge_id: Uuid,
        kind: &'static str,
        subject_id: Uuid,
        passed: Uuid,
        actor: String,
        messages: i64,
        attachments: i64,
        bytes: i64,
        blobs: i64,
        held: i64,
        deliveries: i64,
        begun_at: i64,
    }
}

#[derive(sqlx::FromRow)]
struct Row {
    kind: String,
    subject_id: Uuid,
    passed: Uuid,
    actor: String,
    messages: i64,
    attachments: i64,
    bytes: i64,
    blobs: i64,
    held: i64,
    deliveries: i64,
    begun_at: i64,
    stage: i64,
    texts: Option<String>,
}

impl Change {
    /// Begins a purge. From the commit on it happens, whatever becomes of us; `Store::work_off` carries it out.
    ///
    /// # Errors
    /// `NotFound` if there is no such thing, `Conflict` for a part of an account whose import is not finished.
    pub async fn begin_purge(
        &mut self,
        account: AccountId,
        of: PurgeOf,
        actor: &str,
    ) -> Result<PurgeId, DirectoryError> {
        if of != PurgeOf::All {
            self.refuse_while_importing(account).await?;
        }
        match of {
            PurgeOf::All => self.stop_account(account).await?,
            PurgeOf::Contact(contact) => self.require_contact(account, contact).await?,
            PurgeOf::Message(message) => self.require_message(account, message).await?,
            PurgeOf::Mine(user) => self.user(account, user).await.map(|_| ())?,
            PurgeOf::User(user) => self.stop_user(account, user).await?,
        }
        let row = PurgeRow {
            account_id: account.uuid(),
            purge_id: Uuid::now_v7(),
            kind: of.kind(),
            subject_id: of.subject(account),
            passed: Uuid::nil(),
            actor: actor.to_owned(),
            messages: 0,
            attachments: 0,
            bytes: 0,
            blobs: 0,
            held: 0,
            deliveries: 0,
            begun_at: self.now.as_millis(),
        };
        insert(self.on(account).await?, vec![row]).await?;
        // One that is under way already goes on.
        let (id,): (Uuid,) =
            query_as("SELECT purge_id FROM purges WHERE account_id = $1 AND kind = $2 AND subject_id = $3")
                .bind(account.uuid())
                .bind(of.kind())
                .bind(of.subject(account))
                .fetch_one(self.on(account).await?)
                .await?;
        self.note(account, actor, "purge", of.object(), None).await?;
        Ok(PurgeId { account, id })
    }

    /// Erases a piece. None if the purge is over; otherwise it, and whether that was the last piece.
    async fn purge_piece(&mut self, purge: PurgeId) -> Result<Option<(Job, bool)>, DirectoryError> {
        let keys = self.row_keys(purge.account).await?;
        let Some(mut job) = read(self.on(purge.account).await?, &keys, purge).await? else { return Ok(None) };
        let is_last = self.erase_piece(&mut job).await?;
        if is_last {
            self.finish_purge(&job).await?;
        } else {
            self.keep_place(&job).await?;
        }
        Ok(Some((job, is_last)))
    }

    /// Messages first, then held mail, then what hangs on neither; a contact or user is then taken out of what stays.
    /// Returns whether nothing is left.
    async fn erase_piece(&mut self, job: &mut Job) -> Result<bool, DirectoryError> {
        if job.stage != Stage::Theirs {
            return self.take_out_piece(job).await;
        }
        let after = job.passed;
        let (mut ids, next) =
            select::messages(self.on(job.account).await?, job.account, job.of, after, PIECE).await?;
        if let Some(last) = next.or(ids.last().copied()) {
            job.erased.deliveries += self.spare_what_others_brought(job.account, job.of, &mut ids).await?;
            let surplus = self.erase_surplus_traces(job.account, &ids).await?;
            job.erased.deliveries += surplus;
            if surplus > 0 {
                return Ok(false);
            }
            job.passed = job.of.place_after(last);
            job.erased.add(self.erase_messages(job.account, &ids, Extent::Everything).await?);
            if !matches!(job.of, PurgeOf::Message(_)) {
                return Ok(false);
            }
        }
        let keys = self.row_keys(job.account).await?;
        let of = (job.account, &keys);
        let held = select::held(self.on(job.account).await?, of, job.of, Uuid::nil(), PIECE).await?;
        if !held.is_empty() {
            job.erased.add(self.erase_held_mails(job.account, &held).await?);
            return Ok(false);
        }
        let of = job.of;
        match of {
            PurgeOf::All => {
                let (account, erased) = (job.account, &mut job.erased);
                self.empty_account(account, erased).await
            }
            PurgeOf::Contact(_) | PurgeOf::User(_) => {
                job.enter(Stage::Traces);
                Ok(false)
            }
            PurgeOf::Message(_) | PurgeOf::Mine(_) => Ok(true),
        }
    }

    /// Of what was refused or discarded.
    async fn erase_traces(&mut self, job: &mut Job) -> Result<(), DirectoryError> {
        let (account, keys) = (job.account, self.store.inner.keys.clone());
        let rows = self.row_keys(account).await?;
        let hashes = select::hashes_of(self.on(account).await?, (account, &rows), job.of, &keys).await?;
        let (connection, after) = (self.on(account).await?, job.passed);
        let (traces, next) = select::traces(connection, account, job.of, &hashes, after, SMALL_PIECE).await?;
        job.erased.deliveries += self.erase_deliveries(account, &traces).await?;
        match next {
            Some(next) => job.passed = next,
            None => job.enter(if job.is_late { Stage::Messages } else { Stage::Names }),
        }
        Ok(())
    }

    async fn finish_purge(&mut self, job: &Job) -> Result<(), DirectoryError> {
        self.log = Log::Forget;
        query("DELETE FROM purges WHERE account_id = $1 AND purge_id = $2")
            .bind(job.account.uuid())
            .bind(job.id)
            .execute(self.on(job.account).await?)
            .await?;
        let counts = job.erased.counts();
        let mut data = job.of.named();
        if let (Some(data), Some(counts)) = (data.as_object_mut(), counts.as_object()) {
            data.extend(counts.clone());
        }
        self.emit(job.account, "purge.done", None, &data).await?;
        self.note(job.account, &job.actor, "purge.done", job.of.object(), Some(counts)).await
    }

    async fn keep_place(&mut self, job: &Job) -> Result<(), DirectoryError> {
        let (erased, keys) = (&job.erased, self.row_keys(job.account).await?);
        query(
            "UPDATE purges SET passed = $3, messages = $4, attachments = $5, bytes = $6, blobs = $7, held = $8,
             deliveries = $9, stage = $10, texts = $11 WHERE account_id = $1 AND purge_id = $2",
        )
        .bind(job.account.uuid())
        .bind(job.id)
        .bind(job.passed)
        .bind(signed(erased.messages))
        .bind(signed(erased.attachments))
        .bind(signed(erased.bytes))
        .bind(signed(erased.blobs))
        .bind(signed(erased.held))
        .bind(signed(erased.deliveries))
        .bind(job.stage.number() + if job.is_late { LATE } else { 0 })
        .bind(keys.hide("purges.texts", job.id, Value::from(job.texts.clone()).to_string())?)
        .execute(self.on(job.account).await?)
        .await?;
        Ok(())
    }

    /// R64, in the transaction of what it tells of.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn note(
        &mut self,
        account: AccountId,
        actor: &str,
        action: &str,
        object: String,
        detail: Option<Value>,
    ) -> Result<(), DirectoryError> {
        let act =
            Act { account, at: self.now, actor: actor.to_owned(), action: action.to_owned(), object, detail };
        self.note_act(act).await
    }

    /// The same, as it is.
    ///
    /// # Errors
    /// If the store fails.
    pub async fn note_act(&mut self, act: Act) -> Result<(), DirectoryError> {
        Ok(crate::store::audit::append(self.on(act.account).await?, vec![act]).await?)
    }

    /// Without reading what it says: that may not open.
    async fn require_contact(
        &mut self,
        account: AccountId,
        contact: ContactId,
    ) -> Result<(), DirectoryError> {
        let found: Option<(Uuid,)> =
            query_as("SELECT contact_id FROM contacts WHERE account_id = $1 AND contact_id = $2")
                .bind(account.uuid())
                .bind(contact.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        found.map(|_| ()).ok_or(DirectoryError::NotFound("contact"))
    }

    async fn require_message(
        &mut self,
        account: AccountId,
        message: MessageId,
    ) -> Result<(), DirectoryError> {
        let found: Option<(Uuid,)> =
            query_as("SELECT message_id FROM messages WHERE account_id = $1 AND message_id = $2")
                .bind(account.uuid())
                .bind(message.uuid())
                .fetch_optional(self.on(account).await?)
                .await?;
        found.map(|_| ()).ok_or(DirectoryError::NotFound("message"))
    }
}

async fn read(
    connection: &mut Connection,
    keys: &RowKeys,
    purge: PurgeId,
) -> Result<Option<Job>, DirectoryError> {
    let row: Option<Row> = query_as(
        "SELECT kind, subject_id, passed, actor, messages, attachments, bytes, blobs, held, deliveries, begun_at, stage,
         texts FROM purges WHERE account_id = $1 AND purge_id = $2",
    )
    .bind(purge.account.uuid())
    .bind(purge.id)
    .fetch_optional(connection)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let of = PurgeOf::read(&row.kind, row.subject_id);
    let of = of.ok_or(StoreError::Defect("a purge of an unknown kind"))?;
    let erased = Erased {
        messages: row.messages.unsigned_abs(),
        attachments: row.attachments.unsigned_abs(),
        bytes: row.bytes.unsigned_abs(),
        held: row.held.unsigned_abs(),
        deliveries: row.deliveries.unsigned_abs(),
        blobs: row.blobs.unsigned_abs(),
    };
    let texts = keys.show_some("purges.texts", purge.id, row.texts)?;
    let texts = texts.as_deref().map(serde_json::from_str).transpose();
    Ok(Some(Job {
        id: purge.id,
        account: purge.account,
        of,
        passed: row.passed,
        actor: row.actor,
        erased,
        begun_at: Timestamp::from_millis(row.begun_at),
        stage: Stage::read(row.stage % LATE),
        texts: texts
            .map_err(|_| StoreError::Defect("the addresses of a purge cannot be read"))?
            .unwrap_or_default(),
        floor: Uuid::nil(),
        is_late: row.stage >= LATE,
    }))
}

impl Job {
    /// The next part, from its start.
    fn enter(&mut self, stage: Stage) {
        let late = self.late_floor();
        self.stage = stage;
        self.passed = match stage {
            // A contact's are found by index.
            Stage::Theirs | Stage::Traces if self.is_late && matches!(self.of, PurgeOf::User(_)) => late,
            Stage::Theirs | Stage::Traces => Uuid::nil(),
            Stage::Events | Stage::Hashes | Stage::Messages | Stage::Names if self.is_late => late,
            Stage::Events | Stage::Hashes | Stage::Messages | Stage::Names => self.floor,
        };
    }

    /// What has a smaller id was there before the purge.
    fn late_floor(&self) -> Uuid {
        id_floor(self.begun_at.plus_days(-1))
    }

    /// Of who ends because the mail that made them is taken back, at once.
    const fn is_undo(&self) -> bool {
        self.id.is_nil()
    }
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Added to the number of a stage that is gone through once more.
const LATE: i64 = 100;
/// Messages, or held mails, of one transaction: some ten milliseconds for whoever waits behind it.
const PIECE: i64 = 50;
/// Traces and the like of one transaction: they are small.
const SMALL_PIECE: i64 = 500;
