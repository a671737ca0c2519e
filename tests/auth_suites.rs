//! The test suites of others, run through our verifier. Each test prints `suite cases score` and lists by id, with the
//! reason, where we answer otherwise; where `../shared` is absent it prints that it is skipped and passes.
#![expect(clippy::unwrap_used, clippy::panic, clippy::wildcard_enum_match_arm, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_yaml_ng::Value;
use syncmx::address::EmailAddress;
use syncmx::auth::{AuthResult, Authenticator, Subject, Verdict, registrable_domain};
use syncmx::config;
use syncmx::zone::{Zone, ZoneServer};

fn corpus(path: &str) -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/corpora/auth").join(path);
    if !folder.exists() {
        println!("skipped: {path} absent");
        return None;
    }
    Some(folder)
}

fn authenticator(server: &ZoneServer) -> Authenticator {
    let dns = config::Dns { servers: vec![server.addr()], timeout: Duration::from_millis(250) };
    Authenticator::new(&dns, "mx.example.test").unwrap()
}

/// Counts the cases of one suite; ids that differ must be listed, and ids that are listed must differ.
struct Score<'a> {
    suite: &'a str,
    deviations: &'a [(&'a str, &'a str)],
    cases: usize,
    agreed: usize,
    problems: Vec<String>,
}

impl<'a> Score<'a> {
    fn new(suite: &'a str, deviations: &'a [(&'a str, &'a str)]) -> Self {
        Self { suite, deviations, cases: 0, agreed: 0, problems: Vec::new() }
    }

    fn case(&mut self, id: &str, expected: &[&str], got: &str) {
        self.cases += 1;
        let is_listed = self.deviations.iter().any(|(listed, _)| *listed == id);
        let agrees = expected.contains(&got);
        self.agreed += usize::from(agrees);
        if agrees == is_listed {
            self.problems.push(format!("{id}: expected {expected:?}, got {got} (listed: {is_listed})"));
        }
    }

    fn finish(self) {
        println!("{} {} {}", self.suite, self.cases, self.agreed);
        for (id, reason) in self.deviations {
            println!("  {id}: {reason}");
        }
        assert!(self.problems.is_empty(), "{}", self.problems.join("\n"));
    }
}

#[derive(Deserialize)]
struct SpfSuite {
    tests: serde_yaml_ng::Mapping,
    zonedata: serde_yaml_ng::Mapping,
}

/// A suite's zone: SPF records are served as TXT where the name has no TXT of its own; `TIMEOUT` and `RCODE` fail all
/// types of which the name has nothing.
fn spf_zone(data: &serde_yaml_ng::Mapping) -> Zone {
    let mut zone = Zone::default();
    for (name, records) in data {
        let name = name.as_str().unwrap();
        let records: Vec<(String, Value)> = records.as_sequence().unwrap().iter().map(spf_record).collect();
        let has_txt = records.iter().any(|(kind, _)| kind == "TXT");
        for (kind, value) in &records {
            let value = match value {
                Value::Sequence(parts) if kind == "MX" => {
                    format!("{} {}", text(&parts[0]), dot(&text(&parts[1])))
                }
                Value::Sequence(parts) => parts.iter().map(text).collect(),
                other => text(other),
            };
            // Names and values that are no DNS data on purpose cannot be served; they do not exist then.
            let _ = match kind.as_str() {
                "TIMEOUT" => zone.servfail(name),
                "TXT" if value == "NONE" => Ok(()),
                "SPF" if has_txt => Ok(()),
                "SPF" => zone.add(name, "TXT", &value),
                "PTR" | "CNAME" => zone.add(name, kind, &dot(&value)),
                _ => zone.add(name, kind, &value),
            };
        }
    }
    zone
}

fn spf_record(record: &Value) -> (String, Value) {
    match record {
        Value::Mapping(one) => {
            let (kind, value) = one.iter().next().unwrap();
            (text(kind), value.clone())
        }
        other => (text(other), Value::Null),
    }
}

fn dot(name: &str) -> String {
    format!("{}.", name.strip_suffix('.').unwrap_or(name))
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => String::new(),
        other => panic!("{other:?}"),
    }
}

