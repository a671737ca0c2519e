//! A small authoritative DNS server on loopback, for the demo, `inspect --zone` and tests.
//!
//! Promises that a name without records is answered NXDOMAIN (NODATA where other types, or names below it, exist)
//! with an SOA for negative caching, on UDP and TCP alike, and that nothing listens once the server is dropped.
//! No zone cuts, wildcards, transfers or DNSSEC: a [`Zone`] is a flat set of records in any domain.

mod server;

use std::collections::BTreeMap;
use std::ops::Bound;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{MX, SOA, TXT};
use hickory_proto::rr::{LowerName, Name, RData, Record, RecordType};
use hickory_proto::serialize::txt::Parser;

pub use server::ZoneServer;

/// A set of records, and of names that misbehave on purpose.
#[derive(Clone, Debug, Default)]
pub struct Zone {
    names: BTreeMap<LowerName, Vec<Record>>,
    failing: BTreeMap<LowerName, Failure>,
}

/// How a name misbehaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Failure {
    ServFail,
    Silent,
}

/// Why a text is no zone.
#[derive(Debug, thiserror::Error)]
pub enum ZoneError {
    /// Not JSON of the form that [`Zone::parse`] describes.
    #[error("zone is no JSON object of names: {0}")]
    Json(#[from] serde_json::Error),
    /// Not a master file.
    #[error("zone is no master file: {0}")]
    MasterFile(String),
    /// One record that cannot be read.
    #[error("record of {name}: {why}")]
    Record {
        /// The name as written.
        name: String,
        /// What is wrong with it.
        why: String,
    },
}

impl Zone {
    /// Reads an RFC 1035 master file, whose records may lie in any domain (relative names are taken as absolute
    /// until an `$ORIGIN` comes; the TTL is 300 s until a `$TTL` comes; no `$INCLUDE`), or JSON:
    /// `{"name": {"TXT": ["…"], "MX": ["10 mail.x.test"], "A": "192.0.2.1", "rcode": "SERVFAIL"}}`, where
    /// `rcode` (and `rcode_by_type`) knows `SERVFAIL` and `TIMEOUT` and leaves other words alone.
    ///
    /// # Errors
    /// Names the record or the place that cannot be read.
    pub fn parse(text: &str) -> Result<Self, ZoneError> {
        if text.trim_start().starts_with('{') {
            Self::parse_json(text)
        } else {
            Self::parse_master_file(text)
        }
    }

    /// Adds one record, its value as in a master file; a TXT value is the plain text, cut into strings of 255
    /// octets. A relative name is taken as absolute.
    ///
    /// # Errors
    /// Says what is wrong with name, type or value.
    pub fn add(&mut self, name: &str, record_type: &str, value: &str) -> Result<(), ZoneError> {
        let wrong = |why: String| ZoneError::Record { name: name.to_owned(), why };
        let owner = absolute(name).map_err(&wrong)?;
        let record_type: RecordType =
            record_type.parse().map_err(|_| wrong(format!("`{record_type}` is no record type")))?;
        let data = match (record_type, value.split_once(' ')) {
            (RecordType::TXT, _) => RData::TXT(TXT::from_bytes(text_strings(value))),
            (RecordType::MX, Some((preference, host))) => {
                let preference = preference.parse().map_err(|_| wrong(format!("`{value}` is no MX")))?;
                RData::MX(MX::new(preference, absolute(host.trim()).map_err(&wrong)?))
            }
            _ => RData::try_from_str(record_type, value)
                .map_err(|error| wrong(format!("`{value}`: {error}")))?,
        };
        self.insert(Record::from_rdata(owner, TTL_SECONDS, data));
        Ok(())
    }

    /// From now on `name` answers SERVFAIL to every type of which it has no records.
    ///
    /// # Errors
    /// `name` is no domain name.
    pub fn servfail(&mut self, name: &str) -> Result<(), ZoneError> {
        self.fail(name, Failure::ServFail)
    }

    /// From now on `name` never answers to any type of which it has no records.
    ///
    /// # Errors
    /// `name` is no domain name.
    pub fn silent(&mut self, name: &str) -> Result<(), ZoneError> {
        self.fail(name, Failure::Silent)
    }

    fn fail(&mut self, name: &str, failure: Failure) -> Result<(), ZoneError> {
        let owner = absolute(name).map_err(|why| ZoneError::Record { name: name.to_owned(), why })?;
        self.failing.insert(LowerName::from(owner), failure);
        Ok(())
    }

    fn insert(&mut self, record: Record) {
        self.names.entry(LowerName::new(&record.name)).or_default().push(record);
    }

