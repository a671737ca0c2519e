//! DMARC's arithmetic (RFC 9989): records, the names of a tree walk, organisational domains, the policy that applies.
//!
//! Pure. Domains are normalised. Where nobody publishes DMARC, the public suffix list says which domains belong
//! together (R11 asks for alignment there, too).

use super::{DmarcPolicy, domain};

/// A DMARC record (RFC 9989 section 4.7), as far as a receiver without reports needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// `p=`
    pub policy: DmarcPolicy,
    /// `sp=`
    pub subdomain_policy: Option<DmarcPolicy>,
    /// `np=`
    pub nonexistent_policy: Option<DmarcPolicy>,
    /// `psd=`
    pub psd: Psd,
    /// `t=`
    pub enforcement: Enforcement,
    /// `adkim=`
    pub dkim_mode: Mode,
    /// `aspf=`
    pub spf_mode: Mode,
}

/// Whether the name is a public suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Psd {
    /// `psd=n`: an organisational domain.
    No,
    /// `psd=u` or nothing.
    Unknown,
    /// `psd=y`
    Yes,
}

/// How strictly identifiers must agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The same organisational domain.
    Relaxed,
    /// The same domain.
    Strict,
}

/// Whether the owner asks for the policy to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Enforcement {
    /// As published.
    Full,
    /// `t=y`: one step lower.
    Testing,
}

/// The records that a walk found, from the starting domain upwards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Walk {
    /// Where it began.
    pub start: String,
    /// Name and record.
    pub found: Vec<(String, Record)>,
    /// Whether every name of it was answered.
    pub state: WalkState,
}

/// How a walk ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WalkState {
    /// At its end.
    Complete,
    /// At a look-up that failed for now.
    Failed,
}

/// Queries of one walk (RFC 9989 section 4.10).
pub(super) const MAX_WALK: usize = 8;

impl Record {
    /// Reads the one record among the TXT records of a name; several, or none that counts, are none. Mistakes behind
    /// the version are passed over (section 4.7); a record without a usable `p=` says `none` if it asks for reports.
    pub(super) fn of(texts: &[Vec<u8>]) -> Option<Self> {
        let mut records = texts.iter().filter(|text| has_version(text));
        match (records.next(), records.next()) {
            (Some(one), None) => Self::parse(&String::from_utf8_lossy(one)),
            _ => None,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let tags: Vec<(&str, &str)> = text
            .split(';')
            .filter_map(|part| part.split_once('='))
            .map(|(name, value)| (name.trim(), value.trim()))
            .collect();
        let value = |name| tags.iter().find(|(known, _)| *known == name).map(|(_, value)| *value);
        let policy_of = |name| value(name).and_then(policy);
        let wants_reports = || value("rua").is_some_and(|uris| uris.split(',').any(|uri| uri.contains(':')));
        let mode = |name| match value(name) {
            Some("s" | "S") => Mode::Strict,
            Some(_) | None => Mode::Relaxed,
        };
        Some(Self {
            policy: policy_of("p").or_else(|| wants_reports().then_some(DmarcPolicy::None))?,
            subdomain_policy: policy_of("sp"),
            nonexistent_policy: policy_of("np"),
            psd: match value("psd") {
                Some("n" | "N") => Psd::No,
                Some("y" | "Y") => Psd::Yes,
                Some(_) | None => Psd::Unknown,
            },
            enforcement: match value("t") {
                Some("y" | "Y") => Enforcement::Testing,
                Some(_) | None => Enforcement::Full,
            },
            dkim_mode: mode("adkim"),
            spf_mode: mode("aspf"),
        })
    }
}

fn policy(word: &str) -> Option<DmarcPolicy> {
    [DmarcPolicy::None, DmarcPolicy::Quarantine, DmarcPolicy::Reject]
        .into_iter()
        .find(|policy| policy.as_str().eq_ignore_ascii_case(word))
}

/// The version tag stands first and is compared exactly (RFC 9989 section 4.7).
fn has_version(text: &[u8]) -> bool {
    let tag = text.split(|b| *b == b';').next().unwrap_or_default();
    let mut halves = tag.splitn(2, |b| *b == b'=').map(<[u8]>::trim_ascii);
    halves.next() == Some(b"v") && halves.next() == Some(b"DMARC1")
}

/// The names below `_dmarc.` that a walk asks for (RFC 9989 section 4.10): the domain, then, of at most seven labels,
/// each ancestor up to the top.
pub(super) fn walk_names(domain: &str) -> Vec<&str> {
    let mut names = vec![domain];
    let labels = domain.split('.').count();
    let mut rest = domain;
    for n in 1..labels {
        let Some(parent) = domain::parent(rest) else { break };
        rest = parent;
        if labels - n < MAX_WALK {
            names.push(rest);
        }
    }
    names
}

impl Walk {
    /// The organisational domain (RFC 9989 section 4.10.2).
    pub(super) fn organizational_domain(&self) -> &str {
        for (name, record) in &self.found {
            match record.psd {
                Psd::No => return name,
                Psd::Yes if *name != self.start => return self.child_of(name),
                Psd::Yes | Psd::Unknown => {}
            }
        }
        self.found.last().map_or(&self.start, |(name, _)| name)
    }