async fn spf_suite(file: &str, deviations: &[(&str, &str)]) {
    let Some(path) = corpus(file) else { return };
    let yaml = std::fs::read_to_string(path).unwrap();
    let mut score = Score::new(file, deviations);
    for document in serde_yaml_ng::Deserializer::from_str(&yaml) {
        let suite = SpfSuite::deserialize(document).unwrap();
        let server = ZoneServer::start(spf_zone(&suite.zonedata)).await.unwrap();
        let authenticator = authenticator(&server);
        for (id, test) in &suite.tests {
            let field = |name: &str| text(&test[name]);
            let expected: Vec<String> = match &test["result"] {
                Value::Sequence(allowed) => allowed.iter().map(text).collect(),
                one => vec![text(one)],
            };
            let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
            let ip = field("host").parse().unwrap();
            let got = authenticator.check_spf(ip, &field("helo"), &field("mailfrom")).await;
            score.case(id.as_str().unwrap(), &expected, got.result.as_str());
        }
    }
    score.finish();
}

#[tokio::test]
async fn e7_spf_rfc7208() {
    spf_suite("spf/rfc7208-tests.yml", &[]).await;
}

#[tokio::test]
async fn e7_spf_rfc4408() {
    spf_suite("spf/rfc4408-tests.yml", &[]).await;
}

#[derive(Deserialize)]
struct Case {
    id: String,
    file: String,
    client_ip: Option<String>,
    mail_from: Option<String>,
    helo: Option<String>,
    #[serde(default)]
    modern: String,
    expect: Expected,
}

#[derive(Deserialize)]
struct Expected {
    spf: Option<String>,
    dkim: Option<String>,
    dmarc: Option<String>,
}

struct Mails {
    folder: PathBuf,
    cases: Vec<Case>,
    authenticator: Authenticator,
    _server: ZoneServer,
}

impl Mails {
    async fn open(suite: &str) -> Option<Self> {
        let folder = corpus(suite)?;
        let lines = std::fs::read_to_string(folder.join("cases.jsonl")).unwrap();
        let cases = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let zone = Zone::parse(&std::fs::read_to_string(folder.join("dns.json")).unwrap()).unwrap();
        let server = ZoneServer::start(zone).await.unwrap();
        let authenticator = authenticator(&server);
        Some(Self { folder, cases, authenticator, _server: server })
    }

    async fn verdict(&self, case: &Case) -> Verdict {
        let raw = with_crlf(&std::fs::read(self.folder.join(&case.file)).unwrap());
        let from = from_address(&raw);
        let mail_from = case.mail_from.as_deref().and_then(EmailAddress::parse);
        let subject = Subject {
            client_ip: case.client_ip.as_deref().unwrap_or("127.0.0.1").parse().unwrap(),
            helo: case.helo.as_deref().unwrap_or("localhost"),
            mail_from: mail_from.as_ref(),
            from: from.as_ref(),
            original: None,
        };
        self.authenticator.verify(subject, &raw).await
    }
}

fn with_crlf(raw: &[u8]) -> Vec<u8> {
    let text = raw.strip_suffix(b"\r\n").or_else(|| raw.strip_suffix(b"\n")).unwrap_or(raw);
    text.split(|b| *b == b'\n')
        .flat_map(|line| [line.strip_suffix(b"\r").unwrap_or(line), b"\r\n"].concat())
        .collect()
}

fn from_address(raw: &[u8]) -> Option<EmailAddress> {
    let text = String::from_utf8_lossy(raw);
    let field = text.split("\r\n").find(|line| line.to_ascii_lowercase().starts_with("from:"))?;
    let value = field.split_once(':')?.1.trim();
    EmailAddress::parse(value.rsplit_once('<').map_or(value, |(_, rest)| rest.trim_end_matches('>')))
}

/// The best of the signatures, as a filter would take it.
fn best(verdict: &Verdict) -> &'static str {
    let results: Vec<&str> = verdict.dkim.iter().map(|dkim| dkim.result.as_str()).collect();
    ["pass", "fail", "permerror", "temperror", "neutral"]
        .into_iter()
        .find(|wanted| results.contains(wanted))
        .unwrap_or("none")
}

