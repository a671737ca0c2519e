//! Held mail that goes on a record after all (R36): on a person's word, or because what it waited for has come.
//!
//! Promises the same rows, marks and events as a filing by the writer, in one transaction with the end of the held
//! row. The sealed content stays where it is: a message keeps the id of the delivery under which it was sealed.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;
use uuid::Uuid;

use crate::address::{Asked, EmailAddress, Mailbox, UserMailbox};
use crate::auth::{AlignedBy, Alignment, Verdict};
use crate::filing::{self, Arrival, Decision, Facts, Filing, Held, Outcome as Word, Reason, Step, Trace};
use crate::id::{AccountId, ContactId, DeliveryId, MessageId, UserId};
use crate::message::{self, Email};
use crate::smtp::{Client, Envelope, ForwardPath, Recipient};
use crate::store::batch::Outcome;
use crate::store::blobs::BlobName;
use crate::store::directory::review::{BY_THE_RULES, Erasing, RETRIES_AT_ONCE, with_steps};
use crate::store::directory::{Change, CreatedBy, DirectoryError, NewContact};
use crate::store::engine::{query, query_as, query_scalar};
use crate::store::facts::Directory;
use crate::store::row_keys::Index;
use crate::store::rows::Rows;
use crate::store::submission::{Place, Prepared, SealedCopy, Submission};
use crate::store::{Lookup, Store, StoreError, events, record};
use crate::time::Timestamp;

/// A held message, opened and read, ready to be decided on.
#[derive(Clone, Debug)]
pub struct OpenedHeld {
    account: AccountId,
    delivery: DeliveryId,
    email: Arc<Email>,
    mailbox: Mailbox,
    /// None where it was the sync address of somebody who is erased.
    rcpt: Option<EmailAddress>,
}

/// Whose record held mail goes on.
#[derive(Clone, Debug)]
pub enum HeldTarget {
    /// What the rules say now (R12: the author has been accepted as a user's own address).
    AsTheRulesSay,
    /// A contact on file.
    Contact(ContactId),
    /// A contact that is made for it.
    Create(NewContact),
}

/// What became of held mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldOutcome {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The outcome of its delivery now.
    pub outcome: &'static str,
    /// The reason code now.
    pub reason: &'static str,
    /// The message on the record, if it is on one.
    pub message: Option<MessageId>,
    /// The contact whose record it is on, or would go on.
    pub contact: Option<ContactId>,
    /// R12: the user and the address that this has proven to be theirs; what else waits for it may be filed now.
    pub accepted: Option<(UserId, EmailAddress)>,
}

#[derive(sqlx::FromRow)]
struct Row {
    at: i64,
    reason: String,
    user_id: Option<Uuid>,
    size_bytes: i64,
    content_key: Vec<u8>,
    raw: Option<Vec<u8>>,
    blob: Option<String>,
}

impl OpenedHeld {
    /// The account and the delivery.
    pub(super) const fn key(&self) -> (AccountId, DeliveryId) {
        (self.account, self.delivery)
    }

    /// The one clean author (R10).
    pub(super) fn author(&self) -> Option<&EmailAddress> {
        self.email.from.address()
    }
}

impl Store {
    /// Opens and reads a held message. None if there is no such in the account.
    ///
    /// # Errors
    /// If the database fails, or the message is damaged.
    pub async fn open_held(
        &self,
        account: AccountId,
        delivery: DeliveryId,
    ) -> Result<Option<OpenedHeld>, StoreError> {
        let Some(raw) = self.raw_held(account, delivery).await? else { return Ok(None) };
        let row: Option<(Option<Uuid>, Option<String>)> = query_as(
            "SELECT h.user_id, d.rcpt FROM held h JOIN deliveries d
             ON d.account_id = h.account_id AND d.delivery_id = h.delivery_id
             WHERE h.account_id = $1 AND h.delivery_id = $2",
        )
        .bind(account.uuid())
        .bind(delivery.uuid())
        .fetch_optional(self.reader())
        .await?;
        let Some((user, rcpt)) = row else { return Ok(None) };
        let rcpt = self.row_keys(account).await?.show_some("deliveries.rcpt", delivery.uuid(), rcpt)?;
        let rcpt = rcpt.as_deref().and_then(EmailAddress::parse);
        let Some(mailbox) = self.mailbox_of_held(account, user, rcpt.as_ref()).await? else {
            return Ok(None);
        };
        let reading = tokio::task::spawn_blocking(move || message::parse(&raw));
        let email = reading.await.map_err(|_| StoreError::Defect("reading panicked"))?;
        let email = email.map_err(|_| StoreError::Defect("a held message breaks a limit"))?;
        Ok(Some(OpenedHeld { account, delivery, email: Arc::new(email), mailbox, rcpt }))
    }

