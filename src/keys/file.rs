//! The key file itself: read, made, and replaced by a whole new one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::keys::master::MasterKeyId;
use crate::keys::source::MAX_MASTER_KEYS;
use crate::keys::{KeyFileError, Secret, TokenKey};

/// Everything in the key file.
#[derive(Clone, Debug)]
pub(super) struct KeysFile {
    /// Wraps the accounts' keys; none where a variable or a command holds the key that does.
    pub(super) master: Option<Secret>,
    /// Will wrap them after the next rotation.
    pub(super) next_master: Option<Secret>,
    /// Has wrapped them, the newest first.
    pub(super) old_masters: Vec<Secret>,
    pub(super) address_hash: Secret,
    /// The last one mints.
    pub(super) reply_tokens: Vec<TokenKey>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    #[serde(skip_serializing_if = "Option::is_none")]
    master: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_master: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    old_masters: Vec<String>,
    address_hash: String,
    reply_token: Vec<TokenKeyEntry>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenKeyEntry {
    id: u8,
    key: String,
}

/// Whether a fresh key file holds a master key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Master {
    Elsewhere,
    Inside,
}

impl KeysFile {
    pub(super) fn generate(master: Master) -> Result<Self, KeyFileError> {
        Ok(Self {
            master: match master {
                Master::Elsewhere => None,
                Master::Inside => Some(Secret::generate()?),
            },
            next_master: None,
            old_masters: Vec::new(),
            address_hash: Secret::generate()?,
            reply_tokens: vec![TokenKey { id: 1, secret: Secret::generate()? }],
        })
    }

    pub(super) fn read(path: &Path) -> Result<Self, KeyFileError> {
        let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
        let text = fs::read_to_string(path).map_err(unusable)?;
        let mode = fs::metadata(path).map_err(unusable)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(KeyFileError::Readable { path: path.to_owned(), mode });
        }
        Self::parse(&text).map_err(|detail| KeyFileError::Malformed { path: path.to_owned(), detail })
    }

    /// Reads it, or makes it where there is none.
    pub(super) fn read_or_create(path: &Path, master: Master) -> Result<Self, KeyFileError> {
        match Self::read(path) {
            Err(KeyFileError::Unusable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
                let file = Self::generate(master)?;
                file.write_new(path)
                    .map_err(|source| KeyFileError::Unusable { path: path.to_owned(), source })?;
                Ok(file)
            }
            read => read,
        }
    }

    /// The master keys, the one that wraps first.
    pub(super) fn masters(&self) -> impl Iterator<Item = &Secret> {
        self.master.iter().chain(&self.next_master).chain(&self.old_masters)
    }

    pub(super) fn parse(text: &str) -> Result<Self, String> {
        // The parser's own message may quote the line, and with it a key.
        let file: Text = toml::from_str(text).map_err(|error| error.message().to_owned())?;
        let reply_tokens = file
            .reply_token
            .iter()
            .map(|entry| Ok(TokenKey { id: entry.id, secret: read_hex(&entry.key, "reply_token")? }))
            .collect::<Result<Vec<_>, String>>()?;
        let mut ids: Vec<u8> = reply_tokens.iter().map(|key| key.id).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair.first() == pair.last()) {
            return Err("two reply_token keys have the same id".to_owned());
        }
        if reply_tokens.is_empty() {
            return Err("no reply_token key".to_owned());
        }
        let read = |text: &Option<String>, name| text.as_deref().map(|text| read_hex(text, name)).transpose();
        Ok(Self {
            master: read(&file.master, "master")?,
            next_master: read(&file.next_master, "next_master")?,
            old_masters: file
                .old_masters
                .iter()
                .map(|text| read_hex(text, "old_masters"))
                .collect::<Result<_, String>>()?,
            address_hash: read_hex(&file.address_hash, "address_hash")?,
            reply_tokens,
        })
    }

    fn text(&self) -> std::io::Result<String> {
        let file = Text {
            master: self.master.as_ref().map(write_hex),
            next_master: self.next_master.as_ref().map(write_hex),
            old_masters: self.old_masters.iter().map(write_hex).collect(),
            address_hash: write_hex(&self.address_hash),
            reply_token: self
                .reply_tokens
                .iter()
                .map(|key| TokenKeyEntry { id: key.id, key: write_hex(&key.secret) })
                .collect(),
        };
        Ok(format!("{HEADER}{}", toml::to_string(&file).map_err(std::io::Error::other)?))
    }

    pub(super) fn write_new(&self, path: &Path) -> std::io::Result<()> {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            // The data folder: nobody else looks in.
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        // Under its name it is whole and on disk, or not there: half a key file would end every later start. Somebody
        // else may have made one meanwhile: that one stays.
        self.fresh_file(path)?.persist_noclobber(path).map_err(|error| error.error)?;
        fs::File::open(folder_of(path))?.sync_all()
    }

    /// A whole new file in place of the old one: whoever reads meanwhile reads either.
    fn replace(&self, path: &Path) -> std::io::Result<()> {
        self.fresh_file(path)?.persist(path).map_err(|error| error.error)?;
        fs::File::open(folder_of(path))?.sync_all()
    }

    /// On disk beside `path`, with mode 0600.
    fn fresh_file(&self, path: &Path) -> std::io::Result<tempfile::NamedTempFile> {
        let mut fresh = tempfile::NamedTempFile::new_in(folder_of(path))?;
        fresh.write_all(self.text()?.as_bytes())?;
        fresh.as_file().sync_all()?;
        Ok(fresh)
    }
}

