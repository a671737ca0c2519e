//! The rules, one test or more each, on a small practice: Lena and Tom are staff, Ana, Ben and Cleo are patients.

use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use crate::address::{EmailAddress, Mailbox, NamedAddress, ReplyMailbox, UserMailbox};
use crate::auth::{AlignedBy, Alignment, Arc, AuthResult, DmarcPolicy, Verdict};
use crate::filing::{
    Account, Arrival, Contact, Conversation, Decision, Direction, ExistingMessage, Facts, Filing,
    FilingContact, FreshIds, HeldTwin, Identity, JournalSource, KnownReference, Mark, Owner, Reason, Role,
    Sender, Settings, Thread, ThreadKey, Trace, UnknownTo, decide, thread_keys,
};
use crate::id::{AccountId, ContactId, ConversationId, DeliveryId, MessageId, UserId};
use crate::message::{Email, Forwarded, From, Journal, Kind, ReplyText, Report};
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
        text: "See you on Monday.".to_owned(),
        reply: ReplyText::default(),
        has_html: false,
        attachments: Vec::new(),
        kind: Kind::Mail,
        forwarded: None,
        journal: None,
        report: None,
        meeting: None,
        is_list: false,
        is_bulk: false,
        received_fields: 2,
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
    let identity = |text, user| Identity { address: address(text), user, verified: true };
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
        marks: Vec::new(),
        reply_conversation: None,
        references: Vec::new(),
        same_message_id: Vec::new(),
        held_already: Vec::new(),
        was_erased: false,
        filed_today: 0,
    };
    let mailbox = Mailbox::Sync(UserMailbox { account, user: lena });
    World { account, lena, tom, ana, ben, mailbox, verdict: aligned("praxis.test"), email: email(), facts }
}

impl World {
    fn decide(&self) -> (Decision, Trace) {
        let arrival = Arrival {
            mailbox: &self.mailbox,
            verdict: &self.verdict,
            email: &self.email,
            reverse_path: None,
            client_ip: IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)),
            received_at: NOW,
            size_bytes: 1000,
            fresh: FreshIds {
                contact: ContactId::generate(),
                conversation: ConversationId::generate(),
                message: MessageId::generate(),
            },
        };
        decide(&arrival, &self.facts)
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
fn r11_a_trusted_arc_sealer_vouches_and_another_does_not() {
    let sealed_by = |sealer: &str, result, attests_dmarc_pass| {
        let mut world = world().unproven(DmarcPolicy::Reject);
        world.verdict.arc = Arc { result, last_sealer: Some(sealer.to_owned()), attests_dmarc_pass };
        world
    };
    sealed_by("google.com", AuthResult::Pass, true).filed();
    sealed_by("google.com", AuthResult::Pass, false).ends("rejected", Reason::DmarcReject, "R13");
    sealed_by("google.com", AuthResult::Fail, true).ends("rejected", Reason::DmarcReject, "R13");
    sealed_by("notgoogle.com", AuthResult::Pass, true).ends("rejected", Reason::DmarcReject, "R13");
}

#[test]
fn r12_an_aligned_mail_from_an_unverified_address_waits_for_its_user() {
    let mut world = world().from("lena@home.test");
    world.facts.identities.push(Identity {
        address: address("lena@home.test"),
        user: world.lena,
        verified: false,
    });
    world.ends("held", Reason::NewIdentity, "R12");
    world.clone().on_auto().ends("discarded", Reason::NotMarked, "R1");
    world.unproven(DmarcPolicy::None).ends("rejected", Reason::SenderNotAllowed, "R12");
}

#[test]
fn r13_a_forged_user_is_refused_where_the_domain_says_reject_and_held_elsewhere() {
    world().unproven(DmarcPolicy::Reject).ends("rejected", Reason::DmarcReject, "R13");
    world().unproven(DmarcPolicy::Quarantine).ends("held", Reason::UnverifiedSender, "R13");
    world().unproven(DmarcPolicy::None).ends("held", Reason::UnverifiedSender, "R13");
    let mut through_a_list = world().unproven(DmarcPolicy::Reject);
    through_a_list.email.is_list = true;
    through_a_list.ends("held", Reason::UnverifiedSender, "R13");
}

#[test]
fn r14_a_lookup_that_failed_for_now_defers() {
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

#[test]
fn r28_a_forward_to_the_sync_address_alone_is_filed_as_it_came() {
    let mut world = world().to(&["lena-1@sync.test"]);
    let date = Timestamp::from_millis(NOW.as_millis() - 86_400_000);
    world.email.kind = Kind::Forwarded;
    world.email.forwarded = Some(Forwarded {
        from: Some(person("ana@patient.test")),
        to: people(&["lena@praxis.test"]),
        cc: Vec::new(),
        subject: Some("A question".to_owned()),
        date: Some(date),
        text: "May I come earlier?".to_owned(),
        attachment: None,
    });
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
fn r50_an_automatic_answer_sets_no_mark() {
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
fn a_loop_is_cut_at_100_received_fields_or_our_own_header() {
    let mut world = world();
    world.email.received_fields = 99;
    world.filed();
    world.email.received_fields = 100;
    world.ends("rejected", Reason::Loop, "SMTP");
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
    let mut elsewhere = journaled("journal@exchange.test");
    elsewhere.facts.account.settings.journal_sources = vec![source("praxis.test", &["192.0.2.0/28"])];
    assert_eq!(elsewhere.filed().direction, Direction::Outbound, "192.0.2.7 is in the network");
    elsewhere.facts.account.settings.journal_sources = vec![source("praxis.test", &["192.0.2.8/29"])];
    assert_eq!(elsewhere.decide().0, Decision::Rejected(Reason::SenderNotAllowed));
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
