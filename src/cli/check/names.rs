//! What the DNS says of our host and of each served domain, compared with what `syncmx dns` prints.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt;

use crate::auth::{AuthResult, DmarcPolicy, NoAnswer, Probe};
use crate::cli::check::policy;
use crate::cli::check::report::{Line, quoted};
use crate::cli::records::{self, Record};
use crate::config::{Config, MtaStsMode};
use crate::mta_sts::Policy;
use crate::time::Timestamp;

/// The lines, and the time that each web server told.
pub(super) async fn check(config: &Config, probe: &Probe, https_port: u16) -> (Vec<Line>, Vec<Timestamp>) {
    let domains = records::domains(config);
    let of_domains = futures_util::stream::iter(&domains)
        .map(|name| domain(config, probe, name, https_port))
        .buffered(DOMAINS_AT_ONCE)
        .collect::<Vec<_>>();
    let (mut lines, of_domains) = tokio::join!(host(config, probe), of_domains);
    let mut dates = Vec::new();
    for (found, date) in of_domains {
        lines.extend(found);
        dates.extend(date);
    }
    (lines, dates)
}

async fn host(config: &Config, probe: &Probe) -> Vec<Line> {
    let host = records::host(config);
    let red = |said: String, mend: String| vec![Line::red("host", &host, said, mend)];
    let (alias, addresses) = tokio::join!(probe.alias(&host), probe.addresses(&host));
    if let Ok(target) = alias {
        let mend = format!(
            "give {host} A and AAAA records of its own: no MX may be an alias (RFC 2181 section 10.3)"
        );
        return red(format!("is an alias of {target}"), mend);
    }
    match addresses {
        Err(NoAnswer::ForNow) => red(UNANSWERED.to_owned(), ASK_OTHERS.to_owned()),
        Err(NoAnswer::Nothing) => {
            let mend = format!("publish A and AAAA records of {host} with the public addresses of this host");
            red("has no address".to_owned(), mend)
        }
        Ok(addresses) => {
            let shown: Vec<String> = addresses.iter().map(IpAddr::to_string).collect();
            let mut lines = vec![Line::ok("host", &host, shown.join(", "))];
            let names = addresses.iter().take(MAX_ADDRESSES).map(|ip| reverse(probe, &host, *ip));
            lines.extend(futures_util::future::join_all(names).await);
            lines
        }
    }
}

/// A receiving host lives without; some senders look all the same.
async fn reverse(probe: &Probe, host: &str, ip: IpAddr) -> Line {
    let mend = format!("let the owner of the address publish PTR {host}.");
    match probe.names_of(ip).await {
        Ok(names) if names.iter().any(|name| name == host) => Line::ok("ptr", &ip.to_string(), host),
        Ok(names) => {
            Line::warn("ptr", &ip.to_string(), format!("is called {}", quoted(&names.join(", "))), mend)
        }
        Err(NoAnswer::Nothing) => Line::warn("ptr", &ip.to_string(), "has no name", mend),
        Err(NoAnswer::ForNow) => Line::warn("ptr", &ip.to_string(), UNANSWERED, ASK_OTHERS),
    }
}

async fn domain(
    config: &Config,
    probe: &Probe,
    name: &str,
    https_port: u16,
) -> (Vec<Line>, Option<Timestamp>) {
    let policy = Policy::of(config);
    let sts = async {
        let Some(policy) = &policy else { return (Vec::new(), None) };
        let (announced, reports, fetched) = tokio::join!(
            announced(probe, policy, name),
            reports(probe, name),
            policy::check(probe, policy, name, https_port),
        );
        (vec![announced, fetched.line, reports], fetched.date)
    };
    let (mx, spf, dmarc, (sts, date)) =
        tokio::join!(mx(config, probe, name), spf(config, probe, name), dmarc(config, probe, name), sts,);
    let mut lines = vec![mx, spf, dmarc];
    lines.extend(sts);
    (lines, date)
}

async fn mx(config: &Config, probe: &Probe, name: &str) -> Line {
    let (host, mend) = (records::host(config), publish(&records::mx(config, name)));
    let hosts = match probe.mx(name).await {
        Ok(hosts) => hosts,
        Err(NoAnswer::Nothing) => return Line::red("mx", name, "has no MX record", mend),
        Err(NoAnswer::ForNow) => return Line::red("mx", name, UNANSWERED, ASK_OTHERS),
    };
    if hosts.iter().any(|(_, host)| host.is_empty()) {
        return Line::red("mx", name, "publishes a null MX: it takes no mail", format!("remove it; {mend}"));
    }
    let shown: Vec<&str> = hosts.iter().map(|(_, host)| host.as_str()).collect();
    let others: Vec<&str> = shown.iter().filter(|other| **other != host).copied().collect();
    if others.len() == shown.len() {
        return Line::red("mx", name, format!("its mail goes to {}", quoted(&shown.join(", "))), mend);
    }
    if !others.is_empty() && config.tls.mta_sts == MtaStsMode::Enforce {
        let said = format!("{} is no host of the MTA-STS policy", quoted(&others.join(", ")));
        return Line::red(
            "mx",
            name,
            said,
            "take it out of the MX records, or set tls.mta_sts = \"testing\"",
        );
    }
    Line::ok("mx", name, shown.join(", "))
}

