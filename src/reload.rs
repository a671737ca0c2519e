//! What SIGHUP does with the configuration: read again, checked as at the start, taken up as far as a running server can.
//!
//! Promises that a bad file changes nothing and is an error in the log with file, line and key; and that what has
//! changed but needs a restart is named there, without its value. Reply-token keys are taken up as soon as the key file
//! has changed: an address that another process makes with a new key must not be refused here.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::config::{Config, ConfigError};
use crate::keys::{KeyFileError, Keys};
use crate::smtp::listener::SettingsSwitch;
use crate::smtp::session::TlsPolicy;

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

/// Looks at the key file until the server drains, and takes up what has changed.
pub(crate) async fn watch_keys(path: PathBuf, keys: Arc<Keys>, draining: CancellationToken) {
    let mut looks = tokio::time::interval(KEY_FILE_LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first look takes up what has changed since the start.
    let mut seen = None;
    while draining.run_until_cancelled(looks.tick()).await.is_some() {
        let now = stamp(&path).await;
        if now != seen {
            seen = now;
            take_up_keys(&path, &keys);
        }
    }
}

/// Takes up the reply-token keys of the file, or keeps those there are.
pub(crate) fn take_up_keys(path: &Path, keys: &Keys) {
    match Keys::load(path).and_then(|fresh| keys.take_up(&fresh)) {
        Ok(true) => info!(keys = keys.reply_tokens().len(), "keys.taken_up"),
        Ok(false) => {}
        Err(error) => keep_keys(&error),
    }
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

fn fixed(config: &Config) -> [(&'static str, String); 16] {
    let (smtp, tls) = (&config.smtp, &config.tls);
    [
        ("smtp.listen", format!("{:?}", smtp.listen)),
        ("smtp.hostname", smtp.hostname.clone()),
        ("smtp.max_connections", smtp.max_connections.to_string()),
        ("smtp.max_connections_per_ip", smtp.max_connections_per_ip.to_string()),
        ("smtp.proxy_protocol_from", format!("{:?}", smtp.proxy_protocol_from)),
        ("tls.certificate", format!("{:?}", tls.certificate)),
        ("tls.key", format!("{:?}", tls.key)),
        ("domains", format!("{:?}", config.domains)),
        ("dns", format!("{:?}", config.dns)),
        ("http", format!("{:?}", config.http)),
        ("store", format!("{:?}", config.store)),
        ("keys", format!("{:?}", config.keys)),
        ("log", format!("{:?}", config.log)),
        ("relay", format!("{:?}", config.relay)),
        ("scan", format!("{:?}", config.scan)),
        ("webhook", format!("{:?}", config.webhook)),
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
        check("SYNCMX_LOG__LEVEL", "debug", &["log"]);
        check("SYNCMX_DOMAINS__SYNC", "[\"other.test\"]", &["domains"]);
    }

    #[test]
    fn x17_what_new_sessions_take_up_is_not_complained_of() {
        check("SYNCMX_SMTP__MAX_MESSAGE_SIZE", "1MiB", &[]);
        check("SYNCMX_SMTP__MAX_RECIPIENTS", "7", &[]);
        check("SYNCMX_SMTP__TIMEOUTS__COMMAND", "7s", &[]);
        check("SYNCMX_TLS__REQUIRE", "true", &[]);
    }
}
