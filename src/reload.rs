//! What SIGHUP does with the configuration: read again, checked as at the start, taken up as far as a running server
//! can.
//!
//! Promises that a bad file changes nothing and is an error in the log with file, line and key; and that what has
//! changed but needs a restart is named there, without its value. Reply-token and master keys are taken up as soon as
//! the key file has changed: an address that another process makes with a new key must not be refused here. Master keys
//! of a variable or a command are read again on SIGHUP, and whenever one is met that is not known.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError, Smtp, Timeouts, Tls};
use crate::keys::{KeyFileError, Keys};
use crate::smtp::listener::SettingsSwitch;
use crate::smtp::session::TlsPolicy;
use crate::store::Store;

/// The configuration in use.
#[derive(Debug)]
pub(crate) struct InUse {
    config: Config,
    sessions: SettingsSwitch,
}

impl InUse {
    pub(crate) const fn new(config: Config, sessions: SettingsSwitch) -> Self {
        Self { config, sessions }
    }

    /// Where the keys are: a restart alone moves them.
    pub(crate) fn key_file(&self) -> &Path {
        &self.config.keys.file
    }

    /// Whether a variable or a command holds master keys.
    pub(crate) const fn has_master_source(&self) -> bool {
        self.config.keys.has_source()
    }

    /// Takes up what was read, or keeps what there is.
    pub(crate) fn take_up(&mut self, read: Result<Config, ConfigError>) {
        match read {
            Ok(fresh) => self.replace_by(&fresh),
            Err(error) => error!(%error, "configuration refused, the old one stays in use"),
        }
    }

    fn replace_by(&mut self, fresh: &Config) {
        let needing_restart = fixed_that_differ(&self.config, fresh);
        if !needing_restart.is_empty() {
            warn!(keys = needing_restart.join(" "), "these settings have changed and need a restart");
        }
        // What needs a restart is complained of again at the next SIGHUP: it is still not in use.
        self.sessions.set(&fresh.smtp, TlsPolicy::from(&fresh.tls));
        info!("configuration read again");
    }
}

/// Looks at the key file until the server drains, and takes up what has changed. Keys that were kept are looked for
/// again each time.
pub(crate) async fn watch_keys(path: PathBuf, keys: Arc<Keys>, store: Store, draining: CancellationToken) {
    let mut looks = tokio::time::interval(KEY_FILE_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first look takes up what has changed since the start.
    let mut seen = None;
    while draining.run_until_cancelled(looks.tick()).await.is_some() {
        let now = stamp(&path).await;
        if now != seen {
            seen = now;
            take_up_keys(&path, &keys);
        } else if keys.master.are_kept() {
            take_up_fitting(&path, &keys, &store).await;
        }
    }
}

/// A master key was rotated and revoked between two looks: the store knows whether the others open all there is. Asked
/// a look later, when what was being wrapped with the old one is on file.
async fn take_up_fitting(path: &Path, keys: &Keys, store: &Store) {
    let Ok(needed) = store.masters_in_use().await else { return };
    let masters = keys.master.clone();
    let read = tokio::task::spawn_blocking(move || masters.read_again_for(&needed)).await;
    if matches!(read, Ok(Ok(_))) {
        info!(master = %keys.master.current().id, "keys.taken_up");
        take_up_keys(path, keys);
    }
}

/// Takes up the keys of the file, or keeps those there are.
pub(crate) fn take_up_keys(path: &Path, keys: &Keys) {
    match keys.take_up(path) {
        Ok(true) => info!(keys = keys.reply_tokens().len(), "keys.taken_up"),
        Ok(false) => {}
        Err(error) => keep_keys(&error),
    }
}

/// Asks the variable or the command again, where one holds the master keys. It is not waited for.
pub(crate) fn ask_for_master_keys(keys: &Keys) {
    let masters = keys.master.clone();
    tokio::task::spawn_blocking(move || match masters.read_again() {
        Ok(true) => info!(master = %masters.current().id, "keys.taken_up"),
        Ok(false) => {}
        Err(error) => keep_keys(&error),
    });
}

fn keep_keys(error: &KeyFileError) {
    error!(error = error as &dyn std::error::Error, "keys.kept");
}

/// What differs when a file was replaced or written to.
async fn stamp(path: &Path) -> Option<(u64, u64, std::time::SystemTime)> {
    use std::os::unix::fs::MetadataExt;
    let found = tokio::fs::metadata(path).await.ok()?;
    Some((found.ino(), found.len(), found.modified().ok()?))
}

const KEY_FILE_LOOK: Duration = Duration::from_secs(1);

/// The keys and sections that only a restart takes up, where the two differ.
fn fixed_that_differ(old: &Config, new: &Config) -> Vec<&'static str> {
    fixed(old)
        .into_iter()
        .zip(fixed(new))
        .filter(|((_, old), (_, new))| old != new)
        .map(|((key, _), _)| key)
        .collect()
}

