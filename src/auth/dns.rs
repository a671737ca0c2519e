//! All questions that authentication asks the DNS: one shared resolver, and for each message its [`Lookups`].
//!
//! Promises that a message costs at most [`MAX_QUERIES`] look-ups and [`MAX_WALL`] of waiting, whatever it says; that
//! the same question of one message is asked once; and that a failure says whether it may pass. The cache is
//! [`Answers`]: bounded, keyed by name and type (so that no answer poisons a question of another kind), true to TTLs;
//! hickory's own, which counts answers and not what they take, holds a few behind it.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hickory_resolver::Resolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answers::{Answers, Question};
use super::asking::AskOnce;
use crate::config;

/// Look-ups of one message, answered from the cache or not; one that is asked a second time counts twice (SMTP.md M10).
pub(super) const MAX_QUERIES: usize = 30;
/// How long one message may take in all until it is examined (SMTP.md H4, M10).
pub(crate) const MAX_WALL: Duration = Duration::from_secs(20);
/// The last queries are kept for DMARC (a walk of 8, and whether the domain exists), so that nobody spends them on
/// look-ups of his own and thereby hides the policy.
const KEPT_FOR_DMARC: usize = 9;
/// Answers in the resolver's own cache: those that are too large for ours, of up to a megabyte each in memory.
const CACHE_ANSWERS: u64 = 64;
/// How long an answer that there is nothing is believed at most (RFC 2308 section 5: one to three hours work well).
const MAX_NEGATIVE_SECONDS: u32 = 3 * 60 * 60;
/// hickory refuses what is over this with `Busy`; its default of 32 is less than one busy second (SMTP.md X6).
const IN_FLIGHT_PER_CONNECTION: usize = 4096;
/// A question without an answer after this part of its time is asked a second time, and the first answer counts: a lost
/// packet costs a part of the time, and a slow resolver has all of it.
const ASKED_AGAIN_AFTER: u32 = 3;
/// Records of one answer that are looked at (SMTP.md S11).
const MAX_RECORDS: usize = 100;

/// Why a look-up gave nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// NXDOMAIN: neither the name nor any below it exists (RFC 8020).
    NoDomain,
    /// The name exists, but has no record of that type.
    NoRecord,
    /// The message has used up its look-ups: nothing is known.
    OverBudget,
    /// Time-out, SERVFAIL, REFUSED, network.
    Temporary,
}

impl Failure {
    /// Whether the DNS has answered that there is nothing.
    pub(super) const fn is_void(self) -> bool {
        matches!(self, Self::NoDomain | Self::NoRecord)
    }
}

/// Who asks; decides how many of the message's look-ups must be left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The policy of the From domain.
    Dmarc,
    /// Everything else.
    Other,
}

/// The resolver and its cache, shared by all messages.
#[derive(Clone)]
pub(super) struct Dns {
    first: Resolver<AskOnce>,
    /// For what is asked a second time: one resolver makes one question of two that are alike and open at once.
    second: Resolver<AskOnce>,
    known: Arc<Answers>,
    timeout: Duration,
}

impl Dns {
    pub(super) fn new(config: &config::Dns) -> Result<Self, NetError> {
        let (first, second) = (resolver(config, CACHE_ANSWERS)?, resolver(config, 0)?);
        Ok(Self { first, second, known: Arc::default(), timeout: config.timeout })
    }

