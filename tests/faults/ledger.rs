//! The sender's side: what was sent, what was answered, and what must be there afterwards.
//!
//! Two accounts with the same people: what one of them is sent must never show in the other. A mail that was answered
//! 250 is kept from then on; one without an answer, or put off, may be there once, and after its retry is.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex};
use std::time::{Duration, Instant};

use futures_util::StreamExt;
use serde_json::{Value, json};
use syncmx::cli::demo::mailer::{Mailer, Security};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, Desk};
use crate::bucket::{IN_PARTS, noise};
use crate::mail::LENA;

/// One mail to one contact of one account.
pub(crate) struct Mail {
    pub(crate) desk: usize,
    contact: usize,
    pub(crate) id: String,
    raw: Vec<u8>,
    pub(crate) rcpt: String,
}

impl Mail {
    /// Lines end with CRLF, none begins with a dot.
    pub(crate) fn raw(&self) -> &[u8] {
        &self.raw
    }
}

/// What the sender was told, once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Kept,
    /// 4yz, with its codes.
    PutOff(String),
    /// 5yz, whole: nothing here deserves one.
    Refused(String),
    /// The connection ended without an answer.
    Unknown,
}

#[derive(Clone)]
pub(crate) struct Sent {
    pub(crate) mail: Arc<Mail>,
    pub(crate) end: End,
    pub(crate) took: Duration,
}

/// The accounts, with contacts of one round.
pub(crate) struct Practices {
    desks: Vec<Desk>,
    /// The same addresses in each account; ids by account.
    contacts: Vec<(String, Vec<String>)>,
    /// Events of earlier rounds end here, by account.
    events_after: Vec<String>,
    name: String,
    next: AtomicU64,
}

/// What a check found, all of it in numbers that must be zero but for the first three.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) kept: usize,
    pub(crate) there: usize,
    pub(crate) not_acknowledged: usize,
    pub(crate) wrong: Vec<String>,
}

impl Practices {
    pub(crate) async fn open(api: &Api) -> Self {
        let mut desks = Vec::new();
        for _ in 0..2 {
            let desk = Desk::open_by(api.clone()).await;
            desk.patch("", json!({ "settings": { "daily_limit": 1_000_000 } })).await;
            desks.push(desk);
        }
        let mut opened = Self {
            events_after: vec![String::new(); desks.len()],
            desks,
            contacts: Vec::new(),
            name: String::new(),
            next: AtomicU64::new(0),
        };
        opened.begin_round("first").await;
        opened
    }

    /// After a restart.
    pub(crate) fn at(&mut self, api: &Api) {
        self.desks = std::mem::take(&mut self.desks).into_iter().map(|desk| desk.by(api.clone())).collect();
    }

    pub(crate) fn desks(&self) -> &[Desk] {
        &self.desks
    }

    /// The id of the one message that an account has in this round.
    pub(crate) async fn only_message(&self, desk: &Desk) -> String {
        let number = self.desks.iter().position(|one| one.account == desk.account).unwrap();
        let mut ids = Vec::new();
        for (_, contacts) in &self.contacts {
            for entry in all_of(desk, &format!("/contacts/{}/timeline", contacts[number]), "").await {
                ids.push(entry["id"].as_str().unwrap().to_owned());
            }
        }
        assert_eq!(ids.len(), 1);
        ids.remove(0)
    }

    pub(crate) async fn has(&self, mail: &Mail) -> bool {
        let (desk, contact) = (&self.desks[mail.desk], &self.contacts[mail.contact].1[mail.desk]);
        desk.timeline(contact).await.iter().any(|entry| entry["message_id_header"] == mail.id.as_str())
    }

    /// Fresh contacts, so that a check reads no more than its round.
    pub(crate) async fn begin_round(&mut self, name: &str) {
        for (desk, after) in self.desks.iter().zip(&mut self.events_after) {
            if let Some(last) = all_of(desk, "/events", after).await.last() {
                *after = format!("&after={}", last["id"].as_str().unwrap());
            }
        }
        name.clone_into(&mut self.name);
        self.contacts.clear();
        for number in 0..CONTACTS {
            let email = format!("patient-{name}-{number}@web-post.test");
            let mut ids = Vec::new();
            for desk in &self.desks {
                ids.push(desk.contact(&format!("Patient {number}"), &email).await);
            }
            self.contacts.push((email, ids));
        }
    }

    /// The next mail of the round: every twentieth is large enough for a blob.
    pub(crate) fn mail(&self) -> Arc<Mail> {
        let number = self.next.load(Ordering::Relaxed);
        self.mail_of(if number % 20 == 7 { 150 << 10 } else { 5 << 10 })
    }

