//! `syncmx dkim-key`: makes a key for what the relay sends, and prints the records to publish. Needs no store.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::json;

use crate::auth::signing::{self, Algorithm};
use crate::cli::{Failure, one_line, output};
use crate::config::Config;

/// `dkim-key SELECTOR FILE`
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The selector, such as `s2026`.
    selector: String,
    /// Where the key is, or is to be made (mode 0600).
    file: PathBuf,
    /// The algorithm of a new key.
    #[arg(long, value_enum, default_value_t = Word::Rsa)]
    algorithm: Word,
    /// One JSON object a record.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Word {
    /// Short records; not every receiver reads it.
    Ed25519,
    /// 2048 bits.
    Rsa,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let failed = |error: signing::SigningError| Failure::No(one_line(&error));
    let algorithm = match arguments.algorithm {
        Word::Ed25519 => Algorithm::Ed25519,
        Word::Rsa => Algorithm::Rsa,
    };
    if !arguments.file.exists() {
        signing::make_key(&arguments.file, algorithm).map_err(failed)?;
    }
    let record = signing::key_record(&arguments.file).map_err(failed)?;
    // Copies come from the first reply domain, notices from `relay.from`.
    let mut domains: Vec<String> = config.domains.reply.first().cloned().into_iter().collect();
    domains.extend(config.relay.as_ref().map(|relay| relay.from.domain().to_lowercase()));
    domains.dedup();
    for domain in domains {
        let name = format!("{}._domainkey.{domain}", arguments.selector);
        if arguments.json {
            output::json(&json!({ "name": name, "type": "TXT", "value": record }));
        } else {
            output::line(&format!("{name}. TXT {}", quoted(&record)));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A string of a record holds 255 octets (RFC 1035 section 3.3).
fn quoted(record: &str) -> String {
    let pieces = record.as_bytes().chunks(255).map(|piece| format!("\"{}\"", String::from_utf8_lossy(piece)));
    pieces.collect::<Vec<_>>().join(" ")
}
