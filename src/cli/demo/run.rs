//! The play itself: each mail of the index through real SMTP, then what became of it over the API.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde_json::Value;

use super::admin::{AdminApi, AdminError};
use super::fixture::{self, Expected, Filling, Fixture, FixtureError};
use super::mailer::{Mailer, MailerError, Security, SmtpReply};
use super::practice::{self, Practice};
use super::sign::{SignError, Signer};

/// One mail, and what became of it.
#[derive(Clone, Debug)]
pub struct Played {
    /// The mail.
    pub fixture: Fixture,
    /// The reply that decided.
    pub answer: SmtpReply,
    /// What became of it, in the words of the index.
    pub became: Expected,
    /// The delivery as the API shows it; none where the reply names none of this account (an unknown address
    /// belongs to nobody).
    pub delivery: Option<Value>,
}

/// Why the demo could not be played.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// The API.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// The compiled-in mails.
    #[error(transparent)]
    Fixture(#[from] FixtureError),
    /// SMTP.
    #[error("mail {file} could not be sent")]
    Mailer {
        /// The mail.
        file: String,
        /// Why.
        #[source]
        error: MailerError,
    },
    /// Signing.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// TLS.
    #[error("TLS cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
}

impl Played {
    /// Whether everything came as the index says.
    #[must_use]
    pub fn is_as_expected(&self) -> bool {
        let Expected { answer, outcome, reason, record } = &self.became;
        let expected = &self.fixture.expect;
        // Without a delivery of this account the reply alone must do.
        let has_reason = self.delivery.is_none() && *outcome == "rejected" || *reason == expected.reason;
        *answer == expected.answer && *outcome == expected.outcome && has_reason && *record == expected.record
    }
}

/// Sets up the practice, sends every mail in order, and tells what became of each.
///
/// `api` needs scope `admin`; `smtp` is the server's listener, whose certificate is not checked. The server must
/// resolve names with [`practice::ZONE`].
///
/// # Errors
/// If the API or SMTP cannot be used at all. A mail that fares otherwise than expected is no error.
pub async fn play(api: &AdminApi, smtp: SocketAddr) -> Result<(Practice, Vec<Played>), DemoError> {
    let practice = practice::open(api).await?;
    let filling = Filling { addresses: practice.addresses.clone(), now: Timestamp::now() };
    let security = Security::starttls()?;
    let mut contacts = Contacts { api, account: &practice.account, names: BTreeMap::new() };
    let mut played = Vec::new();
    for fixture in fixture::index()? {
        let raw = compose(&fixture, &filling)?;
        let rcpt = filling.fill(&fixture.rcpt)?;
        let answer = deliver(&fixture, smtp, &security, &rcpt, &raw)
            .await
            .map_err(|error| DemoError::Mailer { file: fixture.file.clone(), error })?;
        let delivery = match answer.trace() {
            Some(trace) => api.find(&format!("/accounts/{}/deliveries/{trace}", practice.account)).await?,
            None => None,
        };
        let became = contacts.what_became(&answer, delivery.as_ref()).await?;
        played.push(Played { fixture, answer, became, delivery });
    }
    Ok((practice, played))
}

/// The mail of a fixture, filled and signed.
///
/// # Errors
/// If the fixture or its signer cannot be used.
pub fn compose(fixture: &Fixture, filling: &Filling) -> Result<Vec<u8>, DemoError> {
    let raw = filling.fill(fixture::template(&fixture.file)?)?.into_bytes();
    match &fixture.dkim {
        Some(dkim) => Ok(Signer::new(&dkim.domain, &dkim.selector, dkim.algorithm)?.sign(&raw)?),
        None => Ok(raw),
    }
}

async fn deliver(
    fixture: &Fixture,
    smtp: SocketAddr,
    security: &Security,
    rcpt: &str,
    raw: &[u8],
) -> Result<SmtpReply, MailerError> {
    let mut mailer = Mailer::connect(smtp, fixture.client, &fixture.helo, security).await?;
    let answers = mailer.send(&fixture.mail_from, &[rcpt.to_owned()], raw).await?;
    mailer.quit().await?;
    Ok(answers.decisive().clone())
}

/// Names of contacts, asked once each.
struct Contacts<'a> {
    api: &'a AdminApi,
    account: &'a str,
    names: BTreeMap<String, String>,
}

