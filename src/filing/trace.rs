//! The trace: which rule said what, in the order they spoke.

use std::borrow::Cow;

use crate::address::EmailAddress;
use crate::auth::{Alignment, Verdict};
use crate::message::Email;

/// One rule that spoke.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The number in RULES, such as `R20`; or the name of the part that spoke, such as `SMTP`.
    pub rule: &'static str,
    /// A sentence that a person understands without the code.
    pub said: Cow<'static, str>,
    /// Microseconds it took; zero for the rules, which are too fast to measure one by one.
    pub took_us: u64,
}

/// The steps of one decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    /// In order.
    pub steps: Vec<Step>,
}

impl Trace {
    /// Adds what a rule said.
    pub fn say(&mut self, rule: &'static str, said: impl Into<Cow<'static, str>>) {
        self.steps.push(Step { rule, said: said.into(), took_us: 0 });
    }

    /// R5: a discarded message leaves nobody's address or domain behind; each word that holds one is replaced.
    pub fn leave_out(&mut self, domains: &[String]) {
        for step in &mut self.steps {
            let said = without_names(&step.said, domains);
            if said != step.said {
                step.said = said.into();
            }
        }
    }
}

/// A sentence with each word that is an address or one of these domains replaced.
#[must_use]
pub fn without_names(said: &str, domains: &[String]) -> String {
    let is_domain = |word: &str| {
        let word = word.strip_suffix("'s").unwrap_or(word);
        domains.iter().any(|domain| !domain.is_empty() && word.eq_ignore_ascii_case(domain))
    };
    let words = said.split(' ').map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_alphanumeric());
        if word.contains('@') {
            Cow::Borrowed("(address)")
        } else if !bare.is_empty() && is_domain(bare) {
            Cow::Owned(word.replace(bare, "(domain)"))
        } else {
            Cow::Borrowed(word)
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

/// Every domain by which the writer of a message could be told: R5 keeps none of them.
#[must_use]
pub fn domains_of(verdict: &Verdict, email: &Email, reverse_path: Option<&EmailAddress>) -> Vec<String> {
    let aligned = |alignment: &Alignment| match alignment {
        Alignment::Aligned { domain, .. } => Some(domain.clone()),
        Alignment::NotAligned | Alignment::Unknown => None,
    };
    let people = email.from.address().into_iter().chain(reverse_path);
    let mut domains: Vec<String> = verdict.dkim.iter().map(|signature| signature.domain.clone()).collect();
    domains.extend(verdict.spf.domain.iter().chain(&verdict.spf_helo.domain).cloned());
    domains.extend(verdict.arc.last_sealer.iter().chain(&verdict.client_name).cloned());
    domains
        .extend(aligned(&verdict.alignment).into_iter().chain(verdict.original.as_ref().and_then(aligned)));
    domains.extend(people.map(|address| address.domain().to_lowercase()));
    domains.sort_unstable();
    domains.dedup();
    domains
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r05_addresses_and_domains_are_taken_out_of_what_was_said() {
        let mut trace = Trace::default();
        trace.say("AUTH", "SPF pass, DKIM pass Patient.test, DMARC pass");
        trace.say("R11", "DKIM passed for patient.test, aligned with the From domain");
        trace.say("R28", "(patient.test's signature) <ana@patient.test>, patient.test.");
        trace.leave_out(&["patient.test".to_owned()]);
        let said: Vec<&str> = trace.steps.iter().map(|step| step.said.as_ref()).collect();
        assert_eq!(said[0], "SPF pass, DKIM pass (domain), DMARC pass");
        assert_eq!(said[1], "DKIM passed for (domain), aligned with the From domain");
        assert_eq!(said[2], "((domain) signature) (address) (domain).");
    }
}
