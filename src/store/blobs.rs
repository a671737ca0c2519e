//! Sealed messages too large for a row, as objects `<account>/<last octet>/<id>-<copy>` in a folder or an S3 bucket.
//!
//! Promises that a name is given out once, so that nothing is ever overwritten; that one that was given out is durable
//! (in a folder: file and folder synced, then renamed); and that half an object never has a name. Written before the
//! commit; what no row names after all is swept. Whether an object is what was written is told when it is opened: its
//! seal covers every octet.

use std::fs::{self, DirBuilder};
use std::future::ready;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures_util::{Stream, StreamExt, TryStreamExt};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{ClientOptions, MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, RetryConfig};
use uuid::Uuid;

use crate::config::BlobsUrl;
use crate::id::AccountId;
use crate::store::StoreError;

/// The folder or bucket.
#[derive(Clone, Debug)]
pub(in crate::store) struct Blobs {
    objects: Arc<dyn ObjectStore>,
    /// In front of every name; empty in a folder.
    prefix: ObjectPath,
    /// Where half-written files may lie after a crash.
    folder: Option<PathBuf>,
}

/// Which blob: an account's, for a message or held delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) struct BlobName {
    pub(in crate::store) account: AccountId,
    pub(in crate::store) id: Uuid,
    /// A message that is imported may be sealed more than once, each time with another key. None in names of old.
    copy: Option<Uuid>,
}

impl BlobName {
    /// A name that nothing else has or had.
    pub(in crate::store) fn new(account: AccountId, id: Uuid) -> Self {
        Self { account, id, copy: Some(Uuid::now_v7()) }
    }

    /// What a row keeps.
    pub(in crate::store) fn text(self) -> String {
        let id = self.id.simple().to_string();
        // The last octet of a UUIDv7 is random; the first ones are the time.
        let shelf = id.get(id.len() - 2..).unwrap_or_default();
        let account = self.account.uuid().simple();
        match self.copy {
            None => format!("{account}/{shelf}/{id}"),
            Some(copy) => format!("{account}/{shelf}/{id}-{}", copy.simple()),
        }
    }

    /// Only names that we would give are read: a name from a row is no path.
    pub(in crate::store) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('/');
        let account = AccountId::from_uuid(Uuid::try_parse(parts.next()?).ok()?);
        let last = parts.nth(1)?;
        let (id, copy) = last.split_once('-').map_or((last, None), |(id, copy)| (id, Some(copy)));
        let id = Uuid::try_parse(id).ok()?;
        let copy = copy.map(Uuid::try_parse).transpose().ok()?;
        Some(Self { account, id, copy }).filter(|name| name.text() == text)
    }
}

impl Blobs {
    /// Opens the folder, which is made where it is missing, or the bucket, with endpoint and keys from the usual
    /// `AWS_*` variables. A bucket is not asked before it is needed.
    pub(in crate::store) fn open(url: &BlobsUrl) -> Result<Self, StoreError> {
        match url {
            BlobsUrl::Folder(folder) => {
                create_folder(folder)?;
                let objects = LocalFileSystem::new_with_prefix(folder).map(|files| files.with_fsync(true));
                let objects = objects.map_err(|error| unusable(folder.clone(), &error))?;
                Ok(Self {
                    objects: Arc::new(objects),
                    prefix: ObjectPath::default(),
                    folder: Some(folder.clone()),
                })
            }
            BlobsUrl::S3 { bucket, prefix } => {
                let patience = RetryConfig {
                    max_retries: BUCKET_RETRIES,
                    retry_timeout: BUCKET_LIMIT,
                    ..RetryConfig::default()
                };
                let client =
                    ClientOptions::new().with_connect_timeout(CONNECT_LIMIT).with_timeout(BUCKET_LIMIT);
                let client = client.with_allow_http(allows_plain_http());
                let objects = AmazonS3Builder::from_env()
                    .with_client_options(client)
                    .with_retry(patience)
                    .with_bucket_name(bucket)
                    .build()
                    .map_err(|error| unusable(format!("s3://{bucket}").into(), &error))?;
                Ok(Self {
                    objects: Arc::new(objects),
                    prefix: ObjectPath::from(prefix.as_str()),
                    folder: None,
                })
            }
        }
    }

    /// Writes a blob; durable when this returns. A large one goes to a bucket in parts.
    pub(in crate::store) async fn put(&self, name: BlobName, content: Vec<u8>) -> Result<(), StoreError> {
        let (at, octets) = (self.location(name), content.len());
        let written = if self.folder.is_none() && content.len() > PART_OCTETS {
            self.put_in_parts(&at, content).await
        } else {
            self.objects.put(&at, PutPayload::from(content)).await.map(|_| ())
        };
        written.map_err(|error| unusable(name.text().into(), &error))?;
        if let Some(folder) = self.folder.as_ref().filter(|_| octets >= LARGE_OCTETS) {
            let path = folder.join(name.text());
            let _ = tokio::task::spawn_blocking(move || leave_the_page_cache(&path)).await;
        }
        Ok(())
    }

    async fn put_in_parts(&self, at: &ObjectPath, content: Vec<u8>) -> object_store::Result<()> {
        let mut upload = self.objects.put_multipart(at).await?;
        let content = bytes::Bytes::from(content);
        let sent = async {
            for start in (0..content.len()).step_by(PART_OCTETS) {
                let part = content.slice(start..content.len().min(start + PART_OCTETS));
                upload.put_part(PutPayload::from(part)).await?;
            }
            upload.complete().await.map(|_| ())
        }
        .await;
        if sent.is_err() {
            // Parts that nobody completes cost money until the bucket's own rule ends them.
            let _ = upload.abort().await;
        }
        sent
    }

