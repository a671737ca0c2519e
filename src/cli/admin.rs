//! `syncmx account | user | contact | reply-address | token`: the administration that the API offers, for scripts.
//!
//! Each command is one request to the same router that serves HTTP, in this process, with the operator's rights:
//! validation, answers and errors are those of the API. They work beside a running server, which sees the change
//! within a second.

use std::fs::File;
use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use axum::body::Body;
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::cli::local_api::LocalApi;
use crate::cli::{Failure, output};
use crate::config::Config;
use crate::id::AccountId;

/// `account …`
#[derive(Debug, Subcommand)]
pub(super) enum AccountCommand {
    /// Create an account.
    Create {
        /// Its name.
        name: String,
        /// Settings as a JSON object.
        #[arg(long, value_name = "JSON")]
        settings: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List all accounts.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Show an account.
    Show {
        /// The account's id.
        account: String,
        #[command(flatten)]
        output: Output,
    },
    /// Change settings: `unknown_to="hold"`, `internal_domains='["praxis.test"]'`.
    Set {
        /// The account's id.
        account: String,
        /// Settings; values are JSON, bare words are strings.
        #[arg(required = true, value_name = "KEY=VALUE")]
        settings: Vec<String>,
        #[command(flatten)]
        output: Output,
    },
}

/// `user …`
#[derive(Debug, Subcommand)]
pub(super) enum UserCommand {
    /// Create a user with a sync address.
    Create {
        /// The account's id.
        account: String,
        /// The user's name.
        name: String,
        /// A verified address of theirs; may be given several times.
        #[arg(long, required = true, value_name = "ADDRESS")]
        email: Vec<String>,
        /// Their role.
        #[arg(long, default_value = "staff")]
        role: String,
        #[command(flatten)]
        output: Output,
    },
    /// List the users of an account.
    List {
        /// The account's id.
        account: String,
        #[command(flatten)]
        output: Output,
    },
    /// Add a verified address to a user's profile.
    AddEmail {
        #[command(flatten)]
        user: UserArguments,
        /// The address.
        #[arg(long)]
        email: String,
    },
    /// Show a user.
    Show(UserArguments),
    /// Give a user a new sync address; the old one answers 550 5.2.1 from now on.
    Rotate(UserArguments),
    /// Stop filing for a user.
    Disconnect {
        #[command(flatten)]
        user: UserArguments,
        /// `mine` erases what the user's own addresses brought in.
        #[arg(long, default_value = "none", value_parser = ["none", "mine"])]
        purge: String,
    },
    /// File for a user again.
    Connect(UserArguments),
}

/// Which user.
#[derive(Debug, Args)]
pub(super) struct UserArguments {
    /// The account's id.
    account: String,
    /// The user's id.
    user: String,
    #[command(flatten)]
    output: Output,
}

/// `contact …`
#[derive(Debug, Subcommand)]
pub(super) enum ContactCommand {
    /// Create a contact.
    Create {
        /// The account's id.
        account: String,
        /// The contact's name.
        name: String,
        /// The primary email.
        email: String,
        /// The CRM's own id.
        #[arg(long)]
        external_id: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// List contacts.
    List {
        /// The account's id.
        account: String,
        /// Words of the name or email.
        #[arg(long)]
        q: Option<String>,
        /// The exact primary email.
        #[arg(long)]
        email: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Import contacts from CSV (with a header line) or NDJSON.
    Import {
        /// The account's id.
        account: String,
        /// `FILE.csv` or `FILE.ndjson`.
        file: PathBuf,
        #[command(flatten)]
        output: Output,
    },
    /// Show a contact.
    Show(ContactArguments),
    /// Delete a contact and purge its record.
    Delete(ContactArguments),
    /// Show the timeline of a contact, newest first.
    Timeline(ContactArguments),
}

/// Which contact.
#[derive(Debug, Args)]
pub(super) struct ContactArguments {
    /// The account's id.
    account: String,
    /// The contact's id.
    contact: String,
    #[command(flatten)]
    output: Output,
}

/// `message …`
#[derive(Debug, Subcommand)]
pub(super) enum MessageCommand {
    /// Take a filed mail back from the record, within 30 days of its receipt.
    Undo {
        /// The account's id.
        account: String,
        /// The message's id.
        message: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `reply-address …`
#[derive(Debug, Subcommand)]
pub(super) enum ReplyAddressCommand {
    /// Mint a reply address for a contact's conversation.
    Mint {
        /// The account's id.
        account: String,
        /// The contact's id.
        contact: String,
        /// The user's id.
        #[arg(long)]
        user: Option<String>,
        /// An existing conversation; without it a new one begins.
        #[arg(long)]
        conversation: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Revoke the reply addresses of a conversation: they answer 550 5.2.1 from now on.
    Revoke {
        /// The account's id.
        account: String,
        /// The conversation's id.
        conversation: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `relay …`
#[derive(Debug, Subcommand)]
pub(super) enum RelayCommand {
    /// List copies and notices, newest first: sent, waiting (attempts, next attempt, last reply) or failed.
    List {
        /// The account's id.
        account: String,
        /// `waiting`, `sending`, `sent`, `failed` or `cancelled`.
        #[arg(long)]
        state: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Send a failed or cancelled one again.
    Retry {
        /// The account's id.
        account: String,
        /// The job's id.
        job: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `held …`
#[derive(Debug, Subcommand)]
pub(super) enum HeldCommand {
    /// List the review queue, newest first.
    List {
        /// The account's id; `operator` for mail to postmaster and abuse.
        account: String,
        /// A reason code.
        #[arg(long)]
        reason: Option<String>,
        /// What waits for this contact.
        #[arg(long)]
        contact: Option<String>,
        /// What waits for this user.
        #[arg(long)]
        user: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Show a held mail: who, what, why.
    Show {
        /// The account's id, or `operator`.
        account: String,
        /// The held mail's id.
        held: String,
        #[command(flatten)]
        output: Output,
    },
    /// Print a held mail as it was received.
    Raw {
        /// The account's id, or `operator`.
        account: String,
        /// The held mail's id.
        held: String,
    },
    /// File a held mail on a contact's record; one held as `new_identity` needs none: the rules decide.
    File {
        /// The account's id.
        account: String,
        /// The held mail's id.
        held: String,
        /// The contact's id.
        #[arg(long, conflicts_with = "create")]
        contact: Option<String>,
        /// The name of a contact to be made; with `--email`.
        #[arg(long, value_name = "NAME", requires = "email")]
        create: Option<String>,
        /// The primary email of the contact to be made.
        #[arg(long, value_name = "ADDRESS", requires = "create")]
        email: Option<String>,
        /// Of mail in a user's name: from now on believe the domain that signed it.
        #[arg(long)]
        remember_signer: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Erase a held mail; its trace stays.
    Discard {
        /// The account's id.
        account: String,
        /// The held mail's id.
        held: String,
        #[command(flatten)]
        output: Output,
    },
}

/// `token …`
#[derive(Debug, Subcommand)]
pub(super) enum TokenCommand {
    /// Create an API token; it is shown once.
    Create {
        /// What it is for.
        name: String,
        /// A scope; may be given several times.
        #[arg(long, required = true)]
        scope: Vec<String>,
        /// The account it is for; with scope `admin` alone it may be left out.
        #[arg(long, value_name = "ID", conflicts_with = "all_accounts")]
        account: Option<String>,
        /// For every account, those to come included.
        #[arg(long)]
        all_accounts: bool,
        #[command(flatten)]
        output: Output,
    },
    /// List tokens, without their secrets.
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Delete a token.
    Delete {
        /// The token's id.
        id: String,
        #[command(flatten)]
        output: Output,
    },
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Output {
    /// JSON.
    #[arg(long)]
    pub(super) json: bool,
}

impl Output {
    pub(super) const fn is_json(self) -> bool {
        self.json
    }
}

pub(super) async fn account(config: &Config, command: AccountCommand) -> Result<ExitCode, Failure> {
    let (method, path, body, output) = match command {
        AccountCommand::Create { name, settings, output } => {
            let mut body = json!({"name": name});
            if let Some(settings) = settings {
                body["settings"] = parse_json("--settings", &settings)?;
            }
            ("POST", "/accounts".to_owned(), Some(body), output)
        }
        AccountCommand::List { output } => ("GET", "/accounts".to_owned(), None, output),
        AccountCommand::Show { account, output } => ("GET", format!("/accounts/{account}"), None, output),
        AccountCommand::Set { account, settings, output } => {
            let body = json!({"settings": settings_of(&settings)?});
            ("PATCH", format!("/accounts/{account}"), Some(body), output)
        }
    };
    request(config, method, &path, body, output).await
}

pub(super) async fn user(config: &Config, command: UserCommand) -> Result<ExitCode, Failure> {
    let on =
        |user: &UserArguments, verb: &str| format!("/accounts/{}/users/{}{verb}", user.account, user.user);
    let (method, path, body, output) = match command {
        UserCommand::Create { account, name, email, role, output } => {
            let body = json!({"name": name, "emails": email, "role": role});
            ("POST", format!("/accounts/{account}/users"), Some(body), output)
        }
        UserCommand::List { account, output } => ("GET", format!("/accounts/{account}/users"), None, output),
        UserCommand::AddEmail { user, email } => {
            let body = json!({"address": email, "verified": true});
            ("POST", on(&user, "/emails"), Some(body), user.output)
        }
        UserCommand::Show(user) => ("GET", on(&user, ""), None, user.output),
        UserCommand::Rotate(user) => ("POST", on(&user, "/sync:rotate"), None, user.output),
        UserCommand::Disconnect { user, purge } => {
            ("POST", on(&user, "/sync:disconnect"), Some(json!({"purge": purge})), user.output)
        }
        UserCommand::Connect(user) => ("POST", on(&user, "/sync:connect"), None, user.output),
    };
    request(config, method, &path, body, output).await
}

pub(super) async fn contact(config: &Config, command: ContactCommand) -> Result<ExitCode, Failure> {
    let of = |contact: &ContactArguments, view: &str| {
        format!("/accounts/{}/contacts/{}{view}", contact.account, contact.contact)
    };
    let (method, path, body, output) = match command {
        ContactCommand::Create { account, name, email, external_id, output } => {
            let body = json!({"name": name, "email": email, "external_id": external_id});
            ("POST", format!("/accounts/{account}/contacts"), Some(body), output)
        }
        ContactCommand::List { account, q, email, output } => {
            let query = query(&[("q", q), ("email", email)]);
            ("GET", format!("/accounts/{account}/contacts{query}"), None, output)
        }
        ContactCommand::Import { account, file, output } => {
            return import(config, &account, &file, output).await;
        }
        ContactCommand::Show(contact) => ("GET", of(&contact, ""), None, contact.output),
        ContactCommand::Delete(contact) => ("DELETE", of(&contact, ""), None, contact.output),
        ContactCommand::Timeline(contact) => ("GET", of(&contact, "/timeline"), None, contact.output),
    };
    request(config, method, &path, body, output).await
}

pub(super) async fn reply_address(
    config: &Config,
    command: ReplyAddressCommand,
) -> Result<ExitCode, Failure> {
    let (path, body, output) = match command {
        ReplyAddressCommand::Mint { account, contact, user, conversation, output } => {
            let body = json!({"contact_id": contact, "user_id": user, "conversation_id": conversation});
            (format!("/accounts/{account}/reply-addresses"), Some(body), output)
        }
        ReplyAddressCommand::Revoke { account, conversation, output } => {
            let path = format!("/accounts/{account}/conversations/{conversation}:revoke-reply-addresses");
            (path, None, output)
        }
    };
    request(config, "POST", &path, body, output).await
}

pub(super) async fn relay(config: &Config, command: RelayCommand) -> Result<ExitCode, Failure> {
    let (method, path, output) = match command {
        RelayCommand::List { account, state, output } => {
            let query = query(&[("state", state)]);
            ("GET", format!("/accounts/{account}/relay-jobs{query}"), output)
        }
        RelayCommand::Retry { account, job, output } => {
            ("POST", format!("/accounts/{account}/relay-jobs/{job}/retry"), output)
        }
    };
    request(config, method, &path, None, output).await
}

pub(super) async fn held(config: &Config, command: HeldCommand) -> Result<ExitCode, Failure> {
    let (method, path, body, output) = match command {
        HeldCommand::List { account, reason, contact, user, output } => {
            let query = query(&[("reason", reason), ("contact", contact), ("user", user)]);
            ("GET", format!("/accounts/{}/held{query}", or_operator(&account)), None, output)
        }
        HeldCommand::Show { account, held, output } => {
            ("GET", format!("/accounts/{}/held/{held}", or_operator(&account)), None, output)
        }
        HeldCommand::Raw { account, held } => {
            let path = format!("/accounts/{}/held/{held}/raw", or_operator(&account));
            return raw(config, &path).await;
        }
        HeldCommand::File { account, held, contact, create, email, remember_signer, output } => {
            let new = create.zip(email).map(|(name, email)| json!({"name": name, "email": email}));
            let body = json!({
                "contact_id": contact, "create_contact": new, "remember_signer": remember_signer,
            });
            ("POST", format!("/accounts/{account}/held/{held}:file"), Some(body), output)
        }
        HeldCommand::Discard { account, held, output } => {
            ("POST", format!("/accounts/{account}/held/{held}:discard"), None, output)
        }
    };
    request(config, method, &path, body, output).await
}

/// What a path leads to, octet by octet.
async fn raw(config: &Config, path: &str) -> Result<ExitCode, Failure> {
    let api = LocalApi::open(config).await?;
    let octets = api.octets(path).await?;
    api.close().await;
    output::octets(&octets);
    Ok(ExitCode::SUCCESS)
}

/// What belongs to no account has no id that anybody knows by heart.
fn or_operator(account: &str) -> String {
    if account == "operator" { AccountId::OPERATOR.to_string() } else { account.to_owned() }
}

/// The same as a value of the command line.
pub(super) fn account_or_operator(account: &str) -> Result<AccountId, String> {
    or_operator(account).parse().map_err(|_| "is no id of an account, nor `operator`".to_owned())
}

pub(super) async fn token(config: &Config, command: TokenCommand) -> Result<ExitCode, Failure> {
    let (method, path, body, output) = match command {
        TokenCommand::Create { name, scope, account, all_accounts, output } => {
            if account.is_none() && !all_accounts && !scope.iter().any(|scope| scope == "admin") {
                let said = "which account is it for? --account ID, or --all-accounts for every one";
                return Err(Failure::Usage(said.to_owned()));
            }
            let body = json!({"name": name, "scopes": scope, "account_id": account});
            ("POST", "/tokens".to_owned(), Some(body), output)
        }
        TokenCommand::List { output } => ("GET", "/tokens".to_owned(), None, output),
        TokenCommand::Delete { id, output } => ("DELETE", format!("/tokens/{id}"), None, output),
    };
    request(config, method, &path, body, output).await
}

pub(super) async fn message(config: &Config, command: MessageCommand) -> Result<ExitCode, Failure> {
    let MessageCommand::Undo { account, message, output } = command;
    request(config, "POST", &format!("/accounts/{account}/messages/{message}:undo"), None, output).await
}

pub(super) async fn request(
    config: &Config,
    method: &str,
    path: &str,
    body: Option<Value>,
    output: Output,
) -> Result<ExitCode, Failure> {
    let api = LocalApi::open(config).await?;
    let mut path = path.to_owned();
    loop {
        let answer = api.call(method, &path, body.clone()).await?;
        print(&answer, output);
        // Lists are printed to their end, page by page.
        let Some(next) = answer.get("next").and_then(Value::as_str) else { break };
        let base = path.split("cursor=").next().unwrap_or_default().trim_end_matches(['?', '&']).to_owned();
        let joint = if base.contains('?') { '&' } else { '?' };
        path = format!("{base}{joint}cursor={next}");
    }
    api.close().await;
    Ok(ExitCode::SUCCESS)
}

/// One request whose body is read from the file as it is sent: the numbers of lines are the file's, a quoted field may
/// hold line ends, and only a piece of it is in memory.
async fn import(config: &Config, account: &str, file: &Path, output: Output) -> Result<ExitCode, Failure> {
    let unreadable = |error| Failure::Usage(format!("{}: {error}", file.display()));
    let opened = File::open(file).map_err(unreadable)?;
    let all = opened.metadata().map_err(unreadable)?.len();
    let is_csv = file.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("csv"));
    let content_type = if is_csv { "text/csv" } else { "application/x-ndjson" };
    let pieces = futures_util::stream::try_unfold((opened, 0), move |(mut file, done)| async move {
        let mut piece = vec![0; IMPORT_PIECE_OCTETS];
        let read = file.read(&mut piece)?;
        piece.truncate(read);
        let done = done + read as u64;
        if read > 0 {
            show_progress(done, all);
        }
        Ok::<_, std::io::Error>((read > 0).then_some((piece, (file, done))))
    });
    let api = LocalApi::open(config).await?;
    let path = format!("/accounts/{account}/contacts:import");
    let answer = api.send("POST", &path, content_type, Body::from_stream(pieces)).await?;
    api.close().await;
    let is_clean = answer.get("failed").and_then(Value::as_array).is_none_or(Vec::is_empty);
    print(&answer, output);
    Ok(if is_clean { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// How much of the file has been sent; the end of it shows the whole bar.
fn show_progress(done: u64, all: u64) {
    let mut err = std::io::stderr().lock();
    // A pipe does not say how long it is.
    if all == 0 || !err.is_terminal() {
        return;
    }
    let filled = (done * PROGRESS_CELLS).checked_div(all).unwrap_or(PROGRESS_CELLS);
    let bar: String = (0..PROGRESS_CELLS).map(|cell| if cell < filled { '#' } else { '.' }).collect();
    let end = if done >= all { "\n" } else { "" };
    let _gone =
        write!(err, "\r[{bar}] {} of {} KiB{end}", done / 1024, all / 1024).and_then(|()| err.flush());
}

/// JSON as it is; for people one `key value` line each, nested values as JSON.
pub(super) fn print(answer: &Value, output: Output) {
    let items = answer.get("items").and_then(Value::as_array);
    match (items, output.json) {
        (Some(items), _) => items.iter().for_each(|item| print(item, output)),
        (None, true) => output::json(answer),
        (None, false) => {
            for (key, value) in answer.as_object().into_iter().flatten() {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                output::line(&format!("{key:<16} {shown}"));
            }
            output::line("");
        }
    }
}

fn settings_of(pairs: &[String]) -> Result<Value, Failure> {
    let mut settings = Map::new();
    for pair in pairs {
        let (key, value) =
            pair.split_once('=').ok_or_else(|| Failure::Usage(format!("`{pair}` is not KEY=VALUE")))?;
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        settings.insert(key.to_owned(), value);
    }
    Ok(Value::Object(settings))
}

fn parse_json(name: &str, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::Usage(format!("{name}: {error}")))
}

pub(super) fn query(pairs: &[(&str, Option<String>)]) -> String {
    let given =
        pairs.iter().filter_map(|(key, value)| Some(format!("{key}={}", percent_encoded(value.as_ref()?))));
    let joined = given.collect::<Vec<_>>().join("&");
    if joined.is_empty() { joined } else { format!("?{joined}") }
}

/// RFC 3986 section 2.1, for a query value.
pub(super) fn percent_encoded(text: &str) -> String {
    let mut encoded = String::new();
    for octet in text.bytes() {
        if octet.is_ascii_alphanumeric() || b"-._~".contains(&octet) {
            encoded.push(char::from(octet));
        } else {
            encoded.push_str(&format!("%{octet:02X}"));
        }
    }
    encoded
}

const IMPORT_PIECE_OCTETS: usize = 64 * 1024;
const PROGRESS_CELLS: u64 = 40;