fn pass_or_not(result: &str) -> &str {
    if result == "pass" || result == "none" { result } else { "notpass" }
}

#[tokio::test]
async fn dkim_interop() {
    let Some(mails) = Mails::open("dkim-interop").await else { return };
    let deviations = [(
        "dkim-interop/147-dkimpy-rsa2048-relaxed-relaxed-key-testing-flag",
        "t=y in the key: RFC 6376 section 3.6.1 has such a signature treated as none",
    )];
    let mut score = Score::new("dkim-interop", &deviations);
    for case in &mails.cases {
        let expected = case.expect.dkim.as_deref().unwrap();
        score.case(&case.id, &[expected], pass_or_not(best(&mails.verdict(case).await)));
    }
    score.finish();
}

/// The suite's `modern` rule: a pass is asked only where today's standards allow one.
#[tokio::test]
async fn dkim_mail_dkim() {
    let Some(mails) = Mails::open("dkim-mail-dkim").await else { return };
    let no_version = "no v= in the signature: RFC 6376 sections 3.5 and 6.1.1 have it ignored";
    let deviations = [("mail-dkim/mine_ietf01_3", no_version), ("mail-dkim/mine_ietf01_4", no_version)];
    let mut score = Score::new("dkim-mail-dkim", &deviations);
    for case in &mails.cases {
        let verdict = mails.verdict(case).await;
        let got = pass_or_not(best(&verdict));
        let is_pass_asked = case.modern == "as expect" && case.expect.dkim.as_deref() == Some("pass");
        score.case(&case.id, if is_pass_asked { &["pass"] } else { &["notpass", "none"] }, got);
    }
    score.finish();
}

#[tokio::test]
async fn rspamd() {
    let Some(mails) = Mails::open("rspamd-dmarc-spf-dkim-arc").await else { return };
    let deviations = [
        (
            "rspamd/dmarc/dmarc-subdomain-pass-dkim-relaxed-alignment",
            "only the subdomain publishes DMARC: by RFC 9989 section 4.10.2 it is its own organisation",
        ),
        (
            "rspamd/dkim/dkim-reject-oversized-key-modulus",
            "the body does not fit either, which is seen before the key is asked for",
        ),
    ];
    let mut score = Score::new("rspamd-dmarc-spf-dkim-arc", &deviations);
    for case in &mails.cases {
        let verdict = mails.verdict(case).await;
        if let Some(expected) = &case.expect.spf {
            score.case(&case.id, &[expected], verdict.spf.result.as_str());
        }
        if let Some(expected) = &case.expect.dkim {
            score.case(&case.id, &[expected], best(&verdict));
        }
        if let Some(expected) = &case.expect.dmarc {
            let got = match verdict.dmarc.result {
                AuthResult::Fail => format!("fail p={}", verdict.dmarc.policy.as_str()),
                other => other.as_str().to_owned(),
            };
            score.case(&case.id, &[expected], &got);
        }
    }
    score.finish();
}

#[test]
fn public_suffix_list() {
    let Some(path) = corpus("psl/tests.txt") else { return };
    let text = std::fs::read_to_string(path).unwrap();
    let mut score = Score::new("psl/tests.txt", &[]);
    for line in text.lines().filter(|line| !line.starts_with("//") && !line.trim().is_empty()) {
        let (domain, expected) = line.split_once(' ').unwrap();
        let got = registrable_domain(domain);
        // We compare A-labels.
        let expected = registrable_domain(expected);
        score.case(line, &[expected.as_deref().unwrap_or("null")], got.as_deref().unwrap_or("null"));
    }
    score.finish();
}

/// All cases are about signing: the order of the tags that was signed is not given, so that no chain can be rebuilt.
/// Chains of our own making are verified in the unit tests.
#[test]
fn arc_valimail() {
    if corpus("arc-valimail/arc-draft-sign-tests.yml").is_some() {
        println!("skipped: arc-valimail has signing cases only");
    }
}