    /// A fresh budget for one message that is examined by now.
    pub(super) fn lookups(&self) -> Lookups<'_> {
        self.lookups_until(Instant::now() + MAX_WALL)
    }

    /// A fresh budget for one message that has this time left.
    pub(super) fn lookups_until(&self, deadline: Instant) -> Lookups<'_> {
        self.lookups_while(deadline, CancellationToken::new())
    }

    /// The same, until `hurry` is cancelled: what is not known [`LAST_WORDS`] later is a failure that may pass.
    pub(super) fn lookups_while(&self, deadline: Instant, hurry: CancellationToken) -> Lookups<'_> {
        let (hurried_at, used, memo) = Default::default();
        Lookups { dns: self, deadline, hurry, hurried_at, used, memo }
    }

    async fn ask(
        &self,
        question: Question,
        name: Name,
        deadline: Instant,
        may_ask_again: impl Fn() -> bool,
    ) -> Answer {
        let now = Instant::now();
        if now >= deadline {
            return Told::FAILED.answer;
        }
        let deadline = deadline.min(now + self.timeout);
        let asking = self.ask_twice(name, question.record_type, may_ask_again);
        let asked = tokio::time::timeout_at(deadline, asking).await;
        let Told { answer, seconds } = asked.unwrap_or(Told::FAILED);
        self.known.keep(question, &answer, seconds, std::time::Instant::now());
        answer
    }

    /// The second question goes out when the first has failed, or has had its part of the time; and if the message may
    /// still ask one.
    async fn ask_twice(&self, name: Name, record_type: RecordType, may_ask_again: impl Fn() -> bool) -> Told {
        let mut first = pin!(ask_once(&self.first, name.clone(), record_type));
        let early = tokio::time::timeout(self.timeout / ASKED_AGAIN_AFTER, first.as_mut()).await;
        let second = ask_once(&self.second, name, record_type);
        match early {
            Ok(told) if told.may_pass() && may_ask_again() => second.await,
            Ok(told) => told,
            Err(_) if !may_ask_again() => first.await,
            Err(_) => {
                let mut second = pin!(second);
                tokio::select! {
                    told = first.as_mut() => if told.may_pass() { second.await } else { told },
                    told = second.as_mut() => if told.may_pass() { first.await } else { told },
                }
            }
        }
    }
}

fn resolver(config: &config::Dns, cache_answers: u64) -> Result<Resolver<AskOnce>, NetError> {
    let mut builder = if config.servers.is_empty() {
        Resolver::builder(AskOnce::default())?
    } else {
        let servers = config.servers.iter().map(|server| {
            let (mut udp, mut tcp) = (ConnectionConfig::udp(), ConnectionConfig::tcp());
            (udp.port, tcp.port) = (server.port(), server.port());
            NameServerConfig::new(server.ip(), true, vec![udp, tcp])
        });
        let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
        Resolver::builder_with_config(config, AskOnce::default())
    };
    let options = builder.options_mut();
    // One try; the second is ours (see `ask`).
    options.attempts = 0;
    options.timeout = config.timeout;
    options.cache_size = cache_answers;
    options.negative_max_ttl = Some(Duration::from_secs(u64::from(MAX_NEGATIVE_SECONDS)));
    options.max_active_requests = IN_FLIGHT_PER_CONNECTION;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

async fn ask_once(resolver: &Resolver<AskOnce>, name: Name, record_type: RecordType) -> Told {
    // Boxed: a message asks ten names side by side, and its future would hold the library's several times for each.
    match Box::pin(resolver.lookup(name, record_type)).await {
        Ok(lookup) => {
            let seconds = lookup.answers().iter().map(|record| record.ttl).min().unwrap_or(0);
            Told { answer: Ok(Arc::new(lookup)), seconds }
        }
        Err(NetError::Dns(DnsError::NoRecordsFound(none))) => match failure(none.response_code) {
            Failure::Temporary => Told::FAILED,
            failure @ (Failure::NoDomain | Failure::NoRecord | Failure::OverBudget) => Told {
                answer: Err(failure),
                seconds: none.negative_ttl.unwrap_or(0).min(MAX_NEGATIVE_SECONDS),
            },
        },
        Err(_) => Told::FAILED,
    }
}

/// What the resolver says, and for how long it holds.
struct Told {
    answer: Answer,
    seconds: u32,
}

impl Told {
    const FAILED: Self = Self { answer: Err(Failure::Temporary), seconds: 0 };

    const fn may_pass(&self) -> bool {
        matches!(self.answer, Err(Failure::Temporary))
    }
}

pub(super) type Answer = Result<Arc<Lookup>, Failure>;
type Memo = HashMap<Question, Arc<OnceCell<Answer>>>;

/// What one message may still ask, and what it has been told.
pub(super) struct Lookups<'a> {
    dns: &'a Dns,
    deadline: Instant,
    hurry: CancellationToken,
    hurried_at: OnceLock<Instant>,
    used: AtomicUsize,
    memo: Mutex<Memo>,
}

