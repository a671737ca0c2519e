//! What is known about the people and ids on a batch of messages, as the rules need it: [`Facts`] for each recipient.
//!
//! Read set-wise for the whole batch (`load`), inside the transaction that writes. What one message's decision
//! writes, the next message of the batch already knows ([`Directory::learn`]): a new contact, conversation, mark,
//! Message-ID, and one more filing today.

use std::collections::{HashMap, HashSet};

use crate::address::{EmailAddress, Mailbox};
use crate::filing::{
    Account, Arrival, Contact, Conversation, Direction, ExistingMessage, Facts, Filing, FilingContact,
    HeldTwin, Identity, KnownReference, Mark, Owner, Thread, derived_message_id, quoted_addresses,
    remembered_keys, thread_keys,
};
use crate::id::{AccountId, ContactId, ConversationId, DeliveryId, EventId, MessageId, UserId};
use crate::keys::Keys;
use crate::message::{Email, Kind};
use crate::store::relay::Relaying;
use crate::time::Timestamp;

/// All that is known for a batch, by account.
#[derive(Debug, Default)]
pub(in crate::store) struct Directory {
    /// None where changes by others are announced.
    pub(in crate::store) data_version: Option<i64>,
    pub(in crate::store) accounts: HashMap<AccountId, Account>,
    /// The lowest number of an account key that may have sealed what is filed.
    pub(in crate::store) key_floors: HashMap<AccountId, i64>,
    pub(in crate::store) last_events: HashMap<AccountId, EventId>,
    pub(in crate::store) owners: HashMap<(AccountId, UserId), Owner>,
    /// By folded address.
    pub(in crate::store) identities: HashMap<(AccountId, String), Identity>,
    /// R13: domains, by folded address.
    pub(in crate::store) signers: HashMap<(AccountId, String), Vec<String>>,
    pub(in crate::store) contacts: HashMap<(AccountId, ContactId), Contact>,
    /// By folded primary email, oldest first (R21).
    pub(in crate::store) contacts_by_email: HashMap<(AccountId, String), Vec<ContactId>>,
    pub(in crate::store) marks: HashMap<(AccountId, ContactId), Vec<Mark>>,
    pub(in crate::store) conversations: HashMap<(AccountId, ConversationId), KnownConversation>,
    /// The conversations that a Message-ID leads to.
    pub(in crate::store) threads: HashMap<(AccountId, String), Vec<ThreadEntry>>,
    /// By Message-ID: the message itself, and one other at least, if there are others.
    pub(in crate::store) messages: HashMap<(AccountId, String), Vec<ExistingMessage>>,
    /// By Message-ID: those of the same digest.
    pub(in crate::store) held: HashMap<(AccountId, String), Vec<HeldTwin>>,
    /// R60: hashes of what was erased.
    pub(in crate::store) tombstones: HashSet<(AccountId, Vec<u8>)>,
    pub(in crate::store) filed_today: HashMap<(AccountId, UserId, i64), u32>,
    /// None where there is no relay.
    pub(in crate::store) relaying: Option<Relaying>,
}

/// A conversation as the table has it.
#[derive(Clone, Debug)]
pub(in crate::store) struct KnownConversation {
    pub(in crate::store) conversation: Conversation,
    pub(in crate::store) merged_into: Option<ConversationId>,
}

/// One conversation that a Message-ID leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct ThreadEntry {
    pub(in crate::store) conversation: ConversationId,
    /// A message there has this id; it is not merely referred to.
    pub(in crate::store) is_own: bool,
}

impl Directory {
    /// The facts for one recipient; none if there is no such account.
    pub(in crate::store) fn facts(&self, arrival: &Arrival<'_>, keys: &Keys) -> Option<Facts> {
        let id = arrival.mailbox.account();
        let account = self.accounts.get(&id)?.clone();
        let reply_conversation = match arrival.mailbox {
            Mailbox::Reply(reply) => self.conversation(id, reply.conversation),
            Mailbox::Auto(_) | Mailbox::Postmaster | Mailbox::Sync(_) => None,
        };
        let owner = owner_id(arrival.mailbox)
            .or_else(|| reply_conversation.as_ref()?.user)
            .and_then(|user| self.owners.get(&(id, user)).cloned());
        let author = arrival.email.from.address().map(EmailAddress::key);
        let signers = author.and_then(|author| self.signers.get(&(id, author)));
        let references = self.references(id, arrival.email);
        let identities = self.identities(id, arrival.email);
        let contacts = self.contacts(id, arrival.email, reply_conversation.as_ref(), &references);
        let marks = self.marks(id, owner.as_ref(), &identities, &contacts);
        let filed_today = owner
            .as_ref()
            .and_then(|owner| self.filed_today.get(&(id, owner.user, day(arrival.received_at))).copied());
        let same_message_id = self.messages.get(&(id, own_message_id(arrival.email)));
        let held_already = self.held.get(&(id, own_message_id(arrival.email)));
        let relay = self.relay_facts(id, reply_conversation.as_ref(), same_message_id);
        Some(Facts {
            account,
            owner,
            signers: signers.cloned().unwrap_or_default(),
            identities,
            contacts,
            marks,
            reply_conversation,
            references,
            same_message_id: same_message_id.cloned().unwrap_or_default(),
            held_already: held_already.cloned().unwrap_or_default(),
            was_erased: !self.tombstones.is_empty() && self.tombstones.contains(&tombstone(arrival, keys)),
            filed_today: filed_today.unwrap_or(0),
            relay,
        })
    }

