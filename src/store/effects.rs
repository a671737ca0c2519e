//! From decisions to rows: what is written for a filed, held, discarded, duplicate, refused or deferred message.

use std::sync::Arc;

use serde::Serialize;

use crate::address::{EmailAddress, Mailbox};
use crate::filing::{Decision, Held, Reason, Step, Trace, domains_of};
use crate::id::{AccountId, DeliveryId};
use crate::keys::Keys;
use crate::message::{self, Confirmation};
use crate::smtp::{ForwardPath, Reply};
use crate::store::batch::Outcome;
use crate::store::blobs::BlobName;
use crate::store::directory::UnaddressedFeed;
use crate::store::events;
use crate::store::facts::own_message_id;
use crate::store::record;
use crate::store::relay;
use crate::store::rows::{ConfirmationRow, DeliveryAddressRow, DeliveryRow, HeldRow, Rows};
use crate::store::submission::{Place, Prepared, Refusal};
use crate::wire::{AuthView, PersonView, StepView};

/// Everything for one submission.
pub(in crate::store) fn submission(
    rows: &mut Rows,
    keys: &Keys,
    prepared: &Prepared,
    outcomes: &[Outcome<'_>],
    reply: &Reply,
    relay_domain: Option<&str>,
) {
    let auth = AuthView::from(&*prepared.verdict);
    let nameless: Arc<str> = json(&auth.clone().without_names()).into();
    let auth: Arc<str> = json(&auth).into();
    for outcome in outcomes {
        match &outcome.decision {
            Decision::Filed(filing) => {
                record::filed(rows, prepared, outcome, filing);
                events::filed(rows, outcome, filing);
            }
            Decision::Held(held) => {
                keep_held(rows, prepared, outcome, held);
                events::held(rows, outcome, held);
            }
            Decision::Discarded(Reason::ForwardingConfirmation) => confirmation(rows, prepared, outcome),
            Decision::Deferred(_)
            | Decision::Discarded(_)
            | Decision::Duplicate(_)
            | Decision::Rejected(_) => {}
        }
        record::seen_too(rows, outcome);
        if let (Some(relay), Some(domain)) = (outcome.relay, relay_domain) {
            relay::job(rows, outcome, relay, domain);
        }
        let is_discarded = matches!(outcome.decision, Decision::Discarded(_));
        let auth = if is_discarded { &nameless } else { &auth };
        rows.deliveries.push(delivery(prepared, outcome, reply, auth.clone()));
        addresses_of(rows, keys, prepared, outcome);
    }
}

/// R34.
fn confirmation(rows: &mut Rows, prepared: &Prepared, outcome: &Outcome<'_>) {
    let Some(owner) = &outcome.facts.owner else { return };
    let Some(Confirmation { code, link }) = message::confirmation(&prepared.email) else { return };
    events::forwarding_confirmation(rows, outcome, owner.user, code.as_deref(), link.as_deref());
    rows.confirmations.push(ConfirmationRow {
        account_id: outcome.arrival.mailbox.account().uuid(),
        user_id: owner.user.uuid(),
        code,
        link,
        at: prepared.received_at.as_millis(),
    });
}

/// R3.
fn delivery(prepared: &Prepared, outcome: &Outcome<'_>, reply: &Reply, auth: Arc<str>) -> DeliveryRow {
    let email = &prepared.email;
    let client = &prepared.envelope.client;
    let is_discarded = matches!(outcome.decision, Decision::Discarded(_)) || outcome.is_erased();
    // R5: nothing of the content, and no plain address.
    let unless_discarded = |text: Option<&str>| text.filter(|_| !is_discarded).map(ToOwned::to_owned);
    let (user, contact) = people(outcome);
    DeliveryRow {
        account_id: outcome.arrival.mailbox.account().uuid(),
        delivery_id: outcome.delivery.uuid(),
        at: prepared.received_at.as_millis(),
        peer: client.ip.to_string(),
        helo: if is_discarded { String::new() } else { client.helo.clone() },
        tls: client.tls.clone(),
        mail_from: unless_discarded(Some(reverse_path(prepared.envelope.reverse_path.as_ref()))),
        rcpt: unless_discarded(Some(&outcome.rcpt)),
        message_id_header: unless_discarded(email.message_id_header.as_deref()),
        from_address: unless_discarded(email.from.address().map(EmailAddress::as_str)),
        size_bytes: octets(prepared.size_bytes),
        auth: Some(auth),
        outcome: outcome.decision.outcome().as_str(),
        reason: outcome.decision.reason().as_str(),
        smtp: reply.line(),
        user_id: user,
        contact_id: contact,
        message_id: outcome.message().map(crate::id::MessageId::uuid),
        steps: all_steps(prepared, outcome),
    }
}

/// The user and the contact that a delivery is shown with.
fn people(outcome: &Outcome<'_>) -> (Option<uuid::Uuid>, Option<uuid::Uuid>) {
    let owner = outcome.facts.owner.as_ref().map(|owner| owner.user);
    let (user, contact) = match &outcome.decision {
        Decision::Duplicate(existing) => {
            let known = outcome.facts.same_message_id.iter().find(|message| message.id == *existing);
            (owner, known.map(|message| message.contact))
        }
        Decision::Filed(filing) => (filing.user.or(owner), Some(filing.contact.id())),
        Decision::Held(held) => (held.user.or(owner), held.contact),
        Decision::Deferred(_) | Decision::Discarded(_) | Decision::Rejected(_) => (owner, None),
    };
    (user.map(crate::id::UserId::uuid), contact.map(crate::id::ContactId::uuid))
}

fn all_steps(prepared: &Prepared, outcome: &Outcome<'_>) -> String {
    let steps = prepared.steps.iter().chain(&outcome.trace.steps).cloned().collect();
    let mut trace = Trace { steps };
    if matches!(outcome.decision, Decision::Discarded(_)) || outcome.is_erased() {
        let reverse_path = prepared.envelope.reverse_path.as_ref();
        trace.leave_out(&domains_of(&prepared.verdict, &prepared.email, reverse_path));
    }
    steps_json(&trace.steps)
}

/// R5: found by an exact address, listed by none. From on one side; To, Cc and RCPT on the other.
fn addresses_of(rows: &mut Rows, keys: &Keys, prepared: &Prepared, outcome: &Outcome<'_>) {
    let email = &prepared.email;
    let authors = email.from.address().into_iter().chain(prepared.envelope.reverse_path.as_ref());
    let from = authors.map(|address| ("from", address));
    let rcpt = EmailAddress::parse(&outcome.rcpt);
    let people = email.to.iter().chain(&email.cc).map(|person| &person.address);
    let feed = feed_address(outcome);
    let to = rcpt.iter().chain(&feed).chain(people).map(|address| ("to", address));
    hash_addresses(rows, keys, outcome.arrival.mailbox.account(), outcome.delivery, from.chain(to));
}

/// R35: by which the profile finds when mail was last seen through a feed that has no address of its own.
fn feed_address(outcome: &Outcome<'_>) -> Option<EmailAddress> {
    let owner = outcome.facts.owner.as_ref()?.user;
    if outcome.arrival.email.journal.is_some() {
        return UnaddressedFeed::Journal.address(owner);
    }
    match outcome.arrival.mailbox {
        Mailbox::Reply(_) => UnaddressedFeed::RoutedReplies.address(owner),
        Mailbox::Auto(_) | Mailbox::Postmaster | Mailbox::Sync(_) => None,
    }
}

fn hash_addresses<'a>(
    rows: &mut Rows,
    keys: &Keys,
    account: AccountId,
    delivery: DeliveryId,
    addresses: impl Iterator<Item = (&'static str, &'a EmailAddress)>,
) {
    let mut seen: Vec<(&str, [u8; 16])> = Vec::new();
    for (role, address) in addresses.take(MAX_HASHED) {
        let hash = keys.address_hash(address);
        if !seen.contains(&(role, hash)) {
            seen.push((role, hash));
        }
    }
    rows.addresses.extend(seen.into_iter().map(|(role, hash)| DeliveryAddressRow {
        account_id: account.uuid(),
        address_hash: hash.to_vec(),
        role,
        delivery_id: delivery.uuid(),
    }));
}

