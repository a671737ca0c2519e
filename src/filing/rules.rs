//! The rules, one test or more each, on a small practice: Lena and Tom are staff, Ana, Ben and Cleo are patients.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use crate::address::{EmailAddress, Mailbox, NamedAddress, ReplyMailbox, UserMailbox};
use crate::auth::{AlignedBy, Alignment, Arc, AuthResult, Dkim, DmarcPolicy, Uncovered, Verdict};
use crate::filing::{
    Account, Arrival, Contact, Conversation, Decision, Direction, ExistingMessage, Facts, Filing,
    FilingContact, ForwardReplies, ForwardWord, FreshIds, HeldTwin, Identity, JournalSource, KnownReference,
    MAX_RELAYED_AN_HOUR, Mark, Owner, Reason, Relay, RelayFacts, Role, Sender, Settings, Thread, ThreadKey,
    Trace, UnknownTo, decide, relay, thread_keys,
};
use crate::id::{AccountId, ContactId, ConversationId, DeliveryId, MessageId, UserId};
use crate::message::{Email, Forwarded, Frame, From, Journal, Kind, Protection, ReplyText, Report};
use crate::time::Timestamp;

const NOW: Timestamp = Timestamp::from_millis(1_795_315_445_000);

/// A message to the practice, and what the practice knows. The default: Lena's aligned mail to Ana, BCC'd.
#[derive(Clone)]
struct World {
    account: AccountId,
    lena: UserId,
    tom: UserId,
    ana: Contact,
    ben: Contact,
    mailbox: Mailbox,
    verdict: Verdict,
    email: Email,
    reverse_path: Option<EmailAddress>,
    facts: Facts,
}

fn address(text: &str) -> EmailAddress {
    EmailAddress::parse(text).unwrap()
}

fn person(text: &str) -> NamedAddress {
    NamedAddress { name: None, address: address(text) }
}

fn people(list: &[&str]) -> Vec<NamedAddress> {
    list.iter().map(|text| person(text)).collect()
}

fn contact(email: &str, created_at: i64) -> Contact {
    Contact {
        id: ContactId::generate(),
        name: email.to_owned(),
        email: Some(address(email)),
        created_at: Timestamp::from_millis(created_at),
    }
}

fn email() -> Email {
    Email {
        from: From::One(person("lena@praxis.test")),
        to: people(&["ana@patient.test"]),
        cc: Vec::new(),
        reply_to: Vec::new(),
        subject: "Your appointment".to_owned(),
        date: Some(Timestamp::from_millis(NOW.as_millis() - 5_000)),
        message_id_header: Some("1@praxis.test".to_owned()),
        in_reply_to: Vec::new(),
        references: Vec::new(),
        thread_index: None,
        text: "See you on Monday.".into(),
        reply: ReplyText::default(),
        has_html: false,
        remote_content: 0,
        attachments: Vec::new(),
        kind: Kind::Mail,
        forwarded: None,
        journal: None,
        report: None,
        meeting: None,
        is_list: false,
        is_bulk: false,
        received_fields: 2,
        protection: Protection::default(),
        repeated_fields: Vec::new(),
        doubled_frame: None,
        frame: Frame::Plain,
        has_loop_header: false,
        digest: [1; 32],
        problems: Vec::new(),
    }
}

fn aligned(domain: &str) -> Verdict {
    let alignment = Alignment::Aligned { by: AlignedBy::Dkim, domain: domain.to_owned() };
    Verdict { alignment, ..Verdict::unchecked() }
}

fn world() -> World {
    let (account, lena, tom) = (AccountId::generate(), UserId::generate(), UserId::generate());
    let (ana, ben) = (contact("ana@patient.test", 10), contact("ben@patient.test", 20));
    let identity = |text, user| Identity { address: address(text), user, verified: true, sync_on: true };
    let facts = Facts {
        account: Account {
            id: account,
            name: "Praxis".to_owned(),
            settings: Settings { internal_domains: vec!["praxis.test".to_owned()], ..Settings::default() },
            served_domains: vec!["sync.test".to_owned(), "reply.test".to_owned()],
        },
        owner: Some(Owner { user: lena, name: "Lena".to_owned(), sync_on: true }),
        identities: vec![identity("lena@praxis.test", lena), identity("tom@praxis.test", tom)],
        contacts: vec![ana.clone(), ben.clone()],
        signers: Vec::new(),
        marks: Vec::new(),
        reply_conversation: None,
        references: Vec::new(),
        same_message_id: Vec::new(),
        held_already: Vec::new(),
        was_erased: false,
        filed_today: 0,
        relay: None,
    };
    let mailbox = Mailbox::Sync(UserMailbox { account, user: lena });
    World {
        account,
        lena,
        tom,
        ana,
        ben,
        mailbox,
        verdict: aligned("praxis.test"),
        email: email(),
        reverse_path: None,
        facts,
    }
}

impl World {
    fn decide(&self) -> (Decision, Trace) {
        decide(&self.arrival(), &self.facts)
    }

    /// Whether a copy goes on, and what was said about it.
    fn relayed(&self) -> (Option<Relay>, Trace) {
        let (decision, _) = self.decide();
        let mut trace = Trace::default();
        let relayed = relay(&self.arrival(), &self.facts, &decision, &mut trace);
        (relayed, trace)
    }

    #[track_caller]
    fn stays(&self, rule: &str) {
        let (relayed, trace) = self.relayed();
        assert_eq!(relayed, None, "{trace:?}");
        assert_eq!(trace.steps.first().map(|step| step.rule), Some(rule), "{trace:?}");
    }

    #[track_caller]
    fn stays_silent(&self) {
        assert_eq!(self.relayed(), (None, Trace::default()));
    }

