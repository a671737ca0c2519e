//! Reads a [`Directory`] for a batch: one statement for each table, whatever the number of messages.
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
    ACCOUNTS, CONTACTS_BY_EMAIL, CONTACTS_BY_ID, CONVERSATIONS, HELD, Hash16, IDENTITIES, MARKS, MESSAGES,
    OWNERS, OfDay, One, SIGNERS, THREADS, TOMBSTONES, Text, Two,
};
use crate::store::row_keyring::RowKeySet;
use crate::store::row_keys::{Index, RowKeys};
use crate::store::row_seal::unreadable;
use crate::store::statement::select;
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
        directory.load_accounts(connection, &wanted, served_domains, rows).await?;
        directory.load_identities(connection, &wanted, rows).await?;
        directory.load_signers(connection, &wanted, rows).await?;
        directory.load_contacts_by_email(connection, &wanted, rows).await?;
        directory.load_threads(connection, &wanted, rows).await?;
        directory.load_messages(connection, &wanted, rows).await?;
        directory.load_held(connection, &wanted, rows).await?;
        directory.load_tombstones(connection, arrivals, keys).await?;
        directory.load_conversations(connection, wanted.conversations.clone()).await?;
        directory.load_owners(connection, wanted.owners, rows).await?;
        directory.load_contacts_of_conversations(connection, rows).await?;
        directory.load_marks(connection).await?;
        Ok(directory)
    }

    async fn load_accounts(
        &mut self,
        connection: &mut Connection,
        wanted: &Wanted,
        served_domains: &[String],
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        let operator = rows.of(AccountId::OPERATOR).map_err(unreadable)?;
        let keys = wanted.accounts.iter().map(|account| One(account.uuid())).collect();
        type Found = (Uuid, String, String, i64, Option<Uuid>);
        for (id, name, settings, key_floor, last_event) in
            select::<_, Found>(connection, &ACCOUNTS, keys).await?
        {
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

    async fn load_identities(
        &mut self,
        connection: &mut Connection,
        wanted: &Wanted,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        type Found = (Uuid, String, Uuid, String, Option<i64>, String);
        for (account, key, user, address, verified_at, sync_state) in
            select::<_, Found>(connection, &IDENTITIES, texts(&wanted.addresses, rows, Index::Address)?)
                .await?
        {
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
    async fn load_signers(
        &mut self,
        connection: &mut Connection,
        wanted: &Wanted,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        for (account, key, domain) in select::<_, (Uuid, String, String)>(
            connection,
            &SIGNERS,
            texts(&wanted.authors, rows, Index::Address)?,
        )
        .await?
        {
            let keys = rows.of(AccountId::from_uuid(account)).map_err(unreadable)?;
            let key = keys.show_index(Index::Address, key).map_err(unreadable)?;
            let domain = keys.show_index(Index::Domain, domain).map_err(unreadable)?;
            self.signers.entry((AccountId::from_uuid(account), key)).or_default().push(domain);
        }
        Ok(())
    }

    async fn load_contacts_by_email(
        &mut self,
        connection: &mut Connection,
        wanted: &Wanted,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        let keys = texts(&wanted.addresses, rows, Index::Address)?;
        let found: Vec<ContactRow> = select(connection, &CONTACTS_BY_EMAIL, keys).await?;
        for row in found {
            let account = AccountId::from_uuid(row.0);
            let keys = rows.of(account).map_err(unreadable)?;
            let key = keys.show_index(Index::Address, row.4.clone()).map_err(unreadable)?;
            let contact = contact_of(row, &keys)?;
            self.contacts_by_email.entry((account, key)).or_default().push(contact.id);
            self.contacts.insert((account, contact.id), contact);
        }
        Ok(())
    }

    async fn load_threads(
        &mut self,
        connection: &mut Connection,
        wanted: &Wanted,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        type Found = (Uuid, String, bool, Uuid, Uuid, Option<Uuid>, Option<Uuid>, i64);
        for (account, header, is_own, id, contact, user, merged_into, last_at) in
            select::<_, Found>(connection, &THREADS, texts(&wanted.references, rows, Index::MessageId)?)
                .await?
        {
            let header = shown_header(rows, account, header)?;
            let (account, conversation) = (AccountId::from_uuid(account), ConversationId::from_uuid(id));
            self.threads.entry((account, header)).or_default().push(ThreadEntry { conversation, is_own });
            self.take_conversation((account.uuid(), id, contact, user, merged_into, last_at));
        }
        for entries in self.threads.values_mut() {
            sort_entries(entries);
        }
        Ok(())
    }

    async fn load_messages(
        &mut self,
        connection: &mut Connection,
        wanted: &Wanted,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        type Found = (Uuid, String, Uuid, Vec<u8>, Uuid);
        for (account, header, id, digest, contact) in
            select::<_, Found>(connection, &MESSAGES, texts(&wanted.message_ids, rows, Index::MessageId)?)
                .await?
        {
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

    async fn load_held(
        &mut self,
        connection: &mut Connection,
        wanted: &Wanted,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        type Found = (Uuid, String, Uuid, Vec<u8>, Option<Uuid>);
        for (account, header, delivery, digest, user) in
            select::<_, Found>(connection, &HELD, texts(&wanted.message_ids, rows, Index::MessageId)?).await?
        {
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
    async fn load_tombstones(
        &mut self,
        connection: &mut Connection,
        arrivals: &[Arrival<'_>],
        keys: &Keys,
    ) -> Result<(), sqlx::Error> {
        let wanted: HashSet<_> = arrivals.iter().map(|arrival| tombstone(arrival, keys)).collect();
        let wanted = wanted.into_iter().map(|(account, hash)| Hash16(account.uuid(), hash)).collect();
        for (account, hash) in select::<_, (Uuid, Vec<u8>)>(connection, &TOMBSTONES, wanted).await? {
            self.tombstones.insert((AccountId::from_uuid(account), hash));
        }
        Ok(())
    }

    /// Those that are wanted, and where merges lead from all that are known by now.
    async fn load_conversations(
        &mut self,
        connection: &mut Connection,
        mut wanted: HashSet<(AccountId, ConversationId)>,
    ) -> Result<(), sqlx::Error> {
        for _ in 0..=MAX_MERGES {
            let merged = self
                .conversations
                .iter()
                .filter_map(|((account, _), known)| Some((*account, known.merged_into?)));
            wanted.extend(merged);
            wanted.retain(|key| !self.conversations.contains_key(key));
            if wanted.is_empty() {
                break;
            }
            let keys = wanted.drain().map(|(account, id)| Two(account.uuid(), id.uuid())).collect();
            let found: Vec<ConversationRow> = select(connection, &CONVERSATIONS, keys).await?;
            if found.is_empty() {
                break;
            }
            for row in found {
                self.take_conversation(row);
            }
        }
        Ok(())
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

    /// The users of the addresses, and those of reply conversations.
    async fn load_owners(
        &mut self,
        connection: &mut Connection,
        wanted: OwnersWanted,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        type Found = (Uuid, Uuid, i64, String, String, Option<i64>);
        let mut keys: HashSet<OfDay> = wanted.users;
        for (account, conversation, day) in wanted.of_conversations {
            let user = self.conversation(account, conversation).and_then(|known| known.user);
            keys.extend(user.map(|user| OfDay(account.uuid(), user.uuid(), day)));
        }
        for (account, user, day, name, sync_state, filings) in
            select::<_, Found>(connection, &OWNERS, keys.into_iter().collect()).await?
        {
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

    async fn load_contacts_of_conversations(
        &mut self,
        connection: &mut Connection,
        rows: &RowKeySet,
    ) -> Result<(), sqlx::Error> {
        let keys: HashSet<Two> = self
            .conversations
            .iter()
            .map(|((account, _), known)| (*account, known.conversation.contact))
            .filter(|key| !self.contacts.contains_key(key))
            .map(|(account, contact)| Two(account.uuid(), contact.uuid()))
            .collect();
        let found: Vec<ContactRow> = select(connection, &CONTACTS_BY_ID, keys.into_iter().collect()).await?;
        for row in found {
            let account = AccountId::from_uuid(row.0);
            let contact = contact_of(row, &rows.of(account).map_err(unreadable)?)?;
            self.contacts.insert((account, contact.id), contact);
        }
        Ok(())
    }

    async fn load_marks(&mut self, connection: &mut Connection) -> Result<(), sqlx::Error> {
        let keys =
            self.contacts.keys().map(|(account, contact)| Two(account.uuid(), contact.uuid())).collect();
        for (account, contact, user, state) in
            select::<_, (Uuid, Uuid, Uuid, String)>(connection, &MARKS, keys).await?
        {
            let contact = ContactId::from_uuid(contact);
            let mark = Mark { user: UserId::from_uuid(user), contact, on: state == "on" };
            self.marks.entry((AccountId::from_uuid(account), contact)).or_default().push(mark);
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
    message_ids: HashSet<(AccountId, String)>,
    conversations: HashSet<(AccountId, ConversationId)>,
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
                conversations.insert((account, reply.conversation));
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

fn contact_of(
    (_, id, name, email, _, created_at): ContactRow,
    keys: &RowKeys,
) -> Result<Contact, sqlx::Error> {
    let email = keys.show("contacts.email", id, email).map_err(unreadable)?;
    Ok(Contact {
        id: ContactId::from_uuid(id),
        name: keys.show("contacts.name", id, name).map_err(unreadable)?,
        email: EmailAddress::parse(&email),
        created_at: Timestamp::from_millis(created_at),
    })
}

type ContactRow = (Uuid, Uuid, String, String, String, i64);
type ConversationRow = (Uuid, Uuid, Uuid, Option<Uuid>, Option<Uuid>, i64);
