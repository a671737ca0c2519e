//! What SPF, DMARC and alignment make of friends and enemies.

use std::time::{Duration, Instant};

use super::{BODY, FROM_GOOD, World};
use crate::address::EmailAddress;
use crate::auth::{AlignedBy, Alignment, AuthResult, Authenticator, DmarcPolicy, Subject};
use crate::config;

const FRIEND: [u8; 4] = [192, 0, 2, 7];
const STRANGER: [u8; 4] = [203, 0, 113, 1];

fn by_spf(domain: &str) -> Alignment {
    Alignment::Aligned { by: AlignedBy::Spf, domain: domain.to_owned() }
}

#[tokio::test]
async fn r11_spf_of_the_reverse_path_aligns_by_the_organisational_domain() {
    let world = World::new().await;
    for (from, sender, aligned) in [
        ("ana@good.test", "ana@good.test", by_spf("good.test")),
        ("ana@sub.plain.test", "ana@plain.test", by_spf("plain.test")),
        ("ana@plain.test", "ana@sub.plain.test", by_spf("sub.plain.test")),
        ("ana@sub.good.test", "ana@good.test", by_spf("good.test")),
        ("ana@sub.strict.test", "ana@strict.test", Alignment::NotAligned),
        ("ana@good.test", "ana@evil.test", Alignment::NotAligned),
    ] {
        let verdict = world.verify_sent(from, sender, FRIEND, "\r\n").await;
        assert_eq!(verdict.spf.result, AuthResult::Pass, "{sender}");
        assert_eq!(verdict.alignment, aligned, "{from} {sender}");
    }
}

#[tokio::test]
async fn h5_h6_h7_without_one_clean_from_address_nothing_aligns() {
    let world = World::new().await;
    for from in ["ana@good.test.", "x@evil.test ana@good.test", "a\0na@good.test", "", "ana@[192.0.2.7]"] {
        let verdict = world.verify_sent(from, "ana@good.test", FRIEND, &world.signed_good()).await;
        assert_eq!(
            (verdict.dmarc.result, verdict.alignment),
            (AuthResult::None, Alignment::NotAligned),
            "{from}"
        );
    }
}

#[tokio::test]
async fn h10_two_spf_records_are_a_permerror_and_two_dmarc_records_none() {
    let world = World::new().await;
    let verdict = world.verify_sent("ana@two.test", "ana@two.test", STRANGER, "\r\n").await;
    assert_eq!(verdict.spf.result, AuthResult::PermError);
    assert_eq!((verdict.dmarc.result, verdict.dmarc.policy), (AuthResult::None, DmarcPolicy::None));
}

#[tokio::test]
async fn h11_two_void_look_ups_are_borne_and_a_third_is_not() {
    let world = World::new().await;
    let spf = |sender: &'static str| world.authenticator.check_spf(STRANGER.into(), "h.test", sender);
    assert_eq!(spf("a@voids2.test").await.result, AuthResult::Pass);
    assert_eq!(spf("a@voids3.test").await.result, AuthResult::PermError);
}

#[tokio::test]
async fn h12_an_address_literal_as_helo_is_none_and_asks_nothing() {
    let world = World::new().await;
    for helo in ["[192.0.2.7]", "[IPv6:2001:db8::1]", "single", "bad..name", "-", ""] {
        let spf = world.authenticator.check_spf(FRIEND.into(), helo, "").await;
        assert_eq!(spf.result, AuthResult::None, "{helo}");
    }
    assert_eq!(world.server.query_count(), 0);
}

#[tokio::test]
async fn h13_exists_asks_for_a_alone_whatever_the_client_speaks() {
    for ip in [FRIEND.into(), "2001:db8::1".parse().unwrap()] {
        let world = World::new().await;
        for (asked, result) in [("a@exists.test", AuthResult::Pass), ("a@exists6.test", AuthResult::Fail)] {
            let before = world.server.query_count();
            let spf = world.authenticator.check_spf(ip, "h.test", asked).await;
            // The record, and one address.
            assert_eq!((spf.result, world.server.query_count() - before), (result, 2), "{asked} from {ip}");
        }
    }
}

#[tokio::test]
async fn h15_a_u_label_in_from_is_judged_as_its_a_label() {
    let world = World::new().await;
    let verdict = world.verify_sent("ana@bücher.test", "ana@bücher.test", FRIEND, "\r\n").await;
    assert_eq!(verdict.alignment, by_spf("xn--bcher-kva.test"));
    assert_eq!((verdict.dmarc.result, verdict.dmarc.policy), (AuthResult::Pass, DmarcPolicy::Reject));
}