    /// The conversation, after merges (R41).
    pub(in crate::store) fn conversation(
        &self,
        account: AccountId,
        mut id: ConversationId,
    ) -> Option<Conversation> {
        for _ in 0..MAX_MERGES {
            let known = self.conversations.get(&(account, id))?;
            match known.merged_into {
                None => return Some(known.conversation.clone()),
                Some(older) => id = older,
            }
        }
        None
    }

    fn references(&self, account: AccountId, email: &Email) -> Vec<KnownReference> {
        let mut references: Vec<KnownReference> = Vec::new();
        for key in thread_keys(email) {
            let before = references.len();
            for entry in self.threads.get(&(account, key.text().to_owned())).into_iter().flatten() {
                let Some(conversation) = self.conversation(account, entry.conversation) else { continue };
                let is_listed = |known: &KnownReference| known.conversation.id == conversation.id;
                if !references.iter().skip(before).any(is_listed) {
                    references.push(KnownReference { key: key.clone(), conversation });
                }
            }
        }
        references
    }

    fn identities(&self, account: AccountId, email: &Email) -> Vec<Identity> {
        address_keys(email)
            .into_iter()
            .filter_map(|key| self.identities.get(&(account, key)).cloned())
            .collect()
    }

    /// By address, then those of conversations; oldest first (R21), each once.
    fn contacts(
        &self,
        account: AccountId,
        email: &Email,
        reply: Option<&Conversation>,
        references: &[KnownReference],
    ) -> Vec<Contact> {
        let by_email = address_keys(email)
            .into_iter()
            .filter_map(|key| self.contacts_by_email.get(&(account, key)))
            .flatten()
            .copied();
        let of_conversations =
            references.iter().map(|known| &known.conversation).chain(reply).map(|c| c.contact);
        let mut contacts: Vec<Contact> = by_email
            .chain(of_conversations)
            .filter_map(|id| self.contacts.get(&(account, id)).cloned())
            .collect();
        contacts.sort_by_key(|contact| (contact.created_at, contact.id));
        contacts.dedup_by_key(|contact| contact.id);
        contacts
    }

    fn marks(
        &self,
        account: AccountId,
        owner: Option<&Owner>,
        identities: &[Identity],
        contacts: &[Contact],
    ) -> Vec<Mark> {
        let is_on_message = |user: UserId| {
            owner.is_some_and(|owner| owner.user == user)
                || identities.iter().any(|identity| identity.user == user)
        };
        contacts
            .iter()
            .filter_map(|contact| self.marks.get(&(account, contact.id)))
            .flatten()
            .filter(|mark| is_on_message(mark.user))
            .copied()
            .collect()
    }

    /// Takes in a message that is held now.
    pub(in crate::store) fn learn_held(
        &mut self,
        arrival: &Arrival<'_>,
        delivery: DeliveryId,
        user: Option<UserId>,
    ) {
        let key = (arrival.mailbox.account(), own_message_id(arrival.email));
        self.held.entry(key).or_default().push(HeldTwin { delivery, digest: arrival.email.digest, user });
    }

    /// Takes in what filing this message has written.
    pub(in crate::store) fn learn(&mut self, arrival: &Arrival<'_>, filing: &Filing, message: MessageId) {
        let account = arrival.mailbox.account();
        let contact = filing.contact.id();
        if let FilingContact::Create { id, name, email } = &filing.contact {
            self.learn_contact(account, *id, name, email, arrival.received_at);
        }
        for (user, contact) in &filing.marks {
            let marks = self.marks.entry((account, *contact)).or_default();
            if !marks.iter().any(|mark| mark.user == *user) {
                marks.push(Mark { user: *user, contact: *contact, on: true });
            }
        }
        let id = filing.thread.id();
        match (filing.thread, self.conversations.get_mut(&(account, id))) {
            (Thread::Existing(_), Some(known)) => {
                known.conversation.last_at = known.conversation.last_at.max(filing.sent_at);
            }
            (Thread::Existing(_), None) => {}
            (Thread::New(_), _) => {
                let conversation = Conversation { id, contact, user: filing.user, last_at: filing.sent_at };
                self.conversations
                    .insert((account, id), KnownConversation { conversation, merged_into: None });
            }
        }
        for merged in &filing.merges {
            if let Some(known) = self.conversations.get_mut(&(account, *merged)) {
                known.merged_into = Some(id);
            }
        }
        self.learn_thread_id(account, filing.message_id_header.clone(), id, Own::Yes);
        for key in remembered_keys(arrival.email, self.email_of(account, contact).as_ref()) {
            self.learn_thread_id(account, key, id, Own::No);
        }
        let digest = arrival.email.digest;
        self.messages.entry((account, filing.message_id_header.clone())).or_default().push(ExistingMessage {
            id: message,
            digest,
            contact,
        });
        if let Some(user) = counted_user(arrival.mailbox, filing) {
            let count = self.filed_today.entry((account, user, day(arrival.received_at))).or_default();
            *count = count.saturating_add(1);
        }
    }

