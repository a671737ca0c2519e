//! Reads a [`Directory`] for a batch: one statement for each table, all in one way to the
//! engine, whatever the number of messages.
//!
//! Each statement joins a list of keys to a table through an index that leads with the account (R4). `CROSS JOIN`
//! keeps the list outside: a row-value `IN` would scan the table in SQLite.

use std::collections::HashSet;
use std::collections::hash_map::Entry;
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
    self, ACCOUNTS, CONTACTS_BY_EMAIL, CONTACTS_BY_ID, CONVERSATIONS, HELD, Hash16, IDENTITIES, MESSAGES,
    OWNERS, OfDay, One, SIGNERS, THREADS, TOMBSTONES, Text, Two,
};
use crate::store::row_keyring::RowKeySet;
use crate::store::row_keys::{Index, RowKeys};
use crate::store::row_seal::unreadable;
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
        let accounts = [arrival.mailbox.account(), AccountId::OPERATOR];
        let rows = self.inner.rows.of_all(&mut reader, accounts).await?;
        let mut directory = Directory::load(&mut reader, &[*arrival], &served, (keys, &rows)).await?;
        if self.inner.relay_domain.is_some() {
            directory.load_relaying(&mut reader, &[*arrival], &rows).await?;
        }
        directory.facts(arrival, keys).ok_or(StoreError::NoSuchAccount)
    }
}

