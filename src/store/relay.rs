//! The relay's side of a filing: what the rules ask about it, and the job that is written with the message (R46, R49).

use std::collections::{HashMap, HashSet};

use uuid::Uuid;

use crate::address::{EmailAddress, Mailbox};
use crate::filing::{Arrival, Conversation, ExistingMessage, Relay, RelayFacts};
use crate::id::{AccountId, ConversationId, MessageId, UserId};
use crate::store::batch::Outcome;
use crate::store::engine::Connection;
use crate::store::facts::Directory;
use crate::store::queries::{OfDay, RELAYED, RELAYED_MESSAGES, STAFF_ADDRESSES, Two};
use crate::store::rows::{RelayJobRow, Rows, ThreadIdRow};
use crate::store::statement::Reads;

/// What a batch knows of the conversations that copies may go on from.
#[derive(Debug, Default)]
pub(in crate::store) struct Relaying {
    /// The address of each user that was verified first.
    staff: HashMap<(AccountId, UserId), EmailAddress>,
    /// Copies within the last hour.
    lately: HashMap<(AccountId, ConversationId), u32>,
    /// Messages of which a copy has gone on.
    done: HashSet<(AccountId, MessageId)>,
}

impl Directory {
    /// To be called where there is a relay, behind [`Directory::load`].
    pub(in crate::store) async fn load_relaying(
        &mut self,
        connection: &mut Connection,
        arrivals: &[Arrival<'_>],
    ) -> Result<(), sqlx::Error> {
        let mut relaying = Relaying::default();
        let (mut users, mut conversations) = (HashSet::new(), HashSet::new());
        for arrival in arrivals {
            let Mailbox::Reply(reply) = arrival.mailbox else { continue };
            let account = arrival.mailbox.account();
            let Some(conversation) = self.conversation(account, reply.conversation) else { continue };
            users.extend(conversation.user.map(|user| Two(account.uuid(), user.uuid())));
            let since = arrival.received_at.as_millis() - HOUR_MILLIS;
            conversations.insert(OfDay(account.uuid(), conversation.id.uuid(), since));
        }
        let has_reply = !conversations.is_empty();
        let known = self.messages.iter().flat_map(|((account, _), messages)| {
            messages.iter().map(|message| Two(account.uuid(), message.id.uuid()))
        });
        let known = if has_reply { known.collect() } else { Vec::new() };
        let mut reads = Reads::new(connection.engine());
        let staff = reads.select(&STAFF_ADDRESSES, users.into_iter().collect());
        let lately = reads.select(&RELAYED, conversations.into_iter().collect());
        let done = reads.select(&RELAYED_MESSAGES, known);
        let mut found = reads.run(connection).await?;
        let mut staff: Vec<(Uuid, Uuid, String, i64)> = found.take(staff)?;
        staff.sort_by(|one, other| (one.3, &one.2).cmp(&(other.3, &other.2)));
        for (account, user, address, _) in staff {
            let key = (AccountId::from_uuid(account), UserId::from_uuid(user));
            if let Some(address) = EmailAddress::parse(&address) {
                relaying.staff.entry(key).or_insert(address);
            }
        }
        for (account, conversation) in found.take::<(Uuid, Uuid)>(lately)? {
            let key = (AccountId::from_uuid(account), ConversationId::from_uuid(conversation));
            *relaying.lately.entry(key).or_default() += 1;
        }
        for (account, message) in found.take::<(Uuid, Uuid)>(done)? {
            relaying.done.insert((AccountId::from_uuid(account), MessageId::from_uuid(message)));
        }
        self.relaying = Some(relaying);
        Ok(())
    }

    /// For one recipient.
    pub(in crate::store) fn relay_facts(
        &self,
        account: AccountId,
        conversation: Option<&Conversation>,
        same: Option<&Vec<ExistingMessage>>,
    ) -> Option<RelayFacts> {
        let relaying = self.relaying.as_ref()?;
        let Some(conversation) = conversation else { return Some(RelayFacts::default()) };
        let staff = conversation.user.and_then(|user| relaying.staff.get(&(account, user)).cloned());
        let lately = relaying.lately.get(&(account, conversation.id)).copied().unwrap_or(0);
        let is_done =
            same.into_iter().flatten().any(|message| relaying.done.contains(&(account, message.id)));
        Some(RelayFacts { staff, lately, is_done, requires_tls: false })
    }

    /// One more copy of this conversation.
    pub(in crate::store) fn learn_relayed(&mut self, arrival: &Arrival<'_>, message: Option<MessageId>) {
        let Mailbox::Reply(reply) = arrival.mailbox else { return };
        let account = arrival.mailbox.account();
        let Some(conversation) = self.conversation(account, reply.conversation) else { return };
        if let Some(relaying) = &mut self.relaying {
            *relaying.lately.entry((account, conversation.id)).or_default() += 1;
            relaying.done.extend(message.map(|message| (account, message)));
        }
    }
}

/// The job, and its Message-ID as one of the conversation's own (R40, R51).
pub(in crate::store) fn job(rows: &mut Rows, outcome: &Outcome<'_>, relay: Relay, domain: &str) {
    let Some(message) = outcome.message() else { return };
    let Some(conversation) = &outcome.facts.reply_conversation else { return };
    let account_id = outcome.arrival.mailbox.account().uuid();
    let from = outcome.arrival.email.from.address();
    let author = outcome.facts.identities.iter().find(|identity| Some(&identity.address) == from);
    let at = outcome.arrival.received_at.as_millis();
    rows.relay_jobs.push(RelayJobRow {
        account_id,
        job_id: message.uuid(),
        kind: match relay {
            Relay::Contact => "contact",
            Relay::Staff => "staff",
        },
        conversation_id: Some(conversation.id.uuid()),
        user_id: author.map(|identity| identity.user).or(conversation.user).map(UserId::uuid),
        email_key: None,
        state: "waiting",
        attempts: 0,
        next_at: at,
        created_at: at,
    });
    rows.thread_ids.push(ThreadIdRow {
        account_id,
        message_id_header: message_id_header(message.uuid(), domain),
        conversation_id: conversation.id.uuid(),
        is_own: true,
    });
}

/// The Message-ID of a job's mail, without angle brackets: the same at each attempt.
pub(in crate::store) fn message_id_header(job: Uuid, domain: &str) -> String {
    format!("{job}@{domain}")
}

/// The job whose mail has this Message-ID, if its form is ours.
pub(in crate::store) fn job_of_message_id(header: &str, domains: &[String]) -> Option<Uuid> {
    let (job, domain) = header.split_once('@')?;
    let is_ours = domains.iter().any(|served| served.eq_ignore_ascii_case(domain));
    Uuid::try_parse(job).ok().filter(|_| is_ours)
}

const HOUR_MILLIS: i64 = 60 * 60 * 1000;