    /// The mailbox that it came to, even if the address has been rotated away since.
    async fn mailbox_of_held(
        &self,
        account: AccountId,
        user: Option<Uuid>,
        rcpt: Option<&EmailAddress>,
    ) -> Result<Option<Mailbox>, StoreError> {
        let asked = rcpt.map(|rcpt| self.inner.served.classify(&ForwardPath::Address(rcpt.clone())));
        if let Some(asked) = &asked
            && let Lookup::Found(mailbox) = self.mailbox(asked).await?
            && mailbox.account() == account
        {
            return Ok(Some(mailbox));
        }
        let of = user.map(|user| UserMailbox { account, user: UserId::from_uuid(user) });
        let is_auto = matches!(asked, Some(Asked::Auto(_)));
        Ok(of.map(|of| if is_auto { Mailbox::Auto(of) } else { Mailbox::Sync(of) }))
    }

    /// R12, R36: decides anew on everything that was held because its author was not yet proven to be this user.
    /// Returns how many were filed; what cannot be decided now stays held, and holds up no other.
    ///
    /// # Errors
    /// The first, if anything failed.
    pub async fn release_identity(
        &self,
        account: AccountId,
        user: UserId,
        address: &EmailAddress,
        by: &str,
    ) -> Result<u64, DirectoryError> {
        let keys = self.row_keys(account).await?;
        let (mut after, mut filed, mut asked, mut failed) = (Uuid::nil(), 0, 0, None);
        while asked < RELEASE_MAX {
            let waiting: Vec<(Uuid, String)> = query_as(
                "SELECT delivery_id, headers FROM held WHERE account_id = $1 AND user_id = $2 AND reason = $3
                 AND delivery_id > $4 ORDER BY delivery_id LIMIT $5",
            )
            .bind(account.uuid())
            .bind(user.uuid())
            .bind(Reason::NewIdentity.as_str())
            .bind(after)
            .bind(RELEASE_PIECE)
            .fetch_all(self.reader())
            .await?;
            let Some((last, _)) = waiting.last() else { break };
            after = *last;
            for (delivery, headers) in waiting {
                let headers = match keys.show("held.headers", delivery, headers) {
                    Ok(headers) => headers,
                    Err(error) => {
                        failed.get_or_insert(error.into());
                        continue;
                    }
                };
                if author_in(&headers).as_ref() != Some(address) {
                    continue;
                }
                asked += 1;
                match self.release_one(account, DeliveryId::from_uuid(delivery), by).await {
                    Ok(is_filed) => filed += u64::from(is_filed),
                    Err(error) => {
                        failed.get_or_insert(error);
                    }
                }
            }
        }
        failed.map_or(Ok(filed), Err)
    }

