//! One transaction: facts for the whole batch, a decision for each recipient, rows for all, one commit.

use std::panic::{AssertUnwindSafe, catch_unwind};

use uuid::Uuid;

use crate::filing::{self, Arrival, Decision, Facts, Relay, Trace};
use crate::id::{AccountId, ContactId, DeliveryId, MessageId};
use crate::keys::Keys;
use crate::store::StoreError;
use crate::store::audit;
use crate::store::effects;
use crate::store::engine::Transaction;
use crate::store::facts::Directory;
use crate::store::row_keyring::RowKeySet;
use crate::store::row_seal::unreadable;
use crate::store::rows::Rows;
use crate::store::seal::{KeyNumber, SealError};
use crate::store::submission::{Filed, Prepared, SealedCopy};
use crate::store::writer::{Answer, Desk, Job, Work};
use crate::time::Timestamp;

/// Why a batch was not written.
#[derive(Debug)]
pub(in crate::store) enum Failure {
    /// This job is not to be written; the others are to be tried again without it.
    Job(usize, Result<Answer, StoreError>),
    /// A statement failed.
    Statement(sqlx::Error),
    /// It took too long, and will not be committed.
    TimedOut,
    /// Somebody else has an account that it needs.
    Locked,
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Statement(error)
    }
}

/// What is to be committed.
#[derive(Debug)]
pub(in crate::store) struct Written {
    /// To each job.
    pub(in crate::store) answers: Vec<Answer>,
    /// The accounts that have new ones.
    pub(in crate::store) with_events: Vec<AccountId>,
}

/// What was decided for one recipient, and on what.
#[derive(Debug)]
pub(in crate::store) struct Outcome<'a> {
    pub(in crate::store) delivery: DeliveryId,
    pub(in crate::store) arrival: Arrival<'a>,
    pub(in crate::store) rcpt: String,
    pub(in crate::store) facts: Facts,
    pub(in crate::store) decision: Decision,
    pub(in crate::store) trace: Trace,
    /// The sealed message, if the decision keeps it.
    pub(in crate::store) copy: Option<&'a SealedCopy>,
    /// Whether a copy goes on, and to whom (R46, R49).
    pub(in crate::store) relay: Option<Relay>,
    /// R25: whose timeline shows a message that is on the record of somebody else, and when it was sent.
    pub(in crate::store) seen_by: Option<(ContactId, Timestamp)>,
}

impl Desk {
    /// Their accounts are locked.
    pub(in crate::store) async fn decide_and_write(
        &self,
        transaction: &mut Transaction,
        jobs: &[Job],
    ) -> Result<Written, Failure> {
        let arrivals: Vec<Arrival<'_>> = jobs.iter().flat_map(Job::arrivals).collect();
        let row_keys = self.row_keys_of(transaction, jobs).await?;
        let mut directory = if arrivals.is_empty() {
            Directory { data_version: transaction.data_version().await?, ..Directory::default() }
        } else {
            Directory::load(transaction, &arrivals, &self.served_domains, (&self.keys, &row_keys)).await?
        };
        self.see_version(directory.data_version);
        if self.relay_domain.is_some() && !arrivals.is_empty() {
            directory.load_relaying(transaction, &arrivals, &row_keys).await?;
        }
        let mut rows = Rows::default();
        let mut answers = Vec::with_capacity(jobs.len());
        let mut noted = Vec::new();
        for (index, job) in jobs.iter().enumerate() {
            answers.push(match &job.work {
                Work::File(prepared) => {
                    let outcomes = decide(&mut directory, prepared, &self.keys)
                        .map_err(|answer| self.not_now(index, answer))?;
                    self.file(&mut rows, prepared, &outcomes)
                }
                Work::Note(acts) => {
                    noted.extend_from_slice(acts);
                    Answer::Recorded
                }
                Work::Record(refusals) => {
                    effects::refusals(&mut rows, &self.keys, refusals);
                    Answer::Recorded
                }
            });
        }
        rows.events_after(&mut directory.last_events);
        let with_events = rows.events.iter().map(|event| AccountId::from_uuid(event.account_id)).collect();
        rows.write(transaction, &row_keys).await?;
        audit::append(transaction, noted).await?;
        Ok(Written { answers, with_events })
    }

