//! The first two sentences of a trace, for people who have never seen the code: what came, and what proves its author.
//!
//! Nothing of the content: no subject, no name, no file name (R5, R65).

use crate::auth::{AuthResult, DmarcPolicy, Verdict};
use crate::message::{Email, Kind};

/// What sort of message it is, and what is odd about it.
#[must_use]
pub fn tell_message(email: &Email) -> String {
    let mut said = match email.kind {
        Kind::AutoReply => "an automatic answer",
        Kind::Bounce => "a report that a mail could not be delivered",
        Kind::Complaint => "a report that somebody has marked a mail as unwanted",
        Kind::Forwarded => "a mail that somebody has forwarded by hand",
        Kind::Mail => "an ordinary mail",
    }
    .to_owned();
    if email.journal.is_some() {
        said.push_str(", taken out of a journal report");
    }
    match email.attachments.len() {
        0 => {}
        1 => said.push_str(" with 1 attachment"),
        count => said.push_str(&format!(" with {count} attachments")),
    }
    if email.meeting.is_some() {
        said.push_str(" and a meeting");
    }
    if email.remote_content > 0 {
        said.push_str(&format!(
            "; what it names to be loaded from elsewhere, and is not: {}",
            email.remote_content
        ));
    }
    if email.protection.is_encrypted {
        said.push_str("; a part of it is encrypted");
    }
    if !email.problems.is_empty() {
        let shown: Vec<&str> = email.problems.iter().take(MAX_PROBLEMS).map(String::as_str).collect();
        let more = if email.problems.len() > MAX_PROBLEMS { "; …" } else { "" };
        said.push_str(&format!("; what is odd about it: {}{more}", shown.join("; ")));
    }
    said
}

/// What SPF, DKIM, DMARC, ARC and reverse DNS say.
#[must_use]
pub fn tell_verdict(verdict: &Verdict) -> String {
    [spf(verdict), dkim(verdict), dmarc(verdict), arc(verdict), uncovered(verdict)]
        .into_iter()
        .filter(|said| !said.is_empty())
        .collect::<Vec<_>>()
        .join("; ")
}

fn spf(verdict: &Verdict) -> String {
    let of = verdict.spf.domain.as_deref().unwrap_or("the sender");
    match verdict.spf.result {
        AuthResult::Pass => format!("SPF: the client may send for {of}"),
        AuthResult::Fail => format!("SPF: the client may not send for {of}"),
        AuthResult::SoftFail => format!("SPF: the client should not send for {of}"),
        AuthResult::Neutral => format!("SPF: {of} does not say whether the client may send for it"),
        AuthResult::None => format!("SPF: {of} names no servers of its own"),
        AuthResult::PermError => format!("SPF: the record of {of} is broken"),
        AuthResult::TempError => format!("SPF: {of} could not be looked up for now"),
    }
}

fn dkim(verdict: &Verdict) -> String {
    if verdict.dkim.is_empty() {
        return "DKIM: nobody signed it".to_owned();
    }
    let signatures = verdict.dkim.iter().map(|signature| {
        let result = match signature.result {
            AuthResult::Pass => "holds",
            AuthResult::TempError => "could not be checked for now",
            AuthResult::Fail
            | AuthResult::Neutral
            | AuthResult::None
            | AuthResult::PermError
            | AuthResult::SoftFail => "counts for nothing",
        };
        let why = signature.why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default();
        let by = if signature.domain.is_empty() { "an unnamed domain" } else { &signature.domain };
        format!("the signature of {by} {result}{why}")
    });
    format!("DKIM: {}", signatures.collect::<Vec<_>>().join(", "))
}

fn dmarc(verdict: &Verdict) -> String {
    let wish = match verdict.dmarc.policy {
        DmarcPolicy::None => "asks for nothing where that fails",
        DmarcPolicy::Quarantine => "asks to distrust what fails (p=quarantine)",
        DmarcPolicy::Reject => "asks to refuse what fails (p=reject)",
    };
    match verdict.dmarc.result {
        AuthResult::None => "DMARC: the From domain publishes no policy".to_owned(),
        AuthResult::Pass => format!("DMARC: passes; the From domain {wish}"),
        AuthResult::TempError | AuthResult::PermError => {
            "DMARC: the policy of the From domain could not be read for now".to_owned()
        }
        AuthResult::Fail | AuthResult::Neutral | AuthResult::SoftFail => {
            format!("DMARC: fails; the From domain {wish}")
        }
    }
}

/// Nothing where no forwarder sealed it: most mail.
fn arc(verdict: &Verdict) -> String {
    match (verdict.arc.result, &verdict.arc.last_sealer) {
        (AuthResult::None, _) => String::new(),
        (AuthResult::Pass, Some(sealer)) if verdict.arc.attests_dmarc_pass => {
            format!("ARC: {sealer} passed it on and attests that DMARC had passed before")
        }
        (AuthResult::Pass, Some(sealer)) => {
            format!("ARC: {sealer} passed it on and attests nothing for its From")
        }
        (AuthResult::TempError, _) => "ARC: the seals could not be checked for now".to_owned(),
        _ => "ARC: the chain of seals is broken".to_owned(),
    }
}

fn uncovered(verdict: &Verdict) -> String {
    let (unsigned, added) = (&verdict.uncovered.unsigned, &verdict.uncovered.added);
    match (unsigned.is_empty(), added.is_empty()) {
        (true, true) => String::new(),
        (false, true) => format!("the signature does not cover {}", unsigned.join(", ")),
        (_, false) => format!("somebody has added fields after it was signed: {}", added.join(", ")),
    }
}

/// Oddities that are named; the others are on the message.
const MAX_PROBLEMS: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Dkim;
    use crate::message;

    #[test]
    fn what_proves_an_author_is_told_in_sentences() {
        let mut verdict = Verdict::unchecked();
        verdict.spf.domain = Some("acme.test".to_owned());
        verdict.spf.result = AuthResult::SoftFail;
        verdict.dkim.push(Dkim {
            domain: "acme.test".to_owned(),
            selector: "s".to_owned(),
            result: AuthResult::Fail,
            why: Some("the body has changed".to_owned()),
            signed_fields: Vec::new(),
        });
        verdict.dmarc.result = AuthResult::Fail;
        verdict.dmarc.policy = DmarcPolicy::Reject;
        assert_eq!(
            tell_verdict(&verdict),
            "SPF: the client should not send for acme.test; DKIM: the signature of acme.test counts for nothing \
             (the body has changed); DMARC: fails; the From domain asks to refuse what fails (p=reject)"
        );
    }

    #[test]
    fn what_is_odd_is_named_and_nothing_of_the_content() {
        let email = message::parse(b"Subject: secret\r\nSubject: more\r\n\r\nwords\r\n").unwrap();
        let said = tell_message(&email);
        assert!(
            said.starts_with("an ordinary mail; what is odd about it: more than one Subject field"),
            "{said}"
        );
        assert!(!said.contains("secret") && !said.contains("words"), "{said}");
    }
}