/// The null reverse-path is judged by HELO, as postmaster there; any other by itself, whatever HELO says. What SPF
/// says never refuses alone: it is a fact for the rules (E9).
#[tokio::test]
async fn s13_e8_e9_a_helo_that_passes_proves_nothing_for_a_sender_that_fails() {
    let world = World::new().await;
    let from = EmailAddress::parse("ceo@good.test");
    let sender = EmailAddress::parse("ceo@good.test");
    let subject = |mail_from| Subject {
        client_ip: [192, 0, 2, 7].into(),
        helo: "mail.good.test",
        mail_from,
        from: from.as_ref(),
        original: None,
    };
    let spoofed =
        Subject { client_ip: [203, 0, 113, 1].into(), helo: "evil.test", ..subject(sender.as_ref()) };
    let verdict = world.authenticator.verify(spoofed, b"\r\n").await;
    assert_eq!((verdict.spf.result, verdict.dmarc.result), (AuthResult::Fail, AuthResult::Fail));
    let unrelated = EmailAddress::parse("x@unrelated.test");
    let verdict = world.authenticator.verify(subject(unrelated.as_ref()), b"\r\n").await;
    assert_eq!((verdict.spf_helo.result, verdict.dmarc.result), (AuthResult::Pass, AuthResult::Fail));
    let bounce = world.authenticator.verify(subject(None), b"\r\n").await;
    assert_eq!((bounce.spf.result, bounce.alignment), (AuthResult::Pass, by_spf("mail.good.test")));
    assert_eq!((bounce.iprev, bounce.client_name.as_deref()), (AuthResult::Pass, Some("mail.good.test")));
}

#[tokio::test]
async fn a_reverse_name_that_does_not_lead_back_is_no_name() {
    let world = World::new().await;
    let verdict = world.verify_sent("ana@good.test", "ana@good.test", [192, 0, 2, 8], "\r\n").await;
    assert_eq!((verdict.iprev, verdict.client_name), (AuthResult::Fail, None));
}

#[tokio::test]
async fn a_record_looked_up_as_another_kind_does_not_poison_the_cache() {
    let world = World::new().await;
    let poison = world.verify_sent("x@evil.test", "x@poison.test", STRANGER, "\r\n").await;
    assert_eq!(poison.spf.result, AuthResult::PermError);
    let forged = world.verify_sent("ana@good.test", "x@evil.test", STRANGER, "\r\n").await;
    assert_eq!((forged.dmarc.result, forged.dmarc.policy), (AuthResult::Fail, DmarcPolicy::Reject));
    let signed = world.verify("ana@good.test", &world.signed_good()).await;
    assert_eq!(signed.dkim[0].result, AuthResult::Pass);
}

#[tokio::test]
async fn e12_subdomains_have_sp_and_what_does_not_exist_has_np() {
    let world = World::new().await;
    for (from, policy) in [
        ("ana@good.test", DmarcPolicy::Reject),
        ("ana@sub.good.test", DmarcPolicy::Quarantine),
        ("ana@nowhere.good.test", DmarcPolicy::None),
    ] {
        let verdict = world.verify(from, "\r\n").await;
        assert_eq!((verdict.dmarc.result, verdict.dmarc.policy), (AuthResult::Fail, policy), "{from}");
    }
}

#[tokio::test]
async fn e14_where_np_cannot_be_told_from_sp_neither_is_applied() {
    let world = World::with(|zone| zone.servfail("temp.good.test").unwrap()).await;
    let dmarc = world.verify("ana@temp.good.test", "\r\n").await.dmarc;
    assert_eq!((dmarc.result, dmarc.policy), (AuthResult::TempError, DmarcPolicy::None));
}

#[tokio::test]
async fn r14_only_a_failure_that_may_hide_an_aligned_pass_leaves_alignment_unknown() {
    let world = World::with(|zone| {
        for name in ["k._domainkey.tempkey.test", "_dmarc.tempdmarc.test", "tempspf.test"] {
            zone.servfail(name).unwrap();
        }
    })
    .await;
    let signature = world.sign("d=tempkey.test", &["from"], FROM_GOOD, BODY);
    let raw = format!("{signature}{FROM_GOOD}\r\n{BODY}");
    // The key of the From domain; of somebody else; the reverse-path of the From domain; of somebody else.
    for (from, sender, raw, alignment) in [
        ("a@tempkey.test", "a@unrelated.test", raw.as_str(), Alignment::Unknown),
        ("a@good.test", "a@unrelated.test", raw.as_str(), Alignment::NotAligned),
        ("a@tempspf.test", "a@tempspf.test", "\r\n", Alignment::Unknown),
        ("a@good.test", "a@tempspf.test", "\r\n", Alignment::NotAligned),
        // Another pass decides.
        ("a@good.test", "a@good.test", raw.as_str(), by_spf("good.test")),
        // The policy is not known, but the same domain is aligned in either mode; a related one may not be.
        ("a@tempdmarc.test", "a@tempdmarc.test", "\r\n", by_spf("tempdmarc.test")),
        ("a@tempdmarc.test", "a@sub.tempdmarc.test", "\r\n", Alignment::Unknown),
        ("a@tempdmarc.test", "a@evil.test", "\r\n", Alignment::NotAligned),
    ] {
        let verdict = world.verify_sent(from, sender, FRIEND, raw).await;
        assert_eq!(verdict.alignment, alignment, "{from} {sender}");
    }
    let verdict = world.verify_sent("a@tempdmarc.test", "a@evil.test", FRIEND, "\r\n").await;
    assert_eq!(verdict.dmarc.result, AuthResult::TempError);
}