async fn spf(config: &Config, probe: &Probe, name: &str) -> Line {
    let expected = records::spf(config, name);
    let found = match one_text(probe, name, "v=spf1").await {
        Ok(found) => found,
        Err(trouble) => return trouble.line("spf", name, &expected),
    };
    let mend = publish(&expected);
    let said = format!("says {}", quoted(&found));
    if records::is_sending(config, name) {
        let allowed = smarthost_results(config, probe, name).await;
        if allowed.iter().any(|result| *result != AuthResult::Pass) || allowed.is_empty() {
            return Line::red("spf", name, format!("{said}, which lets the smarthost not send"), mend);
        }
    }
    let is_sending = records::is_sending(config, name);
    match probe.spf(IpAddr::V4(STRANGER), name).await {
        AuthResult::Fail if found == expected.value || is_sending => Line::ok("spf", name, said),
        AuthResult::Fail => Line::warn("spf", name, format!("{said}, though it never sends"), mend),
        AuthResult::SoftFail if is_sending => Line::warn("spf", name, said, mend),
        AuthResult::Neutral | AuthResult::None | AuthResult::Pass | AuthResult::SoftFail => {
            Line::red("spf", name, format!("{said}, which lets strangers send in its name"), mend)
        }
        AuthResult::PermError => Line::red("spf", name, format!("{said}, which is malformed"), mend),
        AuthResult::TempError => Line::red("spf", name, UNANSWERED, ASK_OTHERS),
    }
}

/// What SPF says of each address of the smarthost.
async fn smarthost_results(config: &Config, probe: &Probe, name: &str) -> Vec<AuthResult> {
    let Some(relay) = &config.relay else { return Vec::new() };
    let host = records::smarthost(relay);
    let addresses = match host.parse() {
        Ok(ip) => vec![ip],
        Err(_) => probe.addresses(host).await.unwrap_or_default(),
    };
    let results = addresses.iter().take(MAX_ADDRESSES).map(|ip| probe.spf(*ip, name));
    futures_util::future::join_all(results).await
}

async fn dmarc(config: &Config, probe: &Probe, name: &str) -> Line {
    let mend = publish(&records::dmarc(config, name));
    match probe.dmarc(name).await {
        Ok(applied) => {
            let said = format!("{} at _dmarc.{}", applied.policy.as_str(), applied.published_at);
            match applied.policy {
                DmarcPolicy::Reject => Line::ok("dmarc", name, said),
                DmarcPolicy::Quarantine => Line::warn("dmarc", name, said, mend),
                DmarcPolicy::None => {
                    Line::red("dmarc", name, format!("{said}: anybody may write in its name"), mend)
                }
            }
        }
        Err(NoAnswer::Nothing) => Line::red("dmarc", name, "no policy there or above", mend),
        Err(NoAnswer::ForNow) => Line::red("dmarc", name, UNANSWERED, ASK_OTHERS),
    }
}

/// The TXT record that announces the policy.
async fn announced(probe: &Probe, policy: &Policy, name: &str) -> Line {
    let expected = records::mta_sts(policy, name);
    match one_text(probe, &format!("_mta-sts.{name}"), "v=STSv1").await {
        Err(trouble) => trouble.line("mta-sts", name, &expected),
        Ok(found) => {
            let mut fields = found.split(';').filter_map(|field| field.split_once('='));
            let id = fields.find(|(key, _)| key.trim() == "id").map_or("", |(_, id)| id.trim());
            if id == policy.id() {
                return Line::ok("mta-sts", name, format!("id {id}"));
            }
            let said = format!("announces id {}, the policy has {}", quoted(id), policy.id());
            Line::red("mta-sts", name, said, publish(&expected))
        }
    }
}

async fn reports(probe: &Probe, name: &str) -> Line {
    let expected = records::tls_report(name);
    match one_text(probe, &format!("_smtp._tls.{name}"), "v=TLSRPTv1").await {
        Err(trouble) => trouble.line("tls-rpt", name, &expected),
        Ok(found) if found.contains("rua=") => Line::ok("tls-rpt", name, format!("says {}", quoted(&found))),
        Ok(found) => {
            Line::red("tls-rpt", name, format!("names no receiver: {}", quoted(&found)), publish(&expected))
        }
    }
}