    fn not_now(&self, index: usize, answer: Result<Answer, StoreError>) -> Failure {
        if matches!(answer, Err(StoreError::Seal(_))) {
            self.keyring.forget();
        }
        Failure::Job(index, answer)
    }

    /// Of every account that a row is written for, and of the operator's, which keeps the accounts' settings.
    async fn row_keys_of(
        &self,
        transaction: &mut Transaction,
        jobs: &[Job],
    ) -> Result<RowKeySet, sqlx::Error> {
        let accounts = jobs.iter().flat_map(Job::accounts).chain([AccountId::OPERATOR]);
        self.rows.of_all(transaction, accounts).await.map_err(unreadable)
    }

    fn file(&self, rows: &mut Rows, prepared: &Prepared, outcomes: &[Outcome<'_>]) -> Answer {
        let decided: Vec<(DeliveryId, Decision)> =
            outcomes.iter().map(|outcome| (outcome.delivery, outcome.decision.clone())).collect();
        let reply = filing::answer(&decided);
        effects::submission(rows, &self.keys, prepared, outcomes, &reply, self.relay_domain.as_deref());
        let kept = outcomes.iter().filter_map(|outcome| outcome.copy).map(|copy| copy.id).collect();
        Answer::Filed(Filed { reply, decided }, kept)
    }
}

impl Job {
    /// Into which nobody else may write meanwhile.
    pub(in crate::store) fn locks(&self) -> Vec<AccountId> {
        match &self.work {
            Work::File(_) => self.arrivals().map(|arrival| arrival.mailbox.account()).collect(),
            // R64.
            Work::Note(acts) => acts.iter().map(|act| act.account).collect(),
            Work::Record(_) => Vec::new(),
        }
    }

    /// Whose rows it writes.
    fn accounts(&self) -> Vec<AccountId> {
        match &self.work {
            Work::File(_) => self.arrivals().map(|arrival| arrival.mailbox.account()).collect(),
            Work::Note(_) => Vec::new(),
            Work::Record(refusals) => refusals.iter().map(|refusal| refusal.account).collect(),
        }
    }

    fn arrivals(&self) -> impl Iterator<Item = Arrival<'_>> {
        let prepared = match &self.work {
            Work::File(prepared) => Some(prepared),
            Work::Note(_) | Work::Record(_) => None,
        };
        prepared.into_iter().flat_map(|prepared| prepared.arrivals().map(|(_, arrival)| arrival))
    }
}

