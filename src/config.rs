//! The configuration (CONTRACT, "Configuration"): a TOML file, over built-in defaults, under environment variables.
//!
//! Promises that an unknown key, a bad value or an unreadable file is one line that names file, line and key, and
//! that a configuration, once read, is valid: what is parsed here is not checked again.

use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use crate::address::EmailAddress;
use crate::outbox::smarthost::Smarthost;
use crate::store::PostgresUrl;

/// Everything that can be set.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The SMTP listener.
    pub smtp: Smtp,
    /// Certificates.
    pub tls: Tls,
    /// The domains that we serve.
    pub domains: Domains,
    /// The resolver.
    pub dns: Dns,
    /// The HTTP listener.
    pub http: Http,
    /// Database and blobs.
    pub store: Store,
    /// The key file.
    pub keys: KeyFile,
    /// Logs.
    pub log: Log,
    /// The smarthost, if there is one.
    pub relay: Option<Relay>,
    /// The malware scanner, if there is one.
    pub scan: Option<Scan>,
    /// Webhooks.
    pub webhook: Webhook,
}

/// `[smtp]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Smtp {
    /// Where to listen, any number of addresses.
    pub listen: Vec<SocketAddr>,
    /// The name in the banner, in Received and in Authentication-Results.
    #[serde(deserialize_with = "host_name")]
    pub hostname: String,
    /// The largest message in octets, announced with SIZE.
    #[serde(deserialize_with = "size_bytes")]
    pub max_message_size: u64,
    /// Recipients of one transaction.
    #[serde(deserialize_with = "at_least_one")]
    pub max_recipients: usize,
    /// Connections at once.
    #[serde(deserialize_with = "at_least_one")]
    pub max_connections: usize,
    /// Connections at once from one IPv4 address or IPv6 /64.
    #[serde(deserialize_with = "at_least_one")]
    pub max_connections_per_ip: usize,
    /// Networks (CIDR) whose connections must begin with a PROXY header.
    #[serde(deserialize_with = "networks")]
    pub proxy_protocol_from: Vec<String>,
    /// Networks (CIDR) that get `554 5.7.1` in place of a banner.
    #[serde(deserialize_with = "networks")]
    pub refuse_from: Vec<String>,
    /// How long to wait for the client.
    pub timeouts: Timeouts,
}

/// `[smtp.timeouts]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Timeouts {
    /// For the next command (RFC 5321 section 4.5.3.2.7).
    #[serde(deserialize_with = "duration")]
    pub command: Duration,
    /// For the next block of a message (RFC 5321 section 4.5.3.2.5).
    #[serde(deserialize_with = "duration")]
    pub data: Duration,
}

/// `[tls]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// PEM chain, leaf first. Without one a self-signed certificate is made in the data folder.
    pub certificate: Option<PathBuf>,
    /// PEM key of the leaf.
    pub key: Option<PathBuf>,
    /// Whether MAIL outside TLS is answered 530 5.7.0.
    pub require: bool,
    /// What senders are told to do where TLS with us fails.
    pub mta_sts: MtaStsMode,
}

/// `tls.mta_sts`: the mode of the policy that we publish (RFC 8461 section 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MtaStsMode {
    /// Not to deliver.
    Enforce,
    /// The policy is withdrawn: what a sender remembers counts no longer.
    None,
    /// No policy is published.
    Off,
    /// To report it and to deliver all the same.
    #[default]
    Testing,
}

impl MtaStsMode {
    /// The word in the policy and in the configuration.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::None => "none",
            Self::Off => "off",
            Self::Testing => "testing",
        }
    }
}

/// `[domains]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Domains {
    /// Domains of sync addresses; new ones get the first.
    #[serde(deserialize_with = "domain_list")]
    pub sync: Vec<String>,
    /// Domains of reply addresses; new ones get the first.
    #[serde(deserialize_with = "domain_list")]
    pub reply: Vec<String>,
}

/// `[dns]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dns {
    /// Resolvers with port; empty for the system's.
    pub servers: Vec<SocketAddr>,
    /// For one look-up.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
}

/// `[http]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// Where to listen.
    pub listen: SocketAddr,
    /// How the world reaches it, without a slash at the end.
    #[serde(deserialize_with = "web_url")]
    pub public_url: String,
}

