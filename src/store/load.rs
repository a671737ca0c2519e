//! Reads a [`Directory`] for a batch: one statement for each table, all in one way to the
//! engine, whatever the number of messages.
//!
//! Each statement joins a list of keys to a table through an index that leads with the account (R4). `CROSS JOIN`
//! keeps the list outside: a row-value `IN` would scan the table in SQLite.

use std::collections::HashSet;
use std::hash::Hash;

use uuid::Uuid;

use crate::address::{EmailAddress, Mailbox};
use crate::filing::{
    Account, Arrival, Contact, Conversation, ExistingMessage, Facts, HeldTwin, Identity, Mark, Owner,
    thread_keys,
};
use crate::id::{AccountId, ContactId, ConversationId, DeliveryId, EventId, MessageId, UserId};
use crate::keys::Keys;
use crate::store::engine::Connection;
use crate::store::facts::{
    Directory, KnownConversation, MAX_MERGES, ThreadEntry, address_keys, day, own_message_id, owner_id,
    sort_entries, tombstone,
};
use crate::store::queries::{
    ACCOUNTS, CONTACTS_BY_EMAIL, CONTACTS_BY_ID, CONVERSATIONS, HELD, Hash16, IDENTITIES, MESSAGES, OWNERS,
    OfDay, One, SIGNERS, THREADS, TOMBSTONES, Text, Two,
};
use crate::store::statement::Reads;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

impl Store {
    /// The facts on which this arrival would be decided now. Nothing is written (for `explain`).
    ///
    /// # Errors
    /// If the database fails, or there is no such account.
    pub async fn facts_for(&self, arrival: &Arrival<'_>) -> Result<Facts, StoreError> {
        // One read transaction: all facts of one point in time.
        let mut reader = self.reader().begin_reading().await?;
        let (served, keys) = (self.inner.served.all(), &self.inner.keys);
        let mut directory = Directory::load(&mut reader, &[*arrival], &served, keys).await?;
        if self.inner.relay_domain.is_some() {
            directory.load_relaying(&mut reader, &[*arrival]).await?;
        }
        directory.facts(arrival, keys).ok_or(StoreError::NoSuchAccount)
    }
}