    fn arrival(&self) -> Arrival<'_> {
        Arrival {
            mailbox: &self.mailbox,
            verdict: &self.verdict,
            email: &self.email,
            reverse_path: self.reverse_path.as_ref(),
            client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            received_at: NOW,
            size_bytes: 1000,
            fresh: FreshIds {
                contact: ContactId::generate(),
                conversation: ConversationId::generate(),
                message: MessageId::generate(),
            },
        }
    }

    /// With a relay that forwards to the user.
    fn with_relay(mut self) -> Self {
        self.reverse_path = Some(address("bounces@elsewhere.test"));
        self.facts.relay =
            Some(RelayFacts { staff: Some(address("lena@praxis.test")), ..RelayFacts::default() });
        self.facts.account.settings.forward_replies = ForwardReplies::Word(ForwardWord::User);
        self
    }

    #[track_caller]
    fn filed(&self) -> Filing {
        match self.decide() {
            (Decision::Filed(filing), _) => *filing,
            (other, trace) => panic!("not filed but {other:?}: {trace:?}"),
        }
    }

    #[track_caller]
    fn ends(&self, outcome: &str, reason: Reason, rule: &str) {
        let (decision, trace) = self.decide();
        assert_eq!((decision.outcome().as_str(), decision.reason()), (outcome, reason), "{trace:?}");
        assert!(trace.steps.iter().any(|step| step.rule == rule), "{rule} did not speak: {trace:?}");
    }

    fn from(mut self, author: &str) -> Self {
        self.verdict = aligned(address(author).domain());
        self.email.from = From::One(person(author));
        self
    }

    fn to(mut self, list: &[&str]) -> Self {
        self.email.to = people(list);
        self
    }

    fn cc(mut self, list: &[&str]) -> Self {
        self.email.cc = people(list);
        self
    }

    fn on_auto(mut self) -> Self {
        self.mailbox = Mailbox::Auto(UserMailbox { account: self.account, user: self.lena });
        self
    }

    fn marked(mut self, contact: ContactId, on: bool) -> Self {
        self.facts.marks.push(Mark { user: self.lena, contact, on });
        self
    }

    fn unproven(mut self, policy: DmarcPolicy) -> Self {
        self.verdict = Verdict::unchecked();
        self.verdict.dmarc.policy = policy;
        self
    }

    fn answering(mut self, contact: ContactId) -> Self {
        let conversation =
            Conversation { id: ConversationId::generate(), contact, user: Some(self.lena), last_at: NOW };
        self.email.in_reply_to = vec!["0@praxis.test".to_owned()];
        self.facts
            .references
            .push(KnownReference { key: ThreadKey::MessageId("0@praxis.test".to_owned()), conversation });
        self
    }

    fn routed(mut self) -> Self {
        let conversation = Conversation {
            id: ConversationId::generate(),
            contact: self.ana.id,
            user: Some(self.lena),
            last_at: NOW,
        };
        self.mailbox = Mailbox::Reply(ReplyMailbox { account: self.account, conversation: conversation.id });
        self.facts.reply_conversation = Some(conversation);
        self.to(&["r-abc@reply.test"])
    }
}

#[test]
fn r01_nothing_of_strangers_is_kept_on_the_auto_address() {
    world().on_auto().from("shop@elsewhere.test").ends("discarded", Reason::NotMarked, "R1");
}

#[test]
fn r05_the_trace_of_a_discarded_message_holds_no_address() {
    let mut world = world().on_auto().marked(ContactId::generate(), true);
    world.email.in_reply_to = vec!["0@praxis.test".to_owned()];
    let (decision, trace) = world.answering(ContactId::generate()).decide();
    assert_eq!(decision.outcome().as_str(), "discarded");
    assert!(trace.steps.iter().all(|step| !step.said.contains('@')), "{trace:?}");
}

#[test]
fn r10_a_from_field_without_one_clean_address_is_refused() {
    let mut world = world();
    world.email.from = From::Bad("two From fields");
    world.ends("rejected", Reason::BadFrom, "R10");
}

#[test]
fn r10_a_display_name_identifies_nobody() {
    let mut world = world().from("eve@elsewhere.test");
    world.email.from = From::One(NamedAddress {
        name: Some("lena@praxis.test".to_owned()),
        address: address("eve@elsewhere.test"),
    });
    world.ends("rejected", Reason::SenderNotAllowed, "R15");
}

#[test]
fn r11_e16_a_trusted_arc_sealer_vouches_and_another_does_not() {
    let sealed_by = |sealer: &str, result, attests_dmarc_pass| {
        let mut world = world().unproven(DmarcPolicy::Reject);
        world.verdict.arc = Arc { result, last_sealer: Some(sealer.to_owned()), attests_dmarc_pass };
        world
    };
    sealed_by("google.com", AuthResult::Pass, true).filed();
    sealed_by("google.com", AuthResult::Pass, false).ends("rejected", Reason::DmarcReject, "R13");
    sealed_by("google.com", AuthResult::Fail, true).ends("rejected", Reason::DmarcReject, "R13");
    sealed_by("notgoogle.com", AuthResult::Pass, true).ends("rejected", Reason::DmarcReject, "R13");
    // R14: a key of its chain could not be fetched for now.
    sealed_by("google.com", AuthResult::TempError, true).ends("deferred", Reason::LookupFailed, "R14");
    sealed_by("google.com", AuthResult::TempError, false).ends("rejected", Reason::DmarcReject, "R13");
    sealed_by("notgoogle.com", AuthResult::TempError, true).ends("rejected", Reason::DmarcReject, "R13");
}

#[test]
fn r12_an_aligned_mail_from_an_unverified_address_waits_for_its_user() {
    let mut world = world().from("lena@home.test");
    world.facts.identities.push(Identity {
        address: address("lena@home.test"),
        user: world.lena,
        verified: false,
        sync_on: true,
    });
    world.ends("held", Reason::NewIdentity, "R12");
    world.clone().on_auto().ends("discarded", Reason::NotMarked, "R1");
    world.unproven(DmarcPolicy::None).ends("rejected", Reason::SenderNotAllowed, "R12");
}

#[test]
fn r13_e13_a_forged_user_is_refused_where_the_domain_says_reject_and_held_elsewhere() {
    world().unproven(DmarcPolicy::Reject).ends("rejected", Reason::DmarcReject, "R13");
    world().unproven(DmarcPolicy::Quarantine).ends("held", Reason::UnverifiedSender, "R13");
    world().unproven(DmarcPolicy::None).ends("held", Reason::UnverifiedSender, "R13");
    let mut through_a_list = world().unproven(DmarcPolicy::Reject);
    through_a_list.email.is_list = true;
    through_a_list.ends("held", Reason::UnverifiedSender, "R13");
}

#[test]
fn r14_e14_a_lookup_that_failed_for_now_defers() {
    let mut world = world();
    world.verdict.alignment = Alignment::Unknown;
    world.ends("deferred", Reason::LookupFailed, "R14");
    world.verdict.alignment = Alignment::NotAligned;
    world.verdict.dmarc.result = AuthResult::TempError;
    world.ends("deferred", Reason::LookupFailed, "R14");
    world.routed().ends("deferred", Reason::LookupFailed, "R14");
}

#[test]
fn r15_a_stranger_is_refused_unless_a_known_conversation_is_referred_to() {
    let world = world().from("eve@elsewhere.test");
    world.ends("rejected", Reason::SenderNotAllowed, "R15");
    let ana = world.ana.id;
    world.answering(ana).ends("held", Reason::ThirdParty, "R15");
}

