//! A copy of a routed mail for its other side: the contact's for staff (R49), the user's for the contact (R46). Pure.
//!
//! Promises that the contact's copy shows no address of the staff, and that either side's client finds the thread:
//! ids of our own copies are joined by those of the messages that the reader has.

use std::collections::HashMap;

use crate::address::EmailAddress;
use crate::message::{self, CannotHide, Email, From};
use crate::outbox::compose::{Header, names_one_of, thread, without};
use crate::store::{CopyFacts, RelayKind};

/// The Message-IDs of which ours are copies, and whether staff wrote them.
pub(super) type Originals = HashMap<String, (String, bool)>;

/// Writes the copy; `email` is what the raw message says.
pub(super) fn compose(
    facts: &CopyFacts,
    email: &Email,
    kind: RelayKind,
    originals: &Originals,
    message_id: &str,
    loop_mark: &str,
) -> Result<Vec<u8>, CannotHide> {
    let is_for_contact = kind == RelayKind::Contact;
    let hidden = if is_for_contact { private_addresses(facts, email) } else { Vec::new() };
    let content = message::content_without(&facts.raw, &hidden, &facts.reply_address)?;
    let references = references(email, facts, is_for_contact, originals, &hidden);
    let parent = email.in_reply_to.first().map(|id| match originals.get(id) {
        Some((original, by_staff)) if *by_staff != is_for_contact => original.clone(),
        Some(_) | None => id.clone(),
    });
    let parent = parent.filter(|id| !names_one_of(id, &hidden));
    let (from_name, to_name) = if is_for_contact {
        let staff = facts.user_name.as_deref().unwrap_or(&facts.account_name);
        (without(staff, &hidden, &facts.account_name), facts.contact_name.as_str())
    } else {
        let name = format!("{} via {}", author_name(facts, email), facts.account_name);
        (name, facts.user_name.as_deref().unwrap_or_default())
    };
    let header = Header {
        from_name: &from_name,
        from: &facts.reply_address,
        reply_to: Some(&facts.reply_address),
        to_name,
        to: &facts.to,
        subject: &without(&email.subject, &hidden, &facts.account_name),
        date: facts.sent_at,
        message_id,
        in_reply_to: parent.as_deref(),
        references: &references,
        loop_mark,
        // An absence note of staff is not to be asked for: it would go on the record of every patient who writes.
        more: if is_for_contact { &[] } else { &[("X-Auto-Response-Suppress", "OOF, AutoReply")] },
    };
    Ok(header.over(&content))
}

/// What the contact is not to see.
fn private_addresses(facts: &CopyFacts, email: &Email) -> Vec<EmailAddress> {
    let mut hidden = facts.staff_addresses.clone();
    hidden.extend(email.from.address().cloned());
    hidden.retain(|address| *address != facts.to);
    hidden
}

fn references(
    email: &Email,
    facts: &CopyFacts,
    is_for_contact: bool,
    originals: &Originals,
    hidden: &[EmailAddress],
) -> Vec<String> {
    let mut known: Vec<String> = Vec::new();
    let last = email.in_reply_to.first().filter(|id| !email.references.contains(id));
    for id in email.references.iter().chain(last) {
        match originals.get(id) {
            // What staff wrote the contact has as our copy alone.
            Some((original, by_staff)) if !(is_for_contact && *by_staff) => known.push(original.clone()),
            Some(_) | None => {}
        }
        known.push(id.clone());
    }
    let source = (!is_for_contact).then_some(facts.message_id_header.as_str());
    let mut references = thread(&known, source, hidden);
    references.retain(|id| !id.ends_with(DERIVED));
    references
}

/// Who wrote it, as far as that is known: the address they wrote from is not shown, so a doubt has to be.
fn author_name(facts: &CopyFacts, email: &Email) -> String {
    let author = match &email.from {
        From::Bad(_) => None,
        From::One(author) => Some(author),
    };
    let own_name = author.and_then(|author| author.name.clone());
    match facts.sender.as_str() {
        "verified" => own_name.unwrap_or_else(|| facts.contact_name.clone()),
        "unverified" => {
            format!("{} (unverified)", own_name.unwrap_or_else(|| facts.contact_name.clone()))
        }
        _ => {
            let address = author.map(|author| author.address.to_string()).unwrap_or_default();
            format!("{} (unknown sender)", own_name.unwrap_or(address))
        }
    }
}