    /// The primary email of a contact that is known to this batch.
    pub(in crate::store) fn email_of(&self, account: AccountId, contact: ContactId) -> Option<EmailAddress> {
        self.contacts.get(&(account, contact))?.email.clone()
    }

    fn learn_contact(
        &mut self,
        account: AccountId,
        id: ContactId,
        name: &str,
        email: &EmailAddress,
        created_at: Timestamp,
    ) {
        let contact = Contact { id, name: name.to_owned(), email: Some(email.clone()), created_at };
        self.contacts.insert((account, id), contact);
        self.contacts_by_email.entry((account, email.key())).or_default().push(id);
    }

    fn learn_thread_id(
        &mut self,
        account: AccountId,
        header: String,
        conversation: ConversationId,
        own: Own,
    ) {
        let entries = self.threads.entry((account, header)).or_default();
        let is_own = own == Own::Yes;
        match entries.iter_mut().find(|entry| entry.conversation == conversation) {
            Some(entry) => entry.is_own |= is_own,
            None => entries.push(ThreadEntry { conversation, is_own }),
        }
        sort_entries(entries);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Own {
    No,
    Yes,
}

/// The conversation that has the id itself before those that only refer to it; then the older one (ids are in
/// order of time).
pub(in crate::store) fn sort_entries(entries: &mut [ThreadEntry]) {
    entries.sort_by_key(|entry| (!entry.is_own, entry.conversation));
}

/// The user whose sync or auto address it is.
pub(in crate::store) const fn owner_id(mailbox: &Mailbox) -> Option<UserId> {
    match mailbox {
        Mailbox::Auto(of) | Mailbox::Sync(of) => Some(of.user),
        Mailbox::Postmaster | Mailbox::Reply(_) => None,
    }
}

/// R52: whose count of explicit filings goes up: somebody put the message on the sync address by hand, be it the
/// user, or a contact who answered to all. Mail of a marked contact comes by itself and does not count.
pub(in crate::store) fn counted_user(mailbox: &Mailbox, filing: &Filing) -> Option<UserId> {
    match mailbox {
        // A forward by hand (R28) is inbound, and its user stands in none of its fields.
        Mailbox::Sync(of)
            if filing.direction == Direction::Outbound
                || !filing.marks.is_empty()
                || filing.kind == Kind::Forwarded =>
        {
            Some(of.user)
        }
        Mailbox::Auto(_) | Mailbox::Postmaster | Mailbox::Reply(_) | Mailbox::Sync(_) => None,
    }
}

/// R43: the Message-ID, or the one that is derived for a message without.
pub(in crate::store) fn own_message_id(email: &Email) -> String {
    email.message_id_header.clone().unwrap_or_else(|| derived_message_id(&email.digest))
}

/// R60: by what a message is known that was erased.
pub(in crate::store) fn tombstone(arrival: &Arrival<'_>, keys: &Keys) -> (AccountId, Vec<u8>) {
    let account = arrival.mailbox.account();
    let hash = keys.message_hash(account, &own_message_id(arrival.email), &arrival.email.digest);
    (account, hash.to_vec())
}

/// The folded addresses in From, To and Cc, of a forwarded message's author (R28), and above quotes (R27a); each once.
pub(in crate::store) fn address_keys(email: &Email) -> Vec<String> {
    let forwarded = email.forwarded.iter().filter_map(|forwarded| forwarded.from.as_ref());
    let people = email.to.iter().chain(&email.cc).chain(forwarded).map(|person| &person.address);
    let quoted = quoted_addresses(email);
    let mut keys = Vec::new();
    for address in email.from.address().into_iter().chain(people).take(MAX_ADDRESSES).chain(&quoted) {
        let key = address.key();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

/// Days since 1970-01-01, UTC.
pub(in crate::store) const fn day(at: Timestamp) -> i64 {
    at.as_millis().div_euclid(86_400_000)
}

/// Addresses beyond this many are not looked up: no honest mail to a contact has more, and they cost reads.
const MAX_ADDRESSES: usize = 500;
/// Merges point to the older conversation, so chains are short; and a ring ends here.
pub(in crate::store) const MAX_MERGES: usize = 32;