    pub(crate) fn mail_of(&self, octets: usize) -> Arc<Mail> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let desk = usize::try_from(number).unwrap() % self.desks.len();
        let contact = usize::try_from(number).unwrap() / self.desks.len() % CONTACTS;
        let id = format!("{}-{number}-of-{desk}@faults.test", self.name);
        let date = jiff::Zoned::now().strftime("%a, %d %b %Y %H:%M:%S %z");
        let text = NOISE.get(..octets).unwrap();
        let raw = format!(
            "From: Dr. Lena Albrecht <{}>\r\nTo: <{}>\r\nSubject: Mail {id}\r\nDate: {date}\r\nMessage-ID: <{id}>\r\n\
             MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{id}\r\n{text}\r\n{id}\r\n",
            LENA.mail_from, self.contacts[contact].0
        );
        Arc::new(Mail { desk, contact, id, raw: raw.into_bytes(), rcpt: self.desks[desk].sync.clone() })
    }

    /// Sends from so many sessions until told to stop.
    pub(crate) fn load(self: &Arc<Self>, server: SocketAddr, sessions: usize) -> Load {
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        for _ in 0..sessions {
            let (practices, stop) = (Arc::clone(self), stop.clone());
            tasks.spawn(async move {
                let (mut sent, mut client) = (Vec::new(), Client::new(server));
                while !stop.is_cancelled() {
                    let one = client.send(practices.mail()).await;
                    let is_kept = one.end == End::Kept;
                    sent.push(one);
                    if !is_kept {
                        let _stopped = tokio::time::timeout(RETRY, stop.cancelled()).await;
                    }
                }
                sent
            });
        }
        Load { stop, tasks }
    }

    /// What the accounts hold, against what was answered. With `is_settled` everything must be there.
    pub(crate) async fn check(&self, sent: &[Sent], settled: Settled) -> Found {
        let mut mails: HashMap<&str, (&Arc<Mail>, bool, usize)> = HashMap::new();
        let mut found = Found::default();
        for one in sent {
            let entry = mails.entry(one.mail.id.as_str()).or_insert((&one.mail, false, 0));
            entry.1 |= one.end == End::Kept;
            if let End::Refused(text) = &one.end {
                found.wrong.push(format!("{}: {text}", one.mail.id));
            }
        }
        let mut messages = Vec::new();
        for (number, desk) in self.desks.iter().enumerate() {
            for (contact, (_, ids)) in self.contacts.iter().enumerate() {
                for entry in all_of(desk, &format!("/contacts/{}/timeline", ids[number]), "").await {
                    let id = entry["message_id_header"].as_str().unwrap_or_default().to_owned();
                    match mails.get_mut(id.as_str()) {
                        Some((mail, _, times)) if (mail.desk, mail.contact) == (number, contact) => {
                            *times += 1;
                            messages.push((
                                number,
                                Arc::clone(mail),
                                entry["id"].as_str().unwrap().to_owned(),
                            ));
                        }
                        Some(_) | None => found.wrong.push(format!("{id} with another's contact")),
                    }
                }
            }
        }
        for (id, (_, is_kept, times)) in &mails {
            found.kept += usize::from(*is_kept);
            found.there += usize::from(*times > 0);
            found.not_acknowledged += usize::from(*times > 0 && !*is_kept);
            match (*times, *is_kept || settled == Settled::Yes) {
                (0, true) => found.wrong.push(format!("{id} is lost")),
                (0 | 1, _) => {}
                (times, _) => found.wrong.push(format!("{id} is there {times} times")),
            }
        }
        found.wrong.extend(self.wrong_octets(&messages).await);
        found.wrong.extend(self.wrong_events(&messages).await);
        found
    }

    /// Each must be what was sent, below our trace fields.
    async fn wrong_octets(&self, messages: &[(usize, Arc<Mail>, String)]) -> Vec<String> {
        let reading = messages.iter().map(|(desk, mail, id)| async move {
            let (_, stored) = self.desks[*desk].bytes(&format!("/messages/{id}/raw")).await;
            (!stored.ends_with(&mail.raw)).then(|| format!("{} is not what was sent", mail.id))
        });
        futures_util::stream::iter(reading)
            .buffer_unordered(16)
            .filter_map(|wrong| async { wrong })
            .collect()
            .await
    }

    /// Each has told of itself once.
    async fn wrong_events(&self, messages: &[(usize, Arc<Mail>, String)]) -> Vec<String> {
        let mut told: HashMap<String, usize> = HashMap::new();
        for (desk, after) in self.desks.iter().zip(&self.events_after) {
            for event in all_of(desk, "/events", after).await {
                if event["type"] == "message.filed" {
                    *told.entry(event["data"]["message_id"].as_str().unwrap().to_owned()).or_default() += 1;
                }
            }
        }
        let times = |id: &str| told.get(id).copied().unwrap_or_default();
        let odd = messages.iter().filter(|(_, _, id)| times(id) != 1);
        odd.map(|(_, mail, id)| format!("{} has {} events", mail.id, times(id))).collect()
    }

    /// Sends again, as senders do, until each is answered 250.
    pub(crate) async fn retry(&self, server: SocketAddr, sent: &[Sent]) -> Vec<Sent> {
        let kept: Vec<&str> =
            sent.iter().filter(|one| one.end == End::Kept).map(|one| one.mail.id.as_str()).collect();
        let kept: std::collections::HashSet<&str> = kept.into_iter().collect();
        let mut left: HashMap<&str, Arc<Mail>> = HashMap::new();
        for one in sent.iter().filter(|one| !kept.contains(one.mail.id.as_str())) {
            left.insert(one.mail.id.as_str(), Arc::clone(&one.mail));
        }
        let queue = Mutex::new(left.into_values().collect::<Vec<_>>());
        let deadline = Instant::now() + PATIENCE;
        let session = || async {
            let (mut sent, mut client) = (Vec::new(), Client::new(server));
            while let Some(mail) = { queue.lock().unwrap().pop() } {
                loop {
                    let one = client.send(Arc::clone(&mail)).await;
                    let end = one.end.clone();
                    sent.push(one);
                    match end {
                        End::Kept | End::Refused(_) => break,
                        End::PutOff(_) | End::Unknown => tokio::time::sleep(RETRY).await,
                    }
                    assert!(Instant::now() < deadline, "{} is never taken: {end:?}", mail.id);
                }
            }
            sent
        };
        futures_util::future::join_all((0..8).map(|_| session())).await.concat()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settled {
    No,
    Yes,
}

impl Found {
    #[track_caller]
    pub(crate) fn is_right(&self) -> bool {
        for wrong in self.wrong.iter().take(10) {
            println!("wrong: {wrong}");
        }
        self.wrong.is_empty()
    }
}

/// Sessions that send.
pub(crate) struct Load {
    stop: CancellationToken,
    tasks: JoinSet<Vec<Sent>>,
}

impl Load {
    /// No new mail; what is under way is waited for.
    pub(crate) async fn stop(self) -> Vec<Sent> {
        self.stop.cancel();
        self.tasks.join_all().await.concat()
    }
}

/// One session after the other.
pub(crate) struct Client {
    server: SocketAddr,
    session: Option<Mailer>,
}

impl Client {
    pub(crate) const fn new(server: SocketAddr) -> Self {
        Self { server, session: None }
    }

    pub(crate) async fn send(&mut self, mail: Arc<Mail>) -> Sent {
        let began = Instant::now();
        let end = self.try_send(&mail).await;
        if end == End::Unknown {
            self.session = None;
        }
        Sent { mail, end, took: began.elapsed() }
    }

    async fn try_send(&mut self, mail: &Mail) -> End {
        if self.session.is_none() {
            self.session = Mailer::connect(self.server, LENA.client, LENA.helo, &Security::Plain).await.ok();
        }
        let Some(session) = &mut self.session else { return End::Unknown };
        let recipients = std::slice::from_ref(&mail.rcpt);
        match session.send(LENA.mail_from, recipients, &mail.raw).await {
            Err(_) => End::Unknown,
            Ok(answers) => {
                let answer = answers.decisive();
                // A transaction whose recipient was put off is still open.
                if answer.code != 250 && session.command("RSET").await.is_ok_and(|reply| reply.code != 250) {
                    self.session = None;
                }
                match answer.code {
                    250 => End::Kept,
                    // Told to go: what follows is another session.
                    421 => End::Unknown,
                    400..500 => End::PutOff(answer.codes()),
                    _ => End::Refused(answer.text.clone()),
                }
            }
        }
    }
}

/// Every page of a list; `more` goes behind the first request's limit.
pub(crate) async fn all_of(desk: &Desk, path: &str, more: &str) -> Vec<Value> {
    let (mut items, mut more) = (Vec::new(), more.to_owned());
    loop {
        let page = desk.get(&format!("{path}?limit=200{more}")).await;
        items.extend(page["items"].as_array().unwrap().iter().cloned());
        let Some(next) = page["next"].as_str() else { return items };
        more = format!("&cursor={next}");
    }
}

/// How many of each kind of answer, in words.
pub(crate) fn counted(sent: &[Sent]) -> String {
    let mut counts: std::collections::BTreeMap<String, usize> = std::collections::BTreeMap::new();
    for one in sent {
        let word = match &one.end {
            End::Kept => "250".to_owned(),
            End::PutOff(codes) => codes.clone(),
            End::Refused(text) => text.get(..9).unwrap_or("5yz").to_owned(),
            End::Unknown => "no answer".to_owned(),
        };
        *counts.entry(word).or_default() += 1;
    }
    counts.iter().map(|(word, count)| format!("{count} × {word}")).collect::<Vec<_>>().join(", ")
}

pub(crate) fn longest(sent: &[Sent]) -> Duration {
    sent.iter().map(|one| one.took).max().unwrap_or_default()
}

/// Enough for the largest mail.
pub(crate) static NOISE: LazyLock<String> = LazyLock::new(|| noise(IN_PARTS));

const CONTACTS: usize = 3;
const RETRY: Duration = Duration::from_millis(100);
/// For everything that is sent again after a fault.
const PATIENCE: Duration = Duration::from_secs(240);