fn keep_held(rows: &mut Rows, prepared: &Prepared, outcome: &Outcome<'_>, held: &Held) {
    let Some(copy) = outcome.copy else { return };
    let (raw, blob) = copy.place.columns();
    rows.held.push(HeldRow {
        account_id: outcome.arrival.mailbox.account().uuid(),
        delivery_id: outcome.delivery.uuid(),
        at: prepared.received_at.as_millis(),
        reason: held.reason.as_str(),
        why: held.why.clone(),
        user_id: held.user.map(crate::id::UserId::uuid),
        contact_id: held.contact.map(crate::id::ContactId::uuid),
        expires_at: held.expires_at.as_millis(),
        headers: json(&HeldHeaders::of(prepared)),
        size_bytes: octets(prepared.size_bytes),
        content_key: copy.content_key.clone(),
        raw,
        blob,
        message_id_header: own_message_id(&prepared.email),
        digest: prepared.email.digest.to_vec(),
    });
}

/// What the review queue shows.
#[derive(Serialize)]
struct HeldHeaders<'a> {
    from: Option<PersonView>,
    to: Vec<PersonView>,
    subject: &'a str,
    /// Not shown: whose record it may belong on, once they are a contact.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    cc: Vec<PersonView>,
    /// Not shown, likewise: the author of what was forwarded (R28).
    #[serde(skip_serializing_if = "Option::is_none")]
    original: Option<PersonView>,
}

