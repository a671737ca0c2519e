//! From a judged message to the writer: seal it, put large ones into blobs, hand it over, wait for the answer.
//!
//! Promises an answer within a minute, and that what was answered an error is not written later.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use uuid::Uuid;

use crate::address::EmailAddress;
use crate::auth::Verdict;
use crate::filing::{Arrival, Decision, FreshIds, Outcome, Reason, Step};
use crate::id::{AccountId, ContactId, ConversationId, DeliveryId, MessageId};
use crate::message::Email;
use crate::smtp::{Client, Envelope, Reply};
use crate::store::blobs::BlobName;
use crate::store::seal::{AccountKeys, Sealed};
use crate::store::writer::{Answer, Work};
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// A judged message for all its recipients.
#[derive(Clone, Debug)]
pub struct Submission {
    /// When it was received.
    pub received_at: Timestamp,
    /// What stood around it.
    pub envelope: Arc<Envelope>,
    /// What authentication found.
    pub verdict: Arc<Verdict>,
    /// The message.
    pub email: Arc<Email>,
    /// The message as it is stored: our trace fields on top.
    pub raw: Bytes,
    /// Octets as received.
    pub size_bytes: u64,
    /// One for each of `envelope.recipients`, in their order.
    pub deliveries: Vec<DeliveryId>,
    /// What SMTP and authentication said, before the rules.
    pub steps: Vec<Step>,
}

/// What became of a submission, now on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filed {
    /// The reply of the transaction (R72).
    pub reply: Reply,
    /// What was decided for each recipient, in their order.
    pub decided: Vec<(DeliveryId, Decision)>,
}

/// A recipient refused at RCPT, or a transaction refused before there was a message.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The trace.
    pub delivery: DeliveryId,
    /// The account it belongs to; the operator's for an unknown recipient.
    pub account: AccountId,
    /// When.
    pub at: Timestamp,
    /// The client.
    pub client: Client,
    /// The reverse-path; none for `<>`.
    pub mail_from: Option<EmailAddress>,
    /// The forward-path as received.
    pub rcpt: String,
    /// Why.
    pub reason: Reason,
    /// Rejected or deferred.
    pub outcome: Outcome,
    /// What was answered.
    pub reply: Reply,
    /// Octets received.
    pub size_bytes: u64,
    /// What was said.
    pub steps: Vec<Step>,
}

/// A submission ready for the writer: sealed.
#[derive(Clone, Debug)]
pub(in crate::store) struct Prepared {
    pub(in crate::store) received_at: Timestamp,
    pub(in crate::store) envelope: Arc<Envelope>,
    pub(in crate::store) verdict: Arc<Verdict>,
    pub(in crate::store) email: Arc<Email>,
    pub(in crate::store) size_bytes: u64,
    pub(in crate::store) deliveries: Vec<DeliveryId>,
    pub(in crate::store) steps: Vec<Step>,
    pub(in crate::store) copies: Vec<SealedCopy>,
    /// A contact and a conversation for each recipient, should one be made.
    fresh: Vec<(ContactId, ConversationId)>,
}

/// The message, sealed for one account. A filed message gets the id it was sealed under, a held one is its delivery.
#[derive(Clone, Debug)]
pub(in crate::store) struct SealedCopy {
    pub(in crate::store) account: AccountId,
    /// The UUID of one of the submission's deliveries.
    pub(in crate::store) id: Uuid,
    pub(in crate::store) content_key: Vec<u8>,
    pub(in crate::store) place: Place,
}

/// Where the sealed octets are.
#[derive(Clone, Debug)]
pub(in crate::store) enum Place {
    Blob(BlobName),
    Row(Arc<[u8]>),
}

impl Store {
    /// Decides and writes a message for all its recipients, in one transaction (R2).
    ///
    /// # Errors
    /// If it could not be written: then nothing is, and nothing will be.
    pub async fn file(&self, submission: Submission) -> Result<Filed, StoreError> {
        let deadline = Instant::now() + FILE_LIMIT;
        let mut raw = submission.raw.clone();
        let mut prepared = Arc::new(Prepared::new(submission)?);
        for missing in [Prepared::first_of_each_account, Prepared::without_own_copy] {
            let sealing = self.seal(Arc::make_mut(&mut prepared), missing, &raw);
            tokio::time::timeout_at(deadline, sealing).await.map_err(|_| StoreError::TimedOut)??;
            if prepared.without_own_copy().is_empty() {
                // No megabytes are held while waiting for the writer.
                raw = Bytes::new();
            }
            let work = Work::File(Arc::clone(&prepared));
            match self.inner.writer.ask(work, deadline).await? {
                Answer::Filed(filed, kept) => {
                    self.inner.blobs.remove(prepared.blobs_besides(&kept)).await;
                    return Ok(filed);
                }
                Answer::NeedsCopies => {}
                Answer::Recorded => break,
            }
        }
        Err(StoreError::Defect("a sealed copy for each recipient was not enough"))
    }

    /// Writes the traces of refused recipients and transactions.
    ///
    /// # Errors
    /// If they could not be written.
    pub async fn record(&self, refusals: Vec<Refusal>) -> Result<(), StoreError> {
        if refusals.is_empty() {
            return Ok(());
        }
        let deadline = Instant::now() + RECORD_LIMIT;
        self.inner.writer.ask(Work::Record(refusals), deadline).await.map(|_| ())
    }

