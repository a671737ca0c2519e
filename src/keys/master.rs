//! The master keys: the first wraps what is new, all open what is there, so that one can take the place of another
//! while servers run.
//!
//! Promises that a running server never gives up the key that it wraps with for others that it cannot know to fit, and
//! wraps nothing new with a key that its file or source may no longer hold.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use aws_lc_rs::hmac;
use tracing::{error, info};

use crate::config;
use crate::keys::{KeyFileError, Secret, file::KeysFile, source};

/// Names a master key without telling anything of it: 8 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasterKeyId([u8; MASTER_ID_LEN]);

impl MasterKeyId {
    /// The id of a key: the start of an HMAC-SHA-256 under it, of a text of its own.
    #[must_use]
    pub fn of(secret: &Secret) -> Self {
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.expose()), MASTER_ID_TEXT);
        let mut id = [0; MASTER_ID_LEN];
        id.iter_mut().zip(tag.as_ref()).for_each(|(to, from)| *to = *from);
        Self(id)
    }

    /// As it stands behind what the key has wrapped.
    #[must_use]
    pub const fn octets(self) -> [u8; MASTER_ID_LEN] {
        self.0
    }

    /// The same, read; none if these are not so many octets.
    #[must_use]
    pub fn read(octets: &[u8]) -> Option<Self> {
        octets.try_into().ok().map(Self)
    }
}

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|octet| write!(f, "{octet:02x}"))
    }
}

impl FromStr for MasterKeyId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no master key id (8 hexadecimal digits)");
        if text.len() != 2 * MASTER_ID_LEN || !text.bytes().all(|octet| octet.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let number = u32::from_str_radix(text, 16).map_err(|_| wrong())?;
        Ok(Self(number.to_be_bytes()))
    }
}

/// Where a master key comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// What `keys.master_command` prints.
    Command,
    /// The variable that `keys.master_env` names.
    Environment,
    /// The key file.
    File,
}

impl Origin {
    /// As it is named in errors and lists.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Environment => "environment",
            Self::File => "file",
        }
    }

    /// Who holds it, in a sentence.
    #[must_use]
    pub const fn holder(self) -> &'static str {
        match self {
            Self::Command => "what keys.master_command prints",
            Self::Environment => "the variable of keys.master_env",
            Self::File => "the key file",
        }
    }
}

/// One master key.
#[derive(Clone, Debug)]
pub struct MasterKey {
    /// Its name.
    pub id: MasterKeyId,
    /// The octets.
    pub secret: Secret,
    /// Where it comes from.
    pub origin: Origin,
}

impl MasterKey {
    /// Named.
    #[must_use]
    pub fn new(secret: Secret, origin: Origin) -> Self {
        Self { id: MasterKeyId::of(&secret), secret, origin }
    }
}

/// The master keys of a process; a cheap handle, the same for all clones.
#[derive(Clone, Debug)]
pub struct MasterKeys(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    ring: RwLock<Arc<Ring>>,
    /// None where nothing can be read again: keys of tests and dry runs.
    settings: Option<config::KeyFile>,
    looked_at: tokio::sync::Mutex<Option<Instant>>,
    /// Those that were read last were others than these, and not taken up.
    are_kept: AtomicBool,
}

#[derive(Clone, Debug)]
struct Ring {
    current: MasterKey,
    others: Vec<MasterKey>,
}

impl MasterKeys {
    /// A key that stands nowhere else.
    #[must_use]
    pub fn alone(secret: Secret) -> Self {
        Self::of(Ring { current: MasterKey::new(secret, Origin::File), others: Vec::new() }, None)
    }

    /// The keys of the source, if one is set, before those of the file. The first one wraps.
    ///
    /// # Errors
    /// If the source gives none, or nobody does.
    pub(super) fn open(file: &KeysFile, settings: &config::KeyFile) -> Result<Self, KeyFileError> {
        let ring = Ring::of(source::read(settings)?, file).ok_or_else(|| no_master(settings))?;
        Ok(Self::of(ring, Some(settings.clone())))
    }

    fn of(ring: Ring, settings: Option<config::KeyFile>) -> Self {
        let looked_at = tokio::sync::Mutex::new(None);
        let are_kept = AtomicBool::new(false);
        Self(Arc::new(Shared { ring: RwLock::new(Arc::new(ring)), settings, looked_at, are_kept }))
    }

