//! What can change while the server runs, and is looked at by each session when it needs it: whether there is room for
//! mail, and the settings of sessions to come. Clones share what they switch. Neither ever waits.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::config;
use crate::smtp::step::{Room, Settings, TlsPolicy};

/// Whether there is room on the disk, said by whoever watches it.
#[derive(Clone, Debug, Default)]
pub struct RoomSwitch(Arc<AtomicBool>);

impl RoomSwitch {
    /// From now on, MAIL is taken or put off with `452 4.3.1`. What is under way goes on.
    pub fn set(&self, room: Room) {
        self.0.store(room == Room::Scarce, Ordering::Relaxed);
    }

    /// What was last said.
    #[must_use]
    pub fn current(&self) -> Room {
        if self.0.load(Ordering::Relaxed) { Room::Scarce } else { Room::Enough }
    }
}

/// The settings of sessions that begin from now on. A session keeps those it began with.
#[derive(Clone, Debug)]
pub struct SettingsSwitch(Arc<RwLock<Arc<Settings>>>);

impl SettingsSwitch {
    pub(super) fn new(settings: Settings) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(settings))))
    }

    /// Takes limits, timeouts and the TLS policy from `config`. Its host name is not looked at: it stands in trace
    /// fields and certificates too, and must not change under a running server.
    pub fn set(&self, config: &config::Smtp, tls: TlsPolicy) {
        let mut settings = self.0.write().unwrap_or_else(PoisonError::into_inner);
        *settings = Arc::new(Settings {
            max_message_bytes: config.max_message_size,
            max_recipients: config.max_recipients,
            command_timeout: config.timeouts.command,
            data_timeout: config.timeouts.data,
            tls,
            ..Settings::clone(&settings)
        });
    }

    pub(super) fn current(&self) -> Arc<Settings> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn x17_sessions_to_come_get_the_new_settings_and_the_name_stays() {
        let first = Settings {
            hostname: "mx.example.test".to_owned(),
            max_message_bytes: 1,
            max_recipients: 2,
            command_timeout: Duration::from_secs(3),
            data_timeout: Duration::from_secs(4),
            error_pause: Duration::from_secs(5),
            stressed_timeout: Duration::from_secs(6),
            tls: TlsPolicy::Offered,
        };
        let switch = SettingsSwitch::new(first);
        let before = switch.current();
        let config = config::Smtp { hostname: "other.test".to_owned(), ..config::Smtp::default() };
        switch.clone().set(&config, TlsPolicy::Required);
        let after = switch.current();
        assert_eq!((before.max_message_bytes, before.tls), (1, TlsPolicy::Offered));
        assert_eq!((after.max_message_bytes, after.tls), (36 << 20, TlsPolicy::Required));
        assert_eq!((after.max_recipients, after.command_timeout), (100, Duration::from_secs(300)));
        assert_eq!((after.hostname.as_str(), after.error_pause), ("mx.example.test", Duration::from_secs(5)));
    }
}