    fn parse_master_file(text: &str) -> Result<Self, ZoneError> {
        let text = format!("$TTL {TTL_SECONDS}\n{}\n", one_record_a_line(text));
        if text.lines().any(|line| line.trim_start().to_ascii_uppercase().starts_with("$INCLUDE")) {
            return Err(ZoneError::MasterFile("$INCLUDE is not taken".to_owned()));
        }
        let (_, sets) = Parser::new(text, None, Some(Name::root()))
            .parse()
            .map_err(|error| ZoneError::MasterFile(error.to_string()))?;
        let mut zone = Self::default();
        for record in sets.values().flat_map(|set| set.records_without_rrsigs()) {
            zone.insert(record.clone());
        }
        Ok(zone)
    }

    fn parse_json(text: &str) -> Result<Self, ZoneError> {
        let names: BTreeMap<String, BTreeMap<String, JsonValue>> = serde_json::from_str(text)?;
        let mut zone = Self::default();
        for (name, types) in &names {
            for (record_type, value) in types {
                match (record_type.as_str(), value) {
                    ("rcode", JsonValue::One(word)) => zone.fail_as(name, word)?,
                    ("rcode_by_type", JsonValue::ByType(words)) => {
                        for word in words.values() {
                            zone.fail_as(name, word)?;
                        }
                    }
                    (_, JsonValue::One(value)) => zone.add(name, record_type, value)?,
                    (_, JsonValue::Many(values)) => {
                        for value in values {
                            zone.add(name, record_type, value)?;
                        }
                    }
                    (_, JsonValue::ByType(_)) => {
                        let why = format!("`{record_type}` takes text or a list of texts");
                        return Err(ZoneError::Record { name: name.clone(), why });
                    }
                }
            }
        }
        Ok(zone)
    }

    fn fail_as(&mut self, name: &str, word: &str) -> Result<(), ZoneError> {
        match word {
            "SERVFAIL" => self.servfail(name),
            "TIMEOUT" => self.silent(name),
            _ => Ok(()),
        }
    }

    /// The answer to one query; none where the name is silent.
    fn answer(&self, request: &Message) -> Option<Message> {
        let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
        answer.metadata.recursion_desired = request.metadata.recursion_desired;
        answer.metadata.recursion_available = true;
        answer.metadata.authoritative = true;
        let Some(query) = request.queries.first() else {
            answer.metadata.response_code = ResponseCode::FormErr;
            return Some(answer);
        };
        answer.add_query(query.clone());
        let mut name = LowerName::new(query.name());
        for _ in 0..=MAX_ALIASES {
            let records = self.names.get(&name).map(Vec::as_slice).unwrap_or_default();
            let mut matching = records.iter().filter(|r| r.record_type() == query.query_type()).peekable();
            if matching.peek().is_some() {
                answer.add_answers(matching.cloned());
                return Some(answer);
            }
            let alias = records.iter().find_map(|record| {
                if let RData::CNAME(target) = &record.data { Some((record, &target.0)) } else { None }
            });
            let Some((record, target)) = alias else { break };
            answer.add_answer(record.clone());
            let mut target = target.clone();
            target.set_fqdn(true);
            name = LowerName::from(target);
        }
        match self.failing.get(&name) {
            Some(Failure::Silent) => return None,
            Some(Failure::ServFail) => answer.metadata.response_code = ResponseCode::ServFail,
            None => {
                if !self.exists(&name) {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                answer.add_authority(negative_soa());
            }
        }
        Some(answer)
    }

    /// RFC 8020: a name exists if it or any name below it has records.
    fn exists(&self, name: &LowerName) -> bool {
        let from_here = (Bound::Included(name.clone()), Bound::Unbounded);
        self.names.range(from_here).next().is_some_and(|(next, _)| name.zone_of(next))
    }
}

/// One TTL for everything: long enough to be cached in a test, short enough for a demo.
const TTL_SECONDS: u32 = 300;
const MAX_ALIASES: usize = 8;

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum JsonValue {
    One(String),
    Many(Vec<String>),
    ByType(BTreeMap<String, String>),
}

fn absolute(name: &str) -> Result<Name, String> {
    let parsed = if name.is_ascii() { Name::from_ascii(name) } else { Name::from_utf8(name) };
    // What is no host name, such as one with a space, is taken as labels of any octets.
    let labels = || name.strip_suffix('.').unwrap_or(name).split('.').map(str::as_bytes);
    let mut parsed = parsed.or_else(|_| Name::from_labels(labels())).map_err(|error| error.to_string())?;
    parsed.set_fqdn(true);
    Ok(parsed)
}

fn text_strings(value: &str) -> Vec<&[u8]> {
    if value.is_empty() { vec![b"".as_slice()] } else { value.as_bytes().chunks(255).collect() }
}

/// The file without parentheses and comments: the parser takes a quoted string inside parentheses apart.
fn one_record_a_line(text: &str) -> String {
    let mut flat = String::with_capacity(text.len());
    let (mut depth, mut is_quoted, mut chars) = (0_usize, false, text.chars());
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                flat.push(c);
                flat.extend(chars.next());
            }
            '"' => {
                is_quoted = !is_quoted;
                flat.push(c);
            }
            _ if is_quoted => flat.push(c),
            '(' => {
                depth += 1;
                flat.push(' ');
            }
            ')' => {
                depth = depth.saturating_sub(1);
                flat.push(' ');
            }
            ';' => {
                if chars.by_ref().any(|c| c == '\n') {
                    flat.push(if depth == 0 { '\n' } else { ' ' });
                }
            }
            '\n' if depth > 0 => flat.push(' '),
            _ => flat.push(c),
        }
    }
    flat
}