impl<'a> HeldHeaders<'a> {
    fn of(prepared: &'a Prepared) -> Self {
        let email = &prepared.email;
        Self {
            from: record::author(email),
            to: email.to.iter().take(MAX_HASHED).map(PersonView::from).collect(),
            subject: &email.subject,
            cc: email.cc.iter().take(MAX_HASHED).map(PersonView::from).collect(),
            original: email
                .forwarded
                .as_ref()
                .and_then(|original| original.from.as_ref())
                .map(PersonView::from),
        }
    }
}

/// R3: refused before there was a message.
pub(in crate::store) fn refusals(rows: &mut Rows, keys: &Keys, refusals: &[Refusal]) {
    for refusal in refusals {
        rows.deliveries.push(DeliveryRow {
            account_id: refusal.account.uuid(),
            delivery_id: refusal.delivery.uuid(),
            at: refusal.at.as_millis(),
            peer: refusal.client.ip.to_string(),
            helo: refusal.client.helo.clone(),
            tls: refusal.client.tls.clone(),
            mail_from: Some(reverse_path(refusal.mail_from.as_ref()).to_owned()),
            rcpt: Some(refusal.rcpt.clone()),
            message_id_header: None,
            from_address: None,
            size_bytes: octets(refusal.size_bytes),
            auth: None,
            outcome: refusal.outcome.as_str(),
            reason: refusal.reason.as_str(),
            smtp: refusal.reply.line(),
            user_id: None,
            contact_id: None,
            message_id: None,
            steps: steps_json(&refusal.steps),
        });
        let rcpt = EmailAddress::parse(&refusal.rcpt);
        let from = refusal.mail_from.iter().map(|address| ("from", address));
        let addresses = from.chain(rcpt.iter().map(|address| ("to", address)));
        hash_addresses(rows, keys, refusal.account, refusal.delivery, addresses);
    }
}

impl Place {
    /// The columns `raw` and `blob`.
    pub(in crate::store) fn columns(&self) -> (Option<Arc<[u8]>>, Option<String>) {
        match self {
            Self::Blob(name) => (None, Some(name.text())),
            Self::Row(sealed) => (Some(sealed.clone()), None),
        }
    }

    pub(in crate::store) const fn blob(&self) -> Option<BlobName> {
        match self {
            Self::Blob(name) => Some(*name),
            Self::Row(_) => None,
        }
    }
}

/// The forward-path as it is shown.
pub(in crate::store) fn path_text(path: &ForwardPath) -> String {
    match path {
        ForwardPath::Address(address) => address.as_str().to_owned(),
        ForwardPath::Postmaster => "postmaster".to_owned(),
    }
}

/// `<>` is the empty text.
fn reverse_path(address: Option<&EmailAddress>) -> &str {
    address.map_or("", EmailAddress::as_str)
}

pub(in crate::store) fn octets(size_bytes: u64) -> i64 {
    i64::try_from(size_bytes).unwrap_or(i64::MAX)
}

/// None of our shapes can fail to be written: their keys are texts.
pub(in crate::store) fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

pub(in crate::store) fn steps_json(steps: &[Step]) -> String {
    json(&steps.iter().map(StepView::from).collect::<Vec<_>>())
}

/// Addresses of one delivery that can be searched for.
const MAX_HASHED: usize = 100;
