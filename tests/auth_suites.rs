//! The test suites of others, run through our verifier. Each test prints `suite cases score` and lists by id, with the
//! reason, where we answer otherwise; where `../shared` is absent it prints that it is skipped and passes.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use serde_yaml_ng::Value;
use syncmx::auth::Authenticator;
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
async fn spf_rfc7208() {
    spf_suite("spf/rfc7208-tests.yml", &[]).await;
}

#[tokio::test]
async fn spf_rfc4408() {
    spf_suite("spf/rfc4408-tests.yml", &[]).await;
}