    /// Whether it is on a record now.
    async fn release_one(
        &self,
        account: AccountId,
        delivery: DeliveryId,
        by: &str,
    ) -> Result<bool, DirectoryError> {
        let Some(held) = self.open_held(account, delivery).await? else { return Ok(false) };
        let mut change = self.change().await?;
        match change.file_held(&held, HeldTarget::AsTheRulesSay, by).await {
            Ok(outcome) => {
                change.commit().await?;
                if outcome.outcome == Word::Discarded.as_str() {
                    self.finish_discarding(account, delivery).await?;
                }
                Ok(outcome.outcome == Word::Filed.as_str())
            }
            // It waits on: somebody else has decided on it meanwhile, or the rules refuse it today.
            Err(DirectoryError::Conflict(_) | DirectoryError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The author of a held mail, from what the review queue shows of it.
pub(super) fn author_in(headers: &str) -> Option<EmailAddress> {
    let headers: Value = serde_json::from_str(headers).ok()?;
    EmailAddress::parse(headers.pointer("/from/email")?.as_str()?)
}

impl Change {
    /// Files a held message. `by` says who decided, for the trace.
    ///
    /// # Errors
    /// `NotFound` if it is held no more or there is no such contact, `Invalid` for the contact to be made, `Conflict`
    /// if no record can take it.
    pub async fn file_held(
        &mut self,
        held: &OpenedHeld,
        target: HeldTarget,
        by: &str,
    ) -> Result<HeldOutcome, DirectoryError> {
        let mut row = self.held_row(held).await?;
        // A rotation that has passed the held mail by must not miss it on the record.
        let keys = self.keys_of(held.account).await?;
        if let Some(anew) = keys.rewrap(held.delivery.uuid(), &row.content_key).map_err(StoreError::from)? {
            row.content_key = anew;
        }
        let reason = Reason::ALL.iter().copied().find(|reason| reason.as_str() == row.reason);
        let reason = reason.ok_or(StoreError::Defect("a held message has an unknown reason"))?;
        let accepted = self.accept_identity(held, reason, row.user_id).await?;
        if matches!(target, HeldTarget::AsTheRulesSay) && accepted.is_none() {
            return Err(DirectoryError::invalid("contact_id", "or create_contact is needed"));
        }
        let contact = match target {
            HeldTarget::AsTheRulesSay => None,
            HeldTarget::Contact(contact) => Some(self.contact(held.account, contact).await?.id),
            HeldTarget::Create(new) => {
                Some(self.create_contact(held.account, &new, CreatedBy::Api).await?.id)
            }
        };
        let prepared = prepared(held, &row)?;
        let (_, arrival) = prepared.arrivals().next().ok_or(StoreError::Defect("no recipient"))?;
        let facts = self.facts_of(held, &arrival, contact).await?;
        let decided = match contact {
            Some(contact) => filing::file_held(&arrival, &facts, reason, contact),
            None => Some(filing::decide(&arrival, &facts)),
        };
        let (decision, mut trace) = decided.ok_or_else(|| {
            DirectoryError::Conflict("its author cannot be read: no record can take it".to_owned())
        })?;
        let said = format!("it was held ({}); {by} decided on it", reason.as_str());
        trace.steps.insert(0, Step { rule: "R36", said: said.into(), took_us: 0 });
        let copy = prepared.own_copy(held.delivery);
        let rcpt = held.rcpt.as_ref().map(|rcpt| rcpt.as_str().to_owned()).unwrap_or_default();
        // Whoever decided has read it; a forged staff mail must not go on to a contact by a click (R47).
        let (relay, seen_by) = (None, None);
        let delivery = held.delivery;
        let outcome = Outcome { delivery, arrival, rcpt, facts, decision, trace, copy, relay, seen_by };
        self.settle(held, &prepared, &outcome, accepted).await
    }

    async fn held_row(&mut self, held: &OpenedHeld) -> Result<Row, DirectoryError> {
        let row: Option<Row> = query_as(
            "SELECT at, reason, user_id, size_bytes, content_key, raw, blob FROM held
             WHERE account_id = $1 AND delivery_id = $2",
        )
        .bind(held.account.uuid())
        .bind(held.delivery.uuid())
        .fetch_optional(self.on(held.account).await?)
        .await?;
        row.ok_or(DirectoryError::NotFound("held message"))
    }

    /// R12: filing what was held for a new address says "yes, this is me", and proves the address.
    async fn accept_identity(
        &mut self,
        held: &OpenedHeld,
        reason: Reason,
        user: Option<Uuid>,
    ) -> Result<Option<(UserId, EmailAddress)>, DirectoryError> {
        let (Reason::NewIdentity, Some(user), Some(from)) = (reason, user, held.email.from.address()) else {
            return Ok(None);
        };
        let key = self.row_keys(held.account).await?.index(Index::Address, from.key())?;
        query(
            "UPDATE user_emails SET verified_at = COALESCE(verified_at, $4)
             WHERE account_id = $1 AND user_id = $2 AND email_key = $3",
        )
        .bind(held.account.uuid())
        .bind(user)
        .bind(key)
        .bind(self.now.as_millis())
        .execute(self.on(held.account).await?)
        .await?;
        Ok(Some((UserId::from_uuid(user), from.clone())))
    }

    /// As for any arrival; the contact that a person chose is known too, whether it is named on the message or not.
    async fn facts_of(
        &mut self,
        held: &OpenedHeld,
        arrival: &Arrival<'_>,
        chosen: Option<ContactId>,
    ) -> Result<Facts, DirectoryError> {
        let served = self.store.inner.served.all();
        let account = arrival.mailbox.account();
        let keys = self.store.inner.keys.clone();
        let rows = self.row_key_set(account).await?;
        let directory =
            Directory::load(self.on(account).await?, &[*arrival], &served, (&keys, &rows)).await?;
        let mut facts = directory.facts(arrival, &keys).ok_or(StoreError::NoSuchAccount)?;
        // R60 is about retries: a person who wants it on the record has the last word.
        facts.was_erased = false;
        // It is no duplicate of itself: if it is to be held on, it is held on.
        facts.held_already.retain(|twin| twin.delivery != held.delivery);
        if let Some(chosen) = chosen.filter(|id| !facts.contacts.iter().any(|known| known.id == *id)) {
            let on_file = self.contact(arrival.mailbox.account(), chosen).await?;
            facts.contacts.push(filing::Contact {
                id: on_file.id,
                name: on_file.name,
                email: EmailAddress::parse(&on_file.email),
                created_at: on_file.created_at,
            });
        }
        Ok(facts)
    }

    async fn settle(
        &mut self,
        held: &OpenedHeld,
        prepared: &Prepared,
        outcome: &Outcome<'_>,
        accepted: Option<(UserId, EmailAddress)>,
    ) -> Result<HeldOutcome, DirectoryError> {
        let (message, contact) = match &outcome.decision {
            Decision::Filed(filing) => {
                self.write_filing(prepared, outcome, filing).await?;
                (outcome.message(), Some(filing.contact.id()))
            }
            Decision::Duplicate(existing) => {
                self.forget_held(held).await?;
                let known = outcome.facts.same_message_id.iter().find(|known| known.id == *existing);
                (Some(*existing), known.map(|known| known.contact))
            }
            Decision::Held(still) => {
                self.hold_on(held, still).await?;
                (None, still.contact)
            }
            Decision::Discarded(_) => {
                let room = &mut { RETRIES_AT_ONCE };
                let erasing = self.erase_held(held.account, held.delivery, BY_THE_RULES, room).await?;
                // Whoever asked goes on at once; retention does if he cannot.
                if erasing == Erasing::Begun {
                    self.let_held_end(held.account, held.delivery).await?;
                }
                (None, None)
            }
            Decision::Deferred(reason) | Decision::Rejected(reason) => {
                let why = format!("the rules would refuse it now ({}): it stays held", reason.as_str());
                return Err(DirectoryError::Conflict(why));
            }
        };
        self.note_on_delivery(held, outcome, message, contact).await?;
        Ok(HeldOutcome {
            delivery: held.delivery,
            outcome: outcome.decision.outcome().as_str(),
            reason: outcome.decision.reason().as_str(),
            message,
            contact,
            accepted,
        })
    }

    async fn write_filing(
        &mut self,
        prepared: &Prepared,
        outcome: &Outcome<'_>,
        filing: &Filing,
    ) -> Result<(), DirectoryError> {
        let account = outcome.arrival.mailbox.account();
        let mut rows = Rows::default();
        record::filed(&mut rows, prepared, outcome, filing);
        events::filed(&mut rows, outcome, filing);
        // It happens now; the message itself says when it came.
        rows.events.iter_mut().for_each(|event| event.at = self.now.as_millis());
        let last = self.last_event(account).await?;
        rows.events_after(&mut last.map(|last| (account, last)).into_iter().collect());
        // The blob stays: the message names it from now on.
        query("DELETE FROM held WHERE account_id = $1 AND delivery_id = $2")
            .bind(account.uuid())
            .bind(outcome.delivery.uuid())
            .execute(self.on(account).await?)
            .await?;
        self.rung.extend(rows.events.iter().map(|event| AccountId::from_uuid(event.account_id)));
        let keys = self.row_key_set(account).await?;
        Ok(rows.write(self.on(account).await?, &keys).await?)
    }

    async fn hold_on(&mut self, held: &OpenedHeld, still: &Held) -> Result<(), DirectoryError> {
        let keys = self.row_keys(held.account).await?;
        query(
            "UPDATE held SET reason = $3, why = $4, user_id = COALESCE($5, user_id), contact_id = $6
             WHERE account_id = $1 AND delivery_id = $2",
        )
        .bind(held.account.uuid())
        .bind(held.delivery.uuid())
        .bind(still.reason.as_str())
        .bind(keys.hide("held.why", held.delivery.uuid(), still.why.as_str())?)
        .bind(still.user.map(UserId::uuid))
        .bind(still.contact.map(ContactId::uuid))
        .execute(self.on(held.account).await?)
        .await?;
        Ok(())
    }

    async fn forget_held(&mut self, held: &OpenedHeld) -> Result<(), DirectoryError> {
        let blob: Option<(Option<String>,)> =
            query_as("DELETE FROM held WHERE account_id = $1 AND delivery_id = $2 RETURNING blob")
                .bind(held.account.uuid())
                .bind(held.delivery.uuid())
                .fetch_optional(self.on(held.account).await?)
                .await?;
        self.blobs.extend(blob.and_then(|(blob,)| blob).as_deref().and_then(BlobName::parse));
        Ok(())
    }

    /// R3: the delivery says how it ended, and by whom.
    async fn note_on_delivery(
        &mut self,
        held: &OpenedHeld,
        outcome: &Outcome<'_>,
        message: Option<MessageId>,
        contact: Option<ContactId>,
    ) -> Result<(), DirectoryError> {
        let steps: Option<String> =
            query_scalar("SELECT steps FROM deliveries WHERE account_id = $1 AND delivery_id = $2")
                .bind(held.account.uuid())
                .bind(held.delivery.uuid())
                .fetch_optional(self.on(held.account).await?)
                .await?;
        let (keys, id) = (self.row_keys(held.account).await?, held.delivery.uuid());
        let steps = keys.show("deliveries.steps", id, steps.unwrap_or_default())?;
        let mut trace = Trace { steps: outcome.trace.steps.clone() };
        if matches!(outcome.decision, Decision::Discarded(_)) {
            trace.leave_out(&filing::domains_of(
                outcome.arrival.verdict,
                outcome.arrival.email,
                outcome.arrival.reverse_path,
            ));
        }
        query(
            "UPDATE deliveries SET outcome = $3, reason = $4, message_id = $5, contact_id = $6, steps = $7
             WHERE account_id = $1 AND delivery_id = $2",
        )
        .bind(held.account.uuid())
        .bind(held.delivery.uuid())
        .bind(outcome.decision.outcome().as_str())
        .bind(outcome.decision.reason().as_str())
        .bind(message.map(MessageId::uuid))
        .bind(contact.map(ContactId::uuid))
        .bind(keys.hide("deliveries.steps", id, with_steps(&steps, &trace.steps))?)
        .execute(self.on(held.account).await?)
        .await?;
        Ok(())
    }
}

/// As the writer had it, with the sealed content that is there. What authentication found has been weighed when it
/// was held; a new identity is held only if it was aligned (R12).
fn prepared(held: &OpenedHeld, row: &Row) -> Result<Prepared, StoreError> {
    let mut verdict = Verdict::unchecked();
    if row.reason == Reason::NewIdentity.as_str()
        && let Some(from) = held.email.from.address()
    {
        let domain = from.domain().to_owned();
        verdict.alignment = Alignment::Aligned { by: AlignedBy::Dkim, domain };
    }
    let client =
        Client { ip: IpAddr::V4(Ipv4Addr::UNSPECIFIED), helo: String::new(), is_esmtp: true, tls: None };
    // Decided on by its mailbox: the path itself is looked at no more.
    let path = held.rcpt.clone().map_or(ForwardPath::Postmaster, ForwardPath::Address);
    let envelope = Envelope {
        client,
        reverse_path: None,
        recipients: vec![Recipient { path, mailbox: held.mailbox.clone() }],
        smtputf8: false,
        requiretls: false,
        defect: None,
        received_octets: 0,
    };
    let mut prepared = Prepared::new(Submission {
        received_at: Timestamp::from_millis(row.at),
        envelope: Arc::new(envelope),
        verdict: Arc::new(verdict),
        email: held.email.clone(),
        raw: Bytes::new(),
        size_bytes: u64::try_from(row.size_bytes).unwrap_or_default(),
        deliveries: vec![held.delivery],
        steps: Vec::new(),
    })?;
    let place = match (&row.raw, row.blob.as_deref().and_then(BlobName::parse)) {
        (Some(raw), _) => Place::Row(raw.as_slice().into()),
        (None, Some(name)) => Place::Blob(name),
        (None, None) => return Err(StoreError::Defect("a held message without content")),
    };
    let content_key = row.content_key.clone();
    prepared.copies.push(SealedCopy { account: held.account, id: held.delivery.uuid(), content_key, place });
    Ok(prepared)
}

/// Held messages that one accepted address sets free at once; the rest with the next mail or by hand.
const RELEASE_MAX: usize = 500;
/// Held mails that are looked at together.
const RELEASE_PIECE: i64 = 200;
