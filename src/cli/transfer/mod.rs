//! Exports on disk: the record of one contact for people, and a whole account for another copy of this program.
//!
//! `manifest.json` is one JSON object with one file a line. An account's rows are `rows/<kind>.ndjson` (see
//! `store::lines`), the messages beside them `messages/<xx>/<id>.eml` and `held/<xx>/<id>.eml`, byte for byte.

pub(super) mod account;
pub(super) mod contact;
mod folder;
mod names;
mod reader;
pub(super) mod take;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::cli::Failure;
use crate::store::lines::Kind;

/// A file, as the manifest names it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    /// Below the folder.
    path: String,
    /// Its octets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    /// Of its octets, hexadecimal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sha256: Option<String>,
    /// Of a file of rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lines: Option<u64>,
    /// Why it is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// What the manifest of an account's export says of the whole.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Header {
    format: u64,
    kind: String,
    account_id: Uuid,
    export_id: Uuid,
    made_at: String,
    made_by: String,
    keys: KeyNames,
    sync_domains: Vec<String>,
    reply_domains: Vec<String>,
}

/// Names of keys that stay behind in the key file, so that an import can say which are missing.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct KeyNames {
    address_hash: String,
    reply_tokens: Vec<(u8, String)>,
}

/// The file of a kind of rows.
fn rows_path(kind: Kind) -> String {
    format!("rows/{}.ndjson", kind.name())
}

/// The file of a message or held message; none for kinds without content. Sorted into folders by the last octet of
/// the id, which is random.
fn content_path(kind: Kind, id: Uuid) -> String {
    let folder = if kind == Kind::Held { "held" } else { "messages" };
    let digits = id.simple().to_string();
    let shelf = digits.get(digits.len() - 2..).unwrap_or_default();
    format!("{folder}/{shelf}/{id}.eml")
}

/// Lower-case hexadecimal digits.
fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

fn unwritable(path: &std::path::Path) -> impl Fn(std::io::Error) -> Failure + '_ {
    move |error| {
        let said = format!("cannot write {}: {error}", path.display());
        if error.kind() == std::io::ErrorKind::AlreadyExists {
            Failure::Usage(said)
        } else {
            Failure::Unreachable(said)
        }
    }
}

const MANIFEST: &str = "manifest.json";
/// The version of what an account's export looks like. A copy reads its own and older ones.
const FORMAT: u64 = 1;
const ACCOUNT: &str = "account";
const CONTACT: &str = "contact";
/// Of a file of rows: the texts of a message of 36 MiB, twice, with room for what JSON adds.
const MAX_LINE_OCTETS: u64 = 256 * 1024 * 1024;
