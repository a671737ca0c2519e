//! Answers that are known already, by the name as text, in front of the resolver's own cache, which copies a whole
//! message to give one.
//!
//! Promises that no answer is given when its time is over, that a failure which may pass is not kept at all, and that
//! it holds at most [`MAX_ANSWERS`] of at most [`MAX_OCTETS`] each, and at most [`MAX_OCTETS_OF_ALL`].

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::proto::rr::{RData, Record, RecordType};

use super::dns::Answer;

/// A name, lower case, without the final dot, and what is asked about it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Question {
    pub(super) name: Box<str>,
    pub(super) record_type: RecordType,
}

impl Question {
    pub(super) fn new(name: &str, record_type: RecordType) -> Self {
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase().into();
        Self { name, record_type }
    }
}

/// When the younger half is full, the older half goes.
#[derive(Debug, Default)]
pub(super) struct Answers {
    halves: Mutex<[Half; 2]>,
}

#[derive(Debug, Default)]
struct Half {
    known: HashMap<Question, Known>,
    /// Of all that was put in.
    octets: usize,
}

#[derive(Clone, Debug)]
struct Known {
    answer: Answer,
    until: Instant,
}

impl Answers {
    pub(super) fn find(&self, question: &Question, now: Instant) -> Option<Answer> {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let known = halves.iter().find_map(|half| half.known.get(question))?;
        (now < known.until).then(|| known.answer.clone())
    }

    /// Keeps an answer that holds for so long.
    pub(super) fn keep(&self, question: Question, answer: &Answer, for_seconds: u32, now: Instant) {
        // The resolver counts whole seconds: the one that has begun is over.
        let until = now + Duration::from_secs(u64::from(for_seconds.saturating_sub(1)));
        let octets = octets_of(answer);
        if until <= now || octets > MAX_OCTETS {
            return;
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *halves;
        if young.known.len() >= MAX_ANSWERS / 2 || young.octets + octets > MAX_OCTETS_OF_ALL / 2 {
            *old = std::mem::take(young);
        }
        young.octets += octets;
        young.known.insert(question, Known { answer: answer.clone(), until });
    }
}

/// What an answer takes in memory, or more.
fn octets_of(answer: &Answer) -> usize {
    let Ok(lookup) = answer else { return OCTETS_A_RECORD };
    let sections = [lookup.answers(), lookup.authorities(), lookup.additionals()];
    let records: usize = sections.into_iter().flatten().map(octets_of_record).fold(0, usize::saturating_add);
    records.saturating_add(OCTETS_A_RECORD)
}

fn octets_of_record(record: &Record) -> usize {
    let is_plain = matches!(
        &record.data,
        RData::A(_)
            | RData::AAAA(_)
            | RData::CNAME(_)
            | RData::MX(_)
            | RData::NS(_)
            | RData::PTR(_)
            | RData::SOA(_)
    );
    let more = if let RData::TXT(txt) = &record.data {
        txt.txt_data.iter().map(|text| text.len() + OCTETS_A_STRING).sum()
    } else if is_plain {
        0
    } else {
        // Nothing that is asked here; what it takes, its length does not tell.
        MAX_OCTETS
    };
    more + OCTETS_A_RECORD
}

const MAX_ANSWERS: usize = 32_768;
/// Of one answer.
const MAX_OCTETS: usize = 8192;
const MAX_OCTETS_OF_ALL: usize = 32 * 1024 * 1024;
/// Three names at most, and what stands around them.
const OCTETS_A_RECORD: usize = 512;
/// What holds a string of a TXT record, empty or not: a pointer, and what an allocation takes beyond what is asked.
const OCTETS_A_STRING: usize = 32;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::sync::Arc;

    use hickory_resolver::lookup::Lookup;
    use hickory_resolver::proto::op::Query;
    use hickory_resolver::proto::rr::Name;
    use hickory_resolver::proto::rr::rdata::{NULL, TXT};

    use super::*;
    use crate::auth::dns::Failure;