#[test]
fn r20_the_first_to_address_that_is_an_eligible_contact_owns_the_record() {
    let world =
        world().to(&["new@elsewhere.test", "tom@praxis.test", "ben@patient.test", "ana@patient.test"]);
    let filing = world.filed();
    assert_eq!(filing.contact, FilingContact::Existing(world.ben.id));
    assert_eq!(filing.direction, Direction::Outbound);
    assert_eq!(filing.sender, Sender::Verified);
}

#[test]
fn r20_a_user_or_internal_person_who_is_also_a_contact_is_never_matched() {
    let mut world = world().to(&["tom@praxis.test", "desk@praxis.test", "ana@patient.test"]);
    world.facts.contacts.push(contact("tom@praxis.test", 1));
    world.facts.contacts.push(contact("desk@praxis.test", 2));
    assert_eq!(world.filed().contact, FilingContact::Existing(world.ana.id));
}

#[test]
fn r20_never_log_takes_a_contact_out_and_discards_if_nobody_remains() {
    let mut world = world().to(&["ana@patient.test", "ben@patient.test"]);
    world.facts.account.settings.never_log = vec!["ANA@patient.test".to_owned()];
    let filing = world.filed();
    assert_eq!(filing.contact, FilingContact::Existing(world.ben.id));
    assert!(filing.participants.iter().all(|participant| participant.contact != Some(world.ana.id)));
    world.facts.account.settings.never_log = vec!["patient.test".to_owned()];
    world.ends("discarded", Reason::NeverLog, "R20");
}

#[test]
fn r20_the_author_counts_not_the_owner_of_the_address() {
    let world = world().from("tom@praxis.test");
    let filing = world.filed();
    assert_eq!(filing.user, Some(world.tom));
    assert_eq!(filing.marks, [(world.tom, world.ana.id)]);
}

#[test]
fn r21_of_several_contacts_with_one_email_the_first_created_owns_it() {
    let mut world = world();
    let older = contact("ana@patient.test", 5);
    world.facts.contacts.push(older.clone());
    assert_eq!(world.filed().contact, FilingContact::Existing(older.id));
}

#[test]
fn r22_an_address_that_is_nobodys_primary_email_matches_nobody() {
    let world = world().to(&["ana@second.test"]);
    assert!(matches!(world.filed().contact, FilingContact::Create { .. }));
}

#[test]
fn r23_a_known_conversation_keeps_its_contact_whatever_the_order() {
    let world = world().to(&["ben@patient.test"]).cc(&["ana@patient.test"]);
    let ana = world.ana.id;
    let world = world.answering(ana);
    let filing = world.filed();
    assert_eq!(filing.contact, FilingContact::Existing(ana));
    assert_eq!(filing.thread, Thread::Existing(world.facts.references[0].conversation.id));
}

#[test]
fn r23_a_thread_forwarded_to_somebody_else_begins_anew_and_leaves_the_old_record_alone() {
    let world = world().to(&["ben@patient.test"]);
    let ana = world.ana.id;
    let world = world.answering(ana);
    let filing = world.filed();
    assert_eq!(filing.contact, FilingContact::Existing(world.ben.id));
    assert!(matches!(filing.thread, Thread::New(_)));
    assert!(filing.participants.iter().all(|participant| participant.contact != Some(ana)));
}

#[test]
fn r24_the_first_eligible_to_address_becomes_a_contact_or_the_mail_is_held() {
    let mut world = world().to(&["tom@praxis.test", "new@elsewhere.test"]);
    world.email.to[1].name = Some("Nora New".to_owned());
    let filing = world.filed();
    match &filing.contact {
        FilingContact::Create { name, email, id } => {
            assert_eq!((name.as_str(), email.as_str()), ("Nora New", "new@elsewhere.test"));
            assert_eq!(filing.participants[2].contact, Some(*id));
        }
        FilingContact::Existing(_) => panic!("not created"),
    }
    world.facts.account.settings.unknown_to = UnknownTo::Hold;
    world.ends("held", Reason::UnknownContact, "R24");
}

#[test]
fn r24_cc_never_creates_a_contact_and_a_mail_to_nobody_is_held() {
    world().to(&["lena-1@sync.test"]).cc(&["new@elsewhere.test"]).ends("held", Reason::UnknownContact, "R24");
    world().to(&[]).ends("held", Reason::UnknownContact, "R24");
}

#[test]
fn r25_every_other_contact_on_it_is_a_participant_with_a_role() {
    let world =
        world().to(&["ana@patient.test"]).cc(&["ben@patient.test", "new@elsewhere.test", "Ben@patient.test"]);
    let filing = world.filed();
    let shown: Vec<_> = filing.participants.iter().map(|p| (p.role, p.contact, p.user)).collect();
    assert_eq!(
        shown,
        [
            (Role::From, None, Some(world.lena)),
            (Role::To, Some(world.ana.id), None),
            (Role::Cc, Some(world.ben.id), None),
            (Role::Cc, None, None),
        ]
    );
}

#[test]
fn r26_internal_only_is_discarded() {
    world().to(&["tom@praxis.test"]).cc(&["desk@sub.praxis.test"]).ends(
        "discarded",
        Reason::InternalOnly,
        "R26",
    );
    world().to(&["tom@praxis.test", "lena-1@sync.test"]).ends("discarded", Reason::InternalOnly, "R26");
    world().on_auto().to(&["tom@praxis.test"]).ends("discarded", Reason::InternalOnly, "R26");
}

#[test]
fn r27_contact_only_in_cc_is_held() {
    world().to(&["tom@praxis.test"]).cc(&["ana@patient.test"]).ends("held", Reason::ContactOnlyInCc, "R27");
}

/// Lena hands the sync address a mail that she got a day before.
fn forwarded_by_hand(original_author: &str) -> World {
    let mut world = world().to(&["lena-1@sync.test"]);
    world.email.kind = Kind::Forwarded;
    world.email.forwarded = Some(Forwarded {
        from: Some(person(original_author)),
        to: people(&["lena@praxis.test"]),
        cc: Vec::new(),
        subject: Some("A question".to_owned()),
        date: Some(Timestamp::from_millis(NOW.as_millis() - 86_400_000)),
        text: "May I come earlier?".to_owned(),
        attachment: None,
    });
    world
}