    /// Reads a blob whole.
    pub(in crate::store) async fn read(&self, name: BlobName) -> Result<Vec<u8>, StoreError> {
        let damaged = |detail: &str| StoreError::Damaged { name: name.text(), detail: detail.to_owned() };
        let found = match self.objects.get(&self.location(name)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Err(damaged("its blob is missing")),
            Err(error) => return Err(unusable(name.text().into(), &error)),
        };
        if found.meta.size > MAX_OCTETS {
            return Err(damaged("its blob is larger than any that was written"));
        }
        let content = found.bytes().await.map_err(|error| unusable(name.text().into(), &error))?;
        Ok(content.into())
    }

    /// Removes blobs; one that is not there, or cannot be removed now, is left to the sweep.
    pub(in crate::store) async fn remove(&self, names: Vec<BlobName>) {
        if names.is_empty() {
            return;
        }
        let places: Vec<_> = names.into_iter().map(|name| Ok(self.location(name))).collect();
        let mut removed = self.objects.delete_stream(futures_util::stream::iter(places).boxed());
        while removed.next().await.is_some() {}
    }

    /// Removes blobs one by one, and says which are gone: those that were not there, too.
    pub(in crate::store) async fn erase(&self, names: Vec<BlobName>) -> Vec<BlobName> {
        let one = |name: BlobName| async move {
            match self.objects.delete(&self.location(name)).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Some(name),
                Err(_) => None,
            }
        };
        let erased = futures_util::stream::iter(names).map(one).buffer_unordered(ERASED_AT_ONCE);
        erased.filter_map(|gone| async move { gone }).collect().await
    }

    /// The names of all blobs older than `age`, listed as they are asked for. Half-written files that old are removed
    /// first.
    pub(in crate::store) async fn older_than(
        &self,
        age: Duration,
    ) -> impl Stream<Item = Result<BlobName, StoreError>> + use<'_> {
        let before = SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH);
        if let Some(folder) = self.folder.clone() {
            let _ = tokio::task::spawn_blocking(move || remove_half_written(&folder, before)).await;
        }
        let listed = self.objects.list(Some(&self.prefix));
        let listed = listed.map_err(|error| unusable("the blobs".into(), &error));
        listed.try_filter_map(move |object| {
            let is_old = SystemTime::from(object.last_modified) < before;
            ready(Ok(is_old.then(|| self.name(&object.location)).flatten()))
        })
    }

    fn location(&self, name: BlobName) -> ObjectPath {
        self.prefix.parts().chain(ObjectPath::from(name.text()).parts()).collect()
    }

    /// None for what is not ours.
    fn name(&self, location: &ObjectPath) -> Option<BlobName> {
        let parts: Vec<String> =
            location.prefix_match(&self.prefix)?.map(|part| part.as_ref().to_owned()).collect();
        BlobName::parse(&parts.join("/"))
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

/// Hardly anybody reads a large message at once: its pages go to the next one, and push none of the database out.
/// A server that takes 20 MB mails without pause is a quarter faster by it, where the system has to ask its host for
/// pages.
fn leave_the_page_cache(path: &Path) {
    #[cfg(target_os = "linux")]
    if let Ok(file) = fs::File::open(path) {
        let _ = rustix::fs::fadvise(file, 0, None, rustix::fs::Advice::DontNeed);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = path;
}

/// A file whose writer was killed has the name of its blob, `#` and a number.
fn remove_half_written(root: &Path, before: SystemTime) {
    for shelf in folders(root).flat_map(|account| folders(&account)) {
        for entry in fs::read_dir(&shelf).into_iter().flatten().flatten() {
            let is_half = entry.file_name().to_str().is_some_and(|name| name.contains('#'));
            let is_old = || entry.metadata().and_then(|data| data.modified()).is_ok_and(|at| at < before);
            if is_half && is_old() {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

fn folders(parent: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path())
}

/// A server on the same host often has no certificate; whoever wants that says so.
fn allows_plain_http() -> bool {
    std::env::var("AWS_ALLOW_HTTP").is_ok_and(|value| value.eq_ignore_ascii_case("true") || value == "1")
}

fn unusable(path: PathBuf, error: &object_store::Error) -> StoreError {
    StoreError::Unusable { path, detail: error.to_string() }
}

/// One part of a large object; S3 takes no less than 5 MiB.
const PART_OCTETS: usize = 8 * 1024 * 1024;
/// Read at once; messages are bounded long before.
const MAX_OCTETS: u64 = 1024 * 1024 * 1024;
/// Pages of larger ones are not kept once they are on disk.
const LARGE_OCTETS: usize = 4 * 1024 * 1024;
const ERASED_AT_ONCE: usize = 8;
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// For one request with its repeats: a filing has a minute in all.
const BUCKET_LIMIT: Duration = Duration::from_secs(20);
const BUCKET_RETRIES: usize = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_from_a_row_is_never_a_path_elsewhere() {
        let name = BlobName::new(AccountId::generate(), Uuid::now_v7());
        let of_old = BlobName { copy: None, ..name };
        for name in [name, of_old] {
            let text = name.text();
            assert_eq!(BlobName::parse(&text), Some(name));
            for bad in [text.to_uppercase(), format!("{text}/x"), format!("{text}-"), format!("/{text}")] {
                assert_eq!(BlobName::parse(&bad), None, "{bad}");
            }
        }
        for bad in ["", "/etc/passwd", "../../etc/passwd", &format!("{}/../x", of_old.text())] {
            assert_eq!(BlobName::parse(bad), None, "{bad}");
        }
        let (other_shelf, account) = (format!("{}", Uuid::nil().simple()), name.account.uuid().simple());
        assert_eq!(BlobName::parse(&format!("{account}/ff/{other_shelf}")), None);
    }
}