/// Why there is not one text.
enum NotOne {
    None,
    Several(usize),
    Unanswered,
}

impl NotOne {
    fn line(&self, check: &'static str, name: &str, expected: &Record) -> Line {
        match self {
            Self::None => Line::red(check, name, "no record", publish(expected)),
            Self::Several(count) => {
                let mend = format!("take away all but one: {}", expected.line());
                Line::red(check, name, format!("{count} records, which count as none"), mend)
            }
            Self::Unanswered => Line::red(check, name, UNANSWERED, ASK_OTHERS),
        }
    }
}

/// The one TXT record with this version.
async fn one_text(probe: &Probe, name: &str, version: &str) -> Result<String, NotOne> {
    let texts = match probe.texts(name).await {
        Ok(texts) => texts,
        Err(NoAnswer::Nothing) => return Err(NotOne::None),
        Err(NoAnswer::ForNow) => return Err(NotOne::Unanswered),
    };
    let has_version = |text: &String| {
        let (start, rest) = text.split_at_checked(version.len()).unwrap_or_default();
        start.eq_ignore_ascii_case(version)
            && rest.chars().next().is_none_or(|next| matches!(next, ' ' | ';'))
    };
    let mut found: Vec<String> = texts.into_iter().filter(has_version).collect();
    match found.len() {
        0 => Err(NotOne::None),
        1 => found.pop().ok_or(NotOne::None),
        several => Err(NotOne::Several(several)),
    }
}

pub(super) fn publish(record: &Record) -> String {
    format!("publish {}", record.line())
}

pub(super) const UNANSWERED: &str = "the DNS does not answer";
pub(super) const ASK_OTHERS: &str = "look at dns.servers and at the zone's name servers";
const DOMAINS_AT_ONCE: usize = 8;
const MAX_ADDRESSES: usize = 8;
/// RFC 5737: an address that nobody has.
const STRANGER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config;
    use crate::zone::{Zone, ZoneServer};

    async fn probe(zone: &str) -> (ZoneServer, Probe) {
        let server = ZoneServer::start(Zone::parse(zone).unwrap()).await.unwrap();
        let dns = config::Dns { servers: vec![server.addr()], timeout: Duration::from_secs(2) };
        let probe = Probe::new(&dns).unwrap();
        (server, probe)
    }

    #[tokio::test]
    async fn another_name_of_the_address_or_none_is_yellow() {
        let (_server, probe) = probe("1.2.0.192.in-addr.arpa. PTR mx.a.test.\n").await;
        let state = async |ip: [u8; 4], host| reverse(&probe, host, ip.into()).await.state();
        assert_eq!(state([192, 0, 2, 1], "mx.a.test").await, "ok");
        assert_eq!(state([192, 0, 2, 1], "mx.b.test").await, "warn");
        assert_eq!(state([192, 0, 2, 2], "mx.a.test").await, "warn");
    }

    #[tokio::test]
    async fn with_a_relay_spf_must_let_the_smarthost_send_and_no_stranger() {
        let zone = "smart.test. A 192.0.2.7\na.test. TXT \"v=spf1 a:smart.test -all\"\n\
                    b.test. TXT \"v=spf1 -all\"\nc.test. TXT \"v=spf1 ip4:192.0.2.7 ~all\"\n\
                    d.test. TXT \"v=spf1 ip4:192.0.2.7 ?all\"\n";
        let (_server, probe) = probe(zone).await;
        let mut config = Config::default();
        config.domains.reply = ["a.test", "b.test", "c.test", "d.test"].map(str::to_owned).to_vec();
        config.relay = Some(config::Relay {
            smarthost: "smtp://smart.test:587".to_owned(),
            from: "no-reply@a.test".to_owned(),
        });
        let state = async |name| spf(&config, &probe, name).await.state();
        assert_eq!(state("a.test").await, "ok");
        assert_eq!(state("b.test").await, "red");
        assert_eq!(state("c.test").await, "warn");
        assert_eq!(state("d.test").await, "red");
    }

    #[tokio::test]
    async fn an_mx_beside_ours_must_be_in_an_enforced_policy() {
        let (_server, probe) = probe("a.test. MX 10 mx.example.test.\na.test. MX 20 backup.test.\n").await;
        let mut config = Config::default();
        assert_eq!(mx(&config, &probe, "a.test").await.state(), "ok");
        config.tls.mta_sts = MtaStsMode::Enforce;
        assert_eq!(mx(&config, &probe, "a.test").await.state(), "red");
    }
}