#[test]
fn r28_a_forward_to_the_sync_address_alone_is_filed_as_it_came() {
    let mut world = forwarded_by_hand("ana@patient.test");
    let date = Timestamp::from_millis(NOW.as_millis() - 86_400_000);
    let filing = world.filed();
    assert_eq!(filing.contact, FilingContact::Existing(world.ana.id));
    assert_eq!(
        (filing.direction, filing.sender, filing.sent_at),
        (Direction::Inbound, Sender::Unverified, date)
    );
    world.email.forwarded.as_mut().unwrap().from = Some(person("new@elsewhere.test"));
    world.ends("held", Reason::ForwardedUnknown, "R28");
    // A forward to a contact is an ordinary sent mail.
    let to_ben = world.to(&["ben@patient.test"]);
    assert_eq!(to_ben.filed().contact, FilingContact::Existing(to_ben.ben.id));
}

#[test]
fn r29_filing_marks_unless_that_user_turned_it_off() {
    let plain = world();
    assert_eq!(plain.filed().marks, [(plain.lena, plain.ana.id)]);
    let ana = plain.ana.id;
    let off = plain.clone().marked(ana, false);
    assert_eq!(off.filed().marks, []);
    assert_eq!(plain.marked(ana, true).filed().marks, []);
}

#[test]
fn r30_a_marked_contacts_aligned_mail_is_filed_inbound_on_either_address() {
    let base = world().from("ana@patient.test").to(&["lena@praxis.test"]);
    let ana = base.ana.id;
    for world in [base.clone().marked(ana, true), base.marked(ana, true).on_auto()] {
        let filing = world.filed();
        assert_eq!((filing.direction, filing.sender), (Direction::Inbound, Sender::Verified));
        assert_eq!((filing.contact, filing.user), (FilingContact::Existing(ana), Some(world.lena)));
        world.clone().unproven(DmarcPolicy::None).ends("held", Reason::UnverifiedSender, "R30");
    }
}

#[test]
fn r31_the_users_own_mail_to_the_auto_address_is_filed_only_for_a_marked_contact() {
    let base = world().on_auto();
    let ana = base.ana.id;
    base.ends("discarded", Reason::NotMarked, "R31");
    let filing = base.clone().marked(ana, true).filed();
    assert_eq!((filing.direction, filing.marks), (Direction::Outbound, vec![]));
    base.clone().marked(ana, false).ends("discarded", Reason::SyncOff, "R32");
    base.to(&["new@elsewhere.test"]).ends("discarded", Reason::NotMarked, "R31");
}

#[test]
fn r32_an_unmarked_contact_is_filed_and_marked_only_through_the_visible_sync_address() {
    let base = world().from("ana@patient.test").to(&["lena@praxis.test"]).cc(&["lena-1@sync.test"]);
    let ana = base.ana.id;
    assert_eq!(base.filed().marks, [(base.lena, ana)]);
    base.clone().on_auto().ends("discarded", Reason::NotMarked, "R32");
    base.clone().marked(ana, false).ends("discarded", Reason::SyncOff, "R32");
}

#[test]
fn r40_in_reply_to_comes_before_references_from_newest_to_oldest() {
    let mut message = email();
    message.in_reply_to = vec!["3@x".to_owned()];
    message.references = vec!["1@x".to_owned(), "2@x".to_owned(), "3@x".to_owned()];
    let keys = thread_keys(&message);
    let texts: Vec<&str> = keys.iter().map(ThreadKey::text).collect();
    assert_eq!(texts, ["3@x", "2@x", "1@x", "1@praxis.test"]);
}

#[test]
fn r40_thread_index_and_a_replys_subject_lead_back_where_references_are_gone() {
    let base = world().from("ana@patient.test").to(&["lena@praxis.test"]).cc(&["lena-1@sync.test"]);
    let by = |key: ThreadKey, user, last_at| {
        let conversation =
            Conversation { id: ConversationId::generate(), contact: base.ana.id, user, last_at };
        let mut world = base.clone();
        world.facts.references.push(KnownReference { key, conversation });
        matches!(world.filed().thread, Thread::Existing(_))
    };
    let old = Timestamp::from_millis(NOW.as_millis() - 31 * 86_400_000);
    let (lena, tom) = (Some(base.lena), Some(base.tom));
    assert!(by(ThreadKey::Outlook("thread-index x".to_owned()), tom, old));
    assert!(by(ThreadKey::Subject("subject x".to_owned()), lena, NOW));
    assert!(!by(ThreadKey::Subject("subject x".to_owned()), lena, old));
    assert!(!by(ThreadKey::Subject("subject x".to_owned()), tom, NOW));
}

#[test]
fn r41_conversations_of_one_contact_that_are_found_to_be_one_become_the_oldest() {
    let base = world();
    let (ana, ben) = (base.ana.id, base.ben.id);
    let mut world = base.answering(ana).answering(ben).answering(ana);
    let ids: Vec<_> = world.facts.references.iter().map(|known| known.conversation.id).collect();
    // The younger one is found first.
    world.facts.references.reverse();
    let filing = world.filed();
    assert_eq!((filing.thread, filing.merges), (Thread::Existing(ids[0]), vec![ids[2]]));
}

#[test]
fn r41_a_parent_that_arrives_after_its_child_joins_it() {
    let mut world = world();
    let conversation = Conversation {
        id: ConversationId::generate(),
        contact: world.ana.id,
        user: Some(world.lena),
        last_at: NOW,
    };
    world.facts.references.push(KnownReference {
        key: ThreadKey::Child("1@praxis.test".to_owned()),
        conversation: conversation.clone(),
    });
    assert_eq!(world.filed().thread, Thread::Existing(conversation.id));
    // Being referred to does not make a stranger a party (R15).
    world.from("eve@elsewhere.test").ends("rejected", Reason::SenderNotAllowed, "R15");
}

#[test]
fn r42_knowing_a_message_id_never_opens_a_record() {
    // Ben answers with a reference to Ana's conversation, and Ana is not on his mail.
    let base = world().from("ben@patient.test").to(&["lena@praxis.test"]).cc(&["lena-1@sync.test"]);
    let (ana, ben) = (base.ana.id, base.ben.id);
    let filing = base.answering(ana).filed();
    assert_eq!(filing.contact, FilingContact::Existing(ben));
    assert!(matches!(filing.thread, Thread::New(_)));
}

#[test]
fn r43_a_missing_message_id_is_derived_from_the_digest() {
    let mut world = world();
    world.email.message_id_header = None;
    let first = world.filed().message_id_header;
    assert_eq!(first, world.filed().message_id_header);
    world.email.digest = [2; 32];
    assert_ne!(first, world.filed().message_id_header);
}