/// Adds a key that makes reply addresses from now on; those before it still verify. Returns its id.
///
/// # Errors
/// If the file cannot be read or replaced, or holds 256 keys.
pub fn rotate(path: &Path) -> Result<u8, KeyFileError> {
    change(path, |file| {
        let keys = &mut file.reply_tokens;
        let newest = keys.last().map_or(0, |key| key.id);
        let id = (1..=u8::MAX)
            .map(|step| newest.wrapping_add(step))
            .find(|id| keys.iter().all(|key| key.id != *id))
            .ok_or(KeyFileError::TooMany)?;
        keys.push(TokenKey { id, secret: Secret::generate()? });
        Ok(id)
    })
}

/// Takes a retired key away: what it made is refused from now on.
///
/// # Errors
/// If the file cannot be read or replaced, has no such key, or the key makes the addresses of now.
pub fn revoke(path: &Path, id: u8) -> Result<(), KeyFileError> {
    change(path, |file| {
        let keys = &mut file.reply_tokens;
        let place = keys.iter().position(|key| key.id == id).ok_or(KeyFileError::NoSuchKey(id))?;
        if place + 1 == keys.len() {
            return Err(KeyFileError::Issuing(id));
        }
        keys.remove(place);
        Ok(())
    })
}

/// Adds a master key that only opens as yet, so that other hosts can be given the file before anything is wrapped with
/// it. If there is one already, it stays. Returns its id.
///
/// # Errors
/// If the file cannot be read or replaced, or holds 16 master keys.
pub fn prepare_master(path: &Path) -> Result<MasterKeyId, KeyFileError> {
    change(path, |file| {
        if file.next_master.is_none() && file.masters().count() >= MAX_MASTER_KEYS {
            return Err(KeyFileError::TooManyMasters);
        }
        let next = file.next_master.take().map_or_else(Secret::generate, Ok)?;
        let id = MasterKeyId::of(&next);
        file.next_master = Some(next);
        Ok(id)
    })
}

/// Puts the prepared master key, or a fresh one, in the place of the one that wraps, which still opens. Returns its id.
///
/// # Errors
/// If the file cannot be read or replaced, or holds 16 master keys.
pub fn rotate_master(path: &Path) -> Result<MasterKeyId, KeyFileError> {
    change(path, |file| {
        if file.next_master.is_none() && file.masters().count() >= MAX_MASTER_KEYS {
            return Err(KeyFileError::TooManyMasters);
        }
        let next = file.next_master.take().map_or_else(Secret::generate, Ok)?;
        let id = MasterKeyId::of(&next);
        if let Some(old) = file.master.replace(next) {
            file.old_masters.insert(0, old);
        }
        Ok(id)
    })
}

/// Takes a master key away that has wrapped, or was to wrap. Whether anything needs it, the caller has asked the store.
///
/// # Errors
/// If the file cannot be read or replaced, has no such key, or the key wraps now.
pub fn revoke_master(path: &Path, id: MasterKeyId) -> Result<(), KeyFileError> {
    let is_it = |secret: &Secret| MasterKeyId::of(secret) == id;
    change(path, |file| {
        if file.master.as_ref().is_some_and(is_it) {
            return Err(KeyFileError::Wrapping(id));
        }
        take_away(file, id)
    })
}

/// The same where a variable or a command holds the key that wraps: then the file needs none.
///
/// # Errors
/// If the file cannot be read or replaced, or has no such key.
pub fn remove_master(path: &Path, id: MasterKeyId) -> Result<(), KeyFileError> {
    change(path, |file| take_away(file, id))
}

fn take_away(file: &mut KeysFile, id: MasterKeyId) -> Result<(), KeyFileError> {
    let stays = |secret: &Secret| MasterKeyId::of(secret) != id;
    let before = file.masters().count();
    file.master = file.master.take().filter(stays);
    file.next_master = file.next_master.take().filter(stays);
    file.old_masters.retain(stays);
    if file.masters().count() == before { Err(KeyFileError::NoSuchMaster(id)) } else { Ok(()) }
}