/// Every field is named, so that a new one cannot be forgotten: `_` is what new sessions take up.
fn fixed(config: &Config) -> Vec<(&'static str, String)> {
    let Config { smtp, tls, domains, dns, http, store, keys, log, relay, scan, webhook } = config;
    let Smtp {
        listen,
        hostname,
        max_message_size: _,
        max_recipients: _,
        max_connections,
        max_connections_per_ip,
        proxy_protocol_from,
        refuse_from,
        timeouts: Timeouts { command: _, data: _ },
    } = smtp;
    let Tls { certificate, key, mta_sts, require: _ } = tls;
    vec![
        ("smtp.listen", format!("{listen:?}")),
        ("smtp.hostname", hostname.clone()),
        ("smtp.max_connections", max_connections.to_string()),
        ("smtp.max_connections_per_ip", max_connections_per_ip.to_string()),
        ("smtp.proxy_protocol_from", format!("{proxy_protocol_from:?}")),
        ("smtp.refuse_from", format!("{refuse_from:?}")),
        ("tls.certificate", format!("{certificate:?}")),
        ("tls.key", format!("{key:?}")),
        ("tls.mta_sts", mta_sts.as_str().to_owned()),
        ("domains", format!("{domains:?}")),
        ("dns", format!("{dns:?}")),
        ("http", format!("{http:?}")),
        ("store", format!("{store:?}")),
        ("keys", format!("{keys:?}")),
        ("log", format!("{log:?}")),
        ("relay", format!("{relay:?}")),
        ("scan", format!("{scan:?}")),
        ("webhook", format!("{webhook:?}")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(setting: &str, value: &str, expected: &[&str]) {
        let read = |environment: Option<(String, String)>| Config::load(None, environment).unwrap();
        let changed = read(Some((setting.to_owned(), value.to_owned())));
        assert_eq!(fixed_that_differ(&read(None), &changed), expected, "{setting}");
    }

    #[test]
    fn x17_what_needs_a_restart_is_named() {
        check("SYNCMX_SMTP__HOSTNAME", "mx2.example.test", &["smtp.hostname"]);
        check("SYNCMX_SMTP__LISTEN", "[\"127.0.0.1:2526\"]", &["smtp.listen"]);
        check("SYNCMX_SMTP__MAX_CONNECTIONS", "3", &["smtp.max_connections"]);
        check("SYNCMX_DNS__TIMEOUT", "1s", &["dns"]);
        check("SYNCMX_TLS__MTA_STS", "enforce", &["tls.mta_sts"]);
        check("SYNCMX_LOG__LEVEL", "debug", &["log"]);
        check("SYNCMX_DOMAINS__SYNC", "[\"other.test\"]", &["domains"]);
    }

    /// Every key of the README's table, with a value that differs from its default, in the order of the table.
    const OTHER_VALUES: &[(&str, &str)] = &[
        ("smtp.listen", "[\"127.0.0.1:2526\"]"),
        ("smtp.hostname", "mx2.example.test"),
        ("smtp.max_message_size", "1MiB"),
        ("smtp.max_recipients", "7"),
        ("smtp.max_connections", "3"),
        ("smtp.max_connections_per_ip", "3"),
        ("smtp.proxy_protocol_from", "[\"192.0.2.0/24\"]"),
        ("smtp.refuse_from", "[\"192.0.2.0/24\"]"),
        ("smtp.timeouts.command", "7s"),
        ("smtp.timeouts.data", "7s"),
        ("tls.certificate", "a.pem"),
        ("tls.key", "b.pem"),
        ("tls.require", "true"),
        ("tls.mta_sts", "enforce"),
        ("domains.sync", "[\"other.test\"]"),
        ("domains.reply", "[\"other.test\"]"),
        ("dns.servers", "[\"127.0.0.1:53\"]"),
        ("dns.timeout", "1s"),
        ("http.listen", "127.0.0.1:8026"),
        ("http.public_url", "http://127.0.0.1:8026"),
        ("store.url", "sqlite://other.db"),
        ("store.blobs", "file://other"),
        ("store.seal_rows", "true"),
        ("keys.file", "other.toml"),
        ("keys.master_env", "OTHER"),
        ("keys.master_command", "[\"other\"]"),
        ("log.format", "json"),
        ("log.level", "debug"),
        ("relay.smarthost", "smtp://127.0.0.1:1025"),
        ("relay.from", "a@b.test"),
        ("relay.dkim_selector", "s1"),
        ("relay.dkim_key", "k.pem"),
        ("scan.clamd", "127.0.0.1:3310"),
        ("webhook.allow_private", "true"),
    ];
    const TAKEN_UP: [&str; 5] = [
        "smtp.max_message_size",
        "smtp.max_recipients",
        "smtp.timeouts.command",
        "smtp.timeouts.data",
        "tls.require",
    ];
    /// Settings that the configuration wants together.
    const TOGETHER: [(&str, &str, &str); 10] = [
        ("tls.certificate", "tls.key", "b.pem"),
        ("tls.key", "tls.certificate", "a.pem"),
        ("relay.smarthost", "relay.from", "a@b.test"),
        ("relay.from", "relay.smarthost", "smtp://127.0.0.1:1025"),
        ("relay.dkim_selector", "relay.smarthost", "smtp://127.0.0.1:1025"),
        ("relay.dkim_selector", "relay.from", "a@b.test"),
        ("relay.dkim_selector", "relay.dkim_key", "k.pem"),
        ("relay.dkim_key", "relay.smarthost", "smtp://127.0.0.1:1025"),
        ("relay.dkim_key", "relay.from", "a@b.test"),
        ("relay.dkim_key", "relay.dkim_selector", "s1"),
    ];

    #[test]
    fn x17_each_setting_of_the_readme_is_taken_up_or_complained_of() {
        let variable = |key: &str| format!("SYNCMX_{}", key.to_ascii_uppercase().replace('.', "__"));
        let before = Config::load(None, []).unwrap();
        for (key, value) in OTHER_VALUES {
            let with = TOGETHER.iter().filter(|(first, _, _)| first == key);
            let with = with.map(|(_, second, value)| (variable(second), (*value).to_owned()));
            let environment = with.chain([(variable(key), (*value).to_owned())]);
            let changed = Config::load(None, environment).unwrap();
            let named = fixed_that_differ(&before, &changed);
            let section = key.split('.').next().unwrap();
            let is_named = named.contains(key) || named.contains(&section);
            assert_eq!(is_named, !TAKEN_UP.contains(key), "{key}: {named:?}");
        }
        let readme = include_str!("../README.md");
        let table = readme.split("<!-- settings:").nth(1).unwrap();
        let rows = table.lines().skip(3).take_while(|line| line.starts_with('|'));
        let listed: Vec<&str> = rows.map(|row| row.split('`').nth(1).unwrap()).collect();
        let known: Vec<&str> = OTHER_VALUES.iter().map(|(key, _)| *key).collect();
        assert_eq!(listed, known);
    }

    #[test]
    fn x17_what_new_sessions_take_up_is_not_complained_of() {
        check("SYNCMX_SMTP__MAX_MESSAGE_SIZE", "1MiB", &[]);
        check("SYNCMX_SMTP__MAX_RECIPIENTS", "7", &[]);
        check("SYNCMX_SMTP__TIMEOUTS__COMMAND", "7s", &[]);
        check("SYNCMX_TLS__REQUIRE", "true", &[]);
    }
}