/// `[store]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// The database.
    #[serde(deserialize_with = "store_url")]
    pub url: StoreUrl,
    /// Where large messages are.
    #[serde(deserialize_with = "blobs_url")]
    pub blobs: BlobsUrl,
    /// Whether subjects, texts, names and addresses in rows are sealed too.
    pub seal_rows: bool,
}

/// `store.blobs`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlobsUrl {
    /// `file://folder`.
    Folder(PathBuf),
    /// `s3://bucket/prefix`; endpoint, region and keys come from the usual `AWS_*` variables.
    S3 {
        /// The bucket.
        bucket: String,
        /// In front of every name, without slashes at its ends; may be empty.
        prefix: String,
    },
}

impl BlobsUrl {
    /// The folder, where it is one: its disk is watched.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(folder) => Some(folder),
            Self::S3 { .. } => None,
        }
    }
}

/// `store.url`, parsed.
#[derive(Clone, Debug)]
pub enum StoreUrl {
    /// `postgres://user@host/db`.
    Postgres(PostgresUrl),
    /// `sqlite://path`.
    Sqlite(PathBuf),
}

/// As it is named in errors, without a password.
impl fmt::Display for StoreUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Postgres(url) => url.fmt(f),
            Self::Sqlite(path) => path.display().fmt(f),
        }
    }
}

/// `[keys]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct KeyFile {
    /// The file; its folder is the data folder.
    pub file: PathBuf,
    /// The variable of the environment that holds the master keys, if the file does not.
    #[serde(deserialize_with = "variable_name")]
    pub master_env: Option<String>,
    /// The program, with its arguments, that prints the master keys; nothing if none does.
    pub master_command: Vec<String>,
}

impl KeyFile {
    /// Whether something besides the file holds master keys.
    #[must_use]
    pub const fn has_source(&self) -> bool {
        self.master_env.is_some() || !self.master_command.is_empty()
    }
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or a filter such as `info,syncmx::smtp=debug`.
    #[serde(deserialize_with = "log_level")]
    pub level: String,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For a terminal.
    Text,
}

/// `[relay]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Relay {
    /// `smtp://host:port`.
    #[serde(deserialize_with = "smtp_url")]
    pub smarthost: Smarthost,
    /// The From address of notices.
    #[serde(deserialize_with = "mail_address")]
    pub from: EmailAddress,
    /// The selector of the key that signs what is sent.
    #[serde(default, deserialize_with = "selector")]
    pub dkim_selector: Option<String>,
    /// Its file.
    pub dkim_key: Option<PathBuf>,
}

/// `[scan]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scan {
    /// The address of clamd.
    pub clamd: SocketAddr,
}

/// `[webhook]`
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhook {
    /// Whether endpoints may lie on loopback and private networks.
    pub allow_private: bool,
}

/// One line that says what is wrong with the configuration, and where.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(String);

