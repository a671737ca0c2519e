//! `syncmx keys list | rotate | revoke`: the keys that reply addresses are made with.
//!
//! Works on the key file alone. A running server on this file takes the change up within a second, or on SIGHUP.

use std::process::ExitCode;

use clap::Subcommand;
use serde_json::json;

use crate::cli::admin::Output;
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::keys::{self, KeyFileError, Keys};

/// `keys …`
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List the keys by id, the oldest first; the last one makes new addresses.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Add a key that makes new addresses; those made before still work.
    Rotate {
        #[command(flatten)]
        output: Output,
    },
    /// Take a retired key away: the addresses that it made answer 550 from now on.
    Revoke {
        /// The key's id.
        id: u8,
    },
}

pub(super) fn run(config: &Config, command: &KeysCommand) -> Result<ExitCode, Failure> {
    let path = &config.keys.file;
    match command {
        KeysCommand::List { output } => {
            let tokens = Keys::load(path).map_err(|error| failure(&error))?.reply_tokens();
            for (n, key) in tokens.iter().enumerate() {
                let state = if n + 1 == tokens.len() { "issuing" } else { "retired" };
                say(*output, &json!({ "id": key.id, "state": state }), &format!("{:3}  {state}", key.id));
            }
        }
        KeysCommand::Rotate { output } => {
            let id = keys::rotate(path).map_err(|error| failure(&error))?;
            say(*output, &json!({ "id": id, "state": "issuing" }), &format!("{id:3}  issuing"));
        }
        KeysCommand::Revoke { id } => keys::revoke(path, *id).map_err(|error| failure(&error))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn say(output: Output, json: &serde_json::Value, text: &str) {
    let line = if output.json { json.to_string() } else { text.to_owned() };
    output::line(&line);
}

fn failure(error: &KeyFileError) -> Failure {
    match error {
        KeyFileError::Issuing(_) | KeyFileError::NoSuchKey(_) | KeyFileError::TooMany => {
            Failure::No(error.to_string())
        }
        KeyFileError::Malformed { .. }
        | KeyFileError::NoRandomness
        | KeyFileError::OtherKeys
        | KeyFileError::Readable { .. }
        | KeyFileError::Unusable { .. } => Failure::unreachable(error),
    }
}