    fn question(n: usize) -> Question {
        Question::new(&format!("N{n}.Test."), RecordType::A)
    }

    #[test]
    fn an_answer_is_given_until_its_time_is_over_and_only_to_its_question() {
        let (answers, now) = (Answers::default(), Instant::now());
        answers.keep(question(1), &Err(Failure::NoRecord), 3, now);
        let asked = Question::new("n1.test", RecordType::A);
        assert_eq!(answers.find(&asked, now), Some(Err(Failure::NoRecord)));
        assert!(answers.find(&asked, now + Duration::from_millis(1999)).is_some());
        assert!(answers.find(&asked, now + Duration::from_secs(2)).is_none());
        assert!(answers.find(&Question::new("n1.test", RecordType::TXT), now).is_none());
        for short in [0, 1] {
            answers.keep(question(2), &Err(Failure::NoDomain), short, now);
            assert!(answers.find(&question(2), now).is_none(), "{short} s");
        }
    }

    #[test]
    fn it_stays_within_its_bounds() {
        let (answers, now) = (Answers::default(), Instant::now());
        let sizes = || {
            let halves = answers.halves.lock().unwrap();
            let octets =
                halves.iter().flat_map(|half| half.known.values()).map(|known| octets_of(&known.answer));
            (halves.iter().map(|half| half.known.len()).sum::<usize>(), octets.sum::<usize>())
        };
        for n in 0..2 * MAX_ANSWERS {
            answers.keep(question(n), &Err(Failure::NoDomain), 60, now);
            assert!(answers.find(&question(n), now).is_some());
        }
        assert_eq!(sizes().0, MAX_ANSWERS);
        let largest = txt(&[MAX_OCTETS - 2 * OCTETS_A_RECORD - OCTETS_A_STRING]);
        for n in 0..2 * MAX_OCTETS_OF_ALL / MAX_OCTETS {
            answers.keep(question(n), &largest, 60, now);
        }
        assert_eq!(sizes(), (MAX_OCTETS_OF_ALL / MAX_OCTETS, MAX_OCTETS_OF_ALL));
    }

    /// An answer of one TXT record, of strings of such lengths.
    fn txt(lengths: &[usize]) -> Answer {
        let strings = lengths.iter().map(|length| vec![b'a'; *length].into()).collect::<Vec<Box<[u8]>>>();
        let mut txt = TXT::new(Vec::new());
        txt.txt_data = strings.into();
        of([RData::TXT(txt)])
    }

    fn of(data: impl IntoIterator<Item = RData>) -> Answer {
        let name = Name::from_ascii("a.test.").unwrap();
        let records = data.into_iter().map(|data| Record::from_rdata(name.clone(), 60, data));
        let query = Query::query(name.clone(), RecordType::TXT);
        Ok(Arc::new(Lookup::new_with_max_ttl(query, records.collect::<Vec<_>>())))
    }

    #[test]
    fn an_answer_is_kept_up_to_its_limit_whatever_it_is_made_of() {
        let (answers, now) = (Answers::default(), Instant::now());
        let left = MAX_OCTETS - 2 * OCTETS_A_RECORD;
        let empty = left / OCTETS_A_STRING;
        let a = RData::A(Ipv4Addr::LOCALHOST.into());
        let many = MAX_OCTETS / OCTETS_A_RECORD - 1;
        let null = RData::NULL(NULL::with(vec![0; 1]));
        for (n, (answer, is_kept)) in [
            (txt(&[left - OCTETS_A_STRING]), true),
            (txt(&[left - OCTETS_A_STRING + 1]), false),
            (txt(&vec![0; empty]), true),
            (txt(&vec![0; empty + 1]), false),
            (of(vec![a.clone(); many]), true),
            (of(vec![a; many + 1]), false),
            (of([null]), false),
        ]
        .into_iter()
        .enumerate()
        {
            answers.keep(question(n), &answer, 60, now);
            assert_eq!(answers.find(&question(n), now).is_some(), is_kept, "{n}");
        }
    }
}
