//! Answers that are known already, by the name as text, in front of the resolver's own cache, which copies a whole
//! message to give one.
//!
//! Promises that no answer is given when its time is over, that a failure which may pass is not kept at all, and that it
//! holds at most [`MAX_ANSWERS`] of at most [`MAX_OCTETS`] each.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::lookup::Lookup;
use hickory_resolver::proto::rr::{RData, RecordType};

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
    halves: Mutex<[HashMap<Question, Known>; 2]>,
}

#[derive(Clone, Debug)]
struct Known {
    answer: Answer,
    until: Instant,
}

impl Answers {
    pub(super) fn find(&self, question: &Question, now: Instant) -> Option<Answer> {
        let halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let known = halves.iter().find_map(|half| half.get(question))?;
        (now < known.until).then(|| known.answer.clone())
    }

    /// Keeps an answer that holds for so long.
    pub(super) fn keep(&self, question: Question, answer: &Answer, for_seconds: u32, now: Instant) {
        // The resolver counts whole seconds: the one that has begun is over.
        let until = now + Duration::from_secs(u64::from(for_seconds.saturating_sub(1)));
        if until <= now || !is_small(answer) {
            return;
        }
        let mut halves = self.halves.lock().unwrap_or_else(PoisonError::into_inner);
        let [young, old] = &mut *halves;
        if young.len() >= MAX_ANSWERS / 2 {
            *old = std::mem::take(young);
        }
        young.insert(question, Known { answer: answer.clone(), until });
    }
}

fn is_small(answer: &Answer) -> bool {
    let octets = |lookup: &Lookup| {
        let texts = lookup
            .answers()
            .iter()
            .filter_map(|record| if let RData::TXT(txt) = &record.data { Some(&txt.txt_data) } else { None });
        let texts: usize = texts.flatten().map(|text| text.len()).sum();
        let records = lookup.answers().len() + lookup.authorities().len() + lookup.additionals().len();
        texts + records * OCTETS_A_RECORD
    };
    answer.as_ref().map_or(true, |lookup| octets(lookup) <= MAX_OCTETS)
}

const MAX_ANSWERS: usize = 4096;
const MAX_OCTETS: usize = 8192;
/// Two names at most, and what stands around them.
const OCTETS_A_RECORD: usize = 512;

#[cfg(test)]
mod tests {
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
        for n in 0..3 * MAX_ANSWERS {
            answers.keep(question(n), &Err(Failure::NoDomain), 60, now);
            assert!(answers.find(&question(n), now).is_some());
        }
        let halves = answers.halves.lock().unwrap();
        assert!(halves.iter().map(HashMap::len).sum::<usize>() <= MAX_ANSWERS);
    }
}