    /// The key that wraps what is new.
    #[must_use]
    pub fn current(&self) -> MasterKey {
        self.ring().current.clone()
    }

    /// The same to wrap with; none while file and source hold others: nobody else could open what it wraps.
    #[must_use]
    pub fn wrapping(&self) -> Option<MasterKey> {
        (!self.are_kept()).then(|| self.current())
    }

    /// Whether file and source held others when they were read last, so that these stayed in use.
    #[must_use]
    pub fn are_kept(&self) -> bool {
        self.0.are_kept.load(Ordering::Relaxed)
    }

    /// The key of this id.
    #[must_use]
    pub fn find(&self, id: MasterKeyId) -> Option<MasterKey> {
        self.all().into_iter().find(|key| key.id == id)
    }

    /// All keys, the one that wraps first.
    #[must_use]
    pub fn all(&self) -> Vec<MasterKey> {
        let ring = self.ring();
        std::iter::once(&ring.current).chain(&ring.others).cloned().collect()
    }

    /// Takes up the keys of another reading of the file; says whether they differ.
    pub(super) fn take_up(&self, file: &KeysFile) -> Result<bool, KeyFileError> {
        let from_source = self.all().into_iter().filter(|key| key.origin != Origin::File).collect();
        self.replace(Ring::of(from_source, file), &[])
    }

    /// Reads file and source again and takes up what they hold; says whether they differ.
    ///
    /// # Errors
    /// If they cannot be read, or the key that this process wraps with is not among them: then nothing changes.
    pub fn read_again(&self) -> Result<bool, KeyFileError> {
        self.read_again_for(&[])
    }

    /// The same where a store says which keys have wrapped all that is in it: with these among them the others fit,
    /// though the key that this process wraps with is gone. So it is where one was rotated and revoked before this
    /// process has looked.
    ///
    /// # Errors
    /// As for [`Self::read_again`].
    pub fn read_again_for(&self, needed: &[MasterKeyId]) -> Result<bool, KeyFileError> {
        let Some(settings) = &self.0.settings else { return Ok(false) };
        let file = KeysFile::read(&settings.file)?;
        self.replace(Ring::of(source::read(settings)?, &file), needed)
    }

    /// After a key was met that is not among these: somebody has rotated. At most once a second; whoever comes
    /// meanwhile waits, and finds what was found.
    pub async fn look_again(&self) {
        let mut looked_at = self.0.looked_at.lock().await;
        if looked_at.is_some_and(|at| at.elapsed() < LOOK_PAUSE) {
            return;
        }
        let keys = self.clone();
        match tokio::task::spawn_blocking(move || keys.read_again()).await {
            Ok(Ok(true)) => info!(master = %self.current().id, "keys.taken_up"),
            Ok(Ok(false)) | Err(_) => {}
            Ok(Err(error)) => error!(error = &error as &dyn std::error::Error, "keys.kept"),
        }
        *looked_at = Some(Instant::now());
    }

    fn replace(&self, fresh: Option<Ring>, needed: &[MasterKeyId]) -> Result<bool, KeyFileError> {
        let old = self.ring();
        let ids = |ring: &Ring| -> Vec<MasterKeyId> {
            std::iter::once(&ring.current).chain(&ring.others).map(|key| key.id).collect()
        };
        let fits = |fresh: &Ring| {
            let ids = ids(fresh);
            let has_all = !needed.is_empty() && needed.iter().all(|id| ids.contains(id));
            has_all || ids.contains(&old.current.id)
        };
        let fresh = fresh.filter(fits);
        self.0.are_kept.store(fresh.is_none(), Ordering::Relaxed);
        let fresh = fresh.ok_or(KeyFileError::OtherKeys)?;
        let differs = ids(&fresh) != ids(&old);
        *self.0.ring.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(fresh);
        Ok(differs)
    }

