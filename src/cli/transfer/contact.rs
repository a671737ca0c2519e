//! The record of one contact as a folder for people: what a patient who asks for their data is given (R60–R64).
//!
//! Promises the shapes of the API, the messages byte for byte, and nothing that is not on this contact's record: no
//! held mail, of other contacts' conversations only what this contact was copied on, and colleagues' history (R27a)
//! only where it is asked for. Each page that is read is in the audit trail, as is the export.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use serde_json::{Value, json};

use crate::cli::Failure;
use crate::cli::local_api::LocalApi;
use crate::cli::trace::accounts;
use crate::cli::transfer::folder::{Folder, Lines, Stream};
use crate::cli::transfer::names::Names;
use crate::cli::transfer::{CONTACT, FORMAT, hex, unwritable};
use crate::config::Config;
use crate::filing::INTERNAL_HISTORY;
use crate::id::{AccountId, ContactId, ConversationId, MessageId};
use crate::message;
use crate::store::audit::{Act, Actor};
use crate::store::directory::Scope;
use crate::store::views::Slice;
use crate::store::{Store, StoreError};
use crate::time::Timestamp;

/// What is wanted.
#[derive(Clone, Debug)]
pub(in crate::cli) struct Wanted<'a> {
    pub(in crate::cli) contact: ContactId,
    /// Looked for in all accounts otherwise.
    pub(in crate::cli) account: Option<AccountId>,
    pub(in crate::cli) target: &'a Path,
    pub(in crate::cli) internal_history: InternalHistory,
}

/// R27a: what colleagues wrote among themselves below an answer to a contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cli) enum InternalHistory {
    Shown,
    Withheld,
}

/// What was exported.
#[derive(Clone, Debug, Default)]
pub(in crate::cli) struct Report {
    pub(in crate::cli) folder: PathBuf,
    pub(in crate::cli) messages: u64,
    /// Of them, as they were received.
    pub(in crate::cli) files: u64,
    pub(in crate::cli) attachments: u64,
    /// Messages whose original is withheld for the colleagues' history in it.
    pub(in crate::cli) withheld: u64,
    /// What could not be read.
    pub(in crate::cli) problems: u64,
    /// Held mails that wait for this contact: not in it.
    pub(in crate::cli) held: u64,
}

/// Exports it.
pub(in crate::cli) async fn export(config: &Config, wanted: &Wanted<'_>) -> Result<Report, Failure> {
    let api = LocalApi::open(config).await?;
    let exported = export_from(&api, wanted).await;
    api.close().await;
    exported
}

async fn export_from(api: &LocalApi, wanted: &Wanted<'_>) -> Result<Report, Failure> {
    let account = account_of(api.store(), wanted).await?;
    let of_contact = format!("/accounts/{account}/contacts/{}", wanted.contact);
    let scopes = scopes(wanted.internal_history);
    let contact = api.read(&of_contact, scopes).await?;
    let header = json!({
        "format": FORMAT, "kind": CONTACT, "account_id": account, "contact_id": wanted.contact,
        "made_at": Timestamp::now().to_rfc3339(), "made_by": concat!("syncmx ", env!("CARGO_PKG_VERSION")),
    });
    let folder = Folder::create(wanted.target, &header).map_err(unwritable(wanted.target))?;
    // R64: before anything is read.
    let act = Act {
        account,
        at: Timestamp::now(),
        actor: Actor::Operator.to_string(),
        action: "export".to_owned(),
        object: format!("contacts/{}", wanted.contact),
        detail: Some(json!({ "internal_history": wanted.internal_history == InternalHistory::Shown })),
    };
    api.store().note(vec![act]).await.map_err(|error| Failure::unreachable(&error))?;
    let mut export = Export {
        api,
        wanted,
        account,
        folder,
        report: Report::default(),
        conversations: Conversations::default(),
    };
    export.json("contact.json", &contact)?;
    let marks = api.read(&format!("{of_contact}/sync"), scopes).await?;
    export.json("sync.json", &marks)?;
    export.timeline(&of_contact).await?;
    export.conversations().await?;
    export.folder.write("README.txt", README.as_bytes()).map_err(unwritable(wanted.target))?;
    let waiting = format!("/accounts/{account}/held?contact={}&limit={HELD_PAGE}", wanted.contact);
    let held = count_items(async |cursor| api.call("GET", &format!("{waiting}{cursor}"), None).await).await?;
    let Export { folder, mut report, .. } = export;
    report.held = held;
    report.problems = folder.problems();
    report.folder = folder.finish().map_err(unwritable(wanted.target))?;
    Ok(report)
}