impl Directory {
    /// Reads what is known about the arrivals. `rows` are the keys of their accounts and of the operator's.
    pub(in crate::store) async fn load(
        connection: &mut Connection,
        arrivals: &[Arrival<'_>],
        served_domains: &[String],
        (keys, rows): (&Keys, &RowKeySet),
    ) -> Result<Self, sqlx::Error> {
        let mut directory = Self::default();
        let wanted = Wanted::of(arrivals);
        let erased: HashSet<_> = arrivals.iter().map(|arrival| tombstone(arrival, keys)).collect();
        let erased = erased.into_iter().map(|(account, hash)| Hash16(account.uuid(), hash)).collect();
        let addresses = texts(&wanted.addresses, rows, Index::Address)?;
        let own = messages(&wanted.messages, rows)?;

        let mut reads = Reads::new(connection.engine());
        let data_version = reads.data_version();
        let accounts = reads.select(&ACCOUNTS, wanted.accounts.iter().map(|id| One(id.uuid())).collect());
        let identities = reads.select(&IDENTITIES, addresses.clone());
        let signers = reads.select(&SIGNERS, texts(&wanted.authors, rows, Index::Address)?);
        let contacts = reads.select(&CONTACTS_BY_EMAIL, addresses);
        let threads = reads.select(&THREADS, texts(&wanted.references, rows, Index::MessageId)?);
        let messages = reads.select(&MESSAGES, own.clone());
        let held = reads.select(&HELD, own);
        let erased = reads.select(&TOMBSTONES, erased);
        let conversations = reads.select(&CONVERSATIONS, wanted.conversations.into_iter().collect());
        let owners = reads.select(&OWNERS, wanted.owners.users.into_iter().collect());
        let mut found = reads.run(connection).await?;

        directory.data_version = found.take(data_version)?.first().map(|(version,)| *version);
        directory.take_accounts(found.take(accounts)?, served_domains, rows)?;
        directory.take_identities(found.take(identities)?, rows)?;
        directory.take_signers(found.take(signers)?, rows)?;
        for contact in found.take(contacts)? {
            directory.take_contact_by_email(contact, rows)?;
        }
        directory.take_threads(found.take(threads)?, rows)?;
        directory.take_messages(found.take(messages)?, rows)?;
        directory.take_held(found.take(held)?, rows)?;
        directory.take_tombstones(found.take(erased)?);
        found.take(conversations)?.into_iter().for_each(|row| directory.take_conversation(row));
        directory.take_owners(found.take(owners)?, rows)?;
        directory.load_what_follows(connection, wanted.owners.of_conversations, rows).await?;
        Ok(directory)
    }

    /// Where the conversations lead: merges (R41), their contacts, and the users of those that are replied to. Mostly
    /// nothing, or one way.
    async fn load_what_follows(
        &mut self,
        connection: &mut Connection,
        replied: HashSet<(AccountId, ConversationId, i64)>,
        rows: &RowKeySet,
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
            let (owners, merged) = (found.take(owners)?, found.take(merged)?);
            let contacts: Vec<ContactRow> = found.take(contacts)?;
            if owners.is_empty() && merged.is_empty() && contacts.is_empty() {
                break;
            }
            self.take_owners(owners, rows)?;
            merged.into_iter().for_each(|row| self.take_conversation(row));
            for contact in contacts {
                let keys = rows.of(AccountId::from_uuid(contact.0)).map_err(unreadable)?;
                self.take_contact(contact, &keys)?;
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
        found: Vec<(Uuid, String, String, i64, Option<Uuid>)>,
        served_domains: &[String],
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        let operator = rows.of(AccountId::OPERATOR).map_err(unreadable)?;
        for (id, name, settings, key_floor, last_event) in found {
            let name = operator.show("accounts.name", id, name).map_err(unreadable)?;
            let settings = operator.show("accounts.settings", id, settings).map_err(unreadable)?;
            let id = AccountId::from_uuid(id);
            self.key_floors.insert(id, key_floor);
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
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        for (account, key, user, address, verified_at, sync_state) in found {
            let keys = rows.of(AccountId::from_uuid(account)).map_err(unreadable)?;
            let address = keys.show("user_emails.address", &key, address).map_err(unreadable)?;
            let key = keys.show_index(Index::Address, key).map_err(unreadable)?;
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
    fn take_signers(
        &mut self,
        found: Vec<(Uuid, String, String)>,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        for (account, key, domain) in found {
            let keys = rows.of(AccountId::from_uuid(account)).map_err(unreadable)?;
            let key = keys.show_index(Index::Address, key).map_err(unreadable)?;
            let domain = keys.show_index(Index::Domain, domain).map_err(unreadable)?;
            self.signers.entry((AccountId::from_uuid(account), key)).or_default().push(domain);
        }
        Ok(())
    }

    fn take_contact_by_email(&mut self, row: ContactRow, rows: &RowKeySet) -> Result<(), sqlx::Error> {
        let (account, id) = (AccountId::from_uuid(row.0), ContactId::from_uuid(row.1));
        let keys = rows.of(account).map_err(unreadable)?;
        let key = keys.show_index(Index::Address, row.4.clone()).map_err(unreadable)?;
        let contacts = self.contacts_by_email.entry((account, key)).or_default();
        if !contacts.contains(&id) {
            contacts.push(id);
        }
        self.take_contact(row, &keys)
    }

    /// One of a contact's marks; the contact itself with the first of them.
    fn take_contact(
        &mut self,
        (account, id, name, email, _, created_at, user, state): ContactRow,
        keys: &RowKeys,
    ) -> Result<(), sqlx::Error> {
        let (account, contact) = (AccountId::from_uuid(account), ContactId::from_uuid(id));
        if let Entry::Vacant(vacant) = self.contacts.entry((account, contact)) {
            let email = keys.show("contacts.email", id, email).map_err(unreadable)?;
            vacant.insert(Contact {
                id: contact,
                name: keys.show("contacts.name", id, name).map_err(unreadable)?,
                email: EmailAddress::parse(&email),
                created_at: Timestamp::from_millis(created_at),
            });
        }
        if let (Some(user), Some(state)) = (user, state) {
            let mark = Mark { user: UserId::from_uuid(user), contact, on: state == "on" };
            self.marks.entry((account, contact)).or_default().push(mark);
        }
        Ok(())
    }

    fn take_threads(&mut self, found: Vec<ThreadRow>, rows: &RowKeySet) -> Result<(), sqlx::Error> {
        for (account, header, is_own, id, contact, user, merged_into, last_at) in found {
            let header = shown_header(rows, account, header)?;
            let entry = ThreadEntry { conversation: ConversationId::from_uuid(id), is_own };
            self.threads.entry((AccountId::from_uuid(account), header)).or_default().push(entry);
            self.take_conversation((account, id, contact, user, merged_into, last_at));
        }
        for entries in self.threads.values_mut() {
            sort_entries(entries);
        }
        Ok(())
    }

    fn take_messages(
        &mut self,
        found: Vec<(Uuid, String, Uuid, Vec<u8>, Uuid)>,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        for (account, header, id, digest, contact) in found {
            let header = shown_header(rows, account, header)?;
            let existing = ExistingMessage {
                id: MessageId::from_uuid(id),
                digest: shown_digest(rows, account, digest)?,
                contact: ContactId::from_uuid(contact),
            };
            self.messages.entry((AccountId::from_uuid(account), header)).or_default().push(existing);
        }
        Ok(())
    }

    fn take_held(&mut self, found: Vec<HeldRow>, rows: &RowKeySet) -> Result<(), sqlx::Error> {
        for (account, header, delivery, digest, user) in found {
            let header = shown_header(rows, account, header)?;
            let twin = HeldTwin {
                delivery: DeliveryId::from_uuid(delivery),
                digest: shown_digest(rows, account, digest)?,
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

    fn take_owners(
        &mut self,
        found: Vec<(Uuid, Uuid, i64, String, String, Option<i64>)>,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        for (account, user, day, name, sync_state, filings) in found {
            let account = AccountId::from_uuid(account);
            let keys = rows.of(account).map_err(unreadable)?;
            let name = keys.show("users.name", user, name).map_err(unreadable)?;
            let user = UserId::from_uuid(user);
            self.owners.insert((account, user), Owner { user, name, sync_on: sync_state == "on" });
            let filings = u32::try_from(filings.unwrap_or(0)).unwrap_or(u32::MAX);
            self.filed_today.insert((account, user, day), filings);
        }
        Ok(())
    }
}

/// The keys of a batch, each once.
struct Wanted {
    accounts: HashSet<AccountId>,
    addresses: HashSet<(AccountId, String)>,
    /// From.
    authors: HashSet<(AccountId, String)>,
    references: HashSet<(AccountId, String)>,
    /// By Message-ID and digest.
    messages: HashSet<(AccountId, (String, [u8; 32]))>,
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
            messages: each(arrivals, |arrival| vec![(own_message_id(arrival.email), arrival.email.digest)]),
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

/// As the columns hold them.
fn texts(
    keys: &HashSet<(AccountId, String)>,
    rows: &RowKeySet,
    index: Index,
) -> Result<Vec<Text>, sqlx::Error> {
    let text = |(account, key): &(AccountId, String)| {
        Ok(Text(account.uuid(), rows.of(*account)?.index(index, key.as_str())?))
    };
    keys.iter().map(text).collect::<Result<_, _>>().map_err(unreadable)
}

fn messages(
    wanted: &HashSet<(AccountId, (String, [u8; 32]))>,
    rows: &RowKeySet,
) -> Result<Vec<queries::Message>, sqlx::Error> {
    let message = |(account, (header, digest)): &(AccountId, (String, [u8; 32]))| {
        let keys = rows.of(*account)?;
        let header = keys.index(Index::MessageId, header.as_str())?;
        Ok(queries::Message(account.uuid(), header, keys.index_octets(Index::Digest, digest)?))
    };
    wanted.iter().map(message).collect::<Result<_, StoreError>>().map_err(unreadable)
}

fn shown_header(rows: &RowKeySet, account: Uuid, header: String) -> Result<String, sqlx::Error> {
    let keys = rows.of(AccountId::from_uuid(account));
    keys.and_then(|keys| keys.show_index(Index::MessageId, header)).map_err(unreadable)
}

fn shown_digest(rows: &RowKeySet, account: Uuid, digest: Vec<u8>) -> Result<[u8; 32], sqlx::Error> {
    let keys = rows.of(AccountId::from_uuid(account));
    let digest = keys.and_then(|keys| keys.show_octets(Index::Digest, digest)).map_err(unreadable)?;
    digest.try_into().map_err(|_| sqlx::Error::Decode("a digest has 32 octets".into()))
}

fn address_of(text: &str) -> Result<EmailAddress, sqlx::Error> {
    EmailAddress::parse(text).ok_or_else(|| sqlx::Error::Decode("an address in the store is none".into()))
}

/// A contact with one of its marks, if it has any.
type ContactRow = (Uuid, Uuid, String, String, String, i64, Option<Uuid>, Option<String>);
type ThreadRow = (Uuid, String, bool, Uuid, Uuid, Option<Uuid>, Option<Uuid>, i64);
type HeldRow = (Uuid, String, Uuid, Vec<u8>, Option<Uuid>);
type ConversationRow = (Uuid, Uuid, Uuid, Option<Uuid>, Option<Uuid>, i64);