/// Ids of messages that had none (R43): nobody else knows them.
const DERIVED: &str = "@derived.invalid";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Timestamp;

    fn address(text: &str) -> EmailAddress {
        EmailAddress::parse(text).expect("an address")
    }

    fn facts(raw: &str, to: &str) -> CopyFacts {
        CopyFacts {
            raw: raw.replace('\n', "\r\n").into_bytes(),
            message_id_header: "own@praxis.test".to_owned(),
            sent_at: Timestamp::from_millis(1_795_315_445_120),
            sender: "verified".to_owned(),
            account_name: "Praxis Morgenrot".to_owned(),
            contact_name: "Ana Lee".to_owned(),
            user_name: Some("Lena Albrecht".to_owned()),
            staff_addresses: vec![address("lena@praxis.test"), address("lena@home.test")],
            to: address(to),
            reply_address: address("r-1@reply.test"),
        }
    }

    fn read(facts: &CopyFacts, kind: RelayKind, originals: &Originals) -> (Email, String) {
        let email = message::parse(&facts.raw).expect("a message");
        let composed =
            compose(facts, &email, kind, originals, "job@reply.test", "0a").expect("within limits");
        (message::parse(&composed).expect("a message"), String::from_utf8(composed).expect("text"))
    }

    const FROM_LENA: &str = "Received: from lena-laptop [192.0.2.9]\nDKIM-Signature: v=1; d=praxis.test\n\
        Return-Path: <lena@praxis.test>\nSender: lena@home.test\nFrom: Lena <lena@praxis.test>\n\
        To: r-1@reply.test\nCc: lena@home.test\nReply-To: lena@home.test\nX-Originating-IP: 192.0.2.9\n\
        Disposition-Notification-To: lena@praxis.test\nMessage-ID: <lena@praxis.test>\n\
        In-Reply-To: <copy1@reply.test>\nReferences: <p1@patient.test> <copy1@reply.test>\n\
        Subject: Re: ask lena@praxis.test\nContent-Type: text/plain\n\nYes.\n\n\
        On Monday Lena <Lena@Praxis.test> wrote:\n> mail lena+x@home.test\n";

    #[test]
    fn r46_the_contacts_copy_shows_no_address_of_the_staff_and_threads() {
        let originals =
            Originals::from([("copy1@reply.test".to_owned(), ("p1@patient.test".to_owned(), false))]);
        let (email, text) = read(&facts(FROM_LENA, "ana@patient.test"), RelayKind::Contact, &originals);
        let lower = text.to_lowercase();
        for secret in ["@praxis.test", "@home.test", "192.0.2.9", "lena-laptop", "received:", "sender:"] {
            assert!(!lower.contains(secret), "{secret} in {text}");
        }
        let From::One(author) = &email.from else { panic!("{text}") };
        assert_eq!(
            (author.name.as_deref(), author.address.as_str()),
            (Some("Lena Albrecht"), "r-1@reply.test")
        );
        assert_eq!(email.to[0].address, address("ana@patient.test"));
        assert!(email.cc.is_empty());
        assert_eq!(email.subject, "Re: ask Praxis Morgenrot");
        assert_eq!(email.in_reply_to, ["p1@patient.test"]);
        assert_eq!(email.references, ["p1@patient.test", "copy1@reply.test"]);
        assert_eq!(email.message_id_header.as_deref(), Some("job@reply.test"));
        assert!(
            email.text.contains("On Monday Lena <r-1@reply.test> wrote:\n> mail r-1@reply.test"),
            "{text}"
        );
        assert!(email.has_loop_header);
    }

    const FROM_ANA: &str = "From: =?utf-8?Q?Ana_L=C3=A9e?= <ana@patient.test>\nTo: r-1@reply.test\n\
        Message-ID: <own@praxis.test>\nIn-Reply-To: <copy2@reply.test>\n\
        References: <p1@patient.test> <copy1@reply.test> <copy2@reply.test>\nSubject: Re: x\n\
        MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=b\n\n--b\n\nHello\n--b\n\
        Content-Type: application/pdf\nContent-Transfer-Encoding: base64\n\nJVBERg==\n--b--\n";

    #[test]
    fn r49_the_staffs_copy_comes_from_the_reply_address_and_threads_with_their_own_mail() {
        let originals = Originals::from([
            ("copy1@reply.test".to_owned(), ("p1@patient.test".to_owned(), false)),
            ("copy2@reply.test".to_owned(), ("s1@praxis.test".to_owned(), true)),
        ]);
        let facts = facts(FROM_ANA, "lena@praxis.test");
        let (email, text) = read(&facts, RelayKind::Staff, &originals);
        let From::One(author) = &email.from else { panic!("{text}") };
        assert_eq!(author.name.as_deref(), Some("Ana Lée via Praxis Morgenrot"));
        assert_eq!(author.address, address("r-1@reply.test"));
        assert_eq!(email.reply_to[0].address, address("r-1@reply.test"));
        assert_eq!(email.in_reply_to, ["s1@praxis.test"]);
        let expected =
            ["p1@patient.test", "copy1@reply.test", "s1@praxis.test", "copy2@reply.test", "own@praxis.test"];
        assert_eq!(email.references, expected);
        let raw = String::from_utf8(facts.raw.clone()).expect("text");
        let body = raw.split_once("\r\n\r\n").expect("a body").1;
        assert!(text.ends_with(body), "octet for octet");
    }

    #[test]
    fn r48_a_doubt_about_the_author_shows_in_the_name() {
        for (sender, name) in [
            ("unverified", "Ana Lée (unverified) via Praxis Morgenrot"),
            ("unknown", "Ana Lée (unknown sender) via Praxis Morgenrot"),
        ] {
            let facts = CopyFacts { sender: sender.to_owned(), ..facts(FROM_ANA, "lena@praxis.test") };
            let (email, _) = read(&facts, RelayKind::Staff, &Originals::new());
            let From::One(author) = &email.from else { panic!("no author") };
            assert_eq!(author.name.as_deref(), Some(name));
        }
    }
}