/// The account that has the contact.
async fn account_of(store: &Store, wanted: &Wanted<'_>) -> Result<AccountId, Failure> {
    let unreachable = |error: StoreError| Failure::unreachable(&error);
    for account in accounts(store, wanted.account).await.map_err(unreachable)? {
        if store.contact(account, wanted.contact).await.map_err(unreachable)?.is_some() {
            return Ok(account);
        }
    }
    Err(Failure::No(format!("there is no contact {}", wanted.contact)))
}

/// Items of all pages of a list; each is asked for with the `cursor` parameter that the one before names.
async fn count_items(page_at: impl AsyncFn(&str) -> Result<Value, Failure>) -> Result<u64, Failure> {
    let (mut count, mut cursor) = (0, String::new());
    loop {
        let page = page_at(&cursor).await?;
        count += page["items"].as_array().map_or(0, |items| items.len() as u64);
        let Some(next) = page["next"].as_str() else { return Ok(count) };
        cursor = format!("&cursor={next}");
    }
}

/// What is read is read as a token with these would: without `review` the API itself leaves colleagues' history out.
fn scopes(history: InternalHistory) -> &'static [Scope] {
    match history {
        InternalHistory::Shown => &[Scope::Contacts, Scope::MessagesContent, Scope::Review],
        InternalHistory::Withheld => &[Scope::Contacts, Scope::MessagesContent],
    }
}

/// Those of the timeline: subject only of the contact's own, and of each the messages that are on the timeline.
#[derive(Default)]
struct Conversations {
    order: Vec<ConversationId>,
    messages: HashMap<ConversationId, Vec<MessageId>>,
}

struct Export<'a> {
    api: &'a LocalApi,
    wanted: &'a Wanted<'a>,
    account: AccountId,
    folder: Folder,
    report: Report,
    conversations: Conversations,
}