    async fn seal(
        &self,
        prepared: &mut Prepared,
        missing: fn(&Prepared) -> Vec<(AccountId, Uuid)>,
        raw: &Bytes,
    ) -> Result<(), StoreError> {
        for (account, id) in missing(prepared) {
            prepared.copies.push(self.seal_copy(account, id, raw.clone()).await?);
        }
        Ok(())
    }

    /// Seals a message for one account; a large one is in its blob when this returns.
    pub(in crate::store) async fn seal_copy(
        &self,
        account: AccountId,
        id: Uuid,
        raw: Bytes,
    ) -> Result<SealedCopy, StoreError> {
        let key = self.account_keys(account).await?;
        let sealed = seal_one(key, id, raw).await?;
        let place = if sealed.bytes.len() <= MAX_IN_ROW {
            Place::Row(sealed.bytes.into())
        } else {
            let name = BlobName::new(account, id);
            self.inner.blobs.put(name, sealed.bytes).await?;
            Place::Blob(name)
        };
        Ok(SealedCopy { account, id, content_key: sealed.content_key, place })
    }
}

/// A large message is sealed where it does not hold up other sessions.
async fn seal_one(key: Arc<AccountKeys>, id: Uuid, raw: Bytes) -> Result<Sealed, StoreError> {
    if raw.len() <= MAX_SEALED_INLINE {
        return Ok(key.seal(id, &raw)?);
    }
    let sealing = tokio::task::spawn_blocking(move || key.seal(id, &raw));
    Ok(sealing.await.map_err(|_| StoreError::Defect("sealing panicked"))??)
}

impl Prepared {
    pub(in crate::store) fn new(submission: Submission) -> Result<Self, StoreError> {
        let Submission { received_at, envelope, verdict, email, raw: _, size_bytes, deliveries, steps } =
            submission;
        if deliveries.len() != envelope.recipients.len() || deliveries.is_empty() {
            return Err(StoreError::Defect("one delivery for each recipient, and at least one"));
        }
        let fresh = deliveries.iter().map(|_| (ContactId::generate(), ConversationId::generate())).collect();
        let copies = Vec::new();
        Ok(Self { received_at, envelope, verdict, email, size_bytes, deliveries, steps, copies, fresh })
    }

    /// Each recipient as the rules see it, with its delivery.
    pub(in crate::store) fn arrivals(&self) -> impl Iterator<Item = (DeliveryId, Arrival<'_>)> {
        let recipients = self.envelope.recipients.iter().zip(&self.deliveries).zip(&self.fresh);
        recipients.map(|((recipient, delivery), (contact, conversation))| {
            let account = recipient.mailbox.account();
            let message = self.copy_for(account, *delivery).map_or(delivery.uuid(), |copy| copy.id);
            let fresh = FreshIds {
                contact: *contact,
                conversation: *conversation,
                message: MessageId::from_uuid(message),
            };
            let arrival = Arrival {
                mailbox: &recipient.mailbox,
                verdict: &self.verdict,
                email: &self.email,
                reverse_path: self.envelope.reverse_path.as_ref(),
                client_ip: self.envelope.client.ip,
                received_at: self.received_at,
                size_bytes: self.size_bytes,
                fresh,
            };
            (*delivery, arrival)
        })
    }

    /// The copy that was sealed for this delivery; else the one of its account.
    pub(in crate::store) fn copy_for(&self, account: AccountId, delivery: DeliveryId) -> Option<&SealedCopy> {
        self.own_copy(delivery).or_else(|| self.copies.iter().find(|copy| copy.account == account))
    }

    pub(in crate::store) fn own_copy(&self, delivery: DeliveryId) -> Option<&SealedCopy> {
        self.copies.iter().find(|copy| copy.id == delivery.uuid())
    }

    /// At most one message is filed in an account, so one copy an account is nearly always enough.
    fn first_of_each_account(&self) -> Vec<(AccountId, Uuid)> {
        let mut firsts: Vec<(AccountId, Uuid)> = Vec::new();
        for (account, id) in self.without_own_copy() {
            if !firsts.iter().any(|(known, _)| *known == account) {
                firsts.push((account, id));
            }
        }
        firsts
    }

    /// But each mailbox's may be held on its own. Further spellings of one mailbox are duplicates of the first.
    fn without_own_copy(&self) -> Vec<(AccountId, Uuid)> {
        let recipients = &self.envelope.recipients;
        let is_first = |n: usize| {
            let mailbox = recipients.get(n).map(|recipient| &recipient.mailbox);
            recipients.iter().position(|known| Some(&known.mailbox) == mailbox) == Some(n)
        };
        recipients
            .iter()
            .zip(&self.deliveries)
            .enumerate()
            .filter(|(n, (_, delivery))| self.own_copy(**delivery).is_none() && is_first(*n))
            .map(|(_, (recipient, delivery))| (recipient.mailbox.account(), delivery.uuid()))
            .collect()
    }

    fn blobs_besides(&self, kept: &[Uuid]) -> Vec<BlobName> {
        self.copies
            .iter()
            .filter(|copy| !kept.contains(&copy.id))
            .filter_map(|copy| copy.place.blob())
            .collect()
    }
}

/// To be sealed and taken. The final reply is due after 60 seconds, and a writer's turn may take half of them.
const FILE_LIMIT: Duration = Duration::from_secs(30);
/// Below what a session waits for the answer to a recipient.
const RECORD_LIMIT: Duration = Duration::from_secs(4);
/// Sealed octets that stay in the row.
pub(in crate::store) const MAX_IN_ROW: usize = 64 * 1024;
const MAX_SEALED_INLINE: usize = 256 * 1024;