#[test]
fn r45_the_contacts_aligned_answer_is_filed_in_the_tokens_conversation() {
    let world = world().from("ana@patient.test").routed();
    let filing = world.filed();
    assert_eq!((filing.direction, filing.sender), (Direction::Inbound, Sender::Verified));
    assert_eq!(filing.thread, Thread::Existing(world.facts.reply_conversation.as_ref().unwrap().id));
}

#[test]
fn r46_a_users_answer_through_the_reply_address_is_outbound() {
    let world = world().routed();
    let filing = world.filed();
    assert_eq!((filing.direction, filing.user), (Direction::Outbound, Some(world.lena)));
    world.unproven(DmarcPolicy::Reject).ends("rejected", Reason::DmarcReject, "R13");
}

#[test]
fn r47_somebody_else_is_unknown_another_contact_is_held() {
    assert_eq!(world().from("mother@elsewhere.test").routed().filed().sender, Sender::Unknown);
    world().from("ben@patient.test").routed().ends("held", Reason::OtherContact, "R47");
    let unproven = world().from("mother@elsewhere.test").routed().unproven(DmarcPolicy::None);
    unproven.ends("held", Reason::UnverifiedSender, "R47");
}

#[test]
fn r48_the_contacts_unaligned_answer_is_filed_unless_the_domain_is_strict() {
    let answer = |policy| world().from("ana@patient.test").routed().unproven(policy);
    assert_eq!(answer(DmarcPolicy::None).filed().sender, Sender::Unverified);
    answer(DmarcPolicy::Quarantine).ends("held", Reason::UnverifiedSender, "R48");
    answer(DmarcPolicy::Reject).ends("held", Reason::UnverifiedSender, "R48");
}

#[test]
fn r50_e17_an_automatic_answer_sets_no_mark() {
    let mut world = world().from("ana@patient.test").cc(&["lena-1@sync.test"]);
    world.email.kind = Kind::AutoReply;
    assert_eq!(world.filed().marks, []);
}

#[test]
fn r51_a_bounce_is_filed_on_the_conversation_of_the_returned_message() {
    let base = world().from("mailer-daemon@elsewhere.test").to(&["lena@praxis.test"]).on_auto();
    let ana = base.ana.id;
    let mut world = base.answering(ana);
    world.email.kind = Kind::Bounce;
    let original_message_id = Some("0@praxis.test".to_owned());
    world.email.report = Some(Report { recipients: Vec::new(), original_message_id });
    let filing = world.filed();
    assert_eq!((filing.contact, filing.marks), (FilingContact::Existing(ana), vec![]));
    let owner = filing.participants.iter().find(|participant| participant.contact == Some(ana));
    assert_eq!(
        owner.map(|owner| owner.role),
        Some(Role::About),
        "it is on the timeline, but not on the mail"
    );
}

#[test]
fn r51_a_report_in_a_users_or_contacts_name_is_judged_as_theirs() {
    let base = world().unproven(DmarcPolicy::Reject);
    let ana = base.ana.id;
    let mut world = base.answering(ana);
    world.email.kind = Kind::Bounce;
    let original_message_id = Some("0@praxis.test".to_owned());
    world.email.report = Some(Report { recipients: Vec::new(), original_message_id });
    world.ends("rejected", Reason::DmarcReject, "R13");
    world.routed().ends("rejected", Reason::DmarcReject, "R13");
}

#[test]
fn r52_over_the_daily_limit_the_sender_tries_again_tomorrow() {
    let mut world = world();
    world.facts.filed_today = 499;
    world.filed();
    world.facts.filed_today = 500;
    world.ends("deferred", Reason::DailyLimit, "R52");
}

#[test]
fn r53_bulk_mail_on_the_auto_address_is_discarded() {
    let base = world().from("ana@patient.test");
    let ana = base.ana.id;
    let mut world = base.marked(ana, true).on_auto();
    world.email.is_bulk = true;
    world.ends("discarded", Reason::Bulk, "R53");
}

#[test]
fn r54_a_private_marker_in_the_subject_discards() {
    for (subject, is_private) in [
        ("[Private] results", true),
        ("Re: [private] x", true),
        ("x #NoLog", true),
        ("private", false),
        ("#nologs", false),
        ("Lunch #nolog.", true),
    ] {
        let mut world = world();
        world.email.subject = subject.to_owned();
        assert_eq!(world.decide().0.reason() == Reason::PrivateMarker, is_private, "{subject}");
    }
}

#[test]
fn r62_a_disconnected_users_address_is_off() {
    let mut world = world();
    world.facts.owner.as_mut().unwrap().sync_on = false;
    world.ends("rejected", Reason::AddressOff, "R62");
    // Open threads included.
    world.from("ana@patient.test").routed().ends("rejected", Reason::AddressOff, "R62");
}

#[test]
fn r70_the_same_message_id_and_digest_is_a_duplicate() {
    let mut world = world();
    let existing = ExistingMessage { id: MessageId::generate(), digest: [1; 32], contact: world.ana.id };
    world.facts.same_message_id.push(existing.clone());
    let (decision, _) = world.decide();
    assert_eq!(decision, Decision::Duplicate(existing.id));
}

#[test]
fn r70_a_retry_of_a_held_message_is_not_held_again() {
    let mut world = world().to(&["tom@praxis.test"]).cc(&["ana@patient.test"]);
    let twin = HeldTwin { delivery: DeliveryId::generate(), digest: [1; 32], user: Some(world.lena) };
    world.facts.held_already.push(HeldTwin { user: Some(world.tom), ..twin.clone() });
    world.ends("held", Reason::ContactOnlyInCc, "R27");
    world.facts.held_already.push(twin);
    world.ends("duplicate", Reason::Duplicate, "R70");
}

#[test]
fn r46_a_users_answer_goes_on_to_the_contact_and_to_nobody_else() {
    let world = world().routed().with_relay();
    let (relayed, trace) = world.relayed();
    assert_eq!(relayed, Some(Relay::Contact), "{trace:?}");
    let mut without = world.clone();
    without.facts.relay = None;
    without.stays("R46");
    world.clone().unproven(DmarcPolicy::None).stays_silent();
    world.clone().to(&["r-abc@reply.test", "ana@patient.test"]).stays("R46");
    let mut internal = world.clone();
    internal.facts.account.settings.internal_domains.push("patient.test".to_owned());
    internal.stays("R46");
    let mut never = world.clone();
    never.facts.account.settings.never_log.push("ana@patient.test".to_owned());
    never.stays("R46");
    let mut by_sync_address = world;
    by_sync_address.mailbox =
        Mailbox::Sync(UserMailbox { account: by_sync_address.account, user: by_sync_address.lena });
    by_sync_address.stays_silent();
}