impl Export<'_> {
    /// Page by page, newest first, each message with its files.
    async fn timeline(&mut self, of_contact: &str) -> Result<(), Failure> {
        let scopes = scopes(self.wanted.internal_history);
        let mut list = self.open("timeline.json")?;
        self.put(&mut list, "{\"items\":[")?;
        let mut cursor = String::new();
        let mut joint = "\n";
        loop {
            let page = self.api.read(&format!("{of_contact}/timeline?limit={PAGE}{cursor}"), scopes).await?;
            for item in page["items"].as_array().into_iter().flatten() {
                let item = self.message(item.clone()).await?;
                self.put(&mut list, &format!("{joint}{item}"))?;
                joint = ",\n";
            }
            let Some(next) = page["next"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        self.put(&mut list, "\n]}\n")?;
        self.close(list)
    }

    /// The entry of a message, which names its files.
    async fn message(&mut self, mut item: Value) -> Result<Value, Failure> {
        let (Some(id), Some(conversation)) = (id_of(&item["id"]), id_of(&item["conversation_id"])) else {
            return Ok(item);
        };
        self.report.messages += 1;
        self.conversations.add(conversation, id);
        let date = item["sent_at"].as_str().and_then(|at| at.get(..10)).unwrap_or("undated").to_owned();
        let name = format!("{date}-{id}");
        let raw = match self.api.store().raw_message(self.account, id).await {
            Ok(raw) => raw,
            Err(error @ (StoreError::Corrupt { .. } | StoreError::Damaged { .. } | StoreError::Seal(_))) => {
                self.miss(&format!("messages/{name}.eml"), error.one_line())?;
                item["eml"] = Value::Null;
                item["eml_why"] = json!("damaged");
                return Ok(item);
            }
            Err(error) => return Err(Failure::unreachable(&error)),
        };
        let Some(raw) = raw else {
            item["eml"] = Value::Null;
            item["eml_why"] = json!("no original was received: the practice's own system sent it");
            return Ok(item);
        };
        let raw = self.attachments(&mut item, &name, raw).await?;
        let flags = item["flags"].as_array();
        let has_history = flags.is_some_and(|flags| flags.iter().any(|flag| flag == INTERNAL_HISTORY));
        if has_history && self.wanted.internal_history == InternalHistory::Withheld {
            self.report.withheld += 1;
            item["eml"] = Value::Null;
            item["eml_why"] = json!("it quotes what staff wrote among themselves");
            return Ok(item);
        }
        let path = format!("messages/{name}.eml");
        self.folder.write(&path, &raw).map_err(unwritable(self.wanted.target))?;
        self.report.files += 1;
        item["eml"] = json!(path);
        Ok(item)
    }

    /// Those that are kept, decoded. Gives the message back.
    async fn attachments(
        &mut self,
        item: &mut Value,
        message: &str,
        raw: Vec<u8>,
    ) -> Result<Vec<u8>, Failure> {
        let raw = bytes::Bytes::from(raw);
        let mut names = Names::default();
        for attachment in item["attachments"].as_array_mut().into_iter().flatten() {
            attachment["file"] = Value::Null;
            let n = attachment["n"].as_u64().and_then(|n| usize::try_from(n).ok());
            let Some(n) = n.filter(|_| attachment["status"] == "stored") else { continue };
            let name =
                names.take(attachment["filename"].as_str().unwrap_or_default(), &format!("attachment-{n}"));
            let path = format!("attachments/{message}/{name}");
            let source = raw.clone();
            let opening = tokio::task::spawn_blocking(move || message::open_attachment(&source, n));
            let octets = opening.await.ok().flatten();
            let is_sound = |octets: &Vec<u8>| {
                attachment["sha256"] == hex(digest::digest(&digest::SHA256, octets).as_ref()).as_str()
            };
            match octets.filter(is_sound) {
                Some(octets) => {
                    self.folder.write(&path, &octets).map_err(unwritable(self.wanted.target))?;
                    self.report.attachments += 1;
                    attachment["file"] = json!(path);
                }
                None => {
                    let why = "it does not come out of the message as it went on record".to_owned();
                    self.folder.miss(&path, why).map_err(unwritable(self.wanted.target))?;
                }
            }
        }
        Ok(raw.into())
    }

    async fn conversations(&mut self) -> Result<(), Failure> {
        let mut list = self.open("conversations.json")?;
        self.put(&mut list, "{\"items\":[")?;
        let mut joint = "\n";
        for id in std::mem::take(&mut self.conversations.order) {
            let found = self.api.store().conversation(self.account, id, Slice::first(0)).await;
            let Some(found) = found.map_err(|error| Failure::unreachable(&error))? else { continue };
            let is_own = found.contact == self.wanted.contact;
            // Oldest first, as the API has it.
            let messages = self.conversations.messages.remove(&id).unwrap_or_default();
            let item = json!({
                "id": found.id, "contact_id": is_own.then_some(found.contact), "user_id": found.user,
                "subject": is_own.then_some(found.subject), "messages": messages.into_iter().rev().collect::<Vec<_>>(),
            });
            self.put(&mut list, &format!("{joint}{item}"))?;
            joint = ",\n";
        }
        self.put(&mut list, "\n]}\n")?;
        self.close(list)
    }

    fn json(&mut self, path: &str, value: &Value) -> Result<(), Failure> {
        let text = format!("{value:#}\n");
        self.folder.write(path, text.as_bytes()).map(|_| ()).map_err(unwritable(self.wanted.target))
    }

    fn miss(&mut self, path: &str, why: String) -> Result<(), Failure> {
        self.folder.miss(path, why).map_err(unwritable(self.wanted.target))
    }

    fn open(&self, path: &str) -> Result<Stream, Failure> {
        self.folder.open(path).map_err(unwritable(self.wanted.target))
    }

    fn put(&self, stream: &mut Stream, text: &str) -> Result<(), Failure> {
        stream.write(text.as_bytes()).map_err(unwritable(self.wanted.target))
    }

    fn close(&mut self, stream: Stream) -> Result<(), Failure> {
        self.folder.close(stream, Lines::None).map(|_| ()).map_err(unwritable(self.wanted.target))
    }
}

impl Conversations {
    fn add(&mut self, conversation: ConversationId, message: MessageId) {
        let known = self.messages.entry(conversation).or_insert_with(|| {
            self.order.push(conversation);
            Vec::new()
        });
        known.push(message);
    }
}

fn id_of<T: std::str::FromStr>(value: &Value) -> Option<T> {
    value.as_str()?.parse().ok()
}

const README: &str = "\
This is what is on record of one contact's mail.

contact.json         who it is
timeline.json        every message, newest first, with its text; \"eml\" and \"file\" name the files below
conversations.json   which messages belong together
sync.json            whose mail with this contact is filed by itself
messages/            the messages as they were received, for any mail program; lines on top say how they came in
attachments/         the files in them, in a folder for each message
manifest.json        every file with its size and SHA-256; a file with a \"problem\" could not be read

The JSON files open in any browser or text editor.
";
/// Held messages of a page: the most that the API gives.
const HELD_PAGE: u32 = 200;
/// Messages of a page: with their texts they are in memory at once.
const PAGE: u32 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_waits_is_counted_over_all_pages() {
        for (last, expected) in [(0, 0), (1, 201), (2, 402)] {
            let page_at = async |cursor: &str| {
                let page = cursor.strip_prefix("&cursor=").map_or(Ok(0), str::parse::<u32>);
                let page = page.map_err(|_| Failure::No(cursor.to_owned()))?;
                let next = (page < last).then(|| (page + 1).to_string());
                let items = if last == 0 {
                    Vec::new()
                } else {
                    vec![1; if page < last { 200 } else { last as usize }]
                };
                Ok(json!({ "items": items, "next": next }))
            };
            assert_eq!(count_items(page_at).await.unwrap(), expected);
        }
    }
}