    /// The record that holds for the starting domain (section 4.10.1): its own, else that of its organisational
    /// domain, else that of the public suffix above.
    pub(super) fn record(&self) -> Option<(&str, &Record)> {
        let named = |wanted: &str| self.found.iter().find(|(name, _)| name == wanted);
        let own = named(&self.start);
        let of_suffix = || self.found.iter().find(|(_, record)| record.psd == Psd::Yes);
        let found = own.or_else(|| named(self.organizational_domain())).or_else(of_suffix);
        found.map(|(name, record)| (name.as_str(), record))
    }

    /// The ancestor-or-self of the starting domain that is one label below `suffix`.
    fn child_of(&self, suffix: &str) -> &str {
        let mut name = self.start.as_str();
        while let Some(parent) = domain::parent(name) {
            if parent == suffix {
                return name;
            }
            name = parent;
        }
        &self.start
    }
}

/// The policy that a record of `published_at` has for `from` (section 4.7). `from_exists` matters below
/// `published_at` only.
pub(super) fn applied_policy(
    record: &Record,
    published_at: &str,
    from: &str,
    from_exists: Existence,
) -> DmarcPolicy {
    let policy = if from == published_at {
        record.policy
    } else {
        let subdomain = record.subdomain_policy.unwrap_or(record.policy);
        match from_exists {
            Existence::DoesNotExist => record.nonexistent_policy.unwrap_or(subdomain),
            Existence::Exists => subdomain,
        }
    };
    match (record.enforcement, policy) {
        (Enforcement::Testing, DmarcPolicy::Reject) => DmarcPolicy::Quarantine,
        (Enforcement::Testing, DmarcPolicy::None | DmarcPolicy::Quarantine) => DmarcPolicy::None,
        (Enforcement::Full, policy) => policy,
    }
}

/// Whether the From domain has anything in the DNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existence {
    /// NXDOMAIN.
    DoesNotExist,
    /// Anything else.
    Exists,
}

/// The registrable domain by the public suffix list: the suffix and one label. None for a suffix itself.
#[must_use]
pub fn registrable_domain(domain: &str) -> Option<String> {
    let name = domain::normalised(domain)?;
    psl::domain_str(&name).map(str::to_owned)
}