#[test]
fn r49_an_answer_goes_on_to_staff_as_the_setting_says() {
    let world = world().from("ana@patient.test").routed().with_relay();
    assert_eq!(world.relayed().0, Some(Relay::Staff));
    assert_eq!(world.clone().unproven(DmarcPolicy::None).relayed().0, Some(Relay::Staff), "R48 files it");
    world.clone().unproven(DmarcPolicy::Reject).stays_silent();
    let set = |forward_replies| {
        let mut world = world.clone();
        world.facts.account.settings.forward_replies = forward_replies;
        world
    };
    let to = |text: &str| set(ForwardReplies::Address(text.to_owned()));
    set(ForwardReplies::Word(ForwardWord::Off)).stays_silent();
    assert_eq!(to("desk@praxis.test").relayed().0, Some(Relay::Staff));
    to("r-abc@reply.test").stays("R49");
    to("lena-secret@sync.test").stays("R49");
    to("ana@patient.test").stays("R49");
    to("no address").stays("R49");
    let mut nobody = world.clone();
    nobody.facts.relay = Some(RelayFacts::default());
    nobody.stays("R49");
    let mut without = world;
    without.facts.relay = None;
    without.stays("R49");
}

#[test]
fn r50_what_a_machine_sent_goes_on_to_nobody() {
    for author in ["ana@patient.test", "lena@praxis.test"] {
        let world = world().from(author).routed().with_relay();
        for (kind, rule) in [(Kind::AutoReply, "R50"), (Kind::Bounce, "R51"), (Kind::Complaint, "R51")] {
            let mut machine = world.clone();
            machine.email.kind = kind;
            machine.stays(rule);
        }
        let mut null_sender = world.clone();
        null_sender.reverse_path = None;
        null_sender.stays("R50");
        let mut bulk = world.clone();
        bulk.email.is_bulk = true;
        bulk.stays("R50");
    }
}

#[test]
fn r49_twenty_copies_an_hour_and_conversation_and_not_one_more() {
    let lately = |lately| {
        let mut world = world().from("ana@patient.test").routed().with_relay();
        world.facts.relay =
            Some(RelayFacts { staff: Some(address("lena@praxis.test")), lately, ..RelayFacts::default() });
        world
    };
    assert_eq!(lately(MAX_RELAYED_AN_HOUR - 1).relayed().0, Some(Relay::Staff));
    lately(MAX_RELAYED_AN_HOUR).stays("R49");
    let mut requires_tls = lately(0);
    requires_tls.facts.relay.as_mut().unwrap().requires_tls = true;
    requires_tls.stays("RFC8689");
}

#[test]
fn r46_a_mail_that_a_sync_address_brought_in_before_still_goes_on() {
    let mut world = world().routed().with_relay();
    let (id, contact) = (MessageId::generate(), world.ana.id);
    world.facts.same_message_id.push(ExistingMessage { id, digest: world.email.digest, contact });
    assert_eq!(world.decide().0, Decision::Duplicate(id));
    assert_eq!(world.relayed().0, Some(Relay::Contact));
    world.clone().unproven(DmarcPolicy::None).stays_silent();
    world.facts.relay = Some(RelayFacts { is_done: true, ..RelayFacts::default() });
    world.stays("R70");
}

#[test]
fn r60_a_retry_of_an_erased_message_is_a_duplicate_of_nothing() {
    let mut world = world();
    world.facts.was_erased = true;
    world.ends("duplicate", Reason::Duplicate, "R60");
    // An author who may not log to this address learns nothing from it, and nothing is kept of them.
    let world = world.from("stranger@elsewhere.test");
    world.ends("duplicate", Reason::Duplicate, "R60");
    let said = format!("{:?}", world.decide().1);
    assert!(!said.contains('@'), "{said}");
}

#[test]
fn r71_the_same_message_id_with_another_digest_is_a_message_of_its_own() {
    let mut world = world();
    let contact = world.ana.id;
    world.facts.same_message_id.push(ExistingMessage { id: MessageId::generate(), digest: [9; 32], contact });
    assert_eq!(world.filed().flags, ["message_id_reused"]);
}

#[test]
fn e3_a_loop_is_cut_at_100_received_fields_or_our_own_header() {
    let mut world = world();
    world.email.received_fields = 99;
    world.filed();
    for received_fields in [100, 101] {
        world.email.received_fields = received_fields;
        world.ends("rejected", Reason::Loop, "SMTP");
    }
    world.email.received_fields = 1;
    world.email.has_loop_header = true;
    world.ends("rejected", Reason::Loop, "SMTP");
}

#[test]
fn a_date_that_cannot_be_true_gives_way_to_the_time_of_receipt() {
    let mut world = world();
    for date in [None, Some(Timestamp::from_millis(i64::MAX)), Some(Timestamp::from_millis(0))] {
        world.email.date = date;
        assert_eq!(world.filed().sent_at, NOW);
    }
}

const ADDRESSES: [&str; 8] = [
    "lena@praxis.test",
    "tom@praxis.test",
    "desk@praxis.test",
    "ana@patient.test",
    "ben@patient.test",
    "new@elsewhere.test",
    "never@logged.test",
    "lena-1@sync.test",
];

#[test]
fn r27a_internal_history_below_an_answer_to_a_contact_is_flagged() {
    let quoting = |lines: &str| {
        let mut world = world();
        world.email.reply.quoted = Some(lines.to_owned());
        world.filed().flags
    };
    assert_eq!(quoting("On Monday, Tom <tom@praxis.test> wrote:\n> x"), ["internal_history"]);
    assert_eq!(quoting("Von: Tom <tom@praxis.test>\nAn: <new@praxis.test>"), ["internal_history"]);
    assert!(quoting("On Monday, Ana <ana@patient.test> wrote:\n> x").is_empty());
    assert!(quoting("Von: Tom <tom@praxis.test>\nAn: ana@patient.test").is_empty(), "a patient has read it");
    assert!(quoting("On Monday, Tom wrote:\n> x").is_empty(), "nobody is named by address");
}

/// Exchange reports a mail of Lena's to Ana, whom she has marked.
fn journaled(reporter: &str) -> World {
    let mut world = world();
    world.mailbox = Mailbox::Auto(UserMailbox { account: world.account, user: world.lena });
    world.facts.marks.push(Mark { user: world.lena, contact: world.ana.id, on: true });
    world.email.journal = Some(Journal { reporter: From::One(person(reporter)) });
    world.verdict = Verdict::unchecked();
    world
}