impl Contacts<'_> {
    async fn what_became(
        &mut self,
        answer: &SmtpReply,
        delivery: Option<&Value>,
    ) -> Result<Expected, AdminError> {
        let word = |field: &str| delivery.and_then(|delivery| delivery[field].as_str()).map(str::to_owned);
        let by_code = match answer.code {
            200..400 => "accepted",
            400..500 => "deferred",
            _ => "rejected",
        };
        Ok(Expected {
            answer: answer.codes(),
            outcome: word("outcome").unwrap_or_else(|| by_code.to_owned()),
            reason: word("reason").unwrap_or_else(|| "-".to_owned()),
            record: match word("message_id") {
                Some(message) => self.record_of(&message).await?,
                None => None,
            },
        })
    }

    async fn record_of(&mut self, message: &str) -> Result<Option<String>, AdminError> {
        let account = self.account;
        let Some(message) = self.api.find(&format!("/accounts/{account}/messages/{message}")).await? else {
            return Ok(None);
        };
        let Some(id) = message["contact_id"].as_str() else {
            return Ok(None);
        };
        if let Some(name) = self.names.get(id) {
            return Ok(Some(name.clone()));
        }
        let contact = self.api.get(&format!("/accounts/{account}/contacts/{id}")).await?;
        let name = contact["name"].as_str().unwrap_or_default().to_owned();
        self.names.insert(id.to_owned(), name.clone());
        Ok(Some(name))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::address::EmailAddress;
    use crate::auth::{Alignment, Authenticator, Subject};
    use crate::message;
    use crate::zone::{Zone, ZoneServer};

    fn raw(fixture: &Fixture) -> Vec<u8> {
        let addresses = ["lena", "tomas", "frieda", "nobody"]
            .iter()
            .flat_map(|name| {
                ["sync", "auto"].map(|kind| (format!("{kind}:{name}"), format!("{name}-{kind}@sync.test")))
            })
            .collect::<BTreeMap<_, _>>();
        let filling = Filling { addresses, now: "2026-03-04T11:05:06Z".parse().unwrap() };
        compose(fixture, &filling).unwrap()
    }

    fn email(file: &str) -> message::Email {
        let fixture = fixture::index().unwrap().into_iter().find(|mail| mail.file == file).unwrap();
        message::parse(&raw(&fixture)).unwrap()
    }

    #[test]
    fn every_mail_reads_cleanly_and_is_current() {
        for fixture in fixture::index().unwrap() {
            let email = email(&fixture.file);
            let author = email.from.address().unwrap_or_else(|| panic!("{}", fixture.file));
            assert!(author.as_str().ends_with(".test"), "{author}");
            assert!(email.problems.is_empty(), "{}: {:?}", fixture.file, email.problems);
            assert!(!email.subject.contains("=?") && !email.subject.is_empty(), "{}", email.subject);
            assert!(!email.text.contains('\u{fffd}') && !email.text.contains('{'), "{}", email.text);
            assert!(email.date.is_some() && email.message_id_header.is_some(), "{}", fixture.file);
        }
    }

    #[test]
    fn the_mails_show_what_their_names_say() {
        let new_text = |file: &str| email(file).reply.new_text;
        assert!(!new_text("03-reply-all-from-patient.eml").contains("Versichertenkarte"));
        assert!(!new_text("04-answer-quoted-gmail.eml").contains("nüchtern"));
        assert!(!new_text("05-answer-quoted-outlook.eml").contains("feels a lot better"));
        assert!(!new_text("08-spanish-auto-forwarded.eml").contains("dibujo"));
        let report = email("06-pdf-attached.eml");
        assert_eq!(report.attachments[0].filename, "Befundbericht für Bergmann.pdf");
        let drawing = email("07-inline-image-spanish.eml");
        assert!(drawing.attachments[0].inline && drawing.subject.ends_with("mañana y noche"));
        let forwarded = email("23-forwarded-by-hand-to-us.eml").forwarded.unwrap();
        assert_eq!(forwarded.from.unwrap().address.as_str(), "paul.winter@web-post.test");
    }

    #[tokio::test]
    async fn the_demos_dns_proves_every_mail_but_the_forged_ones() {
        let server = ZoneServer::start(Zone::parse(practice::ZONE).unwrap()).await.unwrap();
        let dns = crate::config::Dns { servers: vec![server.addr()], ..Default::default() };
        let authenticator = Authenticator::new(&dns, "mx.example.test").unwrap();
        for fixture in fixture::index().unwrap() {
            let raw = raw(&fixture);
            let email = message::parse(&raw).unwrap();
            let mail_from = EmailAddress::parse(&fixture.mail_from).unwrap();
            let subject = Subject {
                client_ip: fixture.client,
                helo: &fixture.helo,
                mail_from: Some(&mail_from),
                from: email.from.address(),
                original: None,
            };
            let verdict = authenticator.verify(subject, &raw).await;
            let is_forged = ["17", "18", "19"].iter().any(|number| fixture.file.starts_with(number));
            let is_aligned = matches!(verdict.alignment, Alignment::Aligned { .. });
            assert_eq!(is_aligned, !is_forged, "{}: {verdict:#?}", fixture.file);
            let signatures: Vec<&str> = verdict.dkim.iter().map(|one| one.result.as_str()).collect();
            assert_eq!(signatures, vec!["pass"; usize::from(fixture.dkim.is_some())], "{}", fixture.file);
        }
    }
}