#[tokio::test]
async fn m10_nobody_spends_the_look_ups_that_the_policy_needs() {
    let world = World::new().await;
    let junk = |n: usize| world.sign(&format!("d=d{n}.evil.test"), &["from"], FROM_GOOD, BODY);
    let raw = format!("{}{FROM_GOOD}\r\n{BODY}", (0..10).map(junk).collect::<String>());
    let verdict = world.verify_sent("ana@a.b.c.d.e.f.g.h.good.test", "x@greedy.test", STRANGER, &raw).await;
    // What the budget left unasked may be a pass: never a reason to refuse for good.
    assert_eq!(verdict.spf.result, AuthResult::TempError);
    assert_eq!((verdict.dmarc.result, verdict.dmarc.policy), (AuthResult::Fail, DmarcPolicy::None));
    assert!(world.server.query_count() <= 30, "{}", world.server.query_count());
}

#[tokio::test]
async fn h4_x6_a_dns_that_never_answers_costs_one_time_out_and_not_one_for_each_name() {
    let world = World::with(|zone| {
        for name in [
            "silent.test",
            "_dmarc.silent.test",
            "k._domainkey.silent.test",
            "1.113.0.203.in-addr.arpa",
            "mail.good.test",
        ] {
            zone.silent(name).unwrap();
        }
    })
    .await;
    let signature = world.sign("d=silent.test", &["from"], FROM_GOOD, BODY);
    let began = Instant::now();
    let raw = format!("{signature}{FROM_GOOD}\r\n{BODY}");
    let verdict = world.verify_sent("a@silent.test", "a@silent.test", STRANGER, &raw).await;
    // Six names, one after the other, would take 2.4 s.
    assert!(began.elapsed().as_millis() < 1600, "{:?}", began.elapsed());
    assert_eq!((verdict.spf.result, verdict.dkim[0].result), (AuthResult::TempError, AuthResult::TempError));
    assert_eq!((verdict.dmarc.result, verdict.iprev), (AuthResult::TempError, AuthResult::TempError));
    assert_eq!(verdict.alignment, Alignment::Unknown);
}

#[tokio::test]
async fn c23_a_null_mx_is_told_from_no_mx_and_from_no_answer() {
    let world = World::with(|zone| zone.servfail("broken.test").unwrap()).await;
    for (sender, expected) in [
        ("a@nomail.test", true),
        ("a@good.test", false),
        ("a@mx1.greedy.test", false),
        ("a@absent.test", false),
        ("a@broken.test", false),
    ] {
        let verdict = world.verify_sent("ana@good.test", sender, STRANGER, "\r\n").await;
        assert_eq!(verdict.takes_no_mail, expected, "{sender}");
    }
}

#[tokio::test]
async fn x6_two_hundred_look_ups_at_once_are_all_answered() {
    let long = format!("v=spf1 {}+all", "ip4:198.51.100.1 ".repeat(100));
    let world = World::with(|zone| {
        for n in 0..200 {
            // Every second answer is too long for UDP.
            let text = if n % 2 == 0 { "v=spf1 +all" } else { &long };
            zone.add(&format!("n{n}.test"), "TXT", text).unwrap();
        }
    })
    .await;
    let patient = config::Dns { servers: vec![world.server.addr()], timeout: Duration::from_secs(10) };
    let authenticator = Authenticator::new(&patient, "mx.example.test").unwrap();
    let mut checks = tokio::task::JoinSet::new();
    for n in 0..200 {
        let authenticator = authenticator.clone();
        checks.spawn(async move {
            authenticator.check_spf(STRANGER.into(), "h.test", &format!("a@n{n}.test")).await.result
        });
    }
    assert!(checks.join_all().await.into_iter().all(|result| result == AuthResult::Pass));
}
