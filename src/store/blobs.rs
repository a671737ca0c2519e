//! Sealed messages too large for a row, as files `<account>/<last octet>/<id>` in a folder.
//!
//! Promises that a name that was given out is on disk (file and folder synced), and that half a file never has a
//! name. Written before the commit; what no row names after all is swept.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use crate::id::AccountId;
use crate::store::StoreError;

/// The folder.
#[derive(Clone, Debug)]
pub(in crate::store) struct Blobs {
    folder: PathBuf,
    /// Held while a folder is made, so that nobody writes into one whose name is not yet on disk.
    folders: Arc<Mutex<()>>,
}

/// Which blob: an account's, for a message or held delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) struct BlobName {
    pub(in crate::store) account: AccountId,
    pub(in crate::store) id: Uuid,
}

impl BlobName {
    /// What a row keeps.
    pub(in crate::store) fn text(self) -> String {
        let id = self.id.simple().to_string();
        // The last octet of a UUIDv7 is random; the first ones are the time.
        let shelf = id.get(id.len() - 2..).unwrap_or_default();
        format!("{}/{shelf}/{id}", self.account.uuid().simple())
    }

    /// Only names that we would give are read: a name from a row is no path.
    pub(in crate::store) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let account = AccountId::from_uuid(Uuid::try_parse(parts.next()?).ok()?);
        let id = Uuid::try_parse(parts.nth(1)?).ok()?;
        Some(Self { account, id }).filter(|name| name.text() == text)
    }
}

impl Blobs {
    pub(in crate::store) fn open(folder: &Path) -> Result<Self, StoreError> {
        create_folder(folder)?;
        Ok(Self { folder: folder.to_owned(), folders: Arc::default() })
    }

    /// Writes a blob; durable when this returns.
    pub(in crate::store) async fn put(&self, name: BlobName, content: Vec<u8>) -> Result<(), StoreError> {
        let path = self.path(name);
        let (root, folders) = (self.folder.clone(), self.folders.clone());
        on_disk(move || {
            create_shelf(&root, &path, &folders)
                .and_then(|()| write_durably(&path, &content))
                .map_err(|error| StoreError::Unusable { path, detail: error.to_string() })
        })
        .await
    }

    /// Reads a blob whole.
    pub(in crate::store) async fn read(&self, name: BlobName) -> Result<Vec<u8>, StoreError> {
        let path = self.path(name);
        on_disk(move || {
            fs::read(&path)
                .map_err(|error| StoreError::Damaged { name: name.text(), detail: error.to_string() })
        })
        .await
    }

    /// Removes blobs; one that is not there, or cannot be removed now, is left to the sweep.
    pub(in crate::store) async fn remove(&self, names: Vec<BlobName>) {
        if names.is_empty() {
            return;
        }
        let paths: Vec<PathBuf> = names.into_iter().map(|name| self.path(name)).collect();
        let _ = on_disk(move || {
            for path in paths {
                let _ = fs::remove_file(path);
            }
            Ok(())
        })
        .await;
    }

    /// The names of all blobs older than `age`. Temporary files that old are removed on the way.
    pub(in crate::store) async fn older_than(&self, age: Duration) -> Result<Vec<BlobName>, StoreError> {
        let folder = self.folder.clone();
        on_disk(move || {
            let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
            let mut names = Vec::new();
            list(&folder, before, &mut names)
                .map_err(|error| StoreError::Unusable { path: folder, detail: error.to_string() })?;
            Ok(names)
        })
        .await
    }

    fn path(&self, name: BlobName) -> PathBuf {
        self.folder.join(name.text())
    }
}

/// Makes a folder that only we can read, with its parents, if it is not there.
pub(in crate::store) fn create_folder(folder: &Path) -> Result<(), StoreError> {
    if folder.as_os_str().is_empty() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(|error| StoreError::Unusable { path: folder.to_owned(), detail: error.to_string() })
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(StoreError::Closed))
}

fn create_shelf(root: &Path, path: &Path, folders: &Mutex<()>) -> io::Result<()> {
    let _one_at_a_time = folders.lock().unwrap_or_else(PoisonError::into_inner);
    let shelf = path.parent().unwrap_or(root);
    if shelf.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(shelf)?;
    // A new folder is durable when its parent is synced: shelf and account.
    shelf
        .ancestors()
        .skip(1)
        .take_while(|parent| parent.starts_with(root))
        .try_for_each(|parent| File::open(parent)?.sync_all())
}

fn write_durably(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(path);
    let temporary = path.with_extension(TEMPORARY);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn list(root: &Path, before: SystemTime, names: &mut Vec<BlobName>) -> io::Result<()> {
    for account in folders(root)? {
        for shelf in folders(&account)? {
            for entry in fs::read_dir(&shelf)?.flatten() {
                let is_old = entry.metadata().and_then(|data| data.modified()).is_ok_and(|at| at < before);
                if !is_old {
                    continue;
                }
                let path = entry.path();
                if path.extension().is_some_and(|extension| extension == TEMPORARY) {
                    let _ = fs::remove_file(&path);
                } else if let Some(name) =
                    path.strip_prefix(root).ok().and_then(|path| BlobName::parse(path.to_str()?))
                {
                    names.push(name);
                }
            }
        }
    }
    Ok(())
}

fn folders(parent: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(parent)?.flatten();
    Ok(entries
        .filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()))
        .map(|entry| entry.path())
        .collect())
}

const TEMPORARY: &str = "tmp";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_row_is_never_a_path_elsewhere() {
        let name = BlobName { account: AccountId::generate(), id: Uuid::now_v7() };
        assert_eq!(BlobName::parse(&name.text()), Some(name));
        let text = name.text();
        for bad in ["", "/etc/passwd", "../../etc/passwd", &text.to_uppercase(), &format!("{text}/x")] {
            assert_eq!(BlobName::parse(bad), None, "{bad}");
        }
        let (other_shelf, account) = (format!("{}", Uuid::nil().simple()), name.account.uuid().simple());
        assert_eq!(BlobName::parse(&format!("{account}/ff/{other_shelf}")), None);
    }
}