    fn ring(&self) -> Arc<Ring> {
        self.0.ring.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Ring {
    /// Each key once, in this order; none if there is no key.
    fn of(from_source: Vec<MasterKey>, file: &KeysFile) -> Option<Self> {
        let from_file = file.masters().map(|secret| MasterKey::new(secret.clone(), Origin::File));
        let mut all: Vec<MasterKey> = Vec::new();
        for key in from_source.into_iter().chain(from_file) {
            if all.iter().all(|known| known.id != key.id) {
                all.push(key);
            }
        }
        let mut all = all.into_iter();
        Some(Self { current: all.next()?, others: all.collect() })
    }
}

fn no_master(settings: &config::KeyFile) -> KeyFileError {
    KeyFileError::NoMaster { path: settings.file.clone() }
}

/// Octets of a master key's id.
pub const MASTER_ID_LEN: usize = 4;
const MASTER_ID_TEXT: &[u8] = b"syncmx master key id";
const LOOK_PAUSE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{prepare_master, revoke_master, rotate_master};

    fn settings(folder: &std::path::Path) -> config::KeyFile {
        config::KeyFile { file: folder.join("keys.toml"), ..config::KeyFile::default() }
    }

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = MasterKeyId::of(&Secret::from_bytes([7; 32]));
        assert_eq!(id.to_string().parse::<MasterKeyId>(), Ok(id));
        assert_eq!(MasterKeyId::read(&id.octets()), Some(id));
        for wrong in ["", "1234567", "123456789", "+1234567", "zzzzzzzz"] {
            assert!(wrong.parse::<MasterKeyId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rotation_is_taken_up_and_another_master_key_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let running = crate::keys::Keys::open(&settings).unwrap().master;
        let first = running.current().id;
        let prepared = prepare_master(&settings.file).unwrap();
        assert_eq!(prepare_master(&settings.file).unwrap(), prepared, "one at a time");
        assert!(running.read_again().unwrap());
        assert_eq!(running.current().id, first, "it only opens as yet");
        assert!(running.find(prepared).is_some());
        assert_eq!(rotate_master(&settings.file).unwrap(), prepared);
        assert!(running.read_again().unwrap());
        assert!(!running.read_again().unwrap(), "there is nothing new");
        assert_eq!(running.current().id, prepared);
        assert!(running.find(first).is_some());
        assert!(matches!(revoke_master(&settings.file, prepared), Err(KeyFileError::Wrapping(_))));
        revoke_master(&settings.file, first).unwrap();
        assert!(matches!(revoke_master(&settings.file, first), Err(KeyFileError::NoSuchMaster(_))));
        assert!(running.read_again().unwrap());
        assert!(running.find(first).is_none());
        std::fs::remove_file(&settings.file).unwrap();
        crate::keys::Keys::open(&settings).unwrap();
        assert!(matches!(running.read_again(), Err(KeyFileError::OtherKeys)));
        assert_eq!(running.current().id, prepared);
    }

    #[test]
    fn keys_that_open_all_there_is_are_taken_up_though_the_one_in_use_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(folder.path());
        let running = crate::keys::Keys::open(&settings).unwrap().master;
        let first = running.current().id;
        let second = rotate_master(&settings.file).unwrap();
        revoke_master(&settings.file, first).unwrap();
        assert!(matches!(running.read_again(), Err(KeyFileError::OtherKeys)));
        assert!(running.are_kept() && running.wrapping().is_none());
        assert!(running.read_again_for(&[first, second]).is_err(), "something needs the first one");
        assert_eq!(running.current().id, first);
        assert!(running.read_again_for(&[second]).unwrap());
        assert_eq!(running.wrapping().map(|key| key.id), Some(second));
        assert!(!running.are_kept());
    }

    #[test]
    fn a_source_goes_before_the_file_whose_keys_still_open() {
        let folder = tempfile::tempdir().unwrap();
        let plain = settings(folder.path());
        let in_file = crate::keys::Keys::open(&plain).unwrap().master.current().id;
        let key = "5e".repeat(32);
        let command = vec!["echo".to_owned(), key];
        let settings = config::KeyFile { master_command: command, ..plain };
        let keys = crate::keys::Keys::open(&settings).unwrap().master;
        assert_eq!(keys.current().id, MasterKeyId::of(&Secret::from_bytes([0x5e; 32])));
        assert_eq!(keys.current().origin, Origin::Command);
        assert_eq!(keys.find(in_file).unwrap().origin, Origin::File);
        // Now the file may do without.
        revoke_master(&settings.file, in_file).unwrap_err();
        crate::keys::remove_master(&settings.file, in_file).unwrap();
        assert!(keys.read_again().unwrap());
        assert!(keys.find(in_file).is_none());
        let alone = config::KeyFile { master_command: Vec::new(), ..settings };
        assert!(matches!(crate::keys::Keys::open(&alone), Err(KeyFileError::NoMaster { .. })));
    }
}