fn source(domain: &str, networks: &[&str]) -> JournalSource {
    JournalSource { domain: domain.to_owned(), networks: networks.iter().map(|&n| n.to_owned()).collect() }
}

#[test]
fn r33_a_journal_report_counts_only_from_a_declared_source() {
    let mut undeclared = journaled("journal@praxis.test");
    undeclared.verdict = aligned("praxis.test");
    assert_eq!(undeclared.decide().0, Decision::Rejected(Reason::SenderNotAllowed));
    let mut aligned_source = undeclared.clone();
    aligned_source.facts.account.settings.journal_sources = vec![source("praxis.test", &[])];
    assert_eq!(aligned_source.filed().direction, Direction::Outbound);
    let mut forged = aligned_source.clone();
    forged.verdict = Verdict::unchecked();
    assert_eq!(forged.decide().0, Decision::Rejected(Reason::SenderNotAllowed));
}

#[test]
fn r33_where_a_source_names_domain_and_networks_both_are_required() {
    let refused = Decision::Rejected(Reason::SenderNotAllowed);
    let from = |reporter: &str, domain: &str, networks: &[&str]| {
        let mut world = journaled(reporter);
        world.facts.account.settings.journal_sources = vec![source(domain, networks)];
        world
    };
    let (near, far) = (&["192.0.2.0/28"][..], &["192.0.2.8/29"][..]);
    let both = from("journal@praxis.test", "praxis.test", near);
    assert_eq!(both.filed().direction, Direction::Outbound, "192.0.2.7 is in the network");
    assert_eq!(from("journal@exchange.test", "praxis.test", near).decide().0, refused, "another domain");
    assert_eq!(from("journal@praxis.test", "praxis.test", far).decide().0, refused, "another network");
    assert_eq!(from("journal@exchange.test", "", near).filed().direction, Direction::Outbound, "no domain");
    assert_eq!(from("journal@praxis.test", "", &[]).decide().0, refused, "neither");
    let mut forged = both;
    forged.verdict.dmarc.policy = DmarcPolicy::Reject;
    assert_eq!(forged.decide().0, refused, "its domain disowns what is not aligned");
}

#[test]
fn r62_nothing_of_a_disconnected_user_is_filed_through_a_colleague() {
    let mut world = world().from("tom@praxis.test");
    world.facts.identities[1].sync_on = false;
    world.ends("rejected", Reason::AddressOff, "R62");
    world.clone().on_auto().ends("rejected", Reason::AddressOff, "R62");
    world.routed().ends("rejected", Reason::AddressOff, "R62");
}

#[test]
fn r13_a_remembered_signer_counts_as_aligned_but_never_against_reject() {
    let signed_by = |domain: &str, result, policy| {
        let mut world = world().unproven(policy);
        world.facts.signers = vec!["esp.test".to_owned()];
        world.verdict.dkim.push(Dkim {
            domain: domain.to_owned(),
            selector: "s".to_owned(),
            result,
            why: None,
            signed_fields: vec!["from".to_owned()],
        });
        world
    };
    let world = signed_by("esp.test", AuthResult::Pass, DmarcPolicy::Quarantine);
    assert_eq!(world.filed().sender, Sender::Verified);
    assert!(world.decide().1.steps.iter().any(|step| step.rule == "R13"));
    signed_by("other.test", AuthResult::Pass, DmarcPolicy::None).ends(
        "held",
        Reason::UnverifiedSender,
        "R13",
    );
    signed_by("esp.test", AuthResult::Fail, DmarcPolicy::None).ends("held", Reason::UnverifiedSender, "R13");
    signed_by("esp.test", AuthResult::TempError, DmarcPolicy::None).ends(
        "deferred",
        Reason::LookupFailed,
        "R14",
    );
    signed_by("esp.test", AuthResult::Pass, DmarcPolicy::Reject).ends("rejected", Reason::DmarcReject, "R13");
}

#[test]
fn r28_an_attached_original_that_still_passes_dkim_is_verified() {
    let mut world = forwarded_by_hand("ana@patient.test");
    world.verdict.original =
        Some(Alignment::Aligned { by: AlignedBy::Dkim, domain: "patient.test".to_owned() });
    assert_eq!(world.filed().sender, Sender::Unverified, "it stands inline");
    world.email.forwarded.as_mut().unwrap().attachment = Some(0);
    assert_eq!(world.filed().sender, Sender::Verified);
    world.verdict.original = Some(Alignment::NotAligned);
    assert_eq!(world.filed().sender, Sender::Unverified);
}

#[test]
fn r57_odd_files_and_odd_headers_are_flagged() {
    let mut world = world();
    world.email.protection = Protection { is_encrypted: true, is_signed: true };
    world.verdict.uncovered = Uncovered { unsigned: vec!["Subject"], added: Vec::new() };
    assert_eq!(world.filed().flags, ["encrypted", "signed", "unsigned_critical"]);
    world.email.protection = Protection::default();
    world.verdict.uncovered = Uncovered { unsigned: vec!["Content-Type"], added: Vec::new() };
    assert!(world.filed().flags.is_empty(), "most large senders leave Content-Type unsigned");
    world.email.frame = Frame::Odd;
    assert_eq!(world.filed().flags, ["unsigned_critical"]);
    world.verdict.uncovered = Uncovered { unsigned: Vec::new(), added: vec!["Subject"] };
    world.email.repeated_fields = vec!["Subject"];
    let filing = world.filed();
    assert_eq!((filing.flags.as_slice(), filing.sender), (&["dup_headers"][..], Sender::Unverified));
}

#[test]
fn r39_the_envelope_picks_the_mailbox_and_no_header_does() {
    let mut world = world().from("ana@patient.test").to(&["lena-1@sync.test", "lena@praxis.test"]);
    world.mailbox = Mailbox::Sync(UserMailbox { account: world.account, user: world.tom });
    world.facts.owner = Some(Owner { user: world.tom, name: "Tom".to_owned(), sync_on: true });
    let filing = world.filed();
    assert_eq!(filing.user, Some(world.tom), "whatever address stands in To");
    assert_eq!(filing.marks, [(world.tom, world.ana.id)]);
}