/// The root's: it encloses every name, so that no resolver can find it out of place.
fn negative_soa() -> Record {
    let soa = SOA::new(Name::root(), Name::root(), 1, 3600, 600, 86_400, TTL_SECONDS);
    Record::from_rdata(Name::root(), TTL_SECONDS, RData::SOA(soa))
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::*;

    const MASTER_FILE: &str = r#"
; records of several domains
$TTL 60
patient.test.              IN A   192.0.2.7
patient.test.                 TXT "v=spf1 ip4:192.0.2.7 -all"
k._domainkey.patient.test.    TXT ( "v=DKIM1; p=abc" ; in two strings
                                    "def" )
$ORIGIN other.test.
@    MX 10 mail
mail A  192.0.2.8
www  CNAME mail
"#;

    pub(super) fn ask(name: &str, record_type: RecordType) -> Message {
        let mut request = Message::query();
        request.add_query(Query::query(absolute(name).unwrap(), record_type));
        request
    }

    #[track_caller]
    fn check(zone: &Zone, name: &str, record_type: RecordType, code: ResponseCode, answers: &[&str]) {
        let answer = zone.answer(&ask(name, record_type)).unwrap();
        assert_eq!(answer.metadata.response_code, code, "{name}");
        let shown: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        assert_eq!(shown, answers, "{name}");
        assert_eq!(
            answer.authorities.len(),
            usize::from(answers.is_empty() && code != ResponseCode::ServFail)
        );
    }

    #[test]
    fn a_master_file_may_hold_records_of_any_domain() {
        let zone = Zone::parse(MASTER_FILE).unwrap();
        let ok = ResponseCode::NoError;
        check(&zone, "PATIENT.test", RecordType::A, ok, &["192.0.2.7"]);
        check(&zone, "k._domainkey.patient.test", RecordType::TXT, ok, &["v=DKIM1; p=abcdef"]);
        check(&zone, "other.test", RecordType::MX, ok, &["10 mail.other.test."]);
        check(&zone, "www.other.test", RecordType::A, ok, &["mail.other.test.", "192.0.2.8"]);
        check(&zone, "_domainkey.patient.test", RecordType::TXT, ok, &[]);
        check(&zone, "patient.test", RecordType::MX, ok, &[]);
        check(&zone, "nobody.test", RecordType::A, ResponseCode::NXDomain, &[]);
    }

    #[test]
    fn json_is_read_and_names_can_be_made_to_fail() {
        let text = r#"{"a.test": {"TXT": ["one", "two"], "A": "192.0.2.1"}, "b.test": {"rcode": "SERVFAIL"},
                       "c.test": {"rcode_by_type": {"TXT": "TIMEOUT"}, "A": ["192.0.2.2"]}}"#;
        let zone = Zone::parse(text).unwrap();
        check(&zone, "a.test", RecordType::TXT, ResponseCode::NoError, &["one", "two"]);
        check(&zone, "b.test", RecordType::TXT, ResponseCode::ServFail, &[]);
        check(&zone, "c.test", RecordType::A, ResponseCode::NoError, &["192.0.2.2"]);
        assert!(zone.answer(&ask("c.test", RecordType::TXT)).is_none());
    }

    #[test]
    fn what_is_no_zone_is_refused_with_its_place() {
        for text in ["{\"a.test\": 3}", "{\"a.test\": {\"A\": \"x\"}}", "a.test. A", "$INCLUDE /etc/passwd\n"]
        {
            assert!(Zone::parse(text).is_err(), "{text}");
        }
    }
}