/// Reads, changes and replaces the file, one process at a time.
fn change<T>(
    path: &Path,
    change: impl FnOnce(&mut KeysFile) -> Result<T, KeyFileError>,
) -> Result<T, KeyFileError> {
    let unusable = |source| KeyFileError::Unusable { path: path.to_owned(), source };
    // The file itself is another one afterwards; its folder stays. The lock ends with the handle.
    let lock = fs::File::open(folder_of(path)).map_err(unusable)?;
    lock.lock().map_err(unusable)?;
    let mut file = KeysFile::read(path)?;
    let done = change(&mut file)?;
    file.replace(path).map_err(unusable)?;
    Ok(done)
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

const HEADER: &str = "# syncmx keys. Whoever has this file can read all stored mail; without it nobody can. Back it up apart.\n";

fn read_hex(text: &str, name: &str) -> Result<Secret, String> {
    let wrong = || format!("{name} must be 64 hexadecimal digits");
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return Err(wrong());
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| wrong())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| wrong())?;
    }
    Ok(Secret::from_bytes(bytes))
}

fn write_hex(secret: &Secret) -> String {
    secret.expose().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::Keys;

    #[test]
    fn the_file_is_made_once_with_mode_0600_and_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sub/keys.toml");
        let made = KeysFile::read_or_create(&path, Master::Inside).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing else is left");
        assert!(made.write_new(&path).is_err(), "a file that is there is never replaced");
        let read = Keys::load_or_create(&path).unwrap();
        assert_eq!(made.master.unwrap().expose(), read.master.current().secret.expose());
        assert_eq!(made.reply_tokens[0].secret.expose(), read.reply_tokens()[0].secret.expose());
    }

    fn ids(keys: &Keys) -> Vec<u8> {
        keys.reply_tokens().iter().map(|key| key.id).collect()
    }

    #[test]
    fn a_rotated_file_keeps_its_mode_and_its_other_keys_and_is_taken_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let running = Keys::load_or_create(&path).unwrap();
        assert_eq!(rotate(&path).unwrap(), 2);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(fs::read_to_string(&path).unwrap().starts_with(HEADER));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside it");
        let fresh = Keys::load_or_create(&path).unwrap();
        assert_eq!(fresh.master.current().id, running.master.current().id);
        assert_eq!((ids(&fresh), ids(&running)), (vec![1, 2], vec![1]));
        assert!(running.take_up(&path).unwrap());
        assert_eq!(ids(&running), [1, 2]);
        assert!(!running.take_up(&path).unwrap(), "there is nothing new");
        let other = folder.path().join("other.toml");
        Keys::load_or_create(&other).unwrap();
        assert!(matches!(running.take_up(&other), Err(KeyFileError::OtherKeys)));
        assert_eq!(ids(&running), [1, 2]);
    }

    #[test]
    fn a_retired_key_is_revoked_and_the_issuing_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        Keys::load_or_create(&path).unwrap();
        assert!(matches!(revoke(&path, 1), Err(KeyFileError::Issuing(1))));
        rotate(&path).unwrap();
        assert!(matches!(revoke(&path, 3), Err(KeyFileError::NoSuchKey(3))));
        assert!(matches!(revoke(&path, 2), Err(KeyFileError::Issuing(2))));
        revoke(&path, 1).unwrap();
        assert_eq!(ids(&Keys::load_or_create(&path).unwrap()), [2]);
        assert_eq!(rotate(&path).unwrap(), 3, "an id is not used again before its turn");
    }

    #[test]
    fn ids_go_round_and_end_at_256_keys() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        Keys::load_or_create(&path).unwrap();
        for expected in (2..=255).chain([0]) {
            assert_eq!(rotate(&path).unwrap(), expected);
        }
        assert!(matches!(rotate(&path), Err(KeyFileError::TooMany)));
        revoke(&path, 7).unwrap();
        assert_eq!(rotate(&path).unwrap(), 7);
    }

    #[test]
    fn a_file_holds_16_master_keys_and_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        let first = Keys::load_or_create(&path).unwrap().master.current().id;
        for _ in 1..MAX_MASTER_KEYS {
            rotate_master(&path).unwrap();
        }
        assert_eq!(Keys::load_or_create(&path).unwrap().master.all().len(), MAX_MASTER_KEYS);
        assert!(matches!(rotate_master(&path), Err(KeyFileError::TooManyMasters)));
        assert!(matches!(prepare_master(&path), Err(KeyFileError::TooManyMasters)));
        revoke_master(&path, first).unwrap();
        prepare_master(&path).unwrap();
        rotate_master(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn two_reply_keys_of_one_id_are_refused() {
        let secret = "00".repeat(32);
        let key = format!("[[reply_token]]\nid = 1\nkey = \"{secret}\"\n");
        let text = format!("master = \"{secret}\"\naddress_hash = \"{secret}\"\n{key}{key}");
        assert!(KeysFile::parse(&text).unwrap_err().contains("same id"));
    }

    #[test]
    fn a_malformed_file_is_refused_without_showing_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.toml");
        for field in ["master", "next_master"] {
            fs::write(&path, format!("{field} = \"5ec12e7\"\naddress_hash = \"\"\nreply_token = []\n"))
                .unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            let error = Keys::load_or_create(&path).unwrap_err().to_string();
            assert!(!error.contains("5ec12e7"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::load_or_create(&path), Err(KeyFileError::Readable { .. })));
    }
}