/// R72: recipients one by one; each knows what the ones before it have made. An answer instead of outcomes means
/// that the job must not be written, and that the directory has learned what will not be.
fn decide<'a>(
    directory: &mut Directory,
    prepared: &'a Prepared,
    keys: &Keys,
) -> Result<Vec<Outcome<'a>>, Result<Answer, StoreError>> {
    let mut outcomes: Vec<Outcome<'a>> = Vec::with_capacity(prepared.deliveries.len());
    for ((delivery, arrival), recipient) in prepared.arrivals().zip(&prepared.envelope.recipients) {
        let mut facts = directory.facts(&arrival, keys).ok_or(Err(StoreError::NoSuchAccount))?;
        if let Some(relay) = &mut facts.relay {
            relay.requires_tls = prepared.envelope.requiretls;
        }
        let (decision, trace, seen_by, relay) = catch_unwind(AssertUnwindSafe(|| judge(&arrival, &facts)))
            .map_err(|_| Err(StoreError::Defect("the rules panicked")))?;
        let copy = match copy_to_keep(prepared, delivery, &arrival, &decision) {
            Keep::Copy(copy) if outcomes.iter().any(|outcome| outcome.keeps(copy.id)) => {
                return Err(Ok(Answer::NeedsCopies));
            }
            // Its key is about to go: sealed again with the next try.
            Keep::Copy(copy) if !directory.may_keep(copy) => return Err(Err(SealError::OtherKey.into())),
            Keep::Copy(copy) => Some(copy),
            Keep::Missing => return Err(Ok(Answer::NeedsCopies)),
            Keep::Nothing => None,
        };
        if let Decision::Filed(filing) = &decision {
            directory.learn(&arrival, filing, arrival.fresh.message);
        }
        if let Decision::Held(held) = &decision {
            directory.learn_held(&arrival, delivery, held.user);
        }
        let rcpt = effects::path_text(&recipient.path);
        let outcome = Outcome { delivery, arrival, rcpt, facts, decision, trace, copy, relay, seen_by };
        if relay.is_some() {
            directory.learn_relayed(&arrival, outcome.message());
        }
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

impl Directory {
    /// Whether the key that sealed it stays.
    fn may_keep(&self, copy: &SealedCopy) -> bool {
        let floor = self.key_floors.get(&copy.account).copied().unwrap_or_default();
        KeyNumber::of(&copy.content_key).is_some_and(|number| number.as_i64() >= floor)
    }
}

/// What becomes of it, who else sees it, and whether a copy goes on.
fn judge(
    arrival: &Arrival<'_>,
    facts: &Facts,
) -> (Decision, Trace, Option<(ContactId, Timestamp)>, Option<Relay>) {
    let (decision, mut trace) = filing::decide(arrival, facts);
    let seen_by = filing::seen_by(arrival, facts, &decision, &mut trace);
    let relay = filing::relay(arrival, facts, &decision, &mut trace);
    (decision, trace, seen_by, relay)
}

impl Outcome<'_> {
    fn keeps(&self, copy: Uuid) -> bool {
        self.copy.is_some_and(|kept| kept.id == copy)
    }

    /// R60: a retry of what was erased. Nothing of it is kept, not even addresses.
    pub(in crate::store) fn is_erased(&self) -> bool {
        self.facts.was_erased && matches!(self.decision, Decision::Duplicate(_)) && self.message().is_none()
    }

    /// The message on the record: the one that was filed now, or the one that was there.
    pub(in crate::store) fn message(&self) -> Option<MessageId> {
        match &self.decision {
            // A held one is no message yet.
            Decision::Duplicate(existing) => {
                self.facts.same_message_id.iter().map(|message| message.id).find(|id| id == existing)
            }
            Decision::Filed(_) => Some(self.arrival.fresh.message),
            Decision::Deferred(_) | Decision::Discarded(_) | Decision::Held(_) | Decision::Rejected(_) => {
                None
            }
        }
    }
}

enum Keep<'a> {
    Copy(&'a SealedCopy),
    Missing,
    Nothing,
}