impl Config {
    /// Reads the file (none: defaults alone), then what the environment sets (`SYNCMX_SECTION__KEY`).
    ///
    /// # Errors
    /// One line naming file, line and key, or the environment variable.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let mut table = Table::new();
        if let Some(path) = file {
            let shown = path.display().to_string();
            let text = std::fs::read_to_string(path)
                .map_err(|error| ConfigError(format!("{shown}: cannot be read: {error}")))?;
            Self::parse(&text, &shown)?;
            table = text.parse::<Table>().map_err(|error| located(&error, &text, &shown))?;
        }
        let mut variables: Vec<_> = environment.into_iter().filter(|(name, _)| is_setting(name)).collect();
        variables.sort();
        for (name, value) in variables {
            set(&mut table, &name, &value)?;
            // What is missing now may come with another variable; at the end nothing may.
            let wrong = table.clone().try_into::<Self>().err();
            if let Some(error) = wrong.filter(|error| !error.message().starts_with("missing field")) {
                return Err(ConfigError(format!("environment: {name}: {}", first_line(error.message()))));
            }
        }
        let config: Self =
            table.try_into().map_err(|error| ConfigError(first_line(error.message()).to_owned()))?;
        config.checked()
    }

    /// The folder of the key file: certificate, administrator's token and other things made on first start lie there.
    #[must_use]
    pub fn data_folder(&self) -> &Path {
        folder_of(&self.keys.file)
    }

    /// The folders that mail is written to, on however many disks: while one has no room, mail is put off.
    #[must_use]
    pub fn mail_folders(&self) -> Vec<PathBuf> {
        let mut folders = vec![self.data_folder().to_owned(), std::env::temp_dir()];
        folders.extend(self.store.blobs.folder().map(Path::to_owned));
        if let StoreUrl::Sqlite(database) = &self.store.url {
            folders.push(folder_of(database).to_owned());
        }
        folders.sort();
        folders.dedup();
        folders
    }

    fn parse(text: &str, shown: &str) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| located(&error, text, shown))
    }

    fn checked(self) -> Result<Self, ConfigError> {
        if self.tls.certificate.is_some() != self.tls.key.is_some() {
            return Err(ConfigError("tls: certificate and key go together".to_owned()));
        }
        if self.relay.as_ref().is_some_and(|relay| relay.dkim_selector.is_some() != relay.dkim_key.is_some())
        {
            return Err(ConfigError("relay: dkim_selector and dkim_key go together".to_owned()));
        }
        if self.keys.master_env.is_some() && !self.keys.master_command.is_empty() {
            return Err(ConfigError("keys: master_env or master_command, not both".to_owned()));
        }
        if self.smtp.listen.is_empty() {
            return Err(ConfigError("smtp.listen: at least one address".to_owned()));
        }
        if self.smtp.max_message_size > MOST_MESSAGE_SIZE {
            let most = MOST_MESSAGE_SIZE / MIB;
            return Err(ConfigError(format!(
                "smtp.max_message_size: at most {most}MiB, which one address may send at once"
            )));
        }
        Ok(self)
    }
}

impl Default for Smtp {
    fn default() -> Self {
        Self {
            listen: vec![SocketAddr::from(([127, 0, 0, 1], 2525))],
            hostname: "mx.example.test".to_owned(),
            max_message_size: 36 * MIB,
            max_recipients: 100,
            max_connections: 10_000,
            max_connections_per_ip: 50,
            proxy_protocol_from: Vec::new(),
            refuse_from: Vec::new(),
            timeouts: Timeouts::default(),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { command: Duration::from_secs(5 * 60), data: Duration::from_secs(3 * 60) }
    }
}

impl Default for Domains {
    fn default() -> Self {
        Self { sync: vec!["sync.example.test".to_owned()], reply: vec!["reply.example.test".to_owned()] }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self { servers: Vec::new(), timeout: Duration::from_secs(5) }
    }
}

impl Default for Http {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8025)),
            public_url: "http://127.0.0.1:8025".to_owned(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: StoreUrl::Sqlite(PathBuf::from("data/syncmx.db")),
            blobs: BlobsUrl::Folder(PathBuf::from("data/blobs")),
            seal_rows: false,
        }
    }
}

impl Default for KeyFile {
    fn default() -> Self {
        Self { file: PathBuf::from("data/keys.toml"), master_env: None, master_command: Vec::new() }
    }
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".to_owned() }
    }
}

const KIB: u64 = 1024;
const MIB: u64 = 1024 * KIB;
/// Within the share of one address of all bodies on their way: it could never be delivered otherwise.
const MOST_MESSAGE_SIZE: u64 = 200 * MIB;