/// Whether two normalised domains belong together where nobody publishes DMARC.
pub(super) fn are_related(one: &str, other: &str) -> bool {
    one == other || psl::domain_str(one).is_some_and(|domain| psl::domain_str(other) == Some(domain))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(text: &str) -> Option<Record> {
        Record::of(&[text.as_bytes().to_vec()])
    }

    fn walk(start: &str, found: &[(&str, &str)]) -> Walk {
        let found = found.iter().map(|(name, text)| ((*name).to_owned(), record(text).unwrap())).collect();
        Walk { start: start.to_owned(), found, state: WalkState::Complete }
    }

    #[test]
    fn e12_s14_a_name_of_13_labels_is_walked_in_8_queries() {
        let names = walk_names("a.b.c.d.e.f.g.h.i.j.k.l.test");
        assert_eq!(names.len(), MAX_WALK);
        assert_eq!(names[..3], ["a.b.c.d.e.f.g.h.i.j.k.l.test", "g.h.i.j.k.l.test", "h.i.j.k.l.test"]);
        assert_eq!(walk_names("a.example.test"), ["a.example.test", "example.test", "test"]);
        assert_eq!(walk_names("a.b.c.d.e.f.g.test").len(), MAX_WALK);
    }

    #[test]
    fn h10_several_records_at_a_name_are_none() {
        let (reject, none) = (b"v=DMARC1; p=reject".to_vec(), b"v=DMARC1; p=none".to_vec());
        assert_eq!(Record::of(&[reject.clone(), none]), None);
        assert!(Record::of(&[reject, b"v=spf1 -all".to_vec()]).is_some());
    }

    #[test]
    fn e12_mistakes_behind_the_version_do_not_void_a_record() {
        assert_eq!(
            record("v=DMARC1; p=reject; x; sp=odd; =; adkim=s").map(|r| r.dkim_mode),
            Some(Mode::Strict)
        );
        assert_eq!(record("v=DMARC1; rua=mailto:a@b.test").map(|r| r.policy), Some(DmarcPolicy::None));
        assert_eq!(record("v=DMARC1; p=odd; rua=mailto:a@b.test").map(|r| r.policy), Some(DmarcPolicy::None));
        for no_record in
            ["v=DMARC1", "v=DMARC1; p=odd", "v=DMARC10; p=none", "p=none; v=DMARC1", "v=dmarc1; p=none"]
        {
            assert_eq!(record(no_record), None, "{no_record}");
        }
    }

    #[test]
    fn e12_the_organisational_domain_is_found_by_the_walk() {
        let plain = walk(
            "a.b.example.test",
            &[("b.example.test", "v=DMARC1;p=none"), ("example.test", "v=DMARC1;p=reject")],
        );
        assert_eq!(plain.organizational_domain(), "example.test");
        assert_eq!(plain.record().map(|(name, _)| name), Some("example.test"));
        let own = walk("a.b.test", &[("b.test", "v=DMARC1;p=none;psd=n"), ("test", "v=DMARC1;p=none")]);
        assert_eq!(own.organizational_domain(), "b.test");
        let suffix = walk("a.b.bank.test", &[("bank.test", "v=DMARC1;p=reject;psd=y")]);
        assert_eq!(suffix.organizational_domain(), "b.bank.test");
        assert_eq!(suffix.record().map(|(name, _)| name), Some("bank.test"));
        assert_eq!(walk("a.test", &[]).organizational_domain(), "a.test");
        let at_suffix = walk("bank.test", &[("bank.test", "v=DMARC1;p=reject;psd=y")]);
        assert_eq!(at_suffix.organizational_domain(), "bank.test");
    }

    #[test]
    fn e12_subdomains_non_existent_ones_and_tests_have_their_policy() {
        use Existence::{DoesNotExist, Exists};
        let full = record("v=DMARC1; p=reject; sp=quarantine; np=none").unwrap();
        let at = |record: &Record, from, exists| applied_policy(record, "x.test", from, exists);
        assert_eq!(at(&full, "x.test", DoesNotExist), DmarcPolicy::Reject);
        assert_eq!(at(&full, "a.x.test", Exists), DmarcPolicy::Quarantine);
        assert_eq!(at(&full, "a.x.test", DoesNotExist), DmarcPolicy::None);
        let testing = record("v=DMARC1; p=reject; t=y").unwrap();
        assert_eq!(at(&testing, "x.test", Exists), DmarcPolicy::Quarantine);
        let testing = record("v=DMARC1; p=quarantine; t=y").unwrap();
        assert_eq!(at(&testing, "x.test", Exists), DmarcPolicy::None);
    }

    #[test]
    fn r11_domains_without_dmarc_are_related_by_their_registrable_domain() {
        assert!(are_related("mail.example.com", "example.com"));
        assert!(!are_related("a.co.uk", "b.co.uk"));
        assert!(!are_related("co.uk", "a.co.uk"));
        assert_eq!(registrable_domain("A.Example.CO.UK").as_deref(), Some("example.co.uk"));
    }
}
