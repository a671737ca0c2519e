//! `syncmx dns`: prints the zone records to publish, as a fragment of a master file or as JSON lines. Asks nobody.

use std::net::IpAddr;
use std::process::ExitCode;

use clap::Args;
use hickory_proto::rr::Name;
use serde_json::json;

use crate::certificate::Facts;
use crate::cli::records::{self, TTL_SECONDS};
use crate::cli::{Failure, output};
use crate::config::{Config, MtaStsMode};
use crate::smtp::tls::Certificates;

/// `dns [--address IP]…`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// A public address of this host. Without it, those of `smtp.listen` that name one.
    #[arg(long, value_name = "IP")]
    address: Vec<IpAddr>,
    /// One JSON object a line; remarks are left out.
    #[arg(long)]
    json: bool,
}

#[expect(clippy::unnecessary_wraps, reason = "each command may fail")]
pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let addresses = addresses(config, &arguments.address);
    if arguments.json {
        for record in records::all(config, &addresses) {
            output::json(&json!({
                "name": record.name, "ttl": TTL_SECONDS, "type": record.kind.as_str(), "value": record.value,
                "comment": record.comment,
            }));
        }
    } else {
        fragment(config, &addresses).iter().for_each(|line| output::line(line));
    }
    Ok(ExitCode::SUCCESS)
}

/// Those given; else those that we listen on by name and that the world can reach.
fn addresses(config: &Config, given: &[IpAddr]) -> Vec<IpAddr> {
    let mut addresses = if given.is_empty() {
        let listening = config.smtp.listen.iter().map(std::net::SocketAddr::ip);
        listening.filter(|ip| !ip.is_unspecified() && !ip.is_loopback()).collect()
    } else {
        given.to_vec()
    };
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}

/// The lines of the fragment: each is one record or one remark.
fn fragment(config: &Config, addresses: &[IpAddr]) -> Vec<String> {
    let host = records::host(config);
    let mut lines =
        vec![format!("; Records for syncmx on {host}. `syncmx check` looks whether they are there.")];
    if addresses.is_empty() {
        lines.push(
            "; The public address of this host is not known: take away the semicolon and put yours in,"
                .into(),
        );
        lines.push("; or give it with --address.".into());
        for placeholder in PLACEHOLDERS.iter().filter_map(|text| text.parse().ok()) {
            lines.push(format!("; {}", records::address(&host, placeholder).line()));
        }
    }
    let mut section = "";
    for record in records::all(config, addresses) {
        if record.comment != section {
            section = record.comment;
            lines.push(format!("; {section}"));
        }
        lines.push(record.line());
    }
    lines.extend(remarks(config, addresses));
    lines
}

fn remarks(config: &Config, addresses: &[IpAddr]) -> Vec<String> {
    let host = records::host(config);
    let mut lines = Vec::new();
    for ip in addresses {
        lines.push("; In the reverse zone, which the owner of the address keeps:".to_owned());
        lines.push(format!("; {} {TTL_SECONDS} IN PTR {host}.", Name::from(*ip)));
    }
    if let Some(relay) = &config.relay {
        let (smarthost, from) = (relay.smarthost.host(), records::relay_domain(relay));
        lines.push(format!("; SPF: if {smarthost} sends from other addresses, put what its operator says"));
        lines.push(
            "; (mostly include:…) in the place of its name. DKIM: publish the record of whoever signs."
                .into(),
        );
        if !records::domains(config).contains(&from) {
            lines.push(format!(
                "; {from} (relay.from) is no domain of ours: its SPF must let {smarthost} send."
            ));
        }
    }
    match config.tls.mta_sts {
        MtaStsMode::Testing => {
            lines.push(
                "; MTA-STS: once `syncmx check` is green, tls.mta_sts = \"enforce\", and publish the new id."
                    .into(),
            );
        }
        MtaStsMode::Enforce | MtaStsMode::None | MtaStsMode::Off => {}
    }
    let pairs = Certificates::survey(&config.tls, config.data_folder());
    let leaf = pairs.iter().find(|pair| pair.name.is_none()).and_then(|pair| pair.leaf.as_ref().ok());
    if let Some(facts) = leaf.and_then(|leaf| Facts::read(leaf).ok()) {
        lines.push(
            "; DANE, only if DNSSEC signs the zone; the record must change before the key does (RFC 7672):"
                .into(),
        );
        lines.push(format!("; _25._tcp.{host}. {TTL_SECONDS} IN TLSA 3 1 1 {}", facts.key_fingerprint()));
    }
    lines
}

/// Addresses of documentation (RFC 5737, RFC 3849): nobody has them.
const PLACEHOLDERS: [&str; 2] = ["192.0.2.1", "2001:db8::1"];

#[cfg(test)]
mod tests {
    use hickory_proto::serialize::txt::Parser;

    use super::*;

    fn config(settings: &[(&str, &str)]) -> Config {
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        Config::load(None, settings).unwrap()
    }

    #[test]
    fn the_fragment_is_a_master_file_that_holds_each_record_once() {
        let with_key = [
            ("SYNCMX_TLS__CERTIFICATE", concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev/fullchain.pem")),
            ("SYNCMX_TLS__KEY", concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev/key.pem")),
        ];
        let with_relay = [
            ("SYNCMX_RELAY__SMARTHOST", "smtp://smart.provider.test:587"),
            ("SYNCMX_RELAY__FROM", "no-reply@elsewhere.test"),
            ("SYNCMX_TLS__MTA_STS", "off"),
        ];
        for (settings, given) in
            [(&[][..], &[][..]), (&with_key, &["192.0.2.1", "2001:db8::25"]), (&with_relay, &["192.0.2.1"])]
        {
            let config = config(settings);
            let addresses: Vec<IpAddr> = given.iter().map(|text| text.parse().unwrap()).collect();
            let text = fragment(&config, &addresses).join("\n") + "\n";
            let (_, sets) = Parser::new(text.clone(), None, Some(Name::root())).parse().unwrap();
            let found: usize = sets.values().map(|set| set.records_without_rrsigs().count()).sum();
            assert_eq!(found, records::all(&config, &addresses).len(), "{text}");
        }
    }

    #[test]
    fn an_unknown_address_is_a_remark_and_no_record() {
        let lines = fragment(&config(&[]), &[]);
        assert!(lines.iter().any(|line| line == "; mx.example.test. 3600 IN A 192.0.2.1"), "{lines:#?}");
        let known =
            config(&[("SYNCMX_SMTP__LISTEN", "[\"0.0.0.0:25\", \"198.51.100.7:25\", \"127.0.0.1:25\"]")]);
        let lines = fragment(&known, &addresses(&known, &[]));
        assert!(lines.iter().any(|line| line == "mx.example.test. 3600 IN A 198.51.100.7"), "{lines:#?}");
        assert!(
            lines
                .iter()
                .any(|line| line.contains("; 7.100.51.198.in-addr.arpa. 3600 IN PTR mx.example.test."))
        );
        assert!(!lines.iter().any(|line| line.contains("192.0.2.1")), "{lines:#?}");
    }

    #[test]
    fn dane_is_offered_for_the_key_in_use() {
        let config = config(&[
            ("SYNCMX_TLS__CERTIFICATE", concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev/fullchain.pem")),
            ("SYNCMX_TLS__KEY", concat!(env!("CARGO_MANIFEST_DIR"), "/certs/dev/key.pem")),
        ]);
        let lines = fragment(&config, &[]);
        assert!(lines.iter().any(|line| line.starts_with("; _25._tcp.mx.example.test. 3600 IN TLSA 3 1 1 ")));
    }
}