/// A size as people write it: `36MiB`, `25MB`, `512`.
fn size_bytes<'de, D: Deserializer<'de>>(input: D) -> Result<u64, D::Error> {
    let text = number_or_text(input)?;
    let wrong = || serde::de::Error::custom(format!("`{text}` is no size (examples: 36MiB, 25MB, 1048576)"));
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let factor = match unit.trim() {
        "" | "B" => 1,
        "KB" | "kB" => 1000,
        "KiB" => KIB,
        "MB" => 1_000_000,
        "MiB" => MIB,
        "GB" => 1_000_000_000,
        "GiB" => 1024 * MIB,
        _ => return Err(wrong()),
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    number.checked_mul(factor).filter(|size| *size > 0).ok_or_else(wrong)
}

/// A duration as people write it: `5m`, `30s`, `500ms`, `1h`.
fn duration<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    let text = number_or_text(input)?;
    let wrong = || serde::de::Error::custom(format!("`{text}` is no duration (examples: 5m, 30s, 500ms)"));
    let digits = text.chars().take_while(char::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(wrong)?;
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let millis = match unit.trim() {
        "ms" => Some(number),
        "s" => number.checked_mul(1000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        _ => None,
    };
    millis.filter(|millis| *millis > 0).map(Duration::from_millis).ok_or_else(wrong)
}

fn number_or_text<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum NumberOrText {
        Number(u64),
        Text(String),
    }
    Ok(match NumberOrText::deserialize(input)? {
        NumberOrText::Number(number) => number.to_string(),
        NumberOrText::Text(text) => text,
    })
}

fn at_least_one<'de, D: Deserializer<'de>>(input: D) -> Result<usize, D::Error> {
    let number = usize::deserialize(input)?;
    if number == 0 { Err(serde::de::Error::custom("must be at least 1")) } else { Ok(number) }
}

fn host_name<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let name = String::deserialize(input)?;
    if is_domain(&name) {
        Ok(name)
    } else {
        Err(serde::de::Error::custom(format!("`{name}` is no host name")))
    }
}

fn domain_list<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let names = Vec::<String>::deserialize(input)?;
    if names.is_empty() {
        return Err(serde::de::Error::custom("at least one domain"));
    }
    names
        .into_iter()
        .map(|name| {
            let name = name.to_ascii_lowercase();
            if is_domain(&name) {
                Ok(name)
            } else {
                Err(serde::de::Error::custom(format!("`{name}` is no domain")))
            }
        })
        .collect()
}

fn is_domain(name: &str) -> bool {
    name.is_ascii() && EmailAddress::parse(&format!("a@{name}")).is_some() && !name.starts_with('[')
}

fn store_url<'de, D: Deserializer<'de>>(input: D) -> Result<StoreUrl, D::Error> {
    let url = String::deserialize(input)?;
    if url.starts_with("postgres") {
        let parsed = url.parse().map(StoreUrl::Postgres);
        return parsed
            .map_err(|error| serde::de::Error::custom(format!("`{}` {error}", without_password(&url))));
    }
    match url.strip_prefix("sqlite://") {
        Some(path) if !path.is_empty() => Ok(StoreUrl::Sqlite(PathBuf::from(path))),
        _ => Err(serde::de::Error::custom(format!(
            "`{}` is neither sqlite://PATH nor postgres://USER@HOST/DATABASE",
            without_password(&url)
        ))),
    }
}

fn blobs_url<'de, D: Deserializer<'de>>(input: D) -> Result<BlobsUrl, D::Error> {
    let url = String::deserialize(input)?;
    if let Some(path) = url.strip_prefix("file://").filter(|path| !path.is_empty()) {
        return Ok(BlobsUrl::Folder(PathBuf::from(path)));
    }
    let (bucket, prefix) = url
        .strip_prefix("s3://")
        .map(|rest| rest.split_once('/').unwrap_or((rest, "")))
        .filter(|(bucket, _)| !bucket.is_empty())
        .ok_or_else(|| {
            serde::de::Error::custom(format!("`{url}` is not file://FOLDER or s3://BUCKET/PREFIX"))
        })?;
    Ok(BlobsUrl::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
}

fn without_password(url: &str) -> &str {
    let bare = url.split_once('?').map_or(url, |(bare, _)| bare);
    bare.rsplit_once('@').map_or(bare, |(_, rest)| rest)
}

fn log_level<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let level = String::deserialize(input)?;
    // A word alone would be taken for the name of a target.
    let is_level = |word: &str| word.parse::<tracing::Level>().is_ok() || word == "off";
    let parts_make_sense =
        level.split(',').all(|part| is_level(part.rsplit('=').next().unwrap_or_default().trim()));
    if parts_make_sense && level.parse::<tracing_subscriber::filter::Targets>().is_ok() {
        return Ok(level);
    }
    Err(serde::de::Error::custom(format!(
        "`{level}` is no log level (examples: info, info,syncmx::smtp=debug)"
    )))
}