#[test]
fn r55_r56_r57_r71_what_is_on_a_filed_message_stands_in_its_trace() {
    let mut world = world();
    world.email = crate::message::parse(
        b"From: lena@praxis.test\r\nTo: ana@patient.test\r\nCc: ben@patient.test\r\nMIME-Version: 1.0\r\n\
        Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nHello\r\n--b\r\n\
        Content-Type: text/calendar\r\n\r\nBEGIN:VCALENDAR\r\nMETHOD:CANCEL\r\nBEGIN:VEVENT\r\nSUMMARY:x\r\nEND:VEVENT\r\n--b\r\n\
        Content-Type: application/pdf; name=a.pdf\r\n\r\n\x7fELF\r\n--b--\r\n",
    )
    .unwrap();
    world.facts.same_message_id.push(ExistingMessage {
        id: MessageId::generate(),
        digest: [9; 32],
        contact: world.ana.id,
    });
    for (rule, words) in [
        ("R25", "one more contact"),
        ("R43", "no Message-ID"),
        ("R55", "CANCEL"),
        ("R56", "attachment 1"),
        ("R57", "attachment 1"),
        ("R71", "same Message-ID"),
    ] {
        let (_, trace) = world.decide();
        let spoke = trace.steps.iter().any(|step| step.rule == rule && step.said.contains(words));
        assert!(spoke, "{rule}: {trace:?}");
    }
}

/// 10,000 in Cc and 500 known people against a hundred references: a look at each pair would take minutes.
#[test]
fn r23_a_crowd_and_a_long_thread_are_decided_in_a_moment() {
    let mut world = world();
    let crowd: Vec<String> = (0..10_000).map(|n| format!("a{n}@crowd.test")).collect();
    world.email.cc = crowd.iter().map(|text| person(text)).collect();
    for text in crowd.iter().take(500) {
        world.facts.contacts.push(contact(text, 30));
    }
    for n in 0..100 {
        let conversation = Conversation {
            id: ConversationId::generate(),
            contact: ContactId::generate(),
            user: Some(world.lena),
            last_at: NOW,
        };
        let key = ThreadKey::MessageId(format!("{n}@lost.test"));
        world.facts.references.push(KnownReference { key, conversation });
    }
    let filing = world.filed();
    assert_eq!(filing.contact, FilingContact::Existing(world.ana.id));
    // Beyond the thousandth nobody is looked at.
    world.email.to = people(&["tom@praxis.test"]);
    world.email.cc.truncate(998);
    world.email.cc.push(person("ben@patient.test"));
    world.facts.contacts.truncate(2);
    world.facts.references.clear();
    world.facts.account.settings.internal_domains.push("crowd.test".to_owned());
    world.ends("held", Reason::ContactOnlyInCc, "R27");
    world.email.cc.insert(0, person("tom@praxis.test"));
    world.ends("discarded", Reason::InternalOnly, "R26");
}

#[test]
fn m2_a_second_content_type_is_refused_and_a_second_subject_is_not() {
    let mut world = world();
    world.email.repeated_fields = vec!["Subject"];
    world.filed();
    world.email.doubled_frame = Some("Content-Type");
    world.ends("rejected", Reason::BadSyntax, "SMTP");
}

#[test]
fn r33_a_journaled_mail_is_judged_as_itself() {
    let mut world = journaled("journal@praxis.test");
    world.facts.account.settings.journal_sources = vec![source("praxis.test", &["192.0.2.7"])];
    world.facts.marks.clear();
    assert_eq!(world.decide().0, Decision::Discarded(Reason::NotMarked));
    let conversation = ConversationId::generate();
    world.mailbox = Mailbox::Reply(ReplyMailbox { account: world.account, conversation });
    assert_eq!(world.decide().0, Decision::Rejected(Reason::SenderNotAllowed), "never on a reply address");
}

#[test]
fn r34_a_forwarding_confirmation_of_google_is_never_filed() {
    let mut world = world();
    world.email.from = From::One(person("forwarding-noreply@google.com"));
    world.email.subject = "(#123456789) Gmail Forwarding Confirmation".to_owned();
    world.verdict = aligned("google.com");
    assert_eq!(world.decide().0, Decision::Discarded(Reason::ForwardingConfirmation));
    world.mailbox = Mailbox::Auto(UserMailbox { account: world.account, user: world.lena });
    assert_eq!(world.decide().0, Decision::Discarded(Reason::ForwardingConfirmation));
    world.verdict = Verdict::unchecked();
    assert_eq!(world.decide().0, Decision::Discarded(Reason::NotMarked), "forged");
    world.mailbox = Mailbox::Sync(UserMailbox { account: world.account, user: world.lena });
    assert_eq!(world.decide().0, Decision::Rejected(Reason::SenderNotAllowed), "forged");
}

proptest! {
    #[test]
    fn r01_a_filed_message_is_licensed_and_its_owner_is_on_it(
        author in 0..ADDRESSES.len(), to in proptest::collection::vec(0..ADDRESSES.len(), 0..4),
        cc in proptest::collection::vec(0..ADDRESSES.len(), 0..3), is_auto: bool, proof in 0..3,
        marks in proptest::collection::vec((any::<bool>(), any::<bool>()), 0..2), answers in 0..3,
    ) {
        let names = |picked: &[usize]| picked.iter().map(|i| ADDRESSES[*i]).collect::<Vec<_>>();
        let mut world = world().from(ADDRESSES[author]).to(&names(&to)).cc(&names(&cc));
        world.facts.account.settings.never_log = vec!["logged.test".to_owned()];
        let (ana, ben) = (world.ana.id, world.ben.id);
        for (is_ana, on) in marks {
            world = world.marked(if is_ana { ana } else { ben }, on);
        }
        world = match answers { 1 => world.answering(ana), 2 => world.answering(ben), _ => world };
        if is_auto { world = world.on_auto(); }
        match proof { 1 => world.verdict.alignment = Alignment::NotAligned, 2 => world.verdict.alignment = Alignment::Unknown, _ => {} }
        let (decision, trace) = world.decide();
        prop_assert!(!trace.steps.is_empty());
        if let Decision::Filed(filing) = decision {
            prop_assert_eq!(proof, 0, "only proven mail is filed through sync and auto addresses");
            let on_it = names(&[&[author][..], &to, &cc].concat());
            let owner = match &filing.contact {
                FilingContact::Create { email, .. } => email.as_str().to_owned(),
                FilingContact::Existing(id) if *id == ana => "ana@patient.test".to_owned(),
                FilingContact::Existing(_) => "ben@patient.test".to_owned(),
            };
            prop_assert!(on_it.contains(&owner.as_str()), "{owner} is not on {on_it:?}");
            let is_user = author < 2;
            let is_contact = ADDRESSES[author].ends_with("@patient.test");
            prop_assert!(is_user || is_contact);
            if is_auto {
                prop_assert!(world.facts.marks.iter().any(|mark| mark.on));
                let creates = matches!(filing.contact, FilingContact::Create { .. });
                prop_assert!(filing.marks.is_empty() && !creates);
            }
        }
    }
}