impl Directory {
    /// Reads what is known about the arrivals.
    pub(in crate::store) async fn load(
        connection: &mut Connection,
        arrivals: &[Arrival<'_>],
        served_domains: &[String],
        keys: &Keys,
    ) -> Result<Self, sqlx::Error> {
        let mut directory = Self::default();
        let wanted = Wanted::of(arrivals);
        let erased: HashSet<_> = arrivals.iter().map(|arrival| tombstone(arrival, keys)).collect();
        let erased = erased.into_iter().map(|(account, hash)| Hash16(account.uuid(), hash)).collect();

        let mut reads = Reads::new(connection.engine());
        let data_version = reads.data_version();
        let accounts = reads.select(&ACCOUNTS, wanted.accounts.iter().map(|id| One(id.uuid())).collect());
        let identities = reads.select(&IDENTITIES, texts(&wanted.addresses));
        let signers = reads.select(&SIGNERS, texts(&wanted.authors));
        let contacts = reads.select(&CONTACTS_BY_EMAIL, texts(&wanted.addresses));
        let threads = reads.select(&THREADS, texts(&wanted.references));
        let messages = reads.select(&MESSAGES, texts(&wanted.message_ids));
        let held = reads.select(&HELD, texts(&wanted.message_ids));
        let erased = reads.select(&TOMBSTONES, erased);
        let conversations = reads.select(&CONVERSATIONS, wanted.conversations.into_iter().collect());
        let owners = reads.select(&OWNERS, wanted.owners.users.into_iter().collect());
        let mut found = reads.run(connection).await?;

        directory.data_version = found.take(data_version)?.first().map(|(version,)| *version);
        directory.take_accounts(found.take(accounts)?, served_domains)?;
        directory.take_identities(found.take(identities)?)?;
        directory.take_signers(found.take(signers)?);
        for contact in found.take(contacts)? {
            directory.take_contact_by_email(contact)?;
        }
        directory.take_threads(found.take(threads)?);
        directory.take_messages(found.take(messages)?)?;
        directory.take_held(found.take(held)?)?;
        directory.take_tombstones(found.take(erased)?);
        found.take(conversations)?.into_iter().for_each(|row| directory.take_conversation(row));
        directory.take_owners(found.take(owners)?);
        directory.load_what_follows(connection, wanted.owners.of_conversations).await?;
        Ok(directory)
    }

    /// Where the conversations lead: merges (R41), their contacts, and the users of those that are replied to. Mostly
    /// nothing, or one way.
    async fn load_what_follows(
        &mut self,
        connection: &mut Connection,
        replied: HashSet<(AccountId, ConversationId, i64)>,
    ) -> Result<(), sqlx::Error> {
        for _ in 0..=MAX_MERGES {
            let owners: Vec<OfDay> = replied.iter().filter_map(|key| self.missing_owner(*key)).collect();
            let (merged, contacts) = (self.missing_conversations(), self.missing_contacts());
            if owners.is_empty() && merged.is_empty() && contacts.is_empty() {
                break;
            }
            let mut reads = Reads::new(connection.engine());
            let owners = reads.select(&OWNERS, owners);
            let merged = reads.select(&CONVERSATIONS, merged.into_iter().collect());
            let contacts = reads.select(&CONTACTS_BY_ID, contacts.into_iter().collect());
            let mut found = reads.run(connection).await?;
            let (owners, merged, contacts) =
                (found.take(owners)?, found.take(merged)?, found.take(contacts)?);
            if owners.is_empty() && merged.is_empty() && contacts.is_empty() {
                break;
            }
            self.take_owners(owners);
            merged.into_iter().for_each(|row| self.take_conversation(row));
            for contact in contacts {
                self.take_contact(contact)?;
            }
        }
        Ok(())
    }

    /// The user of a conversation that is replied to, if it is not known yet.
    fn missing_owner(&self, (account, id, day): (AccountId, ConversationId, i64)) -> Option<OfDay> {
        let user = self.conversation(account, id)?.user?;
        let is_known = self.filed_today.contains_key(&(account, user, day));
        (!is_known).then(|| OfDay(account.uuid(), user.uuid(), day))
    }

    fn missing_conversations(&self) -> HashSet<Two> {
        self.conversations
            .iter()
            .filter_map(|((account, _), known)| Some((*account, known.merged_into?)))
            .filter(|key| !self.conversations.contains_key(key))
            .map(|(account, conversation)| Two(account.uuid(), conversation.uuid()))
            .collect()
    }

    fn missing_contacts(&self) -> HashSet<Two> {
        self.conversations
            .iter()
            .map(|((account, _), known)| (*account, known.conversation.contact))
            .filter(|key| !self.contacts.contains_key(key))
            .map(|(account, contact)| Two(account.uuid(), contact.uuid()))
            .collect()
    }

    fn take_accounts(
        &mut self,
        found: Vec<(Uuid, String, String, Option<Uuid>)>,
        served_domains: &[String],
    ) -> Result<(), sqlx::Error> {
        for (id, name, settings, last_event) in found {
            let id = AccountId::from_uuid(id);
            self.last_events.extend(last_event.map(|event| (id, EventId::from_uuid(event))));
            let settings =
                serde_json::from_str(&settings).map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
            self.accounts.insert(id, Account { id, name, settings, served_domains: served_domains.to_vec() });
        }
        Ok(())
    }

    fn take_identities(
        &mut self,
        found: Vec<(Uuid, String, Uuid, String, Option<i64>, String)>,
    ) -> Result<(), sqlx::Error> {
        for (account, key, user, address, verified_at, sync_state) in found {
            let identity = Identity {
                address: address_of(&address)?,
                user: UserId::from_uuid(user),
                verified: verified_at.is_some(),
                sync_on: sync_state == "on",
            };
            self.identities.insert((AccountId::from_uuid(account), key), identity);
        }
        Ok(())
    }

    /// R13.
    fn take_signers(&mut self, found: Vec<(Uuid, String, String)>) {
        for (account, key, domain) in found {
            self.signers.entry((AccountId::from_uuid(account), key)).or_default().push(domain);
        }
    }

    fn take_contact_by_email(&mut self, row: ContactRow) -> Result<(), sqlx::Error> {
        let (account, id) = (AccountId::from_uuid(row.0), ContactId::from_uuid(row.1));
        let contacts = self.contacts_by_email.entry((account, row.4.clone())).or_default();
        if !contacts.contains(&id) {
            contacts.push(id);
        }
        self.take_contact(row)
    }

    /// One of a contact's marks; the contact itself with the first of them.
    fn take_contact(
        &mut self,
        (account, id, name, email, _, created_at, user, state): ContactRow,
    ) -> Result<(), sqlx::Error> {
        let (account, contact) = (AccountId::from_uuid(account), ContactId::from_uuid(id));
        self.contacts.entry((account, contact)).or_insert_with(|| Contact {
            id: contact,
            name,
            email: EmailAddress::parse(&email),
            created_at: Timestamp::from_millis(created_at),
        });
        if let (Some(user), Some(state)) = (user, state) {
            let mark = Mark { user: UserId::from_uuid(user), contact, on: state == "on" };
            self.marks.entry((account, contact)).or_default().push(mark);
        }
        Ok(())
    }

    fn take_threads(&mut self, found: Vec<ThreadRow>) {
        for (account, header, is_own, id, contact, user, merged_into, last_at) in found {
            let entry = ThreadEntry { conversation: ConversationId::from_uuid(id), is_own };
            self.threads.entry((AccountId::from_uuid(account), header)).or_default().push(entry);
            self.take_conversation((account, id, contact, user, merged_into, last_at));
        }
        for entries in self.threads.values_mut() {
            sort_entries(entries);
        }
    }

    fn take_messages(&mut self, found: Vec<(Uuid, String, Uuid, Vec<u8>, Uuid)>) -> Result<(), sqlx::Error> {
        for (account, header, id, digest, contact) in found {
            let existing = ExistingMessage {
                id: MessageId::from_uuid(id),
                digest: digest_of(digest)?,
                contact: ContactId::from_uuid(contact),
            };
            self.messages.entry((AccountId::from_uuid(account), header)).or_default().push(existing);
        }
        Ok(())
    }

    fn take_held(&mut self, found: Vec<HeldRow>) -> Result<(), sqlx::Error> {
        for (account, header, delivery, digest, user) in found {
            let twin = HeldTwin {
                delivery: DeliveryId::from_uuid(delivery),
                digest: digest_of(digest)?,
                user: user.map(UserId::from_uuid),
            };
            self.held.entry((AccountId::from_uuid(account), header)).or_default().push(twin);
        }
        Ok(())
    }

    /// R60.
    fn take_tombstones(&mut self, found: Vec<(Uuid, Vec<u8>)>) {
        self.tombstones
            .extend(found.into_iter().map(|(account, hash)| (AccountId::from_uuid(account), hash)));
    }

    fn take_conversation(&mut self, (account, id, contact, user, merged_into, last_at): ConversationRow) {
        let id = ConversationId::from_uuid(id);
        let known = KnownConversation {
            conversation: Conversation {
                id,
                contact: ContactId::from_uuid(contact),
                user: user.map(UserId::from_uuid),
                last_at: Timestamp::from_millis(last_at),
            },
            merged_into: merged_into.map(ConversationId::from_uuid),
        };
        self.conversations.insert((AccountId::from_uuid(account), id), known);
    }

    fn take_owners(&mut self, found: Vec<(Uuid, Uuid, i64, String, String, Option<i64>)>) {
        for (account, user, day, name, sync_state, filings) in found {
            let (account, user) = (AccountId::from_uuid(account), UserId::from_uuid(user));
            self.owners.insert((account, user), Owner { user, name, sync_on: sync_state == "on" });
            let filings = u32::try_from(filings.unwrap_or(0)).unwrap_or(u32::MAX);
            self.filed_today.insert((account, user, day), filings);
        }
    }
}

/// The keys of a batch, each once.
struct Wanted {
    accounts: HashSet<AccountId>,
    addresses: HashSet<(AccountId, String)>,
    /// From.
    authors: HashSet<(AccountId, String)>,
    references: HashSet<(AccountId, String)>,
    message_ids: HashSet<(AccountId, String)>,
    conversations: HashSet<Two>,
    owners: OwnersWanted,
}

#[derive(Default)]
struct OwnersWanted {
    users: HashSet<OfDay>,
    of_conversations: HashSet<(AccountId, ConversationId, i64)>,
}

impl Wanted {
    fn of(arrivals: &[Arrival<'_>]) -> Self {
        let mut owners = OwnersWanted::default();
        let mut conversations = HashSet::new();
        for arrival in arrivals {
            let (account, day) = (arrival.mailbox.account(), day(arrival.received_at));
            if let Some(user) = owner_id(arrival.mailbox) {
                owners.users.insert(OfDay(account.uuid(), user.uuid(), day));
            }
            if let Mailbox::Reply(reply) = arrival.mailbox {
                owners.of_conversations.insert((account, reply.conversation, day));
                conversations.insert(Two(account.uuid(), reply.conversation.uuid()));
            }
        }
        Self {
            accounts: arrivals.iter().map(|arrival| arrival.mailbox.account()).collect(),
            addresses: each(arrivals, |arrival| address_keys(arrival.email)),
            authors: each(arrivals, |arrival| {
                arrival.email.from.address().map(EmailAddress::key).into_iter().collect()
            }),
            references: each(arrivals, |arrival| {
                thread_keys(arrival.email).iter().map(|key| key.text().to_owned()).collect()
            }),
            message_ids: each(arrivals, |arrival| vec![own_message_id(arrival.email)]),
            conversations,
            owners,
        }
    }
}

fn each<T: Eq + Hash>(
    arrivals: &[Arrival<'_>],
    keys: impl Fn(&Arrival<'_>) -> Vec<T>,
) -> HashSet<(AccountId, T)> {
    arrivals
        .iter()
        .flat_map(|arrival| keys(arrival).into_iter().map(|key| (arrival.mailbox.account(), key)))
        .collect()
}

fn texts(keys: &HashSet<(AccountId, String)>) -> Vec<Text> {
    keys.iter().map(|(account, key)| Text(account.uuid(), key.clone())).collect()
}

fn address_of(text: &str) -> Result<EmailAddress, sqlx::Error> {
    EmailAddress::parse(text).ok_or_else(|| sqlx::Error::Decode("an address in the store is none".into()))
}

fn digest_of(octets: Vec<u8>) -> Result<[u8; 32], sqlx::Error> {
    octets.try_into().map_err(|_| sqlx::Error::Decode("a digest has 32 octets".into()))
}

/// A contact with one of its marks, if it has any.
type ContactRow = (Uuid, Uuid, String, String, String, i64, Option<Uuid>, Option<String>);
type ThreadRow = (Uuid, String, bool, Uuid, Uuid, Option<Uuid>, Option<Uuid>, i64);
type HeldRow = (Uuid, String, Uuid, Vec<u8>, Option<Uuid>);
type ConversationRow = (Uuid, Uuid, Uuid, Option<Uuid>, Option<Uuid>, i64);