impl Lookups<'_> {
    /// TXT records, the strings of each joined without anything between them.
    pub(super) async fn txt(&self, name: &str, purpose: Purpose) -> Result<Vec<Vec<u8>>, Failure> {
        let texts = |data: &RData| {
            if let RData::TXT(txt) = data { Some(txt.txt_data.concat()) } else { None }
        };
        self.records(name, RecordType::TXT, purpose, texts).await
    }

    /// A records.
    pub(super) async fn ipv4(&self, name: &str) -> Result<Vec<Ipv4Addr>, Failure> {
        let address = |data: &RData| if let RData::A(a) = data { Some(a.0) } else { None };
        self.records(name, RecordType::A, Purpose::Other, address).await
    }

    /// A records, or AAAA, as `like` is IPv4 or IPv6.
    pub(super) async fn addresses_like(&self, like: IpAddr, name: &str) -> Result<Vec<IpAddr>, Failure> {
        if like.is_ipv4() {
            return Ok(self.ipv4(name).await?.into_iter().map(IpAddr::V4).collect());
        }
        let address = |data: &RData| -> Option<Ipv6Addr> {
            if let RData::AAAA(aaaa) = data { Some(aaaa.0) } else { None }
        };
        let found = self.records(name, RecordType::AAAA, Purpose::Other, address).await?;
        Ok(found.into_iter().map(IpAddr::V6).collect())
    }

    /// MX records: preference and host (empty for the root, RFC 7505), by preference.
    pub(super) async fn mx(&self, name: &str) -> Result<Vec<(u16, String)>, Failure> {
        let exchange = |data: &RData| {
            if let RData::MX(mx) = data { Some((mx.preference, text(&mx.exchange))) } else { None }
        };
        let mut found = self.records(name, RecordType::MX, Purpose::Other, exchange).await?;
        found.sort();
        Ok(found)
    }

    /// What the name is an alias of.
    pub(super) async fn alias(&self, name: &str) -> Result<String, Failure> {
        let target = |data: &RData| if let RData::CNAME(alias) = data { Some(text(&alias.0)) } else { None };
        let found = self.records(name, RecordType::CNAME, Purpose::Other, target).await?;
        found.into_iter().next().ok_or(Failure::NoRecord)
    }

    /// The names that the reverse zone gives an address, as published: not confirmed.
    pub(super) async fn ptr(&self, ip: IpAddr) -> Result<Vec<String>, Failure> {
        let name = |data: &RData| if let RData::PTR(ptr) = data { Some(text(&ptr.0)) } else { None };
        self.records(&text(&Name::from(ip)), RecordType::PTR, Purpose::Other, name).await
    }

    /// Whether the name exists at all (RFC 9989 section 3.2: non-existent means NXDOMAIN).
    pub(super) async fn exists(&self, name: &str) -> Result<bool, Failure> {
        match self.answer(name, RecordType::A, Purpose::Dmarc).await {
            Ok(_) | Err(Failure::NoRecord) => Ok(true),
            Err(Failure::NoDomain) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// How many look-ups have been made.
    #[cfg(test)]
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    async fn records<T>(
        &self,
        name: &str,
        record_type: RecordType,
        purpose: Purpose,
        pick: impl Fn(&RData) -> Option<T>,
    ) -> Result<Vec<T>, Failure> {
        let lookup = self.answer(name, record_type, purpose).await?;
        let found: Vec<T> =
            lookup.answers().iter().filter_map(|record| pick(&record.data)).take(MAX_RECORDS).collect();
        if found.is_empty() { Err(Failure::NoRecord) } else { Ok(found) }
    }

    async fn answer(&self, name: &str, record_type: RecordType, purpose: Purpose) -> Answer {
        let question = Question::new(name, record_type);
        let cell = {
            let mut memo = self.memo.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(cell) = memo.get(&question) {
                cell.clone()
            } else {
                memo.entry(question.clone()).or_default().clone()
            }
        };
        if let Some(known) = cell.get() {
            return known.clone();
        }
        let budget = match purpose {
            Purpose::Dmarc => MAX_QUERIES,
            Purpose::Other => MAX_QUERIES - KEPT_FOR_DMARC,
        };
        // Not remembered: DMARC may still ask what the others no longer may.
        if !cell.initialized() && self.used.load(Ordering::Relaxed) >= budget {
            return Err(Failure::OverBudget);
        }
        if let Some(known) = self.dns.known.find(&question, std::time::Instant::now()) {
            let count = || async {
                self.used.fetch_add(1, Ordering::Relaxed);
                known
            };
            return cell.get_or_init(count).await.clone();
        }
        let name = dns_name(&question.name)?;
        let ask = || async {
            self.used.fetch_add(1, Ordering::Relaxed);
            let asking = self.dns.ask(question, name, self.deadline, || self.take_one_of(budget));
            tokio::select! {
                biased;
                told = asking => told,
                () = self.hurried() => Told::FAILED.answer,
            }
        };
        cell.get_or_init(ask).await.clone()
    }

    /// Ends [`LAST_WORDS`] after `hurry`, once for all questions of the message.
    async fn hurried(&self) {
        self.hurry.cancelled().await;
        tokio::time::sleep_until(*self.hurried_at.get_or_init(Instant::now) + LAST_WORDS).await;
    }

    /// Counts another question to the DNS, if there is room for it.
    fn take_one_of(&self, budget: usize) -> bool {
        let more = |used: usize| (used < budget).then_some(used + 1);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// What a question may still take whose message is to hurry: one that is asked only then has an answer, too, if there is
/// a quick one.
const LAST_WORDS: Duration = Duration::from_secs(1);

fn failure(code: ResponseCode) -> Failure {
    if code == ResponseCode::NXDomain {
        Failure::NoDomain
    } else if code == ResponseCode::NoError {
        Failure::NoRecord
    } else {
        Failure::Temporary
    }
}

/// A name from labels as they stand: no escapes, no search list. What is no name does not exist.
fn dns_name(name: &str) -> Result<Name, Failure> {
    let labels = name.strip_suffix('.').unwrap_or(name).split('.').map(str::as_bytes);
    let mut name = Name::from_labels(labels).map_err(|_| Failure::NoDomain)?;
    name.set_fqdn(true);
    Ok(name)
}

/// A name as text, lower case, without the final dot. Octets that no text has, and dots inside a label, become `?`.
fn text(name: &Name) -> String {
    let mut text = String::with_capacity(name.len());
    for label in name.iter() {
        if !text.is_empty() {
            text.push('.');
        }
        let is_plain = |b: u8| b.is_ascii_graphic() && b != b'.';
        text.extend(
            label.iter().map(|b| if is_plain(*b) { char::from(b.to_ascii_lowercase()) } else { '?' }),
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use hickory_resolver::proto::op::Message;
    use hickory_resolver::proto::rr::Record;
    use hickory_resolver::proto::rr::rdata::SOA;

    use super::*;
    use crate::zone::{Zone, ZoneServer};

    /// A resolver that answers every question with NXDOMAIN, so late, the first `lost` of them never.
    async fn slow_resolver(late: Duration, lost: usize, timeout: Duration) -> Dns {
        let socket = Arc::new(tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let dns = Dns::new(&config::Dns { servers: vec![socket.local_addr().unwrap()], timeout }).unwrap();
        tokio::spawn(async move {
            let (mut buffer, mut asked) = (vec![0; 4096], 0);
            while let Ok((read, client)) = socket.recv_from(&mut buffer).await {
                asked += 1;
                let mut answer = buffer[..read].to_vec();
                (answer[2], answer[3]) = (0x81, 0x83);
                let socket = Arc::clone(&socket);
                if asked > lost {
                    tokio::spawn(async move {
                        tokio::time::sleep(late).await;
                        socket.send_to(&answer, client).await
                    });
                }
            }
        });
        dns
    }

    #[tokio::test]
    async fn x6_an_answer_has_all_of_its_time_and_not_a_part_for_each_try() {
        let dns = slow_resolver(Duration::from_millis(1200), 0, Duration::from_secs(20)).await;
        let quick = Dns { timeout: Duration::from_millis(1800), ..dns };
        assert_eq!(
            quick.lookups().ipv4("a.test").await,
            Err(Failure::NoDomain),
            "two thirds of it are enough"
        );
    }

    #[tokio::test]
    async fn x6_a_lost_question_is_asked_again_while_there_is_time() {
        let dns = slow_resolver(Duration::ZERO, 1, Duration::from_secs(3)).await;
        assert_eq!(dns.lookups().ipv4("a.test").await, Err(Failure::NoDomain));
    }

    #[tokio::test]
    async fn x6_two_hundred_questions_at_once_are_none_too_many() {
        let dns = slow_resolver(Duration::from_millis(300), 0, Duration::from_secs(20)).await;
        let mut asking = tokio::task::JoinSet::new();
        for n in 0..200 {
            let dns = dns.clone();
            asking.spawn(async move { dns.lookups().ipv4(&format!("n{n}.test")).await });
        }
        let answers = asking.join_all().await;
        assert_eq!(answers.len(), 200);
        assert!(answers.iter().all(|answer| *answer == Err(Failure::NoDomain)), "{answers:?}");
    }

    /// A resolver of a zone that is empty, and says that for so long.
    async fn empty_resolver(seconds: u32) -> Dns {
        let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let servers = vec![socket.local_addr().unwrap()];
        let dns = Dns::new(&config::Dns { servers, timeout: Duration::from_secs(20) }).unwrap();
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((read, client)) = socket.recv_from(&mut buffer).await {
                let question = Message::from_vec(&buffer[..read]).unwrap();
                let mut answer = Message::error_msg(question.id, question.op_code, ResponseCode::NXDomain);
                answer.add_queries(question.queries);
                let soa = SOA::new(Name::root(), Name::root(), 1, 3600, 600, 86_400, seconds);
                answer.add_authority(Record::from_rdata(Name::root(), seconds, RData::SOA(soa)));
                socket.send_to(&answer.to_vec().unwrap(), client).await.unwrap();
            }
        });
        dns
    }

    #[tokio::test]
    async fn that_there_is_nothing_is_believed_for_three_hours_at_most() {
        for seconds in
            [MAX_NEGATIVE_SECONDS - 1, MAX_NEGATIVE_SECONDS, MAX_NEGATIVE_SECONDS + 1, u32::MAX >> 1]
        {
            let (dns, asked) = (empty_resolver(seconds).await, std::time::Instant::now());
            assert_eq!(dns.lookups().ipv4("a.test").await, Err(Failure::NoDomain));
            let question = Question::new("a.test", RecordType::A);
            let known_for = |seconds: u32| {
                dns.known.find(&question, asked + Duration::from_secs(u64::from(seconds))).is_some()
            };
            let expected = seconds.min(MAX_NEGATIVE_SECONDS);
            assert!(known_for(expected - 1), "{seconds}");
            // What the asking has taken comes on top.
            assert!(!known_for(expected + 600), "{seconds}");
        }
    }

    async fn start(zone: Zone) -> (ZoneServer, Dns) {
        let server = ZoneServer::start(zone).await.unwrap();
        let config = config::Dns { servers: vec![server.addr()], timeout: Duration::from_millis(1500) };
        let dns = Dns::new(&config).unwrap();
        (server, dns)
    }

    #[tokio::test]
    async fn failures_say_whether_they_may_pass() {
        let mut zone = Zone::parse("a.test. A 192.0.2.1\nb.c.test. A 192.0.2.1\n").unwrap();
        zone.servfail("broken.test").unwrap();
        zone.silent("silent.test").unwrap();
        let (_server, dns) = start(zone).await;
        let lookups = dns.lookups();
        assert_eq!(lookups.ipv4("a.test").await, Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]));
        for (name, expected) in [
            ("a.test", Failure::NoRecord),
            ("c.test", Failure::NoRecord),
            ("no.test", Failure::NoDomain),
            ("broken.test", Failure::Temporary),
            ("silent.test", Failure::Temporary),
            ("not..a.name", Failure::NoDomain),
        ] {
            assert_eq!(lookups.txt(name, Purpose::Other).await, Err(expected), "{name}");
        }
        assert_eq!(lookups.exists("c.test").await, Ok(true));
        assert_eq!(lookups.exists("no.test").await, Ok(false));
    }

    #[tokio::test]
    async fn m10_a_message_has_thirty_look_ups_of_which_the_last_are_for_dmarc() {
        let (server, dns) = start(Zone::default()).await;
        let lookups = dns.lookups();
        for n in 0..MAX_QUERIES - KEPT_FOR_DMARC {
            assert_eq!(lookups.ipv4(&format!("n{n}.test")).await, Err(Failure::NoDomain));
        }
        assert_eq!(lookups.ipv4("one-more.test").await, Err(Failure::OverBudget));
        for n in 0..KEPT_FOR_DMARC {
            assert_eq!(lookups.txt(&format!("d{n}.test"), Purpose::Dmarc).await, Err(Failure::NoDomain));
        }
        assert_eq!(lookups.txt("one-more.test", Purpose::Dmarc).await, Err(Failure::OverBudget));
        assert_eq!(lookups.ipv4("n0.test").await, Err(Failure::NoDomain), "what is known can be asked again");
        assert_eq!(lookups.used(), MAX_QUERIES);
        assert_eq!(server.query_count(), 30);
    }

    #[tokio::test]
    async fn m10_what_is_asked_again_counts_again_and_thirty_questions_are_all() {
        for is_silent in [true, false] {
            let mut zone = Zone::default();
            for n in 0..MAX_QUERIES {
                let name = format!("n{n}.test");
                if is_silent { zone.silent(&name).unwrap() } else { zone.servfail(&name).unwrap() }
            }
            let (server, dns) = start(zone).await;
            let lookups = dns.lookups();
            let names: Vec<String> = (0..MAX_QUERIES).map(|n| format!("n{n}.test")).collect();
            let (others, policies) = names.split_at(MAX_QUERIES - KEPT_FOR_DMARC);
            let others = others.iter().map(|name| lookups.txt(name, Purpose::Other));
            let policies = policies.iter().map(|name| lookups.txt(name, Purpose::Dmarc));
            let (others, policies) = tokio::join!(
                futures_util::future::join_all(others),
                futures_util::future::join_all(policies)
            );
            assert!(others.iter().chain(&policies).all(|told| *told == Err(Failure::Temporary)));
            assert_eq!((lookups.used(), server.query_count()), (MAX_QUERIES, 30), "{is_silent}");
        }
    }

    #[tokio::test]
    async fn m10_a_question_that_fails_is_asked_twice_and_counts_for_two() {
        let mut zone = Zone::default();
        zone.servfail("broken.test").unwrap();
        let (server, dns) = start(zone).await;
        let lookups = dns.lookups();
        assert_eq!(lookups.txt("broken.test", Purpose::Other).await, Err(Failure::Temporary));
        assert_eq!((lookups.used(), server.query_count()), (2, 2));
    }

    #[tokio::test]
    async fn m10_who_has_no_time_left_is_told_nothing() {
        let (_server, dns) = start(Zone::parse("a.test. A 192.0.2.1\n").unwrap()).await;
        assert_eq!(dns.lookups_until(Instant::now()).ipv4("a.test").await, Err(Failure::Temporary));
    }

    #[tokio::test]
    async fn x6_who_is_told_to_hurry_waits_for_no_answer_and_has_those_that_came() {
        let hour = Duration::from_secs(60 * 60);
        let mut zone = Zone::parse("a.test. A 192.0.2.1\n").unwrap();
        zone.silent("silent.test").unwrap();
        zone.silent("also.silent.test").unwrap();
        let server = ZoneServer::start(zone).await.unwrap();
        let dns = Dns::new(&config::Dns { servers: vec![server.addr()], timeout: hour }).unwrap();
        let hurry = CancellationToken::new();
        let lookups = dns.lookups_while(Instant::now() + hour, hurry.clone());
        assert_eq!(lookups.ipv4("a.test").await, Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]));
        let told = async {
            while server.query_count() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            hurry.cancel();
        };
        let both = async { tokio::join!(lookups.ipv4("silent.test"), told).0 };
        let answer = tokio::time::timeout(Duration::from_secs(300), both).await.expect("not an hour");
        assert_eq!(answer, Err(Failure::Temporary));
        assert_eq!(
            lookups.ipv4("also.silent.test").await,
            Err(Failure::Temporary),
            "the time is over for all"
        );
        assert_eq!(lookups.ipv4("a.test").await, Ok(vec![Ipv4Addr::new(192, 0, 2, 1)]));
        assert_eq!(dns.lookups().ipv4("b.test").await, Err(Failure::NoDomain), "another message asks");
    }

    #[tokio::test]
    async fn answers_are_cached_negative_ones_too_and_a_message_asks_once() {
        let (server, dns) = start(Zone::parse("a.test. A 192.0.2.1\n").unwrap()).await;
        for _ in 0..3 {
            let lookups = dns.lookups();
            let (one, two) = tokio::join!(lookups.ipv4("a.test"), lookups.ipv4("A.test"));
            assert_eq!(one, two);
            assert_eq!(lookups.ipv4("no.test").await, Err(Failure::NoDomain));
            assert_eq!(lookups.used(), 2);
        }
        assert_eq!(server.query_count(), 2);
    }

    #[tokio::test]
    async fn h4_a_name_that_never_answers_costs_no_more_than_the_timeout() {
        let mut zone = Zone::default();
        zone.silent("silent.test").unwrap();
        let (_server, dns) = start(zone).await;
        let began = Instant::now();
        assert_eq!(dns.lookups().ipv4("silent.test").await, Err(Failure::Temporary));
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