fn networks<'de, D: Deserializer<'de>>(input: D) -> Result<Vec<String>, D::Error> {
    let networks = Vec::<String>::deserialize(input)?;
    match networks.iter().find(|network| !is_network(network)) {
        None => Ok(networks),
        Some(wrong) => {
            Err(serde::de::Error::custom(format!("`{wrong}` is no network (example: 192.0.2.0/24)")))
        }
    }
}

fn is_network(text: &str) -> bool {
    let (address, prefix) = text.split_once('/').unwrap_or((text, "0"));
    let most = match address.parse() {
        Ok(std::net::IpAddr::V4(_)) => 32,
        Ok(std::net::IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    prefix.parse::<u8>().is_ok_and(|prefix| prefix <= most)
}

fn web_url<'de, D: Deserializer<'de>>(input: D) -> Result<String, D::Error> {
    let url = String::deserialize(input)?;
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if host.is_some_and(|host| !host.is_empty() && !host.contains(char::is_whitespace)) {
        return Ok(url.trim_end_matches('/').to_owned());
    }
    Err(serde::de::Error::custom(format!("`{url}` is not http://… or https://…")))
}

fn smtp_url<'de, D: Deserializer<'de>>(input: D) -> Result<Smarthost, D::Error> {
    let url = String::deserialize(input)?;
    Smarthost::parse(&url).ok_or_else(|| {
        let shown = url.rsplit('@').next().unwrap_or_default();
        serde::de::Error::custom(format!(
            "`{shown}` is not smtp://HOST:PORT (or smtp+starttls://, smtps://; USER:PASSWORD@ before HOST)"
        ))
    })
}

fn mail_address<'de, D: Deserializer<'de>>(input: D) -> Result<EmailAddress, D::Error> {
    let address = String::deserialize(input)?;
    EmailAddress::parse(&address)
        .ok_or_else(|| serde::de::Error::custom(format!("`{address}` is no address")))
}

fn selector<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let selector = String::deserialize(input)?;
    if is_domain(&selector) {
        return Ok(Some(selector));
    }
    Err(serde::de::Error::custom(format!("`{selector}` is no selector (example: s2026)")))
}

/// Shorter than any key.
const MAX_VARIABLE_NAME: usize = 40;

fn variable_name<'de, D: Deserializer<'de>>(input: D) -> Result<Option<String>, D::Error> {
    let name = String::deserialize(input)?;
    if is_setting(&name) {
        return Err(serde::de::Error::custom(format!("`{name}` would be taken for a setting")));
    }
    let is_name = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    if name.is_empty() || name.len() > MAX_VARIABLE_NAME || !name.bytes().all(is_name) {
        // Perhaps it is the key itself: it is not shown.
        return Err(serde::de::Error::custom("this is no name of a variable (example: SYNCMX_MASTER_KEY)"));
    }
    Ok(Some(name))
}

/// `SYNCMX_SMTP__LISTEN` is a setting; `SYNCMX_CONFIG` is not.
fn is_setting(name: &str) -> bool {
    name.strip_prefix("SYNCMX_").is_some_and(|rest| rest.contains("__"))
}

fn set(table: &mut Table, name: &str, value: &str) -> Result<(), ConfigError> {
    let path: Vec<String> = name.trim_start_matches("SYNCMX_").split("__").map(str::to_lowercase).collect();
    let Some((key, sections)) = path.split_last() else {
        return Ok(());
    };
    let mut section = table;
    for part in sections {
        section = section
            .entry(part.clone())
            .or_insert_with(|| Value::Table(Table::new()))
            .as_table_mut()
            .ok_or_else(|| ConfigError(format!("environment: {name}: `{part}` is not a section")))?;
    }
    let as_toml =
        format!("value = {value}").parse::<Table>().ok().and_then(|mut table| table.remove("value"));
    section.insert(key.clone(), as_toml.unwrap_or_else(|| Value::String(value.to_owned())));
    Ok(())
}

fn located(error: &toml::de::Error, text: &str, shown: &str) -> ConfigError {
    let message = first_line(error.message());
    let Some(span) = error.span() else {
        return ConfigError(format!("{shown}: {message}"));
    };
    let before = text.get(..span.start).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    // Inside a list of several lines the key stands above.
    let upwards = text.lines().take(number).collect::<Vec<_>>().into_iter().rev();
    let line = upwards.clone().find(|line| line.contains('=') || line.starts_with('[')).unwrap_or_default();
    let section = text
        .lines()
        .take(number)
        .filter_map(|line| line.trim().strip_prefix('[')?.split(']').next())
        .last()
        .unwrap_or_default();
    let key = line.split('=').next().unwrap_or_default().trim().trim_matches(['[', ']']);
    let dotted =
        if section.is_empty() || section == key { key.to_owned() } else { format!("{section}.{key}") };
    ConfigError(format!("{shown}:{number}: {dotted}: {message}"))
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn x4_mail_is_written_to_the_folders_of_keys_database_blobs_and_temporary_files() {
        let temporary = std::env::temp_dir();
        let folders = |url: &str, blobs: &str| {
            let set = [("STORE__URL", url), ("STORE__BLOBS", blobs), ("KEYS__FILE", "/keys/keys.toml")];
            let set = set.map(|(name, value)| (format!("SYNCMX_{name}"), value.to_owned()));
            let mut folders = Config::load(None, set).unwrap().mail_folders();
            assert!(folders.contains(&temporary), "{folders:?}");
            folders.retain(|folder| *folder != temporary);
            folders.iter().map(|folder| folder.to_str().unwrap().to_owned()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(folders("sqlite:///rows/syncmx.db", "file:///large"), "/keys /large /rows");
        assert_eq!(folders("sqlite:///keys/syncmx.db", "file:///keys/blobs"), "/keys /keys/blobs");
        assert_eq!(folders("sqlite://syncmx.db", "file:///large"), "/keys /large .");
        assert_eq!(folders("postgres://u@h/d", "s3://bucket"), "/keys");
    }

    #[track_caller]
    fn refused(text: &str, expected: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("syncmx.toml");
        std::fs::write(&path, text).unwrap();
        let error = Config::load(Some(&path), []).unwrap_err().to_string();
        assert!(!error.contains('\n'), "{error}");
        assert!(error.contains(expected), "{error} does not contain {expected}");
    }

    #[test]
    fn a_message_may_be_as_large_as_one_address_may_send_and_no_larger() {
        let most = format!("[smtp]\nmax_message_size = {MOST_MESSAGE_SIZE}\n");
        assert_eq!(Config::parse(&most, "x").unwrap().checked().unwrap().smtp.max_message_size, 200 * MIB);
        let over = format!("[smtp]\nmax_message_size = {}\n", MOST_MESSAGE_SIZE + 1);
        refused(&over, "smtp.max_message_size: at most 200MiB");
    }

    #[test]
    fn a_source_of_master_keys_is_one_and_never_the_key_itself() {
        refused(
            "[keys]\nmaster_env = \"A\"\nmaster_command = [\"b\"]\n",
            "keys: master_env or master_command, not both",
        );
        let key = "5e".repeat(32);
        for wrong in ["", "A=B", "A B", &"A".repeat(41), &key] {
            let text = format!("[keys]\nmaster_env = \"{wrong}\"\n");
            refused(&text, "keys.master_env: this is no name of a variable");
        }
        refused("[keys]\nmaster_env = \"SYNCMX_KEYS__MASTER\"\n", "would be taken for a setting");
        let environment = [("SYNCMX_KEYS__MASTER_COMMAND", "[\"a\", \"b\"]")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(Config::load(None, environment).unwrap().keys.master_command, ["a", "b"]);
        let name = "A".repeat(MAX_VARIABLE_NAME);
        let environment = [("SYNCMX_KEYS__MASTER_ENV".to_owned(), name.clone())];
        assert_eq!(Config::load(None, environment).unwrap().keys.master_env, Some(name));
    }

    #[test]
    fn without_a_file_the_defaults_serve_a_laptop() {
        let config = Config::load(None, []).unwrap();
        assert_eq!(config.smtp.listen, ["127.0.0.1:2525".parse().unwrap()]);
        assert_eq!(config.http.listen, "127.0.0.1:8025".parse().unwrap());
        assert_eq!(config.smtp.max_message_size, 36 * 1024 * 1024);
        assert_eq!(config.data_folder(), Path::new("data"));
    }

    #[test]
    fn an_unknown_key_or_a_bad_value_names_file_line_and_key() {
        refused(
            "[smtp]\nlisten = [\"127.0.0.1:0\"]\nmax_recipient = 3\n",
            "syncmx.toml:3: smtp.max_recipient: unknown field",
        );
        refused("[smtp]\nmax_recipients = \"many\"\n", "syncmx.toml:2: smtp.max_recipients: invalid type");
        refused(
            "[smtp]\n\nmax_message_size = \"36 apples\"\n",
            "syncmx.toml:3: smtp.max_message_size: `36 apples` is no size",
        );
        refused(
            "[smtp.timeouts]\ncommand = \"soon\"\n",
            "syncmx.toml:2: smtp.timeouts.command: `soon` is no duration",
        );
        refused("[stor]\nurl = 1\n", "syncmx.toml:1: stor: unknown field");
        refused(
            "[store]\nurl = \"mysql://u:pw@h/db\"\n",
            "syncmx.toml:2: store.url: `h/db` is neither sqlite://PATH nor postgres://",
        );
        refused("[smtp\n", "syncmx.toml:1:");
        refused(
            "[smtp]\nlisten = [\n  \"127.0.0.1:25\",\n  \"nonsense\",\n]\n",
            ": smtp.listen: invalid socket address",
        );
        refused("[smtp]\nproxy_protocol_from = [\"192.0.2.0/33\"]\n", "`192.0.2.0/33` is no network");
        refused("[log]\nlevel = \"loud\"\n", "syncmx.toml:2: log.level: `loud` is no log level");
        refused(
            "[relay]\nsmarthost = \"nonsense\"\nfrom = \"a@b.test\"\n",
            "syncmx.toml:2: relay.smarthost: `nonsense`",
        );
        refused(
            "[relay]\nsmarthost = \"smtp://a:25\"\nfrom = \"nonsense\"\n",
            "syncmx.toml:3: relay.from: `nonsense`",
        );
        refused("[http]\npublic_url = \"ftp://x\"\n", "syncmx.toml:2: http.public_url: `ftp://x`");
        refused("[tls]\ncertificate = \"/dev/null\"\n", "certificate and key go together");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = Config::load(Some(Path::new("/nonexistent/syncmx.toml")), []).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/syncmx.toml: cannot be read"), "{error}");
    }

    #[test]
    fn the_environment_wins_and_its_mistakes_are_named() {
        let environment = |name: &str, value: &str| [(name.to_owned(), value.to_owned())];
        let config =
            Config::load(None, environment("SYNCMX_SMTP__LISTEN", "[\"[::1]:25\", \"127.0.0.1:25\"]"))
                .unwrap();
        assert_eq!(config.smtp.listen.len(), 2);
        let config = Config::load(None, environment("SYNCMX_SMTP__TIMEOUTS__COMMAND", "30s")).unwrap();
        assert_eq!(config.smtp.timeouts.command, Duration::from_secs(30));
        let config = Config::load(None, environment("SYNCMX_SMTP__HOSTNAME", "mx.praxis.test")).unwrap();
        assert_eq!(config.smtp.hostname, "mx.praxis.test");
        Config::load(None, environment("SYNCMX_CONFIG", "x")).unwrap();
        let error =
            Config::load(None, environment("SYNCMX_SMTP__MAX_RECIPIENTS", "many")).unwrap_err().to_string();
        assert!(error.starts_with("environment: SYNCMX_SMTP__MAX_RECIPIENTS:"), "{error}");
        let host = ("SYNCMX_RELAY__SMARTHOST".to_owned(), "smtp://u:p@127.0.0.1:25".to_owned());
        let from = ("SYNCMX_RELAY__FROM".to_owned(), "no-reply@reply.test".to_owned());
        assert!(Config::load(None, [from.clone(), host.clone()]).unwrap().relay.is_some());
        let error = Config::load(None, [host]).unwrap_err().to_string();
        assert!(error.contains("missing field `from`"), "{error}");
        let error = Config::load(None, environment("SYNCMX_SMTP__NOPE", "1")).unwrap_err().to_string();
        assert!(error.contains("unknown field `nope`"), "{error}");
    }
}