/// A held message is sealed under its delivery, a filed one under the id that it gets.
fn copy_to_keep<'a>(
    prepared: &'a Prepared,
    delivery: DeliveryId,
    arrival: &Arrival<'_>,
    decision: &Decision,
) -> Keep<'a> {
    let copy = match decision {
        Decision::Filed(_) => prepared.copy_for(arrival.mailbox.account(), delivery),
        Decision::Held(_) => prepared.own_copy(delivery),
        Decision::Deferred(_) | Decision::Discarded(_) | Decision::Duplicate(_) | Decision::Rejected(_) => {
            return Keep::Nothing;
        }
    };
    copy.map_or(Keep::Missing, Keep::Copy)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;

    use crate::address::{EmailAddress, Mailbox, ServedDomains, UserMailbox};
    use crate::auth::{AlignedBy, Alignment, Verdict};
    use crate::config;
    use crate::id::DeliveryId;
    use crate::keys::Keys;
    use crate::message;
    use crate::smtp::{Client, Envelope, ForwardPath, Recipient};
    use crate::store::directory::{NewUser, Verification};
    use crate::store::engine::ways;
    use crate::store::{Store, Submission};
    use crate::time::Timestamp;

    fn submission(mailbox: &Mailbox, n: usize, answers: Option<usize>) -> Submission {
        let answers = answers.map(|n| format!("In-Reply-To: <{n}@p.test>\r\n")).unwrap_or_default();
        let raw =
            format!("From: a@p.test\r\nTo: b{n}@c.test\r\nMessage-ID: <{n}@p.test>\r\n{answers}\r\n{n}\r\n");
        let address = EmailAddress::parse("a-0123456789ab@sync.test").unwrap();
        let recipient = Recipient { path: ForwardPath::Address(address), mailbox: mailbox.clone() };
        let client =
            Client { ip: [192, 0, 2, 1].into(), helo: "p.test".to_owned(), is_esmtp: true, tls: None };
        let alignment = Alignment::Aligned { by: AlignedBy::Dkim, domain: "p.test".to_owned() };
        Submission {
            received_at: Timestamp::from_millis(1_795_315_445_120),
            deliveries: vec![DeliveryId::generate()],
            envelope: Arc::new(Envelope {
                client,
                reverse_path: EmailAddress::parse("a@p.test"),
                recipients: vec![recipient],
                smtputf8: false,
                requiretls: false,
                defect: None,
                received_octets: 0,
            }),
            verdict: Arc::new(Verdict { alignment, ..Verdict::unchecked() }),
            email: Arc::new(message::parse(raw.as_bytes()).unwrap()),
            size_bytes: raw.len() as u64,
            raw: Bytes::from(raw),
            steps: Vec::new(),
        }
    }

    /// Everything of the writer runs in this thread, so that what is counted here is its own.
    #[tokio::test]
    async fn a_batch_is_a_few_ways_to_the_engine_whatever_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = folder.path().display();
        let settings = format!("url = 'sqlite://{at}/a.db'\nblobs = 'file://{at}/blobs'");
        let settings: config::Store = toml::from_str(&settings).unwrap();
        let served = ServedDomains::new(vec!["sync.test".to_owned()], vec!["reply.test".to_owned()]);
        let store = Store::open(&settings, Arc::new(Keys::generate().unwrap()), served).await.unwrap();
        let mut change = store.change().await.unwrap();
        let account = change.create_account("P", &serde_json::Map::new()).await.unwrap().id;
        let user =
            NewUser { name: "A".to_owned(), emails: vec!["a@p.test".to_owned()], role: "r".to_owned() };
        let user = change.create_user(account, &user, Verification::Trusted).await.unwrap().id;
        change.commit().await.unwrap();
        let mailbox = Mailbox::Sync(UserMailbox { account, user });
        let mut next = 0;
        for (mails, answers) in [(1, None), (40, None), (1, Some(0)), (30, Some(1))] {
            let ways_before = ways::count();
            let batches_before = store.batches();
            let filings = (0..mails).map(|_| {
                next += 1;
                store.file(submission(&mailbox, next - 1, answers))
            });
            for filed in futures_util::future::join_all(filings).await {
                assert_eq!(filed.unwrap().reply.code, 250);
            }
            let batches = store.batches().committed - batches_before.committed;
            assert_eq!(store.batches().jobs - batches_before.jobs, mails);
            // Begin, facts, rows, commit; once more for the contacts of conversations that are answered; a batch of
            // many mails has its rows in a few texts. The account's key is read once.
            let each = 4 + u64::from(answers.is_some()) + if mails > 1 { 4 } else { 0 };
            let most = batches * each + u64::from(next == 1);
            let ways = ways::count() - ways_before;
            assert!(ways >= batches * 4, "{ways}");
            assert!(ways <= most, "{mails} mails in {batches} batches: {ways} ways, at most {most}");
        }
        store.close().await;
    }
}
